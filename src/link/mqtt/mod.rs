//! Devices behind an MQTT broker.
//!
//! ```text
//!  reconciler ──send, reply──> mailbox ──orders────> worker ──> client ──> broker ──> devices
//!             <──poll───────── mailbox <──happened── worker <── client <──
//!             ──settle───────> mailbox ──receipts──> worker ──> PUBACK
//! ```
//!
//! Each connection has a thread (`worker`). It uses nothing that only some brokers have.
//!
//! What comes from devices is acknowledged when the registry has it ([`DeviceLink::settle`]): a process that dies
//! before gets it again, because the broker keeps the session. What goes to devices is different: a command is given to
//! the broker once. When the connection is lost before the broker has acknowledged it, nobody knows whether it was
//! delivered, and it is not sent again; the run waits for the answer, and ends it as `timeout`. Desired properties and
//! replies are sent again: a version or a request id tells what is new.

#![expect(
    clippy::disallowed_methods,
    reason = "a connection lives in real time; what comes of it gets its time from the reconciler"
)]

mod client;
mod error;
mod mailbox;
mod packets;
mod terms;
mod worker;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio_rustls::rustls::ClientConfig;

use super::happened::Happened;
use super::protocol::{RequestId, Topics, desired_payload, twin_payload};
use super::{Ask, DeviceLink, LinkError, LinkEvent, Reply, ReplyAnswer, Request, Surroundings};
use crate::model::digest::Digest;
use crate::model::fleet::MqttLinkConfig;
use crate::model::secret::SecretText;
use crate::model::status::LinkStatus;
use crate::tls::{TlsFiles, tls_config};

pub use client::Connection;
pub use error::BrokerError;
use mailbox::{About, Inbound, Mailbox, Order, Receipt, Standing};
pub use terms::{ClientOptions, Publication, Received, Version};
pub use worker::open as connect;
use worker::{REPLY_SECONDS, Worker};

/// How long a device may take to acknowledge new desired properties before an apply no longer waits for it.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(10);
/// Bytes of the largest packet that is taken from the broker: eight times the largest that a device may have to say.
const PACKET_BYTES_MAX: u32 = 2 << 20;
/// Messages that the broker may send without an acknowledgement. How many are read is bounded by [`mailbox::INBOUND_MAX`];
/// a smaller number here would only be a reason to hang up on a broker that sends more (Mosquitto 2.0.11 does).
const RECEIVE_MAX: u16 = u16::MAX;
/// How long the broker keeps what devices say for a daemon that is restarted, and for an apply that died, in seconds.
const DAEMON_SESSION_SECONDS: u32 = 24 * 3_600;
const SESSION_SECONDS: u32 = 600;
/// Events that are returned at once.
const EVENTS_MAX: usize = 2_048;

/// What stands for the references in the settings of a link.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub username: Option<String>,
    pub password: Option<SecretText>,
}

/// The devices behind a broker.
pub struct MqttLink {
    /// As in messages.
    address: String,
    mailbox: Arc<Mailbox>,
    threads: Vec<JoinHandle<()>>,
    topics: Topics,
    /// Of the events that the last poll returned.
    returned: Vec<Receipt>,
    expects_until: Option<Timestamp>,
    /// When the last poll was, on both clocks.
    polled_at: Option<(Timestamp, Instant)>,
}

/// Returns the encryption of a broker; `None` for one that is not encrypted.
///
/// # Errors
/// A file of the settings cannot be used.
fn tls_of(config: &MqttLinkConfig, folder: &Path) -> Result<Option<Arc<ClientConfig>>, BrokerError> {
    let path = |path: &Option<String>| path.as_ref().map(|path| folder.join(path));
    let (ca, certificate, key) = (path(&config.ca), path(&config.client_certificate), path(&config.client_key));
    let files = TlsFiles { ca: ca.as_deref(), client_certificate: certificate.as_deref(), client_key: key.as_deref() };
    Ok(if config.is_tls { Some(tls_config(files)?) } else { None })
}

/// Returns how to connect to a broker of some settings, without a session that it keeps.
///
/// # Errors
/// A file of the settings cannot be used.
pub fn client_of(
    config: &MqttLinkConfig,
    folder: &Path,
    client_id: String,
    credentials: &Credentials,
) -> Result<ClientOptions, BrokerError> {
    Ok(ClientOptions {
        host: config.host.clone(),
        port: config.port,
        tls: tls_of(config, folder)?,
        client_id,
        username: credentials.username.clone(),
        password: credentials.password.as_ref().map(|password| password.as_str().as_bytes().to_vec()),
        session_seconds: 0,
        is_new_session: true,
        will: None,
        packet_bytes_max: PACKET_BYTES_MAX,
        receive_max: RECEIVE_MAX,
    })
}

