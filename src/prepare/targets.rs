//! What a plan warns about in the targets of the jobs that it runs, and of the schedules that it counted: what only the
//! registry can tell.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::preparation::{Preparation, devices_of};
use super::selection::query_of;
use crate::diag::{Diagnostic, Diagnostics, Span, code, nearest, shown};
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Job, Selector};
use crate::model::kind::Kind;
use crate::model::limits;
use crate::plan::{Plan, Subject};
use crate::query::{self, Lack, Query, Root};
use crate::registry::{Registry, Request, Selection};

/// Returns what is asked about the devices that a job does not select: who lacks a property under `!=`, NOT or NIN. One
/// that is selected all the same, by the other side of an OR, does not count.
pub(super) fn questions(job: &Job, preparation: &Preparation<'_>) -> Vec<Vec<Query>> {
    let Some((condition, _)) = condition_of(job, preparation) else { return Vec::new() };
    lacks_of(&condition).map(|lack| lack.conditions).collect()
}

fn lacks_of(condition: &Query) -> impl Iterator<Item = Lack> {
    query::lacks(condition).into_iter().take(limits::NEGATED_PATHS_MAX)
}

/// Returns the warnings about the targets of a plan's runs and schedules; `passed_over` has the answers to the
/// [`questions`] of each.
///
/// # Errors
/// The registry or the repository cannot be read.
pub fn warnings(
    plan: &Plan,
    preparation: &Preparation<'_>,
    passed_over: &BTreeMap<Name, Vec<u64>>,
    registry: &Registry,
) -> Result<Diagnostics, PrepareError> {
    let mut diagnostics = Diagnostics::new();
    let (mut seen, mut nobody) = (BTreeSet::new(), Nobody::default());
    // The number of devices of the fleet, once it was asked for.
    let mut fleet: Option<u64> = None;
    for (job, count, is_deferred) in jobs_of(plan, preparation.declared) {
        let Some((condition, span)) = condition_of(&job, preparation) else { continue };
        let answers = passed_over.get(&job.name).map_or(&[][..], Vec::as_slice);
        for (lack, count) in lacks_of(&condition).zip(answers).filter(|(_, count)| **count > 0) {
            let diagnostic = of_lack(&lack, *count, span);
            // Several jobs of a group have its condition.
            if seen.insert((diagnostic.span, diagnostic.detail.clone())) {
                diagnostics.push(diagnostic);
            }
        }
        // The target of a schedule is resolved when it is due, and its number is told.
        let is_schedule = preparation.declared.schedules.contains_key(&job.name);
        if count == 0 && !is_deferred && !is_schedule {
            let found = nobody.causes(&condition, span, (preparation.declared, registry))?;
            let new = found.into_iter().filter(|one| seen.insert((one.span, one.detail.clone())));
            new.for_each(|one| diagnostics.push(one));
        }
        let is_meant = condition.is_all() || job.target.expect.is_some() || is_deferred;
        if count < 2 || is_meant {
            continue;
        }
        let all = match fleet {
            Some(all) => all,
            None => *fleet.insert(registry.devices().count(&Request::all())?.selected),
        };
        if count == all {
            let kind = if is_schedule { "Schedule" } else { "Job" };
            let detail = format!("{kind} `{}` selects all {} of the fleet.", job.name, devices_of(count));
            let help = "If that is meant, write `query: \"*\"`, or give the number in `expect`.".to_string();
            let span = preparation.loaded.spans.span(&job.name, "/spec/target");
            diagnostics.push(Diagnostic::new(code::WHOLE_FLEET, span, detail).with_help(help));
        }
    }
    Ok(diagnostics)
}

