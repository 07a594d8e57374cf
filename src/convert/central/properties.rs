//! The properties of IoT Central devices, as the data plane answers `GET /devices/{id}/properties` and, before
//! 2022-07-31, `GET /devices/{id}/cloudProperties`: they go into the import of their device.

use serde_json::{Map, Value, json};

use super::template::root_of;
use super::text_of;
use crate::convert::Context;
use crate::convert::document::Draft;
use crate::convert::fields::Notes;
use crate::convert::source::error_of;
use crate::diag::shown;
use crate::query::ast::Root;

/// What the input has of a device beside the device itself.
#[derive(Debug, Default)]
pub struct Known<'a> {
    /// The device is in the input.
    pub is_device: bool,
    /// Objects with `properties`, `cloudProperties` or both.
    pub said: Vec<&'a Map<String, Value>>,
}

/// The properties of a device, by where fleetform keeps them.
#[derive(Debug, Default)]
pub struct Sections {
    pub cloud: Map<String, Value>,
    pub desired: Map<String, Value>,
    pub reported: Map<String, Value>,
    /// The template of the same call says nothing of some, which count as reported.
    pub is_guessed: bool,
}

/// Keeps the properties of a device for its import.
pub fn declare<'a>(members: &'a Map<String, Value>, context: &mut Context<'a>) {
    if answered_error(members).is_none()
        && let Some(id) = text_of(members, "id")
    {
        context.properties.entry(id).or_default().said.push(members);
    }
}

/// Returns nothing: the import of the device has them.
///
/// # Errors
/// The device is not part of the input, or the answer is an error of the API; whole sentences.
pub fn properties(members: &Map<String, Value>, context: &Context<'_>) -> Result<Vec<Draft>, String> {
    let id = text_of(members, "id").ok_or("`id` is missing.")?;
    if let Some(code) = answered_error(members) {
        return Err(format!("IoT Central answered with the error `{}` in place of what was asked for.", shown(code)));
    }
    if !context.properties.get(id).is_some_and(|known| known.is_device) {
        return Err("Its device is not part of the input: convert the page of `GET /devices` that has it in the same \
             call."
            .to_string());
    }
    Ok(Vec::new())
}

/// Returns the code of the error that the API answered with in place of properties.
fn answered_error(members: &Map<String, Value>) -> Option<&str> {
    let mut answers =
        ["properties", "cloudProperties", "credentials"].into_iter().filter_map(|name| members.get(name)?.as_object());
    answers.find_map(error_of)
}

impl Context<'_> {
    /// Returns how a device proves itself; `None` when the input does not say.
    pub fn authentication_of(&self, id: &str) -> Option<Value> {
        let said = &self.properties.get(id)?.said;
        said.iter().find_map(|said| authentication(said.get("credentials")?.as_object()?))
    }

    /// Returns the properties that the input has of a device; `None` when it has none.
    pub fn sections_of(&self, id: &str, template: Option<&str>) -> Option<Sections> {
        let has_some =
            |said: &&Map<String, Value>| said.contains_key("properties") || said.contains_key("cloudProperties");
        let known = self.properties.get(id).filter(|known| known.said.iter().any(has_some))?;
        let template = template.and_then(|id| self.templates.get(id)).copied();
        let mut sections = Sections::default();
        for said in &known.said {
            let object = |name: &str| said.get(name).and_then(Value::as_object);
            for (name, value) in object("cloudProperties").into_iter().flatten() {
                sections.cloud.insert(name.clone(), value.clone());
            }
            if let Some(members) = object("properties") {
                sections.take(members, template, &[]);
            }
        }
        Some(sections)
    }
}

/// Returns how a device proves itself, by its answer to `GET /devices/{id}/credentials`, in the form of a line of IoT
/// Hub's exports; `None` when it has no key and no thumbprint.
fn authentication(credentials: &Map<String, Value>) -> Option<Value> {
    let texts = |of: &Value, names: [(&str, &str); 2]| {
        let text = |(from, to): (&str, &str)| {
            let text = of.pointer(from)?.as_str().filter(|text| !text.is_empty())?;
            Some((to.to_string(), Value::from(text)))
        };
        Some(names.into_iter().filter_map(text).collect::<Map<_, _>>()).filter(|found| !found.is_empty())
    };
    let keys = [("/primaryKey", "primaryKey"), ("/secondaryKey", "secondaryKey")];
    let of_keys = credentials.get("symmetricKey").and_then(|of| texts(of, keys));
    if let Some(keys) = of_keys {
        return Some(json!({"type": "sas", "symmetricKey": keys}));
    }
    let prints = [
        ("/primary/info/sha1Thumbprint", "primaryThumbprint"),
        ("/secondary/info/sha1Thumbprint", "secondaryThumbprint"),
    ];
    let prints = credentials.get("x509")?.get("clientCertificates").and_then(|of| texts(of, prints))?;
    Some(json!({"type": "selfSigned", "x509Thumbprint": prints}))
}

