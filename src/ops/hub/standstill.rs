//! Why nothing that is committed starts: the newest commit cannot be used, or does not come after the one that was
//! applied last.

use super::HubError;
use super::desk::Desk;
use super::job::{HubJob, HubStatus};
use crate::ops::OpsError;
use crate::prepare::{View, declares_the_same, not_after};

impl Desk<'_> {
    /// Adds to jobs that have not begun why they do not, where the branch stands still.
    pub(super) fn say_standstill(&mut self, view: &View<'_>, jobs: &mut [HubJob]) {
        let waits =
            |job: &&mut HubJob| matches!(job.status, HubStatus::Queued | HubStatus::Scheduled) && job.message.is_none();
        let mut waiting = jobs.iter_mut().filter(waits).peekable();
        if waiting.peek().is_none() {
            return;
        }
        // A job is read without it as well.
        let why = self.standstill(view).ok().flatten();
        waiting.for_each(|job| job.message.clone_from(&why));
    }

    fn standstill(&mut self, view: &View<'_>) -> Result<Option<String>, HubError> {
        if let Some(newest) = &view.files.passed_over {
            return Ok(Some(format!(
                "The newest commit cannot be used, and what was declared before it goes on: {}",
                newest.reason()
            )));
        }
        let (repo, Some(head)) = (&self.workspace.repo, &view.files.tree.commit) else { return Ok(None) };
        let last = not_after(head, (repo, &view.declared), &view.registry, &view.branch).map_err(OpsError::from)?;
        let Some(last) = last else { return Ok(None) };
        let key = (head.clone(), last);
        if let Some((known, why)) = &self.known_standstill
            && *known == key
        {
            return Ok(why.clone());
        }
        let is_same = declares_the_same(repo, &key.1, &view.files.tree, &view.files.loaded)?;
        let why = (!is_same).then(|| {
            let short = |commit: &str| commit.get(..12).unwrap_or(commit).to_string();
            format!(
                "The branch is held, and nothing new starts: it was rewound, and {} does not come after {}, which was \
                 applied last. Put that commit back on the branch (merge it, or push it again), or start the gateway \
                 with --accept-rewind.",
                short(&key.0),
                short(&key.1)
            )
        });
        self.known_standstill = Some((key, why.clone()));
        Ok(why)
    }
}
