//! `status`

use serde_json::{Value, json};

use super::{CommandResult, Output};
use crate::cli::error::sentence;
use crate::cli::exit;
use crate::cli::output::{Tone, stdout_width};
use crate::cli::view::{counted, held, instant, wrapped};
use crate::diag::Severity;
use crate::model::status::Snapshot;
use crate::model::text::{devices_of, sanitize_line};
use crate::ops::status::{FleetStatus, Status, status};
use crate::ops::{Environment, OpsError};
use crate::repo::Behind;

/// `status`
pub fn run(environment: &Environment, output: &Output) -> CommandResult {
    let status = status(environment)?;
    if output.is_json {
        output.json_line(&to_json(&status)?)?;
    } else {
        output.result(&text(&status, output))?;
    }
    Ok(exit::OK)
}

/// One object: `alive`, `daemon` (its last status, or null), `fleet` (from the branch and the registry, or null) and
/// `fleet_error` (why these cannot be read, or null).
fn to_json(status: &Status) -> Result<Value, OpsError> {
    let fail = |source: serde_json::Error| OpsError::Output {
        what: "the status cannot be written".to_string(),
        source: std::io::Error::other(source),
    };
    let fleet = status.fleet.as_ref().ok().map(|fleet| {
        json!({
            "fleet": fleet.name,
            "commit": fleet.head,
            "passed_over": fleet.passed_over.as_ref().map(|newest| held::row((newest.address(), &newest.hold))),
            "applied_commit": fleet.applied,
            "open_runs": fleet.open_runs,
            "at_work": fleet.worker,
            "outbox": fleet.unpushed,
            "lacks": fleet.lacks,
            "behind": fleet.behind.as_ref().map(
                |Behind { remote, commits, own }| json!({"remote": remote, "commits": commits, "own": own})
            ),
        })
    });
    let daemon = status.daemon.as_ref().map(serde_json::to_value).transpose().map_err(fail)?;
    Ok(json!({
        "alive": status.is_alive,
        "daemon": daemon,
        "fleet": fleet,
        "fleet_error": status.fleet.as_ref().err().map(unread),
    }))
}

fn text(status: &Status, output: &Output) -> String {
    let painter = output.painter();
    let mut lines = Vec::new();
    let mut row = |name: &str, value: String| lines.push(wrapped(&format!("{name:<10} {value}"), 11, stdout_width()));
    match (&status.daemon, status.is_alive) {
        (Some(daemon), true) => {
            row("daemon", painter.paint(Tone::Good, "alive") + &format!(", since {}", instant(daemon.started_at)))
        }
        (Some(daemon), false) => {
            row(
                "daemon",
                painter.paint(Tone::Bad, "not running")
                    + &format!("; the last one started {}", instant(daemon.started_at)),
            );
        }
        (None, true) => row("daemon", "starting".to_string()),
        (None, false) => row("daemon", "none has run in this folder".to_string()),
    }
    match &status.fleet {
        Ok(fleet) => fleet_lines(fleet, &mut row),
        Err(error) => unread_lines(error, status.daemon.as_ref(), &mut row),
    }
    if let Some(daemon) = &status.daemon {
        daemon_lines(daemon, status.is_alive, &mut row);
    }
    lines.join("\n") + "\n"
}

fn fleet_lines(fleet: &FleetStatus, row: &mut dyn FnMut(&str, String)) {
    row("fleet", fleet.name.clone());
    let applied = match &fleet.applied {
        Some(applied) if *applied == fleet.head => "applied".to_string(),
        Some(applied) => format!("applied: {}", short(applied)),
        None => "nothing applied yet".to_string(),
    };
    row("commit", format!("{} ({applied})", short(&fleet.head)));
    if let Some(newest) = &fleet.passed_over {
        let text = held::line(&held::row((newest.address(), &newest.hold)));
        row("invalid", format!("{text} What was declared before goes on."));
    }
    if let Some(behind) = &fleet.behind {
        row("behind", format!("{}. {}", behind.text(&fleet.branch), behind.help(&fleet.branch)));
    }
    if let Some(lacks) = &fleet.lacks {
        row("registry", sanitize_line(lacks).into_owned());
    }
    row("runs", format!("{} open", fleet.open_runs));
    if let Some(worker) = &fleet.worker {
        row("at work", sanitize_line(worker).into_owned());
    }
    if let Some(unpushed) = fleet.unpushed {
        let text = if unpushed == 0 { "empty".to_string() } else { format!("{} to push", counted(unpushed, "commit")) };
        row("outbox", text);
    }
}

