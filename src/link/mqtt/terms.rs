//! What a client of a broker is told, and what it tells.

use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;

/// The version of MQTT that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V5,
    V311,
}

/// Who connects, where and how.
#[derive(Clone)]
pub struct ClientOptions {
    pub host: String,
    pub port: u16,
    /// `None` for a connection that is not encrypted.
    pub tls: Option<Arc<ClientConfig>>,
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    /// How long the broker keeps the session without a connection, in seconds; 0 begins a new one each time. A broker
    /// of MQTT 3.1.1 keeps it for as long as it likes.
    pub session_seconds: u32,
    /// Begin a new session, whatever the broker has kept.
    pub is_new_session: bool,
    /// The topic and the payload of a retained last will.
    pub will: Option<(String, Vec<u8>)>,
    /// Bytes of the largest packet that is taken.
    pub packet_bytes_max: u32,
    /// The most messages that the broker may send without an acknowledgement. A client that takes few reads little at
    /// once.
    pub receive_max: u16,
}

/// A message to be published with QoS 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    pub topic: String,
    pub payload: Arc<[u8]>,
    pub is_retained: bool,
    /// Seconds after which the broker need not deliver it any more; MQTT 3.1.1 knows none.
    pub expires_after: Option<u32>,
}

/// What has come from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    Message {
        topic: String,
        payload: Vec<u8>,
        is_retained: bool,
        /// To be acknowledged; `None` for QoS 0.
        packet_id: Option<u16>,
    },
    /// The broker has a publication; `is_refused` when it will not deliver it, `has_nobody` when nobody subscribes to it.
    Acknowledged { packet_id: u16, is_refused: bool, has_nobody: bool },
    /// The answer to a subscription: whether all filters were granted.
    Subscribed { packet_id: u16, is_granted: bool },
}
