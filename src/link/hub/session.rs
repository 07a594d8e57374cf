//! One connection of a device, on any stream of bytes: MQTT 3.1.1 with IoT Hub's topics, or either version of MQTT with
//! fleetform's own.
//!
//! A message of the device is acknowledged when its effect is durable. What the device may not do ends its connection.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mqtt_protocol_core::mqtt::packet::{Packet, Qos};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::admission::{Admitted, Hello, Proof, admitted, named};
use super::device::Device;
use super::dialect::Dialect;
use super::direct;
use super::end::End;
use super::exchange::{Beginning, Closing, Exchange, OUTBOX_MAX, Orders, Out, Receipt};
use super::kept_session::{Answer, KeptSession};
use super::packets::{Greeting, Incoming, Message, Verdict};
use super::registration::{self, Newcomer, Registering, Registrar, RegistrationStep};
use super::telemetry::Sink;
use super::topics::{ASSUMED, Filter, Said};
use super::wire::{READ_BYTES, Wire, read};
use crate::link::happened::Happened;
use crate::link::mqtt::Version;
use crate::link::protocol::{RequestId, Told};
use crate::link::{DeviceMessage, Origin};
use crate::model::limits;
use crate::model::subscriptions::Subscriptions;
use crate::model::text::sanitize_line;
use crate::tls::Authorities;

/// How long a device may take to say who it is.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the registry is waited for before a device is told to come again.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(8);
/// How long the last bytes to a device may take.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);
/// Filters that do not exist, after which a connection ends.
const BAD_FILTERS_MAX: u32 = 3;
/// Bytes that a byte of JSON may take in memory.
const MEMORY_OF_BYTE: usize = 8;

/// A connection.
pub struct Connection<S> {
    wire: Wire<S>,
    /// The certificate that the device has the key of, and those that it has shown with it.
    chain: Vec<CertificateDer<'static>>,
}

/// Where a connection has come to.
pub struct House {
    pub host_name: Arc<str>,
    /// Who may have signed certificates of devices.
    pub authorities: Option<Authorities>,
    pub exchange: Arc<Exchange>,
    /// Who registers new devices.
    pub registrar: Option<Arc<dyn Registrar>>,
    /// Where telemetry goes; `None` for nowhere.
    pub sink: Option<Arc<Sink>>,
    /// That of the device, or of a proxy.
    pub address: IpAddr,
}

/// What comes from the exchange.
struct Ordered {
    orders: mpsc::Receiver<Out>,
    closed: oneshot::Receiver<Closing>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Takes over a stream, of a device that has shown these certificates, and has the key of the first one.
    pub fn new(stream: S, chain: Vec<CertificateDer<'static>>) -> Connection<S> {
        Connection { wire: Wire::new(stream), chain }
    }

    /// Serves a device until its connection ends, and returns its id, when it has said one, and why.
    pub async fn serve(mut self, house: &House) -> (Option<String>, End) {
        let exchange = &house.exchange;
        let (outbox, orders) = mpsc::channel(OUTBOX_MAX);
        let (closing, closed) = oneshot::channel();
        let ordered = Ordered { orders, closed };
        let hello = match timeout(CONNECT_TIME_MAX, self.wire.hello()).await {
            Ok(Ok(hello)) => hello,
            Ok(Err(end)) => return (None, end),
            Err(_) => return (None, End::Silent),
        };
        let is_of_hub = hello.username.as_deref().is_none_or(|username| Dialect::of(username) == Dialect::Hub);
        if is_of_hub && hello.version != Version::V311 {
            let end = End::Protocol("IoT Hub's topics are spoken with version 3.1.1 alone".to_string());
            return (None, self.wire.refuse(&hello, Verdict::Version, end).await);
        }
        if let Some(newcomer) = registration::newcomer(&house.host_name, said_by(&hello)) {
            return self.register(house, &hello, newcomer).await;
        }
        let mut who = None;
        let (mut device, ends_at) = match self.let_in(house, &hello, Orders { outbox, closing }, &mut who).await {
            Ok(found) => found,
            Err(end) => return (who, end),
        };
        let online = |is_online| Happened::Presence { device_id: device.id.clone(), is_online, is_news: true };
        exchange.happened(online(true), None, 0);
        let gone = online(false);
        let end = match self.serve_device(&mut device, ends_at, ordered, exchange).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        // It is told what it was to be told, as far as it listens.
        drop(timeout(FAREWELL_TIME_MAX, self.wire.flush()).await);
        if exchange.lock().end(&device.id, device.session) {
            exchange.happened(gone, None, 0);
        }
        (who, end)
    }

