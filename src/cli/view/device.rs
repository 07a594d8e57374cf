//! Devices for people and as JSON. Keys are never shown.

use serde_json::{Value, json};

use super::{TextTable, field};
use crate::cli::output::{Painter, Tone};
use crate::model::device::Device;
use crate::model::id::Name;
use crate::model::secret;
use crate::model::text::sanitize_line;
use crate::ops::device::{ConnectionChange, ShownDevice};
use crate::ops::job::ListedRun;

/// Returns an empty table of devices.
pub fn table() -> TextTable {
    TextTable::new(&["DEVICE", "NAME", "TEMPLATE", "ORGANIZATION", "STATE", "CONNECTION"])
        .cutting(&["NAME", "ORGANIZATION"])
        .sparing(&["ORGANIZATION", "TEMPLATE", "NAME"])
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

/// Returns a device with its twin, its groups and what became of it in some runs.
pub fn shown_json(shown: &ShownDevice, runs: &[ListedRun]) -> Value {
    let ShownDevice { device, authentication, edge_manifest_digest, import, groups, connections } = shown;
    let mut document = to_json(device);
    if let Some(members) = document.as_object_mut() {
        members.insert("blocked".into(), json!(device.blocked));
        members.insert("authentication".into(), json!(authentication.as_str()));
        members.insert("import".into(), json!(import));
        members.insert("last_activity".into(), json!(device.last_activity.map(|time| time.to_string())));
        members.insert("edge_manifest".into(), json!(device.edge_manifest));
        members.insert("edge_manifest_digest".into(), json!(edge_manifest_digest));
        members.insert("capabilities".into(), json!({"iotEdge": device.iot_edge}));
        members.insert("tags".into(), device.tags.clone());
        members.insert("cloud".into(), device.cloud.clone());
        let properties = json!({"desired": device.desired_with_version(), "reported": device.reported_with_version()});
        members.insert("properties".into(), properties);
        members.insert("groups".into(), json!(groups.iter().map(Name::as_str).collect::<Vec<_>>()));
        let change = |one: &ConnectionChange| json!({"at": one.at.to_string(), "is_online": one.is_online});
        members.insert("connections".into(), connections.iter().map(change).collect());
        members.insert("jobs".into(), runs.iter().map(run_json).collect());
    }
    document
}

fn run_json(run: &ListedRun) -> Value {
    let row = run.fitting.as_ref().and_then(|found| found.row.as_ref());
    json!({
        "job": run.record.job.as_str(),
        "run": run.record.run.as_str(),
        "run_status": run.record.status.as_str(),
        "status": row.map(|row| row.status.as_str()),
        "reason": row.map(|row| row.reason.as_str()),
        "code": row.and_then(|row| row.code),
        "message": row.map(|row| row.message.as_str()),
        "finished_at": row.and_then(|row| row.finished_at).map(|time| time.to_string()),
    })
}

/// Returns a device for people.
pub fn show(shown: &ShownDevice, runs: &[ListedRun], painter: Painter) -> String {
    let ShownDevice { device, authentication, edge_manifest_digest, import, groups, connections: _ } = shown;
    let mut text = format!("{}\n", painter.paint(Tone::Strong, &format!("device {}", device.device_id)));
    let mut line = |name: &str, value: &str| text.push_str(&field(name, &sanitize_line(value), 16));
    line("name", &device.device_name);
    line("template", device.template.as_deref().unwrap_or("-"));
    line("organization", device.organization.as_deref().unwrap_or("-"));
    line("state", device.state.as_str());
    line("blocked", if device.blocked { "yes" } else { "no" });
    line("authenticated", authentication.as_str());
    line("import", import.as_deref().unwrap_or("-"));
    let groups: Vec<&str> = groups.iter().map(Name::as_str).collect();
    line("groups", if groups.is_empty() { "-".to_string() } else { groups.join(", ") }.as_str());
    line("simulated", if device.simulated { "yes" } else { "no" });
    line("connection", device.connection_state.as_str());
    line("last activity", &super::instant_or_dash(device.last_activity));
    let content = edge_manifest_digest.as_ref().map_or(String::new(), |digest| format!(" ({:.12})", digest));
    line("edge manifest", &format!("{}{content}", device.edge_manifest.as_deref().unwrap_or("-")));
    let sections = [
        ("tags", &device.tags, None),
        ("cloud", &device.cloud, None),
        ("desired", &device.desired, Some(device.desired_version)),
        ("reported", &device.reported, Some(device.reported_version)),
    ];
    for (name, section, version) in sections {
        let version = version.map_or(String::new(), |version| format!(" (version {version})"));
        text.push_str(&format!("  {name}{version}\n"));
        for line in format!("{:#}", secret::shown(section)).lines() {
            text.push_str(&format!("    {}\n", sanitize_line(line)));
        }
    }
    if !runs.is_empty() {
        text.push_str("  last jobs\n");
        runs_table(runs).render_behind(4).lines().for_each(|line| text.push_str(&format!("    {line}\n")));
    }
    text
}

/// Returns what became of a device in some runs.
fn runs_table(runs: &[ListedRun]) -> TextTable {
    let mut table = TextTable::new(&["JOB", "RUN", "STATUS", "REASON", "CODE", "FINISHED", "MESSAGE"])
        .cutting(&["MESSAGE"])
        .sparing(&["CODE", "MESSAGE", "RUN"]);
    for ListedRun { record, fitting, .. } in runs {
        let row = fitting.as_ref().and_then(|found| found.row.as_ref());
        let of_row = |text: Option<String>| text.unwrap_or_else(|| "-".to_string());
        table.push(vec![
            record.job.to_string(),
            record.run.to_string(),
            of_row(row.map(|row| row.status.as_str().to_string())),
            of_row(row.map(|row| row.reason.as_str().to_string())),
            of_row(row.and_then(|row| row.code).map(|code| code.to_string())),
            super::instant_or_dash(row.and_then(|row| row.finished_at)),
            of_row(row.map(|row| row.message.clone())),
        ]);
    }
    table
}
