//! The device side of IoT Hub's MQTT, pure: topics as text and back. They do not name the device: it is that of the
//! connection.
//!
//! | from | topic | payload |
//! | --- | --- | --- |
//! | us | `$iothub/methods/POST/{method}/?$rid={rid}` | JSON |
//! | device | `$iothub/methods/res/{status}/?$rid={rid}` | JSON, or nothing |
//! | us | `$iothub/twin/PATCH/properties/desired/?$version={version}` | a merge patch with `$version` |
//! | device | `$iothub/twin/PATCH/properties/reported/?$rid={rid}` | a merge patch |
//! | device | `$iothub/twin/GET/?$rid={rid}` | ignored |
//! | us | `$iothub/twin/res/{status}/?$rid={rid}`, with `&$version={version}` for a patch | the twin, or nothing |
//! | device | `devices/{id}/messages/events/{properties}` | telemetry |
//! | us | `devices/{id}/messages/devicebound/{properties}` | a message to the device |
//!
//! Source: Microsoft, "Communicate with an IoT hub using the MQTT protocol".

use crate::link::DeviceMessage;
use crate::link::protocol::{Malformed, rid_of};
use crate::model::encoding::percent_encoded;
use crate::model::subscriptions::Subscriptions;

/// What a device subscribes to. Other filters do not exist: these are compared as texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Methods,
    Desired,
    /// Answers to its twin requests, which it gets whether it has subscribed or not.
    Responses,
    /// Messages from the cloud.
    Messages,
}

/// What a device is taken to listen to that no session is kept of: the clients of IoT Hub subscribe once, and not again
/// to where their registry was made anew. A message is gone when it was delivered, so it waits for who asks for it.
pub const ASSUMED: Subscriptions = Subscriptions { methods: true, desired: true, messages: false, is_silent: false };

impl Filter {
    /// Notes in what a device listens to that it does, or does no more.
    pub fn set(self, subscriptions: &mut Subscriptions, is_on: bool) {
        match self {
            Filter::Methods => subscriptions.methods = is_on,
            Filter::Desired => subscriptions.desired = is_on,
            Filter::Messages => subscriptions.messages = is_on,
            Filter::Responses => {}
        }
    }
}

/// What a device says with a topic.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// The answer to a method; a status is any integer.
    Answer {
        status: i64,
        rid: String,
    },
    Reported {
        rid: String,
    },
    TwinWanted {
        rid: String,
    },
    /// With its properties, percent-encoded.
    Telemetry {
        properties: String,
    },
    /// That it is there, which its connection says better. Only fleetform's own topics have it.
    Presence,
}

/// Returns the filter that a text is for a device, or `None`.
pub fn filter_of(device_id: &str, text: &str) -> Option<Filter> {
    match text {
        "$iothub/methods/POST/#" => Some(Filter::Methods),
        "$iothub/twin/PATCH/properties/desired/#" => Some(Filter::Desired),
        "$iothub/twin/res/#" => Some(Filter::Responses),
        other => is_of(device_id, other, "/messages/devicebound/#").then_some(Filter::Messages),
    }
}

fn is_of(device_id: &str, topic: &str, rest: &str) -> bool {
    topic.strip_prefix("devices/").and_then(|topic| topic.strip_prefix(device_id)) == Some(rest)
}

/// Returns true for a topic to which a device sends telemetry.
pub fn is_telemetry(device_id: &str, topic: &str) -> bool {
    telemetry(device_id, topic).is_some()
}

/// Returns the properties of telemetry, as the device wrote them; `None` for another topic.
fn telemetry<'t>(device_id: &str, topic: &'t str) -> Option<&'t str> {
    let rest = topic.strip_prefix("devices/").and_then(|topic| topic.strip_prefix(device_id));
    let bag = rest.and_then(|rest| rest.strip_prefix("/messages/events"))?;
    if bag.is_empty() { Some(bag) } else { bag.strip_prefix('/') }
}

/// Returns what a device says with a topic.
///
/// # Errors
/// It is none that the device may write to.
pub fn said(device_id: &str, topic: &str) -> Result<Said, Malformed> {
    if let Some(rest) = topic.strip_prefix("$iothub/methods/res/") {
        let (status, query) = rest.split_once('/').ok_or(Malformed::Topic)?;
        let status = status.parse().map_err(|_| Malformed::Status)?;
        Ok(Said::Answer { status, rid: rid_of(query)? })
    } else if let Some(query) = topic.strip_prefix("$iothub/twin/PATCH/properties/reported/") {
        Ok(Said::Reported { rid: rid_of(query)? })
    } else if let Some(query) = topic.strip_prefix("$iothub/twin/GET/") {
        Ok(Said::TwinWanted { rid: rid_of(query)? })
    } else if let Some(properties) = telemetry(device_id, topic) {
        Ok(Said::Telemetry { properties: properties.to_string() })
    } else {
        Err(Malformed::Topic)
    }
}