/// Returns the jobs that a plan runs and those of the schedules that it counted, with their numbers of devices; true
/// for those whose target will be another one.
fn jobs_of<'a>(plan: &'a Plan, declared: &'a Declared) -> impl Iterator<Item = (Cow<'a, Job>, u64, bool)> {
    let runs = plan.runs.iter().filter_map(|run| {
        let job = declared.jobs.get(&run.job)?;
        Some((Cow::Borrowed(&**job), run.ids.len() as u64, run.is_deferred))
    });
    let scheduled = plan.changes.iter().filter_map(|change| {
        let (Subject::Schedule(name), Some(upcoming)) = (&change.subject, change.upcoming()) else { return None };
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
        Selector::Devices(_) | Selector::OfRun(_) => return None,
    };
    Some((query_of(text, preparation.declared), span))
}

/// Why conditions select no device.
#[derive(Default)]
struct Nobody {
    /// Whether any device has a property, of those that were asked for: each answer may read every device.
    is_had: BTreeMap<String, bool>,
}

impl Nobody {
    /// Returns why a condition may select nobody: it names what is not declared, or compares what no device has.
    fn causes(
        &mut self,
        condition: &Query,
        span: Option<Span>,
        (declared, registry): (&Declared, &Registry),
    ) -> Result<Vec<Diagnostic>, PrepareError> {
        let mut found = of_unknown_names(condition, span, declared);
        // A registry that has applied no import does not know what jobs wrote and devices reported.
        let is_new = registry.imports().applied()?.is_empty();
        let nobody = if is_new { "No row of an import" } else { "No device" };
        if registry.devices().count(&Request::all())?.selected == 0 {
            return Ok(found);
        }
        for path in query::searched_paths(condition) {
            let path = path.to_string();
            let is_had = match self.is_had.get(&path) {
                Some(is_had) => *is_had,
                None if self.is_had.len() >= limits::PROPERTIES_LOOKED_FOR_MAX => continue,
                None => {
                    let Ok(has_it) = query::parse(&format!("is_defined({path})")) else { continue };
                    let selection = Selection::Matching { template: None, conditions: vec![has_it] };
                    registry.devices().count(&Request::new(selection, Vec::new()))?.selected > 0
                }
            };
            self.is_had.insert(path.clone(), is_had);
            if !is_had {
                let detail = format!("{nobody} has `{path}`, which this condition compares.");
                let help = "Capital and small letters differ. `fleetform device list` lists the devices, and \
                    `fleetform device show ID` what one has.";
                found.push(Diagnostic::new(code::EMPTY_TARGET, span, detail).with_help(help.to_string()));
            }
        }
        Ok(found)
    }
}

/// Returns a warning for each organization and device template that a condition names and that is not declared.
fn of_unknown_names(condition: &Query, span: Option<Span>, declared: &Declared) -> Vec<Diagnostic> {
    let organizations: Vec<&str> = declared.organizations.values().map(|one| one.path.as_str()).collect();
    let templates: Vec<&str> = declared.templates.keys().map(Name::as_str).collect();
    let last = |path: &str| path.rsplit('/').next().map(str::to_string);
    let mut found = Vec::new();
    for (root, noun, known) in [
        (Root::Organization, "organization with the path", &organizations),
        (Root::Template, "device template", &templates),
    ] {
        let unknown = query::compared_texts(condition, root).into_iter().filter(|text| !known.contains(&text.as_str()));
        for text in unknown {
            let detail = format!("There is no {noun} `{}`, which this condition compares.", shown(&text));
            let near = known.iter().copied().find(|path| last(path).is_some_and(|name| name == text));
            let near = near.or_else(|| nearest(&text, known.iter().copied()));
            let mut diagnostic = Diagnostic::new(code::EMPTY_TARGET, span, detail);
            diagnostic.help = near.map(|near| format!("Did you mean `{}`?", shown(near)));
            found.push(diagnostic);
        }
    }
    found
}

fn of_lack(lack: &Lack, count: u64, span: Option<Span>) -> Diagnostic {
    let path = &lack.path;
    let verb = if count == 1 { "lacks" } else { "lack" };
    let detail = format!(
        "{} {verb} `{path}`, which this condition has under `!=`, NOT or NIN: where it is undefined, neither the \
            comparison nor \
         its opposite selects.",
        devices_of(count)
    );
    let help = format!(
        "Write `NOT is_defined({path}) OR …` to select them too, or `is_defined({path}) AND …` to leave them out on \
            purpose."
    );
    Diagnostic::new(code::NEGATED_PATH, span, detail).with_help(help)
}
