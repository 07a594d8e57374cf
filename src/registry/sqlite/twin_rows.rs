//! Devices with what their twins show beside them, for pages of twins.

use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::config::DbConfig;

use super::super::bounds::Condition;
use super::super::identities::DeviceFacts;
use super::super::sql::Param;
use super::super::{DeviceFilter, RegistryError, TwinRow};
use super::SqliteStore;
use super::devices::KEY_COLUMNS;
use super::identities::{IDENTITY_COLUMN_COUNT, JOINS, STATUS_COLUMNS, identity_beside, registry_of};
use super::rows::{DEVICE_COLUMN_COUNT, DEVICE_COLUMNS, device_of_row};
use crate::query::Query;

impl SqliteStore {
    pub(super) fn visit_twins(
        &self,
        filter: &DeviceFilter,
        now: Timestamp,
        visit: &mut dyn FnMut(TwinRow) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        let mut read = || {
            let registry = registry_of(&self.connection)?;
            let Condition { sql, mut params } = self.filtered(filter)?;
            params.push(Param::Integer(now.as_microsecond()));
            let text = format!(
                "SELECT {DEVICE_COLUMNS}, {STATUS_COLUMNS}, {KEY_COLUMNS},
                    (SELECT count(*) FROM main.message AS m
                     WHERE m.device_id = d.device_id AND m.expires_at > ?{})
                 FROM {} AS d {JOINS} {sql}",
                params.len(),
                self.source(),
            );
            // Pages of one query come one after the other. A statement whose plan depends on its parameters is prepared
            // anew for each of them, and that of equalities need not.
            let is_steady = filter.query.as_ref().is_none_or(Query::has_only_equalities);
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, is_steady)?;
            let prepared = self.connection.prepare_cached(&text);
            self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, false)?;
            let mut statement = prepared?;
            let mut rows = statement.query(rusqlite::params_from_iter(params))?;
            while let Some(row) = rows.next()? {
                let device = device_of_row(row)?;
                let identity = identity_beside(DeviceFacts::of(&device), row, DEVICE_COLUMN_COUNT, &registry)?;
                let messages = row.get(DEVICE_COLUMN_COUNT + IDENTITY_COLUMN_COUNT)?;
                if visit(TwinRow { device, identity, messages }).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|e| self.error("read twins", e))
    }
}