/// Returns where a method is called. Only what would break the topic is percent-encoded in its name: some clients decode
/// it, and others do not.
pub fn method(name: &str, rid: &str) -> String {
    let mut level = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_control() || matches!(c, ' ' | '/' | '?' | '#' | '&' | '%' | '+') {
            c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| level.push_str(&format!("%{byte:02X}")));
        } else {
            level.push(c);
        }
    }
    format!("$iothub/methods/POST/{level}/?$rid={rid}")
}

/// Returns where a device hears of new desired properties.
pub fn desired(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// Returns where a twin request is answered; `version` is that of the reported properties after a patch.
pub fn response(status: u16, rid: &str, version: Option<u64>) -> String {
    let version = version.map(|version| format!("&$version={version}")).unwrap_or_default();
    format!("$iothub/twin/res/{status}/?$rid={rid}{version}")
}

/// Returns the properties of a message to a device: `{name}={value}`, percent-encoded, with `&` between them.
pub fn properties(device_id: &str, message: &DeviceMessage) -> String {
    let own = [
        ("$.mid", message.message_id.clone()),
        ("$.to", Some(format!("/devices/{device_id}/messages/devicebound"))),
        ("$.exp", Some(message.expires_at.to_string())),
    ];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?)));
    let given = message.properties.as_object().into_iter().flatten();
    let given = given.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_string())));
    let pairs = own.chain(given).map(|(name, value)| format!("{}={}", percent_encoded(&name), percent_encoded(&value)));
    pairs.collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topics_are_those_of_the_documentation() {
        assert_eq!(method("lamp1*re-boot.x:y_z", "7"), "$iothub/methods/POST/lamp1*re-boot.x:y_z/?$rid=7");
        assert_eq!(method("a b/ü%", "7"), "$iothub/methods/POST/a%20b%2Fü%25/?$rid=7");
        assert_eq!(desired(3), "$iothub/twin/PATCH/properties/desired/?$version=3");
        assert_eq!(response(204, "r", Some(4)), "$iothub/twin/res/204/?$rid=r&$version=4");
        assert_eq!(response(200, "r", None), "$iothub/twin/res/200/?$rid=r");
    }

    #[test]
    fn the_properties_of_a_message_break_no_topic() {
        let one = DeviceMessage {
            sequence: 1,
            is_again: false,
            message_id: Some("m+1".to_string()),
            properties: serde_json::json!({"$.ct": "text/plain", "a b": "ü=#"}),
            expires_at: "2026-12-01T02:30:00Z".parse().unwrap(),
            body: Vec::new(),
        };
        let to = "%24.to=%2Fdevices%2Fd-1%2Fmessages%2Fdevicebound";
        let rest = "%24.exp=2026-12-01T02%3A30%3A00Z&%24.ct=text%2Fplain&a%20b=%C3%BC%3D%23";
        assert_eq!(properties("d-1", &one), format!("%24.mid=m%2B1&{to}&{rest}"));
    }

    #[test]
    fn a_device_writes_to_its_own_topics_only() {
        let rid = || "r-1".to_string();
        let check = |topic: &str, expect| assert_eq!(said("a+b", topic), expect, "{topic}");
        check("$iothub/methods/res/200/?$rid=r-1", Ok(Said::Answer { status: 200, rid: rid() }));
        check("$iothub/methods/res/-5/?$rid=r-1", Ok(Said::Answer { status: -5, rid: rid() }));
        check("$iothub/methods/res/70000/?$rid=r-1", Ok(Said::Answer { status: 70_000, rid: rid() }));
        check("$iothub/methods/res/ok/?$rid=r-1", Err(Malformed::Status));
        check("$iothub/methods/res/200", Err(Malformed::Topic));
        check("$iothub/methods/res/200/", Err(Malformed::RequestId));
        check("$iothub/twin/PATCH/properties/reported/?$rid=r-1", Ok(Said::Reported { rid: rid() }));
        check("$iothub/twin/GET/?$rid=r-1", Ok(Said::TwinWanted { rid: rid() }));
        let telemetry = |properties: &str| Ok(Said::Telemetry { properties: properties.to_string() });
        check("devices/a+b/messages/events/", telemetry(""));
        check("devices/a+b/messages/events/%24.mid=1&a=b", telemetry("%24.mid=1&a=b"));
        for foreign in ["devices/a/messages/events/", "devices/a+b/messages/eventsx", "$iothub/methods/POST/x/?$rid=1"]
        {
            check(foreign, Err(Malformed::Topic));
        }
    }

    #[test]
    fn filters_are_compared_as_texts() {
        let of = |text: &str| filter_of("a+b", text);
        assert_eq!(of("$iothub/methods/POST/#"), Some(Filter::Methods));
        assert_eq!(of("$iothub/twin/PATCH/properties/desired/#"), Some(Filter::Desired));
        assert_eq!(of("$iothub/twin/res/#"), Some(Filter::Responses));
        assert_eq!(of("devices/a+b/messages/devicebound/#"), Some(Filter::Messages));
        for other in ["#", "$iothub/#", "devices/a/messages/devicebound/#", "devices/+/messages/devicebound/#", ""] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
