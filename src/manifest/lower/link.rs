//! The link of a Fleet to a broker.

use super::Lowering;
use crate::diag::{code, shown};
use crate::manifest::v1;
use crate::model::fleet::{MqttLinkConfig, TOPIC_PREFIX_DEFAULT};
use crate::model::hub::{Attestation, HubLinkConfig, TelemetrySink};
use crate::model::limits;
use crate::model::secret::SecretRef;

/// Bytes of a prefix: a topic has 65,535, and the longest of ours is a method of a long name.
const TOPIC_PREFIX_BYTES_MAX: usize = 256;
const CONNECTIONS_MAX: u32 = 16;
/// The ports of MQTT that are registered with IANA: with TLS, and without.
const PORTS_DEFAULT: [u16; 2] = [8883, 1883];

impl Lowering<'_> {
    pub(super) fn mqtt(&mut self, mqtt: v1::Mqtt) -> MqttLinkConfig {
        self.broker(mqtt, "/spec/link/mqtt")
    }

    fn broker(&mut self, mqtt: v1::Mqtt, place: &str) -> MqttLinkConfig {
        let v1::Mqtt { url, username, password, ca, client_certificate, client_key, topic_prefix, connections } = mqtt;
        let at = |field: &str| format!("{place}/{field}");
        let (host, port, is_tls) = match url.as_deref().map(parse_url) {
            Some(Ok(address)) => address,
            Some(Err(problem)) => {
                let detail = format!(
                    "`{}` is no address of a broker: {problem}. Write `mqtts://HOST:PORT`, or `mqtt://HOST:PORT` without \
                     encryption.",
                    shown(url.as_deref().unwrap_or_default())
                );
                self.report(code::BROKER_URL, &at("url"), detail);
                (String::new(), 0, true)
            }
            None => {
                self.report(code::BROKER_URL, place, "A broker needs an address: `url: mqtts://HOST:PORT`.");
                (String::new(), 0, true)
            }
        };
        let username = username.and_then(|place| self.credential(place, &at("username")));
        let password = password.and_then(|place| self.credential(place, &at("password")));
        for (field, path) in [("ca", &ca), ("clientCertificate", &client_certificate), ("clientKey", &client_key)] {
            if !is_tls && path.is_some() {
                let detail = format!("`{field}` is for an encrypted connection, and the address says `mqtt://`.");
                self.report(code::BROKER_TLS, &at(field), detail);
            }
            if path.as_ref().is_some_and(|path| path.trim().is_empty()) {
                self.report(code::PATH, &at(field), "A path cannot be empty.");
            }
        }
        if client_certificate.is_some() != client_key.is_some() {
            let (has, lacks) = if client_key.is_some() {
                ("clientKey", "clientCertificate")
            } else {
                ("clientCertificate", "clientKey")
            };
            let detail = format!("A client certificate and its key go together: `{lacks}` is missing.");
            self.report(code::BROKER_TLS, &at(has), detail);
        }
        let topic_prefix = topic_prefix.unwrap_or_else(|| TOPIC_PREFIX_DEFAULT.to_string());
        if let Some(problem) = prefix_problem(&topic_prefix) {
            let detail = format!("`{}` cannot begin the topics: {problem}.", shown(&topic_prefix));
            self.report(code::TOPIC_PREFIX, &at("topicPrefix"), detail);
        }
        let connections = connections.unwrap_or(1);
        let connections = self.range(connections, 1, CONNECTIONS_MAX, &at("connections"));
        MqttLinkConfig {
            host,
            port,
            is_tls,
            username,
            password,
            ca,
            client_certificate,
            client_key,
            topic_prefix,
            connections,
        }
    }

    pub(super) fn iot_hub(&mut self, hub: v1::IotHub) -> HubLinkConfig {
        let host_name = hub.host_name.as_deref().unwrap_or_default().to_ascii_lowercase();
        if let Some(problem) = host_problem(&host_name) {
            let detail = format!("`{}` is no host name: {problem}.", shown(&host_name));
            self.report(code::HUB_HOST, "/spec/link/iotHub/hostName", detail);
        }
        let at = |place: usize| format!("/spec/link/iotHub/deviceAuthorities/{place}");
        let named = hub.device_authorities.len();
        if named > limits::DEVICE_AUTHORITIES_MAX {
            let detail = format!("There are {named} files, and at most {} are read.", limits::DEVICE_AUTHORITIES_MAX);
            self.report(code::PATH, &at(limits::DEVICE_AUTHORITIES_MAX), detail);
        }
        let mut device_authorities = Vec::new();
        for (place, v1::DeviceAuthority { file }) in hub.device_authorities.iter().enumerate() {
            match file.clone().filter(|file| !file.trim().is_empty()) {
                Some(file) => device_authorities.push(file),
                None => self.report(code::PATH, &at(place), "An authority is a PEM file: `file: PATH`."),
            }
        }
        let telemetry = hub.telemetry.clone().and_then(|telemetry| self.telemetry(telemetry));
        let api = self.hub_api(hub);
        // Who registers with a certificate connects with it.
        let groups = api.provisioning.iter().flat_map(|provisioning| provisioning.groups.values());
        for group in groups {
            if let Attestation::Authority { file } = &group.attestation
                && !device_authorities.contains(file)
            {
                device_authorities.push(file.clone());
            }
        }
        HubLinkConfig { host_name, device_authorities, telemetry, api }
    }

    fn telemetry(&mut self, place: v1::HubTelemetryPlace) -> Option<TelemetrySink> {
        const AT: &str = "/spec/link/iotHub/telemetry";
        let telemetry = match place {
            v1::HubTelemetryPlace::To(telemetry) => *telemetry,
            v1::HubTelemetryPlace::Word(word) if word == "drop" => return None,
            v1::HubTelemetryPlace::Word(word) => {
                let detail = format!(
                    "`{}` is no place for telemetry. Write `drop`, `{{file: PATH}}` or `{{mqtt: {{url: …}}}}`.",
                    shown(&word)
                );
                self.report(code::UNKNOWN_WORD, AT, detail);
                return None;
            }
        };
        self.exactly_one(AT, &["file", "mqtt"]);
        match telemetry {
            v1::HubTelemetry { file: Some(path), mqtt: None } => {
                self.plain_path(&path, &format!("{AT}/file"));
                Some(TelemetrySink::File { path })
            }
            v1::HubTelemetry { file: None, mqtt: Some(mqtt) } => {
                Some(TelemetrySink::Broker(Box::new(self.broker(mqtt, &format!("{AT}/mqtt")))))
            }
            _ => None,
        }
    }

    pub(super) fn credential(&mut self, place: v1::CredentialPlace, pointer: &str) -> Option<SecretRef> {
        self.exactly_one(pointer, &["env", "file"]);
        let v1::CredentialPlace { env, file } = place;
        let (reference, field) = match (env, file) {
            (Some(name), None) => (SecretRef::Env(name), "env"),
            (None, Some(path)) => (SecretRef::File(path), "file"),
            _ => return None,
        };
        if let Some(fault) = reference.fault() {
            self.report(code::SECRET, &format!("{pointer}/{field}"), fault);
        }
        Some(reference)
    }
}

