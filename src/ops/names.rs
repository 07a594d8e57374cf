//! The names that a person may mean: what completes them on the command line. It never fails, and is quick.

use super::{Environment, Workspace};
use crate::model::id::Name;
use crate::prepare::{Files, OnError, PrepareError, TreeChoice, View};
use crate::registry::DeviceFilter;

/// Devices that are named at most.
const DEVICES_MAX: u64 = 200;

/// What has a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noun {
    Job,
    Schedule,
    Group,
    Import,
    Organization,
    Device,
}

/// Returns the names that begin with a text, sorted; none where the fleet cannot be read.
pub fn names(environment: &Environment, noun: Noun, start: &str) -> Vec<String> {
    let found = match noun {
        Noun::Device => device_ids(environment, start),
        _ => declared(environment, noun),
    };
    let mut found: Vec<String> = found.unwrap_or_default();
    found.retain(|name| name.starts_with(start));
    found.sort();
    found.dedup();
    found
}

fn declared(environment: &Environment, noun: Noun) -> Result<Vec<String>, PrepareError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = std::sync::Arc::clone(files.usable()?);
    let mut names: Vec<&Name> = match noun {
        Noun::Job => declared.jobs.keys().chain(declared.schedules.keys()).collect(),
        Noun::Schedule => declared.schedules.keys().collect(),
        Noun::Group => declared.groups.keys().collect(),
        Noun::Import => declared.imports.keys().collect(),
        Noun::Organization => declared.organizations.keys().collect(),
        Noun::Device => Vec::new(),
    };
    // What has run and is declared no more can be looked at.
    let view = if noun == Noun::Job { View::of_files(&workspace, files).ok() } else { None };
    names.extend(view.iter().flat_map(|view| view.ledger.claims.values()).map(|claim| &claim.job));
    Ok(names.into_iter().map(Name::to_string).collect())
}

/// Returns the first devices whose ids begin with a text.
fn device_ids(environment: &Environment, start: &str) -> Result<Vec<String>, PrepareError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let registry = workspace.open_for_reading(&files.usable()?.fleet)?;
    let quoted = start.replace('\\', "\\\\").replace('\'', "\\'");
    let query = crate::query::parse(&format!("startswith(deviceId, '{quoted}')")).ok();
    let mut ids = Vec::new();
    let filter = DeviceFilter { query, limit: Some(DEVICES_MAX), ..DeviceFilter::default() };
    registry.each_device::<PrepareError>(&filter, |device| {
        // A shell puts a name on its line as it is.
        if device.device_id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')) {
            ids.push(device.device_id);
        }
        Ok(())
    })?;
    Ok(ids)
}
