//! What a plan is made of.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::change::{ImportCounts, Subject};
use super::classify::Classified;
use crate::ledger::Ledger;
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::id::Name;
use crate::model::observation::{DeviceIds, Observation};

/// Where the declared files were read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlanSource {
    /// `None` for a work tree that declares something else than its commit.
    pub commit: Option<String>,
    /// The id of the git tree of the fleet's folder; `None` as the commit.
    pub tree: Option<String>,
    /// The digest of the declared files: it decides whether anything changed.
    pub digest: String,
}

/// What applying an import now would do; `None` counts mean that the registry already holds this state of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImportObservation {
    /// The digest of the spec, the template, the organization and the content of the file.
    pub digest: Digest,
    pub counts: ImportCounts,
}

/// Why nothing starts now, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    pub until: Timestamp,
    /// A phrase, such as `frozen until 2027-01-02T23:00:00Z by policy holidays`.
    pub why: String,
}

/// Everything that a plan depends on. Its builder keeps these promises: `observations` has an entry for each job that
/// [`classify`](super::classify) wants to run, `imports` one for each import whose digest differs from the applied one.
#[derive(Debug)]
pub struct PlanInput<'a> {
    pub declared: &'a Declared,
    /// What is to be done with each declared job, as [`classify_all`](super::classify_all) says of these documents and
    /// this ledger.
    pub classified: Vec<Classified<'a>>,
    pub source: PlanSource,
    pub base: Option<String>,
    pub ledger: &'a Ledger,
    pub observations: BTreeMap<Name, Observation>,
    /// For each of those jobs the declared device templates that it does not fit; absent where it fits all.
    pub mismatching: BTreeMap<Name, BTreeSet<Name>>,
    pub imports: BTreeMap<Name, ImportObservation>,
    /// Documents that have run and have left the files since the commit that was applied last, where that was looked
    /// at.
    pub gone: Vec<Subject>,
    /// The other process that has the right to work on the fleet now.
    pub at_work: Option<String>,
    /// How many devices schedules would select now, where that was looked at.
    pub scheduled: BTreeMap<Name, u64>,
    /// Imports whose file cannot be used, which is in the diagnostics.
    pub unusable: BTreeSet<Name>,
    /// For jobs that were never claimed: how many commits ago they were last changed; absent for what is not committed.
    /// A job that has been there for longer starts first.
    pub ages: BTreeMap<Name, u64>,
    /// For jobs that go on: those of their devices that are not terminal, where a new job writes the same path.
    pub pending: BTreeMap<Name, DeviceIds>,
    /// Jobs and imports that nothing starts now.
    pub frozen: BTreeMap<Subject, Frozen>,
    /// Documents that cannot be used now; they are not in `declared`.
    pub held: &'a HeldDocuments,
    pub observed_at: Timestamp,
}
