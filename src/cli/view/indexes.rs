//! Indexes of the registry, as `-v` shows them.

use serde_json::{Value, json};

use crate::cli::output::{Painter, Tone};
use crate::model::text::sanitize_line;
use crate::registry::IndexChanges;

/// Returns a line for each index that an apply would make or drop, and for each path that gets none.
pub fn lines(changes: &IndexChanges, painter: Painter) -> String {
    let kinds = [
        ("+ index   ", Tone::Good, &changes.make, "to search by"),
        ("- index   ", Tone::Quiet, &changes.drop, "no condition searches by it any more"),
        (". index   ", Tone::Quiet, &changes.left_out, "not indexed: others are searched by as often or more"),
    ];
    let all = kinds.iter().flat_map(|(_, _, paths, _)| paths.iter());
    let width = all.map(|path| sanitize_line(path).chars().count()).max().unwrap_or(0).min(44);
    let mut text = String::new();
    for (head, tone, paths, why) in kinds {
        for path in paths {
            text.push_str(&format!("  {} {:<width$}  {why}\n", painter.paint(tone, head), sanitize_line(path)));
        }
    }
    text
}

/// Returns what the JSON of a plan has under `indexes`.
pub fn to_json(changes: &IndexChanges) -> Value {
    json!({"make": changes.make, "drop": changes.drop, "left_out": changes.left_out})
}
