//! The form of IoT Hub: one `ExportImportDevice` a line, as JSON ("Import and export IoT Hub device identities in
//! bulk").
//!
//! Read: `id`, `status`, `authentication`, `capabilities.iotEdge`, `tags`, `properties.desired`, `properties.reported`,
//! `importMode`, `eTag`, `twinETag`. And what IoT Hub does not have: `deviceName`, `template`, `organization` and
//! `cloudProperties`. Other members that IoT Hub or a later version of it writes are ignored, and so are
//! lines with a `moduleId`: modules are not kept here. Messages never show a value, because it may be a key.

use std::io::Read;

use serde_json::{Map, Value};

use super::ImportFailure;
use super::lines::{Line, Lines};
use super::members::{Lookup, Members};
use super::row::{Mode, Rejected, Row, RowEntry};
use super::table::{checked_name, key_of, thumbprint_of};
use crate::diag::nearest;
use crate::model::device::Authentication;
use crate::model::id::DeviceId;
use crate::model::limits;
use crate::model::secret::drop_reserved;
use crate::registry::DeviceKeys;

/// The words of `importMode`, with what they mean and whether they ask for an ETag.
const MODES: [(&str, Mode, bool); 9] = [
    ("createOrUpdate", Mode::CreateOrUpdate, false),
    ("createOrUpdateIfMatchETag", Mode::CreateOrUpdate, true),
    ("create", Mode::Create, false),
    ("update", Mode::Update, false),
    ("updateIfMatchETag", Mode::Update, true),
    ("updateTwin", Mode::UpdateTwin, false),
    ("updateTwinIfMatchETag", Mode::UpdateTwin, true),
    ("delete", Mode::Delete, false),
    ("deleteIfMatchETag", Mode::Delete, true),
];

/// The rows of a file.
pub struct HubLines<R> {
    lines: Lines<R>,
    /// A row had a key.
    pub has_keys: bool,
    /// Lines of module identities, which are passed over.
    pub modules: u64,
}

impl<R: Read> HubLines<R> {
    /// Returns the rows of a file.
    pub fn new(file: R) -> HubLines<R> {
        HubLines { lines: Lines::new(file), has_keys: false, modules: 0 }
    }

    /// Returns the next row; `None` at the end. Blank lines are no rows.
    ///
    /// # Errors
    /// The file cannot be read, or it is one JSON list and not a line for each device.
    pub fn next(&mut self) -> Result<Option<RowEntry>, ImportFailure> {
        let mut number = 0;
        loop {
            let line = self.lines.next().map_err(|error| {
                let message = format!("the file cannot be read: {error}");
                ImportFailure::File { line: number + 1, message, help: None }
            })?;
            let Some(line) = line else { return Ok(None) };
            number = line.number;
            if line.bytes.is_some_and(|bytes| bytes.trim_ascii().is_empty()) {
                continue;
            }
            if number == 1 && line.bytes.is_some_and(|bytes| bytes.trim_ascii_start().starts_with(b"[")) {
                let message = "it is a list, and one JSON object a line is needed".to_string();
                let help = Some("Convert it with `jq -c '.[]' list.json > devices.jsonl`.".to_string());
                return Err(ImportFailure::File { line: number, message, help });
            }
            let row = match members_of(&line) {
                Err(message) => Err(Rejected { device_id: String::new(), message }),
                Ok(members) if has_module(&members) => {
                    self.modules += 1;
                    continue;
                }
                Ok(mut members) => row_of(&mut members).map_err(|message| {
                    let device_id = members.member("id").and_then(Value::as_str).unwrap_or_default().to_string();
                    Rejected { device_id, message }
                }),
            };
            if let Ok(Row { keys: Some(keys), .. }) = &row {
                self.has_keys |= keys.primary_key.is_some() || keys.secondary_key.is_some();
            }
            return Ok(Some(RowEntry { line: number, row }));
        }
    }
}

fn members_of(line: &Line<'_>) -> Result<Members, String> {
    let Some(bytes) = line.bytes else {
        return Err(format!("the line is longer than {} bytes", limits::IMPORT_LINE_BYTES_MAX));
    };
    match serde_json::from_slice(bytes) {
        Ok(members) => Ok(members),
        Err(error) if error.is_data() => Err("the line is not a JSON object".to_string()),
        Err(error) if error.is_eof() && !line.is_ended => {
            Err("the file ends in the middle of this line: was it copied as a whole?".to_string())
        }
        Err(error) => Err(format!("the line is not JSON, from character {} on", error.column())),
    }
}

fn has_module(members: &Members) -> bool {
    members.member("moduleId").and_then(Value::as_str).is_some_and(|id| !id.is_empty())
}

