//! The notes of the daemon as lines of its log.
//!
//! Each line belongs to one of four targets, whose names are for `--log-filter` and stay the same when code moves.

use jiff::Timestamp;

use crate::cli::output::Painter;
use crate::diag::Severity;
use crate::execute::Progress;
use crate::ledger::{ImportReport, RunRecord};
use crate::model::outcome::Counts;
use crate::ops::watch::Note;
use crate::ops::{Findings, OpsError};

use super::job::paused_line;
use super::progress::event_line;

/// What the daemon follows, takes up, holds and cannot do.
pub const WATCH: &str = "fleetform::watch";
/// Imports and runs: with `job` and `run`, or `import`, and counts.
pub const RUN: &str = "fleetform::run";
/// The remote: fetches, and results that cannot be pushed.
pub const REMOTE: &str = "fleetform::remote";
/// The pages, the webhooks and the service manager.
pub const LISTEN: &str = crate::listen::LOG_TARGET;

/// Logs a note.
pub fn log(note: &Note<'_>) {
    match note {
        Note::Started { fleet_branch } => tracing::info!(target: WATCH, branch = fleet_branch, "following"),
        Note::NoEvents { error } => {
            tracing::warn!(target: WATCH, error = %error, "the system does not tell of new commits; looking at each \
                interval instead");
        }
        Note::Fetched { error: None, is_news: true, .. } => {
            tracing::info!(target: REMOTE, "the remote can be reached again");
        }
        Note::Fetched { error: None, .. } => tracing::debug!(target: REMOTE, "fetched"),
        Note::Fetched { error: Some(error), is_news, next_at, .. } => {
            let (help, next_at) = (error.help(), next_at.strftime("%FT%TZ"));
            if *is_news {
                tracing::warn!(target: REMOTE, %error, help, %next_at, "the remote cannot be fetched");
            } else {
                tracing::debug!(target: REMOTE, %error, help, %next_at, "the remote cannot be fetched");
            }
        }
        Note::Progress(progress) => log_progress(progress),
        Note::TakenUp { commit, held, findings, .. } => {
            tracing::info!(target: WATCH, commit, held = held.count(), "reconciled");
            log_findings(findings);
            for (document, hold) in held.rows() {
                let place = hold.place.as_ref().map(|place| format!("{}:{}", place.path, place.line));
                tracing::warn!(target: WATCH, document, code = hold.code, place, why = hold.why, "held");
            }
        }
        Note::Looked(look) => {
            tracing::trace!(target: WATCH, commit = look.commit, reconciled = look.is_reconciled, "looked");
        }
        Note::Trouble { error, is_news, retry_at, .. } => log_trouble(error, *is_news, *retry_at),
        Note::Missed { job, run, reason } => {
            tracing::warn!(target: RUN, event = "occurrence_missed", job, run, "{reason}");
        }
        Note::Reconciling => tracing::trace!(target: WATCH, "reconciling"),
        // The link logs for itself.
        Note::Link { .. } => {}
        Note::Recovered => tracing::info!(target: WATCH, "what was in the way is gone"),
    }
}

fn log_trouble(error: &OpsError, is_news: bool, retry_at: Timestamp) {
    // There is no such time when the daemon tries again only after a change.
    let retry_at = (retry_at < Timestamp::MAX).then(|| retry_at.strftime("%FT%TZ").to_string());
    match error {
        error if !is_news => tracing::debug!(target: WATCH, retry_at, "{error}"),
        OpsError::Invalid(findings) => {
            tracing::error!(target: WATCH, retry_at, "the newest commit cannot be used; what was declared before goes \
                on");
            log_findings(findings);
        }
        OpsError::AtWork { what, .. } => tracing::info!(target: WATCH, retry_at, "standing by: {what}"),
        OpsError::Held { what, help } => tracing::warn!(target: WATCH, help, retry_at, "{what}"),
        OpsError::Upstream(error) => tracing::error!(target: REMOTE, help = error.help(), retry_at, "{error}"),
        error => tracing::error!(target: WATCH, help = error.help(), retry_at, "{error}"),
    }
}

fn log_findings(findings: &Findings) {
    for diagnostic in findings.diagnostics.sorted() {
        let place = diagnostic.span.map(|span| {
            let at = findings.sources.position(span);
            format!("{}:{}:{}", findings.sources.path(span.file), at.line, at.column)
        });
        let code = diagnostic.code.0;
        let help = diagnostic.help.as_deref();
        match diagnostic.severity {
            Severity::Error => tracing::error!(target: WATCH, code, place, help, "{}", diagnostic.detail),
            Severity::Warning => tracing::warn!(target: WATCH, code, place, help, "{}", diagnostic.detail),
        }
    }
}

fn log_progress(progress: &Progress) {
    let Some(line) = event_line(progress, Painter { is_on: false }) else { return };
    match progress {
        // They have no line.
        Progress::Advanced { .. } | Progress::RunClaimed { .. } => {}
        Progress::BranchRepublished { branch, runs } => {
            tracing::warn!(target: RUN, event = "branch_republished", branch, runs, "{line}");
        }
        Progress::RegistryPutBack { runs } => {
            tracing::warn!(target: RUN, event = "registry_put_back", runs = runs.len(), "{line}");
        }
        Progress::RenewsByCommits { branch, reason } => {
            tracing::warn!(target: RUN, event = "renews_by_commits", branch, reason, "{line}");
        }
        Progress::LinkAway { reason } => tracing::warn!(target: RUN, event = "link_away", reason, "{line}"),
        Progress::LinkBack => tracing::info!(target: RUN, event = "link_back", "{line}"),
        Progress::ImportFinished { import, report } => {
            let ImportReport { imported, updated, unchanged, removed, rejected, rows, .. } = *report;
            let import = import.as_str();
            let event = "import_finished";
            tracing::info!(target: RUN, event, import, imported, updated, unchanged, removed, rejected, rows, "{line}");
        }
        Progress::RunStarted { job, run, batches, counts } => {
            let (job, run, total) = (job.as_str(), run.as_str(), counts.total);
            tracing::info!(target: RUN, event = "run_started", job, run, total, batches, "{line}");
        }
        Progress::StopSeen { job, run, commit } => {
            tracing::info!(target: RUN, event = "stop_seen", job = job.as_str(), run = run.as_str(), commit, "{line}");
        }
        Progress::BatchFinished { job, run, batch, batches, counts } => {
            let (job, run) = (job.as_str(), run.as_str());
            let Counts { total, completed, failed, unchanged } = *counts;
            let event = "batch_finished";
            tracing::info!(target: RUN, event, job, run, batch, batches, total, completed, failed, unchanged, "{line}");
        }
        Progress::RunFinished { record } => log_run("run_finished", record, &line),
        // The line of `event_line` is about a command that waits.
        Progress::RunPaused { record, .. } => {
            log_run("run_paused", record, &paused_line(record, Painter { is_on: false }));
        }
    }
}

fn log_run(event: &str, record: &RunRecord, line: &str) {
    let (job, run, status, reason) =
        (record.job.as_str(), record.run.as_str(), record.status.as_str(), record.reason.as_deref());
    let Counts { total, completed, failed, unchanged } = record.counts;
    let pending = record.counts.pending();
    if record.status.has_ended_badly() {
        tracing::warn!(
            target: RUN, event, job, run, status, reason, total, completed, failed, unchanged, pending, "{line}"
        );
    } else {
        tracing::info!(
            target: RUN, event, job, run, status, reason, total, completed, failed, unchanged, pending, "{line}"
        );
    }
}
