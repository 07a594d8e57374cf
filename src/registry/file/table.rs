//! The CSV form of an import: its header, and from each record a checked row.

use std::io::Read;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::record::Records;
use super::row::{Rejected, Row, RowEntry};
use super::{CloudCell, ImportFailure, PaddedCell};
use crate::diag::nearest;
use crate::model::device::{Authentication, IOTC_COLUMNS};
use crate::model::id::DeviceId;
use crate::model::limits;
use crate::model::patch::{Section, violations};
use crate::registry::DeviceKeys;

/// A column of the file.
enum Column {
    Id,
    Name,
    KeyRank(KeyRank),
    Thumbprint(KeyRank),
    Template,
    Organization,
    Blocked,
    /// Without a name: a spreadsheet writes such columns, and nothing may be in them.
    Unnamed,
    Twin {
        section: Section,
        path: Vec<String>,
    },
}

/// The primary or the secondary of two keys or thumbprints.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyRank {
    Primary,
    Secondary,
}

/// The rows of a CSV file.
pub struct CsvTable<R> {
    records: Records<R>,
    record: csv::ByteRecord,
    columns: Vec<Column>,
    pub has_keys: bool,
    pub has_blocked: bool,
    /// All four columns of keys and thumbprints are there: a row without any is of a device without any.
    is_export: bool,
    /// For each `CLOUD.` column with text in it, the first of it.
    pub cloud_cells: Vec<CloudCell>,
    /// The places of the `CLOUD.` columns without text so far.
    unseen: Vec<usize>,
    /// The first name, tag or cloud property that begins or ends with a space.
    pub padded: Option<Box<PaddedCell>>,
}

