//! What is shown while jobs run: bars on a terminal, lines in a pipe, events as JSON.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::{Value, json};

use super::{counted, job, number, wrapped};
use crate::cli::output::{Output, Painter, stderr_width};
use crate::execute::Progress;
use crate::ledger::RunRecord;
use crate::model::id::{Name, RunToken};
use crate::model::outcome::Counts;

/// Returns an event of `apply --json`; `None` for one that only bars need.
pub fn event_json(progress: &Progress) -> Option<Value> {
    Some(match progress {
        Progress::Advanced { .. } => return None,
        Progress::BranchRepublished { branch, runs } => {
            json!({"event": "branch_republished", "branch": branch, "runs": runs})
        }
        Progress::RegistryPutBack { runs } => {
            let run = |(job, run): &(Name, RunToken)| json!({"job": job.as_str(), "run": run.as_str()});
            json!({"event": "registry_put_back", "runs": runs.iter().map(run).collect::<Vec<_>>()})
        }
        Progress::RenewsByCommits { branch, reason } => {
            json!({"event": "renews_by_commits", "branch": branch, "reason": reason})
        }
        Progress::LinkAway { reason } => json!({"event": "link_away", "reason": reason}),
        Progress::LinkBack => json!({"event": "link_back"}),
        Progress::ImportFinished { import, report } => {
            let mut event = report.to_json();
            if let Some(members) = event.as_object_mut() {
                members.remove("format_version");
                members.insert("event".into(), json!("import_finished"));
                members.insert("import".into(), json!(import.as_str()));
            }
            event
        }
        Progress::RunClaimed { job, run, total } => {
            json!({"event": "run_claimed", "job": job.as_str(), "run": run.as_str(), "total": total})
        }
        Progress::RunStarted { job, run, batches, counts } => json!({
            "event": "run_started",
            "job": job.as_str(),
            "run": run.as_str(),
            "total": counts.total,
            "batches": batches,
        }),
        Progress::StopSeen { job, run, commit } => {
            json!({"event": "stop_seen", "job": job.as_str(), "run": run.as_str(), "commit": commit})
        }
        Progress::BatchFinished { job, run, batch, batches, counts } => json!({
            "event": "batch_finished",
            "job": job.as_str(),
            "run": run.as_str(),
            "batch": batch,
            "batches": batches,
            "total": counts.total,
            "completed": counts.completed,
            "failed": counts.failed,
            "unchanged": counts.unchanged,
        }),
        Progress::RunFinished { record } => with_event("run_finished", record.to_summary_json()),
        Progress::RunPaused { record, waiting } => {
            let mut event = with_event("run_paused", record.to_summary_json());
            if let Some(members) = event.as_object_mut() {
                members.insert("waiting".into(), json!(waiting));
            }
            event
        }
    })
}

fn with_event(name: &str, mut summary: Value) -> Value {
    if let Some(members) = summary.as_object_mut() {
        members.insert("event".into(), json!(name));
    }
    summary
}

/// Returns a line for a pipe; `None` for an event without one.
pub fn event_line(progress: &Progress, painter: Painter) -> Option<String> {
    Some(match progress {
        Progress::Advanced { .. } | Progress::RunClaimed { .. } => return None,
        Progress::BranchRepublished { branch, runs } => {
            format!("the branch {branch} was gone: published again from the registry, {}", counted(*runs, "run"))
        }
        Progress::RegistryPutBack { runs } => format!(
            "the registry is a copy that was put back: devices of {} may have been sent to since, and are not sent to \
             again; what jobs wrote since is not in it",
            counted(runs.len() as u64, "open run")
        ),
        Progress::RenewsByCommits { branch, reason } => format!(
            "the remote does not take the branch {branch}, so each renewal of the lease is a commit of the results: \
             {reason}"
        ),
        Progress::LinkAway { reason } => format!("waiting for the broker: {reason}"),
        Progress::LinkBack => "the broker is there again".to_string(),
        Progress::ImportFinished { import, report } => {
            let mut line = format!("import {import}: {} imported", number(report.imported));
            for (count, what) in [
                (report.updated, "updated"),
                (report.unchanged, "unchanged"),
                (report.removed, "removed"),
                (report.rejected, "rejected"),
            ] {
                if count > 0 {
                    line.push_str(&format!(", {} {what}", number(count)));
                }
            }
            line
        }
        Progress::RunStarted { job, run, batches, counts } => {
            let devices = counted(counts.total, "device");
            format!("job {job} run {run}: running, {devices} in {}", counted(u64::from(*batches), "batch"))
        }
        Progress::StopSeen { job, run, commit } => {
            let commit: String = commit.chars().take(12).collect();
            format!("job {job} run {run}: stopping, as commit {commit} says; what is in flight finishes")
        }
        Progress::BatchFinished { batches: 1, .. } => return None,
        Progress::BatchFinished { job, run, batch, batches, counts } => {
            format!("job {job} run {run}: batch {batch} of {batches} done, {}", done(counts))
        }
        Progress::RunFinished { record } => job::outcome_line(record, painter),
        Progress::RunPaused { record, waiting } if *waiting > 0 => {
            let RunRecord { job, run, reason, counts, .. } = record;
            let reason = reason.as_deref().unwrap_or_default();
            let queued = match counts.pending().saturating_sub(*waiting) {
                0 => String::new(),
                queued => format!(", {} behind", number(queued)),
            };
            format!("job {job} run {run}: {}; {reason}{queued}; apply --wait stays until the end", done(counts))
        }
        Progress::RunPaused { record, .. } => job::paused_line(record, painter),
    })
}

