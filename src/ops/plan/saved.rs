//! Saves a plan, and shows one that was saved, as it was shown when it was made.
//!
//! What was found in the files is saved with the lines that it points at, and no more of the files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::ShownPlan;
use crate::diag::{CODES, Diagnostic, Diagnostics, FileId, SourceMap, Span};
use crate::model::limits;
use crate::ops::{Environment, Findings, OpsError, Workspace};
use crate::plan::{SavedPlan, UnreadablePlan};
use crate::prepare::{Destination, Files, Freshness, OnError, PrepareError, Purpose, TreeChoice, View, freshness};
use crate::registry::IndexChanges;

/// What to do about a file that is no plan to use.
const HELP: &str = "Make a new plan with `fleetform plan --out FILE`.";

/// Saves a plan for `apply`. `document` is the plan as `plan --json` prints it.
///
/// # Errors
/// The file cannot be written.
pub fn save(shown: &ShownPlan, document: Value, path: &Path) -> Result<(), OpsError> {
    let fail = |source| OpsError::Output { what: format!("the plan {} cannot be written", path.display()), source };
    let text = SavedPlan::text(document, &shown.bonds, to_json(shown));
    let mut destination = Destination::open(path, false).map_err(fail)?;
    destination.write_all(text.as_bytes()).map_err(fail)?;
    destination.finish().map_err(fail)
}

/// Reads a plan that was saved.
///
/// # Errors
/// [`OpsError::Usage`]: there is no such file. [`OpsError::Unusable`]: it is no saved plan, or was cut short, changed or
/// made by a newer version.
pub fn read(path: &Path) -> Result<SavedPlan, OpsError> {
    let name = crate::diag::shown(&path.display().to_string());
    let usage = |source: std::io::Error| OpsError::Usage {
        what: format!("the plan {name} cannot be read: {source}"),
        help: "Name a file that was made with `fleetform plan --out FILE`.".to_string(),
    };
    let unusable = |what: String, help: &str| OpsError::Unusable { what: format!("{name} {what}"), help: help.into() };
    let file = File::open(path).map_err(usage)?;
    if !file.metadata().map_err(usage)?.is_file() {
        return Err(unusable(UnreadablePlan::NotAPlan.to_string(), HELP));
    }
    let mut bytes = Vec::new();
    file.take(limits::SAVED_PLAN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(usage)?;
    if bytes.len() as u64 > limits::SAVED_PLAN_BYTES_MAX {
        return Err(unusable(format!("has more than {} bytes", limits::SAVED_PLAN_BYTES_MAX), HELP));
    }
    SavedPlan::read(&bytes).map_err(|error| {
        let help = match error {
            UnreadablePlan::Newer { .. } => "Use the fleetform that made it, or make a new plan.",
            _ => HELP,
        };
        unusable(error.to_string(), help)
    })
}

/// Returns whether a saved plan still holds in the fleet of the environment.
///
/// # Errors
/// There is no fleet, or it cannot be planned now.
pub fn look(environment: &Environment, saved: &SavedPlan, now: Timestamp) -> Result<Freshness, OpsError> {
    let workspace = Workspace::open(environment)?;
    // The plan of a work tree holds for that, once it is committed.
    let choice = if saved.plan.source.commit.is_some() { TreeChoice::Head } else { TreeChoice::WorkTree };
    let mut view = View::of_files(&workspace, Files::read(&workspace, choice, OnError::Refuse)?)?;
    let planned = view.plan(Purpose::Work, now)?;
    if planned.diagnostics.has_errors() {
        let findings = view.findings(planned.diagnostics);
        return Err(PrepareError::Invalid(Box::new(findings)).into());
    }
    Ok(freshness(saved, &view, &planned.plan)?)
}

/// Returns what views show of a saved plan, as they showed it when it was made. What an older version saved has no
/// findings.
pub fn shown(saved: SavedPlan) -> ShownPlan {
    let SavedPlan { plan, bonds, shown } = saved;
    let list = |name: &str| -> Vec<String> {
        let paths = shown.pointer(&format!("/indexes/{name}")).and_then(Value::as_array);
        paths.into_iter().flatten().filter_map(Value::as_str).map(str::to_string).collect()
    };
    ShownPlan {
        plan,
        change: None,
        findings: findings_of(&shown["findings"]),
        indexes: IndexChanges { make: list("make"), drop: list("drop"), left_out: list("left_out") },
        is_blind: shown["is_blind"].as_bool().unwrap_or(false),
        prefix: shown["prefix"].as_str().unwrap_or_default().to_string(),
        bonds,
    }
}

fn to_json(shown: &ShownPlan) -> Value {
    let IndexChanges { make, drop, left_out } = &shown.indexes;
    json!({
        "findings": findings_to_json(&shown.findings),
        "indexes": {"make": make, "drop": drop, "left_out": left_out},
        "is_blind": shown.is_blind,
        "prefix": shown.prefix,
    })
}

/// The lines of a file that are saved, and where they begin in what is made of them.
struct Lines<'a> {
    text: &'a str,
    /// From 0.
    numbers: BTreeSet<usize>,
}

