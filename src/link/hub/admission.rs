//! Who a device is, by what it says when it connects; pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::dialect::Dialect;
use super::token::{SasToken, is_host};
use crate::link::{Identity, PolicyKeys};
use crate::model::device::Authentication;
use crate::model::encoding::hex;
use crate::model::limits;
use crate::tls::{Authorities, Untrusted, common_name};

/// What a device says when it connects.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    pub client_id: &'a str,
    /// `{host}/{device}/?api-version=…`, or `{device}`.
    pub username: Option<&'a str>,
    pub will_topic: Option<&'a str>,
}

/// Why a device is not let in. It is told nothing of this: the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the user name is neither `HOST/DEVICE/?api-version=…` nor the id of the device")]
    Username,
    #[error("the user name has another host name than `spec.link.iotHub.hostName`")]
    Host,
    #[error("the client id is not the device id of the user name")]
    ClientId,
    #[error("the last will has a topic of something else than its own telemetry or presence")]
    Will,
    #[error("the registry has no such device")]
    Unknown,
    #[error("the device is blocked")]
    Blocked,
    #[error("the device logs in with a certificate, and showed a token or nothing")]
    NoCertificate,
    #[error("the certificate is none of the device's: its thumbprint is another one")]
    Thumbprint,
    #[error("the device logs in with a certificate of an authority, and `deviceAuthorities` names none")]
    Authority,
    #[error("the certificate is signed by no authority of `deviceAuthorities`")]
    Chain,
    #[error("the certificate, or one that signed it, is over or not good yet")]
    Time,
    #[error("the certificate is not one for clients: its extended key usage lacks clientAuth")]
    Purpose,
    #[error("the common name of the certificate is not the device id")]
    CommonName,
    #[error("the certificate is X.509 of version 1 or 2: give the device one of version 3, such as with extensions")]
    Version,
    #[error("the device has neither keys nor a thumbprint, so it cannot log in")]
    Authentication,
    #[error("the password is no shared access signature, and no key of a user name that is an id")]
    Token,
    #[error("the policy of the token does not exist, or does not have the right deviceConnect")]
    Policy,
    #[error("the token is not signed with a key of its policy")]
    PolicyKey,
    #[error("the token is for another resource")]
    Resource,
    #[error("the token is over")]
    Expired,
    #[error("the token is not signed with a key of the device, or the password is none of its keys")]
    Key,
}

/// Returns the id of the device that wants to connect, and the topics that it speaks with.
///
/// # Errors
/// The user name, the client id or the last will is not that of a device of this hub.
pub fn named(host_name: &str, hello: Hello<'_>) -> Result<(Dialect, String), Refusal> {
    let username = hello.username.ok_or(Refusal::Username)?;
    let dialect = Dialect::of(username);
    let (host, device_id) = match dialect {
        Dialect::Own => (host_name, username),
        Dialect::Hub => {
            let mut parts = username.splitn(3, '/');
            let (Some(host), Some(device_id)) = (parts.next(), parts.next()) else { return Err(Refusal::Username) };
            (host, device_id)
        }
    };
    if device_id.is_empty() || device_id.chars().count() > limits::DEVICE_ID_CHARS_MAX {
        return Err(Refusal::Username);
    }
    if !is_host(host_name, host) {
        return Err(Refusal::Host);
    }
    if hello.client_id != device_id {
        return Err(Refusal::ClientId);
    }
    if hello.will_topic.is_some_and(|topic| !dialect.is_of_will(device_id, topic)) {
        return Err(Refusal::Will);
    }
    Ok((dialect, device_id.to_string()))
}

/// What a device proves who it is with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Proof<'a> {
    /// A token.
    pub password: Option<&'a [u8]>,
    /// The password may be a key of the device itself, in Base64.
    pub takes_keys: bool,
    /// The certificate that it has the key of, and those that it has shown with it.
    pub chain: &'a [CertificateDer<'a>],
    /// Who may have signed it.
    pub authorities: Option<&'a Authorities>,
    /// Whose tokens are taken for any device.
    pub policies: Option<&'a PolicyKeys>,
}

/// How a device was let in.
#[derive(Debug, PartialEq, Eq)]
pub struct Admitted {
    /// Until when, in seconds since 1970; `None` for as long as it likes.
    pub ends_at: Option<i64>,
    pub credential: Credential,
}

