//! Exports of devices with their keys, to files that only their owner can read.

use std::io::{BufWriter, Write};
use std::path::Path;

use base64::Engine as _;
use serde::Serialize;
use serde_json::{Value, json};

use super::{DeviceChoice, mosquitto, open};
use crate::model::device::{Authentication, Device, IOTC_COLUMNS};
use crate::model::fleet::TOPIC_PREFIX_DEFAULT;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::{Destination, Files, OnError, TreeChoice, real_path};
use crate::registry::{DeviceFilter, DeviceKeys, Identity, Registry, twin_etag};
use crate::repo::work_tree_taking;

/// How an export is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// The six columns of IoT Central's export, as CSV.
    Csv,
    /// One `ExportImportDevice` of IoT Hub a line, as JSON.
    IotHub,
    /// A password file of Mosquitto: a device's user is its id, its password the primary key in base64.
    Mosquitto,
    /// The access control list of Mosquitto beside it. It has no keys and is the same for all fleets of one prefix.
    MosquittoAcl,
}

/// Writes devices with their keys, sorted by id, to a stream, and returns how many. The same devices give the same
/// bytes.
///
/// # Errors
/// The stream cannot be written, or the registry cannot be read.
pub fn export_to(
    environment: &Environment,
    choice: &DeviceChoice,
    format: ExportFormat,
    stream: &mut dyn Write,
) -> Result<u64, OpsError> {
    let (registry, filter) = open(environment, choice)?;
    let fail = |source| OpsError::Output { what: "the devices cannot be written".to_string(), source };
    write(environment, (&registry, &filter), format, stream, fail)
}

/// Writes devices as [`export_to`] does to a file that only its owner can read (mode 0600), in place of one that is
/// there ([`Destination`]).
///
/// # Errors
/// The file cannot be written, git would take it with the next `git add`, or the registry cannot be read.
pub fn export(
    environment: &Environment,
    choice: &DeviceChoice,
    format: ExportFormat,
    path: &Path,
) -> Result<u64, OpsError> {
    let (registry, filter) = open(environment, choice)?;
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    let real = real_path(path).map_err(fail)?;
    let has_keys = format != ExportFormat::MosquittoAcl;
    if let Some(root) = if has_keys { work_tree_taking(&real)? } else { None } {
        return Err(OpsError::Refused {
            what: format!("{} is in the git work tree {}, and the file has keys", path.display(), root.display()),
            help: "Name a file outside of it, or one that git ignores; `-o -` writes to stdout.".to_string(),
        });
    }
    let mut file = Destination::open(path, has_keys).map_err(fail)?;
    let count = write(environment, (&registry, &filter), format, &mut file, fail)?;
    file.finish().map_err(fail)?;
    Ok(count)
}

fn write(
    environment: &Environment,
    (registry, filter): (&Registry, &DeviceFilter),
    format: ExportFormat,
    stream: &mut dyn Write,
    fail: impl Fn(std::io::Error) -> OpsError,
) -> Result<u64, OpsError> {
    match format {
        ExportFormat::Csv => write_csv(registry, filter, stream, fail),
        ExportFormat::IotHub => write_lines(registry, filter, stream, fail),
        ExportFormat::Mosquitto => write_passwords(registry, filter, stream, fail),
        ExportFormat::MosquittoAcl => {
            let written = mosquitto::write_acl(stream, &topic_prefix(environment)).map(|()| 0);
            written.map_err(fail)
        }
    }
}

/// Returns what the topics of the fleet begin with.
fn topic_prefix(environment: &Environment) -> String {
    let link = Workspace::open(environment).and_then(|workspace| {
        let files = Files::read(&workspace, TreeChoice::Head, OnError::Hold)?;
        Ok(files.usable()?.fleet.link.clone())
    });
    let prefix = link.ok().and_then(|link| Some(link.mqtt()?.topic_prefix.clone()));
    prefix.unwrap_or_else(|| TOPIC_PREFIX_DEFAULT.to_string())
}

