//! A plan as the comment of a pull request, in GitHub Flavored Markdown, within a number of bytes.
//!
//! What a person has to see comes first: what is wrong, then what removes, commands, migrations and writes, each by its
//! number of devices. A part that has no room is one line, and then counted, so that tables, fences and details are
//! always closed. Names and values are hostile text: they stand in code spans.

use serde_json::Value;

use super::plan::{change_facts, title};
use super::{counted, diagnostic, number};
use crate::diag::Severity;
use crate::forge::marker;
use crate::model::text::{sanitize_line, shorten};
use crate::ops::Findings;
use crate::ops::plan::{ShownChange, ShownPlan};
use crate::plan::{ActionKind, DiffLine, PlannedChange};

/// Lines of a diff that are shown for one job.
const DIFF_LINES_MAX: usize = 100;
/// Characters of a name or a value.
const VALUE_CHARS_MAX: usize = 120;
/// Findings that are shown in full.
const FINDINGS_MAX: usize = 20;

/// A part of the comment: in full, and as one line where there is no room for more.
struct Part {
    full: String,
    line: String,
}

/// Returns the comment, of at most so many bytes.
pub fn markdown(shown: &ShownPlan, bytes_max: usize) -> String {
    let foot = foot(&format!("plan `{}` · files `{}`", shown.plan.id, shown.plan.source.digest));
    fitted(head(shown), parts(shown), &foot, bytes_max)
}

/// Returns the comment about files that cannot be planned.
pub fn markdown_of_findings(findings: &Findings, prefix: &str, bytes_max: usize) -> String {
    let (errors, _) = findings.diagnostics.counts();
    let marker = marker(prefix);
    let head = format!("{marker}\n### fleetform: cannot be planned, {}\n", counted(errors as u64, "error"));
    fitted(head, findings_of(findings, prefix), &foot("the files are invalid"), bytes_max)
}

