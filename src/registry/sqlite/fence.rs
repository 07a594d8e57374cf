//! The fence: a connection that writes under a lease begins no transaction once a later lease was noted.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior};

use super::super::{Fence, RegistryError};
use super::{SqliteStore, failure};

/// The key in `meta`.
const KEY: &str = "epoch";

/// The reason why a transaction was not begun.
#[derive(Debug, thiserror::Error)]
#[error("a later lease was noted")]
struct Fenced;

impl SqliteStore {
    pub(super) fn note_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError> {
        let location = &self.location;
        let fail = |e| failure(location, "note the lease", e);
        let transaction = begin(&mut self.connection, Fence::NONE).map_err(fail)?;
        if noted_epoch(&transaction).map_err(fail)? > epoch {
            return Err(RegistryError::Fenced { location: self.location.clone() });
        }
        let text =
            "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        transaction.execute(text, rusqlite::params![KEY, epoch.to_string()]).map_err(fail)?;
        transaction.commit().map_err(fail)?;
        Ok(Fence::of(epoch))
    }
}

/// Begins a write transaction, unless a later lease was noted.
pub(super) fn begin(connection: &mut Connection, fence: Fence) -> rusqlite::Result<Transaction<'_>> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if let Some(epoch) = fence.epoch()
        && noted_epoch(&transaction)? > epoch
    {
        return Err(rusqlite::Error::ToSqlConversionFailure(Box::new(Fenced)));
    }
    Ok(transaction)
}

/// Returns true for the failure of [`begin`] that says that a later lease was noted.
pub(super) fn is_fenced(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::ToSqlConversionFailure(inner) if inner.is::<Fenced>())
}

/// Returns the latest epoch that was noted; 0 when none was.
pub(super) fn noted_epoch(connection: &Connection) -> rusqlite::Result<u64> {
    let text = "SELECT CAST(value AS INTEGER) FROM meta WHERE key = ?1";
    Ok(connection.prepare_cached(text)?.query_row([KEY], |row| row.get(0)).optional()?.unwrap_or(0))
}
