//! What a daemon tells while it works.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::execute::Progress;
use crate::ledger::Lease;
use crate::model::fleet::{Fleet, HeldDocuments};
use crate::model::id::Name;
use crate::model::status::{Attempts, LinkStatus};
use crate::ops::{Findings, OpsError};
use crate::prepare::PassedOver;

/// What the daemon says.
#[derive(Debug)]
pub enum Note<'a> {
    /// It follows a branch.
    Started { fleet_branch: &'a str },
    /// The system does not tell of new commits: the interval has to do.
    NoEvents { error: &'a notify::Error },
    /// The remote was asked; `is_news` when it did not go as the last time, or did not go well.
    Fetched { error: Option<&'a OpsError>, is_news: bool, next_at: Timestamp, at: Timestamp },
    /// It begins to reconcile. The next [`Note::Looked`] says that this is over, whatever came of it.
    Reconciling,
    /// Something happened to an import or a run.
    Progress(&'a Progress),
    /// A commit was taken up that declares something new, or the documents that are held are others than before.
    TakenUp { fleet: &'a Fleet, commit: &'a str, held: &'a HeldDocuments, findings: &'a Findings },
    /// The branch was looked at, and the fleet reconciled if that was due.
    Looked(Look<'a>),
    /// It cannot go on, and tries again: at once when another commit comes, otherwise at this time.
    /// `is_news` when it is not what was in the way before. `passed_over` is the newest commit when that is in the way:
    /// it cannot be used, and what was declared before stays in force.
    Trouble {
        error: &'a OpsError,
        is_news: bool,
        passed_over: Option<&'a PassedOver>,
        retry_at: Timestamp,
        at: Timestamp,
    },
    /// An occurrence of a schedule did not run.
    Missed { job: &'a str, run: &'a str, reason: &'a str },
    /// The way to the devices is not as it was told last.
    Link { status: &'a LinkStatus },
    /// What was in the way is gone.
    Recovered,
}

/// One look, for those who show what the daemon does.
#[derive(Debug)]
pub struct Look<'a> {
    pub at: Timestamp,
    /// The newest commit that can be used; `None` before the first.
    pub commit: Option<&'a str>,
    /// The newest one, when it cannot be used; the other stays in force.
    pub passed_over: Option<&'a PassedOver>,
    /// The digest of what it declares.
    pub digest: Option<String>,
    pub is_reconciled: bool,
    /// When schedules are due next, by name.
    pub next_due: &'a BTreeMap<Name, Timestamp>,
    /// Ours, while there is work.
    pub lease: Option<&'a Lease>,
    /// Commits that the remote does not have.
    pub unpushed: usize,
    /// Why the last push failed.
    pub push_failure: Option<&'a str>,
    /// Pushes from the start of the process.
    pub pushes: Attempts,
    /// It was a refusal.
    pub is_push_denied: bool,
    /// The branch is of the repository itself: every look is as good as a fetch.
    pub is_local: bool,
    /// How the way to the devices is; `None` when none is open, or it cannot be unwell.
    pub link: Option<LinkStatus>,
}
