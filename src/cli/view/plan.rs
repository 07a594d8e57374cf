//! A plan for people.

use serde_json::Value;

use super::{counted, number, wrapped};
use crate::cli::output::{Painter, Tone, stdout_width};
use crate::model::delivery::ThresholdScope;
use crate::model::text::{sanitize_line, shorten};
use crate::plan::{ActionKind, Batches, DiffLine, Plan, PlannedChange};

/// Lines of a diff that are shown for one job.
const DIFF_LINES_MAX: usize = 12;
/// Characters of a value that are shown.
const VALUE_CHARS_MAX: usize = 40;

/// So many changes that are done become one line.
const FOLDED_MIN: usize = 3;
/// The indent of a line that goes on.
const INDENT: usize = 13;

/// How much to show.
#[derive(Debug, Clone, Copy)]
pub struct PlanView {
    pub painter: Painter,
    /// Lines of the diff are not cut.
    pub is_verbose: bool,
    /// Errors of the files and of the plan: with any, it cannot be applied.
    pub errors: usize,
    /// What devices have now is not known where the files do not say it.
    pub is_blind: bool,
}

impl PlanView {
    /// Returns the plan as text, its summary last.
    pub fn render(self, plan: &Plan) -> String {
        self.render_with(plan, "")
    }

    /// Returns the plan as text with some lines before its summary.
    pub fn render_with(self, plan: &Plan, lines: &str) -> String {
        let mut text = String::new();
        let is_done = |change: &PlannedChange| change.action() == ActionKind::Done;
        let done = plan.changes.iter().filter(|change| is_done(change)).count();
        let is_folded = !self.is_verbose && done >= FOLDED_MIN;
        let shown = || plan.changes.iter().filter(|change| !(is_folded && is_done(change)));
        let width = shown().map(|change| title(change).chars().count()).max().unwrap_or(0).min(44);
        shown().for_each(|change| self.change(change, width, &mut text));
        if is_folded {
            let line = format!(". {} done (-v shows them)", number(done as u64));
            text.push_str(&format!("  {}\n", self.painter.paint(Tone::Quiet, &line)));
        }
        text.push_str(lines);
        text.push_str(&self.summary(plan));
        text.push('\n');
        text
    }

    fn change(self, change: &PlannedChange, width: usize, text: &mut String) {
        let action = change.action();
        let removes = change.import().is_some_and(|counts| counts.removed + counts.deleted > 0);
        let symbol = if removes { '-' } else { action.symbol() };
        let word = if action == ActionKind::Schedule { "next" } else { action.word() };
        let head = format!("{symbol} {word:<8}");
        let tone = match action {
            ActionKind::Import if removes => Tone::Bad,
            ActionKind::Import | ActionKind::Run => Tone::Good,
            ActionKind::Continue | ActionKind::Stop => Tone::Careful,
            ActionKind::Close | ActionKind::Gone => Tone::Bad,
            ActionKind::Schedule | ActionKind::Hold | ActionKind::Done => Tone::Quiet,
        };
        let line = format!("  {} {:<width$}  {}", self.painter.paint(tone, &head), title(change), self.facts(change));
        text.push_str(&wrapped(line.trim_end(), INDENT, stdout_width()));
        text.push('\n');
        let shown = if self.is_verbose { change.diff().len() } else { change.diff().len().min(DIFF_LINES_MAX) };
        let lines = &change.diff()[..shown];
        let is_call = change.work() == Some("command");
        let values = |line: &DiffLine| match is_call {
            true => value(line.to.as_ref()),
            false => change_of(line, self.is_blind),
        };
        let symbol = if is_call { "!" } else { "~" };
        let paths = lines.iter().map(|line| line.path.chars().count()).max().unwrap_or(0);
        let widest = lines.iter().map(|line| values(line).chars().count()).max().unwrap_or(0);
        for line in lines {
            let devices = counted(line.devices, "device");
            let what = format!("{:<paths$}  {:<widest$}", sanitize_line(&line.path), values(line));
            let line = format!("      {} {what}  {devices}", self.painter.paint(Tone::Careful, symbol));
            text.push_str(&format!("{}\n", wrapped(&line, 8, stdout_width())));
        }
        if change.diff().len() > shown {
            text.push_str(&format!("        … {} more values (-v shows them)\n", change.diff().len() - shown));
        }
        if let Some(targets) = change.targets()
            && !targets.sample.is_empty()
        {
            let more = targets.count - targets.sample.len() as u64;
            let more = if more > 0 { format!(", … {} more", number(more)) } else { String::new() };
            let ids = format!("{}{more}", targets.sample.join(", "));
            text.push_str(&format!("        {}\n", self.painter.paint(Tone::Quiet, &ids)));
        }
    }

