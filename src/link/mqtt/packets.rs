//! The packets that a client sends, in both versions of MQTT.

use std::sync::Arc;

use mqtt_protocol_core::mqtt::packet::{
    MessageExpiryInterval, Packet, Property, Qos, ReceiveMaximum, SessionExpiryInterval, SubEntry, SubOpts, v3_1_1,
    v5_0,
};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;

use super::error::BrokerError;
use super::terms::{ClientOptions, Publication, Version};

/// Seconds without a message after which a ping is sent.
const KEEP_ALIVE_SECONDS: u16 = 30;

/// Returns the packet that asks to connect.
pub(super) fn connect(version: Version, options: &ClientOptions) -> Result<Packet, BrokerError> {
    let ClientOptions { client_id, username, password, session_seconds, will, receive_max, is_new_session, .. } =
        options;
    let is_new = *is_new_session || *session_seconds == 0;
    // Two types with the same methods.
    macro_rules! common {
        ($builder:expr) => {{
            let mut packet = $builder.client_id(client_id.as_str()).map_err(BrokerError::protocol)?;
            packet = packet.keep_alive(KEEP_ALIVE_SECONDS);
            if let Some(username) = username {
                packet = packet.user_name(username.as_str()).map_err(BrokerError::protocol)?;
            }
            if let Some(password) = password {
                packet = packet.password(password.clone()).map_err(BrokerError::protocol)?;
            }
            if let Some((topic, payload)) = will {
                packet = packet
                    .will_message(topic.as_str(), payload.clone(), Qos::AtLeastOnce, true)
                    .map_err(BrokerError::protocol)?;
            }
            packet
        }};
    }
    Ok(match version {
        Version::V5 => {
            let expiry = SessionExpiryInterval::new(*session_seconds).map_err(BrokerError::protocol)?;
            let most = ReceiveMaximum::new(*receive_max).map_err(BrokerError::protocol)?;
            let props = vec![Property::from(expiry), Property::from(most)];
            let packet = common!(v5_0::Connect::builder()).clean_start(is_new).props(props);
            packet.build().map_err(BrokerError::protocol)?.into()
        }
        Version::V311 => {
            let packet = common!(v3_1_1::Connect::builder()).clean_session(is_new);
            packet.build().map_err(BrokerError::protocol)?.into()
        }
    })
}

/// Returns the packet of a message with QoS 1.
pub(super) fn publish(version: Version, publication: &Publication, packet_id: u16) -> Result<Packet, BrokerError> {
    let Publication { topic, payload, is_retained, expires_after } = publication;
    let payload = Arc::clone(payload);
    let packet = match version {
        Version::V5 => {
            let expiry = expires_after.and_then(|seconds| MessageExpiryInterval::new(seconds).ok());
            let props: Vec<Property> = expiry.into_iter().map(Property::from).collect();
            let packet = v5_0::Publish::builder().topic_name(topic.as_str()).map_err(BrokerError::protocol)?;
            let packet = packet.qos(Qos::AtLeastOnce).retain(*is_retained).packet_id(packet_id);
            packet.payload(payload).props(props).build().map_err(BrokerError::protocol)?.into()
        }
        Version::V311 => {
            let packet = v3_1_1::Publish::builder().topic_name(topic.as_str()).map_err(BrokerError::protocol)?;
            let packet = packet.qos(Qos::AtLeastOnce).retain(*is_retained).packet_id(packet_id);
            packet.payload(payload).build().map_err(BrokerError::protocol)?.into()
        }
    };
    Ok(packet)
}

/// Returns the packet that subscribes with QoS 1.
pub(super) fn subscribe(version: Version, filters: &[String], packet_id: u16) -> Result<Packet, BrokerError> {
    let options = SubOpts::new().set_qos(Qos::AtLeastOnce);
    let entries: Result<Vec<SubEntry>, _> =
        filters.iter().map(|filter| SubEntry::new(filter.as_str(), options)).collect();
    let entries = entries.map_err(BrokerError::protocol)?;
    let packet: Packet = match version {
        Version::V5 => {
            let packet = v5_0::Subscribe::builder().packet_id(packet_id).entries(entries).build();
            packet.map_err(BrokerError::protocol)?.into()
        }
        Version::V311 => {
            let packet = v3_1_1::Subscribe::builder().packet_id(packet_id).entries(entries).build();
            packet.map_err(BrokerError::protocol)?.into()
        }
    };
    Ok(packet)
}

/// Returns the packet that acknowledges a message.
pub(super) fn acknowledgement(version: Version, packet_id: u16) -> Option<Packet> {
    match version {
        Version::V5 => v5_0::Puback::builder().packet_id(packet_id).build().ok().map(Into::into),
        Version::V311 => v3_1_1::Puback::builder().packet_id(packet_id).build().ok().map(Into::into),
    }
}

/// Returns the packet that ends a connection.
pub(super) fn farewell(version: Version, ends_session: bool) -> Option<Packet> {
    match version {
        Version::V5 => {
            let expiry = if ends_session { SessionExpiryInterval::new(0).ok() } else { None };
            let props: Vec<Property> = expiry.into_iter().map(Property::from).collect();
            let packet = v5_0::Disconnect::builder().reason_code(DisconnectReasonCode::NormalDisconnection);
            packet.props(props).build().ok().map(Into::into)
        }
        Version::V311 => v3_1_1::Disconnect::builder().build().ok().map(Into::into),
    }
}
