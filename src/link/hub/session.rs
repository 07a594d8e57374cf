//! One connection of a device: MQTT 3.1.1 in IoT Hub's dialect, on any stream of bytes.
//!
//! A message of the device is acknowledged when its effect is durable. What the device may not do ends its connection.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::event::TimerKind;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, role};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait as _, Packet, Qos, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::admission::{Hello, Proof, admitted, named};
use super::end::End;
use super::exchange::{Closing, Exchange, OUTBOX_MAX, Out, Receipt};
use super::topics::{Filter, Said, filter_of, said};
use crate::link::Origin;
use crate::link::happened::Happened;
use crate::link::protocol::{RequestId, versioned};
use crate::model::limits;
use crate::model::patch::{Section, violations};

/// How long a device may take to say who it is.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long the registry is waited for before a device is told to come again.
const LOGIN_TIME_MAX: Duration = Duration::from_secs(8);
/// How long a device may read nothing of what it is sent.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the last bytes to a device may take.
const FAREWELL_TIME_MAX: Duration = Duration::from_secs(1);
/// The longest time without a message that a device may ask for (IoT Hub: 1,767 s), and the one of a device that asks
/// for none.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(1_767);
/// Bytes that are read at once. Ten thousand devices have so much each.
const READ_BYTES: usize = 2 * 1024;
/// Bytes of the largest packet: telemetry of 256 KiB and its topic.
const PACKET_BYTES_MAX: u32 = 300 * 1024;
/// The first byte of the packet that every connection begins with.
const CONNECT: u8 = 0x10;
/// Bytes that are read of a device that nobody knows yet.
const HELLO_BYTES_MAX: usize = 16 * 1024;
/// Filters that do not exist, after which a connection ends.
const BAD_FILTERS_MAX: u32 = 3;
/// Reported patches a second, beyond which they are refused (IoT Hub throttles them, too).
const REPORTS_PER_SECOND_MAX: u32 = 50;
/// Bytes that a byte of JSON may take in memory.
const MEMORY_OF_BYTE: usize = 8;
/// Bytes of an answer that are kept: the results keep less.
const ANSWER_BYTES_MAX: usize = 8 * 1024;

/// A connection.
pub struct Connection<S> {
    core: mqtt::Connection<role::Server>,
    stream: S,
    output: Vec<u8>,
    packets: Vec<Packet>,
    /// What has come behind CONNECT.
    ahead: Vec<u8>,
    alive_until: Option<Instant>,
    end: Option<End>,
    /// The certificate that the device has the key of, in DER.
    certificate: Option<Vec<u8>>,
}

/// Who is connected.
struct Device {
    id: String,
    session: u64,
    bad_filters: u32,
    /// Reported patches of the second that began then.
    reports: (Instant, u32),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Takes over a stream, of a device that has shown this certificate.
    pub fn new(stream: S, certificate: Option<Vec<u8>>) -> Connection<S> {
        let limits = ConnectionOptions::new().maximum_packet_size_recv(PACKET_BYTES_MAX);
        let mut core = mqtt::Connection::<role::Server>::with_options(mqtt::Version::V3_1_1, limits);
        core.set_auto_ping_response(true);
        Connection {
            core,
            stream,
            output: Vec::new(),
            packets: Vec::new(),
            ahead: Vec::new(),
            alive_until: None,
            end: None,
            certificate,
        }
    }

    /// Serves a device until its connection ends, and returns its id, when it has said one, and why.
    pub async fn serve(mut self, host_name: &str, exchange: &Arc<Exchange>) -> (Option<String>, End) {
        let (outbox, orders) = mpsc::channel(OUTBOX_MAX);
        let mut who = None;
        let (mut device, ends_at) = match self.let_in(host_name, exchange, outbox, &mut who).await {
            Ok(found) => found,
            Err(end) => return (who, end),
        };
        let online = |is_online| Happened::Presence { device_id: device.id.clone(), is_online, is_news: true };
        exchange.happened(online(true), None, 0);
        let gone = online(false);
        let end = match self.serve_device(&mut device, ends_at, orders, exchange).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        // It is told what it was to be told, as far as it listens.
        drop(timeout(FAREWELL_TIME_MAX, self.flush()).await);
        if exchange.lock().end(&device.id, device.session) {
            exchange.happened(gone, None, 0);
        }
        (who, end)
    }

