//! IoT Hub jobs (`/jobs/v2`).

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::condition;
use crate::convert::Context;
use crate::convert::central::job::{command, wall_clock};
use crate::convert::document::{Draft, description};
use crate::convert::fields::{Fields, Notes, described};
use crate::convert::source::Source;
use crate::convert::work::{JobDraft, Part};
use crate::diag::shown;
use crate::model::limits;
use crate::model::text;

/// Members that describe a run of a job in IoT Hub, not the job.
const ABOUT_RUNS: [&str; 8] = [
    "createdTime",
    "endTime",
    "createdDateTimeUtc",
    "startTimeUtc",
    "endTimeUtc",
    "failureReason",
    "statusMessage",
    "deviceJobStatistics",
];

/// Returns the jobs or schedules of a job.
///
/// # Errors
/// It cannot be converted; whole sentences.
pub fn job(members: &Map<String, Value>, context: &mut Context<'_>) -> Result<Vec<Draft>, String> {
    let mut fields = Fields::new("", members);
    let mut notes = Notes::new();
    let id = fields.text("jobId")?;
    fields.skip(&ABOUT_RUNS);
    let target = fields.required_text("queryCondition")?;
    let target = condition("queryCondition", target, &mut notes)?;
    let is_method = is_method(&mut fields)?;
    let mut delivery = Map::new();
    let longest = fields.value("maxExecutionTimeInSeconds");
    if let Some(seconds) = longest.map(|value| seconds("maxExecutionTimeInSeconds", value)).transpose()?
        && let Some(longest) = max_execution_time(seconds, &mut notes)
    {
        delivery.insert("maxExecutionTime".to_string(), Value::from(longest.as_str()));
        if is_method {
            delivery.insert("offline".to_string(), Value::from("wait"));
            delivery.insert("expiresAfter".to_string(), Value::from(longest));
            notes
                .push("IoT Hub waits for a device to connect as long as the job may run: `offline: wait`.".to_string());
        }
    }
    let is_suspended = is_over(&mut fields, &mut notes)?;
    let schedule = start(&mut fields, context.now, &mut notes)?;
    let part = if is_method { method(&mut fields, delivery.contains_key("offline"))? } else { update(&mut fields)? };
    fields.finish(&mut notes);
    let work = JobDraft {
        base: id.unwrap_or_default(),
        description: description(None, None, Source::HubJob, id),
        labels: Map::new(),
        organization: None,
        target: json!({ "query": target }),
        delivery,
        is_suspended,
        schedule,
        notes,
    };
    Ok(work.documents(vec![part], &mut context.names))
}

fn is_method(fields: &mut Fields<'_>) -> Result<bool, String> {
    let has_method = fields.value("cloudToDeviceMethod").is_some();
    match fields.text("type")? {
        None => Ok(has_method),
        Some(word) if word.eq_ignore_ascii_case("scheduleDeviceMethod") => Ok(true),
        Some(word) if word.eq_ignore_ascii_case("scheduleUpdateTwin") => Ok(false),
        Some(word) => {
            Err(format!("`type` is `{}`, and it must be scheduleUpdateTwin or scheduleDeviceMethod.", shown(word)))
        }
    }
}

/// Returns true when the job is not to run here: it has ended there, or nobody knows.
fn is_over(fields: &mut Fields<'_>, notes: &mut Notes) -> Result<bool, String> {
    let Some(status) = fields.text("status")? else { return Ok(false) };
    let written = shown(status);
    let (is_over, note) = match status.to_ascii_lowercase().as_str() {
        "enqueued" | "queued" | "scheduled" | "running" => {
            (false, format!("It is {written} there: it would run here as well."))
        }
        "completed" | "failed" | "cancelled" | "canceled" => (
            true,
            format!(
                "It has run there ({written}): `suspend: true` keeps it from running again. Take that away to run it \
                 here."
            ),
        ),
        _ => (
            true,
            format!(
                "Its `status` there is {written}: `suspend: true` keeps it from running here before somebody has \
                 looked."
            ),
        ),
    };
    notes.push(note);
    Ok(is_over)
}

/// Returns the spec of a schedule, without its job, for a start in the future.
fn start(fields: &mut Fields<'_>, now: Timestamp, notes: &mut Notes) -> Result<Option<Map<String, Value>>, String> {
    let Some(text) = fields.text("startTime")? else { return Ok(None) };
    let wrong = || format!("`startTime` is `{}`, which is not a time such as `2026-12-01T02:30:00Z`.", shown(text));
    // Python and .NET write a time of UTC without its Z now and then.
    let time: Timestamp = text.parse().or_else(|_| format!("{text}Z").parse()).map_err(|_| wrong())?;
    if time <= now {
        notes.push(format!("`startTime` ({}) is over: it starts when it is applied.", shown(text)));
        return Ok(None);
    }
    notes.push(
        "`startTime` lies in the future, so it is a schedule that runs once. IoT Hub's time zone is UTC.".to_string(),
    );
    let start = Value::from(wall_clock(time));
    let members = [("start", start), ("timeZone", Value::from("UTC")), ("recurrence", Value::from("once"))];
    Ok(Some(members.into_iter().map(|(name, value)| (name.to_string(), value)).collect()))
}

