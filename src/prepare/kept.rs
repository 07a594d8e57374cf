//! What a process keeps of what it has read, for those who look at a fleet again and again.
//!
//! Nothing here is told apart from what would be read: each value is a function of what it is kept by, which is asked
//! anew at each look. Files are kept by the id of their git tree, what the results branch has by its newest commit, and
//! what was read of a run by the ids of its files, which are digests of them. A branch that was moved, here or by
//! another process, forward or back, has another id.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::Recorded;
use crate::manifest::Loaded;
use crate::model::entry::Entry;
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::id::{Name, RunToken};
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::model::outcome::Reason;
use crate::repo::NamedCommit;

/// How many times as long as it took a count stands.
const COUNT_REST: u32 = 30;
/// The longest time for which it does.
const COUNT_AGE_MAX: Duration = Duration::from_secs(60);
/// What one thing on a shelf takes besides itself, about.
const ENTRY_BYTES: usize = 512;

/// What is kept; copies share it. By default nothing is kept.
#[derive(Clone, Default)]
pub struct Kept(Option<Arc<Shelves>>);

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Kept(something)" } else { "Kept(nothing)" })
    }
}

struct Shelves {
    files: Mutex<Option<Arc<KeptFiles>>>,
    recorded: Mutex<Recorded>,
    /// The bytes of shards, by the id of their blob.
    shards: Mutex<Shelf<Arc<[u8]>>>,
    /// The first device of shards, by the id of their blob.
    firsts: Mutex<Shelf<Option<Arc<str>>>>,
    /// The devices that open runs were claimed for, by the registry and the claim.
    targets: Mutex<Shelf<Arc<DeviceIds>>>,
    /// What failed in runs, by the id of the tree of their results.
    failures: Mutex<Shelf<Arc<RunFailures>>>,
    /// What was made of the content of trees and commits, by their ids and what it is.
    derived: Mutex<Shelf<Arc<dyn Any + Send + Sync>>>,
    /// How many devices of the registry fit, by what they were to fit.
    counts: Mutex<Shelf<KeptCount>>,
    /// Who changed the files last that were asked for last.
    changes: Mutex<Option<KeptChanges>>,
    /// The organizations of runs that are of documents which were edited since, and the tree whose declarations say so.
    organizations: Mutex<(String, OrganizationsOfRuns)>,
}

/// The paths of the organizations of runs.
type OrganizationsOfRuns = BTreeMap<(Name, RunToken), Option<String>>;

/// Who changed some files last.
#[derive(Clone)]
struct KeptChanges {
    /// As of this commit.
    head: String,
    files: BTreeSet<String>,
    found: Arc<BTreeMap<String, NamedCommit>>,
}

/// The files of a fleet as they are declared on `HEAD`, all of them valid or held.
pub(super) struct KeptFiles {
    /// The git tree of the fleet's folder.
    pub tree: String,
    /// The branch of `HEAD`.
    pub branch: Option<String>,
    /// Some were left out: what only a look takes that has no work tree to turn to.
    pub is_partial: bool,
    pub entries: Arc<BTreeMap<String, Entry>>,
    pub loaded: Arc<Loaded>,
    pub declared: Arc<Declared>,
    pub held: Arc<HeldDocuments>,
}

/// What failed in a run that has ended.
#[derive(Debug, Default)]
pub struct RunFailures {
    /// How many devices failed for each reason, in the order in which these were met.
    pub by_reason: Vec<(Reason, u64)>,
    /// The devices, sorted by id; `None` when they are more than are kept.
    pub devices: Option<Vec<FailedDevice>>,
}

/// A device that failed in a run.
#[derive(Debug, Clone)]
pub struct FailedDevice {
    pub device_id: String,
    pub reason: Reason,
    pub message: String,
    pub at: Option<Timestamp>,
}

/// How many devices fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceCount {
    pub devices: u64,
    /// When they were counted; `None` for now.
    pub as_of: Option<Timestamp>,
}

/// A count, and of what.
#[derive(Clone)]
struct KeptCount {
    /// The state of the registry's file; `None` where that cannot be told.
    registry: Option<String>,
    devices: u64,
    at: Timestamp,
    took: Duration,
}

