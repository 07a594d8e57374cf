//! IoT Central device templates: a DTDL interface, and the cloud properties that IoT Central keeps in it.

use serde_json::{Map, Value, json};

use super::text_of;
use crate::convert::Context;
use crate::convert::document::{DocumentKind, Draft, File, description};
use crate::convert::fields::{Fields, Notes};
use crate::convert::source::Source;
use crate::diag::shown;
use crate::query::ast::Root;

/// The contexts of IoT Central's own members and of DTDL v2 ("Context" of the language description).
const CONTEXTS: [&str; 2] = ["dtmi:iotcentral:context;2", "dtmi:dtdl:context;2"];

/// The primitive schemas of DTDL v2 ("Schemas" of the language description), which are those of cloud properties here.
const PRIMITIVE_SCHEMAS: [&str; 11] =
    ["boolean", "date", "dateTime", "double", "duration", "float", "integer", "long", "string", "time", "point"];

/// Interfaces within interfaces; DTDL v2 allows ten levels of `extends`.
const EXTENDS_MAX: usize = 10;

/// Returns the device template, with its interface in a file beside it.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn template(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let mut notes = Notes::new();
    let id = fields.text("@id")?.or(fields.text("id")?);
    let display_name = fields.text("displayName")?;
    let mut model = fields.object("capabilityModel")?.ok_or("`capabilityModel` is missing.")?.clone();
    if let Some(old) = crate::template::version_1(&model) {
        return Err(old.to_string());
    }
    let outer_context = fields.value("@context").cloned();
    fields.skip(&["@type", "types"]);
    model.entry("@context").or_insert_with(|| outer_context.unwrap_or_else(|| Value::from(CONTEXTS.to_vec())));
    if let Some(versioned) = text_of(&model, "@id").filter(|id| !id.contains(';')).map(|id| format!("{id};1")) {
        notes.push(format!("The interface had no version, which DTDL wants: it is `{}` here.", shown(&versioned)));
        model.insert("@id".to_string(), Value::from(versioned));
    }
    let mut cloud_properties = Map::new();
    take_cloud_properties(&mut model, &mut cloud_properties, &mut notes, 0);
    let name = context.own_name(DocumentKind::DeviceTemplate, id, display_name);
    let file = format!("{name}.dtdl.json");
    let mut spec = json!({ "model": file });
    if !cloud_properties.is_empty() {
        spec["cloudProperties"] = Value::Object(cloud_properties);
    }
    let description = description(display_name, fields.text("description")?, Source::CentralDeviceTemplate, id);
    fields.finish(&mut notes);
    let path = format!("{}/{file}", DocumentKind::DeviceTemplate.folder());
    Ok(vec![Draft {
        kind: DocumentKind::DeviceTemplate,
        name,
        description,
        labels: Map::new(),
        spec,
        notes,
        files: vec![File { path, text: format!("{:#}\n", Value::Object(model)) }],
    }])
}

/// Moves the cloud properties of an interface, and of those that it extends, to where a template of ours has them.
fn take_cloud_properties(
    interface: &mut Map<String, Value>,
    found: &mut Map<String, Value>,
    notes: &mut Notes,
    depth: usize,
) {
    if let Some(Value::Array(contents)) = interface.get_mut("contents") {
        contents.retain(|content| {
            let is_cloud = content.as_object().is_some_and(|content| has_type(content, "Cloud"));
            if is_cloud {
                take_cloud_property(content, found, notes);
            }
            !is_cloud
        });
    }
    match interface.get_mut("extends") {
        _ if depth == EXTENDS_MAX => {}
        Some(Value::Object(base)) => take_cloud_properties(base, found, notes, depth + 1),
        Some(Value::Array(bases)) => {
            for base in bases.iter_mut().filter_map(Value::as_object_mut) {
                take_cloud_properties(base, found, notes, depth + 1);
            }
        }
        Some(_) | None => {}
    }
}

fn take_cloud_property(content: &Value, found: &mut Map<String, Value>, notes: &mut Notes) {
    let name = content.get("name").and_then(Value::as_str).unwrap_or_default();
    match content.get("schema").and_then(Value::as_str) {
        // IoT Central's word for a point.
        Some("geopoint") => drop(found.insert(name.to_string(), Value::from("point"))),
        Some(schema) if PRIMITIVE_SCHEMAS.contains(&schema) => {
            found.insert(name.to_string(), Value::from(schema));
        }
        Some(_) | None => notes.push(format!(
            "The cloud property `{}` has a schema that is not primitive, and was left out.",
            shown(name)
        )),
    }
    let bounds = ["minValue", "maxValue", "minLength", "maxLength", "decimalPlaces"];
    let bounds: Vec<String> =
        bounds.into_iter().filter(|bound| content.get(bound).is_some()).map(|bound| format!("`{bound}`")).collect();
    if !bounds.is_empty() {
        notes.push(format!(
            "fleetform does not check the bounds of cloud properties: those of `{}` are {}.",
            shown(name),
            bounds.join(", ")
        ));
    }
    if content.get("initialValue").is_some() {
        notes.push(format!("The initial value of `{}` has no equal: set it with a `cloudProperty` job.", shown(name)));
    }
}

/// Returns where a property of a template is kept: `path` is its name, or the names of its component and its own.
pub fn root_of(template: &Map<String, Value>, path: &[String]) -> Option<Root> {
    let model = template.get("capabilityModel")?.as_object()?;
    root_in(model, path, 0)
}

fn root_in(interface: &Map<String, Value>, path: &[String], depth: usize) -> Option<Root> {
    let (first, rest) = path.split_first()?;
    let contents = interface.get("contents").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let content = contents.iter().filter_map(Value::as_object).find(|content| text_of(content, "name") == Some(first));
    match content {
        Some(content) if has_type(content, "Component") => root_in(content.get("schema")?.as_object()?, rest, depth),
        Some(content) if has_type(content, "Cloud") => Some(Root::Cloud),
        Some(content) if has_type(content, "Property") => {
            let is_writable = content.get("writable").and_then(Value::as_bool).unwrap_or(false);
            Some(if is_writable { Root::Desired } else { Root::Reported })
        }
        Some(_) => None,
        None if depth == EXTENDS_MAX => None,
        None => {
            let bases = match interface.get("extends") {
                Some(Value::Array(bases)) => bases.as_slice(),
                Some(base) => std::slice::from_ref(base),
                None => &[],
            };
            bases.iter().filter_map(Value::as_object).find_map(|base| root_in(base, path, depth + 1))
        }
    }
}

/// Returns true when `@type` is a word or has it.
fn has_type(content: &Map<String, Value>, word: &str) -> bool {
    match content.get("@type") {
        Some(Value::String(one)) => one == word,
        Some(Value::Array(words)) => words.iter().any(|one| one == word),
        Some(_) | None => false,
    }
}
