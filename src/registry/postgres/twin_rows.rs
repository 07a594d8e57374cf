//! Devices with what their twins show beside them, for pages of twins.

use std::ops::ControlFlow;

use jiff::Timestamp;

use super::super::bounds::Condition;
use super::super::identities::DeviceFacts;
use super::super::sql::Param;
use super::super::{DeviceFilter, RegistryError, TwinRow};
use super::PostgresStore;
use super::connection::bound;
use super::devices::KEY_COLUMNS;
use super::identities::{IDENTITY_COLUMN_COUNT, JOINS, STATUS_COLUMNS, identity_beside, registry_of};
use super::rows::{DEVICE_COLUMN_COUNT, DEVICE_COLUMNS, device_of_row, number_of};

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
                     FROM {} AS d {JOINS} {sql}",
                    params.len(),
                    self.source(),
                );
                connection.each(&text, &bound(&params), &mut |row| {
                    let device = device_of_row(row)?;
                    let identity = identity_beside(DeviceFacts::of(&device), row, DEVICE_COLUMN_COUNT, &registry)?;
                    let messages = number_of(row, DEVICE_COLUMN_COUNT + IDENTITY_COLUMN_COUNT)?;
                    Ok(visit(TwinRow { device, identity, messages }))
                })
            })
        })
    }
}
