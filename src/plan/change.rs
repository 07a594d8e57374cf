//! One line of a plan: a thing of the fleet and what becomes of it.

use jiff::tz::TimeZone;
use std::collections::BTreeMap;

use crate::model::delivery::Threshold;
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
        match self {
            Subject::Import(name) => write!(f, "import/{name}"),
            Subject::Job(name) => write!(f, "job/{name}"),
            Subject::Schedule(name) => write!(f, "schedule/{name}"),
        }
    }
}

impl Subject {
    /// Returns the kind of the document.
    pub fn kind(&self) -> Kind {
        match self {
            Subject::Import(_) => Kind::DeviceImport,
            Subject::Job(_) => Kind::Job,
            Subject::Schedule(_) => Kind::Schedule,
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
        }
    }

    /// Returns the symbol of the human plan: `+` starts something, `~` changes something under way, `-` ends it, `@` will start it later, `.` nothing.
    pub fn symbol(self) -> char {
        match self {
            ActionKind::Import | ActionKind::Run => '+',
            ActionKind::Continue | ActionKind::Stop => '~',
            ActionKind::Close => '-',
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
            | ActionKind::Done => false,
        }
    }

    /// Returns true when applying it does anything.
    pub fn changes_something(self) -> bool {
        match self {
            ActionKind::Import | ActionKind::Run | ActionKind::Continue | ActionKind::Stop | ActionKind::Close => true,
            ActionKind::Schedule | ActionKind::Hold | ActionKind::Done => false,
        }
    }
}

/// The devices of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Targets {
    pub count: u64,
    /// Of the sorted ids.
    pub digest: Digest,
    /// The first few ids, for people.
    pub sample: Vec<String>,
    /// Devices that are already as desired: recorded, not written.
    pub unchanged: u64,
    /// Devices that are blocked: they fail when their batch starts.
    pub blocked: u64,
    /// Devices that are not blocked and that the job does not fit, by what it does not fit: they fail when their batch starts.
    pub mismatched: BTreeMap<Mismatch, u64>,
    /// Ids that the job names and the registry does not have.
    pub missing: Vec<String>,
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
    /// Devices of each batch but perhaps the last.
    pub size: u64,
}

/// What an import does, in devices, and its rejected rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImportCounts {
    pub new: u64,
    /// Existing devices of which anything changes.
    pub updated: u64,
    /// Of the updated ones: those whose name changes.
    pub renamed: u64,
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

/// One line of a plan.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub subject: Subject,
    pub action: ActionKind,
    /// Why, or what it came to: a phrase for people.
    pub reason: String,
    pub run: Option<RunToken>,
    /// The action of a job to run or of a schedule's, in the word of the manifest, such as `property` or `command`.
    pub work: Option<&'static str>,
    pub targets: Option<Targets>,
    pub diff: Vec<DiffLine>,
    pub batches: Option<Batches>,
    pub threshold: Option<Threshold>,
    pub import: Option<ImportCounts>,
    /// Of a schedule, and of nothing else.
    pub upcoming: Option<Upcoming>,
    /// Of what is declared: the spec of a job to run or of a schedule's, or the spec and the file of an import. A saved plan holds for these only.
    pub declared_digest: Option<Digest>,
}

impl Change {
    /// Returns a change without devices.
    pub fn new(subject: Subject, action: ActionKind, reason: impl Into<String>) -> Change {
        Change {
            subject,
            action,
            reason: reason.into(),
            run: None,
            work: None,
            targets: None,
            diff: Vec::new(),
            batches: None,
            threshold: None,
            import: None,
            upcoming: None,
            declared_digest: None,
        }
    }
}
