//! A row of an import file, whatever its form: read and checked, and not yet compared with the registry.

use serde_json::{Map, Value};

use crate::registry::DeviceKeys;

/// What a row does with its device: `importMode` of IoT Hub, but for the ETag that some of its modes ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The only one of a CSV file.
    #[default]
    CreateOrUpdate,
    Create,
    Update,
    /// As `Update`, of the tags and desired properties only.
    UpdateTwin,
    Delete,
}

/// A row. What is absent is left as it is, and what a new device begins with otherwise.
#[derive(Debug, Default)]
pub struct Row {
    pub device_id: String,
    pub mode: Mode,
    /// The ETag that the device, or its twin for `UpdateTwin`, must have; `*` is any.
    pub if_match: Option<String>,
    pub name: Option<String>,
    /// A merge patch, as the next two.
    pub tags: Map<String, Value>,
    pub cloud: Map<String, Value>,
    pub desired: Map<String, Value>,
    /// Of a new device, as the next two.
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
