//! IoT Hub: jobs v2 and configurations (automatic device management).

pub mod configuration;
pub mod job;

use super::fields::Notes;
use crate::diag::shown;
use crate::query::ast::Root;

/// Returns a condition of IoT Hub, which is one of ours; the error is whole sentences.
fn condition(field: &str, text: &str, notes: &mut Notes) -> Result<String, String> {
    let lower = text.trim().to_ascii_lowercase();
    let words: Vec<&str> = lower.split_whitespace().collect();
    if words.starts_with(&["from", "devices.modules"]) || words.starts_with(&["select", "*", "from", "devices.modules"])
    {
        return Err(format!("`{field}` selects modules, and jobs here are about devices."));
    }
    let mut condition = text.trim();
    if words.starts_with(&["select", "*", "from", "devices", "where"]) {
        let end = lower.find("where").map_or(0, |at| at + "where".len());
        condition = condition[end..].trim();
        notes.push(format!("`{field}` was a whole query, which IoT Hub fails on: its condition is here."));
    }
    let query = crate::query::parse(condition).map_err(|errors| {
        let problems = errors.iter().map(|error| match error.help() {
            Some(help) => format!("{error} {help}"),
            None => error.to_string(),
        });
        format!(
            "`{field}` is not a condition: {} It is `{}`.",
            problems.collect::<Vec<_>>().join(" "),
            shown(condition)
        )
    })?;
    for path in crate::query::paths(&query) {
        if matches!(path.root, Root::ModuleId | Root::Configurations) {
            notes.push(format!("`{path}` is never defined here, so what compares it selects no device."));
        }
    }
    Ok(condition.to_string())
}
