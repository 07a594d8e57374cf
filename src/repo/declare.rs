//! Commits of declared files that no person makes in a work tree: on a branch as it is, without a checkout.

use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{FileMode, Oid, Repository, Signature, Tree, TreeEntry};

use super::writer::{BranchMove, Writer};
use super::{Repo, RepoError};

/// How often, and with what pause, an index is tried that another git has.
const INDEX_TRIES: usize = 50;
const INDEX_PAUSE: Duration = Duration::from_millis(40);

/// Where a file of the work tree is written first, in the folder of the repository.
const BEGUN_FILE: &str = "fleetform.begun";

/// From so many commits on they are written as a pack.
const PACKED_MIN: usize = 4;
/// Packs of a repository up to which more are made: each makes all that is read take longer. Git puts them together
/// when there are more than fifty.
const PACKS_MAX: usize = 40;

/// A declared file as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredFile {
    /// Relative to the fleet's folder.
    pub path: String,
    pub text: String,
}

/// A commit of declared files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredCommit {
    pub files: Vec<DeclaredFile>,
    pub message: String,
    /// Name and address of its author.
    pub author: (String, String),
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
        let (files, message) = (files.to_vec(), message.to_string());
        let one = DeclaredCommit { files, message, author: (name.to_string(), email.to_string()) };
        let mut commits = self.commit_chain(tip, &[one])?;
        Ok(commits.pop().expect("one commit was written"))
    }

    /// Writes commits as [`Repo::commit_declared`] does, each on top of the one before, and returns them. They are
    /// durable when this returns.
    ///
    /// # Errors
    /// The repository cannot be written, or the key cannot sign.
    pub fn commit_chain(&self, tip: &str, commits: &[DeclaredCommit]) -> Result<Vec<String>, RepoError> {
        let write = || {
            let is_packed = commits.len() >= PACKED_MIN && self.packs() < PACKS_MAX;
            let ids = match is_packed {
                true => self.packed_chain(Oid::from_str(tip)?, commits)?,
                false => self.chain_in(&self.repository, Oid::from_str(tip)?, commits)?.0,
            };
            Ok(ids.iter().map(Oid::to_string).collect())
        };
        write().map_err(|e| RepoError::git("commit", self.repository.path(), e))
    }

    /// Writes a chain of commits to the objects of a repository, and returns them with their blobs.
    fn chain_in(
        &self,
        repository: &Repository,
        tip: Oid,
        commits: &[DeclaredCommit],
    ) -> Result<(Vec<Oid>, Vec<Oid>), git2::Error> {
        let (mut parent, mut ids, mut blobs) = (repository.find_commit(tip)?, Vec::new(), Vec::new());
        for DeclaredCommit { files, message, author: (name, address) } in commits {
            let mut update = git2::build::TreeUpdateBuilder::new();
            for file in files {
                let id = repository.blob(file.text.as_bytes())?;
                blobs.push(id);
                update.upsert(self.path_from_root(&file.path), id, FileMode::Blob);
            }
            let tree = update.create_updated(repository, &parent.tree()?)?;
            let tree = repository.find_tree(tree)?;
            let author = Signature::now(name, address)?;
            let (people, key) = ((&author, &author), self.signing_key.as_deref());
            let id = super::sign::write_commit(repository, key, people, message, &tree, &[&parent])?;
            ids.push(id);
            parent = repository.find_commit(id)?;
        }
        Ok((ids, blobs))
    }

    /// Writes a chain of commits as one pack: each object of its own is a file that is synced with the disk.
    fn packed_chain(&self, tip: Oid, commits: &[DeclaredCommit]) -> Result<Vec<Oid>, git2::Error> {
        let memory = super::scratch::in_memory(&self.repository)?;
        let (ids, blobs) = self.chain_in(&memory, tip, commits)?;
        let mut pack = memory.packbuilder()?;
        let mut before = memory.find_commit(tip)?.tree()?;
        for id in &ids {
            let after = memory.find_commit(*id)?.tree()?;
            pack.insert_object(*id, None)?;
            super::tree::insert_trees(&memory, Some(&before), &after, &mut pack)?;
            before = after;
        }
        for blob in blobs {
            pack.insert_object(blob, None)?;
        }
        super::tree::write_pack(&self.repository, &mut pack)?;
        Ok(ids)
    }

    /// Returns how many packs the repository has.
    fn packs(&self) -> usize {
        let folder = std::fs::read_dir(self.repository.commondir().join("objects/pack"));
        let is_pack = |entry: &std::fs::DirEntry| entry.path().extension().is_some_and(|extension| extension == "pack");
        folder.map_or(0, |entries| entries.flatten().filter(is_pack).count())
    }

    /// Moves a branch, given as a full reference, to a commit of [`Repo::commit_declared`]. Where the branch is checked
    /// out its files follow, but for those that somebody has edited. Right before it moves `publish` is called. Returns
    /// false when the branch is not at `from` any more.
    ///
    /// # Errors
    /// The repository or the work tree cannot be written, or another work tree has the branch checked out; or the error
    /// of `publish`. Nothing was moved then.
    pub fn move_declared<E: From<RepoError>>(
        &self,
        reference: &str,
        (from, to): (&str, &str),
        files: &[DeclaredFile],
        publish: impl FnOnce() -> Result<(), E>,
    ) -> Result<bool, E> {
        let fail = |e| RepoError::git("move the branch", self.repository.path(), e);
        let (before, after) = (Oid::from_str(from).map_err(fail)?, Oid::from_str(to).map_err(fail)?);
        if self.repository.refname_to_id(reference).map_err(fail)? != before {
            return Ok(false);
        }
        if let Some(path) = self.other_work_tree(reference) {
            return Err(RepoError::CheckedOut { path }.into());
        }
        let is_checked_out = self.checked_out_branch().as_deref() == Some(reference) && !self.is_bare();
        let index_lock = self.repository.path().join("index.lock");
        let mut writer = Writer::begin_with_index(self.repository.commondir(), reference, &index_lock);
        let branch = BranchMove { from: before, to: after };
        if let Some(died) = writer.take_died().filter(|_| is_checked_out) {
            self.take_back_of(died, before, &mut writer)?;
        }
        // First the files: who commits what is in the index right after the branch has moved would take it back.
        if is_checked_out {
            self.check_out(branch, files, &mut writer)?;
        }
        let moved = publish().and_then(|()| {
            writer.moves(branch);
            let log = format!("commit: {to}");
            match self.repository.reference_matching(reference, after, true, before, &log) {
                Ok(_) => Ok(true),
                Err(error) if matches!(error.code(), git2::ErrorCode::Modified | git2::ErrorCode::Locked) => Ok(false),
                Err(error) => Err(fail(error).into()),
            }
        });
        if is_checked_out && !matches!(moved, Ok(true)) {
            self.take_back_of(branch, before, &mut writer)?;
        }
        moved
    }

    /// Makes a reference that only fleetform moves at a commit, or moves it there from where it is.
    ///
    /// # Errors
    /// The repository cannot be written, or there cannot be a branch of this name.
    pub fn set_reference(&self, reference: &str, commit: &str) -> Result<(), RepoError> {
        let fail = |e| RepoError::git("move the branch", self.repository.path(), e);
        let commit = Oid::from_str(commit).map_err(fail)?;
        let _mark = Writer::own(self.repository.commondir(), reference);
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

    fn path_from_root(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("{}{path}", self.prefix))
    }

    /// Puts files into the index and the work tree. A file that somebody has staged keeps its entry in the index, and
    /// one that somebody has edited keeps its content.
    fn check_out(&self, branch: BranchMove, files: &[DeclaredFile], writer: &mut Writer) -> Result<(), RepoError> {
        let fail = |e| RepoError::git("check out the files", self.repository.path(), e);
        let tree = self.repository.find_commit(branch.from).and_then(|commit| commit.tree()).map_err(fail)?;
        let mut index = self.repository.index().map_err(fail)?;
        index.read(true).map_err(fail)?;
        for file in files {
            let from_root = self.path_from_root(&file.path);
            let committed = tree.get_path(&from_root).ok();
            // Who commits the index takes the file as it was there: so it has to be the new one, edited or not.
            let staged = index.get_path(&from_root, 0).map(|entry| entry.id);
            if staged == committed.as_ref().map(TreeEntry::id) {
                let id = self.repository.blob(file.text.as_bytes()).map_err(fail)?;
                let mode = committed.map_or(i32::from(FileMode::Blob), |entry| entry.filemode());
                index.add(&entry_of(&from_root, id, mode)).map_err(fail)?;
            }
        }
        // First the index: while another git has it, nothing is written at all.
        self.write_index(&mut index, branch, writer)?;
        for file in files {
            let (path, from_root) = (self.folder().join(&file.path), self.path_from_root(&file.path));
            let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
            if made.is_err() || !self.is_inside(&path) || !is_untouched(&tree, &from_root, &path) {
                continue;
            }
            if let Err(source) = self.put_file(&path, file.text.as_bytes()) {
                self.take_back_of(branch, branch.from, writer)?;
                return Err(RepoError::Io { path, doing: "written", source });
            }
        }
        Ok(())
    }

    /// Writes the index, and waits a while for another git that has it.
    fn write_index(&self, index: &mut git2::Index, branch: BranchMove, writer: &mut Writer) -> Result<(), RepoError> {
        for _ in 0..INDEX_TRIES {
            writer.writes_index(branch);
            let written = index.write();
            writer.moves(branch);
            match written {
                Err(error) if error.code() == git2::ErrorCode::Locked => std::thread::sleep(INDEX_PAUSE),
                written => return written.map_err(|e| RepoError::git("write the index", self.repository.path(), e)),
            }
        }
        let what = "another git has the index: its `index.lock` is there";
        Err(RepoError::git("write the index", self.repository.path(), git2::Error::from_str(what)))
    }

    /// Returns true for a path that no link leads out of the work tree.
    fn is_inside(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        let (Some(parent), Some(folder)) = (path.parent().and_then(real), real(self.folder())) else { return false };
        parent.starts_with(folder) && !path.symlink_metadata().is_ok_and(|found| found.is_symlink())
    }

    /// Writes a file of the work tree, then renames it into place: after a kill, half a file would look like an edit. A
    /// work tree on another disk than its repository has no rename, and a kill may leave half a file there.
    fn put_file(&self, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
        let begun = self.repository.path().join(BEGUN_FILE);
        std::fs::write(&begun, bytes)?;
        if let Ok(found) = std::fs::metadata(path) {
            // A file that others may write stays one.
            drop(std::fs::set_permissions(&begun, found.permissions()));
        }
        std::fs::rename(&begun, path).or_else(|_| {
            drop(std::fs::remove_file(&begun));
            std::fs::write(path, bytes)
        })
    }

    /// Restores the files that a move changed, as the branch has them at `tip`. A file that somebody has staged or
    /// edited since keeps that. The mark is kept when this fails, so that the next writer tries it again.
    fn take_back_of(&self, moved: BranchMove, tip: Oid, writer: &mut Writer) -> Result<(), RepoError> {
        let taken = self.try_take_back(moved, tip, writer);
        if taken.is_err() {
            writer.keep_mark();
        }
        taken
    }

    fn try_take_back(&self, moved: BranchMove, tip: Oid, writer: &mut Writer) -> Result<(), RepoError> {
        let fail = |e| RepoError::git("take back the files", self.repository.path(), e);
        let tree_of = |commit| self.repository.find_commit(commit).and_then(|commit| commit.tree());
        // A commit that cannot be read was never checked out.
        let (Ok(from), Ok(to)) = (tree_of(moved.from), tree_of(moved.to)) else { return Ok(()) };
        if tip == moved.to || self.repository.graph_descendant_of(tip, moved.to).unwrap_or(false) {
            return Ok(());
        }
        let tree = tree_of(tip).map_err(fail)?;
        let changed = self.repository.diff_tree_to_tree(Some(&from), Some(&to), None).map_err(fail)?;
        let changed: Vec<(&Path, Oid)> =
            changed.deltas().filter_map(|delta| Some((delta.new_file().path()?, delta.new_file().id()))).collect();
        let mut index = self.repository.index().map_err(fail)?;
        index.read(true).map_err(fail)?;
        for (path, id) in &changed {
            if index.get_path(path, 0).is_some_and(|entry| entry.id == *id) {
                match tree.get_path(path) {
                    Ok(entry) => index.add(&entry_of(path, entry.id(), entry.filemode())).map_err(fail)?,
                    Err(_) => drop(index.remove_path(path)),
                }
            }
        }
        // First the index: while another git has it, nothing is taken back at all.
        self.write_index(&mut index, moved, writer)?;
        for (path, id) in changed {
            let Some(file) = self.repository.workdir().map(|folder| folder.join(path)) else { continue };
            let is_as_moved = Oid::hash_file(git2::ObjectType::Blob, &file).is_ok_and(|found| found == id);
            if !is_as_moved || !self.is_inside(&file) {
                continue;
            }
            match tree.get_path(path) {
                Ok(entry) => {
                    let blob = self.repository.find_blob(entry.id()).map_err(fail)?;
                    drop(self.put_file(&file, blob.content()));
                }
                Err(_) => drop(std::fs::remove_file(file)),
            }
        }
        Ok(())
    }

    /// Returns another work tree of the repository that has a branch checked out: its files cannot follow.
    fn other_work_tree(&self, reference: &str) -> Option<PathBuf> {
        let names = self.repository.worktrees().ok()?;
        let found = names.iter().filter_map(|name| self.repository.find_worktree(name.ok()??).ok());
        let own = self.folder().canonicalize().ok();
        let has_it = |folder: &PathBuf| {
            let there = git2::Repository::open(folder).ok();
            let head = there.and_then(|there| there.head().ok().and_then(|head| head.name().ok().map(str::to_string)));
            folder.canonicalize().ok() != own && head.as_deref() == Some(reference)
        };
        found.map(|one| one.path().to_path_buf()).find(has_it)
    }
}

