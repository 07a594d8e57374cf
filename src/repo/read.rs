//! The files of a fleet at a commit, or in the work tree as if it were one.

use std::collections::{BTreeMap, btree_map};
use std::fs::File;
use std::io::{Cursor, Read};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{ObjectType, Oid, TreeWalkMode, TreeWalkResult};

use super::remote::stream_blob;
use super::{FLEET_FILE, Repo, RepoError};
use crate::model::entry::{ContentId, Entry};
use crate::model::limits;

/// Larger blobs are read through git: libgit2 cannot stream from packs, and starting a process takes milliseconds.
const STREAMED_BYTES_MIN: u64 = 16 << 20;

/// The files of one fleet, by their path from its folder. Folders of other fleets inside it are left out.
#[derive(Clone)]
pub struct FleetTree<'a> {
    /// Sorted; without folders.
    pub entries: Arc<BTreeMap<String, Entry>>,
    /// `None` for a work tree.
    pub commit: Option<String>,
    /// The id of the git tree of the fleet's folder; `None` for a work tree.
    pub tree: Option<String>,
    from: From<'a>,
}

#[derive(Clone)]
enum From<'a> {
    Objects {
        repository: &'a git2::Repository,
    },
    /// Files that a sparse checkout leaves out have an id, and are read from the objects.
    Disk {
        repository: &'a git2::Repository,
        folder: PathBuf,
        /// The path of a file, and the bytes to read in its place.
        instead: Option<(String, Arc<[u8]>)>,
    },
}

