//! The devices of a fleet: lists, one with its twin, exports.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use base64::Engine as _;

use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, code};
use crate::model::device::{Device, IOTC_COLUMNS};
use crate::model::fleet::Declared;
use crate::query;
use crate::registry::{DeviceFilter, Registry};

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

/// Writes devices with their keys to a file that only its owner can read (mode 0600), in place of one that is there, and returns how many. The file is complete or
/// not there.
///
/// # Errors
/// The file cannot be written, or the registry cannot be read.
pub fn export(environment: &Environment, choice: &DeviceChoice, path: &Path) -> Result<u64, OpsError> {
    let (registry, filter) = open(environment, choice)?;
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    let partial = partial_path(path);
    let file = owner_only(&partial).map_err(fail)?;
    let written = write_export(&registry, &filter, file, &partial);
    let count = match written {
        Ok(count) => count,
        Err(error) => {
            drop(std::fs::remove_file(&partial));
            return Err(error);
        }
    };
    std::fs::rename(&partial, path).map_err(fail)?;
    Ok(count)
}

fn write_export(registry: &Registry, filter: &DeviceFilter, file: File, path: &Path) -> Result<u64, OpsError> {
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(file);
    let csv_fail = |error: csv::Error| fail(std::io::Error::other(error));
    writer.write_record(IOTC_COLUMNS).map_err(csv_fail)?;
    let mut count = 0;
    let text =
        |key: Option<Vec<u8>>| key.map_or(String::new(), |key| base64::engine::general_purpose::STANDARD.encode(key));
    registry.each_device(filter, |device| {
        let keys = registry.keys(&device.device_id)?;
        count += 1;
        let cells = [
            device.device_id,
            device.device_name,
            text(keys.primary_key),
            text(keys.secondary_key),
            keys.primary_thumbprint.unwrap_or_default(),
            keys.secondary_thumbprint.unwrap_or_default(),
        ];
        writer.write_record(cells).map_err(csv_fail)
    })?;
    let mut file = writer.into_inner().map_err(|error| fail(error.into_error()))?;
    file.flush().and_then(|()| file.sync_all()).map_err(fail)?;
    Ok(count)
}

/// Returns a name beside a file for what is being written to it: of this process, so that nothing of others is in its place.
fn partial_path(path: &Path) -> std::path::PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.partial", std::process::id()));
    path.with_file_name(name)
}

fn owner_only(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    options.open(path)
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
