//! Two jobs of one plan that want different things of the same device.

use serde_json::Value;

use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::observation::DeviceIds;

use super::PlannedRun;

/// Two jobs that write the same path of the same devices with different values, and neither is `after` the other.
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

/// Returns every conflict among the runs, sorted by job names; at most one a pair.
pub fn conflicts(declared: &Declared, runs: &[PlannedRun]) -> Vec<Conflict> {
    let mut found = Vec::new();
    for (at, left) in runs.iter().enumerate() {
        for right in &runs[at + 1..] {
            let (Some(one), Some(two)) = (declared.jobs.get(&left.job), declared.jobs.get(&right.job)) else {
                continue;
            };
            if is_after(declared, one, two) || is_after(declared, two, one) {
                continue;
            }
            let Some(path) = contested_path(&one.action, &two.action) else { continue };
            let (devices, sample) = intersection(&left.ids, &right.ids);
            if devices > 0 {
                found.push(Conflict { left: left.job.clone(), right: right.job.clone(), path, devices, sample });
            }
        }
    }
    found.sort_by(|one, two| (&one.left, &one.right).cmp(&(&two.left, &two.right)));
    found
}

/// Returns true when `job` waits for `other`, directly or through others. Cycles were refused with the files.
fn is_after(declared: &Declared, job: &Job, other: &Job) -> bool {
    let mut seen = std::collections::BTreeSet::new();
    let mut open: Vec<&Name> = job.after.iter().collect();
    while let Some(name) = open.pop() {
        if *name == other.name {
            return true;
        }
        if seen.insert(name)
            && let Some(next) = declared.jobs.get(name)
        {
            open.extend(next.after.iter());
        }
    }
    false
}

/// Returns a path that both actions write with different values, or `None`. A parent path contests each path below it.
fn contested_path(left: &Action, right: &Action) -> Option<String> {
    match (left, right) {
        (Action::DeviceTemplate(one), Action::DeviceTemplate(two)) => (one != two).then(|| "template".to_string()),
        (Action::EdgeManifest(one), Action::EdgeManifest(two)) => (one != two).then(|| "edgeManifest".to_string()),
        _ => {
            let ((section, one), (other, two)) = (left.patch()?, right.patch()?);
            if section != other {
                return None;
            }
            let (ours, theirs) = (one.assignments(), two.assignments());
            for a in &ours {
                for b in &theirs {
                    let same = a.path == b.path;
                    let nested = a.path.starts_with(&b.path) || b.path.starts_with(&a.path);
                    let clear = Value::Object(serde_json::Map::new());
                    let differ = if same { a.value != b.value } else { nested && a.value != clear && b.value != clear };
                    if differ {
                        let longer = if a.path.len() >= b.path.len() { a } else { b };
                        return Some(format!("{}.{}", section.root(), longer.dotted()));
                    }
                }
            }
            None
        }
    }
}

/// Returns how many ids are in both lists, and the first three.
fn intersection(left: &DeviceIds, right: &DeviceIds) -> (u64, Vec<String>) {
    let (mut count, mut sample) = (0, Vec::new());
    let (mut ours, mut theirs) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(one), Some(two)) = (ours.peek().copied(), theirs.peek().copied()) {
        match one.cmp(two) {
            std::cmp::Ordering::Less => {
                ours.next();
            }
            std::cmp::Ordering::Greater => {
                theirs.next();
            }
            std::cmp::Ordering::Equal => {
                count += 1;
                if sample.len() < 3 {
                    sample.push(one.to_string());
                }
                ours.next();
                theirs.next();
            }
        }
    }
    (count, sample)
}
