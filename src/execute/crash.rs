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
    /// Only this place counts; `None` when all do.
    place: Option<String>,
    left: Cell<u64>,
    passed: Cell<u64>,
}

/// A side of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Before,
    After,
}

/// What a process that dies unwinds with: the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died(pub &'static str);

impl CrashPoints {
    /// Nobody dies.
    pub const NOWHERE: CrashPoints = CrashPoints { countdown: None };

    /// Returns points of which the one with this number, counted from 0, is the last.
    pub fn at(number: u64) -> CrashPoints {
        CrashPoints::of(None, number)
    }

    /// Returns points of which the last is before or after the step that is the `occurrence`th, counted from 1, of its name.
    pub fn at_step(side: Side, step: &str, occurrence: u64) -> CrashPoints {
        // Each step has a point before it and one after it.
        let before = occurrence.saturating_sub(1) * 2;
        CrashPoints::of(Some(step.to_string()), if side == Side::Before { before } else { before + 1 })
    }

    fn of(place: Option<String>, left: u64) -> CrashPoints {
        let countdown = Countdown { place, left: Cell::new(left), passed: Cell::new(0) };
        CrashPoints { countdown: Some(Rc::new(countdown)) }
    }

    /// Returns how many places that count were passed.
    pub fn passed(&self) -> u64 {
        self.countdown.as_ref().map_or(0, |countdown| countdown.passed.get())
    }

    /// Passes a place.
    ///
    /// # Panics
    /// When the process is to die here.
    pub fn pass(&self, place: &'static str) {
        let Some(countdown) = &self.countdown else { return };
        if countdown.place.as_ref().is_some_and(|only| only != place) {
            return;
        }
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
