//! Checks of a schedule against the other documents, and that it ever runs.

use jiff::tz::TimeZone;

use super::Set;
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::lower::{Doc, Draft};
use crate::model::kind::Kind;
use crate::model::schedule::{Recurrence, Schedule};
use crate::schedule::Occurrences;

/// Reports schedules without a time zone, with the name of a job, with an end that means nothing, and those that never
/// run.
pub fn check(set: &Set) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let fleet = set.docs.iter().find(|doc| doc.kind == Kind::Fleet);
    let of_fleet = fleet.and_then(|doc| doc.root.at("/spec/timeZone"));
    for doc in &set.docs {
        if let Some(Draft::Policy { zoneless, .. }) = &doc.draft
            && of_fleet.is_none()
            && fleet.is_some()
            && set.unread.is_empty()
        {
            zoneless.iter().for_each(|at| diagnostics.push(without_zone(doc, *at)));
        }
        let Some(Draft::Schedule { schedule, has_time_zone, .. }) = &doc.draft else { continue };
        // A Fleet document that could not be read has been reported, and may have a time zone.
        if !has_time_zone && of_fleet.is_none() && fleet.is_some() && set.unread.is_empty() {
            let detail =
                "Neither the schedule nor the fleet has a `timeZone`, so nobody knows which clock `start` means.";
            let help =
                "Add it here or to the Fleet document, such as `timeZone: Europe/Amsterdam`, or `timeZone: UTC`.";
            let diagnostic = Diagnostic::new(code::TIME_ZONE_MISSING, doc.span("/spec/start"), detail);
            diagnostics.push(diagnostic.with_help(help));
        }
        if let Some(job) = set.find(Kind::Job, schedule.name.as_str()) {
            let detail = format!(
                "There is a job named `{}`, and the occurrences of a schedule are runs of a job of its name: their \
                    results would \
                 have one place.",
                schedule.name
            );
            let diagnostic = Diagnostic::new(code::SHARED_NAME, doc.span("/metadata/name"), detail);
            diagnostics.push(diagnostic.with_label(job.span("/metadata/name"), "the job"));
        }
        let of_fleet = of_fleet.and_then(|node| node.as_str()).filter(|_| !has_time_zone);
        diagnostics.extend(running(doc, schedule, of_fleet));
    }
    diagnostics
}

fn without_zone(doc: &Doc, freeze: usize) -> Diagnostic {
    let detail = "Neither the freeze nor the fleet has a `timeZone`, so nobody knows which clock is meant.";
    let help = "Add it here or to the Fleet document, such as `timeZone: Europe/Amsterdam`, or `timeZone: UTC`.";
    Diagnostic::new(code::TIME_ZONE_MISSING, doc.span(&format!("/spec/freeze/{freeze}")), detail).with_help(help)
}

/// Reports an end that has no effect, and a schedule without any occurrence. A schedule whose values have errors is not
/// checked: they are defaults here.
fn running(doc: &Doc, schedule: &Schedule, zone_of_fleet: Option<&str>) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    if schedule.end.is_none() {
        return diagnostics;
    }
    if schedule.recurrence == Recurrence::Once {
        let detail = "What runs once has ended then, so `end` has no effect.";
        diagnostics.push(Diagnostic::new(code::NO_EFFECT, doc.key_span("/spec/end"), detail));
        return diagnostics;
    }
    let mut schedule = schedule.clone();
    if let Some(zone) = zone_of_fleet.and_then(|name| TimeZone::get(name).ok()) {
        schedule.time_zone = zone;
    }
    let ends_before_it_starts =
        matches!(schedule.end, Some(crate::model::schedule::End::Until(date)) if date < schedule.start.date());
    if !ends_before_it_starts && Occurrences::all(&schedule).next().is_none() {
        let detail = "No day from its start to its end is one of its weekdays, so this schedule never runs.";
        diagnostics.push(Diagnostic::new(code::NO_OCCURRENCE, doc.span("/spec/end/until"), detail));
    }
    diagnostics
}
