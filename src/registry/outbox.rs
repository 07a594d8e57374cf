//! What is to be written to the results branch about something that the registry has done already. A letter is put in by the
//! transaction that does the thing, so that no end of the process comes between, and taken out when the branch has it.

use rusqlite::{Transaction, params};

use super::{Registry, RegistryError};

/// Where letters are kept: rows of `meta` whose key begins so and goes on with what the letter is about.
const KEY: &str = "outbox:";

impl Registry {
    /// Returns the letters that wait, as (what it is about, text), sorted.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn outbox(&self) -> Result<Vec<(String, String)>, RegistryError> {
        let read = || {
            let text = "SELECT substr(key, length(?1) + 1), value FROM meta WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";
            let mut statement = self.connection.prepare_cached(text)?;
            let letters = statement.query_map([KEY], |row| Ok((row.get(0)?, row.get(1)?)))?;
            letters.collect::<rusqlite::Result<Vec<(String, String)>>>()
        };
        read().map_err(|e| self.error("read the outbox", e))
    }

    /// Takes a letter out: the branch has it. Its files, as (path, bytes), are kept.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn take_letter(&mut self, about: &str, files: &[(String, Vec<u8>)]) -> Result<(), RegistryError> {
        self.in_transaction("take out a letter", |transaction| {
            for (path, content) in files {
                super::remembered::keep(transaction, path, content, None)?;
            }
            transaction.execute("DELETE FROM meta WHERE key = ?1 || ?2", params![KEY, about]).map(drop)
        })
    }
}

/// Puts a letter in, in the place of an older one about the same.
pub(super) fn put(transaction: &Transaction<'_>, about: &str, letter: &str) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO meta (key, value) VALUES (?1 || ?2, ?3) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        params![KEY, about, letter],
    )?;
    Ok(())
}
