//! By what the declared conditions search for devices.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::fleet::Declared;
use crate::model::job::Selector;
use crate::query::{self, PathRef};

/// By what the conditions search that were looked at last.
#[derive(Default)]
pub struct Searches {
    /// With how many there are of a condition.
    by_condition: BTreeMap<String, (Vec<PathRef>, u64)>,
    /// What was counted. A job that is the same in the next one need not be looked at again.
    counted: Option<Arc<Declared>>,
}

impl Searches {
    fn add(&mut self, condition: &str) {
        match self.by_condition.get_mut(condition) {
            Some((_, count)) => *count += 1,
            None => {
                let query = query::parse(condition).expect("queries were checked with the files");
                self.by_condition.insert(condition.to_string(), (query::searched_paths(&query), 1));
            }
        }
    }

    fn remove(&mut self, condition: &str) {
        if let Some((_, count)) = self.by_condition.get_mut(condition) {
            *count -= 1;
        }
    }

    /// Counts what is declared.
    fn count(&mut self, declared: &Arc<Declared>) {
        match self.counted.take() {
            // The jobs name groups: with the same ones, only the jobs that are not the same count.
            Some(before) if before.groups == declared.groups && before.schedules == declared.schedules => {
                let (mut old, mut new) = (before.jobs.values().peekable(), declared.jobs.values().peekable());
                loop {
                    match (old.peek().copied(), new.peek().copied()) {
                        (Some(one), Some(two)) if Arc::ptr_eq(one, two) => drop((old.next(), new.next())),
                        (Some(one), other) if other.is_none_or(|two| one.name <= two.name) => {
                            condition_of(&one.target.selector, &before).into_iter().for_each(|gone| self.remove(gone));
                            old.next();
                        }
                        (_, Some(two)) => {
                            condition_of(&two.target.selector, declared).into_iter().for_each(|new| self.add(new));
                            new.next();
                        }
                        (_, None) => break,
                    }
                }
            }
            Some(_) | None => {
                self.by_condition.values_mut().for_each(|(_, count)| *count = 0);
                declared.groups.values().for_each(|group| self.add(&group.query));
                let scheduled = declared.schedules.values().map(|schedule| &schedule.job.target.selector);
                let selectors = declared.jobs.values().map(|job| &job.target.selector).chain(scheduled);
                selectors.filter_map(|one| condition_of(one, declared)).for_each(|condition| self.add(condition));
            }
        }
        self.by_condition.retain(|_, (_, count)| *count > 0);
        self.counted = Some(Arc::clone(declared));
    }
}

/// Returns the condition that a target searches by; `None` for a list of devices.
fn condition_of<'a>(selector: &'a Selector, declared: &'a Declared) -> Option<&'a str> {
    match selector {
        Selector::Query(condition) => Some(condition),
        Selector::Group(name) => declared.groups.get(name).map(|group| group.query.as_str()),
        Selector::Devices(_) | Selector::OfRun(_) => None,
    }
}

/// Returns the paths by which the groups, jobs and schedules search, without duplicates, the most used first: a group
/// counts once for itself and once for each job and schedule that targets it.
pub fn searched_paths(declared: &Arc<Declared>, searches: &mut Searches) -> Vec<PathRef> {
    searches.count(declared);
    let mut uses: BTreeMap<&PathRef, u64> = BTreeMap::new();
    for (paths, count) in searches.by_condition.values() {
        for path in paths {
            *uses.entry(path).or_default() += count;
        }
    }
    let mut paths: Vec<(&PathRef, u64)> = uses.into_iter().collect();
    // Stable: among paths that are used alike, in their order.
    paths.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    paths.into_iter().map(|(path, _)| path.clone()).collect()
}
