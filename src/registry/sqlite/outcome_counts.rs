//! How many devices of a run have an outcome, without a look at each of them.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::super::RegistryError;
use super::super::outcome_counts::{OutcomeCount, Written, count_all, count_run};
use super::SqliteStore;
use super::rows::reason_of;
use crate::model::delivery::BatchSizes;
use crate::model::outcome::Counts;

impl SqliteStore {
    pub(super) fn counts_of(&self, run_id: i64) -> Result<Vec<OutcomeCount>, RegistryError> {
        let read = || {
            let text = "SELECT batch, reason, devices FROM outcome_count WHERE run_id = ?1 ORDER BY batch, reason";
            let mut statement = self.connection.prepare_cached(text)?;
            let rows = statement.query_map([run_id], |row| {
                Ok(OutcomeCount { batch: row.get(0)?, reason: reason_of(row, 1)?, devices: row.get(2)? })
            })?;
            rows.collect::<rusqlite::Result<Vec<OutcomeCount>>>()
        };
        read().map_err(|e| self.error("count outcomes", e))
    }

    /// Returns how many devices of a run have an outcome.
    pub(super) fn progress_of(&self, run_id: i64, total: u64) -> rusqlite::Result<Counts> {
        let text = "SELECT reason, sum(devices) FROM outcome_count WHERE run_id = ?1 GROUP BY reason";
        let mut statement = self.connection.prepare_cached(text)?;
        let mut rows = statement.query([run_id])?;
        let mut counts = Counts { total, ..Counts::default() };
        while let Some(row) = rows.next()? {
            counts.add_all(reason_of(row, 0)?, row.get(1)?);
        }
        Ok(counts)
    }
}

/// Returns what counts the outcomes of a run that a transaction writes.
pub(super) fn begin(transaction: &Transaction<'_>, run_id: i64) -> rusqlite::Result<Written> {
    let text = "SELECT coalesce(first_batch, batch_size), batch_size FROM run WHERE run_id = ?1";
    let mut statement = transaction.prepare_cached(text)?;
    let sizes = statement.query_row([run_id], |row| Ok(BatchSizes { first: row.get(0)?, size: row.get(1)? }));
    Ok(Written::new(sizes.optional()?))
}

/// Adds what a transaction has written.
pub(super) fn add(transaction: &Transaction<'_>, run_id: i64, written: &Written) -> rusqlite::Result<()> {
    let text = "INSERT INTO outcome_count (run_id, batch, reason, devices) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT (run_id, batch, reason) DO UPDATE SET devices = devices + excluded.devices";
    let mut statement = transaction.prepare_cached(text)?;
    for OutcomeCount { batch, reason, devices } in written.counts() {
        statement.execute(params![run_id, batch, reason as u8, devices])?;
    }
    Ok(())
}

/// Counts the outcomes of all runs; none is counted yet.
pub(super) fn begin_all(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute(&count_all(), []).map(drop)
}

/// Counts the outcomes of a run that goes on: an older fleetform may have written some since these are counted.
pub(super) fn count_anew(transaction: &Transaction<'_>, run_id: i64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM outcome_count WHERE run_id = ?1", [run_id])?;
    transaction.execute(&count_run("?1"), [run_id]).map(drop)
}
