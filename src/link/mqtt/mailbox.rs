//! What the thread of the reconciler and those of the connections hand to each other. Both only lock it for moments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::error::BrokerError;
use super::terms::Publication;
use crate::link::answered::Answered;
use crate::link::happened::Happened;
use crate::link::{Token, Wake};
use crate::model::text::sanitize_line;

/// Events that wait to be taken, beyond which nothing more is read: the broker keeps it.
pub(super) const INBOUND_MAX: usize = 8_192;
/// Devices whose presence is known: more than any fleet has, and no more memory than a few hundred megabytes.
const PRESENCES_MAX: usize = 4_000_000;
/// Messages that wait to be sent on a connection, beyond which nothing more is read and no device is answered.
pub(super) const ORDERS_MAX: usize = 4_096;
/// Devices that are warned of.
const WARNED_MAX: usize = 1_000;
/// How long a link that was never up is waited for before it counts as failed, and one that was.
const FIRST_PATIENCE: Duration = Duration::from_secs(15);
const PATIENCE: Duration = Duration::from_secs(60);

/// A message to send.
#[derive(Debug, Clone)]
pub(super) struct Order {
    pub publication: Publication,
    /// It is not sent after that time.
    pub until: Option<Instant>,
    pub about: About,
}

/// What a message is, which decides what happens when a connection is lost before the broker has it.
#[derive(Debug, Clone)]
pub(super) enum About {
    /// It may be executed twice when it is sent twice: it is lost with the connection.
    Command { token: Token, device_id: String },
    /// New desired properties. The device knows by the version what is new: they are sent again.
    Desired,
    /// An answer to the device, which knows it by the request id: it is sent again.
    Reply,
}

impl Order {
    /// Leaves the broker only as much time as is left.
    pub fn renew_expiry(&mut self) {
        if let Some(until) = self.until {
            let left = until.saturating_duration_since(Instant::now()).as_secs();
            self.publication.expires_after = Some(u32::try_from(left).unwrap_or(u32::MAX).max(1));
        }
    }
}

/// A message of the broker that is to be acknowledged, on the connection on which it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Receipt {
    pub connection: usize,
    /// Counts the times that it was connected.
    pub epoch: u64,
    pub packet_id: u16,
}

/// Something that happened, to be taken by the reconciler.
#[derive(Debug)]
pub(super) struct Inbound {
    pub happened: Happened,
    pub receipt: Option<Receipt>,
}

/// How a connection is.
#[derive(Debug, Clone)]
pub(super) enum Standing {
    Ready,
    Away { since: Instant, fault: Option<BrokerError>, was_ready: bool },
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub inbound: VecDeque<Inbound>,
    /// By connection.
    pub orders: Vec<VecDeque<Order>>,
    pub receipts: Vec<Vec<Receipt>>,
    pub standings: Vec<Standing>,
    /// Whether devices are online, as was said last.
    pub presence: BTreeMap<String, bool>,
    /// How many more messages the broker takes now, by connection.
    pub rooms: Vec<usize>,
    /// Desired properties that the broker does not have yet.
    pub untold: usize,
    /// Messages that are sent and that no broker has acknowledged.
    pub unacknowledged: usize,
    pub malformed: u64,
    pub refused: u64,
    pub is_closing: bool,
    /// The reconciler was woken and has not come yet.
    is_signaled: bool,
    /// Devices that were warned of.
    warned: BTreeSet<String>,
    answered: Answered,
}

/// The meeting point.
pub(super) struct Mailbox {
    state: Mutex<State>,
    wake: Wake,
    /// Calls the thread of each connection.
    calls: Vec<Notify>,
}

impl Mailbox {
    pub fn new(connections: usize, wake: Wake) -> Mailbox {
        let away = Standing::Away { since: Instant::now(), fault: None, was_ready: false };
        let state = State {
            orders: (0..connections).map(|_| VecDeque::new()).collect(),
            receipts: vec![Vec::new(); connections],
            standings: vec![away; connections],
            rooms: vec![0; connections],
            ..State::default()
        };
        Mailbox { state: Mutex::new(state), wake, calls: (0..connections).map(|_| Notify::new()).collect() }
    }

    /// A poisoned lock is safe to use: each change is made at once.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the thread of a connection: there is something to send, or room to read.
    pub fn call(&self, connection: usize) {
        self.calls[connection].notify_one();
    }

    pub fn call_all(&self) {
        self.calls.iter().for_each(Notify::notify_one);
    }

    /// Waits for a call.
    pub async fn called(&self, connection: usize) {
        self.calls[connection].notified().await;
    }

