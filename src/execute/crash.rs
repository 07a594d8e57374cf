//! Places where a process may die: before and after every durable step and every message to a device.
//!
//! By default no process dies. A simulation passes [`CrashPoints::at`], runs until the chosen place unwinds with
//! [`Died`], drops everything in memory and starts again. Unwinding cannot tear a single step in two: SQLite's
//! transactions and git's compare-and-swap make each step all or nothing.

use std::cell::Cell;
use std::rc::Rc;

/// Counts the places that a process passes, and ends it at one of them.
#[derive(Debug, Clone, Default)]
pub struct CrashPoints {
    /// `None` when the process never dies.
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

/// The payload that a dying process unwinds with: the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Died(pub &'static str);

impl CrashPoints {
    /// The process never dies.
    pub const NOWHERE: CrashPoints = CrashPoints { countdown: None };

    /// Returns points that end the process at the one with this number, counted from 0.
    pub fn at(number: u64) -> CrashPoints {
        CrashPoints::of(None, number)
    }

    /// Returns points that end the process before or after the `occurrence`th step of this name, counted from 1.
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
