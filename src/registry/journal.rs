//! The journal of runs: targets, sent marks and outcomes that the results branch does not hold yet.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use serde_json::Value;

use super::{OutcomeCount, RegistryError};
use crate::ledger::{Claim, OpenRun};
use crate::model::delivery::BatchSizes;
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::model::job::Action;
use crate::model::marks::Marks;
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Outcome, Reason, RunStatus, SentMark};
use crate::model::patch::Section;
use crate::model::secret::Secrets;

/// Reads the journal. [Changes](super::Change) write it.
pub trait Journal {
    /// Returns the runs that are not closed, in the order in which they were journaled.
    ///
    /// # Errors
    /// The registry cannot be read, or a row holds what it should not.
    fn unclosed(&self) -> Result<Vec<JournaledRun>, RegistryError>;

    /// Returns a run that was claimed here, whether it has ended or not; `None` when the journal has no such run.
    ///
    /// # Errors
    /// As [`Journal::unclosed`].
    fn find(&self, job: &Name, run: &RunToken) -> Result<Option<JournaledRun>, RegistryError>;

    /// Returns the job and the run token of a claimed run, whether it has ended or not.
    ///
    /// # Errors
    /// As [`Journal::unclosed`].
    fn name_of(&self, run_id: i64) -> Result<Option<(Name, RunToken)>, RegistryError>;

    /// Returns the progress of each open run that is claimed: one that the journal has as claimed, or whose claim is on
    /// the results branch according to `is_published` because the process died before it could note that.
    ///
    /// # Errors
    /// As [`Journal::unclosed`].
    fn open_runs(
        &self,
        is_published: &dyn Fn(&JournaledRun) -> bool,
    ) -> Result<BTreeMap<(Name, RunToken), OpenRun>, RegistryError>;

    /// Returns the target of a run.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError>;

    /// Returns those devices of the target of a run that have no outcome.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn pending_targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError>;

    /// Returns how many devices of a run have an outcome, by batch and reason, sorted by these.
    ///
    /// # Errors
    /// As [`Journal::unclosed`].
    fn outcome_counts(&self, run_id: i64) -> Result<Vec<OutcomeCount>, RegistryError>;

    /// Calls `visit` for each recorded outcome of a run, in order: the device's ordinal, its reason and its attempts.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn each_outcome(&self, run_id: i64, visit: &mut dyn FnMut(u32, Reason, u32)) -> Result<(), RegistryError>;

    /// Calls `visit` for the rows of a run with ordinals in `range`, in order; a device without an outcome is pending,
    /// and has a row unless `pending` leaves it out.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn each_result(
        &self,
        run_id: i64,
        ids: &DeviceIds,
        range: Range<u32>,
        pending: PendingRows,
        visit: &mut dyn FnMut(ResultRow),
    ) -> Result<(), RegistryError>;

    /// Returns the marks of a run's devices that may have received what was sent, sorted by ordinal. Devices that wait
    /// to come online received nothing and are left out.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn sent_marks(&self, run_id: i64) -> Result<Vec<SentMark>, RegistryError>;

    /// Returns how many devices of a run wait for something, and the first of them as ordinals, sorted, at most `most`.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn waiting(&self, run_id: i64, waits: Waits, most: u32) -> Result<(u64, Vec<u32>), RegistryError>;

    /// Returns the version of the desired section that a run has written to some devices, in their order; 0 for one
    /// that was not written.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn written_versions(&self, run_id: i64, ordinals: &[u32]) -> Result<Vec<u64>, RegistryError>;

    /// Returns how many late answers a run has.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn count_late(&self, run_id: i64) -> Result<u64, RegistryError>;

    /// Returns the first late answers of a run in the order in which they came, at most `most`.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn late_answers(&self, run_id: i64, most: u32) -> Result<Vec<LateAnswer>, RegistryError>;

    /// Calls `visit` for the whole answers to a run that are still kept, of devices with ordinals in `range`, in order.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn each_answer(
        &self,
        run_id: i64,
        range: Range<u32>,
        visit: &mut dyn FnMut(WholeAnswer),
    ) -> Result<(), RegistryError>;

    /// Returns the claim documents of all claimed runs, by their path on the results branch.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn claim_documents(&self) -> Result<BTreeMap<String, String>, RegistryError>;

    /// Returns a text that changes whenever any process changes the claims of the registry; `None` in a registry that
    /// does not keep one.
    ///
    /// # Errors
    /// The registry cannot be read.
    fn claims_version(&self) -> Result<Option<String>, RegistryError>;
}

/// A run that the journal holds.
#[derive(Debug, Clone, PartialEq)]
pub struct JournaledRun {
    pub run_id: i64,
    pub job: Name,
    pub run: RunToken,
    pub is_claimed: bool,
    pub status: RunStatus,
    pub reason: Option<String>,
    pub total: u32,
    pub sizes: BatchSizes,
    /// The claim document.
    pub claim: String,
    /// As in [`NewRun`].
    pub spec: Option<String>,
    /// As in [`NewRun`].
    pub manifest: Option<Digest>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// The batch that was opened last, from 0, and when; `None` when no device of the run may wait.
    pub open_batch: Option<OpenBatch>,
    /// As in [`NewRun`].
    pub keeps_answers: bool,
}

/// A batch of a run, from 0, and when it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenBatch {
    pub batch: u32,
    pub at: Timestamp,
}

