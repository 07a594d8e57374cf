//! The way to the devices: requests go out, events come in.
//!
//! A link never blocks its caller and never reads a clock: the driver passes the time in and polls. A link with its own
//! thread wakes the driver when it has events; a link that knows the time of its next event returns it from
//! [`DeviceLink::due`].
//!
//! Events are of two kinds. Those with a [`Token`] answer a request. Those with a device's id (presence, reported
//! properties) come at any time, whether or not a request was sent: they are written to the registry first.

mod journal;
mod simulated;

pub use simulated::SimulatedDevices;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::digest::Digest;
use crate::model::fleet::LinkConfig;

/// A way to the devices.
pub trait DeviceLink {
    /// Takes a request. Its outcome is a later event, or never comes. What fails here is for the next poll to report:
    /// until then `due` returns a time, so that there is one.
    fn send(&mut self, now: Timestamp, request: Request);

    /// Returns what has happened by now, in the order in which it happened.
    ///
    /// # Errors
    /// The link itself failed; it has not spoken to devices since. Events of this call are lost, and the link is not
    /// used again: the runs are left as the journal has them, and the next round opens the link anew.
    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError>;

    /// Returns when to poll next; `None` when that is not known, and the link wakes the driver.
    fn due(&self) -> Option<Timestamp>;

    /// Returns the number of requests that are on their way to a device or back, without those that wait for a device
    /// to connect.
    fn under_way(&self) -> usize;

    /// Returns the latest time at which an answer to a sent request can be expected; `None` when no answer is expected
    /// any more. A process that ends before that time may miss an answer.
    fn expects_until(&self) -> Option<Timestamp>;
}

/// Wakes the driver, from any thread: a link has events that the driver does not know of.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Opens the way to the devices of a fleet. Paths in its settings are relative to `folder`, the fleet's. A link with a
/// thread of its own calls `wake` when it has events.
///
/// # Errors
/// The link cannot be opened.
pub fn open(config: &LinkConfig, folder: &Path, _wake: Wake) -> Result<Box<dyn DeviceLink>, LinkError> {
    match config {
        // The time of its next event is known.
        LinkConfig::Simulated(config) => Ok(Box::new(SimulatedDevices::new(config, folder)?)),
    }
}

/// Identifies a request; the answer carries the same token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    /// The number of the run in the journal.
    pub run_id: i64,
    /// The place of the device in the run's target, from 0.
    pub ordinal: u32,
    /// From 1.
    pub attempt: u32,
}

/// What a device is asked to do. Its values may be secrets: they are sent, and are not in its `Debug`.
#[derive(Clone, PartialEq)]
pub enum Ask {
    /// Execute a method and answer. An idempotent command may be sent again; a device that keeps a log of execution ids
    /// recognises it.
    Command { method: String, payload: Arc<Value>, is_idempotent: bool },
    /// Take over new desired properties, which the registry has, and report an acknowledgement for this version of them
    /// or a later one. A process that takes up a run sends it again, as attempt 1. A link whose devices cannot
    /// acknowledge may ignore it.
    Desired { patch: Arc<Value>, version: u64 },
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Command { method, .. } => f.debug_struct("Command").field("method", method).finish_non_exhaustive(),
            Ask::Desired { version, .. } => f.debug_struct("Desired").field("version", version).finish_non_exhaustive(),
        }
    }
}

/// One request to one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub token: Token,
    pub device_id: String,
    /// The same on every re-send, so that a device can recognise a command that it has executed.
    pub execution_id: Digest,
    pub ask: Ask,
}

/// An event from a device.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// The device answered a command with a status (an HTTP-like code) and a text that is not to be trusted.
    Answered { token: Token, code: u16, body: String },
    /// The device is not connected: the request was not delivered.
    NotDelivered { token: Token },
    /// The device has connected, or its connection is gone.
    Presence { device_id: String, is_online: bool, at: Timestamp },
    /// The device reported properties: a merge patch of its reported section.
    Reported { device_id: String, patch: Value, at: Timestamp },
}

/// A failure of the link itself, not of a device. Each link has its own variants.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the journal {path} of the simulated devices cannot be read or written")]
    Journal { path: String, source: std::io::Error },
}

impl LinkError {
    /// Returns what to do about it, a whole sentence.
    pub fn help(&self) -> &'static str {
        match self {
            LinkError::Journal { .. } => "Check the path in `spec.link.simulated.journal` and its permissions.",
        }
    }
}
