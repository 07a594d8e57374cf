//! The device protocol: topics and payloads as text and back, without a broker. It is IoT Hub's, with one prefix in
//! place of `$iothub`, and one level for the device behind it.
//!
//! | from | topic, below `{prefix}/{device}` | payload |
//! | --- | --- | --- |
//! | fleetform | `methods/POST/{method}/?$rid={rid}&$xid={xid}` | JSON |
//! | device | `methods/res/{status}/?$rid={rid}` | JSON, or nothing |
//! | fleetform | `twin/PATCH/properties/desired/?$version={version}` | a merge patch with `$version` |
//! | device | `twin/PATCH/properties/reported/?$rid={rid}` | a merge patch |
//! | device | `twin/GET/?$rid={rid}` | nothing |
//! | fleetform | `twin/res/{status}/?$rid={rid}`, with `&$version={version}` for a patch | the twin, or nothing |
//! | device | `presence`, retained, and as its last will | `online` or `offline` |
//!
//! Source: Microsoft, "Communicate with an IoT hub using the MQTT protocol". A device's id and a method are one level
//! each: `%`, `+`, `#`, `/` and what is not printable ASCII is written as `%` and two hex digits a byte.
//!
//! A request id of fleetform is `{run}-{ordinal}-{attempt}-{proof}`: numbers of the journal, and the first 16 digits of
//! the execution id. With these nobody else's answer is taken for that of a device, nor one to an earlier run whose
//! numbers a registry has used again that was put back from a backup.

use std::fmt;

use serde_json::{Map, Value, json};

use super::{Token, Twin};
use crate::model::digest::Digest;
use crate::model::encoding::percent_decoded;
use crate::model::limits;

/// The payloads of a presence.
pub const ONLINE: &str = "online";
pub const OFFLINE: &str = "offline";
/// Hex digits of an execution id in a request id.
const PROOF_CHARS: usize = 16;

/// What is wrong with a message from a device; it is counted, and nothing else comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("the topic is none of the protocol")]
    Topic,
    #[error("a device id is 1 to 128 characters")]
    Device,
    #[error("the topic has no `$rid` of 1 to 128 characters")]
    RequestId,
    #[error("a status is a number from 100 to 599")]
    Status,
    #[error("a presence is `online` or `offline`")]
    Presence,
    #[error("the payload is no JSON object")]
    Object,
}

/// The topics below a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    prefix: String,
}

/// What a device says with a topic, and which request it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The answer to a method.
    Answer {
        status: u16,
        rid: String,
    },
    /// A patch of the reported properties, to be confirmed under its `rid`.
    Reported {
        rid: String,
    },
    /// The twin is asked for.
    TwinWanted {
        rid: String,
    },
    Presence,
}

/// What a device hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// Execute a method, unless one with this execution id was executed before.
    Method { method: String, rid: String, xid: String },
    /// A patch of the desired properties; the version that it makes.
    Desired { version: u64 },
    /// The answer to a request of the device; `version` is that of the reported properties after a patch.
    Response { status: u16, rid: String, version: Option<u64> },
}

impl Topics {
    /// Returns the topics below a prefix, such as `fleetform` or `acme/fleet`.
    pub fn new(prefix: &str) -> Topics {
        Topics { prefix: prefix.to_string() }
    }

    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Returns what fleetform subscribes to: answers, reported patches, twin requests and presences of all devices.
    pub fn of_devices(&self) -> [String; 4] {
        let below = |rest: &str| format!("{}/+/{rest}", self.prefix);
        [below("methods/res/#"), below("twin/PATCH/properties/reported/#"), below("twin/GET/#"), self.presences()]
    }

    /// Returns what a device subscribes to: methods, desired patches and answers to its requests.
    pub fn of_device(&self, device_id: &str) -> [String; 3] {
        let below = |rest: &str| format!("{}/{}/{rest}", self.prefix, level(device_id));
        [below("methods/POST/#"), below("twin/PATCH/properties/desired/#"), below("twin/res/#")]
    }

    pub fn method(&self, device_id: &str, method: &str, rid: &str, xid: impl fmt::Display) -> String {
        let (prefix, device) = (&self.prefix, level(device_id));
        format!("{prefix}/{device}/methods/POST/{}/?$rid={rid}&$xid={xid}", level(method))
    }

    pub fn answer(&self, device_id: &str, status: u16, rid: &str) -> String {
        format!("{}/{}/methods/res/{status}/?$rid={rid}", self.prefix, level(device_id))
    }

    pub fn desired(&self, device_id: &str, version: u64) -> String {
        format!("{}/{}/twin/PATCH/properties/desired/?$version={version}", self.prefix, level(device_id))
    }

