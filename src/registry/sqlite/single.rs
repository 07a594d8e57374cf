//! Changes of single devices that a person asks for, and the ids near to one that is not there.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction};

use super::super::RegistryError;
use super::super::meta::ADMISSIONS;
use super::{SqliteStore, status};

/// Ids beside the place where one would be that are looked at for a near one, on each side.
const NEIGHBOURS: usize = 50;

/// Notes that what devices log in with may have changed.
pub(super) fn note_admissions(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    let text = "INSERT INTO meta (key, value) VALUES (?1, '1')
         ON CONFLICT (key) DO UPDATE SET value = CAST(value AS INTEGER) + 1";
    transaction.execute(text, [ADMISSIONS]).map(drop)
}

/// Blocks or unblocks devices at a time, and returns those that were not so before.
pub(super) fn set_blocked(
    transaction: &Transaction<'_>,
    device_ids: &[String],
    is_blocked: bool,
    at: Timestamp,
) -> rusqlite::Result<Vec<String>> {
    note_admissions(transaction)?;
    let mut write = transaction.prepare("UPDATE device SET blocked = ?2 WHERE device_id = ?1 AND blocked <> ?2")?;
    // From now on it is a person's decision.
    let mut left = transaction.prepare("DELETE FROM left_device WHERE device_id = ?1")?;
    let changed = changed(device_ids, |id| {
        left.execute([id])?;
        write.execute(rusqlite::params![id, is_blocked])
    })?;
    status::note_changes(transaction, &changed, at)?;
    Ok(changed)
}

/// Deletes devices with their keys, and returns those that were there.
pub(super) fn delete(transaction: &Transaction<'_>, device_ids: &[String]) -> rusqlite::Result<Vec<String>> {
    note_admissions(transaction)?;
    let mut keys = transaction.prepare("DELETE FROM device_key WHERE device_id = ?1")?;
    let mut device = transaction.prepare("DELETE FROM device WHERE device_id = ?1")?;
    let deleted = changed(device_ids, |id| {
        keys.execute([id])?;
        device.execute([id])
    })?;
    status::count(transaction, 0, deleted.len())?;
    Ok(deleted)
}

impl SqliteStore {
    pub(super) fn owners_of(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError> {
        let read = || {
            let mut look = self.connection.prepare("SELECT import FROM device WHERE device_id = ?1")?;
            let mut found = BTreeMap::new();
            for id in device_ids {
                if let Some(Some(import)) = look.query_row([id], |row| row.get::<_, Option<String>>(0)).optional()? {
                    found.insert(id.clone(), import);
                }
            }
            Ok(found)
        };
        read().map_err(|e| self.error("read where devices came from", e))
    }

    pub(super) fn named_templates(&self, device_ids: &[String]) -> Result<BTreeMap<String, String>, RegistryError> {
        let read = || {
            let mut found = BTreeMap::new();
            for id in device_ids {
                if let Some(template) = template_of(&self.connection, id)? {
                    found.insert(id.clone(), template);
                }
            }
            Ok(found)
        };
        read().map_err(|e: rusqlite::Error| self.error("read the templates of devices", e))
    }

    pub(super) fn versions_of_desired(&self, device_ids: &[String]) -> Result<BTreeMap<String, u64>, RegistryError> {
        let read = || {
            let mut select =
                self.connection.prepare_cached("SELECT desired_version FROM device WHERE device_id = ?1")?;
            let mut found = BTreeMap::new();
            for id in device_ids {
                if let Some(version) = select.query_row([id], |row| row.get(0)).optional()? {
                    found.insert(id.clone(), version);
                }
            }
            Ok(found)
        };
        read().map_err(|e: rusqlite::Error| self.error("read the versions of devices", e))
    }

    pub(super) fn near_ids(&self, device_id: &str) -> Result<Vec<String>, RegistryError> {
        let read = || {
            let mut found: Vec<String> = Vec::new();
            for text in [
                format!("SELECT device_id FROM device WHERE lower(device_id) = lower(?1) LIMIT {NEIGHBOURS}"),
                format!("SELECT device_id FROM device WHERE device_id > ?1 ORDER BY device_id LIMIT {NEIGHBOURS}"),
                format!("SELECT device_id FROM device WHERE device_id < ?1 ORDER BY device_id DESC LIMIT {NEIGHBOURS}"),
            ] {
                let mut look = self.connection.prepare(&text)?;
                let ids = look.query_map([device_id], |row| row.get(0))?;
                found.extend(ids.collect::<Result<Vec<String>, _>>()?);
            }
            Ok(found)
        };
        read().map_err(|e| self.error("look for near ids", e))
    }
}

/// Returns the template of a device; `None` also when the device is gone.
pub(super) fn template_of(connection: &rusqlite::Connection, device_id: &str) -> rusqlite::Result<Option<String>> {
    let mut look = connection.prepare_cached("SELECT template FROM device WHERE device_id = ?1")?;
    look.query_row([device_id], |row| row.get(0)).optional().map(Option::flatten)
}

/// Returns those ids for which `write` changed a row.
fn changed(
    device_ids: &[String],
    mut write: impl FnMut(&str) -> rusqlite::Result<usize>,
) -> rusqlite::Result<Vec<String>> {
    let mut changed = Vec::new();
    for id in device_ids {
        if write(id)? > 0 {
            changed.push(id.clone());
        }
    }
    Ok(changed)
}
