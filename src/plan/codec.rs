//! The JSON form of a plan: what `plan --json` prints, `--out` saves and `apply PLAN` compares with.

use serde_json::{Value, json};

use super::{Batches, ImportCounts, Plan, PlannedChange, Step, Targets, Upcoming};
use crate::model::digest::{Digest, canonical_json};
use crate::model::observation::Mismatch;
use crate::model::schedule::Occurrence;

/// The version of the JSON plan; the major number changes when the meaning of a field does.
pub const FORMAT_VERSION: &str = "1.0";

/// Returns the JSON document of a plan, without diagnostics (the view adds them: they need the source texts).
pub fn plan_to_json(plan: &Plan) -> Value {
    json!({
        "format_version": FORMAT_VERSION,
        "plan_id": plan.id,
        "source": source_to_json(plan),
        "base": plan.base,
        "observed_at": plan.observed_at.to_string(),
        "changes": plan.changes.iter().map(change_to_json).collect::<Vec<_>>(),
        "summary": summary_to_json(plan),
    })
}

fn source_to_json(plan: &Plan) -> Value {
    json!({"commit": plan.source.commit, "tree": plan.source.tree, "digest": plan.source.digest})
}

fn summary_to_json(plan: &Plan) -> Value {
    let summary = plan.summary();
    json!({
        "run": summary.to_run,
        "devices": summary.devices,
        "import": summary.imports,
        "import_devices": summary.import_devices,
        "stop": summary.to_stop,
        "continue": summary.to_continue,
        "close": summary.to_close,
    })
}

/// Returns the id of a plan: the digest of its content and of the time of its observation, so that no two plans share
/// one.
pub fn plan_id_of(plan: &Plan) -> String {
    // As canonical JSON piece by piece: most changes of a large plan are done, and short.
    let mut text = String::with_capacity(256 * (plan.changes.len() + 4));
    let base = plan.base.as_ref().map_or(Value::Null, |base| json!(base));
    text.push_str(&format!("{{\"base\":{},\"changes\":[", canonical_json(&base)));
    for (at, change) in plan.changes.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        write_change(change, &mut text);
    }
    let rest = json!({
        "format_version": FORMAT_VERSION,
        "observed_at": plan.observed_at.to_string(),
        "source": source_to_json(plan),
        "summary": summary_to_json(plan),
    });
    let rest = canonical_json(&rest);
    text.push_str("],");
    text.push_str(&rest[1..]);
    Digest::of_bytes(text.as_bytes()).to_string()
}

/// Writes the canonical JSON of a change.
fn write_change(change: &PlannedChange, text: &mut String) {
    let PlannedChange { subject, reason, run, step } = change;
    let is_plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
    let is_short = !matches!(step, Step::Run(_) | Step::Import { .. } | Step::Schedule(_));
    if !is_short || !is_plain(reason) {
        return text.push_str(&canonical_json(&change_to_json(change)));
    }
    let quoted = |value: &str, text: &mut String| {
        text.push('"');
        text.push_str(value);
        text.push('"');
    };
    let (folder, name) = subject.address();
    text.push_str("{\"actions\":[");
    quoted(step.kind().word(), text);
    text.push_str("],\"address\":\"");
    text.push_str(folder);
    text.push('/');
    text.push_str(name.as_str());
    text.push_str("\",\"declared_digest\":null,\"kind\":");
    quoted(subject.kind().as_str(), text);
    text.push_str(",\"reason\":");
    quoted(reason, text);
    text.push_str(",\"run\":");
    match run {
        Some(run) => quoted(run.as_str(), text),
        None => text.push_str("null"),
    }
    text.push_str(",\"work\":null}");
}

pub(super) fn change_to_json(change: &PlannedChange) -> Value {
    let mut document = json!({
        "address": change.subject.to_string(),
        "kind": change.subject.kind().as_str(),
        "actions": [change.action().word()],
        "reason": change.reason,
        "run": change.run.as_ref().map(|run| run.as_str()),
        "work": change.work(),
        "declared_digest": change.declared_digest().map(|digest| digest.to_string()),
    });
    let members = document.as_object_mut().expect("a change is an object");
    match &change.step {
        Step::Run(run) => {
            members.insert("targets".into(), targets_to_json(&run.targets));
            let lines = run
                .diff
                .iter()
                .map(|line| json!({"path": line.path, "from": line.from, "to": line.to, "devices": line.devices}));
            members.insert("diff".into(), lines.collect());
            members.insert("batches".into(), batches_to_json(run.batches));
            let threshold = run.threshold.map(|threshold| {
                let per = threshold.per.as_str();
                json!({"failures": threshold.failures.to_string(), "per": per})
            });
            members.insert("threshold".into(), json!(threshold));
        }
        Step::Import { counts, .. } => drop(members.insert("import".into(), import_to_json(counts))),
        Step::Schedule(schedule) => {
            members.insert("next".into(), next_to_json(&schedule.upcoming));
            members.insert("devices_now".into(), json!(schedule.upcoming.devices));
        }
        Step::Continue | Step::Stop | Step::Close | Step::Hold | Step::Done | Step::Gone => {}
    }
    document
}

fn import_to_json(counts: &ImportCounts) -> Value {
    json!({
        "new": counts.new,
        "updated": counts.updated,
        "renamed": counts.renamed,
        "blocked": counts.blocked,
        "unchanged": counts.unchanged,
        "deleted": counts.deleted,
        "removed": counts.removed,
        "deletes": counts.is_deletion,
        "kept": counts.kept,
        "rejected": counts.rejected,
        "rows": counts.rows,
    })
}

fn next_to_json(upcoming: &Upcoming) -> Value {
    let Upcoming { time_zone, occurrences, devices: _ } = upcoming;
    let local = |occurrence: &Occurrence| occurrence.instant.to_zoned(time_zone.clone()).to_string();
    let item = |one: &Occurrence| json!({"occurrence": one.instant.to_string(), "local": local(one)});
    occurrences.iter().map(item).collect()
}

/// `first` is there where the first batch is a canary.
fn batches_to_json(batches: Batches) -> Value {
    let Batches { count, sizes } = batches;
    let mut document = json!({"count": count, "size": sizes.size});
    if sizes.first != sizes.size {
        document["first"] = json!(sizes.first);
    }
    document
}

fn targets_to_json(targets: &Targets) -> Value {
    json!({
        "count": targets.count,
        "digest": targets.digest.to_string(),
        "sample": targets.sample,
        "unchanged": targets.unchanged,
        "blocked": targets.blocked,
        "mismatched": targets.mismatches(),
        "mismatched_templates": targets.mismatched.iter().filter_map(|(mismatch, devices)| match mismatch {
            Mismatch::Template(template) => Some(json!({"template": template.as_str(), "devices": devices})),
            Mismatch::NotEdge => None,
        }).collect::<Vec<_>>(),
        "not_iot_edge": targets.mismatched.get(&Mismatch::NotEdge).copied().unwrap_or_default(),
        "missing": targets.missing,
    })
}
