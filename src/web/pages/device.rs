//! One device: its twin, what it belongs to, and what became of it in jobs.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::devices::RegisteredRow;
use super::{Notes, Page};
use crate::model::limits::DEVICE_RUNS_MAX;
use crate::model::secret;
use crate::ops::device::{ConnectionChange, ShownDevice, blocked_by, show};
use crate::ops::job::{Fate, fates};
use crate::ops::{Environment, OpsError};
use crate::web::fault::Fault;
use crate::web::table::{Row, Sink};

/// Jobs that are shown, and runs that are searched for them.
const JOBS_SHOWN: usize = 50;
const SEARCHED_MAX: usize = 200;

/// The page `/devices/{id}`. It has no keys.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct DevicePage {
    #[serde(flatten)]
    pub device: RegisteredRow,
    pub blocked: bool,
    /// Who blocked it at once; null when nobody did, when an import did, and before that is on the results branch.
    pub blocked_by: Option<BlockOf>,
    /// How it proves who it is, such as `sas`.
    pub authentication: String,
    /// The import that brought it.
    pub import: Option<String>,
    /// The groups that it is in now.
    pub groups: Vec<String>,
    /// When it connected, and when its connections ended, the newest first. Nothing is known of simulated devices.
    pub connections: Vec<ConnectionRow>,
    pub edge_manifest: Option<String>,
    pub iot_edge: bool,
    pub desired_version: u64,
    pub reported_version: u64,
    /// Each property, desired and reported side by side.
    pub properties: Vec<PropertyRow>,
    pub tags: Value,
    pub cloud: Value,
    pub desired: Value,
    pub reported: Value,
    /// What became of it in jobs, the newest first.
    pub jobs: Vec<FateRow>,
    #[serde(flatten)]
    pub notes: Notes,
}

/// Who blocked a device.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct BlockOf {
    pub at: String,
    pub who: String,
    /// Why, in their words; may be empty.
    pub reason: String,
}

/// A time for which a device was connected, or was not.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct ConnectionRow {
    /// `connected` or `disconnected`.
    pub state: String,
    pub since: String,
    /// Null for the state that it is in now.
    pub until: Option<String>,
}

/// A property of a twin.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct PropertyRow {
    /// Such as `light.threshold`.
    pub path: String,
    /// As JSON; null when it is absent.
    pub desired: Option<String>,
    pub reported: Option<String>,
    /// `same`, `differs`, `only desired` or `only reported`.
    pub state: String,
}

/// What became of a device in a run.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct FateRow {
    pub job: String,
    pub run: String,
    pub run_status: String,
    /// Of the device; null when the results keep failures only, and it is not among them.
    pub status: Option<String>,
    pub reason: Option<String>,
    pub code: Option<u16>,
    pub message: Option<String>,
    pub attempts: Option<u32>,
    pub started_at: Option<String>,
    pub finished_at: Option<String>,
}

impl Page for DevicePage {
    const TEMPLATE: &'static str = "device.html";
    const PARAMETERS: &'static [&'static str] = &["note"];

    fn title(&self) -> String {
        format!("Device {}", self.device.device_id)
    }
}

impl Row for FateRow {
    const COLUMNS: &'static [&'static str] =
        &["job", "run", "run_status", "status", "reason", "code", "message", "attempts", "started_at", "finished_at"];
}

impl From<Fate> for FateRow {
    fn from(fate: Fate) -> FateRow {
        let row = fate.row.as_ref();
        FateRow {
            job: fate.job.to_string(),
            run: fate.run.to_string(),
            run_status: fate.run_status.as_str().to_string(),
            status: row.map(|row| row.status.as_str().to_string()),
            reason: row.map(|row| row.reason.as_str().to_string()),
            code: row.and_then(|row| row.code),
            message: row.map(|row| row.message.clone()),
            attempts: row.map(|row| row.attempts),
            started_at: row.and_then(|row| row.started_at).map(|at| at.to_string()),
            finished_at: row.and_then(|row| row.finished_at).map(|at| at.to_string()),
        }
    }
}

