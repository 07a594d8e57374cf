//! By what the declared conditions search for devices.

use std::collections::BTreeMap;

use crate::model::fleet::Declared;
use crate::model::job::Selector;
use crate::query::{self, PathRef};

/// By what each of the conditions searches that were looked at last.
#[derive(Default)]
pub struct Searches {
    /// With how many there are of a condition.
    by_condition: BTreeMap<String, (Vec<PathRef>, u64)>,
}

/// Returns the paths by which the groups, jobs and schedules search, without duplicates, the most used first: a group
/// counts once for itself and once for each job and schedule that targets it.
pub fn searched_paths(declared: &Declared, known: &mut Searches) -> Vec<PathRef> {
    known.by_condition.values_mut().for_each(|(_, count)| *count = 0);
    let mut note = |condition: &str| match known.by_condition.get_mut(condition) {
        Some((_, count)) => *count += 1,
        None => {
            let query = query::parse(condition).expect("queries were checked with the files");
            known.by_condition.insert(condition.to_string(), (query::searched_paths(&query), 1));
        }
    };
    declared.groups.values().for_each(|group| note(&group.query));
    let scheduled = declared.schedules.values().map(|schedule| &schedule.job.target);
    for target in declared.jobs.values().map(|job| &job.target).chain(scheduled) {
        match &target.selector {
            Selector::Query(condition) => note(condition),
            Selector::Group(name) => drop(declared.groups.get(name).map(|group| note(&group.query))),
            Selector::Devices(_) | Selector::FailedOf { .. } => {}
        }
    }
    known.by_condition.retain(|_, (_, count)| *count > 0);
    let mut uses: BTreeMap<PathRef, u64> = BTreeMap::new();
    for (paths, count) in known.by_condition.values() {
        for path in paths {
            match uses.get_mut(path) {
                Some(uses) => *uses += count,
                None => drop(uses.insert(path.clone(), *count)),
            }
        }
    }
    let mut paths: Vec<(PathRef, u64)> = uses.into_iter().collect();
    // Stable: among paths that are used alike, in their order.
    paths.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    paths.into_iter().map(|(path, _)| path).collect()
}