impl Repo {
    /// Returns the files of a commit.
    ///
    /// # Errors
    /// The commit or the fleet's folder in it is not there.
    pub fn tree_at(&self, commit: &str) -> Result<FleetTree<'_>, RepoError> {
        self.tree_after(commit, None)
    }

    /// Returns the files of a commit. Entries that did not change since `before`, which was read earlier, are reused.
    ///
    /// # Errors
    /// As [`Repo::tree_at`].
    pub fn tree_after(&self, commit: &str, before: Option<&FleetTree<'_>>) -> Result<FleetTree<'_>, RepoError> {
        let fail = |e| RepoError::git(format!("read the commit {commit}"), self.repository.path(), e);
        let tree = self.fleet_tree_of(commit)?;
        let before = before.filter(|before| before.tree.is_some());
        if let Some(before) = before
            && before.tree == Some(tree.id().to_string())
        {
            return Ok(self.tree_of(commit, &tree, Arc::clone(&before.entries)));
        }
        let odb = self.repository.odb().map_err(fail)?;
        // Reading the header of a loose object takes as long as reading the object.
        let mut known =
            before.map(|before| EntryWalk { entries: &before.entries, next: before.entries.range::<str, _>(..) });
        let mut file_of = |path: &str, blob: Oid| {
            let id: Option<ContentId> = blob.as_bytes().try_into().ok();
            match known.as_mut().and_then(|known| known.find(path)) {
                Some(known) if id.is_some() && known.id() == id => Ok(known),
                Some(_) | None => odb.read_header(blob).map(|(size, _)| Entry::File { size: size as u64, id }),
            }
        };
        let (mut entries, mut failure) = (Vec::new(), None);
        let walked = tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
            // What has no name in UTF-8 declares nothing, nor does what lies in it.
            let Ok(name) = entry.name() else { return TreeWalkResult::Skip };
            let path = format!("{folder}{name}");
            let found = match entry.kind() {
                Some(ObjectType::Tree) => {
                    let inner = entry.to_object(&self.repository).ok().and_then(|object| object.into_tree().ok());
                    let is_fleet = inner.is_some_and(|inner| inner.get_name(FLEET_FILE).is_some());
                    return if is_fleet { TreeWalkResult::Skip } else { TreeWalkResult::Ok };
                }
                Some(ObjectType::Commit) => Ok(Entry::Submodule),
                _ if entry.filemode() == 0o120_000 => Ok(Entry::Symlink),
                _ => file_of(&path, entry.id()),
            };
            match found {
                Ok(entry) => entries.push((path, entry)),
                Err(error) => {
                    failure = Some(error);
                    return TreeWalkResult::Abort;
                }
            }
            TreeWalkResult::Ok
        });
        if let Some(error) = failure {
            return Err(fail(error));
        }
        walked.map_err(fail)?;
        Ok(self.tree_of(commit, &tree, Arc::new(entries.into_iter().collect())))
    }

    /// Returns the files of a commit that were read before; `None` when it has another tree than they.
    ///
    /// # Errors
    /// As [`Repo::tree_at`].
    pub fn tree_again(
        &self,
        commit: &str,
        (tree, entries): (&str, &Arc<BTreeMap<String, Entry>>),
    ) -> Result<Option<FleetTree<'_>>, RepoError> {
        let found = self.fleet_tree_of(commit)?;
        Ok((found.id().to_string() == tree).then(|| self.tree_of(commit, &found, Arc::clone(entries))))
    }

    /// Returns the git tree of the fleet's folder at a commit.
    fn fleet_tree_of(&self, commit: &str) -> Result<git2::Tree<'_>, RepoError> {
        let fail = |e| RepoError::git(format!("read the commit {commit}"), self.repository.path(), e);
        let id = Oid::from_str(commit).map_err(fail)?;
        let root = self.repository.find_commit(id).and_then(|commit| commit.tree()).map_err(fail)?;
        if self.prefix.is_empty() {
            return Ok(root);
        }
        let entry = root.get_path(Path::new(self.prefix.trim_end_matches('/')));
        let missing = |_| RepoError::NoFleetAt { revision: commit.to_string() };
        let object = entry.and_then(|entry| entry.to_object(&self.repository)).map_err(missing)?;
        object.peel_to_tree().map_err(missing)
    }

    fn tree_of(&self, commit: &str, tree: &git2::Tree<'_>, entries: Arc<BTreeMap<String, Entry>>) -> FleetTree<'_> {
        let (commit, tree) = (Some(commit.to_string()), Some(tree.id().to_string()));
        FleetTree { entries, commit, tree, from: From::Objects { repository: &self.repository } }
    }

    /// Returns the files of the work tree: all but ignored ones. In a bare repository, the files of `HEAD`.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn work_tree(&self) -> Result<FleetTree<'_>, RepoError> {
        let Some(folder) = &self.folder else {
            return self.tree_at(&self.head()?);
        };
        let mut entries = BTreeMap::new();
        self.walk(folder, "", &mut entries)?;
        self.add_left_out(&mut entries)?;
        let from = From::Disk { repository: &self.repository, folder: folder.clone(), instead: None };
        Ok(FleetTree { entries: Arc::new(entries), commit: None, tree: None, from })
    }

    /// Adds the files that a sparse checkout leaves out, as the index has them.
    fn add_left_out(&self, entries: &mut BTreeMap<String, Entry>) -> Result<(), RepoError> {
        let fail = |e| RepoError::git("read the index", self.repository.path(), e);
        let odb = self.repository.odb().map_err(fail)?;
        for entry in self.repository.index().map_err(fail)?.iter().filter(is_left_out) {
            let path = String::from_utf8_lossy(&entry.path).into_owned();
            let Some(path) = path.strip_prefix(&self.prefix) else { continue };
            let is_hidden = path.split('/').any(|part| part.starts_with('.'));
            let folders = path.match_indices('/').map(|(at, _)| &path[..at]);
            let is_of_other = folders.into_iter().any(|folder| self.is_fleet_folder(folder));
            if is_hidden || is_of_other || entries.contains_key(path) {
                continue;
            }
            let found = match entry.mode {
                0o120_000 => Entry::Symlink,
                0o160_000 => Entry::Submodule,
                _ => {
                    let (size, _) = odb.read_header(entry.id).map_err(fail)?;
                    Entry::File { size: size as u64, id: entry.id.as_bytes().try_into().ok() }
                }
            };
            entries.insert(path.to_string(), found);
        }
        Ok(())
    }

    /// Returns true for a folder below that of the fleet which is another fleet's, on the disk or in the index.
    fn is_fleet_folder(&self, folder: &str) -> bool {
        let file = format!("{folder}/{FLEET_FILE}");
        let is_in_index =
            |index: git2::Index| index.get_path(Path::new(&format!("{}{file}", self.prefix)), 0).is_some();
        self.folder().join(&file).exists() || self.repository.index().is_ok_and(is_in_index)
    }

    fn walk(&self, folder: &Path, prefix: &str, entries: &mut BTreeMap<String, Entry>) -> Result<(), RepoError> {
        let fail = |source| RepoError::Io { path: folder.to_path_buf(), doing: "read", source };
        for item in std::fs::read_dir(folder).map_err(fail)? {
            let item = item.map_err(fail)?;
            let Ok(name) = item.file_name().into_string() else { continue };
            if name.starts_with('.') {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = item.file_type().map_err(fail)?;
            let from_root = format!("{}{path}", self.prefix);
            if self.repository.is_path_ignored(Path::new(&from_root)).unwrap_or(false) {
                continue;
            }
            if kind.is_symlink() {
                entries.insert(path, Entry::Symlink);
            } else if kind.is_dir() {
                let inner = item.path();
                if inner.join(".git").exists() {
                    entries.insert(path, Entry::Submodule);
                } else if !inner.join(FLEET_FILE).exists() {
                    self.walk(&inner, &format!("{path}/"), entries)?;
                }
            } else if kind.is_file() {
                let size = item.metadata().map_err(fail)?.len();
                entries.insert(path, Entry::file(size));
            }
        }
        Ok(())
    }
}

