//! IoT Central jobs and scheduled jobs.

use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Map, Value, json};

use super::organization;
use crate::convert::Context;
use crate::convert::document::{DocumentKind, Draft, description};
use crate::convert::fields::{Fields, Notes, described};
use crate::convert::names::better;
use crate::convert::source::Source;
use crate::convert::work::{JobDraft, Part};
use crate::diag::shown;

/// A count beyond this is no fleet, and a float could not tell it from its neighbours.
const COUNT_MAX: f64 = 1e15;

/// Returns the jobs of a job.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn job(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let status = fields.text("status")?.map(str::to_ascii_lowercase);
    let mut work = work(&mut fields, context, Source::CentralJob)?;
    work.is_suspended = !matches!(status.as_deref(), None | Some("pending" | "running"));
    match status.as_deref() {
        None => {}
        Some("stopped") => {
            let note = "It is stopped there: `suspend: true` keeps it from running here. It would run on all devices, \
                the ones that are done there included.";
            work.notes.push(note.to_string());
        }
        Some(status @ ("pending" | "running")) => {
            work.target["expect"] = json!({"min": 1});
            work.notes.push(format!(
                "It is {status} there: it would run here as well. `expect` keeps it from being used up on no device; \
                 `fleetform adopt --mark-done NAME` says that it has run."
            ));
        }
        Some(status @ ("complete" | "completed" | "failed" | "cancelled" | "canceled")) => {
            work.notes.push(format!(
                "It has run there ({status}): `suspend: true` keeps it from running again. Take that away to run it here."
            ));
        }
        Some(status) => work.notes.push(format!(
            "Its `status` there is `{}`, which is not known: `suspend: true` keeps it from running here before \
             somebody has looked.",
            shown(status)
        )),
    }
    let parts = parts(&mut fields, context)?;
    fields.finish(&mut work.notes);
    Ok(work.documents(parts, &mut context.names))
}

/// Returns the schedules of a scheduled job.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn scheduled_job(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let mut work = work(&mut fields, context, Source::CentralScheduledJob)?;
    let is_enabled = fields.boolean("enabled")?.unwrap_or(true);
    let is_completed = fields.boolean("completed")?.unwrap_or(false);
    work.is_suspended = !is_enabled || is_completed;
    if is_completed {
        work.notes.push("It is completed there, so it is suspended: no further run was to come.".to_string());
    }
    let schedule = fields.object("schedule")?.ok_or("`schedule` is missing.")?;
    work.schedule = Some(schedule_spec(schedule, &mut work.notes)?);
    let parts = parts(&mut fields, context)?;
    fields.skip(&["status"]);
    fields.finish(&mut work.notes);
    Ok(work.documents(parts, &mut context.names))
}

/// Reads what jobs and scheduled jobs have in common, but the data.
fn work<'a>(fields: &mut Fields<'a>, context: &Context<'_>, source: Source) -> Result<JobDraft<'a>, String> {
    let mut notes = Notes::new();
    let (id, display_name) = (fields.text("id")?, fields.text("displayName")?);
    let group = fields.required_text("group")?;
    let group = context.reference(DocumentKind::DeviceGroup, group, &mut notes)?;
    let mut delivery = Map::new();
    if let Some(batch) = fields.object("batch")?
        && let Some(size) = amount("batch", batch, 1, &mut notes)?
    {
        delivery.insert("batchSize".to_string(), size);
    }
    if let Some(threshold) = fields.object("cancellationThreshold")?
        && let Some(failures) = amount("cancellationThreshold", threshold, 0, &mut notes)?
    {
        // The command line of IoT Central writes null for false.
        let is_per_batch = threshold.get("batch").and_then(Value::as_bool).unwrap_or(false);
        let per = if is_per_batch { "batch" } else { "job" };
        delivery.insert("cancellationThreshold".to_string(), json!({"failures": failures, "per": per}));
    }
    Ok(JobDraft {
        base: better(id, display_name),
        description: description(display_name, fields.text("description")?, source, id),
        labels: Map::new(),
        organization: organization(fields, context, &mut notes)?,
        target: json!({"group": group.as_str()}),
        delivery,
        is_suspended: false,
        schedule: None,
        notes,
    })
}