/// Returns an entry of the index that git looks at again: the file may be another one.
fn entry_of(path: &Path, id: Oid, mode: i32) -> git2::IndexEntry {
    let never = git2::IndexTime::new(0, 0);
    git2::IndexEntry {
        ctime: never,
        mtime: never,
        dev: 0,
        ino: 0,
        mode: mode as u32,
        uid: 0,
        gid: 0,
        file_size: 0,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_string_lossy().into_owned().into_bytes(),
    }
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

#[cfg(test)]
mod tests {
    use super::super::writer::mark_path;
    use super::*;

    const MAIN: &str = "refs/heads/main";

    fn commit(name: &str) -> DeclaredCommit {
        let files = vec![DeclaredFile { path: format!("{name}.yaml"), text: format!("{name}: 1\n") }];
        DeclaredCommit { files, message: name.to_string(), author: ("T".to_string(), "t@example.com".to_string()) }
    }

    /// A writer has died between the index and the branch, and left its locks.
    #[test]
    fn what_a_dead_writer_has_checked_out_is_taken_back_and_edits_stay() {
        let folder = tempfile::tempdir().unwrap();
        let repo = Repo::open_or_init(folder.path()).unwrap();
        let own = Signature::now("T", "t@example.com").unwrap();
        let empty = repo.repository.treebuilder(None).and_then(|tree| tree.write()).unwrap();
        let empty = repo.repository.find_tree(empty).unwrap();
        let tip = repo.repository.commit(Some(MAIN), &own, &own, "first", &empty, &[]).unwrap();
        repo.repository.set_head(MAIN).unwrap();

        let (a, b) = (commit("a"), commit("b"));
        let files = [a.files.clone(), b.files.clone()].concat();
        let chain = repo.commit_chain(&tip.to_string(), &[a, b]).unwrap();
        let dead = BranchMove { from: tip, to: Oid::from_str(&chain[1]).unwrap() };
        let (git, lock) = (folder.path().join(".git"), folder.path().join(".git/index.lock"));
        let mut writer = Writer::begin_with_index(&git, MAIN, &lock);
        repo.check_out(dead, &files, &mut writer).unwrap();
        drop(writer);
        std::fs::write(mark_path(&git, MAIN), format!("index {} {}", dead.to, dead.from)).unwrap();
        std::fs::write(&lock, "DIRC").unwrap();
        std::fs::write(folder.path().join("b.yaml"), "b: 2\n").unwrap();

        let next = commit("c");
        let to = repo.commit_chain(&tip.to_string(), std::slice::from_ref(&next)).unwrap().remove(0);
        let moved = repo.move_declared::<RepoError>(MAIN, (&tip.to_string(), &to), &next.files, || Ok(()));
        assert!(moved.unwrap());
        let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(text("a.yaml"), None, "it is as it was before the dead one");
        assert_eq!(text("b.yaml").as_deref(), Some("b: 2\n"), "what somebody has edited stays");
        assert_eq!(text("c.yaml").as_deref(), Some("c: 1\n"));
        let index = git2::Index::open(&git.join("index")).unwrap();
        let names: Vec<_> = index.iter().map(|entry| String::from_utf8(entry.path).unwrap()).collect();
        assert_eq!(names, ["c.yaml"]);
        assert!(!lock.exists());
    }
}
