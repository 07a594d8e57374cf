//! The messages of results commits: one line for people, trailers for machines.

use crate::ledger::{Claim, ImportReport, RunKey, RunRecord};
use crate::model::id::Name;

/// The trailers of a results commit; empty ones and `None` are left out.
#[derive(Debug, Clone, Default)]
pub struct Trailers<'a> {
    /// One trailer each.
    pub run: &'a [RunKey],
    pub source: Option<&'a str>,
    pub plan: Option<&'a str>,
    pub writer: &'a str,
}

/// Returns the subject of a claim.
pub fn claim_subject(claim: &Claim) -> String {
    let noun = if claim.total == 1 { "device" } else { "devices" };
    format!("claim job {} run {}: {} {noun}", claim.job, claim.run, claim.total)
}

/// Returns the subject of results: `job dim-line-3 run 1: completed, 1231 completed, 9 failed`.
pub fn run_subject(record: &RunRecord) -> String {
    let counts = &record.counts;
    let mut subject = format!("job {} run {}: {}", record.job, record.run, record.status.as_str());
    subject.push_str(&format!(", {} completed, {} failed", counts.completed, counts.failed));
    if counts.pending() > 0 {
        subject.push_str(&format!(", {} pending", counts.pending()));
    }
    subject
}

/// Returns the subject of an import's report.
pub fn import_subject(import: &Name, report: &ImportReport) -> String {
    let mut subject = format!("import {import}: {} imported, {} updated", report.imported, report.updated);
    if report.removed > 0 {
        subject.push_str(&format!(", {} removed", report.removed));
    }
    if report.rejected > 0 {
        subject.push_str(&format!(", {} rejected", report.rejected));
    }
    subject
}

/// Returns a message with its trailers (git's interpret-trailers format).
pub fn with_trailers(subject: &str, trailers: &Trailers<'_>) -> String {
    let mut message = format!("{subject}\n\n");
    for key in trailers.run {
        message.push_str(&format!("Fleetform-Run: {}/job/{}/{}\n", key.fleet, key.job, key.run));
    }
    if let Some(source) = trailers.source {
        message.push_str(&format!("Fleetform-Source: {source}\n"));
    }
    if let Some(plan) = trailers.plan {
        message.push_str(&format!("Fleetform-Plan: {plan}\n"));
    }
    message.push_str(&format!("Fleetform-Writer: {}\n", trailers.writer));
    message
}
