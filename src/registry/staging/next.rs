//! What a row makes of its device.

use serde_json::{Map, Value};

use super::RowKind;
use crate::model::patch::{Section, merge_members, violations};
use crate::registry::file::{Mode, Named, Row};
use crate::registry::{DeviceKeys, Identity, ImportSpec, twin_etag};

/// How a store keeps JSON.
#[derive(Clone, Copy)]
pub struct JsonTexts {
    /// Reads a text that the store keeps; `None` when it is no JSON.
    pub read: fn(&str) -> Option<Value>,
    /// Returns the text that the store keeps of an object.
    pub written: fn(&Map<String, Value>) -> String,
}

/// Returns what a row makes of its device; the error says why it is rejected.
pub fn next_of(row: &Row, known: Option<&DeviceState>, spec: &ImportSpec, json: JsonTexts) -> Result<Next, String> {
    // Whatever the registry has: `validate` says of these rows what a plan says.
    let named = spec.row_names().named(row)?;
    if let Some(known) = known
        && !spec.reaches(known.import.as_deref(), known.organization.as_deref())
    {
        let place = match &known.organization {
            Some(path) => format!("is in the organization `{path}`, which"),
            None => "is in no organization, and the whole fleet".to_string(),
        };
        let own = spec.organization.as_deref().unwrap_or_default();
        return Err(format!("the device {place} is not within that of the import, `{own}`"));
    }
    let next = match (row.mode, known) {
        (Mode::Update | Mode::UpdateTwin, None) => {
            return Err("there is no such device, and its `importMode` makes none".to_string());
        }
        (Mode::Create, Some(known)) if known.import.as_ref() != Some(&spec.name) => {
            return Err("there is such a device already, and its `importMode` changes none".to_string());
        }
        (Mode::Delete, None) | (Mode::Create, Some(_)) => return Ok(Next::unchanged(known)),
        (Mode::Delete, Some(known)) => Next { kind: RowKind::Deleted, ..Next::unchanged(Some(known)) },
        (Mode::Create | Mode::CreateOrUpdate | Mode::Update | Mode::UpdateTwin, known) => {
            changed(row, named, known, (spec, json))?
        }
    };
    if let (Some(wanted), Some(known)) = (&row.if_match, known)
        && next.kind != RowKind::Unchanged
        && wanted != "*"
        && *wanted != known.etag(row.mode, json)
    {
        return Err("its ETag is not that of the device now".to_string());
    }
    Ok(next)
}

/// Returns a new or updated device.
fn changed(
    row: &Row,
    named: Named<'_>,
    known: Option<&DeviceState>,
    (spec, json): (&ImportSpec, JsonTexts),
) -> Result<Next, String> {
    let is_whole = row.mode != Mode::UpdateTwin;
    let tags = section_after(known.map(|known| known.tags.as_str()), &row.tags, Section::Tags, json)?;
    let none = Map::new();
    let cloud = if is_whole { &row.cloud } else { &none };
    let cloud = section_after(known.map(|known| known.cloud.as_str()), cloud, Section::Cloud, json)?;
    let desired = section_after(known.map(|known| known.desired.as_str()), &row.desired, Section::Desired, json)?;
    // An existing device keeps its reported properties.
    let reported = match known {
        Some(_) => None,
        None => section_after(None, &row.reported, Section::Reported, json)?,
    };
    // A device that has a template keeps it: moving it to another is a job's work.
    let own = named.template.or(spec.template.as_deref());
    let template = known.and_then(|known| known.template.as_deref()).or(own).map(str::to_string);
    let organization = match known {
        Some(known) if !is_whole => known.organization.clone(),
        _ => named.organization.map(str::to_string),
    };
    let state = match (known, &template) {
        (None, None) => "unassociated".to_string(),
        (None, Some(_)) => "registered".to_string(),
        (Some(known), Some(_)) if known.state == "unassociated" => "registered".to_string(),
        (Some(known), _) => known.state.clone(),
    };
    let is_blocked = row.is_blocked.filter(|now| is_whole && known.is_none_or(|known| known.is_blocked != *now));
    let is_back = known.is_some_and(|known| known.has_left) && row.is_blocked != Some(true);
    let is_blocked = if is_back { Some(false) } else { is_blocked };
    let iot_edge = row.iot_edge.filter(|now| is_whole && known.is_none_or(|known| known.iot_edge != *now));
    let keys = if is_whole { keys_after(known, row) } else { None };
    let is_renamed = is_whole && known.is_some_and(|known| row.name.as_ref().is_some_and(|name| *name != known.name));
    let kind = match known {
        None => RowKind::New,
        Some(known) => {
            let is_changed = is_renamed
                || known.template != template
                || known.organization != organization
                || known.simulated != spec.simulated
                || [&tags, &cloud, &desired].iter().any(|section| section.is_some())
                || [is_blocked, iot_edge].iter().any(Option::is_some)
                || keys.is_some()
                || known.import.as_ref() != Some(&spec.name);
            if is_changed { RowKind::Updated } else { RowKind::Unchanged }
        }
    };
    Ok(Next {
        kind,
        is_renamed,
        template,
        organization,
        state,
        tags,
        cloud,
        desired,
        reported,
        is_blocked,
        iot_edge,
        keys,
    })
}

