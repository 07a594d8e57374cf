//! What was said of single devices, and how many devices there are.

use jiff::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::super::meta::DEVICES;

/// Notes what was said of a device: device, generation, reason, time. A generation or a time that is NULL stays.
pub(super) const PUT_STATUS: &str =
    "INSERT INTO device_status (device_id, generation, reason, updated_at) VALUES (?1, ?2, ?3, ?4)
    ON CONFLICT (device_id) DO UPDATE SET generation = coalesce(excluded.generation, generation),
        reason = excluded.reason, updated_at = coalesce(excluded.updated_at, updated_at)";

/// Notes when devices were blocked or unblocked, for which reason nobody said.
pub(super) fn note_changes(
    transaction: &Transaction<'_>,
    device_ids: &[String],
    at: Timestamp,
) -> rusqlite::Result<()> {
    let mut put = transaction.prepare_cached(PUT_STATUS)?;
    for id in device_ids {
        put.execute(params![id, None::<String>, None::<String>, at.as_microsecond()])?;
    }
    Ok(())
}

/// Notes that devices were made and others deleted.
pub(super) fn count(connection: &Connection, made: usize, deleted: usize) -> rusqlite::Result<()> {
    if made == deleted {
        return Ok(());
    }
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let text = "UPDATE main.meta SET value = CAST(CAST(value AS INTEGER) + ?1 AS TEXT) WHERE key = ?2";
    connection.prepare_cached(text)?.execute(params![number(made) - number(deleted), DEVICES]).map(drop)
}

/// Counts all devices, where it is not known how many were made.
pub(super) fn count_anew(connection: &Connection) -> rusqlite::Result<()> {
    let text = "UPDATE main.meta SET value = (SELECT CAST(count(*) AS TEXT) FROM main.device) WHERE key = ?1";
    connection.execute(text, [DEVICES]).map(drop)
}
