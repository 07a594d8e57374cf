//! `Policy`: what jobs, schedules and imports may do, whoever writes them.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::schedule::{WallClockText, Weekday};
use super::{AmountText, OrganizationText};

/// What jobs, schedules and imports may do, whoever writes them.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicySpec {
    /// The documents that it applies to. Default: all.
    pub applies_to: Option<AppliesTo>,
    /// How much one job, one import or one day may do.
    pub limits: Option<PolicyLimits>,
    /// What a document must say.
    pub require: Option<PolicyRequire>,
    /// What no document may do.
    pub forbid: Option<PolicyForbid>,
    /// Times in which nothing starts.
    #[schemars(example = json!([{"weekdays": ["sat", "sun"], "reason": "nobody is there"}]))]
    pub freeze: Vec<Freeze>,
}

/// The documents that a policy applies to.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AppliesTo {
    /// Documents whose devices may be of one of these organizations, or of those below them. A document without an
    /// organization may touch any device. Default: of any.
    #[schemars(length(min = 1), example = ["acme/eu"])]
    pub organizations: Option<Vec<OrganizationText>>,
    /// Documents of these kinds: `Job`, `Schedule` and `DeviceImport`. Default: of all three.
    #[schemars(length(min = 1), example = ["Job", "Schedule"])]
    pub kinds: Option<Vec<JudgedKind>>,
}

/// A kind of documents that policies are about.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub enum JudgedKind {
    Job,
    Schedule,
    DeviceImport,
}

/// How much one job, one import or one day may do. A percentage is of the devices of the fleet.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyLimits {
    /// The most devices of one run of a job, such as `5000` or `20%`. Default: any number.
    pub devices_per_job: Option<AmountText>,
    /// The most devices of all runs that are claimed within 24 hours. Default: any number.
    pub devices_per_day: Option<AmountText>,
    /// The most devices that one import blocks or deletes. Default: any number.
    pub removals_per_import: Option<AmountText>,
    /// The most jobs that run at once. Default: as many as the fleet allows.
    #[schemars(range(min = 1, max = 1000), example = 3)]
    pub running_jobs: Option<u32>,
}

/// What a document must say.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyRequire {
    /// True: jobs, schedules and imports say what they expect (`expect`). Default: false.
    pub expect: bool,
    /// The first batch has at most so many devices (`delivery.canary`, or a small `batchSize`). Default: any number.
    #[schemars(range(min = 1), example = 10)]
    pub canary: Option<u64>,
    /// Jobs have a `cancellationThreshold` that allows at most so many failures, such as `5%`. Default: none is needed.
    pub cancellation_threshold: Option<AmountText>,
    /// Batches have at most so many devices, such as `25%` of those of the job. Default: any number.
    pub batch_size: Option<AmountText>,
}

/// What no document may do.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PolicyForbid {
    /// Desired properties that no job sets, such as `network.**`: `*` is any text within a part, `**` any number of
    /// parts.
    #[schemars(example = ["network.**"])]
    pub properties: Vec<String>,
    /// Tags that no job sets, in the same way.
    #[schemars(example = ["owner"])]
    pub tags: Vec<String>,
    /// Commands that no job invokes, such as `factoryReset` or `*Reset`.
    #[schemars(example = ["factoryReset"])]
    pub commands: Vec<String>,
    /// Actions that no job has, such as `deviceTemplate`.
    #[schemars(example = ["deviceTemplate"])]
    pub actions: Vec<ActionWord>,
    /// What no import does with devices whose row left its file: `block` or `delete`.
    #[schemars(example = ["delete"])]
    pub removed: Vec<super::Removed>,
}

/// What a job does, as the field of its `action`.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ActionWord {
    Property,
    CloudProperty,
    Tags,
    Twin,
    Command,
    DeviceTemplate,
    EdgeManifest,
}

/// A time in which nothing starts: `from` and `until`, or `weekdays`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("oneOf" = [{"required": ["from", "until"]}, {"required": ["weekdays"]}]))]
pub struct Freeze {
    /// When it begins, on the wall clock of the time zone, such as `2026-12-20T00:00:00`.
    pub from: Option<WallClockText>,
    /// When it ends; that moment is not part of it.
    pub until: Option<WallClockText>,
    /// Whole days of each week, such as `[sat, sun]`.
    #[schemars(length(min = 1, max = 6), extend("uniqueItems" = true), example = ["sat", "sun"])]
    pub weekdays: Option<Vec<Weekday>>,
    /// The IANA time zone of the wall clock, such as `Europe/Amsterdam`. Default: that of the fleet.
    #[schemars(example = &"Europe/Amsterdam")]
    pub time_zone: Option<String>,
    /// Why, for those who wait.
    #[schemars(example = &"holidays")]
    pub reason: Option<String>,
}
