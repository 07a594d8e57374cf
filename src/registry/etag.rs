//! ETags of devices: digests of their content, so that the same content has the same ETag in every registry.

use base64::Engine as _;
use serde_json::Value;

use super::DeviceKeys;
use crate::model::digest::Digest;

/// The content of an identity ETag.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    pub is_blocked: bool,
    pub iot_edge: bool,
    pub keys: &'a DeviceKeys,
}

impl Identity<'_> {
    /// Returns the ETag of the identity: a digest of its status, its capabilities and its credentials.
    pub fn etag(&self) -> String {
        let DeviceKeys { authentication, primary_key, secondary_key, primary_thumbprint, secondary_thumbprint } =
            self.keys;
        let text =
            |key: &Option<Vec<u8>>| key.as_ref().map(|key| base64::engine::general_purpose::STANDARD.encode(key));
        // An array without objects has one form as JSON.
        let content = serde_json::to_vec(&(
            self.is_blocked,
            self.iot_edge,
            authentication.as_str(),
            text(primary_key),
            text(secondary_key),
            primary_thumbprint,
            secondary_thumbprint,
        ));
        etag_of(&Digest::of_bytes(&content.expect("texts are JSON")))
    }
}

/// Returns the ETag of a twin: a digest of its tags and desired properties.
pub fn twin_etag(tags: &Value, desired: &Value) -> String {
    etag_of(&Digest::of_json_items([tags, desired]))
}

/// 64 bits are enough to notice a change, and too few to say anything about a key.
pub(super) fn etag_of(content: &Digest) -> String {
    format!("{:016x}", content.seed())
}
