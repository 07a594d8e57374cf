//! The wire types of `fleetform/v1`: what an author may write, field by field.
//!
//! The doc comments are the descriptions of the JSON Schemas, which editors show: they are written for authors. A value
//! that needs more than its type (a duration, a percentage) stays text here; [`super::lower`] reads it.

macro_rules! text {
    ($(#[doc = $doc:literal])* $keyword:literal = $value:expr, $name:ident, $example:literal) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Deserialize, JsonSchema)]
        #[serde(transparent)]
        #[schemars(example = &$example, extend($keyword = $value))]
        pub struct $name(pub String);
    };
}

mod access;
mod alert;
mod delivery;
mod import;
mod link;
mod policy;
mod schedule;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Number, Value, json};

pub use access::{AccessSpec, Grant, GrantedKind, Role};
pub use alert::{AlertBody, AlertOn, AlertTo, AlertWebhook};
pub use delivery::{Confirm, Delivery, Offline, Retry, Threshold, ThresholdScope};
pub use import::{DeviceImportSpec, ImportExpect, Removed, RowField};
pub use link::{
    Behaviour, CredentialPlace, DeviceAuthority, Direct, EnrolmentGroup, HubJobs, HubPolicy, HubRight, HubTelemetry,
    HubTelemetryPlace, IotHub, Link, MethodFailure, Mqtt, Provisioning, Simulated,
};
pub use policy::{ActionWord, AppliesTo, Freeze, JudgedKind, PolicyForbid, PolicyLimits, PolicyRequire, PolicySpec};
pub use schedule::{
    End, Missed, MissedPolicy, NOT_SCHEDULED, Overlap, Recurrence, ScheduleSpec, ScheduledJobSpec, Weekday,
};

/// The version that every document names in `apiVersion`.
pub const API_VERSION: &str = "fleetform/v1";

/// A document with the spec of its kind.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document<M, S> {
    /// The version of the format: `fleetform/v1`.
    #[expect(dead_code, reason = "judged before the wire type is known, and part of the schema")]
    pub api_version: String,
    /// The kind of the document.
    #[expect(dead_code, reason = "judged before the wire type is known, and part of the schema")]
    pub kind: String,
    /// Who the document is.
    pub metadata: M,
    /// What the document declares.
    pub spec: S,
}

/// A document whose spec may be left out, because every field of it has a default.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OpenDocument<M, S: Default> {
    /// The version of the format: `fleetform/v1`.
    #[expect(dead_code, reason = "judged before the wire type is known, and part of the schema")]
    pub api_version: String,
    /// The kind of the document.
    #[expect(dead_code, reason = "judged before the wire type is known, and part of the schema")]
    pub kind: String,
    /// Who the document is.
    pub metadata: M,
    /// What the document declares. Default: nothing but defaults.
    #[serde(default)]
    pub spec: S,
}

/// Who a document is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The name, unlike that of any other document of the kind: 1 to 63 lower-case letters, digits and `-`.
    pub name: NameText,
    /// Words for people and tools to sort by. They change nothing.
    #[schemars(example = json!({"team": "north"}))]
    #[serde(default)]
    #[expect(dead_code, reason = "for people, and checked to be text")]
    pub labels: BTreeMap<String, String>,
    /// A sentence for people. It changes nothing.
    #[schemars(example = &"Dims the lamps of hall A.")]
    #[expect(dead_code, reason = "for people, and checked to be text")]
    pub description: Option<String>,
}

/// Who a job or a schedule is.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobMetadata {
    /// The name, unlike that of any other document of the kind: 1 to 63 lower-case letters, digits and `-`.
    pub name: NameText,
    /// Words for people and tools to sort by. They change nothing, and changing them does not run the job again.
    #[schemars(example = json!({"team": "north"}))]
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A sentence for people. It changes nothing, and changing it does not run the job again.
    #[schemars(example = &"Dims the lamps of hall A.")]
    #[expect(dead_code, reason = "for people, and checked to be text")]
    pub description: Option<String>,
    /// The name that it had before, or a list. Set it when you rename it on purpose, so that it is not taken for new.
    #[schemars(example = &"dim-hall-b")]
    pub previous_name: Option<PreviousNames>,
}

/// A former name, or several.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PreviousNames {
    One(NameText),
    Several(Vec<NameText>),
}