    pub fn reported(&self, device_id: &str, rid: &str) -> String {
        format!("{}/{}/twin/PATCH/properties/reported/?$rid={rid}", self.prefix, level(device_id))
    }

    pub fn twin_wanted(&self, device_id: &str, rid: &str) -> String {
        format!("{}/{}/twin/GET/?$rid={rid}", self.prefix, level(device_id))
    }

    /// Returns where a request of a device is answered; `version` is that of its reported properties.
    pub fn response(&self, device_id: &str, status: u16, rid: &str, version: Option<u64>) -> String {
        let version = version.map(|version| format!("&$version={version}")).unwrap_or_default();
        format!("{}/{}/twin/res/{status}/?$rid={rid}{version}", self.prefix, level(device_id))
    }

    /// Returns where a device says whether it is online.
    pub fn presence(&self, device_id: &str) -> String {
        format!("{}/{}/presence", self.prefix, level(device_id))
    }

    /// Returns the filter of the presences of all devices.
    pub fn presences(&self) -> String {
        format!("{}/+/presence", self.prefix)
    }

    /// Returns who says what, of a topic that a device writes to.
    ///
    /// # Errors
    /// The topic is none of these.
    pub fn said(&self, topic: &str) -> Result<(String, Said), Malformed> {
        let (device_id, rest) = self.split(topic)?;
        let said = if rest == "presence" {
            Said::Presence
        } else if let Some(rest) = rest.strip_prefix("methods/res/") {
            let (status, query) = rest.split_once('/').ok_or(Malformed::Topic)?;
            Said::Answer { status: status_of(status)?, rid: rid_of(query)? }
        } else if let Some(query) = rest.strip_prefix("twin/PATCH/properties/reported/") {
            Said::Reported { rid: rid_of(query)? }
        } else if let Some(query) = rest.strip_prefix("twin/GET/") {
            Said::TwinWanted { rid: rid_of(query)? }
        } else {
            return Err(Malformed::Topic);
        };
        Ok((device_id, said))
    }

    /// Returns whose topic it is, as far as it can be read.
    pub fn device_of(&self, topic: &str) -> Option<String> {
        self.split(topic).ok().map(|(device_id, _)| device_id)
    }

    /// Returns what a device is told, of a topic that fleetform writes to.
    ///
    /// # Errors
    /// The topic is none of these.
    pub fn told(&self, topic: &str) -> Result<(String, Told), Malformed> {
        let (device_id, rest) = self.split(topic)?;
        let told = if let Some(rest) = rest.strip_prefix("methods/POST/") {
            let (method, query) = rest.split_once('/').ok_or(Malformed::Topic)?;
            let xid = member(query, "$xid").unwrap_or_default();
            Told::Method {
                method: percent_decoded(method).ok_or(Malformed::Topic)?,
                rid: rid_of(query)?,
                xid: xid.to_string(),
            }
        } else if let Some(query) = rest.strip_prefix("twin/PATCH/properties/desired/") {
            let version = member(query, "$version").and_then(|text| text.parse().ok());
            Told::Desired { version: version.ok_or(Malformed::Topic)? }
        } else if let Some(rest) = rest.strip_prefix("twin/res/") {
            let (status, query) = rest.split_once('/').ok_or(Malformed::Topic)?;
            let version = member(query, "$version").and_then(|text| text.parse().ok());
            Told::Response { status: status_of(status)?, rid: rid_of(query)?, version }
        } else {
            return Err(Malformed::Topic);
        };
        Ok((device_id, told))
    }

    /// Returns the device of a topic and what comes after it.
    fn split<'t>(&self, topic: &'t str) -> Result<(String, &'t str), Malformed> {
        let rest = topic.strip_prefix(&self.prefix).and_then(|rest| rest.strip_prefix('/')).ok_or(Malformed::Topic)?;
        let (device, rest) = rest.split_once('/').ok_or(Malformed::Topic)?;
        // Written in one way only: rules of a broker compare texts.
        let device_id = percent_decoded(device).filter(|id| level(id) == device).ok_or(Malformed::Device)?;
        let is_legal = !device_id.is_empty() && device_id.chars().count() <= limits::DEVICE_ID_CHARS_MAX;
        if is_legal { Ok((device_id, rest)) } else { Err(Malformed::Device) }
    }
}

/// A request id of fleetform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId {
    pub token: Token,
    /// The first digits of the execution id.
    pub proof: String,
}

