//! When devices connected, and when their connections ended.

use jiff::Timestamp;

use super::super::ConnectionChange;
use super::connection::Connection;
use super::fault::Fault;
use super::rows::{malformed, micros_of};
use crate::model::limits::CONNECTIONS_KEPT_MAX;

/// Returns the changes of a device, the newest first.
pub(super) fn of(connection: &Connection, device_id: &str) -> Result<Vec<ConnectionChange>, Fault> {
    let text = "SELECT at, is_online FROM device_connection WHERE device_id = $1 ORDER BY at DESC LIMIT $2";
    let rows = connection.rows(text, &[&device_id, &i64::from(CONNECTIONS_KEPT_MAX)])?;
    let change = |row| {
        let at = micros_of(row, 0)?.ok_or_else(|| malformed(device_id))?;
        Ok(ConnectionChange { at, is_online: row.try_get(1)? })
    };
    rows.iter().map(change).collect()
}

/// Notes that a device is there, or is not. What jobs find out of a device is no end of a connection.
pub(super) fn note(connection: &Connection, device_id: &str, at: Timestamp, is_online: bool) -> Result<(), Fault> {
    let note = "INSERT INTO device_connection (device_id, at, is_online)
        SELECT device_id, $2, $3 FROM device WHERE device_id = $1 AND $3 <> coalesce(
            (SELECT is_online FROM device_connection WHERE device_id = $1 ORDER BY at DESC LIMIT 1), false)
        ON CONFLICT (device_id, at) DO UPDATE SET is_online = excluded.is_online";
    if connection.execute(note, &[&device_id, &at.as_microsecond(), &is_online])? > 0 {
        let trim = "DELETE FROM device_connection WHERE device_id = $1 AND at <= (
            SELECT at FROM device_connection WHERE device_id = $1 ORDER BY at DESC LIMIT 1 OFFSET $2)";
        connection.execute(trim, &[&device_id, &i64::from(CONNECTIONS_KEPT_MAX)])?;
    }
    Ok(())
}
