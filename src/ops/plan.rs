//! Plans without doing anything: of a tree, or of what a tree changes.

mod saved;

use std::collections::BTreeSet;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::plan::{Bonds, Delta, Plan, Withdrawn};
use crate::prepare::{
    Files, HistoryError, OnError, OpenSnapshot, PrepareError, Purpose, Searches, TreeChoice, Trust, View,
    searched_paths,
};
use crate::registry::IndexChanges;
use crate::repo::RepoError;

pub use crate::prepare::Freshness;
pub use saved::{look, read, save, shown};

/// What to plan.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// A revision; `None` plans the work tree.
    pub revision: Option<String>,
    /// Plan only what is changed since the commit that this revision and the planned one come from.
    pub base: Option<String>,
    /// The commit that is trusted to have brought the Access document; `None` for the one that is known.
    pub introduction: Option<String>,
    /// Plan with a snapshot in place of the registry.
    pub snapshot: Option<PathBuf>,
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
    /// Of a change: what it adds.
    pub plan: Plan,
    /// What is left out of the plan of a change, and what goes away; `None` for the plan of a tree.
    pub change: Option<ShownChange>,
    /// May hold errors: then the plan shows what would happen, and apply refuses it.
    pub findings: Findings,
    /// What an apply would do about the registry's indexes. No change of the plan: it is about the cost of searches
    /// alone.
    pub indexes: IndexChanges,
    /// Something has run, and no import was applied to the registry that the plan was made with, as in a clone: it has
    /// the devices as their files have them, and what jobs wrote and devices reported is not known.
    pub is_blind: bool,
    /// Where the fleet's folder is in its repository, with a slash at its end; empty for the whole of it.
    pub prefix: String,
    /// What an apply of the plan would hold for.
    pub bonds: Bonds,
}

/// What a plan was compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownChange {
    /// As it was given.
    pub revision: String,
    /// The commit that was compared with.
    pub commit: String,
    /// Documents that both sides do alike.
    pub alike: u64,
    pub withdrawn: Vec<Withdrawn>,
    /// Warnings and errors that both sides have.
    pub known_findings: u64,
}

impl ShownPlan {
    /// Returns true when an apply of the plan does anything, or the change takes anything away.
    pub fn has_changes(&self) -> bool {
        self.plan.has_changes() || self.change.as_ref().is_some_and(|change| !change.withdrawn.is_empty())
    }
}

/// Returns the plan of the work tree or of a revision, or of what it changes. Nothing is written.
///
/// # Errors
/// The files are invalid, there is no such revision, or something cannot be read.
pub fn plan(environment: &Environment, options: &PlanOptions, now: Timestamp) -> Result<ShownPlan, OpsError> {
    let snapshot = options.snapshot.as_deref().map(OpenSnapshot::of).transpose()?;
    let environment = snapshot.as_ref().map_or_else(|| environment.clone(), |one| one.environment(environment));
    let workspace = Workspace::open(&environment)?;
    let files = Files::read(&workspace, options.tree(), OnError::Refuse)?;
    if let Some(snapshot) = &snapshot {
        snapshot.check_fleet(files.usable()?.fleet.name.as_str())?;
    }
    let mut later = Diagnostics::new();
    let mut view = view_of(&workspace, files, options.base.is_some().then_some(&mut later))?;
    let base = options.base.as_ref().map(|revision| base_of(&workspace, options, revision, &mut later)).transpose()?;
    view.base.clone_from(&base);
    let planned = view.plan(Purpose::Show, now)?;
    let indexes = view.registry.devices().index_changes(&searched_paths(&view.declared, &mut Searches::default()))?;
    // Where nothing has run yet, there is nothing that is not known.
    let has_past = !later.is_empty() || !view.ledger.claims.is_empty() || !view.ledger.reports.is_empty();
    let is_new = !view.declared.imports.is_empty() && view.registry.imports().applied()?.is_empty();
    let is_blind = is_new && has_past;
    later.extend(planned.diagnostics);
    later.extend(refused_commits(&workspace, (&view.files, view.base.as_deref()), options)?);
    let (mut plan, mut change) = (planned.plan, None);
    if let (Some(revision), Some(commit)) = (&options.base, base) {
        let (base, warnings) = base_plan(&workspace, &commit, now)?;
        let declared = &view.declared;
        let names = declared.jobs.keys().chain(declared.schedules.keys());
        let renamed = names.flat_map(|name| declared.previous_names(name)).cloned().collect();
        let delta = Delta::of(&base, &plan, &renamed);
        let known_findings = drop_known(&mut later, &warnings);
        plan = delta.plan;
        let revision = revision.clone();
        change = Some(ShownChange { revision, commit, alike: delta.alike, withdrawn: delta.withdrawn, known_findings });
    }
    let prefix = workspace.repo.prefix().to_string();
    let bonds = bonds_of(&view, snapshot.is_some())?;
    Ok(ShownPlan { plan, change, findings: view.findings(later), indexes, is_blind, prefix, bonds })
}

