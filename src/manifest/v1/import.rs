//! `DeviceImport`: devices from a file.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{NameText, OrganizationText, PathText};

/// Devices from a file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceImportSpec {
    /// A `.csv` file with the column `IOTC_DEVICEID`, or a `.jsonl` file or `devices.txt` with one ExportImportDevice
    /// of IoT Hub a line, relative to the folder of this document.
    pub file: PathText,
    /// The device template of the devices. Default: none, they are unassociated.
    #[schemars(example = &"lamp")]
    pub template: Option<NameText>,
    /// The organization of the devices. Default: none, they are at the root.
    pub organization: Option<OrganizationText>,
    /// What a row may say for its device in place of this document. Default: nothing.
    #[schemars(example = ["template"])]
    #[serde(default)]
    pub from_rows: Vec<RowField>,
    /// True: the devices are simulated. Default: false.
    #[serde(default)]
    pub simulated: bool,
    /// What happens to devices whose row left the file: `keep` (default), `block` or `delete`.
    pub removed: Option<Removed>,
    /// What you expect of the file. A plan with more or less is refused. Default: anything.
    pub expect: Option<ImportExpect>,
}

/// What the rows of a file may say: the name of a declared template, or of an organization that is within that of the
/// import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RowField {
    Template,
    Organization,
}

/// How many devices you expect an import to have and to remove.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImportExpect {
    /// The file has at least so many devices. Default: 0.
    #[schemars(example = 1)]
    pub min: Option<u64>,
    /// The file has at most so many devices. Default: any number.
    #[schemars(example = 5_000)]
    pub max: Option<u64>,
    /// At most so many devices are blocked or deleted. Default: any number.
    #[schemars(example = 10)]
    pub removed: Option<u64>,
    /// At most so many rows are rejected. Default: any number but all.
    #[schemars(example = 0)]
    pub rejected: Option<u64>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Removed {
    Keep,
    Block,
    Delete,
}