fn done(counts: &Counts) -> String {
    format!("{} completed, {} failed", number(counts.completed), number(counts.failed))
}

/// The columns that a line is continued at.
const INDENT: usize = 2;
/// The columns of a terminal from which on bars are wide.
const WIDE_MIN: usize = 100;
/// The columns of a terminal from which on bars are half as wide.
const MIDDLE_MIN: usize = 80;
/// How often bars are drawn when nothing happens: what was counted last is not left undrawn while devices are awaited.
const DRAWN_EVERY: Duration = Duration::from_millis(200);

/// The bars of one apply: one a job, and under it one for its open batch when it has several.
pub struct Bars {
    group: MultiProgress,
    by_job: BTreeMap<String, JobBars>,
    painter: Painter,
    /// Events also get a line, which stays when the bars are gone.
    keeps_lines: bool,
    /// The last of the lines has no end yet.
    is_open: bool,
}

struct JobBars {
    job: ProgressBar,
    batch: Option<ProgressBar>,
    batches: u32,
}

impl Bars {
    /// Returns the bars of a terminal.
    pub fn new(output: &Output) -> Bars {
        let group = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        Bars { group, by_job: BTreeMap::new(), painter: output.talk_painter(), keeps_lines: true, is_open: false }
    }

    /// Returns bars that leave nothing behind.
    pub fn without_lines(output: &Output) -> Bars {
        let mut bars = Bars::new(output);
        bars.keeps_lines = false;
        bars
    }

    /// Returns a handle that prints lines above the bars, also from other threads.
    pub fn printer(&self) -> MultiProgress {
        self.group.clone()
    }

    /// Shows what happened.
    pub fn show(&mut self, progress: &Progress) {
        match progress {
            Progress::RunStarted { job, batches, counts, .. } => self.start(job.as_str(), *batches, counts),
            Progress::Advanced { job, counts, batch, batch_counts, in_flight, .. } => {
                if let Some(bars) = self.by_job.get(job.as_str()) {
                    bars.job.set_position(counts.completed + counts.failed);
                    let flying = if *in_flight > 0 {
                        format!(", {} in flight", number(u64::from(*in_flight)))
                    } else {
                        String::new()
                    };
                    bars.job.set_message(format!("{} failed{flying}", number(counts.failed)));
                    if let Some(bar) = &bars.batch {
                        bar.set_length(batch_counts.total);
                        bar.set_position(batch_counts.completed + batch_counts.failed);
                        bar.set_prefix(format!("  batch {batch} of {}", bars.batches));
                        bar.set_message(format!("{} failed", number(batch_counts.failed)));
                    }
                }
            }
            Progress::BatchFinished { .. } | Progress::RunClaimed { .. } => {}
            Progress::ImportFinished { .. }
            | Progress::StopSeen { .. }
            | Progress::RegistryPutBack { .. }
            | Progress::RenewsByCommits { .. }
            | Progress::LinkAway { .. }
            | Progress::LinkBack
            | Progress::BranchRepublished { .. } => {
                self.line(progress);
            }
            Progress::RunFinished { record } | Progress::RunPaused { record, .. } => {
                if let Some(bars) = self.by_job.remove(record.job.as_str()) {
                    bars.batch.iter().for_each(ProgressBar::finish_and_clear);
                    bars.job.finish_and_clear();
                }
                self.line(progress);
            }
        }
    }

    fn line(&mut self, progress: &Progress) {
        if self.keeps_lines
            && let Some(line) = event_line(progress, self.painter)
        {
            // A terminal that is gone is no reason to stop.
            drop(self.group.println(wrapped(&line, INDENT, stderr_width())));
            self.is_open = true;
        }
    }

    fn start(&mut self, job: &str, batches: u32, counts: &Counts) {
        let columns = stderr_width().unwrap_or(WIDE_MIN);
        let style = |width: usize| {
            let (prefix, width) = match columns {
                WIDE_MIN.. => (28, width),
                MIDDLE_MIN..WIDE_MIN => (24, width / 2),
                // What failed and what is in flight is worth more than a long bar.
                _ => (16, width / 5),
            };
            let template = format!("{{prefix:{prefix}!}} [{{bar:{width}}}] {{human_pos}}/{{human_len}} {{wide_msg}}");
            ProgressStyle::with_template(&template).expect("the template is legal").progress_chars("=> ")
        };
        let bar =
            self.group.add(ProgressBar::new(counts.total).with_style(style(30)).with_prefix(format!("job {job}")));
        bar.set_position(counts.completed + counts.failed);
        let batch =
            (batches > 1).then(|| self.group.add(ProgressBar::new(0).with_style(style(20)).with_prefix("  batch 1")));
        bar.enable_steady_tick(DRAWN_EVERY);
        self.by_job.insert(job.to_string(), JobBars { job: bar, batch, batches });
    }
}

impl Drop for Bars {
    /// Takes the bars away, and ends the last line, which is left without an end while more may come.
    fn drop(&mut self) {
        for bars in self.by_job.values() {
            bars.batch.iter().for_each(ProgressBar::finish_and_clear);
            bars.job.finish_and_clear();
        }
        if self.is_open {
            drop(writeln!(std::io::stderr().lock()));
        }
    }
}
