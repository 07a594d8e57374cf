//! IoT Central devices: one import for all devices of a template and an organization.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{properties, text_of};
use crate::convert::Context;
use crate::convert::document::{DocumentKind, Draft, File};
use crate::convert::fields::{Fields, Notes};
use crate::model::id::DeviceId;

/// The ids of the template and of the organization of a device.
pub type Place = (Option<String>, Option<String>);

/// Keeps a device for the import of its place.
pub fn declare<'a>(members: &'a Map<String, Value>, context: &mut Context<'a>) {
    context.devices.entry(place_of(members)).or_default().push(members);
    if let Some(id) = text_of(members, "id") {
        context.properties.entry(id).or_default().is_device = true;
    }
}

fn place_of(members: &Map<String, Value>) -> Place {
    let organization = members.get("organizations").and_then(|list| list.get(0)?.as_str());
    (text_of(members, "template").map(str::to_string), organization.map(str::to_string))
}

/// What an import takes of a device, and what it cannot.
struct Device<'a> {
    id: &'a str,
    name: &'a str,
    is_blocked: bool,
    is_simulated: bool,
    is_edge: bool,
    notes: Notes,
}

/// Returns true when `type`, a list of words, has that of an IoT Edge device.
fn is_edge(members: &Map<String, Value>) -> bool {
    let words = members.get("type").and_then(Value::as_array);
    words.is_some_and(|words| words.iter().any(|word| word == "iotEdge"))
}

impl<'a> Device<'a> {
    /// Reads a device; the error is a sentence.
    fn of(members: &'a Map<String, Value>) -> Result<Device<'a>, String> {
        let mut fields = Fields::new("", members);
        let mut device = Device {
            id: fields.required_text("id")?,
            name: fields.text("displayName")?.unwrap_or_default(),
            is_blocked: fields.boolean("enabled")? == Some(false),
            is_simulated: fields.boolean("simulated")? == Some(true),
            is_edge: is_edge(members),
            notes: Notes::new(),
        };
        fields.skip(&["etag", "template", "organizations", "provisioned", "type"]);
        fields.finish(&mut device.notes);
        Ok(device)
    }
}

/// Returns the import of all devices of the place of a device; nothing when another device has brought it.
///
/// # Errors
/// The device cannot be read, or no name can be made of its place; whole sentences.
pub fn devices(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    Device::of(members)?;
    let place = place_of(members);
    let Some(there) = context.devices.remove(&place) else { return Ok(Vec::new()) };
    let (mut rows, mut unknown) = (BTreeMap::new(), BTreeSet::new());
    let (mut blocked, mut simulated, mut again, mut has_guessed) = (0, 0, 0, false);
    // One that cannot be read is refused where it stands.
    for device in there.into_iter().filter_map(|members| Device::of(members).ok()) {
        if rows.contains_key(device.id) {
            again += 1;
            continue;
        }
        unknown.extend(device.notes);
        simulated += usize::from(device.is_simulated);
        blocked += usize::from(device.is_blocked);
        let sections = context.sections_of(device.id, place.0.as_deref());
        has_guessed |= sections.as_ref().is_some_and(|sections| sections.is_guessed);
        let Device { id, name, is_blocked, is_edge, .. } = device;
        let authentication = if context.has_keys { context.authentication_of(id) } else { None };
        rows.insert(id, DeviceRow { name, is_blocked, is_edge, authentication, sections });
    }
    let mut notes: Notes = unknown.into_iter().collect();
    notes.extend(properties::notes(has_guessed));
    let without = rows.values().filter(|row| row.sections.is_none()).count();
    if without > 0 && without < rows.len() {
        notes.push(format!(
            "The properties of {without} of its {} devices are not part of the input: these arrive without any.",
            rows.len()
        ));
    }
    let new_keys = rows.values().filter(|row| row.authentication.is_none()).count();
    if !context.has_keys {
        notes.push(
            "The devices get new keys, which `fleetform device export` shows: a key in a file is a key in git. With \
             `--keys` they keep theirs."
                .to_string(),
        );
    } else if new_keys > 0 {
        notes.push(format!(
            "The credentials of {new_keys} of its {} devices are not part of the input: these get new keys.",
            rows.len()
        ));
    }
    if blocked > 0 {
        notes.push(format!("Blocked there (`enabled: false`), and here by their rows: {blocked} of the devices."));
    }
    if simulated > 0 {
        notes.push(format!("Simulated there: {simulated} of the devices. What they report is not made here."));
    }
    if again > 0 {
        notes.push(format!("In the input more than once: {again} of the devices. The first of each counts."));
    }
    import(rows, place, context, notes).map(|draft| vec![draft])
}

/// What the file of an import has of a device.
struct DeviceRow<'a> {
    name: &'a str,
    is_blocked: bool,
    is_edge: bool,
    /// As in a line of IoT Hub's exports; `None` for keys that are made here.
    authentication: Option<Value>,
    /// `None` when the input has none.
    sections: Option<properties::Sections>,
}

