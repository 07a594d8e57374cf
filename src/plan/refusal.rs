//! Why a plan cannot be applied, and what its author should know. Data; `prepare` turns it into diagnostics with
//! places.

use std::collections::BTreeMap;

use super::conflict::Conflict;
use crate::ledger::RunRecord;
use crate::model::fleet::ImportExpect;
use crate::model::id::{Name, RunToken};
use crate::model::job::Expect;
use crate::model::observation::{Mismatch, Strays};

/// A reason not to apply a plan (exit 65).
#[derive(Debug, Clone, PartialEq)]
pub enum Refusal {
    /// The spec of a claimed run changed under the same run token.
    EditedRun {
        job: Name,
        run: RunToken,
        record: Option<Box<RunRecord>>,
    },
    /// A job that was never claimed has the spec of a claimed run whose job is gone: most likely it was renamed.
    Renamed {
        job: Name,
        old: Name,
        run: RunToken,
    },
    /// A job that was never claimed says that it had a name of which nothing is known.
    UnknownName {
        job: Name,
        previous: Name,
    },
    /// A job was renamed on purpose while its run was under way.
    RenamedEarly {
        job: Name,
        old: Name,
        run: RunToken,
    },
    Conflict(Conflict),
    /// The target is not of the expected size.
    Unexpected {
        job: Name,
        count: u64,
        expect: Expect,
    },
    /// The batch size cuts the target into more than [`limits::BATCHES_MAX`](crate::model::limits::BATCHES_MAX)
    /// batches.
    TooManyBatches {
        job: Name,
        count: u64,
        size: u64,
    },
    /// The job fits none of its devices.
    FitsNone {
        job: Name,
        count: u64,
        /// Devices that are not blocked, by what the job does not fit.
        mismatched: BTreeMap<Mismatch, u64>,
    },
    /// An import has, or removes, more or fewer devices than expected.
    UnexpectedImport {
        import: Name,
        devices: u64,
        removed: u64,
        rejected: u64,
        expect: ImportExpect,
    },
    /// Every row of a file was rejected, or it has none.
    NothingImported {
        import: Name,
        rows: u64,
        rejected: u64,
    },
}

impl Refusal {
    /// Returns true when a job is why the plan cannot be applied, or one of two.
    pub fn is_about(&self, name: &Name) -> bool {
        match self {
            Refusal::EditedRun { job, .. }
            | Refusal::Renamed { job, .. }
            | Refusal::RenamedEarly { job, .. }
            | Refusal::UnknownName { job, .. }
            | Refusal::Unexpected { job, .. }
            | Refusal::TooManyBatches { job, .. }
            | Refusal::FitsNone { job, .. } => job == name,
            Refusal::Conflict(conflict) => conflict.left == *name || conflict.right == *name,
            Refusal::UnexpectedImport { .. } | Refusal::NothingImported { .. } => false,
        }
    }
}

/// Something to know (a warning).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A job selects no device.
    EmptyTarget { job: Name },
    /// A schedule would select no device now though devices do not come and go by its condition, or not as many as it
    /// expects.
    Unexpected { schedule: Name, count: u64, expect: Option<Expect> },
    /// A job names devices that the registry does not have.
    MissingDevices { job: Name, count: u64, sample: Vec<String> },
    /// Rows of an import were rejected.
    RejectedRows { import: Name, rejected: u64, rows: u64 },
    /// The results branch is gone: the plan is made of what the registry remembers of it.
    BranchGone { branch: String, runs: u64 },
    /// The registry is new although runs are recorded: what they wrote to the devices is not written again.
    NewRegistry { runs: u64 },
    /// The job does not fit some of its devices.
    Mismatches {
        job: Name,
        count: u64,
        /// Devices that are not blocked, by what the job does not fit.
        mismatched: BTreeMap<Mismatch, u64>,
        /// The target is as of now.
        is_deferred: bool,
    },
    /// Desired properties of the devices have no place in the template that they get.
    StrayProperties { job: Name, template: Name, strays: Strays },
    /// The run token is one that was claimed before the newest one.
    OldToken { job: Name, run: RunToken, newest: RunToken },
    /// The group of a job has grown or shrunk by more than a fifth since the `last` run on it.
    GroupResized { job: Name, group: Name, last: (Name, RunToken), before: u64, count: u64 },
}