/// Returns why a text is not the host name of a hub, a phrase about it; `None` for one that is.
fn host_problem(name: &str) -> Option<&'static str> {
    let is_label = |label: &str| {
        let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(is_legal) && !label.starts_with('-')
    };
    if name.is_empty() {
        Some("it is empty")
    } else if name.contains("://") {
        Some("it is an address, and the name alone is needed")
    } else if name.contains(':') {
        Some("a port does not belong to it, and IPv6 has no place in a connection string")
    } else if name.len() > 253 || !name.split('.').all(is_label) {
        Some("it has letters, digits and `-` between dots, and at most 253 of them")
    } else {
        None
    }
}

/// Returns the host, the port and whether it is encrypted.
///
/// # Errors
/// It is no address of a broker; what is wrong, a phrase about it.
pub fn parse_url(url: &str) -> Result<(String, u16, bool), &'static str> {
    let (is_tls, rest) = if let Some(rest) = url.strip_prefix("mqtts://") {
        (true, rest)
    } else if let Some(rest) = url.strip_prefix("mqtt://") {
        (false, rest)
    } else if url.starts_with("ws://") || url.starts_with("wss://") {
        return Err("WebSockets are not spoken");
    } else {
        return Err("it begins neither with `mqtts://` nor with `mqtt://`");
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains('@') {
        return Err("a user name and a password do not stand in it; they are `username` and `password`");
    }
    if rest.contains(['/', '?', '#']) {
        return Err("nothing comes after the port");
    }
    let default = PORTS_DEFAULT[usize::from(!is_tls)];
    let (host, port) = match rest.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("the `]` of an IPv6 address is missing")?;
            if host.is_empty() || !host.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.')) {
                return Err("between `[` and `]` stands an IPv6 address");
            }
            (host, port.strip_prefix(':').or_else(|| port.is_empty().then_some("")).ok_or("a port comes after a `:`")?)
        }
        None => rest.split_once(':').unwrap_or((rest, "")),
    };
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || host.len() > 253 || !host.chars().all(is_legal) {
        return Err("the host is a name or an IP address");
    }
    let port = match port {
        "" => default,
        port => port.parse().ok().filter(|port| *port != 0).ok_or("a port is a number from 1 to 65535")?,
    };
    Ok((host.to_string(), port, is_tls))
}

