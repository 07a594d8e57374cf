//! Runs for people and as JSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{TextTable, counted, field, instant, instant_or_dash, number};
use crate::cli::output::{Painter, Tone};
use crate::ledger::RunRecord;
use crate::model::outcome::{Reason, RunStatus};
use crate::model::text::sanitize_line;
use crate::ops::job::{Fitting, Life, ListedRun, ShownRun};
use crate::results::Row;

/// The columns of the device grid: those of the results; `id` and `name` stand for the first two.
pub use crate::results::SHARD_HEADER as COLUMNS;

/// The columns that are shown unless the user chose others.
pub const DEFAULT_COLUMNS: [&str; 6] = ["device_id", "status", "reason", "code", "batch", "message"];

/// Batches of a run that are shown.
const BATCHES_MAX: usize = 20;

/// Returns a table of runs, with the outcomes of the devices that were asked for.
pub fn list(runs: &[ListedRun]) -> String {
    let mut header = vec!["JOB", "RUN", "STATUS", "DEVICES", "COMPLETED", "FAILED", "PENDING", "STARTED"];
    let is_of_devices = runs.iter().any(|run| run.fitting.is_some());
    if is_of_devices {
        header.extend(["DEVICE", "DEVICE-STATUS", "REASON"]);
    }
    let mut table = TextTable::new(&header).naming(&["JOB", "DEVICE"]).sparing(match is_of_devices {
        true => &["PENDING", "COMPLETED", "FAILED", "DEVICES", "STARTED", "STATUS"],
        false => &["PENDING", "STARTED", "COMPLETED", "RUN"],
    });
    for ListedRun { record, life, fitting } in runs {
        let (counts, status) = (&record.counts, life.word(record.status));
        let mut cells = vec![
            record.job.to_string(),
            record.run.to_string(),
            record.hindrance().map_or_else(|| status.to_string(), |cause| format!("{status} ({cause})")),
            number(counts.total),
            number(counts.completed),
            number(counts.failed),
            number(counts.pending()),
            instant_or_dash(record.started_at),
        ];
        if let Some(Fitting { devices, device_id, row }) = fitting {
            cells.push(if *devices == 1 { device_id.clone() } else { counted(*devices, "device") });
            cells.push(row.as_ref().map_or("-".to_string(), |row| row.status.as_str().to_string()));
            cells.push(row.as_ref().map_or("-".to_string(), |row| row.reason.as_str().to_string()));
        }
        table.push(cells);
    }
    table.render()
}

/// Returns a run with the keys of `job list`, and the outcomes of the devices that were asked for.
pub fn listed_json(run: &ListedRun) -> Value {
    let mut summary = with_life(run.record.to_summary_json(), &run.life, run.record.status);
    if let (Some(Fitting { devices, device_id, row }), Some(members)) = (&run.fitting, summary.as_object_mut()) {
        members.insert("devices".into(), json!(devices));
        members.insert("device_id".into(), json!((*devices == 1).then_some(device_id)));
        members.insert("device_status".into(), json!(row.as_ref().map(|row| row.status.as_str())));
        members.insert("device_reason".into(), json!(row.as_ref().map(|row| row.reason.as_str())));
    }
    summary
}

/// Adds whether a run goes on, and who works on it where it does.
fn with_life(mut summary: Value, life: &Life, status: RunStatus) -> Value {
    if let Some(members) = summary.as_object_mut() {
        members.insert("status".into(), json!(life.word(status)));
        if let Life::AtWork(worker) = life {
            members.insert("at_work".into(), json!(worker));
        }
    }
    summary
}

/// Returns what there is to say about a run that has not ended.
fn life_text(life: &Life) -> Option<String> {
    match life {
        Life::Over => None,
        Life::AtWork(worker) => Some(format!("at work: {}", sanitize_line(worker))),
        Life::Interrupted => Some("nothing works on it now; the next apply or the daemon resumes it".to_string()),
        Life::Waiting => Some("waits for devices; an apply or the daemon serves those that come online".to_string()),
        Life::Elsewhere => Some("with another registry, as of the last fetch".to_string()),
    }
}

/// Returns one line for a run that ended or was left.
pub fn outcome_line(record: &RunRecord, painter: Painter) -> String {
    let counts = &record.counts;
    let mut line = format!(
        "job {} run {}: {}, {} completed, {} failed",
        record.job,
        record.run,
        painter.paint(tone(record.status), record.status.as_str()),
        number(counts.completed),
        number(counts.failed)
    );
    if counts.unchanged > 0 {
        line.push_str(&format!(", {} of them unchanged", number(counts.unchanged)));
    }
    if counts.pending() > 0 {
        line.push_str(&format!(", {} pending", number(counts.pending())));
    }
    if let Some(reason) = &record.reason {
        line.push_str(&format!(" ({})", sanitize_line(reason)));
    }
    line
}

/// Returns one line for a run that was left before its end.
pub fn paused_line(record: &RunRecord, painter: Painter) -> String {
    let counts = &record.counts;
    let word = if record.status == RunStatus::Stopped { "stopped" } else { "interrupted" };
    let (completed, failed, pending) = (number(counts.completed), number(counts.failed), number(counts.pending()));
    let word = painter.paint(Tone::Careful, word);
    format!("job {} run {}: {word}, {completed} completed, {failed} failed, {pending} pending", record.job, record.run)
}

