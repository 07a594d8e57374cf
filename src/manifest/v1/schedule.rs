//! The spec of a Schedule.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{Action, Delivery, DurationText, OrganizationText, Target};

text! {
    /// A time on the wall clock of the time zone, without an offset, such as `2026-12-01T02:30:00`.
    "pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2})?$", WallClockText, "2026-12-01T02:30:00"
}
text! {
    /// A date such as `2027-03-31`.
    "pattern" = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", DateText, "2027-03-31"
}

/// A job that runs again and again, at times of a wall clock.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduleSpec {
    /// The first time, on the wall clock of the time zone. Its time of day is that of every occurrence.
    pub start: WallClockText,
    /// The IANA time zone of the wall clock, such as `Europe/Amsterdam`. Default: that of the fleet.
    #[schemars(example = &"Europe/Amsterdam")]
    pub time_zone: Option<String>,
    /// How it repeats: `once`, `daily`, `weekly` or `monthly`.
    pub recurrence: Recurrence,
    /// The weekdays of a weekly one. Default: the weekday of `start`.
    #[schemars(length(min = 1), example = ["mon", "thu"], extend("uniqueItems" = true))]
    pub weekdays: Option<Vec<Weekday>>,
    /// When it ends: exactly one of `until` and `after`. Default: never.
    pub end: Option<End>,
    /// True: unscheduled, no occurrence starts; one that is under way goes on. Default: false.
    #[serde(default)]
    pub suspend: bool,
    /// What becomes of an occurrence that could not start on time.
    pub missed: Option<Missed>,
    /// What becomes of an occurrence while the one before it is still under way: `skip` (default), or `queue`, it
    /// waits.
    pub overlap: Option<Overlap>,
    /// What each occurrence does: the spec of a job without `run`, `suspend` and `after`.
    pub job: ScheduledJobSpec,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Recurrence {
    Once,
    Daily,
    Weekly,
    Monthly,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Weekday {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// When a schedule ends: exactly one of `until` and `after`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct End {
    /// The last date on which it may run, by its wall clock.
    pub until: Option<DateText>,
    /// So many occurrences, counted from `start`, whether they ran or not.
    #[schemars(range(min = 1), example = 10)]
    pub after: Option<u64>,
}

/// What becomes of an occurrence that could not start on time.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Missed {
    /// `skip` (default): it does not run. `runOnce`: the newest one runs, at most `within` late.
    pub policy: Option<MissedPolicy>,
    /// How late it may start. Default: `1h`.
    pub within: Option<DurationText>,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MissedPolicy {
    Skip,
    RunOnce,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Overlap {
    Skip,
    Queue,
}

/// What each occurrence of a schedule does: the spec of a job without what the schedule decides.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScheduledJobSpec {
    /// Only devices of this organization and of those below it are ever touched. Default: of any.
    pub organization: Option<OrganizationText>,
    /// The devices, looked up at every occurrence: exactly one of `group`, `query`, `devices`, `failedOf` and
    /// `pendingOf`.
    pub target: Target,
    /// What is done to each device: exactly one.
    pub action: Action,
    /// How the devices are reached: batches, threshold, waiting, retries.
    pub delivery: Option<Delivery>,
    /// Refused by lowering, which can say why; no field of the schema.
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "lowering looks for the field itself")]
    run: Value,
    /// As `run`.
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "lowering looks for the field itself")]
    suspend: Value,
    /// As `run`.
    #[serde(default)]
    #[schemars(skip)]
    #[expect(dead_code, reason = "lowering looks for the field itself")]
    after: Value,
}

/// The fields of a job that have no place in the job of a schedule.
pub const NOT_SCHEDULED: [&str; 3] = ["run", "suspend", "after"];
