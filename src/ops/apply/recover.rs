//! Nothing that is known of runs is in one place only: a results branch that is gone is published again from the registry, and a registry
//! that was lost learns from the branch what it cannot know.

use std::collections::BTreeSet;

use super::Apply;
use crate::execute::{Progress, republish};
use crate::ledger::claim_path_of;
use crate::ops::OpsError;
use crate::registry::KeptFile;

impl Apply<'_> {
    /// Publishes a branch that is gone again, when the registry remembers it.
    pub(super) fn republish(&mut self, observer: &mut dyn FnMut(&Progress)) -> Result<(), OpsError> {
        if self.branch.tip()?.is_some() || !self.registry.remembers()? {
            return Ok(());
        }
        let fleet = &self.declared.fleet.name;
        let runs = republish(&self.branch, self.registry, fleet, &self.options.crash)?;
        observer(&Progress::BranchRepublished { branch: self.branch.name().to_string(), runs });
        Ok(())
    }

    /// Keeps what is on the branch and not in the journal: runs of a registry that was lost, of another clone, or adopted ones. All of it is kept or
    /// nothing, for a registry that remembers half of what was claimed would let the rest run again.
    pub(super) fn keep_results(&mut self) -> Result<(), OpsError> {
        let Some(tip) = self.branch.tip()? else { return Ok(()) };
        if self.registry.kept_tip()?.as_ref() == Some(&tip) {
            return Ok(());
        }
        let journaled: BTreeSet<String> = self.registry.claim_documents()?.into_keys().collect();
        let is_journaled = |path: &str| claim_path_of(path).is_some_and(|claim| journaled.contains(&claim));
        let known = self.registry.kept_ids()?;
        let mut fresh = Vec::new();
        for (path, blob) in self.branch.entries(|path| path != "fleet.json" && !is_journaled(path))? {
            if known.get(&path).and_then(Option::as_ref) != Some(&blob.to_string()) {
                fresh.push((path, blob));
            }
        }
        let (branch, crash) = (&self.branch, &self.options.crash);
        if !fresh.is_empty() {
            let files = fresh.into_iter().map(|(path, blob)| {
                Ok(KeptFile { path, content: branch.read_blob(blob)?, blob_id: Some(blob.to_string()) })
            });
            crash.around("keep results", || self.registry.keep_files::<OpsError>(files))?;
        }
        crash.around("note kept tip", || self.registry.note_kept_tip(&tip))?;
        Ok(())
    }
}
