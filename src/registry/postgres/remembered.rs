//! The copy of the results branch in the tables `run`, `kept_file` and `meta`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::Timestamp;
use serde_json::Value;
use tokio_postgres::Row;

use super::super::meta::{key_of, key_of_plan};
use super::super::{Noted, RememberedRun};
use super::connection::Connection;
use super::fault::Fault;
use super::rows::{first_column, malformed};
use crate::ledger::{RunRecord, claim_path_of};
use crate::model::fleet::ResultDevices;
use crate::model::id::{Name, RunToken};
use crate::model::limits;

/// Returns true when the registry has seen the results branch.
pub(super) fn exists(connection: &Connection) -> Result<bool, Fault> {
    let text = "SELECT EXISTS (SELECT 1 FROM run) OR EXISTS (SELECT 1 FROM kept_file)
                    OR EXISTS (SELECT 1 FROM meta WHERE key = 'results_tip')";
    Ok(connection.one(text, &[])?.try_get(0)?)
}

/// Returns the runs that may be on the branch.
pub(super) fn runs(connection: &Connection) -> Result<Vec<RememberedRun>, Fault> {
    let text = "SELECT run_id, job, run, claim, record, is_failures FROM run
        WHERE is_claimed OR NOT EXISTS (
            SELECT 1 FROM kept_file
            WHERE path = 'claims/' || job || '/' || run || '.json' AND content <> convert_to(claim, 'UTF8'))
        ORDER BY run_id";
    connection.rows(text, &[])?.iter().map(remembered_run).collect()
}

/// Calls `visit` for the kept files that `wanted` picks, sorted by path, until it breaks.
pub(super) fn visit_files(
    connection: &Connection,
    wanted: &dyn Fn(&str) -> bool,
    visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
) -> Result<(), Fault> {
    let journaled: BTreeSet<String> = runs(connection)?.iter().map(RememberedRun::claim_path).collect();
    let is_known = |path: &str| claim_path_of(path).is_some_and(|claim| journaled.contains(&claim));
    let paths = file_ids(connection)?.into_keys().filter(|path| wanted(path) && !is_known(path));
    for path in paths {
        let row = connection.one("SELECT content FROM kept_file WHERE path = $1", &[&path])?;
        if visit(&path, row.try_get(0)?).is_break() {
            break;
        }
    }
    Ok(())
}

/// Returns the paths of the kept files that were not compared with the branch.
pub(super) fn uncompared(connection: &Connection) -> Result<BTreeSet<String>, Fault> {
    let rows = connection.rows("SELECT path FROM kept_file WHERE blob_id IS NULL", &[])?;
    Ok(first_column(&rows)?.into_iter().collect())
}

/// Returns the git ids of the kept files, by path.
pub(super) fn file_ids(connection: &Connection) -> Result<BTreeMap<String, Option<String>>, Fault> {
    let rows = connection.rows("SELECT path, blob_id FROM kept_file", &[])?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Returns what was noted last.
pub(super) fn noted(connection: &Connection, what: Noted) -> Result<Option<String>, Fault> {
    value_of(connection, key_of(what))
}

/// Returns a value of `meta`.
pub(super) fn value_of(connection: &Connection, key: &str) -> Result<Option<String>, Fault> {
    let row = connection.row("SELECT value FROM meta WHERE key = $1", &[&key])?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Sets a value of `meta`.
pub(super) fn set_value(connection: &Connection, key: &str, value: &str) -> Result<(), Fault> {
    let text = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    connection.execute(text, &[&key, &value]).map(drop)
}

/// Notes a commit.
pub(super) fn note(connection: &Connection, what: Noted, commit: &str) -> Result<(), Fault> {
    set_value(connection, key_of(what), commit)
}

/// Returns when a saved plan was used.
pub(super) fn plan_used_at(connection: &Connection, plan_id: &str) -> Result<Option<Timestamp>, Fault> {
    // It was written here, so it is a time.
    Ok(value_of(connection, &key_of_plan(plan_id))?.and_then(|text| text.parse().ok()))
}

/// Notes that a saved plan was used, and forgets the oldest of too many.
pub(super) fn use_plan(connection: &Connection, plan_id: &str, at: Timestamp) -> Result<(), Fault> {
    let text = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
    // All of the same length, so that they sort as times do.
    connection.execute(text, &[&key_of_plan(plan_id), &format!("{at:.9}")])?;
    let text = "DELETE FROM meta WHERE key LIKE 'used\\_plan/%' AND key NOT IN
        (SELECT key FROM meta WHERE key LIKE 'used\\_plan/%' ORDER BY value DESC, key LIMIT $1)";
    connection.execute(text, &[&i64::from(limits::USED_PLANS_MAX)]).map(drop)
}

/// Keeps a file in the place of an older one.
pub(super) fn keep(connection: &Connection, path: &str, content: &[u8], blob_id: Option<&str>) -> Result<(), Fault> {
    let text = "INSERT INTO kept_file (path, content, blob_id) VALUES ($1, $2, $3)
                ON CONFLICT (path) DO UPDATE SET content = excluded.content, blob_id = excluded.blob_id";
    connection.execute(text, &[&path, &content, &blob_id]).map(drop)
}

fn remembered_run(row: &Row) -> Result<RememberedRun, Fault> {
    let (job, run): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    let record: Option<String> = row.try_get(4)?;
    let parse = |text: String| {
        let document: Option<Value> = serde_json::from_str(&text).ok();
        let record = document.and_then(|document| RunRecord::from_json(&document).ok());
        record.ok_or_else(|| malformed(&text))
    };
    Ok(RememberedRun {
        run_id: row.try_get(0)?,
        job: Name::parse(&job).map_err(|_| malformed(&job))?,
        run: RunToken::parse(&run).map_err(|_| malformed(&run))?,
        claim: row.try_get(3)?,
        record: record.map(parse).transpose()?,
        devices: if row.try_get(5)? { ResultDevices::Failures } else { ResultDevices::All },
    })
}
