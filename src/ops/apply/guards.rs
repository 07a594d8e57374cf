//! Why an apply does not start: what is uncommitted, who knows what has run, what a saved plan was made of.

use super::{Apply, SAVED_HELP};
use crate::ledger::Ledger;
use crate::ops::OpsError;
use crate::plan::{Plan, differing_addresses};
use crate::prepare::{HistoryError, declares_the_same, not_after};

impl Apply<'_> {
    /// Holds when `HEAD` does not come after the commit that was applied last, unless both declare the same: a squash or a rebase is no rewind.
    pub(super) fn check_rewind(&self) -> Result<(), OpsError> {
        if self.options.accepts_rewind {
            return Ok(());
        }
        let Some(last) = not_after(&self.head, self.repo, self.registry, &self.branch)? else { return Ok(()) };
        // Another daemon of the same registry may have seen more, or the branch has moved since this round began.
        if self.repo.is_mirror() && (self.repo.resolve(&last).is_err() || self.repo.head()? != self.head) {
            return Err(behind(&self.head, &last));
        }
        if declares_the_same(self.repo, &last, self.tree, self.loaded)? {
            return Ok(());
        }
        Err(HistoryError::Rewound { head: self.head.clone(), last }.into())
    }

    pub(super) fn check_saved(&self, plan: &Plan, ledger: &Ledger) -> Result<(), OpsError> {
        let (Some(saved), Some(id)) = (&self.options.saved, self.saved_id()?) else { return Ok(()) };
        let help = SAVED_HELP.to_string();
        if ledger.has_used_plan(&id) {
            return Err(OpsError::Held { what: "the saved plan was applied before".to_string(), help });
        }
        let differing = differing_addresses(saved, plan);
        if differing.is_empty() {
            return Ok(());
        }
        let what = format!("the fleet has changed since the plan was saved, at {}", differing.join(", "));
        Err(OpsError::Held { what, help })
    }
}

/// Returns what a daemon says whose branch does not have yet what another one of the same registry has applied.
pub(super) fn behind(head: &str, last: &str) -> OpsError {
    OpsError::Held {
        what: format!("the commit {last} was applied last, and {head} does not have it: another fleetform is ahead"),
        help: "It goes on when the branch has that commit; if it was rewound and this is meant, start with --accept-rewind."
            .to_string(),
    }
}