/// A walk over the files of another tree, in nearly the order of git.
struct EntryWalk<'a> {
    entries: &'a BTreeMap<String, Entry>,
    next: btree_map::Range<'a, String, Entry>,
}

impl EntryWalk<'_> {
    /// Returns the entry of a path; quick when it comes right behind the path of the previous call.
    fn find(&mut self, path: &str) -> Option<Entry> {
        let is_it = |(next, _): &(&String, &Entry)| next.as_str() == path;
        let found = self.next.next().filter(is_it).or_else(|| {
            self.next = self.entries.range::<str, _>((Bound::Included(path), Bound::Unbounded));
            self.next.next().filter(is_it)
        });
        found.map(|(_, entry)| *entry)
    }
}

impl FleetTree<'_> {
    /// Returns a work tree as it would be with these bytes at a path. A commit stays as it is.
    #[must_use]
    pub fn with(mut self, path: &str, bytes: &[u8]) -> Self {
        if let From::Disk { instead, .. } = &mut self.from {
            *instead = Some((path.to_string(), bytes.into()));
            Arc::make_mut(&mut self.entries).insert(path.to_string(), Entry::file(bytes.len() as u64));
        }
        self
    }

    /// Returns the tree with some of its files only.
    #[must_use]
    pub fn only(mut self, keep: impl Fn(&str) -> bool) -> Self {
        Arc::make_mut(&mut self.entries).retain(|path, _| keep(path));
        self
    }

    /// Returns the bytes of a file.
    ///
    /// # Errors
    /// It is not there, is no plain file, or has more than `max` bytes.
    pub fn read(&self, path: &str, max: u64) -> Result<Vec<u8>, RepoError> {
        let size = self.size(path)?;
        if size > max {
            return Err(RepoError::TooLarge { path: path.to_string(), size, max });
        }
        let mut bytes = Vec::new();
        let mut file = self.open(path)?.take(max);
        file.read_to_end(&mut bytes).map_err(|source| io_error(path, source))?;
        Ok(bytes)
    }

    /// Returns a stream over a file. A small blob is held in memory while it is read.
    ///
    /// # Errors
    /// It is not there or is no plain file.
    pub fn open(&self, path: &str) -> Result<Box<dyn Read + '_>, RepoError> {
        let (size, max) = (self.size(path)?, limits::IMPORT_FILE_BYTES_MAX);
        if size > max {
            return Err(RepoError::TooLarge { path: path.to_string(), size, max });
        }
        match &self.from {
            From::Disk { instead: Some((other, bytes)), .. } if other == path => {
                Ok(Box::new(Cursor::new(Arc::clone(bytes))))
            }
            From::Disk { repository, .. } if self.blob_of(path).is_ok() => self.open_blob(repository, path),
            From::Disk { folder, .. } => {
                let file = File::open(folder.join(path)).map_err(|source| io_error(path, source))?;
                Ok(Box::new(std::io::BufReader::new(file)))
            }
            From::Objects { repository } => self.open_blob(repository, path),
        }
    }

    fn open_blob<'r>(&self, repository: &'r git2::Repository, path: &str) -> Result<Box<dyn Read + 'r>, RepoError> {
        let fail = |e| RepoError::git(format!("read {path}"), repository.path(), e);
        let id = self.blob_of(path)?;
        if self.size(path)? > STREAMED_BYTES_MIN
            && let Ok(stream) = stream_blob(repository.path(), id)
        {
            return Ok(Box::new(stream));
        }
        let blob = repository.find_blob(id).map_err(fail)?;
        Ok(Box::new(Cursor::new(BlobContent(blob))))
    }

    fn blob_of(&self, path: &str) -> Result<Oid, RepoError> {
        let id = self.entries.get(path).and_then(|entry| entry.id());
        id.and_then(|id| Oid::from_bytes(&id).ok()).ok_or_else(|| missing(path))
    }

    /// Returns the id that git gives to the content of a file: the same in a work tree and in a commit.
    ///
    /// # Errors
    /// It is not there, is no plain file or cannot be read.
    pub fn content_id(&self, path: &str) -> Result<String, RepoError> {
        self.size(path)?;
        match &self.from {
            From::Objects { .. } => self.blob_of(path).map(|id| id.to_string()),
            From::Disk { instead: Some((other, bytes)), folder, .. } if other == path => {
                let id = Oid::hash_object(ObjectType::Blob, bytes);
                id.map(|id| id.to_string()).map_err(|e| RepoError::git(format!("read {path}"), folder, e))
            }
            From::Disk { .. } if self.blob_of(path).is_ok() => self.blob_of(path).map(|id| id.to_string()),
            From::Disk { repository, folder, .. } => {
                let file = folder.join(path);
                let id = Oid::hash_file(ObjectType::Blob, &file);
                let id = id.map_err(|e| RepoError::git(format!("read {path}"), folder, e))?;
                Ok(staged_id(repository, &file, id).unwrap_or(id).to_string())
            }
        }
    }

    fn size(&self, path: &str) -> Result<u64, RepoError> {
        let not_a_file = |what| Err(RepoError::NotAFile { path: path.to_string(), what });
        match self.entries.get(path) {
            Some(Entry::File { size, .. }) => Ok(*size),
            Some(Entry::Symlink) => not_a_file("a symbolic link, which is never followed"),
            Some(Entry::Submodule) => not_a_file("a submodule"),
            None => not_a_file("not there"),
        }
    }
}

