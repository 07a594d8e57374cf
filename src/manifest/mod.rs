//! What users write: YAML documents in, [`Declared`] and diagnostics out.
//!
//! A pure room: the caller names the files of the tree and lends a function that reads them. Files become spanned trees
//! (`yaml.rs`), trees become wire types (`structure.rs`, `v1.rs`), wire types become drafts (`lower`), and the `rules` look at all
//! drafts together. Every file is checked: an error never hides those of other documents.

mod assemble;
mod edge;
pub mod edit;
mod kind;
mod lower;
mod node;
mod rules;
mod scalar;
mod schema;
mod sound;
mod spans;
mod structure;
#[cfg(test)]
mod tests;
mod v1;
mod values;
mod write;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};

use crate::diag::{Diagnostic, Diagnostics, FileId, SourceMap, Span, code};
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::model::limits;
use lower::{Doc, Draft};
use rules::Set;
use structure::{Identity, Validators};

pub use kind::Kind;
pub use schema::{file_name as schema_file_name, schema, schema_text};
pub use sound::{Sound, error_places, load_sound};
pub use spans::JobSpans;
pub use v1::API_VERSION;
pub use values::{duration as parse_duration, probability as parse_probability};
pub use write::document_text;

/// One entry of the tree of the fleet, relative to its folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// A regular file, executable or not.
    File {
        /// In bytes.
        size: u64,
    },
    Symlink,
    Submodule,
}

/// A problem of a condition; `start` and `end` are bytes of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryProblem {
    pub start: usize,
    pub end: usize,
    /// A sentence.
    pub message: String,
    pub help: Option<String>,
}

/// Returns every problem of the text of a condition; empty when it is legal.
pub type QueryCheck = fn(&str) -> Vec<QueryProblem>;

/// A tree to read.
pub struct Input<'a> {
    /// Every path of the tree, without those of git and of nested fleets.
    pub entries: &'a BTreeMap<String, Entry>,
    /// Returns the bytes of a regular file of `entries`, or why it cannot be read.
    pub read: &'a dyn Fn(&str) -> Result<Vec<u8>, String>,
    pub check_query: QueryCheck,
}

/// What a tree declares.
#[derive(Debug)]
pub struct Loaded {
    /// `None` when there are errors.
    pub declared: Option<Declared>,
    /// The texts that the diagnostics point into.
    pub sources: SourceMap,
    pub diagnostics: Diagnostics,
    /// The jobs that could be read, whatever is wrong with others.
    pub jobs: BTreeMap<Name, SeenJob>,
    /// The files, relative to the fleet's folder, of the schedules that could be read.
    pub schedules: BTreeMap<Name, String>,
    pub spans: JobSpans,
    /// Of path and bytes of every declared file but the ones of imports, which are not read here.
    pub digest: Digest,
    /// The YAML files with documents of ours and the files that they name, sorted.
    pub declared_files: Vec<String>,
}

/// What is known of a job although there may be errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenJob {
    pub run: RunToken,
    pub is_suspended: bool,
    /// Its file, relative to the fleet's folder.
    pub file: String,
}

/// Reads everything that a tree declares.
pub fn load(input: &Input<'_>) -> Loaded {
    let Read { mut set, mut sources, mut diagnostics, digests } = Read::all(input);
    let Judged { paths, named, found } = judge(&set, input, &mut sources);
    diagnostics.extend(found);
    let (jobs, schedules) = (seen_jobs(&set.docs), seen_schedules(&set.docs));
    let files = declared_files(&set.docs, &named, &digests);
    let declared = (!diagnostics.has_errors()).then(|| assemble::assemble(&mut set.docs, &paths, &named));
    Loaded {
        declared,
        diagnostics,
        jobs,
        schedules,
        digest: files.digest,
        declared_files: files.paths,
        spans: JobSpans::new(set.docs),
        sources,
    }
}

/// The documents of a tree, each read for itself.
struct Read {
    set: Set,
    sources: SourceMap,
    diagnostics: Diagnostics,
    digests: BTreeMap<String, Digest>,
}

