//! Every reference leads to a document.

use super::Set;
use super::organizations::Paths;
use crate::diag::{Diagnostic, Diagnostics, SourceMap, code, nearest, shown};
use crate::manifest::lower::{Doc, Draft, Reference};
use crate::model::kind::Kind;

/// Reports every reference to nothing.
pub fn check(set: &Set, paths: &Paths, sources: &SourceMap) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    for doc in &set.docs {
        for reference in &doc.references {
            if !leads_somewhere(reference, set, paths) && !may_be_unread(reference, set, sources) {
                diagnostics.push(dangling(doc, reference, set, paths));
            }
        }
    }
    diagnostics
}

fn leads_somewhere(reference: &Reference, set: &Set, paths: &Paths) -> bool {
    match reference.kind {
        Kind::Organization => paths.resolve(&reference.text).is_some(),
        Kind::Fleet
        | Kind::DeviceTemplate
        | Kind::DeviceGroup
        | Kind::EdgeManifest
        | Kind::DeviceImport
        | Kind::Job
        | Kind::Schedule
        | Kind::Policy
        | Kind::Access => {
            let is_there = |kind| set.find(kind, &reference.text).is_some();
            // Runs of a job that was renamed are found by each name that it had.
            let was_there = || {
                let previous = set.docs.iter().filter_map(|doc| doc.draft.as_ref()).flat_map(Draft::previous_names);
                previous.into_iter().any(|name| name.as_str() == reference.text)
            };
            is_there(reference.kind) || (reference.allows_schedule && (is_there(Kind::Schedule) || was_there()))
        }
    }
}

/// Returns true when a file that could not be read may declare it: one mistake would be reported twice.
fn may_be_unread(reference: &Reference, set: &Set, sources: &SourceMap) -> bool {
    let last = reference.text.rsplit('/').next().unwrap_or_default();
    set.unread.iter().any(|file| sources.text(*file).contains(last))
}

fn dangling(doc: &Doc, reference: &Reference, set: &Set, paths: &Paths) -> Diagnostic {
    let Reference { pointer, kind, text, .. } = reference;
    if *kind == Kind::Job && set.find(Kind::Schedule, text).is_some() {
        let detail = format!("`{}` is a schedule: it has runs again and again, and never completes.", shown(text));
        return Diagnostic::new(code::UNKNOWN_REFERENCE, doc.span(pointer), detail).with_help("Name a job.");
    }
    let detail = format!("There is no {} named `{}`.", kind.noun(), shown(text));
    let near = match kind {
        Kind::Organization => nearest(text, paths.all().chain(set.names(*kind))),
        Kind::Fleet
        | Kind::DeviceTemplate
        | Kind::DeviceGroup
        | Kind::EdgeManifest
        | Kind::DeviceImport
        | Kind::Job
        | Kind::Schedule
        | Kind::Policy
        | Kind::Access => nearest(text, others(doc, set, *kind)),
    };
    let help = match near {
        Some(near) => format!("Did you mean `{near}`?"),
        None if others(doc, set, *kind).next().is_none() => {
            format!("Declare it: a document with `kind: {}`.", kind.as_str())
        }
        None => format!("Declare it, or use one of: {}.", some_names(doc, set, *kind)),
    };
    Diagnostic::new(code::UNKNOWN_REFERENCE, doc.span(pointer), detail).with_help(help)
}

/// Returns the names of a kind without that of the document itself: a job that waits for itself never starts.
fn others<'a>(doc: &'a Doc, set: &'a Set, kind: Kind) -> impl Iterator<Item = &'a str> {
    let own = doc.written_name.as_deref().filter(|_| kind == doc.kind);
    set.names(kind).filter(move |name| Some(*name) != own)
}

fn some_names(doc: &Doc, set: &Set, kind: Kind) -> String {
    const SHOWN: usize = 5;
    let count = others(doc, set, kind).count();
    let names: Vec<String> = others(doc, set, kind).take(SHOWN).map(|name| format!("`{}`", shown(name))).collect();
    let more = if count > SHOWN { format!(", … {} more", count - SHOWN) } else { String::new() };
    format!("{}{more}", names.join(", "))
}
