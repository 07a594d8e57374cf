//! The link of a Fleet: how devices are reached.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::{DurationText, ProbabilityText};

/// How devices are reached: one of the three, or `mqtt` and `iotHub`. With both, a device is reached where it was seen
/// last.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 2, "not" = {"required": ["simulated"], "minProperties": 2}))]
pub struct Link {
    /// Simulated devices: no hardware is needed, and every run meets the same devices.
    pub simulated: Option<Simulated>,
    /// Real devices behind an MQTT broker.
    pub mqtt: Option<Mqtt>,
    /// Real devices of Azure IoT Hub, which connect to `fleetform gateway` with their own clients.
    pub iot_hub: Option<IotHub>,
}

/// Real devices of Azure IoT Hub. What they need is in `docs/gateway.md`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["hostName"]))]
pub struct IotHub {
    /// The `HostName` of the devices' connection strings: a name or an IPv4 address, without a port. The certificate of
    /// the gateway has it.
    #[schemars(example = &"hub.acme.example")]
    pub host_name: Option<String>,
    /// The authorities that may have signed the certificates of devices that are registered as `certificateAuthority`. A
    /// device has a certificate with its id as the common name. Default: none.
    #[schemars(extend("maxItems" = crate::model::limits::DEVICE_AUTHORITIES_MAX), example = json!([{"file": "/etc/fleetform/device-ca.pem"}]))]
    pub device_authorities: Vec<DeviceAuthority>,
    /// What back ends may do that use the REST API, by the name of the policy that their connection string has as
    /// `SharedAccessKeyName`. Default: those of `fleetform gateway init`, which are IoT Hub's five.
    #[schemars(example = json!({"service": {"primary": {"env": "HUB_SERVICE"}, "rights": ["serviceConnect"]}}))]
    pub policies: Option<BTreeMap<String, HubPolicy>>,
    /// What a back end may do to single devices without a commit: `record` (default), it is done at once, and who did
    /// it goes to the results branch; `refuse`, nothing.
    pub direct: Option<Direct>,
    /// How a back end reads a device of a method job that has answered 400 or more: `failed` (default), as fleetform
    /// counts it; or `completed`, as IoT Hub does.
    pub method_failure: Option<MethodFailure>,
    /// Where the jobs of back ends are committed.
    pub jobs: Option<HubJobs>,
    /// How long the id of a job is taken, and what devices have answered is kept whole. Default: `30d`.
    #[schemars(example = &"30d")]
    pub retention: Option<DurationText>,
    /// Where the telemetry of devices goes. Default: `drop`, it is counted and dropped.
    #[schemars(with = "HubTelemetry", example = json!({"file": "telemetry.jsonl"}))]
    pub telemetry: Option<HubTelemetryPlace>,
    /// How new devices register themselves, as with the Device Provisioning Service. Default: not at all.
    pub provisioning: Option<Provisioning>,
}

/// Where the telemetry of devices goes: one of the two, or `drop` for nowhere.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("type" = ["object", "string"], "minProperties" = 1, "maxProperties" = 1))]
#[schemars(extend("if" = {"type": "string"}, "then" = {"enum": ["drop"]}))]
pub struct HubTelemetry {
    /// A file, relative to the folder of the fleet, to which each message is appended as a line of JSON. One that is
    /// moved away is made anew.
    #[schemars(example = &"telemetry.jsonl")]
    pub file: Option<String>,
    /// A broker, to which each message goes on as it is, to `PREFIX/DEVICE/messages/events/PROPERTIES`.
    pub mqtt: Option<Mqtt>,
}

/// Where telemetry goes, as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum HubTelemetryPlace {
    To(Box<HubTelemetry>),
    /// `drop`, or a word that is refused.
    Word(String),
}

/// How new devices register themselves, as with the Device Provisioning Service.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["idScope", "groups"]))]
pub struct Provisioning {
    /// What devices name as the scope of their ids.
    #[schemars(example = &"0ne00A1B2C3")]
    pub id_scope: Option<String>,
    /// The enrolment groups, by name: a device has a key that was derived from one of its group, or a certificate that
    /// its authority has signed.
    #[schemars(example = json!({"line-3": {"primary": {"env": "LINE_3"}, "tags": {"line": "3"}}}))]
    pub groups: BTreeMap<String, EnrolmentGroup>,
}

/// Devices that may register with a key that was derived from one of the group, or with a certificate of an authority:
/// either `primary` or `authority`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("oneOf" = [{"required": ["primary"]}, {"required": ["authority"]}]))]
pub struct EnrolmentGroup {
    /// Where the key of the group is: 16 to 64 bytes in Base64. The operator allows it with `--allow-secret`.
    #[schemars(example = json!({"env": "LINE_3"}))]
    pub primary: Option<CredentialPlace>,
    /// Where a second key is, which counts as the first. Default: none.
    #[schemars(example = json!({"env": "LINE_3_NEXT"}))]
    pub secondary: Option<CredentialPlace>,
    /// Who has signed the certificates of the devices: their common name is the registration id. It is one of
    /// `deviceAuthorities`, too.
    #[schemars(example = json!({"file": "/etc/fleetform/line-4-ca.pem"}))]
    pub authority: Option<DeviceAuthority>,
    /// The organization that a new device gets. Default: none.
    pub organization: Option<super::OrganizationText>,
    /// The device template that a new device gets. Default: none.
    pub template: Option<super::NameText>,
    /// The tags that a new device gets. Default: none.
    #[schemars(example = json!({"line": "3"}))]
    pub tags: serde_json::Map<String, serde_json::Value>,
}

