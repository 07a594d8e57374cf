//! What a running apply takes notice of: stops.

use super::Apply;
use crate::execute::{Progress, Running};
use crate::model::id::Name;

impl Apply<'_> {
    /// Looks whether somebody has committed a stop (`suspend: true`, or the file deleted) of what runs. Nothing else of a newer commit
    /// is taken up: it has not been agreed to. A stop counts whatever is wrong with other files of its commit.
    pub(super) fn heed_stops(&mut self, running: &mut Running, observer: &mut dyn FnMut(&Progress)) {
        let Ok(head) = self.repo.head() else { return };
        if head == self.looked_at {
            return;
        }
        // What cannot be read is looked at again a second later; a history that was rewound is for the next apply to judge.
        if self.repo.descends(&head, &self.head) == Some(true) {
            let Ok(tree) = self.repo.tree_at(&head) else { return };
            let loaded = crate::prepare::load(&tree);
            for (name, run) in running.runs() {
                let is_stopped = match loaded.job(name.as_str()) {
                    Some(seen) => seen.is_suspended || seen.run != run,
                    // With an error somewhere a document may be missing that nobody deleted.
                    None => !loaded.diagnostics.has_errors(),
                };
                if is_stopped && running.stop(&name) {
                    observer(&Progress::StopSeen { job: name, run, commit: head.clone() });
                }
            }
        }
        self.looked_at = head;
    }

    /// Lets a job that is executed start no further device.
    pub(super) fn stop_running(&self, job: &Name, running: &mut Running, observer: &mut dyn FnMut(&Progress)) {
        let run = running.runs().into_iter().find(|(name, _)| name == job).map(|(_, run)| run);
        if let Some(run) = run
            && running.stop(job)
        {
            observer(&Progress::StopSeen { job: job.clone(), run, commit: self.head.clone() });
        }
    }
}
