//! One line of a plan: a thing of the fleet and what becomes of it.

use jiff::tz::TimeZone;
use std::collections::BTreeMap;

use crate::model::delivery::{BatchSizes, Threshold};
use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};
use crate::model::kind::Kind;
use crate::model::observation::Mismatch;
use crate::model::schedule::Occurrence;

use super::diff::DiffLine;

/// What a change is about; `Display` is its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Import(Name),
    Job(Name),
    Schedule(Name),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (folder, name) = self.address();
        write!(f, "{folder}/{name}")
    }
}

impl Subject {
    /// Returns the two parts of the address, `job/dim-line-3`.
    pub fn address(&self) -> (&'static str, &Name) {
        match self {
            Subject::Import(name) => ("import", name),
            Subject::Job(name) => ("job", name),
            Subject::Schedule(name) => ("schedule", name),
        }
    }

    /// Returns the kind of the document.
    pub fn kind(&self) -> Kind {
        match self {
            Subject::Import(_) => Kind::DeviceImport,
            Subject::Job(_) => Kind::Job,
            Subject::Schedule(_) => Kind::Schedule,
        }
    }

    /// Returns the subject of an address, or `None`.
    pub fn parse(address: &str) -> Option<Subject> {
        let (folder, name) = address.split_once('/')?;
        let name = Name::parse(name).ok()?;
        match folder {
            "import" => Some(Subject::Import(name)),
            "job" => Some(Subject::Job(name)),
            "schedule" => Some(Subject::Schedule(name)),
            _ => None,
        }
    }
}

/// What becomes of it. A closed list; the views have a symbol and a word for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActionKind {
    /// Devices are written from a file.
    Import,
    /// A run is claimed and starts.
    Run,
    /// An open run goes on.
    Continue,
    /// An open run starts no further device.
    Stop,
    /// An open run whose journal was lost is closed as failed.
    Close,
    /// Nothing now: a schedule, whose occurrences start when it is time.
    Schedule,
    /// Nothing now: a suspended job, or one that waits for another.
    Hold,
    /// Nothing: it is as declared.
    Done,
    /// Nothing: it has run and has left the files, and what it did stays.
    Gone,
}

impl ActionKind {
    /// Returns the word of the JSON plan.
    pub fn word(self) -> &'static str {
        match self {
            ActionKind::Import => "import",
            ActionKind::Run => "run",
            ActionKind::Continue => "continue",
            ActionKind::Stop => "stop",
            ActionKind::Close => "close",
            ActionKind::Schedule => "schedule",
            ActionKind::Hold => "hold",
            ActionKind::Done => "done",
            ActionKind::Gone => "gone",
        }
    }

    /// Returns the symbol of the human plan: `+` starts something, `~` changes something under way, `-` ends it or says
    /// that it is gone, `@` will start it later, `.` nothing.
    pub fn symbol(self) -> char {
        match self {
            ActionKind::Import | ActionKind::Run => '+',
            ActionKind::Continue | ActionKind::Stop => '~',
            ActionKind::Close | ActionKind::Gone => '-',
            ActionKind::Schedule => '@',
            ActionKind::Hold | ActionKind::Done => '.',
        }
    }

    /// Returns true when a job is on its way to its end.
    pub fn goes_on(self) -> bool {
        match self {
            ActionKind::Run | ActionKind::Continue => true,
            ActionKind::Import
            | ActionKind::Stop
            | ActionKind::Close
            | ActionKind::Schedule
            | ActionKind::Hold
            | ActionKind::Done
            | ActionKind::Gone => false,
        }
    }

    /// Returns true when applying it does anything.
    pub fn changes_something(self) -> bool {
        match self {
            ActionKind::Import | ActionKind::Run | ActionKind::Continue | ActionKind::Stop | ActionKind::Close => true,
            ActionKind::Schedule | ActionKind::Hold | ActionKind::Done | ActionKind::Gone => false,
        }
    }
}

/// The devices of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    pub count: u64,
    /// The digest of the sorted ids.
    pub digest: Digest,
    /// The first few ids, for people.
    pub sample: Vec<String>,
    /// Devices that are already as desired: recorded, not written.
    pub unchanged: u64,
    /// Devices that are blocked: they fail when their batch starts.
    pub blocked: u64,
    /// Devices that are not blocked and that the job does not fit, by what it does not fit: they fail when their batch
    /// starts.
    pub mismatched: BTreeMap<Mismatch, u64>,
    /// How many ids the job names that the registry does not have.
    pub missing: u64,
}

impl Targets {
    /// Returns the number of devices that the job does not fit.
    pub fn mismatches(&self) -> u64 {
        self.mismatched.values().sum()
    }
}

/// How a run is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batches {
    pub count: u64,
    pub sizes: BatchSizes,
}

/// What an import does, in devices, and its rejected rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportCounts {
    pub new: u64,
    /// Existing devices of which anything changes.
    pub updated: u64,
    /// The updated ones whose name changes.
    pub renamed: u64,
    /// The updated ones that were not blocked and that their row blocks.
    pub blocked: u64,
    pub unchanged: u64,
    /// Devices that their row deletes.
    pub deleted: u64,
    /// Devices of this import whose row left the file and that are blocked or deleted for it.
    pub removed: u64,
    /// The removed ones are deleted, not blocked.
    pub is_deletion: bool,
    /// Devices whose row left the file and that stay.
    pub kept: u64,
    pub rejected: u64,
    pub rows: u64,
}

