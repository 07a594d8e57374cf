//! New devices that register themselves, as with Azure's Device Provisioning Service: with a key that was derived from
//! the one of a group.
//!
//! The key of a device is `HMAC-SHA256(key of the group, registration id)`. Source: Microsoft, "Symmetric key
//! attestation". An identity is made when a device registers for the first time; a second registration finds it as it
//! is. No commit is made: identities hold keys.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::Value;
use sha2::Sha256;

use super::desk::Desk;
use super::devices::{Noted, commit_identity};
use super::{Caller, HubError};
use crate::link::SasToken;
use crate::model::device::Authentication;
use crate::model::hub::{EnrolmentGroup, Provisioning};
use crate::model::id::DeviceId;
use crate::model::text::sanitize_line;
use crate::registry::{Change, DeviceKeys, IdentityRow, IdentityWrite, IfMatch, NewIdentity};

/// A device that has registered.
#[derive(Debug, Clone)]
pub struct Registration {
    pub identity: IdentityRow,
    /// The hub that it belongs to, without a port.
    pub host_name: String,
    /// It was not there before.
    pub is_new: bool,
}

/// Why a device cannot register. It is told the status and no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRegistered {
    #[error("no devices register here")]
    Off,
    #[error("the scope is another one than `provisioning.idScope`")]
    Scope,
    #[error("the registration id is not legal")]
    Id,
    #[error("the token is not signed with a key of a group, derived for the device")]
    Token,
    #[error("the device has not registered")]
    Never,
    #[error("the device is disabled")]
    Disabled,
}

/// How a device proves which one it is.
enum Proof<'a> {
    /// With a key that was derived from one of a group: the keys of the device, and the group.
    Group(Vec<Vec<u8>>, &'a EnrolmentGroup),
    /// With a key that it has already.
    Own,
}

impl Desk<'_> {
    /// Finds a device registered, or with `makes` registers it: `authorization` is what it signs with.
    ///
    /// # Errors
    /// The registry cannot be read or written. Who is not let in is in the result.
    pub fn register(
        &mut self,
        (scope, id): (&str, &str),
        makes: bool,
        (authorization, address): (&str, &str),
        now: Timestamp,
    ) -> Result<Result<Registration, NotRegistered>, HubError> {
        let config = self.config()?;
        let Some(provisioning) = config.api.provisioning else { return Ok(Err(NotRegistered::Off)) };
        if provisioning.id_scope != scope {
            return Ok(Err(NotRegistered::Scope));
        }
        // Registration ids are compared without case.
        let id = id.to_ascii_lowercase();
        if DeviceId::parse(&id).is_err() {
            return Ok(Err(NotRegistered::Id));
        }
        let known = self.registry()?.devices().identity(&id)?;
        let Some(proof) = self.proof(&provisioning, &id, authorization, known.as_ref(), now) else {
            return Ok(Err(NotRegistered::Token));
        };
        let registered = |identity, is_new| Registration { identity, host_name: config.host_name.clone(), is_new };
        match (known, proof) {
            (Some(known), _) if known.blocked => Ok(Err(NotRegistered::Disabled)),
            (Some(known), _) => Ok(Ok(registered(known, false))),
            (None, Proof::Own) => Ok(Err(NotRegistered::Token)),
            (None, Proof::Group(..)) if !makes => Ok(Err(NotRegistered::Never)),
            (None, Proof::Group(keys, group)) => {
                let identity = self.made(&id, keys, group, address, now)?;
                tracing::info!(device = %sanitize_line(&id), %address, "a new device has registered");
                Ok(Ok(registered(identity, true)))
            }
        }
    }

    /// Returns how a device proves which one it is; `None` when it does not.
    fn proof<'p>(
        &self,
        provisioning: &'p Provisioning,
        id: &str,
        authorization: &str,
        known: Option<&IdentityRow>,
        now: Timestamp,
    ) -> Option<Proof<'p>> {
        let token = SasToken::parse(authorization)?;
        if token.ends_at <= now.as_second() || !token.covers_registration(&provisioning.id_scope, id) {
            return None;
        }
        for (name, group) in &provisioning.groups {
            let keys = match self.workspace.keys_of_hub(&group.primary, group.secondary.as_ref()) {
                Ok(keys) => keys,
                Err(fault) => {
                    tracing::warn!(group = %sanitize_line(name), %fault, "an enrolment group cannot be used");
                    continue;
                }
            };
            let derived: Vec<Vec<u8>> = keys.iter().map(|key| derived(key, id)).collect();
            if derived.iter().fold(false, |is_signed, key| token.is_signed_with(key) | is_signed) {
                return Some(Proof::Group(derived, group));
            }
        }
        let own = known.filter(|known| known.keys.authentication == Authentication::Sas)?;
        let keys = own.keys.primary_key.iter().chain(&own.keys.secondary_key);
        keys.fold(false, |is_signed, key| token.is_signed_with(key) | is_signed).then_some(Proof::Own)
    }

    fn made(
        &mut self,
        id: &str,
        keys: Vec<Vec<u8>>,
        group: &EnrolmentGroup,
        address: &str,
        now: Timestamp,
    ) -> Result<IdentityRow, HubError> {
        let declared = self.declared()?;
        let organization = group.organization.as_deref().and_then(|name| {
            let last = name.rsplit('/').next().unwrap_or(name);
            declared.organizations.values().find(|one| one.name.as_str() == last).map(|one| one.path.clone())
        });
        let mut keys = keys.into_iter();
        let (primary_key, secondary_key) = (keys.next(), keys.next());
        let identity = NewIdentity {
            keys: DeviceKeys {
                authentication: Authentication::Sas,
                secondary_key: secondary_key.or_else(|| primary_key.clone()),
                primary_key,
                ..DeviceKeys::default()
            },
            is_blocked: false,
            status_reason: None,
            iot_edge: false,
            template: group.template.clone(),
            organization,
            tags: Some(Value::Object(group.tags.clone())),
            desired: None,
        };
        let caller = Caller {
            policy: "provisioning".to_string(),
            address: address.to_string(),
            devices_max: None,
            request_id: String::new(),
        };
        let mut registry = self.registry_to_write()?;
        let write = Change::PutIdentity { device_id: id, if_match: IfMatch::Absent, identity: &identity, at: now };
        match commit_identity(&mut registry, write, &Noted::new("register", id, "", &caller), now)? {
            IdentityWrite::Written(row) => Ok(*row),
            // The same device, at the same moment.
            _ => registry.devices().identity(id)?.ok_or_else(|| HubError::NoDevice(crate::diag::shown(id))),
        }
    }
}

/// Returns the key of a device of a group.
pub fn derived(key: &[u8], id: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length is one for HMAC");
    mac.update(id.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `printf 'sn-007' | openssl dgst -sha256 -hmac "group key" -hex`.
    #[test]
    fn the_key_of_a_device_is_that_of_openssl() {
        let hex = crate::model::encoding::hex(&derived(b"group key", "sn-007"));
        assert_eq!(hex.len(), 64);
        assert_eq!(hex, OPENSSL);
    }

    const OPENSSL: &str = "f5a37ce2fff2741f6eaf4e8929626fad55b3d27fb03e5f7966b171b76adf824c";
}