    /// Waits until the device has said who it is, and lets it in. Returns until when.
    async fn let_in(
        &mut self,
        host_name: &str,
        exchange: &Arc<Exchange>,
        outbox: mpsc::Sender<Out>,
        who: &mut Option<String>,
    ) -> Result<(Device, Instant), End> {
        let hello = match timeout(CONNECT_TIME_MAX, self.hello()).await {
            Ok(hello) => hello?,
            Err(_) => return Err(End::Silent),
        };
        let said = Hello { client_id: hello.client_id(), username: hello.user_name(), will_topic: hello.will_topic() };
        let device_id = match named(host_name, said) {
            Ok(id) => id,
            Err(refusal) => return Err(self.refuse(ConnectReturnCode::NotAuthorized, refusal.into()).await),
        };
        *who = Some(device_id.clone());
        let rid = format!("{:032x}", u128::from(random()?) << 64 | u128::from(random()?));
        let identity = exchange.login(&device_id, rid.clone());
        let identity = match timeout(LOGIN_TIME_MAX, identity).await {
            Ok(Ok(identity)) => identity,
            Ok(Err(_)) | Err(_) => {
                exchange.lock().forget_login(&rid);
                return Err(self.refuse(ConnectReturnCode::ServerUnavailable, End::Busy).await);
            }
        };
        let now = Timestamp::now().as_second();
        let certificate = self.certificate.take();
        let proof = Proof { password: hello.password(), certificate: certificate.as_deref() };
        let ends_at = match admitted((host_name, &device_id), proof, identity.as_ref(), now) {
            Ok(ends_at) => ends_at.unwrap_or(i64::MAX),
            Err(refusal) => {
                exchange.lock().refused += 1;
                return Err(self.refuse(ConnectReturnCode::NotAuthorized, refusal.into()).await);
            }
        };
        let (session, was_known) = exchange.lock().begin(&device_id, hello.clean_session(), outbox);
        self.welcome(ConnectReturnCode::Accepted, was_known);
        let left = u64::try_from(ends_at.saturating_sub(now)).unwrap_or_default();
        // A token may be good for centuries, which a clock of the system does not reach.
        let ends_at = Instant::now() + Duration::from_secs(left.min(100 * 365 * 86_400));
        Ok((Device { id: device_id, session, bad_filters: 0, reports: (Instant::now(), 0) }, ends_at))
    }

    /// Reads until the device has said who it is.
    async fn hello(&mut self) -> Result<v3_1_1::Connect, End> {
        let mut input = [0; READ_BYTES];
        let mut read = 0;
        loop {
            match self.packets.pop() {
                Some(Packet::V3_1_1Connect(hello)) => return Ok(hello),
                Some(_) => return Err(End::Protocol("it does not begin with CONNECT".to_string())),
                None => {}
            }
            if let Some(end) = self.end.take() {
                // Most likely it speaks another version: this answer is understood by all of them.
                self.output = vec![0x20, 2, 0, ConnectReturnCode::UnacceptableProtocolVersion as u8];
                self.flush().await?;
                return Err(end);
            }
            let length = self.stream.read(&mut input).await?;
            if length == 0 {
                return Err(End::Left);
            }
            if read == 0 && input[0] != CONNECT {
                return Err(End::Protocol("it does not begin with CONNECT".to_string()));
            }
            read += length;
            if read > HELLO_BYTES_MAX {
                return Err(End::Protocol("CONNECT is too large".to_string()));
            }
            self.feed(&input[..length], true);
        }
    }

    fn welcome(&mut self, code: ConnectReturnCode, session_present: bool) {
        let packet = v3_1_1::Connack::builder().return_code(code).session_present(session_present).build();
        if let Ok(packet) = packet {
            self.send(packet.into());
        }
        if code == ConnectReturnCode::Accepted {
            let ahead = std::mem::take(&mut self.ahead);
            self.feed(&ahead, false);
        }
    }

    /// Tells a device that it is not let in.
    async fn refuse(&mut self, code: ConnectReturnCode, end: End) -> End {
        self.welcome(code, false);
        // It is told as far as it listens.
        drop(self.flush().await);
        end
    }