    /// Wakes the reconciler, unless it was woken and has not come yet.
    pub fn signal(&self, mut state: MutexGuard<'_, State>) {
        let was_signaled = std::mem::replace(&mut state.is_signaled, true);
        drop(state);
        if !was_signaled {
            (self.wake)();
        }
    }

    pub fn set_standing(&self, connection: usize, standing: Standing) {
        let mut state = self.lock();
        state.standings[connection] = standing;
        self.signal(state);
    }
}

/// Returns how long a connection that is away is waited for.
fn patience(was_ready: bool) -> Duration {
    if was_ready { PATIENCE } else { FIRST_PATIENCE }
}

impl State {
    /// Notes that the reconciler has come.
    pub fn answer_signal(&mut self) {
        self.is_signaled = false;
    }

    pub fn is_ready(&self) -> bool {
        self.standings.iter().all(|standing| matches!(standing, Standing::Ready))
    }

    /// Returns why the link is to be given up, or `None`.
    pub fn failure(&self) -> Option<BrokerError> {
        self.standings.iter().find_map(|standing| match standing {
            Standing::Ready => None,
            Standing::Away { since, fault, was_ready } => {
                let is_hopeless = fault.as_ref().is_some_and(BrokerError::is_hopeless) && !was_ready;
                let is_over = is_hopeless || since.elapsed() >= patience(*was_ready);
                is_over.then(|| fault.clone().unwrap_or(BrokerError::Silent))
            }
        })
    }

    /// Returns when [`State::failure`] may be another one.
    pub fn patience_left(&self) -> Option<Duration> {
        let left = self.standings.iter().filter_map(|standing| match standing {
            Standing::Ready => None,
            Standing::Away { since, was_ready, .. } => {
                patience(*was_ready).checked_sub(since.elapsed()).filter(|left| !left.is_zero())
            }
        });
        left.min()
    }

    /// Notes whether a device is online, and returns what was known before. Devices beyond a bound are not noted: what is
    /// sent to them is tried.
    pub fn note_presence(&mut self, device_id: &str, is_online: bool) -> Option<bool> {
        if let Some(known) = self.presence.get_mut(device_id) {
            return Some(std::mem::replace(known, is_online));
        }
        if self.presence.len() < PRESENCES_MAX {
            self.presence.insert(device_id.to_string(), is_online);
        }
        None
    }

    /// Counts a message that is none of the protocol, and logs the first of each device.
    pub fn count_malformed(&mut self, device_id: &str, topic: &str, why: &dyn std::fmt::Display) {
        self.malformed += 1;
        if self.warned.len() < WARNED_MAX && self.warned.insert(device_id.to_string()) {
            tracing::warn!(
                device = %sanitize_line(device_id),
                topic = %sanitize_line(topic),
                fault = %why,
                "a device does not keep to the protocol"
            );
        }
    }

    /// Notes that a message is done with: the broker has it, or it came too late.
    pub fn drop_order(&mut self, order: &Order) {
        if matches!(order.about, About::Desired) {
            self.untold = self.untold.saturating_sub(1);
        }
    }

    /// Notes that the broker does not let us publish. A command fails with that: its device may well be there.
    pub fn note_refusal(&mut self, order: &Order) {
        let topic = &order.publication.topic;
        tracing::warn!(topic = %sanitize_line(topic), "the broker does not let fleetform publish");
        if let About::Command { token, .. } = order.about {
            let body = "the broker does not let fleetform publish to the device".to_string();
            let happened = Happened::Answered { token, origin: None, code: 403, body };
            self.inbound.push_back(Inbound { happened, receipt: None });
        }
    }

    /// Returns how many more messages go out at once when they are ordered now.
    pub fn room(&self) -> usize {
        let of = |(room, orders): (&usize, &VecDeque<Order>)| room.saturating_sub(orders.len());
        self.rooms.iter().zip(&self.orders).map(of).sum()
    }

    /// Puts a message in the queue of a connection, unless that is full: the device asks again.
    pub fn reply(&mut self, connection: usize, order: Order) {
        if self.orders[connection].len() < ORDERS_MAX {
            self.orders[connection].push_back(order);
        }
    }

    /// Notes an answer, and returns false for one that came before.
    pub fn is_first_answer(&mut self, device_id: &str, rid: &str) -> bool {
        self.answered.is_first(device_id, rid)
    }

    /// Returns how many messages are on their way to the broker.
    pub fn under_way(&self) -> usize {
        self.orders.iter().map(VecDeque::len).sum::<usize>() + self.unacknowledged
    }
}
