//! A device and its twin, as the query language and the views see it. Keys are not part of it: they leave the registry
//! only in an export.

use jiff::Timestamp;
use serde_json::Value;

use super::secret::shown_if_hidden;

/// The columns of IoT Central's device export, in its order; an import knows the same ones.
pub const IOTC_COLUMNS: [&str; 6] = [
    "IOTC_DEVICEID",
    "IOTC_DEVICENAME",
    "IOTC_SASKEY_PRIMARY",
    "IOTC_SASKEY_SECONDARY",
    "IOTC_X509THUMBPRINT_PRIMARY",
    "IOTC_X509THUMBPRINT_SECONDARY",
];

/// Where a device is in its life (IoT Central); `blocked` is apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeviceState {
    Registered,
    Provisioned,
    WaitingForApproval,
    Unassociated,
}

impl DeviceState {
    /// Every state.
    pub const ALL: [DeviceState; 4] =
        [DeviceState::Registered, DeviceState::Provisioned, DeviceState::WaitingForApproval, DeviceState::Unassociated];

    /// Returns the word used in files, output and the registry.
    pub fn as_str(self) -> &'static str {
        match self {
            DeviceState::Registered => "registered",
            DeviceState::Provisioned => "provisioned",
            DeviceState::WaitingForApproval => "waiting-for-approval",
            DeviceState::Unassociated => "unassociated",
        }
    }

    /// Returns the state of a word, or `None`.
    pub fn parse(word: &str) -> Option<DeviceState> {
        DeviceState::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

/// Whether a device has a connection, in IoT Hub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConnectionState {
    Connected,
    Disconnected,
}

impl ConnectionState {
    /// Returns IoT Hub's word.
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectionState::Connected => "Connected",
            ConnectionState::Disconnected => "Disconnected",
        }
    }

    /// Returns the state of IoT Hub's word, or `None`.
    pub fn parse(word: &str) -> Option<ConnectionState> {
        match word {
            "Connected" => Some(ConnectionState::Connected),
            "Disconnected" => Some(ConnectionState::Disconnected),
            _ => None,
        }
    }
}

/// How a device proves who it is, in IoT Hub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Authentication {
    /// With one of two symmetric keys.
    #[default]
    Sas,
    /// With a certificate that has one of two thumbprints.
    SelfSigned,
    /// With a certificate of an authority that the service knows.
    CertificateAuthority,
    /// Not at all: it does not connect by itself.
    None,
}

impl Authentication {
    /// Every way.
    pub const ALL: [Authentication; 4] =
        [Authentication::Sas, Authentication::SelfSigned, Authentication::CertificateAuthority, Authentication::None];

    /// Returns IoT Hub's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Authentication::Sas => "sas",
            Authentication::SelfSigned => "selfSigned",
            Authentication::CertificateAuthority => "certificateAuthority",
            Authentication::None => "none",
        }
    }

    /// Returns the way of IoT Hub's word, in any case, or `None`.
    pub fn parse(word: &str) -> Option<Authentication> {
        Authentication::ALL.into_iter().find(|way| way.as_str().eq_ignore_ascii_case(word))
    }
}

/// A device with its twin. One at a time: collections of twins never cross rooms.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub device_id: String,
    pub device_name: String,
    /// The name of its device template; `None` when unassociated.
    pub template: Option<String>,
    /// The path of its organization, such as `acme/eu`; `None` at the root.
    pub organization: Option<String>,
    pub state: DeviceState,
    pub blocked: bool,
    pub simulated: bool,
    /// `capabilities.iotEdge` of IoT Hub.
    pub iot_edge: bool,
    pub connection_state: ConnectionState,
    pub last_activity: Option<Timestamp>,
    /// The assigned edge deployment manifest.
    pub edge_manifest: Option<String>,
    /// An object.
    pub tags: Value,
    /// An object.
    pub cloud: Value,
    /// An object, without `$version`.
    pub desired: Value,
    /// Counts the writes of `desired`, from 1.
    pub desired_version: u64,
    /// An object, without `$version`.
    pub reported: Value,
    /// Counts the writes of `reported`, from 1.
    pub reported_version: u64,
}

impl Device {
    /// Returns the desired properties with their `$version`, as IoT Hub shows them, and without the marks of secrets.
    pub fn desired_with_version(&self) -> Value {
        with_version(&self.desired, self.desired_version)
    }

    /// Returns the reported properties with their `$version`, as IoT Hub shows them, and without the marks of secrets.
    pub fn reported_with_version(&self) -> Value {
        with_version(&self.reported, self.reported_version)
    }
}

fn with_version(section: &Value, version: u64) -> Value {
    let mut section = shown_if_hidden(section).into_owned();
    if let Some(members) = section.as_object_mut() {
        members.insert("$version".into(), Value::from(version));
    }
    section
}
