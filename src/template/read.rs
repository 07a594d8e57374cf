//! From the JSON of a file to a model.

use std::collections::BTreeMap;

use serde_json::Value;

use super::interfaces::check_extensions;
use super::json::{below, each, has_type, is_dtmi, is_name, literal, one};
use super::model::{CommandRequest, Content, Interface, Model};
use super::schema::{Form, Schema};
use super::{Problem, schema};
use crate::diag::{nearest, shown};
use crate::model::limits;

/// The kinds of contents, in the order in which they are looked for in an `@type`.
const CONTENTS: [&str; 5] = ["Property", "Telemetry", "Command", "Component", "Relationship"];
const COMPLEX: [&str; 4] = ["Array", "Enum", "Map", "Object"];

/// Returns the model of a file: a DTDL interface, or a list of interfaces that refer to each other.
///
/// # Errors
/// Everything that is wrong with it, at most [`limits::DTDL_PROBLEMS_MAX`] problems, in the order of the file.
pub fn read(content: &Value) -> Result<Model, Vec<Problem>> {
    let mut reader = ModelReader::default();
    reader.index(content, &mut String::new());
    let top = reader.top(content);
    let found = std::mem::take(&mut reader.found);
    for (pointer, element) in &found {
        let interface = reader.interface(pointer, element);
        reader.interfaces.push(interface);
    }
    let root = reader.root(&top);
    if let Some((at, message)) = check_extensions(&reader.interfaces) {
        reader.report(&format!("{}/extends", found[at].0), message);
    }
    match root {
        Some(root) if reader.problems.is_empty() => {
            let id = found[root].1.get("@id").and_then(Value::as_str).unwrap_or_default().to_string();
            Ok(Model { interfaces: reader.interfaces, root, id })
        }
        _ => Err(reader.problems),
    }
}

/// A schema that others may refer to.
enum Shared {
    /// It is being read: a reference that meets it now is inside of it.
    Open,
    Done(Option<Schema>),
}

#[derive(Default)]
struct ModelReader<'a> {
    /// Every interface of the file, those inside of others too, with its pointer.
    found: Vec<(String, &'a Value)>,
    /// The places in `found` by pointer, and by `@id`.
    by_pointer: BTreeMap<String, usize>,
    by_id: BTreeMap<&'a str, usize>,
    /// Complex schemas with an `@id`.
    schemas: BTreeMap<&'a str, (String, &'a Value)>,
    shared: BTreeMap<&'a str, Shared>,
    /// The interfaces of `found` that were read, in its order.
    interfaces: Vec<Interface>,
    problems: Vec<Problem>,
}

impl<'a> ModelReader<'a> {
    fn report(&mut self, pointer: &str, message: impl Into<String>) {
        if self.problems.len() < limits::DTDL_PROBLEMS_MAX {
            self.problems.push(Problem { pointer: pointer.to_string(), message: message.into() });
        }
    }

