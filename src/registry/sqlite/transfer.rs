//! A whole registry as rows, out and in.

use rusqlite::types::ValueRef;
use rusqlite::{Row, Transaction};

use super::super::transfer::{Cell, OWN_KEYS, RowSink, RowSource, TABLES, Table};
use super::super::{Flaw, FlawKind, RegistryError};
use super::{SqliteStore, failure};

impl SqliteStore {
    pub(super) fn unload_rows(&self, sink: &mut RowSink<'_>) -> Result<(), RegistryError> {
        let fail = |e| self.error("copy it", e);
        // What is read is of one moment.
        let transaction = self.connection.unchecked_transaction().map_err(fail)?;
        for table in TABLES {
            let text = format!("SELECT {} FROM main.{}", table.column_list(), table.name);
            let mut statement = transaction.prepare(&text).map_err(fail)?;
            let mut rows = statement.query([]).map_err(fail)?;
            while let Some(row) = rows.next().map_err(fail)? {
                let cells = (0..table.columns.len()).map(|at| cell_of(row, at)).collect::<rusqlite::Result<_>>();
                sink(table, cells.map_err(fail)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn contradictions(&self) -> Result<Vec<Flaw>, RegistryError> {
        let count = |kind: FlawKind| {
            self.connection.query_row(kind.statement(), [], |row| Ok(kind.found(row.get(0)?, row.get(1)?)))
        };
        let found = FlawKind::ALL.into_iter().map(count).collect::<rusqlite::Result<Vec<_>>>();
        Ok(found.map_err(|e| self.error("check it", e))?.into_iter().flatten().collect())
    }

    pub(super) fn load_rows(&mut self, source: &mut RowSource<'_>) -> Result<(), RegistryError> {
        let location = self.location.clone();
        let fail = |e| failure(&location, "copy into it", e);
        let transaction = self.connection.transaction().map_err(fail)?;
        let is_empty = "SELECT NOT EXISTS (SELECT 1 FROM main.device) AND NOT EXISTS (SELECT 1 FROM main.run)
            AND NOT EXISTS (SELECT 1 FROM main.kept_file)";
        if !transaction.query_row(is_empty, [], |row| row.get::<_, bool>(0)).map_err(fail)? {
            return Err(RegistryError::Occupied { location });
        }
        let mut texts = TABLES.iter().map(|table| (table.name, insert_of(table))).collect::<Vec<_>>();
        texts.sort_unstable();
        source(&mut |table, cells| {
            let at = texts.binary_search_by_key(&table.name, |(name, _)| *name).expect("the tables are known");
            insert(&transaction, &texts[at].1, table, cells).map_err(fail)
        })?;
        super::status::count_anew(&transaction).map_err(fail)?;
        super::outcome_counts::begin_all(&transaction).map_err(fail)?;
        transaction.commit().map_err(fail)
    }
}

fn insert(transaction: &Transaction<'_>, text: &str, table: &Table, cells: Vec<Cell>) -> rusqlite::Result<()> {
    if table.name == "meta" && matches!(&cells[0], Cell::Text(key) if OWN_KEYS.contains(&key.as_str())) {
        return Ok(());
    }
    let mut statement = transaction.prepare_cached(text)?;
    for (at, cell) in cells.into_iter().enumerate() {
        match cell {
            Cell::Null => statement.raw_bind_parameter(at + 1, rusqlite::types::Null)?,
            Cell::Text(text) => statement.raw_bind_parameter(at + 1, text)?,
            Cell::Integer(number) => statement.raw_bind_parameter(at + 1, number)?,
            Cell::Bytes(bytes) => statement.raw_bind_parameter(at + 1, bytes)?,
        }
    }
    statement.raw_execute().map(drop)
}

fn insert_of(table: &Table) -> String {
    let places: Vec<String> = (1..=table.columns.len()).map(|at| format!("?{at}")).collect();
    let (name, columns) = (table.name, table.column_list());
    format!("INSERT OR REPLACE INTO main.{name} ({columns}) VALUES ({})", places.join(", "))
}

fn cell_of(row: &Row<'_>, at: usize) -> rusqlite::Result<Cell> {
    Ok(match row.get_ref(at)? {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Integer(number),
        ValueRef::Text(_) => Cell::Text(row.get(at)?),
        ValueRef::Blob(bytes) => Cell::Bytes(bytes.to_vec()),
        ValueRef::Real(_) => return Err(super::rows::malformed(at, "a real number")),
    })
}
