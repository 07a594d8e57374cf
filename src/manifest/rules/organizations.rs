//! Organizations form a tree of bounded depth, and each has a path from its root.

use std::collections::BTreeMap;

use super::Set;
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::lower::Draft;
use crate::model::kind::Kind;
use crate::model::limits;

/// The paths of the organizations by name, such as `eu` to `acme/eu`.
#[derive(Debug, Default)]
pub struct Paths {
    by_name: BTreeMap<String, String>,
}

impl Paths {
    /// Returns the path that a name or path means, or `None`.
    pub fn resolve(&self, text: &str) -> Option<&str> {
        let name = text.rsplit('/').next().unwrap_or(text);
        let path = self.by_name.get(name)?;
        (text == name || text == path).then_some(path.as_str())
    }

    /// Returns every path.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.by_name.values().map(String::as_str)
    }
}

/// Returns true when `inner` is `outer` or lies below it.
pub fn is_within(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the path of every organization, and reports cycles and depth.
///
/// An organization whose parents form a cycle or do not exist has a path that starts there.
pub fn check(set: &Set) -> (Paths, Diagnostics) {
    let mut diagnostics = Diagnostics::new();
    let mut paths = Paths::default();
    for (name, at) in set.by_name.get(&Kind::Organization).into_iter().flatten() {
        let name: &str = name;
        let mut chain: Vec<&str> = vec![name];
        let mut cycle: Option<usize> = None;
        while let Some(parent) = parent(set, chain[chain.len() - 1]) {
            if let Some(start) = chain.iter().position(|link| *link == parent) {
                cycle = Some(start);
                break;
            }
            if chain.len() > limits::ORGANIZATION_DEPTH_MAX {
                break;
            }
            chain.push(parent);
        }
        let doc = &set.docs[*at];
        // A cycle is reported once, at the first of its names.
        if let Some(0) = cycle
            && chain.iter().all(|link| name <= *link)
        {
            let around: Vec<String> = chain.iter().chain([&name]).map(|link| format!("`{link}`")).collect();
            let detail = format!("The parents go in a circle: {}.", around.join(" is below "));
            diagnostics.push(Diagnostic::new(code::ORGANIZATION_CYCLE, doc.span("/spec/parent"), detail));
        }
        // Organizations below the first one that is too deep are not reported again.
        if cycle.is_none() && chain.len() == limits::ORGANIZATION_DEPTH_MAX + 1 && depth_is(set, &chain) {
            let detail = format!("Organizations are at most {} levels deep.", limits::ORGANIZATION_DEPTH_MAX);
            diagnostics.push(Diagnostic::new(code::ORGANIZATION_DEPTH, doc.span("/spec/parent"), detail));
        }
        chain.reverse();
        paths.by_name.insert(name.to_string(), chain.join("/"));
    }
    (paths, diagnostics)
}

/// Returns true when the last link of a chain is a root.
fn depth_is(set: &Set, chain: &[&str]) -> bool {
    chain.last().is_some_and(|last| parent(set, last).is_none())
}

fn parent<'a>(set: &'a Set, name: &str) -> Option<&'a str> {
    let doc = set.find(Kind::Organization, name)?;
    match doc.draft.as_ref()? {
        Draft::Organization { parent } => parent
            .as_ref()
            .map(|parent| parent.as_str())
            .filter(|parent| set.find(Kind::Organization, parent).is_some()),
        Draft::Fleet(_)
        | Draft::DeviceTemplate { .. }
        | Draft::DeviceGroup { .. }
        | Draft::EdgeManifest
        | Draft::DeviceImport(_)
        | Draft::Job { .. }
        | Draft::Schedule { .. }
        | Draft::Policy { .. }
        | Draft::Access(_) => None,
    }
}
