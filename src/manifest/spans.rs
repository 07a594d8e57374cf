//! Where the fields of the documents stand, for rooms that find problems later.

use std::collections::BTreeMap;

use serde_json::Value;

use super::kind::Kind;
use super::lower::{self, Doc};
use super::node::Node;
use crate::diag::Span;
use crate::model::id::Name;

/// The documents by kind and name, as trees with places.
#[derive(Debug, Default)]
pub struct JobSpans {
    /// The first document of each kind and name.
    roots: BTreeMap<(Kind, Name), Node>,
}

impl JobSpans {
    pub(super) fn new(docs: Vec<Doc>) -> JobSpans {
        let mut roots = BTreeMap::new();
        for doc in docs {
            if let Some(name) = doc.name {
                roots.entry((doc.kind, name)).or_insert(doc.root);
            }
        }
        JobSpans { roots }
    }

    /// Returns where a JSON pointer such as `/spec/action/property/light/threshold` leads in a job's document.
    ///
    /// A scalar has its own span, a collection that of its key. Where there is nothing, the nearest parent stands in. `None`
    /// when there is no such job. That of a schedule has its pointers as if it stood alone.
    pub fn span(&self, job: &Name, pointer: &str) -> Option<Span> {
        self.span_of(Kind::Job, job, pointer).or_else(|| {
            let pointer = lower::scheduled_pointer(pointer)?;
            self.span_of(Kind::Schedule, job, &pointer)
        })
    }

    /// Returns where the key of what a JSON pointer leads to stands, in a job's document; otherwise as [`JobSpans::span`].
    pub fn key_span(&self, job: &Name, pointer: &str) -> Option<Span> {
        let of = |kind, pointer: &str| self.roots.get(&(kind, job.clone())).map(|root| root.locate(pointer).key_span());
        of(Kind::Job, pointer).or_else(|| of(Kind::Schedule, &lower::scheduled_pointer(pointer)?))
    }

    /// Returns the document that a place is in: the last one of its file that begins at it or before.
    pub fn document_at(&self, place: Span) -> Option<(Kind, &Name)> {
        let before =
            self.roots.iter().filter(|(_, root)| root.span.file == place.file && root.span.start <= place.start);
        before.max_by_key(|(_, root)| root.span.start).map(|((kind, name), _)| (*kind, name))
    }

    /// Returns the spec of a job as JSON, as it is written. `None` when there is no such job.
    pub fn spec(&self, job: &Name) -> Option<Value> {
        let root = self.roots.get(&(Kind::Job, job.clone()))?;
        root.at("/spec").map(Node::to_json)
    }

    /// Returns the same for a document of any kind.
    pub fn span_of(&self, kind: Kind, name: &Name, pointer: &str) -> Option<Span> {
        self.roots.get(&(kind, name.clone())).map(|root| lower::span(root, pointer))
    }
}
