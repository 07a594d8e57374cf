//! A rehearsal for people and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::job::tone;
use super::{TextTable, counted, number, wrapped};
use crate::cli::output::{Painter, Tone, stdout_width};
use crate::model::text::sanitize_line;
use crate::ops::rehearse::{Rehearsed, RehearsedRun};
use crate::plan::Subject;

/// Returns a rehearsal as text, its summary last.
pub fn render(rehearsed: &Rehearsed, simulated_in: Duration, painter: Painter) -> String {
    let what = match &rehearsed.commit {
        Some(commit) => format!("the commit {}", commit.chars().take(12).collect::<String>()),
        None => "the work tree".to_string(),
    };
    let heading = format!("A rehearsal of {what}: nothing was changed, and no device was spoken to.");
    let mut text = format!("{}\n\n", wrapped(&painter.paint(Tone::Strong, &heading), 0, stdout_width()));
    if let Some(runs) = rehearsed.republished {
        let runs = counted(runs, "run");
        text.push_str(&format!(
            "The results branch is gone: it would be published again from the registry, with {runs}.\n\n"
        ));
    }
    for (name, report) in &rehearsed.imports {
        let mut counts = vec![format!("{} imported", number(report.imported))];
        let more =
            [(report.updated, "updated"), (report.removed, "removed"), (report.rejected, "rejected")].into_iter();
        counts.extend(more.filter(|(count, _)| *count > 0).map(|(count, what)| format!("{} {what}", number(count))));
        text.push_str(&format!("import {name}: {}\n", counts.join(", ")));
    }
    if !rehearsed.imports.is_empty() {
        text.push('\n');
    }
    if !rehearsed.runs.is_empty() {
        text.push_str(&table(&rehearsed.runs));
        text.push('\n');
    }
    for run in &rehearsed.runs {
        if let Some(reason) = &run.record.reason {
            let status = painter.paint(tone(run.record.status), run.record.status.as_str());
            let (job, token) = (&run.record.job, &run.record.run);
            let line = format!("job {job} run {token} {status}: {}", sanitize_line(reason));
            text.push_str(&format!("{}\n", wrapped(&line, 2, stdout_width())));
        }
    }
    for change in &rehearsed.held {
        let reason = sanitize_line(&change.reason);
        text.push_str(&format!("{} would not run: {reason}\n", change.subject.to_string().replace('/', " ")));
    }
    let took = span(simulated_in);
    if rehearsed.was_empty {
        text.push_str(&format!("There would be nothing to do, simulated in {took}.\n"));
    } else {
        let takes = span(rehearsed.takes);
        let sum = format!("In all {takes} of the fleet's time, simulated in {took}.");
        text.push_str(&format!("{}\n", painter.paint(Tone::Strong, &sum)));
    }
    text
}

fn table(runs: &[RehearsedRun]) -> String {
    let mut table =
        TextTable::new(&["JOB", "RUN", "STATUS", "DEVICES", "BATCHES", "COMPLETED", "FAILED", "PENDING", "TAKES"])
            .sparing(&["BATCHES", "PENDING", "COMPLETED", "RUN"]);
    for run in runs {
        let record = &run.record;
        let counts = &record.counts;
        table.push(vec![
            record.job.to_string(),
            record.run.to_string(),
            record.status.as_str().to_string(),
            number(counts.total),
            number(record.per_batch.len() as u64),
            number(counts.completed),
            number(counts.failed),
            number(counts.pending()),
            span(run.takes),
        ]);
    }
    table.render()
}

/// Returns the lines of `simulate --json`: an object an import (`import`), an object a job (`job`) and one for all
/// (`summary`). A job has the keys of `job list`; its times are null, because a rehearsal has no date, and
/// `starts_after_seconds` and `takes_seconds` stand for them. So the same fleet, options and seed give the same bytes.
pub fn json_lines(rehearsed: &Rehearsed) -> Vec<Value> {
    let mut lines = Vec::new();
    for (name, report) in &rehearsed.imports {
        lines.push(json!({
            "import": name.as_str(),
            "imported": report.imported,
            "updated": report.updated,
            "unchanged": report.unchanged,
            "removed": report.removed,
            "rejected": report.rejected,
            "rows": report.rows,
        }));
    }
    lines.extend(rehearsed.runs.iter().map(|run| run_json(run, rehearsed.commit.as_deref())));
    let sum = |count: fn(&RehearsedRun) -> u64| rehearsed.runs.iter().map(count).sum::<u64>();
    let held = rehearsed.held.iter().filter_map(|change| match &change.subject {
        Subject::Job(name) => Some(json!({"job": name.as_str(), "reason": change.reason})),
        Subject::Import(_) | Subject::Schedule(_) => None,
    });
    lines.push(json!({"summary": {
        "jobs": rehearsed.runs.len(),
        "imports": rehearsed.imports.len(),
        "total": sum(|run| run.record.counts.total),
        "completed": sum(|run| run.record.counts.completed),
        "failed": sum(|run| run.record.counts.failed),
        "pending": sum(|run| run.record.counts.pending()),
        "republished_runs": rehearsed.republished,
        "held": held.collect::<Vec<_>>(),
        "takes_seconds": seconds(rehearsed.takes),
    }}));
    lines
}

fn run_json(run: &RehearsedRun, commit: Option<&str>) -> Value {
    let record = &run.record;
    let mut document = record.to_summary_json();
    let mut whole = record.to_json();
    if let Some(members) = document.as_object_mut() {
        members.insert("started_at".into(), Value::Null);
        members.insert("finished_at".into(), Value::Null);
        // A run that was claimed before the rehearsal has the commit of its claim.
        if commit.is_none() && record.source_commit.bytes().all(|byte| byte == b'0') {
            members.insert("source_commit".into(), Value::Null);
        }
        members.insert("starts_after_seconds".into(), seconds(run.starts_after));
        members.insert("takes_seconds".into(), seconds(run.takes));
        members.insert("per_batch".into(), whole["per_batch"].take());
    }
    document
}

/// Whole milliseconds: shorter times are no prediction.
fn seconds(duration: Duration) -> Value {
    json!(duration.as_millis() as f64 / 1_000.0)
}

/// Returns a duration with its two largest units, such as `2 h 13 min`; below a minute with a fraction.
pub fn span(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), duration.subsec_millis());
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes, seconds) {
        (0, 0, 0, 0) if millis == 0 => "0 s".to_string(),
        (0, 0, 0, 0) => format!("{millis} ms"),
        (0, 0, 0, _) => format!("{seconds}.{} s", millis / 100),
        (0, 0, _, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _, _) => format!("{hours} h {} min", minutes % 60),
        (_, _, _, _) => format!("{} {} h", counted(days, "day"), hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_two_units() {
        let check = |millis: u64, expect: &str| assert_eq!(span(Duration::from_millis(millis)), expect);
        check(0, "0 s");
        check(7, "7 ms");
        check(999, "999 ms");
        check(4_260, "4.2 s");
        check(59_999, "59.9 s");
        check(60_000, "1 min 0 s");
        check(3_599_999, "59 min 59 s");
        check(7_980_000, "2 h 13 min");
        check(86_400_000, "1 day 0 h");
        check(180_000_000, "2 days 2 h");
    }
}
