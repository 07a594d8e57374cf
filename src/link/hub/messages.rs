//! The messages to a device on one connection: which it was given, and when to ask for more; pure.

use std::collections::VecDeque;

use crate::link::DeviceMessage;

/// Messages that a connection has and the device has not acknowledged.
const UNDER_WAY_MAX: usize = 8;

/// What a connection has of the messages to its device.
#[derive(Default)]
pub struct Delivery {
    /// To be written.
    ready: VecDeque<DeviceMessage>,
    /// Those in `ready`, and those that were written and are not acknowledged.
    under_way: usize,
    /// The number of the last one that came.
    last: i64,
    is_asked: bool,
    /// There may be others, to be asked for when there is room.
    has_more: bool,
    /// The device listens to them.
    pub is_listening: bool,
}

/// Leaves out what the messages say.
impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery").field("under_way", &self.under_way).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Notes that messages may wait. Returns the number above which they are to be asked for now, and how many at most.
    pub fn may_wait(&mut self) -> Option<(i64, usize)> {
        self.has_more = true;
        self.ask()
    }

    fn ask(&mut self) -> Option<(i64, usize)> {
        if !self.is_listening || !self.has_more || self.is_asked || self.under_way >= UNDER_WAY_MAX {
            return None;
        }
        (self.is_asked, self.has_more) = (true, false);
        Some((self.last, UNDER_WAY_MAX - self.under_way))
    }

    /// Takes what was asked for. Returns what is to be asked for next.
    pub fn come(&mut self, messages: Vec<DeviceMessage>, has_more: bool) -> Option<(i64, usize)> {
        self.is_asked = false;
        if !self.is_listening {
            // It has stopped meanwhile, and gets them when it listens again.
            self.has_more = true;
            return None;
        }
        self.has_more |= has_more;
        self.last = messages.last().map_or(self.last, |message| message.sequence);
        self.under_way += messages.len();
        self.ready.extend(messages);
        self.ask()
    }

    /// Takes out what is to be written now.
    pub fn take(&mut self) -> VecDeque<DeviceMessage> {
        std::mem::take(&mut self.ready)
    }

    /// Notes that the device has acknowledged one. Returns what is to be asked for next.
    pub fn acknowledged(&mut self) -> Option<(i64, usize)> {
        self.under_way = self.under_way.saturating_sub(1);
        self.ask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(sequences: std::ops::RangeInclusive<i64>) -> Vec<DeviceMessage> {
        let message = |sequence| DeviceMessage {
            sequence,
            is_again: false,
            message_id: None,
            properties: serde_json::json!({}),
            expires_at: jiff::Timestamp::UNIX_EPOCH,
            body: Vec::new(),
        };
        sequences.map(message).collect()
    }

    #[test]
    fn a_connection_asks_once_and_for_as_many_as_there_is_room_for() {
        let mut delivery = Delivery { is_listening: true, ..Delivery::default() };
        assert_eq!(delivery.may_wait(), Some((0, 8)));
        assert_eq!(delivery.may_wait(), None, "it has asked");
        // One may have come behind the question.
        assert_eq!(delivery.come(messages(3..=5), false), Some((5, 5)));
        assert_eq!(delivery.come(messages(6..=10), true), None, "there is no room");
        assert_eq!(delivery.take().len(), 8);
        assert_eq!(delivery.acknowledged(), Some((10, 1)));
        assert_eq!(delivery.acknowledged(), None);
        assert_eq!(delivery.come(Vec::new(), false), None);
        assert_eq!(delivery.acknowledged(), None, "there are no more");
        assert!(delivery.take().is_empty());
        assert_eq!(delivery.may_wait(), Some((10, 3)));
        assert_eq!(delivery.come(Vec::new(), true), Some((10, 3)));
        // It stops listening, and begins again.
        delivery.is_listening = false;
        assert_eq!(delivery.come(messages(11..=12), false), None);
        assert!(delivery.take().is_empty());
        assert_eq!(delivery.acknowledged(), None);
        delivery.is_listening = true;
        assert_eq!(delivery.may_wait(), Some((10, 4)));
    }
}