text! {
    /// A name: 1 to 63 lower-case letters, digits and `-`, starting and ending with a letter or digit.
    "pattern" = "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", NameText, "hall-a"
}
text! {
    /// The name of an organization, or its path from the root such as `acme/eu`.
    "pattern" = "^[a-z0-9][-a-z0-9]*(/[a-z0-9][-a-z0-9]*)*$", OrganizationText, "acme/eu"
}
text! {
    /// A duration: numbers with the units `ms`, `s`, `m`, `h` and `d`, such as `30s`, `24h` or `1h30m`.
    "pattern" = "^([0-9]+(ms|s|m|h|d))+$", DurationText, "30s"
}
text! {
    /// A probability: a percentage from `0%` to `100%` with up to four decimals, such as `0.5%`.
    "pattern" = "^[0-9]{1,3}(\\.[0-9]{1,4})?%$", ProbabilityText, "0.5%"
}
text! {
    /// A device id: 1 to 128 letters, digits and the characters `- : . + % _ # * ? ! ( ) , = @ ; $ '`.
    "pattern" = "^[-A-Za-z0-9:.+%_#*?!(),=@;$']{1,128}$", DeviceIdText, "lamp-0001"
}
text! {
    /// The path of a file, relative to the folder of this document, with `/` between its parts.
    "minLength" = 1, PathText, "lamps.csv"
}

/// A token that tells one run of a job from the next: letters, digits, `.`, `_` and `-`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "lowering takes the text of the source, which keeps `1.10` apart from `1.1`")]
pub enum RunText {
    Text(String),
    Number(Number),
}

/// A number of devices, or a whole percentage of them such as `10%`.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum AmountText {
    Count(u64),
    Text(String),
}

/// The fleet: where its devices are kept, how they are reached, where results go. One per fleet.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FleetSpec {
    /// Where the devices are kept. Default: a SQLite file in `.fleetform`.
    pub registry: Option<Registry>,
    /// How devices are reached. Default: simulated devices that never fail.
    pub link: Option<Link>,
    /// Where the results of jobs are committed.
    pub results: Option<Results>,
    /// How much may happen at once.
    pub limits: Option<Limits>,
    /// The IANA time zone of schedules that name none, such as `Europe/Amsterdam`. Default: none, each schedule names
    /// its own.
    #[schemars(example = &"Europe/Amsterdam")]
    pub time_zone: Option<String>,
    /// Who is told when something goes wrong, by a name of their own. `fleetform watch` tells them.
    #[schemars(extend("maxProperties" = crate::model::limits::ALERT_RECEIVERS_MAX))]
    #[schemars(example = json!({"chat": {"webhook": {"url": {"env": "CHAT_WEBHOOK"}, "body": "text"}}}))]
    pub alerts: BTreeMap<String, AlertTo>,
}

/// Where the devices are kept.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Registry {
    /// A SQLite file: for one machine.
    pub sqlite: Option<Sqlite>,
    /// A PostgreSQL database: for daemons on several machines.
    pub postgres: Option<Postgres>,
}

/// A SQLite file.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sqlite {
    /// The path of the file, relative to the folder of the fleet unless absolute. Default: `.fleetform/fleet.db`.
    #[schemars(example = &"/var/lib/acme/fleet.db")]
    pub path: Option<String>,
}

/// A PostgreSQL database, version 14 or newer. How it is set up is in `docs/production.md`.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("required" = ["url"]))]
pub struct Postgres {
    /// Where the URL of the database is, such as `postgres://USER:PASSWORD@HOST/DATABASE`.
    #[schemars(with = "VariablePlace", example = json!({"env": "DATABASE_URL"}))]
    pub url: Option<UrlPlace>,
}

/// Where a URL with a password is.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum UrlPlace {
    Variable(VariablePlace),
    /// The URL itself, which is refused: it would be in git.
    Text(#[expect(dead_code, reason = "it is not told to anybody")] String),
}

/// A value on the machine on which fleetform runs.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("minProperties" = 1))]
pub struct VariablePlace {
    /// A variable of the environment.
    #[schemars(example = &"DATABASE_URL")]
    pub env: Option<String>,
}

