//! What the thread of the reconciler and the one of the connections hand to each other. Both only lock it for moments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::admission::Credential;
use super::direct::DirectCalls;
use super::messages::Delivery;
use super::topics::Filter;
use super::websocket::Visitor;
use crate::link::answered::Answered;
use crate::link::happened::Happened;
use crate::link::protocol::Told;
use crate::link::{DeviceMessage, Identity, PolicyKeys, Wake};
use crate::model::subscriptions::Subscriptions;
use crate::model::text::sanitize_line;

/// Events that wait to be taken, and their bytes, beyond which nothing more is read.
const INBOUND_MAX: usize = 8_192;
const INBOUND_BYTES_MAX: usize = 32 << 20;
/// Events of one device that wait to be taken, beyond which nothing more is taken of it: others have their turn.
const INBOUND_OF_DEVICE_MAX: usize = 8;
/// As how many events a wanted twin counts: it is read, and may be large, so a device gets one after the other.
const TWIN_WEIGHT: usize = INBOUND_OF_DEVICE_MAX;
/// Events that are taken at once, and their bytes: they are written in one commit.
const TAKEN_MAX: usize = 2_048;
const TAKEN_BYTES_MAX: usize = 4 << 20;
/// Connected devices that are asked for again at once.
const AGAIN_MAX: usize = 1_024;
/// The request id of a device that is connected and asked for again.
pub const AGAIN: &str = "";
/// Messages that wait to be sent to a device, and acknowledgements for it.
pub const OUTBOX_MAX: usize = 256;
/// How long a connection waits for room before it looks again.
const ROOM_TIME: Duration = Duration::from_millis(100);
/// Devices that are warned of.
const WARNED_MAX: usize = 1_000;

/// What a connection is to do.
#[derive(Debug)]
pub enum Out {
    Tell {
        told: Told,
        payload: Arc<[u8]>,
    },
    /// There are messages to hand over, or to acknowledge.
    Messages,
    /// What the device has sent is durable.
    Acknowledge(u16),
}

/// Why a connection is to end.
#[derive(Debug)]
pub enum Closing {
    /// Another connection of the device has begun.
    Replaced,
    /// The registry does not let the device in any more.
    NotAllowed,
}

/// A packet that is to be answered when its effect is durable, on the connection on which it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub device_id: String,
    pub session: u64,
    pub packet_id: u16,
}

/// Something that happened, to be taken by the reconciler.
#[derive(Debug)]
pub struct Inbound {
    pub happened: Happened,
    pub receipt: Option<Receipt>,
    /// About the memory that it takes.
    bytes: usize,
}

/// How a session begins.
#[derive(Debug)]
pub struct Beginning {
    /// Nothing of an earlier one counts, and nothing of it is kept.
    pub is_clean: bool,
    /// What the registry has of an earlier one.
    pub kept: Option<Subscriptions>,
    /// What it listens to when it is not clean, and nothing is known of an earlier one.
    pub unknown: Subscriptions,
    /// What the device was let in with.
    pub credential: Credential,
    /// How often connected devices were to be asked for again before it was asked for.
    pub looks: u64,
}

/// The way to a connection.
#[derive(Debug)]
pub struct Orders {
    pub outbox: mpsc::Sender<Out>,
    /// Ends it, whatever else waits for it.
    pub closing: oneshot::Sender<Closing>,
}

/// A connected device.
#[derive(Debug)]
struct Session {
    number: u64,
    outbox: mpsc::Sender<Out>,
    /// `None` when it was told to end.
    closing: Option<oneshot::Sender<Closing>>,
    /// Nothing of it is kept when it ends.
    is_clean: bool,
    /// What it was let in with.
    credential: Credential,
    delivery: Delivery,
    /// Numbers of its packets that are to be acknowledged.
    acknowledged: Vec<u16>,
}

impl Session {
    fn close(&mut self, why: Closing) {
        if let Some(closing) = self.closing.take() {
            // It may have ended by itself.
            drop(closing.send(why));
        }
    }
}

#[derive(Debug, Default)]
pub struct State {
    inbound: VecDeque<Inbound>,
    inbound_bytes: usize,
    /// The weight of the events in `inbound`, by device.
    waiting: BTreeMap<String, usize>,
    /// Who wants to be let in does not wait behind what others say.
    wanted: VecDeque<Happened>,
    sessions: BTreeMap<String, Session>,
    /// Of devices that are or were connected since the process began.
    subscriptions: BTreeMap<String, Subscriptions>,
    /// Connected devices that are to be asked for again, and how often that was wanted.
    again: VecDeque<String>,
    looks: u64,
    policies: Arc<PolicyKeys>,
    /// Connections that wait to be let in.
    logins: BTreeMap<String, oneshot::Sender<Option<Identity>>>,
    answered: Answered,
    last_number: u64,
    pub malformed: u64,
    pub refused: u64,
    pub telemetry: u64,
    pub telemetry_lost: u64,
    is_signaled: bool,
    warned: BTreeSet<String>,
}

