//! The devices of `fixtures/queries`, in memory and in a registry.

use std::path::Path;

use fleetform::model::device::{ConnectionState, Device, DeviceState};
use fleetform::registry::{DeviceFilter, Registry, RegistryError, sqlite};
use serde_json::Value;

/// Returns the lines of a fixture.
pub fn fixture(name: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/queries").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Returns a field that is text.
pub fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_else(|| panic!("no text `{field}` in {value}"))
}

/// Returns the device of a twin as IoT Hub writes it.
fn device(twin: &Value) -> Device {
    let optional = |field: &str| twin[field].as_str().map(str::to_string);
    let section = |twin: &Value| {
        let mut section = twin.clone();
        let version = section.as_object_mut().unwrap().remove("$version").unwrap();
        (section, version.as_u64().unwrap())
    };
    let (desired, desired_version) = section(&twin["properties"]["desired"]);
    let (reported, reported_version) = section(&twin["properties"]["reported"]);
    Device {
        device_id: text(twin, "deviceId").to_string(),
        device_name: text(twin, "deviceName").to_string(),
        template: optional("template"),
        organization: optional("organization"),
        state: DeviceState::parse(text(twin, "state")).unwrap(),
        blocked: text(twin, "status") == "disabled",
        simulated: twin["simulated"].as_bool().unwrap(),
        iot_edge: twin["capabilities"]["iotEdge"].as_bool().unwrap(),
        connection_state: ConnectionState::parse(text(twin, "connectionState")).unwrap(),
        last_activity: optional("lastActivityTime").map(|time| time.parse().unwrap()),
        edge_manifest: None,
        tags: twin["tags"].clone(),
        cloud: twin["cloud"].clone(),
        desired,
        desired_version,
        reported,
        reported_version,
    }
}

/// Returns the devices of the fixture.
pub fn twins() -> Vec<Device> {
    let twins: Vec<Device> = fixture("twins.jsonl").iter().map(device).collect();
    assert!(twins.len() >= 40, "there are enough twins");
    twins
}

/// Returns a registry with these devices.
pub fn registry_of(devices: &[Device], folder: &Path) -> Registry {
    let path = folder.join("fleet.db");
    let registry = sqlite::open(&path, "acme").unwrap();
    let mut connection = rusqlite::Connection::open(&path).unwrap();
    let transaction = connection.transaction().unwrap();
    for device in devices {
        let text = "INSERT INTO device VALUES (?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,NULL,?11,?12,?13,?14,?15,?16,NULL,NULL)";
        let columns: [&dyn rusqlite::ToSql; 16] = [
            &device.device_id,
            &device.device_name,
            &device.template,
            &device.organization,
            &device.state.as_str(),
            &device.blocked,
            &device.simulated,
            &device.iot_edge,
            &device.connection_state.as_str(),
            &device.last_activity.map(|time| time.to_string()),
            &device.tags.to_string(),
            &device.cloud.to_string(),
            &device.desired.to_string(),
            &device.desired_version,
            &device.reported.to_string(),
            &device.reported_version,
        ];
        transaction.execute(text, &columns[..]).unwrap();
    }
    transaction.commit().unwrap();
    registry
}

/// Returns the ids that a filter selects, in the registry's order.
pub fn listed(registry: &Registry, filter: &DeviceFilter) -> Vec<String> {
    let mut ids = Vec::new();
    let keep = |device: Device| -> Result<(), RegistryError> {
        ids.push(device.device_id);
        Ok(())
    };
    registry.each_device(filter, keep).unwrap();
    ids
}
