//! Being asked to end, once meaning "start nothing more and finish what is in flight", and being asked to look.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Set once, seen by whoever waits.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    state: Arc<(AtomicBool, Notify)>,
}

impl Interrupt {
    /// Returns one that is not set.
    pub fn new() -> Interrupt {
        Interrupt::default()
    }

    /// Asks to end.
    pub fn set(&self) {
        self.state.0.store(true, Ordering::SeqCst);
        self.state.1.notify_waiters();
        self.state.1.notify_one();
    }

    /// Returns true when it was asked to end.
    pub fn is_set(&self) -> bool {
        self.state.0.load(Ordering::SeqCst)
    }

    /// Waits until it is asked to end; for ever when it was asked before.
    pub async fn notified(&self) {
        self.state.1.notified().await;
    }
}

/// "There may be something new": any number of calls between two looks are one.
#[derive(Debug, Clone, Default)]
pub struct Wake {
    state: Arc<(AtomicBool, Notify)>,
}

impl Wake {
    /// Returns one that was not called.
    pub fn new() -> Wake {
        Wake::default()
    }

    /// Asks to look. May be called from any thread.
    pub fn call(&self) {
        self.state.0.store(true, Ordering::SeqCst);
        self.state.1.notify_one();
    }

    /// Returns true when it was called since the last time.
    pub fn take(&self) -> bool {
        self.state.0.swap(false, Ordering::SeqCst)
    }

    /// Waits until it is called; returns at once when it was called since the last [`Wake::take`].
    pub async fn called(&self) {
        while !self.state.0.load(Ordering::SeqCst) {
            self.state.1.notified().await;
        }
    }
}
