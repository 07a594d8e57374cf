//! Every file that a document names lies in the tree and is what it should be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::Set;
use crate::diag::{Code, Diagnostic, Diagnostics, Position, Span, code, nearest, shown};
use crate::manifest::lower::{Doc, FileFormat, FileReference};
use crate::manifest::parsed::JsonFile;
use crate::manifest::{Entry, Input, ParsedFiles};
use crate::model::fleet::ImportFormat;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::text::is_unsafe;
use crate::template;

/// The named files of a set.
#[derive(Debug, Default)]
pub struct Named {
    /// The resolved path of each document's file, by the document's index.
    pub paths: BTreeMap<usize, String>,
    /// The JSON files, by the document's index.
    pub content: BTreeMap<usize, Arc<JsonFile>>,
    /// Every file that was read as JSON, by path; some of them may be malformed.
    pub files: BTreeMap<String, Arc<JsonFile>>,
    /// Every named file that exists, including those that were not read.
    pub all: BTreeSet<String>,
}

impl Named {
    /// Returns the content of a document's JSON file.
    ///
    /// # Panics
    /// When it has none.
    pub fn json(&self, at: usize) -> &Value {
        self.content[&at].content.as_ref().expect("a file that is no JSON is no content")
    }
}

/// Looks every named file up, reads and checks the ones that are JSON.
pub fn check(set: &Set, input: &Input<'_>, known: &mut ParsedFiles) -> (Named, Diagnostics) {
    let mut named = Named::default();
    let mut diagnostics = Diagnostics::new();
    for (at, doc) in set.docs.iter().enumerate() {
        for reference in &doc.files {
            match look_up(doc, reference, input, known, &mut named) {
                Ok((path, content)) => {
                    named.all.insert(path.clone());
                    named.paths.insert(at, path);
                    if let Some(content) = content {
                        named.content.insert(at, content);
                    }
                }
                Err(diagnostic) => diagnostics.push(*diagnostic),
            }
        }
    }
    (named, diagnostics)
}

type Found = Result<(String, Option<Arc<JsonFile>>), Box<Diagnostic>>;

fn look_up(
    doc: &Doc,
    reference: &FileReference,
    input: &Input<'_>,
    known: &mut ParsedFiles,
    named: &mut Named,
) -> Found {
    let span = doc.span(&reference.pointer);
    let fail = |code: Code, detail: String| Box::new(Diagnostic::new(code, span, detail));
    let path = resolve(&doc.path, &reference.text).map_err(|detail| fail(code::PATH, detail.to_string()))?;
    check_extension(&path, reference.format, span)?;
    let size = match input.entries.get(&path) {
        Some(Entry::File { size, .. }) => *size,
        Some(Entry::Symlink) => {
            let detail = format!(
                "`{}` is a symbolic link, which may lead out of the repository. Put the file itself there.",
                shown(&path)
            );
            return Err(fail(code::NOT_A_FILE, detail));
        }
        Some(Entry::Submodule) => {
            let detail = format!("`{}` is a submodule, and a file is needed.", shown(&path));
            return Err(fail(code::NOT_A_FILE, detail));
        }
        None => return Err(missing(doc, &path, span, input)),
    };
    if reference.format != FileFormat::Json {
        return Ok((path, None));
    }
    if size > limits::JSON_FILE_BYTES_MAX as u64 {
        let detail =
            format!("`{}` has {size} bytes, and at most {} are read.", shown(&path), limits::JSON_FILE_BYTES_MAX);
        return Err(fail(code::FILE_TOO_LARGE, detail));
    }
    let file = match named.files.get(&path) {
        Some(file) => Arc::clone(file),
        None => {
            let file = known.json(&path, input).map_err(|problem| {
                fail(code::UNREADABLE, format!("`{}` cannot be read: {}.", shown(&path), shown(&problem)))
            })?;
            named.files.insert(path.clone(), Arc::clone(&file));
            file
        }
    };
    let content = file
        .content
        .as_ref()
        .map_err(|error| fail(code::FILE_NOT_JSON, format!("`{}` is not valid JSON: {error}.", shown(&path))))?;
    if doc.kind == Kind::DeviceTemplate
        && let Some(problem) = file.model_problem.get_or_init(|| check_model(&path, file.text(), content).err())
    {
        return Err(fail(code::DEVICE_MODEL, problem.clone()));
    }
    Ok((path, Some(file)))
}

