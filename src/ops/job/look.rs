//! All that a page shows of one run, read at once: its numbers agree with each other.

use super::grid::{Grid, GridChoice};
use super::history::with_history;
use super::source::Source;
use super::why::of_record;
use super::{Environment, OpsError, RunChoice, ShownRun, Why};
use crate::prepare::Caveats;
use crate::repo::CommitInfo;

/// A run as a page shows it.
#[derive(Debug, Clone)]
pub struct Looked {
    pub shown: ShownRun,
    pub why: Why,
    pub grid: Grid,
    /// `None` when its commit or its file is not here.
    pub source: Option<Source>,
    /// The runs of the job, the newest first.
    pub runs: Vec<String>,
    /// It is a job that is declared with this run token now: it can be stopped.
    pub is_declared: bool,
    /// It is declared with `suspend: true`.
    pub is_suspended: bool,
    /// The commit that changed the file of a suspended job last; `None` for any other one, and where that is not known.
    pub suspended_by: Option<CommitInfo>,
}

/// Returns a run with a page of its devices.
///
/// # Errors
/// There is no such run, or something cannot be read.
pub fn look(
    environment: &Environment,
    choice: &RunChoice,
    wanted: &GridChoice,
    tell: &mut dyn FnMut(&Caveats),
) -> Result<Looked, OpsError> {
    with_history(environment, tell, |history| {
        let record = history.find(choice)?;
        let declared = history.view.declared.jobs.get(&record.job).filter(|job| job.run == record.run);
        let suspended = declared.filter(|job| job.suspend);
        Ok(Looked {
            why: of_record(history, &record)?,
            grid: history.grid(&record, wanted)?,
            source: history.source(&record),
            runs: history.tokens_of(&record.job).iter().map(ToString::to_string).collect(),
            is_declared: declared.is_some(),
            is_suspended: suspended.is_some(),
            suspended_by: suspended.and_then(|job| history.last_change(&job.file)),
            shown: ShownRun {
                claimed_at: history.claimed_at(&record),
                failures: history.failures(&record)?,
                life: history.life(&record),
                record,
            },
        })
    })
}