impl MqttLink {
    /// Begins to connect.
    ///
    /// # Errors
    /// A file of the settings cannot be used.
    pub fn open(config: &MqttLinkConfig, surroundings: Surroundings<'_>) -> Result<MqttLink, LinkError> {
        let Surroundings { folder, registry, role, credentials, wake, .. } = surroundings;
        let address = format!("{}:{}", config.host, config.port);
        let failed = |source| LinkError::Broker { address: address.clone(), source };
        let tls = tls_of(config, folder).map_err(failed)?;
        let connections = config.connections.max(1) as usize;
        let mailbox = Arc::new(Mailbox::new(connections, wake));
        let topics = Topics::new(&config.topic_prefix);
        let is_daemon = role == "watch";
        // A session has the subscriptions of the settings that it was begun with.
        let settings = Digest::of_texts([config.topic_prefix.as_str()]).to_string();
        let settings = &settings[..8];
        let mut threads = Vec::with_capacity(connections);
        for at in 0..connections {
            let worker = Worker {
                mailbox: Arc::clone(&mailbox),
                at,
                options: ClientOptions {
                    host: config.host.clone(),
                    port: config.port,
                    tls: tls.clone(),
                    client_id: format!("fleetform-{registry}-{role}-{settings}-{at}"),
                    username: credentials.username.clone(),
                    password: credentials.password.as_ref().map(|password| password.as_str().as_bytes().to_vec()),
                    session_seconds: if is_daemon { DAEMON_SESSION_SECONDS } else { SESSION_SECONDS },
                    is_new_session: false,
                    will: None,
                    packet_bytes_max: PACKET_BYTES_MAX,
                    receive_max: RECEIVE_MAX,
                },
                // What devices say comes on one connection, in the order in which they said it.
                filters: if at == 0 { topics.of_devices().to_vec() } else { Vec::new() },
                topics: topics.clone(),
                epoch: 0,
                flights: BTreeMap::new(),
                stays: is_daemon,
            };
            threads.push(spawn(worker).map_err(failed)?);
        }
        let (returned, expects_until, polled_at) = (Vec::new(), None, None);
        Ok(MqttLink { address, mailbox, threads, topics, returned, expects_until, polled_at })
    }

    /// Orders a message for a device, on the connection that all of its messages take.
    fn publish(&self, device_id: &str, (topic, payload): (String, Vec<u8>), until: Option<Duration>, about: About) {
        let expires_after = until.map(|until| u32::try_from(until.as_secs()).unwrap_or(u32::MAX).max(1));
        let publication = Publication { topic, payload: payload.into(), is_retained: false, expires_after };
        let until = until.map(|until| Instant::now() + until);
        let mut hasher = DefaultHasher::new();
        device_id.hash(&mut hasher);
        let mut state = self.mailbox.lock();
        let at = (hasher.finish() % state.orders.len() as u64) as usize;
        match about {
            About::Reply => state.reply(at, Order { publication, until, about }),
            About::Desired => {
                state.untold += 1;
                state.orders[at].push_back(Order { publication, until, about });
            }
            About::Command { .. } => state.orders[at].push_back(Order { publication, until, about }),
        }
        drop(state);
        self.mailbox.call(at);
    }
}

