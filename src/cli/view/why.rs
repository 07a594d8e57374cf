//! Why a run is where it is, in sentences and as JSON. `docs/why.md` lists the causes and their keys in the JSON.

use serde_json::{Value, json};

use super::job::{by_reason, row_json, tone};
use super::{TextTable, counted, instant, instant_or_dash, number, wrapped};
use crate::cli::output::{Painter, Tone, stdout_width};
use crate::model::delivery::ThresholdScope;
use crate::model::outcome::{Counts, Reason, RunStatus};
use crate::model::text::{sanitize, sanitize_line};
use crate::ops::job::{Cause, Crossed, ListedStatus, Predecessor, RunProgress, StopCause, Waiting, Why};
use crate::plan::ActionKind;
use crate::registry::{LateAnswer, Waits};
use crate::results::Row;

/// Returns the answer for people: a line a cause, the devices behind it below.
pub fn render(why: &Why, painter: Painter) -> String {
    let status = match why.status {
        Some(status) => painter.paint(tone(status), why.word.unwrap_or(status.as_str())),
        None => "not claimed".to_string(),
    };
    let title = painter.paint(Tone::Strong, &format!("job {} run {}", why.job, why.run));
    let mut text = format!("{title}: {status}\n");
    if why.word == Some(ListedStatus::Interrupted.as_str()) {
        let line = "  Nothing works on it now; the next apply or the daemon resumes it.";
        text.push_str(&format!("{}\n", wrapped(line, 2, stdout_width())));
    }
    for cause in &why.causes {
        for line in sentences(cause, why.status).lines() {
            let line = format!("  {line}");
            // The rows of a table fit already.
            let is_row = line.starts_with("    ");
            text.push_str(&if is_row { line } else { wrapped(&line, 2, stdout_width()) });
            text.push('\n');
        }
    }
    text
}

/// Returns the object `{"job", "run", "status", "why": [...]}`; each member of the list has the word of its `cause`.
pub fn to_json(why: &Why) -> Value {
    json!({
        "job": why.job.as_str(),
        "run": why.run.as_str(),
        "status": why.word,
        "why": why.causes.iter().map(cause_json).collect::<Vec<_>>(),
    })
}

fn sentences(cause: &Cause, status: Option<RunStatus>) -> String {
    match cause {
        Cause::Crossed(crossed) => crossed_text(crossed),
        Cause::Recorded { reason } => sentence(&sanitize_line(reason)),
        Cause::Completed { counts } => {
            let Counts { total, completed, failed, unchanged } = counts;
            let unchanged = if *unchanged > 0 { format!(" ({} unchanged)", number(*unchanged)) } else { String::new() };
            let (completed, failed) = (number(*completed), number(*failed));
            format!(
                "Every one of its {} was attempted: {completed} completed{unchanged}, {failed} failed.",
                counted(*total, "device")
            )
        }
        Cause::JournalLost { total, unknown } => format!(
            "The registry's journal of this run was lost before its end. The outcome of {} of {} is unknown; nothing \
                was \
             sent again. `job rerun` makes a new job for the devices that failed.",
            number(*unknown),
            counted(*total, "device")
        ),
        Cause::Stopped { by, progress } => stopped_text(*by, progress, status),
        Cause::Slot { running, limit } if running >= limit => format!(
            "It waits for a free slot: {} of {} are running (limits.runningJobs).",
            number(*running),
            counted(*limit, "job")
        ),
        Cause::Slot { running, limit } => format!(
            "It is claimed and has not started: {} of {} at once are running, and the next apply starts it.",
            number(*running),
            counted(*limit, "job")
        ),
        Cause::SameDevices { job, run } => {
            format!(
                "It waits for job {job} run {run}: a device has at most one command in flight, and some are in both."
            )
        }
        Cause::OpenBatch { batch, batches, counts } => format!(
            "Batch {} of {} is open: {} of {} done, {} failed.",
            number(u64::from(*batch)),
            number(u64::from(*batches)),
            number(counts.completed + counts.failed),
            counted(counts.total, "device"),
            number(counts.failed)
        ),
        Cause::Waiting(waiting) => waiting_text(waiting),
        Cause::Queued { devices } => format!("{} not started.", are(*devices)),
        Cause::Edited => {
            "Its document was edited after the run was claimed. A run is executed as it was claimed: apply refuses the \
             edit until `run` has a new token or the edit is taken back."
                .to_string()
        }
        Cause::Planned { action, reason, devices, is_committed } => {
            planned_text(*action, reason, *devices, *is_committed)
        }
        Cause::After(before) => after_text(before),
        Cause::Refused(refused) => {
            let help = refused.help.as_ref().map_or(String::new(), |help| format!("\nhelp: {help}"));
            sanitize(&format!("Apply refuses it ({}): {}{help}", refused.code, refused.detail)).into_owned()
        }
        Cause::OthersRefused { errors } => format!(
            "Apply refuses the plan as a whole: it has {} elsewhere, which `fleetform plan` shows.",
            counted(*errors, "error")
        ),
        Cause::Failures { by_reason: failures } => failures_text(failures),
        Cause::Late { total, answers } => late_text(*total, answers),
    }
}