    /// Returns the facts about a change on one line.
    fn facts(self, change: &PlannedChange) -> String {
        let mut facts = Vec::new();
        if let Some(import) = change.import() {
            facts.push(format!("{} new", number(import.new)));
            let renamed =
                if import.renamed > 0 { format!(" ({} renamed)", number(import.renamed)) } else { String::new() };
            facts.push(format!("{} updated{renamed}", number(import.updated)));
            let (to_delete, to_block) = match import.is_deletion {
                true => (import.deleted + import.removed, 0),
                false => (import.deleted, import.removed),
            };
            if to_delete + to_block == 0 {
                facts.push("0 removed".to_string());
            }
            for (count, what) in [(to_delete, "to delete"), (to_block, "to block")] {
                if count > 0 {
                    facts.push(self.painter.paint(Tone::Bad, &format!("{} {what}", number(count))));
                }
            }
            if import.kept > 0 {
                facts.push(format!("{} left the file and stay", number(import.kept)));
            }
            facts.push(counted(import.rejected, "rejected row"));
            return facts.join(" · ");
        }
        let Some(targets) = change.targets() else {
            let devices = change.upcoming().and_then(|upcoming| upcoming.devices);
            let devices = devices.map_or(String::new(), |count| format!(" · {} now", counted(count, "device")));
            return format!("{}{devices}", change.reason);
        };
        let batches = change.batches();
        let devices = counted(targets.count, "device");
        let devices = if change.reason.starts_with("after ") { format!("{devices} as of now") } else { devices };
        facts.push(match batches {
            Some(Batches { count, sizes }) if count > 1 => {
                let canary = match sizes.first == sizes.size {
                    true => String::new(),
                    false => format!(", the first of {}", number(sizes.first)),
                };
                format!("{devices} in {}{canary}", counted(count, "batch"))
            }
            _ => devices,
        });
        if targets.unchanged > 0 {
            facts.push(format!("{} unchanged", number(targets.unchanged)));
        }
        if targets.blocked > 0 {
            facts.push(format!("{} blocked", number(targets.blocked)));
        }
        if targets.mismatches() > 0 {
            facts.push(format!("{} template-mismatch", number(targets.mismatches())));
        }
        if targets.missing > 0 {
            facts.push(format!("{} not in the registry", number(targets.missing)));
        }
        if let (Some(threshold), Some(batches)) = (change.threshold(), change.batches()) {
            facts.push(match threshold.per {
                ThresholdScope::Job => {
                    format!("cancel above {}", counted(threshold.allowed(targets.count), "failure"))
                }
                ThresholdScope::Batch => {
                    format!("cancel above {} in a batch", counted(threshold.allowed(batches.sizes.size), "failure"))
                }
            });
        }
        if change.reason != "never claimed" {
            facts.push(change.reason.clone());
        }
        facts.join(" · ")
    }

    fn summary(self, plan: &Plan) -> String {
        if self.errors > 0 {
            let errors = counted(self.errors as u64, "error");
            return self.painter.paint(Tone::Bad, &format!("Plan: cannot be applied, {errors}."));
        }
        let summary = plan.summary();
        let mut parts = Vec::new();
        if summary.to_run > 0 {
            parts.push(format!("{} to run on {}", number(summary.to_run), counted(summary.devices, "device")));
        }
        if summary.imports > 0 {
            let devices = counted(summary.import_devices, "device");
            parts.push(format!("{} of {devices}", counted(summary.imports, "import")));
        }
        for (count, what) in [
            (summary.to_continue, "to continue"),
            (summary.to_stop, "to stop"),
            (summary.to_close, "to close as failed"),
        ] {
            if count > 0 {
                parts.push(format!("{} {what}", number(count)));
            }
        }
        if parts.is_empty() {
            return "Plan: nothing to do.".to_string();
        }
        self.painter.paint(Tone::Strong, &format!("Plan: {}.", parts.join(", ")))
    }
}

pub fn title(change: &PlannedChange) -> String {
    match &change.run {
        Some(run) => format!("{} run {run}", change.subject),
        None => change.subject.to_string(),
    }
}

fn change_of(line: &DiffLine, is_blind: bool) -> String {
    let from = if is_blind && line.from.is_none() { "(unknown)".to_string() } else { value(line.from.as_ref()) };
    format!("{from} -> {}", value(line.to.as_ref()))
}

/// Returns the facts about a change on one line, without colours.
pub fn change_facts(change: &PlannedChange) -> String {
    PlanView { painter: Painter { is_on: false }, is_verbose: false, errors: 0, is_blind: false }.facts(change)
}

fn value(value: Option<&Value>) -> String {
    match value {
        None => "(none)".to_string(),
        Some(value) => shorten(&sanitize_line(&value.to_string()), VALUE_CHARS_MAX).into_owned(),
    }
}
