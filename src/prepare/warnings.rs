//! What a plan that is shown warns about: why an apply of it would hold or lack something.

use jiff::Timestamp;

use super::lease::at_work;
use super::rewind::{declares_the_same, not_after};
use super::{Files, HistoryError, OwnRegistry, PrepareError};
use crate::diag::{Diagnostic, code};
use crate::ledger::{Ledger, claim_path};
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::model::text::sanitize_line;
use crate::registry::Registry;
use crate::repo::{Owner, Repo, RepoError, ResultsBranch, Witness};

/// Returns the other registry that works on the fleet. `own` is where this one is, or would be made.
pub(super) fn other_registry(
    repo: &Repo,
    registry: &Registry,
    branch: &ResultsBranch<'_>,
    own: &OwnRegistry,
) -> Result<Option<Owner>, PrepareError> {
    let Some(owner) = branch.owner()? else { return Ok(None) };
    if registry.identity().map_err(HistoryError::Registry)?.id == owner.registry {
        return Ok(None);
    }
    // In the place of a lost one the next apply makes its successor.
    let is_in_place = |one: Witness| one.registry == owner.registry && one.place == own.place_name();
    let was_in_place = Witness::read(&Witness::path(repo, branch)).is_some_and(is_in_place);
    Ok(if was_in_place && !own.is_there()? { None } else { Some(owner) })
}

/// Returns a few words for a registry. The branch that names it is one that others can push to.
pub(super) fn named(owner: &Owner) -> String {
    let id: String = owner.registry.chars().take(8).collect();
    sanitize_line(&format!("the registry {id} on {}", owner.host)).into_owned()
}

/// Returns the warning that an apply with this registry holds.
pub(super) fn only_looks(
    branch: &ResultsBranch<'_>,
    Owner { registry, host }: Owner,
    now: Timestamp,
) -> Result<Diagnostic, PrepareError> {
    let error = RepoError::NotOwner { branch: branch.name().to_string(), registry, host };
    let mut detail = error.to_string();
    detail.replace_range(..1, "A");
    detail.push_str(". This plan is made with what this registry has, and an apply with it holds.");
    if let Some(worker) = at_work(branch, now)? {
        detail.push_str(&format!(" At work now: {worker}."));
    }
    Ok(Diagnostic::new(code::OTHER_REGISTRY, None, detail).with_help(error.help()))
}

/// Returns a warning when this registry, which works on the fleet, does not know runs that the branch has: it was put
/// back from a backup, and no apply has looked at it since.
pub(super) fn older_registry(registry: &Registry, ledger: &Ledger) -> Result<Option<Diagnostic>, PrepareError> {
    /// Runs that are named.
    const SHOWN: usize = 3;
    if ledger.records.is_empty() || !registry.branch_copy().exists()? {
        return Ok(None);
    }
    let (journaled, kept) = (registry.journal().claim_documents()?, registry.branch_copy().file_ids()?);
    let is_unknown = |(job, run): &&(Name, RunToken)| {
        let path = claim_path(job, run);
        !journaled.contains_key(&path) && !kept.contains_key(&path)
    };
    // A claim without a record may be that of a process that died before it journaled it.
    let unknown: Vec<_> = ledger.records.keys().filter(is_unknown).collect();
    if unknown.is_empty() {
        return Ok(None);
    }
    let names: Vec<String> = unknown.iter().take(SHOWN).map(|(job, run)| format!("`{job}` run {run}")).collect();
    let more = unknown.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let detail = format!(
        "The results branch has runs that this registry does not know, {}{more}: it is older, as a backup that was put \
         back. What they wrote to twins is not in it, nor who was blocked since.",
        names.join(", ")
    );
    let help = "Nothing is sent again. Run a job again, with a new `run` token, where its twins matter; the files below \
        `direct/` on the results branch say who was blocked.";
    Ok(Some(Diagnostic::new(code::OLDER_REGISTRY, None, detail).with_help(help)))
}

/// Returns a warning when the remote has more of the results branch, as of the last fetch.
pub(super) fn behind_remote(branch: &ResultsBranch<'_>) -> Result<Option<Diagnostic>, PrepareError> {
    let Some(behind) = branch.behind_tracked()? else { return Ok(None) };
    let detail = format!("{behind_text}: what ran there is not known.", behind_text = behind.text(branch.name()));
    Ok(Some(Diagnostic::new(code::BRANCH_BEHIND, None, detail).with_help(behind.help(branch.name()))))
}

/// Returns a warning when an apply of this commit, of `HEAD` for a work tree, would hold because history was rewound.
/// `None` as well where that cannot be told: a plan does without.
pub(super) fn rewound(
    repo: &Repo,
    (files, declared): (&Files<'_>, &Declared),
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
    let last = not_after(&head, (repo, declared), registry, branch).ok()??;
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
    let help = format!("A branch that was forked before that commit wants a merge or a rebase. {}", error.help());
    Some(Diagnostic::new(code::REWOUND, None, detail).with_help(help))
}
