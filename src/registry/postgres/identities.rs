//! Identities of devices: written one at a time, and listed. Also how many devices there are.

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;

use super::super::identities::{Columns, new_generation, refused};
use super::super::meta::{DEVICES, IDENTITY};
use super::super::{DeviceKeys, IdentityRow, IdentityWrite, IfMatch, NewIdentity, Statistics};
use super::connection::Connection;
use super::devices::{KEY_COLUMNS, keys_of_row};
use super::fault::Fault;
use super::json::{read_text, stored, stored_text};
use super::remembered::value_of;
use super::rows::{malformed, micros_of, number_of};
use super::status::{ON_STATUS, count};
use crate::model::device::ConnectionState;
use crate::model::patch::merge;
use crate::model::subscriptions::Subscriptions;

const COLUMNS: &str = "d.device_id, d.connection_state, d.last_activity, d.blocked, d.iot_edge, \
    s.generation, s.reason, s.updated_at, n.subscriptions";
/// The first of [`KEY_COLUMNS`], behind those.
const KEYS: usize = 9;
/// The tables of [`COLUMNS`] and of the keys, behind that of devices `d`.
const JOINS: &str = "LEFT JOIN device_key AS k ON k.device_id = d.device_id
    LEFT JOIN device_status AS s ON s.device_id = d.device_id
    LEFT JOIN device_session AS n ON n.device_id = d.device_id";

/// Returns the identity of a device.
pub(super) fn one(connection: &Connection, device_id: &str) -> Result<Option<IdentityRow>, Fault> {
    find(connection, device_id, "")
}

/// Returns the identities behind an id, in order.
pub(super) fn after(connection: &Connection, after: Option<&str>, limit: u64) -> Result<Vec<IdentityRow>, Fault> {
    let registry = registry_of(connection)?;
    let text = format!(
        "SELECT {COLUMNS}, {KEY_COLUMNS} FROM device AS d {JOINS}
                 WHERE d.device_id > $1 ORDER BY d.device_id LIMIT $2"
    );
    // No id is empty.
    let (after, limit) = (stored_text(after.unwrap_or_default()), i64::try_from(limit).unwrap_or(i64::MAX));
    let rows = connection.rows(&text, &[&after, &limit])?;
    rows.iter().map(|row| row_of(row, &registry)).collect()
}

/// Returns how many devices there are.
pub(super) fn statistics(connection: &Connection) -> Result<Statistics, Fault> {
    let text = "SELECT (SELECT value::bigint FROM meta WHERE key = $1),
        (SELECT count(*) FROM device WHERE blocked),
        (SELECT count(*) FROM device WHERE connection_state = 'Connected')";
    let row = connection.one(text, &[&DEVICES])?;
    Ok(Statistics::of(number_of(&row, 0)?, number_of(&row, 1)?, number_of(&row, 2)?))
}

/// Writes an identity, and returns what came of it.
pub(super) fn put(
    connection: &Connection,
    device_id: &str,
    if_match: IfMatch<'_>,
    new: &NewIdentity,
    at: Timestamp,
) -> Result<IdentityWrite, Fault> {
    let found = find(connection, device_id, "FOR UPDATE OF d")?;
    if let Some(refused) = refused(found.as_ref(), if_match) {
        return Ok(refused);
    }
    let mut generation = None;
    if found.is_some() {
        let text = "UPDATE device SET blocked = $2, iot_edge = $3 WHERE device_id = $1";
        connection.execute(text, &[&device_id, &new.is_blocked, &new.iot_edge])?;
        // From now on it is a person's decision.
        connection.execute("DELETE FROM left_device WHERE device_id = $1", &[&device_id])?;
    } else {
        if !make(connection, device_id, new)? {
            return Ok(IdentityWrite::Exists);
        }
        generation = Some(new_generation(&registry_of(connection)?, device_id, at));
    }
    put_keys(connection, device_id, &new.keys)?;
    let updated = new.changes_status(found.as_ref()).then_some(at.as_microsecond());
    if generation.is_some() || updated.is_some() {
        let text = format!(
            "INSERT INTO device_status (device_id, generation, reason, updated_at) VALUES ($1, $2, $3, $4) {ON_STATUS}"
        );
        let reason = new.status_reason.as_deref().map(stored_text);
        connection.execute(&text, &[&device_id, &generation, &reason, &updated])?;
    }
    let written = one(connection, device_id)?.ok_or_else(|| malformed(device_id))?;
    Ok(IdentityWrite::Written(Box::new(written)))
}

