//! What people do at the borders of a world: they rename jobs, put the results branch back, and apply in a clone that
//! has a registry of its own.

use std::path::Path;

use super::session::Failure;
use super::world::JOURNAL;
use super::{BRANCH, Random, Session, World};
use crate::execute::Inbox;
use crate::ops::apply::{ApplyOptions, apply};
use crate::ops::{Environment, OpsError};
use crate::prepare::HistoryError;
use crate::repo::Repo;

impl Session {
    /// Notes the tip of the results branch; when one is noted, puts the branch back to it.
    fn put_back_branch(&mut self) {
        match self.old_tip.take() {
            None => self.old_tip = self.world.tip(),
            Some(tip) if self.auditor.may_lose_branch() => {
                self.tip_before = self.world.tip();
                self.world.put_back_branch(&tip);
                self.auditor.put_back_branch(&tip);
                self.trace.push(format!("the results branch is put back to {tip}"));
            }
            Some(_) => {}
        }
    }

    /// Does what the message says of a branch that was put back.
    pub(super) fn follow(&mut self, error: &OpsError) {
        let to = match error {
            OpsError::History(HistoryError::Rewritten { seen, .. }) => Some(seen.clone()),
            // By `git reflog`.
            OpsError::History(HistoryError::ClaimMissing { .. }) => self.tip_before.clone(),
            _ => None,
        };
        if let Some(to) = to.filter(|_| self.tip_before.is_some() && self.world.remote.is_none()) {
            self.world.put_back_branch(&to);
            self.auditor.put_back_branch(&to);
            self.trace.push(format!("following the message, the results branch is put to {to}"));
        }
    }

    /// Lets somebody apply in a clone with a registry of its own.
    fn let_a_stranger_apply(&mut self) -> Result<(), Failure> {
        let before = self.world.results().map_err(|error| self.failure(error.to_string()))?;
        let Some(ended) = self.world.apply_as_a_stranger() else { return Ok(()) };
        self.trace.push(format!("a stranger applies: {ended}"));
        let after = self.world.results().map_err(|error| self.failure(error.to_string()))?;
        if before != after {
            return Err(self.failure("a stranger has written to the results branch".to_string()));
        }
        if ended.starts_with("applied") {
            return Err(self.failure("a stranger was let apply".to_string()));
        }
        Ok(())
    }

    /// Lets people do what other borders cross: rename a job, put the branch back, apply somewhere else.
    pub(super) fn cross_borders(&mut self, random: &mut Random) -> Result<(), Failure> {
        if random.chance(25)
            && !self.auditor.is_branch_lost()
            && let Some(told) = self.people.rename(&self.world, random)
        {
            self.trace.push(told);
        }
        if random.chance(15) && self.world.remote.is_none() {
            self.put_back_branch();
        }
        if random.chance(10) {
            self.let_a_stranger_apply()?;
        }
        Ok(())
    }
}

impl World {
    /// Returns the tip of the results branch of the current site; `None` when there is none.
    pub(super) fn tip(&self) -> Option<String> {
        let repo = Repo::open(self.folder()).ok()?;
        repo.results(BRANCH).tip().ok().flatten()
    }

    /// Lets the results branch of the current site point to another commit, as `git branch -f` does.
    ///
    /// # Panics
    /// When the repository cannot be written.
    pub(super) fn put_back_branch(&self, tip: &str) {
        let put_back = || {
            let repository = git2::Repository::open(self.folder())?;
            let tip = git2::Oid::from_str(tip)?;
            repository.reference(&format!("refs/heads/{BRANCH}"), tip, true, "people").map(drop)
        };
        put_back().unwrap_or_else(|error: git2::Error| panic!("a branch can be put back: {error}"));
    }

    /// Applies in a new clone, which makes a registry of its own, and returns how that ended; `None` while no registry
    /// works on the fleet.
    ///
    /// # Panics
    /// When the clone cannot be made, or its registry has sent something.
    pub(super) fn apply_as_a_stranger(&self) -> Option<String> {
        let (_, files) = self.results().ok()?;
        let fleet: serde_json::Value = serde_json::from_slice(files.get("fleet.json")?).ok()?;
        fleet.get("registry")?;
        let folder = self.sites[0].join(".fleetform/stranger");
        self.clone_to(&folder).unwrap_or_else(|error| panic!("a clone can be made: {error}"));
        let environment = Environment { folder: folder.clone(), ..Environment::default() };
        let (inbox, agree) = (Inbox::new(), &mut |_: &_, _: &_| true);
        let ended = apply(&environment, &ApplyOptions::default(), &self.clock, &inbox, agree, &mut |_| {});
        let sent = std::fs::read(folder.join(JOURNAL)).unwrap_or_default();
        assert!(sent.is_empty(), "a stranger has sent something");
        std::fs::remove_dir_all(&folder).expect("a clone can be removed");
        Some(match ended {
            Ok(applied) if applied.was_empty => "nothing to do".to_string(),
            Ok(applied) => format!("applied {} runs", applied.records.len()),
            Err(error) => format!("refused: {error}"),
        })
    }

    /// Clones the first site with its results branch; with a remote, with that one's.
    fn clone_to(&self, folder: &Path) -> Result<(), git2::Error> {
        let clone = git2::Repository::clone(&self.sites[0].to_string_lossy(), folder)?;
        match &self.remote {
            Some(remote) => {
                clone.remote_delete("origin")?;
                remote.add_to(folder);
            }
            None => {
                let refs = format!("+refs/heads/{BRANCH}:refs/heads/{BRANCH}");
                clone.find_remote("origin")?.fetch(&[refs], None, None)?;
            }
        }
        Ok(())
    }
}