/// Returns what a plan holds for. A snapshot is no registry that can be applied to.
fn bonds_of(view: &View<'_>, is_of_snapshot: bool) -> Result<Bonds, OpsError> {
    let has_registry = !is_of_snapshot && view.workspace.registry_place(&view.declared.fleet)?.is_there()?;
    let registry = if has_registry { Some(view.registry.identity()?.id) } else { None };
    Ok(Bonds { fleet: Some(view.declared.fleet.name.to_string()), registry, policy_digest: view.policy_digest() })
}

/// Returns what commits have changed that were not allowed to. Of a work tree, the history of `HEAD` is verified.
fn refused_commits(
    workspace: &Workspace,
    (files, base): (&Files<'_>, Option<&str>),
    options: &PlanOptions,
) -> Result<Diagnostics, OpsError> {
    let Ok(head) = files.tree.commit.clone().map_or_else(|| workspace.repo.head(), Ok) else {
        return Ok(Diagnostics::new());
    };
    let trust = Trust { introduction: options.introduction.clone(), remembers: false };
    let place = base.map_or((head.as_str(), None), |base| (base, Some(head.as_str())));
    let verified = files.verify(&workspace.repo, place, &trust.resolved(&workspace.repo)?)?;
    Ok(verified.diagnostics(&files.loaded))
}

/// Opens files for planning. The plan of a change, which has a place for warnings, does without a history.
fn view_of<'w>(
    workspace: &'w Workspace,
    files: Files<'w>,
    warnings: Option<&mut Diagnostics>,
) -> Result<View<'w>, OpsError> {
    let error = match View::of_files(workspace, files.clone()) {
        Err(PrepareError::History(error @ HistoryError::Unknown { .. })) => error,
        view => return Ok(view?),
    };
    let Some(warnings) = warnings else { return Err(PrepareError::History(error).into()) };
    let fleet = &files.usable()?.fleet;
    let branch = workspace.repo.results(&fleet.results.branch);
    let mut detail = error.to_string();
    detail.replace_range(..1, "T");
    detail.push('.');
    let help = format!("Where another clone or a remote has it: `git fetch origin {0}:{0}`.", branch.name());
    warnings.push(Diagnostic::new(code::UNKNOWN_HISTORY, None, detail).with_help(help));
    let registry = workspace.open_for_reading(fleet)?;
    Ok(View::unread(workspace, files, branch, registry)?)
}

/// Returns the commit to compare with.
fn base_of(
    workspace: &Workspace,
    options: &PlanOptions,
    revision: &str,
    warnings: &mut Diagnostics,
) -> Result<String, OpsError> {
    let repo = &workspace.repo;
    let named = repo.resolve(revision)?;
    let head = options.revision.as_deref().map_or_else(|| repo.head(), |revision| repo.resolve(revision))?;
    if let Some(base) = repo.merge_base(&named, &head) {
        return Ok(base);
    }
    let detail = format!(
        "The histories of `{}` and of what is planned do not meet in this repository: the plan compares with that \
         commit itself.",
        crate::diag::shown(revision)
    );
    let help = match repo.is_shallow() {
        true => "Fetch more of the history: `git fetch --unshallow`.",
        false => "Name a revision that has a commit in common with what is planned.",
    };
    warnings.push(Diagnostic::new(code::NO_MERGE_BASE, None, detail).with_help(help));
    Ok(named)
}

/// Returns the plan of the base and its warnings. What cannot be used of it is left out: it is not for the change to
/// mend. A base without a fleet does nothing.
fn base_plan(workspace: &Workspace, commit: &str, now: Timestamp) -> Result<(Plan, Diagnostics), OpsError> {
    let files = match Files::read_all(workspace, TreeChoice::Revision(commit), OnError::Hold) {
        Err(PrepareError::Repo(RepoError::NoFleet { .. } | RepoError::NoFleetAt { .. })) => None,
        files => Some(files?),
    };
    let Some(files) = files.filter(|files| files.declared.is_some()) else {
        return Ok((Plan::empty(now), Diagnostics::new()));
    };
    let mut warnings = files.loaded.diagnostics.clone();
    let mut view = view_of(workspace, files, Some(&mut warnings))?;
    let planned = view.plan(Purpose::Show, now)?;
    warnings.extend(planned.diagnostics);
    Ok((planned.plan, warnings))
}

/// Takes out what was found in the base too, errors as well: they are not the change's. Returns how many these were.
fn drop_known(found: &mut Diagnostics, base: &Diagnostics) -> u64 {
    let key = |one: &Diagnostic| (one.code, one.detail.clone());
    let known: BTreeSet<_> = base.iter().map(key).collect();
    let kept: Vec<Diagnostic> =
        found.iter().filter(|one| is_of_the_look(one) || !known.contains(&key(one))).cloned().collect();
    let dropped = found.iter().count() - kept.len();
    *found = Diagnostics::new();
    kept.into_iter().for_each(|one| found.push(one));
    dropped as u64
}

/// Returns true for what is said of the look itself and not of the files.
fn is_of_the_look(one: &Diagnostic) -> bool {
    [code::UNKNOWN_HISTORY, code::NO_MERGE_BASE, code::BRANCH_BEHIND].contains(&one.code)
}
