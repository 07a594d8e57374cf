//! The valid documents of a tree with errors, for a daemon that continues with those.

use std::collections::{BTreeMap, BTreeSet};

use super::lower::Doc;
use super::rules::Set;
use super::spans::JobSpans;
use super::{Input, Judged, Loaded, ParsedFiles, Read, assemble, declared_files, document_at, judge};
use crate::diag::{Code, Diagnostic, Diagnostics, Severity, SourceMap, Span, code};
use crate::model::fleet::{FilePlace, HeldDocuments, Hold};
use crate::model::id::Name;
use crate::model::kind::Kind;

/// A tree without the documents that have errors, and without those that need one of them.
#[derive(Debug)]
pub struct ValidSubset {
    /// `declared` is `None` only when the Fleet document itself cannot be used; the diagnostics are those of the whole
    /// tree.
    pub loaded: Loaded,
    pub held: HeldDocuments,
}

/// Reads the valid documents of a tree.
pub fn load_valid(input: &Input<'_>) -> ValidSubset {
    load_valid_again(input, &mut ParsedFiles::default())
}

/// Same as [`load_valid`], but files that have not changed are not read again.
pub fn load_valid_again(input: &Input<'_>, known: &mut ParsedFiles) -> ValidSubset {
    load_valid_without(input, known, &BTreeMap::new())
}

/// Same as [`load_valid_again`], without some documents: those that need them are held too.
pub fn load_valid_without(
    input: &Input<'_>,
    known: &mut ParsedFiles,
    refused: &BTreeMap<(Kind, Name), Hold>,
) -> ValidSubset {
    let Read { mut set, mut sources, mut diagnostics, digests } = Read::all(input, known);
    let mut held = HeldDocuments { is_partial: !set.unread.is_empty(), ..HeldDocuments::default() };
    let (mut bad, mut files) = (Vec::new(), None);
    // Each iteration holds at least one document, or is the last.
    let (paths, named) = loop {
        let Judged { paths, named, mut found } = judge(&set, input, &mut sources, known);
        if bad.is_empty() && files.is_none() {
            known.keep_json(&named.files);
            files = Some(declared_files(&named, &digests));
            found.iter().for_each(|one| diagnostics.push(one.clone()));
            found = diagnostics.clone();
            held.files = files_of(&set.docs, &found, &sources);
        }
        let mut unusable = unusable(&set.docs, &found, &sources);
        let is_first = bad.is_empty();
        if is_first {
            unusable.extend(refused_of(&set.docs, refused));
        }
        // A file that could not be read only keeps a reference to nothing from being reported.
        let has_excuse = !set.unread.is_empty();
        if unusable.is_empty() && !(is_first && has_excuse) {
            break (paths, named);
        }
        let (mut kept, old) = (Vec::new(), std::mem::take(&mut set.docs));
        for (at, doc) in old.into_iter().enumerate() {
            match unusable.get(&at) {
                Some(hold) => {
                    let mut hold = hold.clone();
                    if !is_first {
                        hold.why = format!("it needs what is held: {}", hold.why);
                        hold.former = None;
                    }
                    held.note(&doc, hold, &sources);
                    bad.push(doc);
                }
                None => kept.push(doc),
            }
        }
        set = Set::new(kept, Vec::new());
    };
    // What is not there any more, and must not be taken for deleted.
    for (key, hold) in refused {
        held.documents.entry(key.clone()).or_insert_with(|| hold.clone());
    }
    let files = files.expect("the first turn has listed the files");
    let has_fleet = set.docs.iter().any(|doc| doc.kind == Kind::Fleet);
    let declared = has_fleet.then(|| assemble::assemble(&set.docs, &paths, &named));
    if !bad.is_empty() {
        set.add(bad);
    }
    let loaded = Loaded {
        declared,
        diagnostics,
        digest: files.digest,
        declared_files: files.paths,
        spans: JobSpans::new(set),
        sources,
    };
    ValidSubset { loaded, held }
}

/// Returns the documents that are refused, by index.
fn refused_of(docs: &[Doc], refused: &BTreeMap<(Kind, Name), Hold>) -> BTreeMap<usize, Hold> {
    let of = |(at, doc): (usize, &Doc)| Some((at, refused.get(&(doc.kind, doc.name.clone()?))?.clone()));
    docs.iter().enumerate().filter_map(of).collect()
}

/// Returns the documents that errors are about, by index, each with the first sentence that says why.
fn unusable(docs: &[Doc], found: &Diagnostics, sources: &SourceMap) -> BTreeMap<usize, Hold> {
    let mut unusable = BTreeMap::new();
    for error in found.iter().filter(|one| one.severity == Severity::Error) {
        for place in error_places(error) {
            if let Some(at) = document_at(docs, place) {
                unusable.entry(at).or_insert_with(|| hold_at(error, place, sources));
            }
        }
    }
    for (at, doc) in docs.iter().enumerate().filter(|(_, doc)| doc.name.is_none() || doc.draft.is_none()) {
        unusable.entry(at).or_insert_with(|| Hold {
            why: "it cannot be read".to_string(),
            code: None,
            place: Some(place_of(doc.root.span, sources)),
            former: None,
        });
    }
    unusable
}

/// Returns the files with errors that are about no document, by path: files that cannot be parsed or have no known
/// kind.
fn files_of(docs: &[Doc], found: &Diagnostics, sources: &SourceMap) -> BTreeMap<String, Hold> {
    let mut files = BTreeMap::new();
    for error in found.iter().filter(|one| one.severity == Severity::Error) {
        let has_document = error_places(error).into_iter().any(|place| document_at(docs, place).is_some());
        if let Some(span) = error.span.filter(|_| !has_document) {
            files.entry(sources.path(span.file).to_string()).or_insert_with(|| hold_at(error, span, sources));
        }
    }
    files
}

/// Returns the hold that an error causes at one of its places.
pub fn hold_at(error: &Diagnostic, place: Span, sources: &SourceMap) -> Hold {
    Hold {
        why: error.detail.lines().next().unwrap_or_default().to_string(),
        code: Some(error.code.0),
        place: Some(place_of(place, sources)),
        former: None,
    }
}

fn place_of(span: Span, sources: &SourceMap) -> FilePlace {
    FilePlace { path: sources.path(span.file).to_string(), line: sources.position(span).line as u64 }
}

/// Returns the places of an error: both places of one about two documents, and the documents that name the file of one
/// in a file.
pub fn error_places(error: &Diagnostic) -> BTreeSet<Span> {
    const ABOUT_LABELS: [Code; 10] = [
        code::DUPLICATE_NAME,
        code::SHARED_NAME,
        code::CONFLICT,
        code::EDGE_MODULES,
        code::EDGE_AGENT,
        code::EDGE_HUB,
        code::EDGE_MODULE_NAME,
        code::EDGE_ROUTE,
        code::EDGE_PATHS,
        code::EDGE_TWIN,
    ];
    let others = error.labels.iter().map(|(span, _)| *span).filter(|_| ABOUT_LABELS.contains(&error.code));
    error.span.into_iter().chain(others).collect()
}

impl HeldDocuments {
    fn note(&mut self, doc: &Doc, hold: Hold, sources: &SourceMap) {
        match &doc.name {
            Some(name) => drop(self.documents.insert((doc.kind, name.clone()), hold)),
            None => {
                self.is_partial = true;
                self.files.entry(sources.path(doc.file).to_string()).or_insert(hold);
            }
        }
    }
}
