//! A schedule: a job that runs again and again, at times of a wall clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

use super::delivery::Delivery;
use super::digest::Digest;
use super::id::{Name, RunToken};
use super::job::{Action, Job, Target};

/// A schedule as declared, defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// Its occurrences are runs of a job of this name, so no declared job has it.
    pub name: Name,
    /// The name that it had before it was renamed on purpose: runs that were claimed under it are not run again.
    pub previous_names: Vec<Name>,
    /// As those of a job.
    pub labels: Arc<BTreeMap<String, String>>,
    /// The wall clock of the first occurrence, in `time_zone`; whole seconds, from the year 1970 on.
    pub start: DateTime,
    pub time_zone: TimeZone,
    /// The name of `time_zone` in the IANA database, as the database spells it.
    pub time_zone_name: String,
    pub recurrence: Recurrence,
    /// `None`: it goes on for ever.
    pub end: Option<End>,
    /// True: no occurrence is due.
    pub is_suspended: bool,
    pub missed: Missed,
    pub overlap: Overlap,
    pub job: ScheduledJob,
    /// The file that declares it, relative to the fleet's folder.
    pub file: String,
}

/// How a schedule repeats. Each occurrence has the time of day of the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recurrence {
    Once,
    Daily,
    Weekly {
        /// Monday first, without duplicates, not empty.
        weekdays: Vec<Weekday>,
    },
    /// On the day of the start; in a month that lacks it, on its last day.
    Monthly,
}

impl Recurrence {
    /// Returns the word of the manifest.
    pub fn word(&self) -> &'static str {
        match self {
            Recurrence::Once => "once",
            Recurrence::Daily => "daily",
            Recurrence::Weekly { .. } => "weekly",
            Recurrence::Monthly => "monthly",
        }
    }
}

/// Returns the word of the manifest for a weekday, such as `mon`.
pub fn weekday_word(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => "mon",
        Weekday::Tuesday => "tue",
        Weekday::Wednesday => "wed",
        Weekday::Thursday => "thu",
        Weekday::Friday => "fri",
        Weekday::Saturday => "sat",
        Weekday::Sunday => "sun",
    }
}

/// When a schedule ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The last day on which an occurrence may be, by its nominal date.
    Until(Date),
    /// So many nominal occurrences from the start on, run or missed; at least 1.
    After(u64),
}

/// The policy for an occurrence that could not start on time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    pub policy: MissedPolicy,
    /// How late it may start by [`MissedPolicy::RunOnce`].
    pub within: Duration,
}

impl Default for Missed {
    fn default() -> Missed {
        Missed { policy: MissedPolicy::Skip, within: Duration::from_secs(3_600) }
    }
}

/// See [`Missed`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissedPolicy {
    /// It does not run.
    Skip,
    /// The newest one runs, late.
    RunOnce,
}

impl MissedPolicy {
    /// Returns the word of the manifest.
    pub fn word(self) -> &'static str {
        match self {
            MissedPolicy::Skip => "skip",
            MissedPolicy::RunOnce => "runOnce",
        }
    }
}

/// The policy for an occurrence while the one before it still runs. Two never run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It does not run.
    #[default]
    Skip,
    /// It waits until that one has ended.
    Queue,
}

impl Overlap {
    /// Returns the word of the manifest.
    pub fn word(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::Queue => "queue",
        }
    }
}

/// The work of each occurrence: a job without a run token.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduledJob {
    /// SHA-256 of the canonical JSON of `spec.job` as written, without the fields that may change while it runs
    /// (design: identity). It is the same for every occurrence, and differs from that of any job, which covers a run
    /// token.
    pub spec_digest: Digest,
    /// Canonical JSON of `spec.job` as written: `manifest::scheduled_job` makes this job of it again.
    pub spec: Arc<str>,
    pub organization: Option<Name>,
    pub target: Target,
    pub action: Action,
    pub delivery: Delivery,
}

