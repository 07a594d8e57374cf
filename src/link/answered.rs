//! Answers that have come: a device sends one again until it knows that it was received.

use std::collections::{BTreeSet, VecDeque};

/// Answers that are recognised when they come again.
const ANSWERED_MAX: usize = 65_536;

/// The last answers of all devices.
#[derive(Debug, Default)]
pub struct Answered {
    known: BTreeSet<String>,
    in_order: VecDeque<String>,
}

impl Answered {
    /// Notes an answer, and returns false for one that came before.
    pub fn is_first(&mut self, device_id: &str, rid: &str) -> bool {
        let answer = format!("{rid} {device_id}");
        if !self.known.insert(answer.clone()) {
            return false;
        }
        self.in_order.push_back(answer);
        if self.in_order.len() > ANSWERED_MAX
            && let Some(oldest) = self.in_order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}
