//! The places of the fields of the documents, for rooms that find problems later.

use serde_json::Value;

use super::document_at;
use super::lower::{self, Doc, Draft};
use super::node::Node;
use super::rules::Set;
use crate::diag::Span;
use crate::model::digest::{Digest, canonical_json};
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::kind::Kind;
use crate::model::schedule::Schedule;

/// The documents by kind and name, as trees with places.
#[derive(Debug)]
pub struct JobSpans {
    /// Sorted by place.
    set: Set,
}

impl JobSpans {
    pub(super) fn new(set: Set) -> JobSpans {
        JobSpans { set }
    }

    fn find(&self, kind: Kind, name: &Name) -> Option<&Doc> {
        self.set.find(kind, name.as_str())
    }

    /// Returns the first job of a name, as far as it could be read.
    pub(super) fn job(&self, name: &str) -> Option<&Job> {
        match self.set.find(Kind::Job, name)?.draft.as_ref()? {
            Draft::Job { job, .. } => Some(job),
            _ => None,
        }
    }

    /// Returns the first schedule of a name, as far as it could be read.
    pub(super) fn schedule(&self, name: &str) -> Option<&Schedule> {
        match self.set.find(Kind::Schedule, name)?.draft.as_ref()? {
            Draft::Schedule { schedule, .. } => Some(schedule),
            _ => None,
        }
    }

    /// Returns where a JSON pointer such as `/spec/action/property/light/threshold` leads in a job's document.
    ///
    /// A scalar has its own span, a collection that of its key. When nothing is there, the nearest parent stands in.
    /// `None` when there is no such job. Pointers into the job of a schedule are those of a job on its own.
    pub fn span(&self, job: &Name, pointer: &str) -> Option<Span> {
        self.span_of(Kind::Job, job, pointer).or_else(|| {
            // Other pointers, such as that of the name, are those of any document.
            let scheduled = lower::scheduled_pointer(pointer);
            self.span_of(Kind::Schedule, job, scheduled.as_deref().unwrap_or(pointer))
        })
    }

    /// Returns the span of the key at a JSON pointer in a job's document; otherwise as [`JobSpans::span`].
    pub fn key_span(&self, job: &Name, pointer: &str) -> Option<Span> {
        let of = |kind, pointer: &str| self.find(kind, job).map(|doc| doc.key_span(pointer));
        of(Kind::Job, pointer).or_else(|| of(Kind::Schedule, &lower::scheduled_pointer(pointer)?))
    }

    /// Returns the document that contains a place: the last one of its file that begins at or before it. `None` when it
    /// has no legal name.
    pub fn document_at(&self, place: Span) -> Option<(Kind, &Name)> {
        let doc = &self.set.docs[document_at(&self.set.docs, Span { end: place.start, ..place })?];
        doc.name.as_ref().map(|name| (doc.kind, name))
    }

    /// Returns the spec of a job as JSON, as it is written. `None` when there is no such job.
    pub fn spec(&self, job: &Name) -> Option<Value> {
        self.find(Kind::Job, job)?.root.at("/spec").map(Node::to_json)
    }

    /// Returns the digest of the names and specs of all documents of a kind; `None` without any.
    pub fn digest_of(&self, kind: Kind) -> Option<Digest> {
        let spec = |doc: &Doc| doc.root.at("/spec").map_or_else(String::new, |spec| canonical_json(&spec.to_json()));
        let docs = self.set.docs.iter().filter(|doc| doc.kind == kind);
        let mut texts: Vec<String> =
            docs.map(|doc| format!("{} {}", doc.written_name.as_deref().unwrap_or_default(), spec(doc))).collect();
        texts.sort_unstable();
        (!texts.is_empty()).then(|| Digest::of_texts(texts.iter().map(String::as_str)))
    }

    /// Returns the files that have documents of some kinds.
    pub fn files_of<'a>(&'a self, kinds: &'a [Kind]) -> impl Iterator<Item = &'a str> {
        self.set.docs.iter().filter(|doc| kinds.contains(&doc.kind)).map(|doc| doc.path.as_str())
    }

    /// Returns the same for a document of any kind.
    pub fn span_of(&self, kind: Kind, name: &Name, pointer: &str) -> Option<Span> {
        self.find(kind, name).map(|doc| doc.span(pointer))
    }

    /// Returns the documents that have a legal name, each with its place, sorted by place.
    pub fn documents(&self) -> impl Iterator<Item = (Kind, &Name, Span)> {
        self.set.docs.iter().filter_map(move |doc| {
            let name = doc.name.as_ref()?;
            Some((doc.kind, name, doc.span("")))
        })
    }
}
