//! The clock. Only modules below the IO line use it; modules above get the time as a value.

use std::cell::Cell;
use std::time::Duration;

use jiff::Timestamp;

use super::{Inbox, Wakeups};

/// A clock: that of the machine, a virtual one in rehearsals, or one with faults in simulations.
pub trait Clock {
    /// Returns the time, UTC.
    fn now(&self) -> Timestamp;

    /// Waits until a time or until a wakeup arrives in the inbox, and takes out what has arrived; empty when the time
    /// came first. Returns at once when the time has passed.
    fn wait(&self, until: Timestamp, inbox: &Inbox) -> Wakeups;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that looks at the clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn wait(&self, until: Timestamp, inbox: &Inbox) -> Wakeups {
        let left = Duration::try_from(until.duration_since(self.now())).unwrap_or_default();
        inbox.wait(Some(left))
    }
}

/// Time that passes only while it is waited for, and then at once.
#[derive(Debug)]
pub struct VirtualClock {
    now: Cell<Timestamp>,
}

impl VirtualClock {
    /// Returns a clock that stands at a time.
    pub fn new(now: Timestamp) -> VirtualClock {
        VirtualClock { now: Cell::new(now) }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn wait(&self, until: Timestamp, inbox: &Inbox) -> Wakeups {
        let woken = inbox.take();
        if woken.is_empty() {
            self.now.set(self.now.get().max(until));
        }
        woken
    }
}