/// Who has one of its keys may do what its rights say.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["primary", "rights"]))]
pub struct HubPolicy {
    /// Where its key is: 16 to 64 bytes in Base64. The operator allows it with `--allow-secret`.
    #[schemars(example = json!({"env": "HUB_SERVICE"}))]
    pub primary: Option<CredentialPlace>,
    /// Where a second key is, which counts as the first: keys are changed one after the other. Default: none.
    #[schemars(example = json!({"env": "HUB_SERVICE_2"}))]
    pub secondary: Option<CredentialPlace>,
    /// What it may do, in IoT Hub's words.
    #[schemars(length(min = 1), extend("uniqueItems" = true), example = ["registryRead", "serviceConnect"])]
    pub rights: Vec<HubRight>,
    /// The most devices of one of its jobs. Default: any number.
    #[schemars(range(min = 1), example = 1000)]
    pub max_devices: Option<u64>,
}

/// What a policy allows, in IoT Hub's words.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum HubRight {
    /// To read devices, twins and jobs.
    RegistryRead,
    /// To write devices and twins, and to make and cancel jobs.
    RegistryWrite,
    /// To call methods, send messages, and make jobs that call methods.
    ServiceConnect,
    /// To connect as any device.
    DeviceConnect,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Direct {
    Record,
    Refuse,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MethodFailure {
    Failed,
    Completed,
}

/// Where the jobs of back ends are committed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HubJobs {
    /// The folder of their files, relative to that of the fleet. Default: `jobs/hub`.
    #[schemars(example = &"jobs/hub")]
    pub folder: Option<String>,
    /// The branch: `followed` (default), so that they run at once; or a name with `{name}` in it, such as `hub/{name}`,
    /// for a review before they run.
    #[schemars(example = &"hub/{name}")]
    pub branch: Option<String>,
}

/// Authorities that sign certificates of devices.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["file"]))]
pub struct DeviceAuthority {
    /// A PEM file with their certificates, absolute or relative to the folder of the fleet. It is read again when it
    /// changes.
    #[schemars(example = &"/etc/fleetform/device-ca.pem")]
    pub file: Option<String>,
}

/// Real devices behind an MQTT broker. MQTT 5 is spoken, and 3.1.1 with a broker that does not know it. The protocol of
/// the devices is in `docs/device-protocol.md`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub struct Mqtt {
    /// Where the broker is: `mqtts://HOST[:PORT]`, encrypted, port 8883; or `mqtt://HOST[:PORT]`, port 1883.
    #[schemars(example = &"mqtts://broker.acme.example:8883")]
    pub url: Option<String>,
    /// Where the user name of fleetform at the broker is. The operator allows it with `--allow-secret`. Default: none.
    #[schemars(example = json!({"env": "BROKER_USER"}))]
    pub username: Option<CredentialPlace>,
    /// Where the password is. The operator allows it with `--allow-secret`. Default: none.
    #[schemars(example = json!({"env": "BROKER_PASSWORD"}))]
    pub password: Option<CredentialPlace>,
    /// A PEM file with the authorities that may have signed the broker's certificate, absolute or relative to the
    /// folder of the fleet. Default: those of the system.
    #[schemars(example = &"broker-ca.pem")]
    pub ca: Option<String>,
    /// A PEM file with the certificate that fleetform shows to the broker. Default: none.
    #[schemars(example = &"/etc/fleetform/client.pem")]
    pub client_certificate: Option<String>,
    /// A PEM file with the key of that certificate.
    #[schemars(example = &"/etc/fleetform/client-key.pem")]
    pub client_key: Option<String>,
    /// What all topics begin with. Default: `fleetform`.
    #[schemars(example = &"acme/fleet")]
    pub topic_prefix: Option<String>,
    /// How many connections share what goes to devices, 1 to 16. One is enough for tens of thousands of messages a
    /// second. Default: 1.
    #[schemars(range(min = 1, max = 16), example = 4)]
    pub connections: Option<u32>,
}

/// Where a value is on the machine on which fleetform runs: one of the two.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct CredentialPlace {
    /// A variable of the environment.
    #[schemars(example = &"BROKER_PASSWORD")]
    pub env: Option<String>,
    /// A file: an absolute path, or one below a folder that the operator allows.
    #[schemars(example = &"/run/secrets/broker-password")]
    pub file: Option<String>,
}

/// Simulated devices. Who is offline is a function of the seed and the device id; how long a command takes and whether
/// it fails, of the seed, the run and the device.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Simulated {
    /// A number that decides which devices fail and which are offline. Default: 1.
    #[schemars(example = 42)]
    pub seed: Option<u64>,
    /// The mean time between a request and its answer. Default: `20ms`.
    pub latency: Option<DurationText>,
    /// The share of devices that answer a command with status 500. Default: `0%`.
    pub failures: Option<ProbabilityText>,
    /// The share of devices that are not connected. Default: `0%`.
    pub offline: Option<ProbabilityText>,
    /// Devices that behave in a way of their own, by device id, whatever the shares say.
    #[schemars(example = json!({"lamp-0701": {"silent": true}}))]
    pub devices: BTreeMap<String, Behaviour>,
    /// A file, relative to the folder of the fleet, to which each device appends what it executed, one JSON line each.
    #[schemars(example = &"executed.jsonl")]
    pub journal: Option<String>,
}

/// What one simulated device does.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Behaviour {
    /// The status that it answers commands with, 100 to 599; 400 or more is a failure. Default: 200.
    #[schemars(range(min = 100, max = 599), example = 500)]
    pub answers: Option<u16>,
    /// True: it is not connected. Default: false.
    pub offline: bool,
    /// True: it is connected and never answers. Default: false.
    pub silent: bool,
    /// It is not connected, and connects so long after it was first asked for something. Default: never.
    pub connects_after: Option<DurationText>,
    /// The time between a request and its answer. Default: that of all devices.
    pub latency: Option<DurationText>,
}
