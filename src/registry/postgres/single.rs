//! Changes of single devices that a person asks for, and the ids near to one that is not there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::super::meta::ADMISSIONS;
use super::connection::Connection;
use super::fault::Fault;
use super::json::read_text;
use super::rows::{first_column, number_of};
use super::status;

/// Ids beside the place where one would be that are looked at for a near one, on each side.
const NEIGHBOURS: usize = 50;

/// Blocks or unblocks devices at a time, and returns those that were not so before.
pub(super) fn set_blocked(
    connection: &Connection,
    device_ids: &[String],
    is_blocked: bool,
    at: Timestamp,
) -> Result<Vec<String>, Fault> {
    note_admissions(connection)?;
    // From now on it is a person's decision.
    connection.execute("DELETE FROM left_device WHERE device_id = ANY($1)", &[&device_ids])?;
    let text = "UPDATE device SET blocked = $2 WHERE device_id = ANY($1) AND blocked <> $2 RETURNING device_id";
    let changed = changed(device_ids, &connection.rows(text, &[&device_ids, &is_blocked])?)?;
    if !changed.is_empty() {
        status::note_changes(connection, &changed, at)?;
    }
    Ok(changed)
}

/// Notes that what devices log in with may have changed.
pub(super) fn note_admissions(connection: &Connection) -> Result<(), Fault> {
    let text = "INSERT INTO meta (key, value) VALUES ($1, '1')
        ON CONFLICT (key) DO UPDATE SET value = (meta.value::bigint + 1)::text";
    connection.execute(text, &[&ADMISSIONS]).map(drop)
}

/// Deletes devices with their keys, and returns those that were there.
pub(super) fn delete(connection: &Connection, device_ids: &[String]) -> Result<Vec<String>, Fault> {
    note_admissions(connection)?;
    connection.execute("DELETE FROM device_key WHERE device_id = ANY($1)", &[&device_ids])?;
    let text = "DELETE FROM device WHERE device_id = ANY($1) RETURNING device_id";
    let rows = connection.rows(text, &[&device_ids])?;
    status::count(connection, 0, rows.len() as u64)?;
    changed(device_ids, &rows)
}

/// Returns those ids that a statement returned, in the order and as often as they were asked for first.
fn changed(device_ids: &[String], rows: &[tokio_postgres::Row]) -> Result<Vec<String>, Fault> {
    let mut found: BTreeSet<String> = first_column(rows)?.into_iter().collect();
    Ok(device_ids.iter().filter(|id| found.remove(*id)).cloned().collect())
}

/// Returns a text column of some devices, by device id; devices without a value are absent.
pub(super) fn texts_of(
    connection: &Connection,
    column: &str,
    device_ids: &[String],
) -> Result<BTreeMap<String, String>, Fault> {
    let text = format!("SELECT device_id, {column} FROM device WHERE device_id = ANY($1) AND {column} IS NOT NULL");
    let rows = connection.rows(&text, &[&device_ids])?;
    rows.iter().map(|row| Ok((row.try_get(0)?, read_text(row.try_get(1)?)))).collect()
}

/// Returns the versions of the desired sections of some devices.
pub(super) fn desired_versions(connection: &Connection, device_ids: &[String]) -> Result<BTreeMap<String, u64>, Fault> {
    let rows =
        connection.rows("SELECT device_id, desired_version FROM device WHERE device_id = ANY($1)", &[&device_ids])?;
    rows.iter().map(|row| Ok((row.try_get(0)?, number_of(row, 1)?))).collect()
}

/// Returns ids that one may be mistyped for.
pub(super) fn near_ids(connection: &Connection, device_id: &str) -> Result<Vec<String>, Fault> {
    let mut found: Vec<String> = Vec::new();
    for text in [
        format!(
            "SELECT device_id FROM device WHERE lower(device_id) = lower($1::text COLLATE \"C\") LIMIT {NEIGHBOURS}"
        ),
        format!("SELECT device_id FROM device WHERE device_id > $1 ORDER BY device_id LIMIT {NEIGHBOURS}"),
        format!("SELECT device_id FROM device WHERE device_id < $1 ORDER BY device_id DESC LIMIT {NEIGHBOURS}"),
    ] {
        found.extend(first_column::<String>(&connection.rows(&text, &[&device_id])?)?);
    }
    Ok(found)
}
