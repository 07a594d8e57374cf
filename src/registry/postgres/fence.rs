//! The fence of the fleet's lease: the latest epoch that was noted, a row of `meta`.

use tokio_postgres::Row;

use super::super::{Fence, RegistryError};
use super::PostgresStore;
use super::connection::Connection;
use super::fault::Fault;

impl PostgresStore {
    pub(super) fn note_epoch(&mut self, epoch: u64) -> Result<Fence, RegistryError> {
        self.in_transaction("note the lease", Fence::NONE, &mut |connection| {
            // Keeps a transaction under an older epoch from being committed after this one.
            connection.one("SELECT value FROM meta WHERE key = 'epoch' FOR UPDATE", &[])?;
            if noted_epoch(connection)? > epoch {
                return Err(Fault::Fenced);
            }
            connection.execute("UPDATE meta SET value = $1 WHERE key = 'epoch'", &[&epoch.to_string()]).map(drop)
        })?;
        Ok(Fence::of(epoch))
    }
}

/// Returns the latest epoch that was noted, and keeps a later one from being noted until the transaction is over.
pub(super) const NOTED: &str = "SELECT value::bigint FROM meta WHERE key = 'epoch' FOR KEY SHARE";

/// Fails when the row of [`NOTED`] has a later epoch than that of a fence.
pub(super) fn check(noted: Option<&Row>, epoch: u64) -> Result<(), Fault> {
    let noted: i64 = noted.ok_or_else(|| Fault::Malformed("no epoch".to_string()))?.try_get(0)?;
    if u64::try_from(noted).is_ok_and(|noted| noted > epoch) { Err(Fault::Fenced) } else { Ok(()) }
}

/// Returns the latest epoch that was noted; 0 when none was.
pub(super) fn noted_epoch(connection: &Connection) -> Result<u64, Fault> {
    let row = connection.one("SELECT value FROM meta WHERE key = 'epoch'", &[])?;
    let text: String = row.try_get(0)?;
    text.parse().map_err(|_| Fault::Malformed(format!("the epoch {text:?} is no number")))
}
