//! Device templates: DTDL interfaces (version 2, and the context of version 3) read into what a job may set and call on
//! a device.
//!
//! A pure room. [`read()`] makes a [`Model`] of the JSON of a file, a [`Template`] is a model with the cloud properties
//! beside it, and [`violations`] returns what a job's action needs and such a device does not have. Semantic types,
//! units, display names and relationships mean nothing here, but they are checked. Members that an element cannot have
//! are errors, unless the element has a type of another language; version 3 wants that language in the `@context`. IoT
//! Central adds members everywhere: where its context is, only slips are told.
//!
//! The rules are those of the "DTDL Language Specification" of versions 2 and 3, with these choices: of several
//! interfaces in a file the template is the one that no other refers to, or else the first; references stay within one
//! file; bounds of values (`minValue`, `maxLength` and the like) are IoT Central's.

mod bounds;
mod check;
mod commands;
mod common;
#[cfg(test)]
mod conformance;
mod cotypes;
mod interfaces;
mod json;
#[cfg(test)]
mod languages;
mod literal;
mod members;
mod model;
mod number;
mod place;
mod read;
mod relationship;
mod schema;
mod schemas;
mod semantic;
mod terms;
#[cfg(test)]
mod tests;
mod text;
mod value;

use std::collections::{BTreeMap, BTreeSet};

pub use check::violations;
pub use json::is_name;
pub use model::Model;
pub use number::is_number;
pub use place::{ModelPlace, locate, place, repeated};
pub use read::read;
pub use schema::WORDS as SCHEMA_WORDS;

use serde_json::{Map, Value};

use crate::model::fleet::DeviceTemplate;
use schema::Schema;

/// What is said of a model of DTDL version 1, by what it is.
const CAPABILITY_MODEL: &str = "This is a capability model of DTDL version 1, a preview (`implements`, `urn:` ids), which IoT \
    Central has not taken since October 2020. Save it again as version 2: an `Interface` with a `dtmi:` id, and what it \
    implements as components or in `extends`.";
const INTERFACE_1: &str = "This is an interface of DTDL version 1, a preview (`urn:` ids, a context of azureiot.com), which \
    IoT Central has not taken since October 2020. Save it again as version 2: with a `dtmi:` id and the `@context` \
    `dtmi:dtdl:context;2`.";
const INTERFACE_INSTANCE: &str = "This is an interface instance of DTDL version 1, a preview: the part of a capability \
    model that is a component now. Save it again as version 2: a `Component` in the `contents` of the device's \
    `Interface`.";

/// Returns what is said of a capability model, an interface or an instance of one of DTDL version 1; `None` for anything
/// else.
pub fn version_1(members: &Map<String, Value>) -> Option<&'static str> {
    let text = |key: &str| members.get(key).and_then(Value::as_str).unwrap_or_default();
    let is_typed = |word: &str| members.get("@type").is_some_and(|types| types.to_string().contains(word));
    let context = members.get("@context").map(Value::to_string).unwrap_or_default();
    let is_of_preview = ["azureiot.com/v1/contexts", "azureiot.com/v0/contexts"].iter().any(|it| context.contains(it));
    let is_interface = members.contains_key("contents") || is_typed("\"Interface\"");
    if is_typed("CapabilityModel") || members.contains_key("implements") {
        Some(CAPABILITY_MODEL)
    } else if is_typed("InterfaceInstance") {
        Some(INTERFACE_INSTANCE)
    } else if is_of_preview || (is_interface && text("@id").starts_with("urn:")) {
        Some(if is_interface { INTERFACE_1 } else { CAPABILITY_MODEL })
    } else {
        None
    }
}

/// Returns true for an interface.
pub fn is_interface(members: &Map<String, Value>) -> bool {
    members.get("@type").is_some_and(|word| word.to_string().contains("Interface")) && members.contains_key("contents")
}

/// A problem of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// A JSON pointer (RFC 6901) into the file; empty for the file as a whole. [`locate`] makes a line and a column of
    /// it.
    pub pointer: String,
    /// A sentence without its full stop.
    pub message: String,
}

/// A part of an action that the template of a device does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// A JSON pointer (RFC 6901) below the action, such as `/light/level` of a patch or `/payload/delay` of a command.
    pub pointer: String,
    /// True when the key is wrong and not its value.
    pub is_key: bool,
    /// A clause such as: `light.level` expects integer, got "warm". Quoted text of the author is sanitised and cut.
    pub message: String,
}

/// A device template, ready to be asked.
#[derive(Debug, Clone)]
pub struct Template {
    model: Model,
    /// The cloud properties that the document declares beside the model.
    cloud: BTreeMap<String, Schema>,
}

impl Template {
    /// Returns the template of a document.
    ///
    /// # Errors
    /// The problems of its model; a model that was checked with the files has none.
    pub fn of(document: &DeviceTemplate) -> Result<Template, Vec<Problem>> {
        Template::new(&document.model, &document.cloud_properties)
    }

    /// Returns the template of a model and the words of the cloud properties beside it, by their names.
    ///
    /// # Errors
    /// The problems of the model.
    pub fn new(model: &Value, cloud_properties: &BTreeMap<String, String>) -> Result<Template, Vec<Problem>> {
        let model = read(model)?;
        let schema_of = |(name, word): (&String, &String)| Some((name.clone(), Schema::of_word(word)?));
        Ok(Template { model, cloud: cloud_properties.iter().filter_map(schema_of).collect() })
    }

    /// Returns the top-level keys of desired properties that have a place in it: writable properties and components.
    pub fn desired_names(&self) -> BTreeSet<&str> {
        self.model.desired_names()
    }
}
