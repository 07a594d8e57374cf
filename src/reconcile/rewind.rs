//! A commit that does not come after the one that was applied last.

use super::ReconcileError;
use crate::prepare::{HistoryError, View, declares_the_same, not_after};

/// Holds when a commit does not come after the one that was acted on last, unless both declare the same: a squash or a
/// rebase is no rewind. `reconciled` is the commit of the last round, which is not noted while runs go on.
///
/// # Errors
/// It does not; the registry or the repository cannot be read.
pub(super) fn check_rewind(view: &View<'_>, head: &str, reconciled: Option<&str>) -> Result<(), ReconcileError> {
    let repo = &view.workspace.repo;
    let last = not_after(head, (repo, &view.declared), &view.registry, &view.branch)?;
    let of_round = || reconciled.filter(|last| repo.descends(head, last) != Some(true)).map(str::to_string);
    let Some(last) = last.or_else(of_round) else { return Ok(()) };
    // Another daemon of the same registry may have seen more, or the branch has moved since this round began.
    if repo.is_mirror() && (repo.resolve(&last).is_err() || repo.head()? != head) {
        return Err(behind(head, &last));
    }
    if declares_the_same(repo, &last, &view.files.tree, &view.files.loaded)? {
        return Ok(());
    }
    Err(HistoryError::Rewound { head: head.to_string(), last }.into())
}

/// Returns what a daemon says whose branch does not have yet what another one of the same registry has applied.
pub fn behind(head: &str, last: &str) -> ReconcileError {
    ReconcileError::Held {
        what: format!("the commit {last} was applied last, and {head} does not have it: another fleetform is ahead"),
        help: "It goes on when the branch has that commit; if it was rewound and this is meant, start with \
            --accept-rewind."
            .to_string(),
    }
}
