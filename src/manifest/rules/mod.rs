//! The rules over the whole set of documents, one a file.
//!
//! A rule reads the [`Set`] and returns diagnostics, and what it worked out on the way. No rule depends on another
//! having passed: a document that one refuses still counts as declared for the others, so that one slip makes one
//! diagnostic.

pub mod edge;
pub mod effect;
pub mod files;
pub mod fleet;
pub mod names;
pub mod numbers;
pub mod order;
pub mod organizations;
pub mod outside;
pub mod queries;
pub mod references;
pub mod schedules;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::lower::Doc;
use crate::diag::FileId;
use crate::model::kind::Kind;

/// All documents of a fleet.
#[derive(Debug)]
pub struct Set {
    /// In the order of their files.
    pub docs: Vec<Doc>,
    /// The first document of each kind and name.
    pub by_name: BTreeMap<Kind, BTreeMap<Arc<str>, usize>>,
    /// The others of a kind and name, in the order of their files.
    pub repeated: Vec<usize>,
    /// Files that could not be read completely.
    pub unread: Vec<FileId>,
}

impl Set {
    /// Returns the set of some documents.
    pub fn new(docs: Vec<Doc>, unread: Vec<FileId>) -> Set {
        let mut named: BTreeMap<Kind, Vec<(Arc<str>, usize)>> = BTreeMap::new();
        for (at, doc) in docs.iter().enumerate() {
            if let Some(name) = &doc.written_name {
                named.entry(doc.kind).or_default().push((Arc::clone(name), at));
            }
        }
        let (mut by_name, mut repeated) = (BTreeMap::new(), Vec::new());
        for (kind, mut names) in named {
            // A stable sort keeps the first document of a name first. It is quick: the names of a fleet are nearly in
            // the order of its files.
            names.sort_by(|(one, _), (two, _)| one.cmp(two));
            names.dedup_by(|(name, at), (first, _)| {
                let is_repeated = name == first;
                repeated.extend(is_repeated.then_some(*at));
                is_repeated
            });
            by_name.insert(kind, names.into_iter().collect());
        }
        repeated.sort_unstable();
        Set { docs, by_name, repeated, unread }
    }

    /// Adds documents, each in its place.
    pub fn add(&mut self, docs: Vec<Doc>) {
        let mut all = std::mem::take(&mut self.docs);
        all.extend(docs);
        all.sort_by_key(|doc| (doc.file, doc.root.span.start));
        *self = Set::new(all, std::mem::take(&mut self.unread));
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
        self.by_name.get(&kind).into_iter().flat_map(BTreeMap::keys).map(Arc::as_ref)
    }
}
