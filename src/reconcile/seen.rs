//! A commit to reconcile.

use std::cell::Cell;

use jiff::Timestamp;

use crate::prepare::Files;

/// A commit to reconcile, as far as it can be used.
pub struct Seen<'w> {
    /// The commit: what is claimed names it, and what is committed later comes after it.
    pub head: String,
    pub files: Files<'w>,
    /// When what it declares was first seen.
    pub seen_at: Timestamp,
    /// What is held of it and what was found has been told.
    pub is_told: Cell<bool>,
}

impl<'w> Seen<'w> {
    /// Returns a commit that was seen now for the first time.
    pub fn new(head: String, files: Files<'w>, now: Timestamp) -> Seen<'w> {
        Seen { head, files, seen_at: now, is_told: Cell::new(false) }
    }
}
