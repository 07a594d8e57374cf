//! The lines of a script's transcript, which are the same on every machine and every day.

use std::collections::BTreeMap;

use super::World;
use super::ledger::{Branch, Key};
use crate::execute::Progress;
use crate::model::outcome::{Outcome, Reason};
use crate::ops::OpsError;
use crate::registry::{PendingRows, ResultRow};

/// Returns the line of a plan's change.
pub(super) fn change_line(
    symbol: char,
    word: &str,
    (subject, run): (String, Option<String>),
    devices: Option<u64>,
    reason: &str,
) -> String {
    let run = run.map_or_else(String::new, |run| format!(" run {run}"));
    let devices = devices.map_or_else(String::new, |count| format!(", {count} devices"));
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("{symbol} {word} {subject}{run}{devices}{}", plain(&reason))
}

/// Returns the line of a progress event; `None` for events that are too frequent.
pub(super) fn progress_line(progress: &Progress) -> Option<String> {
    Some(match progress {
        Progress::BranchRepublished { runs, .. } => format!("the results branch is published again, {runs} runs"),
        Progress::RegistryPutBack { runs } => format!("the registry was put back, with {} open runs", runs.len()),
        Progress::RenewsByCommits { branch, .. } => format!("renewals are commits: {branch} is refused"),
        Progress::LinkAway { reason } => format!("the link is away: {reason}"),
        Progress::LinkBack => "the link is back".to_string(),
        Progress::ImportFinished { import, report } => {
            let (new, updated) = (report.imported, report.updated);
            format!("import {import}: {new} new, {updated} updated, {} unchanged", report.unchanged)
        }
        Progress::RunClaimed { job, run, total } => format!("{job} run {run}: claimed for {total} devices"),
        Progress::RunStarted { job, run, counts, .. } => {
            format!("{job} run {run}: goes with {} of {} pending", counts.pending(), counts.total)
        }
        Progress::StopSeen { job, run, .. } => format!("{job} run {run}: is to stop"),
        Progress::Advanced { .. } => return None,
        Progress::BatchFinished { job, run, batch, batches, counts } => {
            let (completed, failed) = (counts.completed, counts.failed);
            format!("{job} run {run}: batch {batch} of {batches}, {completed} completed, {failed} failed")
        }
        Progress::RunFinished { record } => {
            let (job, run, counts) = (&record.job, &record.run, record.counts);
            let counts = [counts.completed, counts.failed, counts.pending()];
            format!("{job} run {run}: {}", status(record.status.as_str(), record.reason.as_deref(), counts))
        }
        Progress::RunPaused { record, .. } => {
            let (job, run, counts) = (&record.job, &record.run, record.counts);
            let counts = [counts.completed, counts.failed, counts.pending()];
            format!("{job} run {run}: left, {}", status(record.status.as_str(), record.reason.as_deref(), counts))
        }
    })
}

fn status(status: &str, reason: Option<&str>, [completed, failed, pending]: [u64; 3]) -> String {
    let reason = reason.map_or_else(String::new, |reason| format!(" ({})", plain(reason)));
    format!("{status}{reason}, {completed} completed, {failed} failed, {pending} pending")
}

/// Returns the lines that say why a command was refused.
pub(super) fn problem_lines(error: &OpsError, world: &World) -> Vec<String> {
    let folder = world.environment().folder;
    let here = |text: &str| {
        let canonical = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        let text =
            text.replace(&*canonical.to_string_lossy(), "<fleet>").replace(&*folder.to_string_lossy(), "<fleet>");
        plain(&text)
    };
    match error {
        OpsError::Invalid(findings) => {
            let found = findings.diagnostics.sorted().into_iter();
            found.map(|found| format!("refused: {} {}", found.code.0, here(&found.detail))).collect()
        }
        other => vec![format!("refused: {}", here(&other.to_string()))],
    }
}

/// Returns a text with every git id and digest replaced by the same word.
fn plain(text: &str) -> String {
    let is_id = |word: &str| matches!(word.len(), 40 | 64) && word.chars().all(|c| c.is_ascii_hexdigit());
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let plain = words.map(|word| {
        let bare = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_id(bare) { format!("<id>{}", &word[bare.len()..]) } else { word.to_string() }
    });
    plain.collect()
}

/// Returns the status of a run and its devices, with devices of the same outcome in one line.
///
/// # Errors
/// There is no such run, or something cannot be read.
pub(super) fn run_lines(world: &World, job: &str, run: Option<&str>) -> Result<Vec<String>, String> {
    let branch = Branch::read(world)?;
    let registry = world.registry().map_err(|error| error.to_string())?;
    let open = registry.journal().unclosed().map_err(|error| error.to_string())?;
    let is_meant = |name: &str, token: &str| name == job && run.is_none_or(|run| run == token);
    if let Some(open) = open.iter().rev().find(|open| is_meant(open.job.as_str(), open.run.as_str())) {
        let ids = registry.journal().targets(open.run_id).map_err(|error| error.to_string())?;
        let mut groups = Groups::default();
        let mut visit = |row: ResultRow| {
            let Outcome { reason, code, attempts, .. } = row.outcome;
            groups.add(row.device_id, reason, code, attempts);
        };
        let pending = PendingRows::of(open.status);
        let read = registry.journal().each_result(open.run_id, &ids, 0..open.total, pending, &mut visit);
        read.map_err(|error| error.to_string())?;
        let told = if open.is_claimed { "open" } else { "open, its claim not confirmed" };
        let title = format!("{job} run {}: {told}, {}", open.run, open.status.as_str());
        return Ok(groups.lines(title));
    }
    let newest = |key: &&Key| key.1.parse::<u64>().unwrap_or_default();
    let key = branch.runs.keys().filter(|key| is_meant(&key.0, &key.1)).max_by_key(newest);
    let Some((key, published)) = key.and_then(|key| branch.runs.get_key_value(key)) else {
        return Err(format!("job `{job}` has no run on the results branch or in the journal"));
    };
    let counts = [published.count("completed"), published.count("failed"), published.count("pending")];
    let reason = published.record["reason"].as_str();
    let mut groups = Groups::default();
    for row in &published.rows {
        groups.add(row.device_id.clone(), row.reason, row.code, row.attempts);
    }
    Ok(groups.lines(format!("{job} run {}: {}", key.1, status(published.status(), reason, counts))))
}

/// Devices by outcome.
#[derive(Default)]
struct Groups {
    groups: BTreeMap<(Reason, Option<u16>, u32), Vec<String>>,
}

impl Groups {
    fn add(&mut self, device_id: String, reason: Reason, code: Option<u16>, attempts: u32) {
        self.groups.entry((reason, code, attempts)).or_default().push(device_id);
    }

    fn lines(self, title: String) -> Vec<String> {
        let groups = self.groups.into_iter().map(|((reason, code, attempts), devices)| {
            let code = code.map_or_else(String::new, |code| format!(" {code}"));
            let attempts = if attempts > 1 { format!(", {attempts} attempts") } else { String::new() };
            format!("{} {}{code}{attempts}: {}", reason.status().as_str(), reason.as_str(), devices.join(", "))
        });
        std::iter::once(title).chain(groups).collect()
    }
}
