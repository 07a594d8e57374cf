//! Commits of declared files that no person makes in a work tree: on a branch as it is, without a checkout.

use std::path::{Path, PathBuf};

use git2::{FileMode, Oid, Signature, Tree};

use super::{Repo, RepoError};

/// A declared file as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredFile {
    /// Relative to the fleet's folder.
    pub path: String,
    pub text: String,
}

impl Repo {
    /// Writes a commit on top of another one, with files as they are to be, and returns it. No reference moves. It is
    /// signed when the process has a key to sign with.
    ///
    /// # Errors
    /// The repository cannot be written, or the key cannot sign.
    pub fn commit_declared(
        &self,
        tip: &str,
        files: &[DeclaredFile],
        message: &str,
        (name, email): (&str, &str),
    ) -> Result<String, RepoError> {
        let write = || {
            let parent = self.repository.find_commit(Oid::from_str(tip)?)?;
            let mut update = git2::build::TreeUpdateBuilder::new();
            for file in files {
                let id = self.repository.blob(file.text.as_bytes())?;
                update.upsert(self.path_from_root(&file.path), id, FileMode::Blob);
            }
            let tree = update.create_updated(&self.repository, &parent.tree()?)?;
            let tree = self.repository.find_tree(tree)?;
            let author = Signature::now(name, email)?;
            let people = (&author, &author);
            super::sign::write_commit(&self.repository, self.signing_key.as_deref(), people, message, &tree, &[&parent])
        };
        write().map(|commit| commit.to_string()).map_err(|e| RepoError::git("commit", self.repository.path(), e))
    }

    /// Moves a branch, given as a full reference, to a commit of [`Repo::commit_declared`]. Where the branch is checked
    /// out its files follow, but for those that somebody has edited. Returns false when the branch is not at `from` any
    /// more.
    ///
    /// # Errors
    /// The repository or the work tree cannot be written.
    pub fn move_declared(
        &self,
        reference: &str,
        (from, to): (&str, &str),
        files: &[DeclaredFile],
    ) -> Result<bool, RepoError> {
        let fail = |e| RepoError::git("move the branch", self.repository.path(), e);
        let (before, after) = (Oid::from_str(from).map_err(fail)?, Oid::from_str(to).map_err(fail)?);
        if self.repository.refname_to_id(reference).map_err(fail)? != before {
            return Ok(false);
        }
        let is_checked_out = self.checked_out_branch().as_deref() == Some(reference) && !self.is_bare();
        // First the files: who commits what is in the index right after the branch has moved would take it back.
        let undo = if is_checked_out { self.check_out(before, files)? } else { Vec::new() };
        let log = format!("commit: {to}");
        match self.repository.reference_matching(reference, after, true, before, &log) {
            Ok(_) => Ok(true),
            Err(error) => {
                self.take_back(undo)?;
                match error.code() {
                    git2::ErrorCode::Modified | git2::ErrorCode::Locked => Ok(false),
                    _ => Err(fail(error)),
                }
            }
        }
    }

    /// Makes a branch at a commit, or moves it there from where it is.
    ///
    /// # Errors
    /// The repository cannot be written, or there cannot be a branch of this name.
    pub fn set_reference(&self, reference: &str, commit: &str) -> Result<(), RepoError> {
        let fail = |e| RepoError::git("move the branch", self.repository.path(), e);
        let commit = Oid::from_str(commit).map_err(fail)?;
        self.repository.reference(reference, commit, true, "commit").map(drop).map_err(fail)
    }

    /// Makes a branch at a commit. Returns false when there is such a branch.
    ///
    /// # Errors
    /// The repository cannot be written, or there cannot be a branch of this name.
    pub fn make_reference(&self, reference: &str, commit: &str) -> Result<bool, RepoError> {
        let fail = |e| RepoError::git("make the branch", self.repository.path(), e);
        let commit = Oid::from_str(commit).map_err(fail)?;
        match self.repository.reference(reference, commit, false, "commit") {
            Ok(_) => Ok(true),
            Err(error) if error.code() == git2::ErrorCode::Exists => Ok(false),
            Err(error) => Err(fail(error)),
        }
    }

