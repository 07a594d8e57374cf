//! What has happened at devices, between the thread of a link and the reconciler.

use jiff::Timestamp;
use serde_json::Value;

use super::{LinkEvent, Origin, Token};
use crate::model::subscriptions::Subscriptions;

/// Something that happened, to be taken by the reconciler.
#[derive(Debug)]
pub enum Happened {
    Began,
    LoginWanted {
        device_id: String,
        rid: String,
    },
    /// `origin` is as in [`LinkEvent::Answered`].
    Answered {
        token: Token,
        origin: Option<Origin>,
        code: u16,
        body: String,
    },
    NotDelivered {
        token: Token,
    },
    /// `is_news` is false for what was so before.
    Presence {
        device_id: String,
        is_online: bool,
        is_news: bool,
    },
    Reported {
        device_id: String,
        patch: Value,
        rid: String,
    },
    TwinWanted {
        device_id: String,
        rid: String,
    },
    /// Fields are as in [`LinkEvent::MessagesWanted`].
    MessagesWanted {
        device_id: String,
        rid: String,
        after: i64,
        most: usize,
    },
    MessageTaken {
        sequence: i64,
    },
    /// Fields are as in [`LinkEvent::Subscribed`].
    Subscribed {
        device_id: String,
        subscriptions: Option<Subscriptions>,
    },
    /// An answer that came before. It is acknowledged after the first one.
    Again,
}

impl Happened {
    /// Returns it as an event that is taken now; `None` for what came before.
    pub fn event(self, now: Timestamp) -> Option<LinkEvent> {
        Some(match self {
            Happened::Again => return None,
            Happened::Began => LinkEvent::Began,
            Happened::LoginWanted { device_id, rid } => LinkEvent::LoginWanted { device_id, rid },
            Happened::Answered { token, origin, code, body } => LinkEvent::Answered { token, origin, code, body },
            Happened::NotDelivered { token } => LinkEvent::NotDelivered { token },
            Happened::Presence { device_id, is_online, is_news } => {
                LinkEvent::Presence { device_id, is_online, is_news, at: now }
            }
            Happened::Reported { device_id, patch, rid } => {
                LinkEvent::Reported { device_id, patch, rid: Some(rid), at: now }
            }
            Happened::TwinWanted { device_id, rid } => LinkEvent::TwinWanted { device_id, rid },
            Happened::MessagesWanted { device_id, rid, after, most } => {
                LinkEvent::MessagesWanted { device_id, rid, after, most }
            }
            Happened::MessageTaken { sequence } => LinkEvent::MessageTaken { sequence },
            Happened::Subscribed { device_id, subscriptions } => LinkEvent::Subscribed { device_id, subscriptions },
        })
    }

    /// Returns the device that said it; `None` for what no device says, for what says that it is one, and for what is
    /// bounded by what it was given.
    pub fn said_by(&self) -> Option<&str> {
        match self {
            Happened::Reported { device_id, .. }
            | Happened::TwinWanted { device_id, .. }
            | Happened::Subscribed { device_id, .. } => Some(device_id),
            Happened::Answered { origin, .. } => origin.as_ref().map(|origin| origin.device_id.as_str()),
            Happened::Began
            | Happened::LoginWanted { .. }
            | Happened::NotDelivered { .. }
            | Happened::Presence { .. }
            | Happened::MessagesWanted { .. }
            | Happened::MessageTaken { .. }
            | Happened::Again => None,
        }
    }
}

/// Returns the events that are returned again while they are not settled. One that a device was not called is not: it
/// may have been called again since, and it would count for the later call.
pub fn lasting(events: &[LinkEvent]) -> Vec<LinkEvent> {
    let is_lasting = |event: &&LinkEvent| !matches!(event, LinkEvent::NotDelivered { .. });
    events.iter().filter(is_lasting).cloned().collect()
}