impl RequestId {
    /// Returns the id of a request.
    pub fn new(token: Token, execution_id: &Digest) -> RequestId {
        let mut proof = execution_id.to_string();
        proof.truncate(PROOF_CHARS);
        RequestId { token, proof }
    }

    /// Returns the request id that a text is, or `None`.
    pub fn parse(text: &str) -> Option<RequestId> {
        let mut parts = text.split('-');
        let token = Token {
            run_id: parts.next()?.parse().ok()?,
            ordinal: parts.next()?.parse().ok()?,
            attempt: parts.next()?.parse().ok()?,
        };
        let proof = parts.next()?.to_string();
        (parts.next().is_none() && proof.len() == PROOF_CHARS).then_some(RequestId { token, proof })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Token { run_id, ordinal, attempt } = self.token;
        write!(f, "{run_id}-{ordinal}-{attempt}-{}", self.proof)
    }
}

/// Returns the payload of a desired patch: the patch with the version that it makes.
pub fn desired_payload(patch: &Value, version: u64) -> Vec<u8> {
    let mut members = patch.as_object().cloned().unwrap_or_default();
    members.insert("$version".to_string(), json!(version));
    Value::Object(members).to_string().into_bytes()
}

/// Returns the payload of an answered twin request.
pub fn twin_payload(twin: &Twin) -> Vec<u8> {
    let section = |section: &Value, version: u64| {
        let mut members = section.as_object().cloned().unwrap_or_default();
        members.insert("$version".to_string(), json!(version));
        Value::Object(members)
    };
    let desired = section(&twin.desired, twin.desired_version);
    let reported = section(&twin.reported, twin.reported_version);
    json!({"desired": desired, "reported": reported}).to_string().into_bytes()
}

/// Returns the members of a payload that is an object, without `$version`, and that version.
///
/// # Errors
/// It is no JSON object.
pub fn versioned(payload: &[u8]) -> Result<(Map<String, Value>, Option<u64>), Malformed> {
    let value: Value = serde_json::from_slice(payload).map_err(|_| Malformed::Object)?;
    let Value::Object(mut members) = value else { return Err(Malformed::Object) };
    let version = members.remove("$version").and_then(|version| version.as_u64());
    Ok((members, version))
}

/// Returns whether a presence says that the device is online. An empty one, by which a broker forgets what it retains,
/// says that it is not.
///
/// # Errors
/// It is none of the two words.
pub fn presence(payload: &[u8]) -> Result<bool, Malformed> {
    match payload {
        payload if payload == ONLINE.as_bytes() => Ok(true),
        payload if payload == OFFLINE.as_bytes() || payload.is_empty() => Ok(false),
        _ => Err(Malformed::Presence),
    }
}

fn status_of(text: &str) -> Result<u16, Malformed> {
    let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let status = if is_number { text.parse().ok() } else { None };
    status.filter(|status| (100..600).contains(status)).ok_or(Malformed::Status)
}

pub(super) fn rid_of(query: &str) -> Result<String, Malformed> {
    let rid = member(query, "$rid").ok_or(Malformed::RequestId)?;
    let is_legal = !rid.is_empty() && rid.len() <= limits::DEVICE_ID_CHARS_MAX && !rid.chars().any(char::is_control);
    if is_legal { Ok(rid.to_string()) } else { Err(Malformed::RequestId) }
}

/// Returns a member of `?name=value&name=value`.
pub(super) fn member<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    let members = query.strip_prefix('?')?.split('&');
    members.filter_map(|member| member.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Returns a text as one level of a topic.
pub(super) fn level(text: &str) -> String {
    let mut level = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | b'+' | b'#' | b'/' => level.push_str(&format!("%{byte:02X}")),
            b' '..=b'~' => level.push(char::from(byte)),
            _ => level.push_str(&format!("%{byte:02X}")),
        }
    }
    level
}

