//! A copy of a registry to rehearse in.

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::super::RegistryError;
use super::{SqliteStore, failure};

/// Settings of a copy. It has no journal, because a copy that fails is thrown away. It caches few pages (2 MiB),
/// because each commit of a temporary database visits all of them: with 64 MiB that took longer than the rest of a
/// rehearsal. The system's cache holds the others.
const SCRATCH: &str = "PRAGMA main.journal_mode = OFF; PRAGMA main.cache_size = -2048;";

impl SqliteStore {
    /// Returns a copy in a temporary database without a name, which the system removes when the process ends, also
    /// after a crash (it holds the devices' keys). Nothing of it survives, so no write waits for the disk.
    pub(super) fn copy(&self) -> Result<SqliteStore, RegistryError> {
        let location = format!("{} (copy)", self.location);
        let fail = |source| failure(&location, "copy it", source);
        // For an empty name SQLite makes a private file, which it removes as soon as it is open.
        let mut connection = Connection::open("").map_err(fail)?;
        connection.execute_batch(SCRATCH).map_err(fail)?;
        let copied = Backup::new(&self.connection, &mut connection).and_then(|backup| backup.step(-1)).map_err(fail)?;
        match copied {
            StepResult::Done => {}
            _ => return Err(RegistryError::Locked { location: self.location.clone() }),
        }
        let copy = SqliteStore::over(connection, location);
        copy.configure()?;
        Ok(copy)
    }

    /// Returns an empty registry in a temporary database as that of [`SqliteStore::copy`].
    pub(in super::super) fn scratch(location: String, fleet: &str) -> Result<SqliteStore, RegistryError> {
        let fail = |source| failure(&location, "copy it", source);
        let connection = Connection::open("").map_err(fail)?;
        connection.execute_batch(SCRATCH).map_err(fail)?;
        let mut copy = SqliteStore::over(connection, location);
        copy.configure()?;
        copy.migrate(fleet)?;
        Ok(copy)
    }

    /// Writes the copy into a new file without the keys of devices and of the marks of secrets, and without what devices
    /// sent or are to be sent, which no plan needs; a page with a deleted one does not get into it.
    pub(super) fn vacuum_without_keys(&self, path: &std::path::Path) -> Result<(), RegistryError> {
        let target = path.display().to_string();
        let written = self
            .connection
            .execute_batch("DELETE FROM main.device_key; DELETE FROM main.answer; DELETE FROM main.message;");
        let written = written.and_then(|()| super::secrets::remove(&self.connection));
        let written = written.and_then(|()| self.connection.execute("VACUUM INTO ?1", [&target]));
        written.map(drop).map_err(|source| failure(&target, "write a copy without keys", source))
    }
}
