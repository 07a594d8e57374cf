//! The order in which files came into the history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git2::{Commit, Oid, Tree};

use super::Repo;

/// The walk ends after this many commits and file comparisons, which take a second or two.
const COMPARISONS_MAX: usize = 1_000_000;

impl Repo {
    /// Returns for each file, as a path from the fleet's folder, how many commits before `HEAD` it was last changed: 0
    /// for `HEAD` itself. The walk follows first parents, so a merge counts as one commit. A file that `HEAD` does not
    /// have is left out. A file that did not change since `base`, a commit that was applied before, or within the walk
    /// gets the age at which the walk ended.
    ///
    /// This never fails: the walk ends where the history cannot be read.
    pub fn ages(&self, paths: &BTreeSet<String>, base: Option<&str>) -> BTreeMap<String, u64> {
        let base = base.and_then(|base| Oid::from_str(base).ok());
        let mut ages = BTreeMap::new();
        let Some(mut commit) = self.head().ok().and_then(|head| self.commit_of(&head)) else { return ages };
        let Some(mut tree) = self.fleet_tree(&commit) else { return ages };
        let has = |path: &&String| tree.get_path(Path::new(path)).is_ok();
        let mut open: BTreeSet<&String> = paths.iter().filter(has).collect();
        let (mut age, mut compared) = (0, 0);
        while !open.is_empty() && Some(commit.id()) != base && compared < COMPARISONS_MAX {
            let before = commit.parent(0).ok();
            let tree_before = before.as_ref().and_then(|before| self.fleet_tree(before));
            compared += 1;
            if tree_before.as_ref().map(Tree::id) != Some(tree.id()) {
                compared += open.len();
                let entry = |tree: &Tree<'_>, path: &str| tree.get_path(Path::new(path)).ok().map(|entry| entry.id());
                open.retain(|path| {
                    let is_same = tree_before.as_ref().and_then(|before| entry(before, path)) == entry(&tree, path);
                    if !is_same {
                        ages.insert((*path).clone(), age);
                    }
                    is_same
                });
            }
            age += 1;
            match (before, tree_before) {
                (Some(before), Some(tree_before)) => (commit, tree) = (before, tree_before),
                _ => break,
            }
        }
        ages.extend(open.into_iter().map(|path| (path.clone(), age)));
        ages
    }

    fn commit_of(&self, id: &str) -> Option<Commit<'_>> {
        self.repository.find_commit(Oid::from_str(id).ok()?).ok()
    }

    /// Returns the tree of the fleet's folder at a commit.
    fn fleet_tree<'a>(&'a self, commit: &Commit<'a>) -> Option<Tree<'a>> {
        let root = commit.tree().ok()?;
        if self.prefix.is_empty() {
            return Some(root);
        }
        let entry = root.get_path(Path::new(self.prefix.trim_end_matches('/'))).ok()?;
        self.repository.find_tree(entry.id()).ok()
    }
}
