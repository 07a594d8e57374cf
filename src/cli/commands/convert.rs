//! `convert`

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::{CommandResult, Output};
use crate::cli::args::ConvertArgs;
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::cli::view::{counted, number};
use crate::convert::{Document, DocumentKind, Refusal};
use crate::execute::{Clock as _, SystemClock};
use crate::model::text::sanitize_line;
use crate::ops::convert::{ConvertOptions, Converted, convert_files};

/// Notes that are listed on stderr; the documents have all of them.
const NOTES_SHOWN: usize = 20;

/// `convert FILE... [-o DIR] [--from KIND]`
pub fn run(arguments: &ConvertArgs, output: &Output) -> CommandResult {
    if arguments.output.as_deref() == Some(Path::new("-")) {
        return Err(CommandError::Usage {
            what: "`-o` names a folder".to_string(),
            help: "Without it, the documents go to stdout.".to_string(),
        });
    }
    let options = ConvertOptions {
        files: arguments.files.clone(),
        folder: arguments.output.clone(),
        source: arguments.from,
        has_keys: arguments.keys,
        now: SystemClock.now(),
    };
    let Converted { conversion, written } = convert_files(&options)?;
    let documents = &conversion.documents;
    let is_shown = arguments.output.is_none();
    if output.is_json {
        for document in documents {
            output.json_line(&to_json(document))?;
        }
    } else if is_shown {
        let texts: Vec<String> = documents.iter().map(to_text).collect();
        output.result(&texts.join("---\n"))?;
    }
    for path in &written {
        output.say(&format!("wrote {}", path.display()));
    }
    let mut told: Vec<&Document> = documents.iter().collect();
    // What would run comes first.
    told.sort_by_key(|document| {
        (!document.would_run, !matches!(document.kind, DocumentKind::Job | DocumentKind::Schedule))
    });
    let about_documents = told.into_iter().flat_map(|document| notes(document, is_shown));
    let notes: Vec<String> = conversion.notes.iter().cloned().chain(about_documents).collect();
    if !notes.is_empty() {
        output.say(&format!("{}:", counted(notes.len() as u64, "note")));
        // Those about files stand nowhere else.
        let shown = NOTES_SHOWN.max(conversion.notes.len());
        notes.iter().take(shown).for_each(|note| output.say_item(note));
        if notes.len() > shown {
            output.say(&format!("  … {} more, which stand in the documents too", notes.len() - shown));
        }
    }
    for (what, places) in alike(&conversion.refusals) {
        let more = places.len() - 1;
        let place =
            if more > 0 { format!("{} and {} like it", places[0], number(more as u64)) } else { places[0].to_string() };
        output.error(&sanitize_line(&format!("{place}: {}", what.trim_end_matches('.'))), "", exit::INVALID);
    }
    Ok(if conversion.refusals.is_empty() { exit::OK } else { exit::INVALID })
}

/// Returns what was refused with the places of it, in the order of the first of each.
fn alike(refusals: &[Refusal]) -> Vec<(&str, Vec<&str>)> {
    let mut places: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for Refusal { place, what } in refusals {
        let known = places.entry(what).or_default();
        if known.is_empty() {
            order.push(what.as_str());
        }
        known.push(place);
    }
    order.into_iter().map(|what| (what, places.remove(what).unwrap_or_default())).collect()
}

/// Returns the notes of a document, each behind its path.
fn notes(document: &Document, is_shown: bool) -> Vec<String> {
    let missing = document.files.iter().filter(|_| is_shown).map(|file| missing(&file.path));
    document.notes.iter().cloned().chain(missing).map(|note| format!("{}: {note}", document.path)).collect()
}

fn missing(path: &str) -> String {
    format!("`{path}`, which it names, is not shown: `-o DIR` writes it.")
}

/// Returns the text of a document for stdout, with a note behind the others about the files beside it.
fn to_text(document: &Document) -> String {
    let is_comment = |line: &&str| line.starts_with('#');
    let comments: usize = document.text.split_inclusive('\n').take_while(is_comment).map(str::len).sum();
    let missing: String = document.files.iter().map(|file| format!("# Note: {}\n", missing(&file.path))).collect();
    let (before, after) = document.text.split_at(comments);
    format!("{before}{missing}{after}")
}

fn to_json(document: &Document) -> serde_json::Value {
    let files: Vec<_> = document.files.iter().map(|file| json!({"path": file.path, "text": file.text})).collect();
    json!({
        "kind": document.kind.word(),
        "name": document.name.as_str(),
        "path": document.path,
        "text": document.text,
        "notes": document.notes,
        "files": files,
    })
}
