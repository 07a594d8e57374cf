//! The copy of the results branch in the tables `run`, `kept_file` and `meta`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use serde_json::Value;

use super::super::meta::{key_of, key_of_plan};
use super::super::{Noted, RegistryError, RememberedRun};
use super::SqliteStore;
use crate::ledger::{RunRecord, claim_path_of};
use crate::model::fleet::ResultDevices;
use crate::model::id::{Name, RunToken};
use crate::model::limits;

impl SqliteStore {
    pub(super) fn has_branch_copy(&self) -> Result<bool, RegistryError> {
        let text = "SELECT EXISTS (SELECT 1 FROM run) OR EXISTS (SELECT 1 FROM kept_file)
                        OR EXISTS (SELECT 1 FROM meta WHERE key = 'results_tip')";
        let found = self.connection.query_row(text, [], |row| row.get(0));
        found.map_err(|e| self.error("look for runs", e))
    }

    pub(super) fn remembered(&self) -> Result<Vec<RememberedRun>, RegistryError> {
        let read = || {
            let mut statement = self.connection.prepare_cached(
                "SELECT run_id, job, run, claim, record, is_failures FROM run
                 WHERE is_claimed = 1 OR NOT EXISTS (
                     SELECT 1 FROM kept_file
                     WHERE path = 'claims/' || job || '/' || run || '.json' AND content <> CAST(claim AS BLOB))
                 ORDER BY run_id",
            )?;
            let rows = statement.query_map([], remembered_run)?;
            rows.collect::<rusqlite::Result<Vec<RememberedRun>>>()
        };
        read().map_err(|e| self.error("read past runs", e))
    }

    pub(super) fn visit_kept_files(
        &self,
        wanted: &dyn Fn(&str) -> bool,
        visit: &mut dyn FnMut(&str, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), RegistryError> {
        let journaled: BTreeSet<String> = self.remembered()?.iter().map(RememberedRun::claim_path).collect();
        let is_known = |path: &str| claim_path_of(path).is_some_and(|claim| journaled.contains(&claim));
        let paths = self.kept_file_ids()?.into_keys().filter(|path| wanted(path) && !is_known(path));
        let read = || {
            let mut look = self.connection.prepare_cached("SELECT content FROM kept_file WHERE path = ?1")?;
            for path in paths {
                let content: Vec<u8> = look.query_row([&path], |row| row.get(0))?;
                if visit(&path, &content).is_break() {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|e| self.error("read what was kept", e))
    }

    pub(super) fn uncompared_kept_files(&self) -> Result<BTreeSet<String>, RegistryError> {
        let read = || {
            let text = "SELECT path FROM kept_file WHERE blob_id IS NULL";
            let mut statement = self.connection.prepare_cached(text)?;
            let rows = statement.query_map([], |row| row.get(0))?;
            rows.collect::<rusqlite::Result<BTreeSet<String>>>()
        };
        read().map_err(|e| self.error("read what was kept", e))
    }

    pub(super) fn kept_file_ids(&self) -> Result<BTreeMap<String, Option<String>>, RegistryError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT path, blob_id FROM kept_file")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<BTreeMap<String, Option<String>>>>()
        };
        read().map_err(|e| self.error("read what was kept", e))
    }
}

/// Returns what was noted last.
pub(super) fn noted(connection: &Connection, what: Noted) -> rusqlite::Result<Option<String>> {
    value_of(connection, key_of(what))
}

/// Returns a value of `meta`.
pub(super) fn value_of(connection: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    let text = "SELECT value FROM meta WHERE key = ?1";
    connection.prepare_cached(text)?.query_row([key], |row| row.get(0)).optional()
}

/// Notes a commit.
pub(super) fn note(transaction: &Transaction<'_>, what: Noted, commit: &str) -> rusqlite::Result<()> {
    let text = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    transaction.prepare_cached(text)?.execute(params![key_of(what), commit]).map(drop)
}

/// Returns when a saved plan was used.
pub(super) fn plan_used_at(connection: &Connection, plan_id: &str) -> rusqlite::Result<Option<Timestamp>> {
    // It was written here, so it is a time.
    Ok(value_of(connection, &key_of_plan(plan_id))?.and_then(|text| text.parse().ok()))
}

/// Notes that a saved plan was used, and forgets the oldest of too many.
pub(super) fn use_plan(transaction: &Transaction<'_>, plan_id: &str, at: Timestamp) -> rusqlite::Result<()> {
    let text = "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO NOTHING";
    // All of the same length, so that they sort as times do.
    transaction.execute(text, params![key_of_plan(plan_id), format!("{at:.9}")])?;
    let text = "DELETE FROM meta WHERE key LIKE 'used_plan/%' AND key NOT IN
        (SELECT key FROM meta WHERE key LIKE 'used_plan/%' ORDER BY value DESC, key LIMIT ?1)";
    transaction.execute(text, [limits::USED_PLANS_MAX]).map(drop)
}

/// Keeps a file in the place of an older one.
pub(super) fn keep(
    transaction: &Transaction<'_>,
    path: &str,
    content: &[u8],
    blob_id: Option<&str>,
) -> rusqlite::Result<()> {
    let text = "INSERT INTO kept_file (path, content, blob_id) VALUES (?1, ?2, ?3)
                ON CONFLICT (path) DO UPDATE SET content = excluded.content, blob_id = excluded.blob_id";
    transaction.prepare_cached(text)?.execute(params![path, content, blob_id]).map(drop)
}

fn remembered_run(row: &rusqlite::Row<'_>) -> rusqlite::Result<RememberedRun> {
    let (job, run): (String, String) = (row.get(1)?, row.get(2)?);
    let record: Option<String> = row.get(4)?;
    let parse = |text: String| {
        let document: Option<Value> = serde_json::from_str(&text).ok();
        let record = document.and_then(|document| RunRecord::from_json(&document).ok());
        record.ok_or_else(|| super::rows::malformed(4, &text))
    };
    Ok(RememberedRun {
        run_id: row.get(0)?,
        job: Name::parse(&job).map_err(|_| super::rows::malformed(1, &job))?,
        run: RunToken::parse(&run).map_err(|_| super::rows::malformed(2, &run))?,
        claim: row.get(3)?,
        record: record.map(parse).transpose()?,
        devices: if row.get(5)? { ResultDevices::Failures } else { ResultDevices::All },
    })
}
