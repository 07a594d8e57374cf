//! What a job changes: for each path and each value that devices have there now, how many devices get what instead.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::model::digest::Digest;
use crate::model::job::{Action, Job};
use crate::model::marks::Marks;
use crate::model::observation::{Before, Mismatch, Observation};
use crate::model::patch::{Assignment, Section};
use crate::model::secret::shown;

/// Devices that have the same value at a path and get the same one.
#[derive(Debug, Clone, PartialEq)]
pub struct DiffLine {
    /// Below its section; desired properties have no prefix, others `tags.` or `cloud.`; `template` for that action,
    /// `edgeManifest` (the name) and `edgeManifest.digest` (of the content) for that one, the method for a command.
    pub path: String,
    /// `None`: absent. For a value that differs from device to device beyond what is told apart: the text `(various)`.
    pub from: Option<Value>,
    /// `None`: removed. Secrets are shown as `(secret)`.
    pub to: Option<Value>,
    pub devices: u64,
}

/// The diff of one job, and how many devices it leaves alone.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Diff {
    pub lines: Vec<DiffLine>,
    pub unchanged: u64,
    pub blocked: u64,
    /// Devices that are not blocked and that the job does not fit, by what it does not fit.
    pub mismatched: BTreeMap<Mismatch, u64>,
    /// The job fits no device at all.
    pub fits_none: bool,
}

/// Returns what the job changes on the observed devices. Lines are sorted by path, then by falling number of devices.
/// `manifest` is the digest of the edge manifest that it assigns, `marks` are those of the components that it writes to.
pub fn diff(job: &Job, manifest: Option<Digest>, marks: &Marks, observation: &Observation) -> Diff {
    let mut devices = vec![0_u64; observation.table.len()];
    for index in &observation.before {
        devices[*index as usize] += 1;
    }
    let wanted = wanted(&job.action, manifest, marks);
    let mut found = Diff { fits_none: !observation.ids.is_empty(), ..Diff::default() };
    for (before, devices) in observation.table.iter().zip(devices) {
        found.fits_none &= devices == 0 || before.mismatch.is_some();
        assert_eq!(before.values.len(), wanted.len(), "an observation has a value for each path of its job");
        if before.blocked {
            found.blocked += devices;
        } else if let Some(mismatch) = before.mismatch.as_ref().filter(|_| devices > 0) {
            *found.mismatched.entry(mismatch.clone()).or_default() += devices;
        } else if !wanted.is_empty() && is_satisfied(&wanted, before) {
            found.unchanged += devices;
        } else {
            add_lines(&mut found.lines, &wanted, before, devices);
        }
    }
    if let Action::Command(command) = &job.action {
        let devices = observation.ids.len() as u64 - found.blocked - found.mismatched.values().sum::<u64>();
        let to = Some(shown(&command.payload));
        found.lines.push(DiffLine { path: command.method(), from: None, to, devices });
    }
    found.lines.sort_by(|left, right| {
        let order = left.path.cmp(&right.path).then(right.devices.cmp(&left.devices));
        order.then_with(|| text_of(&left.from).cmp(&text_of(&right.from)))
    });
    found
}

/// One thing that the job wants at each device.
struct Wanted {
    path: String,
    /// As in an assignment: `Null` removes.
    value: Value,
}

fn wanted(action: &Action, manifest: Option<Digest>, marks: &Marks) -> Vec<Wanted> {
    let one = |path: &str, text: &str| Wanted { path: path.to_string(), value: Value::String(text.to_string()) };
    match action {
        Action::Property(_) | Action::CloudProperty(_) | Action::Tags(_) | Action::Twin { .. } => {
            marks.assignments_of(action).into_iter().map(|(section, one)| wanted_at(section, one)).collect()
        }
        Action::DeviceTemplate(name) => vec![one("template", name.as_str())],
        Action::EdgeManifest(name) => manifest.map_or_else(Vec::new, |digest| {
            vec![one("edgeManifest", name.as_str()), one("edgeManifest.digest", &digest.to_string())]
        }),
        Action::Command(_) => Vec::new(),
    }
}

fn wanted_at(section: Section, one: Assignment) -> Wanted {
    let prefix = match section {
        Section::Desired | Section::Reported => "",
        Section::Tags => "tags.",
        Section::Cloud => "cloud.",
    };
    Wanted { path: format!("{prefix}{}", one.dotted()), value: one.value }
}

fn is_satisfied(wanted: &[Wanted], before: &Before) -> bool {
    wanted.iter().zip(&before.values).all(|(wanted, before)| is_as_wanted(wanted, before.as_ref()))
}

fn is_as_wanted(wanted: &Wanted, before: Option<&Value>) -> bool {
    let assignment = Assignment { path: Vec::new(), value: wanted.value.clone() };
    assignment.is_satisfied_by(before)
}

fn add_lines(lines: &mut Vec<DiffLine>, wanted: &[Wanted], before: &Before, devices: u64) {
    for (wanted, from) in wanted.iter().zip(&before.values) {
        if is_as_wanted(wanted, from.as_ref()) {
            continue;
        }
        let from = from.as_ref().map(shown);
        if let Some(line) = lines.iter_mut().find(|line| line.path == wanted.path && line.from == from) {
            line.devices += devices;
            continue;
        }
        let to = if wanted.value.is_null() { None } else { Some(shown(&wanted.value)) };
        lines.push(DiffLine { path: wanted.path.clone(), from, to, devices });
    }
}

fn text_of(value: &Option<Value>) -> String {
    value.as_ref().map_or(String::new(), Value::to_string)
}