fn failures_text(failures: &[(Reason, u64)]) -> String {
    let excused = failures.iter().filter(|(reason, _)| !reason.counts_for_threshold());
    let excused = match excused.map(|(_, devices)| *devices).sum() {
        0 => String::new(),
        devices => format!(" {}.", not_counted(devices)),
    };
    format!("Failures by reason: {}.{excused}", by_reason(failures))
}

/// Returns what there is to say about failed devices that do not count for a threshold.
fn not_counted(devices: u64) -> String {
    let are = if devices == 1 { "is" } else { "are" };
    format!(
        "{} {are} deleted or of unknown outcome, which does not count for a threshold",
        counted(devices, "failed device")
    )
}

fn crossed_text(crossed: &Crossed) -> String {
    let Crossed { threshold, total, allowed, batch, failures, after, pending, pending_waiting, excused } = crossed;
    let scope = batch.map_or(String::new(), |batch| format!(" of batch {}", number(u64::from(batch))));
    let mut text = format!(
        "Threshold {} per {}: at most {} of the {}{scope} may fail. Failure {} crossed it:\n",
        threshold.failures,
        per(threshold.per),
        number(*allowed),
        counted(*total, "device"),
        number(allowed + 1)
    );
    let mut table = TextTable::new(&["FAILED", "DEVICE_ID", "REASON", "CODE", "BATCH", "FINISHED", ""])
        .naming(&["DEVICE_ID"])
        .sparing(&["BATCH", "CODE", "FINISHED"]);
    let mut expected = 1;
    for failure in failures {
        if failure.count > expected {
            let gap = format!("… {} more", number(failure.count - expected));
            table.push(vec![String::new(), gap]);
        }
        expected = failure.count + 1;
        let note = if failure.count == allowed + 1 { "<- crossed" } else { "" };
        let mut cells = vec![number(failure.count)];
        cells.extend(cells_of(&failure.row));
        cells.push(note.to_string());
        table.push(cells);
    }
    text.push_str(&indented(&table));
    if *excused > 0 {
        text.push_str(&format!("{}.\n", not_counted(*excused)));
    }
    let sample = after.sample.len() as u64;
    match (after.completed, after.failed) {
        (Some(0), 0) => text.push_str("Nothing was in flight.\n"),
        (completed, failed) => {
            let completed = match completed {
                Some(completed) => format!("{} completed", number(completed)),
                None => "the results do not say how many completed".to_string(),
            };
            text.push_str(&format!("What was in flight ended after it: {completed}, {} failed.\n", number(failed)));
        }
    }
    if sample > 0 {
        let mut table = TextTable::new(&["STATUS", "DEVICE_ID", "REASON", "CODE", "BATCH", "FINISHED"])
            .naming(&["DEVICE_ID"])
            .sparing(&["BATCH", "CODE", "FINISHED"]);
        for row in &after.sample {
            let mut cells = vec![row.status.as_str().to_string()];
            cells.extend(cells_of(row));
            table.push(cells);
        }
        let more = (after.completed.unwrap_or(0) + after.failed).saturating_sub(sample);
        if more > 0 {
            table.push(vec![String::new(), format!("… {} more", number(more))]);
        }
        text.push_str(&indented(&table));
    }
    if *pending > 0 {
        let waited = match pending_waiting {
            0 => String::new(),
            1 => "; 1 of them was waiting to come online or to acknowledge".to_string(),
            many => format!("; {} of them were waiting to come online or to acknowledge", number(*many)),
        };
        let verb = if *pending == 1 { "stays" } else { "stay" };
        text.push_str(&format!("{} {verb} pending{waited}.", counted(*pending, "device")));
    }
    text
}

fn cells_of(row: &Row) -> Vec<String> {
    vec![
        row.device_id.clone(),
        row.reason.as_str().to_string(),
        row.code.map_or(String::new(), |code| code.to_string()),
        row.batch.to_string(),
        instant_or_dash(row.finished_at),
    ]
}

fn indented(table: &TextTable) -> String {
    table.render_behind(4).lines().map(|line| format!("  {line}\n")).collect()
}

fn per(scope: ThresholdScope) -> &'static str {
    match scope {
        ThresholdScope::Job => "job",
        ThresholdScope::Batch => "batch",
    }
}

