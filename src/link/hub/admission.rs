//! Who a device is, by what it says when it connects; pure.

use super::token::{SasToken, is_host};
use crate::link::Identity;
use crate::model::device::Authentication;
use crate::model::limits;

/// What a device says when it connects.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    pub client_id: &'a str,
    /// `{host}/{device}/?api-version=…`.
    pub username: Option<&'a str>,
    pub will_topic: Option<&'a str>,
}

/// Why a device is not let in. It is told nothing of this: the log has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the user name is not `HOST/DEVICE/?api-version=…`")]
    Username,
    #[error("the user name has another host name than `spec.link.iotHub.hostName`")]
    Host,
    #[error("the client id is not the device id of the user name")]
    ClientId,
    #[error("the last will has a topic of something else than its own telemetry")]
    Will,
    #[error("the registry has no such device")]
    Unknown,
    #[error("the device is blocked")]
    Blocked,
    #[error("the device does not log in with keys")]
    Authentication,
    #[error("the password is no shared access signature")]
    Token,
    #[error("the token is signed with the key of a policy, and only keys of devices are taken here")]
    Policy,
    #[error("the token is for another resource")]
    Resource,
    #[error("the token is over")]
    Expired,
    #[error("the token is not signed with a key of the device")]
    Key,
}

/// Returns the id of the device that wants to connect.
///
/// # Errors
/// What it says cannot be right, whoever it is.
pub fn named(host_name: &str, hello: Hello<'_>) -> Result<String, Refusal> {
    let mut parts = hello.username.ok_or(Refusal::Username)?.splitn(3, '/');
    let (Some(host), Some(device_id)) = (parts.next(), parts.next()) else { return Err(Refusal::Username) };
    if device_id.is_empty() || device_id.chars().count() > limits::DEVICE_ID_CHARS_MAX {
        return Err(Refusal::Username);
    }
    if !is_host(host_name, host) {
        return Err(Refusal::Host);
    }
    if hello.client_id != device_id {
        return Err(Refusal::ClientId);
    }
    if hello.will_topic.is_some_and(|topic| !super::topics::is_telemetry(device_id, topic)) {
        return Err(Refusal::Will);
    }
    Ok(device_id.to_string())
}

/// Returns until when a device is let in, in seconds since 1970. An unknown device takes as long as a wrong key.
///
/// # Errors
/// It is not the one that it says.
pub fn admitted(
    (host_name, device_id): (&str, &str),
    password: Option<&[u8]>,
    identity: Option<&Identity>,
    now: i64,
) -> Result<i64, Refusal> {
    let text = password.and_then(|password| std::str::from_utf8(password).ok()).ok_or(Refusal::Token)?;
    let token = SasToken::parse(text).ok_or(Refusal::Token)?;
    if token.policy.is_some() {
        return Err(Refusal::Policy);
    }
    if !token.covers(host_name, device_id) {
        return Err(Refusal::Resource);
    }
    let nobody = vec![vec![0; 32]];
    let keys = identity.map_or(&nobody, |identity| &identity.keys);
    // Both keys are tried, whichever it is.
    let is_signed = keys.iter().fold(false, |is_signed, key| token.is_signed_with(key) | is_signed);
    let identity = identity.ok_or(Refusal::Unknown)?;
    if identity.authentication != Authentication::Sas {
        return Err(Refusal::Authentication);
    }
    if !is_signed {
        return Err(Refusal::Key);
    }
    if token.ends_at <= now {
        return Err(Refusal::Expired);
    }
    if identity.is_blocked { Err(Refusal::Blocked) } else { Ok(token.ends_at) }
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
            assert_eq!(named(hello(username)), Ok("lamp-1".to_string()), "{username}");
        }
        let refused = |hello, expect| assert_eq!(named(hello), Err(expect), "{hello:?}");
        refused(Hello { username: None, ..hello("") }, Refusal::Username);
        refused(hello("lamp-1"), Refusal::Username);
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
            is_blocked: false,
        };
        let check = |password: &[u8], identity: Option<&Identity>, now: i64| {
            admitted(("h", "lamp-1"), Some(password), identity, now)
        };
        assert_eq!(check(password, Some(&identity(&[b"other", b"key"])), 0), Ok(1));
        assert_eq!(check(password, Some(&identity(&[b"key"])), 1), Err(Refusal::Expired));
        assert_eq!(check(password, Some(&identity(&[b"other"])), 0), Err(Refusal::Key));
        assert_eq!(check(password, Some(&identity(&[])), 0), Err(Refusal::Key));
        assert_eq!(check(password, None, 0), Err(Refusal::Unknown));
        let blocked = Identity { is_blocked: true, ..identity(&[b"key"]) };
        assert_eq!(check(password, Some(&blocked), 0), Err(Refusal::Blocked));
        let other = Identity { authentication: Authentication::SelfSigned, ..identity(&[b"key"]) };
        assert_eq!(check(password, Some(&other), 0), Err(Refusal::Authentication));
        assert_eq!(check(b"secret", Some(&identity(&[b"key"])), 0), Err(Refusal::Token));
        assert_eq!(admitted(("h", "lamp-1"), None, None, 0), Err(Refusal::Token));
        assert_eq!(admitted(("g", "lamp-1"), Some(password), Some(&identity(&[b"key"])), 0), Err(Refusal::Resource));
        let policy = [password.as_slice(), b"&skn=device"].concat();
        assert_eq!(check(&policy, Some(&identity(&[b"key"])), 0), Err(Refusal::Policy));
    }
}
