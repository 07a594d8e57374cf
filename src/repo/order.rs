//! The order in which files came into the history.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use git2::{Commit, Oid, Tree};

use super::Repo;

/// The walk ends after this many commits and file comparisons, which take a second or two.
const COMPARISONS_MAX: usize = 1_000_000;

/// The commit of a walk that changed a file last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastChange {
    /// How many commits before the first one of the walk it is.
    pub age: u64,
    /// Its id; `None` when the walk ended before it.
    pub commit: Option<String>,
    /// Its first parent: what the change was made to. `None` for a commit without one.
    pub before: Option<String>,
}

impl Repo {
    /// Returns for each file, as a path from the fleet's folder, how many commits before `HEAD` it was last changed: 0
    /// for `HEAD` itself. The walk follows first parents, so a merge counts as one commit. A file that `HEAD` does not
    /// have is left out. A file that did not change since `base`, a commit that was applied before, or within the walk
    /// gets the age at which the walk ended.
    ///
    /// This never fails: the walk ends where the history cannot be read.
    pub fn ages(&self, paths: &BTreeSet<String>, base: Option<&str>) -> BTreeMap<String, u64> {
        let Ok(head) = self.head() else { return BTreeMap::new() };
        let changes = self.last_changes(&head, paths, base);
        changes.into_iter().map(|(path, change)| (path, change.age)).collect()
    }

    /// Returns for each file the commit that changed it last, from a commit on; otherwise as [`Repo::ages`]. What did
    /// not change within the walk was there before the commit at which it ended.
    pub fn last_changes(
        &self,
        from: &str,
        paths: &BTreeSet<String>,
        base: Option<&str>,
    ) -> BTreeMap<String, LastChange> {
        let base = base.and_then(|base| Oid::from_str(base).ok());
        let mut changes = BTreeMap::new();
        let Some(mut commit) = self.commit_of(from) else { return changes };
        let Some(mut tree) = self.fleet_tree(&commit).map(|tree| Folders::new(self, tree)) else { return changes };
        let mut open: Vec<&String> = paths.iter().filter(|path| tree.entry(path).is_some()).collect();
        let (mut age, mut compared) = (0, 0);
        while !open.is_empty() && Some(commit.id()) != base && compared < COMPARISONS_MAX {
            let before = commit.parent(0).ok();
            let tree_before = before.as_ref().and_then(|before| self.fleet_tree(before));
            let mut tree_before = tree_before.map(|before| Folders::new(self, before));
            compared += 1;
            if tree_before.as_ref().map(Folders::id) != Some(tree.id()) {
                compared += open.len();
                open.retain(|path| {
                    let is_same = tree_before.as_mut().and_then(|before| before.entry(path)) == tree.entry(path);
                    if !is_same {
                        let before = before.as_ref().map(|before| before.id().to_string());
                        let commit = Some(commit.id().to_string());
                        changes.insert((*path).clone(), LastChange { age, commit, before });
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
        let end = commit.id().to_string();
        let earlier = LastChange { age, commit: None, before: Some(end) };
        changes.extend(open.into_iter().map(|path| (path.clone(), earlier.clone())));
        changes
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

/// A tree with those of its folders that were looked into. A folder that is read for each of its files takes time that
/// grows with the square of their number.
struct Folders<'a> {
    repo: &'a Repo,
    root: Tree<'a>,
    /// By path; `None` for one that is not there.
    folders: BTreeMap<String, Option<Tree<'a>>>,
}

impl<'a> Folders<'a> {
    fn new(repo: &'a Repo, root: Tree<'a>) -> Folders<'a> {
        Folders { repo, root, folders: BTreeMap::new() }
    }

    fn id(&self) -> Oid {
        self.root.id()
    }

    /// Returns what git calls the content of a file; `None` when it is not there.
    fn entry(&mut self, path: &str) -> Option<Oid> {
        let Some((folder, name)) = path.rsplit_once('/') else {
            return self.root.get_name(path).map(|entry| entry.id());
        };
        if !self.folders.contains_key(folder) {
            let entry = self.root.get_path(Path::new(folder)).ok();
            let tree = entry.and_then(|entry| self.repo.repository.find_tree(entry.id()).ok());
            self.folders.insert(folder.to_string(), tree);
        }
        self.folders[folder].as_ref()?.get_name(name).map(|entry| entry.id())
    }
}