/// Deletes a device with its keys, and returns what came of it.
pub(super) fn delete(connection: &Connection, device_id: &str, if_match: Option<&str>) -> Result<IdentityWrite, Fault> {
    let found = find(connection, device_id, "FOR UPDATE OF d")?;
    if let Some(refused) = refused(found.as_ref(), if_match.map_or(IfMatch::Any, IfMatch::Etag)) {
        return Ok(refused);
    }
    super::single::delete(connection, &[device_id.to_string()])?;
    Ok(IdentityWrite::Deleted)
}

/// Makes a device. Returns false when another process has made it meanwhile.
fn make(connection: &Connection, device_id: &str, new: &NewIdentity) -> Result<bool, Fault> {
    let text =
        "INSERT INTO device (device_id, device_name, template, organization, state, blocked, simulated, iot_edge,
            connection_state, tags, cloud, desired, desired_version, reported, reported_version)
        VALUES ($1, $1, $2, $3, $4, $5, false, $6, 'Disconnected', $7::text::jsonb, '{}', $8::text::jsonb, 1, '{}', 1)
        ON CONFLICT (device_id) DO NOTHING";
    let section = |given: &Option<Value>| {
        let mut section = Value::Object(serde_json::Map::new());
        given.iter().filter(|given| given.is_object()).for_each(|given| merge(&mut section, given));
        stored(&section)
    };
    let (tags, desired) = (section(&new.tags), section(&new.desired));
    let [template, organization] = [&new.template, &new.organization].map(|text| text.as_deref().map(stored_text));
    let made = connection.execute(
        text,
        &[&device_id, &template, &organization, &new.state(), &new.is_blocked, &new.iot_edge, &tags, &desired],
    )?;
    count(connection, made, 0)?;
    Ok(made == 1)
}

fn put_keys(connection: &Connection, device_id: &str, keys: &DeviceKeys) -> Result<(), Fault> {
    let text = "INSERT INTO device_key
            (device_id, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, authentication)
        VALUES ($1, $2, $3, $4, $5, $6)
        ON CONFLICT (device_id) DO UPDATE SET primary_key = excluded.primary_key,
            secondary_key = excluded.secondary_key, primary_thumbprint = excluded.primary_thumbprint,
            secondary_thumbprint = excluded.secondary_thumbprint, authentication = excluded.authentication";
    let DeviceKeys { authentication, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint } = keys;
    let authentication = authentication.as_str();
    connection
        .execute(
            text,
            &[&device_id, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, &authentication],
        )
        .map(drop)
}

/// Returns the identity of a device; `lock` is how its row is locked.
fn find(connection: &Connection, device_id: &str, lock: &str) -> Result<Option<IdentityRow>, Fault> {
    let text = format!(
        "SELECT {COLUMNS}, {KEY_COLUMNS} FROM device AS d {JOINS}
                 WHERE d.device_id = $1 {lock}"
    );
    match connection.row(&text, &[&stored_text(device_id)])? {
        Some(row) => row_of(&row, &registry_of(connection)?).map(Some),
        None => Ok(None),
    }
}

/// Returns the text by which the generations of a registry differ from those of others.
fn registry_of(connection: &Connection) -> Result<String, Fault> {
    value_of(connection, IDENTITY)?.ok_or_else(|| malformed(IDENTITY))
}

fn row_of(row: &Row, registry: &str) -> Result<IdentityRow, Fault> {
    let connection: &str = row.try_get(1)?;
    let last_activity: Option<&str> = row.try_get(2)?;
    let columns = Columns {
        device_id: row.try_get(0)?,
        connection_state: ConnectionState::parse(connection).ok_or_else(|| malformed(connection))?,
        last_activity: last_activity.and_then(|text| text.parse().ok()),
        blocked: row.try_get(3)?,
        iot_edge: row.try_get(4)?,
        generation: row.try_get(5)?,
        status_reason: row.try_get::<_, Option<String>>(6)?.map(read_text),
        status_updated: micros_of(row, 7)?,
        subscriptions: row.try_get::<_, Option<i16>>(8)?.map(Subscriptions::from_bits),
        keys: keys_of_row(row, KEYS)?,
    };
    Ok(columns.into_row(registry))
}
