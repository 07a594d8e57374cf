//! Stops on a branch that is held: they do no harm, whatever became of the history before them.

use super::stops::stop_running;
use super::{Reconciler, Seen};
use crate::execute::Progress;
use crate::model::id::Name;

impl Reconciler<'_> {
    /// Stops what runs and is suspended by a commit of which nothing else is taken up.
    pub fn stop_suspended(&mut self, seen: &Seen<'_>, observer: &mut dyn FnMut(&Progress)) {
        let Ok(declared) = seen.files.usable() else { return };
        let suspended =
            |(name, run): &(Name, _)| declared.jobs.get(name).is_some_and(|job| job.suspend && job.run == *run);
        let stopped: Vec<Name> = self.running.runs().into_iter().filter(suspended).map(|(name, _)| name).collect();
        stopped.iter().for_each(|name| stop_running(name, &seen.head, &mut self.running, observer));
    }
}
