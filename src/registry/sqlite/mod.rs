//! A registry in one SQLite file.
//!
//! Each connection belongs to one [`SqliteStore`]. Reading is in `devices`, `observe`, `journal`, `marks` and
//! `remembered`; writing in the same files, as functions over a transaction that `commit` calls. `import` stages files
//! in temporary tables. `rusqlite` brings SQLite; to replace SQLite, implement another [`Store`].

mod answers;
mod claims;
mod commit;
mod connections;
mod devices;
mod fence;
mod file_state;
mod heard;
mod identities;
mod identity;
mod import;
mod indexes;
mod journal;
mod kept;
mod lock;
mod marks;
mod messages;
mod migrations;
mod observe;
mod outbox;
mod outcome_counts;
mod place;
mod port;
mod remembered;
mod residual;
mod rows;
mod scratch;
mod secrets;
mod single;
mod status;
mod transfer;
mod twin_rows;
mod twins;
mod write;

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension};

use super::{
    Answer, BranchCopy, Change, Devices, Fence, Flaw, Imports, Journal, NextFile, Registry, RegistryError,
    RegistryIdentity, RowSink, RowSource, Store,
};
use crate::model::secret::SecretKey;
use kept::{Kept, Lent};

pub use migrations::SCHEMA_VERSION;
pub use place::SqlitePlace;

/// How long a statement waits for another process's transaction before the registry counts as locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// An open registry in an SQLite file.
pub struct SqliteStore {
    connection: Lent,
    /// The path, for messages.
    location: String,
    /// True when staged imports are laid over the devices: queries then read the view `fleet`.
    is_overlaid: bool,
}

/// Opens the registry of a fleet for writing; makes the file and its folder when they do not exist.
///
/// # Errors
/// The file cannot be made, is not a registry, belongs to another fleet or is of a newer version.
pub fn open(path: &Path, fleet: &str) -> Result<Registry, RegistryError> {
    Ok(Registry::new(Box::new(SqliteStore::open(path, fleet, &Kept::default())?)))
}

/// Opens the registry of a fleet for reading; one that does not exist yet reads as empty, and no file is made.
///
/// # Errors
/// As [`open`].
pub fn open_for_reading(path: &Path, fleet: &str) -> Result<Registry, RegistryError> {
    Ok(Registry::new(Box::new(SqliteStore::open_for_reading(path, fleet, &Kept::default())?)))
}

/// Returns the identity of the registry in a file, whoever's it is; `None` when it cannot be read.
pub fn identity_at(path: &Path) -> Option<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).ok()?;
    connection.busy_timeout(BUSY_TIMEOUT).ok()?;
    identity::read(&connection).ok().map(|identity| identity.id)
}

impl SqliteStore {
    fn open(path: &Path, fleet: &str, kept: &Kept) -> Result<SqliteStore, RegistryError> {
        let location = path.display().to_string();
        if let Some(store) = SqliteStore::lent(kept.lend(path, true), &location, fleet)? {
            return Ok(store);
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .map_err(|source| RegistryError::Folder { location: folder.display().to_string(), source })?;
        }
        let connection = kept.open(path, true, || {
            let is_new = make_private(path);
            let flags =
                OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let opened = Connection::open_with_flags(path, flags);
            let connection = opened.map_err(|source| failure(&location, "open it", source))?;
            let mut store = SqliteStore::over(connection, location.clone());
            store.configure()?;
            if !is_new {
                // What is not ours is left as it is.
                migrations::check_ours(&store.connection, &store.location)?;
                restrict(path);
            }
            let journal = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;";
            store.connection.execute_batch(journal).map_err(|e| store.error("prepare it", e))?;
            store.migrate(fleet)?;
            Ok(store.connection)
        })?;
        Ok(SqliteStore { connection, location, is_overlaid: false })
    }

