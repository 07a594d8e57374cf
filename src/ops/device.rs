//! The devices of a fleet: lists, one with its twin, exports.

mod export;

use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, code};
use crate::model::device::Device;
use crate::model::fleet::Declared;
use crate::query;
use crate::registry::{DeviceFilter, Registry};
pub use export::{ExportFormat, export};

/// Which devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceChoice {
    /// A condition of the query language.
    pub query: Option<String>,
    /// The path or the name of an organization.
    pub organization: Option<String>,
    pub limit: Option<u64>,
}

/// Calls `visit` for each device, sorted by id.
///
/// # Errors
/// The condition is malformed, or something cannot be read; or the error of `visit`.
pub fn list(
    environment: &Environment,
    choice: &DeviceChoice,
    visit: &mut dyn FnMut(Device) -> Result<(), OpsError>,
) -> Result<(), OpsError> {
    let (registry, filter) = open(environment, choice)?;
    registry.each_device(&filter, visit)
}

/// Returns the number of devices.
///
/// # Errors
/// As [`list`].
pub fn count(environment: &Environment, choice: &DeviceChoice) -> Result<u64, OpsError> {
    let (registry, filter) = open(environment, choice)?;
    Ok(registry.count_devices(&filter)?)
}

/// Returns one device.
///
/// # Errors
/// There is no such device, or the registry cannot be read.
pub fn show(environment: &Environment, device_id: &str) -> Result<Device, OpsError> {
    let (registry, _) = open(environment, &DeviceChoice::default())?;
    registry.device(device_id)?.ok_or_else(|| OpsError::NotFound {
        what: format!("there is no device `{}`", crate::model::text::sanitize_line(device_id)),
        help: "Ids are case-sensitive; `fleetform device list --query \"startswith(deviceId, '…')\"` finds near ones."
            .to_string(),
    })
}

fn open(environment: &Environment, choice: &DeviceChoice) -> Result<(Registry, DeviceFilter), OpsError> {
    let query = choice.query.as_deref().map(parse).transpose()?;
    let workspace = Workspace::open(environment)?;
    let declared = workspace.declared_somewhere()?;
    let organization = choice.organization.as_deref().map(|wanted| path_of(&declared, wanted)).transpose()?;
    let registry = workspace.open_for_reading(&declared.fleet)?;
    Ok((registry, DeviceFilter { query, organization, limit: choice.limit }))
}

/// Returns the path of an organization that is given by its name or path.
fn path_of(declared: &Declared, wanted: &str) -> Result<String, OpsError> {
    let known = || declared.organizations.values();
    let found = known().find(|organization| organization.name.as_str() == wanted || organization.path == wanted);
    found.map(|organization| organization.path.clone()).ok_or_else(|| {
        let near = crate::diag::nearest(wanted, known().map(|organization| organization.path.as_str()));
        OpsError::NotFound {
            what: format!("there is no organization `{}`", crate::diag::shown(wanted)),
            help: near.map_or(String::new(), |near| format!("Did you mean `{near}`?")),
        }
    })
}

/// Returns the condition, or what is wrong with it as findings over the text itself.
fn parse(text: &str) -> Result<query::Query, OpsError> {
    query::parse(text).map_err(|errors| {
        let mut sources = SourceMap::new();
        let file = sources.add("--query", text);
        let mut diagnostics = Diagnostics::new();
        for error in errors {
            let span = Span { file, start: error.start, end: error.end };
            let mut diagnostic = Diagnostic::new(code::QUERY, span, error.to_string());
            diagnostic.help = error.help();
            diagnostics.push(diagnostic);
        }
        OpsError::Invalid(Box::new(Findings { sources, diagnostics }))
    })
}
