//! Reads back what the codec writes: the changes of a JSON plan.

use std::collections::BTreeMap;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use serde_json::Value;

use super::{
    Batches, DiffLine, ImportCounts, Plan, PlanSource, PlannedChange, RunStep, ScheduleStep, Step, Subject, Targets,
    Upcoming,
};
use crate::model::delivery::{Amount, BatchSizes, Threshold, ThresholdScope};
use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};
use crate::model::job::ACTION_WORDS;
use crate::model::observation::Mismatch;
use crate::model::schedule::Occurrence;

/// Returns the plan of a JSON document, without the devices of its runs, its notices, its refusals and what is frozen,
/// which are not in one.
///
/// # Errors
/// Names the member that is missing or malformed.
pub(super) fn plan_from_json(document: &Value) -> Result<Plan, String> {
    let root = Members { value: document, place: String::new() };
    let changes = root.list("changes")?;
    let source = root.object("source")?;
    Ok(Plan {
        id: root.digest("plan_id")?.to_string(),
        source: PlanSource {
            commit: source.maybe("commit", Value::as_str).map(str::to_string),
            tree: source.maybe("tree", Value::as_str).map(str::to_string),
            digest: source.text("digest")?.to_string(),
        },
        base: root.maybe("base", Value::as_str).map(str::to_string),
        observed_at: root.parsed("observed_at", |text| text.parse::<Timestamp>().ok())?,
        changes: changes.iter().map(change).collect::<Result<_, _>>()?,
        ..Plan::empty(Timestamp::UNIX_EPOCH)
    })
}

fn change(members: &Members<'_>) -> Result<PlannedChange, String> {
    let action = members.list("actions")?.first().and_then(|one| one.value.as_str()).unwrap_or_default();
    let step = match action {
        "run" => Step::Run(Box::new(run_step(members)?)),
        "import" => Step::Import {
            counts: import_counts(&members.object("import")?)?,
            declared_digest: members.digest("declared_digest")?,
        },
        "schedule" => Step::Schedule(Box::new(ScheduleStep {
            work: work(members)?,
            declared_digest: members.digest("declared_digest")?,
            upcoming: upcoming(members)?,
        })),
        "continue" => Step::Continue,
        "stop" => Step::Stop,
        "close" => Step::Close,
        "hold" => Step::Hold,
        "done" => Step::Done,
        "gone" => Step::Gone,
        _ => return Err(members.malformed("actions")),
    };
    let run = match members.maybe("run", Value::as_str) {
        Some(_) => Some(members.parsed("run", |text| RunToken::parse(text).ok())?),
        None => None,
    };
    let subject = members.parsed("address", Subject::parse)?;
    Ok(PlannedChange { subject, reason: members.text("reason")?.to_string(), run, step })
}

fn run_step(members: &Members<'_>) -> Result<RunStep, String> {
    let work = work(members)?;
    let batches = members.object("batches")?;
    let size = batches.number("size")?;
    let first = batches.maybe("first", Value::as_u64).unwrap_or(size);
    let threshold = match members.value.get("threshold") {
        None | Some(Value::Null) => None,
        Some(_) => Some(threshold(&members.object("threshold")?)?),
    };
    Ok(RunStep {
        work,
        declared_digest: members.digest("declared_digest")?,
        targets: targets(&members.object("targets")?)?,
        diff: members.list("diff")?.iter().map(|line| diff_line(line, work)).collect::<Result<_, _>>()?,
        batches: Batches { count: batches.number("count")?, sizes: BatchSizes { first, size } },
        threshold,
    })
}

