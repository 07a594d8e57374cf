//! A row of an import file, whatever its form: read and checked, and not yet compared with the registry.

use serde_json::{Map, Value};

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
    /// The names of a device template and of an organization, untrusted.
    pub template: Option<String>,
    pub organization: Option<String>,
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
pub struct RowEntry {
    pub line: u64,
    pub row: Result<Row, Rejected>,
}

/// A row that cannot be used.
pub struct Rejected {
    /// As in the file: untrusted, and empty when there is none.
    pub device_id: String,
    pub message: String,
}
