//! New devices that register themselves, as with Azure's Device Provisioning Service: with a key that was derived from
//! the one of a group, or with a certificate of the group's authority. A device that is there already may register with
//! what it logs in with: that is an individual enrolment.
//!
//! The key of a device is `HMAC-SHA256(key of the group, registration id)`. Source: Microsoft, "Symmetric key
//! attestation". An identity is made when a device registers for the first time; a second registration finds it as it
//! is. No commit is made: identities hold keys.

use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::desk::Desk;
use super::devices::{Noted, commit_identity};
use super::{Caller, HubError};
use crate::link::SasToken;
use crate::model::device::Authentication;
use crate::model::encoding::hex;
use crate::model::hub::{Attestation, EnrolmentGroup, HubLinkConfig, Provisioning};
use crate::model::id::DeviceId;
use crate::model::text::sanitize_line;
use crate::registry::{Change, DeviceKeys, IdentityRow, IdentityWrite, IfMatch, NewIdentity};
use crate::tls::{Authorities, TlsError, common_name};

/// New devices of a group in a minute.
const NEW_PER_MINUTE_MAX: u32 = 200;

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
    #[error("the token is not signed with a key of a group, derived for the device, or with one of its own")]
    Token,
    #[error("the certificate is signed by no authority of a group, or is not good now, or not for clients")]
    Certificate,
    #[error("the common name of the certificate is not the registration id in lower case")]
    CommonName,
    #[error("the device shows neither a token nor a certificate")]
    Nothing,
    #[error("the device has not registered")]
    Never,
    #[error("the device is disabled")]
    Disabled,
    #[error("the group has had 200 new devices within a minute")]
    TooMany {
        /// In how many seconds there may be more.
        seconds: u32,
    },
}

impl NotRegistered {
    /// Returns true for who does not prove that it is a device that may register.
    pub fn is_failed_login(self) -> bool {
        !matches!(self, NotRegistered::Never | NotRegistered::Disabled | NotRegistered::TooMany { .. })
    }
}

/// What a device shows when it registers.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    /// What it signs with; `None` for one that has a certificate.
    pub token: Option<&'a str>,
    /// The certificate that it has the key of, and those that it has shown with it.
    pub chain: &'a [CertificateDer<'a>],
    /// Where it comes from.
    pub address: &'a str,
}

/// How a device proves which one it is.
enum Proof<'a> {
    /// As one of a group; with the keys that were derived for it, or none for one with a certificate.
    Group(Vec<Vec<u8>>, (&'a str, &'a EnrolmentGroup)),
    /// With what it logs in with already.
    Own,
}

