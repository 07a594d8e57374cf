//! Two jobs of one plan that want different things of the same device.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use serde_json::Value;

use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::marks::Marks;
use crate::model::observation::{DeviceIds, Observation};
use crate::model::patch::{Assignment, Section};

use super::PlannedRun;

/// Two jobs that write the same path of the same devices with different values, and neither is `after` the other.
/// Devices that one of them does not write, because they are blocked or have a template that it does not fit, are not
/// contested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    pub left: Name,
    pub right: Name,
    /// The path that both write, in the words of the query language.
    pub path: String,
    pub devices: u64,
    /// The first three of them.
    pub sample: Vec<String>,
}

/// Returns every conflict among the runs, and between them and what is pending of jobs that go on, sorted by job names;
/// at most one a pair. `spared` has for each run the devices that it does not write, as [`spared`] finds them; it may
/// lack runs that write all.
///
/// Only pairs are looked at that write a path in common, with different values, to a device in common: [`candidates`]
/// finds them in one merge over the devices. The ancestors of a job are found last, and once a job.
pub fn conflicts(
    declared: &Declared,
    runs: &[PlannedRun],
    spared: &BTreeMap<Name, DeviceIds>,
    pending: &BTreeMap<Name, DeviceIds>,
) -> Vec<Conflict> {
    let nothing = DeviceIds::new();
    let mut writers = Vec::new();
    for run in runs {
        writers.extend(Contender::new(declared, &run.job, &run.ids, spared.get(&run.job).unwrap_or(&nothing)));
    }
    let fresh = writers.len();
    writers.extend(pending.iter().filter_map(|(name, ids)| Contender::new(declared, name, ids, &nothing)));
    let mut ancestors: BTreeMap<&Name, BTreeSet<&Name>> = BTreeMap::new();
    let mut found = Vec::new();
    for (at, other) in candidates(&writers, fresh) {
        let (one, two) = (&writers[at], &writers[other]);
        let Some(path) = contested_path(&one.writes, &two.writes) else { continue };
        let (devices, sample) = intersection(one, two);
        if devices == 0 {
            continue;
        }
        let mut is_after = |job: &Job, other: &Name| {
            let job = declared.jobs.get_key_value(&job.name).map(|(name, _)| name);
            job.is_some_and(|job| ancestors.entry(job).or_insert_with(|| ancestors_of(declared, job)).contains(other))
        };
        if !is_after(one.job, &two.job.name) && !is_after(two.job, &one.job.name) {
            // The one that is named last is the one to change: a run that goes on is not.
            let mut names = [one.job.name.clone(), two.job.name.clone()];
            if pending.contains_key(&two.job.name) {
                names.reverse();
            } else {
                names.sort();
            }
            let [left, right] = names;
            found.push(Conflict { left, right, path, devices, sample });
        }
    }
    found.sort_by(|one, two| (&one.left, &one.right).cmp(&(&two.left, &two.right)));
    found
}

