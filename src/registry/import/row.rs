//! The columns and rows of an import file: from a CSV record to checked values. Pure; the comparison with the registry is next door.

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::diag::nearest;
use crate::model::device::IOTC_COLUMNS;
use crate::model::id::DeviceId;
use crate::model::limits;
use crate::model::patch::{Section, violations};

/// A column of the file.
pub enum Column {
    Id,
    Name,
    PrimaryKey,
    SecondaryKey,
    Twin {
        section: Section,
        path: Vec<String>,
    },
    /// Thumbprints of an export: read and left alone.
    Ignored,
}

/// A row that has been read and not yet compared.
pub struct Row {
    pub device_id: String,
    pub name: String,
    pub tags: Map<String, Value>,
    pub cloud: Map<String, Value>,
    pub primary_key: Option<Vec<u8>>,
    pub secondary_key: Option<Vec<u8>>,
}

/// Returns the column of a name; the error is a phrase and a hint.
pub fn column_of(name: &str) -> Result<Column, (String, Option<String>)> {
    let twin = |section: Section, path: &str| {
        let path: Vec<String> = path.split('.').map(str::to_string).collect();
        let mut members = Map::new();
        set_path(&mut members, &path, Value::String(String::new()));
        match violations(&members, section).first() {
            Some(broken) => {
                let name = crate::model::text::sanitize(name);
                Err((format!("the column `{name}` is no path of a twin: {}", broken.rule), None))
            }
            None => Ok(Column::Twin { section, path }),
        }
    };
    match name {
        "IOTC_DEVICEID" => Ok(Column::Id),
        "IOTC_DEVICENAME" => Ok(Column::Name),
        "IOTC_SASKEY_PRIMARY" => Ok(Column::PrimaryKey),
        "IOTC_SASKEY_SECONDARY" => Ok(Column::SecondaryKey),
        "IOTC_X509THUMBPRINT_PRIMARY" | "IOTC_X509THUMBPRINT_SECONDARY" => Ok(Column::Ignored),
        _ => {
            if let Some(path) = name.strip_prefix("TAG.") {
                return twin(Section::Tags, path);
            }
            if let Some(path) = name.strip_prefix("CLOUD.") {
                return twin(Section::Cloud, path);
            }
            let shown = crate::model::text::shorten(&crate::model::text::sanitize_line(name), 60).into_owned();
            let help = match nearest(name, IOTC_COLUMNS) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "Columns are IOTC_DEVICEID, IOTC_DEVICENAME, TAG.<path> and CLOUD.<path>.".to_string(),
            };
            Err((format!("the column `{shown}` is not known"), Some(help)))
        }
    }
}

/// Returns the row of a record; the error says why it is rejected.
pub fn parse_row(columns: &[Column], record: &csv::ByteRecord) -> Result<Row, String> {
    if record.len() != columns.len() {
        return Err(format!("the row has {} cells, and the header has {}", record.len(), columns.len()));
    }
    let mut row = Row {
        device_id: String::new(),
        name: String::new(),
        tags: Map::new(),
        cloud: Map::new(),
        primary_key: None,
        secondary_key: None,
    };
    for (column, cell) in columns.iter().zip(record) {
        let cell = std::str::from_utf8(cell).map_err(|_| "a cell is not UTF-8".to_string())?;
        match column {
            Column::Id => {
                let id = DeviceId::parse(cell).map_err(|error| format!("the device id {error}"))?;
                row.device_id = id.to_string();
            }
            Column::Name => row.name = checked_name(cell)?,
            Column::PrimaryKey => row.primary_key = key_of(cell)?,
            Column::SecondaryKey => row.secondary_key = key_of(cell)?,
            Column::Ignored => {}
            Column::Twin { section, path } => {
                if let Some(control) = cell.chars().find(|c| c.is_control()) {
                    return Err(format!("the cell of {}.{} contains {control:?}", section.root(), path.join(".")));
                }
                let value = if cell.is_empty() { Value::Null } else { Value::String(cell.to_string()) };
                let members = if *section == Section::Tags { &mut row.tags } else { &mut row.cloud };
                set_path(members, path, value);
            }
        }
    }
    if row.name.is_empty() {
        row.name.clone_from(&row.device_id);
    }
    Ok(row)
}

fn checked_name(cell: &str) -> Result<String, String> {
    let count = cell.chars().count();
    if count > limits::DEVICE_NAME_CHARS_MAX {
        return Err(format!(
            "the name has {count} characters, and at most {} are allowed",
            limits::DEVICE_NAME_CHARS_MAX
        ));
    }
    match cell.chars().find(|c| c.is_control()) {
        Some(control) => Err(format!("the name contains {control:?}, and control characters are not allowed")),
        None => Ok(cell.to_string()),
    }
}

fn key_of(cell: &str) -> Result<Option<Vec<u8>>, String> {
    if cell.is_empty() {
        return Ok(None);
    }
    // The cell is a secret: the message does not show it.
    match base64::engine::general_purpose::STANDARD.decode(cell) {
        Ok(key) if (16..=64).contains(&key.len()) => Ok(Some(key)),
        Ok(_) | Err(_) => Err("a key is not base64 of 16 to 64 bytes".to_string()),
    }
}

fn set_path(members: &mut Map<String, Value>, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        members.insert(first.clone(), value);
        return;
    }
    let inner = members.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
    if !inner.is_object() {
        *inner = Value::Object(Map::new());
    }
    if let Some(inner) = inner.as_object_mut() {
        set_path(inner, rest, value);
    }
}
