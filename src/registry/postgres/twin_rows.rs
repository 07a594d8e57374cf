//! Devices with what their twins show beside them, for pages of twins.

use std::ops::ControlFlow;

use jiff::Timestamp;
use tokio_postgres::Row;

use super::super::bounds::Condition;
use super::super::identities::Columns;
use super::super::sql::Param;
use super::super::{DeviceFilter, IdentityRow, RegistryError, TwinRow};
use super::PostgresStore;
use super::connection::bound;
use super::devices::{KEY_COLUMNS, keys_of_row};
use super::fault::Fault;
use super::identities::registry_of;
use super::json::read_text;
use super::rows::{DEVICE_COLUMN_COUNT, DEVICE_COLUMNS, device_of_row, micros_of, number_of};
use crate::model::device::Device;
use crate::model::subscriptions::Subscriptions;

/// The columns that an identity has beside those of its device, with those of its keys behind them.
const STATUS_COLUMNS: &str = "s.generation, s.reason, s.updated_at, n.subscriptions";
/// Those and [`KEY_COLUMNS`].
const IDENTITY_COLUMN_COUNT: usize = 10;

impl PostgresStore {
    pub(super) fn visit_twins(
        &self,
        filter: &DeviceFilter,
        now: Timestamp,
        visit: &mut dyn FnMut(TwinRow) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        self.visit("read twins", |connection| {
            connection.in_snapshot(|| {
                let registry = registry_of(connection)?;
                let Condition { sql, mut params } = self.filtered(connection, filter)?;
                params.push(Param::Integer(now.as_microsecond()));
                let text = format!(
                    "SELECT {DEVICE_COLUMNS}, {STATUS_COLUMNS}, {KEY_COLUMNS},
                        (SELECT count(*) FROM message AS m
                         WHERE m.device_id = d.device_id AND m.expires_at > ${}::bigint)
                     FROM {} AS d LEFT JOIN device_key AS k ON k.device_id = d.device_id
                        LEFT JOIN device_status AS s ON s.device_id = d.device_id
                        LEFT JOIN device_session AS n ON n.device_id = d.device_id {sql}",
                    params.len(),
                    self.source(),
                );
                connection.each(&text, &bound(&params), &mut |row| {
                    let device = device_of_row(row)?;
                    let identity = identity_beside(&device, row, DEVICE_COLUMN_COUNT, &registry)?;
                    let messages = number_of(row, DEVICE_COLUMN_COUNT + IDENTITY_COLUMN_COUNT)?;
                    Ok(visit(TwinRow { device, identity, messages }))
                })
            })
        })
    }
}

/// Returns the identity of a device whose row has [`STATUS_COLUMNS`] and [`KEY_COLUMNS`] from `first` on.
fn identity_beside(device: &Device, row: &Row, first: usize, registry: &str) -> Result<IdentityRow, Fault> {
    let columns = Columns {
        device_id: device.device_id.clone(),
        connection_state: device.connection_state,
        last_activity: device.last_activity,
        blocked: device.blocked,
        iot_edge: device.iot_edge,
        generation: row.try_get(first)?,
        status_reason: row.try_get::<_, Option<String>>(first + 1)?.map(read_text),
        status_updated: micros_of(row, first + 2)?,
        subscriptions: row.try_get::<_, Option<i16>>(first + 3)?.map(Subscriptions::from_bits),
        keys: keys_of_row(row, first + 4)?,
    };
    Ok(columns.into_row(registry))
}
