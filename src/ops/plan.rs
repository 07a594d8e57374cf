//! Plans without doing anything.

use jiff::Timestamp;

use super::{Environment, Findings, OpsError, Workspace};
use crate::plan::Plan;
use crate::prepare::{OnError, Purpose, Searches, TreeChoice, View, searched_paths};
use crate::registry::IndexChanges;

/// What to plan.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// A revision; `None` plans the work tree.
    pub revision: Option<String>,
}

impl PlanOptions {
    /// Returns the files that are planned.
    pub(super) fn tree(&self) -> TreeChoice<'_> {
        self.revision.as_deref().map_or(TreeChoice::WorkTree, TreeChoice::Revision)
    }
}

/// A plan and what there is to say about the files behind it.
#[derive(Debug, Clone)]
pub struct ShownPlan {
    pub plan: Plan,
    /// May hold errors: then the plan shows what would happen, and apply refuses it.
    pub findings: Findings,
    /// What an apply would do about the registry's indexes. No change of the plan: it is about the cost of searches
    /// alone.
    pub indexes: IndexChanges,
}

/// Returns the plan of the work tree or of a revision. Nothing is written.
///
/// # Errors
/// The files are invalid, or something cannot be read.
pub fn plan(environment: &Environment, options: &PlanOptions, now: Timestamp) -> Result<ShownPlan, OpsError> {
    let workspace = Workspace::open(environment)?;
    let mut view = View::open(&workspace, options.tree(), OnError::Refuse)?;
    let planned = view.plan(Purpose::Show, now)?;
    let indexes = view.registry.devices().index_changes(&searched_paths(&view.declared, &mut Searches::default()))?;
    Ok(ShownPlan { plan: planned.plan, findings: view.findings(planned.diagnostics), indexes })
}
