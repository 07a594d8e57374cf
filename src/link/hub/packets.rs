//! The packets of both versions of MQTT as one: what a device says, and what it is told.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::common::ArcPayload;
use mqtt_protocol_core::mqtt::packet::{
    MaximumQos, Packet, Property, Qos, ServerKeepAlive, SessionExpiryInterval, SharedSubscriptionAvailable,
    SubscriptionIdentifierAvailable, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, MqttError, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};

use crate::link::mqtt::Version;

/// The longest time without a message that a device of MQTT 5 is given, in seconds. The connection ends after one and a
/// half times as long. IoT Hub has 1,177 s, too.
const KEEP_ALIVE_SECONDS_MAX: u16 = 1_177;

/// What a device says when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    pub version: Version,
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will_topic: Option<String>,
    /// Nothing of an earlier session counts, and nothing of this one is kept. So it always is with MQTT 5, where a
    /// device is told so and subscribes again.
    pub is_clean: bool,
    /// Seconds without a message; 0 for any time.
    pub keep_alive: u16,
    /// Bytes of the largest packet that the device takes, with MQTT 5; `None` for any.
    pub packet_bytes_max: Option<u32>,
}

/// What a connected device says.
#[derive(Debug)]
pub enum Incoming {
    Message {
        topic: String,
        payload: ArcPayload,
        qos: Qos,
        packet_id: Option<u16>,
    },
    Subscribe {
        packet_id: u16,
        filters: Vec<(String, Qos)>,
    },
    Unsubscribe {
        packet_id: u16,
        filters: Vec<String>,
    },
    /// It has a message.
    Acknowledged {
        packet_id: u16,
    },
    /// The library answers it.
    Ping,
    Farewell,
    /// No device sends this, or it is of a later step.
    Other,
}

/// What a device that wants to be let in is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Welcome,
    NotAuthorized,
    /// It may come again.
    Unavailable,
    /// Its version of MQTT is not spoken with its topics.
    Version,
}

/// A message to a device.
#[derive(Debug, Clone)]
pub struct Message {
    pub topic: String,
    pub payload: Arc<[u8]>,
    /// Its number, when it is to be acknowledged.
    pub packet_id: Option<u16>,
    /// It was sent before, and may have arrived.
    pub is_again: bool,
}

impl Message {
    /// Returns a message of a topic that nobody acknowledges, without a payload.
    pub fn unacknowledged(topic: String) -> Message {
        Message { topic, payload: [].into(), packet_id: None, is_again: false }
    }
}

/// Returns what a packet says that a connection begins with; `None` for another packet.
pub fn greeting(packet: &Packet) -> Option<Greeting> {
    // Two types with the same methods.
    macro_rules! common {
        ($hello:expr, $version:expr, $is_clean:expr, $packet_bytes_max:expr) => {
            Greeting {
                version: $version,
                client_id: $hello.client_id().to_string(),
                username: $hello.user_name().map(str::to_string),
                password: $hello.password().map(<[u8]>::to_vec),
                will_topic: $hello.will_topic().map(str::to_string),
                is_clean: $is_clean,
                keep_alive: $hello.keep_alive(),
                packet_bytes_max: $packet_bytes_max,
            }
        };
    }
    match packet {
        Packet::V3_1_1Connect(hello) => Some(common!(hello, Version::V311, hello.clean_session(), None)),
        Packet::V5_0Connect(hello) => {
            let largest = hello.props().iter().find_map(|property| match property {
                Property::MaximumPacketSize(size) => Some(size.val()),
                _ => None,
            });
            Some(common!(hello, Version::V5, true, largest))
        }
        _ => None,
    }
}

/// Returns what a packet of a connected device says.
pub fn incoming(packet: Packet) -> Incoming {
    macro_rules! message {
        ($message:expr) => {
            Incoming::Message {
                topic: $message.topic_name().to_string(),
                payload: $message.payload().clone(),
                qos: $message.qos(),
                packet_id: $message.packet_id(),
            }
        };
    }
    macro_rules! subscribe {
        ($wanted:expr) => {{
            let entries = $wanted.entries().iter();
            let filters = entries.map(|entry| (entry.topic_filter().to_string(), entry.sub_opts().qos())).collect();
            Incoming::Subscribe { packet_id: $wanted.packet_id(), filters }
        }};
    }
    macro_rules! unsubscribe {
        ($unwanted:expr) => {{
            let filters = $unwanted.entries().iter().map(|entry| entry.as_str().to_string()).collect();
            Incoming::Unsubscribe { packet_id: $unwanted.packet_id(), filters }
        }};
    }
    match packet {
        Packet::V3_1_1Publish(message) => message!(message),
        Packet::V5_0Publish(message) => message!(message),
        Packet::V3_1_1Subscribe(wanted) => subscribe!(wanted),
        Packet::V5_0Subscribe(wanted) => subscribe!(wanted),
        Packet::V3_1_1Unsubscribe(unwanted) => unsubscribe!(unwanted),
        Packet::V5_0Unsubscribe(unwanted) => unsubscribe!(unwanted),
        // It does not come again, whatever the device says of it.
        Packet::V3_1_1Puback(taken) => Incoming::Acknowledged { packet_id: taken.packet_id() },
        Packet::V5_0Puback(taken) => Incoming::Acknowledged { packet_id: taken.packet_id() },
        Packet::V3_1_1Pingreq(_) | Packet::V5_0Pingreq(_) => Incoming::Ping,
        Packet::V3_1_1Disconnect(_) | Packet::V5_0Disconnect(_) => Incoming::Farewell,
        _ => Incoming::Other,
    }
}

