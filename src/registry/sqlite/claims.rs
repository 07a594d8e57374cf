//! Claims as the journal keeps them.

use std::collections::BTreeMap;

use rusqlite::{Transaction, params};

use super::super::{NewRun, RegistryError};
use super::SqliteStore;
use crate::ledger::claim_path;
use crate::model::limits;

/// Writes a run with its target, not yet claimed, and returns its number.
pub(super) fn journal(transaction: &Transaction<'_>, new: &NewRun<'_>) -> rusqlite::Result<i64> {
    transaction
        .prepare_cached(
            "INSERT INTO run (job, run, is_claimed, status, total, claim, batch_size, spec, edge_manifest_digest,
                              first_batch, keeps_answers)
             VALUES (?1, ?2, 0, 'pending', ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute(params![
            new.claim.job.as_str(),
            new.claim.run.as_str(),
            new.claim.total,
            new.document,
            new.sizes.size,
            new.spec,
            new.manifest.map(|digest| digest.to_string()),
            new.sizes.first,
            new.keeps_answers
        ])?;
    let run_id = transaction.last_insert_rowid();
    let mut insert = transaction.prepare_cached("INSERT INTO run_target (run_id, first, ids) VALUES (?1, ?2, ?3)")?;
    let (mut first, mut text) = (0, String::new());
    for (at, id) in new.ids.iter().enumerate() {
        text.push_str(id);
        text.push('\n');
        if (at + 1) % limits::WRITE_CHUNK == 0 || at + 1 == new.ids.len() {
            insert.execute(params![run_id, first, text])?;
            first = i64::try_from(at + 1).expect("a target is bounded");
            text.clear();
        }
    }
    Ok(run_id)
}

/// Notes that the claim of a run is on the results branch.
pub(super) fn confirm(transaction: &Transaction<'_>, run_id: i64) -> rusqlite::Result<()> {
    let text = "UPDATE run SET is_claimed = 1 WHERE run_id = ?1";
    transaction.prepare_cached(text)?.execute([run_id]).map(drop)
}

/// Forgets a run whose claim did not reach the results branch, with the marks that a backup which was put back got of
/// it: the next run may have its number.
pub(super) fn drop_unclaimed(transaction: &Transaction<'_>, run_id: i64) -> rusqlite::Result<()> {
    let text = "DELETE FROM run WHERE run_id = ?1 AND is_claimed = 0";
    match transaction.prepare_cached(text)?.execute([run_id])? {
        0 => Ok(()),
        _ => super::journal::forget(transaction, run_id),
    }
}

impl SqliteStore {
    pub(super) fn claim_texts(&self) -> Result<BTreeMap<String, String>, RegistryError> {
        let read = || {
            let mut statement =
                self.connection.prepare_cached("SELECT job, run, claim FROM run WHERE is_claimed = 1")?;
            let rows = statement.query_map([], |row| {
                let (job, run): (String, String) = (row.get(0)?, row.get(1)?);
                Ok((claim_path(job, run), row.get(2)?))
            })?;
            rows.collect::<rusqlite::Result<BTreeMap<String, String>>>()
        };
        read().map_err(|e| self.error("read claims", e))
    }
}
