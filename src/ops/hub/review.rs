//! Jobs that wait for a review: each on a branch of its own, until that is merged into the one that is followed.

use jiff::Timestamp;

use super::HubError;
use super::desk::{Desk, Followed};
use super::job::{HubJob, HubStatus, describe};
use super::names::{REQUEST_LABEL, find, names_of};
use super::publish::unavailable;
use crate::model::id::Name;
use crate::repo::{MIRRORED, Remote};

/// Where a mirror keeps the branches that it has pushed: its own `refs/heads` are the remote's.
const MIRROR_PREFIX: &str = "refs/fleetform/review/";

/// A job that waits for a review.
pub(super) struct Reviewed {
    pub branch: String,
    pub job: HubJob,
    /// The digest of the request that has made it.
    pub request: Option<String>,
}

impl Desk<'_> {
    /// Returns the name of the branch on which a job is reviewed; `None` where jobs run without.
    pub(super) fn review_branch(&mut self, name: &Name) -> Result<Option<String>, HubError> {
        Ok(self.api()?.review_branch.map(|pattern| pattern.replace("{name}", name.as_str())))
    }

    /// Returns the job of an id that waits for a review, as its branch is here.
    pub(super) fn reviewed(&mut self, id: &str, now: Timestamp) -> Result<Option<Reviewed>, HubError> {
        for name in names_of(id) {
            let Some(branch) = self.review_branch(&name)? else { return Ok(None) };
            let Ok(commit) = self.workspace.repo.resolve(&self.review_reference(&branch)) else { continue };
            let files = self.files_at(&commit)?;
            if files.usable().is_err() {
                continue;
            }
            let view = self.view_of(files)?;
            if let Some(work) = find(&view.declared, id) {
                let mut job = describe(&view, work, now);
                (job.status, job.message) = (HubStatus::Queued, Some(format!("It waits for a review on {branch}.")));
                let request = work.label(REQUEST_LABEL).map(str::to_string);
                return Ok(Some(Reviewed { branch, job, request }));
            }
        }
        Ok(None)
    }

    /// Makes a commit a branch of its own, at the remote too.
    ///
    /// # Errors
    /// There is such a branch, or it cannot be pushed; nothing was kept.
    pub(super) fn propose(&mut self, branch: &str, commit: &str) -> Result<(), HubError> {
        if self.workspace.repo.resolve(&self.review_reference(branch)).is_ok() {
            return Err(HubError::Unavailable(format!("there is a branch {branch} already, which is not the job's")));
        }
        if let Some(remote) = self.remote()? {
            remote.push(commit, branch, None).map_err(|error| unavailable(&error))?;
        }
        if !self.workspace.repo.make_reference(&self.review_reference(branch), commit)? {
            return Err(HubError::Unavailable(format!("there is a branch {branch} already, which is not the job's")));
        }
        Ok(())
    }

    /// Removes the branch of a job, at the remote too.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(super) fn withdraw(&mut self, reviewed: &Reviewed) -> Result<(), HubError> {
        if self.workspace.repo.checked_out_branch() == Some(self.review_reference(&reviewed.branch)) {
            let branch = &reviewed.branch;
            return Err(HubError::Unavailable(format!(
                "{branch} is checked out where the gateway runs: leave it there"
            )));
        }
        if let Some(remote) = self.remote()? {
            let found = remote.heads(&[&reviewed.branch]).map_err(|error| unavailable(&error))?;
            // Reviewers may have removed it, or put commits on it.
            if let Some(there) = found.into_iter().next().flatten() {
                remote.remove(&reviewed.branch, &there).map_err(|error| unavailable(&error))?;
            }
        }
        self.workspace.repo.remove_reference(&self.review_reference(&reviewed.branch))?;
        Ok(())
    }

    fn remote(&mut self) -> Result<Option<Remote>, HubError> {
        match &self.followed {
            Followed::Remote { .. } => Ok(Some(Remote::new(self.workspace.repo.git_folder(), MIRRORED))),
            Followed::Local { .. } => {
                let fleet = self.declared()?.fleet.clone();
                Ok(self.own_remote(&fleet))
            }
        }
    }

    fn review_reference(&self, branch: &str) -> String {
        match self.followed {
            Followed::Remote { .. } => format!("{MIRROR_PREFIX}{branch}"),
            Followed::Local { .. } => format!("refs/heads/{branch}"),
        }
    }
}