    /// Serves a device that registers.
    async fn register(mut self, house: &House, hello: &Greeting, newcomer: Newcomer) -> (Option<String>, End) {
        let (Newcomer { scope, id }, chain) = (newcomer, std::mem::take(&mut self.chain));
        let token = hello.password.as_ref().map(|password| String::from_utf8_lossy(password).into_owned());
        let step = RegistrationStep::Admission;
        let asked = Registering { scope, id: id.clone(), step, token, chain, address: house.address };
        let end = registration::serve(&mut self.wire, hello, asked, house.registrar.clone()).await;
        (Some(id), end)
    }

    /// Lets in a device that has said who it is. Returns until when.
    async fn let_in(
        &mut self,
        house: &House,
        hello: &Greeting,
        orders: Orders,
        who: &mut Option<String>,
    ) -> Result<(Device, Instant), End> {
        let House { host_name, authorities, exchange, sink, .. } = house;
        let (dialect, device_id) = match named(host_name, said_by(hello)) {
            Ok(named) => named,
            Err(refusal) => return Err(self.wire.refuse(hello, Verdict::NotAuthorized, refusal.into()).await),
        };
        *who = Some(device_id.clone());
        let rid = format!("{:032x}", u128::from(random()?) << 64 | u128::from(random()?));
        let looks = exchange.lock().looks();
        let policies = exchange.lock().policies();
        let identity = exchange.login(&device_id, rid.clone());
        let identity = match timeout(LOGIN_TIME_MAX, identity).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(_)) | Err(_) => {
                exchange.lock().forget_login(&rid);
                return Err(self.wire.refuse(hello, Verdict::Unavailable, End::Busy).await);
            }
        };
        let now = Timestamp::now().as_second();
        let chain = std::mem::take(&mut self.chain);
        let (password, authorities) = (hello.password.as_deref(), authorities.as_ref());
        let takes_keys = dialect == Dialect::Own;
        let proof = Proof { password, takes_keys, chain: &chain, authorities, policies: Some(&policies) };
        let Admitted { ends_at, credential } = match admitted((host_name, &device_id), proof, identity.as_ref(), now) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                exchange.lock().refused += 1;
                return Err(self.wire.refuse(hello, Verdict::NotAuthorized, refusal.into()).await);
            }
        };
        let kept = identity.and_then(|identity| identity.subscriptions);
        let unknown = match dialect {
            Dialect::Hub => ASSUMED,
            Dialect::Own => Subscriptions::default(),
        };
        let beginning = Beginning { is_clean: hello.is_clean, kept, unknown, credential, looks };
        let (session, was_known) = exchange.lock().begin(&device_id, beginning, orders);
        if hello.is_clean && kept.is_some() {
            let device_id = device_id.clone();
            exchange.happened(Happened::Subscribed { device_id, subscriptions: None }, None, 0);
        }
        exchange.calls.can_be_called(&device_id);
        self.wire.answer(hello, Verdict::Welcome, was_known);
        exchange.messages_wait(&device_id);
        let left = u64::try_from(ends_at.unwrap_or(i64::MAX).saturating_sub(now)).unwrap_or_default();
        // A token may be good for centuries, which a clock of the system does not reach.
        let ends_at = Instant::now() + Duration::from_secs(left.min(100 * 365 * 86_400));
        let device = Device {
            id: device_id,
            dialect,
            session,
            bad_filters: 0,
            reports: (Instant::now(), 0),
            kept: KeptSession::new(hello.is_clean, kept),
            unacknowledged: BTreeMap::new(),
            later: VecDeque::new(),
            has_dropped: false,
            sink: sink.clone(),
        };
        Ok((device, ends_at))
    }

    async fn serve_device(
        &mut self,
        device: &mut Device,
        ends_at: Instant,
        mut ordered: Ordered,
        exchange: &Arc<Exchange>,
    ) -> Result<std::convert::Infallible, End> {
        let mut input = [0; READ_BYTES];
        loop {
            // What comes with one read may be a hundred questions: the rest waits for its turn.
            while !exchange.lock().is_full(&device.id)
                && let Some(packet) = self.wire.packets.pop_front()
            {
                self.take_in(device, packet, exchange)?;
            }
            self.wire.flush_unless(&mut ordered.closed).await?;
            if let Some(end) = self.wire.end.take() {
                return Err(end);
            }
            let is_full = !self.wire.packets.is_empty() || exchange.lock().is_full(&device.id);
            let until = self.wire.alive_until().min(ends_at);
            tokio::select! {
                read = self.wire.stream.read(&mut input), if !is_full => match read? {
                    0 => return Err(End::Left),
                    length => self.wire.feed(&input[..length], false),
                },
                () = exchange.room(&device.id), if is_full => {}
                order = ordered.orders.recv() => {
                    self.give_out(device, order)?;
                    self.give_out_all(device, &mut ordered)?;
                    self.hand_over(device, exchange)?;
                }
                why = &mut ordered.closed => {
                    self.give_out_all(device, &mut ordered)?;
                    return Err(why.map_or(End::Closing, End::from));
                }
                () = sleep_until(until) => {
                    return Err(if Instant::now() >= ends_at { End::Expired } else { End::Silent });
                }
            }
        }
    }

    /// Does all that was ordered.
    fn give_out_all(&mut self, device: &mut Device, ordered: &mut Ordered) -> Result<(), End> {
        while let Ok(order) = ordered.orders.try_recv() {
            self.give_out(device, Some(order))?;
        }
        Ok(())
    }

    /// Does what was ordered.
    fn give_out(&mut self, device: &mut Device, order: Option<Out>) -> Result<(), End> {
        match order {
            Some(Out::Tell { told, payload }) => {
                let topic = device.dialect.told(&device.id, &told);
                if !self.wire.publish(Message { payload, ..Message::unacknowledged(topic) })? {
                    device.dropped();
                }
            }
            // They are looked for behind all that was ordered.
            Some(Out::Messages) => {}
            Some(Out::Acknowledge(packet_id)) => self.acknowledge(device, packet_id)?,
            None => return Err(End::Closing),
        }
        Ok(())
    }

    /// Writes the messages that have come for the device.
    fn hand_over(&mut self, device: &mut Device, exchange: &Exchange) -> Result<(), End> {
        let mut state = exchange.lock();
        let messages = state.take_messages(&device.id, device.session);
        let acknowledged = state.take_acknowledged(&device.id, device.session);
        let is_silent = state.listens_to(&device.id).is_some_and(|listens| listens.is_silent);
        drop(state);
        for packet_id in acknowledged {
            self.acknowledge(device, packet_id)?;
        }
        device.later.extend(messages);
        while (is_silent || self.wire.room() > 0)
            && let Some(message) = device.later.pop_front()
        {
            let topic = device.dialect.message(&device.id, &message);
            let DeviceMessage { sequence, is_again, body, .. } = message;
            let mut sent = Message { payload: body.into(), is_again, ..Message::unacknowledged(topic) };
            if is_silent {
                sent.is_again = false;
            } else {
                let none = || End::Protocol("it acknowledges nothing".to_string());
                let packet_id = self.wire.packet_id().ok_or_else(none)?;
                device.unacknowledged.insert(packet_id, sequence);
                sent.packet_id = Some(packet_id);
            }
            let packet_id = sent.packet_id;
            let is_sent = self.wire.publish(sent)?;
            if !is_sent {
                device.dropped();
                packet_id.map(|packet_id| device.unacknowledged.remove(&packet_id));
            }
            // Nobody acknowledges what was not sent.
            if is_silent || !is_sent {
                exchange.message_taken(&device.id, device.session, sequence);
            }
        }
        Ok(())
    }

    /// Takes a packet of the device.
    fn take_in(&mut self, device: &mut Device, packet: Packet, exchange: &Arc<Exchange>) -> Result<(), End> {
        match read(packet)? {
            Incoming::Message { qos: Qos::ExactlyOnce, .. } => Err(End::Protocol("there is no QoS 2".to_string())),
            Incoming::Message { topic, payload, packet_id, .. } => {
                let said = device.dialect.said(&device.id, &topic)?;
                self.heard(device, said, payload.as_slice(), packet_id, exchange);
                Ok(())
            }
            Incoming::Subscribe { packet_id, filters } => {
                let mut granted = Vec::with_capacity(filters.len());
                for (filter, qos) in filters {
                    let filter = device.dialect.filter_of(&device.id, &filter);
                    match filter {
                        Some(filter) => self.subscribe(device, filter, qos, exchange),
                        None => device.bad_filters += 1,
                    }
                    granted.push(filter.map(|_| qos));
                }
                if device.bad_filters >= BAD_FILTERS_MAX {
                    return Err(End::Protocol("it subscribes to what is not its own".to_string()));
                }
                self.answer_when_kept(device, packet_id, Answer::Subscribed(granted), exchange)
            }
            Incoming::Unsubscribe { packet_id, filters } => {
                for filter in filters.iter().filter_map(|text| device.dialect.filter_of(&device.id, text)) {
                    exchange.lock().subscribe(&device.id, filter, false);
                }
                self.answer_when_kept(device, packet_id, Answer::Unsubscribed(filters.len()), exchange)
            }
            Incoming::Acknowledged { packet_id } => {
                if let Some(sequence) = device.unacknowledged.remove(&packet_id) {
                    exchange.message_taken(&device.id, device.session, sequence);
                    self.hand_over(device, exchange)?;
                }
                Ok(())
            }
            Incoming::Farewell => Err(End::Left),
            Incoming::Ping => Ok(()),
            Incoming::Other => Err(End::Protocol("the packet is none of a device".to_string())),
        }
    }

    /// Answers a packet that may have changed what the device listens to, when the registry has it.
    fn answer_when_kept(
        &mut self,
        device: &mut Device,
        packet_id: u16,
        answer: Answer,
        exchange: &Exchange,
    ) -> Result<(), End> {
        let subscriptions = exchange.lock().listens_to(&device.id).unwrap_or_default();
        if let Some(answer) = device.kept.changed(subscriptions, packet_id, answer) {
            return answer.write(packet_id, &mut self.wire);
        }
        let receipt = Receipt { device_id: device.id.clone(), session: device.session, packet_id };
        let device_id = device.id.clone();
        let happened = Happened::Subscribed { device_id, subscriptions: Some(subscriptions) };
        exchange.happened(happened, Some(receipt), 0);
        Ok(())
    }

    /// Answers a packet of the device whose effect is durable.
    fn acknowledge(&mut self, device: &mut Device, packet_id: u16) -> Result<(), End> {
        match device.kept.answer_to(packet_id) {
            Some(answer) => answer.write(packet_id, &mut self.wire),
            None => {
                self.wire.acknowledge(packet_id);
                Ok(())
            }
        }
    }

    /// Notes what the device listens to. What waits for a device that can be called goes on.
    fn subscribe(&self, device: &Device, filter: Filter, qos: Qos, exchange: &Arc<Exchange>) {
        let can_be_called = exchange.lock().subscribe(&device.id, filter, true);
        if filter == Filter::Messages {
            exchange.lock().acknowledges(&device.id, qos != Qos::AtMostOnce);
            exchange.messages_wait(&device.id);
        }
        if can_be_called {
            exchange.calls.can_be_called(&device.id);
            let device_id = device.id.clone();
            exchange.happened(Happened::Presence { device_id, is_online: true, is_news: false }, None, 0);
        }
    }

    /// Takes a message of the device.
    fn heard(
        &mut self,
        device: &mut Device,
        said: Said,
        payload: &[u8],
        packet_id: Option<u16>,
        exchange: &Arc<Exchange>,
    ) {
        let device_id = device.id.clone();
        let receipt =
            packet_id.map(|packet_id| Receipt { device_id: device_id.clone(), session: device.session, packet_id });
        let happened = match said {
            Said::Telemetry { properties } => {
                let is_passed = device.pass_on(properties, payload, receipt.clone());
                exchange.lock().count_telemetry(is_passed == Some(false));
                if is_passed == Some(true) {
                    // It is acknowledged when it is there.
                    return;
                }
                None
            }
            Said::Presence => None,
            Said::TwinWanted { rid } => Some(Happened::TwinWanted { device_id, rid }),
            Said::Reported { rid } => match device.reported(payload) {
                Ok(patch) => Some(Happened::Reported { device_id, patch, rid }),
                Err(status) => {
                    exchange.lock().count_malformed(&device.id, &format_args!("a reported patch is refused: {status}"));
                    let told = Told::Response { status, rid, version: None };
                    let order = Out::Tell { told, payload: [].into() };
                    // What it is told comes behind what it waits for already.
                    exchange.lock().order(&device.id, order);
                    None
                }
            },
            Said::Answer { status, rid } if direct::is_rid(&rid) => {
                if !exchange.calls.answered(&device.id, &rid, status, payload) {
                    tracing::debug!(device = %sanitize_line(&device.id), "an answer is late, or not the first one");
                }
                None
            }
            Said::Answer { status, rid } => {
                let status = u16::try_from(status.clamp(0, u16::MAX.into())).unwrap_or_default();
                let mut state = exchange.lock();
                match RequestId::parse(&rid) {
                    Some(_) if !state.is_first_answer(&device.id, &rid) => Some(Happened::Again),
                    Some(RequestId { token, proof }) => {
                        let origin = Origin { device_id, proof };
                        Some(answered(token, origin, status, payload))
                    }
                    None => {
                        state.count_malformed(&device.id, &"an answer to nothing that it was asked");
                        None
                    }
                }
            }
        };
        match (happened, packet_id) {
            (Some(happened), _) => exchange.happened(happened, receipt, payload.len() * MEMORY_OF_BYTE),
            (None, Some(packet_id)) => self.wire.acknowledge(packet_id),
            (None, None) => {}
        }
    }
}

fn said_by(hello: &Greeting) -> Hello<'_> {
    Hello { client_id: &hello.client_id, username: hello.username.as_deref(), will_topic: hello.will_topic.as_deref() }
}

/// Returns an answer as it is kept. Text that is no JSON is an answer of a device that failed to make one.
fn answered(token: crate::link::Token, origin: Origin, status: u16, payload: &[u8]) -> Happened {
    let is_json = payload.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok();
    if !is_json {
        let body = "the answer of the device is no JSON".to_string();
        return Happened::Answered { token, origin: Some(origin), code: 502, body };
    }
    let kept = &payload[..payload.len().min(limits::PAYLOAD_BYTES_MAX)];
    let body = String::from_utf8_lossy(kept).into_owned();
    Happened::Answered { token, origin: Some(origin), code: status, body }
}

fn random() -> std::io::Result<u64> {
    getrandom::u64().map_err(std::io::Error::other)
}
