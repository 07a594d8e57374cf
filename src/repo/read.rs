//! The files of a fleet at a commit, or in the work tree as if it were one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, TreeWalkMode, TreeWalkResult};

use super::{FLEET_FILE, Repo, RepoError};

/// One path of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    File { size: u64 },
    Symlink,
    Submodule,
}

/// The files of one fleet, by their path from its folder. Folders of other fleets inside it are left out.
pub struct FleetTree<'a> {
    /// Sorted; without folders.
    pub entries: BTreeMap<String, Entry>,
    /// `None` for a work tree.
    pub commit: Option<String>,
    /// The id of the git tree of the fleet's folder; `None` for a work tree.
    pub tree: Option<String>,
    from: From<'a>,
}

enum From<'a> {
    Objects { repository: &'a git2::Repository, blobs: BTreeMap<String, Oid> },
    Disk { folder: PathBuf },
}

impl Repo {
    /// Returns the files of a commit.
    ///
    /// # Errors
    /// The commit or the fleet's folder in it is not there.
    pub fn tree_at(&self, commit: &str) -> Result<FleetTree<'_>, RepoError> {
        let fail = |e| RepoError::git(format!("read the commit {commit}"), self.repository.path(), e);
        let id = Oid::from_str(commit).map_err(fail)?;
        let root = self.repository.find_commit(id).and_then(|commit| commit.tree()).map_err(fail)?;
        let tree = if self.prefix.is_empty() {
            root
        } else {
            let entry = root.get_path(Path::new(self.prefix.trim_end_matches('/')));
            let missing = |_| RepoError::NoFleetAt { revision: commit.to_string() };
            let object = entry.and_then(|entry| entry.to_object(&self.repository)).map_err(missing)?;
            object.peel_to_tree().map_err(missing)?
        };
        let odb = self.repository.odb().map_err(fail)?;
        let (mut entries, mut blobs) = (BTreeMap::new(), BTreeMap::new());
        let mut failure = None;
        let walked = tree.walk(TreeWalkMode::PreOrder, |folder, entry| {
            let Ok(name) = entry.name() else { return TreeWalkResult::Ok };
            let path = format!("{folder}{name}");
            match entry.kind() {
                Some(ObjectType::Tree) => {
                    let inner = entry.to_object(&self.repository).ok().and_then(|object| object.into_tree().ok());
                    let is_fleet = inner.is_some_and(|inner| inner.get_name(FLEET_FILE).is_some());
                    return if is_fleet { TreeWalkResult::Skip } else { TreeWalkResult::Ok };
                }
                Some(ObjectType::Commit) => {
                    entries.insert(path, Entry::Submodule);
                }
                _ if entry.filemode() == 0o120_000 => {
                    entries.insert(path, Entry::Symlink);
                }
                _ => match odb.read_header(entry.id()) {
                    Ok((size, _)) => {
                        entries.insert(path.clone(), Entry::File { size: size as u64 });
                        blobs.insert(path, entry.id());
                    }
                    Err(error) => {
                        failure = Some(error);
                        return TreeWalkResult::Abort;
                    }
                },
            }
            TreeWalkResult::Ok
        });
        if let Some(error) = failure {
            return Err(fail(error));
        }
        walked.map_err(fail)?;
        Ok(FleetTree {
            entries,
            commit: Some(commit.to_string()),
            tree: Some(tree.id().to_string()),
            from: From::Objects { repository: &self.repository, blobs },
        })
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
        Ok(FleetTree { entries, commit: None, tree: None, from: From::Disk { folder: folder.clone() } })
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
                entries.insert(path, Entry::File { size });
            }
        }
        Ok(())
    }
}

impl FleetTree<'_> {
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

    /// Returns a file to be read as a stream. A blob is in memory once while it is read: libgit2 cannot stream from packs.
    ///
    /// # Errors
    /// It is not there or is no plain file.
    pub fn open(&self, path: &str) -> Result<Box<dyn Read + '_>, RepoError> {
        self.size(path)?;
        match &self.from {
            From::Disk { folder } => {
                let file = File::open(folder.join(path)).map_err(|source| io_error(path, source))?;
                Ok(Box::new(std::io::BufReader::new(file)))
            }
            From::Objects { repository, blobs } => {
                let fail = |e| RepoError::git(format!("read {path}"), repository.path(), e);
                let id = *blobs.get(path).ok_or_else(|| missing(path))?;
                let blob = repository.find_blob(id).map_err(fail)?;
                Ok(Box::new(Cursor::new(BlobContent(blob))))
            }
        }
    }

    /// Returns the id that git gives to the content of a file: the same in a work tree and in a commit.
    ///
    /// # Errors
    /// It is not there, is no plain file or cannot be read.
    pub fn content_id(&self, path: &str) -> Result<String, RepoError> {
        self.size(path)?;
        match &self.from {
            From::Objects { blobs, .. } => blobs.get(path).map(Oid::to_string).ok_or_else(|| missing(path)),
            From::Disk { folder } => {
                let id = Oid::hash_file(ObjectType::Blob, folder.join(path));
                id.map(|id| id.to_string()).map_err(|e| RepoError::git(format!("read {path}"), folder, e))
            }
        }
    }

    fn size(&self, path: &str) -> Result<u64, RepoError> {
        let not_a_file = |what| Err(RepoError::NotAFile { path: path.to_string(), what });
        match self.entries.get(path) {
            Some(Entry::File { size }) => Ok(*size),
            Some(Entry::Symlink) => not_a_file("a symbolic link, which is never followed"),
            Some(Entry::Submodule) => not_a_file("a submodule"),
            None => not_a_file("not there"),
        }
    }
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
