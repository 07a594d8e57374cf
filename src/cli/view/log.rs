//! What the daemon says, as lines of its log.

use jiff::Timestamp;

use crate::cli::output::Painter;
use crate::diag::Severity;
use crate::execute::Progress;
use crate::ops::apply::watch::Note;
use crate::ops::{Findings, OpsError};

use super::progress::event_line;

/// Logs a note.
pub fn log(note: &Note<'_>) {
    match note {
        Note::Started { fleet_branch } => tracing::info!(branch = fleet_branch, "following"),
        Note::NoEvents { error } => {
            tracing::warn!(error = %error, "the system does not tell of new commits; looking at each interval instead");
        }
        Note::Fetched { error: None, is_news: true, .. } => tracing::info!("the remote can be reached again"),
        Note::Fetched { error: None, .. } => tracing::debug!("fetched"),
        Note::Fetched { error: Some(error), is_news, next_at, .. } => {
            let help = error.help();
            if *is_news {
                tracing::warn!(%error, help, %next_at, "the remote cannot be fetched");
            } else {
                tracing::debug!(%error, help, %next_at, "the remote cannot be fetched");
            }
        }
        Note::Progress(progress) => log_progress(progress),
        Note::TakenUp { commit, held, findings, .. } => {
            tracing::info!(commit, held = held.count(), "reconciled");
            log_findings(findings);
            for (address, hold) in held.rows() {
                let place = hold.place.as_ref().map(|place| format!("{}:{}", place.path, place.line));
                tracing::warn!(document = address, code = hold.code, place, why = hold.why, "held");
            }
        }
        Note::Looked(look) => tracing::trace!(commit = look.commit, reconciled = look.is_reconciled, "looked"),
        Note::Trouble { error, is_news, retry_at, .. } => log_trouble(error, *is_news, *retry_at),
        Note::Missed { job, run, reason } => tracing::warn!(job, run, "{reason}"),
        Note::Recovered => tracing::info!("what was in the way is gone"),
    }
}

fn log_trouble(error: &OpsError, is_news: bool, retry_at: Timestamp) {
    // What is not tried again before something changes has no such time.
    let retry_at = (retry_at < Timestamp::MAX).then(|| retry_at.strftime("%FT%TZ").to_string());
    match error {
        error if !is_news => tracing::debug!(retry_at, "{error}"),
        OpsError::Invalid(findings) => {
            tracing::error!(retry_at, "the newest commit cannot be used; what was declared before goes on");
            log_findings(findings);
        }
        OpsError::Held { what, help } => tracing::warn!(help, retry_at, "{what}"),
        error => tracing::error!(help = error.help(), retry_at, "{error}"),
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
            Severity::Error => tracing::error!(code, place, help, "{}", diagnostic.detail),
            Severity::Warning => tracing::warn!(code, place, help, "{}", diagnostic.detail),
        }
    }
}

fn log_progress(progress: &Progress) {
    let Some(line) = event_line(progress, Painter { is_on: false }) else { return };
    match progress {
        Progress::RunFinished { record } if record.status.has_ended_badly() => {
            tracing::warn!(job = %record.job, run = %record.run, "{line}");
        }
        Progress::RunFinished { record } | Progress::RunPaused { record, .. } => {
            tracing::info!(job = %record.job, run = %record.run, "{line}");
        }
        _ => tracing::info!("{line}"),
    }
}
