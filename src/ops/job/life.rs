//! Whether a run goes on, and the status that a list shows for it.

use crate::model::outcome::RunStatus;

/// Whether a run goes on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Life {
    /// It has ended, or was stopped.
    Over,
    /// A process works on the fleet: its name, `host/process/random`.
    AtWork(String),
    /// No process works on it, and it would go on now: a process was interrupted or died. The next apply resumes it.
    Interrupted,
    /// It can go on only when devices come online or acknowledge.
    Waiting,
    /// It is another registry's, and which process works on it is not known here.
    Elsewhere,
}

impl Life {
    /// Returns the word for the status of a run.
    pub fn word(&self, status: RunStatus) -> &'static str {
        self.listed(status).as_str()
    }

    /// Returns the status that a list shows for a run with this status.
    pub fn listed(&self, status: RunStatus) -> ListedStatus {
        match self {
            Life::Interrupted => ListedStatus::Interrupted,
            Life::Over | Life::AtWork(_) | Life::Waiting | Life::Elsewhere => ListedStatus::Recorded(status),
        }
    }
}

/// The status of a run in a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedStatus {
    /// The one in its record.
    Recorded(RunStatus),
    /// It is pending or running, and no process works on it.
    Interrupted,
}

impl ListedStatus {
    /// Returns every status.
    pub fn all() -> impl Iterator<Item = ListedStatus> {
        RunStatus::ALL.into_iter().map(ListedStatus::Recorded).chain([ListedStatus::Interrupted])
    }

    /// Returns the word that is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            ListedStatus::Recorded(status) => status.as_str(),
            ListedStatus::Interrupted => "interrupted",
        }
    }

    /// Returns the status of a word; `None` for an unknown one.
    pub fn parse(word: &str) -> Option<ListedStatus> {
        ListedStatus::all().find(|status| status.as_str() == word)
    }

    /// Returns all words with commas between them.
    pub fn words() -> String {
        ListedStatus::all().map(ListedStatus::as_str).collect::<Vec<_>>().join(", ")
    }
}
