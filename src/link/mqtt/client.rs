//! One connection to a broker, MQTT 5 or 3.1.1: a client of fleetform's and of the reference devices.
//!
//! It acknowledges nothing by itself, and resends nothing. An incoming message counts as received when the caller says
//! so; what was sent on a connection that is lost is the caller's to send again, or not.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::event::TimerKind;
use mqtt_protocol_core::mqtt::connection::{Event, role};
use mqtt_protocol_core::mqtt::packet::Packet;
use mqtt_protocol_core::mqtt::prelude::GenericPacketTrait as _;
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode, PubackReasonCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::error::BrokerError;
use super::packets;
use super::terms::{ClientOptions, Publication, Received, Version};

/// How long a broker may take to let a client in: each of the network, TLS and MQTT.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);
/// How long taking leave may take.
const CLOSE_TIME_MAX: Duration = Duration::from_secs(1);
/// How long the answer to a ping may take.
const PING_TIME_MAX: Duration = Duration::from_secs(10);
/// The most bytes that are read at once, and those for each message that may come at once: ten thousand devices of one
/// process would need much memory otherwise.
const READ_BYTES_MAX: usize = 16 * 1024;
const MESSAGE_BYTES: usize = 64;
/// Messages in flight of a broker that names no maximum, which is what MQTT 3.1.1 knows.
const IN_FLIGHT_DEFAULT: usize = 1_000;

/// Any stream of bytes.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// An open connection.
pub struct Connection {
    core: mqtt::Connection<role::Client>,
    version: Version,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Bytes of `output` that are written.
    written: usize,
    is_flushed: bool,
    received: VecDeque<Received>,
    /// When a ping is due, and when its answer is overdue.
    ping_at: Option<Instant>,
    pong_until: Option<Instant>,
    /// Publications without an acknowledgement.
    in_flight: usize,
    /// The broker's answer to the request to connect.
    welcome: Option<Result<bool, BrokerError>>,
    /// Why it ends.
    end: Option<BrokerError>,
}

impl Connection {
    /// Connects, and returns whether the broker had kept the session.
    ///
    /// # Errors
    /// The broker is not reachable, not trusted, or refuses.
    pub async fn open(options: &ClientOptions, version: Version) -> Result<(Connection, bool), BrokerError> {
        let stream = open_stream(options).await?;
        let (reader, writer) = tokio::io::split(stream);
        let (of, limits) = match version {
            Version::V5 => (mqtt::Version::V5_0, mqtt::connection::ConnectionOptions::new()),
            Version::V311 => (mqtt::Version::V3_1_1, mqtt::connection::ConnectionOptions::new()),
        };
        let limits = limits.maximum_packet_size_recv(options.packet_bytes_max);
        let mut core = mqtt::Connection::<role::Client>::with_options(of, limits);
        core.set_pingresp_recv_timeout(PING_TIME_MAX.as_millis() as u64);
        let mut connection = Connection {
            core,
            version,
            reader,
            writer,
            input: vec![0; READ_BYTES_MAX.min(usize::from(options.receive_max) * MESSAGE_BYTES)],
            output: Vec::new(),
            written: 0,
            is_flushed: true,
            received: VecDeque::new(),
            ping_at: None,
            pong_until: None,
            in_flight: 0,
            welcome: None,
            end: None,
        };
        let hello = packets::connect(version, options)?;
        let events = connection.core.send(hello);
        connection.take(events);
        let is_kept = timeout(CONNECT_TIME_MAX, connection.welcomed()).await.map_err(|_| BrokerError::Silent)??;
        Ok((connection, is_kept))
    }

    async fn welcomed(&mut self) -> Result<bool, BrokerError> {
        loop {
            if let Some(welcome) = self.welcome.take() {
                return welcome;
            }
            self.turn(true).await?;
        }
    }

    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns how many publications the broker takes now.
    pub fn room(&self) -> usize {
        let own = IN_FLIGHT_DEFAULT.saturating_sub(self.in_flight);
        self.core.get_receive_maximum_vacancy_for_send().map_or(own, usize::from)
    }

    /// Publishes with QoS 1, and returns the packet's id.
    ///
    /// # Errors
    /// The topic is none, or the packet is larger than the broker takes.
    pub fn publish(&mut self, publication: &Publication) -> Result<u16, BrokerError> {
        let packet_id = self.core.acquire_packet_id().map_err(BrokerError::protocol)?;
        let packet = match packets::publish(self.version, publication, packet_id) {
            Ok(packet) => packet,
            Err(error) => {
                let events = self.core.release_packet_id(packet_id);
                self.take(events);
                return Err(error);
            }
        };
        let before = self.end.is_some();
        let events = self.core.send(packet);
        let refused = events.iter().find_map(|event| match event {
            Event::NotifyError(error) => Some(BrokerError::protocol(*error)),
            _ => None,
        });
        if let Some(error) = refused.filter(|_| !before) {
            let events = self.core.release_packet_id(packet_id);
            self.take(events);
            return Err(error);
        }
        self.in_flight += 1;
        self.take(events);
        Ok(packet_id)
    }

