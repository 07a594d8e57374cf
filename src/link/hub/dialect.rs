//! The topics that a device speaks with, pure: IoT Hub's (`topics`), or fleetform's own, which it also has behind a
//! broker (`protocol`), with the prefix `fleetform`.
//!
//! Its user name says which: IoT Hub's has slashes, and with fleetform's own topics it is the id of the device. These
//! have two more below `fleetform/{device}`, which a broker does not need:
//!
//! | from | topic | payload |
//! | --- | --- | --- |
//! | device | `messages/events/{properties}` | telemetry |
//! | us | `messages/devicebound/{properties}` | a message to the device |

use super::topics::{self, Filter, Said};
use crate::link::DeviceMessage;
use crate::link::protocol::{self, Malformed, Told, Topics, level};
use crate::model::fleet::TOPIC_PREFIX_DEFAULT;

/// A set of topics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Hub,
    Own,
}

impl Dialect {
    /// Returns the topics of a device with this user name.
    pub fn of(username: &str) -> Dialect {
        if username.contains('/') { Dialect::Hub } else { Dialect::Own }
    }

    /// Returns the filter that a text is for a device, or `None`.
    pub fn filter_of(self, device_id: &str, text: &str) -> Option<Filter> {
        if self == Dialect::Hub {
            return topics::filter_of(device_id, text);
        }
        match own_rest(device_id, text)? {
            "methods/POST/#" => Some(Filter::Methods),
            "twin/PATCH/properties/desired/#" => Some(Filter::Desired),
            "twin/res/#" => Some(Filter::Responses),
            "messages/devicebound/#" => Some(Filter::Messages),
            _ => None,
        }
    }

    /// Returns what a device says with a topic.
    ///
    /// # Errors
    /// It is none that the device may write to.
    pub fn said(self, device_id: &str, topic: &str) -> Result<Said, Malformed> {
        if self == Dialect::Hub {
            return topics::said(device_id, topic);
        }
        let rest = own_rest(device_id, topic).ok_or(Malformed::Topic)?;
        if let Some(bag) = rest.strip_prefix("messages/events").filter(|bag| bag.is_empty() || bag.starts_with('/')) {
            return Ok(Said::Telemetry { properties: bag.trim_start_matches('/').to_string() });
        }
        Ok(match own().said(topic)?.1 {
            protocol::Said::Answer { status, rid } => Said::Answer { status: status.into(), rid },
            protocol::Said::Reported { rid } => Said::Reported { rid },
            protocol::Said::TwinWanted { rid } => Said::TwinWanted { rid },
            protocol::Said::Presence => Said::Presence,
        })
    }

    /// Returns true for a topic that a device may have its last will on.
    pub fn is_of_will(self, device_id: &str, topic: &str) -> bool {
        match self {
            Dialect::Hub => topics::is_telemetry(device_id, topic),
            Dialect::Own => {
                matches!(self.said(device_id, topic), Ok(Said::Presence | Said::Telemetry { .. }))
            }
        }
    }

    /// Returns where a device is told something.
    pub fn told(self, device_id: &str, told: &Told) -> String {
        match (self, told) {
            (Dialect::Hub, Told::Method { method, rid, .. }) => topics::method(method, rid),
            (Dialect::Hub, Told::Desired { version }) => topics::desired(*version),
            (Dialect::Hub, Told::Response { status, rid, version }) => topics::response(*status, rid, *version),
            (Dialect::Own, Told::Method { method, rid, xid }) => own().method(device_id, method, rid, xid),
            (Dialect::Own, Told::Desired { version }) => own().desired(device_id, *version),
            (Dialect::Own, Told::Response { status, rid, version }) => {
                own().response(device_id, *status, rid, *version)
            }
        }
    }

    /// Returns where a message to a device comes.
    pub fn message(self, device_id: &str, message: &DeviceMessage) -> String {
        let properties = topics::properties(device_id, message);
        match self {
            Dialect::Hub => format!("devices/{device_id}/messages/devicebound/{properties}"),
            Dialect::Own => format!("{TOPIC_PREFIX_DEFAULT}/{}/messages/devicebound/{properties}", level(device_id)),
        }
    }
}

fn own() -> Topics {
    Topics::new(TOPIC_PREFIX_DEFAULT)
}

/// Returns what is behind the device in one of fleetform's own topics; `None` for that of another device.
fn own_rest<'t>(device_id: &str, topic: &'t str) -> Option<&'t str> {
    let rest = topic.strip_prefix(TOPIC_PREFIX_DEFAULT)?.strip_prefix('/')?;
    rest.strip_prefix(level(device_id).as_str())?.strip_prefix('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_says_which_topics() {
        assert_eq!(Dialect::of("hub.example.com/lamp-1/?api-version=2021-04-12"), Dialect::Hub);
        assert_eq!(Dialect::of("lamp-1"), Dialect::Own);
    }

    #[test]
    fn a_device_writes_to_its_own_topics_only() {
        let check = |topic: &str, expect| assert_eq!(Dialect::Own.said("a+b", topic), expect, "{topic}");
        let rid = || "r-1".to_string();
        check("fleetform/a%2Bb/methods/res/200/?$rid=r-1", Ok(Said::Answer { status: 200, rid: rid() }));
        check("fleetform/a%2Bb/twin/PATCH/properties/reported/?$rid=r-1", Ok(Said::Reported { rid: rid() }));
        check("fleetform/a%2Bb/twin/GET/?$rid=r-1", Ok(Said::TwinWanted { rid: rid() }));
        check("fleetform/a%2Bb/presence", Ok(Said::Presence));
        check("fleetform/a%2Bb/messages/events/a=b", Ok(Said::Telemetry { properties: "a=b".to_string() }));
        check("fleetform/a%2Bb/messages/events", Ok(Said::Telemetry { properties: String::new() }));
        for foreign in [
            "fleetform/a+b/presence",
            "fleetform/a/presence",
            "fleetform/a%2Bb/presence/x",
            "fleetform/a%2Bb/messages/eventsx",
            "fleetform/a%2Bb/methods/POST/x/?$rid=r-1",
            "$iothub/twin/GET/?$rid=r-1",
            "devices/a+b/messages/events/",
        ] {
            check(foreign, Err(Malformed::Topic));
            assert_eq!(Dialect::Own.filter_of("a+b", foreign), None);
        }
        assert_eq!(Dialect::Hub.said("a", "fleetform/a/presence"), Err(Malformed::Topic));
    }

    #[test]
    fn filters_are_compared_as_texts() {
        for (text, filter) in topics_of("a%2Bb") {
            assert_eq!(Dialect::Own.filter_of("a+b", &text), Some(filter), "{text}");
            assert_eq!(Dialect::Own.filter_of("a", &text), None);
            assert_eq!(Dialect::Hub.filter_of("a+b", &text), None);
        }
        for other in ["#", "fleetform/#", "fleetform/+/methods/POST/#", "fleetform/a%2Bb/#", ""] {
            assert_eq!(Dialect::Own.filter_of("a+b", other), None, "{other}");
        }
    }

    fn topics_of(device: &str) -> [(String, Filter); 4] {
        [
            ("methods/POST/#", Filter::Methods),
            ("twin/PATCH/properties/desired/#", Filter::Desired),
            ("twin/res/#", Filter::Responses),
            ("messages/devicebound/#", Filter::Messages),
        ]
        .map(|(rest, filter)| (format!("fleetform/{device}/{rest}"), filter))
    }
}
