//! Messages to devices, which wait in a queue until their device has acknowledged them.

use jiff::Timestamp;
use serde_json::Value;

/// A message to queue.
#[derive(Clone, PartialEq)]
pub struct NewMessage {
    /// As its sender names it.
    pub message_id: Option<String>,
    /// An object: what stands beside the body.
    pub properties: Value,
    /// At most [`limits::MESSAGE_BYTES_MAX`](crate::model::limits::MESSAGE_BYTES_MAX) bytes.
    pub body: Vec<u8>,
    /// From then on it is not delivered any more.
    pub expires_at: Timestamp,
}

/// A message that waits.
#[derive(Clone, PartialEq)]
pub struct QueuedMessage {
    /// Its number, which no other message of the registry had. A device gets the lower one first.
    pub sequence: i64,
    /// How often it was handed over, at most
    /// [`limits::DELIVERIES_MAX`](crate::model::limits::DELIVERIES_MAX) times.
    pub deliveries: u32,
    pub message: NewMessage,
}

/// What came of a message that was to be queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enqueued {
    /// It has this number.
    Queued(i64),
    /// The registry does not have the device.
    Unknown,
    /// As many wait already as a device may have.
    Full,
}

/// Leaves out what the sender says.
impl std::fmt::Debug for NewMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewMessage").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for QueuedMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let QueuedMessage { sequence, deliveries, .. } = self;
        f.debug_struct("QueuedMessage")
            .field("sequence", sequence)
            .field("deliveries", deliveries)
            .finish_non_exhaustive()
    }
}