/// Puts the parts together: in full while there is room, then as lines, then as a number.
fn fitted(head: String, parts: Vec<Part>, foot: &str, bytes_max: usize) -> String {
    let mut text = head;
    // What says how much was left out has room.
    let room = bytes_max.saturating_sub(foot.len() + 200);
    // Those that follow have room for their lines, up to half of all.
    let mut rest: usize = parts.iter().map(|part| part.line.len()).sum();
    let (mut is_short, mut left_out) = (false, 0);
    for Part { full, line } in parts {
        rest -= line.len();
        is_short |= text.len() + full.len() + rest.min(room / 2) > room;
        if !is_short {
            text.push_str(&full);
        } else if text.len() + line.len() <= room {
            text.push_str(&line);
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        let left_out = number(left_out);
        text.push_str(&format!("\n… {left_out} more, for which there is no room. `fleetform plan` shows them.\n"));
    }
    text.push_str(foot);
    text
}

fn head(shown: &ShownPlan) -> String {
    let summary = shown.plan.summary();
    let (errors, _) = shown.findings.diagnostics.counts();
    let mut parts = Vec::new();
    if summary.to_run > 0 {
        parts.push(format!("{} on {}", counted(summary.to_run, "job"), counted(summary.devices, "device")));
    }
    if summary.imports > 0 {
        let devices = counted(summary.import_devices, "device");
        parts.push(format!("{} of {devices}", counted(summary.imports, "import")));
    }
    for (count, what) in
        [(summary.to_continue, "to continue"), (summary.to_stop, "to stop"), (summary.to_close, "to close as failed")]
    {
        if count > 0 {
            parts.push(format!("{} {what}", number(count)));
        }
    }
    let withdrawn = shown.change.as_ref().map_or(0, |change| change.withdrawn.len() as u64);
    if withdrawn > 0 {
        parts.push(format!("{} withdrawn", number(withdrawn)));
    }
    let title = match (errors, parts.is_empty()) {
        (0, true) => "nothing to do".to_string(),
        (0, false) => parts.join(", "),
        (errors, _) => format!("cannot be applied, {}", counted(errors as u64, "error")),
    };
    let mut text = format!("{}\n### fleetform: {title}\n\n", marker(&shown.prefix));
    if let Some(ShownChange { revision, commit, alike, known_findings, .. }) = &shown.change {
        let commit: String = commit.chars().take(12).collect();
        text.push_str(&format!("Compared with {} at `{commit}`.", code(revision)));
        if *alike > 0 {
            text.push_str(&format!(" {} alike on both sides, and left out.", counted_are(*alike, "document")));
        }
        if *known_findings > 0 {
            text.push_str(&format!(" {} known there too.", counted_are(*known_findings, "finding")));
        }
        text.push_str("\n\n");
    }
    if shown.is_blind {
        text.push_str(
            "This was planned without the fleet's registry: devices are those of the import files, and what jobs wrote \
             and devices reported is unknown.\n\n",
        );
    }
    text
}

fn counted_are(count: u64, noun: &str) -> String {
    format!("{} {}", counted(count, noun), if count == 1 { "is" } else { "are" })
}

fn foot(text: &str) -> String {
    format!("\n<sub>{text}</sub>\n")
}

/// Returns an item of a list, as a block of its own: behind what is folded it would be part of that.
fn item(text: &str) -> Part {
    let line = format!("\n- {text}\n");
    Part { full: line.clone(), line }
}

/// Returns what is folded behind a line.
fn folded(summary: &str, body: &str, is_open: bool) -> Part {
    let open = if is_open { " open" } else { "" };
    Part {
        full: format!("\n<details{open}><summary>{summary}</summary>\n\n{body}\n</details>\n"),
        line: format!("\n- {summary}\n"),
    }
}

/// Returns the parts of the comment, the most important first; each is whole in itself.
fn parts(shown: &ShownPlan) -> Vec<Part> {
    let mut parts = findings_of(&shown.findings, &shown.prefix);
    for one in shown.change.iter().flat_map(|change| &change.withdrawn) {
        let run = one.run.as_ref().map_or(String::new(), |run| format!(" run {}", code(run.as_str())));
        let what = sanitize_line(&one.what.to_string()).into_owned();
        parts.push(item(&format!("gone {}{run}: {}", code(&one.subject.to_string()), plain(&what))));
    }
    let mut changes: Vec<&PlannedChange> = shown.plan.changes.iter().collect();
    changes.sort_by_key(|change| (danger(change), std::cmp::Reverse(devices_of(change))));
    parts.extend(changes.into_iter().map(|change| part(change, shown)));
    parts
}

fn findings_of(findings: &Findings, prefix: &str) -> Vec<Part> {
    let sorted = findings.diagnostics.sorted();
    let sources = findings.sources.below(prefix);
    let mut ordered: Vec<_> = sorted.iter().filter(|one| one.severity == Severity::Error).collect();
    ordered.extend(sorted.iter().filter(|one| one.severity != Severity::Error));
    let mut parts: Vec<Part> = ordered
        .iter()
        .take(FINDINGS_MAX)
        .map(|one| {
            let text = diagnostic::render(one, &sources, false, None);
            let summary = format!("{} {}: {}", one.severity.as_str(), one.code.0, one.summary);
            folded(&plain(&summary), &fenced(text.trim_end()), one.severity == Severity::Error)
        })
        .collect();
    if ordered.len() > FINDINGS_MAX {
        parts.push(item(&format!("… {} more findings", number((ordered.len() - FINDINGS_MAX) as u64))));
    }
    parts
}

/// The lower, the more a person has to look at it.
fn danger(change: &PlannedChange) -> u8 {
    let removes = change.import().is_some_and(|counts| counts.removed + counts.deleted > 0);
    match (change.action(), change.work()) {
        _ if removes => 0,
        (ActionKind::Run, Some("command")) => 1,
        (ActionKind::Run, Some("deviceTemplate" | "edgeManifest")) => 2,
        (ActionKind::Run, _) => 3,
        (ActionKind::Close | ActionKind::Stop, _) => 4,
        (ActionKind::Schedule, _) => 5,
        (ActionKind::Import | ActionKind::Continue, _) => 6,
        (ActionKind::Hold | ActionKind::Gone | ActionKind::Done, _) => 7,
    }
}

fn devices_of(change: &PlannedChange) -> u64 {
    let import = change.import().map_or(0, |counts| counts.touched());
    change.targets().map_or(import, |targets| targets.count)
}

fn part(change: &PlannedChange, shown: &ShownPlan) -> Part {
    let action = change.action();
    let word = if action == ActionKind::Schedule { "next" } else { action.word() };
    let line = plain(&format!("{word} {}: {}", title(change), change_facts(change)));
    let Some(targets) = change.targets() else { return item(&line) };
    let diff = change.diff();
    let is_call = change.work() == Some("command");
    let mut body = String::new();
    if !diff.is_empty() {
        body.push_str(match is_call {
            true => "| command | payload | devices |\n| --- | --- | ---: |\n",
            false => "| path | from | to | devices |\n| --- | --- | --- | ---: |\n",
        });
        diff.iter().take(DIFF_LINES_MAX).for_each(|line| body.push_str(&row(line, is_call, shown.is_blind)));
        if diff.len() > DIFF_LINES_MAX {
            body.push_str(&format!("\n… {} more values.\n", number((diff.len() - DIFF_LINES_MAX) as u64)));
        }
        body.push('\n');
    }
    if !targets.sample.is_empty() {
        let ids: Vec<String> = targets.sample.iter().map(|id| code(id)).collect();
        let more = targets.count - targets.sample.len() as u64;
        let more = if more > 0 { format!(", … {} more", number(more)) } else { String::new() };
        body.push_str(&format!("{}{more}\n", ids.join(", ")));
    }
    folded(&line, &body, false)
}

fn row(line: &DiffLine, is_call: bool, is_blind: bool) -> String {
    let devices = number(line.devices);
    let to = line.to.as_ref().map_or("(none)".to_string(), |to| code(&to.to_string()));
    if is_call {
        return format!("| {} | {to} | {devices} |\n", code(&line.path));
    }
    let from = match &line.from {
        Some(Value::String(text)) if text == "(various)" => "(various)".to_string(),
        Some(from) => code(&from.to_string()),
        None if is_blind => "(unknown)".to_string(),
        None => "(none)".to_string(),
    };
    format!("| {} | {from} | {to} | {devices} |\n", code(&line.path))
}

/// Returns a text as a code span that ends where it should, in a table too.
fn code(text: &str) -> String {
    let line = sanitize_line(text);
    let shown = shorten(&line, VALUE_CHARS_MAX).replace('|', "\\|");
    if shown.is_empty() {
        return "(empty)".to_string();
    }
    let mut longest = 0;
    let mut run = 0;
    for c in shown.chars() {
        run = if c == '`' { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    let fence = "`".repeat(longest + 1);
    let pad = if shown.starts_with('`') || shown.ends_with('`') { " " } else { "" };
    format!("{fence}{pad}{shown}{pad}{fence}")
}

/// Returns a text that is no Markdown, HTML or mention.
fn plain(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in sanitize_line(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '@' => safe.push_str("&#64;"),
            '#' => safe.push_str("&#35;"),
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '!' | '~' => {
                safe.push_str(&format!("&#{};", u32::from(c)));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Returns a text in a fence that is longer than any in it.
fn fenced(text: &str) -> String {
    let longest = text.lines().map(|line| line.trim_start().chars().take_while(|c| *c == '`').count()).max();
    let fence = "`".repeat(longest.unwrap_or(0).max(2) + 1);
    format!("{fence}text\n{text}\n{fence}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_stays_in_its_place() {
        assert_eq!(code("a|b"), "`a\\|b`");
        assert_eq!(code("a`b``c"), "```a`b``c```");
        assert_eq!(code("`x"), "`` `x ``");
        assert_eq!(code(""), "(empty)");
        assert!(!code("a\nb").contains('\n'));
        assert_eq!(plain("<b>@team #1 [x](y)"), "&lt;b&gt;&#64;team &#35;1 &#91;x&#93;(y)");
        assert_eq!(fenced("a\n````\nb"), "`````text\na\n````\nb\n`````\n");
    }
}
