//! A copy of a registry to rehearse in.

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::super::RegistryError;
use super::{SqliteStore, failure};

/// No journal: a copy that fails is thrown away. Few pages in memory: each commit of a temporary database looks at all of them, and
/// with 64 MiB that took longer than the rest of a rehearsal; the system's own cache has the others.
const SCRATCH: &str = "PRAGMA main.journal_mode = OFF; PRAGMA main.cache_size = -2048;";

impl SqliteStore {
    /// Returns a copy in a temporary database without a name, which the system takes back when the process ends, however it ends (it
    /// holds the devices' keys). Nothing of it survives, so nothing waits for the disk.
    pub(super) fn copy(&self) -> Result<SqliteStore, RegistryError> {
        let location = format!("{} (copy)", self.location);
        let fail = |source| failure(&location, "copy it", source);
        // An empty name is SQLite's for a file of its own that is removed as soon as it is open.
        let mut connection = Connection::open("").map_err(fail)?;
        connection.execute_batch(SCRATCH).map_err(fail)?;
        let copied = Backup::new(&self.connection, &mut connection).and_then(|backup| backup.step(-1)).map_err(fail)?;
        match copied {
            StepResult::Done => {}
            _ => return Err(RegistryError::Locked { location: self.location.clone() }),
        }
        let copy = SqliteStore { connection, location, is_overlaid: false, _sweeper: None };
        copy.configure()?;
        Ok(copy)
    }
}
