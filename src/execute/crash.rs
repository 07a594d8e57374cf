//! Places where a process may die: before and after every durable step and every message to a device.
//!
//! Nobody dies by default. A simulation hands in [`CrashPoints::at`], runs until the chosen place unwinds with [`Died`], drops
//! everything that was in memory and starts again. Unwinding cannot tear a single step in two; that a step is all or nothing
//! is for SQLite's transactions and git's compare-and-swap to keep.

use std::cell::Cell;
use std::rc::Rc;

/// Counts the places that were passed, and ends the process at one of them.
#[derive(Debug, Clone, Default)]
pub struct CrashPoints {
    /// `None` where nobody dies.
    countdown: Option<Rc<Countdown>>,
}

#[derive(Debug)]
struct Countdown {
    left: Cell<u64>,
    passed: Cell<u64>,
}

/// What a process that dies unwinds with: the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died(pub &'static str);

impl CrashPoints {
    /// Returns points of which the one with this number, counted from 0, is the last.
    pub fn at(number: u64) -> CrashPoints {
        CrashPoints { countdown: Some(Rc::new(Countdown { left: Cell::new(number), passed: Cell::new(0) })) }
    }

    /// Returns how many places were passed.
    pub fn passed(&self) -> u64 {
        self.countdown.as_ref().map_or(0, |countdown| countdown.passed.get())
    }

    /// Passes a place.
    ///
    /// # Panics
    /// When the process is to die here.
    pub fn pass(&self, place: &'static str) {
        let Some(countdown) = &self.countdown else { return };
        let left = countdown.left.get();
        if left == 0 {
            std::panic::resume_unwind(Box::new(Died(place)));
        }
        countdown.left.set(left - 1);
        countdown.passed.set(countdown.passed.get() + 1);
    }

    /// Does a step with a place before it and one after it.
    ///
    /// # Panics
    /// As [`CrashPoints::pass`].
    pub fn around<T>(&self, place: &'static str, step: impl FnOnce() -> T) -> T {
        self.pass(place);
        let done = step();
        self.pass(place);
        done
    }
}
