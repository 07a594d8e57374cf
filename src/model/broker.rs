//! An MQTT broker, and how to connect to it.

use super::secret::SecretRef;

/// Devices behind an MQTT broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MqttLinkConfig {
    pub host: String,
    pub port: u16,
    /// The connection is encrypted and the broker's certificate checked.
    pub is_tls: bool,
    pub username: Option<SecretRef>,
    pub password: Option<SecretRef>,
    /// PEM files, absolute or relative to the fleet's folder. Without `ca` the system's authorities are trusted.
    pub ca: Option<String>,
    pub client_certificate: Option<String>,
    pub client_key: Option<String>,
    /// What all topics begin with, without a slash at its end.
    pub topic_prefix: String,
    /// From 1.
    pub connections: u32,
}
