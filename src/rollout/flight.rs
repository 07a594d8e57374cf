//! Devices that are being spoken to, or wait for that.

use jiff::Timestamp;

/// The phase of a started device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A request was sent; the deadline is that of the response.
    Sent,
    /// Not connected; the deadline is that of the connection.
    Connecting,
    /// An attempt failed; the deadline is the next attempt. `failed` is the device's reason when there is no next
    /// attempt.
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
    /// The device may have executed an earlier attempt, which cannot be known: its sent mark stays.
    pub is_in_doubt: bool,
}
