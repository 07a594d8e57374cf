//! MQTT on any stream of bytes: the packets of one connection, and when it ends.

use std::collections::VecDeque;
use std::time::Duration;

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::event::TimerKind;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event, role};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait as _, Packet, Qos};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, MqttError};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::end::End;
use super::exchange::Closing;
use super::packets::{self, Greeting, Incoming, Message, Verdict};
use crate::link::mqtt::Version;

/// How long a device may read nothing of what it is sent.
const WRITE_TIME_MAX: Duration = Duration::from_secs(30);
/// The longest time without a message that a device may ask for (IoT Hub: 1,767 s), and the one of a device that asks
/// for none.
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(1_767);
/// Bytes that are read at once. Ten thousand devices have so much each.
pub const READ_BYTES: usize = 2 * 1024;
/// Bytes of the largest packet: telemetry of 256 KiB and its topic.
const PACKET_BYTES_MAX: u32 = 300 * 1024;
/// The first byte of the packet that every connection begins with.
const CONNECT: u8 = 0x10;
/// Bytes that are read of a device that nobody knows yet.
const HELLO_BYTES_MAX: usize = 16 * 1024;

/// The packets of a connection.
pub struct Wire<S> {
    core: mqtt::Connection<role::Server>,
    version: Version,
    /// Bytes of the largest packet that the device takes.
    packet_bytes_max: usize,
    pub stream: S,
    output: Vec<u8>,
    /// What has come, to be taken.
    pub packets: VecDeque<Packet>,
    /// What has come behind CONNECT.
    ahead: Vec<u8>,
    alive_until: Option<Instant>,
    /// Why it is to end.
    pub end: Option<End>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub fn new(stream: S) -> Wire<S> {
        let limits = ConnectionOptions::new().maximum_packet_size_recv(PACKET_BYTES_MAX);
        let mut core = mqtt::Connection::<role::Server>::with_options(mqtt::Version::Undetermined, limits);
        core.set_auto_ping_response(true);
        let (output, packets, ahead) = (Vec::new(), VecDeque::new(), Vec::new());
        Wire {
            core,
            version: Version::V311,
            packet_bytes_max: usize::MAX,
            stream,
            output,
            packets,
            ahead,
            alive_until: None,
            end: None,
        }
    }

    /// Returns until when the device is to say something.
    pub fn alive_until(&self) -> Instant {
        self.alive_until.unwrap_or_else(|| Instant::now() + KEEP_ALIVE_MAX)
    }

    /// Reads until the device has said who it is.
    pub async fn hello(&mut self) -> Result<Greeting, End> {
        let mut input = [0; READ_BYTES];
        let mut read = 0;
        loop {
            if let Some(packet) = self.packets.pop_front() {
                let greeting = packets::greeting(&packet);
                let greeting = greeting.ok_or(End::Protocol("it does not begin with CONNECT".to_string()))?;
                self.version = greeting.version;
                let largest = greeting.packet_bytes_max.and_then(|bytes| usize::try_from(bytes).ok());
                self.packet_bytes_max = largest.unwrap_or(usize::MAX);
                return Ok(greeting);
            }
            if let Some(end) = self.end.take() {
                if self.output.is_empty() {
                    // Most likely it speaks another version: this answer is understood by all of them.
                    self.output = vec![0x20, 2, 0, ConnectReturnCode::UnacceptableProtocolVersion as u8];
                }
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

    /// Takes what has come behind CONNECT.
    pub fn go_on(&mut self) {
        let ahead = std::mem::take(&mut self.ahead);
        self.feed(&ahead, false);
    }

    /// Returns a number for a packet that is to be acknowledged; `None` when all are taken.
    pub fn packet_id(&mut self) -> Option<u16> {
        self.core.acquire_packet_id().ok()
    }

    fn send(&mut self, packet: Packet) {
        let events = self.core.send(packet);
        self.take(events);
    }

    /// Takes bytes of the device, with `is_first` up to its first packet: what comes right behind it is for when it is
    /// let in.
    pub fn feed(&mut self, bytes: &[u8], is_first: bool) {
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
                Event::NotifyPacketReceived(packet) => self.packets.push_back(packet),
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

    /// Writes what there is to write, unless the connection is to end before.
    pub async fn flush_unless(&mut self, closed: &mut oneshot::Receiver<Closing>) -> Result<(), End> {
        let why = tokio::select! {
            biased;
            flushed = self.flush() => return flushed,
            why = closed => why,
        };
        // Nobody knows how much of it was written.
        self.output.clear();
        Err(why.map_or(End::Closing, End::from))
    }

    /// Writes what there is to write.
    pub async fn flush(&mut self) -> Result<(), End> {
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

    /// Answers CONNECT.
    pub fn answer(&mut self, greeting: &Greeting, verdict: Verdict, session_present: bool) {
        if let Ok(packet) = packets::verdict(greeting, verdict, session_present) {
            self.send(packet);
        }
        if verdict == Verdict::Welcome {
            self.go_on();
        }
    }

    /// Tells a device that it is not let in.
    pub async fn refuse(&mut self, greeting: &Greeting, verdict: Verdict, end: End) -> End {
        self.answer(greeting, verdict, false);
        // It is told as far as it listens.
        drop(self.flush().await);
        end
    }

    /// Writes a message. Returns false for one that is larger than the device takes: MQTT 5 has it dropped, and count as
    /// sent.
    pub fn publish(&mut self, message: Message) -> Result<bool, End> {
        let packet_id = message.packet_id;
        let packet = packets::publish(self.version, message).map_err(|error| End::Protocol(error.to_string()))?;
        if packet.size() <= self.packet_bytes_max {
            self.send(packet);
            return Ok(true);
        }
        if let Some(packet_id) = packet_id {
            let events = self.core.release_packet_id(packet_id);
            self.take(events);
        }
        Ok(false)
    }

    /// Answers subscriptions: the quality that each gets, or `None` for one that it does not get.
    pub fn subscribed(&mut self, packet_id: u16, granted: &[Option<Qos>]) -> Result<(), End> {
        self.build(packets::subscribed(self.version, packet_id, granted))
    }

    /// Answers the end of so many subscriptions.
    pub fn unsubscribed(&mut self, packet_id: u16, count: usize) -> Result<(), End> {
        self.build(packets::unsubscribed(self.version, packet_id, count))
    }

    /// Acknowledges a message of the device.
    pub fn acknowledge(&mut self, packet_id: u16) {
        if let Ok(packet) = packets::acknowledgement(self.version, packet_id) {
            self.send(packet);
        }
    }

    /// Returns how many more messages with a number the device takes now.
    pub fn room(&self) -> usize {
        self.core.get_receive_maximum_vacancy_for_send().map_or(usize::MAX, usize::from)
    }

    /// Writes a packet, when it is a legal one and the device takes it.
    fn build(&mut self, packet: Result<Packet, MqttError>) -> Result<(), End> {
        let packet = packet.map_err(|error| End::Protocol(error.to_string()))?;
        if packet.size() <= self.packet_bytes_max {
            self.send(packet);
        }
        Ok(())
    }
}

/// Returns what a packet of a device says.
///
/// # Errors
/// It breaks a rule of MQTT.
pub fn read(packet: Packet) -> Result<Incoming, End> {
    let incoming = packets::incoming(packet);
    match packets::broken_rule(&incoming) {
        Some(rule) => Err(End::Protocol(rule.to_string())),
        None => Ok(incoming),
    }
}
