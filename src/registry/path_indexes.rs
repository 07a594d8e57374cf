//! The indexes that a store is asked for: one for each path that conditions search by, as many as there may be.

use std::collections::BTreeSet;

use crate::model::digest::Digest;
use crate::model::limits;
use crate::query::PathRef;

/// The prefix of the names of these indexes. A digest follows, so that no key of a twin becomes a name in SQL.
pub(super) const PREFIX: &str = "query_";
const DIGITS: usize = 16;

/// A wanted index.
pub(super) struct PathIndex {
    /// As a condition writes it.
    pub path: String,
    pub name: String,
    /// The statement that makes it.
    pub statement: String,
}

/// Returns the name of the index that a text tells from all others.
pub(super) fn name_of(text: &str) -> String {
    let digest = Digest::of_bytes(text.as_bytes()).to_string();
    format!("{PREFIX}{}", &digest[..DIGITS])
}

/// Returns the indexes for paths, the first ones, and the paths that get none. `index_of` returns `None` for a path that
/// the store cannot index.
pub(super) fn chosen(
    wanted: &[PathRef],
    index_of: impl Fn(&PathRef) -> Option<PathIndex>,
) -> (Vec<PathIndex>, Vec<String>) {
    let (mut indexes, mut left_out): (Vec<PathIndex>, Vec<String>) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for path in wanted.iter().filter(|path| seen.insert(*path)) {
        match index_of(path) {
            Some(index) if indexes.len() < limits::QUERY_INDEXES_MAX => indexes.push(index),
            Some(_) | None => left_out.push(path.to_string()),
        }
    }
    (indexes, left_out)
}
