//! Identities of devices: written one at a time, and listed. Also how many devices there are.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde_json::Value;

use super::super::identities::{Columns, new_generation, refused};
use super::super::meta::IDENTITY;
use super::super::{DeviceKeys, IdentityRow, IdentityWrite, IfMatch, NewIdentity, RegistryError, Statistics};
use super::SqliteStore;
use super::devices::{KEY_COLUMNS, keys_of_row};
use super::remembered::value_of;
use super::rows::{TextOrNull as _, malformed};
use super::status::{PUT_STATUS, count};
use crate::model::device::ConnectionState;
use crate::model::patch::merge;
use crate::model::subscriptions::Subscriptions;

const COLUMNS: &str = "d.device_id, d.connection_state, d.last_activity, d.blocked, d.iot_edge, \
    s.generation, s.reason, s.updated_at, n.subscriptions";
/// The first of [`KEY_COLUMNS`], behind those.
const KEYS: usize = 9;
/// The tables of [`COLUMNS`] and of the keys, behind that of devices `d`.
const JOINS: &str = "LEFT JOIN main.device_key AS k ON k.device_id = d.device_id
    LEFT JOIN main.device_status AS s ON s.device_id = d.device_id
    LEFT JOIN main.device_session AS n ON n.device_id = d.device_id";

const COUNT_ALL: &str = "SELECT CAST(value AS INTEGER) FROM main.meta WHERE key = 'devices'";
const COUNT_BLOCKED: &str = "SELECT count(*) FROM main.device INDEXED BY device_blocked WHERE blocked = 1";
const COUNT_CONNECTED: &str =
    "SELECT count(*) FROM main.device INDEXED BY device_connected WHERE connection_state = 'Connected'";

impl SqliteStore {
    pub(super) fn identity_of(&self, device_id: &str) -> Result<Option<IdentityRow>, RegistryError> {
        find(&self.connection, device_id).map_err(|e| self.error("read an identity", e))
    }

    pub(super) fn identities_after(&self, after: Option<&str>, limit: u64) -> Result<Vec<IdentityRow>, RegistryError> {
        let read = || {
            let registry = registry_of(&self.connection)?;
            let text = format!(
                "SELECT {COLUMNS}, {KEY_COLUMNS} FROM main.device AS d {JOINS}
                 WHERE d.device_id > ?1 ORDER BY d.device_id LIMIT ?2"
            );
            let mut statement = self.connection.prepare_cached(&text)?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            // No id is empty.
            let rows = statement.query_map(params![after.unwrap_or_default(), limit], |row| row_of(row, &registry))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        read().map_err(|e| self.error("read identities", e))
    }

    pub(super) fn device_counts(&self) -> Result<Statistics, RegistryError> {
        let read = || {
            let count = |text: &str| self.connection.prepare_cached(text)?.query_row([], |row| row.get::<_, u64>(0));
            Ok(Statistics::of(count(COUNT_ALL)?, count(COUNT_BLOCKED)?, count(COUNT_CONNECTED)?))
        };
        read().map_err(|e: rusqlite::Error| self.error("count devices", e))
    }
}

/// Writes an identity, and returns what came of it.
pub(super) fn put(
    transaction: &Transaction<'_>,
    device_id: &str,
    if_match: IfMatch<'_>,
    new: &NewIdentity,
    at: Timestamp,
) -> rusqlite::Result<IdentityWrite> {
    let found = find(transaction, device_id)?;
    if let Some(refused) = refused(found.as_ref(), if_match) {
        return Ok(refused);
    }
    let mut generation = None;
    if found.is_some() {
        let text = "UPDATE device SET blocked = ?2, iot_edge = ?3 WHERE device_id = ?1";
        transaction.prepare_cached(text)?.execute(params![device_id, new.is_blocked, new.iot_edge])?;
        // From now on it is a person's decision.
        transaction.prepare_cached("DELETE FROM left_device WHERE device_id = ?1")?.execute([device_id])?;
    } else {
        make(transaction, device_id, new)?;
        generation = Some(new_generation(&registry_of(transaction)?, device_id, at));
    }
    put_keys(transaction, device_id, &new.keys)?;
    let updated = new.changes_status(found.as_ref()).then_some(at.as_microsecond());
    if generation.is_some() || updated.is_some() {
        let status = params![device_id, generation, new.status_reason, updated];
        transaction.prepare_cached(PUT_STATUS)?.execute(status)?;
    }
    let written = find(transaction, device_id)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok(IdentityWrite::Written(Box::new(written)))
}

/// Deletes a device with its keys, and returns what came of it.
pub(super) fn delete(
    transaction: &Transaction<'_>,
    device_id: &str,
    if_match: Option<&str>,
) -> rusqlite::Result<IdentityWrite> {
    let found = find(transaction, device_id)?;
    if let Some(refused) = refused(found.as_ref(), if_match.map_or(IfMatch::Any, IfMatch::Etag)) {
        return Ok(refused);
    }
    super::single::delete(transaction, &[device_id.to_string()])?;
    Ok(IdentityWrite::Deleted)
}

fn make(transaction: &Transaction<'_>, device_id: &str, new: &NewIdentity) -> rusqlite::Result<()> {
    let text =
        "INSERT INTO device (device_id, device_name, template, organization, state, blocked, simulated, iot_edge,
            connection_state, tags, cloud, desired, desired_version, reported, reported_version)
        VALUES (?1, ?1, ?2, ?3, ?4, ?5, 0, ?6, 'Disconnected', ?7, '{}', ?8, 1, '{}', 1)";
    let section = |given: &Option<Value>| {
        let mut section = Value::Object(serde_json::Map::new());
        given.iter().filter(|given| given.is_object()).for_each(|given| merge(&mut section, given));
        section.to_string()
    };
    let (tags, desired) = (section(&new.tags), section(&new.desired));
    transaction.prepare_cached(text)?.execute(params![
        device_id,
        new.template,
        new.organization,
        new.state(),
        new.is_blocked,
        new.iot_edge,
        tags,
        desired,
    ])?;
    count(transaction, 1, 0)
}