impl Lines<'_> {
    /// Returns the number of the line of a place, from 0, and where in it the place is, in bytes.
    fn place(&self, at: usize) -> (usize, usize) {
        let before = &self.text.as_bytes()[..at.min(self.text.len())];
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        (before.iter().filter(|byte| **byte == b'\n').count(), before.len() - start)
    }
}

fn findings_to_json(findings: &Findings) -> Value {
    let sorted = findings.diagnostics.sorted();
    let mut files: BTreeMap<FileId, Lines<'_>> = BTreeMap::new();
    let spans = |one: &Diagnostic| one.span.iter().chain(one.labels.iter().map(|(span, _)| span)).copied().collect();
    for span in sorted.iter().flat_map(|one| -> Vec<Span> { spans(one) }) {
        let text = findings.sources.text(span.file);
        let lines = files.entry(span.file).or_insert(Lines { text, numbers: BTreeSet::new() });
        let (first, last) = (lines.place(span.start).0, lines.place(span.end).0);
        // Of a place of many lines its beginning is shown.
        lines.numbers.extend([first, last]);
    }
    let place = |span: &Span| {
        let at = files.keys().position(|file| file == &span.file);
        let lines = &files[&span.file];
        json!({"file": at, "start": lines.place(span.start), "end": lines.place(span.end)})
    };
    let items: Vec<Value> = sorted
        .iter()
        .map(|one| {
            let labels: Vec<Value> = one.labels.iter().map(|(span, text)| json!([place(span), text])).collect();
            json!({"code": one.code.0, "detail": one.detail, "help": one.help,
                   "span": one.span.as_ref().map(place), "labels": labels})
        })
        .collect();
    let sources: Vec<Value> = files
        .iter()
        .map(|(file, lines)| {
            let kept = lines.text.split('\n').enumerate().filter(|(at, _)| lines.numbers.contains(at));
            let kept: Vec<(usize, &str)> = if lines.text.is_empty() { Vec::new() } else { kept.collect() };
            json!({"path": findings.sources.path(*file), "lines": kept})
        })
        .collect();
    json!({"sources": sources, "items": items})
}

/// Reads what [`findings_to_json`] writes. Findings of a code that is not known here are left out.
fn findings_of(json: &Value) -> Findings {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut sources = SourceMap::new();
    // Where each kept line begins, by file.
    let mut starts: Vec<BTreeMap<u64, usize>> = Vec::new();
    for file in list(&json["sources"]) {
        let (mut text, mut next, mut begins) = (String::new(), 0, BTreeMap::new());
        for line in list(&file["lines"]) {
            let number = line[0].as_u64().unwrap_or(0).min(limits::YAML_FILE_BYTES_MAX as u64).max(next);
            text.extend(std::iter::repeat_n('\n', usize::try_from(number - next).unwrap_or(0)));
            begins.insert(number, text.len());
            text.push_str(line[1].as_str().unwrap_or_default());
            text.push('\n');
            next = number + 1;
        }
        sources.add(file["path"].as_str().unwrap_or_default(), text);
        starts.push(begins);
    }
    let span = |place: &Value| -> Option<Span> {
        let file = usize::try_from(place["file"].as_u64()?).ok()?;
        let begins = starts.get(file)?;
        let at = |place: &Value| {
            let start = begins.get(&place[0].as_u64()?).copied().unwrap_or(0);
            Some(start + usize::try_from(place[1].as_u64()?).ok()?)
        };
        Some(Span { file: FileId(u32::try_from(file).ok()?), start: at(&place["start"])?, end: at(&place["end"])? })
    };
    let mut diagnostics = Diagnostics::new();
    for item in list(&json["items"]) {
        let Some(info) = CODES.iter().find(|info| Some(info.code.0) == item["code"].as_str()) else { continue };
        let mut one = Diagnostic::new(info.code, span(&item["span"]), item["detail"].as_str().unwrap_or_default());
        one.help = item["help"].as_str().map(str::to_string);
        for label in list(&item["labels"]) {
            if let Some(place) = span(&label[0]) {
                one = one.with_label(place, label[1].as_str().unwrap_or_default());
            }
        }
        diagnostics.push(one);
    }
    Findings { sources, diagnostics }
}
