//! Reading devices one at a time, for lists and exports.

use std::ops::ControlFlow;

use rusqlite::OptionalExtension;

use super::super::bounds::Condition;
use super::super::sql::Param;
use super::super::{DeviceFilter, DeviceKeys, RegistryError};
use super::SqliteStore;
use super::rows::{DEVICE_COLUMNS, device_of_row};
use crate::model::device::{Authentication, Device};

/// The columns of a device's keys in the order that [`keys_of_row`] reads; NULL for a device that has none.
pub(super) const KEY_COLUMNS: &str = "k.device_id IS NOT NULL, k.authentication, k.primary_key, k.secondary_key, \
    k.primary_thumbprint, k.secondary_thumbprint";

/// Returns the keys of the columns from `first` on.
pub(super) fn keys_of_row(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<DeviceKeys> {
    if !row.get(first)? {
        return Ok(DeviceKeys { authentication: Authentication::None, ..DeviceKeys::default() });
    }
    let word: Option<String> = row.get(first + 1)?;
    let authentication = match &word {
        None => Authentication::Sas,
        Some(word) => Authentication::parse(word).ok_or_else(|| super::rows::malformed(first + 1, word))?,
    };
    Ok(DeviceKeys {
        authentication,
        primary_key: row.get(first + 2)?,
        secondary_key: row.get(first + 3)?,
        primary_thumbprint: row.get(first + 4)?,
        secondary_thumbprint: row.get(first + 5)?,
    })
}

impl SqliteStore {
    pub(super) fn visit_devices(
        &self,
        filter: &DeviceFilter,
        visit: &mut dyn FnMut(Device) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        let mut read = || {
            let Condition { sql, params } = self.filtered(filter)?;
            let text = format!("SELECT {DEVICE_COLUMNS} FROM {} AS d {sql}", self.source());
            let mut statement = self.connection.prepare(&text)?;
            let mut rows = statement.query(rusqlite::params_from_iter(params))?;
            while let Some(row) = rows.next()? {
                if visit(device_of_row(row)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|e| self.error("read devices", e))
    }

    /// Returns what comes behind the tables of a statement that selects what a filter does, with its parameters.
    pub(super) fn filtered(&self, filter: &DeviceFilter) -> rusqlite::Result<Condition> {
        let Condition { mut sql, mut params } = self.condition(&filter.request())?;
        if let Some(after) = &filter.after {
            params.push(Param::Text(after.clone()));
            sql = format!("({sql}) AND d.device_id > ?{}", params.len());
        }
        let limit = filter.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        Ok(Condition { sql: format!("WHERE {sql} ORDER BY d.device_id{limit}"), params })
    }

    pub(super) fn device_of(&self, device_id: &str) -> Result<Option<Device>, RegistryError> {
        let read = || {
            let text = format!("SELECT {DEVICE_COLUMNS} FROM {} AS d WHERE d.device_id = ?1", self.source());
            self.connection.prepare_cached(&text)?.query_row([device_id], device_of_row).optional()
        };
        read().map_err(|e| self.error("read a device", e))
    }

    pub(super) fn keys_of(&self, device_id: &str) -> Result<DeviceKeys, RegistryError> {
        let read = || {
            let text = format!("SELECT {KEY_COLUMNS} FROM device_key AS k WHERE k.device_id = ?1");
            self.connection.prepare_cached(&text)?.query_row([device_id], |row| keys_of_row(row, 0)).optional()
        };
        let none = DeviceKeys { authentication: Authentication::None, ..DeviceKeys::default() };
        Ok(read().map_err(|e| self.error("read keys", e))?.unwrap_or(none))
    }
}