/// What marks an object as a component (IoT Plug and Play conventions): it is no property.
const MARK: &str = "__t";

impl Sections {
    /// Takes the properties of a device, or of a component of it, which `path` names.
    fn take(&mut self, members: &Map<String, Value>, template: Option<&Map<String, Value>>, path: &[String]) {
        let metadata = members.get("$metadata").and_then(Value::as_object);
        let of = |name: &str| metadata.and_then(|metadata| metadata.get(name));
        // What was asked for and never answered stands in the metadata alone.
        let asked = metadata.into_iter().flatten().filter(|(_, value)| value.get("desiredValue").is_some());
        let unanswered = asked.map(|(name, _)| name).filter(|name| !members.contains_key(*name));
        for name in members.keys().filter(|name| !name.starts_with('$') && *name != MARK).chain(unanswered) {
            let value = members.get(name);
            let place: Vec<String> = path.iter().chain([name]).cloned().collect();
            let root = template.and_then(|template| root_of(template, &place));
            // A component is an object with its own metadata; the template tells it from a property that is an object.
            let component = value.and_then(Value::as_object);
            let is_declared = |inner: &Map<String, Value>| {
                let has = |name: &String| {
                    let place = [place.as_slice(), std::slice::from_ref(name)].concat();
                    template.is_some_and(|template| root_of(template, &place).is_some())
                };
                inner.keys().any(has)
            };
            let component =
                component.filter(|inner| root.is_none() && (inner.contains_key("$metadata") || is_declared(inner)));
            if let Some(component) = component.filter(|_| path.is_empty()) {
                self.take(component, template, &place);
                continue;
            }
            let desired = of(name).and_then(|metadata| metadata.get("desiredValue"));
            self.is_guessed |= root.is_none() && desired.is_none();
            // A value beside `desiredValue` is what the device answered. So is a value whose metadata has no
            // `desiredValue`: nobody asked for it.
            let is_answer = desired.is_some() || (root == Some(Root::Desired) && of(name).is_some());
            match root.or(desired.map(|_| Root::Desired)) {
                Some(Root::Cloud) => value.into_iter().for_each(|value| set(&mut self.cloud, &place, value.clone())),
                Some(Root::Desired) => {
                    if let Some(desired) = desired.or(value.filter(|_| !is_answer)) {
                        set(&mut self.desired, &place, desired.clone());
                    }
                    if let Some(value) = value.filter(|_| is_answer) {
                        set(&mut self.reported, &place, value.clone());
                    }
                }
                Some(_) | None => value.into_iter().for_each(|value| set(&mut self.reported, &place, value.clone())),
            }
        }
    }

    /// Returns the members of a line of an import, as `registry::file` reads it.
    pub fn members(self) -> Map<String, Value> {
        let mut members = Map::new();
        if !self.cloud.is_empty() {
            members.insert("cloudProperties".to_string(), Value::Object(self.cloud));
        }
        let mut properties = Map::new();
        for (name, section) in [("desired", self.desired), ("reported", self.reported)] {
            if !section.is_empty() {
                properties.insert(name.to_string(), Value::Object(section));
            }
        }
        if !properties.is_empty() {
            members.insert("properties".to_string(), Value::Object(properties));
        }
        members
    }
}

/// Sets a value at a path of one name, or of a component and a name. A component is marked as IoT Plug and Play wants
/// it ("Device components").
fn set(section: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [name] => drop(section.insert(name.clone(), value)),
        [component, name] => {
            let inner = section.entry(component.clone()).or_insert_with(|| json!({"__t": "c"}));
            if let Some(inner) = inner.as_object_mut() {
                inner.insert(name.clone(), value);
            }
        }
        _ => {}
    }
}

/// Returns the notes of an import whose devices have properties.
pub fn notes(has_guessed: bool) -> Notes {
    let mut notes = Notes::new();
    if has_guessed {
        notes.push(
            "Some properties are not in a template of the input, and count as reported: convert the device templates \
             in the same call."
                .to_string(),
        );
    }
    notes
}
