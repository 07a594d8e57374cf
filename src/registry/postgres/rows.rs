//! Rows as values.

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::fault::Fault;
use super::json::{read, read_text};
use crate::model::device::{ConnectionState, Device, DeviceState};
use crate::model::outcome::Reason;

/// The columns of a device in the order that [`device_of_row`] reads.
pub(super) const DEVICE_COLUMNS: &str = "d.device_id, d.device_name, d.template, d.organization, d.state, d.blocked, \
     d.simulated, d.iot_edge, d.connection_state, d.last_activity, d.edge_manifest, d.tags::text, d.cloud::text, \
     d.desired::text, d.desired_version, d.reported::text, d.reported_version";

pub(super) const DEVICE_COLUMN_COUNT: usize = 17;

/// Returns the device of a row of [`DEVICE_COLUMNS`].
pub(super) fn device_of_row(row: &Row) -> Result<Device, Fault> {
    let (state, connection): (&str, &str) = (row.try_get(4)?, row.try_get(8)?);
    let last_activity: Option<&str> = row.try_get(9)?;
    let text =
        |at: usize| -> Result<Option<String>, Fault> { Ok(row.try_get::<_, Option<String>>(at)?.map(read_text)) };
    Ok(Device {
        device_id: row.try_get(0)?,
        device_name: read_text(row.try_get(1)?),
        template: text(2)?,
        organization: text(3)?,
        state: DeviceState::parse(state).ok_or_else(|| malformed(state))?,
        blocked: row.try_get(5)?,
        simulated: row.try_get(6)?,
        iot_edge: row.try_get(7)?,
        connection_state: ConnectionState::parse(connection).ok_or_else(|| malformed(connection))?,
        last_activity: last_activity.and_then(|text| text.parse().ok()),
        edge_manifest: text(10)?,
        tags: json_of(row, 11)?,
        cloud: json_of(row, 12)?,
        desired: json_of(row, 13)?,
        desired_version: number_of(row, 14)?,
        reported: json_of(row, 15)?,
        reported_version: number_of(row, 16)?,
    })
}

/// Returns the time of a column in microseconds since 1970.
pub(super) fn time_of(row: &Row, column: usize) -> Result<Timestamp, Fault> {
    let micros: i64 = row.try_get(column)?;
    Timestamp::from_microsecond(micros).map_err(|_| malformed(&micros.to_string()))
}

/// Returns the time of a column in microseconds since 1970 that may be NULL.
pub(super) fn micros_of(row: &Row, column: usize) -> Result<Option<Timestamp>, Fault> {
    let micros: Option<i64> = row.try_get(column)?;
    Ok(micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()))
}

/// Returns a number of a column of bigints that is in the range of its type.
pub(super) fn number_of<T: TryFrom<i64>>(row: &Row, column: usize) -> Result<T, Fault> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| malformed(&number.to_string()))
}

/// Returns a value of a column that is one text of JSON.
pub(super) fn json_of(row: &Row, column: usize) -> Result<serde_json::Value, Fault> {
    let text: &str = row.try_get(column)?;
    read(text).map_err(|_| malformed(text))
}

/// Returns the values of the first column of rows.
pub(super) fn first_column<T: for<'a> FromSql<'a>>(rows: &[Row]) -> Result<Vec<T>, Fault> {
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

pub(super) fn malformed(text: &str) -> Fault {
    Fault::Malformed(format!("a row has the unexpected value {text:?}"))
}

/// Returns the reason that is stored in a column.
pub(super) fn reason_of(row: &Row, column: usize) -> Result<Reason, Fault> {
    let stored: i16 = row.try_get(column)?;
    let reason = u8::try_from(stored).ok().and_then(Reason::from_stored);
    reason.ok_or_else(|| malformed(&stored.to_string()))
}