    fn open_for_reading(path: &Path, fleet: &str, kept: &Kept) -> Result<SqliteStore, RegistryError> {
        let location = path.display().to_string();
        if let Some(store) = SqliteStore::lent(kept.lend(path, false), &location, fleet)? {
            return Ok(store);
        }
        let fail = |source| failure(&location, "open it", source);
        if !path.exists() {
            return SqliteStore::in_memory(location, fleet);
        }
        let connection = kept.open(path, false, || {
            let sweeper = sweeper(path);
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags).map_err(fail)?;
            let store = SqliteStore {
                connection: Lent::new(connection, sweeper),
                location: location.clone(),
                is_overlaid: false,
            };
            store.configure()?;
            store.check_identity(fleet)?;
            Ok(store.connection)
        })?;
        Ok(SqliteStore { connection, location, is_overlaid: false })
    }

    /// Returns a store over a connection that was kept, as if it was opened now; `None` without one, and when it cannot
    /// be used any more.
    fn lent(lent: Option<Lent>, location: &str, fleet: &str) -> Result<Option<SqliteStore>, RegistryError> {
        let Some(connection) = lent else { return Ok(None) };
        let mut store = SqliteStore { connection, location: location.to_string(), is_overlaid: false };
        match store.check_identity_again(fleet) {
            Ok(()) => Ok(Some(store)),
            // What is wrong is told by who opens it anew.
            Err(_) => {
                store.connection.close_afterwards();
                Ok(None)
            }
        }
    }

    fn over(connection: Connection, location: String) -> SqliteStore {
        SqliteStore { connection: connection.into(), location, is_overlaid: false }
    }

    /// Returns an empty registry in memory, in the place of one that does not exist.
    pub(super) fn in_memory(location: String, fleet: &str) -> Result<SqliteStore, RegistryError> {
        let connection = Connection::open_in_memory().map_err(|source| failure(&location, "open it", source))?;
        let mut store = SqliteStore::over(connection, location);
        store.configure()?;
        store.migrate(fleet)?;
        Ok(store)
    }

    fn configure(&self) -> Result<(), RegistryError> {
        let configure = || {
            self.connection.busy_timeout(BUSY_TIMEOUT)?;
            self.connection.set_prepared_statement_cache_capacity(64);
            self.connection.execute_batch(
                "PRAGMA foreign_keys = ON; PRAGMA temp_store = FILE; PRAGMA temp.cache_size = -16384;",
            )?;
            observe::register_functions(&self.connection)?;
            super::sql::sqlite::register_functions(&self.connection)?;
            import::register_functions(&self.connection)
        };
        configure().map_err(|e| self.error("prepare it", e))
    }

    fn check_identity(&self, fleet: &str) -> Result<(), RegistryError> {
        migrations::check_version(&self.connection, &self.location)?;
        let known: Option<String> = self
            .connection
            .query_row("SELECT value FROM meta WHERE key = 'fleet'", [], |row| row.get(0))
            .optional()
            .map_err(|e| self.error("read whose it is", e))?;
        match known {
            Some(known) if known != fleet => Err(RegistryError::Foreign { location: self.location.clone(), known }),
            Some(_) | None => Ok(()),
        }
    }

    /// Checks what may have changed of a registry since it was opened: its version, and whose it is.
    fn check_identity_again(&self, fleet: &str) -> Result<(), RegistryError> {
        let read = || {
            let mut version = self.connection.prepare_cached("PRAGMA main.user_version")?;
            let mut known = self.connection.prepare_cached("SELECT value FROM meta WHERE key = 'fleet'")?;
            let version: i64 = version.query_row([], |row| row.get(0))?;
            let known: Option<String> = known.query_row([], |row| row.get(0)).optional()?;
            Ok::<_, rusqlite::Error>((version, known))
        };
        match read() {
            Ok((SCHEMA_VERSION, Some(known))) if known == fleet => Ok(()),
            Ok(_) | Err(_) => self.check_identity(fleet),
        }
    }

    fn migrate(&mut self, fleet: &str) -> Result<(), RegistryError> {
        migrations::migrate(&mut self.connection, &self.location, fleet)?;
        self.check_identity(fleet)
    }

    fn error(&self, doing: &'static str, source: rusqlite::Error) -> RegistryError {
        failure(&self.location, doing, source)
    }

    /// Returns the table or view that queries over devices read.
    fn source(&self) -> &'static str {
        if self.is_overlaid { "temp.fleet" } else { "main.device" }
    }
}

impl Store for SqliteStore {
    fn devices(&self) -> &dyn Devices {
        self
    }

    fn journal(&self) -> &dyn Journal {
        self
    }

    fn imports(&self) -> &dyn Imports {
        self
    }

