//! What git brings into a work tree at a place where only this machine should write.

use std::path::{Component, Path, PathBuf};

use git2::{ObjectType, Tree};

use super::{Repo, RepoError};

impl Repo {
    /// Returns what of a place is under git's control, as a path from the root of the repository: the file or folder itself, something in it,
    /// or a link or submodule on the way to it. Both `HEAD` and the index count: a clone has what the one has, and a commit will have what
    /// the other has. A relative path is one from the fleet's folder. `None` for a place outside of the work tree, and without one.
    ///
    /// # Errors
    /// `HEAD` or the index cannot be read.
    pub fn tracked(&self, path: &Path) -> Result<Option<String>, RepoError> {
        let fail = |e| RepoError::git("read the index", self.repository.path(), e);
        let (Some(folder), Some(root)) = (&self.folder, self.repository.workdir()) else { return Ok(None) };
        let root = root.canonicalize().unwrap_or_else(|_| root.to_path_buf());
        let folds = self.repository.config().and_then(|config| config.get_bool("core.ignorecase")).unwrap_or(false);
        let fold = |name: &str| if folds { name.to_lowercase() } else { name.to_string() };
        let head = self.repository.head().and_then(|head| head.peel_to_tree()).ok();
        let mut index = self.repository.index().map_err(fail)?;
        // Another process may have added something since.
        index.read(false).map_err(fail)?;
        for place in spellings(&folder.join(path)) {
            let Ok(inner) = place.strip_prefix(&root) else { continue };
            let parts: Vec<String> = inner.iter().map(|part| fold(&part.to_string_lossy())).collect();
            if parts.is_empty() {
                continue;
            }
            let of_head = match &head {
                Some(tree) => self.in_tree(tree, &parts, &fold).map_err(fail)?,
                None => None,
            };
            let wanted = parts.join("/");
            let is_on_the_way = |tracked: &str| {
                let (tracked, wanted) = (format!("{}/", fold(tracked)), format!("{wanted}/"));
                tracked.starts_with(&wanted) || wanted.starts_with(&tracked)
            };
            let mut names = index.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned());
            if let Some(found) = of_head.or_else(|| names.find(|name| is_on_the_way(name))) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Returns what a tree has at a place, or on the way to it when that is no folder.
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

/// Returns a path as it is written, without `.` and `..`, and as the links on the disk have it.
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
