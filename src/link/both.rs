//! Devices behind a broker and devices that connect to this process, in one fleet.
//!
//! A device is reached where it was seen last. One that was seen nowhere since this process began is called at the
//! broker: one of the gateway would be connected.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::happened::lasting;
use super::{DeviceLink, HubLink, LinkError, LinkEvent, MqttLink, PolicyKeys, Reply, ReplyAnswer, Request};
use crate::model::status::LinkStatus;

/// Where a device was seen last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Broker,
    Gateway,
}

/// Both ways to the devices. What is true of it is true of both: nothing new is sent while one of them is away.
pub struct BothLinks {
    broker: MqttLink,
    gateway: HubLink,
    seen: BTreeMap<String, Side>,
    /// What the broker's devices have said, and is not settled: nobody says it again.
    returned: Vec<LinkEvent>,
}

impl BothLinks {
    pub fn new(broker: MqttLink, gateway: HubLink) -> BothLinks {
        BothLinks { broker, gateway, seen: BTreeMap::new(), returned: Vec::new() }
    }

    fn side_of(&self, device_id: &str) -> Side {
        match self.gateway.is_connected(device_id) {
            true => Side::Gateway,
            false => self.seen.get(device_id).copied().unwrap_or(Side::Broker),
        }
    }

    fn note(&mut self, events: &[LinkEvent], side: Side) {
        for event in events {
            let (LinkEvent::Presence { device_id, is_online: true, .. }
            | LinkEvent::Reported { device_id, .. }
            | LinkEvent::TwinWanted { device_id, .. }) = event
            else {
                continue;
            };
            if self.seen.get(device_id) != Some(&side) {
                self.seen.insert(device_id.clone(), side);
            }
        }
    }
}

impl DeviceLink for BothLinks {
    fn send(&mut self, now: Timestamp, request: Request) {
        match self.side_of(&request.device_id) {
            Side::Broker => self.broker.send(now, request),
            Side::Gateway => self.gateway.send(now, request),
        }
    }

    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError> {
        // What could not be written down is tried again.
        let mut events = std::mem::take(&mut self.returned);
        if events.is_empty() {
            events = self.broker.poll(now)?;
            self.note(&events, Side::Broker);
        }
        self.returned = lasting(&events);
        let others = self.gateway.poll(now)?;
        self.note(&others, Side::Gateway);
        events.extend(others);
        Ok(events)
    }

    fn due(&self) -> Option<Timestamp> {
        if !self.returned.is_empty() {
            return Some(Timestamp::MIN);
        }
        [self.broker.due(), self.gateway.due()].into_iter().flatten().min()
    }

    fn under_way(&self) -> usize {
        self.broker.under_way() + self.gateway.under_way()
    }

    fn expects_until(&self) -> Option<Timestamp> {
        self.broker.expects_until().max(self.gateway.expects_until())
    }

    fn reply(&mut self, reply: Reply) {
        let is_of_gateway = match reply.answer {
            ReplyAnswer::Identity(_) | ReplyAnswer::Messages { .. } => true,
            ReplyAnswer::Twin(_) | ReplyAnswer::Written { .. } | ReplyAnswer::Refused { .. } => {
                self.side_of(&reply.device_id) == Side::Gateway
            }
        };
        if is_of_gateway { self.gateway.reply(reply) } else { self.broker.reply(reply) }
    }

    fn settle(&mut self) {
        self.returned.clear();
        self.broker.settle();
        self.gateway.settle();
    }

    fn is_ready(&self) -> bool {
        self.broker.is_ready() && self.gateway.is_ready()
    }

    fn room(&self) -> usize {
        self.broker.room().min(self.gateway.room())
    }

    fn untold(&self) -> usize {
        self.broker.untold() + self.gateway.untold()
    }

    fn fault(&self) -> Option<LinkError> {
        self.broker.fault().or_else(|| self.gateway.fault())
    }

    fn tells_desired(&self) -> bool {
        true
    }

    /// The gateway does, and the broker's devices are not asked again either.
    fn hears_alone(&self) -> bool {
        true
    }

    fn is_connected(&self, device_id: &str) -> bool {
        self.gateway.is_connected(device_id)
    }

    fn look_again(&mut self) {
        self.gateway.look_again();
    }

    fn take_policies(&mut self, policies: PolicyKeys) {
        self.gateway.take_policies(policies);
    }

    fn messages_wait(&mut self, device_ids: &[String]) {
        self.gateway.messages_wait(device_ids);
    }

    fn status(&self) -> Option<LinkStatus> {
        let broker = self.broker.status()?;
        let Some(gateway) = self.gateway.status() else { return Some(broker) };
        Some(LinkStatus {
            connected: broker.connected + gateway.connected,
            connections: broker.connections + gateway.connections,
            fault: broker.fault.or(gateway.fault),
            online: broker.online + gateway.online,
            malformed: broker.malformed + gateway.malformed,
            refused: broker.refused + gateway.refused,
            telemetry: gateway.telemetry,
            telemetry_lost: gateway.telemetry_lost,
        })
    }
}