/// Returns true for an entry of the index that a sparse checkout leaves out of the work tree (`skip-worktree`).
fn is_left_out(entry: &git2::IndexEntry) -> bool {
    git2::IndexEntryExtendedFlag::from_bits_truncate(entry.flags_extended)
        .contains(git2::IndexEntryExtendedFlag::SKIP_WORKTREE)
}

/// Returns the id that the index has for a file of the work tree whose bytes have another id: line ends, encodings and
/// filters make the two differ. `None` when the index has the file with another content, or has it not, and when git was
/// told to pass over changes of the file (`git update-index --assume-unchanged`).
fn staged_id(repository: &git2::Repository, file: &Path, id: Oid) -> Option<Oid> {
    let root = repository.workdir()?.canonicalize().ok()?;
    let path = file.canonicalize().ok()?.strip_prefix(root).ok()?.to_path_buf();
    let entry = repository.index().ok()?.get_path(&path, 0)?;
    let is_passed_over = git2::IndexEntryFlag::from_bits_truncate(entry.flags).is_valid();
    if entry.id == id || is_passed_over {
        return None;
    }
    let changed = git2::Status::WT_MODIFIED | git2::Status::WT_TYPECHANGE | git2::Status::WT_DELETED;
    let status = repository.status_file(&path).ok()?;
    (!status.intersects(changed)).then_some(entry.id)
}

/// A blob as bytes without a copy of them.
struct BlobContent<'a>(git2::Blob<'a>);

impl AsRef<[u8]> for BlobContent<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0.content()
    }
}

fn missing(path: &str) -> RepoError {
    RepoError::NotAFile { path: path.to_string(), what: "not there" }
}

fn io_error(path: &str, source: std::io::Error) -> RepoError {
    RepoError::Io { path: PathBuf::from(path), doing: "read", source }
}