/// The meeting point.
pub struct Exchange {
    state: Mutex<State>,
    wake: Wake,
    /// There is room for events again.
    room: Notify,
    /// The link is closed.
    pub closing: Notify,
    /// Calls beside those of the reconciler.
    pub calls: Arc<DirectCalls>,
    /// Where connections come that somebody else has accepted.
    pub door: mpsc::Sender<Visitor>,
}

impl Exchange {
    pub fn new(wake: Wake, calls: Arc<DirectCalls>, door: mpsc::Sender<Visitor>) -> Exchange {
        Exchange { state: Mutex::default(), wake, room: Notify::new(), closing: Notify::new(), calls, door }
    }

    /// A poisoned lock is safe to use: each change is made at once.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands something of so many bytes to the reconciler, and wakes it unless it was woken and has not come yet.
    pub fn happened(&self, happened: Happened, receipt: Option<Receipt>, bytes: usize) {
        let mut state = self.lock();
        if let Some(device_id) = happened.said_by() {
            *state.waiting.entry(device_id.to_string()).or_default() += weight(&happened);
        }
        state.inbound_bytes += bytes;
        match happened {
            Happened::LoginWanted { .. } => state.wanted.push_back(happened),
            _ => state.inbound.push_back(Inbound { happened, receipt, bytes }),
        }
        let was_signaled = std::mem::replace(&mut state.is_signaled, true);
        drop(state);
        if !was_signaled {
            (self.wake)();
        }
    }

    /// Waits until there is room for events of a device.
    pub async fn room(&self, device_id: &str) {
        while self.lock().is_full(device_id) {
            // It may have been called before it waited.
            drop(timeout(ROOM_TIME, self.room.notified()).await);
        }
    }

    /// Tells connections that events were taken.
    pub fn make_room(&self) {
        self.room.notify_waiters();
    }

    /// Asks for messages to a device that listens to them, when there is room for some.
    pub fn messages_wait(&self, device_id: &str) {
        let wanted = self.lock().wanted_messages(device_id, None, Delivery::may_wait);
        wanted.into_iter().for_each(|wanted| self.happened(wanted, None, 0));
    }

    /// Takes messages to a device that a session has asked for. When it is gone they come again.
    pub fn messages_came(&self, device_id: &str, rid: &str, messages: Vec<DeviceMessage>, has_more: bool) {
        let Ok(number) = rid.parse() else { return };
        let mut state = self.lock();
        let wanted = state.wanted_messages(device_id, Some(number), |delivery| delivery.come(messages, has_more));
        // One that has too much to do already looks when it has done it.
        state.order(device_id, Out::Messages);
        drop(state);
        wanted.into_iter().for_each(|wanted| self.happened(wanted, None, 0));
    }

    /// Notes that the device of a session has a message.
    pub fn message_taken(&self, device_id: &str, number: u64, sequence: i64) {
        self.happened(Happened::MessageTaken { sequence }, None, 0);
        let wanted = self.lock().wanted_messages(device_id, Some(number), Delivery::acknowledged);
        wanted.into_iter().for_each(|wanted| self.happened(wanted, None, 0));
    }

    /// Asks who a device is, and returns where the answer comes.
    pub fn login(&self, device_id: &str, rid: String) -> oneshot::Receiver<Option<Identity>> {
        let (sender, receiver) = oneshot::channel();
        self.lock().logins.insert(rid.clone(), sender);
        self.happened(Happened::LoginWanted { device_id: device_id.to_string(), rid }, None, 0);
        receiver
    }
}

impl State {
    /// Notes that the reconciler has come.
    pub fn answer_signal(&mut self) {
        self.is_signaled = false;
    }

    /// Returns true while nothing more is to be read of a device.
    pub fn is_full(&self, device_id: &str) -> bool {
        self.inbound.len() >= INBOUND_MAX
            || self.inbound_bytes >= INBOUND_BYTES_MAX
            || self.waiting.get(device_id).is_some_and(|waiting| *waiting >= INBOUND_OF_DEVICE_MAX)
    }

    pub fn has_events(&self) -> bool {
        !self.wanted.is_empty() || !self.again.is_empty() || !self.inbound.is_empty()
    }

