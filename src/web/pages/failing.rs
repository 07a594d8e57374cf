//! The devices that fail again and again.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Notes, Page};
use crate::ops::Environment;
use crate::ops::job::{FailingDevice, failing};
use crate::web::asked::Asked;
use crate::web::fault::Fault;
use crate::web::table::{Row, Sink};

/// The period that is shown when none is asked for.
const PERIOD: &str = "30d";

/// The page `/failing`.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Failing {
    /// Since when, as it was asked for, such as `30d`.
    pub since: String,
    /// The most failed runs first.
    pub devices: Vec<FailingRow>,
    /// How many devices failed in the period.
    pub total: u64,
    /// Runs of the period with a failed device that were read.
    pub runs: u64,
    /// The address of the next page; null on the last one.
    pub next: Option<String>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// A device that failed.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FailingRow {
    pub device_id: String,
    /// Runs of the period that it failed in.
    pub failed_runs: u64,
    /// The newest of them, and how it failed there.
    pub job: String,
    pub run: String,
    pub reason: String,
    pub message: String,
    pub at: Option<String>,
}

impl Page for Failing {
    const TEMPLATE: &'static str = "failing.html";
    const PARAMETERS: &'static [&'static str] = &["since", "after", "limit"];

    fn title(&self) -> String {
        "Failing devices".to_string()
    }
}

impl Row for FailingRow {
    const COLUMNS: &'static [&'static str] = &["device_id", "failed_runs", "job", "run", "reason", "message", "at"];
}

impl From<FailingDevice> for FailingRow {
    fn from(device: FailingDevice) -> FailingRow {
        FailingRow {
            device_id: device.device_id,
            failed_runs: device.failed_runs,
            job: device.job.to_string(),
            run: device.run.to_string(),
            reason: device.reason.as_str().to_string(),
            message: device.message,
            at: device.at.map(|at| at.to_string()),
        }
    }
}

fn all(environment: &Environment, asked: &Asked) -> Result<Failing, Fault> {
    let (since, from) = asked.since(PERIOD)?;
    let mut notes = Notes::default();
    let found = failing(environment, from.unwrap_or(Timestamp::MIN), &mut |caveats| notes.take(caveats))?;
    if !found.is_whole {
        notes
            .notes
            .push(format!("Only the newest {} runs of the period with a failed device are counted.", found.runs));
    }
    let devices: Vec<FailingRow> = found.devices.into_iter().map(FailingRow::from).collect();
    Ok(Failing { since, total: devices.len() as u64, runs: found.runs, devices, next: None, notes })
}

/// Reads the page.
///
/// # Errors
/// The period is none, or the fleet cannot be read.
pub fn read(environment: &Environment, asked: &Asked) -> Result<Failing, Fault> {
    let (limit, after) = (asked.limit()?, asked.number::<usize>("after")?.unwrap_or(0));
    let mut page = all(environment, asked)?;
    page.devices.drain(..after.min(page.devices.len()));
    if page.devices.len() > limit {
        page.devices.truncate(limit);
        page.next = Some(asked.address(&[("after", &(after + limit).to_string())]));
    }
    Ok(page)
}

/// Writes all devices that failed.
///
/// # Errors
/// As [`read`].
pub fn write(environment: &Environment, asked: &Asked, sink: &mut Sink) -> Result<(), Fault> {
    let page = all(environment, asked)?;
    sink.begin::<FailingRow>()?;
    Ok(page.devices.iter().try_for_each(|row| sink.push(row))?)
}