fn stopped_text(by: StopCause, progress: &RunProgress, status: Option<RunStatus>) -> String {
    let RunProgress { total, done, in_flight, waiting, queued } = progress;
    let is_stopped = status == Some(RunStatus::Stopped);
    let cause = match (by, is_stopped) {
        (StopCause::Suspended, true) => "It is stopped: its document says `suspend: true`.",
        (StopCause::Suspended, false) => "Its document says `suspend: true`: the next apply stops it.",
        (StopCause::Undeclared, true) => "It is stopped: nothing declares it any more.",
        (StopCause::Undeclared, false) => "Nothing declares it any more: the next apply stops it.",
        (StopCause::Continued, _) => "It was stopped and is declared to go on: the next apply continues it.",
    };
    format!(
        "{cause} {} of {} done, {} in flight, {} waiting, {} not started.",
        number(*done),
        counted(*total, "device"),
        number(*in_flight),
        number(*waiting),
        number(*queued)
    )
}

fn waiting_text(waiting: &Waiting) -> String {
    let Waiting { waits, devices, sample, until } = waiting;
    let one = *devices == 1;
    let what = match (waits, one) {
        (Waits::ToAnswer, true) => "is in flight: it was sent to and has not answered",
        (Waits::ToAnswer, false) => "are in flight: they were sent to and have not answered",
        (Waits::ToConnect, true) => "waits to come online",
        (Waits::ToConnect, false) => "wait to come online",
        (Waits::ToAcknowledge, true) => "was written and has not acknowledged",
        (Waits::ToAcknowledge, false) => "were written and have not acknowledged",
    };
    let until = until.map_or(String::new(), |until| format!(", until {} (expiresAfter)", instant(until)));
    let more = devices.saturating_sub(sample.len() as u64);
    let more = if more > 0 { format!(", … {} more", number(more)) } else { String::new() };
    format!("{} {what}{until}: {}{more}.", counted(*devices, "device"), sanitize_line(&sample.join(", ")))
}

fn planned_text(action: ActionKind, reason: &str, devices: Option<u64>, is_committed: bool) -> String {
    let reason = sanitize_line(reason);
    let on = devices.map_or(String::new(), |devices| format!(" on {}", counted(devices, "device")));
    let next = match action {
        ActionKind::Run => format!("The next apply runs it{on} ({reason})."),
        ActionKind::Continue => format!("The next apply goes on with it: {reason}."),
        ActionKind::Stop => format!("The next apply stops it: {reason}."),
        ActionKind::Close => format!("The next apply closes it: {reason}."),
        ActionKind::Hold => format!("It is held: {reason}."),
        ActionKind::Done | ActionKind::Gone | ActionKind::Import | ActionKind::Schedule => {
            format!("There is nothing to do: {reason}.")
        }
    };
    if is_committed { next } else { format!("{next}\nIts document is not committed; apply executes what is.") }
}

fn after_text(before: &Predecessor) -> String {
    let Predecessor { job, run, status, counts } = before;
    let (Some(run), Some(status)) = (run, status) else {
        let state = if run.is_none() { "is not declared" } else { "has not been claimed" };
        return format!("It comes after job {job}, which {state}.");
    };
    let counts = counts.map_or(String::new(), |counts| {
        let Counts { total, completed, failed, unchanged: _ } = counts;
        let pending = counts.pending();
        format!(
            ": {} completed, {} failed, {} pending of {}",
            number(completed),
            number(failed),
            number(pending),
            counted(total, "device")
        )
    });
    format!("It comes after job {job} run {run}, which is {}{counts}.", status.as_str())
}

fn late_text(total: u64, answers: &[(String, LateAnswer)]) -> String {
    let mut text = format!(
        "{} came after the outcome of the device, which stays{}\n",
        counted(total, "answer"),
        if answers.is_empty() { "." } else { ":" }
    );
    if answers.is_empty() {
        return text;
    }
    let mut table = TextTable::new(&["DEVICE_ID", "CODE", "CAME", "MESSAGE"]).cutting(&["MESSAGE"]).sparing(&["CAME"]);
    for (device_id, answer) in answers {
        table.push(vec![
            device_id.clone(),
            answer.code.to_string(),
            instant_or_dash(Some(answer.at)),
            answer.message.clone(),
        ]);
    }
    let more = total.saturating_sub(answers.len() as u64);
    if more > 0 {
        table.push(vec![format!("… {} more", number(more))]);
    }
    text.push_str(&indented(&table));
    text
}

/// Returns a phrase as a sentence.
fn sentence(phrase: &str) -> String {
    let mut letters = phrase.chars();
    let first = letters.next().map_or(String::new(), |first| first.to_uppercase().to_string());
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}

