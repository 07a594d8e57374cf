//! Work on a single device: a job as any other, written to a file of its own and committed.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::missing;
use crate::manifest::edit;
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::limits;
use crate::model::patch::{Section, violations};
use crate::model::secret;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::{OnError, Planned, Purpose, TreeChoice, View, with_schema_line};

/// What to do to a device.
#[derive(Debug, Clone, PartialEq)]
pub enum Work {
    /// Sets values of a section, each `PATH=VALUE`: keys with dots between them, and JSON or plain text.
    Set { section: Section, assignments: Vec<String> },
    /// Calls a command.
    Call(Call),
}

/// A command to call. What is absent is as the manifest has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Call {
    pub method: String,
    pub component: Option<String>,
    /// JSON.
    pub payload: Option<String>,
    /// Durations such as `30s`.
    pub connect_timeout: Option<String>,
    pub response_timeout: Option<String>,
    pub is_idempotent: bool,
}

/// A job that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenJob {
    pub job: Name,
    /// Relative to the fleet's folder.
    pub file: String,
    /// `None` when it was not asked for.
    pub commit: Option<String>,
    /// The git remote that the fleet's results are pushed to.
    pub remote: Option<String>,
    /// Devices are connected to the fleet's gateway: an apply reaches none of them.
    pub has_gateway: bool,
}

/// Writes a job that works on one device, and commits it. It is planned before: a job that no apply would run is not
/// left in the way of all others.
///
/// # Errors
/// There is no such device, the files are invalid or would be with this job, a plan refuses it, or it cannot be
/// written.
pub fn work(
    environment: &Environment,
    device_id: &str,
    work: &Work,
    commits: bool,
    now: Timestamp,
) -> Result<WrittenJob, OpsError> {
    let (word, action) = match work {
        Work::Set { section, assignments } => ("set", patch_action(*section, assignments)?),
        Work::Call(call) => ("call", call_action(call)?),
    };
    let workspace = Workspace::open(environment)?;
    let view = View::open(&workspace, TreeChoice::WorkTree, OnError::Refuse)?;
    let (declared, tree, ledger) = (&view.declared, &view.files.tree, &view.ledger);
    if view.registry.devices().get(device_id)?.is_none() {
        return Err(missing(&view.registry, device_id, &environment.sight)?);
    }
    // A name whose run was claimed once would never run again.
    let is_taken = |name: &Name| {
        is_declared(declared, name) || !ledger.claims_of(name).is_empty() || tree.entries.contains_key(&file_of(name))
    };
    let name = free_name(word, device_id, is_taken)?;
    let mut spec = json!({"target": {"devices": [device_id]}, "action": action});
    if ledger.claims.values().any(|claim| !declared.jobs.contains_key(&claim.job)) {
        // 1. `device set pump level=3` ran, and its file was deleted. 2. The same is wanted again. 3. The new job has
        //    the spec of the one that is gone, as a renamed one would, which a plan refuses. Its own token says that it
        //    is meant.
        spec["run"] = name.as_str().rsplit('-').next().into();
    }
    let file = file_of(&name);
    let text = edit::new_job(&name, &spec).map_err(|error| OpsError::Usage {
        what: format!("the job cannot be written: {error}"),
        help: "Write it by hand.".to_string(),
    })?;
    let text = with_schema_line(workspace.repo.folder(), &file, text);
    check(&workspace, &name, TreeChoice::WorkTreeWith { path: &file, bytes: text.as_bytes() }, now)?;
    let path = workspace.repo.folder().join(&file);
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(fail)?;
    }
    std::fs::write(&path, text).map_err(fail)?;
    let subject = format!("job {name}: {word} {device_id}");
    let commit = if commits { Some(workspace.repo.commit_files(std::slice::from_ref(&file), &subject)?) } else { None };
    let (remote, has_gateway) = (declared.fleet.results.remote.clone(), declared.fleet.link.hub().is_some());
    Ok(WrittenJob { job: name, file, commit, remote, has_gateway })
}

/// Refuses a job that makes the files invalid, or that their plan refuses. What else is refused has other causes.
fn check(workspace: &Workspace, job: &Name, tree: TreeChoice<'_>, now: Timestamp) -> Result<(), OpsError> {
    let mut view = View::open(workspace, tree, OnError::Refuse)?;
    let Planned { mut plan, diagnostics, .. } = view.plan(Purpose::Work, now)?;
    plan.refusals.retain(|refusal| refusal.is_about(job));
    plan.notices.clear();
    let mut found = view.diagnose(&plan);
    let of_policies = diagnostics.iter().filter(|one| view.is_refused_by_policy(job, one));
    of_policies.for_each(|one| found.push(one.clone()));
    if found.has_errors() { Err(OpsError::Invalid(Box::new(view.findings(found)))) } else { Ok(()) }
}

fn is_declared(declared: &Declared, name: &Name) -> bool {
    declared.has_runs_named(name.as_str())
}

fn file_of(name: &Name) -> String {
    format!("jobs/{name}.yaml")
}

