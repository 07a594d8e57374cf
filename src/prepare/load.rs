//! From the files of a tree to what they declare.

use std::collections::BTreeMap;

use crate::manifest::{Input, Loaded, ParsedFiles, QueryProblem, ValidSubset};
use crate::model::fleet::Hold;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::repo::FleetTree;

/// Reads and checks every declared file of a tree.
pub fn load(tree: &FleetTree<'_>) -> Loaded {
    with_input(tree, crate::manifest::load)
}

/// Reads every declared file of a tree and leaves out what has errors.
pub fn load_valid(tree: &FleetTree<'_>) -> ValidSubset {
    with_input(tree, crate::manifest::load_valid)
}

/// Returns what [`load_valid`] returns. What was read before and has not changed is not read again.
pub fn load_valid_again(tree: &FleetTree<'_>, files: &mut ParsedFiles) -> ValidSubset {
    with_input(tree, |input| crate::manifest::load_valid_again(input, files))
}

/// Returns what [`load_valid_again`] returns, without some documents and those that need them.
pub fn load_valid_without(
    tree: &FleetTree<'_>,
    files: &mut ParsedFiles,
    refused: &BTreeMap<(Kind, Name), Hold>,
) -> ValidSubset {
    with_input(tree, |input| crate::manifest::load_valid_without(input, files, refused))
}

fn with_input<T>(tree: &FleetTree<'_>, read_all: impl FnOnce(&Input<'_>) -> T) -> T {
    let max = limits::JSON_FILE_BYTES_MAX.max(limits::YAML_FILE_BYTES_MAX) as u64;
    let read = |path: &str| tree.read(path, max).map_err(|error| error.to_string());
    read_all(&Input { entries: &tree.entries, read: &read, check_query })
}

/// Returns what is wrong with a condition.
fn check_query(text: &str) -> Vec<QueryProblem> {
    match crate::query::parse(text) {
        Ok(_) => Vec::new(),
        Err(errors) => errors
            .into_iter()
            .map(|error| QueryProblem {
                start: error.start,
                end: error.end,
                message: error.to_string(),
                help: error.help(),
            })
            .collect(),
    }
}
