//! The JSON Schemas (draft 2020-12) of the kinds, made from the wire types.
//!
//! Editors show them and check with them while the author types; [`super::structure`] uses them to explain what is
//! wrong with a document. They are committed in `schemas/`, and a test fails when one is stale.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::v1::{self, Document, JobMetadata, Metadata, OpenDocument};
use crate::model::kind::Kind;

/// Returns the schema of whole documents of a kind.
pub fn schema(kind: Kind) -> Value {
    let mut schema = match kind {
        Kind::Fleet => root::<OpenDocument<Metadata, v1::FleetSpec>>(),
        Kind::Organization => root::<OpenDocument<Metadata, v1::OrganizationSpec>>(),
        Kind::DeviceTemplate => root::<Document<Metadata, v1::DeviceTemplateSpec>>(),
        Kind::DeviceGroup => root::<Document<Metadata, v1::DeviceGroupSpec>>(),
        Kind::EdgeManifest => root::<Document<Metadata, v1::EdgeManifestSpec>>(),
        Kind::DeviceImport => root::<Document<Metadata, v1::DeviceImportSpec>>(),
        Kind::Job => root::<Document<JobMetadata, v1::JobSpec>>(),
        Kind::Schedule => root::<Document<JobMetadata, v1::ScheduleSpec>>(),
        Kind::Policy => root::<Document<Metadata, v1::PolicySpec>>(),
        Kind::Access => root::<Document<Metadata, v1::AccessSpec>>(),
    };
    refuse_nulls(&mut schema);
    join_lines(&mut schema);
    add_titles(&mut schema);
    let members = schema.as_object_mut().expect("a root schema is an object");
    members.insert("title".to_string(), json!(format!("fleetform {}", kind.noun())));
    if let Some(about) = description_of_spec(members) {
        members.insert("description".to_string(), json!(about));
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        set_constant(properties, "apiVersion", v1::API_VERSION);
        set_constant(properties, "kind", kind.as_str());
    }
    schema
}

/// Returns what a kind is for: the description of its spec.
fn description_of_spec(members: &Map<String, Value>) -> Option<String> {
    let reference = members.get("properties")?.get("spec")?.get("$ref")?.as_str()?;
    let spec = members.get("$defs")?.get(reference.rsplit('/').next()?)?;
    spec.get("description").and_then(Value::as_str).map(str::to_string)
}

/// Returns the schema as the text of its committed file: the same bytes every time.
pub fn schema_text(kind: Kind) -> String {
    let mut text = format!("{:#}", schema(kind));
    text.push('\n');
    text
}

/// Returns the name of the file of `schemas/`, such as `device-group.schema.json`.
pub fn file_name(kind: Kind) -> String {
    format!("{}.schema.json", kind.noun().replace(' ', "-"))
}

fn root<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<T>().to_value()
}

/// Joins the lines of each paragraph of a description: where a comment of the source is wrapped is no part of a schema.
fn join_lines(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(text)) = members.get_mut("description") {
                *text = text.split("\n\n").map(|part| part.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
            }
            members.values_mut().for_each(join_lines);
        }
        Value::Array(items) => items.iter_mut().for_each(join_lines),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Gives each field a title, the words of its name: an editor shows it above the description.
fn add_titles(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::Object(properties)) = members.get_mut("properties") {
                for (name, field) in properties.iter_mut() {
                    if let Value::Object(field) = field {
                        field.entry("title").or_insert_with(|| json!(title_of(name)));
                    }
                }
            }
            members.values_mut().for_each(add_titles);
        }
        Value::Array(items) => items.iter_mut().for_each(add_titles),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Returns the words of a field's name: `Batch size` of `batchSize`.
fn title_of(name: &str) -> String {
    let mut title = String::new();
    for (at, c) in name.chars().enumerate() {
        match c {
            _ if at == 0 => title.extend(c.to_uppercase()),
            'A'..='Z' => title.extend([' ', c.to_ascii_lowercase()]),
            _ => title.push(c),
        }
    }
    title.replacen("Api ", "API ", 1)
}

fn set_constant(properties: &mut Map<String, Value>, name: &str, constant: &str) {
    if let Some(Value::Object(property)) = properties.get_mut(name) {
        property.insert("const".to_string(), json!(constant));
    }
}

/// Optional fields may be left out, but not be null: `group:` with nothing behind it is a slip. A command's component
/// and payload may.
fn refuse_nulls(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.remove("default");
            members.remove("format");
            if let Some(Value::Array(types)) = members.get_mut("type") {
                types.retain(|word| word != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    members.insert("type".to_string(), only);
                }
            }
            if let Some(Value::Array(mut branches)) = members.remove("anyOf") {
                branches.retain(|branch| branch != &json!({"type": "null"}));
                match (branches.len(), branches.pop()) {
                    (1, Some(Value::Object(only))) => members.extend(only),
                    (_, last) => {
                        branches.extend(last);
                        members.insert("anyOf".to_string(), Value::Array(branches));
                    }
                }
            }
            for (key, member) in members.iter_mut() {
                if key == "component" && member.get("type").is_some() {
                    continue;
                }
                refuse_nulls(member);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(refuse_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl JsonSchema for v1::RunText {
    fn schema_name() -> Cow<'static, str> {
        "RunText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A token that tells one run of a job from the next: letters, digits, `.`, `_` and `-`.",
            "type": ["string", "number"],
            "examples": ["2", "2026-12-01"],
            "pattern": "^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
        })
    }
}

impl JsonSchema for v1::AmountText {
    fn schema_name() -> Cow<'static, str> {
        "AmountText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A number of devices, or a whole percentage of them such as `10%`.",
            "type": ["integer", "string"],
            "examples": [25, "10%"],
            "minimum": 0,
            "pattern": "^[0-9]{1,3}%$"
        })
    }
}
