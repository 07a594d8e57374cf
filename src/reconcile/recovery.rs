//! What a process that died left behind, and a results branch or a registry that is gone. Nothing that is known of runs
//! is in one place only: a branch that is gone is published again from the registry, and a registry that was lost
//! learns from the branch.

use std::collections::{BTreeMap, BTreeSet};

use super::{ReconcileError, Upstream};
use crate::execute::{CrashPoints, Progress, empty_outbox, publish_ended, republish, writer};
use crate::ledger::{Claim, LEASE_PATH, Renamed, Standing, claim_path_of};
use crate::model::id::{Name, RunToken};
use crate::prepare::{Recorded, View, host};
use crate::registry::{Change, JournaledRun, KeptFile, Noted};
use crate::repo::{Audit, BlobId, FileChange};
use crate::results::{Trailers, document, with_trailers};

/// Brings the registry and the results branch in line with each other.
pub(super) struct Recovery<'a, 'w> {
    pub view: &'a mut View<'w>,
    pub recorded: &'a mut Recorded,
    /// There is a remote.
    pub has_remote: bool,
    /// This process may write to a branch with a remote.
    pub has_lease: bool,
    pub crash: &'a CrashPoints,
}

impl<'a, 'w> Recovery<'a, 'w> {
    pub fn new(
        view: &'a mut View<'w>,
        recorded: &'a mut Recorded,
        upstream: Option<&Upstream>,
        crash: &'a CrashPoints,
    ) -> Recovery<'a, 'w> {
        let has_lease = upstream.is_some_and(|upstream| upstream.lease().is_some());
        Recovery { view, recorded, has_remote: upstream.is_some(), has_lease, crash }
    }

    /// Publishes a branch that is gone again, when the registry remembers it, and moves one forward that was put back.
    /// Returns whether it published.
    pub fn republish(&mut self, observer: &mut dyn FnMut(&Progress)) -> Result<bool, ReconcileError> {
        if !self.has_remote
            && let Some(seen) = self.view.registry.branch_copy().noted(Noted::ResultsTip)?
            && self.view.branch.audit(Some(&seen))? == Audit::PutBack
        {
            self.crash.around("move forward", || self.view.branch.move_forward(&seen))?;
        }
        if self.view.branch.tip()?.is_some() || !self.view.registry.branch_copy().exists()? {
            return Ok(false);
        }
        let fleet = &self.view.declared.fleet.name;
        let runs = republish(&self.view.branch, &mut self.view.registry, (fleet, &host()), self.crash)?;
        observer(&Progress::BranchRepublished { branch: self.view.branch.name().to_string(), runs });
        Ok(true)
    }

    /// Forgets runs that have ended on the branch and not in the journal, which is that of a registry that was put
    /// back: the record of an end is journaled before it is published. What the branch has of them is kept like the
    /// results of another registry.
    fn forget_superseded(&mut self) -> Result<(), ReconcileError> {
        let ledger = &self.view.ledger;
        let has_ended = |run: &JournaledRun| {
            let record = ledger.records.get(&(run.job.clone(), run.run.clone()));
            record.is_some_and(|record| record.status.is_final()) && !run.status.is_final()
        };
        let runs = self.view.registry.journal().unclosed()?;
        let forgotten: Vec<i64> = runs.iter().filter(|run| has_ended(run)).map(|run| run.run_id).collect();
        if forgotten.is_empty() {
            return Ok(());
        }
        let mut changes: Vec<Change<'_>> = forgotten.iter().map(|run_id| Change::Forget { run_id: *run_id }).collect();
        // All files are compared again.
        changes.push(Change::Note { what: Noted::KeptTip, commit: "" });
        self.view.registry.commit(&changes)?;
        Ok(self.view.read_ledger(self.recorded)?)
    }