    fn imports_mut(&mut self) -> &mut dyn Imports {
        self
    }

    fn branch_copy(&self) -> &dyn BranchCopy {
        self
    }

    fn commit(&mut self, fence: Fence, changes: &[Change<'_>]) -> Result<Vec<Answer>, RegistryError> {
        self.commit_changes(fence, changes)
    }

    fn keep_files(&mut self, fence: Fence, next: &mut NextFile<'_>) -> Result<bool, RegistryError> {
        let location = &self.location;
        let fail = |e| failure(location, "keep results", e);
        let transaction = fence::begin(&mut self.connection, fence).map_err(fail)?;
        loop {
            match next() {
                Ok(Some(file)) => {
                    let blob_id = file.blob_id.as_deref();
                    remembered::keep(&transaction, &file.path, &file.content, blob_id).map_err(fail)?;
                }
                Ok(None) => break,
                Err(super::GivenUp) => return Ok(false),
            }
        }
        transaction.commit().map_err(fail)?;
        Ok(true)
    }

    fn enter_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError> {
        self.note_epoch(epoch)
    }

    fn identity(&self) -> Result<RegistryIdentity, RegistryError> {
        identity::read(&self.connection).map_err(|e| self.error("read which registry it is", e))
    }

    fn noted_epoch(&self) -> Result<u64, RegistryError> {
        fence::noted_epoch(&self.connection).map_err(|e| self.error("read the lease", e))
    }

    fn secret_key(&self) -> Result<Option<SecretKey>, RegistryError> {
        secrets::key(&self.connection).map_err(|e| self.error("read the key of its secrets", e))
    }

    fn scratch_copy(&self) -> Result<Box<dyn Store>, RegistryError> {
        Ok(Box::new(self.copy()?))
    }

    fn write_keyless(&self, path: &Path) -> Result<(), RegistryError> {
        self.copy()?.vacuum_without_keys(path)
    }

    fn unload(&self, sink: &mut RowSink<'_>) -> Result<(), RegistryError> {
        self.unload_rows(sink)
    }

    fn flaws(&self) -> Result<Vec<Flaw>, RegistryError> {
        self.contradictions()
    }

    fn load(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError> {
        self.load_rows(source)
    }

    fn limit_growth(&mut self, pages: u32) -> Result<(), RegistryError> {
        self.connection.close_afterwards();
        let limit = || {
            let now: i64 = self.connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
            let most = now + i64::from(pages);
            self.connection.query_row(&format!("PRAGMA max_page_count = {most}"), [], |row| row.get::<_, i64>(0))
        };
        limit().map(drop).map_err(|e| self.error("limit its size", e))
    }
}

/// Converts an error of SQLite to a [`RegistryError`].
fn failure(location: &str, doing: &'static str, source: rusqlite::Error) -> RegistryError {
    let location = location.to_string();
    if fence::is_fenced(&source) {
        return RegistryError::Fenced { location };
    }
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => RegistryError::Locked { location },
        Some(ErrorCode::DiskFull) => RegistryError::Full { location },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
            RegistryError::ReadOnly { location }
        }
        Some(ErrorCode::DatabaseCorrupt) => RegistryError::Corrupt { location, what: "it is damaged".to_string() },
        Some(ErrorCode::NotADatabase) => RegistryError::NotARegistry { location },
        _ => RegistryError::Failed { location, doing, source: source.into() },
    }
}

/// Returns a connection that only closes last. A read-only connection makes the files `-wal` and `-shm` of a registry
/// at rest and cannot remove them; this connection removes them when no other process has the registry open. Returns
/// `None` when the file cannot be written, or when a dead process left work in the `-wal` file: the next apply takes
/// that over, and a reader must leave it alone.
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

/// Makes the file of a registry, which its owner alone can read: it holds keys. Returns false when there is a file.
fn make_private(path: &Path) -> bool {
    let mut options = std::fs::File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    // Another failure is that of the open that follows.
    options.open(path).is_ok()
}

/// Lets the owner alone read a registry.
fn restrict(path: &Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // It changes the time of the file's last change, also to the same.
        if !std::fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o777 == 0o600) {
            drop(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)));
        }
    }
    #[cfg(not(unix))]
    let _ = path;
}
