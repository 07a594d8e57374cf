//! A copy of a registry to rehearse in: an SQLite file of this process, because what is tried out there is no business
//! of the server's.

use super::super::sqlite::SqliteStore;
use super::super::{RegistryError, Store};
use super::PostgresStore;

impl PostgresStore {
    pub(super) fn copy_to_scratch(&self) -> Result<Box<dyn Store>, RegistryError> {
        let mut copy = SqliteStore::scratch(format!("{} (copy)", self.settings.location), &self.fleet)?;
        copy.load(&mut |sink| self.unload_rows(sink))?;
        Ok(Box::new(copy))
    }
}
