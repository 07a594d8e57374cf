//! A copy of a registry to rehearse in.

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::{Registry, RegistryError};

/// No journal: whoever fails throws the copy away. Few pages in memory: each commit of a temporary database looks at all of them, and
/// with 64 MiB that took longer than the rest of a rehearsal; the system's own cache has the others.
const SCRATCH: &str = "PRAGMA main.journal_mode = OFF; PRAGMA main.cache_size = -2048;";

impl Registry {
    /// Returns a copy for this process alone: a temporary database without a name, which the system takes back when the process ends,
    /// however it ends (it holds the devices' keys). Nothing of it survives, so nothing waits for the disk. What others commit
    /// meanwhile is in the copy as a whole or not at all.
    ///
    /// # Errors
    /// The registry cannot be read, another process is writing it for longer than one waits, or there is no room for the copy.
    pub fn scratch_copy(&self) -> Result<Registry, RegistryError> {
        let path = self.path.with_file_name(format!(
            "{} (copy)",
            self.path.file_name().unwrap_or(self.path.as_os_str()).to_string_lossy()
        ));
        let fail = |source| RegistryError::from_sqlite(&path, "copy it", source);
        // An empty name is SQLite's for a file of its own that is removed as soon as it is open.
        let mut connection = Connection::open("").map_err(fail)?;
        connection.execute_batch(SCRATCH).map_err(fail)?;
        let copied = Backup::new(&self.connection, &mut connection).and_then(|backup| backup.step(-1)).map_err(fail)?;
        match copied {
            StepResult::Done => {}
            _ => return Err(RegistryError::Locked { path: self.path.clone() }),
        }
        let copy = Registry { connection, path, is_overlaid: false, epoch: None, _sweeper: None };
        copy.configure()?;
        Ok(copy)
    }
}