/// Returns a number or percentage of devices as a manifest has it; `None`, with a note, when it makes no sense.
fn amount(
    path: &'static str,
    members: &Map<String, Value>,
    least: u64,
    notes: &mut Notes,
) -> Result<Option<Value>, String> {
    let mut fields = Fields::new(path, members);
    fields.skip(&["batch"]);
    let value = fields.value("value").ok_or_else(|| format!("`{path}.value` is missing."))?;
    let wrong = || format!("`{path}.value` is {}, and it must be a number.", described(value));
    let number = value.as_f64().ok_or_else(wrong)?;
    let word = fields.required_text("type")?;
    let is_percentage = match word.to_ascii_lowercase().as_str() {
        "number" => false,
        "percentage" => true,
        _ => return Err(format!("`{path}.type` is `{}`, and it must be `number` or `percentage`.", shown(word))),
    };
    fields.finish(notes);
    let (min, max) = (least as f64, if is_percentage { 100.0 } else { COUNT_MAX });
    if number < 0.0 || (least > 0 && number == 0.0) || (!is_percentage && number > max) {
        notes.push(format!("`{path}` of {number} makes no sense, and was left out."));
        return Ok(None);
    }
    // Down: smaller batches, and an earlier cancel. But not to a batch of none.
    let whole = number.floor().clamp(min, max);
    if whole != number {
        let unit = if is_percentage { "%" } else { "" };
        notes.push(format!("`{path}` was {number}{unit}: here it is a whole number, {whole}{unit}."));
    }
    let whole = whole as u64;
    Ok(Some(if is_percentage { Value::from(format!("{whole}%")) } else { Value::from(whole) }))
}

/// Returns the spec of a schedule without its job.
fn schedule_spec(members: &Map<String, Value>, notes: &mut Notes) -> Result<Map<String, Value>, String> {
    let mut fields = Fields::new("schedule", members);
    let start = fields.required_text("start")?;
    let mut spec = Map::new();
    let start: Timestamp = start.parse().map_err(|_| not_a_time("schedule.start", start))?;
    spec.insert("start".to_string(), Value::from(wall_clock(start)));
    spec.insert("timeZone".to_string(), Value::from("UTC"));
    notes.push(
        "IoT Central keeps no time zone, so `timeZone` is UTC: name your own to follow its summer time.".to_string(),
    );
    let recurrence = fields.text("recurrence")?.unwrap_or("once").to_ascii_lowercase();
    let recurrence = match recurrence.as_str() {
        "once" | "none" | "one-time" | "onetime" => "once",
        known @ ("daily" | "weekly" | "monthly") => known,
        "yearly" => {
            let note = "A yearly recurrence has no equal: `once` is its first run only.";
            notes.push(note.to_string());
            "once"
        }
        other => {
            return Err(format!(
                "`schedule.recurrence` is `{}`, and it must be daily, weekly or monthly.",
                shown(other)
            ));
        }
    };
    spec.insert("recurrence".to_string(), Value::from(recurrence));
    if let Some(end) = fields.object("end")?
        && let Some(end) = schedule_end(end, notes)?
    {
        if recurrence == "once" {
            notes.push("`schedule.end` was left out: it means nothing for what runs once.".to_string());
        } else {
            spec.insert("end".to_string(), end);
        }
    }
    fields.finish(notes);
    Ok(spec)
}

fn schedule_end(members: &Map<String, Value>, notes: &mut Notes) -> Result<Option<Value>, String> {
    let mut fields = Fields::new("schedule.end", members);
    let (date, occurrences) = (fields.text("date")?, fields.value("occurrences"));
    fields.skip(&["type"]);
    fields.finish(notes);
    if let Some(date) = date {
        let day = date.get(..10).and_then(|day| day.parse::<Date>().ok());
        let day = day.ok_or_else(|| not_a_time("schedule.end.date", date))?;
        return Ok(Some(json!({"until": day.to_string()})));
    }
    let Some(occurrences) = occurrences else {
        return Err("`schedule.end` has neither `date` nor `occurrences`, so nobody knows when it ends.".to_string());
    };
    let count = occurrences.as_u64().filter(|count| *count > 0);
    let count = count.ok_or("`schedule.end.occurrences` must be a whole number above 0.")?;
    Ok(Some(json!({"after": count})))
}

fn not_a_time(path: &str, text: &str) -> String {
    format!("`{path}` is `{}`, which is not a time such as `2026-12-01T02:30:00Z`.", shown(text))
}

/// Returns a time as the wall clock of UTC, to the second.
pub fn wall_clock(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S").to_string()
}

/// Returns the actions of `data`: what sets values of one kind becomes one patch, anything else stays an action of its
/// own.
fn parts(fields: &mut Fields<'_>, context: &Context<'_>) -> Result<Vec<Part>, String> {
    let group = fields.text("group")?.unwrap_or_default();
    let template = context.group_templates.get(group).map(String::as_str);
    let data = fields.list("data")?.filter(|data| !data.is_empty());
    let data = data.ok_or("`data` is missing or empty, so the job does nothing.")?;
    let mut parts: Vec<Part> = Vec::new();
    for (at, entry) in data.iter().enumerate() {
        let place = |what: String| format!("In `data`, entry {}: {what}", at + 1);
        let members = entry.as_object().ok_or_else(|| place(format!("it is {}.", described(entry))))?;
        let part = part(members, template, context).map_err(place)?;
        let same = parts.iter_mut().find(|other| other.suffix == part.suffix && part.patch().is_some());
        match same {
            Some(other) => other.merge(part),
            None => parts.push(part),
        }
    }
    Ok(parts)
}