/// Returns the keys that a device will have; `None` when they stay, and for a new device that is given some.
fn keys_after(known: Option<&DeviceState>, row: &Row) -> Option<DeviceKeys> {
    let Some(given) = &row.keys else {
        let none = DeviceKeys { authentication: crate::model::device::Authentication::None, ..DeviceKeys::default() };
        return (known.is_none() && row.is_keyless).then_some(none);
    };
    let mut keys = given.clone();
    if let Some(known) = known {
        let old = &known.keys;
        if old.authentication == keys.authentication {
            // A file without keys (`excludeKeysInExport`) takes none away.
            keys.primary_key = keys.primary_key.or_else(|| old.primary_key.clone());
            keys.secondary_key = keys.secondary_key.or_else(|| old.secondary_key.clone());
            keys.primary_thumbprint = keys.primary_thumbprint.or_else(|| old.primary_thumbprint.clone());
            keys.secondary_thumbprint = keys.secondary_thumbprint.or_else(|| old.secondary_thumbprint.clone());
        }
        if keys == *old {
            return None;
        }
    }
    Some(keys)
}

/// Returns a section after the row's patch, `None` when it stays as it is; the error says which rule it would break.
fn section_after(
    before: Option<&str>,
    patch: &Map<String, Value>,
    section: Section,
    json: JsonTexts,
) -> Result<Option<String>, String> {
    if patch.is_empty() {
        return Ok(None);
    }
    let check = |members: &Map<String, Value>| match violations(members, section).first() {
        Some(broken) => Err(format!("{}: {}", section.root(), broken.rule)),
        None => Ok(()),
    };
    if before.is_none_or(|before| before == "{}") && !patch.values().any(has_null) {
        // The patch is what it makes, as of nearly all new devices: nothing is copied.
        check(patch)?;
        return Ok(Some((json.written)(patch)));
    }
    let old = before.and_then(json.read).unwrap_or_else(|| Value::Object(Map::new()));
    let mut new = old.clone();
    merge_members(&mut new, patch);
    let Some(members) = new.as_object() else { return Ok(None) };
    check(members)?;
    Ok((new != old).then(|| (json.written)(members)))
}

/// Returns true when a merge of the value removes something.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(members) => members.values().any(has_null),
        // An array is taken as it is.
        Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// What the registry has of a device that an import can change. The last four are read for files that can change them.
#[derive(Debug, Default)]
pub struct DeviceState {
    pub name: String,
    pub template: Option<String>,
    pub organization: Option<String>,
    pub simulated: bool,
    /// As the store keeps JSON.
    pub tags: String,
    pub cloud: String,
    pub import: Option<String>,
    pub state: String,
    /// It is blocked because its row left the file.
    pub has_left: bool,
    pub is_blocked: bool,
    pub iot_edge: bool,
    pub desired: String,
    pub keys: DeviceKeys,
}

impl DeviceState {
    /// Returns the ETag that a mode is about.
    fn etag(&self, mode: Mode, json: JsonTexts) -> String {
        if mode == Mode::UpdateTwin {
            let parsed = |text: &str| (json.read)(text).unwrap_or_else(|| Value::Object(Map::new()));
            return twin_etag(&parsed(&self.tags), &parsed(&self.desired));
        }
        Identity { is_blocked: self.is_blocked, iot_edge: self.iot_edge, keys: &self.keys }.etag()
    }
}

/// The next state of a device. A field that is `None` stays as it is; a new device gets the default.
pub struct Next {
    pub kind: RowKind,
    pub is_renamed: bool,
    pub template: Option<String>,
    pub organization: Option<String>,
    pub state: String,
    pub tags: Option<String>,
    pub cloud: Option<String>,
    pub desired: Option<String>,
    pub reported: Option<String>,
    pub is_blocked: Option<bool>,
    pub iot_edge: Option<bool>,
    pub keys: Option<DeviceKeys>,
}

impl Next {
    /// Returns a device that stays as it is, or that is not there and stays so.
    fn unchanged(known: Option<&DeviceState>) -> Next {
        Next {
            kind: RowKind::Unchanged,
            is_renamed: false,
            template: known.and_then(|known| known.template.clone()),
            organization: None,
            state: known.map(|known| known.state.clone()).unwrap_or_default(),
            tags: None,
            cloud: None,
            desired: None,
            reported: None,
            is_blocked: None,
            iot_edge: None,
            keys: None,
        }
    }
}
