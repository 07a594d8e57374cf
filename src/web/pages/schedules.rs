//! When schedules run, and what became of their occurrences.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Notes, Page};
use crate::model::schedule::occurrence_token;
use crate::ops::schedule::{ScheduleOccurrences, around};
use crate::ops::{Environment, OpsError};
use crate::web::fault::Fault;
use crate::web::table::{Row, Sink};

/// Occurrences of each schedule that are shown, to come and past.
const NEXT_SHOWN: usize = 5;
const PAST_SHOWN: usize = 10;
/// Occurrences of each schedule in the download.
const WRITTEN: usize = 1_000;

/// The page `/schedules`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Schedules {
    /// Sorted by name.
    pub schedules: Vec<ScheduleOf>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// A schedule.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct ScheduleOf {
    pub schedule: String,
    /// How it repeats, such as `weekly on mon, thu at 02:30:00`.
    pub recurrence: String,
    pub time_zone: String,
    pub suspended: bool,
    /// What each occurrence does, such as `command`.
    pub work: String,
    /// Soonest first.
    pub next: Vec<OccurrenceRow>,
    /// Newest first; also those that were missed.
    pub past: Vec<OccurrenceRow>,
}

/// An occurrence.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct OccurrenceRow {
    pub schedule: String,
    pub at: String,
    /// On the clock of the schedule.
    pub local: String,
    /// The run token.
    pub run: String,
    /// `next` for one to come; else the status of its run, or null when its journal was lost.
    pub status: Option<String>,
    /// What kept it from its devices, such as `missed`.
    pub cause: Option<String>,
}

impl Page for Schedules {
    const TEMPLATE: &'static str = "schedules.html";

    fn title(&self) -> String {
        "Schedules".to_string()
    }
}

impl Row for OccurrenceRow {
    const COLUMNS: &'static [&'static str] = &["schedule", "at", "local", "run", "status", "cause"];
}

/// Reads the page.
///
/// # Errors
/// The fleet cannot be read.
pub fn read(environment: &Environment, now: Timestamp) -> Result<Schedules, OpsError> {
    let (found, held) = around(environment, (NEXT_SHOWN, PAST_SHOWN), now)?;
    let mut notes = Notes::default();
    notes.held(&held);
    Ok(Schedules { schedules: found.iter().map(schedule_of).collect(), notes })
}

/// Writes the occurrences of all schedules, to come and past.
///
/// # Errors
/// As [`read`].
pub fn write(environment: &Environment, now: Timestamp, sink: &mut Sink) -> Result<(), Fault> {
    let (found, _) = around(environment, (NEXT_SHOWN, WRITTEN), now)?;
    sink.begin::<OccurrenceRow>()?;
    for one in found.iter().map(schedule_of) {
        one.next.iter().chain(&one.past).try_for_each(|row| sink.push(row))?;
    }
    Ok(())
}

fn schedule_of(found: &ScheduleOccurrences) -> ScheduleOf {
    let schedule = &found.listed.schedule;
    let row = |instant: Timestamp, status: Option<&str>, cause: Option<&str>| OccurrenceRow {
        schedule: schedule.name.to_string(),
        at: instant.to_string(),
        local: instant.to_zoned(schedule.time_zone.clone()).strftime("%a %F %T %:z").to_string(),
        run: occurrence_token(instant).to_string(),
        status: status.map(str::to_string),
        cause: cause.map(str::to_string),
    };
    ScheduleOf {
        schedule: schedule.name.to_string(),
        recurrence: schedule.recurrence_phrase(),
        time_zone: schedule.time_zone_name.clone(),
        suspended: schedule.is_suspended,
        work: schedule.job.action.word().to_string(),
        next: found.next.iter().map(|next| row(next.instant, Some("next"), None)).collect(),
        past: found
            .past
            .iter()
            .map(|past| row(past.instant, past.status.map(|status| status.as_str()), past.cause))
            .collect(),
    }
}
