//! Plans without doing anything.

use jiff::Timestamp;

use super::workspace::{declared_of, findings_of};
use super::{Environment, Findings, OpsError, Workspace};
use crate::model::fleet::Held;
use crate::plan::Plan;
use crate::prepare::{Preparation, Searches, prepare, read_ledger, searched_paths};
use crate::registry::IndexChanges;

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
    let ledger = read_ledger(&branch, &registry, declared)?;
    let held = Held::default();
    let preparation = Preparation {
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
    let (plan, _, diagnostics) = prepare(&preparation, &mut registry)?;
    let indexes = registry.index_changes(&searched_paths(declared, &mut Searches::default()))?;
    Ok(Planned { plan, findings: findings_of(&loaded, diagnostics), indexes })
}
