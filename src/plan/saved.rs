//! A plan in a file: what `plan --out` writes, `plan show` prints and `apply PLAN` carries out.
//!
//! The file is the JSON plan as it is printed, with one member more, `saved`: the fleet, the registry and the policies
//! that it holds for, and what views show with it. [`SavedPlan::text`] is its one writer, [`SavedPlan::read`] its one
//! reader. The id of a plan is the digest of its content, so a file in which anything was changed is no saved plan.

use serde_json::{Value, json};

use super::codec::change_to_json;
use super::decode::plan_from_json;
use super::{ActionKind, FORMAT_VERSION, Plan, PlannedChange, Subject, Targets};
use crate::model::digest::Digest;
use crate::model::id::RunToken;
use crate::model::secret::SHOWN;

/// What a saved plan holds for. `None` where that was not known, or not noted by an older version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bonds {
    /// The name of the fleet.
    pub fleet: Option<String>,
    /// The identity of the registry; `None` when there was none yet, and for a snapshot.
    pub registry: Option<String>,
    /// The digest of the policies that it was judged by; `None` without policies.
    pub policy_digest: Option<Digest>,
}

/// A plan that was written to a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SavedPlan {
    /// Without the devices of its runs, its notices and its refusals.
    pub plan: Plan,
    pub bonds: Bonds,
    /// What views show with the plan; null when an older version wrote the file.
    pub shown: Value,
}

/// Why a file is no saved plan that can be used; a sentence goes on with it behind the name of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadablePlan {
    #[error("is not a saved plan")]
    NotAPlan,
    #[error("was cut short")]
    CutShort,
    #[error("has format version {version}, and this fleetform reads version 1")]
    Newer { version: String },
    #[error("is a saved plan that was changed after it was written")]
    Altered,
    #[error("cannot be used: {what}")]
    Malformed { what: String },
}

/// An address of a saved plan at which the plan of now does otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference<'a> {
    pub saved: &'a PlannedChange,
    /// `None` when the plan of now does not have the address.
    pub now: Option<&'a PlannedChange>,
    /// What is not as it was; never empty.
    pub moved: Vec<Moved>,
}

/// One thing that is not as it was when a plan was saved.
#[derive(Debug, Clone, PartialEq)]
pub enum Moved {
    /// Something else is done, or nothing; `is` is `None` when the address is gone.
    Action { was: ActionKind, is: Option<ActionKind> },
    /// Another run of the job.
    Run { was: RunToken, is: RunToken },
    /// The document says something else.
    Document,
    /// Other devices.
    Target { was: Targets, is: Targets },
    /// Devices have other values now, or an import has other devices to write: a phrase.
    Devices { what: String },
    /// Why it is done: two phrases.
    Reason { was: String, is: String },
}

