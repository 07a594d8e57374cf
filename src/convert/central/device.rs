//! IoT Central devices: one import for all devices of a template and an organization.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::text_of;
use crate::convert::Context;
use crate::convert::document::{DocumentKind, Draft, File};
use crate::convert::fields::{Fields, Notes};
use crate::diag::shown;

/// The ids of the template and of the organization of a device.
pub type Place = (Option<String>, Option<String>);

/// Ids that a note names.
const SHOWN: usize = 3;

/// Keeps a device for the import of its place.
pub fn declare<'a>(members: &'a Map<String, Value>, context: &mut Context<'a>) {
    context.devices.entry(place_of(members)).or_default().push(members);
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
    notes: Notes,
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
    let (mut blocked, mut simulated, mut again) = (Vec::new(), 0, 0);
    // One that cannot be read is refused where it stands.
    for device in there.into_iter().filter_map(|members| Device::of(members).ok()) {
        if rows.contains_key(device.id) {
            again += 1;
            continue;
        }
        rows.insert(device.id, device.name);
        unknown.extend(device.notes);
        simulated += usize::from(device.is_simulated);
        if device.is_blocked {
            blocked.push(device.id);
        }
    }
    let mut notes: Notes = unknown.into_iter().collect();
    notes.push(
        "The devices get new keys: add the columns `IOTC_SASKEY_PRIMARY` and `IOTC_SASKEY_SECONDARY` to let them keep \
         theirs."
            .to_string(),
    );
    if !blocked.is_empty() {
        let named = blocked.iter().take(SHOWN).copied().collect::<Vec<_>>().join(" ");
        let more = if blocked.len() > SHOWN { " …" } else { "" };
        notes.push(format!(
            "Blocked there (`enabled: false`): {} of the devices. Block them after the import: `fleetform device block \
             {}{more}`.",
            blocked.len(),
            shown(&named)
        ));
    }
    if simulated > 0 {
        notes.push(format!("Simulated there: {simulated} of the devices. What they report is not made here."));
    }
    if again > 0 {
        notes.push(format!("In the input more than once: {again} of the devices. The first of each counts."));
    }
    import(&rows, place, context, notes).map(|draft| vec![draft])
}

/// Returns the import of some devices, given as names by id, of a place.
fn import(
    rows: &BTreeMap<&str, &str>,
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
    let file = format!("{name}.csv");
    spec["file"] = Value::from(file.as_str());
    Ok(Draft {
        kind: DocumentKind::DeviceImport,
        name,
        description: String::new(),
        labels: Map::new(),
        spec,
        notes,
        files: vec![File { path: format!("{}/{file}", DocumentKind::DeviceImport.folder()), text: csv(rows) }],
    })
}

/// Returns the file of an import, as `registry::file` reads it.
fn csv(rows: &BTreeMap<&str, &str>) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    for (id, name) in std::iter::once((&"IOTC_DEVICEID", &"IOTC_DEVICENAME")).chain(rows) {
        writer.write_record([id, name]).expect("writing to a Vec cannot fail");
    }
    let bytes = writer.into_inner().expect("writing to a Vec cannot fail");
    String::from_utf8(bytes).expect("the rows are text")
}