/// Returns a run with its batches.
pub fn show(shown: &ShownRun, painter: Painter) -> String {
    let record = &shown.record;
    let counts = &record.counts;
    let mut text = format!("{}\n", painter.paint(Tone::Strong, &format!("job {} run {}", record.job, record.run)));
    let mut line = |name: &str, value: String| text.push_str(&field(name, &value, 13));
    line("status", painter.paint(tone(record.status), shown.life.word(record.status)));
    if let Some(text) = life_text(&shown.life) {
        line("", text);
    }
    if let Some(reason) = &record.reason {
        line("because", sanitize_line(reason).into_owned());
    }
    let unchanged =
        if counts.unchanged > 0 { format!(" ({} unchanged)", number(counts.unchanged)) } else { String::new() };
    line(
        "devices",
        format!(
            "{}: {} completed{unchanged}, {} failed, {} pending",
            number(counts.total),
            number(counts.completed),
            number(counts.failed),
            number(counts.pending())
        ),
    );
    if record.late > 0 {
        let verb = if record.late == 1 { "it came" } else { "they came" };
        let note = format!("{}: {verb} after the outcome of the device, which stays", number(record.late));
        line("late answers", note);
    }
    if !shown.failures.is_empty() {
        line("failed", by_reason(&shown.failures));
    }
    line("claimed", instant(shown.claimed_at));
    line("started", instant_or_dash(record.started_at));
    line("finished", instant_or_dash(record.finished_at));
    line("source", record.source_commit.chars().take(12).collect());
    if record.per_batch.len() > 1 {
        let mut table = TextTable::new(&["BATCH", "DEVICES", "COMPLETED", "FAILED", "PENDING"]);
        for (at, batch) in record.per_batch.iter().enumerate().take(BATCHES_MAX) {
            let counts = &batch.counts;
            let cells = [counts.total, counts.completed, counts.failed, counts.pending()].map(number);
            table.push(std::iter::once(number(at as u64 + 1)).chain(cells).collect());
        }
        text.push('\n');
        table.render_behind(2).lines().for_each(|line| text.push_str(&format!("  {line}\n")));
        let more = record.per_batch.len().saturating_sub(BATCHES_MAX);
        if more > 0 {
            text.push_str(&format!("  … {} more (--json shows them)\n", counted(more as u64, "batch")));
        }
    }
    text
}

/// Returns `job show --json`: the keys of `job list`, and the counts of each batch.
pub fn show_json(shown: &ShownRun) -> Value {
    let mut document = with_life(shown.record.to_json(), &shown.life, shown.record.status);
    if let Some(members) = document.as_object_mut() {
        let failures = shown.failures.iter().map(|(reason, devices)| (reason.as_str().to_string(), json!(devices)));
        members.insert("failures".into(), Value::Object(failures.collect()));
        members.insert("claimed_at".into(), json!(shown.claimed_at.to_string()));
        members.remove("published");
        members.remove("format_version");
    }
    document
}

/// Returns a device of a run as an object with the columns of the results.
pub fn row_json(row: &Row) -> Value {
    json!({
        "device_id": row.device_id,
        "device_name": row.device_name,
        "status": row.status.as_str(),
        "reason": row.reason.as_str(),
        "code": row.code,
        "message": row.message,
        "attempts": row.attempts,
        "batch": row.batch,
        "started_at": row.started_at.map(|time| time.to_string()),
        "finished_at": row.finished_at.map(|time| time.to_string()),
    })
}

/// Returns the cell of a column; `None` for an unknown column.
pub fn cell(row: &Row, column: &str) -> Option<String> {
    let time = |time: Option<Timestamp>| time.map_or(String::new(), |time| time.to_string());
    Some(match column {
        "id" | "device_id" => row.device_id.clone(),
        "name" | "device_name" => row.device_name.clone(),
        "status" => row.status.as_str().to_string(),
        "reason" => row.reason.as_str().to_string(),
        "code" => row.code.map_or(String::new(), |code| code.to_string()),
        "message" => row.message.clone(),
        "attempts" => row.attempts.to_string(),
        "batch" => row.batch.to_string(),
        "started_at" => time(row.started_at),
        "finished_at" => time(row.finished_at),
        _ => return None,
    })
}

/// Returns counts by reason as `3 offline, 2 rejected`.
pub(super) fn by_reason(failures: &[(Reason, u64)]) -> String {
    let parts = failures.iter().map(|(reason, devices)| format!("{} {}", number(*devices), reason.as_str()));
    parts.collect::<Vec<_>>().join(", ")
}

pub(super) fn tone(status: RunStatus) -> Tone {
    match status {
        RunStatus::Completed => Tone::Good,
        RunStatus::Failed | RunStatus::Canceled => Tone::Bad,
        RunStatus::Pending | RunStatus::Running | RunStatus::Stopped => Tone::Careful,
    }
}
