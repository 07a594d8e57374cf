//! The results branch: an orphan branch that only grows.
//!
//! A writer makes a commit from blobs and trees, then moves the reference by compare-and-swap. Two writers:
//!
//! 1. A and B read the tip T.
//! 2. A commits T -> A1 and swaps T for A1.
//! 3. B commits T -> B1; its swap finds A1 instead of T and fails.
//! 4. B builds its change again on A1. When A1 has a file that B's change must be the first to write, B has lost.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use git2::{FileMode, ObjectType, Oid, Repository, Signature, TreeWalkMode, TreeWalkResult};

use super::RepoError;
use super::writer::{Writer, lock_path, mark_path};
use crate::model::limits;

/// How often a writer builds its change again before it gives up.
const ATTEMPTS_MAX: usize = 100;
/// How long a writer waits for another's lock on the reference before it tries again.
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
/// How often a writer finds the lock before it gives up. After a fifth of a second the lock was left by a dead process,
/// and not by a fleetform: [`Writer`] cleans up after those.
const LOCKED_MAX: usize = 10;

/// A file to write.
#[derive(Debug, Clone)]
pub struct FileChange {
    pub path: String,
    pub content: Content,
    /// The change is refused when the branch has a file at this path; used for claims.
    pub must_be_new: bool,
}

/// The content of a file.
#[derive(Debug, Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    /// Written before with [`ResultsBranch::write_blob`].
    Blob(BlobId),
}

/// A blob in the object database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobId(pub(super) Oid);

/// The files that differ, by path: the new blob, or `None` for a file that was removed.
pub type Changes = BTreeMap<String, Option<BlobId>>;

impl BlobId {
    /// Returns the git id of some bytes, whether or not the object database has them.
    ///
    /// # Panics
    /// Never: hashing bytes in memory does not fail.
    pub fn of_bytes(bytes: &[u8]) -> BlobId {
        BlobId(Oid::hash_object(ObjectType::Blob, bytes).expect("hashing bytes in memory does not fail"))
    }
}

impl std::fmt::Display for BlobId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl FileChange {
    /// Returns a file with some bytes, which may replace another.
    pub fn bytes(path: impl Into<String>, bytes: Vec<u8>) -> FileChange {
        FileChange { path: path.into(), content: Content::Bytes(bytes), must_be_new: false }
    }

    /// Returns a file that is a blob written before.
    pub fn blob(path: impl Into<String>, blob: BlobId) -> FileChange {
        FileChange { path: path.into(), content: Content::Blob(blob), must_be_new: false }
    }

    /// Makes the change fail when the file exists.
    #[must_use]
    pub fn first(mut self) -> FileChange {
        self.must_be_new = true;
        self
    }
}

/// The branch that results are committed to.
pub struct ResultsBranch<'a> {
    repository: &'a Repository,
    pub(super) reference: String,
    /// The registry whose commits these are; `None` where that is not checked.
    pub(super) registry: Option<String>,
    /// The SSH key that signs the commits.
    pub(super) signing_key: Option<PathBuf>,
}

impl<'a> ResultsBranch<'a> {
    pub(super) fn new(repository: &'a Repository, branch: &str) -> ResultsBranch<'a> {
        ResultsBranch { repository, reference: format!("refs/heads/{branch}"), registry: None, signing_key: None }
    }

    /// Returns the name of the branch without `refs/heads/`.
    pub fn name(&self) -> &str {
        self.reference.trim_start_matches("refs/heads/")
    }

    /// Returns the id of its newest commit, `None` when there is no such branch.
    ///
    /// # Errors
    /// The reference cannot be read.
    pub fn tip(&self) -> Result<Option<String>, RepoError> {
        Ok(self.tip_id()?.map(|id| id.to_string()))
    }

    /// Returns the tip of the local branch. A fresh clone has none; then this is the tip last seen on a remote, and the
    /// first commit makes the local branch on top of it.
    pub(super) fn tip_id(&self) -> Result<Option<Oid>, RepoError> {
        let fail = |error| self.error("read the results branch", error);
        if let Some(local) = self.local_id()? {
            return Ok(Some(local));
        }
        Ok(self.tracked_tip().map_err(fail)?.map(|(_, tip)| tip))
    }

    /// Returns a remote and the tip of the branch that was last seen on it: of several the one that has the others, or
    /// the first when they have diverged.
    fn tracked_tip(&self) -> Result<Option<(String, Oid)>, git2::Error> {
        let mut newest: Option<(String, Oid)> = None;
        for remote in self.repository.remotes()?.iter().flatten().flatten() {
            let name = format!("refs/remotes/{remote}/{}", self.name());
            let Ok(id) = self.repository.refname_to_id(&name) else { continue };
            let is_newer = match &newest {
                Some((_, tip)) => self.repository.graph_descendant_of(id, *tip)?,
                None => true,
            };
            if is_newer {
                newest = Some((remote.to_string(), id));
            }
        }
        Ok(newest)
    }

    /// Returns the remote whose branch is read because the local one is gone, although results were written to it in
    /// this repository: what was not pushed is missing. `None` in a fresh clone, and when the branch is there.
    ///
    /// # Errors
    /// The references cannot be read.
    pub fn stands_in(&self) -> Result<Option<String>, RepoError> {
        if self.local_id()?.is_some() || !mark_path(self.repository.commondir(), &self.reference).exists() {
            return Ok(None);
        }
        let tracked = self.tracked_tip().map_err(|error| self.error("read the results branch", error))?;
        Ok(tracked.map(|(remote, _)| remote))
    }

    pub(super) fn local_id(&self) -> Result<Option<Oid>, RepoError> {
        match self.repository.refname_to_id(&self.reference) {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.error("read the results branch", error)),
        }
    }