/// Returns the import of some devices of a place, given by id.
fn import(
    rows: BTreeMap<&str, DeviceRow<'_>>,
    (template, organization): Place,
    context: &mut Context<'_>,
    mut notes: Notes,
) -> Result<Draft, String> {
    let mut spec = json!({});
    let mut words = Vec::new();
    let template = (DocumentKind::DeviceTemplate, "template", template);
    for (kind, field, id) in [template, (DocumentKind::Organization, "organization", organization)] {
        let Some(id) = id else { continue };
        let name = context.reference(kind, &id, &mut notes)?;
        spec[field] = Value::from(name.as_str());
        words.push(name.to_string());
    }
    if words.is_empty() {
        words.push("devices".to_string());
    }
    let name = context.names.claim(DocumentKind::DeviceImport, &words.join("-"), None);
    // What a table has no columns for, and ids that are not IoT Central's.
    let is_more = |row: &DeviceRow<'_>| row.sections.is_some() || row.is_edge || row.authentication.is_some();
    let needs_lines = rows.iter().any(|(id, row)| is_more(row) || DeviceId::parse_central(id).is_err());
    let file = format!("{name}.{}", if needs_lines { "jsonl" } else { "csv" });
    let text = if needs_lines { lines(rows) } else { csv(&rows) };
    spec["file"] = Value::from(file.as_str());
    Ok(Draft {
        kind: DocumentKind::DeviceImport,
        name,
        description: String::new(),
        labels: Map::new(),
        spec,
        notes,
        files: vec![File { path: format!("{}/{file}", DocumentKind::DeviceImport.folder()), text }],
    })
}

/// Returns the file of an import as CSV.
fn csv(rows: &BTreeMap<&str, DeviceRow<'_>>) -> String {
    let has_blocked = rows.values().any(|row| row.is_blocked);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let mut write = |cells: [&str; 3]| {
        let count = if has_blocked { 3 } else { 2 };
        writer.write_record(&cells[..count]).expect("writing to a Vec cannot fail");
    };
    write(["IOTC_DEVICEID", "IOTC_DEVICENAME", "BLOCKED"]);
    rows.iter().for_each(|(id, row)| write([id, row.name, if row.is_blocked { "true" } else { "" }]));
    let bytes = writer.into_inner().expect("writing to a Vec cannot fail");
    String::from_utf8(bytes).expect("the rows are text")
}

/// Returns the file of an import as JSON lines.
fn lines(rows: BTreeMap<&str, DeviceRow<'_>>) -> String {
    let mut text = String::new();
    for (id, DeviceRow { name, is_blocked, is_edge, authentication, sections }) in rows {
        let mut line = Map::from_iter([("id".to_string(), Value::from(id))]);
        if !name.is_empty() {
            line.insert("deviceName".to_string(), Value::from(name));
        }
        if is_blocked {
            line.insert("status".to_string(), Value::from("disabled"));
        }
        if is_edge {
            line.insert("capabilities".to_string(), json!({"iotEdge": true}));
        }
        line.extend(authentication.map(|value| ("authentication".to_string(), value)));
        line.extend(sections.unwrap_or_default().members());
        text.push_str(&Value::Object(line).to_string());
        text.push('\n');
    }
    text
}
