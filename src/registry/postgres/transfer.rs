//! A whole registry as rows, out and in.

use std::fmt::Write as _;

use tokio_postgres::Row;

use super::super::transfer::{Cell, ColumnKind, OWN_KEYS, RowSink, RowSource, TABLES, Table};
use super::super::{Fence, Flaw, FlawKind, RegistryError};
use super::PostgresStore;
use super::connection::{Connection, Copy};
use super::fault::Fault;
use super::json::{read, read_text, stored, stored_text};
use super::rows::malformed;
use crate::model::encoding::hex;

impl PostgresStore {
    pub(super) fn unload_rows(&self, sink: &mut RowSink<'_>) -> Result<(), RegistryError> {
        self.visit("copy it", |connection| {
            connection.in_snapshot(|| TABLES.iter().try_for_each(|table| unload(connection, table, sink)))
        })
    }

    pub(super) fn contradictions(&self) -> Result<Vec<Flaw>, RegistryError> {
        self.read("check it", |connection| {
            let count = |kind: FlawKind| {
                let row = connection.one(kind.statement(), &[])?;
                Ok(kind.found(row.try_get(0)?, row.try_get(1)?))
            };
            let found = FlawKind::ALL.into_iter().map(count).collect::<Result<Vec<_>, Fault>>()?;
            Ok(found.into_iter().flatten().collect())
        })
    }

    pub(super) fn load_rows(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError> {
        let location = self.settings.location.clone();
        self.once("copy into it", Fence::NONE, &mut |connection| {
            let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM device) AND NOT EXISTS (SELECT 1 FROM run)
                AND NOT EXISTS (SELECT 1 FROM kept_file)";
            if !connection.one(is_empty, &[])?.try_get::<_, bool>(0)? {
                return Err(RegistryError::Occupied { location: location.clone() }.into());
            }
            let mut loader = Loader { connection, copy: None, line: String::new() };
            let loaded = source(&mut |table, cells| {
                loader.take(table, cells).map_err(|fault| fault.into_error(&location, "copy into it"))
            });
            loaded.map_err(Fault::Registry)?;
            loader.finish()?;
            super::status::count_anew(connection)?;
            super::outcome_counts::begin_all(connection)?;
            for text in [
                "SELECT setval(pg_get_serial_sequence('fleetform.run', 'run_id'), max(run_id)) FROM run",
                "SELECT setval(pg_get_serial_sequence('fleetform.message', 'sequence'), max(sequence)) FROM message",
            ] {
                connection.rows(text, &[])?;
            }
            connection.batch("ANALYZE device; ANALYZE outcome; ANALYZE run")
        })
    }
}

fn unload(connection: &Connection, table: &'static Table, sink: &mut RowSink<'_>) -> Result<(), Fault> {
    let columns = table.columns.iter().map(|(name, kind)| match kind {
        ColumnKind::Json => format!("{name}::text"),
        ColumnKind::Bool => format!("{name}::int::bigint"),
        ColumnKind::Integer => format!("{name}::bigint"),
        ColumnKind::Text | ColumnKind::Bytes => (*name).to_string(),
    });
    // An epoch that was never noted is no row in other stores.
    let wanted = if table.name == "meta" { " WHERE NOT (key = 'epoch' AND value = '0')" } else { "" };
    let text = format!("SELECT {} FROM {}{wanted}", columns.collect::<Vec<_>>().join(", "), table.name);
    connection.stream_apart(&text, |row| {
        let cells = table.columns.iter().enumerate().map(|(at, (_, kind))| cell_of(row, at, *kind));
        sink(table, cells.collect::<Result<_, Fault>>()?).map_err(Fault::Registry)
    })
}

fn cell_of(row: &Row, at: usize, kind: ColumnKind) -> Result<Cell, Fault> {
    Ok(match kind {
        ColumnKind::Text => {
            row.try_get::<_, Option<String>>(at)?.map_or(Cell::Null, |text| Cell::Text(read_text(text)))
        }
        ColumnKind::Json => {
            let text: &str = row.try_get(at)?;
            Cell::Text(read(text).map_err(|_| malformed(text))?.to_string())
        }
        ColumnKind::Bool | ColumnKind::Integer => row.try_get::<_, Option<i64>>(at)?.map_or(Cell::Null, Cell::Integer),
        ColumnKind::Bytes => row.try_get::<_, Option<Vec<u8>>>(at)?.map_or(Cell::Null, Cell::Bytes),
    })
}

/// Copies rows into their tables.
struct Loader<'a> {
    connection: &'a Connection,
    /// The table that is copied into now.
    copy: Option<(&'static Table, Copy)>,
    line: String,
}

impl Loader<'_> {
    fn take(&mut self, table: &'static Table, cells: Vec<Cell>) -> Result<(), Fault> {
        if table.name == "meta" {
            return self.take_meta(cells);
        }
        if self.copy.as_ref().is_none_or(|(current, _)| current.name != table.name) {
            self.finish()?;
            let text = format!("COPY {} ({}) FROM STDIN", table.name, table.column_list());
            self.copy = Some((table, self.connection.begin_copy(&text)?));
        }
        let Some((table, copy)) = &mut self.copy else { return Ok(()) };
        self.line.clear();
        for (at, (cell, (_, kind))) in cells.into_iter().zip(table.columns).enumerate() {
            if at > 0 {
                self.line.push('\t');
            }
            push_cell(&mut self.line, cell, *kind)?;
        }
        self.line.push('\n');
        self.connection.send_copy(copy, self.line.as_bytes())
    }

    fn take_meta(&mut self, cells: Vec<Cell>) -> Result<(), Fault> {
        self.finish()?;
        let [Cell::Text(key), Cell::Text(value)] = &cells[..] else { return Err(malformed("meta")) };
        if OWN_KEYS.contains(&key.as_str()) {
            return Ok(());
        }
        super::remembered::set_value(self.connection, key, value)
    }

    fn finish(&mut self) -> Result<(), Fault> {
        match self.copy.take() {
            Some((_, copy)) => self.connection.finish_copy(copy).map(drop),
            None => Ok(()),
        }
    }
}

/// Adds a value in the text format of COPY (<https://www.postgresql.org/docs/current/sql-copy.html>).
fn push_cell(line: &mut String, cell: Cell, kind: ColumnKind) -> Result<(), Fault> {
    match (cell, kind) {
        (Cell::Null, _) => line.push_str("\\N"),
        (Cell::Integer(number), ColumnKind::Bool) => line.push(if number == 0 { 'f' } else { 't' }),
        (Cell::Integer(number), _) => write!(line, "{number}").map_err(|_| malformed("a number"))?,
        (Cell::Text(text), ColumnKind::Json) => {
            let value = serde_json::from_str(&text).map_err(|_| malformed(&text))?;
            push_escaped(line, &stored(&value));
        }
        (Cell::Text(text), _) => push_escaped(line, &stored_text(&text)),
        (Cell::Bytes(bytes), _) => {
            line.push_str("\\\\x");
            line.push_str(&hex(&bytes));
        }
    }
    Ok(())
}

/// Adds a text in the text format of COPY.
pub(super) fn push_escaped(line: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => line.push_str("\\\\"),
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\t' => line.push_str("\\t"),
            other => line.push(other),
        }
    }
}
