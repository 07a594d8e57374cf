//! Finds files that git tracks at places where only this machine should write.

use std::borrow::Cow;
use std::path::{Component, Path, PathBuf};

use git2::{ObjectType, Tree};

use super::file_state::FileState;
use super::{Repo, RepoError};

/// What git tracks, as far as it can be told at once: while it stays the same, [`Repo::tracked`] finds the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracking {
    /// The commit of `HEAD`; `None` when there is none yet.
    head: Option<git2::Oid>,
    /// That of the index; `None` when there is none.
    index: Option<FileState>,
}

impl Repo {
    /// Returns what git tracks now; `None` where the system does not tell whether a file has changed.
    #[cfg(unix)]
    pub fn tracking(&self) -> Option<Tracking> {
        let index = FileState::of(&self.repository.path().join("index"));
        Some(Tracking { head: self.known.id_of(&self.repository, "HEAD").ok(), index })
    }

    /// Returns what git tracks now; `None` where the system does not tell whether a file has changed.
    #[cfg(not(unix))]
    pub fn tracking(&self) -> Option<Tracking> {
        None
    }

    /// Returns the first tracked path at some places, from the root of the repository: the file or folder itself,
    /// something in it, or a link or submodule on the way to it. Both `HEAD` and the index count: a clone gets what
    /// `HEAD` has, and the next commit will have what the index has. Relative places start at the fleet's folder.
    /// Returns `None` when nothing is tracked, for places outside of the work tree, and without a work tree.
    ///
    /// # Errors
    /// `HEAD` or the index cannot be read.
    pub fn tracked(&self, places: &[PathBuf]) -> Result<Option<String>, RepoError> {
        let fail = |e| RepoError::git("read the index", self.repository.path(), e);
        let (Some(folder), Some(root)) = (&self.folder, self.repository.workdir()) else { return Ok(None) };
        let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let main_root = self.main_root();
        let main = main_root.as_deref().unwrap_or(&root);
        let folds = self.repository.config().and_then(|config| config.get_bool("core.ignorecase")).unwrap_or(false);
        let fold = |name: &str| if folds { name.to_lowercase() } else { name.to_string() };
        let mut wanted: Vec<Vec<String>> = Vec::new();
        for place in places.iter().flat_map(|place| spellings(&folder.join(place))) {
            // A place in the main work tree is tracked there when it is tracked here: the next checkout brings it.
            let inner = place.strip_prefix(&root).or_else(|_| place.strip_prefix(main));
            let Ok(inner) = inner else { continue };
            let parts: Vec<String> = inner.iter().map(|part| fold(&part.to_string_lossy())).collect();
            if !parts.is_empty() && !wanted.contains(&parts) {
                wanted.push(parts);
            }
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        if let Ok(tree) = self.repository.head().and_then(|head| head.peel_to_tree()) {
            for parts in &wanted {
                if let Some(found) = self.in_tree(&tree, parts, &fold).map_err(fail)? {
                    return Ok(Some(found));
                }
            }
        }
        let mut index = self.repository.index().map_err(fail)?;
        // Another process may have added something since.
        index.read(false).map_err(fail)?;
        let wanted: Vec<String> = wanted.iter().map(|parts| parts.join("/")).collect();
        // The index may have a hundred thousand entries: it is walked once for all places.
        let is_on_the_way = |tracked: &str| {
            let tracked = if folds { Cow::Owned(fold(tracked)) } else { Cow::Borrowed(tracked) };
            wanted.iter().any(|wanted| is_within(&tracked, wanted) || is_within(wanted, &tracked))
        };
        Ok(index.iter().find_map(|entry| {
            let name = String::from_utf8_lossy(&entry.path);
            is_on_the_way(&name).then(|| name.into_owned())
        }))
    }

    /// Returns the path of a tree's entry at a place, or of an entry on the way to it that is no folder.
    fn in_tree(
        &self,
        tree: &Tree<'_>,
        parts: &[String],
        fold: &dyn Fn(&str) -> String,
    ) -> Result<Option<String>, git2::Error> {
        let Some((first, rest)) = parts.split_first() else { return Ok(None) };
        for entry in tree.iter() {
            let Ok(name) = entry.name() else { continue };
            if fold(name) != *first {
                continue;
            }
            if rest.is_empty() || entry.kind() != Some(ObjectType::Tree) {
                return Ok(Some(name.to_string()));
            }
            let inner = self.repository.find_tree(entry.id())?;
            if let Some(found) = self.in_tree(&inner, rest, fold)? {
                return Ok(Some(format!("{name}/{found}")));
            }
        }
        Ok(None)
    }
}

/// Returns true when `path` is `folder` or lies in it.
fn is_within(path: &str, folder: &str) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the spellings of a path: as written, without `.` and `..`; with the links of its parent resolved; with all
/// links resolved.
fn spellings(path: &Path) -> Vec<PathBuf> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => plain.push(part),
        }
    }
    let of_parent = |path: &Path| Some(path.parent()?.canonicalize().ok()?.join(path.file_name()?));
    let mut all: Vec<PathBuf> = [of_parent(&path), path.canonicalize().ok()].into_iter().flatten().collect();
    all.insert(0, plain);
    all.dedup();
    all
}
