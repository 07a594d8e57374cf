//! The thread of one connection: connects, subscribes, sends what is ordered, hands over what comes, and begins anew
//! when the connection is lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::client::Connection;
use super::error::BrokerError;
use super::mailbox::{About, INBOUND_MAX, Inbound, Mailbox, ORDERS_MAX, Order, Receipt, Standing, State};
use super::terms::{ClientOptions, Publication, Received, Version};
use crate::link::Origin;
use crate::link::happened::Happened;
use crate::link::protocol::{Malformed, RequestId, Said, Topics, presence, versioned};
use crate::model::limits;
use crate::model::patch::{Section, violations};

/// Pauses between two tries to connect.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long the broker is given to answer a subscription.
const SUBSCRIBE_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the broker is given to send us what we have published, from the last message that it sent before.
const ECHO_TIME_MAX: Duration = Duration::from_secs(5);
/// What the payload of an echo begins with.
const ECHO: &str = "echo-";
/// How long what is left to send is waited for at the end.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);
/// How long an answer to a device is worth sending.
pub(super) const REPLY_SECONDS: u32 = 60;
/// Bytes of an answer that are kept: the results keep less.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// The work of one connection.
pub(super) struct Worker {
    pub mailbox: Arc<Mailbox>,
    /// Which of the connections it is.
    pub at: usize,
    pub options: ClientOptions,
    /// What this connection subscribes to.
    pub filters: Vec<String>,
    pub topics: Topics,
    pub epoch: u64,
    /// Unacknowledged messages, by packet id.
    pub flights: BTreeMap<u16, Order>,
    /// The broker keeps the session when the process ends.
    pub stays: bool,
}

/// What is known of a connection that becomes ready.
struct Joining {
    subscription: Option<u16>,
    is_subscribed: bool,
    /// Comes back to us behind what the broker retains.
    echo: String,
    /// Until when the subscription, and then the echo, is waited for.
    until: Instant,
}

impl Joining {
    /// Waits anew: both come behind all that the broker has kept for us and retains, which may take its time.
    fn wait_on(&mut self) {
        self.until = Instant::now() + if self.is_subscribed { ECHO_TIME_MAX } else { SUBSCRIBE_TIME_MAX };
    }
}