/// Reads the page.
///
/// # Errors
/// There is no such device, or the fleet cannot be read.
pub fn read(environment: &Environment, device_id: &str) -> Result<DevicePage, OpsError> {
    let ShownDevice { device, authentication, edge_manifest_digest: _, import, groups, connections } =
        show(environment, device_id)?;
    let mut notes = Notes::default();
    // A device can be shown whatever happened to the history of jobs.
    let found = fates(environment, device_id, (JOBS_SHOWN, SEARCHED_MAX), &mut |caveats| notes.take(caveats));
    let (jobs, is_all) = found.unwrap_or_else(|error| {
        notes.notes.push(format!("Its jobs cannot be told: {error}."));
        (Vec::new(), true)
    });
    if !is_all {
        notes.notes.push(format!("At most {JOBS_SHOWN} jobs are shown, of the newest {SEARCHED_MAX} runs."));
    }
    let by = if device.blocked { blocked_by(environment, device_id) } else { Ok(None) };
    let by = by.unwrap_or_else(|error| {
        notes.notes.push(format!("Who blocked it cannot be told: {error}."));
        None
    });
    let (desired, reported) = (secret::shown(&device.desired), secret::shown(&device.reported));
    Ok(DevicePage {
        blocked: device.blocked,
        blocked_by: by.map(|by| BlockOf { at: by.at.to_string(), who: by.who, reason: by.reason }),
        authentication: authentication.as_str().to_string(),
        import,
        groups: groups.iter().map(ToString::to_string).collect(),
        connections: times(&connections),
        edge_manifest: device.edge_manifest.clone(),
        iot_edge: device.iot_edge,
        desired_version: device.desired_version,
        reported_version: device.reported_version,
        properties: side_by_side(&desired, &reported),
        tags: secret::shown(&device.tags),
        cloud: secret::shown(&device.cloud),
        desired,
        reported,
        jobs: jobs.into_iter().map(FateRow::from).collect(),
        device: RegisteredRow::of(&device),
        notes,
    })
}

/// Writes what became of the device in jobs, of the newest [`DEVICE_RUNS_MAX`] runs.
///
/// # Errors
/// As [`read`].
pub fn write(environment: &Environment, device_id: &str, sink: &mut Sink) -> Result<(), Fault> {
    show(environment, device_id)?;
    let (jobs, _) = fates(environment, device_id, (DEVICE_RUNS_MAX, DEVICE_RUNS_MAX), &mut |_| ())?;
    sink.begin::<FateRow>()?;
    Ok(jobs.into_iter().map(FateRow::from).try_for_each(|row| sink.push(&row))?)
}

/// Returns the times between changes, the newest first.
fn times(changes: &[ConnectionChange]) -> Vec<ConnectionRow> {
    let row = |(at, change): (usize, &ConnectionChange)| ConnectionRow {
        state: if change.is_online { "connected" } else { "disconnected" }.to_string(),
        since: change.at.to_string(),
        until: at.checked_sub(1).map(|later| changes[later].at.to_string()),
    };
    changes.iter().enumerate().map(row).collect()
}

/// Returns the values of two sections by their paths.
fn side_by_side(desired: &Value, reported: &Value) -> Vec<PropertyRow> {
    let (mut left, mut right) = (BTreeMap::new(), BTreeMap::new());
    leaves(desired, "", &mut left);
    leaves(reported, "", &mut right);
    let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let row = |path: &String| {
        let (desired, reported) = (left.get(path), right.get(path));
        let state = match (desired, reported) {
            (Some(one), Some(other)) if one == other => "same",
            (Some(_), Some(_)) => "differs",
            (Some(_), None) => "only desired",
            (None, _) => "only reported",
        };
        let text = |value: Option<&Value>| value.map(ToString::to_string);
        PropertyRow { path: path.clone(), desired: text(desired), reported: text(reported), state: state.to_string() }
    };
    paths.into_iter().map(row).collect()
}

fn leaves(value: &Value, path: &str, found: &mut BTreeMap<String, Value>) {
    match value.as_object().filter(|members| !members.is_empty() || path.is_empty()) {
        Some(members) => {
            for (name, value) in members {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &path, found);
            }
        }
        None => drop(found.insert(path.to_string(), value.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::Timestamp;
    use serde_json::json;

    #[test]
    fn a_state_lasts_until_the_next_change() {
        let change = |second, is_online| ConnectionChange { at: Timestamp::from_second(second).unwrap(), is_online };
        let rows = times(&[change(9, false), change(5, true)]);
        assert_eq!((rows[0].state.as_str(), &rows[0].until), ("disconnected", &None));
        assert_eq!((rows[1].state.as_str(), rows[1].until.as_ref()), ("connected", Some(&rows[0].since)));
        assert_eq!(times(&[]), []);
    }

    #[test]
    fn sections_stand_side_by_side() {
        let rows = side_by_side(&json!({"a": {"b": 1, "c": {}}, "d": 2}), &json!({"a": {"b": 1}, "d": 3, "e": [1]}));
        let shown: Vec<(&str, &str)> = rows.iter().map(|row| (row.path.as_str(), row.state.as_str())).collect();
        assert_eq!(shown, [("a.b", "same"), ("a.c", "only desired"), ("d", "differs"), ("e", "only reported")]);
        assert_eq!(side_by_side(&json!({}), &json!({})), []);
    }
}