    /// Takes out what is handled at once, in order but for who wants to be let in.
    pub fn take(&mut self) -> Vec<Inbound> {
        let again = self.again.drain(..self.again.len().min(AGAIN_MAX));
        let again = again.map(|device_id| Happened::LoginWanted { device_id, rid: AGAIN.to_string() });
        let wanted = self.wanted.drain(..).chain(again);
        let mut taken: Vec<Inbound> = wanted.map(|happened| Inbound { happened, receipt: None, bytes: 0 }).collect();
        let mut bytes = 0;
        while taken.len() < TAKEN_MAX
            && bytes < TAKEN_BYTES_MAX
            && let Some(one) = self.inbound.pop_front()
        {
            bytes += one.bytes;
            if let Some(waiting) = one.happened.said_by().and_then(|id| self.waiting.get_mut(id)) {
                *waiting -= weight(&one.happened);
            }
            taken.push(one);
        }
        self.inbound_bytes -= bytes;
        self.waiting.retain(|_, waiting| *waiting > 0);
        taken
    }

    /// Answers a connection that waits to be let in.
    pub fn answer_login(&mut self, device_id: &str, rid: &str, identity: Option<Identity>) {
        if identity.is_none() {
            self.subscriptions.remove(device_id);
        }
        if let Some(waiting) = self.logins.remove(rid) {
            // It may have given up.
            drop(waiting.send(identity));
        }
    }

    /// Returns how often connected devices were to be asked for again.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// Has all connected devices asked for again.
    pub fn look_again(&mut self) {
        self.looks += 1;
        self.again = self.sessions.keys().cloned().collect();
    }

    /// Returns the keys with which any device may log in.
    pub fn policies(&self) -> Arc<PolicyKeys> {
        Arc::clone(&self.policies)
    }

    /// Lets devices in with these keys of policies from now on.
    pub fn take_policies(&mut self, policies: PolicyKeys) {
        if *self.policies != policies {
            self.policies = Arc::new(policies);
            self.look_again();
        }
    }

    /// Ends the connection of a device that would not be let in any more with what it was let in with.
    pub fn look_again_at(&mut self, device_id: &str, identity: Option<&Identity>) {
        let is_in = |session: &Session| identity.is_some_and(|one| session.credential.is_of(one, &self.policies));
        if !self.sessions.get(device_id).is_none_or(is_in) {
            self.close(device_id, Closing::NotAllowed);
        }
        if identity.is_none() {
            // One that is made under its id has no session.
            self.subscriptions.remove(device_id);
        }
    }

    /// Forgets a connection that has given up waiting.
    pub fn forget_login(&mut self, rid: &str) {
        self.logins.remove(rid);
    }

    /// Begins a session of a device, in the place of an earlier one. Returns its number, and whether its subscriptions
    /// were known. What came since the process began is newer than what is kept.
    pub fn begin(&mut self, device_id: &str, beginning: Beginning, orders: Orders) -> (u64, bool) {
        let Beginning { is_clean, kept, unknown, credential, looks } = beginning;
        if looks != self.looks {
            self.again.push_back(device_id.to_string());
        }
        self.last_number += 1;
        let number = self.last_number;
        let (Orders { outbox, closing }, delivery) = (orders, Delivery::default());
        let session = Session {
            number,
            outbox,
            closing: Some(closing),
            is_clean,
            credential,
            delivery,
            acknowledged: Vec::new(),
        };
        if let Some(mut earlier) = self.sessions.insert(device_id.to_string(), session) {
            earlier.close(Closing::Replaced);
            if earlier.is_clean {
                self.subscriptions.remove(device_id);
            }
        }
        let known = self.subscriptions.get(device_id).copied().or(kept).filter(|_| !is_clean);
        let begins_with = if is_clean { Subscriptions::default() } else { known.unwrap_or(unknown) };
        self.subscriptions.insert(device_id.to_string(), begins_with);
        (number, known.is_some())
    }

    /// Ends a session; returns false when another one is in its place.
    pub fn end(&mut self, device_id: &str, number: u64) -> bool {
        let own = self.sessions.get(device_id).filter(|session| session.number == number);
        let Some(is_clean) = own.map(|session| session.is_clean) else { return false };
        self.sessions.remove(device_id);
        if is_clean {
            self.subscriptions.remove(device_id);
        }
        true
    }

    /// Notes what a device listens to from now on. Returns true when it can be called now, and could not before.
    pub fn subscribe(&mut self, device_id: &str, filter: Filter, is_on: bool) -> bool {
        let subscriptions = self.subscriptions.entry(device_id.to_string()).or_default();
        let before = *subscriptions;
        filter.set(subscriptions, is_on);
        subscriptions.methods && !before.methods
    }

