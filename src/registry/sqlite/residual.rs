//! Conditions that SQL cannot express exactly: `query::matches` checks the devices that they let through again.

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::super::sql::sqlite::Sqlite;
use super::super::sql::{self, Param};
use super::SqliteStore;
use super::rows::{DEVICE_COLUMNS, device_of_row};
use crate::query::{self, Query};

impl SqliteStore {
    /// Fills the temporary table of a number with the ids of the devices that meet a condition, and returns its name.
    pub(super) fn fill_checked(&self, query: &Query, number: usize) -> rusqlite::Result<String> {
        let table = format!("temp.checked_{number}");
        self.connection.execute_batch(&format!(
            "CREATE TEMP TABLE IF NOT EXISTS checked_{number} (device_id TEXT PRIMARY KEY) WITHOUT ROWID;
             DELETE FROM {table};"
        ))?;
        let lowered = sql::lower(query, "d", 1, &Sqlite);
        let text = format!("SELECT {DEVICE_COLUMNS} FROM {} AS d WHERE {}", self.source(), lowered.sql);
        let mut read = self.connection.prepare(&text)?;
        let mut keep = self.connection.prepare(&format!("INSERT INTO {table} VALUES (?1)"))?;
        let mut rows = read.query(rusqlite::params_from_iter(lowered.params))?;
        while let Some(row) = rows.next()? {
            let device = device_of_row(row)?;
            if query::matches(query, &device) {
                keep.execute([&device.device_id])?;
            }
        }
        Ok(table)
    }
}

impl ToSql for Param {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Param::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Param::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Param::Integer(integer) => ToSqlOutput::Owned(Value::Integer(*integer)),
            Param::Real(real) => ToSqlOutput::Owned(Value::Real(*real)),
            Param::Texts(texts) => {
                ToSqlOutput::Owned(Value::Text(serde_json::Value::from(texts.as_slice()).to_string()))
            }
        })
    }
}
