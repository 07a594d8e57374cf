//! Recurrence: at which instants a schedule is due, and what is to be done about it now.
//!
//! A pure room: a [`Schedule`](crate::model::schedule::Schedule) and times go in, occurrences come out; no clock is read here, and nothing
//! is remembered. [`Occurrences`] says when, [`due`] what becomes of it: planner, daemon and views all ask here, so that what a plan
//! announces is what the daemon does.
//!
//! Local times are read as RFC 5545 (section 3.3.5) says: one that a change of the clock skips counts with the offset before the change,
//! one that comes twice is the first of both. The rules of time zones are those of jiff, which reads the database of the system.

mod due;
mod occurrences;
#[cfg(test)]
mod tests;

pub use due::{Due, Instance, MissedWhy, ON_TIME, due};
pub use occurrences::Occurrences;
