//! Stops that are committed while an apply runs.

use crate::execute::{Progress, Running};
use crate::model::id::Name;
use crate::prepare::load;
use crate::repo::Repo;

/// Finds stops that are committed while an apply runs.
pub struct Stops {
    /// The commit that is applied.
    applied: String,
    /// The newest commit that was looked at.
    looked_at: String,
}

impl Stops {
    /// Begins with the commit that is applied.
    pub fn after(head: &str) -> Stops {
        Stops { applied: head.to_string(), looked_at: head.to_string() }
    }

    /// Stops what runs and is suspended or not declared any more by a newer commit. Nothing else of that commit is
    /// taken up: it has not been agreed to. A stop counts whatever is wrong with other files of its commit.
    pub fn look(&mut self, repo: &Repo, running: &mut Running, observer: &mut dyn FnMut(&Progress)) {
        let Ok(head) = repo.head() else { return };
        if head == self.looked_at {
            return;
        }
        // What cannot be read is looked at again a second later. `suspend: true` does no harm, whatever became of the
        // history before it; what else a rewritten history says is for the next apply to judge.
        let Ok(tree) = repo.tree_at(&head) else { return };
        let is_newer = repo.descends(&head, &self.applied) == Some(true);
        let loaded = load(&tree);
        for (name, run) in running.runs() {
            let is_stopped = match loaded.job(name.as_str()) {
                Some(seen) => seen.is_suspended || is_newer && seen.run != run,
                // With an error somewhere a document may be missing that was not deleted.
                None => is_newer && !loaded.diagnostics.has_errors(),
            };
            if is_stopped && running.stop(&name) {
                observer(&Progress::StopSeen { job: name, run, commit: head.clone() });
            }
        }
        self.looked_at = head;
    }
}

/// Lets a job that is executed start no further device.
pub(super) fn stop_running(job: &Name, head: &str, running: &mut Running, observer: &mut dyn FnMut(&Progress)) {
    let run = running.runs().into_iter().find(|(name, _)| name == job).map(|(_, run)| run);
    if let Some(run) = run
        && running.stop(job)
    {
        observer(&Progress::StopSeen { job: job.clone(), run, commit: head.to_string() });
    }
}