/// Where the results of jobs are committed.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Results {
    /// The branch that receives the results. Default: `fleetform/results`.
    #[schemars(example = &"fleetform/results")]
    pub branch: Option<String>,
    /// Which devices have rows in the results: `all` (default) or `failures`.
    pub devices: Option<ResultDevices>,
    /// The name of the git remote that the branch is pushed to, such as `origin`. Without it the branch stays in this
    /// repository.
    #[schemars(example = &"origin")]
    pub remote: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ResultDevices {
    All,
    Failures,
}

/// How much may happen at once.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// Jobs that run at once, 1 to 1,000. Default: 5.
    #[schemars(range(min = 1, max = 1000), example = 5)]
    pub running_jobs: Option<u32>,
    /// Devices that are spoken to at once, 1 to 100,000. Default: 1,000.
    #[schemars(range(min = 1, max = 100_000), example = 1_000)]
    pub in_flight: Option<u32>,
}

/// A part of the company that devices belong to. Organizations form a tree, at most 5 deep.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OrganizationSpec {
    /// The name of the organization above this one. Default: none, it is at the root.
    #[schemars(example = &"acme")]
    pub parent: Option<NameText>,
}

/// What a kind of device can do: a DTDL v2 interface, and the properties that are kept about it in the cloud.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceTemplateSpec {
    /// A DTDL v2 or v3 interface, or a list of the interface and those that it refers to: a `.json` file, relative to
    /// the folder of this document.
    #[schemars(example = &"lamp.dtdl.json")]
    pub model: PathText,
    /// Properties that the cloud keeps and the device never sees: the name and its DTDL schema, such as `owner:
    /// string`.
    #[schemars(example = json!({"owner": "string"}))]
    #[serde(default)]
    pub cloud_properties: BTreeMap<String, String>,
}

/// A saved selection of devices.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DeviceGroupSpec {
    /// Only devices of this device template. Default: of any.
    #[schemars(example = &"lamp")]
    pub template: Option<NameText>,
    /// Only devices of this organization and of those below it. Default: of any.
    pub organization: Option<OrganizationText>,
    /// The condition that a device must meet, such as `tags.line = '3'`; `*` is every device.
    #[schemars(example = &"tags.line = '3'")]
    pub query: String,
}

/// An edge deployment manifest: the modules of IoT Edge devices.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EdgeManifestSpec {
    /// The deployment manifest: a `.json` file with `modulesContent`, relative to the folder of this document.
    #[schemars(example = &"gateway.deployment.json")]
    pub file: PathText,
}

/// Work on many devices, done once for each run token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobSpec {
    /// A token of your choice. Default: `1`. Changing it is the only way to run the job again.
    pub run: Option<RunText>,
    /// True stops the job, back to false continues it. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// Only devices of this organization and of those below it are ever touched. Default: of any.
    pub organization: Option<OrganizationText>,
    /// The devices: exactly one of `group`, `query`, `devices`, `failedOf` and `pendingOf`.
    pub target: Target,
    /// Jobs that must have completed first; the target is resolved then. Default: none.
    #[schemars(example = ["mark-tested"])]
    #[serde(default)]
    pub after: Vec<NameText>,
    /// What is done to each device: exactly one.
    pub action: Action,
    /// How the devices are reached: batches, threshold, waiting, retries.
    pub delivery: Option<Delivery>,
}

/// The devices of a job: exactly one of `group`, `query`, `devices`, `failedOf` and `pendingOf`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [
    {"required": ["group"]}, {"required": ["query"]}, {"required": ["devices"]}, {"required": ["failedOf"]},
    {"required": ["pendingOf"]}
]))]
pub struct Target {
    /// The devices of a device group.
    pub group: Option<NameText>,
    /// The devices that meet a condition, such as `tags.building = '43' AND properties.reported.battery > 20`.
    #[schemars(example = &"tags.building = '43' AND properties.reported.battery > 20")]
    pub query: Option<String>,
    /// These devices, by id.
    #[schemars(length(min = 1), example = ["lamp-0001", "lamp-0002"])]
    pub devices: Option<Vec<DeviceIdText>>,
    /// The devices that failed in a run of another job.
    pub failed_of: Option<FailedOf>,
    /// The devices that a run of another job left pending when it was canceled, failed or was stopped.
    pub pending_of: Option<PendingOf>,
    /// The number of devices that you expect. A plan with fewer or more is refused. Default: any number.
    pub expect: Option<Expect>,
}

