//! The session of a device that outlives its connection: what it listens to is in the registry before the device is
//! told that it does.

use std::collections::BTreeMap;

use mqtt_protocol_core::mqtt::packet::Qos;
use tokio::io::{AsyncRead, AsyncWrite};

use super::end::End;
use super::wire::Wire;
use crate::model::subscriptions::Subscriptions;

/// The answer to a packet that may change what a device listens to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The quality that each filter gets, or `None` for one that it does not get.
    Subscribed(Vec<Option<Qos>>),
    /// So many filters are none any more.
    Unsubscribed(usize),
}

impl Answer {
    /// Writes the answer to the packet of a number.
    pub fn write<S: AsyncRead + AsyncWrite + Unpin>(&self, packet_id: u16, wire: &mut Wire<S>) -> Result<(), End> {
        match self {
            Answer::Subscribed(granted) => wire.subscribed(packet_id, granted),
            Answer::Unsubscribed(count) => wire.unsubscribed(packet_id, *count),
        }
    }
}

/// What a connection knows of its session.
#[derive(Debug)]
pub struct KeptSession {
    is_clean: bool,
    /// What the registry has, or is to have.
    kept: Option<Subscriptions>,
    /// What the device is told when it has it, by the number of its packet.
    answers: BTreeMap<u16, Answer>,
}

impl KeptSession {
    /// Begins with what the registry has. Nothing is kept of a clean session.
    pub fn new(is_clean: bool, kept: Option<Subscriptions>) -> KeptSession {
        KeptSession { is_clean, kept, answers: BTreeMap::new() }
    }

    /// Takes what the device listens to since a packet. Returns the answer to it when that can be given at once; `None`
    /// when the registry is to be told first.
    pub fn changed(&mut self, subscriptions: Subscriptions, packet_id: u16, answer: Answer) -> Option<Answer> {
        if self.is_clean || self.kept == Some(subscriptions) {
            return Some(answer);
        }
        self.kept = Some(subscriptions);
        self.answers.insert(packet_id, answer);
        None
    }

    /// Takes out the answer to a packet whose effect is durable; `None` for a packet of another kind.
    pub fn answer_to(&mut self, packet_id: u16) -> Option<Answer> {
        self.answers.remove(&packet_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_told_when_the_registry_has_it() {
        let listens = Subscriptions { methods: true, ..Subscriptions::default() };
        let mut session = KeptSession::new(false, None);
        assert_eq!(session.changed(listens, 7, Answer::Unsubscribed(1)), None);
        assert_eq!(session.answer_to(6), None);
        assert_eq!(session.answer_to(7), Some(Answer::Unsubscribed(1)));
        assert_eq!(session.answer_to(7), None);
    }

    #[test]
    fn what_the_registry_has_is_not_written_again() {
        let listens = Subscriptions { desired: true, ..Subscriptions::default() };
        let mut session = KeptSession::new(false, Some(listens));
        assert_eq!(session.changed(listens, 7, Answer::Unsubscribed(1)), Some(Answer::Unsubscribed(1)));
        let mut session = KeptSession::new(true, None);
        assert_eq!(session.changed(listens, 7, Answer::Unsubscribed(1)), Some(Answer::Unsubscribed(1)));
    }
}
