//! Virtual time, which passes only while the process waits for it.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Random;
use crate::execute::{Clock, Inbox, Waker, Wakeups};

/// The clock of a world.
pub struct SimClock {
    now: Cell<Timestamp>,
    /// The time at which the clock sets an interrupt.
    interrupt: RefCell<Option<(Timestamp, Waker)>>,
    /// Makes some waits last longer than was asked for; `None` for a machine that never sleeps.
    overshoot: RefCell<Option<Random>>,
}

impl Default for SimClock {
    fn default() -> SimClock {
        let now = "2026-11-20T10:00:00Z".parse().expect("it is a time");
        SimClock { now: Cell::new(now), interrupt: RefCell::default(), overshoot: RefCell::default() }
    }
}

impl SimClock {
    /// Moves the time, forwards or backwards.
    pub fn jump(&self, by: SignedDuration) {
        self.now.set(self.now.get().checked_add(by).expect("a world ends long before time does"));
    }

    /// Sets or clears an interrupt after some time from now.
    pub fn interrupt_after(&self, after: Option<(Duration, Waker)>) {
        let now = self.now.get();
        let at = |by: Duration| now.checked_add(by).expect("a world ends long before time does");
        *self.interrupt.borrow_mut() = after.map(|(by, interrupt)| (at(by), interrupt));
    }

    /// Lets some waits last longer, or none.
    pub fn overshoot(&self, random: Option<Random>) {
        *self.overshoot.borrow_mut() = random;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn wait(&self, time: Timestamp, inbox: &Inbox) -> Wakeups {
        let woken = inbox.take();
        if !woken.is_empty() {
            return woken;
        }
        let mut until = time;
        if let Some(random) = self.overshoot.borrow_mut().as_mut()
            && random.chance(5)
        {
            let by = SignedDuration::from_secs(random.between(1, 600) as i64);
            until = time.checked_add(by).unwrap_or(time);
        }
        if let Some((at, interrupt)) = self.interrupt.borrow().as_ref()
            && *at <= until
            && !interrupt.is_interrupted()
        {
            until = *at;
            interrupt.interrupt();
        }
        self.now.set(self.now.get().max(until));
        inbox.take()
    }
}
