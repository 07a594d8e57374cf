//! Why nothing that is committed starts: the newest commit cannot be used.

use super::desk::Desk;
use super::job::{HubJob, HubStatus};
use crate::prepare::View;

impl Desk<'_> {
    /// Adds to jobs that have not begun why they do not, where the branch stands still.
    pub(super) fn say_standstill(&self, view: &View<'_>, jobs: &mut [HubJob]) {
        let waits =
            |job: &&mut HubJob| matches!(job.status, HubStatus::Queued | HubStatus::Scheduled) && job.message.is_none();
        let mut waiting = jobs.iter_mut().filter(waits).peekable();
        if waiting.peek().is_none() {
            return;
        }
        let why = self.standstill(view);
        waiting.for_each(|job| job.message.clone_from(&why));
    }

    fn standstill(&self, view: &View<'_>) -> Option<String> {
        let newest = view.files.passed_over.as_ref()?;
        Some(format!(
            "The newest commit cannot be used, and what was declared before it goes on: {}",
            newest.reason()
        ))
    }
}
