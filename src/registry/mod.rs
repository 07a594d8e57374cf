//! The device registry and the journal of runs, in one SQLite file.
//!
//! Devices with their twins, their keys (in a table of their own, so that no query over devices can show one), the digests of
//! applied imports, and the journal: targets, sent marks and outcomes of runs. A registry write and its outcome row share a
//! transaction, so a crash loses both or neither.
//!
//! What differs from what is desired is found here by SQL; twins never cross this room's door but one at a time.

mod change;
mod claims;
mod devices;
mod error;
mod etag;
mod fence;
mod import;
mod indexes;
mod journal;
mod marks;
mod migrations;
mod observe;
mod outbox;
mod remembered;
mod rows;
mod scratch;
mod sql;
mod write;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension};

pub use claims::NewRun;
pub use devices::{DeviceFilter, DeviceKeys};
pub use error::RegistryError;
pub use etag::{Identity, twin_etag};
pub use import::{Alike, CloudCell, ImportFailure, ImportSpec, RowError, StagedImport};
pub use indexes::IndexChanges;
pub use journal::{JournaledRun, ResultRow};
pub use marks::{LateAnswer, PendingRows, Waits};
pub use migrations::SCHEMA_VERSION;
pub use observe::{Request, Selection, Touched};
pub use remembered::{KeptFile, RememberedRun};
pub use write::{Assignment, Chunk};

/// How long a statement waits for another process's transaction before the registry counts as locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open registry.
pub struct Registry {
    connection: Connection,
    /// For messages; `:memory:` for a registry that does not exist yet.
    path: PathBuf,
    /// True when staged imports are laid over the devices: queries then read the view `fleet`.
    is_overlaid: bool,
    /// Of the lease in whose name it is written; `None` without one.
    epoch: Option<u64>,
    /// Dropped after `connection`: takes away what that one leaves beside the file.
    _sweeper: Option<Connection>,
}

impl Registry {
    /// Opens the registry for writing; makes the file and its folder when they do not exist.
    ///
    /// # Errors
    /// The file cannot be made, is not a registry, belongs to another fleet or is of a newer version.
    pub fn open(path: &Path, fleet: &str) -> Result<Registry, RegistryError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| RegistryError::Folder { path: folder.to_path_buf(), source })?;
        }
        make_private(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|source| RegistryError::from_sqlite(path, "open it", source))?;
        let mut registry =
            Registry { connection, path: path.to_path_buf(), is_overlaid: false, epoch: None, _sweeper: None };
        registry.configure()?;
        let journal = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
        registry.connection.execute_batch(journal).map_err(|e| registry.error("prepare it", e))?;
        registry.migrate(fleet)?;
        Ok(registry)
    }

    /// Opens the registry for reading; one that does not exist yet reads as empty, and no file is made.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn open_for_reading(path: &Path, fleet: &str) -> Result<Registry, RegistryError> {
        if !path.exists() {
            let connection =
                Connection::open_in_memory().map_err(|source| RegistryError::from_sqlite(path, "open it", source))?;
            let mut registry =
                Registry { connection, path: path.to_path_buf(), is_overlaid: false, epoch: None, _sweeper: None };
            registry.configure()?;
            registry.migrate(fleet)?;
            return Ok(registry);
        }
        let sweeper = sweeper(path);
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)
            .map_err(|source| RegistryError::from_sqlite(path, "open it", source))?;
        let registry =
            Registry { connection, path: path.to_path_buf(), is_overlaid: false, epoch: None, _sweeper: sweeper };
        registry.configure()?;
        registry.check_identity(fleet)?;
        Ok(registry)
    }

    /// Lets the registry grow by so many pages of 4 KiB at most while it is open; what needs more fails as on a full disk.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn limit_growth(&mut self, pages: u32) -> Result<(), RegistryError> {
        let limit = || {
            let now: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let most = now + i64::from(pages);
            self.connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |row| row.get::<_, i64>(0))
        };
        limit().map(drop).map_err(|e| self.error("limit its size", e))
    }

    fn configure(&self) -> Result<(), RegistryError> {
        let configure = || {
            self.connection.busy_timeout(BUSY_TIMEOUT)?;
            self.connection.set_prepared_statement_cache_capacity(64);
            self.connection.execute_batch(
                "PRAGMA foreign_keys = ON; PRAGMA temp_store = FILE; PRAGMA temp.cache_size = -16384;",
            )?;
            sql::register_functions(&self.connection)?;
            observe::register_functions(&self.connection)?;
            import::register_functions(&self.connection)
        };
        configure().map_err(|e| self.error("prepare it", e))
    }

    fn check_identity(&self, fleet: &str) -> Result<(), RegistryError> {
        migrations::check_version(&self.connection, &self.path)?;
        let known: Option<String> = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = 'fleet'", [], |row| row.get(0))
            .optional()
            .map_err(|e| self.error("read whose it is", e))?;
        match known {
            Some(known) if known != fleet => Err(RegistryError::Foreign { path: self.path.clone(), known }),
            Some(_) | None => Ok(()),
        }
    }

    fn migrate(&mut self, fleet: &str) -> Result<(), RegistryError> {
        migrations::migrate(&mut self.connection, &self.path, fleet)?;
        self.check_identity(fleet)
    }

    fn error(&self, doing: &'static str, source: rusqlite::Error) -> RegistryError {
        RegistryError::from_sqlite(&self.path, doing, source)
    }

    /// Returns the name of what queries over devices read.
    fn source(&self) -> &'static str {
        if self.is_overlaid { "temp.fleet" } else { "main.device" }
    }
}

/// Returns a connection that does nothing but close last. A connection for reading makes the files `-wal` and `-shm` of a registry at
/// rest and may not remove them; this one does when nobody else has the registry open. `None` where the file cannot be
/// written, or when a process that died left work in its `-wal` file: the next apply takes that over, a reader leaves it alone.
fn sweeper(path: &Path) -> Option<Connection> {
    let mut wal = path.as_os_str().to_os_string();
    wal.push("-wal");
    if std::fs::metadata(&wal).is_ok_and(|file| file.len() > 0) {
        return None;
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).ok()?;
    let read: rusqlite::Result<i64> = connection.pragma_query_value(None, "schema_version", |row| row.get(0));
    read.ok().map(|_| connection)
}

/// Makes the file, or an existing one, readable by its owner only before anything is in it: it holds the devices' keys, and SQLite
/// gives its journal the mode of the file. A failure is told by SQLite, which cannot open it either.
fn make_private(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        drop(std::fs::File::options().create(true).append(true).mode(0o600).open(path));
        drop(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)));
    }
    #[cfg(not(unix))]
    let _ = path;
}
