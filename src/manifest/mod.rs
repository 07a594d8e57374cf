//! What users write: YAML documents in, [`Declared`] and diagnostics out.
//!
//! A pure room: the caller names the files of the tree and lends a function that reads them. Files become spanned trees
//! (`yaml.rs`), trees become wire types (`structure.rs`, `v1.rs`), wire types become drafts (`lower`), and the `rules`
//! look at all drafts together. Every file is checked: an error never hides those of other documents.

mod assemble;
mod edge;
pub mod edit;
mod editors;
mod lower;
mod node;
mod outline;
mod parsed;
mod rules;
mod scalar;
mod scheduled;
mod schema;
mod spans;
mod structure;
#[cfg(test)]
mod tests;
mod v1;
mod valid;
mod values;
mod words;
mod write;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diag::{Diagnostic, Diagnostics, SourceFile, SourceMap, Span, code};
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::model::limits;
use lower::Doc;
use rules::Set;

pub use crate::model::entry::Entry;
pub use editors::{SCHEMA_PATH, schema_line, schema_of_all, schema_of_all_text, with_schema_line};
pub use lower::{parse_url as parse_broker_url, prefix_problem as topic_prefix_problem};
pub use outline::{Outline, Outlined, outline};
pub use parsed::ParsedFiles;
pub use scheduled::scheduled_job;
pub use schema::{file_name as schema_file_name, schema, schema_text};
pub use spans::JobSpans;
pub use v1::API_VERSION;
pub use valid::{ValidSubset, error_places, hold_at, load_valid, load_valid_again, load_valid_without};
pub use values::{duration as parse_duration, probability as parse_probability};
pub use words::may_mention;
pub use write::document_text;

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
    /// Every path of the tree, relative to the fleet's folder, without those of git and of nested fleets.
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
    pub spans: JobSpans,
    /// Covers the path and bytes of every declared file except import files, which are not read here.
    pub digest: Digest,
    /// The YAML files with documents of ours and the files that they name, sorted.
    pub declared_files: Vec<String>,
}

impl Loaded {
    /// Returns what is known of a job that could be read, whatever errors other documents have.
    pub fn job(&self, name: &str) -> Option<SeenJob> {
        let job = self.spans.job(name)?;
        Some(SeenJob {
            name: job.name.clone(),
            run: job.run.clone(),
            is_suspended: job.suspend,
            file: job.file.clone(),
        })
    }

    /// Returns the name and the file, relative to the fleet's folder, of a schedule that could be read, whatever errors
    /// other documents have.
    pub fn schedule(&self, name: &str) -> Option<(&Name, &str)> {
        self.spans.schedule(name).map(|schedule| (&schedule.name, schedule.file.as_str()))
    }
}

/// A job as read from a tree that may have errors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenJob {
    pub name: Name,
    pub run: RunToken,
    pub is_suspended: bool,
    /// Its file, relative to the fleet's folder.
    pub file: String,
}

/// Reads everything that a tree declares.
pub fn load(input: &Input<'_>) -> Loaded {
    let mut known = ParsedFiles::default();
    let Read { set, mut sources, mut diagnostics, digests } = Read::all(input, &mut known);
    let Judged { paths, named, found } = judge(&set, input, &mut sources, &mut known);
    diagnostics.extend(found);
    let files = declared_files(&named, &digests);
    let declared = (!diagnostics.has_errors()).then(|| assemble::assemble(&set.docs, &paths, &named));
    Loaded {
        declared,
        diagnostics,
        digest: files.digest,
        declared_files: files.paths,
        spans: JobSpans::new(set),
        sources,
    }
}

/// The documents of a tree, each read by itself.
struct Read {
    set: Set,
    sources: SourceMap,
    diagnostics: Diagnostics,
    /// The files with documents, by path, and the digests of their bytes.
    digests: Vec<(Arc<SourceFile>, Digest)>,
}

