//! File events of a repository's references. They only wake the daemon: what it does follows from what it reads then.

use std::path::Path;

use notify::{RecursiveMode, Watcher as _};

use crate::execute::{Waker, Wakeup};

/// Calls for as long as it lives.
pub struct Events {
    _watcher: notify::RecommendedWatcher,
}

impl Events {
    /// Begins to watch where a repository (its `.git`, or the folder of a bare one) keeps its references.
    ///
    /// # Errors
    /// The system cannot watch it (a limit, a file system without events): the interval alone has to do then.
    pub fn of_references(git: &Path, waker: Waker) -> Result<Events, notify::Error> {
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // An error may be an overflow: something was missed.
            if event.map_or(true, |event| !event.kind.is_access()) {
                waker.wake(Wakeup::Source);
            }
        })?;
        // `HEAD` and `packed-refs` are replaced by renames, which only their folder sees.
        watcher.watch(git, RecursiveMode::NonRecursive)?;
        watcher.watch(&git.join("refs"), RecursiveMode::Recursive)?;
        Ok(Events { _watcher: watcher })
    }
}
