//! Devices with what their twins show beside them, for pages of twins.

use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::config::DbConfig;
use serde_json::value::RawValue;

use super::super::bounds::Condition;
use super::super::sql::Param;
use super::super::{DeviceFilter, RegistryError, TwinRow};
use super::SqliteStore;
use super::devices::{KEY_COLUMNS, keys_of_row};
use super::rows::{TextOrNull as _, malformed};
use crate::model::device::ConnectionState;
use crate::query::Query;

const COLUMNS: &str = "d.device_id, d.device_name, d.template, d.organization, d.blocked, d.iot_edge, \
    d.connection_state, d.last_activity, d.tags, d.desired, d.desired_version, d.reported, d.reported_version, \
    s.reason, s.updated_at";
/// The first of [`KEY_COLUMNS`], behind those; the number of messages is behind them.
const KEYS: usize = 15;
const MESSAGES: usize = 21;

impl SqliteStore {
    pub(super) fn visit_twins(
        &self,
        filter: &DeviceFilter,
        now: Timestamp,
        visit: &mut dyn FnMut(&TwinRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        let mut read = || {
            let Condition { sql, mut params } = self.filtered(filter)?;
            params.push(Param::Integer(now.as_microsecond()));
            let text = format!(
                "SELECT {COLUMNS}, {KEY_COLUMNS},
                    (SELECT count(*) FROM main.message AS m
                     WHERE m.device_id = d.device_id AND m.expires_at > ?{})
                 FROM {} AS d LEFT JOIN main.device_key AS k ON k.device_id = d.device_id
                    LEFT JOIN main.device_status AS s ON s.device_id = d.device_id {sql}",
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
                if visit(&twin_of(row)?).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|e| self.error("read twins", e))
    }
}

fn twin_of<'r>(row: &'r Row<'_>) -> rusqlite::Result<TwinRow<'r>> {
    let connection = row.get_ref(6)?.as_str()?;
    let last_activity = row.get_ref(7)?.text_or_null()?;
    let updated: Option<i64> = row.get(14)?;
    Ok(TwinRow {
        device_id: row.get_ref(0)?.as_str()?,
        device_name: row.get_ref(1)?.as_str()?,
        template: row.get_ref(2)?.text_or_null()?,
        organization: row.get_ref(3)?.text_or_null()?,
        blocked: row.get(4)?,
        iot_edge: row.get(5)?,
        connection_state: ConnectionState::parse(connection).ok_or_else(|| malformed(6, connection))?,
        last_activity: last_activity.and_then(|text| text.parse().ok()),
        tags: json_at(row, 8)?,
        desired: json_at(row, 9)?,
        desired_version: row.get(10)?,
        reported: json_at(row, 11)?,
        reported_version: row.get(12)?,
        status_reason: row.get_ref(13)?.text_or_null()?,
        status_updated: updated.and_then(|micros| Timestamp::from_microsecond(micros).ok()),
        keys: keys_of_row(row, KEYS)?,
        messages: row.get(MESSAGES)?,
    })
}

/// Returns the JSON of a column as it is stored.
fn json_at<'r>(row: &'r Row<'_>, column: usize) -> rusqlite::Result<&'r RawValue> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|_| malformed(column, text))
}