    /// Writes down the former names of what is declared, where runs of these are known, and returns whether there were
    /// any: when the document is renamed again, it names only its last one.
    fn note_renames(&mut self) -> Result<bool, ReconcileError> {
        let unnoted = unnoted_renames(self.view);
        if unnoted.is_empty() {
            return Ok(false);
        }
        let file = |one: &Renamed| FileChange::bytes(one.path(), document(&one.to_json()));
        let changes: Vec<FileChange> = unnoted.iter().map(file).collect();
        let kept = unnoted
            .iter()
            .map(|one| Ok(KeptFile { path: one.path(), content: document(&one.to_json()), blob_id: None }));
        self.view.registry.keep_files::<ReconcileError>(kept)?;
        let names: Vec<&str> = unnoted.iter().map(|one| one.name.as_str()).collect();
        let subject = format!("renamed: {}", names.join(", "));
        let message = with_trailers(&subject, &Trailers { writer: &writer(), ..Trailers::default() });
        self.crash.around("publish renames", || self.view.branch.commit(&changes, &message))?;
        Ok(true)
    }

    /// Publishes the ends of runs that the branch lacks, and returns whether there were any: a daemon committed them and
    /// never got to push them, or the branch was put back.
    fn publish_ends(&mut self) -> Result<bool, ReconcileError> {
        let ledger = &self.view.ledger;
        let is_lost = |claim: &&Claim| matches!(ledger.standing(&claim.job, &claim.run), Standing::JournalLost(_));
        let lost = ledger.unended().filter(is_lost).map(|claim| (claim.job.clone(), claim.run.clone()));
        let lost: BTreeSet<(Name, RunToken)> = lost.collect();
        if lost.is_empty() {
            return Ok(false);
        }
        let mut has_moved = false;
        for run in self.view.registry.branch_copy().runs()? {
            let known = (run.job.clone(), run.run.clone());
            let has_ended = run.record.as_ref().is_some_and(|record| record.status.is_final());
            if !has_ended || !lost.contains(&known) {
                continue;
            }
            let key = ledger.claims[&known].key(&self.view.declared.fleet.name);
            let published = ledger.records.get(&known).map_or_else(Default::default, |record| record.published);
            let crash = self.crash;
            crash.around("publish end", || {
                publish_ended(&self.view.branch, &self.view.registry, &run, (&key, published))
            })?;
            has_moved = true;
        }
        Ok(has_moved)
    }

    /// Publishes kept files that are not on the branch: a daemon committed them and never got to push them, or the
    /// branch was put back.
    fn publish_kept(&self, missing: &BTreeSet<&String>) -> Result<bool, ReconcileError> {
        if missing.is_empty() {
            return Ok(false);
        }
        let mut changes = Vec::new();
        self.view.registry.each_kept_file::<ReconcileError>(
            |path| missing.iter().any(|missing| *missing == path),
            |path, content| {
                changes.push(FileChange::blob(path, self.view.branch.write_blob(content)?));
                Ok(())
            },
        )?;
        let writer = writer();
        let subject = format!("results that were not pushed, {} of them, published again", changes.len());
        let message = with_trailers(&subject, &Trailers { writer: &writer, ..Trailers::default() });
        self.crash.around("publish kept", || self.view.branch.commit(&changes, &message))?;
        Ok(true)
    }