impl Desk<'_> {
    /// Finds a device registered, or with `makes` registers it.
    ///
    /// # Errors
    /// The registry cannot be read or written. Who is not let in is in the result.
    pub fn register(
        &mut self,
        (scope, id): (&str, &str),
        makes: bool,
        shown: Shown<'_>,
        now: Timestamp,
    ) -> Result<Result<Registration, NotRegistered>, HubError> {
        let config = self.config()?;
        let Some(provisioning) = &config.api.provisioning else { return Ok(Err(NotRegistered::Off)) };
        if provisioning.id_scope != scope {
            return Ok(Err(NotRegistered::Scope));
        }
        // Registration ids are compared without case.
        let id = id.to_ascii_lowercase();
        if DeviceId::parse(&id).is_err() {
            return Ok(Err(NotRegistered::Id));
        }
        let known = self.registry()?.devices().identity(&id)?;
        let proof = match (shown.token, shown.chain) {
            (Some(token), _) => self.signed(provisioning, &id, token, known.as_ref(), now),
            (None, []) => Err(NotRegistered::Nothing),
            (None, chain) => self.certified(&config, &id, chain, known.as_ref(), now),
        };
        let registered = |identity, is_new| Registration { identity, host_name: config.host_name.clone(), is_new };
        Ok(match (known, proof) {
            (_, Err(reason)) => Err(reason),
            (Some(known), Ok(_)) if known.blocked => Err(NotRegistered::Disabled),
            (Some(known), Ok(_)) => Ok(registered(known, false)),
            (None, Ok(Proof::Own)) => Err(NotRegistered::Token),
            (None, Ok(Proof::Group(..))) if !makes => Err(NotRegistered::Never),
            (None, Ok(Proof::Group(keys, (name, group)))) => match self.take_place(name, now) {
                Err(reason) => Err(reason),
                Ok(()) => {
                    let identity = self.made(&id, keys, group, shown.address, now)?;
                    let (device, address) = (sanitize_line(&id), shown.address);
                    tracing::info!(%device, group = %sanitize_line(name), %address, "a new device has registered");
                    Ok(registered(identity, true))
                }
            },
        })
    }

    /// Takes one of the new devices that a group may have now.
    fn take_place(&mut self, group: &str, now: Timestamp) -> Result<(), NotRegistered> {
        let (since, count) = self.new_devices.entry(group.to_string()).or_insert((now, 0));
        let passed = now.as_second().saturating_sub(since.as_second());
        if !(0..60).contains(&passed) {
            (*since, *count) = (now, 0);
        }
        if *count >= NEW_PER_MINUTE_MAX {
            let seconds = u32::try_from(60 - passed.clamp(0, 59)).unwrap_or(60);
            return Err(NotRegistered::TooMany { seconds });
        }
        *count += 1;
        Ok(())
    }

    /// Returns how a device with a token proves which one it is.
    fn signed<'p>(
        &self,
        provisioning: &'p Provisioning,
        id: &str,
        token: &str,
        known: Option<&IdentityRow>,
        now: Timestamp,
    ) -> Result<Proof<'p>, NotRegistered> {
        let token = SasToken::parse(token).ok_or(NotRegistered::Token)?;
        if token.ends_at <= now.as_second() || !token.covers_registration(&provisioning.id_scope, id) {
            return Err(NotRegistered::Token);
        }
        for (name, group) in &provisioning.groups {
            let Attestation::Keys { primary, secondary } = &group.attestation else { continue };
            let keys = match self.workspace.keys_of_hub(primary, secondary.as_ref()) {
                Ok(keys) => keys,
                Err(fault) => {
                    warn_of(name, &fault);
                    continue;
                }
            };
            let derived: Vec<Vec<u8>> = keys.iter().map(|key| derived(key, id)).collect();
            if derived.iter().fold(false, |is_signed, key| token.is_signed_with(key) | is_signed) {
                return Ok(Proof::Group(derived, (name, group)));
            }
        }
        let own = known.filter(|known| known.keys.authentication == Authentication::Sas).ok_or(NotRegistered::Token)?;
        let keys = own.keys.primary_key.iter().chain(&own.keys.secondary_key);
        let is_signed = keys.fold(false, |is_signed, key| token.is_signed_with(key) | is_signed);
        is_signed.then_some(Proof::Own).ok_or(NotRegistered::Token)
    }

    /// Returns how a device with a certificate proves which one it is.
    fn certified<'p>(
        &self,
        config: &'p HubLinkConfig,
        id: &str,
        chain: &[CertificateDer<'_>],
        known: Option<&IdentityRow>,
        now: Timestamp,
    ) -> Result<Proof<'p>, NotRegistered> {
        let own = known.map(|known| &known.keys);
        if own.is_some_and(|own| own.authentication == Authentication::SelfSigned && is_print_of(own, &chain[0])) {
            return Ok(Proof::Own);
        }
        let is_named = common_name(&chain[0]).is_some_and(|name| name == id);
        let now = u64::try_from(now.as_second()).unwrap_or_default();
        let has_signed = |files: &[String]| -> Result<bool, TlsError> {
            let files: Vec<_> = files.iter().map(|file| self.workspace.repo.folder().join(file)).collect();
            Ok(Authorities::read(&files)?.is_some_and(|authorities| authorities.check(chain, now).is_ok()))
        };
        let signed_by = |name: &str, files: &[String]| {
            has_signed(files).unwrap_or_else(|fault| {
                warn_of(name, &fault.to_string());
                false
            })
        };
        let named = |proof| if is_named { Ok(proof) } else { Err(NotRegistered::CommonName) };
        for (name, group) in config.api.provisioning.iter().flat_map(|provisioning| &provisioning.groups) {
            if let Attestation::Authority { file } = &group.attestation
                && signed_by(name, std::slice::from_ref(file))
            {
                return named(Proof::Group(Vec::new(), (name, group)));
            }
        }
        let is_own = own.is_some_and(|own| own.authentication == Authentication::CertificateAuthority);
        if is_own && signed_by("deviceAuthorities", &config.device_authorities) {
            return named(Proof::Own);
        }
        Err(NotRegistered::Certificate)
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
        let authentication = match &group.attestation {
            Attestation::Keys { .. } => Authentication::Sas,
            Attestation::Authority { .. } => Authentication::CertificateAuthority,
        };
        let mut keys = keys.into_iter();
        let (primary_key, secondary_key) = (keys.next(), keys.next());
        let identity = NewIdentity {
            keys: DeviceKeys {
                authentication,
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

/// Returns true for a certificate that a device is registered with by its thumbprint.
fn is_print_of(own: &DeviceKeys, certificate: &CertificateDer<'_>) -> bool {
    let prints = [hex(&Sha1::digest(certificate)), hex(&Sha256::digest(certificate))];
    let mut known = own.primary_thumbprint.iter().chain(&own.secondary_thumbprint);
    known.any(|known| prints.iter().any(|print| print.eq_ignore_ascii_case(known)))
}

fn warn_of(group: &str, fault: &str) {
    let (group, fault) = (sanitize_line(group), sanitize_line(fault));
    tracing::warn!(%group, %fault, "an enrolment group cannot be used");
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
