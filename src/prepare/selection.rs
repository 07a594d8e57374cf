//! The devices that a job means.

use std::collections::BTreeMap;

use super::preparation::Preparation;
use super::{PrepareError, devices_of_run};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::ledger::{RunCause, RunKey, Standing};
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{DevicesOfRun, Job, Left, Selector};
use crate::model::outcome::{Reason, RunStatus};
use crate::query::{self, Query};
use crate::registry::{Registry, Selection};

/// Returns a condition of a valid document as a registry looks it up.
pub fn query_of(text: &str, declared: &Declared) -> Query {
    query::with_models(&query::parse(text).expect("queries were checked with the files"), &models_of(declared))
}

/// Returns the ids of the interfaces of the declared templates, by the names of these.
pub fn models_of(declared: &Declared) -> BTreeMap<String, String> {
    declared.templates.values().map(|one| (one.name.to_string(), one.model_id.clone())).collect()
}

/// Returns the devices that a job means: a selection, and the organizations that bound it. `None` when its target
/// cannot be told, which is in the diagnostics then unless what it names is not declared.
pub(super) fn selection_of(
    preparation: &Preparation<'_>,
    registry: &Registry,
    job: &Job,
    diagnostics: &mut Diagnostics,
) -> Result<Option<(Selection, Vec<String>)>, PrepareError> {
    let declared = preparation.declared;
    let mut within = Vec::new();
    if let Some(name) = &job.organization {
        // Only an occurrence that was claimed may have outlived what it names. Without its bounds it would mean others.
        let Some(organization) = declared.organizations.get(name) else { return Ok(None) };
        within.push(organization.path.clone());
    }
    let parse = |text: &str| query_of(text, declared);
    let selection = match &job.target.selector {
        Selector::Query(text) => Selection::Matching { template: None, conditions: vec![parse(text)] },
        Selector::Group(name) => {
            let Some(group) = declared.groups.get(name) else { return Ok(None) };
            within.extend(group.organization.clone());
            let template = group.template.as_ref().map(Name::to_string);
            Selection::Matching { template, conditions: vec![parse(&group.query)] }
        }
        Selector::Devices(ids) => Selection::Listed(ids.iter().map(ToString::to_string).collect()),
        Selector::OfRun(wanted) => {
            let DevicesOfRun { job: other, run, left, .. } = wanted;
            let other = &preparation.ledger.claimed_as(other, run, declared.previous_names(other));
            let is_over = match preparation.ledger.standing(other, run) {
                Standing::Ended(..) => true,
                Standing::Open(_, open) => *left == Left::Pending && open.status == RunStatus::Stopped,
                Standing::Unclaimed | Standing::JournalLost(_) => false,
            };
            if !is_over {
                if job.after.contains(&wanted.job) {
                    // It is resolved when the other job has ended.
                    return Ok(None);
                }
                let span = preparation.loaded.spans.span(&job.name, &format!("/spec/target/{}", left.field()));
                let detail = format!(
                    "Job `{}` takes the {} devices of job `{other}` run {run}, which has not ended.",
                    job.name,
                    left.word()
                );
                let help = format!("Add `after: [{other}]`, or wait until it has ended.");
                diagnostics.push(Diagnostic::new(code::SOURCE_NOT_ENDED, span, detail).with_help(help));
                return Ok(None);
            }
            diagnostics.extend(nameless_devices(preparation, job, wanted, other));
            let key = RunKey { fleet: declared.fleet.name.clone(), job: other.clone(), run: run.clone() };
            Selection::Listed(devices_of_run(preparation.branch, registry, &key, wanted)?)
        }
    };
    Ok(Some((selection, within)))
}

/// Warns of devices that a job would take and cannot: a run that was closed without its journal counts devices of which
/// nobody knows the ids.
fn nameless_devices(preparation: &Preparation<'_>, job: &Job, wanted: &DevicesOfRun, other: &Name) -> Diagnostics {
    let mut found = Diagnostics::new();
    let Standing::Ended(_, record) = preparation.ledger.standing(other, &wanted.run) else { return found };
    let Some(RunCause::JournalLost { unknown, .. }) = record.cause else { return found };
    if unknown == 0 || !wanted.takes(Reason::OutcomeUnknown) {
        return found;
    }
    let devices = if unknown == 1 { "1 device".to_string() } else { format!("{unknown} devices") };
    let detail = format!(
        "Job `{}` takes the failed devices of job `{other}` run {}, and {devices} of it have no row: the registry that \
         knew which they are is gone. The job does not touch them.",
        job.name, wanted.run
    );
    let help = format!(
        "To reach them too, give job `{other}` a new `run` token, which runs it on all its devices. They may have had \
         its command already."
    );
    let span = preparation.loaded.spans.span(&job.name, &format!("/spec/target/{}", wanted.left.field()));
    found.push(Diagnostic::new(code::NAMELESS_DEVICES, span, detail).with_help(help));
    found
}
