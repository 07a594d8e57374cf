//! What people are told about without asking: what happened, and where that goes.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::secret::SecretRef;

/// A kind of event that people are told about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AlertKind {
    /// A run has ended as `failed`.
    RunFailed,
    /// A run was canceled because too many devices failed.
    ThresholdCrossed,
    /// A document cannot be used, and waits.
    DocumentHeld,
    /// An occurrence of a schedule did not run.
    OccurrenceMissed,
    /// The remote refuses the results.
    RemoteRefused,
}

impl AlertKind {
    pub const ALL: [AlertKind; 5] = [
        AlertKind::RunFailed,
        AlertKind::ThresholdCrossed,
        AlertKind::DocumentHeld,
        AlertKind::OccurrenceMissed,
        AlertKind::RemoteRefused,
    ];

    /// Returns its word in messages.
    pub fn word(self) -> &'static str {
        match self {
            AlertKind::RunFailed => "run_failed",
            AlertKind::ThresholdCrossed => "threshold_crossed",
            AlertKind::DocumentHeld => "document_held",
            AlertKind::OccurrenceMissed => "occurrence_missed",
            AlertKind::RemoteRefused => "remote_refused",
        }
    }

    /// Returns so many of them as a phrase.
    pub fn counted(self, count: u64) -> String {
        let phrase = |one: &str, many: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {many}") };
        match self {
            AlertKind::RunFailed => phrase("run failed", "runs failed"),
            AlertKind::ThresholdCrossed => phrase("run was canceled", "runs were canceled"),
            AlertKind::DocumentHeld => phrase("document is held", "documents are held"),
            AlertKind::OccurrenceMissed => phrase("occurrence was missed", "occurrences were missed"),
            AlertKind::RemoteRefused => phrase("push was refused", "pushes were refused"),
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    pub kind: AlertKind,
    pub at: Timestamp,
    /// What it is about, such as `job/dim-line-3 run 2` or `schedule/nightly`.
    pub address: String,
    /// Why, a sentence of somebody else: a view makes it safe.
    pub reason: String,
    /// The commit that it came with; `None` where there is none.
    pub commit: Option<String>,
}

impl Alert {
    /// Returns it as an item of a message.
    pub fn to_json(&self) -> Value {
        json!({
            "kind": self.kind.word(),
            "at": self.at.to_string(),
            "address": self.address,
            "reason": self.reason,
            "commit": self.commit,
        })
    }
}

/// Whom to tell of what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertConfig {
    pub name: String,
    pub on: BTreeSet<AlertKind>,
    pub to: AlertTarget,
    /// The shortest time between two messages.
    pub every: Duration,
}

/// Where messages go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AlertTarget {
    Webhook {
        /// Where its address is: that of a chat is a secret.
        url: SecretRef,
        /// Where the key is that messages are signed with; `None` for messages without a signature.
        secret: Option<SecretRef>,
        body: AlertBody,
    },
    /// A command that the operator allows, by its name.
    Command { name: String },
}

/// The form of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertBody {
    /// All of it, for programs.
    Json,
    /// `{"text": …}`, as the incoming webhooks of chats take it.
    Text,
}
