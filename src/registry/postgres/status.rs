//! What was said of single devices, and how many devices there are.

use jiff::Timestamp;

use super::super::meta::DEVICES;
use super::connection::Connection;
use super::fault::Fault;

/// What becomes of a row of a status that is there. A generation or a time that is NULL stays.
pub(super) const ON_STATUS: &str = "ON CONFLICT (device_id) DO UPDATE
    SET generation = coalesce(excluded.generation, device_status.generation), reason = excluded.reason,
        updated_at = coalesce(excluded.updated_at, device_status.updated_at)";

/// Notes when devices were blocked or unblocked, for which reason nobody said.
pub(super) fn note_changes(connection: &Connection, device_ids: &[String], at: Timestamp) -> Result<(), Fault> {
    let text = format!(
        "INSERT INTO device_status (device_id, updated_at) SELECT id, $2 FROM unnest($1::text[]) AS t (id) {ON_STATUS}"
    );
    connection.execute(&text, &[&device_ids, &at.as_microsecond()]).map(drop)
}

/// Notes that devices were made and others deleted. It keeps others from that until the transaction is over.
pub(super) fn count(connection: &Connection, made: u64, deleted: u64) -> Result<(), Fault> {
    if made == deleted {
        return Ok(());
    }
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let text = "UPDATE meta SET value = (value::bigint + $1)::text WHERE key = $2";
    connection.execute(text, &[&(number(made) - number(deleted)), &DEVICES]).map(drop)
}

/// Counts all devices, where it is not known how many were made.
pub(super) fn count_anew(connection: &Connection) -> Result<(), Fault> {
    let text = "UPDATE meta SET value = (SELECT count(*)::text FROM device) WHERE key = $1";
    connection.execute(text, &[&DEVICES]).map(drop)
}
