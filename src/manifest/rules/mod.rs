//! The rules over the whole set of documents, one a file.
//!
//! A rule reads the [`Set`] and returns diagnostics, and what it worked out on the way. No rule depends on another having
//! passed: a document that one refuses still counts as declared for the others, so that one slip makes one diagnostic.

pub mod edge;
pub mod effect;
pub mod files;
pub mod fleet;
pub mod names;
pub mod order;
pub mod organizations;
pub mod outside;
pub mod queries;
pub mod references;
pub mod schedules;

use std::collections::BTreeMap;

use super::kind::Kind;
use super::lower::Doc;
use crate::diag::FileId;

/// All documents of a fleet.
pub struct Set {
    /// In the order of their files.
    pub docs: Vec<Doc>,
    /// The first document of each kind and name.
    pub by_name: BTreeMap<Kind, BTreeMap<String, usize>>,
    /// Files of which a part could not be read.
    pub unread: Vec<FileId>,
}

impl Set {
    /// Returns the set of some documents.
    pub fn new(docs: Vec<Doc>, unread: Vec<FileId>) -> Set {
        let mut by_name: BTreeMap<Kind, BTreeMap<String, usize>> = BTreeMap::new();
        for (at, doc) in docs.iter().enumerate() {
            if let Some(name) = written_name(doc) {
                by_name.entry(doc.kind).or_default().entry(name.to_string()).or_insert(at);
            }
        }
        Set { docs, by_name, unread }
    }

    /// Returns the first document of a kind and name.
    pub fn find(&self, kind: Kind, name: &str) -> Option<&Doc> {
        self.first(kind, name).map(|at| &self.docs[at])
    }

    /// Returns the index of the first document of a kind and name.
    pub fn first(&self, kind: Kind, name: &str) -> Option<usize> {
        self.by_name.get(&kind)?.get(name).copied()
    }

    /// Returns every name of a kind, sorted.
    pub fn names(&self, kind: Kind) -> impl Iterator<Item = &str> {
        self.by_name.get(&kind).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }
}

/// Returns `metadata.name` as written, legal or not.
fn written_name(doc: &Doc) -> Option<&str> {
    doc.root.at("/metadata/name").and_then(|node| node.as_str())
}
