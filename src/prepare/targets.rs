//! What a plan warns about in the targets of the jobs that it runs, and of the schedules that it counted: what only the registry can tell.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::PrepareError;
use super::diagnose::devices_of;
use super::observe::{Preparation, selection_of};
use crate::diag::{Diagnostic, Diagnostics, Span, code};
use crate::manifest::Kind;
use crate::model::fleet::Declared;
use crate::model::job::{Job, Selector};
use crate::model::limits;
use crate::plan::{Plan, Subject};
use crate::query::{self, Query};
use crate::registry::{DeviceFilter, Registry, Request, Selection, Touched};

/// Returns the warnings about the targets of a plan's runs and schedules.
///
/// # Errors
/// The registry or the repository cannot be read.
pub fn warnings(plan: &Plan, preparation: &Preparation<'_>, registry: &Registry) -> Result<Diagnostics, PrepareError> {
    let mut diagnostics = Diagnostics::new();
    let mut fleet_size = None;
    let mut seen = BTreeSet::new();
    for (job, count, is_deferred) in jobs_of(plan, preparation.declared) {
        let Some((condition, span)) = condition_of(&job, preparation) else { continue };
        for diagnostic in of_lacks(&job, &condition, span, preparation, registry)? {
            // Several jobs of a group have its condition.
            if seen.insert((diagnostic.span, diagnostic.detail.clone())) {
                diagnostics.push(diagnostic);
            }
        }
        let is_meant = condition.is_all() || job.target.expect.is_some() || is_deferred;
        if count < 2 || is_meant {
            continue;
        }
        let all = match fleet_size {
            Some(all) => all,
            None => *fleet_size.insert(registry.count_devices(&DeviceFilter::default())?),
        };
        if count == all {
            let kind = if preparation.declared.schedules.contains_key(&job.name) { "Schedule" } else { "Job" };
            let detail = format!("{kind} `{}` selects all {} of the fleet.", job.name, devices_of(all));
            let help = "If that is meant, write `query: \"*\"`, or give the number in `expect`.".to_string();
            let span = preparation.loaded.spans.span(&job.name, "/spec/target");
            diagnostics.push(Diagnostic::new(code::WHOLE_FLEET, span, detail).with_help(help));
        }
    }
    Ok(diagnostics)
}

/// Returns the jobs that a plan runs and those of the schedules that it counted, with their numbers of devices; true for those whose target
/// will be another one.
fn jobs_of<'a>(plan: &'a Plan, declared: &'a Declared) -> impl Iterator<Item = (Cow<'a, Job>, u64, bool)> {
    let runs = plan.runs.iter().filter_map(|run| {
        let job = declared.jobs.get(&run.job)?;
        Some((Cow::Borrowed(&**job), run.ids.len() as u64, run.is_deferred))
    });
    let scheduled = plan.changes.iter().filter_map(|change| {
        let (Subject::Schedule(name), Some(upcoming)) = (&change.subject, &change.upcoming) else { return None };
        let job = declared.schedules.get(name)?.job_at(plan.observed_at);
        Some((Cow::Owned(job), upcoming.devices?, false))
    });
    runs.chain(scheduled)
}

/// Returns the condition of a job or of its group and where it is written; `None` when it has none.
fn condition_of(job: &Job, preparation: &Preparation<'_>) -> Option<(Query, Option<Span>)> {
    let spans = &preparation.loaded.spans;
    let (text, span) = match &job.target.selector {
        Selector::Query(text) => (text, spans.span(&job.name, "/spec/target/query")),
        Selector::Group(name) => {
            let group = preparation.declared.groups.get(name)?;
            (&group.query, spans.span_of(Kind::DeviceGroup, name, "/spec/query"))
        }
        Selector::Devices(_) | Selector::FailedOf { .. } => return None,
    };
    Some((query::parse(text).expect("queries were checked with the files"), span))
}

fn of_lacks(
    job: &Job,
    condition: &Query,
    span: Option<Span>,
    preparation: &Preparation<'_>,
    registry: &Registry,
) -> Result<Vec<Diagnostic>, PrepareError> {
    let mut found = Vec::new();
    for lack in query::lacks(condition).into_iter().take(limits::NEGATED_PATHS_MAX) {
        // Within the same organization and of the same template.
        let Some((selection, within)) = selection_of(preparation, registry, job, &mut Diagnostics::new())? else {
            continue;
        };
        let Selection::Matching { template, .. } = selection else { continue };
        let matching = |conditions: Vec<Query>| {
            let selection = Selection::Matching { template: template.clone(), conditions };
            let (within, touched, mismatching) = (within.clone(), Touched::Nothing, BTreeSet::new());
            registry.count_matching(&Request { selection, within, touched, mismatching })
        };
        let mut count = matching(lack.conditions.clone())?;
        if count > 0 {
            // Some are selected all the same, by the other side of an OR.
            let selected = lack.conditions.into_iter().chain([condition.clone()]).collect();
            count -= matching(selected)?;
        }
        if count == 0 {
            continue;
        }
        let path = &lack.path;
        let verb = if count == 1 { "lacks" } else { "lack" };
        let detail = format!(
            "{} {verb} `{path}`, which this condition has under `!=`, NOT or NIN: where it is undefined, neither the comparison nor \
             its opposite selects.",
            devices_of(count)
        );
        let help = format!(
            "Write `NOT is_defined({path}) OR …` to select them too, or `is_defined({path}) AND …` to leave them out on purpose."
        );
        found.push(Diagnostic::new(code::NEGATED_PATH, span, detail).with_help(help));
    }
    Ok(found)
}
