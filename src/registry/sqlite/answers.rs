//! Answers of devices that are kept whole.

use std::ops::Range;

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::super::{RegistryError, WholeAnswer};
use super::SqliteStore;

impl SqliteStore {
    pub(super) fn visit_answers(
        &self,
        run_id: i64,
        range: Range<u32>,
        visit: &mut dyn FnMut(WholeAnswer),
    ) -> Result<(), RegistryError> {
        let mut read = || {
            let text = "SELECT ordinal, code, at, payload FROM answer
                WHERE run_id = ?1 AND ordinal >= ?2 AND ordinal < ?3 ORDER BY ordinal";
            let mut statement = self.connection.prepare_cached(text)?;
            let mut rows = statement.query(params![run_id, range.start, range.end])?;
            while let Some(row) = rows.next()? {
                let at = super::rows::time_of(row, 2)?;
                visit(WholeAnswer { ordinal: row.get(0)?, code: row.get(1)?, payload: row.get(3)?, at });
            }
            Ok(())
        };
        read().map_err(|e: rusqlite::Error| self.error("read answers", e))
    }
}

/// Keeps answers to a run.
pub(super) fn keep(transaction: &Transaction<'_>, run_id: i64, answers: &[WholeAnswer]) -> rusqlite::Result<()> {
    let text = "INSERT INTO answer (run_id, ordinal, code, at, payload) VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut insert = transaction.prepare_cached(text)?;
    for WholeAnswer { ordinal, code, payload, at } in answers {
        insert.execute(params![run_id, ordinal, code, at.as_microsecond(), payload])?;
    }
    Ok(())
}

/// Forgets the answers that came before a time, and returns how many they were.
pub(super) fn drop_before(transaction: &Transaction<'_>, before: Timestamp) -> rusqlite::Result<u64> {
    let dropped = transaction.execute("DELETE FROM answer WHERE at < ?1", [before.as_microsecond()])?;
    Ok(dropped as u64)
}
