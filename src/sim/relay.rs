//! A broker between fleetform and its devices: what devices say comes late, twice, out of order, and to a later process
//! or for a run that has ended.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::Random;
use crate::execute::Ports;
use crate::link::{DeviceLink, LinkError, LinkEvent, Origin, PolicyKeys, Reply, Request, Token};
use crate::model::status::LinkStatus;

/// What the broker still has, which outlives the processes of fleetform.
#[derive(Debug)]
pub struct Relay {
    random: Random,
    /// By the time at which it is delivered, then in order.
    held: BTreeMap<(Timestamp, u64), LinkEvent>,
    count: u64,
    /// Who was asked under a token last, with the first digits of the execution id.
    asked: BTreeMap<Token, Origin>,
}

impl Relay {
    /// Returns a broker whose faults are a function of a seed.
    pub fn new(seed: u64) -> Rc<RefCell<Relay>> {
        let (held, asked) = (BTreeMap::new(), BTreeMap::new());
        Rc::new(RefCell::new(Relay { random: Random::new(seed), held, count: 0, asked }))
    }

    fn hold(&mut self, at: Timestamp, event: LinkEvent) {
        self.count += 1;
        self.held.insert((at, self.count), event);
    }

    /// Takes an event of a device, to be delivered at one or more times.
    fn take(&mut self, now: Timestamp, event: LinkEvent) {
        // A request that was not delivered was never with the broker.
        if matches!(event, LinkEvent::NotDelivered { .. }) {
            return self.hold(now, event);
        }
        let event = match event {
            LinkEvent::Answered { token, code, body, .. } => {
                LinkEvent::Answered { token, origin: self.asked.get(&token).cloned(), code, body }
            }
            event => event,
        };
        let late = |random: &mut Random, seconds: u64| {
            now.checked_add(Duration::from_millis(random.between(0, seconds * 1_000))).unwrap_or(now)
        };
        let first = if self.random.chance(20) { late(&mut self.random, 8) } else { now };
        if self.random.chance(15) {
            // Perhaps when the run has ended, or the process.
            let second = late(&mut self.random, 600);
            self.hold(second, event.clone());
        }
        self.hold(first, event);
    }
}

/// Returns the ports of a process whose link goes through a broker, if there is one.
pub(super) fn relayed(relay: Option<&Rc<RefCell<Relay>>>, mut ports: Ports) -> Ports {
    let Some(relay) = relay.cloned() else { return ports };
    if let Some(inner) = ports.link.take() {
        ports.link = Some(Rc::new(move |link| Box::new(Relayed { relay: Rc::clone(&relay), port: inner(link) })));
    }
    ports
}

/// A link through a broker.
struct Relayed {
    relay: Rc<RefCell<Relay>>,
    port: Box<dyn DeviceLink>,
}

impl DeviceLink for Relayed {
    fn send(&mut self, now: Timestamp, request: Request) {
        let mut proof = request.execution_id.to_string();
        proof.truncate(16);
        let origin = Origin { device_id: request.device_id.clone(), proof };
        self.relay.borrow_mut().asked.insert(request.token, origin);
        self.port.send(now, request);
    }

    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError> {
        let events = self.port.poll(now)?;
        let mut relay = self.relay.borrow_mut();
        events.into_iter().for_each(|event| relay.take(now, event));
        let mut due = Vec::new();
        while let Some(entry) = relay.held.first_entry()
            && entry.key().0 <= now
        {
            due.push(entry.remove());
        }
        // What is delivered at one moment has no order.
        if due.len() > 1 && relay.random.chance(30) {
            due.reverse();
        }
        Ok(due)
    }

    fn due(&self) -> Option<Timestamp> {
        let held = self.relay.borrow().held.first_key_value().map(|((at, _), _)| *at);
        self.port.due().into_iter().chain(held).min()
    }

    fn under_way(&self) -> usize {
        self.port.under_way()
    }

    fn expects_until(&self) -> Option<Timestamp> {
        self.port.expects_until()
    }

    fn reply(&mut self, reply: Reply) {
        self.port.reply(reply);
    }

    fn settle(&mut self) {
        self.port.settle();
    }

    fn is_ready(&self) -> bool {
        self.port.is_ready()
    }

    fn room(&self) -> usize {
        self.port.room()
    }

    fn untold(&self) -> usize {
        self.port.untold()
    }

    fn fault(&self) -> Option<LinkError> {
        self.port.fault()
    }

    fn tells_desired(&self) -> bool {
        self.port.tells_desired()
    }

    fn hears_alone(&self) -> bool {
        self.port.hears_alone()
    }

    fn is_connected(&self, device_id: &str) -> bool {
        self.port.is_connected(device_id)
    }

    fn look_again(&mut self) {
        self.port.look_again();
    }

    fn messages_wait(&mut self, device_ids: &[String]) {
        self.port.messages_wait(device_ids);
    }

    fn take_policies(&mut self, policies: PolicyKeys) {
        self.port.take_policies(policies);
    }

    fn status(&self) -> Option<LinkStatus> {
        self.port.status()
    }
}
