//! Claims as the journal keeps them, and the tip of the results branch that they were last seen on.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, params};

use super::{Registry, RegistryError};
use crate::ledger::{Claim, claim_path};
use crate::model::digest::Digest;
use crate::model::limits;
use crate::model::observation::DeviceIds;

/// A run about to be claimed.
#[derive(Debug)]
pub struct NewRun<'a> {
    pub claim: &'a Claim,
    /// The claim document, as it goes to the results branch.
    pub document: String,
    /// Of a schedule's occurrence: [`crate::model::schedule::ScheduledJob::spec`].
    pub spec: Option<&'a str>,
    /// Of the edge manifest that it assigns.
    pub manifest: Option<Digest>,
    pub ids: &'a DeviceIds,
    /// Devices of each batch but perhaps the last, at least 1.
    pub batch_size: u64,
}

impl Registry {
    /// Writes a run with its target, not yet claimed, and returns its number.
    ///
    /// # Errors
    /// The registry cannot be written, or it has the run already.
    pub fn journal_claim(&mut self, new: &NewRun<'_>) -> Result<i64, RegistryError> {
        let path = self.path.clone();
        let fail = |e| RegistryError::from_sqlite(&path, "journal a claim", e);
        let transaction = super::fence::begin(&mut self.connection, self.epoch).map_err(fail)?;
        let write = || {
            transaction.execute(
                "INSERT INTO run (job, run, is_claimed, status, total, claim, batch_size, spec, edge_manifest_digest)
                 VALUES (?1, ?2, 0, 'pending', ?3, ?4, ?5, ?6, ?7)",
                params![
                    new.claim.job.as_str(),
                    new.claim.run.as_str(),
                    new.claim.total,
                    new.document,
                    new.batch_size,
                    new.spec,
                    new.manifest.map(|digest| digest.to_string())
                ],
            )?;
            let run_id = transaction.last_insert_rowid();
            let mut insert =
                transaction.prepare_cached("INSERT INTO run_target (run_id, first, ids) VALUES (?1, ?2, ?3)")?;
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
        };
        let run_id = write().map_err(fail)?;
        transaction.commit().map_err(fail)?;
        Ok(run_id)
    }

    /// Notes that the claim of a run is on the results branch.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn confirm_claim(&mut self, run_id: i64) -> Result<(), RegistryError> {
        self.execute("confirm a claim", "UPDATE run SET is_claimed = 1 WHERE run_id = ?1", params![run_id])
    }

    /// Forgets a run whose claim did not reach the results branch: nothing of it was started.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn drop_claim(&mut self, run_id: i64) -> Result<(), RegistryError> {
        self.execute("drop a claim", "DELETE FROM run WHERE run_id = ?1 AND is_claimed = 0", params![run_id])
    }

    /// Returns the claim documents of all claimed runs, by their path on the results branch.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn claim_documents(&self) -> Result<BTreeMap<String, String>, RegistryError> {
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

    /// Returns a text that is another one whenever the claims of the registry have changed, by whomever; `None` in a registry that does not
    /// keep one.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn claims_version(&self) -> Result<Option<String>, RegistryError> {
        self.noted("claims_version")
    }

    /// Returns the tip of the results branch when it was last used with this registry.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn results_tip(&self) -> Result<Option<String>, RegistryError> {
        self.noted("results_tip")
    }

    /// Returns the commit that was last applied to this registry.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn applied_head(&self) -> Result<Option<String>, RegistryError> {
        self.noted("applied_head")
    }

    pub(super) fn noted(&self, key: &str) -> Result<Option<String>, RegistryError> {
        let text = "SELECT value FROM meta WHERE key = ?1";
        let found = self.connection.query_row(text, [key], |row| row.get(0)).optional();
        found.map_err(|e| self.error("read what was seen", e))
    }

    /// Notes the tip of the results branch and the commit that was applied; writes nothing when they are the ones that are noted. Durable when
    /// the registry is closed.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn note_seen(&mut self, results_tip: &str, applied_head: &str) -> Result<(), RegistryError> {
        // When the power fails right then, they may be lost: older ones are as true, and closing the registry makes them durable. To wait for
        // the disk would be most of what a reconcile with nothing to do takes.
        self.pragma("synchronous = NORMAL")?;
        let noted = self.note("results_tip", results_tip).and_then(|()| self.note("applied_head", applied_head));
        self.pragma("synchronous = FULL")?;
        noted
    }

    fn pragma(&self, text: &str) -> Result<(), RegistryError> {
        self.connection.execute_batch(&format!("PRAGMA {text}")).map_err(|e| self.error("note what was seen", e))
    }

    /// Notes the tip that the results branch is about to have.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn note_results_tip(&mut self, tip: &str) -> Result<(), RegistryError> {
        self.note("results_tip", tip)
    }

    pub(super) fn note(&mut self, key: &str, value: &str) -> Result<(), RegistryError> {
        if self.noted(key)?.as_deref() == Some(value) {
            return Ok(());
        }
        let text = "INSERT INTO meta (key, value) VALUES (?1, ?2)
                    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.execute("note what was seen", text, params![key, value])
    }
}