    /// Removes a branch; one that is not there is no error.
    ///
    /// # Errors
    /// The repository cannot be written.
    pub fn remove_reference(&self, reference: &str) -> Result<(), RepoError> {
        match self.repository.find_reference(reference) {
            Ok(mut found) => found.delete().map_err(|e| RepoError::git("remove the branch", self.repository.path(), e)),
            Err(_) => Ok(()),
        }
    }

    /// Returns the branches below a prefix such as `refs/heads/hub/`, with their commits, sorted by name.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn references_below(&self, prefix: &str) -> Result<Vec<(String, String)>, RepoError> {
        let fail = |e| RepoError::git("read the branches", self.repository.path(), e);
        let mut found = Vec::new();
        for reference in self.repository.references_glob(&format!("{prefix}*")).map_err(fail)? {
            let reference = reference.map_err(fail)?;
            if let (Ok(name), Some(target)) = (reference.name(), reference.target()) {
                found.push((name.to_string(), target.to_string()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn path_from_root(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("{}{path}", self.prefix))
    }

    /// Writes files to the work tree and the index where they are as the commit has them. Returns what the index had of
    /// these.
    fn check_out(&self, commit: Oid, files: &[DeclaredFile]) -> Result<Vec<Before>, RepoError> {
        let fail = |e| RepoError::git("check out the files", self.repository.path(), e);
        let tree = self.repository.find_commit(commit).and_then(|commit| commit.tree()).map_err(fail)?;
        let mut index = self.repository.index().map_err(fail)?;
        let mut before = Vec::new();
        for file in files {
            let (path, from_root) = (self.folder().join(&file.path), self.path_from_root(&file.path));
            let io = |source| RepoError::Io { path: path.clone(), doing: "written", source };
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(io)?;
            }
            if !self.is_inside(&path) || !is_untouched(&tree, &from_root, &path) {
                continue;
            }
            before.push(Before { path: file.path.clone(), entry: index.get_path(&from_root, 0) });
            std::fs::write(&path, &file.text).map_err(io)?;
            index.add_path(&from_root).map_err(fail)?;
        }
        index.write().map_err(fail)?;
        Ok(before)
    }

    /// Returns true for a path that no link leads out of the work tree.
    fn is_inside(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        let (Some(parent), Some(folder)) = (path.parent().and_then(real), real(self.folder())) else { return false };
        parent.starts_with(folder) && !path.symlink_metadata().is_ok_and(|found| found.is_symlink())
    }

    /// Takes files back out of the index and the work tree that did not become the branch's.
    fn take_back(&self, before: Vec<Before>) -> Result<(), RepoError> {
        let fail = |e| RepoError::git("take back the files", self.repository.path(), e);
        if before.is_empty() {
            return Ok(());
        }
        let mut index = self.repository.index().map_err(fail)?;
        for Before { path, entry } in before {
            match entry {
                Some(entry) => {
                    let content = self.repository.find_blob(entry.id).map_err(fail)?;
                    index.add(&entry).map_err(fail)?;
                    drop(std::fs::write(self.folder().join(path), content.content()));
                }
                None => {
                    drop(index.remove_path(&self.path_from_root(&path)));
                    drop(std::fs::remove_file(self.folder().join(path)));
                }
            }
        }
        index.write().map_err(fail)
    }
}

/// What the index had of a file.
struct Before {
    path: String,
    entry: Option<git2::IndexEntry>,
}

/// Returns true when the work tree has a file as a tree has it, or neither has it.
fn is_untouched(tree: &Tree<'_>, from_root: &Path, path: &Path) -> bool {
    let committed = tree.get_path(from_root).map(|entry| entry.id()).ok();
    match (committed, std::fs::read(path)) {
        (Some(id), Ok(bytes)) => Oid::hash_object(git2::ObjectType::Blob, &bytes).is_ok_and(|own| own == id),
        (None, Err(error)) => error.kind() == std::io::ErrorKind::NotFound,
        (Some(_), Err(_)) | (None, Ok(_)) => false,
    }
}
