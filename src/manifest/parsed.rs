//! Files as they were parsed, each by itself, and the cache of a process that loads repeatedly.
//!
//! Nothing in a [`ParsedFile`] depends on another file or on its place among the others: its spans are in
//! [`FileId::UNPLACED`]. So a file whose content has not changed is reused, wherever it comes in the order of the
//! files.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde_json::Value;

use super::lower::{self, ParsedDoc};
use super::structure::{self, Identity, Validators};
use super::{Entry, Input, yaml};
use crate::diag::{Code, Diagnostic, FileId, SourceFile, Span, code};
use crate::model::digest::Digest;
use crate::model::entry::ContentId;
use crate::model::limits;

/// The parsed files of a tree, for reuse when the next one is loaded. It holds the files of the last load only, at most
/// [`limits::REMEMBERED_FILES_MAX`] of each kind.
#[derive(Default)]
pub struct ParsedFiles {
    /// Sorted by path.
    yaml: Vec<(ContentId, Arc<ParsedFile>)>,
    json: BTreeMap<String, (ContentId, Arc<JsonFile>)>,
    validators: Validators,
}

/// A YAML file.
pub struct ParsedFile {
    pub source: Arc<SourceFile>,
    /// The digest of its bytes; `None` when they were not read.
    pub digest: Option<Digest>,
    /// False when part of it could not be read: what it declares is not known.
    pub is_complete: bool,
    /// The problems of the file itself.
    pub found: Vec<Diagnostic>,
    pub parts: Vec<Part>,
}

/// One document of a file.
pub struct Part {
    /// The whole document.
    pub span: Span,
    pub found: Vec<Diagnostic>,
    /// `None` when it is not one of ours.
    pub doc: Option<Arc<ParsedDoc>>,
}

/// A JSON file that documents name.
#[derive(Debug)]
pub struct JsonFile {
    pub bytes: Vec<u8>,
    /// The digest of its bytes.
    pub digest: Digest,
    /// The value, or why the file is not JSON.
    pub content: Result<Value, String>,
    /// Why it cannot be the model of a template, once it was checked.
    pub model_problem: OnceLock<Option<String>>,
}

impl JsonFile {
    fn new(bytes: Vec<u8>) -> JsonFile {
        let text = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&bytes);
        let content = serde_json::from_slice(text).map_err(|error: serde_json::Error| error.to_string());
        JsonFile { digest: Digest::of_bytes(&bytes), content, bytes, model_problem: OnceLock::new() }
    }

    /// Returns the text, without a byte-order mark.
    pub fn text(&self) -> &[u8] {
        self.bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&self.bytes)
    }
}

impl ParsedFiles {
    /// Returns every YAML file of a tree, sorted by path; files that are not in the tree are forgotten.
    pub(super) fn yaml(&mut self, input: &Input<'_>) -> Vec<Arc<ParsedFile>> {
        let mut known = std::mem::take(&mut self.yaml).into_iter().peekable();
        let (mut files, mut kept) = (Vec::new(), Vec::new());
        for (path, entry) in input.entries.iter().filter(|(path, _)| super::is_yaml(path)) {
            while known.next_if(|(_, file)| file.source.path() < path.as_str()).is_some() {}
            let id = entry.id();
            let same = known.next_if(|(of, file)| file.source.path() == path && Some(*of) == id);
            let (file, id) = match same {
                Some((of, file)) => (file, Some(of)),
                None => {
                    let file = Arc::new(read(path, *entry, input, &mut self.validators));
                    // A file that could not be read may be readable the next time.
                    let is_read = file.digest.is_some();
                    (file, id.filter(|_| is_read))
                }
            };
            if let Some(id) = id
                && kept.len() < limits::REMEMBERED_FILES_MAX
            {
                kept.push((id, Arc::clone(&file)));
            }
            files.push(file);
        }
        self.yaml = kept;
        files
    }

    /// Returns a JSON file.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(super) fn json(&mut self, path: &str, input: &Input<'_>) -> Result<Arc<JsonFile>, String> {
        let id = input.entries.get(path).and_then(|entry| entry.id());
        if let Some((of, file)) = self.json.get(path)
            && Some(*of) == id
        {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(JsonFile::new((input.read)(path)?));
        if let Some(id) = id
            && self.json.len() < limits::REMEMBERED_FILES_MAX
        {
            self.json.insert(path.to_string(), (id, Arc::clone(&file)));
        }
        Ok(file)
    }

    /// Forgets the JSON files that no document names any more.
    pub(super) fn keep_json(&mut self, named: &BTreeMap<String, Arc<JsonFile>>) {
        self.json.retain(|path, _| named.contains_key(path));
    }
}