impl<R: Read> CsvTable<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// There is none, or it names what is no column.
    pub fn open(file: R) -> Result<CsvTable<R>, ImportFailure> {
        let mut records = Records::new(file);
        let mut record = csv::ByteRecord::new();
        let Some(line) = records.read(&mut record)? else {
            let help = Some("Its first line must name the columns, with IOTC_DEVICEID among them.".to_string());
            return Err(ImportFailure::File { line: 1, message: "the file is empty".to_string(), help });
        };
        let columns = header(&record, line)?;
        let has_keys = columns.iter().any(|column| matches!(column, Column::KeyRank(_)));
        let has_blocked = columns.iter().any(|column| matches!(column, Column::Blocked));
        let credentials = columns.iter().filter(|column| matches!(column, Column::KeyRank(_) | Column::Thumbprint(_)));
        let is_export = credentials.count() == 4;
        let is_cloud = |column: &Column| matches!(column, Column::Twin { section: Section::Cloud, .. });
        let unseen = (0..columns.len()).filter(|at| is_cloud(&columns[*at])).collect();
        let (cloud_cells, padded) = (Vec::new(), None);
        Ok(CsvTable { records, record, columns, has_keys, has_blocked, is_export, cloud_cells, unseen, padded })
    }

    /// Returns the next row; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read, or a record does not end.
    pub fn next(&mut self) -> Result<Option<RowEntry>, ImportFailure> {
        let line = loop {
            let Some(line) = self.records.read(&mut self.record)? else { return Ok(None) };
            // A spreadsheet writes such rows below its last one.
            if self.record.iter().any(|cell| !cell.trim_ascii().is_empty()) {
                break line;
            }
        };
        let row = self.row().map_err(|message| {
            let at = self.columns.iter().position(|column| matches!(column, Column::Id));
            let cell = at.and_then(|at| self.record.get(at)).map(String::from_utf8_lossy).unwrap_or_default();
            Rejected { device_id: cell.into_owned(), message }
        });
        if row.is_ok() && !self.unseen.is_empty() {
            self.note_cloud_cells(line);
        }
        if row.is_ok() && self.padded.is_none() {
            self.padded = self.padded_cell(line).map(Box::new);
        }
        Ok(Some(RowEntry { line, row }))
    }

    /// Notes the first text of `CLOUD.` columns that had none in the rows before.
    fn note_cloud_cells(&mut self, line: u64) {
        let CsvTable { record, columns, cloud_cells, unseen, .. } = self;
        unseen.retain(|at| {
            let (Some(Column::Twin { path, .. }), Some(cell)) = (columns.get(*at), record.get(*at)) else {
                return false;
            };
            if !cell.is_empty() {
                let text = String::from_utf8_lossy(cell).into_owned();
                cloud_cells.push(CloudCell { path: path.clone(), line, text });
            }
            cell.is_empty()
        });
    }

    /// Returns the first text of the record that begins or ends with a space: one behind `, ` does.
    fn padded_cell(&self, line: u64) -> Option<PaddedCell> {
        self.columns.iter().zip(&self.record).find_map(|(column, cell)| {
            let name = match column {
                _ if cell.trim_ascii().len() == cell.len() => return None,
                Column::Name => "IOTC_DEVICENAME".to_string(),
                Column::Twin { section: Section::Tags, path } => format!("TAG.{}", path.join(".")),
                Column::Twin { path, .. } => format!("CLOUD.{}", path.join(".")),
                Column::Id
                | Column::KeyRank(_)
                | Column::Thumbprint(_)
                | Column::Template
                | Column::Organization
                | Column::Blocked
                | Column::Unnamed => return None,
            };
            Some(PaddedCell { column: name, line, text: String::from_utf8_lossy(cell).into_owned() })
        })
    }

    /// Returns the row of the record; the error says why it is rejected.
    fn row(&self) -> Result<Row, String> {
        let (columns, record) = (&self.columns, &self.record);
        let named = columns.iter().rposition(|column| !matches!(column, Column::Unnamed)).map_or(0, |last| last + 1);
        let has_more = record.iter().skip(columns.len()).any(|cell| !cell.is_empty());
        if record.len() < named || has_more {
            let count = if record.len() == 1 { "1 cell".to_string() } else { format!("{} cells", record.len()) };
            let only = record.get(0).filter(|_| record.len() == 1 && columns.len() > 1).map(String::from_utf8_lossy);
            let other = only.and_then(|cell| [";", "\t", "|"].into_iter().find(|one| cell.contains(one)));
            let why = match other {
                Some("\t") => ": its cells are separated by tabs, and commas are needed".to_string(),
                Some(other) => format!(": its cells are separated by `{other}`, and commas are needed"),
                None if record.iter().any(|cell| cell.contains(&b'\n')) => {
                    ": a cell of it goes over several lines, so look for a quote that is never closed".to_string()
                }
                None => String::new(),
            };
            return Err(format!("the row has {count}, and the header has {}{why}", columns.len()));
        }
        let mut row = Row::default();
        let mut keys = DeviceKeys::default();
        let mut name = String::new();
        for (column, cell) in columns.iter().zip(record) {
            let cell = std::str::from_utf8(cell).map_err(|_| "a cell is not UTF-8".to_string())?;
            match column {
                Column::Id => {
                    let id = DeviceId::parse_central(cell).map_err(|error| format!("the device id {error}"))?;
                    row.device_id = id.to_string();
                }
                Column::Name => name = checked_name(cell)?,
                Column::KeyRank(KeyRank::Primary) => keys.primary_key = key_of(cell)?,
                Column::KeyRank(KeyRank::Secondary) => keys.secondary_key = key_of(cell)?,
                Column::Thumbprint(KeyRank::Primary) => keys.primary_thumbprint = thumbprint_of(cell)?,
                Column::Thumbprint(KeyRank::Secondary) => keys.secondary_thumbprint = thumbprint_of(cell)?,
                Column::Template => row.template = (!cell.is_empty()).then(|| cell.to_string()),
                Column::Organization => row.organization = (!cell.is_empty()).then(|| cell.to_string()),
                Column::Blocked => row.is_blocked = blocked_of(cell)?,
                Column::Unnamed if cell.trim().is_empty() => {}
                Column::Unnamed => return Err("it has text in a column without a name".to_string()),
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
        row.name = Some(if name.is_empty() { row.device_id.clone() } else { name });
        let has_key = keys.primary_key.is_some() || keys.secondary_key.is_some();
        let has_thumbprint = keys.primary_thumbprint.is_some() || keys.secondary_thumbprint.is_some();
        keys.authentication = if has_key { Authentication::Sas } else { Authentication::SelfSigned };
        row.is_keyless = self.is_export && !has_key && !has_thumbprint;
        row.keys = (has_key || has_thumbprint).then_some(keys);
        Ok(row)
    }
}

fn header(record: &csv::ByteRecord, line: u64) -> Result<Vec<Column>, ImportFailure> {
    let fail = |message: String, help: Option<String>| Err(ImportFailure::File { line, message, help });
    if let Some((message, help)) = other_form(record) {
        return fail(message, Some(help));
    }
    let mut columns = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for (at, name) in record.iter().enumerate() {
        let name = if at == 0 { name.strip_prefix(b"\xef\xbb\xbf").unwrap_or(name) } else { name };
        let Ok(name) = std::str::from_utf8(name) else {
            let help = Some("Save the file as UTF-8: in a spreadsheet, `CSV UTF-8`.".to_string());
            return fail(format!("the name of column {} is not UTF-8", at + 1), help);
        };
        let name = name.trim();
        if name.is_empty() {
            columns.push(Column::Unnamed);
            continue;
        }
        if !seen.insert(name.to_string()) {
            return fail(format!("the column `{}` is there twice", crate::model::text::sanitize(name)), None);
        }
        match column_of(name) {
            Ok(column) => columns.push(column),
            Err((message, help)) => return fail(message, help),
        }
    }
    if !columns.iter().any(|column| matches!(column, Column::Id)) {
        let help = Some("Its first line must name the columns, with IOTC_DEVICEID among them.".to_string());
        return fail("the file has no column `IOTC_DEVICEID`".to_string(), help);
    }
    Ok(columns)
}

/// Returns what is wrong with a header that is of another form than CSV with commas, and what to do.
fn other_form(record: &csv::ByteRecord) -> Option<(String, String)> {
    let first = record.get(0)?;
    if first.starts_with(b"\xff\xfe") || first.starts_with(b"\xfe\xff") || record.as_slice().contains(&0) {
        let help = "Save the file as UTF-8: in a spreadsheet, `CSV UTF-8`.";
        return Some(("the file is UTF-16, and UTF-8 is needed".to_string(), help.to_string()));
    }
    let text = std::str::from_utf8(first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first)).ok()?.trim();
    let raw = std::str::from_utf8(first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first)).ok()?;
    if let Some(rest) = text.get(..4).filter(|start| start.eq_ignore_ascii_case("sep=")).and(raw.trim_start().get(4..))
    {
        let separator = match rest {
            "" => ",",
            "\t" => "a tab",
            rest => rest.trim(),
        };
        let more = if separator == "," { "" } else { ", and separate the cells by commas" };
        let message = format!("the first line is `sep={}`, which only Excel reads", crate::diag::shown(separator));
        return Some((message, format!("Remove that line{more}: the first line must name the columns.")));
    }
    // Of a file with commas a name of a column has none of these.
    let is_column = |part: &str| {
        let name = part.trim().trim_matches('"');
        column_of(name).is_ok() || IOTC_COLUMNS.iter().any(|column| column.eq_ignore_ascii_case(name))
    };
    let found = [(';', "`;`"), ('\t', "tabs"), ('|', "`|`")].into_iter().find(|(separator, _)| {
        text.contains(*separator) && text.split(*separator).any(|part| !part.trim().is_empty() && is_column(part))
    });
    let (_, word) = found?;
    let help = format!(
        "Separate them by commas. A spreadsheet writes {word} where the language of the system uses commas in numbers: \
         save the file as `CSV UTF-8` with commas, or replace them."
    );
    Some((format!("the cells are separated by {word}, and commas are needed"), help))
}

