//! The pages as values: each is the JSON twin of what a browser shows, and described by the OpenAPI document.
//!
//! Times are UTC in RFC 3339. What is absent is null. Texts of people and devices are as they are; who shows them makes
//! them safe.

pub mod device;
pub mod devices;
pub mod failing;
pub mod groups;
pub mod imports;
pub mod job;
pub mod jobs;
pub mod now;
pub mod schedules;

use schemars::JsonSchema;
use serde::Serialize;

use crate::ledger::RunRecord;
use crate::model::fleet::HeldDocuments;
use crate::ops::Caveats;
use crate::ops::job::Life;

/// A page.
pub trait Page: Serialize + JsonSchema {
    /// The file of its template.
    const TEMPLATE: &'static str;
    /// It may change while somebody looks at it.
    const IS_LIVE: bool = false;

    /// The parameters of its address, beside `format`.
    const PARAMETERS: &'static [&'static str] = &[];

    /// Returns the title, of a browser's tab.
    fn title(&self) -> String;

    /// Returns the job and the run that it is about; `None` for a page about more.
    fn about(&self) -> Option<(&str, &str)> {
        None
    }

    /// Returns false when it says what is wrong with what was asked.
    fn is_well(&self) -> bool {
        true
    }
}

/// A run of a job in a list.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct RunRow {
    pub job: String,
    pub run: String,
    /// `pending`, `running`, `interrupted`, `stopped`, `completed`, `failed` or `canceled`.
    pub status: String,
    /// Why it has its status; null when that says it all.
    pub reason: Option<String>,
    /// What kept it from its devices, such as `missed`; null for any other run.
    pub cause: Option<String>,
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
    pub pending: u64,
    pub unchanged: u64,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
    /// The commit that it was claimed from.
    pub source_commit: String,
}

impl RunRow {
    pub(super) fn of(record: &RunRecord, life: &Life) -> RunRow {
        let counts = &record.counts;
        RunRow {
            job: record.job.to_string(),
            run: record.run.to_string(),
            status: life.word(record.status).to_string(),
            reason: record.reason.clone(),
            cause: record.hindrance().map(str::to_string),
            total: counts.total,
            completed: counts.completed,
            failed: counts.failed,
            pending: counts.pending(),
            unchanged: counts.unchanged,
            started_at: record.started_at.map(|at| at.to_string()),
            finished_at: record.finished_at.map(|at| at.to_string()),
            source_commit: record.source_commit.clone(),
        }
    }
}

/// What a page does not show, in sentences.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct Notes {
    /// Each a sentence.
    pub notes: Vec<String>,
}

impl Notes {
    /// Adds what a look at the runs does not show.
    pub(super) fn take(&mut self, caveats: &Caveats) {
        self.held(&caveats.held);
        if let Some(behind) = &caveats.behind {
            self.notes.push(format!(
                "The remote {} has {} more commits of the branch {}, as of the last fetch: newer runs are missing here.",
                behind.remote, behind.commits, caveats.branch
            ));
        }
    }

    /// Adds that something of the files cannot be used.
    pub(super) fn held(&mut self, held: &HeldDocuments) {
        match held.count() {
            0 => {}
            1 => self.notes.push("A document or file cannot be used: the page Now says why.".to_string()),
            many => self.notes.push(format!("{many} documents and files cannot be used: the page Now says why.")),
        }
    }
}