fn put_keys(transaction: &Transaction<'_>, device_id: &str, keys: &DeviceKeys) -> rusqlite::Result<()> {
    let text = "INSERT OR REPLACE INTO device_key
            (device_id, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint, authentication)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let DeviceKeys { authentication, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint } = keys;
    let row = params![
        device_id,
        primary_key,
        secondary_key,
        primary_thumbprint,
        secondary_thumbprint,
        authentication.as_str()
    ];
    transaction.prepare_cached(text)?.execute(row).map(drop)
}

fn find(connection: &Connection, device_id: &str) -> rusqlite::Result<Option<IdentityRow>> {
    let registry = registry_of(connection)?;
    let text = format!(
        "SELECT {COLUMNS}, {KEY_COLUMNS} FROM main.device AS d {JOINS}
                 WHERE d.device_id = ?1"
    );
    connection.prepare_cached(&text)?.query_row([device_id], |row| row_of(row, &registry)).optional()
}

/// Returns the text by which the generations of a registry differ from those of others.
fn registry_of(connection: &Connection) -> rusqlite::Result<String> {
    Ok(value_of(connection, IDENTITY)?.unwrap_or_default())
}

fn row_of(row: &Row<'_>, registry: &str) -> rusqlite::Result<IdentityRow> {
    let connection = row.get_ref(1)?.as_str()?;
    let last_activity = row.get_ref(2)?.text_or_null()?;
    let updated: Option<i64> = row.get(7)?;
    let columns = Columns {
        device_id: row.get(0)?,
        connection_state: ConnectionState::parse(connection).ok_or_else(|| malformed(1, connection))?,
        last_activity: last_activity.and_then(|text| text.parse().ok()),
        blocked: row.get(3)?,
        iot_edge: row.get(4)?,
        generation: row.get(5)?,
        status_reason: row.get(6)?,
        status_updated: updated.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        subscriptions: row.get::<_, Option<i16>>(8)?.map(Subscriptions::from_bits),
        keys: keys_of_row(row, KEYS)?,
    };
    Ok(columns.into_row(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_twin_is_read_to_count_devices() {
        let store = SqliteStore::in_memory("x".to_string(), "acme").unwrap();
        for text in [COUNT_BLOCKED, COUNT_CONNECTED] {
            let mut plan = store.connection.prepare(&format!("EXPLAIN QUERY PLAN {text}")).unwrap();
            let plan: String = plan.query_row([], |row| row.get(3)).unwrap();
            assert!(plan.contains("USING COVERING INDEX"), "{plan}");
        }
    }
}
