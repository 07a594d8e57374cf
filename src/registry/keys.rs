//! What a device proves who it is with.

use crate::model::device::Authentication;

/// The credentials of a device, as an export shows them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DeviceKeys {
    pub authentication: Authentication,
    pub primary_key: Option<Vec<u8>>,
    pub secondary_key: Option<Vec<u8>>,
    pub primary_thumbprint: Option<String>,
    pub secondary_thumbprint: Option<String>,
}

/// Leaves the keys out.
impl std::fmt::Debug for DeviceKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeviceKeys").field("authentication", &self.authentication).finish_non_exhaustive()
    }
}