/// Returns the word of an action, as the model has it.
fn work(members: &Members<'_>) -> Result<&'static str, String> {
    members.parsed("work", |text| ACTION_WORDS.into_iter().find(|word| *word == text))
}

fn threshold(members: &Members<'_>) -> Result<Threshold, String> {
    let amount = |text: &str| match text.strip_suffix('%') {
        Some(percent) => percent.parse().ok().map(Amount::Percent),
        None => text.parse().ok().map(Amount::Count),
    };
    let failures = members.parsed("failures", amount)?;
    Ok(Threshold { failures, per: members.parsed("per", ThresholdScope::parse)? })
}

fn diff_line(members: &Members<'_>, work: &str) -> Result<DiffLine, String> {
    let value = |name: &str| members.value.get(name).filter(|value| !value.is_null()).cloned();
    // A command without a payload has the payload null.
    let to = if work == "command" { Some(value("to").unwrap_or(Value::Null)) } else { value("to") };
    Ok(DiffLine {
        path: members.text("path")?.to_string(),
        from: value("from"),
        to,
        devices: members.number("devices")?,
    })
}

fn targets(members: &Members<'_>) -> Result<Targets, String> {
    let mut mismatched = BTreeMap::new();
    for one in members.list("mismatched_templates")? {
        let template = one.parsed("template", |text| Name::parse(text).ok())?;
        mismatched.insert(Mismatch::Template(template), one.number("devices")?);
    }
    let not_edge = members.number("not_iot_edge")?;
    if not_edge > 0 {
        mismatched.insert(Mismatch::NotEdge, not_edge);
    }
    let sample = members.list("sample")?;
    let id = |one: &Members<'_>| one.value.as_str().map(str::to_string).ok_or_else(|| members.malformed("sample"));
    let targets = Targets {
        count: members.number("count")?,
        digest: members.digest("digest")?,
        sample: sample.iter().map(id).collect::<Result<_, _>>()?,
        unchanged: members.number("unchanged")?,
        blocked: members.number("blocked")?,
        mismatched,
        missing: members.number("missing")?,
    };
    // What is shown of the rest is their difference.
    if targets.sample.len() as u64 > targets.count { Err(members.malformed("sample")) } else { Ok(targets) }
}

fn import_counts(members: &Members<'_>) -> Result<ImportCounts, String> {
    Ok(ImportCounts {
        new: members.number("new")?,
        updated: members.number("updated")?,
        renamed: members.number("renamed")?,
        // A plan that an older version saved does not say it.
        blocked: members.maybe("blocked", Value::as_u64).unwrap_or(0),
        unchanged: members.number("unchanged")?,
        deleted: members.number("deleted")?,
        removed: members.number("removed")?,
        is_deletion: members.maybe("deletes", Value::as_bool).ok_or_else(|| members.malformed("deletes"))?,
        kept: members.number("kept")?,
        rejected: members.number("rejected")?,
        rows: members.number("rows")?,
    })
}

/// The time zone of a schedule without occurrences is not in the document, and is read as UTC: nothing is shown in it.
fn upcoming(members: &Members<'_>) -> Result<Upcoming, String> {
    let mut time_zone = TimeZone::UTC;
    let mut occurrences = Vec::new();
    for one in members.list("next")? {
        let instant: Timestamp = one.parsed("occurrence", |text| text.parse().ok())?;
        let local: Zoned = one.parsed("local", |text| text.parse().ok())?;
        occurrences.push(Occurrence { nominal: local.datetime(), instant });
        time_zone = local.time_zone().clone();
    }
    Ok(Upcoming { time_zone, occurrences, devices: members.maybe("devices_now", Value::as_u64) })
}

/// The members of an object, and where it is in the document.
struct Members<'a> {
    value: &'a Value,
    /// Such as `changes[2].targets`; empty for the whole document.
    place: String,
}

impl<'a> Members<'a> {
    fn place_of(&self, name: &str) -> String {
        if self.place.is_empty() { name.to_string() } else { format!("{}.{name}", self.place) }
    }

    fn malformed(&self, name: &str) -> String {
        let place = self.place_of(name);
        let is_there = self.value.get(name).is_some();
        if is_there { format!("its `{place}` cannot be read") } else { format!("its `{place}` is missing") }
    }

    fn maybe<T>(&self, name: &str, read: impl Fn(&'a Value) -> Option<T>) -> Option<T> {
        self.value.get(name).and_then(read)
    }

    fn parsed<T>(&self, name: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, String> {
        self.maybe(name, Value::as_str).and_then(read).ok_or_else(|| self.malformed(name))
    }

    fn text(&self, name: &str) -> Result<&'a str, String> {
        self.maybe(name, Value::as_str).ok_or_else(|| self.malformed(name))
    }

    fn number(&self, name: &str) -> Result<u64, String> {
        self.maybe(name, Value::as_u64).ok_or_else(|| self.malformed(name))
    }

    fn digest(&self, name: &str) -> Result<Digest, String> {
        self.parsed(name, Digest::parse)
    }

    fn object(&self, name: &str) -> Result<Members<'a>, String> {
        let value = self.value.get(name).filter(|value| value.is_object()).ok_or_else(|| self.malformed(name))?;
        Ok(Members { value, place: self.place_of(name) })
    }

    fn list(&self, name: &str) -> Result<Vec<Members<'a>>, String> {
        let values = self.maybe(name, Value::as_array).ok_or_else(|| self.malformed(name))?;
        let item = |(at, value)| Members { value, place: format!("{}[{at}]", self.place_of(name)) };
        Ok(values.iter().enumerate().map(item).collect())
    }
}
