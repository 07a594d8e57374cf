//! Fields of a job's delivery that do nothing for its action.

use super::Set;
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::lower::{DeclaredWork, Draft};
use crate::model::delivery::{Confirm, OfflinePolicy};
use crate::model::job::Action;

/// Warns of fields that the author may rely on and that do nothing. A field that has its default is not reported.
pub fn check(set: &Set) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    for doc in &set.docs {
        let Some(work) = doc.draft.as_ref().and_then(Draft::work) else { continue };
        for (pointer, detail) in without_effect(&work) {
            let pointer = format!("{}/delivery/{pointer}", work.spec);
            if doc.root.at(&pointer).is_some() {
                diagnostics.push(Diagnostic::new(code::NO_EFFECT, doc.span(&pointer), detail));
            }
        }
    }
    diagnostics
}

/// Returns the fields below `delivery` without effect, and why.
fn without_effect(work: &DeclaredWork<'_>) -> Vec<(&'static str, String)> {
    let DeclaredWork { action, delivery, .. } = work;
    let is_idempotent = match action {
        Action::Command(command) => Some(command.idempotent),
        _ => None,
    };
    let mut found = Vec::new();
    if delivery.confirm == Confirm::Acknowledged && action.desired().is_none() {
        found.push(("confirm", format!("Only desired properties are acknowledged; a `{}` is not.", action.word())));
    }
    if delivery.offline == OfflinePolicy::Wait && is_idempotent.is_none() {
        let detail = "Only commands wait for a device to come online; anything else is kept in the registry, whether \
            or not it is.";
        found.push(("offline", detail.to_string()));
    }
    if delivery.retry.attempts > 0 {
        match is_idempotent {
            Some(true) => {}
            Some(false) => {
                let detail =
                    "A command is sent again only when it says `idempotent: true`: the device may have executed it.";
                found.push(("retry/attempts", detail.to_string()));
            }
            None => {
                let detail = "Only commands time out and are tried again; this is written to the registry at once.";
                found.push(("retry/attempts", detail.to_string()));
            }
        }
    }
    found
}
