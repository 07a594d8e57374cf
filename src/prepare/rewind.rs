//! Whether a commit comes after the one that was applied last.

use std::collections::BTreeMap;

use super::HistoryError;
use crate::manifest::Loaded;
use crate::registry::{Noted, Registry};
use crate::repo::{FleetTree, Repo, RepoError, ResultsBranch};

/// Returns the commit that was applied last when `head` does not come after it; `None` when it does, and before the
/// first apply.
///
/// # Errors
/// The registry or the branch cannot be read.
pub fn not_after(
    head: &str,
    repo: &Repo,
    registry: &Registry,
    branch: &ResultsBranch<'_>,
) -> Result<Option<String>, HistoryError> {
    let last = match registry.branch_copy().noted(Noted::AppliedHead)? {
        Some(last) => Some(last),
        None => branch.last_source()?,
    };
    Ok(last.filter(|last| repo.descends(head, last) != Some(true)))
}

/// Returns true when a commit declares what a tree does: a squash or a rebase is no rewind. False when the commit
/// cannot be read.
///
/// # Errors
/// The tree cannot be read.
pub fn declares_the_same(repo: &Repo, commit: &str, tree: &FleetTree<'_>, loaded: &Loaded) -> Result<bool, RepoError> {
    let declared_at = |commit: &str| {
        let tree = repo.tree_at(commit).ok()?;
        let loaded = super::load(&tree);
        content_of(&tree, &loaded).ok()
    };
    let now = content_of(tree, loaded)?;
    Ok(declared_at(commit) == Some(now))
}

/// Returns the declared files with what git calls their content.
fn content_of(tree: &FleetTree<'_>, loaded: &Loaded) -> Result<BTreeMap<String, String>, RepoError> {
    loaded.declared_files.iter().map(|path| Ok((path.clone(), tree.content_id(path)?))).collect()
}
