//! The devices of a fleet: lists, one with its twin, exports, and what is done to single ones.

mod change;
mod export;
mod mosquitto;
mod send;
mod work;

use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, code};
use crate::model::device::{Authentication, Device};
use crate::model::fleet::{Declared, DeviceGroup};
use crate::model::id::Name;
use crate::prepare::{Files, OnError, TreeChoice, models_of, query_of};
use crate::query;
use crate::registry::{DeviceFilter, Registry};
pub use change::{Changed, DeviceChange, block_for, change};
pub use export::{ExportFormat, export, export_to};
pub use send::send;
pub use work::{Call, Work, WrittenJob, work};

/// Which devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceChoice {
    /// A condition of the query language.
    pub query: Option<String>,
    /// The path or the name of an organization.
    pub organization: Option<String>,
    /// The page of a list: only ids that come after this one, at most so many. A count has no pages.
    pub after: Option<String>,
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
    Ok(registry.devices().count(&filter.request())?.selected)
}

/// A device with what is known about it beside its twin. Its keys are not among it.
#[derive(Debug, Clone)]
pub struct ShownDevice {
    pub device: Device,
    pub authentication: Authentication,
    /// The digest of the content of the edge manifest that it has, 64 hex digits; `None` when it has none, or from an
    /// older registry.
    pub edge_manifest_digest: Option<String>,
    /// The import that brought it.
    pub import: Option<String>,
    /// The groups that it is in now, by name.
    pub groups: Vec<Name>,
}

/// Returns one device.
///
/// # Errors
/// There is no such device, or the registry cannot be read.
pub fn show(environment: &Environment, device_id: &str) -> Result<ShownDevice, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = files.usable()?;
    let registry = workspace.open_for_reading(&declared.fleet)?;
    let Some(device) = registry.devices().get(device_id)? else { return Err(missing(&registry, device_id)?) };
    let groups =
        declared.groups.values().filter(|group| is_in(&device, group, declared)).map(|group| group.name.clone());
    let id = device.device_id.clone();
    Ok(ShownDevice {
        groups: groups.collect(),
        authentication: registry.devices().keys(device_id)?.authentication,
        edge_manifest_digest: registry.devices().edge_manifest_digest(&id)?,
        import: registry.devices().imports_of(std::slice::from_ref(&id))?.remove(&id),
        device,
    })
}

/// Returns true when a group has a device.
fn is_in(device: &Device, group: &DeviceGroup, declared: &Declared) -> bool {
    let has_template =
        group.template.as_ref().is_none_or(|template| device.template.as_deref() == Some(template.as_str()));
    let is_within = group.organization.as_ref().is_none_or(|path| {
        let own = device.organization.as_deref().unwrap_or_default();
        own.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    });
    // Queries were checked with the files.
    has_template && is_within && query::matches(&query_of(&group.query, declared), device)
}

/// Returns that a device is not there, with a near id.
fn missing(registry: &Registry, device_id: &str) -> Result<OpsError, OpsError> {
    let ids = registry.devices().ids_near(device_id)?;
    if ids.is_empty() {
        return Ok(OpsError::NotFound {
            what: format!("there is no device `{}`: this registry has none at all", crate::diag::shown(device_id)),
            help:
                "Run `fleetform apply` to import them. In a clone, or where another registry works on the fleet, name \
                   that one with --registry."
                    .to_string(),
        });
    }
    let near = crate::diag::nearest(device_id, ids.iter().map(String::as_str));
    Ok(OpsError::NotFound {
        what: format!("there is no device `{}`", crate::diag::shown(device_id)),
        help: match near {
            Some(near) => format!("Did you mean `{near}`?"),
            None => {
                "Ids are case-sensitive; `fleetform device list --query \"startswith(deviceId, '…')\"` finds near ones."
                    .to_string()
            }
        },
    })
}

fn open(environment: &Environment, choice: &DeviceChoice) -> Result<(Registry, DeviceFilter), OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = files.usable()?;
    let query =
        choice.query.as_deref().map(parse).transpose()?.map(|query| query::with_models(&query, &models_of(declared)));
    let organization = choice.organization.as_deref().map(|wanted| path_of(declared, wanted)).transpose()?;
    let registry = workspace.open_for_reading(&declared.fleet)?;
    Ok((registry, DeviceFilter { query, organization, after: choice.after.clone(), limit: choice.limit }))
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