    /// Finds all elements that can be referred to. The parser of JSON bounds the recursion.
    fn index(&mut self, value: &'a Value, pointer: &mut String) {
        let length = pointer.len();
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    pointer.push_str(&format!("/{at}"));
                    self.index(item, pointer);
                    pointer.truncate(length);
                }
            }
            Value::Object(members) => {
                self.note(value, pointer);
                for (key, item) in members.iter().filter(|(_, item)| item.is_object() || item.is_array()) {
                    let inner = below(pointer, key);
                    *pointer = inner;
                    self.index(item, pointer);
                    pointer.truncate(length);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn note(&mut self, element: &'a Value, pointer: &str) {
        let id = element.get("@id").and_then(Value::as_str);
        let mut is_twice = false;
        if has_type(element, "Interface") {
            let at = self.found.len();
            self.found.push((pointer.to_string(), element));
            self.by_pointer.insert(pointer.to_string(), at);
            is_twice = id.is_some_and(|id| self.by_id.insert(id, at).is_some());
        } else if COMPLEX.iter().any(|word| has_type(element, word)) {
            is_twice = id.is_some_and(|id| self.schemas.insert(id, (pointer.to_string(), element)).is_some());
        }
        if is_twice {
            let message = format!("the `@id` `{}` is used twice", shown(id.unwrap_or_default()));
            self.report(&below(pointer, "@id"), message);
        }
    }

    /// Checks the outermost elements and returns those that are interfaces, as places in `found`.
    fn top(&mut self, content: &'a Value) -> Vec<usize> {
        let elements = match content {
            Value::Object(_) | Value::Array(_) => each(Some(content), ""),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        if elements.is_empty() {
            self.report("", "a model is a DTDL interface (an object), or a list of interfaces");
        }
        let mut top = Vec::new();
        for (pointer, element) in elements {
            match self.by_pointer.get(&pointer) {
                Some(at) => top.push(*at),
                None if has_type(element, "DeviceModel") || has_type(element, "ModelDefinition") => {
                    let message = "this is a device template of IoT Central: take its `capabilityModel` out into a \
                        file of its own";
                    self.report(&pointer, message);
                    continue;
                }
                None => {
                    self.report(&pointer, "it needs `\"@type\": \"Interface\"`");
                    continue;
                }
            }
            let is_version_3 = self.context(element, &pointer);
            let id = element.get("@id").and_then(Value::as_str);
            if !id.is_some_and(|id| is_dtmi(id, is_version_3)) {
                let at = if element.get("@id").is_some() { below(&pointer, "@id") } else { pointer };
                self.report(&at, "it needs an `@id` such as `dtmi:contoso:Thermostat;1`");
            }
        }
        top
    }

    /// Checks the version of an interface and returns true for version 3.
    fn context(&mut self, element: &'a Value, pointer: &str) -> bool {
        let Some(context) = element.get("@context") else { return false };
        let pointer = below(pointer, "@context");
        let words = each(Some(context), &pointer);
        let versions: Vec<&str> =
            words.iter().filter_map(|(_, word)| word.as_str()?.strip_prefix("dtmi:dtdl:context;")).collect();
        match versions.as_slice() {
            [] => {
                self.report(&pointer, "its `@context` must have `dtmi:dtdl:context;2` or `dtmi:dtdl:context;3`");
                false
            }
            versions => {
                if let Some(version) = versions.iter().find(|version| !matches!(**version, "2" | "3")) {
                    let message = format!("version {} of DTDL cannot be read, versions 2 and 3 can", shown(version));
                    self.report(&pointer, message);
                }
                versions.contains(&"3")
            }
        }
    }

    /// Returns the interface of the device: the only one that no other refers to, or else the first.
    fn root(&self, top: &[usize]) -> Option<usize> {
        let mut referred: Vec<usize> = Vec::new();
        for interface in &self.interfaces {
            referred.extend(&interface.extends);
            referred.extend(interface.contents.values().filter_map(|content| match content {
                Content::Component { interface } => Some(*interface),
                Content::Telemetry | Content::Relationship | Content::Property { .. } | Content::Command { .. } => None,
            }));
        }
        referred.sort_unstable();
        let mut free = top.iter().filter(|at| referred.binary_search(at).is_err());
        match (free.next(), free.next()) {
            (Some(only), None) => Some(*only),
            _ => top.first().copied(),
        }
    }

    fn interface(&mut self, pointer: &str, element: &'a Value) -> Interface {
        let mut interface = Interface::default();
        for (at, base) in each(element.get("extends"), &below(pointer, "extends")) {
            interface.extends.extend(self.interface_at(base, &at));
        }
        for (at, item) in each(element.get("schemas"), &below(pointer, "schemas")) {
            self.schema(item, &at, 0);
        }
        for (at, item) in each(element.get("contents"), &below(pointer, "contents")) {
            if !item.is_object() {
                self.report(&at, "it must be an object");
                continue;
            }
            let Some(name) = self.name(item, &at) else { continue };
            let Some(content) = self.content(item, &at) else { continue };
            if interface.contents.insert(name.to_string(), content).is_some() {
                self.report(&below(&at, "name"), format!("there are two contents named `{}`", shown(name)));
            }
        }
        interface
    }

    fn name(&mut self, element: &'a Value, pointer: &str) -> Option<&'a str> {
        let Some(name) = element.get("name") else {
            self.report(pointer, "`name` is missing");
            return None;
        };
        let name = literal(name).as_str().filter(|name| is_name(name, limits::DTDL_NAME_CHARS_MAX));
        if name.is_none() {
            self.report(
                &below(pointer, "name"),
                "a name is a letter, then letters, digits and `_`, and no `_` at the end",
            );
        }
        name
    }

    fn content(&mut self, item: &'a Value, pointer: &str) -> Option<Content> {
        let Some(kind) = CONTENTS.into_iter().find(|word| has_type(item, word)) else {
            let at = if item.get("@type").is_some() { below(pointer, "@type") } else { pointer.to_string() };
            self.report(&at, "its `@type` must be Telemetry, Property, Command, Component or Relationship");
            return None;
        };
        match kind {
            "Relationship" => Some(Content::Relationship),
            "Telemetry" => self.schema_of(item, pointer).map(|_| Content::Telemetry),
            "Command" => {
                let request = self.payload(item, pointer, "request");
                // Answers are kept as they come; the schema is only looked at to find its mistakes.
                self.payload(item, pointer, "response");
                Some(Content::Command { request })
            }
            "Component" => match item.get("schema") {
                Some(schema) => {
                    let interface = self.interface_at(schema, &below(pointer, "schema"))?;
                    Some(Content::Component { interface })
                }
                None => {
                    self.report(pointer, "`schema` is missing: the interface of the component");
                    None
                }
            },
            _ => {
                let writable = item.get("writable").map_or(Some(false), |value| literal(value).as_bool());
                if writable.is_none() {
                    self.report(&below(pointer, "writable"), "`writable` must be true or false");
                }
                let schema = self.schema_of(item, pointer)?;
                Some(Content::Property { schema, writable: writable?, is_cloud: has_type(item, "Cloud") })
            }
        }
    }

    fn payload(&mut self, command: &'a Value, pointer: &str, key: &str) -> Option<CommandRequest> {
        let (pointer, payload) = one(command.get(key)?, &below(pointer, key));
        if !payload.is_object() {
            self.report(&pointer, format!("the `{key}` of a command must be an object with a `name` and a `schema`"));
            return None;
        }
        let is_nullable = payload.get("nullable").is_some_and(|value| literal(value) == &Value::Bool(true));
        self.name(payload, &pointer)?;
        let schema = self.schema_of(payload, &pointer)?;
        Some(CommandRequest { schema, is_nullable })
    }

    /// Returns the interface that a value is, or refers to.
    fn interface_at(&mut self, value: &'a Value, pointer: &str) -> Option<usize> {
        let (pointer, value) = one(value, pointer);
        let found = match value {
            Value::String(id) => self.by_id.get(id.as_str()).copied(),
            _ => self.by_pointer.get(&pointer).copied(),
        };
        if found.is_none() {
            let message = match value.as_str() {
                Some(id) => {
                    format!("there is no interface `{}` in this file: add it to a list at its top", shown(id))
                }
                None => "it must be an interface, or the `@id` of one".to_string(),
            };
            self.report(&pointer, message);
        }
        found
    }

    /// Returns the schema of an element that needs one.
    fn schema_of(&mut self, element: &'a Value, pointer: &str) -> Option<Schema> {
        self.schema_in(element, pointer, "schema", 0)
    }

    /// Returns the schema that a member of an element is; `level` counts the complex schemas around it.
    fn schema_in(&mut self, element: &'a Value, pointer: &str, key: &str, level: usize) -> Option<Schema> {
        match element.get(key) {
            Some(value) => self.schema(value, &below(pointer, key), level),
            None => {
                self.report(pointer, format!("`{key}` is missing"));
                None
            }
        }
    }

    fn schema(&mut self, value: &'a Value, pointer: &str, level: usize) -> Option<Schema> {
        let (pointer, value) = one(value, pointer);
        let schema = match value {
            Value::String(text) => match Schema::of_word(text) {
                Some(schema) => schema,
                None => self.reference(text, &pointer, level)?,
            },
            Value::Object(_) => match value.get("@id").and_then(Value::as_str) {
                Some(id) if self.schemas.get(id).is_some_and(|(at, _)| *at == pointer) => {
                    self.reference(id, &pointer, level)?
                }
                _ => self.complex(value, &pointer, level)?,
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                self.report(&pointer, "a schema is a word such as `string`, an object, or the `@id` of one");
                return None;
            }
        };
        if level + schema.depth > limits::DTDL_SCHEMA_DEPTH_MAX + 1 {
            self.too_deep(&pointer);
            return None;
        }
        Some(schema)
    }

    fn too_deep(&mut self, pointer: &str) {
        let message = format!("schemas may be nested {} levels deep", limits::DTDL_SCHEMA_DEPTH_MAX);
        self.report(pointer, message);
    }

    /// Returns a schema by its `@id`. Each is read once.
    fn reference(&mut self, id: &'a str, pointer: &str, level: usize) -> Option<Schema> {
        match self.shared.get(id) {
            Some(Shared::Done(schema)) => return schema.clone(),
            Some(Shared::Open) => {
                self.report(pointer, format!("the schema `{}` is part of itself", shown(id)));
                return None;
            }
            None => {}
        }
        let Some((at, element)) = self.schemas.get(id).cloned() else {
            let message = if id.starts_with("dtmi:") {
                format!("there is no schema `{}` in this file", shown(id))
            } else {
                let near = nearest(id, schema::WORDS).map(|near| format!("; did you mean `{near}`?"));
                format!("`{}` is not a schema{}", shown(id), near.unwrap_or_default())
            };
            self.report(pointer, message);
            return None;
        };
        self.shared.insert(id, Shared::Open);
        let schema = self.complex(element, &at, level);
        self.shared.insert(id, Shared::Done(schema.clone()));
        schema
    }

    fn complex(&mut self, element: &'a Value, pointer: &str, level: usize) -> Option<Schema> {
        // Also the bound of this recursion, which follows references.
        if level > limits::DTDL_SCHEMA_DEPTH_MAX {
            self.too_deep(pointer);
            return None;
        }
        let Some(kind) = COMPLEX.into_iter().find(|word| has_type(element, word)) else {
            self.report(pointer, "the `@type` of a schema must be Array, Enum, Map or Object");
            return None;
        };
        let inner = level + 1;
        let (form, depth) = match kind {
            "Array" => {
                let element = self.schema_in(element, pointer, "elementSchema", inner)?;
                let depth = element.depth;
                (Form::Array(element), depth)
            }
            "Enum" => (Form::Enum(self.enum_values(element, pointer)?), 0),
            "Map" => {
                let Some(value) = element.get("mapValue") else {
                    self.report(pointer, "`mapValue` is missing");
                    return None;
                };
                let (at, value) = one(value, &below(pointer, "mapValue"));
                let value = self.schema_in(value, &at, "schema", inner)?;
                let depth = value.depth;
                (Form::Map(value), depth)
            }
            _ => {
                let fields = self.fields(element, pointer, inner);
                let depth = fields.values().map(|schema| schema.depth).max().unwrap_or(0);
                (Form::Object(fields), depth)
            }
        };
        Some(Schema::complex(form, depth + 1))
    }

    fn fields(&mut self, element: &'a Value, pointer: &str, level: usize) -> BTreeMap<String, Schema> {
        let mut fields = BTreeMap::new();
        for (at, field) in each(element.get("fields"), &below(pointer, "fields")) {
            let Some(name) = self.name(field, &at) else { continue };
            let Some(schema) = self.schema_in(field, &at, "schema", level) else { continue };
            if fields.insert(name.to_string(), schema).is_some() {
                self.report(&below(&at, "name"), format!("there are two fields named `{}`", shown(name)));
            }
        }
        fields
    }

    fn enum_values(&mut self, element: &'a Value, pointer: &str) -> Option<Vec<Value>> {
        let schema = element.get("valueSchema").and_then(|value| literal(value).as_str()).and_then(Schema::of_word);
        let is_integer = match schema.as_ref().map(|schema| &*schema.form) {
            Some(Form::Integer { word: "integer", .. }) => true,
            Some(Form::Text) => false,
            _ => {
                self.report(pointer, "the `valueSchema` of an enum must be `integer` or `string`");
                return None;
            }
        };
        let mut values = Vec::new();
        for (at, one) in each(element.get("enumValues"), &below(pointer, "enumValues")) {
            let value = one.get("enumValue").map(literal);
            let value = value.filter(|value| if is_integer { value.is_i64() } else { value.is_string() });
            match value {
                Some(value) if values.contains(value) => self.report(&at, "this value is in the enum twice"),
                Some(value) => values.push(value.clone()),
                None => {
                    let word = if is_integer { "an integer" } else { "a string" };
                    self.report(&at, format!("it needs an `enumValue` that is {word}"));
                }
            }
        }
        Some(values)
    }
}
