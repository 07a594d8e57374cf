//! Claims as the journal keeps them.

use std::collections::BTreeMap;

use super::super::NewRun;
use super::connection::Connection;
use super::fault::Fault;
use crate::ledger::claim_path;
use crate::model::limits;

/// Writes a run with its target, not yet claimed, and returns its number.
pub(super) fn journal(connection: &Connection, new: &NewRun<'_>) -> Result<i64, Fault> {
    let text = "INSERT INTO run (job, run, is_claimed, status, total, claim, batch_size, spec, edge_manifest_digest,
                                 first_batch, keeps_answers)
                VALUES ($1, $2, false, 'pending', $3, $4, $5, $6, $7, $8, $9) RETURNING run_id";
    let (total, size) = (number(new.claim.total), number(new.sizes.size));
    let (manifest, first) = (new.manifest.map(|digest| digest.to_string()), number(new.sizes.first));
    let (job, run) = (new.claim.job.as_str(), new.claim.run.as_str());
    let row = connection
        .one(text, &[&job, &run, &total, &new.document, &size, &new.spec, &manifest, &first, &new.keeps_answers])?;
    let run_id: i64 = row.try_get(0)?;
    let text = "INSERT INTO run_target (run_id, first, ids) VALUES ($1, $2, $3)";
    let (mut first, mut ids) = (0_i64, String::new());
    for (at, id) in new.ids.iter().enumerate() {
        ids.push_str(id);
        ids.push('\n');
        if (at + 1) % limits::WRITE_CHUNK == 0 || at + 1 == new.ids.len() {
            connection.execute(text, &[&run_id, &first, &ids])?;
            first = i64::try_from(at + 1).expect("a target is bounded");
            ids.clear();
        }
    }
    Ok(run_id)
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Notes that the claim of a run is on the results branch.
pub(super) fn confirm(connection: &Connection, run_id: i64) -> Result<(), Fault> {
    connection.execute("UPDATE run SET is_claimed = true WHERE run_id = $1", &[&run_id]).map(drop)
}

/// Forgets a run whose claim did not reach the results branch, with the marks that a backup which was put back got of
/// it.
pub(super) fn drop_unclaimed(connection: &Connection, run_id: i64) -> Result<(), Fault> {
    match connection.execute("DELETE FROM run WHERE run_id = $1 AND NOT is_claimed", &[&run_id])? {
        0 => Ok(()),
        _ => super::journal::forget(connection, run_id),
    }
}

/// Returns the documents of claimed runs, by their path on the results branch.
pub(super) fn documents(connection: &Connection) -> Result<BTreeMap<String, String>, Fault> {
    let rows = connection.rows("SELECT job, run, claim FROM run WHERE is_claimed", &[])?;
    let document = |row: &tokio_postgres::Row| {
        let (job, run): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        Ok((claim_path(job, run), row.try_get(2)?))
    };
    rows.iter().map(document).collect()
}