impl Read {
    fn all(input: &Input<'_>, known: &mut ParsedFiles) -> Read {
        let (mut sources, mut diagnostics, mut digests) = (SourceMap::new(), Diagnostics::new(), Vec::new());
        let (mut docs, mut unread) = (Vec::new(), Vec::new());
        for parsed in known.yaml(input) {
            let file = sources.share(Arc::clone(&parsed.source));
            if !parsed.is_complete {
                unread.push(file);
            }
            parsed.found.iter().for_each(|found| diagnostics.push(found.clone().placed(file)));
            let had = docs.len();
            for part in &parsed.parts {
                if part.doc.is_some() && docs.len() == limits::DOCUMENTS_MAX {
                    let detail = format!("A fleet has at most {} documents.", limits::DOCUMENTS_MAX);
                    diagnostics.push(Diagnostic::new(code::TOO_MANY_DOCUMENTS, part.span.placed(file), detail));
                    break;
                }
                part.found.iter().for_each(|found| diagnostics.push(found.clone().placed(file)));
                docs.extend(part.doc.as_ref().map(|doc| Doc::new(file, Arc::clone(doc))));
            }
            if docs.len() > had {
                digests.extend(parsed.digest.map(|digest| (Arc::clone(&parsed.source), digest)));
            }
        }
        Read { set: Set::new(docs, unread), sources, diagnostics, digests }
    }
}

/// The results of the rules on a set of documents.
struct Judged {
    paths: rules::organizations::Paths,
    named: rules::files::Named,
    found: Diagnostics,
}

fn judge(set: &Set, input: &Input<'_>, sources: &mut SourceMap, known: &mut ParsedFiles) -> Judged {
    let (paths, mut found) = rules::organizations::check(set);
    let (named, of_files) = rules::files::check(set, input, known);
    found.extend(of_files);
    found.extend(rules::edge::check(set, &named, sources));
    found.extend(rules::fleet::check(set));
    found.extend(rules::names::check(set));
    found.extend(rules::references::check(set, &paths, sources));
    found.extend(rules::order::check(set));
    found.extend(rules::effect::check(set));
    found.extend(rules::numbers::check(set, &named));
    found.extend(rules::outside::check(set, &paths));
    found.extend(rules::schedules::check(set));
    found.extend(rules::queries::check(set, input.check_query, sources));
    Judged { paths, named, found }
}

/// The files that declare the fleet.
struct DeclaredFiles {
    /// Sorted.
    paths: Vec<String>,
    /// Covers the path and bytes of each file except import files.
    digest: Digest,
}

fn declared_files(named: &rules::files::Named, digests: &[(Arc<SourceFile>, Digest)]) -> DeclaredFiles {
    // Sorted already, but for the few files that documents name.
    let mut files: Vec<(&str, Digest)> = digests.iter().map(|(file, digest)| (file.path(), *digest)).collect();
    let mut paths: Vec<&str> = files.iter().map(|(path, _)| *path).collect();
    files.extend(named.files.iter().map(|(path, file)| (path.as_str(), file.digest)));
    files.sort_by_key(|(path, _)| *path);
    files.dedup_by(|(path, digest), (first, of_first)| {
        let is_same = path == first;
        if is_same {
            *of_first = *digest;
        }
        is_same
    });
    paths.extend(named.all.iter().map(String::as_str));
    paths.sort_unstable();
    paths.dedup();
    let digest = Digest::of_entries(files.iter().map(|(path, digest)| (*path, digest)));
    DeclaredFiles { paths: paths.into_iter().map(str::to_string).collect(), digest }
}

/// Returns the document that contains a place: the last one of its file that begins at or before it. Documents are
/// sorted by place.
fn document_at(docs: &[Doc], span: Span) -> Option<usize> {
    let place = (span.file, span.start.max(span.end));
    let after = docs.partition_point(|doc| (doc.file, doc.root.span.start) <= place);
    let at = after.checked_sub(1)?;
    (docs[at].file == span.file).then_some(at)
}

/// Returns true for the files that may hold documents: `*.yaml` and `*.yml` outside of folders whose name starts with a
/// dot.
pub fn is_yaml(path: &str) -> bool {
    let is_hidden = path.split('/').any(|part| part.starts_with('.'));
    !is_hidden && (path.ends_with(".yaml") || path.ends_with(".yml"))
}
