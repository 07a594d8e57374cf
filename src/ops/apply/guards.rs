//! Why an apply does not start: what is uncommitted, who knows what has run, what a saved plan was made of.

use std::collections::BTreeMap;

use super::{Apply, SAVED_HELP};
use crate::ledger::Ledger;
use crate::manifest::Loaded;
use crate::ops::OpsError;
use crate::plan::{Plan, differing_addresses};
use crate::prepare::HistoryError;
use crate::repo::{FleetTree, RepoError};

impl Apply<'_> {
    /// Holds when `HEAD` does not come after the commit that was applied last, unless both declare the same: a squash or a rebase is no rewind.
    pub(super) fn check_rewind(&self) -> Result<(), OpsError> {
        if self.options.accepts_rewind {
            return Ok(());
        }
        let last = match self.registry.applied_head()? {
            Some(last) => last,
            None => match self.branch.last_source()? {
                Some(last) => last,
                None => return Ok(()),
            },
        };
        if self.repo.descends(&self.head, &last) == Some(true) {
            return Ok(());
        }
        // Another daemon of the same registry may have seen more, or the branch has moved since this round began.
        if self.repo.is_mirror() && (self.repo.resolve(&last).is_err() || self.repo.head()? != self.head) {
            return Err(behind(&self.head, &last));
        }
        let declared_at = |commit: &str| {
            let tree = self.repo.tree_at(commit).ok()?;
            let loaded = crate::prepare::load(&tree);
            content_of(&tree, &loaded).ok()
        };
        let now = content_of(self.tree, self.loaded)?;
        if declared_at(&last) == Some(now) {
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

/// Returns the declared files with what git calls their content.
pub(super) fn content_of(tree: &FleetTree<'_>, loaded: &Loaded) -> Result<BTreeMap<String, String>, RepoError> {
    loaded.declared_files.iter().map(|path| Ok((path.clone(), tree.content_id(path)?))).collect()
}