/// Returns the row of a line, whose sections are taken out of it; the error says why it is rejected.
fn row_of(members: &mut Members) -> Result<Row, String> {
    let id = text(members, "id")?.ok_or("the line has no `id`")?;
    let id = DeviceId::parse(id).map_err(|error| format!("the device id {error}"))?;
    let mut row = Row { device_id: id.to_string(), ..Row::default() };
    let asks_for_etag;
    (row.mode, asks_for_etag) = mode_of(members)?;
    if asks_for_etag {
        let name = if row.mode == Mode::UpdateTwin { "twinETag" } else { "eTag" };
        let etag = text(members, name)?.ok_or_else(|| format!("its `importMode` needs an `{name}`"))?;
        row.if_match = Some(etag.trim_matches('"').to_string());
    }
    row.is_blocked = match text(members, "status")? {
        None => None,
        Some(word) if word.eq_ignore_ascii_case("enabled") => Some(false),
        Some(word) if word.eq_ignore_ascii_case("disabled") => Some(true),
        Some(word) => {
            return Err(format!("`status` is neither `enabled` nor `disabled`, but `{}`", crate::diag::shown(word)));
        }
    };
    if let Some(capabilities) = object(members, "capabilities")? {
        row.iot_edge = match capabilities.get("iotEdge") {
            None | Some(Value::Null) => None,
            Some(Value::Bool(is_edge)) => Some(*is_edge),
            Some(_) => return Err("`capabilities.iotEdge` is neither true nor false".to_string()),
        };
    }
    row.name = text(members, "deviceName")?.map(checked_name).transpose()?;
    row.template = text(members, "template")?.map(str::to_string);
    row.organization = text(members, "organization")?.map(str::to_string);
    row.cloud = into_object(members.take("cloudProperties"), "cloudProperties")?.unwrap_or_default();
    if let Some(authentication) = object(members, "authentication")? {
        row.keys = Some(keys_of(authentication)?);
    }
    row.tags = into_object(members.take("tags"), "tags")?.unwrap_or_default();
    if let Some(mut properties) = into_object(members.take("properties"), "properties")? {
        (row.desired, row.desired_version) = take_section(&mut properties, "desired")?;
        (row.reported, row.reported_version) = take_section(&mut properties, "reported")?;
    }
    Ok(row)
}

fn mode_of(members: &Members) -> Result<(Mode, bool), String> {
    let Some(word) = text(members, "importMode")? else { return Ok((Mode::default(), false)) };
    let known = MODES.iter().find(|(known, ..)| known.eq_ignore_ascii_case(word));
    known.map(|(_, mode, asks_for_etag)| (*mode, *asks_for_etag)).ok_or_else(|| {
        let near = nearest(word, MODES.iter().map(|(known, ..)| *known));
        let near = near.map_or(String::new(), |near| format!(": did you mean `{near}`?"));
        format!("its `importMode` `{}` is not known{near}", crate::diag::shown(word))
    })
}

fn keys_of(authentication: &Map<String, Value>) -> Result<DeviceKeys, String> {
    let mut keys = DeviceKeys::default();
    if let Some(symmetric) = object(authentication, "symmetricKey")? {
        keys.primary_key = key_of(text(symmetric, "primaryKey")?.unwrap_or_default())?;
        keys.secondary_key = key_of(text(symmetric, "secondaryKey")?.unwrap_or_default())?;
    }
    if let Some(thumbprints) = object(authentication, "x509Thumbprint")? {
        keys.primary_thumbprint = thumbprint_of(text(thumbprints, "primaryThumbprint")?.unwrap_or_default())?;
        keys.secondary_thumbprint = thumbprint_of(text(thumbprints, "secondaryThumbprint")?.unwrap_or_default())?;
    }
    let has_key = keys.primary_key.is_some() || keys.secondary_key.is_some();
    let has_thumbprint = keys.primary_thumbprint.is_some() || keys.secondary_thumbprint.is_some();
    keys.authentication = match text(authentication, "type")? {
        Some(word) => Authentication::parse(word)
            .ok_or("`authentication.type` is none of sas, selfSigned, certificateAuthority, none")?,
        None if has_thumbprint && !has_key => Authentication::SelfSigned,
        None => Authentication::Sas,
    };
    if keys.authentication == Authentication::SelfSigned && !has_thumbprint {
        return Err("`authentication.type` is selfSigned, and there is no thumbprint".to_string());
    }
    Ok(keys)
}

/// Takes out the properties of a section and its `$version`; its `$metadata` is not kept.
fn take_section(properties: &mut Map<String, Value>, name: &str) -> Result<(Map<String, Value>, Option<u64>), String> {
    let Some(mut section) = into_object(properties.remove(name), name)? else { return Ok((Map::new(), None)) };
    section.remove("$metadata");
    // An export has this in place of a secret.
    drop_reserved(&mut section);
    let version = match section.remove("$version") {
        None | Some(Value::Null) => None,
        // SQLite has no larger integers.
        Some(version) => match version.as_u64().filter(|version| (1..=i64::MAX as u64).contains(version)) {
            Some(version) => Some(version),
            None => return Err(format!("`$version` of properties.{name} is no number from 1")),
        },
    };
    Ok((section, version))
}

fn text<'a>(members: &'a impl Lookup, name: &str) -> Result<Option<&'a str>, String> {
    match members.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not text")),
    }
}

fn object<'a>(members: &'a impl Lookup, name: &str) -> Result<Option<&'a Map<String, Value>>, String> {
    match members.member(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(format!("`{name}` is not an object")),
    }
}

/// Returns the object that was taken out: those of a twin are large, and a million of them are not to be copied.
fn into_object(value: Option<Value>, name: &str) -> Result<Option<Map<String, Value>>, String> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(inner)) => Ok(Some(inner)),
        Some(_) => Err(format!("`{name}` is not an object")),
    }
}
