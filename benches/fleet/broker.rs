//! Methods through Mosquitto on plain TCP, by one back end: what a broker does with the round trips of the gateway.
//!
//! The devices are those of the gateway, without TLS. A request has QoS 0, as that of a gateway has, and an answer QoS 1
//! all the way. Both ends speak with the library that the gateway speaks with.

use std::path::Path;
use std::time::Instant;

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::{Event, role};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait as _, Packet, Qos, SubEntry, SubOpts, v3_1_1};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::Failure;
use crate::gateway::{HOST, WINDOW, read};

/// Returns where a device hears of methods.
pub fn asked_at(device: &str, method: &str) -> String {
    format!("devices/{device}/methods/POST/{method}")
}

/// Returns what the topics begin with to which a device answers.
pub fn answered_at(device: &str) -> String {
    format!("devices/{device}/methods/res/200/?$rid=")
}

/// Calls a method of each device, [`WINDOW`] of them at once. Says `trips` and how long it took until all had answered.
pub fn back_end(folder: &Path) -> Result<(), Failure> {
    let port: u16 = read(folder, "broker")?.parse()?;
    let tokens = read(folder, "tokens")?;
    let devices: Vec<&str> = tokens.lines().filter_map(|line| line.split_once(' ')).map(|(id, _)| id).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(call_all(port, &devices))
}

async fn call_all(port: u16, devices: &[&str]) -> Result<(), Failure> {
    let mut client = Client::connect(port).await?;
    while !client.is_subscribed {
        client.turn().await?;
    }
    let began = Instant::now();
    let mut sent = 0;
    while client.answered < devices.len() {
        while sent < devices.len() && sent - client.answered < WINDOW {
            client.ask(&format!("{}{sent}", asked_at(devices[sent], "reboot/?$rid=")))?;
            sent += 1;
        }
        client.turn().await?;
    }
    println!("trips {}", began.elapsed().as_micros());
    Ok(())
}

/// The connection of the back end.
struct Client {
    stream: tokio::net::TcpStream,
    core: mqtt::Connection<role::Client>,
    input: Vec<u8>,
    output: Vec<u8>,
    is_subscribed: bool,
    answered: usize,
}

impl Client {
    async fn connect(port: u16) -> Result<Client, Failure> {
        let stream = tokio::net::TcpStream::connect((HOST, port)).await?;
        stream.set_nodelay(true)?;
        let core = mqtt::Connection::<role::Client>::new(mqtt::Version::V3_1_1);
        let (input, output) = (vec![0; 64 * 1024], Vec::new());
        let mut client = Client { stream, core, input, output, is_subscribed: false, answered: 0 };
        client.send(v3_1_1::Connect::builder().client_id("back-end")?.clean_session(true).build()?.into())?;
        Ok(client)
    }

    fn ask(&mut self, topic: &str) -> Result<(), Failure> {
        let packet = v3_1_1::Publish::builder().topic_name(topic)?.qos(Qos::AtMostOnce);
        self.send(packet.payload(&b"{\"delay\":5}"[..]).build()?.into())
    }

    /// Writes what there is to write, and takes what comes next.
    async fn turn(&mut self) -> Result<(), Failure> {
        self.stream.write_all(&self.output).await?;
        self.output.clear();
        let length = self.stream.read(&mut self.input).await?;
        let input = std::mem::take(&mut self.input);
        let mut cursor = mqtt::common::Cursor::new(&input[..length]);
        while (cursor.position() as usize) < length {
            let events = self.core.recv(&mut cursor);
            self.take(events)?;
        }
        self.input = input;
        if length == 0 { Err("the broker has closed the connection".into()) } else { Ok(()) }
    }

    fn send(&mut self, packet: Packet) -> Result<(), Failure> {
        let events = self.core.send(packet);
        self.take(events)
    }

    fn take(&mut self, events: Vec<Event>) -> Result<(), Failure> {
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => self.output.extend(packet.to_continuous_buffer()),
                Event::NotifyPacketReceived(Packet::V3_1_1Connack(_)) => {
                    let answers = SubEntry::new("devices/+/methods/res/#", SubOpts::new().set_qos(Qos::AtLeastOnce))?;
                    let packet_id = self.core.acquire_packet_id()?;
                    let packet = v3_1_1::Subscribe::builder().packet_id(packet_id).entries(vec![answers]);
                    self.send(packet.build()?.into())?;
                }
                Event::NotifyPacketReceived(Packet::V3_1_1Suback(_)) => self.is_subscribed = true,
                Event::NotifyPacketReceived(Packet::V3_1_1Publish(message)) => {
                    self.answered += 1;
                    if let Some(packet_id) = message.packet_id() {
                        self.send(v3_1_1::Puback::builder().packet_id(packet_id).build()?.into())?;
                    }
                }
                Event::NotifyError(error) => return Err(error.into()),
                Event::RequestClose => return Err("the broker has closed the connection".into()),
                _ => {}
            }
        }
        Ok(())
    }
}
