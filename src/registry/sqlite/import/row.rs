//! A row of an import file, whatever its form: read and checked, and not yet compared with the registry.

use std::io::Read;

use serde_json::{Map, Value};

use super::hub::HubLines;
use super::table::Table;
use super::{CloudCell, ImportFailure};
use crate::model::fleet::ImportFormat;
use crate::registry::DeviceKeys;

/// What a row does with its device: `importMode` of IoT Hub without the ETag that some modes ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The only mode of a CSV file.
    #[default]
    CreateOrUpdate,
    Create,
    Update,
    /// As `Update`, but for the tags and desired properties only.
    UpdateTwin,
    Delete,
}

/// A row. A field that is absent leaves the device as it is; a new device gets the default.
#[derive(Debug, Default)]
pub struct Row {
    pub device_id: String,
    pub mode: Mode,
    /// The ETag that the device, or its twin for `UpdateTwin`, must have; `*` is any.
    pub if_match: Option<String>,
    pub name: Option<String>,
    /// A merge patch, like `cloud` and `desired`.
    pub tags: Map<String, Value>,
    pub cloud: Map<String, Value>,
    pub desired: Map<String, Value>,
    /// The version of the desired properties of a new device. The next two are also for new devices only.
    pub desired_version: Option<u64>,
    pub reported: Map<String, Value>,
    pub reported_version: Option<u64>,
    pub is_blocked: Option<bool>,
    pub iot_edge: Option<bool>,
    pub keys: Option<DeviceKeys>,
    /// A new device gets no keys.
    pub is_keyless: bool,
}

/// A row with the line on which it starts.
pub struct Entry {
    pub line: u64,
    pub row: Result<Row, Rejected>,
}

/// A row that cannot be used.
pub struct Rejected {
    /// As in the file: untrusted, and empty when there is none.
    pub device_id: String,
    pub message: String,
}

/// The rows of a file.
pub enum Source<R> {
    Csv(Table<R>),
    IotHub(HubLines<R>),
}

impl<R: Read> Source<R> {
    /// Returns the rows of a file.
    ///
    /// # Errors
    /// The file is of another form.
    pub fn open(format: ImportFormat, file: R) -> Result<Source<R>, ImportFailure> {
        match format {
            ImportFormat::Csv => Table::open(file).map(Source::Csv),
            ImportFormat::IotHub => Ok(Source::IotHub(HubLines::new(file))),
        }
    }

    /// Returns the next row; `None` at the end.
    ///
    /// # Errors
    /// The file cannot be read on.
    pub fn next(&mut self) -> Result<Option<Entry>, ImportFailure> {
        match self {
            Source::Csv(table) => table.next(),
            Source::IotHub(lines) => lines.next(),
        }
    }

    /// Returns true when rows may say more than a name, tags and cloud properties.
    pub fn has_identities(&self) -> bool {
        match self {
            Source::Csv(table) => table.has_keys,
            Source::IotHub(_) => true,
        }
    }

    /// Returns true when the rows so far had keys, or could have had.
    pub fn has_keys(&self) -> bool {
        match self {
            Source::Csv(table) => table.has_keys,
            Source::IotHub(lines) => lines.has_keys,
        }
    }

    /// Returns the first text of each column of cloud properties, and takes it away.
    pub fn take_cloud_cells(&mut self) -> Vec<CloudCell> {
        match self {
            Source::Csv(table) => std::mem::take(&mut table.cloud_cells),
            Source::IotHub(_) => Vec::new(),
        }
    }

    /// Returns the number of module identities among the rows so far.
    pub fn modules(&self) -> u64 {
        match self {
            Source::Csv(_) => 0,
            Source::IotHub(lines) => lines.modules,
        }
    }
}