impl SavedPlan {
    /// Returns the text of the file. `document` is the plan as `plan --json` prints it.
    pub fn text(document: Value, bonds: &Bonds, shown: Value) -> String {
        let Bonds { fleet, registry, policy_digest } = bonds;
        let mut saved = json!({"fleet": fleet, "registry": registry, "shown": shown});
        let mut document = document;
        if let (Some(digest), Some(members)) = (policy_digest, saved.as_object_mut()) {
            members.insert("policy_digest".to_string(), Value::from(digest.to_string()));
        }
        if let Some(members) = document.as_object_mut() {
            members.insert("saved".to_string(), saved);
        }
        format!("{document:#}\n")
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// It is not what [`SavedPlan::text`] wrote, or a newer version wrote it.
    pub fn read(bytes: &[u8]) -> Result<SavedPlan, UnreadablePlan> {
        let document: Value = serde_json::from_slice(bytes).map_err(|error| match error.is_eof() {
            true if bytes.trim_ascii().starts_with(b"{") => UnreadablePlan::CutShort,
            _ => UnreadablePlan::NotAPlan,
        })?;
        SavedPlan::from_json(&document)
    }

    /// Reads the document of a file, or a plan as `plan --json` prints it.
    ///
    /// # Errors
    /// As [`SavedPlan::read`].
    pub fn from_json(document: &Value) -> Result<SavedPlan, UnreadablePlan> {
        let version = document.get("format_version").and_then(Value::as_str).ok_or(UnreadablePlan::NotAPlan)?;
        let major = |version: &str| version.split('.').next().map(str::to_string);
        if major(version) != major(FORMAT_VERSION) {
            return Err(UnreadablePlan::Newer { version: crate::model::text::sanitize_line(version).into_owned() });
        }
        if !document.get("changes").is_some_and(Value::is_array) {
            return Err(UnreadablePlan::NotAPlan);
        }
        let id = document.get("plan_id").and_then(Value::as_str).and_then(Digest::parse);
        if id != Some(id_of(document)) {
            return Err(UnreadablePlan::Altered);
        }
        let plan = plan_from_json(document).map_err(|what| UnreadablePlan::Malformed { what })?;
        let saved = document.get("saved").unwrap_or(&Value::Null);
        let text = |name: &str| saved.get(name).and_then(Value::as_str);
        let bonds = Bonds {
            fleet: text("fleet").map(str::to_string),
            registry: text("registry").map(str::to_string),
            policy_digest: text("policy_digest").and_then(Digest::parse),
        };
        Ok(SavedPlan { plan, bonds, shown: saved.get("shown").cloned().unwrap_or(Value::Null) })
    }

    /// Returns the id of the plan, 64 hex digits.
    pub fn id(&self) -> &str {
        &self.plan.id
    }

    /// Returns true when the plan does something about this.
    pub fn touches(&self, subject: &Subject) -> bool {
        self.touched().any(|change| change.subject == *subject)
    }

    /// Returns the changes that do something.
    fn touched(&self) -> impl Iterator<Item = &PlannedChange> {
        self.plan.changes.iter().filter(|change| change.action().changes_something())
    }

    /// Returns the addresses, sorted, at which it does something that the plan of now does not do, or does otherwise.
    /// Changes of the plan of now that the saved one does not have are no difference: they are not applied.
    pub fn differences<'a>(&'a self, now: &'a Plan) -> Vec<Difference<'a>> {
        let mut differences: Vec<Difference<'a>> = self
            .touched()
            .filter_map(|saved| {
                let now = now.changes.iter().find(|change| change.subject == saved.subject);
                let moved = moved(saved, now);
                (!moved.is_empty()).then_some(Difference { saved, now, moved })
            })
            .collect();
        differences.sort_by(|left, right| left.saved.subject.cmp(&right.saved.subject));
        differences
    }
}

/// Returns the id that a document has by its content: as [`plan_id_of`](super::plan_id_of) does of a plan.
fn id_of(document: &Value) -> Digest {
    let members = ["base", "changes", "format_version", "observed_at", "source", "summary"];
    let content: serde_json::Map<String, Value> = members
        .into_iter()
        .map(|name| (name.to_string(), document.get(name).cloned().unwrap_or(Value::Null)))
        .collect();
    Digest::of_json(&Value::Object(content))
}

/// Returns what of a change is not as it was; empty when all is.
fn moved(saved: &PlannedChange, now: Option<&PlannedChange>) -> Vec<Moved> {
    let was = saved.action();
    let Some(now) = now else { return vec![Moved::Action { was, is: None }] };
    if is_as_agreed(&change_to_json(now), &change_to_json(saved)) {
        return Vec::new();
    }
    let mut moved = Vec::new();
    if was != now.action() {
        moved.push(Moved::Action { was, is: Some(now.action()) });
    }
    if let (Some(was), Some(is)) = (&saved.run, &now.run)
        && was != is
    {
        moved.push(Moved::Run { was: was.clone(), is: is.clone() });
    }
    if let (Some(was), Some(is)) = (saved.declared_digest(), now.declared_digest())
        && was != is
    {
        moved.push(Moved::Document);
    }
    if let (Some(was), Some(is)) = (saved.targets(), now.targets()) {
        if (was.count, was.digest) != (is.count, is.digest) {
            moved.push(Moved::Target { was: was.clone(), is: is.clone() });
        }
        let phrases = moved_on_devices(saved, now, (was, is));
        moved.extend(phrases.into_iter().map(|what| Moved::Devices { what }));
    }
    if let (Some(was), Some(is)) = (saved.import(), now.import())
        && was != is
    {
        let (was, is) = (was.touched(), is.touched());
        moved.push(Moved::Devices { what: format!("devices to write: {was} then, {is} now") });
    }
    if saved.reason != now.reason || moved.is_empty() {
        moved.push(Moved::Reason { was: saved.reason.clone(), is: now.reason.clone() });
    }
    moved
}

/// Returns what devices have that they did not have, as phrases.
fn moved_on_devices(saved: &PlannedChange, now: &PlannedChange, (was, is): (&Targets, &Targets)) -> Vec<String> {
    let counts = [
        ("as desired already", was.unchanged, is.unchanged),
        ("blocked", was.blocked, is.blocked),
        ("of a template that it does not fit, or no IoT Edge device", was.mismatches(), is.mismatches()),
        ("named and not in the registry", was.missing, is.missing),
    ];
    let mut phrases: Vec<String> = counts
        .into_iter()
        .filter(|(_, was, is)| was != is)
        .map(|(what, was, is)| format!("devices {what}: {was} then, {is} now"))
        .collect();
    let is_same_document = saved.declared_digest() == now.declared_digest();
    let is_same_target = (was.count, was.digest) == (is.count, is.digest);
    if phrases.is_empty() && is_same_document && is_same_target && saved.diff() != now.diff() {
        phrases.push("devices have other values now than those that it changes".to_string());
    }
    phrases
}

/// Returns true when a change is as it was agreed to. Which devices have a secret already is no part of that: where the
/// plan was saved the value may not have been known, and it may be another one since.
fn is_as_agreed(now: &Value, saved: &Value) -> bool {
    let is_of_secret = |line: &Value| shows_secret(&line["to"]);
    let lines = |change: &Value| change["diff"].as_array().cloned().unwrap_or_default();
    if now == saved || !lines(now).iter().chain(&lines(saved)).any(is_of_secret) {
        return now == saved;
    }
    let stripped = |change: &Value| {
        let mut change = change.clone();
        if let Some(lines) = change["diff"].as_array_mut() {
            lines.retain(|line| !is_of_secret(line));
        }
        change["targets"]["unchanged"] = Value::Null;
        change
    };
    stripped(now) == stripped(saved)
}

fn shows_secret(value: &Value) -> bool {
    match value {
        Value::String(text) => text == SHOWN,
        Value::Array(items) => items.iter().any(shows_secret),
        Value::Object(members) => members.values().any(shows_secret),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}