fn seconds(path: &str, value: &Value) -> Result<f64, String> {
    let wrong = || format!("`{path}` is {}, and it must be a number of seconds.", described(value));
    value.as_f64().ok_or_else(wrong)
}

/// Returns a duration; `None`, with a note, when it makes no sense.
fn max_execution_time(seconds: f64, notes: &mut Notes) -> Option<String> {
    let most = limits::DURATION_MAX.as_secs();
    if seconds < 1.0 {
        notes.push(format!("`maxExecutionTimeInSeconds` of {seconds} makes no sense, and was left out."));
        return None;
    }
    if seconds > most as f64 {
        notes.push(format!("`maxExecutionTimeInSeconds` was {seconds}: {} days are the most.", most / 86_400));
    }
    Some(text::duration(Duration::from_secs((seconds as u64).min(most))))
}

/// Returns the command of a method; where devices are waited for, the time that they have to connect means nothing.
fn method(fields: &mut Fields<'_>, is_waiting: bool) -> Result<Part, String> {
    let mut notes = Notes::new();
    let members = fields.object("cloudToDeviceMethod")?.ok_or("`cloudToDeviceMethod` is missing.")?;
    let mut method = Fields::new("cloudToDeviceMethod", members);
    let name = method.required_text("methodName")?;
    // The separator of IoT Plug and Play between a component and its command.
    let mut action = command(name, '*', method.value("payload").cloned());
    // IoT Hub's default for the first is 0, the device must be there already; for the second it is ours.
    let connect = method.value("connectTimeoutInSeconds").cloned().or((!is_waiting).then(|| json!(0)));
    let response = method.value("responseTimeoutInSeconds").cloned();
    let timeouts = [
        ("connectTimeoutInSeconds", "connectTimeout", connect),
        ("responseTimeoutInSeconds", "responseTimeout", response),
    ];
    for (theirs, ours, value) in timeouts {
        let Some(value) = value else { continue };
        let asked = seconds(&format!("cloudToDeviceMethod.{theirs}"), &value)?;
        let (least, most) = (limits::COMMAND_TIMEOUT_MIN.as_secs(), limits::COMMAND_TIMEOUT_MAX.as_secs());
        let timeout = (asked.max(0.0) as u64).clamp(least, most);
        if timeout as f64 != asked {
            notes.push(format!(
                "`{theirs}` is {asked} there: here it is {timeout} s, from {least} to {most} s are legal."
            ));
        }
        action["command"][ours] = Value::from(format!("{timeout}s"));
    }
    method.finish(&mut notes);
    Ok(Part { suffix: "command", action, delivery: Map::new(), notes })
}

/// Returns the action of an update of twins.
fn update(fields: &mut Fields<'_>) -> Result<Part, String> {
    let mut notes = Notes::new();
    let members = fields.object("updateTwin")?.ok_or("`updateTwin` is missing.")?;
    let mut twin = Fields::new("updateTwin", members);
    twin.skip(&["deviceId", "etag"]);
    if members.get("etag").and_then(Value::as_str).is_some_and(|etag| etag != "*") {
        notes.push(
            "`updateTwin.etag` was left out: a job writes whatever was there before, as IoT Hub's `*` does."
                .to_string(),
        );
    }
    let tags = twin.object("tags")?.cloned().unwrap_or_default();
    let properties = twin.object("properties")?.cloned().unwrap_or_default();
    let mut properties = Fields::new("updateTwin.properties", &properties);
    let mut desired = properties.object("desired")?.cloned().unwrap_or_default();
    desired.retain(|key, _| !key.starts_with('$'));
    if properties.value("reported").is_some() {
        notes.push("`updateTwin.properties.reported` was left out: only the device writes it.".to_string());
    }
    properties.finish(&mut notes);
    twin.finish(&mut notes);
    let (suffix, action) = match (tags.is_empty(), desired.is_empty()) {
        (false, false) => ("twin", json!({"twin": {"tags": tags, "property": desired}})),
        (false, true) => ("tags", json!({ "tags": tags })),
        (true, false) => ("property", json!({ "property": desired })),
        (true, true) => {
            return Err("`updateTwin` has neither `tags` nor `properties.desired`, so it does nothing.".to_string());
        }
    };
    Ok(Part { suffix, action, delivery: Map::new(), notes })
}
