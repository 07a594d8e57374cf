//! Devices with what their twins show beside them, for pages of twins.

use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::config::DbConfig;

use super::super::bounds::Condition;
use super::super::identities::Columns;
use super::super::sql::Param;
use super::super::{DeviceFilter, IdentityRow, RegistryError, TwinRow};
use super::SqliteStore;
use super::devices::{KEY_COLUMNS, keys_of_row};
use super::identities::registry_of;
use super::rows::{DEVICE_COLUMN_COUNT, DEVICE_COLUMNS, device_of_row};
use crate::model::device::Device;
use crate::model::subscriptions::Subscriptions;
use crate::query::Query;

/// The columns that an identity has beside those of its device, with those of its keys behind them.
const STATUS_COLUMNS: &str = "s.generation, s.reason, s.updated_at, n.subscriptions";
/// Those and [`KEY_COLUMNS`].
const IDENTITY_COLUMN_COUNT: usize = 10;

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
                 FROM {} AS d LEFT JOIN main.device_key AS k ON k.device_id = d.device_id
                    LEFT JOIN main.device_status AS s ON s.device_id = d.device_id
                    LEFT JOIN main.device_session AS n ON n.device_id = d.device_id {sql}",
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
                let identity = identity_beside(&device, row, DEVICE_COLUMN_COUNT, &registry)?;
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

/// Returns the identity of a device whose row has [`STATUS_COLUMNS`] and [`KEY_COLUMNS`] from `first` on.
fn identity_beside(device: &Device, row: &Row<'_>, first: usize, registry: &str) -> rusqlite::Result<IdentityRow> {
    let updated: Option<i64> = row.get(first + 2)?;
    let columns = Columns {
        device_id: device.device_id.clone(),
        connection_state: device.connection_state,
        last_activity: device.last_activity,
        blocked: device.blocked,
        iot_edge: device.iot_edge,
        generation: row.get(first)?,
        status_reason: row.get(first + 1)?,
        status_updated: updated.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        subscriptions: row.get::<_, Option<i16>>(first + 3)?.map(Subscriptions::from_bits),
        keys: keys_of_row(row, first + 4)?,
    };
    Ok(columns.into_row(registry))
}
