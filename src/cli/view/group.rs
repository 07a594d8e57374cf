//! Device groups for people and as JSON.

use serde_json::{Value, json};

use super::{TextTable, counted, field, number};
use crate::cli::output::{Painter, Tone};
use crate::model::id::Name;
use crate::ops::group::ListedGroup;

/// Returns a table of groups.
pub fn list(groups: &[ListedGroup]) -> String {
    let mut table = TextTable::new(&["GROUP", "DEVICES", "USED BY", "CONDITION"]).cutting(&["CONDITION", "USED BY"]);
    for ListedGroup { group, devices, used_by, .. } in groups {
        let used_by = match &**used_by {
            [] => "-".to_string(),
            [one] => one.clone(),
            many => counted(many.len() as u64, "document"),
        };
        table.push(vec![group.name.to_string(), number(*devices), used_by, group.query.clone()]);
    }
    table.render()
}

/// Returns a group with all that is known of it.
pub fn show(listed: &ListedGroup, painter: Painter) -> String {
    let ListedGroup { group, devices, used_by, .. } = listed;
    let mut text = format!("{}\n", painter.paint(Tone::Strong, &format!("group {}", group.name)));
    let mut line = |name: &str, value: &str| text.push_str(&field(name, value, 16));
    line("devices", &number(*devices));
    line("condition", &group.query);
    line("template", group.template.as_ref().map_or("any", Name::as_str));
    line("organization", group.organization.as_deref().unwrap_or("any"));
    let used_by = if used_by.is_empty() { "nothing".to_string() } else { used_by.join(", ") };
    line("used by", &used_by);
    text
}

/// Returns a group as an object.
pub fn json(listed: &ListedGroup) -> Value {
    let ListedGroup { group, devices, used_by, .. } = listed;
    json!({
        "group": group.name.as_str(),
        "devices": devices,
        "query": group.query,
        "template": group.template.as_ref().map(Name::as_str),
        "organization": group.organization,
        "used_by": used_by,
    })
}