    /// Keeps what is on the branch and not in the journal: runs of a registry that was lost, of another clone, or
    /// adopted ones. All of it is kept or nothing, for a registry that remembers half of what was claimed would let the
    /// rest run again.
    fn keep_results(&mut self) -> Result<bool, ReconcileError> {
        let Some(tip) = self.view.branch.tip()? else { return Ok(false) };
        let before = self.view.registry.branch_copy().noted(Noted::KeptTip)?;
        // These are about to be published, or were published on a branch that was put back since.
        let uncompared = self.view.registry.branch_copy().uncompared_files()?;
        if before.as_ref() == Some(&tip) && uncompared.is_empty() {
            return Ok(false);
        }
        let journaled: BTreeSet<String> = self.view.registry.journal().claim_documents()?.into_keys().collect();
        let is_journaled = |path: &str| claim_path_of(path).is_some_and(|claim| journaled.contains(&claim));
        let known = self.view.registry.branch_copy().file_ids()?;
        let is_kept = |path: &str| path != "fleet.json" && path != LEASE_PATH && !is_journaled(path);
        // Without a remote nothing goes from the branch unless somebody puts it back: what was there before has been
        // kept, or was in the journal.
        let has_grown = |before: &String| self.view.workspace.repo.descends(&tip, before) == Some(true);
        let since = before.filter(|before| !self.has_remote && has_grown(before));
        let since = since.map(|before| self.view.branch.changes(&before, &tip)).transpose()?.flatten();
        let is_whole = since.is_none();
        let mut present: BTreeMap<String, BlobId> = match since {
            Some(changes) => {
                let there = changes.into_iter().filter_map(|(path, blob)| Some((path, blob?)));
                there.filter(|(path, _)| is_kept(path)).collect()
            }
            None => self.view.branch.entries_at(&tip, is_kept)?,
        };
        let is_uncompared = |path: &str| uncompared.contains(path) && !is_journaled(path);
        if uncompared.iter().any(|path| is_uncompared(path) && !present.contains_key(path)) {
            present.extend(self.view.branch.entries_at(&tip, is_uncompared)?);
        }
        let mut has_published = false;
        if self.has_lease || !self.has_remote {
            let is_missing = |path: &&String| {
                !present.contains_key(*path) && !is_journaled(path) && (is_whole || is_uncompared(path))
            };
            has_published = self.publish_kept(&known.keys().filter(is_missing).collect())?;
        }
        let mut fresh = Vec::new();
        for (path, blob) in present {
            if known.get(&path).and_then(Option::as_ref) != Some(&blob.to_string()) {
                fresh.push((path, blob));
            }
        }
        if !fresh.is_empty() {
            let View { branch, registry, .. } = &mut *self.view;
            let files = fresh.into_iter().map(|(path, blob)| {
                Ok(KeptFile { path, content: branch.read_blob(blob)?, blob_id: Some(blob.to_string()) })
            });
            registry.keep_files::<ReconcileError>(files)?;
        }
        self.view.registry.write(Change::Note { what: Noted::KeptTip, commit: &tip })?;
        Ok(has_published)
    }

    /// Reads what was done before, for a registry that only looks.
    pub fn look(&mut self) -> Result<(), ReconcileError> {
        Ok(self.view.read_ledger(self.recorded)?)
    }

    /// Brings the journal in line with the results branch and reads the ledger.
    ///
    /// A process that died leaves one of these behind: a run that was journaled and not claimed (its claim is on the
    /// branch or it never was), or a run whose end is on the branch and not in the journal.
    ///
    /// # Errors
    /// The history cannot be trusted, or something cannot be read or written.
    pub fn settle(&mut self) -> Result<(), ReconcileError> {
        self.view.read_ledger(self.recorded)?;
        self.forget_superseded()?;
        let mut has_moved = self.keep_results()?;
        if !self.view.registry.branch_copy().outbox()?.is_empty() {
            empty_outbox(&self.view.branch, &mut self.view.registry, self.crash)?;
            has_moved = true;
        }
        if has_moved {
            self.view.read_ledger(self.recorded)?;
        }
        let fleet = self.view.declared.fleet.name.clone();
        has_moved = false;
        for run in self.view.registry.journal().unclosed()? {
            let key = (run.job.clone(), run.run.clone());
            let claim = self.view.ledger.claims.get(&key);
            if !run.is_claimed {
                has_moved = true;
                match claim {
                    Some(claim) if document(&claim.to_json(&fleet)) == run.claim.as_bytes() => {
                        self.view.registry.write(Change::Confirm { run_id: run.run_id })?;
                    }
                    Some(_) | None => drop(self.view.registry.write(Change::Drop { run_id: run.run_id })?),
                }
            } else if self.view.ledger.has_end(&key) {
                has_moved = true;
                self.view.registry.write(Change::Close { run_id: run.run_id })?;
            }
        }
        if self.has_lease || !self.has_remote {
            has_moved |= self.publish_ends()?;
            has_moved |= self.note_renames()?;
        }
        if has_moved {
            self.view.read_ledger(self.recorded)?;
        }
        Ok(())
    }
}

/// Returns the former names that are declared and not noted, of names under which something was claimed.
pub(super) fn unnoted_renames(view: &View<'_>) -> Vec<Renamed> {
    let ledger = &view.ledger;
    let unnoted = |name: &Name| {
        let known = view.declared.previous_names(name).iter().filter(|old| ledger.knows(old));
        let one = Renamed { name: name.clone(), previous_names: known.cloned().collect() };
        let noted = ledger.renames.get(name).map_or(&[][..], Vec::as_slice);
        one.previous_names.iter().any(|old| !noted.contains(old)).then_some(one)
    };
    view.renamed.iter().filter_map(unnoted).collect()
}