/// Returns why no topics can begin with a text, or `None`.
pub fn prefix_problem(prefix: &str) -> Option<&'static str> {
    if prefix.is_empty() {
        Some("it is empty")
    } else if prefix.len() > TOPIC_PREFIX_BYTES_MAX {
        Some("it has more than 256 bytes")
    } else if prefix.contains(['+', '#']) {
        Some("`+` and `#` stand for other topics")
    } else if prefix.starts_with('$') {
        Some("topics that begin with `$` are the broker's own")
    } else if prefix.split('/').any(str::is_empty) {
        Some("it cannot start or end with `/` or contain `//`")
    } else if prefix.chars().any(|c| c.is_control() || c == ' ') {
        Some("it cannot contain spaces and control characters")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_brokers_are_read() {
        let good = |url: &str, host: &str, port, is_tls| {
            assert_eq!(parse_url(url), Ok((host.to_string(), port, is_tls)), "{url}");
        };
        good("mqtts://broker.acme.example", "broker.acme.example", 8883, true);
        good("mqtt://localhost/", "localhost", 1883, false);
        good("mqtt://127.0.0.1:18830", "127.0.0.1", 18_830, false);
        good("mqtts://[::1]:8884", "::1", 8884, true);
        good("mqtts://[::1]", "::1", 8883, true);
        for bad in [
            "",
            "broker",
            "tcp://broker",
            "wss://broker",
            "mqtt://",
            "mqtt://a b",
            "mqtt://u:p@broker",
            "mqtt://broker/x",
            "mqtt://broker:0",
            "mqtt://broker:x",
            "mqtt://broker:65536",
            "mqtt://[::1",
            "mqtt://[::1]1883",
            "mqtt://[x]:1",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_prefix_is_a_topic_of_its_own() {
        for good in ["fleetform", "acme/fleet", "ä", "a-b_c.1"] {
            assert_eq!(prefix_problem(good), None, "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", "+", "a/#", "$SYS", "a b", "a\tb", &"x".repeat(257)] {
            assert!(prefix_problem(bad).is_some(), "{bad}");
        }
    }
}
