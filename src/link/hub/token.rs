//! Shared access signatures, pure.
//!
//! `SharedAccessSignature sr={resource}&sig={signature}&se={expiry}`, in any order; the signature is the Base64 of
//! HMAC-SHA256 over `{resource}\n{expiry}` as they stand there. Source: Microsoft, "Control access to IoT Hub by using
//! shared access signatures".

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::model::encoding::percent_decoded;

/// A token as it was sent. It is checked with [`SasToken::is_signed_with`].
pub struct SasToken<'a> {
    resource: &'a str,
    expiry: &'a str,
    signature: Vec<u8>,
    /// When it ends, in seconds since 1970.
    pub ends_at: i64,
    /// The policy whose key signed it; `None` for a key of the device.
    pub policy: Option<String>,
}

impl<'a> SasToken<'a> {
    /// Returns the token that a text is, or `None`.
    pub fn parse(text: &'a str) -> Option<SasToken<'a>> {
        let rest = text.strip_prefix("SharedAccessSignature ")?;
        let (mut resource, mut expiry, mut signature, mut policy) = (None, None, None, None);
        for member in rest.split('&') {
            let (name, value) = member.split_once('=')?;
            match name {
                "sr" => resource = Some(value),
                "se" => expiry = Some(value),
                "sig" => signature = STANDARD.decode(percent_decoded(value)?).ok(),
                "skn" => policy = percent_decoded(value).filter(|name| !name.is_empty()),
                _ => {}
            }
        }
        let expiry = expiry?;
        Some(SasToken { resource: resource?, expiry, signature: signature?, ends_at: expiry.parse().ok()?, policy })
    }

    /// Returns true when it was signed with a key, in a time that does not depend on what is different.
    pub fn is_signed_with(&self, key: &[u8]) -> bool {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
        mac.update(self.resource.as_bytes());
        mac.update(b"\n");
        mac.update(self.expiry.as_bytes());
        mac.verify_slice(&self.signature).is_ok()
    }

    /// Returns true when it is for a device of a hub: its resource is that of the device, or one above it. The name of
    /// the hub is compared without case and may have a port, the rest with case.
    pub fn covers(&self, host_name: &str, device_id: &str) -> bool {
        let Some(resource) = percent_decoded(self.resource) else { return false };
        let resource = resource.strip_suffix('/').unwrap_or(&resource);
        let (host, path) = resource.split_once('/').map_or((resource, None), |(host, path)| (host, Some(path)));
        is_host(host_name, host)
            && path.is_none_or(|path| path == "devices" || path.strip_prefix("devices/") == Some(device_id))
    }
}

/// What a service, or a device that registers, asks for.
impl SasToken<'_> {
    /// Returns true when it is for the registration of a device: `{scope}/registrations/{id}`, the id without case.
    pub fn covers_registration(&self, scope: &str, id: &str) -> bool {
        let Some(resource) = percent_decoded(self.resource) else { return false };
        let parts: Vec<&str> = resource.split('/').collect();
        matches!(parts[..], [own, "registrations", own_id] if own == scope && own_id.eq_ignore_ascii_case(id))
    }

    /// Returns true when it is for a path of the API of a hub, such as `/devices/lamp-1`: its resource is the hub, or the
    /// path or one above it. The name of the hub is compared without case and may have a port, the rest with case.
    pub fn covers_path(&self, host_name: &str, path: &str) -> bool {
        let Some(resource) = percent_decoded(self.resource) else { return false };
        let resource = resource.strip_suffix('/').unwrap_or(&resource);
        let (host, above) = resource.split_once('/').map_or((resource, None), |(host, path)| (host, Some(path)));
        let path = path.trim_start_matches('/');
        let is_above =
            |above: &str| path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        is_host(host_name, host) && above.is_none_or(is_above)
    }
}

/// Returns true when a client names a hub: without case, and with or without a port.
pub fn is_host(host_name: &str, named: &str) -> bool {
    let name = match named.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => named,
    };
    name.eq_ignore_ascii_case(host_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(resource: &str, expiry: &str, key: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(format!("{resource}\n{expiry}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let signature = signature.replace('+', "%2B").replace('/', "%2f").replace('=', "%3D");
        format!("SharedAccessSignature sig={signature}&sr={resource}&se={expiry}")
    }

    #[test]
    fn a_token_is_checked_over_what_was_sent() {
        let key = b"sixteen bytes ok";
        let text = signed("Hub.example.com%2Fdevices%2Flamp-1", "1700000000", key);
        let token = SasToken::parse(&text).unwrap();
        assert!(token.is_signed_with(key) && !token.is_signed_with(b"another key") && !token.is_signed_with(b""));
        assert_eq!((token.ends_at, &token.policy), (1_700_000_000, &None));
        assert!(token.covers("hub.example.com", "lamp-1"));
        for (host, device) in
            [("hub.example.com", "lamp-2"), ("hub.example.com", "Lamp-1"), ("hub.example.org", "lamp-1")]
        {
            assert!(!token.covers(host, device), "{host} {device}");
        }
        let changed = text.replace("se=17", "se=18");
        assert!(!SasToken::parse(&changed).unwrap().is_signed_with(key));
    }

    /// The signature is that of `printf 'h\n1' | openssl dgst -sha256 -hmac key -binary | base64`.
    #[test]
    fn the_signature_is_that_of_openssl() {
        let text = "SharedAccessSignature sr=h&sig=AdrCILTqUrVEablFZzg51%2FMNyx%2BnxHJEQ5Diu9dWvfE%3D&se=1";
        assert!(SasToken::parse(text).unwrap().is_signed_with(b"key"));
    }

    #[test]
    fn a_resource_may_be_above_the_device() {
        let of = |resource: &str| {
            let text = format!("SharedAccessSignature sr={resource}&sig=AA%3D%3D&se=1");
            SasToken::parse(&text).unwrap().covers("hub", "a/b")
        };
        for resource in ["hub", "HUB%2f", "hub:8883", "hub%2Fdevices", "hub/devices/", "hub%2fdevices%2Fa%2Fb"] {
            assert!(of(resource), "{resource}");
        }
        for resource in ["", "hu", "hubx", "hub:", "hub:x", "hub/device", "hub/devices/a", "hub/devices/a/b/c", "%ff"] {
            assert!(!of(resource), "{resource}");
        }
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in [
            "",
            "Bearer x",
            "SharedAccessSignature ",
            "SharedAccessSignature sr=h&sig=AA==",
            "SharedAccessSignature sr=h&sig=!&se=1",
            "SharedAccessSignature sr=h&se=x&sig=AA==",
            "SharedAccessSignature sr=h&se=99999999999999999999&sig=AA==",
        ] {
            assert!(SasToken::parse(text).is_none(), "{text}");
        }
        let text = "SharedAccessSignature sr=h&sig=AA==&se=1&skn=iothubowner";
        assert_eq!(SasToken::parse(text).unwrap().policy.as_deref(), Some("iothubowner"));
    }
}
