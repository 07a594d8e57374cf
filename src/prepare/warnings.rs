//! What a plan that is shown warns about: why an apply of it would hold or lack something.

use jiff::Timestamp;

use super::rewind::{declares_the_same, not_after};
use super::{Files, HistoryError, PrepareError};
use crate::diag::{Diagnostic, code};
use crate::ledger::{LEASE_PATH, Lease};
use crate::model::text::sanitize_line;
use crate::registry::Registry;
use crate::repo::{Repo, RepoError, ResultsBranch};

/// Returns the lease on a branch.
///
/// # Errors
/// The file cannot be used.
pub fn lease_of(bytes: Option<Vec<u8>>) -> Result<Option<Lease>, RepoError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let malformed = |what: String| RepoError::Malformed { path: LEASE_PATH.to_string(), what };
    let value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    Lease::from_json(&value).map(Some).map_err(malformed)
}

/// Returns the process that has the right to work on the fleet, by the results branch as it is here.
pub fn at_work(branch: &ResultsBranch<'_>, now: Timestamp) -> Result<Option<String>, PrepareError> {
    // One that cannot be used is for an apply to refuse.
    let lease = lease_of(branch.read(LEASE_PATH)?).ok().flatten();
    // The name comes from the branch, which others can push to.
    Ok(lease.filter(|lease| lease.is_live(now)).map(|lease| sanitize_line(&lease.owner).into_owned()))
}

/// Returns a warning when the remote has more of the results branch, as of the last fetch.
pub(super) fn behind_remote(branch: &ResultsBranch<'_>) -> Result<Option<Diagnostic>, PrepareError> {
    let Some((remote, commits)) = branch.behind_tracked()? else { return Ok(None) };
    let name = branch.name();
    let commits = if commits == 1 { "1 commit".to_string() } else { format!("{commits} commits") };
    let detail = format!(
        "The branch {name} here is {commits} behind {remote}'s, as of the last fetch: what ran since is not known."
    );
    let help = format!("Fetch it: `git fetch {remote} {name}:{name}`.");
    Ok(Some(Diagnostic::new(code::BRANCH_BEHIND, None, detail).with_help(help)))
}

/// Returns a warning when an apply of this commit, of `HEAD` for a work tree, would hold because history was rewound.
/// `None` as well where that cannot be told: a plan does without.
pub(super) fn rewound(
    repo: &Repo,
    files: &Files<'_>,
    registry: &Registry,
    branch: &ResultsBranch<'_>,
) -> Option<Diagnostic> {
    // A clone that was cut off does not know what came before what it has, though it may have the commit itself.
    if repo.is_shallow() {
        return None;
    }
    let head = match &files.tree.commit {
        Some(commit) => commit.clone(),
        // Before the first commit there is nothing to rewind.
        None => repo.head().ok()?,
    };
    let last = not_after(&head, repo, registry, branch).ok()??;
    let is_same = match &files.tree.commit {
        Some(_) => declares_the_same(repo, &last, &files.tree, &files.loaded),
        // Not what is edited, but what would be applied.
        None => {
            let tree = repo.tree_at(&head).ok()?;
            declares_the_same(repo, &last, &tree, &super::load(&tree))
        }
    };
    if is_same.ok()? {
        return None;
    }
    let error = HistoryError::Rewound { head, last };
    let mut detail = error.to_string();
    detail.replace_range(..1, "H");
    detail.push_str(". An apply holds.");
    let help =
        format!("A branch that was forked before that commit wants a merge or a rebase. Otherwise: {}", error.help());
    Some(Diagnostic::new(code::REWOUND, None, detail).with_help(help))
}