impl KeptCount {
    /// Returns true while the registry is not counted again, whatever was written to it.
    fn stands(&self, now: Timestamp) -> bool {
        // A clock that was put back makes it old.
        let age = Duration::try_from(now.duration_since(self.at)).ok();
        age.is_some_and(|age| age < (self.took * COUNT_REST).min(COUNT_AGE_MAX))
    }
}

impl Kept {
    /// Returns a place where something is kept.
    pub fn something() -> Kept {
        Kept(Some(Arc::new(Shelves {
            files: Mutex::default(),
            recorded: Mutex::default(),
            shards: Mutex::new(Shelf::new(limits::KEPT_SHARD_BYTES_MAX)),
            firsts: Mutex::new(Shelf::new(limits::KEPT_SHARDS_MAX)),
            targets: Mutex::new(Shelf::new(limits::KEPT_TARGET_BYTES_MAX)),
            failures: Mutex::new(Shelf::new(limits::KEPT_FAILURES_MAX)),
            derived: Mutex::new(Shelf::new(limits::KEPT_COUNTS_MAX)),
            counts: Mutex::new(Shelf::new(limits::KEPT_COUNTS_MAX)),
            changes: Mutex::default(),
            organizations: Mutex::default(),
        })))
    }

    /// Works with what is kept of the results branch, which has to be brought up to date; with nothing at first where
    /// nothing is kept.
    pub fn with_recorded<T>(&self, work: impl FnOnce(&mut Recorded) -> T) -> T {
        match &self.0 {
            Some(shelves) => work(&mut lock(&shelves.recorded)),
            None => work(&mut Recorded::default()),
        }
    }

    pub(super) fn keeps(&self) -> bool {
        self.0.is_some()
    }

    pub(super) fn files(&self) -> Option<Arc<KeptFiles>> {
        lock(&self.0.as_ref()?.files).clone()
    }

    pub(super) fn keep_files(&self, files: KeptFiles) {
        if let Some(shelves) = &self.0 {
            *lock(&shelves.files) = Some(Arc::new(files));
        }
    }

