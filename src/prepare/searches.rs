//! By what the declared conditions search for devices.

use std::collections::BTreeMap;

use crate::model::fleet::Declared;
use crate::model::job::Selector;
use crate::query::{self, PathRef};

/// Returns the paths by which the groups, jobs and schedules search, without duplicates, the most used first: a group counts once for itself and
/// once for each job and schedule that targets it.
pub fn searched_paths(declared: &Declared) -> Vec<PathRef> {
    let mut conditions: BTreeMap<&str, u64> = BTreeMap::new();
    declared.groups.values().for_each(|group| *conditions.entry(&group.query).or_default() += 1);
    let scheduled = declared.schedules.values().map(|schedule| &schedule.job.target);
    for target in declared.jobs.values().map(|job| &job.target).chain(scheduled) {
        let condition = match &target.selector {
            Selector::Query(condition) => Some(condition),
            Selector::Group(name) => declared.groups.get(name).map(|group| &group.query),
            Selector::Devices(_) | Selector::FailedOf { .. } => None,
        };
        if let Some(condition) = condition {
            *conditions.entry(condition).or_default() += 1;
        }
    }
    let mut uses: BTreeMap<PathRef, u64> = BTreeMap::new();
    for (condition, count) in conditions {
        let query = query::parse(condition).expect("queries were checked with the files");
        for path in query::searched_paths(&query) {
            *uses.entry(path).or_default() += count;
        }
    }
    let mut paths: Vec<(PathRef, u64)> = uses.into_iter().collect();
    // Stable: among paths that are used alike, in their order.
    paths.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    paths.into_iter().map(|(path, _)| path).collect()
}