    /// Notes whether a device acknowledges messages.
    pub fn acknowledges(&mut self, device_id: &str, does: bool) {
        self.subscriptions.entry(device_id.to_string()).or_default().is_silent = !does;
    }

    /// Does something about the messages of a session, or of the one that there is. Returns what is to be asked for.
    fn wanted_messages(
        &mut self,
        device_id: &str,
        number: Option<u64>,
        act: impl FnOnce(&mut Delivery) -> Option<(i64, usize)>,
    ) -> Option<Happened> {
        let session = self.sessions.get_mut(device_id)?;
        if number.is_some_and(|number| number != session.number) {
            return None;
        }
        session.delivery.is_listening = self.subscriptions.get(device_id).is_some_and(|listens| listens.messages);
        let (after, most) = act(&mut session.delivery)?;
        let rid = session.number.to_string();
        Some(Happened::MessagesWanted { device_id: device_id.to_string(), rid, after, most })
    }

    /// Takes out the messages that are to be written to a session.
    pub fn take_messages(&mut self, device_id: &str, number: u64) -> VecDeque<DeviceMessage> {
        let session = self.sessions.get_mut(device_id).filter(|session| session.number == number);
        session.map(|session| session.delivery.take()).unwrap_or_default()
    }

    /// Returns what a connected device listens to; `None` for one that is not connected.
    pub fn listens_to(&self, device_id: &str) -> Option<Subscriptions> {
        let is_connected = self.sessions.contains_key(device_id);
        is_connected.then(|| self.subscriptions.get(device_id).copied().unwrap_or_default())
    }

    /// Gives a connection something to do; returns false when it is gone or has too much to do already.
    pub fn order(&self, device_id: &str, out: Out) -> bool {
        self.sessions.get(device_id).is_some_and(|session| session.outbox.try_send(out).is_ok())
    }

    /// Ends the connection of a device, if it has one, after what it was to be told before.
    pub fn close(&mut self, device_id: &str, why: Closing) {
        if let Some(session) = self.sessions.get_mut(device_id) {
            session.close(why);
        }
    }

    /// Acknowledges what is durable. The device sends it again when its connection is another one now.
    pub fn acknowledge(&mut self, receipt: &Receipt) {
        let Receipt { device_id, session, packet_id } = receipt;
        if let Some(own) = self.sessions.get_mut(device_id).filter(|one| one.number == *session)
            && own.outbox.try_send(Out::Acknowledge(*packet_id)).is_err()
        {
            // One that has too much to do already looks when it has done it.
            own.acknowledged.push(*packet_id);
        }
    }

    /// Acknowledges many messages, also of one device: they do not take its places for what waits.
    pub fn acknowledge_all<'a>(&mut self, receipts: impl Iterator<Item = &'a Receipt>) {
        for Receipt { device_id, session, packet_id } in receipts {
            if let Some(own) = self.sessions.get_mut(device_id).filter(|one| one.number == *session) {
                own.acknowledged.push(*packet_id);
                // One that has too much to do already looks when it has done it.
                drop(own.outbox.try_send(Out::Messages));
            }
        }
    }

    /// Takes out the numbers of packets that a session is to acknowledge.
    pub fn take_acknowledged(&mut self, device_id: &str, number: u64) -> Vec<u16> {
        let session = self.sessions.get_mut(device_id).filter(|session| session.number == number);
        session.map(|session| std::mem::take(&mut session.acknowledged)).unwrap_or_default()
    }

    pub fn connected(&self) -> usize {
        self.sessions.len()
    }

    /// Notes an answer, and returns false for one that came before.
    pub fn is_first_answer(&mut self, device_id: &str, rid: &str) -> bool {
        self.answered.is_first(device_id, rid)
    }

    /// Counts a message of telemetry; one that was to be passed on and was not is lost.
    pub fn count_telemetry(&mut self, is_lost: bool) {
        self.telemetry += 1;
        self.telemetry_lost += u64::from(is_lost);
    }

    /// Counts what a device should not have said, and logs the first time of each device.
    pub fn count_malformed(&mut self, device_id: &str, why: &dyn std::fmt::Display) {
        self.malformed += 1;
        if self.warned.len() < WARNED_MAX && self.warned.insert(device_id.to_string()) {
            tracing::warn!(device = %sanitize_line(device_id), fault = %why, "a device does not keep to the protocol");
        }
    }
}

/// Returns as how many events something counts.
fn weight(happened: &Happened) -> usize {
    match happened {
        Happened::TwinWanted { .. } => TWIN_WEIGHT,
        _ => 1,
    }
}