fn are(devices: u64) -> String {
    format!("{} {}", counted(devices, "device"), if devices == 1 { "is" } else { "are" })
}

fn counts_json(counts: &Counts) -> Value {
    json!({
        "total": counts.total,
        "completed": counts.completed,
        "failed": counts.failed,
        "pending": counts.pending(),
        "unchanged": counts.unchanged,
    })
}

fn cause_json(cause: &Cause) -> Value {
    match cause {
        Cause::Crossed(crossed) => crossed_json(crossed),
        Cause::Recorded { reason } => json!({"cause": "recorded", "reason": reason}),
        Cause::Completed { counts } => with_cause("completed", counts_json(counts)),
        Cause::JournalLost { total, unknown } => json!({"cause": "journal-lost", "total": total, "unknown": unknown}),
        Cause::Stopped { by, progress } => {
            let RunProgress { total, done, in_flight, waiting, queued } = progress;
            let by = match by {
                StopCause::Suspended => "suspend",
                StopCause::Undeclared => "undeclared",
                StopCause::Continued => "continue",
            };
            json!({"cause": "stopped", "by": by, "total": total, "done": done, "in_flight": in_flight,
                "waiting": waiting,
                   "queued": queued})
        }
        Cause::Slot { running, limit } => json!({"cause": "slot", "running": running, "limit": limit}),
        Cause::SameDevices { job, run } => {
            json!({"cause": "same-devices", "job": job.as_str(), "run": run.as_str()})
        }
        Cause::OpenBatch { batch, batches, counts } => {
            let mut object = with_cause("open-batch", counts_json(counts));
            object["batch"] = json!(batch);
            object["batches"] = json!(batches);
            object
        }
        Cause::Waiting(Waiting { waits, devices, sample, until }) => {
            let word = match waits {
                Waits::ToAnswer => "in-flight",
                Waits::ToConnect => "offline",
                Waits::ToAcknowledge => "unacknowledged",
            };
            let until = until.map(|until| until.to_string());
            json!({"cause": word, "devices": devices, "sample": sample, "until": until})
        }
        Cause::Queued { devices } => json!({"cause": "queued", "devices": devices}),
        Cause::Edited => json!({"cause": "edited"}),
        Cause::Planned { action, reason, devices, is_committed } => json!({
            "cause": "planned", "action": action.word(), "reason": reason, "devices": devices,
            "committed": is_committed,
        }),
        Cause::After(Predecessor { job, run, status, counts }) => json!({
            "cause": "after",
            "job": job.as_str(),
            "run": run.as_ref().map(|run| run.as_str()),
            "status": status.map(RunStatus::as_str),
            "counts": counts.as_ref().map(counts_json),
        }),
        Cause::Refused(refused) => {
            json!({"cause": "refused", "code": refused.code, "detail": refused.detail, "help": refused.help})
        }
        Cause::OthersRefused { errors } => json!({"cause": "others-refused", "errors": errors}),
        Cause::Failures { by_reason } => {
            let reasons = by_reason.iter().map(|(reason, devices)| (reason.as_str().to_string(), json!(devices)));
            json!({"cause": "failures", "by_reason": Value::Object(reasons.collect())})
        }
        Cause::Late { total, answers } => {
            let answer = |(device_id, answer): &(String, LateAnswer)| {
                json!({
                    "device_id": device_id, "code": answer.code, "message": answer.message, "at": answer.at.to_string(),
                })
            };
            json!({"cause": "late", "total": total, "answers": answers.iter().map(answer).collect::<Vec<_>>()})
        }
    }
}

fn with_cause(word: &str, mut object: Value) -> Value {
    object["cause"] = json!(word);
    object
}

fn crossed_json(crossed: &Crossed) -> Value {
    let Crossed { threshold, total, allowed, batch, failures, after, pending, pending_waiting, excused } = crossed;
    let failures = failures.iter().map(|failure| {
        let mut row = row_json(&failure.row);
        row["count"] = json!(failure.count);
        row["crossed"] = json!(failure.count == allowed + 1);
        row
    });
    json!({
        "cause": "threshold-crossed",
        "threshold": {"failures": threshold.failures.to_string(), "per": per(threshold.per)},
        "batch": batch,
        "total": total,
        "allowed": allowed,
        "failures": failures.collect::<Vec<_>>(),
        "after": {
            "completed": after.completed,
            "failed": after.failed,
            "sample": after.sample.iter().map(row_json).collect::<Vec<_>>(),
        },
        "pending": pending,
        "pending_waiting": pending_waiting,
        "not_counted": excused,
    })
}
