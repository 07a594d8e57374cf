//! What the planner says of a job that was never claimed, or whose journal is gone: nothing recorded explains it.

use std::sync::Arc;

use jiff::Timestamp;

use super::why::{Cause, Predecessor, Why};
use super::{Environment, Findings, OpsError, Workspace, declared_of, findings_of};
use crate::diag::{Diagnostic, Diagnostics, Severity, code};
use crate::ledger::{Ledger, Standing};
use crate::manifest::{Kind, Loaded, ValidSubset};
use crate::model::fleet::HeldDocuments;
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::outcome::RunStatus;
use crate::plan::{Plan, Refusal, Subject};
use crate::prepare::{Preparation, diagnose, load_valid, prepare, read_ledger};
use crate::repo::FleetTree;

/// Why a plan with the job cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Of the diagnostic, such as `FF605`.
    pub code: &'static str,
    pub detail: String,
    pub help: Option<String>,
}

/// Returns what the planner says of a job: of `HEAD`, or of the work tree when only that declares it. `None` when neither does, or
/// when it is declared with another run token than the wanted one.
///
/// # Errors
/// The files are invalid, or something cannot be read.
pub(super) fn planned(
    environment: &Environment,
    name: &str,
    run: Option<&str>,
    now: Timestamp,
) -> Result<Option<Why>, OpsError> {
    let workspace = Workspace::open(environment)?;
    let committed = workspace.repo.head().ok().and_then(|head| workspace.load_commit(&head).ok());
    if let Some((tree, loaded)) = committed {
        let (loaded, held) = usable(&tree, loaded);
        if loaded.declared.as_ref().is_some_and(|declared| declared.jobs.contains_key(name)) {
            return of_tree(&workspace, (&tree, &loaded, &held), (name, run), true, now);
        }
    }
    let (tree, loaded) = workspace.load_work_tree()?;
    let (loaded, held) = usable(&tree, loaded);
    of_tree(&workspace, (&tree, &loaded, &held), (name, run), false, now)
}

/// Returns what can be used of a tree that was loaded, and what cannot.
fn usable(tree: &FleetTree<'_>, loaded: Loaded) -> (Loaded, HeldDocuments) {
    if declared_of(&loaded).is_ok() {
        return (loaded, HeldDocuments::default());
    }
    let ValidSubset { loaded, held } = load_valid(tree);
    (loaded, held)
}

fn of_tree(
    workspace: &Workspace,
    (tree, loaded, held): (&FleetTree<'_>, &Loaded, &HeldDocuments),
    (name, run): (&str, Option<&str>),
    is_committed: bool,
    now: Timestamp,
) -> Result<Option<Why>, OpsError> {
    let invalid = || OpsError::Invalid(Box::new(findings_of(loaded, Diagnostics::new())));
    let declared = loaded.declared.as_ref().ok_or_else(invalid)?;
    let Some(job) = declared.jobs.get(name).filter(|job| run.is_none_or(|run| job.run.as_str() == run)) else {
        // It may be what cannot be read.
        let is_held = held.is_partial || held.of_kind(Kind::Job.as_str()).any(|(held, _)| held.as_str() == name);
        return if is_held { Err(invalid()) } else { Ok(None) };
    };
    let branch = workspace.repo.results(&declared.fleet.results.branch);
    let mut registry = workspace.open_for_reading(&declared.fleet)?;
    let ledger = read_ledger(&branch, &registry, declared)?;
    let preparation = Preparation {
        at_work: None,
        counts_scheduled: false,
        repo: &workspace.repo,
        loaded,
        declared,
        tree,
        branch: &branch,
        ledger: &ledger,
        held,
        now,
    };
    let (plan, staged, diagnostics) = prepare(&preparation, &mut registry)?;
    let own = diagnose(&own_part(&plan, &job.name), &preparation, &[]);
    let source = loaded.spans.span(&job.name, "/spec/target/failedOf");
    let is_own = |item: &Diagnostic| {
        item.severity == Severity::Error
            && (own.iter().any(|one| one == item) || item.code == code::SOURCE_NOT_ENDED && item.span == source)
    };
    let Findings { diagnostics: all, .. } = findings_of(loaded, diagnostics);
    drop(staged);
    let mut causes = vec![decision(&plan, job, is_committed)];
    causes.extend(
        job.after.iter().filter_map(|before| predecessor(before, &ledger, declared.jobs.get(before).map(Arc::as_ref))),
    );
    causes.extend(all.sorted().into_iter().filter(|item| is_own(item)).map(refused));
    let others = errors(&all) - all.sorted().into_iter().filter(|item| is_own(item)).count();
    if others > 0 {
        causes.push(Cause::OthersRefused { errors: others as u64 });
    }
    let key = (job.name.clone(), job.run.clone());
    let status = ledger.records.get(&key).map(|record| record.status);
    Ok(Some(Why { job: job.name.clone(), run: job.run.clone(), status, causes }))
}

fn decision(plan: &Plan, job: &Job, is_committed: bool) -> Cause {
    let subject = Subject::Job(job.name.clone());
    let is_it = |change: &&crate::plan::Change| change.subject == subject && change.run.as_ref() == Some(&job.run);
    let change = plan.changes.iter().find(is_it).expect("a plan says something of every declared job");
    Cause::Planned {
        action: change.action,
        reason: change.reason.clone(),
        devices: change.targets.as_ref().map(|targets| targets.count),
        is_committed,
    }
}

/// Returns a job that must have completed first and has not.
fn predecessor(name: &Name, ledger: &Ledger, declared: Option<&Job>) -> Option<Cause> {
    let Some(job) = declared else {
        let before = Predecessor { job: name.clone(), run: None, status: None, counts: None };
        return Some(Cause::After(before));
    };
    let (status, counts) = match ledger.standing(name, &job.run) {
        Standing::Ended(_, record) if record.status == RunStatus::Completed => return None,
        Standing::Ended(_, record) => (Some(record.status), Some(record.counts)),
        Standing::Open(_, open) => (Some(open.status), None),
        Standing::JournalLost(_) | Standing::Unclaimed => (None, None),
    };
    Some(Cause::After(Predecessor { job: name.clone(), run: Some(job.run.clone()), status, counts }))
}

/// Returns the plan with only the refusals of one job.
fn own_part(plan: &Plan, name: &Name) -> Plan {
    let mut part = plan.clone();
    part.notices.clear();
    part.refusals.retain(|refusal| match refusal {
        Refusal::EditedRun { job, .. }
        | Refusal::Renamed { job, .. }
        | Refusal::RenamedEarly { job, .. }
        | Refusal::Unexpected { job, .. }
        | Refusal::FitsNone { job, .. }
        | Refusal::TooManyBatches { job, .. } => job == name,
        Refusal::Conflict(conflict) => conflict.left == *name || conflict.right == *name,
        Refusal::NothingImported { .. } | Refusal::UnexpectedImport { .. } => false,
    });
    part
}

fn refused(item: &Diagnostic) -> Cause {
    Cause::Refused(Refused { code: item.code.0, detail: item.detail.clone(), help: item.help.clone() })
}

fn errors(diagnostics: &Diagnostics) -> usize {
    diagnostics.counts().0
}
