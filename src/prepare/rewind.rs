//! Whether a commit comes after the one that was applied last.

use std::collections::BTreeMap;

use super::HistoryError;
use super::occurrences::claim_of;
use super::preparation::Preparation;
use crate::manifest::Loaded;
use crate::model::fleet::Declared;
use crate::registry::{JournaledRun, Noted, Registry};
use crate::repo::{FleetTree, Repo, RepoError, ResultsBranch};

/// Returns the commit that was acted on last when `head` does not come after it; `None` when it does, and before the
/// first apply. That is the one that was applied last, and while runs go on that of one of them which is declared no
/// more: it would be stopped.
///
/// # Errors
/// The registry or the branch cannot be read.
pub fn not_after(
    head: &str,
    (repo, declared): (&Repo, &Declared),
    registry: &Registry,
    branch: &ResultsBranch<'_>,
) -> Result<Option<String>, HistoryError> {
    let last = match registry.branch_copy().noted(Noted::AppliedHead)? {
        Some(last) => Some(last),
        None => branch.last_source()?,
    };
    let is_behind = |commit: &String| repo.descends(head, commit) != Some(true);
    if let Some(last) = last.filter(is_behind) {
        return Ok(Some(last));
    }
    let is_gone = |run: &JournaledRun| declared.jobs.get(&run.job).is_none_or(|job| job.run != run.run);
    let gone = registry.journal().unclosed()?.into_iter().filter(is_gone);
    Ok(gone.filter_map(|run| Some(claim_of(&run)?.source_commit)).find(is_behind))
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

/// Returns the commit of `HEAD` and its tree of the fleet's folder when the work tree declares what they do. `None` as
/// well where that cannot be told.
pub(super) fn clean_source(preparation: &Preparation<'_>) -> Option<(String, Option<String>)> {
    let work = preparation.tree;
    let head = preparation.repo.tree_at(&preparation.repo.head().ok()?).ok()?;
    let is_same = |path: &String| {
        let ids = head.entries.contains_key(path).then(|| (head.content_id(path), work.content_id(path)));
        matches!(ids, Some((Ok(one), Ok(two))) if one == two)
    };
    // What is a document there may be none here, or be gone.
    let is_yaml = |path: &&String| path.ends_with(".yaml") || path.ends_with(".yml");
    let declared = &preparation.loaded.declared_files;
    let is_clean = declared.iter().all(|path| head.entries.contains_key(path))
        && head.entries.keys().filter(is_yaml).chain(declared.iter().filter(|path| !is_yaml(path))).all(is_same);
    is_clean.then(|| (head.commit.clone().unwrap_or_default(), head.tree.clone()))
}

/// Returns the declared files with what git calls their content.
fn content_of(tree: &FleetTree<'_>, loaded: &Loaded) -> Result<BTreeMap<String, String>, RepoError> {
    loaded.declared_files.iter().map(|path| Ok((path.clone(), tree.content_id(path)?))).collect()
}
