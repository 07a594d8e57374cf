//! Reading devices one at a time, for lists and exports.

use std::collections::BTreeSet;

use rusqlite::OptionalExtension;

use super::rows::{DEVICE_COLUMNS, device_of_row};
use super::{Registry, RegistryError, Request, Selection, Touched};
use crate::model::device::{Authentication, Device};
use crate::query::Query;

/// Which devices to list.
#[derive(Debug, Clone, Default)]
pub struct DeviceFilter {
    pub query: Option<Query>,
    /// The path of an organization; devices in or below it.
    pub organization: Option<String>,
    /// Only devices whose id comes after this one, which need not be there.
    pub after: Option<String>,
    /// At most this many, in the order of their ids.
    pub limit: Option<u64>,
}

/// How a device proves who it is, as an export shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DeviceKeys {
    pub authentication: Authentication,
    pub primary_key: Option<Vec<u8>>,
    pub secondary_key: Option<Vec<u8>>,
    pub primary_thumbprint: Option<String>,
    pub secondary_thumbprint: Option<String>,
}

/// Without the keys.
impl std::fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceKeys").field("authentication", &self.authentication).finish_non_exhaustive()
    }
}

/// The columns of a device's keys in the order that [`keys_of_row`] reads; NULL for a device that has none.
pub(super) const KEY_COLUMNS: &str = "k.device_id IS NOT NULL, k.authentication, k.primary_key, k.secondary_key, k.primary_thumbprint, k.secondary_thumbprint";

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

impl Registry {
    /// Calls `visit` for each device that the filter selects, in the order of their ids, until it fails.
    ///
    /// # Errors
    /// The registry cannot be read; or the error of `visit`.
    pub fn each_device<E: From<RegistryError>>(
        &self,
        filter: &DeviceFilter,
        mut visit: impl FnMut(Device) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |e| E::from(self.error("read devices", e));
        let request = request_of(filter);
        let mut condition = self.condition(&request).map_err(fail)?;
        let limit = filter.limit.map_or(String::new(), |limit| format!(" LIMIT {limit}"));
        if let Some(after) = &filter.after {
            condition.params.push(after.clone().into());
            condition.sql = format!("({}) AND d.device_id > ?{}", condition.sql, condition.params.len());
        }
        let text = format!(
            "SELECT {DEVICE_COLUMNS} FROM {} AS d WHERE {} ORDER BY d.device_id{limit}",
            self.source(),
            condition.sql
        );
        let mut statement = self.connection.prepare(&text).map_err(fail)?;
        let mut rows = statement.query(rusqlite::params_from_iter(condition.params)).map_err(fail)?;
        while let Some(row) = rows.next().map_err(fail)? {
            visit(device_of_row(row).map_err(fail)?)?;
        }
        Ok(())
    }

    /// Returns how many devices the filter selects, whatever its page.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn count_devices(&self, filter: &DeviceFilter) -> Result<u64, RegistryError> {
        self.count_matching(&request_of(filter))
    }

    /// Returns how many devices a request selects.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn count_matching(&self, request: &Request) -> Result<u64, RegistryError> {
        let count = || {
            let condition = self.condition(request)?;
            let text = format!("SELECT count(*) FROM {} AS d WHERE {}", self.source(), condition.sql);
            self.connection.query_row(&text, rusqlite::params_from_iter(condition.params), |row| row.get(0))
        };
        count().map_err(|e| self.error("count devices", e))
    }

    /// Returns one device, or `None`.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn device(&self, device_id: &str) -> Result<Option<Device>, RegistryError> {
        let read = || {
            let text = format!("SELECT {DEVICE_COLUMNS} FROM {} AS d WHERE d.device_id = ?1", self.source());
            self.connection.prepare_cached(&text)?.query_row([device_id], device_of_row).optional()
        };
        read().map_err(|e| self.error("read a device", e))
    }

    /// Returns the keys of a device; those of one that has none are empty.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn keys(&self, device_id: &str) -> Result<DeviceKeys, RegistryError> {
        let read = || {
            let text = format!("SELECT {KEY_COLUMNS} FROM device_key AS k WHERE k.device_id = ?1");
            self.connection.prepare_cached(&text)?.query_row([device_id], |row| keys_of_row(row, 0)).optional()
        };
        let none = DeviceKeys { authentication: Authentication::None, ..DeviceKeys::default() };
        Ok(read().map_err(|e| self.error("read keys", e))?.unwrap_or(none))
    }
}

fn request_of(filter: &DeviceFilter) -> Request {
    Request {
        selection: Selection::Matching { template: None, conditions: filter.query.iter().cloned().collect() },
        within: filter.organization.iter().cloned().collect(),
        touched: Touched::Nothing,
        mismatching: BTreeSet::new(),
    }
}