/// Adds the daemon's last status in place of the state of the branch and the registry.
fn unread_lines(error: &OpsError, daemon: Option<&Snapshot>, row: &mut dyn FnMut(&str, String)) {
    if let Some(daemon) = daemon {
        if !daemon.fleet.is_empty() {
            row("fleet", sanitize_line(&daemon.fleet).into_owned());
        }
        if let Some(commit) = &daemon.source.commit {
            row("commit", format!("{} (as the daemon had it)", sanitize_line(commit.get(..12).unwrap_or(commit))));
        }
        if daemon.outbox.waiting > 0 {
            row("outbox", format!("{} to push (as the daemon had it)", counted(daemon.outbox.waiting, "commit")));
        }
    }
    row("unread", unread(error));
}

/// Returns what cannot be read, and why, on one line.
fn unread(error: &OpsError) -> String {
    let mut text = sentence(error);
    if let OpsError::Invalid(findings) = error {
        let sorted = findings.diagnostics.sorted();
        let errors = || sorted.iter().filter(|one| one.severity == Severity::Error);
        if let Some(first) = errors().next() {
            let place = first
                .span
                .map(|span| format!("{}:{}: ", findings.sources.path(span.file), findings.sources.position(span).line));
            let detail = first.detail.lines().next().unwrap_or_default();
            text.push_str(&format!(": {}{} {detail}", place.unwrap_or_default(), first.code.0));
        }
        let more = errors().count().saturating_sub(1);
        if more > 0 {
            text.push_str(&format!(" And {more} more; `fleetform validate` shows them."));
        }
    }
    sanitize_line(&text).into_owned()
}

fn daemon_lines(daemon: &Snapshot, is_alive: bool, row: &mut dyn FnMut(&str, String)) {
    let safe = |text: &str| sanitize_line(text).into_owned();
    row("source", format!("{} {}", safe(&daemon.source.address), safe(&daemon.source.branch)));
    if let Some(at) = daemon.last_fetch_at {
        row("looked", instant(at));
    }
    if let Some(at) = daemon.last_reconcile_at {
        row("reconciled", format!("{} ({} in all)", instant(at), daemon.reconciles));
    }
    // What a daemon that has ended ran, and how its broker was, is not so any more.
    for run in daemon.running.iter().filter(|_| is_alive) {
        let done = run.completed + run.failed;
        row("running", format!("job {} run {}: {done} of {}, {} failed", run.job, run.run, run.total, run.failed));
    }
    for due in &daemon.next_due {
        row("next", format!("{} schedule/{}", instant(due.at), due.schedule));
    }
    for one in &daemon.held {
        row("held", held::line(one));
    }
    let more = daemon.held_count.saturating_sub(daemon.held.len() as u64);
    if more > 0 {
        row("held", format!("and {more} more"));
    }
    if let Some(lease) = &daemon.lease {
        row("lease", format!("{}, epoch {}, until {}", safe(&lease.owner), lease.epoch, instant(lease.until)));
    }
    if let Some(link) = daemon.link.as_ref().filter(|_| is_alive) {
        let is_up = link.connected == link.connections;
        let state = if is_up {
            "connected".to_string()
        } else {
            format!("{} of {} connected", link.connected, link.connections)
        };
        let fault = link.fault.as_deref().map(|fault| format!(": {}", safe(fault))).unwrap_or_default();
        row("broker", format!("{state}, {} online{fault}", devices_of(link.online)));
        if link.malformed + link.refused > 0 {
            row("broker", format!("{} malformed messages, {} refused", link.malformed, link.refused));
        }
    }
    if let Some(waits_for) = &daemon.waits_for {
        row(if daemon.stands_by { "stands by" } else { "waits" }, safe(waits_for));
    }
    for reason in daemon.unready() {
        row("trouble", safe(&reason.message));
    }
}

fn short(commit: &str) -> &str {
    &commit[..commit.len().min(12)]
}
