//! Identities of devices: who they are and how they prove it, one at a time, with the same rules in every store.

use jiff::Timestamp;
use serde_json::Value;

use super::{DeviceKeys, Identity};
use crate::model::device::ConnectionState;
use crate::model::digest::Digest;
use crate::model::subscriptions::Subscriptions;

/// Hex digits of a generation.
const GENERATION_DIGITS: usize = 16;

/// Which state of an identity a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMatch<'a> {
    /// There is none: the write makes the device.
    Absent,
    /// There is one, whatever it is.
    Any,
    /// There is one with this ETag.
    Etag(&'a str),
}

/// An identity to write. What stands behind `iot_edge` is for a device that is made; another one keeps what it has.
#[derive(Debug, Clone, PartialEq)]
pub struct NewIdentity {
    /// With the keys that an authentication by keys needs.
    pub keys: DeviceKeys,
    pub is_blocked: bool,
    /// Why it is blocked or not, for people.
    pub status_reason: Option<String>,
    pub iot_edge: bool,
    pub template: Option<String>,
    /// The path of an organization.
    pub organization: Option<String>,
    /// An object within the limits of its section, as [`NewIdentity::desired`].
    pub tags: Option<Value>,
    pub desired: Option<Value>,
}

/// What came of a write of an identity.
#[derive(Debug, PartialEq)]
pub enum IdentityWrite {
    /// The identity as it is now.
    Written(Box<IdentityRow>),
    Deleted,
    /// There is such a device already.
    Exists,
    /// The registry does not have the device.
    Unknown,
    /// The ETag is not that of the identity now.
    Stale,
}

/// A device without its twin. Its `Debug` has no keys.
#[derive(Debug, Clone, PartialEq)]
pub struct IdentityRow {
    pub device_id: String,
    pub connection_state: ConnectionState,
    pub last_activity: Option<Timestamp>,
    pub blocked: bool,
    pub iot_edge: bool,
    pub keys: DeviceKeys,
    /// As [`Identity::etag`]; the reason of the status is not in it.
    pub etag: String,
    /// 16 hex digits: other ones when a device is made anew under the same id by [`Change::PutIdentity`]. Those of a
    /// device that an import brought are made from its id.
    ///
    /// [`Change::PutIdentity`]: super::Change::PutIdentity
    pub generation_id: String,
    /// Why it is blocked or not, for people; untrusted.
    pub status_reason: Option<String>,
    /// When it was blocked or unblocked last, other than by an import.
    pub status_updated: Option<Timestamp>,
    /// What its session listens to, also while it is not connected; `None` for a device that has none.
    pub subscriptions: Option<Subscriptions>,
}

/// How many devices there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    pub total: u64,
    /// Those that are not blocked.
    pub enabled: u64,
    /// Those that are blocked.
    pub disabled: u64,
    pub connected: u64,
}

impl Statistics {
    pub(super) fn of(total: u64, disabled: u64, connected: u64) -> Statistics {
        Statistics { total, enabled: total.saturating_sub(disabled), disabled, connected }
    }
}

/// The columns of an identity: a device, the rows of its status and its session, and its keys.
pub(super) struct Columns {
    pub device_id: String,
    pub connection_state: ConnectionState,
    pub last_activity: Option<Timestamp>,
    pub blocked: bool,
    pub iot_edge: bool,
    pub generation: Option<String>,
    pub status_reason: Option<String>,
    pub status_updated: Option<Timestamp>,
    pub subscriptions: Option<Subscriptions>,
    pub keys: DeviceKeys,
}

impl Columns {
    /// Returns the identity; `registry` is which registry it is in.
    pub fn into_row(self, registry: &str) -> IdentityRow {
        let etag = Identity { is_blocked: self.blocked, iot_edge: self.iot_edge, keys: &self.keys }.etag();
        IdentityRow {
            generation_id: self.generation.unwrap_or_else(|| generation_of([registry, &self.device_id])),
            device_id: self.device_id,
            connection_state: self.connection_state,
            last_activity: self.last_activity,
            blocked: self.blocked,
            iot_edge: self.iot_edge,
            keys: self.keys,
            etag,
            status_reason: self.status_reason,
            status_updated: self.status_updated,
            subscriptions: self.subscriptions,
        }
    }
}

impl NewIdentity {
    /// Returns the word of the state that a new device begins with.
    pub(super) fn state(&self) -> &'static str {
        if self.template.is_some() { "registered" } else { "unassociated" }
    }

    /// Returns true when the write changes the status of a device, `None` of a new one, or its reason.
    pub(super) fn changes_status(&self, before: Option<&IdentityRow>) -> bool {
        let (was_blocked, reason) = before.map_or((false, &None), |row| (row.blocked, &row.status_reason));
        was_blocked != self.is_blocked || *reason != self.status_reason
    }
}

/// Returns why an identity is not written; `None` when it is.
pub(super) fn refused(found: Option<&IdentityRow>, if_match: IfMatch<'_>) -> Option<IdentityWrite> {
    match (found, if_match) {
        (Some(_), IfMatch::Absent) => Some(IdentityWrite::Exists),
        (None, IfMatch::Any | IfMatch::Etag(_)) => Some(IdentityWrite::Unknown),
        (Some(row), IfMatch::Etag(etag)) if row.etag != etag => Some(IdentityWrite::Stale),
        (None, IfMatch::Absent) | (Some(_), IfMatch::Any | IfMatch::Etag(_)) => None,
    }
}

/// Returns the generation of a device that is made in a registry at a time.
pub(super) fn new_generation(registry: &str, device_id: &str, at: Timestamp) -> String {
    generation_of([registry, device_id, &at.to_string()])
}

fn generation_of<const N: usize>(texts: [&str; N]) -> String {
    Digest::of_texts(texts).to_string()[..GENERATION_DIGITS].to_string()
}
