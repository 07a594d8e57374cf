//! The registry's copy of the results branch: enough to publish the branch again when it is gone, and to tell when it
//! was changed.
//!
//! Runs that were executed with this registry are rebuilt from the journal. Other files of the branch (reports of
//! imports, runs of a registry that was lost) are kept byte for byte.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::Timestamp;

use super::{Journal, PendingRows, RegistryError, ResultRow};
use crate::ledger::{RunRecord, claim_path};
use crate::model::delivery::BatchSizes;
use crate::model::fleet::ResultDevices;
use crate::model::id::{Name, RunToken};

/// Reads the copy of the results branch. [Changes](super::Change) and [`Store::keep_files`](super::Store::keep_files)
/// write it.
pub trait BranchCopy {
    /// Returns true when the registry has seen the results branch: then it knows everything that was claimed on it.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn exists(&self) -> Result<bool, RegistryError>;

    /// Returns the runs of the journal in the order in which they were journaled. A claim that was not confirmed is
    /// included, because it may have reached the branch, unless another process is known to have claimed the run.
    ///
    /// # Errors
    /// The registry cannot be read, or a row holds what it should not.
    fn runs(&self) -> Result<Vec<RememberedRun>, RegistryError>;

    /// Calls `visit` for the rows of a run that its record says were published, with the number of the batch, from 1. A
    /// device has the name that it has now.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn each_published(&self, run: &RememberedRun, visit: &mut dyn FnMut(ResultRow, u32)) -> Result<(), RegistryError>;

    /// Calls `visit` for the kept files that `wanted` picks by their path, sorted by path, until it breaks. Files of
    /// the journal's own runs are not among these, because the journal has the truth about them.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn each_file(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), RegistryError>;

    /// Returns the git id of the content of each kept file, by path; `None` for a file that was not compared with the
    /// branch.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn file_ids(&self) -> Result<BTreeMap<String, Option<String>>, RegistryError>;

    /// Returns the paths of the kept files that were not compared with the branch, those of the journal's own runs
    /// among them.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn uncompared_files(&self) -> Result<BTreeSet<String>, RegistryError>;

    /// Returns the commit that was noted last; `None` when none was.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn noted(&self, what: Noted) -> Result<Option<String>, RegistryError>;

    /// Returns when a saved plan was applied, by its id; `None` for one that was not, or is not remembered any more
    /// ([`USED_PLANS_MAX`](crate::model::limits::USED_PLANS_MAX)).
    ///
    /// # Errors
    /// The registry cannot be read.
    fn plan_used_at(&self, plan_id: &str) -> Result<Option<Timestamp>, RegistryError>;

    /// Returns the outbox, sorted: reports about what the registry has done that are not on the branch yet.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn outbox(&self) -> Result<Vec<OutboxEntry>, RegistryError>;
}

/// A commit that the registry notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// The tip of the results branch when it was last used with this registry.
    ResultsTip,
    /// The tip of the results branch when files were last compared with it.
    KeptTip,
    /// The commit that was last applied to this registry.
    AppliedHead,
}

/// A commit to make on the results branch about something that the registry has done. The same transaction that did it
/// adds the entry, so that a crash cannot come between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    /// The import that the entry is about.
    pub about: String,
    /// The files and the message of the commit, as JSON.
    pub text: String,
}

/// A run of the journal, open or closed, as the results branch had it.
#[derive(Debug, Clone, PartialEq)]
pub struct RememberedRun {
    pub run_id: i64,
    pub job: Name,
    pub run: RunToken,
    /// The claim document, byte for byte.
    pub claim: String,
    /// `run.json`; `None` when nothing but the claim was published.
    pub record: Option<RunRecord>,
    /// The devices that have rows.
    pub devices: ResultDevices,
}

impl RememberedRun {
    /// Returns the path of the claim on the results branch.
    pub fn claim_path(&self) -> String {
        claim_path(&self.job, &self.run)
    }

    /// Returns the folder of the results on the results branch, without a slash at its end.
    pub fn results_folder(&self) -> String {
        format!("runs/{}/{}", self.job, self.run)
    }
}

/// A file of the results branch that cannot be rebuilt from other tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    pub path: String,
    pub content: Vec<u8>,
    /// The git id of the content; `None` when the branch does not have it yet.
    pub blob_id: Option<String>,
}

/// Calls `visit` for the published rows of a run, as [`BranchCopy::each_published`], which are all in the journal.
pub(super) fn visit_published(
    journal: &dyn Journal,
    run: &RememberedRun,
    visit: &mut dyn FnMut(ResultRow, u32),
) -> Result<(), RegistryError> {
    let Some(record) = &run.record else { return Ok(()) };
    // The first batch may be a canary; all others but the last have one size.
    let mut totals = record.per_batch.iter().map(|batch| batch.counts.total.max(1));
    let Some(first) = totals.next() else { return Ok(()) };
    let sizes = BatchSizes { first, size: totals.next().unwrap_or(first) };
    let ids = journal.targets(run.run_id)?;
    let end = record.published.devices.min(u32::try_from(ids.len()).unwrap_or(u32::MAX));
    let is_whole = record.status.is_final() && run.devices == ResultDevices::All;
    let pending = if is_whole { PendingRows::Ended } else { PendingRows::Omitted };
    journal.each_result(run.run_id, &ids, 0..end, pending, &mut |row| {
        if run.devices.has(row.outcome.reason) {
            let batch = sizes.batch_of(u64::from(row.outcome.ordinal)) + 1;
            visit(row, u32::try_from(batch).unwrap_or(u32::MAX));
        }
    })
}
