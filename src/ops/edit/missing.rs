//! Why there is no job or schedule of a name to edit.

use super::OpsError;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::prepare::Files;

/// Returns why there is no job of a name: no document declares one, or an invalid one may.
pub(super) fn no_job(files: &Files<'_>, name: &str) -> OpsError {
    if may_hold(files, name) {
        return files.invalid().into();
    }
    if declares(files, Kind::Schedule, name) {
        return OpsError::NotFound {
            what: format!("`{name}` is a schedule, and no job"),
            help: format!(
                "`fleetform schedule unschedule {name}` keeps its next occurrences from starting, and deleting its \
                 document stops the one that runs; the devices that failed in one are the target of a job with \
                 `failedOf`."
            ),
        };
    }
    let jobs = files.declared.iter().flat_map(|declared| declared.jobs.keys());
    OpsError::not_declared("job", name, jobs.map(Name::as_str))
}

/// Returns why there is no schedule of a name.
pub(super) fn no_schedule(files: &Files<'_>, name: &str) -> OpsError {
    if may_hold(files, name) {
        return files.invalid().into();
    }
    if declares(files, Kind::Job, name) {
        return OpsError::NotFound {
            what: format!("`{name}` is a job, and no schedule"),
            help: format!("`fleetform job stop {name}` stops it."),
        };
    }
    let schedules = files.declared.iter().flat_map(|declared| declared.schedules.keys());
    OpsError::not_declared("schedule", name, schedules.map(Name::as_str))
}

fn declares(files: &Files<'_>, kind: Kind, name: &str) -> bool {
    match kind {
        Kind::Schedule => files.loaded.schedule(name).is_some(),
        _ => files.loaded.job(name).is_some(),
    }
}

/// Returns true when something cannot be used that is a job or schedule of a name, or a file that says the name.
fn may_hold(files: &Files<'_>, name: &str) -> bool {
    let is_its = |kind: &Kind, held: &Name| [Kind::Job, Kind::Schedule].contains(kind) && held.as_str() == name;
    let says = |path: &String| {
        let bytes = files.tree.read(path, limits::YAML_FILE_BYTES_MAX as u64);
        bytes.map_or(true, |bytes| String::from_utf8_lossy(&bytes).contains(name))
    };
    files.held.documents.keys().any(|(kind, held)| is_its(kind, held)) || files.held.files.keys().any(says)
}