fn write_passwords(
    registry: &Registry,
    filter: &DeviceFilter,
    stream: &mut dyn Write,
    fail: impl Fn(std::io::Error) -> OpsError,
) -> Result<u64, OpsError> {
    let mut writer = BufWriter::new(stream);
    let mut count = 0;
    registry.each_device(filter, |device| {
        let keys = registry.devices().keys(&device.device_id)?;
        let password = text_of(keys.primary_key.as_ref()).filter(|_| !device.blocked);
        let Some(line) = password.and_then(|password| mosquitto::password_line(&device.device_id, &password)) else {
            return Ok(());
        };
        count += 1;
        writeln!(writer, "{line}").map_err(&fail)
    })?;
    writer.flush().map_err(fail)?;
    Ok(count)
}

fn write_csv(
    registry: &Registry,
    filter: &DeviceFilter,
    stream: &mut dyn Write,
    fail: impl Fn(std::io::Error) -> OpsError,
) -> Result<u64, OpsError> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(stream);
    let csv_fail = |error: csv::Error| fail(std::io::Error::other(error));
    writer.write_record(IOTC_COLUMNS).map_err(csv_fail)?;
    let mut count = 0;
    registry.each_device(filter, |device| {
        let keys = registry.devices().keys(&device.device_id)?;
        count += 1;
        let cells = [
            device.device_id,
            device.device_name,
            text_of(keys.primary_key.as_ref()).unwrap_or_default(),
            text_of(keys.secondary_key.as_ref()).unwrap_or_default(),
            keys.primary_thumbprint.unwrap_or_default(),
            keys.secondary_thumbprint.unwrap_or_default(),
        ];
        writer.write_record(cells).map_err(csv_fail)
    })?;
    writer.flush().map_err(fail)?;
    Ok(count)
}

fn write_lines(
    registry: &Registry,
    filter: &DeviceFilter,
    stream: &mut dyn Write,
    fail: impl Fn(std::io::Error) -> OpsError,
) -> Result<u64, OpsError> {
    let mut writer = BufWriter::new(stream);
    let mut count = 0;
    registry.each_device(filter, |device| {
        let keys = registry.devices().keys(&device.device_id)?;
        count += 1;
        let line = HubDevice::new(device, &keys);
        serde_json::to_writer(&mut writer, &line).map_err(|error| fail(error.into()))?;
        writer.write_all(b"\n").map_err(&fail)
    })?;
    writer.flush().map_err(fail)?;
    Ok(count)
}

/// `ExportImportDevice` of IoT Hub, with its members in the order in which IoT Hub writes them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HubDevice {
    id: String,
    e_tag: String,
    status: &'static str,
    authentication: HubAuthentication,
    #[serde(rename = "twinETag")]
    twin_etag: String,
    tags: Value,
    properties: HubProperties,
    capabilities: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HubAuthentication {
    symmetric_key: HubKeys,
    x509_thumbprint: HubThumbprints,
    #[serde(rename = "type")]
    authentication: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HubKeys {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct HubThumbprints {
    primary_thumbprint: Option<String>,
    secondary_thumbprint: Option<String>,
}

#[derive(Serialize)]
struct HubProperties {
    desired: Value,
    reported: Value,
}

impl HubDevice {
    fn new(device: Device, keys: &DeviceKeys) -> HubDevice {
        let identity = Identity { is_blocked: device.blocked, iot_edge: device.iot_edge, keys };
        HubDevice {
            e_tag: identity.etag(),
            status: crate::query::status(device.blocked),
            authentication: HubAuthentication {
                symmetric_key: HubKeys {
                    primary_key: text_of(keys.primary_key.as_ref()),
                    secondary_key: text_of(keys.secondary_key.as_ref()),
                },
                x509_thumbprint: HubThumbprints {
                    primary_thumbprint: keys.primary_thumbprint.clone(),
                    secondary_thumbprint: keys.secondary_thumbprint.clone(),
                },
                authentication: Authentication::as_str(keys.authentication),
            },
            twin_etag: twin_etag(&device.tags, &device.desired),
            properties: HubProperties {
                desired: device.desired_with_version(),
                reported: device.reported_with_version(),
            },
            capabilities: json!({"iotEdge": device.iot_edge}),
            tags: device.tags,
            id: device.device_id,
        }
    }
}

fn text_of(key: Option<&Vec<u8>>) -> Option<String> {
    key.map(|key| base64::engine::general_purpose::STANDARD.encode(key))
}
