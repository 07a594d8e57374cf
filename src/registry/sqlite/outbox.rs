//! The outbox: rows of `meta` whose key begins with [`OUTBOX`] and goes on with what the entry is about.

use rusqlite::{Transaction, params};

use super::super::meta::OUTBOX;
use super::super::{OutboxEntry, RegistryError};
use super::SqliteStore;

impl SqliteStore {
    pub(super) fn outbox_entries(&self) -> Result<Vec<OutboxEntry>, RegistryError> {
        let read = || {
            let text = "SELECT substr(key, length(?1) + 1), value FROM meta \
                        WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";
            let mut statement = self.connection.prepare_cached(text)?;
            let entries =
                statement.query_map([OUTBOX], |row| Ok(OutboxEntry { about: row.get(0)?, text: row.get(1)? }))?;
            entries.collect::<rusqlite::Result<Vec<OutboxEntry>>>()
        };
        read().map_err(|e| self.error("read the outbox", e))
    }
}

/// Removes an entry, and keeps its files.
pub(super) fn deliver(transaction: &Transaction<'_>, about: &str, files: &[(String, Vec<u8>)]) -> rusqlite::Result<()> {
    for (path, content) in files {
        super::remembered::keep(transaction, path, content, None)?;
    }
    transaction.execute("DELETE FROM meta WHERE key = ?1 || ?2", params![OUTBOX, about]).map(drop)
}

/// Adds an entry; it replaces an older one about the same import.
pub(super) fn put(transaction: &Transaction<'_>, about: &str, text: &str) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES (?1 || ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![OUTBOX, about, text],
    )?;
    Ok(())
}
