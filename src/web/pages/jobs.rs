//! The runs of jobs.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Notes, Page, RunRow};
use crate::ops::Environment;
use crate::ops::job::{JobFilter, ListedStatus, page};
use crate::web::asked::Asked;
use crate::web::fault::Fault;
use crate::web::table::{Row, Sink};

/// Runs that are searched for a device.
const SEARCHED_MAX: usize = 500;
/// The period that is shown when none is asked for.
const PERIOD: &str = "30d";

/// The page `/jobs`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Jobs {
    /// What was asked for; null for any.
    pub status: Option<String>,
    pub organization: Option<String>,
    /// A device id with `*` and `?`.
    pub device: Option<String>,
    /// Since when, as it was asked for, such as `30d`.
    pub since: String,
    /// The newest first.
    pub runs: Vec<JobRow>,
    /// How many fit, on all pages.
    pub total: u64,
    /// The address of the next page; null on the last one.
    pub next: Option<String>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// A run of the list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct JobRow {
    #[serde(flatten)]
    pub run: RunRow,
    /// How many devices of the run fit; null when none were asked for.
    pub devices: Option<u64>,
    /// The only one that fits, and what became of it; null when there are more.
    pub device_id: Option<String>,
    pub device_status: Option<String>,
    pub device_reason: Option<String>,
}

impl Page for Jobs {
    const TEMPLATE: &'static str = "jobs.html";
    const PARAMETERS: &'static [&'static str] = &["status", "organization", "device", "since", "after", "limit"];
    const IS_LIVE: bool = true;

    fn title(&self) -> String {
        "Jobs".to_string()
    }
}

impl Row for JobRow {
    const COLUMNS: &'static [&'static str] = &[
        "job",
        "run",
        "status",
        "reason",
        "cause",
        "total",
        "completed",
        "failed",
        "pending",
        "unchanged",
        "started_at",
        "finished_at",
        "source_commit",
        "devices",
        "device_id",
        "device_status",
        "device_reason",
    ];
}

/// Reads the runs behind one, at most so many.
fn some(environment: &Environment, asked: &Asked, place: (Option<&str>, usize)) -> Result<Jobs, Fault> {
    let status = asked.word("status", ListedStatus::parse, &ListedStatus::words())?;
    let (period, since) = asked.since(PERIOD)?;
    let (device, organization) = (asked.text("device"), asked.text("organization"));
    let mut notes = Notes::default();
    let filter = JobFilter {
        status,
        since,
        organization: organization.clone(),
        newest: device.as_ref().map(|_| SEARCHED_MAX),
        device: device.clone(),
        ..JobFilter::default()
    };
    let found = page(environment, &filter, place, &mut |caveats| notes.take(caveats))?;
    if device.is_some() {
        notes.notes.push(format!("The newest {SEARCHED_MAX} runs are searched for devices."));
    }
    let runs: Vec<JobRow> = found
        .runs
        .iter()
        .map(|run| {
            let only = run.fitting.as_ref().filter(|found| found.devices == 1);
            let row = only.and_then(|found| found.row.as_ref());
            JobRow {
                run: RunRow::of(&run.record, &run.life),
                devices: run.fitting.as_ref().map(|found| found.devices),
                device_id: only.map(|found| found.device_id.clone()),
                device_status: row.map(|row| row.status.as_str().to_string()),
                device_reason: row.map(|row| row.reason.as_str().to_string()),
            }
        })
        .collect();
    let last = runs.last().map(|row| format!("{}/{}", row.run.job, row.run.run));
    Ok(Jobs {
        status: status.map(|status| status.as_str().to_string()),
        organization,
        device,
        since: period,
        total: found.total,
        next: last.filter(|_| found.has_more).map(|last| asked.address(&[("after", &last)])),
        runs,
        notes,
    })
}

/// Reads the page.
///
/// # Errors
/// What is asked for cannot be understood, or the fleet cannot be read.
pub fn read(environment: &Environment, asked: &Asked) -> Result<Jobs, Fault> {
    some(environment, asked, (asked.text("after").as_deref(), asked.limit()?))
}

/// Writes all rows.
///
/// # Errors
/// As [`read`].
pub fn write(environment: &Environment, asked: &Asked, sink: &mut Sink) -> Result<(), Fault> {
    let jobs = some(environment, asked, (None, usize::MAX))?;
    sink.begin::<JobRow>()?;
    Ok(jobs.runs.iter().try_for_each(|row| sink.push(row))?)
}
