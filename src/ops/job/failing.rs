//! The devices that fail again and again: by the number of runs that they failed in.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::history::with_history;
use super::{Environment, OpsError};
use crate::model::id::{Name, RunToken};
use crate::model::limits;
use crate::model::outcome::{DeviceStatus, Reason};
use crate::prepare::Caveats;
use crate::results::Row;

/// A device that failed.
#[derive(Debug, Clone, PartialEq)]
pub struct FailingDevice {
    pub device_id: String,
    /// Runs of the period that it failed in, at least 1.
    pub failed_runs: u64,
    /// The newest of them.
    pub job: Name,
    pub run: RunToken,
    pub reason: Reason,
    pub message: String,
    pub at: Option<Timestamp>,
}

/// The devices that failed in a period.
#[derive(Debug, Clone, Default)]
pub struct Failing {
    /// The most failed runs first, then by id.
    pub devices: Vec<FailingDevice>,
    /// Runs of the period with a failed device that were read.
    pub runs: u64,
    /// False when older runs of the period were left out: reading stops at
    /// [`limits::FAILING_ROWS_MAX`] rows.
    pub is_whole: bool,
}

/// Returns the devices that failed in runs that started, or were claimed, at or after a time.
///
/// # Errors
/// The Fleet document is invalid, or something cannot be read.
pub fn failing(
    environment: &Environment,
    since: Timestamp,
    tell: &mut dyn FnMut(&Caveats),
) -> Result<Failing, OpsError> {
    with_history(environment, tell, |history| {
        let mut found: BTreeMap<String, FailingDevice> = BTreeMap::new();
        let mut failing = Failing { is_whole: true, ..Failing::default() };
        let mut rows = 0;
        for record in history.newest_first() {
            let time = record.started_at.unwrap_or_else(|| history.claimed_at(&record));
            if record.counts.failed == 0 || time < since {
                continue;
            }
            if rows >= limits::FAILING_ROWS_MAX {
                failing.is_whole = false;
                break;
            }
            failing.runs += 1;
            history.each_row(&record, &mut |row: Row| {
                rows += 1;
                if row.status != DeviceStatus::Failed {
                    return;
                }
                let device = found.entry(row.device_id.clone()).or_insert_with(|| FailingDevice {
                    device_id: row.device_id,
                    failed_runs: 0,
                    job: record.job.clone(),
                    run: record.run.clone(),
                    reason: row.reason,
                    message: row.message,
                    at: row.finished_at,
                });
                device.failed_runs += 1;
            })?;
        }
        failing.devices = found.into_values().collect();
        failing.devices.sort_by_key(|device| std::cmp::Reverse(device.failed_runs));
        Ok(failing)
    })
}
