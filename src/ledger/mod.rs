//! The ledger: which runs were claimed, and their outcomes. Pure values and their wire form.
//!
//! The results branch is the truth. The registry's journal is a cache of it, and the only record of what is in flight.
//! [`Ledger::standing`] combines both: it is the only place that decides whether a run was claimed, and how far it is.

mod cause;
mod claim;
mod followed;
mod key;
mod lease;
mod past;
mod record;
mod renamed;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use cause::RunCause;
pub use claim::{Claim, ImportReport};
pub use followed::{FOLLOWED_FOLDER, Followed};
pub use key::{RunKey, claim_path, claim_path_of};
pub use lease::{LEASE_PATH, LEASE_RENEWAL_PART, LEASE_TIME, Lease, Sighting};
pub use past::Past;
pub use record::{BatchRecord, Published, RunRecord};
pub use renamed::{RENAMES_FOLDER, Renamed};

use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};
use crate::model::outcome::{Counts, RunStatus};

/// The version of every document on the results branch. Readers refuse a larger one and tolerate unknown fields.
pub const FORMAT_VERSION: u32 = 1;

/// A run in the order of claims; one without a claim comes last.
pub type OrderedRun = (Reverse<jiff::Timestamp>, Name, RunToken);

/// Everything that is known about past and open runs of one fleet. The maps that were read from the results branch are
/// shared with the reader of the branch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Ledger {
    /// From `claims/`, by job and run token.
    pub claims: Arc<BTreeMap<(Name, RunToken), Claim>>,
    /// From `runs/*/*/run.json`, by job and run token.
    pub records: Arc<BTreeMap<(Name, RunToken), RunRecord>>,
    /// From `imports/*/*/report.json`, by import and digest (hex).
    pub reports: Arc<BTreeMap<(Name, String), ImportReport>>,
    /// From `renames/*.json`: the former names of jobs and schedules.
    pub renames: Arc<BTreeMap<Name, Vec<Name>>>,
    /// The runs by the time of their claims, the newest first, then by job and run.
    pub order: Arc<BTreeSet<OrderedRun>>,
    /// The runs whose end is not on the results branch.
    pub unfinished: Arc<BTreeSet<(Name, RunToken)>>,
    /// From the registry: runs that it has a journal of and that are not closed.
    pub open: BTreeMap<(Name, RunToken), OpenRun>,
    /// From the registry: the digest of the last applied state of each import.
    pub applied_imports: BTreeMap<Name, Digest>,
    /// The name of the results branch when it is gone: then the claims, records and reports are those that the registry
    /// remembers.
    pub gone_branch: Option<String>,
}

/// A run that the registry's journal holds open.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenRun {
    pub status: RunStatus,
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    /// Completed devices that were as desired already.
    pub unchanged: u64,
    /// Devices that were spoken to and may answer yet.
    pub in_flight: u64,
    /// Devices that wait to come online, or to acknowledge what was written.
    pub waiting: u64,
    /// Answers that came after their device had an outcome.
    pub late: u64,
    /// `None` when no device was started yet.
    pub started_at: Option<jiff::Timestamp>,
}

/// How far a run is, from the branch and the registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing<'a> {
    /// Never claimed.
    Unclaimed,
    /// Claimed and journaled here, not yet ended.
    Open(&'a Claim, &'a OpenRun),
    /// Claimed and not ended, but not in this registry: its journal was lost.
    JournalLost(&'a Claim),
    /// Ended.
    Ended(&'a Claim, &'a RunRecord),
}

impl Ledger {
    /// Returns true for a run whose end is on the results branch. One that has ended is in the journal until then.
    pub fn has_end(&self, run: &(Name, RunToken)) -> bool {
        self.records.get(run).is_some_and(|record| record.status.is_final())
    }

    /// Returns how far a run is. The results branch decides whether it was claimed and whether it ended.
    pub fn standing(&self, job: &Name, run: &RunToken) -> Standing<'_> {
        let key = (job.clone(), run.clone());
        let Some(claim) = self.claims.get(&key) else {
            return Standing::Unclaimed;
        };
        match (self.records.get(&key), self.open.get(&key)) {
            (Some(record), _) if record.status.is_final() => Standing::Ended(claim, record),
            (_, Some(open)) => Standing::Open(claim, open),
            (_, None) => Standing::JournalLost(claim),
        }
    }

    /// Returns true when an open run is stopped and the results branch has that with the same numbers as the journal. A
    /// process that died between the two has only journaled the stop.
    pub fn is_stop_published(&self, job: &Name, run: &RunToken, open: &OpenRun) -> bool {
        let is_it = |record: &RunRecord| {
            let Counts { total, completed, failed, unchanged: _ } = record.counts;
            record.status == RunStatus::Stopped
                && (total, completed, failed) == (open.total, open.completed, open.failed)
        };
        open.status == RunStatus::Stopped && self.records.get(&(job.clone(), run.clone())).is_some_and(is_it)
    }

    /// Returns the claimed runs of a job, sorted by token.
    pub fn claimed<'a>(&'a self, job: &Name) -> impl Iterator<Item = &'a Claim> {
        let of_job = self.claims.range((job.clone(), RunToken::least())..);
        of_job.take_while(move |((name, _), _)| name == job).map(|(_, claim)| claim)
    }

    /// Returns the claimed runs of a job, sorted by claim time, oldest first.
    pub fn claims_of<'a>(&'a self, job: &Name) -> Vec<&'a Claim> {
        let mut claims: Vec<&Claim> = self.claimed(job).collect();
        claims.sort_by(|left, right| (left.claimed_at, &left.run).cmp(&(right.claimed_at, &right.run)));
        claims
    }

    /// Returns true when a plan with this id has claimed a run or applied an import.
    pub fn has_used_plan(&self, plan_id: &str) -> bool {
        self.claims.values().any(|claim| claim.plan_id == plan_id)
            || self.reports.values().any(|report| report.plan_id == plan_id)
    }
}
