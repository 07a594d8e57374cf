//! The snapshot that the daemon writes and its pages read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::events::EventLog;
use crate::model::status::Snapshot;

/// The one [`Snapshot`] of a daemon. Clones are handles of the same snapshot.
#[derive(Debug, Clone)]
pub struct StatusHandle {
    shared: Arc<Mutex<Shared>>,
    events: EventLog,
}

#[derive(Debug)]
struct Shared {
    snapshot: Snapshot,
    /// On the monotonic clock: a clock that is set must not make the daemon look dead.
    heartbeat: Instant,
    is_reconciling: bool,
}

impl StatusHandle {
    /// Returns a snapshot with its first heartbeat.
    pub fn new(snapshot: Snapshot) -> StatusHandle {
        let shared = Arc::new(Mutex::new(Shared { snapshot, heartbeat: Instant::now(), is_reconciling: false }));
        StatusHandle { shared, events: EventLog::default() }
    }

    /// Changes the snapshot. `change` must be quick: pages wait for it.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock().snapshot);
    }

    /// Returns the log of what changed, for pages that are open. What changes the snapshot adds to it.
    pub fn events(&self) -> &EventLog {
        &self.events
    }

    /// Returns a copy of the snapshot.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().snapshot.clone()
    }

    /// Records that the daemon begins to reconcile, or that it has.
    pub fn set_reconciling(&self, is_reconciling: bool) {
        self.lock().is_reconciling = is_reconciling;
    }

    /// Returns true while a job is planned or runs.
    pub fn has_work(&self) -> bool {
        let shared = self.lock();
        shared.is_reconciling || !shared.snapshot.running.is_empty()
    }

    /// Records that the daemon's loop is alive. Call it at least every [`crate::model::limits::HEARTBEAT_AGE_MAX`],
    /// also during a run.
    pub fn beat(&self) {
        self.lock().heartbeat = Instant::now();
    }

    /// Returns how long ago the last heartbeat was.
    pub fn heartbeat_age(&self) -> Duration {
        self.lock().heartbeat.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // A change that panicked leaves whole fields behind, and the process dies of the panic anyway.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_share_a_snapshot() {
        let handle = StatusHandle::new(Snapshot::new("0.1.0", "acme", jiff::Timestamp::UNIX_EPOCH));
        handle.clone().update(|snapshot| snapshot.reconciles = 3);
        assert_eq!(handle.snapshot().reconciles, 3);
        handle.beat();
        assert!(handle.heartbeat_age() < Duration::from_secs(60));
    }
}
