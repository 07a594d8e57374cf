//! Telemetry that goes on to an MQTT broker, on one connection: the payload as the device sent it, with QoS 1, to
//! `{prefix}/{device}/messages/events/{properties}`. With the prefix `devices` these are IoT Hub's topics.

use std::collections::BTreeMap;
use std::time::Duration;

use super::telemetry::{Outlet, Telemetry};
use crate::link::mqtt::{ClientOptions, Connection, Publication, Received, Version, connect};
use crate::link::protocol::level;

/// Messages that the broker has not acknowledged.
const UNDER_WAY_MAX: usize = 256;
/// The first pause before the broker is tried again, and the longest.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// Passes telemetry on until there is no way to it any more.
pub async fn publish_all(options: ClientOptions, prefix: String, mut outlet: Outlet) {
    let (mut version, mut has_hung_up, mut pause) = (Version::V5, false, PAUSE);
    let place = format!("{}:{}", options.host, options.port);
    // What a lost connection had is sent again on the next one.
    let mut under_way = Vec::new();
    loop {
        match connect(&options, &mut version, &mut has_hung_up).await {
            Ok(mut connection) => {
                pause = PAUSE;
                tracing::info!(broker = %place, "telemetry goes on to a broker");
                let mut flights = Flights { prefix: &prefix, by_packet: BTreeMap::new() };
                match flights.publish(&mut connection, std::mem::take(&mut under_way), &mut outlet).await {
                    Ok(()) => return,
                    Err(error) => outlet.warn(&place, &error),
                }
                under_way = flights.by_packet.into_values().collect();
            }
            Err(error) => outlet.warn(&place, &error),
        }
        if outlet.is_over() {
            return;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// What a connection has and the broker has not acknowledged.
struct Flights<'a> {
    prefix: &'a str,
    by_packet: BTreeMap<u16, Telemetry>,
}

impl Flights<'_> {
    /// Publishes what comes until no more comes.
    async fn publish(
        &mut self,
        connection: &mut Connection,
        again: Vec<Telemetry>,
        outlet: &mut Outlet,
    ) -> Result<(), crate::link::BrokerError> {
        again.into_iter().for_each(|one| self.send(connection, one, outlet));
        loop {
            let has_room = self.by_packet.len() < UNDER_WAY_MAX && connection.is_written();
            tokio::select! {
                one = outlet.next(), if has_room => match one {
                    Some(one) => self.send(connection, one, outlet),
                    None => return Ok(()),
                },
                turned = connection.turn(true) => turned?,
            }
            let received: Vec<Received> = connection.received().collect();
            for one in received {
                if let Received::Acknowledged { packet_id, is_refused, .. } = one
                    && let Some(one) = self.by_packet.remove(&packet_id)
                {
                    outlet.settle(&[one], is_refused);
                }
            }
        }
    }

    fn send(&mut self, connection: &mut Connection, one: Telemetry, outlet: &Outlet) {
        let Telemetry { device_id, properties, payload, .. } = &one;
        let publication = Publication {
            topic: format!("{}/{}/messages/events/{properties}", self.prefix, level(device_id)),
            payload: payload.as_slice().into(),
            is_retained: false,
            expires_after: None,
        };
        match connection.publish(&publication) {
            Ok(packet_id) => drop(self.by_packet.insert(packet_id, one)),
            // It is larger than the broker takes, for one.
            Err(_) => outlet.settle(&[one], true),
        }
    }
}