    /// Returns the bytes of a file at the tip, `None` when it is not there.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, RepoError> {
        let Some(tip) = self.tip_id()? else { return Ok(None) };
        self.read_at(tip, path)
    }

    pub(super) fn read_at(&self, tip: Oid, path: &str) -> Result<Option<Vec<u8>>, RepoError> {
        let fail = |e| self.error("read results", e);
        let tree = self.repository.find_commit(tip).and_then(|commit| commit.tree()).map_err(fail)?;
        match tree.get_path(Path::new(path)) {
            Ok(entry) => self.bounded(entry.id(), limits::RESULT_FILE_BYTES_MAX).map(Some),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(fail(error)),
        }
    }

    /// Returns the bytes of every file at the tip that `wanted` picks by its path, sorted by path.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn read_all(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>, RepoError> {
        let entries = self.entries(wanted)?.into_iter();
        entries.map(|(path, blob)| Ok((path, self.read_blob(blob)?))).collect()
    }

    /// Returns the bytes of every file in or below a folder at the tip that `wanted` picks by its path, sorted by path.
    /// Other folders are not read.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn read_below(
        &self,
        folder: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Vec<u8>>, RepoError> {
        let entries = self.entries_below(folder, wanted)?.into_iter();
        entries.map(|(path, blob)| Ok((path, self.read_blob(blob)?))).collect()
    }

    /// Returns the blob of every file below a folder at the tip that `wanted` picks by its path, sorted by path.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn entries_below(
        &self,
        folder: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, BlobId>, RepoError> {
        let Some(tip) = self.tip_id()? else { return Ok(BTreeMap::new()) };
        let fail = |e| self.error("read results", e);
        let root = self.repository.find_commit(tip).and_then(|commit| commit.tree()).map_err(fail)?;
        let folder = folder.trim_end_matches('/');
        let tree = match root.get_path(Path::new(folder)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Tree) => {
                self.repository.find_tree(entry.id()).map_err(fail)?
            }
            Ok(_) => return Ok(BTreeMap::new()),
            Err(error) if error.code() == git2::ErrorCode::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(fail(error)),
        };
        self.files_of(&tree, &format!("{folder}/"), wanted)
    }

    /// Returns the blob of every file at the tip that `wanted` picks by its path, sorted by path.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn entries(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, BlobId>, RepoError> {
        match self.tip()? {
            Some(tip) => self.entries_at(&tip, wanted),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Returns the blob of every file at a commit that `wanted` picks by its path, sorted by path.
    ///
    /// # Errors
    /// The commit does not exist, or the object database cannot be read.
    pub fn entries_at(
        &self,
        commit: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, BlobId>, RepoError> {
        let fail = |e| self.error("read results", e);
        let commit = Oid::from_str(commit).and_then(|id| self.repository.find_commit(id));
        let tree = commit.and_then(|commit| commit.tree()).map_err(fail)?;
        self.files_of(&tree, "", wanted)
    }

    /// Returns the files of a tree. Their paths begin with the path of its folder, which ends with a slash.
    fn files_of(
        &self,
        tree: &git2::Tree<'_>,
        prefix: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, BlobId>, RepoError> {
        let mut entries = BTreeMap::new();
        let walked = tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
            if entry.kind() == Some(ObjectType::Blob)
                && let Ok(name) = entry.name()
            {
                let path = format!("{prefix}{folder}{name}");
                if wanted(&path) {
                    entries.insert(path, BlobId(entry.id()));
                }
            }
            TreeWalkResult::Ok
        });
        walked.map(|()| entries).map_err(|e| self.error("read results", e))
    }

    /// Returns the files that differ between the commits `before` and `tip`; `None` when `before` does not exist here.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn changes(&self, before: &str, tip: &str) -> Result<Option<Changes>, RepoError> {
        let fail = |e| self.error("compare results", e);
        let tree = |commit: &str| {
            let commit = self.repository.find_commit(Oid::from_str(commit)?)?;
            commit.tree()
        };
        let Ok(before) = tree(before) else { return Ok(None) };
        let after = tree(tip).map_err(fail)?;
        let mut options = git2::DiffOptions::new();
        options.include_typechange(true).skip_binary_check(true).ignore_submodules(true);
        let diff = self.repository.diff_tree_to_tree(Some(&before), Some(&after), Some(&mut options)).map_err(fail)?;
        let mut changes = Changes::new();
        for delta in diff.deltas() {
            let path = |file: git2::DiffFile<'_>| file.path().and_then(Path::to_str).map(str::to_string);
            if let Some(path) = path(delta.old_file()) {
                changes.entry(path).or_insert(None);
            }
            if let Some(path) = path(delta.new_file())
                && matches!(delta.new_file().mode(), FileMode::Blob | FileMode::BlobExecutable | FileMode::Link)
            {
                changes.insert(path, Some(BlobId(delta.new_file().id())));
            }
        }
        Ok(Some(changes))
    }

    /// Returns the bytes of a blob.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn read_blob(&self, blob: BlobId) -> Result<Vec<u8>, RepoError> {
        self.bounded(blob.0, limits::RESULT_FILE_BYTES_MAX)
    }

    /// Returns the bytes of a blob that is a document: a claim, a record or a report.
    ///
    /// # Errors
    /// It is too large for one, or the object database cannot be read.
    pub fn read_document(&self, blob: BlobId) -> Result<Vec<u8>, RepoError> {
        self.bounded(blob.0, limits::RESULT_DOCUMENT_BYTES_MAX)
    }

    /// Returns the bytes of a blob of at most so many bytes: another writer may have pushed anything.
    fn bounded(&self, blob: Oid, max: u64) -> Result<Vec<u8>, RepoError> {
        let fail = |e| self.error("read results", e);
        let (size, _) = self.repository.odb().and_then(|odb| odb.read_header(blob)).map_err(fail)?;
        if size as u64 > max {
            let what = format!("it has {size} bytes, and at most {max} are read");
            return Err(RepoError::Malformed { path: format!("the blob {blob} of {}", self.name()), what });
        }
        Ok(self.repository.find_blob(blob).map_err(fail)?.content().to_vec())
    }

    /// Writes a blob that a later commit will name, so that large results need not be held in memory together.
    ///
    /// # Errors
    /// The object database cannot be written.
    pub fn write_blob(&self, bytes: &[u8]) -> Result<BlobId, RepoError> {
        self.repository.blob(bytes).map(BlobId).map_err(|e| self.error("write results", e))
    }

    /// Commits changes on the tip of the branch and returns the new tip. Makes no commit when nothing changes. Durable
    /// when it returns.
    ///
    /// # Errors
    /// [`RepoError::AlreadyWritten`] when a file that must be new is there; [`RepoError::Contended`] when other writers
    /// kept winning; [`RepoError::Gone`] when there is no branch, because a commit would hide that its history is
    /// missing. Otherwise the repository cannot be written.
    pub fn commit(&self, changes: &[FileChange], message: &str) -> Result<String, RepoError> {
        let (mut writer, mut locked) = (Writer::begin(self.repository.commondir(), &self.reference), 0);
        for _ in 0..ATTEMPTS_MAX {
            let tip = self.tip_id()?.ok_or_else(|| RepoError::Gone { branch: self.name().to_string() })?;
            let Some(commit) = self.commit_on(tip, changes, message)? else { return Ok(tip.to_string()) };
            let from = match self.local_id()? {
                Some(local) if local != tip => continue,
                local => local,
            };
            if self.try_move(&mut writer, &mut locked, from, commit, message)? {
                return Ok(commit.to_string());
            }
        }
        Err(RepoError::Contended { branch: self.name().to_string() })
    }

    /// Writes a commit of changes on top of `tip` and returns it; `None` when it would change nothing. The branch stays
    /// where it is.
    ///
    /// # Errors
    /// [`RepoError::NotOwner`] when the branch is another registry's.
    pub(super) fn commit_on(&self, tip: Oid, changes: &[FileChange], message: &str) -> Result<Option<Oid>, RepoError> {
        self.check_owner(tip, changes)?;
        self.commit_unchecked(tip, changes, message)
    }

    pub(super) fn commit_unchecked(
        &self,
        tip: Oid,
        changes: &[FileChange],
        message: &str,
    ) -> Result<Option<Oid>, RepoError> {
        let fail = |e| self.error("write results", e);
        let parent = self.repository.find_commit(tip).map_err(fail)?;
        let before = parent.tree().map_err(fail)?;
        let is_there = |change: &&FileChange| change.must_be_new && before.get_path(Path::new(&change.path)).is_ok();
        if let Some(change) = changes.iter().find(is_there) {
            return Err(RepoError::AlreadyWritten { path: change.path.clone() });
        }
        let after = self.tree_with(&before, changes)?;
        if after == before.id() {
            return Ok(None);
        }
        let tree = self.repository.find_tree(after).map_err(fail)?;
        let author = self.signature().map_err(fail)?;
        self.write_commit((&author, &author), message, &tree, &[&parent]).map(Some).map_err(fail)
    }

    /// Writes a commit like `tip` with changes beside its own, and returns it; `None` when `tip` has not one parent. The
    /// branch stays where it is.
    pub(super) fn commit_in_place(&self, tip: Oid, changes: &[FileChange]) -> Result<Option<Oid>, RepoError> {
        self.check_owner(tip, changes)?;
        let fail = |e| self.error("write results", e);
        let commit = self.repository.find_commit(tip).map_err(fail)?;
        let Ok(parent) = commit.parent(0) else { return Ok(None) };
        if commit.parent_count() != 1 {
            return Ok(None);
        }
        let tree = self.tree_with(&commit.tree().map_err(fail)?, changes)?;
        let tree = self.repository.find_tree(tree).map_err(fail)?;
        let (author, committer) = (commit.author(), commit.committer());
        let message = commit.message().unwrap_or_default();
        self.write_commit((&author, &committer), message, &tree, &[&parent]).map(Some).map_err(fail)
    }

    /// Moves the local branch by compare-and-swap; makes it when `from` is `None`.
    ///
    /// # Errors
    /// [`RepoError::Contended`] when the branch is not at `from`.
    pub(super) fn move_local(&self, from: Option<Oid>, to: Oid) -> Result<(), RepoError> {
        let (mut writer, mut locked) = (Writer::begin(self.repository.commondir(), &self.reference), 0);
        for _ in 0..LOCKED_MAX {
            if self.try_move(&mut writer, &mut locked, from, to, "results")? {
                return Ok(());
            }
            if self.local_id()? != from {
                break;
            }
        }
        Err(RepoError::Contended { branch: self.name().to_string() })
    }

    /// Returns false when another writer has moved the branch or holds its lock; in the latter case after a pause.
    pub(super) fn try_move(
        &self,
        writer: &mut Writer,
        locked: &mut usize,
        from: Option<Oid>,
        to: Oid,
        message: &str,
    ) -> Result<bool, RepoError> {
        writer.moves_to(to);
        let log = message.lines().next().unwrap_or_default();
        let moved = match from {
            Some(from) => self.repository.reference_matching(&self.reference, to, true, from, log),
            None => self.repository.reference(&self.reference, to, false, log),
        };
        match moved {
            Ok(_) => Ok(true),
            Err(error) if error.code() == git2::ErrorCode::Locked => self.wait_for_lock(locked).map(|()| false),
            Err(error) if is_lost_race(&error) => Ok(false),
            Err(error) => Err(self.error("write results", error)),
        }
    }

    /// Waits a while for the process that has locked the reference; fails after [`LOCKED_MAX`] tries.
    pub(super) fn wait_for_lock(&self, locked: &mut usize) -> Result<(), RepoError> {
        *locked += 1;
        if *locked == LOCKED_MAX {
            let path = lock_path(self.repository.commondir(), &self.reference);
            return Err(RepoError::Locked { branch: self.name().to_string(), path });
        }
        std::thread::sleep(LOCK_PAUSE);
        Ok(())
    }

    /// Returns the author of commits: the configured user of the repository, or fleetform when none is configured.
    pub(super) fn signature(&self) -> Result<Signature<'static>, git2::Error> {
        self.repository.signature().or_else(|_| Signature::now("fleetform", "fleetform@localhost"))
    }

    /// Returns the branch because of which this one cannot exist.
    pub fn in_the_way(&self) -> Option<String> {
        super::branch_in_the_way(self.repository(), self.name())
    }

    pub(super) fn repository(&self) -> &'a Repository {
        self.repository
    }

    pub(super) fn error(&self, doing: &str, source: git2::Error) -> RepoError {
        RepoError::git(doing, self.repository.path(), source)
    }
}

fn is_lost_race(error: &git2::Error) -> bool {
    matches!(error.code(), git2::ErrorCode::Modified | git2::ErrorCode::Exists)
}