    async fn serve_device(
        &mut self,
        device: &mut Device,
        ends_at: Instant,
        mut orders: mpsc::Receiver<Out>,
        exchange: &Arc<Exchange>,
    ) -> Result<std::convert::Infallible, End> {
        let mut input = [0; READ_BYTES];
        loop {
            for packet in std::mem::take(&mut self.packets) {
                self.take_in(device, packet, exchange)?;
            }
            self.flush().await?;
            if let Some(end) = self.end.take() {
                return Err(end);
            }
            let is_full = exchange.lock().is_full(&device.id);
            let until = self.alive_until.unwrap_or_else(|| Instant::now() + KEEP_ALIVE_MAX).min(ends_at);
            tokio::select! {
                read = self.stream.read(&mut input), if !is_full => match read? {
                    0 => return Err(End::Left),
                    length => self.feed(&input[..length], false),
                },
                () = exchange.room(&device.id), if is_full => {}
                order = orders.recv() => {
                    self.give_out(order)?;
                    while let Ok(order) = orders.try_recv() {
                        self.give_out(Some(order))?;
                    }
                }
                () = sleep_until(until) => {
                    return Err(if Instant::now() >= ends_at { End::Expired } else { End::Silent });
                }
            }
        }
    }

    /// Does what was ordered.
    fn give_out(&mut self, order: Option<Out>) -> Result<(), End> {
        match order {
            Some(Out::Publish { topic, payload }) => {
                let packet = v3_1_1::Publish::builder().topic_name(topic.as_str());
                let packet = packet.and_then(|packet| packet.qos(Qos::AtMostOnce).payload(payload).build());
                let packet = packet.map_err(|error| End::Protocol(error.to_string()))?;
                self.send(packet.into());
            }
            Some(Out::Acknowledge(packet_id)) => self.acknowledge(packet_id),
            Some(Out::Close(Closing::Replaced)) => return Err(End::Replaced),
            Some(Out::Close(Closing::NotAllowed)) => return Err(End::NotAllowed),
            None => return Err(End::Closing),
        }
        Ok(())
    }

    fn acknowledge(&mut self, packet_id: u16) {
        if let Ok(packet) = v3_1_1::Puback::builder().packet_id(packet_id).build() {
            self.send(packet.into());
        }
    }

    /// Takes a packet of the device.
    fn take_in(&mut self, device: &mut Device, packet: Packet, exchange: &Arc<Exchange>) -> Result<(), End> {
        match packet {
            Packet::V3_1_1Publish(message) => {
                if message.qos() == Qos::ExactlyOnce {
                    return Err(End::Protocol("there is no QoS 2".to_string()));
                }
                let topic = said(&device.id, message.topic_name())?;
                self.heard(device, topic, message.payload().as_slice(), message.packet_id(), exchange);
            }
            Packet::V3_1_1Subscribe(wanted) => {
                let mut codes = Vec::with_capacity(wanted.entries().len());
                for entry in wanted.entries() {
                    codes.push(match filter_of(&device.id, entry.topic_filter()) {
                        Some(filter) => {
                            self.subscribe(device, filter, exchange);
                            match entry.sub_opts().qos() {
                                Qos::AtMostOnce => SubackReturnCode::SuccessMaximumQos0,
                                Qos::AtLeastOnce | Qos::ExactlyOnce => SubackReturnCode::SuccessMaximumQos1,
                            }
                        }
                        None => {
                            device.bad_filters += 1;
                            SubackReturnCode::Failure
                        }
                    });
                }
                if device.bad_filters >= BAD_FILTERS_MAX {
                    return Err(End::Protocol("it subscribes to what is not its own".to_string()));
                }
                let packet = v3_1_1::Suback::builder().packet_id(wanted.packet_id()).return_codes(codes).build();
                self.send(packet.map_err(|error| End::Protocol(error.to_string()))?.into());
            }
            Packet::V3_1_1Unsubscribe(unwanted) => {
                let filters = unwanted.entries().iter().filter_map(|entry| filter_of(&device.id, entry.as_str()));
                let filters: Vec<Filter> = filters.collect();
                for filter in filters {
                    exchange.lock().subscribe(&device.id, filter, false);
                }
                let packet = v3_1_1::Unsuback::builder().packet_id(unwanted.packet_id()).build();
                self.send(packet.map_err(|error| End::Protocol(error.to_string()))?.into());
            }
            Packet::V3_1_1Disconnect(_) => return Err(End::Left),
            // Answered by the core.
            Packet::V3_1_1Pingreq(_) => {}
            _ => return Err(End::Protocol("the packet is none of a device".to_string())),
        }
        Ok(())
    }

