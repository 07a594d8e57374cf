//! Rows as values.

use jiff::Timestamp;
use rusqlite::Row;
use serde_json::Value;

use crate::model::device::{ConnectionState, Device, DeviceState};
use crate::model::outcome::Reason;

/// The columns of a device in the order that [`device_of_row`] reads.
pub(super) const DEVICE_COLUMNS: &str = "d.device_id, d.device_name, d.template, d.organization, d.state, d.blocked, \
     d.simulated, d.iot_edge, d.connection_state, d.last_activity, d.edge_manifest, d.tags, d.cloud, d.desired, \
     d.desired_version, d.reported, d.reported_version";

/// Returns the device of a row of [`DEVICE_COLUMNS`]; the error says which column holds what it should not.
pub(super) fn device_of_row(row: &Row<'_>) -> rusqlite::Result<Device> {
    let (state, connection) = (row.get_ref(4)?.as_str()?, row.get_ref(8)?.as_str()?);
    let last_activity = row.get_ref(9)?.text_or_null()?;
    Ok(Device {
        device_id: row.get(0)?,
        device_name: row.get(1)?,
        template: row.get(2)?,
        organization: row.get(3)?,
        state: DeviceState::parse(state).ok_or_else(|| malformed(4, state))?,
        blocked: row.get(5)?,
        simulated: row.get(6)?,
        iot_edge: row.get(7)?,
        connection_state: ConnectionState::parse(connection).ok_or_else(|| malformed(8, connection))?,
        last_activity: last_activity.and_then(|text| text.parse().ok()),
        edge_manifest: row.get(10)?,
        tags: json_of(row, 11)?,
        cloud: json_of(row, 12)?,
        desired: json_of(row, 13)?,
        desired_version: row.get(14)?,
        reported: json_of(row, 15)?,
        reported_version: row.get(16)?,
    })
}

/// Returns the time of a column in microseconds since 1970.
pub(super) fn time_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    let micros: i64 = row.get(column)?;
    Timestamp::from_microsecond(micros).map_err(|_| malformed(column, &micros.to_string()))
}

/// Returns a value of a column that is one text of JSON.
pub(super) fn json_of(row: &Row<'_>, column: usize) -> rusqlite::Result<Value> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|_| malformed(column, text))
}

pub(super) fn malformed(column: usize, text: &str) -> rusqlite::Error {
    let what = format!("unexpected value {text:?}");
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, what.into())
}

/// Text that may be absent.
pub(super) trait TextOrNull<'a> {
    /// Returns the text of a column, `None` when it is NULL.
    fn text_or_null(self) -> rusqlite::Result<Option<&'a str>>;
}

impl<'a> TextOrNull<'a> for rusqlite::types::ValueRef<'a> {
    fn text_or_null(self) -> rusqlite::Result<Option<&'a str>> {
        match self {
            rusqlite::types::ValueRef::Null => Ok(None),
            other => Ok(Some(other.as_str()?)),
        }
    }
}

/// Returns the reason that is stored in a column.
pub(super) fn reason_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Reason> {
    let stored: u8 = row.get(column)?;
    Reason::from_stored(stored).ok_or_else(|| malformed(column, &stored.to_string()))
}
