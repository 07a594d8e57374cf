//! What can be used of a tree with errors in it: every document without one, for a daemon that goes on with those.

use std::collections::{BTreeMap, BTreeSet};

use super::kind::Kind;
use super::lower::Doc;
use super::rules::Set;
use super::spans::JobSpans;
use super::{Input, Judged, Loaded, ParsedFiles, Read, assemble, declared_files, document_at, judge};
use crate::diag::{Code, Diagnostic, Diagnostics, Severity, Span, code};
use crate::model::fleet::Held;
use crate::model::id::Name;

/// A tree without the documents that have errors, and without those that need one of them.
#[derive(Debug)]
pub struct Sound {
    /// `declared` is `None` only when the Fleet document itself cannot be used; the diagnostics are those of the whole tree.
    pub loaded: Loaded,
    pub held: Held,
}

/// Reads everything that can be used of a tree.
pub fn load_sound(input: &Input<'_>) -> Sound {
    load_sound_again(input, &mut ParsedFiles::default())
}

/// Returns what [`load_sound`] returns. What was read before and has not changed is not read again.
pub fn load_sound_again(input: &Input<'_>, known: &mut ParsedFiles) -> Sound {
    let Read { mut set, mut sources, mut diagnostics, digests } = Read::all(input, known);
    let mut held = Held { is_partial: !set.unread.is_empty(), ..Held::default() };
    let (mut bad, mut files) = (Vec::new(), None);
    // Each turn holds a document at least, or is the last.
    let (paths, named) = loop {
        let Judged { paths, named, mut found } = judge(&set, input, &mut sources, known);
        if bad.is_empty() && files.is_none() {
            known.keep_json(&named.files);
            files = Some(declared_files(&named, &digests));
            found.iter().for_each(|one| diagnostics.push(one.clone()));
            found = diagnostics.clone();
        }
        let unusable = unusable(&set.docs, &found);
        let is_first = bad.is_empty();
        // What could not be read excuses a reference only from being reported.
        let has_excuse = !set.unread.is_empty();
        if unusable.is_empty() && !(is_first && has_excuse) {
            break (paths, named);
        }
        let (mut kept, old) = (Vec::new(), std::mem::take(&mut set.docs));
        for (at, doc) in old.into_iter().enumerate() {
            match unusable.get(&at) {
                Some(why) => {
                    let why = if is_first { why.clone() } else { format!("it needs what is held: {why}") };
                    held.note(doc.kind, doc.name.as_ref(), &why);
                    bad.push(doc);
                }
                None => kept.push(doc),
            }
        }
        set = Set::new(kept, Vec::new());
    };
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
    Sound { loaded, held }
}

/// Returns the documents that errors are about, by index, each with the first sentence that says why.
fn unusable(docs: &[Doc], found: &Diagnostics) -> BTreeMap<usize, String> {
    let mut unusable = BTreeMap::new();
    for error in found.iter().filter(|one| one.severity == Severity::Error) {
        for at in error_places(error).into_iter().filter_map(|span| document_at(docs, span)) {
            unusable.entry(at).or_insert_with(|| error.detail.clone());
        }
    }
    for (at, _) in docs.iter().enumerate().filter(|(_, doc)| doc.name.is_none() || doc.draft.is_none()) {
        unusable.entry(at).or_insert_with(|| "it cannot be read".to_string());
    }
    unusable
}

/// Returns where an error is; of one about two documents, both places, and of one in a file that documents name these too.
pub fn error_places(error: &Diagnostic) -> BTreeSet<Span> {
    const ABOUT_LABELS: [Code; 11] = [
        code::DUPLICATE_NAME,
        code::SHARED_NAME,
        code::CONFLICT,
        code::EDGE_MODULES,
        code::EDGE_AGENT,
        code::EDGE_HUB,
        code::EDGE_MODULE_NAME,
        code::EDGE_ROUTE,
        code::EDGE_UNKNOWN_MODULE,
        code::EDGE_PATHS,
        code::EDGE_TWIN,
    ];
    let others = error.labels.iter().map(|(span, _)| *span).filter(|_| ABOUT_LABELS.contains(&error.code));
    error.span.into_iter().chain(others).collect()
}

impl Held {
    fn note(&mut self, kind: Kind, name: Option<&Name>, why: &str) {
        let Some(name) = name else {
            self.is_partial = true;
            return;
        };
        let why = why.lines().next().unwrap_or_default().to_string();
        self.documents.insert((kind.as_str().to_string(), name.clone()), why);
    }
}
