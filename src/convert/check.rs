//! Loads the documents as a fleet: nothing leaves this room that `manifest` would refuse.

use std::collections::BTreeMap;

use super::document::Document;
use crate::diag::{Severity, code};
use crate::manifest::{self, Entry, Input, QueryProblem};

/// The fleet around the documents; its name appears nowhere.
const FLEET: &str = "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {name: converted}\n";

/// Returns why the documents of items are not valid, by the number that each document comes with.
///
/// A reference to a document that is not there is no reason: a note tells the caller to declare it.
pub fn invalid(documents: &[(usize, Document)]) -> BTreeMap<usize, String> {
    let mut files = BTreeMap::from([("fleetform.yaml".to_string(), FLEET.to_string())]);
    let mut items = BTreeMap::new();
    for (item, document) in documents {
        let text = document.text.clone();
        let path = document.path.clone();
        items.insert(path.clone(), *item);
        files.insert(path, text);
        items.extend(document.files.iter().map(|file| (file.path.clone(), *item)));
        files.extend(document.files.iter().map(|file| (file.path.clone(), file.text.clone())));
    }
    let entries = files.iter().map(|(path, text)| (path.clone(), Entry::file(text.len() as u64))).collect();
    let read =
        |path: &str| files.get(path).map(|text| text.clone().into_bytes()).ok_or_else(|| "it is gone".to_string());
    let loaded = manifest::load(&Input { entries: &entries, read: &read, check_query });
    let mut found: BTreeMap<usize, String> = BTreeMap::new();
    for diagnostic in loaded.diagnostics.sorted() {
        let file = diagnostic.span.map(|span| loaded.sources.path(span.file));
        let Some(item) = file.and_then(|file| items.get(file)) else { continue };
        if diagnostic.severity == Severity::Warning || diagnostic.code == code::UNKNOWN_REFERENCE {
            continue;
        }
        let help = diagnostic.help.as_ref().map_or(String::new(), |help| format!(" {help}"));
        found.entry(*item).or_insert_with(|| format!("{}{help} ({})", diagnostic.detail, diagnostic.code.0));
    }
    found
}

fn check_query(text: &str) -> Vec<QueryProblem> {
    let errors = crate::query::parse(text).err().unwrap_or_default();
    let problem = |error: crate::query::QueryError| QueryProblem {
        start: error.start,
        end: error.end,
        message: error.to_string(),
        help: error.help(),
    };
    errors.into_iter().map(problem).collect()
}
