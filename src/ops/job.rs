//! What became of jobs: lists, one run with its devices, why a run is where it is.

mod batches;
mod cause;
mod crossing;
mod failing;
mod fetch;
mod grid;
mod held;
mod history;
mod life;
mod look;
mod planned;
mod since;
mod source;
mod why;

use std::borrow::Cow;

use super::{Environment, Findings, OpsError, Workspace};
use crate::ledger::RunRecord;
use crate::model::outcome::{DeviceStatus, Reason};
use crate::model::text::matches_wildcard;
use crate::prepare::Caveats;
use crate::results::Row;
use history::{History, with_history};

pub use cause::{Cause, Predecessor, Refused, RunProgress, StopCause, Waiting, Why};
pub use crossing::{After, CountedFailure, Crossed};
pub use failing::{Failing, FailingDevice, failing};
pub use fetch::fetch_results;
pub use grid::{Fate, Grid, GridChoice, fates, grid};
pub use held::{HeldJob, held};
pub use life::{Life, ListedStatus};
pub use look::{Looked, look};
pub use since::{FORMS as PERIOD_FORMS, beginning};
pub use source::Source;
pub use why::why;

/// Which runs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    pub status: Option<ListedStatus>,
    /// Runs that started (or, when they have not, were claimed) at or after this time.
    pub since: Option<jiff::Timestamp>,
    /// Runs that have not ended.
    pub is_open: bool,
    /// The path or the name of an organization: runs of jobs and schedules that are declared now, of it and of all below
    /// it.
    pub organization: Option<String>,
    /// Runs whose target has a device with such an id, with `*` and `?`.
    pub device: Option<String>,
    /// At most so many, the newest.
    pub limit: Option<usize>,
    /// Look at so many of the newest runs only: finding a device in a run reads all its rows.
    pub newest: Option<usize>,
}

/// A run of a list.
#[derive(Debug, Clone)]
pub struct ListedRun {
    pub record: RunRecord,
    pub life: Life,
    /// `None` when no device was asked for.
    pub fitting: Option<Fitting>,
}

/// The devices of a run that fit a pattern: at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitting {
    pub devices: u64,
    /// The first of them, by id.
    pub device_id: String,
    /// The row of the only one; `None` when there are several, or when the results keep failures only and it is not
    /// among them.
    pub row: Option<Row>,
}

/// Which run.
#[derive(Debug, Clone)]
pub struct RunChoice {
    pub job: String,
    /// `None`: the newest.
    pub run: Option<String>,
}

/// Which devices of a run.
#[derive(Debug, Clone, Default)]
pub struct DeviceChoice {
    pub status: Option<DeviceStatus>,
    /// Device ids with `*` and `?`.
    pub pattern: Option<String>,
}

/// A run, with what was claimed.
#[derive(Debug, Clone)]
pub struct ShownRun {
    pub record: RunRecord,
    pub life: Life,
    pub claimed_at: jiff::Timestamp,
    /// How many devices failed for each reason, the most frequent first; empty when none failed.
    pub failures: Vec<(Reason, u64)>,
}

/// Returns runs, the newest first. `tell` hears first what the answer lacks, here and below.
///
/// # Errors
/// The Fleet document is invalid, or something cannot be read.
pub fn list(
    environment: &Environment,
    filter: &JobFilter,
    tell: &mut dyn FnMut(&Caveats),
) -> Result<Vec<ListedRun>, OpsError> {
    with_history(environment, tell, |history| {
        let found = fitting(history, filter)?.into_iter();
        Ok(found.map(|(record, fitting)| listed(history, record, fitting)).collect())
    })
}

/// A page of a list of runs.
#[derive(Debug, Clone)]
pub struct RunPage {
    pub runs: Vec<ListedRun>,
    /// How many fit, on all pages.
    pub total: u64,
    /// There are others behind these.
    pub has_more: bool,
}

