//! Documents that have run and have left the files since the commit that was applied last: a reviewer is told that what
//! they did stays.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::PrepareError;
use super::load::load;
use super::preparation::Preparation;
use crate::manifest::Entry;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::plan::Subject;
use crate::registry::{Noted, Registry};
use crate::repo::{FleetTree, RepoError};

/// Returns the documents, sorted. None where the commit that was applied last is not there, as in a shallow clone.
///
/// # Errors
/// The registry, the branch or a file cannot be read.
pub(super) fn gone(preparation: &Preparation<'_>, registry: &Registry) -> Result<Vec<Subject>, PrepareError> {
    let candidates = candidates(preparation);
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let base = match registry.branch_copy().noted(Noted::AppliedHead)? {
        Some(base) => Some(base),
        None => preparation.branch.last_source()?,
    };
    let now = preparation.tree;
    let Some(base) = base.filter(|base| now.commit.as_ref() != Some(base)) else { return Ok(Vec::new()) };
    let Ok(mut before) = preparation.repo.tree_at(&base) else { return Ok(Vec::new()) };
    before.entries = Arc::new(changed(&before, now)?);
    let loaded = load(&before);
    let was_there = |subject: &Subject| match subject {
        Subject::Job(name) => loaded.job(name.as_str()).is_some(),
        Subject::Schedule(name) => loaded.schedule(name.as_str()).is_some(),
        Subject::Import(name) => loaded.spans.span_of(Kind::DeviceImport, name, "").is_some(),
    };
    Ok(candidates.into_iter().filter(was_there).collect())
}

/// Returns what has run and is not declared now, under that or a later name.
fn candidates(preparation: &Preparation<'_>) -> BTreeSet<Subject> {
    let Preparation { declared, held, ledger, .. } = preparation;
    let names = declared.jobs.keys().chain(declared.schedules.keys());
    let former: BTreeSet<&Name> = names.clone().flat_map(|name| declared.previous_names(name)).collect();
    let is_there = |name: &Name| declared.jobs.contains_key(name) || declared.schedules.contains_key(name);
    let mut ran: Vec<&Name> = ledger.claims.keys().map(|(name, _)| name).collect();
    ran.dedup();
    ran.retain(|name| !is_there(name) && !former.contains(*name));
    let jobs = ran.iter().filter(|name| !held.may_have(Kind::Job, name)).map(|name| Subject::Job((*name).clone()));
    let schedules = ran
        .iter()
        .filter(|name| held.why(Kind::Schedule, name).is_none())
        .map(|name| Subject::Schedule((*name).clone()));
    let imported = ledger
        .applied_imports
        .keys()
        .filter(|name| !declared.imports.contains_key(*name) && !held.may_have(Kind::DeviceImport, name));
    jobs.chain(schedules).chain(imported.map(|name| Subject::Import(name.clone()))).collect()
}

/// Returns the entries of a tree that another one does not have with the same content.
fn changed(before: &FleetTree<'_>, now: &FleetTree<'_>) -> Result<BTreeMap<String, Entry>, RepoError> {
    let mut changed = BTreeMap::new();
    for (path, entry) in before.entries.iter() {
        let is_same = match (now.entries.get(path), entry) {
            (Some(Entry::File { size: new, .. }), Entry::File { size: old, .. }) if new == old => {
                now.content_id(path)? == before.content_id(path)?
            }
            _ => false,
        };
        if !is_same {
            changed.insert(path.clone(), *entry);
        }
    }
    Ok(changed)
}