/// What a device was let in with, without the secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// The digest of a key of the device.
    Key([u8; 32]),
    /// The digest of a key of a policy.
    Policy([u8; 32]),
    /// The thumbprint of a certificate, as it is registered.
    Thumbprint(String),
    /// The signature of an authority.
    Authority,
}

impl Credential {
    /// Returns true when a device with this identity is let in with it, beside these policies.
    pub fn is_of(&self, identity: &Identity, policies: &PolicyKeys) -> bool {
        let is_same = match (self, identity.authentication) {
            (Credential::Key(digest), Authentication::Sas) => identity.keys.iter().any(|key| digest_of(key) == *digest),
            (Credential::Policy(digest), Authentication::Sas) => {
                policies.0.values().flatten().any(|key| digest_of(key) == *digest)
            }
            (Credential::Thumbprint(print), Authentication::SelfSigned) => identity.thumbprints.contains(print),
            (Credential::Authority, Authentication::CertificateAuthority) => true,
            _ => false,
        };
        is_same && !identity.is_blocked
    }
}

fn digest_of(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Returns how a device is let in. It is let in with what it is registered with, and nothing else. An unknown device
/// takes as long as a wrong key.
///
/// # Errors
/// It is not the one that it says.
pub fn admitted(
    names: (&str, &str),
    proof: Proof<'_>,
    identity: Option<&Identity>,
    now: i64,
) -> Result<Admitted, Refusal> {
    let admitted = match identity.map(|identity| (identity, identity.authentication)) {
        Some((identity, Authentication::SelfSigned)) => {
            let shown = proof.chain.first().ok_or(Refusal::NoCertificate)?;
            let prints = [hex(&Sha1::digest(shown)), hex(&Sha256::digest(shown))];
            let is_own = |known: &String| prints.iter().any(|print| print.eq_ignore_ascii_case(known));
            let print = identity.thumbprints.iter().find(|known| is_own(known)).ok_or(Refusal::Thumbprint)?;
            Admitted { ends_at: None, credential: Credential::Thumbprint(print.clone()) }
        }
        Some((_, Authentication::CertificateAuthority)) => vouched_for(names.1, proof, now)?,
        Some((_, Authentication::None)) => return Err(Refusal::Authentication),
        Some((_, Authentication::Sas)) | None => signed(names, proof, identity, now)?,
    };
    if identity.is_some_and(|identity| identity.is_blocked) { Err(Refusal::Blocked) } else { Ok(admitted) }
}

/// Returns how a device is let in with a certificate of an authority.
fn vouched_for(device_id: &str, proof: Proof<'_>, now: i64) -> Result<Admitted, Refusal> {
    let shown = proof.chain.first().ok_or(Refusal::NoCertificate)?;
    let authorities = proof.authorities.ok_or(Refusal::Authority)?;
    authorities.check(proof.chain, u64::try_from(now).unwrap_or_default()).map_err(|why| match why {
        Untrusted::Chain => Refusal::Chain,
        Untrusted::Time => Refusal::Time,
        Untrusted::Purpose => Refusal::Purpose,
    })?;
    match common_name(shown) {
        Some(name) if name == device_id => Ok(Admitted { ends_at: None, credential: Credential::Authority }),
        _ => Err(Refusal::CommonName),
    }
}

/// Returns how a device is let in with a token.
fn signed(
    (host_name, device_id): (&str, &str),
    proof: Proof<'_>,
    identity: Option<&Identity>,
    now: i64,
) -> Result<Admitted, Refusal> {
    let text = proof.password.and_then(|password| std::str::from_utf8(password).ok()).ok_or(Refusal::Token)?;
    let Some(token) = SasToken::parse(text) else {
        let key = STANDARD.decode(text).ok().filter(|key| proof.takes_keys && !key.is_empty());
        return keyed(&key.ok_or(Refusal::Token)?, identity);
    };
    if !token.covers(host_name, device_id) {
        return Err(Refusal::Resource);
    }
    let nobody = vec![vec![0; 32]];
    let of_policy = token.policy.as_ref().map(|name| proof.policies.and_then(|policies| policies.0.get(name)));
    let keys = match of_policy {
        Some(keys) => keys.unwrap_or(&nobody),
        None => identity.map_or(&nobody, |identity| &identity.keys),
    };
    // Both keys are tried, whichever it is.
    let signed = keys.iter().fold(None, |signed, key| if token.is_signed_with(key) { Some(key) } else { signed });
    let credential = match (of_policy, signed) {
        (Some(None), _) => return Err(Refusal::Policy),
        (Some(Some(_)), None) => return Err(Refusal::PolicyKey),
        _ if identity.is_none() => return Err(Refusal::Unknown),
        (None, None) => return Err(Refusal::Key),
        (Some(Some(_)), Some(key)) => Credential::Policy(digest_of(key)),
        (None, Some(key)) => Credential::Key(digest_of(key)),
    };
    if token.ends_at <= now { Err(Refusal::Expired) } else { Ok(Admitted { ends_at: Some(token.ends_at), credential }) }
}

/// Returns how a device is let in with a key that it has shown. Digests are compared: how long that takes says nothing
/// of the key.
fn keyed(shown: &[u8], identity: Option<&Identity>) -> Result<Admitted, Refusal> {
    let digest = digest_of(shown);
    let keys = &identity.ok_or(Refusal::Unknown)?.keys;
    let is_own = keys.iter().fold(false, |is_own, key| is_own | (digest_of(key) == digest));
    if is_own { Ok(Admitted { ends_at: None, credential: Credential::Key(digest) }) } else { Err(Refusal::Key) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(username: &str) -> Hello<'_> {
        Hello { client_id: "lamp-1", username: Some(username), will_topic: None }
    }

    #[test]
    fn a_device_is_the_one_of_its_user_name() {
        let named = |hello| named("hub.example.com", hello);
        for username in [
            "hub.example.com/lamp-1/?api-version=2021-04-12",
            "HUB.example.com:8883/lamp-1/api-version=2019-10-01&DeviceClientType=py",
            "hub.example.com/lamp-1",
        ] {
            assert_eq!(named(hello(username)), Ok((Dialect::Hub, "lamp-1".to_string())), "{username}");
        }
        assert_eq!(named(hello("lamp-1")), Ok((Dialect::Own, "lamp-1".to_string())));
        let refused = |hello, expect| assert_eq!(named(hello), Err(expect), "{hello:?}");
        refused(Hello { username: None, ..hello("") }, Refusal::Username);
        refused(hello("lamp-2"), Refusal::ClientId);
        refused(hello(""), Refusal::Username);
        refused(hello("hub.example.com//?api-version=1"), Refusal::Username);
        refused(hello("other.example.com/lamp-1/?api-version=1"), Refusal::Host);
        refused(hello("hub.example.com/lamp-2/?api-version=1"), Refusal::ClientId);
        refused(hello("hub.example.com/Lamp-1/?api-version=1"), Refusal::ClientId);
        let will = |topic| Hello { will_topic: Some(topic), ..hello("hub.example.com/lamp-1/?api-version=1") };
        assert!(named(will("devices/lamp-1/messages/events/")).is_ok());
        refused(will("devices/lamp-2/messages/events/"), Refusal::Will);
        refused(will("$iothub/methods/POST/reboot/?$rid=1"), Refusal::Will);
    }

    #[test]
    fn a_device_proves_who_it_is() {
        // Signed with `key`, over `h\n1`.
        let password = b"SharedAccessSignature sr=h&sig=AdrCILTqUrVEablFZzg51%2FMNyx%2BnxHJEQ5Diu9dWvfE%3D&se=1";
        let identity = |keys: &[&[u8]]| Identity {
            authentication: Authentication::Sas,
            keys: keys.iter().map(|key| key.to_vec()).collect(),
            thumbprints: Vec::new(),
            is_blocked: false,
            subscriptions: None,
        };
        let check = |password: &[u8], identity: Option<&Identity>, now: i64| {
            admitted(
                ("h", "lamp-1"),
                Proof {
                    password: Some(password),
                    chain: &[CertificateDer::from(b"any".as_slice())],
                    ..Proof::default()
                },
                identity,
                now,
            )
            .map(|admitted| admitted.ends_at)
        };
        assert_eq!(check(password, Some(&identity(&[b"other", b"key"])), 0), Ok(Some(1)));
        assert_eq!(check(password, Some(&identity(&[b"key"])), 1), Err(Refusal::Expired));
        assert_eq!(check(password, Some(&identity(&[b"other"])), 0), Err(Refusal::Key));
        assert_eq!(check(password, Some(&identity(&[])), 0), Err(Refusal::Key));
        assert_eq!(check(password, None, 0), Err(Refusal::Unknown));
        let blocked = Identity { is_blocked: true, ..identity(&[b"key"]) };
        assert_eq!(check(password, Some(&blocked), 0), Err(Refusal::Blocked));
        for (authentication, refusal) in [
            (Authentication::SelfSigned, Refusal::Thumbprint),
            (Authentication::CertificateAuthority, Refusal::Authority),
            (Authentication::None, Refusal::Authentication),
        ] {
            let other = Identity { authentication, ..identity(&[b"key"]) };
            assert_eq!(check(password, Some(&other), 0), Err(refusal));
        }
        assert_eq!(check(b"secret", Some(&identity(&[b"key"])), 0), Err(Refusal::Token));
        assert_eq!(admitted(("h", "lamp-1"), Proof::default(), None, 0), Err(Refusal::Token));
        let let_in = admitted(
            ("h", "lamp-1"),
            Proof { password: Some(password), ..Proof::default() },
            Some(&identity(&[b"key"])),
            0,
        );
        let credential = let_in.unwrap().credential;
        let none = PolicyKeys::default();
        let is_of = |identity: &Identity| credential.is_of(identity, &none);
        assert!(is_of(&identity(&[b"other", b"key"])) && !is_of(&identity(&[b"other"])) && !is_of(&blocked));
        let proof = Proof { password: Some(password), ..Proof::default() };
        assert_eq!(admitted(("g", "lamp-1"), proof, Some(&identity(&[b"key"])), 0), Err(Refusal::Resource));
        let policy = [password.as_slice(), b"&skn=device"].concat();
        assert_eq!(check(&policy, Some(&identity(&[b"key"])), 0), Err(Refusal::Policy));
        // The key of a policy is one for every device that has keys, and for no other.
        let keys = |key: &[u8]| PolicyKeys([("device".to_string(), vec![b"other".to_vec(), key.to_vec()])].into());
        let check = |policies: &PolicyKeys, identity: Option<&Identity>| {
            let proof = Proof { password: Some(&policy), policies: Some(policies), ..Proof::default() };
            admitted(("h", "lamp-1"), proof, identity, 0).map(|admitted| admitted.credential)
        };
        let credential = check(&keys(b"key"), Some(&identity(&[]))).unwrap();
        assert!(credential.is_of(&identity(&[]), &keys(b"key")) && !credential.is_of(&identity(&[]), &keys(b"new")));
        assert_eq!(check(&keys(b"new"), Some(&identity(&[b"key"]))), Err(Refusal::PolicyKey));
        assert_eq!(check(&keys(b"key"), None), Err(Refusal::Unknown));
        assert_eq!(check(&keys(b"key"), Some(&blocked)), Err(Refusal::Blocked));
        let other = Identity { authentication: Authentication::SelfSigned, ..identity(&[]) };
        assert_eq!(check(&keys(b"key"), Some(&other)), Err(Refusal::NoCertificate));
    }

    #[test]
    fn a_certificate_is_known_by_its_thumbprint() {
        let sha1 = "A9993E364706816ABA3E25717850C26C9CD0D89D";
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let check = |thumbprint: &str, certificate: Option<&[u8]>| {
            let chain: Vec<CertificateDer<'_>> = certificate.into_iter().map(CertificateDer::from).collect();
            let identity = Identity {
                authentication: Authentication::SelfSigned,
                keys: Vec::new(),
                thumbprints: vec!["00".to_string(), thumbprint.to_string()],
                is_blocked: false,
                subscriptions: None,
            };
            let admitted = admitted(("h", "lamp-1"), Proof { chain: &chain, ..Proof::default() }, Some(&identity), 0)?;
            assert!(admitted.credential.is_of(&identity, &PolicyKeys::default()));
            Ok(admitted.ends_at)
        };
        assert_eq!(check(sha1, Some(b"abc")), Ok(None));
        assert_eq!(check(sha256, Some(b"abc")), Ok(None));
        assert_eq!(check(sha1, Some(b"abd")), Err(Refusal::Thumbprint));
        assert_eq!(check(sha1, None), Err(Refusal::NoCertificate));
        assert_eq!(check("", Some(b"")), Err(Refusal::Thumbprint));
    }
}
