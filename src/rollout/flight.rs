//! A device that is being spoken to, or that waits to be.

use jiff::Timestamp;

/// Where a started device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Sent; the deadline is that of the response.
    Sent,
    /// Not connected; the deadline is that of the connection.
    Connecting,
    /// Tried and failed; the deadline is the next attempt, and the reason is what it becomes when there is none.
    Backoff { failed: crate::model::outcome::Reason },
    /// Not connected, and the job waits; the deadline is its expiry.
    WaitingOnline,
    /// Written, and the device has not acknowledged; the deadline is its expiry.
    Unacknowledged,
}

/// A started device that is not terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    pub phase: Phase,
    /// From 1.
    pub attempt: u32,
    pub started_at: Timestamp,
    pub deadline: Timestamp,
    /// An earlier attempt may have been executed, and nobody knows: its sent mark stays.
    pub is_in_doubt: bool,
}
