//! The outbox: rows of `meta` whose key begins with [`OUTBOX`] and goes on with what the entry is about.

use super::super::OutboxEntry;
use super::super::meta::OUTBOX;
use super::connection::Connection;
use super::fault::Fault;

/// Returns the entries, sorted by what they are about.
pub(super) fn entries(connection: &Connection) -> Result<Vec<OutboxEntry>, Fault> {
    let text =
        "SELECT substr(key, length($1::text) + 1), value FROM meta WHERE starts_with(key, $1::text) ORDER BY key";
    let rows = connection.rows(text, &[&OUTBOX])?;
    rows.iter().map(|row| Ok(OutboxEntry { about: row.try_get(0)?, text: row.try_get(1)? })).collect()
}

/// Removes an entry, and keeps its files.
pub(super) fn deliver(connection: &Connection, about: &str, files: &[(String, Vec<u8>)]) -> Result<(), Fault> {
    for (path, content) in files {
        super::remembered::keep(connection, path, content, None)?;
    }
    connection.execute("DELETE FROM meta WHERE key = $1", &[&format!("{OUTBOX}{about}")]).map(drop)
}

/// Adds an entry; it replaces an older one about the same import.
pub(super) fn put(connection: &Connection, about: &str, text: &str) -> Result<(), Fault> {
    super::remembered::set_value(connection, &format!("{OUTBOX}{about}"), text)
}