/// Returns a file that is not parsed, with the reason.
fn refused(path: &str, code: Code, detail: impl Into<String>) -> ParsedFile {
    let span = Span { file: FileId::UNPLACED, start: 0, end: 0 };
    ParsedFile {
        source: Arc::new(SourceFile::new(path, "")),
        digest: None,
        is_complete: false,
        found: vec![Diagnostic::new(code, span, detail)],
        parts: Vec::new(),
    }
}

fn read(path: &str, entry: Entry, input: &Input<'_>, validators: &mut Validators) -> ParsedFile {
    let too_large = |size: u64| {
        let detail = format!(
            "The file has {size} bytes, and at most {} are read. Split it into several files.",
            limits::YAML_FILE_BYTES_MAX
        );
        refused(path, code::FILE_TOO_LARGE, detail)
    };
    let size = match entry {
        Entry::File { size, .. } => size,
        Entry::Symlink => {
            let detail = "This is a symbolic link, which may lead out of the repository. Put the file itself there.";
            return refused(path, code::NOT_A_FILE, detail);
        }
        Entry::Submodule => {
            return refused(path, code::NOT_A_FILE, "This is a submodule with the name of a file.");
        }
    };
    if size > limits::YAML_FILE_BYTES_MAX as u64 {
        return too_large(size);
    }
    let bytes = match (input.read)(path) {
        Ok(bytes) => bytes,
        Err(problem) => {
            let detail = format!("The file cannot be read: {}.", crate::diag::shown(&problem));
            return refused(path, code::UNREADABLE, detail);
        }
    };
    if bytes.len() > limits::YAML_FILE_BYTES_MAX {
        return too_large(bytes.len() as u64);
    }
    parse_bytes(path, bytes, validators)
}

/// Returns a file of some bytes.
pub fn parse_bytes(path: &str, bytes: Vec<u8>, validators: &mut Validators) -> ParsedFile {
    let digest = Some(Digest::of_bytes(&bytes));
    match decode(bytes) {
        Ok(text) => ParsedFile { digest, ..parse(path, text, validators) },
        Err((text, problem)) => ParsedFile {
            source: Arc::new(SourceFile::new(path, text)),
            digest,
            is_complete: false,
            found: vec![*problem],
            parts: Vec::new(),
        },
    }
}

/// Returns the text of a file; when it is not plain UTF-8 text, its usable part and a diagnostic.
fn decode(bytes: Vec<u8>) -> Result<String, (String, Box<Diagnostic>)> {
    let file = FileId::UNPLACED;
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let start = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
            let span = Span { file, start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
            let detail = format!("The byte 0x{:02x} does not belong to a UTF-8 character.", error.as_bytes()[start]);
            let help = "Save the file as UTF-8.";
            return Err((text, Box::new(Diagnostic::new(code::NOT_UTF8, span, detail).with_help(help))));
        }
    };
    match find_control(&text) {
        None => Ok(text),
        Some((start, c)) => {
            let span = Span { file, start, end: start + c.len_utf8() };
            let detail = format!("The character U+{:04X} may not stand in a YAML file.", u32::from(c));
            let diagnostic = Diagnostic::new(code::CONTROL_CHARACTER, span, detail).with_help("Remove it.");
            Err((text, Box::new(diagnostic)))
        }
    }
}

/// Returns the first character that YAML does not allow (YAML 1.2.2, section 5.1), and where it is.
fn find_control(text: &str) -> Option<(usize, char)> {
    // Nearly every file is plain ASCII, and bytes are quicker to look at than characters.
    if text.bytes().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~')) {
        return None;
    }
    let illegal =
        |c: char| (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}');
    text.char_indices().find(|(_, c)| illegal(*c))
}

fn parse(path: &str, text: String, validators: &mut Validators) -> ParsedFile {
    let (parsed, found) = yaml::parse(FileId::UNPLACED, &text);
    let is_complete = parsed.is_complete && parsed.documents.iter().all(|document| document.is_sound);
    let part = |root: super::node::Node| {
        let (identity, found) = structure::identify(&root);
        let mut part = Part { span: root.span, found: found.into_iter().collect(), doc: None };
        if let Identity::Ours(kind) = identity {
            let (doc, found) = lower::lower(kind, root, path, &text, validators);
            part.found.extend(found.iter().cloned());
            part.doc = Some(Arc::new(doc));
        }
        part
    };
    let sound = parsed.documents.into_iter().filter(|document| document.is_sound);
    let parts = sound.map(|document| document.root).map(part).collect();
    let found = found.iter().cloned().collect();
    ParsedFile { source: Arc::new(SourceFile::new(path, text)), digest: None, is_complete, found, parts }
}
