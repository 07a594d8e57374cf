//! Reading devices one at a time, for lists and exports.

use std::ops::ControlFlow;

use tokio_postgres::Row;

use super::super::bounds::Condition;
use super::super::sql::Param;
use super::super::{DeviceFilter, DeviceKeys, RegistryError};
use super::PostgresStore;
use super::connection::{Connection, bound};
use super::fault::Fault;
use super::json::stored_text;
use super::rows::{DEVICE_COLUMNS, device_of_row, malformed};
use crate::model::device::{Authentication, Device};

impl PostgresStore {
    pub(super) fn visit_devices(
        &self,
        filter: &DeviceFilter,
        visit: &mut dyn FnMut(Device) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        self.visit("read devices", |connection| {
            connection.in_snapshot(|| {
                let Condition { sql, params } = self.filtered(connection, filter)?;
                let text = format!("SELECT {DEVICE_COLUMNS} FROM {} AS d {sql}", self.source());
                connection.each(&text, &bound(&params), &mut |row| Ok(visit(device_of_row(row)?)))
            })
        })
    }

    /// Returns what comes behind the tables of a statement that selects what a filter does, with its parameters.
    pub(super) fn filtered(&self, connection: &Connection, filter: &DeviceFilter) -> Result<Condition, Fault> {
        let Condition { mut sql, mut params } = self.condition(connection, &filter.request())?;
        if let Some(after) = &filter.after {
            params.push(Param::Text(stored_text(after).into_owned()));
            sql = format!("({sql}) AND d.device_id > ${}", params.len());
        }
        let limit = filter.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        Ok(Condition { sql: format!("WHERE {sql} ORDER BY d.device_id{limit}"), params })
    }

    pub(super) fn device_of(&self, device_id: &str) -> Result<Option<Device>, RegistryError> {
        let text = format!("SELECT {DEVICE_COLUMNS} FROM {} AS d WHERE d.device_id = $1", self.source());
        self.read("read a device", |connection| {
            connection.row(&text, &[&stored_text(device_id)])?.as_ref().map(device_of_row).transpose()
        })
    }
}

/// The columns of a device's keys in the order that [`keys_of_row`] reads; NULL for a device that has none.
pub(super) const KEY_COLUMNS: &str = "k.device_id IS NOT NULL, k.authentication, k.primary_key, k.secondary_key, \
    k.primary_thumbprint, k.secondary_thumbprint";

/// Returns the keys of the columns from `first` on.
pub(super) fn keys_of_row(row: &Row, first: usize) -> Result<DeviceKeys, Fault> {
    if !row.try_get(first)? {
        return Ok(DeviceKeys { authentication: Authentication::None, ..DeviceKeys::default() });
    }
    let word: Option<&str> = row.try_get(first + 1)?;
    let authentication = match word {
        None => Authentication::Sas,
        Some(word) => Authentication::parse(word).ok_or_else(|| malformed(word))?,
    };
    Ok(DeviceKeys {
        authentication,
        primary_key: row.try_get(first + 2)?,
        secondary_key: row.try_get(first + 3)?,
        primary_thumbprint: row.try_get(first + 4)?,
        secondary_thumbprint: row.try_get(first + 5)?,
    })
}

/// Returns the keys of a device; those of one that has none are empty.
pub(super) fn keys(connection: &Connection, device_id: &str) -> Result<DeviceKeys, Fault> {
    let text = format!("SELECT {KEY_COLUMNS} FROM device_key AS k WHERE k.device_id = $1");
    match connection.row(&text, &[&device_id])? {
        Some(row) => keys_of_row(&row, 0),
        None => Ok(DeviceKeys { authentication: Authentication::None, ..DeviceKeys::default() }),
    }
}