/// Returns a page of the runs of [`list`]: those behind `after`, a job and a run with `/` between them, or the first
/// ones.
///
/// # Errors
/// As [`list`].
pub fn page(
    environment: &Environment,
    filter: &JobFilter,
    (after, limit): (Option<&str>, usize),
    tell: &mut dyn FnMut(&Caveats),
) -> Result<RunPage, OpsError> {
    with_history(environment, tell, |history| {
        let found = fitting(history, filter)?;
        let is_it = |record: &RunRecord, after: &str| {
            after.split_once('/').is_some_and(|(job, run)| record.job.as_str() == job && record.run.as_str() == run)
        };
        let place = after.and_then(|after| found.iter().position(|(record, _)| is_it(record, after)));
        let (begin, total) = (place.map_or(0, |at| at + 1), found.len());
        let rows = found.into_iter().skip(begin).take(limit);
        let runs: Vec<_> = rows.map(|(record, fitting)| listed(history, record, fitting)).collect();
        Ok(RunPage { has_more: begin + runs.len() < total, total: total as u64, runs })
    })
}

fn listed(history: &History<'_>, record: Cow<'_, RunRecord>, fitting: Option<Fitting>) -> ListedRun {
    ListedRun { life: history.life(&record), record: record.into_owned(), fitting }
}

/// A run that fits, and the devices of it that were asked for.
type FittingRun<'h> = (Cow<'h, RunRecord>, Option<Fitting>);

/// Returns the records of the runs that fit, with what is asked of their devices.
fn fitting<'h>(history: &'h History<'_>, filter: &JobFilter) -> Result<Vec<FittingRun<'h>>, OpsError> {
    let records: Box<dyn Iterator<Item = _>> = match filter.is_open {
        true => Box::new(history.unfinished().into_iter()),
        false => Box::new(history.newest_first()),
    };
    let mut found = Vec::new();
    for record in records.take(filter.newest.unwrap_or(usize::MAX)) {
        if filter.limit.is_some_and(|limit| found.len() >= limit) {
            break;
        }
        let time = || record.started_at.unwrap_or_else(|| history.claimed_at(&record));
        let is_wanted = filter.status.is_none_or(|wanted| history.life(&record).listed(record.status) == wanted)
            && filter.organization.as_ref().is_none_or(|wanted| history.is_within(&record, wanted))
            && filter.since.is_none_or(|since| time() >= since);
        if !is_wanted {
            continue;
        }
        let fitting = match &filter.device {
            None => None,
            Some(pattern) => match history.fitting(&record, pattern)? {
                None => continue,
                fitting => fitting,
            },
        };
        found.push((record, fitting));
    }
    Ok(found)
}

/// Returns one run.
///
/// # Errors
/// There is no such run, or something cannot be read.
pub fn show(
    environment: &Environment,
    choice: &RunChoice,
    tell: &mut dyn FnMut(&Caveats),
) -> Result<ShownRun, OpsError> {
    with_history(environment, tell, |history| {
        let record = history.find(choice)?;
        let claimed_at = history.claimed_at(&record);
        let failures = history.failures(&record)?;
        let life = history.life(&record);
        Ok(ShownRun { record, life, claimed_at, failures })
    })
}

/// Calls `visit` for each device of a run that is wanted, sorted by id.
///
/// # Errors
/// There is no such run, or something cannot be read; or the error of `visit`.
pub fn devices(
    environment: &Environment,
    choice: &RunChoice,
    wanted: &DeviceChoice,
    tell: &mut dyn FnMut(&Caveats),
    visit: &mut dyn FnMut(Row) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    with_history(environment, tell, |history| {
        let record = history.find(choice)?;
        let mut failure = None;
        history.each_row(&record, &mut |row: Row| {
            let is_wanted = wanted.status.is_none_or(|status| row.status == status)
                && wanted.pattern.as_ref().is_none_or(|pattern| matches_wildcard(pattern, &row.device_id));
            if is_wanted && failure.is_none() {
                failure = visit(row).err();
            }
        })?;
        failure.map_or(Ok(()), Err)
    })
}