/// Returns the action of one entry; `template` is the one that the devices of the job's group are known to have.
fn part(members: &Map<String, Value>, template: Option<&str>, context: &Context<'_>) -> Result<Part, String> {
    let mut fields = Fields::new("data", members);
    let mut notes = Notes::new();
    let word = fields.required_text("type")?;
    let lower = word.to_ascii_lowercase();
    let (suffix, action) = match lower.strip_suffix("jobdata").unwrap_or(&lower) {
        "property" => ("property", json!({"property": capability_patch(&mut fields, true, &mut notes)?})),
        "cloudproperty" => {
            ("cloud-property", json!({"cloudProperty": capability_patch(&mut fields, false, &mut notes)?}))
        }
        "command" => {
            let path = fields.required_text("path")?;
            let payload = fields.value("value").cloned();
            ("command", command(path, '.', payload))
        }
        "devicetemplatemigration" => {
            let id = fields.required_text("template")?;
            let name = context.reference(DocumentKind::DeviceTemplate, id, &mut notes)?;
            ("template", json!({"deviceTemplate": name.as_str()}))
        }
        "devicemanifestmigration" => {
            let id = fields.required_text("manifest")?;
            let name = context.reference(DocumentKind::EdgeManifest, id, &mut notes)?;
            ("manifest", json!({"edgeManifest": name.as_str()}))
        }
        _ => {
            return Err(format!(
                "its `type` is `{}`, and it must be property, cloudProperty, command, deviceTemplateMigration or \
                 deviceManifestMigration.",
                shown(word)
            ));
        }
    };
    if let Some(target) = fields.text("target")?.filter(|target| template != Some(target)) {
        notes.push(format!("`target` ({}) was left out: the template of the device group decides.", shown(target)));
    }
    fields.finish(&mut notes);
    Ok(Part { suffix, action, delivery: Map::new(), notes })
}

/// Returns a command action; the separator stands between a component and its command.
pub fn command(path: &str, separator: char, payload: Option<Value>) -> Value {
    let (component, name) = match path.split_once(separator) {
        Some((component, name)) => (Some(component), name),
        None => (None, path),
    };
    let mut command = json!({"name": name});
    if let Some(component) = component {
        command["component"] = Value::from(component);
    }
    if let Some(payload) = payload {
        command["payload"] = payload;
    }
    json!({ "command": command })
}

/// Returns the merge patch of one value; the property of a component lies in an object that is marked for the device.
fn capability_patch(fields: &mut Fields<'_>, is_desired: bool, notes: &mut Notes) -> Result<Value, String> {
    let path = fields.required_text("path")?;
    let value = fields.value("value").cloned().unwrap_or(Value::Null);
    if value.is_null() {
        notes.push(format!("`{}` has no value: null removes it.", shown(path)));
    }
    let mut keys: Vec<&str> = path.split('.').collect();
    if keys.iter().any(|key| key.is_empty()) {
        return Err(format!("its `path` is `{}`, which is not the name of a property.", shown(path)));
    }
    let last = keys.pop().unwrap_or_default();
    let mut patch = json!({ last: value });
    let is_component = is_desired && keys.len() == 1;
    if is_component {
        patch["__t"] = Value::from("c");
        notes.push(format!(
            "`{}` is the property of a component, which IoT Plug and Play marks with `__t: c`.",
            shown(path)
        ));
    }
    Ok(keys.iter().rev().fold(patch, |inner, key| json!({ *key: inner })))
}

impl Part {
    fn patch(&self) -> Option<&Map<String, Value>> {
        let action = self.action.as_object()?;
        ["property", "cloudProperty"].iter().find_map(|name| action.get(*name)?.as_object())
    }

    /// Adds what another part of the same kind sets; where both set one value, the later one wins.
    fn merge(&mut self, other: Part) {
        let Some((word, members)) = other.action.as_object().and_then(|action| action.iter().next()) else { return };
        let Some(members) = members.as_object() else { return };
        let mut notes = other.notes;
        merge_patch(&mut self.action[word], members, &mut notes);
        notes.retain(|note| !self.notes.contains(note));
        self.notes.extend(notes);
    }
}

/// Merges two patches so that a null of the later one stays a removal.
fn merge_patch(target: &mut Value, members: &Map<String, Value>, notes: &mut Notes) {
    for (key, value) in members {
        match (target.get_mut(key), value) {
            (Some(inner @ Value::Object(_)), Value::Object(members)) => merge_patch(inner, members, notes),
            (before, value) => {
                if before.is_some_and(|before| before != value) {
                    notes.push(format!("`{}` was set twice: the later value is here.", shown(key)));
                }
                target[key] = value.clone();
            }
        }
    }
}