impl Read {
    fn all(input: &Input<'_>) -> Read {
        let mut reader = Reader::default();
        for (path, entry) in input.entries.iter().filter(|(path, _)| is_yaml(path)) {
            reader.file(path, *entry, input);
        }
        let Reader { sources, diagnostics, docs, unread, digests, .. } = reader;
        Read { set: Set::new(docs, unread), sources, diagnostics, digests }
    }
}

/// What the rules say about a set of documents.
struct Judged {
    paths: rules::organizations::Paths,
    named: rules::files::Named,
    found: Diagnostics,
}

fn judge(set: &Set, input: &Input<'_>, sources: &mut SourceMap) -> Judged {
    let (paths, mut found) = rules::organizations::check(set);
    let (named, of_files) = rules::files::check(set, input);
    found.extend(of_files);
    found.extend(rules::edge::check(set, &named, sources));
    found.extend(rules::fleet::check(set));
    found.extend(rules::names::check(set));
    found.extend(rules::references::check(set, &paths, sources));
    found.extend(rules::order::check(set));
    found.extend(rules::effect::check(set));
    found.extend(rules::outside::check(set, &paths));
    found.extend(rules::schedules::check(set));
    found.extend(rules::queries::check(set, input.check_query, sources));
    Judged { paths, named, found }
}

fn seen_jobs(docs: &[Doc]) -> BTreeMap<Name, SeenJob> {
    let jobs = docs.iter().filter_map(|doc| match &doc.draft {
        Some(Draft::Job { job, .. }) => {
            let seen = SeenJob { run: job.run.clone(), is_suspended: job.suspend, file: job.file.clone() };
            Some((job.name.clone(), seen))
        }
        _ => None,
    });
    jobs.collect()
}

fn seen_schedules(docs: &[Doc]) -> BTreeMap<Name, String> {
    let schedules = docs.iter().filter_map(|doc| match &doc.draft {
        Some(Draft::Schedule { schedule, .. }) => Some((schedule.name.clone(), schedule.file.clone())),
        _ => None,
    });
    schedules.collect()
}

/// The files that say what is declared.
struct DeclaredFiles {
    /// Sorted.
    paths: Vec<String>,
    /// Of path and bytes of each but the files of imports.
    digest: Digest,
}

fn declared_files(docs: &[Doc], named: &rules::files::Named, digests: &BTreeMap<String, Digest>) -> DeclaredFiles {
    let yaml: BTreeSet<&str> = docs.iter().map(|doc| doc.path.as_str()).collect();
    let mut files: BTreeMap<&str, Digest> = digests.iter().map(|(path, digest)| (path.as_str(), *digest)).collect();
    files.retain(|path, _| yaml.contains(path));
    files.extend(named.bytes.iter().map(|(path, bytes)| (path.as_str(), Digest::of_bytes(bytes))));
    let framed: Vec<String> = files.iter().flat_map(|(path, digest)| [path.to_string(), digest.to_string()]).collect();
    let paths: BTreeSet<String> = yaml.iter().map(|path| path.to_string()).chain(named.all.iter().cloned()).collect();
    DeclaredFiles { paths: paths.into_iter().collect(), digest: Digest::of_texts(framed.iter().map(String::as_str)) }
}