    /// Notes what the device listens to. What waits for a device that can be called goes on.
    fn subscribe(&self, device: &Device, filter: Filter, exchange: &Arc<Exchange>) {
        let can_be_called = exchange.lock().subscribe(&device.id, filter, true);
        if can_be_called {
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
            // Counted by nobody: it is not what fleetform is for.
            Said::Telemetry => None,
            Said::TwinWanted { rid } => Some(Happened::TwinWanted { device_id, rid }),
            Said::Reported { rid } => match self.reported(device, payload) {
                Ok(patch) => Some(Happened::Reported { device_id, patch, rid }),
                Err(status) => {
                    exchange.lock().count_malformed(&device.id, &format_args!("a reported patch is refused: {status}"));
                    let order = Out::Publish { topic: super::topics::response(status, &rid, None), payload: [].into() };
                    // What it is told comes behind what it waits for already.
                    exchange.lock().order(&device.id, order);
                    None
                }
            },
            Said::Answer { status, rid } => {
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
            (None, Some(packet_id)) => self.acknowledge(packet_id),
            (None, None) => {}
        }
    }

    /// Returns the patch of a report, or the status with which it is refused.
    fn reported(&self, device: &mut Device, payload: &[u8]) -> Result<serde_json::Value, u16> {
        let (since, count) = &mut device.reports;
        if since.elapsed() >= Duration::from_secs(1) {
            (*since, *count) = (Instant::now(), 0);
        }
        *count += 1;
        if *count > REPORTS_PER_SECOND_MAX {
            return Err(429);
        }
        if payload.len() > limits::PATCH_BYTES_MAX {
            return Err(413);
        }
        let (members, _) = versioned(payload).map_err(|_| 400_u16)?;
        match violations(&members, Section::Reported).is_empty() {
            true => Ok(serde_json::Value::Object(members)),
            false => Err(400),
        }
    }

    fn send(&mut self, packet: Packet) {
        let events = self.core.send(packet);
        self.take(events);
    }

    /// Takes bytes of the device, with `is_first` up to its first packet: what comes right behind it is for when it is
    /// let in.
    fn feed(&mut self, bytes: &[u8], is_first: bool) {
        let mut cursor = mqtt::common::Cursor::new(bytes);
        while (cursor.position() as usize) < bytes.len() && self.end.is_none() {
            if is_first && !self.packets.is_empty() {
                self.ahead = bytes[cursor.position() as usize..].to_vec();
                return;
            }
            let events = self.core.recv(&mut cursor);
            self.take(events);
        }
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.packets.push(packet),
                Event::RequestSendPacket { packet, .. } => self.output.extend(packet.to_continuous_buffer()),
                Event::RequestTimerReset { kind: TimerKind::PingreqRecv, duration_ms } => {
                    let time = Duration::from_millis(duration_ms).min(KEEP_ALIVE_MAX);
                    self.alive_until = Some(Instant::now() + time);
                }
                Event::RequestTimerReset { .. } | Event::RequestTimerCancel(_) | Event::NotifyPacketIdReleased(_) => {}
                Event::NotifyError(error) => {
                    // It comes behind the request to close, and says why.
                    if matches!(self.end, None | Some(End::Left)) {
                        self.end = Some(End::Protocol(error.to_string()));
                    }
                }
                Event::RequestClose => {
                    self.end.get_or_insert(End::Left);
                }
            }
        }
    }

    /// Writes what there is to write.
    async fn flush(&mut self) -> Result<(), End> {
        if self.output.is_empty() {
            return Ok(());
        }
        let until = Instant::now() + WRITE_TIME_MAX;
        let written = timeout_at(until, async {
            self.stream.write_all(&self.output).await?;
            self.stream.flush().await
        });
        written.await.map_err(|_| End::Slow)??;
        self.output.clear();
        Ok(())
    }
}

/// Returns an answer as it is kept. Text that is no JSON is an answer of a device that failed to make one.
fn answered(token: crate::link::Token, origin: Origin, status: u16, payload: &[u8]) -> Happened {
    let is_json = payload.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok();
    if !is_json {
        let body = "the answer of the device is no JSON".to_string();
        return Happened::Answered { token, origin: Some(origin), code: 502, body };
    }
    let kept = &payload[..payload.len().min(ANSWER_BYTES_MAX)];
    let body = String::from_utf8_lossy(kept).into_owned();
    Happened::Answered { token, origin: Some(origin), code: status, body }
}

fn random() -> std::io::Result<u64> {
    getrandom::u64().map_err(std::io::Error::other)
}