impl Worker {
    /// Works until the link is closed.
    pub async fn run(mut self) {
        let (mut pause, mut version) = (PAUSE_MIN, Version::V5);
        let (mut is_poisoned, mut was_ready, mut told) = (false, false, None);
        let mut has_hung_up = false;
        while !self.is_done() {
            // A daemon takes up what the broker has kept for it. Of any other process only what it was itself told since
            // it began is of use.
            let is_new_session = is_poisoned || !was_ready && !self.stays;
            let options = ClientOptions { is_new_session, ..self.options.clone() };
            let began = Instant::now();
            let opened = tokio::select! {
                opened = open(&options, &mut version, &mut has_hung_up) => opened,
                () = self.left() => return,
            };
            let (fault, has_served) = match opened {
                Ok(connection) => {
                    self.epoch += 1;
                    let (lost, has_served) = self.serve(connection).await;
                    match lost {
                        Some(fault) => (fault, has_served),
                        None => return,
                    }
                }
                Err(fault) => (fault, false),
            };
            was_ready |= has_served;
            if has_served {
                pause = PAUSE_MIN;
            }
            // Told once, however often it is tried again.
            if told.as_ref() != Some(&fault) || has_served {
                tracing::warn!(broker = %self.options.host, fault = %fault, "the broker is not there");
            }
            told = Some(fault.clone());
            // A broker of MQTT 3.1.1 would send what is too large again and again.
            is_poisoned = version == Version::V311 && matches!(fault, BrokerError::Protocol { .. });
            let since = if has_served { Instant::now() } else { self.away_since(began) };
            self.mailbox.set_standing(self.at, Standing::Away { since, fault: Some(fault), was_ready });
            self.give_back();
            let jitter = Duration::from_micros(u64::from(began.elapsed().subsec_micros() % 1_000) * 50);
            tokio::select! {
                () = tokio::time::sleep(pause + jitter) => {}
                () = self.left() => return,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// Returns true when the link is closed and nothing is left to send.
    fn is_done(&self) -> bool {
        let state = self.mailbox.lock();
        state.is_closing && state.orders[self.at].is_empty()
    }

    /// Waits until the link is closed, and then for as long as what is left to send may wait for a connection.
    async fn left(&self) {
        while !self.mailbox.lock().is_closing {
            self.mailbox.called(self.at).await;
        }
        if !self.is_done() {
            tokio::time::sleep(LEAVE_TIME_MAX).await;
        }
    }

    fn away_since(&self, now: Instant) -> Instant {
        match self.mailbox.lock().standings[self.at] {
            Standing::Away { since, .. } => since,
            Standing::Ready => now,
        }
    }

    /// Puts what may be sent again back to be sent; commands are lost.
    fn give_back(&mut self) {
        let mut state = self.mailbox.lock();
        let mut lost: Vec<(u16, Order)> = std::mem::take(&mut self.flights).into_iter().collect();
        state.unacknowledged = state.unacknowledged.saturating_sub(lost.len());
        // Versions make the order of patches harmless; it is kept where it can be.
        lost.sort_by_key(|(packet_id, _)| std::cmp::Reverse(*packet_id));
        for (_, order) in lost {
            match order.about {
                About::Desired | About::Reply => state.orders[self.at].push_front(order),
                About::Command { .. } => {}
            }
        }
        state.receipts[self.at].clear();
    }

    /// Serves a connection until it is lost, and returns why; `None` when the link was closed. Also returns whether the
    /// connection was ever ready.
    async fn serve(&mut self, mut connection: Connection) -> (Option<BrokerError>, bool) {
        let mut joining = match self.join(&mut connection) {
            Ok(joining) if joining.subscription.is_none() => {
                self.ready();
                None
            }
            Ok(joining) => Some(joining),
            Err(error) => return (Some(error), false),
        };
        let mut leaves_at = None;
        loop {
            if let Err(error) = self.take_in(&mut connection, &mut joining) {
                return (Some(error), joining.is_none());
            }
            match &joining {
                Some(waiting) if waiting.until <= Instant::now() && !waiting.is_subscribed => {
                    return (Some(BrokerError::Silent), false);
                }
                Some(waiting) if waiting.until <= Instant::now() => {
                    let prefix = self.topics.prefix().to_string();
                    return (Some(BrokerError::Deaf { prefix }), false);
                }
                Some(_) | None => {}
            }
            let (reads, is_closing) = {
                let state = self.mailbox.lock();
                (state.inbound.len() < INBOUND_MAX && state.orders[self.at].len() < ORDERS_MAX, state.is_closing)
            };
            if let Some(joining) = joining.as_mut().filter(|_| !reads) {
                joining.wait_on();
            }
            self.give_out(&mut connection, joining.is_none());
            if is_closing {
                let until = *leaves_at.get_or_insert_with(|| Instant::now() + LEAVE_TIME_MAX);
                let is_done = self.flights.is_empty() && self.mailbox.lock().orders[self.at].is_empty();
                if is_done || until <= Instant::now() {
                    connection.close(!self.stays).await;
                    return (None, joining.is_none());
                }
            }
            let timer = joining.as_ref().map(|joining| joining.until).or(leaves_at);
            let timer = tokio::time::Instant::from_std(timer.unwrap_or_else(|| Instant::now() + PAUSE_MAX));
            let turned = tokio::select! {
                turned = connection.turn(reads) => turned,
                () = self.mailbox.called(self.at) => Ok(()),
                () = tokio::time::sleep_until(timer) => Ok(()),
            };
            if let Err(error) = turned {
                return (Some(error), joining.is_none());
            }
        }
    }

    /// Subscribes, and asks for an echo: what the broker retains comes before it.
    fn join(&self, connection: &mut Connection) -> Result<Joining, BrokerError> {
        // More connections than kinds of messages: this one only sends.
        let subscription = match self.filters.is_empty() {
            true => None,
            false => Some(connection.subscribe(&self.filters)?),
        };
        let echo = format!("{ECHO}{:016x}", getrandom::u64().unwrap_or(self.epoch));
        Ok(Joining { subscription, is_subscribed: false, echo, until: Instant::now() + SUBSCRIBE_TIME_MAX })
    }

    fn ready(&self) {
        tracing::info!(broker = %self.options.host, connection = self.at, "connected to the broker");
        self.mailbox.set_standing(self.at, Standing::Ready);
    }

    /// Hands over what has come.
    fn take_in(&mut self, connection: &mut Connection, joining: &mut Option<Joining>) -> Result<(), BrokerError> {
        let received: Vec<Received> = connection.received().collect();
        if received.is_empty() {
            return Ok(());
        }
        let (mut is_joined, mut has_acknowledged) = (false, false);
        let mailbox = Arc::clone(&self.mailbox);
        let mut state = mailbox.lock();
        if let Some(joining) = joining.as_mut() {
            joining.wait_on();
        }
        for received in received {
            match received {
                Received::Message { topic, payload, is_retained, packet_id } => {
                    let is_echo =
                        joining.as_ref().is_some_and(|joining| payload == joining.echo.as_bytes() && !is_retained);
                    is_joined |= is_echo;
                    // Other processes listen for their own.
                    let is_of_nobody = self.topics.said(&topic) == Err(Malformed::Device);
                    let is_echo = is_echo || is_of_nobody && payload.starts_with(ECHO.as_bytes());
                    let receipt =
                        packet_id.map(|packet_id| Receipt { connection: self.at, epoch: self.epoch, packet_id });
                    let is_kept = !is_echo && self.heard(&mut state, &topic, payload, is_retained, receipt);
                    if let Some(packet_id) = packet_id.filter(|_| !is_kept) {
                        connection.acknowledge(packet_id);
                    }
                }
                Received::Acknowledged { packet_id, is_refused, has_nobody } => {
                    let Some(order) = self.flights.remove(&packet_id) else { continue };
                    has_acknowledged = true;
                    state.drop_order(&order);
                    state.unacknowledged = state.unacknowledged.saturating_sub(1);
                    if is_refused {
                        state.note_refusal(&order);
                    } else if let About::Command { token, device_id } = order.about
                        && has_nobody
                    {
                        if state.note_presence(&device_id, false) != Some(false) {
                            let happened = Happened::Presence { device_id, is_online: false, is_news: true };
                            state.inbound.push_back(Inbound { happened, receipt: None });
                        }
                        let happened = Happened::NotDelivered { token };
                        state.inbound.push_back(Inbound { happened, receipt: None });
                    }
                }
                Received::Subscribed { packet_id, is_granted } => {
                    if let Some(joining) = joining.as_mut()
                        && joining.subscription == Some(packet_id)
                    {
                        is_joined |= self.subscribed(connection, joining, is_granted)?;
                    }
                }
            }
        }
        // There may be room for more to send.
        let has_room = has_acknowledged && state.orders[self.at].is_empty();
        if !state.inbound.is_empty() || has_room {
            mailbox.signal(state);
        } else {
            drop(state);
        }
        if is_joined {
            *joining = None;
            self.ready();
        }
        Ok(())
    }

    /// Asks for the echo when devices' presences were subscribed to. Returns true when there is none to wait for.
    fn subscribed(
        &self,
        connection: &mut Connection,
        joining: &mut Joining,
        is_granted: bool,
    ) -> Result<bool, BrokerError> {
        if !is_granted {
            return Err(BrokerError::Subscription { filter: self.filters.join(" and ") });
        }
        joining.is_subscribed = true;
        joining.wait_on();
        if !self.filters.contains(&self.topics.presences()) {
            return Ok(true);
        }
        connection.publish(&Publication {
            topic: self.echo_topic(),
            payload: joining.echo.as_bytes().into(),
            is_retained: false,
            expires_after: None,
        })?;
        Ok(false)
    }

    /// Returns the topic of our echo. No device can have its id: it is longer than any.
    fn echo_topic(&self) -> String {
        self.topics.presence(&format!("{}-{}", self.options.client_id, "-".repeat(limits::DEVICE_ID_CHARS_MAX)))
    }

    /// Takes a message of a device. Returns false when it can be acknowledged at once: nothing is kept of it.
    fn heard(
        &self,
        state: &mut State,
        topic: &str,
        payload: Vec<u8>,
        is_retained: bool,
        receipt: Option<Receipt>,
    ) -> bool {
        let (device_id, said) = match self.topics.said(topic) {
            Ok(said) => said,
            Err(fault) => {
                state.count_malformed(self.topics.device_of(topic).unwrap_or_default().as_str(), topic, &fault);
                return false;
            }
        };
        // Only a presence is retained; anything else that is was meant for another time.
        if is_retained && said != Said::Presence {
            state.count_malformed(&device_id, topic, &"only a presence is retained");
            return false;
        }
        let happened = match said {
            Said::Presence => {
                let is_online = match presence(&payload) {
                    Ok(is_online) => is_online,
                    Err(fault) => {
                        state.count_malformed(&device_id, topic, &fault);
                        return false;
                    }
                };
                let known = state.note_presence(&device_id, is_online);
                let is_news = !is_retained;
                if known == Some(is_online) && !(is_online && is_news) {
                    return false;
                }
                Some(Happened::Presence { device_id, is_online, is_news })
            }
            said => {
                if state.presence.get(&device_id) == Some(&false) {
                    // It was said to be gone, and is not.
                    state.note_presence(&device_id, true);
                    let device_id = device_id.clone();
                    let happened = Happened::Presence { device_id, is_online: true, is_news: true };
                    state.inbound.push_back(Inbound { happened, receipt: None });
                }
                self.request(state, device_id, said, payload)
            }
        };
        let Some(happened) = happened else { return false };
        state.inbound.push_back(Inbound { happened, receipt });
        true
    }

    /// Returns what an answer or a request of a device comes to; `None` when it comes to nothing.
    fn request(&self, state: &mut State, device_id: String, said: Said, payload: Vec<u8>) -> Option<Happened> {
        match said {
            Said::Answer { status, rid } => {
                let Some(RequestId { token, proof }) = RequestId::parse(&rid) else {
                    state.count_malformed(&device_id, &rid, &"it answers a request that nobody made");
                    return None;
                };
                let mut body = payload;
                body.truncate(ANSWER_BYTES_MAX);
                let body = String::from_utf8_lossy(&body).into_owned();
                let is_first = state.is_first_answer(&device_id, &rid);
                let origin = Some(Origin { device_id, proof });
                Some(if is_first { Happened::Answered { token, origin, code: status, body } } else { Happened::Again })
            }
            Said::Reported { rid } => match reported_patch(&payload) {
                Ok(patch) => Some(Happened::Reported { device_id, patch, rid }),
                Err(status) => {
                    state.count_malformed(&device_id, &rid, &"it reports what a twin does not take");
                    let topic = self.topics.response(&device_id, status, &rid, None);
                    let (payload, is_retained, expires_after) = (Vec::new().into(), false, Some(REPLY_SECONDS));
                    let publication = Publication { topic, payload, is_retained, expires_after };
                    let until = Instant::now() + Duration::from_secs(REPLY_SECONDS.into());
                    state.reply(self.at, Order { publication, until: Some(until), about: About::Reply });
                    None
                }
            },
            Said::TwinWanted { rid } => Some(Happened::TwinWanted { device_id, rid }),
            Said::Presence => None,
        }
    }

    /// Acknowledges what is settled, and sends what there is room for.
    fn give_out(&mut self, connection: &mut Connection, sends: bool) {
        let mailbox = Arc::clone(&self.mailbox);
        let mut state = mailbox.lock();
        for receipt in std::mem::take(&mut state.receipts[self.at]) {
            if receipt.epoch == self.epoch {
                connection.acknowledge(receipt.packet_id);
            }
        }
        while sends && connection.room() > 0 {
            let Some(mut order) = state.orders[self.at].pop_front() else { break };
            if order.until.is_some_and(|until| until <= Instant::now()) {
                state.drop_order(&order);
                continue;
            }
            order.renew_expiry();
            match connection.publish(&order.publication) {
                Ok(packet_id) => {
                    state.unacknowledged += 1;
                    self.flights.insert(packet_id, order);
                }
                Err(error) => {
                    // Larger than the broker takes.
                    tracing::warn!(topic = %order.publication.topic, %error, "a message could not be sent");
                    state.drop_order(&order);
                    if let About::Command { token, .. } = order.about {
                        let body = format!("the broker does not take the message: {error}");
                        let happened = Happened::Answered { token, origin: None, code: 413, body };
                        state.inbound.push_back(Inbound { happened, receipt: None });
                    }
                }
            }
        }
        state.rooms[self.at] = if sends { connection.room() } else { 0 };
    }
}

/// Connects with the version that worked last; where that is not known, with 5, then with 3.1.1. `has_hung_up` is kept
/// from one try to the next: a broker that hangs up once may just be starting, and twice does not know version 5.
///
/// # Errors
/// The broker is not reachable, not trusted, or refuses.
pub async fn open(
    options: &ClientOptions,
    version: &mut Version,
    has_hung_up: &mut bool,
) -> Result<Connection, BrokerError> {
    let error = match Connection::open(options, *version).await {
        Ok((connection, _)) => {
            *has_hung_up = false;
            return Ok(connection);
        }
        Err(error) => error,
    };
    let hangs_up = matches!(error, BrokerError::Closed | BrokerError::Lost { .. });
    let speaks_other = matches!(error, BrokerError::Version | BrokerError::Protocol { .. });
    if *version == Version::V311 || !(speaks_other || hangs_up && *has_hung_up) {
        // It may have been replaced meanwhile.
        (*version, *has_hung_up) = (Version::V5, hangs_up);
        return Err(error);
    }
    match Connection::open(options, Version::V311).await {
        Ok((connection, _)) => {
            tracing::info!(broker = %options.host, "the broker speaks MQTT 3.1.1");
            (*version, *has_hung_up) = (Version::V311, false);
            Ok(connection)
        }
        Err(BrokerError::Closed | BrokerError::Lost { .. } | BrokerError::Unreachable { .. }) => Err(error),
        Err(other) => Err(other),
    }
}

/// Returns the merge patch of a payload, or the status that refuses it.
fn reported_patch(payload: &[u8]) -> Result<Value, u16> {
    if payload.len() > limits::PATCH_BYTES_MAX {
        return Err(413);
    }
    let (members, _) = versioned(payload).map_err(|_| 400u16)?;
    if violations(&members, Section::Reported).is_empty() { Ok(Value::Object(members)) } else { Err(400) }
}
