//! Devices for people and as JSON. Keys are never shown.

use serde_json::{Value, json};

use super::Table;
use crate::cli::output::{Painter, Tone};
use crate::model::device::Device;
use crate::model::text::sanitize_line;

/// Returns an empty table of devices.
pub fn table() -> Table {
    Table::new(&["DEVICE", "NAME", "TEMPLATE", "ORGANIZATION", "STATE", "CONNECTION"])
}

/// Returns the row of a device.
pub fn row(device: &Device) -> Vec<String> {
    let state = if device.blocked { "blocked" } else { device.state.as_str() };
    vec![
        device.device_id.clone(),
        device.device_name.clone(),
        device.template.clone().unwrap_or_else(|| "-".to_string()),
        device.organization.clone().unwrap_or_else(|| "-".to_string()),
        state.to_string(),
        device.connection_state.as_str().to_string(),
    ]
}

/// Returns a device of `device list --json`.
pub fn to_json(device: &Device) -> Value {
    let state = if device.blocked { "blocked" } else { device.state.as_str() };
    json!({
        "device_id": device.device_id,
        "device_name": device.device_name,
        "template": device.template,
        "organization": device.organization,
        "state": state,
        "simulated": device.simulated,
        "connection_state": device.connection_state.as_str(),
    })
}

/// Returns a device with its twin.
pub fn twin_json(device: &Device) -> Value {
    let mut document = to_json(device);
    if let Some(members) = document.as_object_mut() {
        members.insert("last_activity".into(), json!(device.last_activity.map(|time| time.to_string())));
        members.insert("edge_manifest".into(), json!(device.edge_manifest));
        members.insert("capabilities".into(), json!({"iotEdge": device.iot_edge}));
        members.insert("tags".into(), device.tags.clone());
        members.insert("cloud".into(), device.cloud.clone());
        let properties = json!({"desired": device.desired_with_version(), "reported": device.reported_with_version()});
        members.insert("properties".into(), properties);
    }
    document
}

/// Returns a device with its twin for people.
pub fn show(device: &Device, painter: Painter) -> String {
    let mut text = format!("{}\n", painter.paint(Tone::Strong, &format!("device {}", device.device_id)));
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<13} {}\n", sanitize_line(value)));
    line("name", &device.device_name);
    line("template", device.template.as_deref().unwrap_or("-"));
    line("organization", device.organization.as_deref().unwrap_or("-"));
    line("state", device.state.as_str());
    line("blocked", if device.blocked { "yes" } else { "no" });
    line("simulated", if device.simulated { "yes" } else { "no" });
    line("connection", device.connection_state.as_str());
    line("last activity", &device.last_activity.map_or("-".to_string(), |time| time.to_string()));
    line("edge manifest", device.edge_manifest.as_deref().unwrap_or("-"));
    let sections = [
        ("tags", &device.tags, None),
        ("cloud", &device.cloud, None),
        ("desired", &device.desired, Some(device.desired_version)),
        ("reported", &device.reported, Some(device.reported_version)),
    ];
    for (name, section, version) in sections {
        let version = version.map_or(String::new(), |version| format!(" (version {version})"));
        text.push_str(&format!("  {name}{version}\n"));
        for line in format!("{section:#}").lines() {
            text.push_str(&format!("    {}\n", sanitize_line(line)));
        }
    }
    text
}