/// Returns the column of a name; the error is a phrase and a hint.
fn column_of(name: &str) -> Result<Column, (String, Option<String>)> {
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
        "TEMPLATE" => Ok(Column::Template),
        "ORGANIZATION" => Ok(Column::Organization),
        "BLOCKED" => Ok(Column::Blocked),
        "IOTC_SASKEY_PRIMARY" => Ok(Column::KeyRank(KeyRank::Primary)),
        "IOTC_SASKEY_SECONDARY" => Ok(Column::KeyRank(KeyRank::Secondary)),
        "IOTC_X509THUMBPRINT_PRIMARY" => Ok(Column::Thumbprint(KeyRank::Primary)),
        "IOTC_X509THUMBPRINT_SECONDARY" => Ok(Column::Thumbprint(KeyRank::Secondary)),
        _ => {
            if let Some(path) = name.strip_prefix("TAG.") {
                return twin(Section::Tags, path);
            }
            if let Some(path) = name.strip_prefix("CLOUD.") {
                return twin(Section::Cloud, path);
            }
            let shown = crate::model::text::shorten(&crate::model::text::sanitize_line(name), 60).into_owned();
            let help = match nearest(name, IOTC_COLUMNS.into_iter().chain(["TEMPLATE", "ORGANIZATION", "BLOCKED"])) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => "Columns are IOTC_DEVICEID, IOTC_DEVICENAME, TEMPLATE, ORGANIZATION, BLOCKED, TAG.<path> and \
                         CLOUD.<path>."
                    .to_string(),
            };
            Err((format!("the column `{shown}` is not known"), Some(help)))
        }
    }
}

pub fn checked_name(cell: &str) -> Result<String, String> {
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

/// Returns whether a device is blocked, `None` for an empty cell. A spreadsheet writes the words in capitals.
fn blocked_of(cell: &str) -> Result<Option<bool>, String> {
    match cell {
        "" => Ok(None),
        word if word.eq_ignore_ascii_case("true") => Ok(Some(true)),
        word if word.eq_ignore_ascii_case("false") => Ok(Some(false)),
        word => Err(format!("BLOCKED is neither true nor false, but `{}`", crate::diag::shown(word))),
    }
}

/// Returns the key of a text, `None` for an empty one.
pub fn key_of(cell: &str) -> Result<Option<Vec<u8>>, String> {
    if cell.is_empty() {
        return Ok(None);
    }
    // The cell is a secret: the message does not show it.
    match base64::engine::general_purpose::STANDARD.decode(cell) {
        Ok(key) if (16..=64).contains(&key.len()) => Ok(Some(key)),
        Ok(_) | Err(_) => Err("a key is not base64 of 16 to 64 bytes".to_string()),
    }
}

/// Returns the thumbprint of a text, `None` for an empty one: that of a certificate by SHA-1 or SHA-256.
pub fn thumbprint_of(cell: &str) -> Result<Option<String>, String> {
    match cell.len() {
        0 => Ok(None),
        40 | 64 if cell.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(Some(cell.to_string())),
        _ => Err("a thumbprint is not 40 or 64 hex digits".to_string()),
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
