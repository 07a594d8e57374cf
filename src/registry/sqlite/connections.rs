//! When devices connected, and when their connections ended.

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::super::{ConnectionChange, RegistryError};
use super::SqliteStore;
use super::rows::time_of;
use crate::model::limits::CONNECTIONS_KEPT_MAX;

/// Notes that a device is there, or is not, unless that was noted last: device, time, whether it is there.
const NOTE: &str = "INSERT OR REPLACE INTO device_connection (device_id, at, is_online)
    SELECT device_id, ?2, ?3 FROM device WHERE device_id = ?1 AND ?3 <> coalesce(
        (SELECT is_online FROM device_connection WHERE device_id = ?1 ORDER BY at DESC LIMIT 1), 0)";
/// Removes all but the newest ones: device, how many those are.
const TRIM: &str = "DELETE FROM device_connection WHERE device_id = ?1 AND at <= (
        SELECT at FROM device_connection WHERE device_id = ?1 ORDER BY at DESC LIMIT 1 OFFSET ?2)";

impl SqliteStore {
    pub(super) fn connections_of(&self, device_id: &str) -> Result<Vec<ConnectionChange>, RegistryError> {
        let read = || {
            let text =
                "SELECT at, is_online FROM main.device_connection WHERE device_id = ?1 ORDER BY at DESC LIMIT ?2";
            let mut statement = self.connection.prepare_cached(text)?;
            let found = statement.query_map(params![device_id, CONNECTIONS_KEPT_MAX], |row| {
                Ok(ConnectionChange { at: time_of(row, 0)?, is_online: row.get(1)? })
            })?;
            found.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.error("read when a device connected", e))
    }
}

/// Notes that a device is there, or is not. What jobs find out of a device is no end of a connection.
pub(super) fn note(
    transaction: &Transaction<'_>,
    device_id: &str,
    at: Timestamp,
    is_online: bool,
) -> rusqlite::Result<()> {
    let is_change = transaction.prepare_cached(NOTE)?.execute(params![device_id, at.as_microsecond(), is_online])? > 0;
    if is_change {
        transaction.prepare_cached(TRIM)?.execute(params![device_id, CONNECTIONS_KEPT_MAX])?;
    }
    Ok(())
}
