//! The devices of a fleet: lists, one with its twin, exports, and what is done to single ones.

mod blocked;
mod change;
mod export;
mod mosquitto;
mod send;
mod work;

use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, code};
use crate::model::access::{Sight, is_within};
use crate::model::device::{Authentication, Device};
use crate::model::fleet::{Declared, DeviceGroup};
use crate::model::id::Name;
use crate::prepare::{Files, OnError, TreeChoice, models_of, query_of};
use crate::query;
use crate::registry::{DeviceFilter, Registry};

pub use crate::registry::ConnectionChange;
pub use blocked::{BlockedBy, blocked_by};
pub use change::{Changed, DeviceChange, block_for, change};
pub use export::{ExportFormat, export, export_to};
pub use send::send;
pub use work::{Call, Work, WrittenJob, work};

/// Which devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceChoice {
    /// A condition of the query language.
    pub query: Option<String>,
    /// What messages about the condition call it; `--query` when empty.
    pub called: &'static str,
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
    /// When it connected, and when its connections ended, the newest first.
    pub connections: Vec<ConnectionChange>,
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
    let sight = &environment.sight;
    let device = registry.devices().get(device_id)?;
    let Some(device) = device.filter(|device| sight.has(device.organization.as_deref())) else {
        return Err(missing(&registry, device_id, sight)?);
    };
    let shown = declared.groups.values().filter(|group| sight.has(group.organization.as_deref()));
    let groups = shown.filter(|group| is_in(&device, group, declared)).map(|group| group.name.clone());
    let id = device.device_id.clone();
    let import = registry.devices().imports_of(std::slice::from_ref(&id))?.remove(&id);
    let is_shown = |import: &String| {
        let declared = declared.imports.get(import.as_str());
        sight.has(declared.and_then(|import| import.organization.as_deref()))
    };
    Ok(ShownDevice {
        groups: groups.collect(),
        authentication: registry.devices().keys(device_id)?.authentication,
        edge_manifest_digest: registry.devices().edge_manifest_digest(&id)?,
        import: import.filter(is_shown),
        connections: registry.devices().connections(&id)?,
        device,
    })
}

/// Returns true when a group has a device.
fn is_in(device: &Device, group: &DeviceGroup, declared: &Declared) -> bool {
    let has_template =
        group.template.as_ref().is_none_or(|template| device.template.as_deref() == Some(template.as_str()));
    let is_within = group
        .organization
        .as_ref()
        .is_none_or(|path| device.organization.as_deref().is_some_and(|own| is_within(own, path)));
    // Queries were checked with the files.
    has_template && is_within && query::matches(&query_of(&group.query, declared), device)
}

/// Returns that a device is not there, or not to be seen; with a near id where all are.
fn missing(registry: &Registry, device_id: &str, sight: &Sight) -> Result<OpsError, OpsError> {
    if !sight.is_whole() {
        return Ok(OpsError::NotFound {
            what: format!("there is no device `{}` that you may see", crate::diag::shown(device_id)),
            help: "Ids are case-sensitive. Your grants say whose devices you see.".to_string(),
        });
    }
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

/// Returns the registry, and what of it is asked for and to be seen.
fn open(environment: &Environment, choice: &DeviceChoice) -> Result<(Registry, DeviceFilter), OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let declared = files.usable()?;
    let called = if choice.called.is_empty() { "--query" } else { choice.called };
    let parse = |text: &str| parse(called, text);
    let asked = choice.query.as_deref().map(parse).transpose()?;
    let sight = &environment.sight;
    let organization = choice.organization.as_deref().map(|wanted| path_of(declared, wanted, sight)).transpose()?;
    let (organization, shown) = match (sight, organization) {
        (Sight::Whole, organization) => (organization, None),
        (sight, Some(path)) if sight.has(Some(&path)) => (Some(path), None),
        (Sight::Within(paths), asked) => {
            let within = |path: &&String| asked.as_ref().is_none_or(|asked| is_within(path, asked));
            let paths: Vec<&String> = paths.iter().filter(within).collect();
            match &*paths {
                // No device is of it.
                [] => (Some("/".to_string()), None),
                [one] => (Some((*one).clone()), None),
                many => (None, Some(many.iter().map(|path| in_or_below(path)).collect::<Vec<_>>().join(" OR "))),
            }
        }
    };
    let query = match (asked, shown) {
        (Some(asked), Some(shown)) if !asked.is_all() => Some(parse(&format!("({}) AND ({shown})", asked.text()))?),
        (_, Some(shown)) => Some(parse(&shown)?),
        (asked, None) => asked,
    };
    let query = query.map(|query| query::with_models(&query, &models_of(declared)));
    let registry = workspace.open_for_reading(&declared.fleet)?;
    Ok((registry, DeviceFilter { query, organization, after: choice.after.clone(), limit: choice.limit }))
}

/// Returns the condition of devices in an organization or below. Its path has nothing that a literal would escape.
fn in_or_below(path: &str) -> String {
    format!("organization = '{path}' OR startswith(organization, '{path}/')")
}

/// Returns the path of an organization that is given by its name or path.
fn path_of(declared: &Declared, wanted: &str, sight: &Sight) -> Result<String, OpsError> {
    // One above what is seen is asked for by those who know it.
    let is_above = |path: &str| match sight {
        Sight::Whole => true,
        Sight::Within(paths) => paths.iter().any(|own| is_within(own, path)),
    };
    let shown = |path: &str| sight.has(Some(path)) || is_above(path);
    let known = || declared.organizations.values().filter(|organization| shown(&organization.path));
    let found = known().find(|organization| organization.is_called(wanted));
    found.map(|organization| organization.path.clone()).ok_or_else(|| {
        let near = crate::diag::nearest(wanted, known().map(|organization| organization.path.as_str()));
        OpsError::NotFound {
            what: format!("there is no organization `{}`", crate::diag::shown(wanted)),
            help: near.map_or(String::new(), |near| format!("Did you mean `{near}`?")),
        }
    })
}

/// Returns the condition, or what is wrong with it as findings over the text itself.
fn parse(called: &str, text: &str) -> Result<query::Query, OpsError> {
    query::parse(text).map_err(|errors| {
        let mut sources = SourceMap::new();
        let file = sources.add(called, text);
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
