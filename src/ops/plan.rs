//! Plans without doing anything.

use jiff::Timestamp;

use super::workspace::{declared_of, findings_of};
use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::{Diagnostic, code};
use crate::ledger::{LEASE_PATH, Lease};
use crate::manifest::Loaded;
use crate::model::fleet::HeldDocuments;
use crate::model::text::sanitize_line;
use crate::plan::Plan;
use crate::prepare::{
    HistoryError, Preparation, Searches, declares_the_same, load, not_after, prepare, read_ledger, searched_paths,
    with_open_occurrences,
};
use crate::registry::{IndexChanges, Registry};
use crate::repo::{FleetTree, ResultsBranch};

/// What to plan.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// A revision; `None` plans the work tree.
    pub revision: Option<String>,
}

/// A plan and what there is to say about the files behind it.
#[derive(Debug, Clone)]
pub struct Planned {
    pub plan: Plan,
    /// May hold errors: then the plan shows what would happen, and apply refuses it.
    pub findings: Findings,
    /// What an apply would do about the registry's indexes. No change of the plan: it is about the cost of searches alone.
    pub indexes: IndexChanges,
}

/// Returns the plan of the work tree or of a revision. Nothing is written.
///
/// # Errors
/// The files are invalid, or something cannot be read.
pub fn plan(environment: &Environment, options: &PlanOptions, now: Timestamp) -> Result<Planned, OpsError> {
    let workspace = Workspace::open(environment)?;
    let (tree, loaded) = match &options.revision {
        Some(revision) => workspace.load_commit(&workspace.repo.resolve(revision)?)?,
        None => workspace.load_work_tree()?,
    };
    let declared = declared_of(&loaded)?;
    let branch = workspace.repo.results(&declared.fleet.results.branch);
    let mut registry = workspace.open_for_reading(&declared.fleet)?;
    let declared = &*with_open_occurrences(declared, &registry, (&workspace.repo, &branch))?;
    let ledger = read_ledger(&branch, &registry, declared)?;
    let held = HeldDocuments::default();
    let preparation = Preparation {
        at_work: at_work(&branch, now)?,
        counts_scheduled: true,
        held: &held,
        repo: &workspace.repo,
        loaded: &loaded,
        declared,
        tree: &tree,
        branch: &branch,
        ledger: &ledger,
        now,
    };
    let (plan, _, mut diagnostics) = prepare(&preparation, &mut registry)?;
    if let Some(rewound) = rewound(&workspace, (&tree, &loaded), &registry, &branch) {
        diagnostics.push(rewound);
    }
    if let Some((remote, commits)) = branch.behind_tracked()? {
        let name = branch.name();
        let commits = if commits == 1 { "1 commit".to_string() } else { format!("{commits} commits") };
        let detail = format!(
            "The branch {name} here is {commits} behind {remote}'s, as of the last fetch: what ran since is not known."
        );
        let help = format!("Fetch it: `git fetch {remote} {name}:{name}`.");
        diagnostics.push(Diagnostic::new(code::BRANCH_BEHIND, None, detail).with_help(help));
    }
    let indexes = registry.devices().index_changes(&searched_paths(declared, &mut Searches::default()))?;
    Ok(Planned { plan, findings: findings_of(&loaded, diagnostics), indexes })
}

/// Returns who has the right to work on the fleet, by the results branch as it is here.
fn at_work(branch: &ResultsBranch<'_>, now: Timestamp) -> Result<Option<String>, OpsError> {
    let lease = branch.read(LEASE_PATH)?.and_then(|bytes| Lease::from_json(&serde_json::from_slice(&bytes).ok()?).ok());
    // Whoever can push to the branch has written it.
    Ok(lease.filter(|lease| lease.is_live(now)).map(|lease| sanitize_line(&lease.owner).into_owned()))
}

/// Returns a warning when an apply of this commit, of `HEAD` for a work tree, would hold because history was rewound. `None` as well where
/// that cannot be told: a plan does without.
fn rewound(
    workspace: &Workspace,
    (tree, loaded): (&FleetTree<'_>, &Loaded),
    registry: &Registry,
    branch: &ResultsBranch<'_>,
) -> Option<Diagnostic> {
    let repo = &workspace.repo;
    // A clone that was cut off does not know what came before what it has, though it may have the commit itself.
    if repo.is_shallow() {
        return None;
    }
    let head = match &tree.commit {
        Some(commit) => commit.clone(),
        // Before the first commit there is nothing to rewind.
        None => repo.head().ok()?,
    };
    let last = not_after(&head, repo, registry, branch).ok()??;
    let is_same = match &tree.commit {
        Some(_) => declares_the_same(repo, &last, tree, loaded),
        // Not what is edited, but what would be applied.
        None => {
            let tree = repo.tree_at(&head).ok()?;
            declares_the_same(repo, &last, &tree, &load(&tree))
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
