//! Documents that are held because their plan is refused, so that the rest goes on.

use std::collections::BTreeMap;

use crate::diag::{Diagnostics, Severity};
use crate::manifest::{Loaded, error_places, hold_at};
use crate::model::fleet::{Declared, HeldDocuments, Hold};
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::kind::Kind;
use crate::plan::Agenda;

/// Says of occurrences that nothing started why that was, when the last plan has refused them.
pub(super) fn tell_refusals(agenda: &mut Agenda, refused: &HeldDocuments) {
    for missed in agenda.missed.iter_mut().filter(|missed| missed.is_late) {
        if let Some(why) = refused.why(Kind::Schedule, &missed.job.name) {
            missed.reason.push_str(&format!(" It was refused: {why}"));
        }
    }
}

/// Returns true for an occurrence that is due and not yet planned for.
pub(super) fn is_fresh(job: &Job, declared: &Declared, held: &HeldDocuments) -> bool {
    !declared.jobs.contains_key(&job.name) && held.why(Kind::Schedule, &job.name).is_none()
}

/// Returns the documents that the errors of a plan are about, each with the first sentence that says why.
pub(super) fn refused(loaded: &Loaded, diagnostics: &Diagnostics) -> BTreeMap<(Kind, Name), Hold> {
    let mut refused = BTreeMap::new();
    for error in diagnostics.iter().filter(|one| one.severity == Severity::Error) {
        for place in error_places(error) {
            if let Some((kind, name)) = loaded.spans.document_at(place) {
                refused.entry((kind, name.clone())).or_insert_with(|| hold_at(error, place, &loaded.sources));
            }
        }
    }
    refused
}

/// Holds documents and returns how many.
pub(super) fn leave_out(
    refused: BTreeMap<(Kind, Name), Hold>,
    declared: &mut Declared,
    held: &mut HeldDocuments,
) -> usize {
    let mut count = 0;
    for ((kind, name), hold) in refused {
        let is_declared = match kind {
            // Only the occurrence that is due: the others of the schedule stay due at their time.
            Kind::Job => declared.jobs.remove(&name).is_some(),
            Kind::DeviceImport => declared.imports.remove(&name).is_some(),
            Kind::Schedule => declared.jobs.remove(&name).is_some() || declared.schedules.remove(&name).is_some(),
            // A plan refuses what is to be done, and that is the three above.
            Kind::Fleet
            | Kind::Organization
            | Kind::DeviceTemplate
            | Kind::DeviceGroup
            | Kind::EdgeManifest
            | Kind::Policy
            | Kind::Access => false,
        };
        if is_declared {
            held.documents.insert((kind, name), hold);
            count += 1;
        }
    }
    count
}
