//! Device imports for people and as JSON.

use serde_json::{Value, json};

use super::{TextTable, counted, field, number, wrapped};
use crate::cli::output::{Painter, Tone, stdout_width};
use crate::model::text::sanitize_line;
use crate::ops::import::{ListedImport, ShownImport};

/// Rejected rows that are shown; the rest are in `errors.csv` on the results branch.
const ROWS_SHOWN: usize = 20;

/// Returns a table of imports.
pub fn list(imports: &[ListedImport]) -> String {
    let mut table = TextTable::new(&["IMPORT", "FILE", "ROWS", "NEW", "UPDATED", "UNCHANGED", "REMOVED", "REJECTED"])
        .sparing(&["UNCHANGED", "FILE", "UPDATED"]);
    for one in imports {
        let mut cells = vec![one.name().to_string(), one.import.file.clone()];
        match &one.report {
            Some(report) => {
                let counts = [report.rows, report.imported, report.updated, report.unchanged, report.removed];
                cells.extend(counts.into_iter().chain([report.rejected]).map(number));
            }
            None => cells.push("not imported yet".to_string()),
        }
        table.push(cells);
    }
    table.render()
}

/// Returns an import with its report and its rejected rows.
pub fn show(shown: &ShownImport, painter: Painter) -> String {
    let one = &shown.import;
    let mut text = format!("{}\n", painter.paint(Tone::Strong, &format!("import {}", one.name())));
    let mut line = |name: &str, value: String| text.push_str(&field(name, &value, 13));
    line("file", one.import.file.clone());
    let Some(report) = &one.report else {
        line("report", "none: it is not imported yet".to_string());
        return text;
    };
    line("rows", number(report.rows));
    line(
        "devices",
        format!(
            "{} new, {} updated, {} unchanged, {} removed",
            number(report.imported),
            number(report.updated),
            number(report.unchanged),
            number(report.removed)
        ),
    );
    line("rejected", number(report.rejected));
    line("source", report.source_commit.chars().take(12).collect());
    let rows = rows(&shown.rejected);
    for row in rows.iter().take(ROWS_SHOWN) {
        let cell = |at: usize| sanitize_line(row.get(at).map_or("", String::as_str)).into_owned();
        let id = if cell(1).is_empty() { String::new() } else { format!(" `{}`", cell(1)) };
        let line = format!("    line {}{id}: {}", cell(0), cell(2));
        text.push_str(&format!("{}\n", wrapped(&line, 6, stdout_width())));
    }
    let more = report.rejected.saturating_sub(rows.len().min(ROWS_SHOWN) as u64);
    if more > 0 {
        text.push_str(&format!("    … {} more\n", counted(more, "row")));
    }
    text
}

/// Returns an import as an object.
pub fn json(one: &ListedImport) -> Value {
    let report = one.report.as_ref().map(|report| {
        let mut report = report.to_json();
        if let Some(members) = report.as_object_mut() {
            members.remove("format_version");
        }
        report
    });
    json!({"import": one.name().as_str(), "file": one.import.file, "digest": one.digest, "report": report})
}

/// Returns an import with its rejected rows as an object.
pub fn shown_json(shown: &ShownImport) -> Value {
    let mut document = json(&shown.import);
    let row = |row: Vec<String>| {
        let cell = |at: usize| row.get(at).cloned().unwrap_or_default();
        json!({"line": cell(0).parse::<u64>().ok(), "device_id": cell(1), "message": cell(2)})
    };
    let rejected: Vec<Value> = rows(&shown.rejected).into_iter().map(row).collect();
    document["rejected"] = json!(rejected);
    document
}

/// Returns the cells of the rejected rows.
fn rows(errors: &[u8]) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(errors);
    let records = reader.records().map_while(Result::ok);
    records.map(|record| record.iter().map(str::to_string).collect()).collect()
}
