//! How many devices of a run have an outcome, without a look at each of them.

use super::super::outcome_counts::{OutcomeCount, count_all, count_run};
use super::connection::Connection;
use super::fault::Fault;
use super::rows::{number_of, reason_of};
use crate::model::outcome::Counts;

/// Adds outcomes that are written: parameters are the number of the run, and the ordinals and reasons of its devices.
pub(super) const ADD: &str = "INSERT INTO outcome_count (run_id, batch, reason, devices)
    SELECT $1,
           CASE WHEN t.ordinal < coalesce(r.first_batch, r.batch_size) THEN 0
                ELSE 1 + (t.ordinal - coalesce(r.first_batch, r.batch_size)) / r.batch_size END,
           t.reason, count(*)
      FROM unnest($2::bigint[], $3::smallint[]) AS t (ordinal, reason)
      JOIN run AS r ON r.run_id = $1 AND r.batch_size > 0
     GROUP BY 2, 3
    ON CONFLICT (run_id, batch, reason) DO UPDATE SET devices = outcome_count.devices + excluded.devices";

/// Returns how many devices of a run have an outcome, by batch and reason.
pub(super) fn of_run(connection: &Connection, run_id: i64) -> Result<Vec<OutcomeCount>, Fault> {
    let text = "SELECT batch, reason, devices FROM outcome_count WHERE run_id = $1 ORDER BY batch, reason";
    let rows = connection.rows(text, &[&run_id])?;
    let count =
        |row| Ok(OutcomeCount { batch: number_of(row, 0)?, reason: reason_of(row, 1)?, devices: number_of(row, 2)? });
    rows.iter().map(count).collect()
}

/// Returns how many devices of a run have an outcome.
pub(super) fn progress(connection: &Connection, run_id: i64, total: u64) -> Result<Counts, Fault> {
    let text = "SELECT reason, sum(devices)::bigint FROM outcome_count WHERE run_id = $1 GROUP BY reason";
    let mut counts = Counts { total, ..Counts::default() };
    for row in &connection.rows(text, &[&run_id])? {
        counts.add_all(reason_of(row, 0)?, number_of(row, 1)?);
    }
    Ok(counts)
}

/// Counts the outcomes of all runs; none is counted yet.
pub(super) fn begin_all(connection: &Connection) -> Result<(), Fault> {
    connection.batch(&count_all())
}

/// Counts the outcomes of a run that goes on: an older fleetform may have written some since these are counted.
pub(super) fn count_anew(connection: &Connection, run_id: i64) -> Result<(), Fault> {
    connection.execute("DELETE FROM outcome_count WHERE run_id = $1", &[&run_id])?;
    connection.execute(&count_run("$1"), &[&run_id]).map(drop)
}