    /// Returns the bytes of a shard by the id of its blob, which are read where they are not kept.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn shard<E>(&self, blob: &str, read: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Arc<[u8]>, E> {
        self.find(|shelves| &shelves.shards, blob, || read().map(|bytes| (bytes.len(), bytes.into())))
    }

    /// Returns the first device of a shard by the id of its blob.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn first_of_shard<E>(
        &self,
        blob: &str,
        read: impl FnOnce() -> Result<Option<String>, E>,
    ) -> Result<Option<Arc<str>>, E> {
        self.find(|shelves| &shelves.firsts, blob, || read().map(|first| (1, first.map(Arc::from))))
    }

    /// Returns the devices that a run was claimed for, which never change: `claim` tells the registry, the run and its
    /// claim.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn targets<E>(&self, claim: &str, read: impl FnOnce() -> Result<DeviceIds, E>) -> Result<Arc<DeviceIds>, E> {
        self.find(|shelves| &shelves.targets, claim, || read().map(|ids| (ids.size() + ENTRY_BYTES, Arc::new(ids))))
    }

    /// Returns what failed in a run by the id of the tree of its results.
    ///
    /// # Errors
    /// Those of `read`.
    pub fn failures<E>(
        &self,
        tree: &str,
        read: impl FnOnce() -> Result<RunFailures, E>,
    ) -> Result<Arc<RunFailures>, E> {
        let weighed = || read().map(|found| (1 + found.devices.as_ref().map_or(0, Vec::len), Arc::new(found)));
        self.find(|shelves| &shelves.failures, tree, weighed)
    }

    /// Returns what is made of the content of trees and commits, by their ids and a name that no other type has.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn derived<T: Send + Sync + 'static, E>(
        &self,
        key: &str,
        make: impl Fn() -> Result<T, E>,
    ) -> Result<Arc<T>, E> {
        let weighed = || make().map(|made| (1, Arc::new(made) as Arc<dyn Any + Send + Sync>));
        let found = self.find(|shelves| &shelves.derived, key, weighed)?;
        found.downcast().map_or_else(|_| make().map(Arc::new), Ok)
    }

    /// Returns how many devices of a registry fit a text. They are counted where the state of its file, `registry`, is
    /// not that of the last time. In a large registry a count stands for 30 times as long as it took, at most a
    /// minute, and says since when: one that is written to all the time is not counted all the time.
    ///
    /// # Errors
    /// Those of `is_large` and `count`.
    pub fn count<E>(
        &self,
        (registry, is_large): (Option<&str>, &dyn Fn() -> Result<bool, E>),
        fits: &str,
        now: &dyn Fn() -> Timestamp,
        count: impl FnOnce() -> Result<u64, E>,
    ) -> Result<DeviceCount, E> {
        let begun = now();
        let kept = self.0.as_ref().and_then(|shelves| lock(&shelves.counts).find(fits));
        if let Some(kept) = kept {
            let KeptCount { devices, at, .. } = kept;
            if registry.is_some() && kept.registry.as_deref() == registry {
                return Ok(DeviceCount { devices, as_of: None });
            }
            if kept.stands(begun) && is_large()? {
                return Ok(DeviceCount { devices, as_of: Some(at) });
            }
        }
        let devices = count()?;
        if let Some(shelves) = &self.0 {
            let registry = registry.map(str::to_string);
            let took = now().duration_since(begun).unsigned_abs();
            lock(&shelves.counts).replace(fits, 1, KeptCount { registry, devices, at: begun, took });
        }
        Ok(DeviceCount { devices, as_of: None })
    }

    /// Returns the commits that changed some files last, as of a commit. `walk` goes back to the commit that it gets,
    /// and returns `None` for a file that did not change since.
    pub fn changes(
        &self,
        head: &str,
        files: &BTreeSet<String>,
        walk: impl FnOnce(Option<&str>) -> BTreeMap<String, Option<NamedCommit>>,
    ) -> Arc<BTreeMap<String, NamedCommit>> {
        let known = self.0.as_ref().and_then(|shelves| lock(&shelves.changes).clone());
        let known = known.filter(|known| known.files == *files);
        if let Some(known) = known.as_ref().filter(|known| known.head == head) {
            return Arc::clone(&known.found);
        }
        let walked = walk(known.as_ref().map(|known| known.head.as_str())).into_iter();
        let before = |path: &str| known.as_ref()?.found.get(path).cloned();
        let found = walked.filter_map(|(path, commit)| Some((path.clone(), commit.or_else(|| before(&path))?)));
        let found = Arc::new(found.collect::<BTreeMap<_, _>>());
        if let Some(shelves) = &self.0 {
            let (head, files, found) = (head.to_string(), files.clone(), Arc::clone(&found));
            *lock(&shelves.changes) = Some(KeptChanges { head, files, found });
        }
        found
    }

    /// Returns the organization of a run as the files of a tree say.
    pub fn organization(
        &self,
        tree: &str,
        run: (&Name, &RunToken),
        find: impl FnOnce() -> Option<String>,
    ) -> Option<String> {
        let Some(shelves) = &self.0 else { return find() };
        let key = (run.0.clone(), run.1.clone());
        {
            let mut known = lock(&shelves.organizations);
            if known.0 != tree {
                *known = (tree.to_string(), BTreeMap::new());
            }
            if let Some(found) = known.1.get(&key) {
                return found.clone();
            }
        }
        let found = find();
        let mut known = lock(&shelves.organizations);
        if known.0 == tree && known.1.len() < limits::KEPT_SHARDS_MAX {
            known.1.insert(key, found.clone());
        }
        found
    }

    /// Returns what is on a shelf by a key. Nothing is locked while it is read.
    fn find<T: Clone, E>(
        &self,
        shelf: impl Fn(&Shelves) -> &Mutex<Shelf<T>>,
        key: &str,
        read: impl FnOnce() -> Result<(usize, T), E>,
    ) -> Result<T, E> {
        let Some(shelves) = &self.0 else { return read().map(|(_, value)| value) };
        if let Some(found) = lock(shelf(shelves)).find(key) {
            return Ok(found);
        }
        let (weight, value) = read()?;
        lock(shelf(shelves)).put(key, weight, value.clone());
        Ok(value)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Values by keys, together at most of a weight: those that were not asked for the longest go first.
struct Shelf<T> {
    weight_max: usize,
    weight: usize,
    /// Counts the uses.
    now: u64,
    values: BTreeMap<String, (u64, usize, T)>,
    by_use: BTreeMap<u64, String>,
}

impl<T: Clone> Shelf<T> {
    fn new(weight_max: usize) -> Shelf<T> {
        Shelf { weight_max, weight: 0, now: 0, values: BTreeMap::new(), by_use: BTreeMap::new() }
    }

    fn find(&mut self, key: &str) -> Option<T> {
        let (used, _, value) = self.values.get_mut(key)?;
        self.now += 1;
        let name = self.by_use.remove(used)?;
        *used = self.now;
        self.by_use.insert(self.now, name);
        Some(value.clone())
    }

    /// Puts a value in the place of what is there.
    fn replace(&mut self, key: &str, weight: usize, value: T) {
        if let Some((used, weight, _)) = self.values.remove(key) {
            self.by_use.remove(&used);
            self.weight -= weight;
        }
        self.put(key, weight, value);
    }

    fn put(&mut self, key: &str, weight: usize, value: T) {
        if weight > self.weight_max || self.values.contains_key(key) {
            return;
        }
        self.now += 1;
        self.weight += weight;
        self.values.insert(key.to_string(), (self.now, weight, value));
        self.by_use.insert(self.now, key.to_string());
        while self.weight > self.weight_max {
            let Some((_, oldest)) = self.by_use.pop_first() else { return };
            if let Some((_, weight, _)) = self.values.remove(&oldest) {
                self.weight -= weight;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_took_long_stands_a_while() {
        let kept = Kept::something();
        let second = std::cell::Cell::new(0);
        let now = || Timestamp::from_second(second.get()).unwrap();
        let count = |state: &str, devices: u64, takes: i64| {
            let counted = || {
                second.set(second.get() + takes);
                Ok::<_, ()>(devices)
            };
            kept.count((Some(state), &|| Ok(true)), "*", &now, counted).unwrap()
        };
        assert_eq!(count("a", 7, 1), DeviceCount { devices: 7, as_of: None });
        assert_eq!(count("a", 8, 1), DeviceCount { devices: 7, as_of: None }, "the registry is the same");
        let old = DeviceCount { devices: 7, as_of: Some(Timestamp::UNIX_EPOCH) };
        second.set(29);
        assert_eq!(count("b", 8, 1), old);
        second.set(30);
        assert_eq!(count("b", 8, 10), DeviceCount { devices: 8, as_of: None });
        second.set(30 + 59);
        assert_eq!(count("c", 9, 0).devices, 8, "at most a minute");
        second.set(30 + 60);
        assert_eq!(count("c", 9, 0).devices, 9);
        assert_eq!(count("d", 10, 0).devices, 10, "what is quick is done each time");
        assert_eq!(count("e", 11, 5).devices, 11);
        assert_eq!(
            kept.count((Some("f"), &|| Ok(false)), "*", &now, || Ok::<_, ()>(12)).unwrap().devices,
            12,
            "it is small"
        );
        let nothing = Kept::default();
        assert_eq!(nothing.count((Some("a"), &|| Ok(true)), "*", &now, || Ok::<_, ()>(1)).unwrap().devices, 1);
    }

    #[test]
    fn a_shelf_is_bounded_and_keeps_what_was_used_last() {
        let mut shelf = Shelf::new(3);
        ["a", "b", "c"].iter().for_each(|key| shelf.put(key, 1, *key));
        assert_eq!(shelf.find("a"), Some("a"));
        shelf.put("d", 1, "d");
        assert_eq!((shelf.find("a"), shelf.find("b"), shelf.find("c")), (Some("a"), None, Some("c")));
        shelf.put("too much", 4, "too much");
        assert_eq!((shelf.find("too much"), shelf.weight, shelf.by_use.len()), (None, 3, 3));
        shelf.put("all", 3, "all");
        assert_eq!((shelf.find("a"), shelf.find("all"), shelf.weight, shelf.values.len()), (None, Some("all"), 3, 1));
    }
}