/// Returns true for the files that may hold documents: `*.yaml` and `*.yml` outside of folders whose name starts with a dot.
pub fn is_yaml(path: &str) -> bool {
    let is_hidden = path.split('/').any(|part| part.starts_with('.'));
    !is_hidden && (path.ends_with(".yaml") || path.ends_with(".yml"))
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

#[derive(Default)]
struct Reader {
    sources: SourceMap,
    diagnostics: Diagnostics,
    docs: Vec<Doc>,
    unread: Vec<FileId>,
    digests: BTreeMap<String, Digest>,
    validators: Validators,
}

impl Reader {
    fn file(&mut self, path: &str, entry: Entry, input: &Input<'_>) {
        let size = match entry {
            Entry::File { size } => size,
            Entry::Symlink => {
                let detail =
                    "This is a symbolic link, which may lead out of the repository. Put the file itself there.";
                return self.refuse(path, code::NOT_A_FILE, detail);
            }
            Entry::Submodule => {
                return self.refuse(path, code::NOT_A_FILE, "This is a submodule with the name of a file.");
            }
        };
        if size > limits::YAML_FILE_BYTES_MAX as u64 {
            return self.refuse_size(path, size);
        }
        let bytes = match (input.read)(path) {
            Ok(bytes) => bytes,
            Err(problem) => {
                let detail = format!("The file cannot be read: {}.", crate::diag::shown(&problem));
                return self.refuse(path, code::UNREADABLE, &detail);
            }
        };
        if bytes.len() > limits::YAML_FILE_BYTES_MAX {
            return self.refuse_size(path, bytes.len() as u64);
        }
        self.digests.insert(path.to_string(), Digest::of_bytes(&bytes));
        if let Some(file) = self.decode(path, bytes) {
            self.documents(file);
        }
    }

    fn refuse_size(&mut self, path: &str, size: u64) {
        let detail = format!(
            "The file has {size} bytes, and at most {} are read. Split it into several files.",
            limits::YAML_FILE_BYTES_MAX
        );
        self.refuse(path, code::FILE_TOO_LARGE, &detail);
    }

    /// Reports a whole file, whose text is not looked at.
    fn refuse(&mut self, path: &str, code: crate::diag::Code, detail: &str) {
        let file = self.sources.add(path, "");
        self.unread.push(file);
        self.diagnostics.push(Diagnostic::new(code, Span { file, start: 0, end: 0 }, detail));
    }

    /// Adds a file to the sources; `None`, with a diagnostic, when it is not plain UTF-8 text.
    fn decode(&mut self, path: &str, bytes: Vec<u8>) -> Option<FileId> {
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let start = error.utf8_error().valid_up_to();
                let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
                let file = self.sources.add(path, text);
                self.unread.push(file);
                let span = Span { file, start, end: start + char::REPLACEMENT_CHARACTER.len_utf8() };
                let detail =
                    format!("The byte 0x{:02x} does not belong to a UTF-8 character.", error.as_bytes()[start]);
                let help = "Save the file as UTF-8.";
                self.diagnostics.push(Diagnostic::new(code::NOT_UTF8, span, detail).with_help(help));
                return None;
            }
        };
        let found = find_control(&text);
        let file = self.sources.add(path, text);
        if let Some((start, c)) = found {
            self.unread.push(file);
            let span = Span { file, start, end: start + c.len_utf8() };
            let detail = format!("The character U+{:04X} may not stand in a YAML file.", u32::from(c));
            let help = "Remove it.";
            self.diagnostics.push(Diagnostic::new(code::CONTROL_CHARACTER, span, detail).with_help(help));
            return None;
        }
        Some(file)
    }

    fn documents(&mut self, file: FileId) {
        let (parsed, found) = yaml::parse(file, self.sources.text(file));
        self.diagnostics.extend(found);
        if !parsed.is_complete || parsed.documents.iter().any(|document| !document.is_sound) {
            self.unread.push(file);
        }
        for document in parsed.documents.into_iter().filter(|document| document.is_sound) {
            let (identity, found) = structure::identify(&document.root);
            found.into_iter().for_each(|diagnostic| self.diagnostics.push(diagnostic));
            let Identity::Ours(kind) = identity else { continue };
            if self.docs.len() == limits::DOCUMENTS_MAX {
                let detail = format!("A fleet has at most {} documents.", limits::DOCUMENTS_MAX);
                self.diagnostics.push(Diagnostic::new(code::TOO_MANY_DOCUMENTS, document.root.span, detail));
                return;
            }
            let (sources, diagnostics) = (&self.sources, &mut self.diagnostics);
            self.docs.push(lower::lower(kind, document.root, file, sources, &mut self.validators, diagnostics));
        }
    }
}