impl Schedule {
    /// Returns how it repeats, such as `weekly on mon, thu at 02:30:00, until 2027-03-31`.
    pub fn recurrence_phrase(&self) -> String {
        let time = self.start.time();
        let mut text = match &self.recurrence {
            Recurrence::Once => format!("once, {} {time}", self.start.date()),
            Recurrence::Daily => format!("daily at {time}"),
            Recurrence::Weekly { weekdays } => {
                let words: Vec<&str> = weekdays.iter().copied().map(weekday_word).collect();
                format!("weekly on {} at {time}", words.join(", "))
            }
            Recurrence::Monthly => format!("monthly on day {} at {time}", self.start.day()),
        };
        match self.end {
            Some(End::Until(date)) => text.push_str(&format!(", until {date}")),
            Some(End::After(count)) => text.push_str(&format!(", {count} times")),
            None => {}
        }
        text
    }

    /// Returns the job of the occurrence at an instant: its name is that of the schedule, its run token that of the
    /// instant.
    ///
    /// # Panics
    /// As [`occurrence_token`].
    pub fn job_at(&self, instant: Timestamp) -> Job {
        let ScheduledJob { spec_digest, spec: _, organization, target, action, delivery } = &self.job;
        Job {
            name: self.name.clone(),
            previous_names: self.previous_names.clone(),
            labels: Arc::clone(&self.labels),
            run: occurrence_token(instant),
            suspend: false,
            spec_digest: *spec_digest,
            organization: organization.clone(),
            target: target.clone(),
            after: Vec::new(),
            action: action.clone(),
            delivery: delivery.clone(),
            file: self.file.clone(),
        }
    }

    /// Returns the digest of the fields that decide when it is due; it changes when they do.
    pub fn timing_digest(&self) -> Digest {
        let weekdays = match &self.recurrence {
            Recurrence::Weekly { weekdays } => {
                weekdays.iter().map(|day| weekday_word(*day)).collect::<Vec<_>>().join(",")
            }
            Recurrence::Once | Recurrence::Daily | Recurrence::Monthly => String::new(),
        };
        let end = match self.end {
            None => String::new(),
            Some(End::Until(date)) => format!("until {date}"),
            Some(End::After(count)) => format!("after {count}"),
        };
        let (start, suspended) = (self.start.to_string(), self.is_suspended.to_string());
        let zone = self.time_zone_name.as_str();
        Digest::of_texts([start.as_str(), zone, self.recurrence.word(), &weekdays, &end, &suspended])
    }

    /// Returns true when a run of a job is, or was under the schedule's previous name, one of its occurrences.
    pub fn owns(&self, job: &Name, run: &RunToken) -> bool {
        (self.name == *job || self.previous_names.contains(job)) && occurrence_instant(run).is_some()
    }
}

/// A moment at which a schedule's job is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Occurrence {
    /// The time by the schedule, in its time zone. When the clock skips it on that day, the instant has another local
    /// time.
    pub nominal: DateTime,
    /// When that is; the identity of the occurrence.
    pub instant: Timestamp,
}

/// How run tokens of occurrences are written: the basic format of ISO 8601, in UTC.
const TOKEN_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// Returns the run token of the occurrence at an instant, such as `20261201T013000Z`.
///
/// # Panics
/// When the instant lies before the year 0: no schedule starts before 1970.
pub fn occurrence_token(instant: Timestamp) -> RunToken {
    RunToken::parse(&instant.strftime(TOKEN_FORMAT).to_string()).expect("schedules start in 1970 at the earliest")
}

/// Returns the instant of an occurrence's run token, `None` for another run token.
pub fn occurrence_instant(run: &RunToken) -> Option<Timestamp> {
    let time = DateTime::strptime(TOKEN_FORMAT, run.as_str()).ok()?;
    let instant = TimeZone::UTC.to_timestamp(time).ok()?;
    // One instant has one token: `2026121T013000Z` is none.
    (instant.strftime(TOKEN_FORMAT).to_string() == run.as_str()).then_some(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_token_is_an_instant_and_back() {
        let instant: Timestamp = "2026-12-01T01:30:00Z".parse().unwrap();
        let token = occurrence_token(instant);
        assert_eq!(token.as_str(), "20261201T013000Z");
        assert_eq!(occurrence_instant(&token), Some(instant));
        for other in ["1", "20261201T013000", "2026121T013000Z", "20261301T013000Z", "20261201T013000Zx", "20261201"] {
            assert_eq!(occurrence_instant(&RunToken::parse(other).unwrap()), None, "{other}");
        }
    }
}
