//! A device as a page of twins shows it, read where it is stored: a page has many, and most of each is passed on as it
//! is.

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::etag::etag_of;
use super::{DeviceKeys, Identity};
use crate::model::device::ConnectionState;
use crate::model::digest::Digest;

/// A device with what its twin shows beside it, while it is visited.
#[derive(Debug)]
pub struct TwinRow<'r> {
    pub device_id: &'r str,
    pub device_name: &'r str,
    pub template: Option<&'r str>,
    /// The path of an organization.
    pub organization: Option<&'r str>,
    pub blocked: bool,
    pub iot_edge: bool,
    pub connection_state: ConnectionState,
    pub last_activity: Option<Timestamp>,
    /// An object, as [`TwinRow::desired`] and [`TwinRow::reported`].
    pub tags: &'r RawValue,
    /// With the marks of its secrets.
    pub desired: &'r RawValue,
    pub desired_version: u64,
    pub reported: &'r RawValue,
    pub reported_version: u64,
    pub keys: DeviceKeys,
    /// As [`IdentityRow::status_reason`](super::IdentityRow::status_reason).
    pub status_reason: Option<&'r str>,
    /// As [`IdentityRow::status_updated`](super::IdentityRow::status_updated).
    pub status_updated: Option<Timestamp>,
    /// Messages that wait for the device.
    pub messages: u64,
}

impl TwinRow<'_> {
    /// Returns the ETag of the twin, as [`twin_etag`](super::twin_etag).
    pub fn etag(&self) -> String {
        etag_of(&Digest::of_json_texts([self.tags, self.desired]))
    }

    /// Returns the ETag of the identity.
    pub fn identity_etag(&self) -> String {
        Identity { is_blocked: self.blocked, iot_edge: self.iot_edge, keys: &self.keys }.etag()
    }
}
