//! IoT Hub configurations: what automatic device management keeps on devices, and edge deployments.

use serde_json::{Map, Value, json};

use super::condition;
use crate::convert::Context;
use crate::convert::central::manifest::edge_manifest;
use crate::convert::document::{DocumentKind, Draft, description};
use crate::convert::fields::{Fields, Notes, described};
use crate::convert::source::Source;
use crate::convert::work::{JobDraft, Part};
use crate::diag::shown;

/// What IoT Hub keeps about a configuration.
const BOOKKEEPING: [&str; 5] =
    ["schemaVersion", "contentType", "systemMetrics", "createdTimeUtc", "lastUpdatedTimeUtc"];

/// Returns a job, and the edge manifest that it assigns when it is an edge deployment.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn configuration(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let mut notes = Notes::new();
    let id = fields.text("id")?;
    fields.skip(&BOOKKEEPING);
    let description = description(None, None, Source::HubConfiguration, id);
    let target = fields.text("targetCondition")?.map(str::trim).filter(|text| !text.is_empty());
    let target = target.ok_or("`targetCondition` is missing or empty, so it is about no device.")?;
    let mut target = condition("targetCondition", target, &mut notes)?;
    notes.push(
        "IoT Hub applies a configuration to new devices too and takes it back from those that leave its condition; a \
            job runs \
         once. Change `run` to run it again, or make it a Schedule."
            .to_string(),
    );
    if let Some(priority) = fields.value("priority") {
        notes.push(format!(
            "`priority` ({priority}) has no equal: jobs that write one value differently are an error here."
        ));
    }
    metrics(&mut fields, &mut notes)?;
    let labels = labels(&mut fields, &mut notes)?;
    let content = fields.object("content")?.ok_or("`content` is missing.")?;
    fields.finish(&mut notes);
    let mut content = Fields::new("content", content);
    let (device, module) = (content.object("deviceContent")?, content.object("moduleContent")?);
    let modules = content.object("modulesContent")?;
    content.finish(&mut notes);
    let mut drafts = Vec::new();
    let action = match (device, modules) {
        (Some(device), None) => json!({ "property": patch(device, &mut notes)? }),
        (None, Some(modules)) => {
            let name = context.names.claim(DocumentKind::EdgeManifest, id.unwrap_or_default(), None);
            drafts.push(edge_manifest(name.clone(), description.clone(), modules, Notes::new())?);
            target = of_edge_devices(&target);
            json!({ "edgeManifest": name.as_str() })
        }
        (None, None) if module.is_some() => {
            return Err("`content.moduleContent` is about module twins, and jobs here are about devices.".to_string());
        }
        (_, _) => return Err("`content` must have one of `deviceContent` and `modulesContent`.".to_string()),
    };
    let part = Part { suffix: "property", action, delivery: Map::new(), notes: Notes::new() };
    let work = JobDraft {
        base: id.unwrap_or_default(),
        description,
        labels,
        organization: None,
        target: json!({ "query": target }),
        delivery: Map::new(),
        is_suspended: false,
        schedule: None,
        notes,
    };
    drafts.extend(work.documents(vec![part], &mut context.names));
    Ok(drafts)
}

/// Returns a condition that is met by IoT Edge devices only: to others IoT Hub assigns no deployment.
fn of_edge_devices(condition: &str) -> String {
    const IS_EDGE: &str = "capabilities.iotEdge = true";
    match condition.trim() {
        "*" => IS_EDGE.to_string(),
        condition => format!("({condition}) AND {IS_EDGE}"),
    }
}

fn metrics(fields: &mut Fields<'_>, notes: &mut Notes) -> Result<(), String> {
    let queries = fields.object("metrics")?.and_then(|metrics| metrics.get("queries")?.as_object());
    for (name, query) in queries.into_iter().flatten() {
        let query = query.as_str().map_or(String::new(), |query| format!(": `{}`", shown(query)));
        notes.push(format!("The metric `{}` has no equal; `device list --query` counts devices{query}.", shown(name)));
    }
    Ok(())
}

fn labels(fields: &mut Fields<'_>, notes: &mut Notes) -> Result<Map<String, Value>, String> {
    let mut labels = Map::new();
    for (name, value) in fields.object("labels")?.into_iter().flatten() {
        match value {
            Value::String(_) => drop(labels.insert(name.clone(), value.clone())),
            Value::Null => {}
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                notes.push(format!(
                    "The label `{}` is {} and not text, and was left out.",
                    shown(name),
                    described(value)
                ));
            }
        }
    }
    Ok(labels)
}

/// Returns the merge patch of desired properties of twin paths such as `properties.desired.light.level`.
fn patch(content: &Map<String, Value>, notes: &mut Notes) -> Result<Value, String> {
    let mut patch = json!({});
    for (path, value) in content {
        let Some(keys) = path.strip_prefix("properties.desired") else {
            notes.push(format!("`{}` was left out: only desired properties are set by a configuration.", shown(path)));
            continue;
        };
        let keys: Vec<&str> = keys.split('.').skip(1).collect();
        if keys.iter().any(|key| key.is_empty()) {
            return Err(format!("`{}` in `content.deviceContent` is not the path of a property.", shown(path)));
        }
        if keys.is_empty() && !value.is_object() {
            return Err(format!("`properties.desired` in `content.deviceContent` is {}.", described(value)));
        }
        let nested = keys.iter().rev().fold(value.clone(), |inner, key| json!({ *key: inner }));
        merge(&mut patch, &nested);
    }
    if patch.as_object().is_some_and(Map::is_empty) {
        return Err("`content.deviceContent` sets no desired property.".to_string());
    }
    Ok(patch)
}

/// Merges two patches so that a null stays a removal.
fn merge(target: &mut Value, patch: &Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(members)) => {
            for (key, value) in members {
                merge(target.entry(key.clone()).or_insert_with(|| json!({})), value);
            }
        }
        (target, value) => *target = value.clone(),
    }
}