    /// Subscribes with QoS 1, and returns the packet's id.
    ///
    /// # Errors
    /// A filter is none.
    pub fn subscribe(&mut self, filters: &[String]) -> Result<u16, BrokerError> {
        let packet_id = self.core.acquire_packet_id().map_err(BrokerError::protocol)?;
        let packet = packets::subscribe(self.version, filters, packet_id)?;
        let events = self.core.send(packet);
        self.take(events);
        Ok(packet_id)
    }

    /// Tells the broker that a message is received: it does not send it again.
    pub fn acknowledge(&mut self, packet_id: u16) {
        if let Some(packet) = packets::acknowledgement(self.version, packet_id) {
            let events = self.core.send(packet);
            self.take(events);
        }
    }

    /// Takes out what has come, in order.
    pub fn received(&mut self) -> impl Iterator<Item = Received> + '_ {
        self.received.drain(..)
    }

    /// Returns true when there is nothing left to write.
    pub fn is_written(&self) -> bool {
        self.output.is_empty() && self.is_flushed
    }

    /// Waits until something was read or written, or a ping is due, and does it. Without `reads` nothing is read. May
    /// be dropped at any time.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn turn(&mut self, reads: bool) -> Result<(), BrokerError> {
        if let Some(end) = self.end.take() {
            return Err(end);
        }
        let Connection { reader, writer, input, output, written, is_flushed, ping_at, pong_until, .. } = self;
        let timer = [*ping_at, *pong_until].into_iter().flatten().min();
        let has_output = !output.is_empty() || !*is_flushed;
        tokio::select! {
            read = reader.read(input), if reads => match read {
                Ok(0) => Err(BrokerError::Closed),
                Ok(length) => {
                    self.feed(length);
                    Ok(())
                }
                Err(error) => Err(BrokerError::lost(&error)),
            },
            pumped = pump(writer, &output[*written..]), if has_output => match pumped {
                Ok(0) => {
                    *is_flushed = true;
                    Ok(())
                }
                Ok(length) => {
                    *written += length;
                    *is_flushed = false;
                    if *written == output.len() {
                        output.clear();
                        *written = 0;
                    }
                    Ok(())
                }
                Err(error) => Err(BrokerError::lost(&error)),
            },
            () = sleep_until(timer.unwrap_or_else(Instant::now)), if timer.is_some() => {
                self.fire();
                Ok(())
            },
        }
    }

    /// Takes leave: the broker does not publish the last will. With `ends_session` it keeps nothing for the client
    /// either, where MQTT 5 is spoken.
    pub async fn close(mut self, ends_session: bool) {
        let packet = packets::farewell(self.version, ends_session);
        let events = packet.map(|packet| self.core.send(packet)).unwrap_or_default();
        self.take(events);
        self.end = None;
        let written = async {
            while !self.is_written() {
                if self.turn(false).await.is_err() {
                    return;
                }
            }
            drop(self.writer.shutdown().await);
        };
        // A broker that stands still does not keep the process.
        drop(timeout(CLOSE_TIME_MAX, written).await);
    }

    fn feed(&mut self, length: usize) {
        let input = std::mem::take(&mut self.input);
        let mut cursor = mqtt::common::Cursor::new(&input[..length]);
        while (cursor.position() as usize) < length && self.end.is_none() {
            let events = self.core.recv(&mut cursor);
            self.take(events);
        }
        self.input = input;
    }

    fn fire(&mut self) {
        let now = Instant::now();
        for (at, kind) in [(self.ping_at, TimerKind::PingreqSend), (self.pong_until, TimerKind::PingrespRecv)] {
            if at.is_some_and(|at| at <= now) {
                *self.timer(kind) = None;
                if kind == TimerKind::PingrespRecv {
                    self.end = Some(BrokerError::Silent);
                }
                let events = self.core.notify_timer_fired(kind);
                self.take(events);
            }
        }
    }

    fn timer(&mut self, kind: TimerKind) -> &mut Option<Instant> {
        match kind {
            TimerKind::PingreqSend => &mut self.ping_at,
            TimerKind::PingrespRecv | TimerKind::PingreqRecv => &mut self.pong_until,
        }
    }

    fn take(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => self.took(packet),
                Event::RequestSendPacket { packet, .. } => self.output.extend(packet.to_continuous_buffer()),
                Event::RequestTimerReset { kind, duration_ms } => {
                    *self.timer(kind) = Some(Instant::now() + Duration::from_millis(duration_ms));
                }
                Event::RequestTimerCancel(kind) => *self.timer(kind) = None,
                Event::NotifyError(error) => {
                    // It comes behind the request to close, and says why.
                    if matches!(self.end, None | Some(BrokerError::Closed)) {
                        self.end = Some(BrokerError::protocol(error));
                    }
                }
                Event::RequestClose => {
                    if self.end.is_none() {
                        self.end = Some(BrokerError::Closed);
                    }
                }
                Event::NotifyPacketIdReleased(_) => {}
            }
        }
    }

    fn took(&mut self, packet: Packet) {
        match packet {
            Packet::V5_0Connack(answer) => {
                self.welcome = Some(match answer.reason_code() {
                    ConnectReasonCode::Success => Ok(answer.session_present()),
                    ConnectReasonCode::BadUserNameOrPassword | ConnectReasonCode::NotAuthorized => {
                        Err(BrokerError::Credentials)
                    }
                    ConnectReasonCode::UnsupportedProtocolVersion => Err(BrokerError::Version),
                    other => Err(BrokerError::Refused { reason: other.to_string() }),
                });
            }
            Packet::V3_1_1Connack(answer) => {
                self.welcome = Some(match answer.return_code() {
                    ConnectReturnCode::Accepted => Ok(answer.session_present()),
                    ConnectReturnCode::BadUserNameOrPassword | ConnectReturnCode::NotAuthorized => {
                        Err(BrokerError::Credentials)
                    }
                    ConnectReturnCode::UnacceptableProtocolVersion => Err(BrokerError::Version),
                    other => Err(BrokerError::Refused { reason: other.to_string() }),
                });
            }
            Packet::V5_0Publish(message) => self.received.push_back(Received::Message {
                topic: message.topic_name().to_string(),
                payload: message.payload().as_slice().to_vec(),
                is_retained: message.retain(),
                packet_id: message.packet_id(),
            }),
            Packet::V3_1_1Publish(message) => self.received.push_back(Received::Message {
                topic: message.topic_name().to_string(),
                payload: message.payload().as_slice().to_vec(),
                is_retained: message.retain(),
                packet_id: message.packet_id(),
            }),
            Packet::V5_0Puback(answer) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                let reason = answer.reason_code().unwrap_or(PubackReasonCode::Success);
                let has_nobody = reason == PubackReasonCode::NoMatchingSubscribers;
                let is_refused = !has_nobody && reason != PubackReasonCode::Success;
                self.received.push_back(Received::Acknowledged {
                    packet_id: answer.packet_id(),
                    is_refused,
                    has_nobody,
                });
            }
            Packet::V3_1_1Puback(answer) => {
                self.in_flight = self.in_flight.saturating_sub(1);
                let (is_refused, has_nobody) = (false, false);
                self.received.push_back(Received::Acknowledged {
                    packet_id: answer.packet_id(),
                    is_refused,
                    has_nobody,
                });
            }
            Packet::V5_0Suback(answer) => {
                let is_granted = answer.reason_codes().iter().all(|code| (*code as u8) < 0x80);
                self.received.push_back(Received::Subscribed { packet_id: answer.packet_id(), is_granted });
            }
            Packet::V3_1_1Suback(answer) => {
                let is_granted = answer.return_codes().iter().all(|code| (*code as u8) < 0x80);
                self.received.push_back(Received::Subscribed { packet_id: answer.packet_id(), is_granted });
            }
            Packet::V5_0Disconnect(left) => {
                let reason = left.reason_code().map_or_else(|| "no reason".to_string(), |reason| reason.to_string());
                self.end = Some(BrokerError::Dismissed { reason });
            }
            _ => {}
        }
    }
}

/// Writes some bytes and returns their number; flushes when there are none, and returns 0.
async fn pump(writer: &mut WriteHalf<Box<dyn Stream>>, bytes: &[u8]) -> std::io::Result<usize> {
    if bytes.is_empty() {
        return writer.flush().await.map(|()| 0);
    }
    match writer.write(bytes).await {
        Ok(0) => Err(std::io::ErrorKind::WriteZero.into()),
        wrote => wrote,
    }
}

async fn open_stream(options: &ClientOptions) -> Result<Box<dyn Stream>, BrokerError> {
    let address = (options.host.as_str(), options.port);
    let stream = timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await;
    let stream = stream.map_err(|_| BrokerError::Silent)?.map_err(|error| BrokerError::unreachable(&error))?;
    // Small packets wait for each other otherwise.
    stream.set_nodelay(true).map_err(|error| BrokerError::unreachable(&error))?;
    let Some(tls) = &options.tls else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from(options.host.clone()).map_err(|_| BrokerError::Name)?;
    let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    let stream = timeout(CONNECT_TIME_MAX, connecting).await.map_err(|_| BrokerError::Silent)?;
    Ok(Box::new(stream.map_err(|error| BrokerError::of_tls(&error))?))
}
