//! The file of a registry that is not open.

use std::cell::Cell;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use jiff::Timestamp;

use super::super::{ExclusionFailure, Exclusive, Listening, RegistryError, Store, StorePlace};
use super::SqliteStore;
use super::file_state::FileState;
use super::kept::Kept;
use super::lock::LockFile;

/// The registry of a fleet at a path.
#[derive(Debug, Clone)]
pub struct SqlitePlace {
    path: PathBuf,
    fleet: String,
    kept: Kept,
    /// SQLite has read the file.
    is_known: Cell<bool>,
}

impl SqlitePlace {
    /// Returns the place of a fleet's registry.
    pub fn new(path: PathBuf, fleet: &str) -> SqlitePlace {
        SqlitePlace { path, fleet: fleet.to_string(), kept: Kept::default(), is_known: Cell::default() }
    }

    /// Returns the path of the lock beside a registry.
    pub fn lock_path(path: &Path) -> PathBuf {
        path.with_extension("lock")
    }

    /// Returns the path of the lock of the daemon that listens.
    pub fn listener_path(path: &Path) -> PathBuf {
        path.with_extension("listener")
    }

    /// Returns every path that SQLite reads as part of a registry: the file itself and those beside it.
    pub fn files(path: &Path) -> impl Iterator<Item = PathBuf> {
        ["", "-wal", "-shm", "-journal"].into_iter().map(|ending| {
            let mut name = path.as_os_str().to_owned();
            name.push(ending);
            PathBuf::from(name)
        })
    }
}

impl StorePlace for SqlitePlace {
    fn location(&self) -> String {
        self.path.display().to_string()
    }

    fn is_there(&self) -> Result<bool, RegistryError> {
        Ok(self.path.exists())
    }

    fn open(&self) -> Result<Box<dyn Store>, RegistryError> {
        let store = SqliteStore::open(&self.path, &self.fleet, &self.kept)?;
        self.is_known.set(true);
        Ok(Box::new(store))
    }

    fn open_for_reading(&self) -> Result<Box<dyn Store>, RegistryError> {
        let store = SqliteStore::open_for_reading(&self.path, &self.fleet, &self.kept)?;
        self.is_known.set(self.path.exists());
        Ok(Box::new(store))
    }

    fn keep_open(&self) {
        self.kept.begin();
    }

    fn close_kept(&self) {
        self.kept.close(&self.path);
    }

    fn state(&self, now: Timestamp) -> Option<String> {
        let mut state = String::new();
        // The index of the write-ahead log is written by who reads, too, and a log without anything is made, cut and
        // removed by them.
        for file in SqlitePlace::files(&self.path).filter(|file| !file.to_string_lossy().ends_with("-shm")) {
            match FileState::of(&file) {
                Ok(found) if found.is_empty() && file != self.path => {}
                Ok(found) if found.is_left_alone(now) => state += &format!("{found:?} "),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Ok(_) | Err(_) => return None,
            }
        }
        Some(state)
    }

    fn holder(&self) -> Option<String> {
        LockFile::holder(&SqlitePlace::lock_path(&self.path))
    }

    fn exclude(&self, owner: &str) -> Result<Rc<dyn Exclusive>, ExclusionFailure> {
        // A lock is made beside a registry only. One that is open in this process is not looked at: when the system
        // closes the file, the locks are gone that SQLite has on it for its connections, and another process that
        // closes the registry removes the write-ahead log that is written here.
        if !self.is_known.get()
            && let Ok(file) = File::open(&self.path)
            && !is_sqlite(&file)
        {
            let location = self.path.display().to_string();
            return Err(ExclusionFailure::Failed(RegistryError::NotARegistry { location }));
        }
        Ok(Rc::new(LockFile::take(&SqlitePlace::lock_path(&self.path), owner)?))
    }

    fn listen(&self, owner: &str) -> Result<Rc<dyn Listening>, ExclusionFailure> {
        Ok(Rc::new(LockFile::take(&SqlitePlace::listener_path(&self.path), owner)?))
    }
}

/// Returns true for a file that is empty or begins as those of SQLite do (<https://sqlite.org/fileformat.html>, 1.3.1).
fn is_sqlite(file: &File) -> bool {
    const MAGIC: &[u8] = b"SQLite format 3\0";
    let mut begin = Vec::new();
    let is_read = file.take(MAGIC.len() as u64).read_to_end(&mut begin).is_ok();
    is_read && (begin.is_empty() || begin == MAGIC)
}
