//! How many devices the schedules of a plan would select now: for their reviewer, long before they are due.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::preparation::Preparation;
use super::selection::selection_of;
use super::templates::{Templates, schedule_fits_some};
use crate::diag::Diagnostics;
use crate::ledger::Ledger;
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::limits;
use crate::model::observation::Mismatch;
use crate::model::schedule::Schedule;
use crate::query;
use crate::registry::{Registry, Request, Selection};
use crate::schedule::Occurrences;

/// Returns the number of each, and in `passed_over` the answers to its questions: those of schedules that have never
/// run and then of those that are due soonest, up to [`limits::SCHEDULES_COUNTED_MAX`] of them. `diagnostics` gets what
/// does not fit their devices.
///
/// # Errors
/// The registry or the repository cannot be read.
pub(super) fn counts(
    preparation: &Preparation<'_>,
    registry: &Registry,
    (templates, diagnostics): (&mut Templates<'_>, &mut Diagnostics),
    passed_over: &mut BTreeMap<Name, Vec<u64>>,
) -> Result<BTreeMap<Name, u64>, PrepareError> {
    let ledger = preparation.ledger;
    let mut due: Vec<_> = preparation.declared.schedules.values().filter(|schedule| !schedule.is_suspended).collect();
    let next = |schedule: &_| Occurrences::after(schedule, preparation.now).next();
    due.retain(|schedule| next(schedule).is_some());
    due.sort_by_cached_key(|schedule| {
        let has_run = has_run(schedule, ledger);
        (has_run, next(schedule).map(|occurrence| occurrence.instant))
    });
    let mut counts = BTreeMap::new();
    for schedule in due.into_iter().take(limits::SCHEDULES_COUNTED_MAX) {
        let job: Job = schedule.job_at(preparation.now);
        // What is wrong with the target is said when it is due.
        if let Some((selection, within)) = selection_of(preparation, registry, &job, &mut Diagnostics::new())? {
            let questions = super::targets::questions(&job, preparation);
            let request = Request { passed_over: questions, ..Request::new(selection, within) };
            let tally = registry.devices().count(&request)?;
            let mismatched = mismatched(&request, templates.mismatching(&job), registry)?;
            if !mismatched.is_empty() {
                let found = schedule_fits_some(&job, tally.selected, &mismatched, preparation);
                diagnostics.push(found);
            }
            counts.insert(schedule.name.clone(), tally.selected);
            passed_over.insert(schedule.name.clone(), tally.passed_over);
        }
    }
    Ok(counts)
}

/// Returns how many devices of a selection by conditions have each of these templates.
fn mismatched(
    request: &Request,
    templates: BTreeSet<Name>,
    registry: &Registry,
) -> Result<BTreeMap<Mismatch, u64>, PrepareError> {
    let Selection::Matching { template: wanted, conditions } = &request.selection else { return Ok(BTreeMap::new()) };
    let mut possible = templates.iter().filter(|name| wanted.as_ref().is_none_or(|wanted| wanted == name.as_str()));
    let words: Vec<String> = possible.by_ref().map(|name| format!("'{name}'")).collect();
    // Most schedules fit all of their devices: one count says so.
    if let Ok(has_one) = query::parse(&format!("template IN [{}]", words.join(", "))) {
        let conditions = conditions.iter().cloned().chain([has_one]).collect();
        let selection = Selection::Matching { template: wanted.clone(), conditions };
        if registry.devices().count(&Request::new(selection, request.within.clone()))?.selected == 0 {
            return Ok(BTreeMap::new());
        }
    } else if words.is_empty() {
        return Ok(BTreeMap::new());
    }
    let request = Request { mismatching: templates, passed_over: Vec::new(), ..request.clone() };
    let observation = registry.devices().observe(&request)?;
    let mut devices = vec![0_u64; observation.table.len()];
    observation.before.iter().for_each(|index| devices[*index as usize] += 1);
    let mut found = BTreeMap::new();
    for (before, devices) in observation.table.iter().zip(devices).filter(|(_, devices)| *devices > 0) {
        if let Some(mismatch) = &before.mismatch {
            *found.entry(mismatch.clone()).or_default() += devices;
        }
    }
    Ok(found)
}

/// Returns true when an occurrence was claimed under the name of a schedule, or under its previous one.
fn has_run(schedule: &Schedule, ledger: &Ledger) -> bool {
    std::iter::once(&schedule.name)
        .chain(&schedule.previous_names)
        .any(|name| ledger.claimed(name).any(|claim| schedule.owns(name, &claim.run)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::Claim;
    use crate::manifest::scheduled_job;
    use crate::model::digest::Digest;
    use crate::model::id::RunToken;
    use crate::model::schedule::{Missed, Overlap, Recurrence};

    fn schedule(name: &str) -> Schedule {
        Schedule {
            name: Name::parse(name).unwrap(),
            previous_names: Vec::new(),
            labels: Default::default(),
            start: "2026-12-01T02:30:00".parse().unwrap(),
            time_zone: jiff::tz::TimeZone::UTC,
            time_zone_name: "UTC".to_string(),
            recurrence: Recurrence::Daily,
            end: None,
            is_suspended: false,
            missed: Missed::default(),
            overlap: Overlap::Skip,
            job: scheduled_job(r#"{"target": {"query": "*"}, "action": {"command": {"name": "reboot"}}}"#).unwrap(),
            file: "nightly.yaml".to_string(),
        }
    }

    fn ledger(claims: impl Iterator<Item = (String, &'static str)>) -> Ledger {
        let claim = |(job, run): (String, &str)| {
            let (job, run) = (Name::parse(&job).unwrap(), RunToken::parse(run).unwrap());
            let claim = Claim {
                job: job.clone(),
                run: run.clone(),
                spec_digest: Digest::of_bytes(b"spec"),
                total: 1,
                targets_digest: Digest::of_bytes(b"targets"),
                source_commit: String::new(),
                plan_id: String::new(),
                claimed_at: jiff::Timestamp::UNIX_EPOCH,
            };
            ((job, run), claim)
        };
        Ledger { claims: Arc::new(claims.map(claim).collect()), ..Ledger::default() }
    }

    #[test]
    fn a_schedule_has_run_when_an_occurrence_was_claimed_under_a_name_of_its() {
        let claims =
            [("a", "20261201T023000Z"), ("b", "1"), ("b-c", "20261201T023000Z"), ("d", "1"), ("d", "20261201T023000Z")];
        let ledger = ledger(claims.into_iter().map(|(job, run)| (job.to_string(), run)));
        let check = |name: &str, previous: Option<&str>, expect: bool| {
            let previous_names = previous.into_iter().map(|name| Name::parse(name).unwrap()).collect();
            assert_eq!(has_run(&Schedule { previous_names, ..schedule(name) }, &ledger), expect, "{name}");
        };
        check("a", None, true);
        check("b", None, false);
        check("c", None, false);
        check("c", Some("b"), false);
        check("c", Some("a"), true);
        check("d", None, true);
        check("e", None, false);
    }
}