/// As in messages about a device's request.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Said::Answer { .. } => "an answer",
            Said::Reported { .. } => "a reported patch",
            Said::TwinWanted { .. } => "a twin request",
            Said::Presence => "a presence",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Origin;

    const TOKEN: Token = Token { run_id: 12, ordinal: 3, attempt: 1 };

    #[test]
    fn the_bytes_are_those_of_the_documentation() {
        let topics = Topics::new("fleetform");
        let xid = Digest::of_bytes(b"x");
        assert_eq!(
            topics.method("lamp-1", "lamp1*reboot", "12-3-1-ab", xid),
            format!("fleetform/lamp-1/methods/POST/lamp1*reboot/?$rid=12-3-1-ab&$xid={xid}")
        );
        assert_eq!(topics.desired("lamp-1", 7), "fleetform/lamp-1/twin/PATCH/properties/desired/?$version=7");
        assert_eq!(desired_payload(&json!({"light": null}), 7), br#"{"$version":7,"light":null}"#);
        assert_eq!(topics.response("lamp-1", 204, "9", Some(4)), "fleetform/lamp-1/twin/res/204/?$rid=9&$version=4");
        let twin = Twin { desired: json!({"a": 1}), desired_version: 2, reported: json!({}), reported_version: 1 };
        assert_eq!(twin_payload(&twin), br#"{"desired":{"$version":2,"a":1},"reported":{"$version":1}}"#);
    }

    #[test]
    fn every_topic_of_a_device_is_read_back() {
        let topics = Topics::new("acme/fleet");
        for device in ["lamp-1", "+", "a+b", "50%#", "x/y", "ä", "$a:b@c", "%2B"] {
            let said = |topic: String| topics.said(&topic).unwrap();
            let rid = "12-3-1-00".to_string();
            assert_eq!(
                said(topics.answer(device, 404, &rid)),
                (device.into(), Said::Answer { status: 404, rid: rid.clone() })
            );
            assert_eq!(said(topics.reported(device, &rid)), (device.into(), Said::Reported { rid: rid.clone() }));
            assert_eq!(said(topics.twin_wanted(device, &rid)), (device.into(), Said::TwinWanted { rid: rid.clone() }));
            assert_eq!(said(topics.presence(device)), (device.into(), Said::Presence));
            let told = topics.told(&topics.method(device, "say+hello", &rid, Digest::of_bytes(b""))).unwrap();
            assert!(matches!(told, (id, Told::Method { method, .. }) if id == device && method == "say+hello"));
            let response = topics.told(&topics.response(device, 200, &rid, None)).unwrap().1;
            assert_eq!(response, Told::Response { status: 200, rid: rid.clone(), version: None });
            assert_eq!(topics.told(&topics.desired(device, 3)).unwrap().1, Told::Desired { version: 3 });
        }
    }

    #[test]
    fn what_is_not_of_the_protocol_is_refused() {
        let topics = Topics::new("fleetform");
        let refused = |topic: &str, expected| assert_eq!(topics.said(topic), Err(expected), "{topic}");
        refused("fleetform", Malformed::Topic);
        refused("fleetformx/d/presence", Malformed::Topic);
        refused("fleetform//presence", Malformed::Device);
        refused("fleetform/%ff/presence", Malformed::Device);
        refused("fleetform/%4/presence", Malformed::Device);
        refused("fleetform/%64/presence", Malformed::Device);
        refused("fleetform/a%2b/presence", Malformed::Device);
        refused(&format!("fleetform/{}/presence", "d".repeat(129)), Malformed::Device);
        refused("fleetform/d/methods/res/20/?$rid=1", Malformed::Status);
        refused("fleetform/d/methods/res/+20/?$rid=1", Malformed::Status);
        refused("fleetform/d/methods/res/999/?$rid=1", Malformed::Status);
        refused("fleetform/d/methods/res/200", Malformed::Topic);
        refused("fleetform/d/methods/res/200/", Malformed::RequestId);
        refused("fleetform/d/methods/res/200/?$rid=", Malformed::RequestId);
        refused("fleetform/d/twin/GET", Malformed::Topic);
        refused("fleetform/d/twin/PATCH/properties/desired/?$rid=1", Malformed::Topic);
        assert_eq!(versioned(b"[]"), Err(Malformed::Object));
        assert_eq!(versioned(b"\xff"), Err(Malformed::Object));
        assert_eq!(presence(b"Online"), Err(Malformed::Presence));
    }

    #[test]
    fn a_request_id_tells_whose_request_it_is_of() {
        let (one, two) = (Digest::of_bytes(b"one"), Digest::of_bytes(b"two"));
        let rid = RequestId::new(TOKEN, &one);
        let text = rid.to_string();
        assert!(text.starts_with("12-3-1-") && text.len() == 23, "{text}");
        assert_eq!(RequestId::parse(&text), Some(rid.clone()));
        let origin = Origin { device_id: "lamp-1".to_string(), proof: rid.proof };
        assert!(origin.is_of("lamp-1", &one) && !origin.is_of("lamp-1", &two) && !origin.is_of("lamp-2", &one));
        for bad in [
            "",
            "12",
            "12-3-1",
            "12-3-1-",
            "12-3-1-00",
            &format!("{text}-"),
            &text.replacen("12", "9999999999999999999", 1),
        ] {
            assert_eq!(RequestId::parse(bad), None, "{bad}");
        }
    }
}
