//! The devices that fail again and again: by the number of runs that they failed in.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::history::with_history;
use super::{Environment, OpsError};
use crate::model::id::{Name, RunToken};
use crate::model::limits;
use crate::model::outcome::{DeviceStatus, Reason};
use crate::prepare::{Caveats, FailedDevice};
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
        let mut rows = 0_u64;
        for record in history.newest_first() {
            let time = record.started_at.unwrap_or_else(|| history.claimed_at(&record));
            if record.counts.failed == 0 || time < since {
                continue;
            }
            if rows >= limits::FAILING_ROWS_MAX as u64 {
                failing.is_whole = false;
                break;
            }
            failing.runs += 1;
            let mut note = |failed: &FailedDevice| {
                let FailedDevice { device_id, reason, message, at } = failed;
                if let Some(device) = found.get_mut(device_id) {
                    device.failed_runs += 1;
                    return;
                }
                let (job, run, message) = (record.job.clone(), record.run.clone(), message.clone());
                let device_id = device_id.clone();
                let device = FailingDevice { device_id, failed_runs: 1, job, run, reason: *reason, message, at: *at };
                found.insert(device.device_id.clone(), device);
            };
            let published = match history.journal_of(&record)? {
                Some(_) => None,
                None => Some(history.published_failures(&record)?),
            };
            if let Some(devices) = published.as_ref().and_then(|failures| failures.devices.as_ref()) {
                rows += u64::from(record.published.devices);
                devices.iter().for_each(note);
                continue;
            }
            history.each_row(&record, &mut |row: Row| {
                rows += 1;
                if row.status == DeviceStatus::Failed {
                    let Row { device_id, reason, message, finished_at, .. } = row;
                    note(&FailedDevice { device_id, reason, message, at: finished_at });
                }
            })?;
        }
        failing.devices = found.into_values().collect();
        failing.devices.sort_by_key(|device| std::cmp::Reverse(device.failed_runs));
        Ok(failing)
    })
}