/// Returns `set-<device id>-<n>` with the first number that is free; what a name cannot have becomes `-`.
fn free_name(word: &str, device_id: &str, is_taken: impl Fn(&Name) -> bool) -> Result<Name, OpsError> {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let slug: String = device_id.chars().map(legal).collect();
    for number in 1..100_000_u32 {
        let suffix = format!("-{number}");
        let room = limits::NAME_CHARS_MAX - word.len() - 1 - suffix.len();
        let kept: String = slug.chars().take(room).collect();
        let kept = kept.trim_matches('-');
        let candidate = if kept.is_empty() { format!("{word}{suffix}") } else { format!("{word}-{kept}{suffix}") };
        if let Ok(name) = Name::parse(&candidate)
            && !is_taken(&name)
        {
            return Ok(name);
        }
    }
    let what = format!("there are too many jobs like {word}-{slug}");
    Err(OpsError::Usage { what, help: "Write the job by hand, under another name.".to_string() })
}

fn patch_action(section: Section, assignments: &[String]) -> Result<Value, OpsError> {
    let usage = |what: String| OpsError::Usage {
        what,
        help: "Write it as `light.threshold=3`; the value is JSON or plain text, and `null` removes.".to_string(),
    };
    let mut members = Map::new();
    for assignment in assignments {
        let shown = crate::diag::shown(assignment);
        let (path, value) = assignment.split_once('=').ok_or_else(|| usage(format!("`{shown}` has no `=`")))?;
        let value = match serde_json::from_str(value) {
            Ok(parsed) => {
                refuse_altered(value)?;
                parsed
            }
            Err(_) => Value::from(value),
        };
        let keys: Vec<&str> = path.split('.').collect();
        if !insert(&mut members, &keys, value) {
            return Err(usage(format!("`{shown}` and another value are for the same place")));
        }
    }
    // What is wrong with a reference to a secret is found with the files.
    let without = secret::shown(&Value::Object(members.clone()));
    if let Some(broken) = violations(without.as_object().unwrap_or(&members), section).first() {
        return Err(usage(format!("{}: {}", broken.path.join("."), broken.rule)));
    }
    let word = match section {
        Section::Tags => "tags",
        Section::Cloud => "cloudProperty",
        Section::Desired | Section::Reported => "property",
    };
    Ok(json!({word: members}))
}

/// Refuses JSON with a number that is sent as another text than it has, such as the version 1.10.
fn refuse_altered(json: &str) -> Result<(), OpsError> {
    let Some((written, sent)) = altered_number(json) else { return Ok(()) };
    Err(OpsError::Usage {
        what: format!("`{written}` is a number, and would be sent as {sent}"),
        help: format!("Write {sent} for the number, '\"{written}\"' with both quotes for the text."),
    })
}

/// Returns the first number of a JSON text whose digits are not those of its value, and what it is sent as.
fn altered_number(json: &str) -> Option<(&str, String)> {
    let (mut is_text, mut is_escaped, mut start) = (false, false, None);
    // A blank ends a number at the end of the text.
    for (at, byte) in json.bytes().enumerate().chain([(json.len(), b' ')]) {
        if is_text {
            (is_text, is_escaped) = (is_escaped || byte != b'"', !is_escaped && byte == b'\\');
            continue;
        }
        is_text = byte == b'"';
        let is_of_number = byte.is_ascii_digit() || start.is_some() && matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
        if is_of_number || byte == b'-' {
            start = start.or(Some(at));
        } else if let Some(written) = start.take().and_then(|start| json.get(start..at)) {
            let sent = serde_json::from_str::<Value>(written).ok()?.to_string();
            if sent != written {
                return Some((written, sent));
            }
        }
    }
    None
}

/// Puts a value at a path; false when there is one already, or one above or below it.
fn insert(members: &mut Map<String, Value>, keys: &[&str], value: Value) -> bool {
    match keys {
        [] => false,
        [last] => members.insert((*last).to_string(), value).is_none(),
        [first, rest @ ..] => {
            let is_new = !members.contains_key(*first);
            let inner = members.entry((*first).to_string()).or_insert_with(|| json!({}));
            match inner.as_object_mut() {
                Some(inner) if is_new || !inner.is_empty() => insert(inner, rest, value),
                _ => false,
            }
        }
    }
}

fn call_action(call: &Call) -> Result<Value, OpsError> {
    let Call { method, component, payload, connect_timeout, response_timeout, is_idempotent } = call;
    let mut command = Map::new();
    command.insert("name".into(), json!(method));
    if let Some(payload) = payload {
        let value: Value = serde_json::from_str(payload).map_err(|error| OpsError::Usage {
            what: format!("the payload is not JSON: {error}"),
            help: "Text stands in quotes: '\"now\"'.".to_string(),
        })?;
        refuse_altered(payload)?;
        command.insert("payload".into(), value);
    }
    for (key, text) in
        [("component", component), ("connectTimeout", connect_timeout), ("responseTimeout", response_timeout)]
    {
        if let Some(text) = text {
            command.insert(key.into(), json!(text));
        }
    }
    if *is_idempotent {
        command.insert("idempotent".into(), json!(true));
    }
    Ok(json!({"command": command}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_are_sent_otherwise_are_found() {
        let found = |json: &str| altered_number(json).map(|(written, sent)| format!("{written} {sent}"));
        assert_eq!(found("1.10").as_deref(), Some("1.10 1.1"));
        assert_eq!(found(r#"{"v": [1, 2.50]}"#).as_deref(), Some("2.50 2.5"));
        assert_eq!(found("1e3").as_deref(), Some("1e3 1000.0"));
        for json in ["1.1", "-3", "0", r#""1.10""#, r#"{"a 1.10 \" 2.0": "x\\"}"#, "[1,-2.5,true,null]", "12345678901"]
        {
            assert_eq!(found(json), None, "{json}");
        }
    }
}
