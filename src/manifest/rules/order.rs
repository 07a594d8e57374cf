//! No job waits for itself, directly or through others.

use std::collections::{BTreeMap, BTreeSet};

use super::Set;
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::lower::{Doc, Draft};
use crate::model::id::Name;
use crate::model::kind::Kind;

/// Reports every cycle of `after` once, at its first name.
pub fn check(set: &Set) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let mut finished: BTreeSet<&str> = BTreeSet::new();
    for (name, at) in set.by_name.get(&Kind::Job).into_iter().flatten() {
        // Nearly every job waits for none.
        if after_of(&set.docs[*at]).is_empty() {
            continue;
        }
        walk(set, name, &mut finished, &mut diagnostics);
    }
    diagnostics
}

/// Walks what a job waits for, depth first, without recursion: a chain of 100,000 jobs is legal.
fn walk<'a>(set: &'a Set, start: &'a str, finished: &mut BTreeSet<&'a str>, diagnostics: &mut Diagnostics) {
    if finished.contains(start) {
        return;
    }
    let mut chain: Vec<(&str, usize)> = vec![(start, 0)];
    let mut position: BTreeMap<&str, usize> = BTreeMap::from([(start, 0)]);
    while let Some((name, next)) = chain.last_mut() {
        let (name, at) = (*name, *next);
        *next += 1;
        let Some(other) = after(set, name).get(at).map(|other| other.as_str()) else {
            chain.pop();
            position.remove(name);
            finished.insert(name);
            continue;
        };
        if let Some(begin) = position.get(other) {
            report(set, &chain[*begin..], diagnostics);
        } else if !finished.contains(other) && set.find(Kind::Job, other).is_some() {
            position.insert(other, chain.len());
            chain.push((other, 0));
        }
    }
}

fn report(set: &Set, cycle: &[(&str, usize)], diagnostics: &mut Diagnostics) {
    const SHOWN: usize = 6;
    let names: Vec<String> = cycle.iter().map(|(name, _)| format!("`{name}`")).collect();
    let around = if names.len() > SHOWN {
        format!("{} after … after {}", names[..SHOWN].join(" after "), names[0])
    } else {
        format!("{} after {}", names.join(" after "), names[0])
    };
    let Some((first, next)) = cycle.first() else { return };
    let Some(doc) = set.find(Kind::Job, first) else { return };
    let detail = format!("None of these jobs could ever start: {around}.");
    let span = doc.span(&format!("/spec/after/{}", next.saturating_sub(1)));
    diagnostics.push(Diagnostic::new(code::AFTER_CYCLE, span, detail));
}

fn after<'a>(set: &'a Set, name: &str) -> &'a [Name] {
    set.find(Kind::Job, name).map_or(&[], after_of)
}

fn after_of(doc: &Doc) -> &[Name] {
    match &doc.draft {
        Some(Draft::Job { job, .. }) => &job.after,
        Some(
            Draft::Fleet(_)
            | Draft::Organization { .. }
            | Draft::DeviceTemplate { .. }
            | Draft::DeviceGroup { .. }
            | Draft::EdgeManifest
            | Draft::DeviceImport(_)
            | Draft::Schedule { .. }
            | Draft::Policy { .. }
            | Draft::Access(_),
        )
        | None => &[],
    }
}
