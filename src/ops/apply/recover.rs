//! Nothing that is known of runs is in one place only: a results branch that is gone is published again from the registry, and a registry
//! that was lost learns from the branch what it cannot know.

use std::collections::{BTreeMap, BTreeSet};

use super::Apply;
use crate::execute::{Progress, publish_ended, publish_letter, republish, writer};
use crate::ledger::{LEASE_PATH, Ledger, Standing, claim_path_of};
use crate::model::id::{Name, RunToken};
use crate::ops::OpsError;
use crate::prepare::read_ledger_again;
use crate::registry::{Change, KeptFile, Noted, OutboxEntry};
use crate::repo::{BlobId, FileChange};
use crate::results::{Trailers, document, with_trailers};

impl Apply<'_> {
    /// Publishes a branch that is gone again, when the registry remembers it.
    pub(super) fn republish(&mut self, observer: &mut dyn FnMut(&Progress)) -> Result<(), OpsError> {
        if self.branch.tip()?.is_some() || !self.registry.branch_copy().exists()? {
            return Ok(());
        }
        let fleet = &self.declared.fleet.name;
        let runs = republish(&self.branch, self.registry, fleet, &self.options.ports.crash)?;
        observer(&Progress::BranchRepublished { branch: self.branch.name().to_string(), runs });
        Ok(())
    }

    /// Publishes the ends of runs that were committed by a daemon that never got to push them, and returns whether there were any.
    fn publish_ends(&mut self, ledger: &Ledger) -> Result<bool, OpsError> {
        let is_lost = |(job, run): &&(Name, RunToken)| matches!(ledger.standing(job, run), Standing::JournalLost(_));
        let lost: BTreeSet<&(Name, RunToken)> = ledger.claims.keys().filter(is_lost).collect();
        if lost.is_empty() {
            return Ok(false);
        }
        let mut has_moved = false;
        for run in self.registry.branch_copy().runs()? {
            let known = (run.job.clone(), run.run.clone());
            let has_ended = run.record.as_ref().is_some_and(|record| record.status.is_final());
            if !has_ended || !lost.contains(&known) {
                continue;
            }
            let key = ledger.claims[&known].key(&self.declared.fleet.name);
            let published = ledger.records.get(&known).map_or_else(Default::default, |record| record.published);
            let crash = &self.options.ports.crash;
            crash.around("publish end", || publish_ended(&self.branch, self.registry, &run, (&key, published)))?;
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Publishes kept files that are not on the branch: they were committed by a daemon that never got to push them.
    fn publish_kept(&self, missing: &BTreeSet<&String>) -> Result<(), OpsError> {
        if missing.is_empty() {
            return Ok(());
        }
        let mut changes = Vec::new();
        self.registry.each_kept_file::<OpsError>(
            |path| missing.iter().any(|missing| *missing == path),
            |path, content| {
                changes.push(FileChange::blob(path, self.branch.write_blob(content)?));
                Ok(())
            },
        )?;
        let writer = writer();
        let subject = format!("results that were not pushed, {} of them, published again", changes.len());
        let message = with_trailers(&subject, &Trailers { writer: &writer, ..Trailers::default() });
        self.options.ports.crash.around("publish kept", || self.branch.commit(&changes, &message))?;
        Ok(())
    }

    /// Keeps what is on the branch and not in the journal: runs of a registry that was lost, of another clone, or adopted ones. All of it is kept or
    /// nothing, for a registry that remembers half of what was claimed would let the rest run again.
    pub(super) fn keep_results(&mut self) -> Result<(), OpsError> {
        let Some(tip) = self.branch.tip()? else { return Ok(()) };
        let before = self.registry.branch_copy().noted(Noted::KeptTip)?;
        if before.as_ref() == Some(&tip) {
            return Ok(());
        }
        let journaled: BTreeSet<String> = self.registry.journal().claim_documents()?.into_keys().collect();
        let is_journaled = |path: &str| claim_path_of(path).is_some_and(|claim| journaled.contains(&claim));
        let known = self.registry.branch_copy().file_ids()?;
        let is_kept = |path: &str| path != "fleet.json" && path != LEASE_PATH && !is_journaled(path);
        // Without a remote nothing goes from the branch: what was there before has been kept, or was in the journal.
        let since = before.filter(|_| self.upstream.is_none());
        let since = since.map(|before| self.branch.changes(&before, &tip)).transpose()?.flatten();
        let present: BTreeMap<String, BlobId> = match since {
            Some(changes) => {
                let there = changes.into_iter().filter_map(|(path, blob)| Some((path, blob?)));
                there.filter(|(path, _)| is_kept(path)).collect()
            }
            None => self.branch.entries_at(&tip, is_kept)?,
        };
        if self.upstream.as_ref().is_some_and(|upstream| upstream.lease().is_some()) {
            self.publish_kept(
                &known.keys().filter(|path| !present.contains_key(*path) && !is_journaled(path)).collect(),
            )?;
        }
        let mut fresh = Vec::new();
        for (path, blob) in present {
            if known.get(&path).and_then(Option::as_ref) != Some(&blob.to_string()) {
                fresh.push((path, blob));
            }
        }
        let branch = &self.branch;
        if !fresh.is_empty() {
            let files = fresh.into_iter().map(|(path, blob)| {
                Ok(KeptFile { path, content: branch.read_blob(blob)?, blob_id: Some(blob.to_string()) })
            });
            self.registry.keep_files::<OpsError>(files)?;
        }
        self.registry.write(Change::Note { what: Noted::KeptTip, commit: &tip })?;
        Ok(())
    }

    /// Brings the journal in line with the results branch and returns the ledger.
    ///
    /// A process that died leaves one of these behind: a run that was journaled and not claimed (its claim is on the branch or it never
    /// was), or a run whose end is on the branch and not in the journal.
    pub(super) fn settle_journal(&mut self) -> Result<Ledger, OpsError> {
        let fleet = &self.declared.fleet.name;
        let mut ledger = read_ledger_again(&self.branch, self.registry, self.declared, &mut self.known.recorded)?;
        self.keep_results()?;
        if !self.registry.branch_copy().outbox()?.is_empty() {
            self.empty_outbox()?;
            ledger = read_ledger_again(&self.branch, self.registry, self.declared, &mut self.known.recorded)?;
        }
        let mut has_moved = false;
        for run in self.registry.journal().unclosed()? {
            let key = (run.job.clone(), run.run.clone());
            let claim = ledger.claims.get(&key);
            if !run.is_claimed {
                has_moved = true;
                match claim {
                    Some(claim) if document(&claim.to_json(fleet)) == run.claim.as_bytes() => {
                        self.registry.write(Change::Confirm { run_id: run.run_id })?;
                    }
                    Some(_) | None => drop(self.registry.write(Change::Drop { run_id: run.run_id })?),
                }
            } else if ledger.records.get(&key).is_some_and(|record| record.status.is_final()) {
                has_moved = true;
                self.registry.write(Change::Close { run_id: run.run_id })?;
            }
        }
        if self.upstream.as_ref().is_some_and(|upstream| upstream.lease().is_some()) {
            has_moved |= self.publish_ends(&ledger)?;
        }
        if has_moved {
            Ok(read_ledger_again(&self.branch, self.registry, self.declared, &mut self.known.recorded)?)
        } else {
            Ok(ledger)
        }
    }

    /// Publishes what the registry has done and the branch has not heard of.
    pub(super) fn empty_outbox(&mut self) -> Result<(), OpsError> {
        let crash = &self.options.ports.crash;
        for OutboxEntry { about, text } in self.registry.branch_copy().outbox()? {
            let files = crash.around("publish import", || publish_letter(&self.branch, &text))?;
            self.registry.write(Change::Delivered { about: &about, files: &files })?;
        }
        Ok(())
    }
}
