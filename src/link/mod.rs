//! The way to the devices: requests go out, reports come back later.
//!
//! A link never blocks and never looks at a clock: the driver passes the time in, asks when something is due and polls.
//! The simulated devices are the only link so far; the one over MQTT will have the same face.

mod journal;
mod simulated;

pub use simulated::SimulatedDevices;

use std::sync::Arc;

use serde_json::Value;

use crate::model::digest::Digest;

/// What a device is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Execute a method and answer. One that is idempotent may be sent again, and a device that keeps a log of execution ids
    /// recognises it.
    Command { method: String, payload: Arc<Value>, is_idempotent: bool },
    /// Take over new desired properties, which the registry has, and report an acknowledgement for this version of them or a later one.
    Desired { patch: Arc<Value>, version: u64 },
}

/// One request to one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// Which of the driver's runs it belongs to; comes back with the report.
    pub run_id: i64,
    pub ordinal: u32,
    pub attempt: u32,
    pub device_id: String,
    /// The same on every re-send, so that a device can recognise a command that it has executed.
    pub execution_id: Digest,
    pub ask: Ask,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub run_id: i64,
    pub ordinal: u32,
    pub kind: ReportKind,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum ReportKind {
    /// The device answered a command with a status (an HTTP-like code) and a text that is not to be trusted.
    Answered { code: u16, message: String },
    /// The device reported properties: a merge patch of its reported section.
    Reported { patch: Value },
    /// The device is not connected: nothing was delivered.
    Unreachable,
    /// A device that was not connected is now.
    Connected,
}

/// A failure of the link itself, not of a device.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the journal {path} of the simulated devices cannot be read or written")]
    Journal { path: String, source: std::io::Error },
}
