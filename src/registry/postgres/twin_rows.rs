//! Devices with what their twins show beside them, for pages of twins.

use std::ops::ControlFlow;

use jiff::Timestamp;
use serde_json::value::to_raw_value;
use tokio_postgres::Row;

use super::super::bounds::Condition;
use super::super::sql::Param;
use super::super::{DeviceFilter, RegistryError, TwinRow};
use super::PostgresStore;
use super::connection::bound;
use super::devices::{KEY_COLUMNS, keys_of_row};
use super::fault::Fault;
use super::json::read_text;
use super::rows::{DEVICE_COLUMN_COUNT, DEVICE_COLUMNS, device_of_row, micros_of, number_of};
use crate::model::device::Device;

/// Behind [`DEVICE_COLUMNS`].
const STATUS: usize = DEVICE_COLUMN_COUNT;
/// The first of [`KEY_COLUMNS`], behind those; the number of messages is behind them.
const KEYS: usize = STATUS + 2;
const MESSAGES: usize = KEYS + 6;

impl PostgresStore {
    pub(super) fn visit_twins(
        &self,
        filter: &DeviceFilter,
        now: Timestamp,
        visit: &mut dyn FnMut(&TwinRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        self.visit("read twins", |connection| {
            connection.in_snapshot(|| {
                let Condition { sql, mut params } = self.filtered(connection, filter)?;
                params.push(Param::Integer(now.as_microsecond()));
                let text = format!(
                    "SELECT {DEVICE_COLUMNS}, s.reason, s.updated_at, {KEY_COLUMNS},
                        (SELECT count(*) FROM message AS m
                         WHERE m.device_id = d.device_id AND m.expires_at > ${}::bigint)
                     FROM {} AS d LEFT JOIN device_key AS k ON k.device_id = d.device_id
                        LEFT JOIN device_status AS s ON s.device_id = d.device_id {sql}",
                    params.len(),
                    self.source(),
                );
                connection.each(&text, &bound(&params), &mut |row| visit_twin(row, visit))
            })
        })
    }
}

fn visit_twin(row: &Row, visit: &mut dyn FnMut(&TwinRow<'_>) -> ControlFlow<()>) -> Result<ControlFlow<()>, Fault> {
    // JSON of a database is not that of everybody else, so there is no text to pass on.
    let device: Device = device_of_row(row)?;
    let [tags, desired, reported] = [&device.tags, &device.desired, &device.reported]
        .map(|section| to_raw_value(section).expect("the keys of a section are texts"));
    let status_reason = row.try_get::<_, Option<String>>(STATUS)?.map(read_text);
    Ok(visit(&TwinRow {
        device_id: &device.device_id,
        device_name: &device.device_name,
        template: device.template.as_deref(),
        organization: device.organization.as_deref(),
        blocked: device.blocked,
        iot_edge: device.iot_edge,
        connection_state: device.connection_state,
        last_activity: device.last_activity,
        tags: &tags,
        desired: &desired,
        desired_version: device.desired_version,
        reported: &reported,
        reported_version: device.reported_version,
        keys: keys_of_row(row, KEYS)?,
        status_reason: status_reason.as_deref(),
        status_updated: micros_of(row, STATUS + 1)?,
        messages: number_of(row, MESSAGES)?,
    }))
}
