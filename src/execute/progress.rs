//! The progress events that a view gets while jobs run.

use std::collections::BTreeMap;

use crate::ledger::{ImportReport, RunRecord};
use crate::model::id::{Name, RunToken};
use crate::model::outcome::{Counts, Reason};

/// A progress event.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The results branch was gone and is made again from the registry, with this many runs.
    BranchRepublished {
        branch: String,
        runs: u64,
    },
    /// The registry was put back from a copy: devices of these open runs may have been sent to since, and are not sent
    /// to again unless that is harmless.
    RegistryPutBack {
        runs: Vec<(Name, RunToken)>,
    },
    /// The remote does not take the branch on which a lease is renewed: from here on each renewal is a commit of the
    /// results branch.
    RenewsByCommits {
        branch: String,
        /// What the remote said.
        reason: String,
    },
    ImportFinished {
        import: Name,
        report: ImportReport,
    },
    RunClaimed {
        job: Name,
        run: RunToken,
        total: u64,
    },
    RunStarted {
        job: Name,
        run: RunToken,
        batches: u32,
        counts: Counts,
    },
    /// The source has a commit that stops the run.
    StopSeen {
        job: Name,
        run: RunToken,
        commit: String,
    },
    /// Nothing reaches devices for now, and what runs waits.
    LinkAway {
        /// A sentence without its period.
        reason: String,
    },
    /// Devices are reached again.
    LinkBack,
    /// Some devices of a run became terminal; at most once for each turn of the driver.
    Advanced {
        job: Name,
        run: RunToken,
        counts: Counts,
        batch: u32,
        batch_counts: Counts,
        in_flight: u32,
        /// The devices that became terminal since the last time.
        reasons: BTreeMap<Reason, u64>,
    },
    /// `batch` counts from 1.
    BatchFinished {
        job: Name,
        run: RunToken,
        batch: u32,
        batches: u32,
        counts: Counts,
    },
    /// The run has ended.
    RunFinished {
        record: RunRecord,
    },
    /// The run does not go on now: it was stopped or interrupted, or its devices wait to come online.
    RunPaused {
        record: RunRecord,
        waiting: u64,
    },
}
