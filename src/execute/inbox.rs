//! The inbox, where every wakeup of the reconciling thread arrives: signals, the link, the source, pushes, doorbells.
//!
//! Any thread may hold a [`Waker`]. One thread holds the [`Inbox`] and waits, with [`Clock::wait`](super::Clock::wait).
//! A wakeup only says that there may be something new: the woken thread reads again. Equal wakeups between two waits
//! count as one.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest single wait of the operating system. Longer waits are made of several.
const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// The reasons to wake the reconciling thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Wakeup {
    /// The process was asked to end: start nothing more, and finish what is in flight.
    Interrupt = 1,
    /// The link has events.
    Link = 2,
    /// A reference has moved, or a fetch has ended.
    Source = 4,
    /// A call to the results' remote has ended.
    Push = 8,
    /// An outside program asks for a look, for example by a webhook.
    Doorbell = 16,
    /// Something in the registry waits to be published.
    Noted = 32,
}

/// A set of wakeups; empty when a wait ended because its time had come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wakeups(u8);

impl Wakeups {
    /// Returns true when nothing woke the thread.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns true when the set has a wakeup.
    pub fn has(self, wakeup: Wakeup) -> bool {
        self.0 & wakeup as u8 != 0
    }

    /// Returns true when the set has another wakeup than this one.
    pub fn is_for_others_than(self, wakeup: Wakeup) -> bool {
        self.0 & !(wakeup as u8) != 0
    }

    /// Returns the union of two sets.
    #[must_use]
    pub fn and(self, others: Wakeups) -> Wakeups {
        Wakeups(self.0 | others.0)
    }

    /// Returns true when the source must be read again: a reference moved, a fetch ended, or the doorbell rang.
    pub fn asks_to_look(self) -> bool {
        self.has(Wakeup::Source) || self.has(Wakeup::Doorbell)
    }
}

#[derive(Debug, Default)]
struct Pending {
    wakeups: Wakeups,
    /// Stays set: a process that was asked to end once ends.
    is_interrupted: bool,
}

#[derive(Debug, Default)]
struct State {
    pending: Mutex<Pending>,
    changed: Condvar,
}

impl State {
    /// A poisoned lock is safe to use: a thread that panicked has made no partial change.
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the thread that waits at an inbox, from any thread.
#[derive(Debug, Clone)]
pub struct Waker {
    state: Arc<State>,
}

impl Waker {
    /// Puts a wakeup into the inbox. Returns at once.
    pub fn wake(&self, wakeup: Wakeup) {
        let mut pending = self.state.pending();
        pending.wakeups.0 |= wakeup as u8;
        pending.is_interrupted |= wakeup == Wakeup::Interrupt;
        drop(pending);
        self.state.changed.notify_all();
    }

    /// Asks the process to end.
    pub fn interrupt(&self) {
        self.wake(Wakeup::Interrupt);
    }

    /// Returns true when the process was asked to end.
    pub fn is_interrupted(&self) -> bool {
        self.state.pending().is_interrupted
    }
}

/// Where wakeups arrive.
#[derive(Debug)]
pub struct Inbox {
    waker: Waker,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox::new()
    }
}

impl Inbox {
    /// Returns an empty inbox.
    pub fn new() -> Inbox {
        Inbox { waker: Waker { state: Arc::default() } }
    }

    /// Returns a waker for the thread that waits here.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Returns true when the process was asked to end, whether or not that wakeup was taken out.
    pub fn is_interrupted(&self) -> bool {
        self.waker.is_interrupted()
    }

    /// Takes out what has arrived.
    pub fn take(&self) -> Wakeups {
        std::mem::take(&mut self.waker.state.pending().wakeups)
    }

    /// Waits until something arrives, for at most `patience` (`None`: as long as it takes), and takes it out.
    pub fn wait(&self, patience: Option<Duration>) -> Wakeups {
        let state = &self.waker.state;
        let mut left = patience;
        let mut pending = state.pending();
        loop {
            let slice = left.unwrap_or(WAIT_MAX).min(WAIT_MAX);
            let is_quiet = |pending: &mut Pending| pending.wakeups.is_empty();
            let waited = state.changed.wait_timeout_while(pending, slice, is_quiet);
            let (locked, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            pending = locked;
            left = left.map(|left| left.saturating_sub(slice));
            if !timeout.timed_out() || left.is_some_and(|left| left.is_zero()) {
                return std::mem::take(&mut pending.wakeups);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_wakeups_are_one_and_others_are_told_apart() {
        let inbox = Inbox::new();
        inbox.waker().wake(Wakeup::Link);
        inbox.waker().wake(Wakeup::Link);
        inbox.waker().wake(Wakeup::Doorbell);
        let woken = inbox.wait(None);
        assert!(woken.has(Wakeup::Link) && woken.has(Wakeup::Doorbell) && !woken.has(Wakeup::Push));
        assert!(woken.asks_to_look());
        assert!(inbox.wait(Some(Duration::ZERO)).is_empty());
    }

    #[test]
    fn an_interrupt_wakes_once_and_stays_known() {
        let inbox = Inbox::new();
        let waker = inbox.waker();
        let thread = std::thread::spawn(move || waker.interrupt());
        assert!(inbox.wait(None).has(Wakeup::Interrupt));
        thread.join().unwrap();
        assert!(inbox.take().is_empty());
        assert!(inbox.is_interrupted());
    }
}
