//! Registries that were copied or checked.

use serde_json::{Value, json};

use super::{counted, number, wrapped};
use crate::cli::output::{Painter, Tone, stdout_width};
use crate::model::text::sanitize_line;
use crate::ops::registry::{Checked, Copied, Finding};
use crate::registry::Contents;

fn counts(contents: &Contents) -> String {
    format!(
        "{}, {}, {}",
        counted(contents.rows("device"), "device"),
        counted(contents.rows("run"), "run"),
        counted(contents.rows("outcome"), "outcome")
    )
}

/// Returns what was copied.
pub fn copied(copied: &Copied) -> String {
    let Copied { fleet, from, to, identity: _, contents, has_resumed, was_done } = copied;
    let did = match (was_done, has_resumed) {
        (true, _) => "It was copied before, and nothing was changed",
        (false, true) => "Went on with a copy, and finished it",
        (false, false) => "Copied and compared",
    };
    let rows = number(contents.all_rows());
    format!(
        "{did}: {}, {rows} rows in all.\n  from  {from}  gave the fleet {fleet} up: it looks and plans\n  to    {to}  \
         works on the fleet\n",
        counts(contents)
    )
}

/// Returns the same for programs.
pub fn copied_json(copied: &Copied) -> Value {
    let Copied { fleet, from, to, identity, contents, has_resumed, was_done } = copied;
    json!({
        "fleet": fleet.as_str(),
        "from": from,
        "to": to,
        "identity": identity,
        "devices": contents.rows("device"),
        "runs": contents.rows("run"),
        "outcomes": contents.rows("outcome"),
        "rows": contents.all_rows(),
        "resumed": has_resumed,
        "was_done": was_done,
    })
}

/// Returns what was found of a registry: a line, and one for each finding.
pub fn checked(checked: &Checked, painter: Painter) -> String {
    let Checked { fleet, place, identity: _, works_on_fleet, at_work: _, contents, findings } = checked;
    let works = if *works_on_fleet { "works on the fleet" } else { "looks and plans" };
    let sum = match findings.len() {
        0 => painter.paint(Tone::Good, "all holds"),
        count => painter.paint(Tone::Bad, &counted(count as u64, "finding")),
    };
    let line = format!("{}: {sum}; {works} {fleet}, {}", sanitize_line(place), counts(contents));
    let mut text = wrapped(&line, 2, stdout_width());
    for Finding { rule, what } in findings {
        let line = format!("  {}: {what}. {}", painter.paint(Tone::Careful, rule.word()), rule.help());
        text.push_str(&format!("\n{}", wrapped(&line, 4, stdout_width())));
    }
    text + "\n"
}

/// Returns a registry for programs.
pub fn checked_json(checked: &Checked) -> Value {
    let Checked { fleet, place, identity, works_on_fleet, at_work, contents, findings } = checked;
    json!({
        "registry": place,
        "fleet": fleet,
        "identity": identity.id,
        "sends": identity.sends,
        "works_on_fleet": works_on_fleet,
        "at_work": at_work,
        "devices": contents.rows("device"),
        "runs": contents.rows("run"),
        "outcomes": contents.rows("outcome"),
        "findings": findings.len(),
    })
}

/// Returns a finding for programs.
pub fn finding_json(checked: &Checked, finding: &Finding) -> Value {
    let Finding { rule, what } = finding;
    json!({"registry": checked.place, "finding": rule.word(), "what": what, "help": rule.help()})
}