/// The devices that failed in a run of another job.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FailedOf {
    /// The name of the job.
    #[schemars(example = &"dim-hall-a")]
    pub job: NameText,
    /// The run of the job. Default: `1`.
    pub run: Option<RunText>,
    /// Only the devices that failed for one of these reasons. Default: for any.
    #[schemars(length(min = 1), example = ["timeout", "offline"])]
    pub reasons: Option<Vec<FailedReason>>,
}

/// The devices that a run of another job left pending when it was canceled, failed or was stopped.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PendingOf {
    /// The name of the job.
    #[schemars(example = &"dim-hall-a")]
    pub job: NameText,
    /// The run of the job. Default: `1`.
    pub run: Option<RunText>,
    /// Only the devices in one of these states. Default: in any.
    #[schemars(length(min = 1), example = ["queued"])]
    pub reasons: Option<Vec<PendingReason>>,
}

/// Why a device failed.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FailedReason {
    Rejected,
    Timeout,
    Offline,
    Expired,
    Blocked,
    Deleted,
    TemplateMismatch,
    OutcomeUnknown,
    Error,
}

/// How far a device was that is pending.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PendingReason {
    Queued,
    InFlight,
    Waiting,
}

/// The number of devices that you expect, both ends included.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Expect {
    /// At least so many. Default: 0.
    #[schemars(example = 1)]
    pub min: Option<u64>,
    /// At most so many. Default: any number.
    #[schemars(example = 500)]
    pub max: Option<u64>,
}

/// What is done to each device: exactly one. Patches are JSON merge patches: `null` removes.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Action {
    /// Sets desired properties, several at once if need be, such as `{light: {threshold: 3}}`. A text may be a secret,
    /// by reference: `{wifi: {psk: {$secret: {env: WIFI_PSK}}}}` or `{$secret: {file: psk.txt}}`. It is read where
    /// fleetform runs, if its operator allows it there with `--allow-secret`.
    #[schemars(example = json!({"light": {"threshold": 3}}), extend("minProperties" = 1))]
    pub property: Option<Map<String, Value>>,
    /// Sets cloud properties, such as `{owner: north}`.
    #[schemars(example = json!({"owner": "north"}), extend("minProperties" = 1))]
    pub cloud_property: Option<Map<String, Value>>,
    /// Sets tags, such as `{ring: canary}`.
    #[schemars(example = json!({"ring": "canary"}), extend("minProperties" = 1))]
    pub tags: Option<Map<String, Value>>,
    /// Sets tags and desired properties at once: each device gets both or none of them, with one outcome.
    pub twin: Option<TwinPatch>,
    /// Invokes a command.
    pub command: Option<Command>,
    /// Moves the devices to another device template, by name.
    #[schemars(example = &"lamp-v2")]
    pub device_template: Option<NameText>,
    /// Assigns another edge deployment manifest, by name.
    #[schemars(example = &"gateway-2")]
    pub edge_manifest: Option<NameText>,
}

/// Tags and desired properties that are set at once.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TwinPatch {
    /// Tags, such as `{ring: canary}`.
    #[schemars(example = json!({"ring": "canary"}), extend("minProperties" = 1))]
    pub tags: Map<String, Value>,
    /// Desired properties, such as `{light: {threshold: 3}}`. A text may be a secret, as in `property`.
    #[schemars(example = json!({"light": {"threshold": 3}}), extend("minProperties" = 1))]
    pub property: Map<String, Value>,
}

/// A command.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// The name of the command.
    #[schemars(example = &"reboot")]
    pub name: String,
    /// The DTDL component that has the command. Default: none, it is the device's own.
    #[schemars(example = &"thermostat1")]
    pub component: Option<String>,
    /// Any value, sent as JSON, at most 128 KiB. A text in it may be a secret, by reference:
    /// `{$secret: {env: WIFI_PSK}}`. Default: null.
    #[schemars(example = json!({"delay": 5}))]
    #[serde(default)]
    pub payload: Value,
    /// How long to wait for a device to connect, `1s` to `300s`. Default: `30s`.
    pub connect_timeout: Option<DurationText>,
    /// How long to wait for the answer, `1s` to `300s`. Default: `30s`.
    pub response_timeout: Option<DurationText>,
    /// True: sending it twice is harmless, so it may be retried. Default: false, it is never sent twice.
    #[serde(default)]
    pub idempotent: bool,
}
