//! The members that each element of a model may have: the tables of the "DTDL Language Specification" of versions 2
//! and 3, and the members that IoT Central adds.

use serde_json::Value;

use super::json::{below, has_type, is_dtmi};
use crate::diag::{nearest, shown};

/// The language of an outermost element.
#[derive(Debug, Clone, Copy)]
pub struct Language {
    /// Of DTDL: 2 or 3.
    pub version: u8,
    /// Its `@context` names other languages too.
    pub is_extended: bool,
}

impl Default for Language {
    fn default() -> Language {
        Language { version: 2, is_extended: true }
    }
}

/// A kind of element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Interface,
    Telemetry,
    Property,
    Command,
    Payload,
    Relationship,
    Component,
    Array,
    Enum,
    Map,
    Object,
    Field,
    EnumValue,
    MapKey,
    MapValue,
}

/// Members of every element.
const COMMON: [&str; 3] = ["comment", "description", "displayName"];

/// Members of elements with an additional `@type`: units of semantic types, and what IoT Central adds.
const OF_OTHER_TYPES: [&str; 13] = [
    "unit",
    "minValue",
    "maxValue",
    "minLength",
    "maxLength",
    "decimalPlaces",
    "initialValue",
    "displayUnit",
    "trueName",
    "falseName",
    "severity",
    "color",
    "durable",
];

impl Element {
    fn members(self) -> &'static [&'static str] {
        match self {
            Element::Interface => &["contents", "extends", "schemas"],
            Element::Telemetry | Element::Field | Element::MapKey | Element::MapValue => &["name", "schema"],
            Element::Property => &["name", "schema", "writable"],
            Element::Command => &["name", "request", "response", "commandType"],
            Element::Payload => &["name", "schema", "nullable"],
            Element::Relationship => {
                &["name", "target", "minMultiplicity", "maxMultiplicity", "properties", "writable"]
            }
            Element::Component => &["name", "schema"],
            Element::Array => &["elementSchema"],
            Element::Enum => &["enumValues", "valueSchema"],
            Element::Map => &["mapKey", "mapValue"],
            Element::Object => &["fields"],
            Element::EnumValue => &["name", "enumValue"],
        }
    }

    /// Returns the words of which one must be in the `@type` of an element that may also have none.
    fn classes(self) -> &'static [&'static str] {
        match self {
            Element::Payload => &["CommandPayload", "CommandRequest", "CommandResponse"],
            Element::Field => &["Field"],
            Element::EnumValue => &["EnumValue"],
            Element::MapKey => &["MapKey"],
            Element::MapValue => &["MapValue"],
            Element::Interface
            | Element::Telemetry
            | Element::Property
            | Element::Command
            | Element::Relationship
            | Element::Component
            | Element::Array
            | Element::Enum
            | Element::Map
            | Element::Object => &[],
        }
    }

    fn word(self) -> &'static str {
        match self {
            Element::Interface => "an interface",
            Element::Telemetry => "telemetry",
            Element::Property => "a property",
            Element::Command => "a command",
            Element::Payload => "the payload of a command",
            Element::Relationship => "a relationship",
            Element::Component => "a component",
            Element::Array => "an array",
            Element::Enum => "an enum",
            Element::Map => "a map",
            Element::Object => "an object",
            Element::Field => "a field",
            Element::EnumValue => "a value of an enum",
            Element::MapKey => "the key of a map",
            Element::MapValue => "the value of a map",
        }
    }
}

/// Returns the pointers and messages of members that an element cannot have, and of an `@type` that is another's. Where
/// other languages than DTDL are used, only the slips of members that the element lacks: anything else may be theirs.
pub fn unknown(value: &Value, element: Element, pointer: &str, language: Language) -> Vec<(String, String)> {
    let Some(members) = value.as_object() else { return Vec::new() };
    let (own, word, classes) = (element.members(), element.word(), element.classes());
    let is_term = |key: &str| match key.starts_with("dtmi:") {
        true => is_dtmi(key, true),
        false => key.contains(':') && (language.version == 2 || language.is_extended),
    };
    let is_known = |key: &str| {
        key.starts_with(['@', '$'])
            || is_term(key)
            || own.contains(&key)
            || COMMON.contains(&key)
            || OF_OTHER_TYPES.contains(&key)
    };
    let mut found = Vec::new();
    for key in members.keys().filter(|key| !is_known(key)) {
        let lacking = own.iter().chain(&COMMON).copied().filter(|name| !members.contains_key(*name));
        let near = nearest(key, lacking);
        let message = match near {
            Some(near) => format!("`{}` is no member of {word}; did you mean `{near}`?", shown(key)),
            None if language.is_extended => continue,
            None => format!("`{}` is no member of {word}: it has {}", shown(key), list(own)),
        };
        found.push((below(pointer, key), message));
    }
    let is_other = !classes.is_empty() && !classes.iter().any(|class| has_type(value, class));
    if is_other && !language.is_extended && members.contains_key("@type") {
        found.push((below(pointer, "@type"), format!("the `@type` of {word} is {}", list(classes))));
    }
    found
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
