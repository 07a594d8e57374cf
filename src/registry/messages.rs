//! Messages to devices, which wait in a queue until their device has acknowledged them.

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::model::{limits, text};

/// A message as its sender gives it.
#[derive(Clone, Default, PartialEq)]
pub struct GivenMessage {
    pub message_id: Option<String>,
    /// Texts by the names that they have on the way to the device: `$.ct` for the content type, an own name for an own
    /// property.
    pub properties: Map<String, Value>,
    pub body: Vec<u8>,
    /// `None` for IoT Hub's hour.
    pub expires_at: Option<Timestamp>,
}

/// Why a message is not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageFault {
    #[error("the message has more than {} bytes", limits::MESSAGE_BYTES_MAX)]
    Body,
    #[error("the properties of the message have more than {} bytes", limits::MESSAGE_PROPERTIES_BYTES_MAX)]
    Properties,
    #[error("a property of the message has no name")]
    Name,
    #[error("a message expires in the future, and within {}", text::duration(limits::MESSAGE_LIFETIME_MAX))]
    Time,
}

impl MessageFault {
    /// Returns true when there is too much of it.
    pub fn is_size(self) -> bool {
        matches!(self, MessageFault::Body | MessageFault::Properties)
    }
}

impl GivenMessage {
    /// Returns the message as it is queued at a time.
    ///
    /// # Errors
    /// It is too large, or its time is over or too far away.
    pub fn checked(self, now: Timestamp) -> Result<NewMessage, MessageFault> {
        let GivenMessage { message_id, properties, body, expires_at } = self;
        if body.len() > limits::MESSAGE_BYTES_MAX {
            return Err(MessageFault::Body);
        }
        let size = |(name, value): (&String, &Value)| name.len() + value.as_str().map_or(0, str::len);
        let bytes = properties.iter().map(size).sum::<usize>() + message_id.as_ref().map_or(0, String::len);
        if bytes > limits::MESSAGE_PROPERTIES_BYTES_MAX {
            return Err(MessageFault::Properties);
        }
        if properties.keys().any(String::is_empty) {
            return Err(MessageFault::Name);
        }
        let in_time = |time| now.checked_add(time).map_err(|_| MessageFault::Time);
        let expires_at = expires_at.map_or_else(|| in_time(limits::MESSAGE_LIFETIME), Ok)?;
        if expires_at <= now || expires_at > in_time(limits::MESSAGE_LIFETIME_MAX)? {
            return Err(MessageFault::Time);
        }
        Ok(NewMessage { message_id, properties: Value::Object(properties), body, expires_at })
    }
}

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
impl std::fmt::Debug for GivenMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GivenMessage").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

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