/// Returns the pairs of writers, the lower first, that write something in common to a device in common, of which one at
/// least is among the first `fresh`. Pairs that write the same value may be among them.
fn candidates(writers: &[Contender<'_>], fresh: usize) -> BTreeSet<(usize, usize)> {
    let mut pairs = BTreeSet::new();
    for sharing in sharing(writers) {
        if let [one, two] = sharing[..] {
            // Their devices are compared when they are counted.
            pairs.extend((one < fresh).then_some((one, two)));
        } else {
            meet(writers, &sharing, fresh, &mut pairs);
        }
    }
    pairs
}

/// Returns groups of writers, each sorted, that write the same place or one inside it, and not all the same value.
fn sharing(writers: &[Contender<'_>]) -> Vec<Vec<usize>> {
    /// What is written: the template, the edge manifest, or a path of a section.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum WrittenPlace<'a> {
        Template,
        EdgeManifest,
        Path(Section, &'a [String]),
    }
    let mut places: BTreeMap<WrittenPlace<'_>, Vec<usize>> = BTreeMap::new();
    for (at, writer) in writers.iter().enumerate() {
        match &writer.writes {
            Writes::Template(_) => places.entry(WrittenPlace::Template).or_default().push(at),
            Writes::EdgeManifest(_) => places.entry(WrittenPlace::EdgeManifest).or_default().push(at),
            Writes::Sections(assignments) => {
                for (section, one) in assignments {
                    places.entry(WrittenPlace::Path(*section, &one.path)).or_default().push(at);
                }
            }
        }
    }
    // A place inside another one that is written belongs to it too.
    let mut inner = Vec::new();
    for (at, writer) in writers.iter().enumerate() {
        let Writes::Sections(assignments) = &writer.writes else { continue };
        for (section, one) in assignments {
            let outer = (1..one.path.len()).map(|length| &one.path[..length]);
            inner.extend(
                outer
                    .filter(|outer| places.contains_key(&WrittenPlace::Path(*section, outer)))
                    .map(|outer| (WrittenPlace::Path(*section, outer), at)),
            );
        }
    }
    for (place, at) in inner {
        places.entry(place).or_default().push(at);
    }
    let groups = places.into_values().map(|mut group| {
        group.sort_unstable();
        group.dedup();
        group
    });
    groups.filter(|group| group.iter().any(|at| writers[*at].writes != writers[group[0]].writes)).collect()
}

/// Adds the pairs of a group that have a device in common: one merge over their sorted devices.
fn meet(writers: &[Contender<'_>], group: &[usize], fresh: usize, pairs: &mut BTreeSet<(usize, usize)>) {
    let first = |at: &usize| Some(Reverse((writers[*at].ids.iter().next()?, *at, 0)));
    let mut next: BinaryHeap<Reverse<(&str, usize, usize)>> = group.iter().filter_map(first).collect();
    let mut together = Vec::new();
    let mut seen: BTreeSet<Vec<usize>> = BTreeSet::new();
    while let Some(Reverse((id, at, place))) = next.pop() {
        together.clear();
        together.push(at);
        let advance = |at: usize, place: usize, next: &mut BinaryHeap<_>| {
            if place + 1 < writers[at].ids.len() {
                next.push(Reverse((writers[at].ids.get(place + 1), at, place + 1)));
            }
        };
        advance(at, place, &mut next);
        while let Some(Reverse((_, at, place))) = next.peek().copied().filter(|Reverse((other, ..))| *other == id) {
            next.pop();
            together.push(at);
            advance(at, place, &mut next);
        }
        if together.len() > 1 && !seen.contains(&together) {
            for (nth, one) in together.iter().enumerate().filter(|(_, one)| **one < fresh) {
                pairs.extend(together[nth + 1..].iter().map(|two| (*one, *two)));
            }
            seen.insert(together.clone());
        }
    }
}

/// Returns the devices that a run does not write: the blocked ones, and those with a template that its job does not fit
/// unless `may_move`, that is, when templates may be others by the time that its batches start.
pub fn spared(observation: &Observation, may_move: bool) -> DeviceIds {
    let Observation { ids, before, table, .. } = observation;
    let is_spared: Vec<bool> =
        table.iter().map(|entry| entry.blocked || (entry.mismatch.is_some() && !may_move)).collect();
    if !is_spared.contains(&true) {
        return DeviceIds::new();
    }
    ids.iter().zip(before).filter(|(_, at)| is_spared[**at as usize]).map(|(id, _)| id).collect()
}

/// Returns true when two jobs write a path in common with different values.
pub fn contest(one: &Action, two: &Action) -> bool {
    match (writes_of(one), writes_of(two)) {
        (Some(ours), Some(theirs)) => contested_path(&ours, &theirs).is_some(),
        _ => false,
    }
}

/// A job with what it writes, and to which devices.
struct Contender<'a> {
    job: &'a Job,
    writes: Writes,
    ids: &'a DeviceIds,
    /// Those of them that it does not write.
    spared: &'a DeviceIds,
}

impl<'a> Contender<'a> {
    /// `None` for a job that writes nothing.
    fn new(declared: &'a Declared, name: &Name, ids: &'a DeviceIds, spared: &'a DeviceIds) -> Option<Contender<'a>> {
        let job = declared.jobs.get(name)?;
        Some(Contender { job, writes: writes_of(&job.action)?, ids, spared })
    }
}

/// Returns the jobs that a job waits for, directly or through others. Cycles were refused with the files.
fn ancestors_of<'a>(declared: &'a Declared, job: &Name) -> BTreeSet<&'a Name> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&Name> = declared.jobs.get(job).map_or_else(Vec::new, |job| job.after.iter().collect());
    while let Some(name) = open.pop() {
        if seen.insert(name)
            && let Some(next) = declared.jobs.get(name)
        {
            open.extend(next.after.iter());
        }
    }
    seen
}

/// What a job writes to each of its devices.
#[derive(PartialEq)]
enum Writes {
    Template(Name),
    EdgeManifest(Name),
    Sections(Vec<(Section, Assignment)>),
}

/// Returns what an action writes; `None` for a command.
fn writes_of(action: &Action) -> Option<Writes> {
    match action {
        Action::DeviceTemplate(name) => Some(Writes::Template(name.clone())),
        Action::EdgeManifest(name) => Some(Writes::EdgeManifest(name.clone())),
        Action::Property(_) | Action::CloudProperty(_) | Action::Tags(_) | Action::Twin { .. } => {
            Some(Writes::Sections(Marks::default().assignments_of(action)))
        }
        Action::Command(_) => None,
    }
}

/// Returns a path that both write with different values, or `None`. A parent path contests each path below it.
fn contested_path(left: &Writes, right: &Writes) -> Option<String> {
    match (left, right) {
        (Writes::Template(one), Writes::Template(two)) => (one != two).then(|| "template".to_string()),
        (Writes::EdgeManifest(one), Writes::EdgeManifest(two)) => (one != two).then(|| "edgeManifest".to_string()),
        (Writes::Sections(ours), Writes::Sections(theirs)) => {
            let mut pairs = ours.iter().flat_map(|a| theirs.iter().map(move |b| (a, b)));
            let contested = pairs.find(|((section, a), (other, b))| section == other && is_contested(a, b));
            contested.map(|((section, a), (_, b))| {
                let longer = if a.path.len() >= b.path.len() { a } else { b };
                format!("{}.{}", section.root(), longer.dotted())
            })
        }
        _ => None,
    }
}

fn is_contested(one: &Assignment, two: &Assignment) -> bool {
    if one.path == two.path {
        return one.value != two.value;
    }
    let empty = Value::Object(serde_json::Map::new());
    let is_nested = one.path.starts_with(&two.path) || two.path.starts_with(&one.path);
    is_nested && one.value != empty && two.value != empty
}

/// Returns how many devices both write, and the first three.
fn intersection(left: &Contender<'_>, right: &Contender<'_>) -> (u64, Vec<String>) {
    let (mut count, mut sample) = (0, Vec::new());
    let (mut ours, mut theirs) = (left.ids.iter().peekable(), right.ids.iter().peekable());
    let is_spared = |id: &str| left.spared.find(id).is_some() || right.spared.find(id).is_some();
    while let (Some(one), Some(two)) = (ours.peek().copied(), theirs.peek().copied()) {
        match one.cmp(two) {
            std::cmp::Ordering::Less => {
                ours.next();
            }
            std::cmp::Ordering::Greater => {
                theirs.next();
            }
            std::cmp::Ordering::Equal => {
                if !is_spared(one) {
                    count += 1;
                    if sample.len() < 3 {
                        sample.push(one.to_string());
                    }
                }
                ours.next();
                theirs.next();
            }
        }
    }
    (count, sample)
}
