//! What the planner says of a job that was never claimed, or whose journal is gone: nothing recorded explains it.

use std::sync::Arc;

use jiff::Timestamp;

use super::cause::{Cause, Predecessor, Refused, Why};
use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::{Diagnostic, Diagnostics, Severity, code};
use crate::ledger::{Ledger, Standing};
use crate::model::access::Sight;
use crate::model::id::Name;
use crate::model::job::{Job, Left};
use crate::model::kind::Kind;
use crate::model::outcome::RunStatus;
use crate::plan::{Plan, Subject};
use crate::prepare::{Files, OnError, Planned, Purpose, TreeChoice, View};

/// Returns what the planner says of a job: of `HEAD`, or of the work tree when only that declares it. `None` when
/// neither does, or when it is declared with another run token than the wanted one.
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
    if let Ok(files) = Files::read(&workspace, TreeChoice::Head, OnError::Hold)
        && files.declared.as_ref().is_some_and(|declared| declared.jobs.contains_key(name))
    {
        return of_files(&workspace, files, (name, run), (true, &environment.sight), now);
    }
    let files = Files::read(&workspace, TreeChoice::WorkTree, OnError::Hold)?;
    of_files(&workspace, files, (name, run), (false, &environment.sight), now)
}

fn of_files(
    workspace: &Workspace,
    files: Files<'_>,
    (name, run): (&str, Option<&str>),
    (is_committed, sight): (bool, &Sight),
    now: Timestamp,
) -> Result<Option<Why>, OpsError> {
    let declared = files.usable()?;
    let shown = |job: &&Arc<Job>| sight.has(declared.path_of(job.organization.as_ref()));
    let job = declared.jobs.get(name).filter(shown);
    let Some(job) = job.filter(|job| run.is_none_or(|run| job.run.as_str() == run)) else {
        // It may be what cannot be read.
        return if sight.is_whole() && files.may_hold(Kind::Job, name) {
            Err(files.invalid().into())
        } else {
            Ok(None)
        };
    };
    let job = Arc::clone(job);
    let mut view = View::of_files(workspace, files)?;
    let Planned { plan, diagnostics, .. } = view.plan(Purpose::Show, now)?;
    let (declared, ledger) = (&view.declared, &view.ledger);
    let own = view.diagnose(&own_part(&plan, &job.name));
    let spans = &view.files.loaded.spans;
    let sources =
        [Left::Failed, Left::Pending].map(|left| spans.span(&job.name, &format!("/spec/target/{}", left.field())));
    let is_own = |item: &Diagnostic| {
        item.severity == Severity::Error
            && (own.iter().any(|one| one == item)
                || view.is_refused_by_policy(&job.name, item)
                || item.code == code::SOURCE_NOT_ENDED && sources.contains(&item.span))
    };
    let Findings { diagnostics: all, .. } = view.findings(diagnostics);
    let mut causes = vec![decision(&plan, &job, is_committed)];
    causes.extend(
        job.after.iter().filter_map(|before| predecessor(before, ledger, declared.jobs.get(before).map(Arc::as_ref))),
    );
    causes.extend(all.sorted().into_iter().filter(|item| is_own(item)).map(refused));
    let others = errors(&all) - all.sorted().into_iter().filter(|item| is_own(item)).count();
    if others > 0 {
        causes.push(Cause::OthersRefused { errors: others as u64 });
    }
    let key = (job.name.clone(), job.run.clone());
    let status = ledger.records.get(&key).map(|record| record.status);
    Ok(Some(Why { job: job.name.clone(), run: job.run.clone(), status, word: status.map(RunStatus::as_str), causes }))
}

fn decision(plan: &Plan, job: &Job, is_committed: bool) -> Cause {
    let subject = Subject::Job(job.name.clone());
    let is_it =
        |change: &&crate::plan::PlannedChange| change.subject == subject && change.run.as_ref() == Some(&job.run);
    let change = plan.changes.iter().find(is_it).expect("a plan says something of every declared job");
    Cause::Planned {
        action: change.action(),
        reason: change.reason.clone(),
        devices: change.targets().map(|targets| targets.count),
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
    part.refusals.retain(|refusal| refusal.is_about(name));
    part
}

fn refused(item: &Diagnostic) -> Cause {
    Cause::Refused(Refused { code: item.code.0, detail: item.detail.clone(), help: item.help.clone() })
}

fn errors(diagnostics: &Diagnostics) -> usize {
    diagnostics.counts().0
}