/// A run about to be claimed.
#[derive(Debug)]
pub struct NewRun<'a> {
    pub claim: &'a Claim,
    /// The claim document, as it goes to the results branch.
    pub document: String,
    /// The spec of a schedule's occurrence, as [`crate::model::schedule::ScheduledJob::spec`]; `None` for a job.
    pub spec: Option<&'a str>,
    /// The digest of the edge manifest that the job assigns.
    pub manifest: Option<Digest>,
    pub ids: &'a DeviceIds,
    pub sizes: BatchSizes,
    /// Answers of its devices are kept whole beside the outcomes.
    pub keeps_answers: bool,
}

/// What is written to each device of a job.
#[derive(Debug, Clone)]
pub enum Assignment {
    /// Sections of the twin, each with its patch: all of them or none. Devices of some templates get the desired
    /// properties with marks.
    Patch {
        patches: Vec<(Section, Value)>,
        marks: Marks,
    },
    Template(String),
    EdgeManifest {
        name: String,
        digest: Digest,
    },
}

impl Assignment {
    /// Returns a patch that all devices get alike.
    pub fn patch(section: Section, patch: Value) -> Assignment {
        Assignment::Patch { patches: vec![(section, patch)], marks: Marks::default() }
    }

    /// Returns what devices of a template get.
    pub(super) fn for_template(patches: &[(Section, Value)], marks: &Marks, template: Option<&str>) -> Assignment {
        let patches = patches.iter().map(|(section, patch)| {
            let patch = if *section == Section::Desired { marks.apply(patch, template) } else { Cow::Borrowed(patch) };
            (*section, patch.into_owned())
        });
        Assignment::Patch { patches: patches.collect(), marks: Marks::default() }
    }

    /// Returns the desired properties that it sets, and their marks.
    pub fn desired(&self) -> Option<(&Value, &Marks)> {
        let Assignment::Patch { patches, marks } = self else { return None };
        patches.iter().find(|(section, _)| *section == Section::Desired).map(|(_, patch)| (patch, marks))
    }

    /// Returns the assignment with marks in place of references to secrets.
    #[must_use]
    pub fn marked(self, secrets: &Secrets) -> Assignment {
        match self {
            Assignment::Patch { mut patches, marks } if !secrets.is_empty() => {
                patches.iter_mut().for_each(|(_, patch)| *patch = secrets.marked(patch));
                Assignment::Patch { patches, marks }
            }
            assignment => assignment,
        }
    }

    /// Returns what an action writes; `None` for a command, and for an edge manifest whose digest is not known.
    pub fn of_action(action: &Action, declared: &Declared) -> Option<Assignment> {
        match action {
            Action::Property(_) | Action::CloudProperty(_) | Action::Tags(_) | Action::Twin { .. } => {
                let patches = action.patches().iter().map(|one| (one.section, one.patch.to_value())).collect();
                Some(Assignment::Patch { patches, marks: declared.marks(action) })
            }
            Action::DeviceTemplate(name) => Some(Assignment::Template(name.to_string())),
            Action::EdgeManifest(name) => {
                let digest = declared.manifest_digest(action)?;
                Some(Assignment::EdgeManifest { name: name.to_string(), digest })
            }
            Action::Command(_) => None,
        }
    }
}

/// Devices to write, and when to stop.
#[derive(Debug, Clone, Copy)]
pub struct Chunk<'a> {
    pub run_id: i64,
    /// (ordinal, device id), ascending.
    pub devices: &'a [(u32, &'a str)],
    /// Stop after the failure that follows this many others.
    pub failures_left: Option<u64>,
    /// A written device is not completed: it keeps a sent mark until it acknowledges.
    pub awaits_acknowledgement: bool,
    pub now: Timestamp,
}

/// What a marked device waits for. The discriminants are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Waits {
    /// It was spoken to and may answer yet.
    ToAnswer = 0,
    /// Nothing was delivered: it waits to come online.
    ToConnect = 1,
    /// The registry has the new value, and it has not acknowledged it.
    ToAcknowledge = 2,
}

impl Waits {
    /// Returns what a stored discriminant means; `None` for none of them.
    pub(super) fn from_stored(stored: u8) -> Option<Waits> {
        [Waits::ToAnswer, Waits::ToConnect, Waits::ToAcknowledge].into_iter().find(|waits| *waits as u8 == stored)
    }
}

/// Which rows of pending devices are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingRows {
    /// None: terminal devices only.
    Omitted,
    /// Those of a run that can still go on.
    UnderWay,
    /// Those of a run that has ended: they stay pending for good, and their message says in which state they were left.
    Ended,
}

impl PendingRows {
    /// Returns which rows a run has that is in a status.
    pub fn of(status: RunStatus) -> PendingRows {
        if status.is_final() { PendingRows::Ended } else { PendingRows::UnderWay }
    }
}

/// An answer that came after its device had an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateAnswer {
    /// The place of the device in the run's sorted target, from 0.
    pub ordinal: u32,
    pub code: u16,
    /// What the device said; untrusted, sanitised and cut when it was recorded.
    pub message: String,
    /// When it came, UTC.
    pub at: Timestamp,
}

/// The answer of a device to a run that keeps answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeAnswer {
    /// The place of the device in the run's sorted target, from 0.
    pub ordinal: u32,
    pub code: u16,
    /// What the device sent without the values of secrets, untrusted: at most
    /// [`limits::PAYLOAD_BYTES_MAX`](crate::model::limits::PAYLOAD_BYTES_MAX) bytes; none when it sent nothing.
    pub payload: Vec<u8>,
    /// When it came.
    pub at: Timestamp,
}

/// One row of the results.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRow {
    pub device_id: String,
    /// As it is now; of a device that was deleted while a run was open, as it was then; else empty.
    pub device_name: String,
    pub outcome: Outcome,
}
