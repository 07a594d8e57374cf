//! Recurrence: the instants at which a schedule is due, and the decision about it now.
//!
//! A pure room: a [`Schedule`](crate::model::schedule::Schedule) and times go in, occurrences come out; no clock is
//! read here, and nothing is remembered. [`Occurrences`] gives the instants, [`due`] decides about them. Planner,
//! daemon and views all use them, so that the daemon does what a plan announces.
//!
//! Local times are read as in RFC 5545 (section 3.3.5): a time that a change of the clock skips has the offset before
//! the change, and a time that comes twice is the first of both. The rules of time zones are those of jiff, which reads
//! the database of the system.

mod due;
mod occurrences;
#[cfg(test)]
mod tests;

pub use due::{Due, Instance, MissedWhy, ON_TIME, due};
pub use occurrences::Occurrences;