impl ImportCounts {
    /// Returns the devices that the file has: its rows but for those that are rejected or delete.
    pub fn devices(self) -> u64 {
        self.new + self.updated + self.unchanged
    }

    /// Returns the devices that are written or removed.
    pub fn touched(self) -> u64 {
        self.new + self.updated + self.deleted + self.removed
    }
}

/// The next occurrences of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Upcoming {
    pub time_zone: TimeZone,
    /// At most three; none when the schedule has ended or is suspended.
    pub occurrences: Vec<Occurrence>,
    /// How many devices the first of them would select if it were now; `None` when that was not looked at.
    pub devices: Option<u64>,
}

/// One line of a plan: what becomes of a document.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedChange {
    pub subject: Subject,
    /// Why, or what it came to: a phrase for people.
    pub reason: String,
    /// The run of a job.
    pub run: Option<RunToken>,
    pub step: Step,
}

/// What becomes of a document, with what there is to know about it.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Devices are written from a file. The digest is of the spec and the file: a saved plan holds for these only.
    Import { counts: ImportCounts, declared_digest: Digest },
    /// A run is claimed and starts.
    Run(Box<RunStep>),
    /// An open run goes on.
    Continue,
    /// An open run starts no further device.
    Stop,
    /// An open run whose journal was lost is closed as failed.
    Close,
    /// Nothing now: the occurrences of a schedule start when it is time.
    Schedule(Box<ScheduleStep>),
    /// Nothing now: a suspended job, or one that waits for another.
    Hold,
    /// Nothing: it is as declared.
    Done,
    /// Nothing: it has run and has left the files, and what it did stays.
    Gone,
}

/// A run that is claimed and starts.
#[derive(Debug, Clone, PartialEq)]
pub struct RunStep {
    /// The action, in the word of the manifest, such as `property` or `command`.
    pub work: &'static str,
    /// The digest of the job's spec: a saved plan holds for this only.
    pub declared_digest: Digest,
    pub targets: Targets,
    pub diff: Vec<DiffLine>,
    pub batches: Batches,
    pub threshold: Option<Threshold>,
}

/// A schedule, of which the occurrences start when it is time.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleStep {
    /// The action of its jobs, in the word of the manifest.
    pub work: &'static str,
    /// The digest of the spec of its jobs.
    pub declared_digest: Digest,
    pub upcoming: Upcoming,
}

impl Step {
    /// Returns the kind of the step.
    pub fn kind(&self) -> ActionKind {
        match self {
            Step::Import { .. } => ActionKind::Import,
            Step::Run(_) => ActionKind::Run,
            Step::Continue => ActionKind::Continue,
            Step::Stop => ActionKind::Stop,
            Step::Close => ActionKind::Close,
            Step::Schedule(_) => ActionKind::Schedule,
            Step::Hold => ActionKind::Hold,
            Step::Done => ActionKind::Done,
            Step::Gone => ActionKind::Gone,
        }
    }
}

impl PlannedChange {
    pub fn new(subject: Subject, step: Step, reason: impl Into<String>) -> PlannedChange {
        PlannedChange { subject, reason: reason.into(), run: None, step }
    }

    /// Returns the kind of what is done.
    pub fn action(&self) -> ActionKind {
        self.step.kind()
    }

    /// Returns what there is to know of a run that starts.
    pub fn run_step(&self) -> Option<&RunStep> {
        match &self.step {
            Step::Run(run) => Some(run),
            _ => None,
        }
    }

    /// Returns the devices of a run that starts.
    pub fn targets(&self) -> Option<&Targets> {
        self.run_step().map(|run| &run.targets)
    }

    /// Returns the values that a run changes; none for anything else.
    pub fn diff(&self) -> &[DiffLine] {
        self.run_step().map_or(&[], |run| &run.diff)
    }

    /// Returns the batches of a run that starts.
    pub fn batches(&self) -> Option<Batches> {
        self.run_step().map(|run| run.batches)
    }

    /// Returns the threshold of a run that starts.
    pub fn threshold(&self) -> Option<Threshold> {
        self.run_step().and_then(|run| run.threshold)
    }

    /// Returns the counts of an import.
    pub fn import(&self) -> Option<ImportCounts> {
        match &self.step {
            Step::Import { counts, .. } => Some(*counts),
            _ => None,
        }
    }

    /// Returns the next occurrences of a schedule.
    pub fn upcoming(&self) -> Option<&Upcoming> {
        match &self.step {
            Step::Schedule(schedule) => Some(&schedule.upcoming),
            _ => None,
        }
    }

    /// Returns the action of a job to run or of a schedule's, in the word of the manifest.
    pub fn work(&self) -> Option<&'static str> {
        match &self.step {
            Step::Run(run) => Some(run.work),
            Step::Schedule(schedule) => Some(schedule.work),
            _ => None,
        }
    }

    /// Returns the digest of what is declared, for which alone a saved plan holds.
    pub fn declared_digest(&self) -> Option<Digest> {
        match &self.step {
            Step::Import { declared_digest, .. } => Some(*declared_digest),
            Step::Run(run) => Some(run.declared_digest),
            Step::Schedule(schedule) => Some(schedule.declared_digest),
            _ => None,
        }
    }
}
