//! What the registry remembers of the results branch: enough to publish it again when it is gone.
//!
//! Runs that were executed with this registry are made again from the journal. Other files of the branch (reports of imports, runs
//! of a registry that was lost) are kept byte for byte.

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::{Transaction, params};
use serde_json::Value;

use super::{PendingRows, Registry, RegistryError, ResultRow};
use crate::ledger::{RunRecord, claim_path, claim_path_of};
use crate::model::fleet::ResultDevices;
use crate::model::id::{Name, RunToken};

/// A run of the journal, open or closed, as the results branch had it.
#[derive(Debug, Clone, PartialEq)]
pub struct RememberedRun {
    pub run_id: i64,
    pub job: Name,
    pub run: RunToken,
    /// The claim document, byte for byte.
    pub claim: String,
    /// `run.json`; `None` when nothing but the claim was published.
    pub record: Option<RunRecord>,
    /// Which devices have rows.
    pub devices: ResultDevices,
}

impl RememberedRun {
    /// Returns the path of the claim on the results branch.
    pub fn claim_path(&self) -> String {
        claim_path(&self.job, &self.run)
    }

    /// Returns the folder of the results on the results branch, without a slash at its end.
    pub fn results_folder(&self) -> String {
        format!("runs/{}/{}", self.job, self.run)
    }
}

/// A file of the results branch that no other table can make again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFile {
    pub path: String,
    pub content: Vec<u8>,
    /// What git calls the content; `None` when the branch does not have it yet.
    pub blob_id: Option<String>,
}

impl Registry {
    /// Returns true when the registry has seen the results branch: then it knows everything that was claimed on it.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn remembers(&self) -> Result<bool, RegistryError> {
        let text = "SELECT EXISTS (SELECT 1 FROM run) OR EXISTS (SELECT 1 FROM kept_file)
                        OR EXISTS (SELECT 1 FROM meta WHERE key = 'results_tip')";
        let found = self.connection.query_row(text, [], |row| row.get(0));
        found.map_err(|e| self.error("look for runs", e))
    }

    /// Returns the runs of the journal in the order in which they were journaled. A claim that was not confirmed counts, for it may
    /// have reached the branch, unless somebody else is known to have claimed the run.
    ///
    /// # Errors
    /// The registry cannot be read, or a row holds what it should not.
    pub fn remembered_runs(&self) -> Result<Vec<RememberedRun>, RegistryError> {
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

    /// Calls `visit` for the rows of a run that its record says were published, with the number of the batch, from 1. A device has the
    /// name that it has now.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn each_published(
        &self,
        run: &RememberedRun,
        mut visit: impl FnMut(ResultRow, u32),
    ) -> Result<(), RegistryError> {
        let Some(record) = &run.record else { return Ok(()) };
        // All batches but the last have the size of the first.
        let Some(first) = record.per_batch.first() else { return Ok(()) };
        let size = u32::try_from(first.counts.total).unwrap_or(u32::MAX).max(1);
        let ids = self.targets(run.run_id)?;
        let end = record.published.devices.min(u32::try_from(ids.len()).unwrap_or(u32::MAX));
        let is_whole = record.status.is_final() && run.devices == ResultDevices::All;
        let pending = if is_whole { PendingRows::Ended } else { PendingRows::Omitted };
        self.each_result(run.run_id, &ids, 0..end, pending, |row| {
            if row.outcome.is_wanted(run.devices) {
                let batch = row.outcome.ordinal / size + 1;
                visit(row, batch);
            }
        })
    }

    /// Returns the kept files that `wanted` picks by their path, sorted by path. The journal knows better about its own runs: none
    /// of their files is among these.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn kept_files(&self, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Vec<u8>>, RegistryError> {
        let mut files = BTreeMap::new();
        self.each_kept_file::<RegistryError>(wanted, |path, content| {
            files.insert(path.to_string(), content.to_vec());
            Ok(())
        })?;
        Ok(files)
    }

    /// Calls `visit` for what [`Registry::kept_files`] returns, one at a time, until it fails.
    ///
    /// # Errors
    /// The registry cannot be read; or the error of `visit`.
    pub fn each_kept_file<E: From<RegistryError>>(
        &self,
        wanted: impl Fn(&str) -> bool,
        mut visit: impl FnMut(&str, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let fail = |e| E::from(self.error("read what was kept", e));
        let journaled: BTreeSet<String> = self.remembered_runs()?.iter().map(RememberedRun::claim_path).collect();
        let is_known = |path: &str| claim_path_of(path).is_some_and(|claim| journaled.contains(&claim));
        let mut look = self.connection.prepare_cached("SELECT content FROM kept_file WHERE path = ?1").map_err(fail)?;
        for path in self.kept_ids()?.into_keys().filter(|path| wanted(path) && !is_known(path)) {
            let content: Vec<u8> = look.query_row([&path], |row| row.get(0)).map_err(fail)?;
            visit(&path, &content)?;
        }
        Ok(())
    }

    /// Returns what git calls the content of each kept file, by its path; `None` for one that was not compared with the branch.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn kept_ids(&self) -> Result<BTreeMap<String, Option<String>>, RegistryError> {
        let read = || {
            let mut statement = self.connection.prepare_cached("SELECT path, blob_id FROM kept_file")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            rows.collect::<rusqlite::Result<BTreeMap<String, Option<String>>>>()
        };
        read().map_err(|e| self.error("read what was kept", e))
    }

    /// Keeps files in the place of older ones: all of them or, on an error, none.
    ///
    /// # Errors
    /// The registry cannot be written; or the first error among the files.
    pub fn keep_files<E: From<RegistryError>>(
        &mut self,
        files: impl Iterator<Item = Result<KeptFile, E>>,
    ) -> Result<(), E> {
        let path = self.path.clone();
        let fail = |e| E::from(RegistryError::from_sqlite(&path, "keep results", e));
        let transaction = super::fence::begin(&mut self.connection, self.epoch).map_err(fail)?;
        for file in files {
            let KeptFile { path, content, blob_id } = file?;
            keep(&transaction, &path, &content, blob_id.as_deref()).map_err(fail)?;
        }
        transaction.commit().map_err(fail)
    }

    /// Returns the tip of the results branch when files were last compared with it.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn kept_tip(&self) -> Result<Option<String>, RegistryError> {
        self.noted("kept_tip")
    }

    /// Notes the tip of the results branch that files were compared with.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn note_kept_tip(&mut self, tip: &str) -> Result<(), RegistryError> {
        self.note("kept_tip", tip)
    }
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