/// Returns the rule of MQTT that a packet breaks, of those that the library does not check.
pub fn broken_rule(incoming: &Incoming) -> Option<&'static str> {
    let (number, has_null) = match incoming {
        Incoming::Message { topic, packet_id, .. } => (*packet_id, topic.contains('\0')),
        Incoming::Subscribe { packet_id, filters } => {
            (Some(*packet_id), filters.iter().any(|(filter, _)| filter.contains('\0')))
        }
        Incoming::Unsubscribe { packet_id, filters } => {
            (Some(*packet_id), filters.iter().any(|filter| filter.contains('\0')))
        }
        _ => (None, false),
    };
    match number {
        Some(0) => Some("the packet has the number 0"),
        _ => has_null.then_some("a topic has the character NUL"),
    }
}

/// Returns the answer to a device that wants to be let in.
pub fn verdict(greeting: &Greeting, verdict: Verdict, session_present: bool) -> Result<Packet, MqttError> {
    match greeting.version {
        Version::V311 => {
            let code = match verdict {
                Verdict::Welcome => ConnectReturnCode::Accepted,
                Verdict::NotAuthorized => ConnectReturnCode::NotAuthorized,
                Verdict::Unavailable => ConnectReturnCode::ServerUnavailable,
                Verdict::Version => ConnectReturnCode::UnacceptableProtocolVersion,
            };
            Ok(v3_1_1::Connack::builder().return_code(code).session_present(session_present).build()?.into())
        }
        Version::V5 => {
            let (code, props) = match verdict {
                Verdict::Welcome => (ConnectReasonCode::Success, terms(greeting.keep_alive)?),
                Verdict::NotAuthorized => (ConnectReasonCode::NotAuthorized, Vec::new()),
                Verdict::Unavailable => (ConnectReasonCode::ServerUnavailable, Vec::new()),
                Verdict::Version => (ConnectReasonCode::UnsupportedProtocolVersion, Vec::new()),
            };
            let packet = v5_0::Connack::builder().reason_code(code).session_present(session_present).props(props);
            Ok(packet.build()?.into())
        }
    }
}

/// Returns what a device of MQTT 5 is told of what it may do.
fn terms(keep_alive: u16) -> Result<Vec<Property>, MqttError> {
    let mut props = vec![
        Property::from(SessionExpiryInterval::new(0)?),
        Property::from(MaximumQos::new(1)?),
        Property::from(SharedSubscriptionAvailable::new(0)?),
        Property::from(SubscriptionIdentifierAvailable::new(0)?),
    ];
    if keep_alive == 0 || keep_alive > KEEP_ALIVE_SECONDS_MAX {
        props.push(Property::from(ServerKeepAlive::new(KEEP_ALIVE_SECONDS_MAX)?));
    }
    Ok(props)
}

/// Returns the packet of a message to a device.
pub fn publish(version: Version, message: Message) -> Result<Packet, MqttError> {
    let Message { topic, payload, packet_id, is_again } = message;
    let qos = if packet_id.is_some() { Qos::AtLeastOnce } else { Qos::AtMostOnce };
    macro_rules! common {
        ($builder:expr) => {{
            let packet = $builder.topic_name(topic)?.qos(qos).dup(is_again).payload(payload);
            match packet_id {
                Some(packet_id) => packet.packet_id(packet_id),
                None => packet,
            }
        }};
    }
    match version {
        Version::V311 => Ok(common!(v3_1_1::Publish::builder()).build()?.into()),
        Version::V5 => Ok(common!(v5_0::Publish::builder()).build()?.into()),
    }
}

/// Returns the acknowledgement of a message of a device.
pub fn acknowledgement(version: Version, packet_id: u16) -> Result<Packet, MqttError> {
    match version {
        Version::V311 => Ok(v3_1_1::Puback::builder().packet_id(packet_id).build()?.into()),
        Version::V5 => Ok(v5_0::Puback::builder().packet_id(packet_id).build()?.into()),
    }
}

/// Returns the answer to subscriptions: the quality that each gets, or `None` for one that it does not get.
pub fn subscribed(version: Version, packet_id: u16, granted: &[Option<Qos>]) -> Result<Packet, MqttError> {
    match version {
        Version::V311 => {
            let code = |granted: &Option<Qos>| match granted {
                Some(Qos::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
                Some(Qos::AtLeastOnce | Qos::ExactlyOnce) => SubackReturnCode::SuccessMaximumQos1,
                None => SubackReturnCode::Failure,
            };
            let codes = granted.iter().map(code).collect();
            Ok(v3_1_1::Suback::builder().packet_id(packet_id).return_codes(codes).build()?.into())
        }
        Version::V5 => {
            let code = |granted: &Option<Qos>| match granted {
                Some(Qos::AtMostOnce) => SubackReasonCode::GrantedQos0,
                Some(Qos::AtLeastOnce | Qos::ExactlyOnce) => SubackReasonCode::GrantedQos1,
                None => SubackReasonCode::NotAuthorized,
            };
            let codes = granted.iter().map(code).collect();
            Ok(v5_0::Suback::builder().packet_id(packet_id).reason_codes(codes).build()?.into())
        }
    }
}

/// Returns the answer to the end of so many subscriptions.
pub fn unsubscribed(version: Version, packet_id: u16, count: usize) -> Result<Packet, MqttError> {
    match version {
        Version::V311 => Ok(v3_1_1::Unsuback::builder().packet_id(packet_id).build()?.into()),
        Version::V5 => {
            let codes = vec![UnsubackReasonCode::Success; count];
            Ok(v5_0::Unsuback::builder().packet_id(packet_id).reason_codes(codes).build()?.into())
        }
    }
}