fn spawn(worker: Worker) -> Result<JoinHandle<()>, BrokerError> {
    let failed = |error: std::io::Error| BrokerError::Unreachable { reason: error.to_string() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let thread = std::thread::Builder::new().name(format!("mqtt-{}", worker.at));
    let work = move || {
        runtime.block_on(worker.run());
        // A name that is being resolved is not waited for.
        runtime.shutdown_background();
    };
    thread.spawn(work).map_err(failed)
}

impl DeviceLink for MqttLink {
    fn send(&mut self, now: Timestamp, request: Request) {
        let Request { token, device_id, execution_id, ask } = request;
        let is_offline = {
            let mut state = self.mailbox.lock();
            let is_offline = state.presence.get(&device_id) == Some(&false);
            if is_offline && matches!(ask, Ask::Command { .. }) {
                let happened = Happened::NotDelivered { token };
                state.inbound.push_back(Inbound { happened, receipt: None });
            }
            is_offline
        };
        if is_offline {
            // It asks for its twin when it connects.
            return;
        }
        match ask {
            Ask::Command { method, payload, expires_after, .. } => {
                let rid = RequestId::new(token, &execution_id).to_string();
                let topic = self.topics.method(&device_id, &method, &rid, execution_id);
                let message = (topic, payload.to_string().into_bytes());
                let about = About::Command { token, device_id: device_id.clone() };
                self.publish(&device_id, message, Some(expires_after), about);
            }
            Ask::Desired { patch, version } => {
                let message = (self.topics.desired(&device_id, version), desired_payload(&patch, version));
                self.publish(&device_id, message, None, About::Desired);
                self.expects_until = now.checked_add(ACKNOWLEDGE_TIME).ok();
            }
        }
    }

    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError> {
        self.polled_at = Some((now, Instant::now()));
        let mut state = self.mailbox.lock();
        state.answer_signal();
        let was_full = state.inbound.len() >= mailbox::INBOUND_MAX;
        let mut events = Vec::new();
        while events.len() < EVENTS_MAX
            && let Some(Inbound { happened, receipt }) = state.inbound.pop_front()
        {
            self.returned.extend(receipt);
            events.extend(happened.event(now));
        }
        drop(state);
        if was_full {
            self.mailbox.call_all();
        }
        Ok(events)
    }

    fn due(&self) -> Option<Timestamp> {
        let state = self.mailbox.lock();
        if !state.inbound.is_empty() {
            return Some(Timestamp::MIN);
        }
        let (now, at) = self.polled_at?;
        let left = state.patience_left()? + at.elapsed();
        now.checked_add(left).ok()
    }

    fn under_way(&self) -> usize {
        self.mailbox.lock().under_way()
    }

    fn expects_until(&self) -> Option<Timestamp> {
        self.expects_until
    }

    fn reply(&mut self, reply: Reply) {
        let Reply { device_id, rid, answer } = reply;
        let message = match answer {
            ReplyAnswer::Twin(twin) => (self.topics.response(&device_id, 200, &rid, None), twin_payload(&twin)),
            ReplyAnswer::Written { version } => {
                (self.topics.response(&device_id, 204, &rid, Some(version)), Vec::new())
            }
            // Who may connect is the broker's to say.
            ReplyAnswer::Identity(_) | ReplyAnswer::Messages { .. } => return,
            ReplyAnswer::Refused { status } => {
                self.mailbox.lock().refused += u64::from(matches!(status, 403 | 404));
                (self.topics.response(&device_id, status, &rid, None), Vec::new())
            }
        };
        self.publish(&device_id, message, Some(Duration::from_secs(REPLY_SECONDS.into())), About::Reply);
    }

    fn settle(&mut self) {
        if self.returned.is_empty() {
            return;
        }
        let mut state = self.mailbox.lock();
        for receipt in self.returned.drain(..) {
            state.receipts[receipt.connection].push(receipt);
        }
        drop(state);
        self.mailbox.call_all();
    }

    fn is_ready(&self) -> bool {
        self.mailbox.lock().is_ready()
    }

    fn room(&self) -> usize {
        self.mailbox.lock().room()
    }

    fn untold(&self) -> usize {
        self.mailbox.lock().untold
    }

    fn fault(&self) -> Option<LinkError> {
        let source = self.mailbox.lock().failure()?;
        Some(LinkError::Broker { address: self.address.clone(), source })
    }

    fn tells_desired(&self) -> bool {
        true
    }

    fn status(&self) -> Option<LinkStatus> {
        let state = self.mailbox.lock();
        let connected = state.standings.iter().filter(|standing| matches!(standing, Standing::Ready)).count();
        let fault = state.standings.iter().find_map(|standing| match standing {
            Standing::Ready => None,
            Standing::Away { fault, .. } => fault.as_ref().map(ToString::to_string),
        });
        Some(LinkStatus {
            connected: connected as u64,
            connections: state.standings.len() as u64,
            fault,
            online: state.presence.values().filter(|is_online| **is_online).count() as u64,
            malformed: state.malformed,
            refused: state.refused,
            telemetry: 0,
            telemetry_lost: 0,
        })
    }
}

impl Drop for MqttLink {
    /// Sends what is left to send, as far as that takes moments.
    fn drop(&mut self) {
        self.mailbox.lock().is_closing = true;
        self.mailbox.call_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has told so.
            drop(thread.join());
        }
    }
}