/// Returns the path in the tree of a path relative to a document's folder, or why there is none.
pub fn resolve(document: &str, text: &str) -> Result<String, &'static str> {
    if text.is_empty() {
        return Err("A path cannot be empty.");
    }
    if text.starts_with('/') || text.as_bytes().get(1) == Some(&b':') {
        return Err(
            "An absolute path leads out of the repository. Write a path relative to the folder of this document.",
        );
    }
    if text.contains('\\') {
        return Err("The parts of a path are separated by `/`, not by a backslash.");
    }
    if text.chars().any(|c| is_unsafe(c) || c == '\n') {
        return Err("A path cannot contain control characters.");
    }
    let folder = document.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return Err("This path leaves the folder of the fleet. Keep the files of a fleet inside of it.");
                }
            }
            part => parts.push(part),
        }
    }
    if parts.first() == Some(&".git") {
        return Err("This path leads into the folder of git.");
    }
    Ok(parts.join("/"))
}

fn check_extension(path: &str, format: FileFormat, span: Span) -> Result<(), Box<Diagnostic>> {
    let (is_right, wanted) = match format {
        FileFormat::Json => (path.to_ascii_lowercase().ends_with(".json"), "end with `.json`"),
        FileFormat::Keys => return Ok(()),
        FileFormat::Import => (
            ImportFormat::of_path(path).is_some(),
            "end with `.csv` (IoT Central) or `.jsonl` (IoT Hub), or be `devices.txt`",
        ),
    };
    if is_right {
        return Ok(());
    }
    let detail = format!("The name of this file must {wanted}, and `{}` does not.", shown(path));
    Err(Box::new(Diagnostic::new(code::FILE_EXTENSION, span, detail)))
}

fn missing(doc: &Doc, path: &str, span: Span, input: &Input<'_>) -> Box<Diagnostic> {
    let folder = |path: &str| path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_string());
    let here = folder(path);
    let prefix = format!("{path}/");
    let is_folder = input.entries.range(prefix.clone()..).next().is_some_and(|(entry, _)| entry.starts_with(&prefix));
    if is_folder {
        let detail = format!("`{}` is a folder, and a file is needed.", shown(path));
        return Box::new(Diagnostic::new(code::NOT_A_FILE, span, detail));
    }
    let detail = format!(
        "There is no file `{}` in the fleet's folder. One that git ignores does not count, and apply reads what is \
         committed.",
        shown(path)
    );
    let diagnostic = Diagnostic::new(code::FILE_MISSING, span, detail);
    let extension = path.rsplit('.').next();
    let alike = |entry: &&str| folder(entry) == here && entry.rsplit('.').next() == extension;
    let beside = input.entries.keys().map(String::as_str).filter(alike);
    let wanted = path.rsplit('/').next();
    let elsewhere = input.entries.keys().map(String::as_str).find(|entry| entry.rsplit('/').next() == wanted);
    match nearest(path, beside).or(elsewhere) {
        Some(near) => {
            let written = relative(&doc.path, near);
            // The detail has the path from the fleet's folder, and here it is that from the document.
            let of_tree = if written == path { format!(", which is `{}`", shown(near)) } else { String::new() };
            Box::new(diagnostic.with_help(format!("Did you mean `{}`{of_tree}?", shown(&written))))
        }
        None => Box::new(diagnostic),
    }
}

/// Returns how a document would write the path of a file, the reverse of [`resolve`].
fn relative(document: &str, path: &str) -> String {
    let folder: Vec<&str> = document.rsplit_once('/').map_or(Vec::new(), |(folder, _)| folder.split('/').collect());
    let parts: Vec<&str> = path.split('/').collect();
    let shared = folder.iter().zip(&parts).take_while(|(left, right)| left == right).count();
    let up = std::iter::repeat_n("..", folder.len() - shared);
    up.chain(parts[shared..].iter().copied()).collect::<Vec<_>>().join("/")
}

/// Checks that a JSON file is a model; the error is a sentence about the file. [`edge`](super::edge) checks the content
/// of edge manifests.
fn check_model(path: &str, text: &[u8], content: &Value) -> Result<(), String> {
    /// Problems that are shown.
    const SHOWN: usize = 5;
    let text = std::str::from_utf8(text).unwrap_or_default();
    let repeated = template::repeated(text, SHOWN);
    let problems = template::read(content).err().unwrap_or_default();
    if repeated.is_empty() && problems.is_empty() {
        return Ok(());
    }
    let said = |at: Option<Position>, what: &str| {
        let place = at.map_or(String::new(), |at| format!("line {}, column {}: ", at.line, at.column));
        format!("\n  {place}{what}")
    };
    let twice = |(at, key): &(Position, String)| {
        said(Some(*at), &format!("`{}` is in this object twice, and only the last would count", shown(key)))
    };
    let line = |problem: &template::Problem| said(template::locate(text, &problem.pointer), &problem.message);
    let lines: String = repeated.iter().map(twice).chain(problems.iter().map(line)).take(SHOWN).collect();
    let more = (repeated.len() + problems.len()).saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    Err(format!("`{}` is not a model that a template can have:{lines}{more}", shown(path)))
}
