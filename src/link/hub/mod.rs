//! Devices of Azure IoT Hub, which connect to this process with their own clients: the gateway.
//!
//! ```text
//!  reconciler ──send, reply──> exchange ──orders──> session ──TLS──> device
//!             <──poll───────── exchange <─happened─ session <──
//!             ──settle──────────────────> PUBACK
//! ```
//!
//! A device speaks with IoT Hub's topics, or with fleetform's own (`dialect`): what it is told is a value until then.
//!
//! One thread has all connections (`front`, `session`, `wire`). Other threads speak to connected devices beside the reconciler
//! (`switchboard`, `direct`). Who may connect is asked of the reconciler, which has the
//! registry. What comes from devices is acknowledged when the registry has it ([`DeviceLink::settle`]). A command is
//! written to a connection once: when it is lost, nobody knows whether it was delivered, and it is not sent again. The
//! protocol has no place for an execution id by which a device could tell.
//!
//! Messages wait in the registry. A connection asks the reconciler for some of them, when the device listens and when
//! another thread or process has queued one, and says which ones the device has acknowledged (`messages`).
//!
//! A device that registers itself is not yet one of the registry: `registration` says whom it asks.
//!
//! A device that connects without `CleanSession` listens as it has said before, also on earlier connections: the clients
//! of IoT Hub do not say it again. Of a session from before this process began nothing is known, so it is taken to
//! listen to everything.

#![expect(
    clippy::disallowed_methods,
    reason = "a connection lives in real time; what comes of it gets its time from the reconciler"
)]

mod admission;
mod device;
mod dialect;
mod direct;
mod end;
mod exchange;
mod failed_logins;
mod files;
mod front;
mod kept_session;
mod messages;
mod packets;
mod registration;
mod session;
mod shares;
mod switchboard;
mod telemetry;
mod telemetry_broker;
mod token;
mod topics;
mod websocket;
mod wire;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::happened::{Happened, lasting};
use super::mqtt::client_of;
use super::protocol::{RequestId, Told, desired_payload, twin_payload};
use super::{
    Ask, Credentials, DeviceLink, LinkError, LinkEvent, PolicyKeys, Reply, ReplyAnswer, Request, Surroundings,
};
use crate::model::hub::{HubLinkConfig, TelemetrySink};
use crate::model::status::LinkStatus;
use crate::tls::{TlsError, server_config};
use exchange::{AGAIN, Closing, Exchange, Inbound, Out, Receipt};
use files::{Certificate, DeviceAuthorities};
use front::Front;
use telemetry::{Sink, write_lines};
use telemetry_broker::publish_all;

pub use direct::DirectAnswer;
pub use failed_logins::FailedLogins;
pub use files::Certificate as ServerCertificate;
pub use registration::{Registering, Registrar, RegistrarAnswer, RegistrationStep};
pub use shares::Shares;
pub use switchboard::{CallError, DirectCall, Switchboard};
pub use token::SasToken;

/// How long a device may take to acknowledge new desired properties before an apply no longer waits for it.
const ACKNOWLEDGE_TIME: Duration = Duration::from_secs(10);
/// Connections of WebSockets that wait to be taken over.
const VISITORS_MAX: usize = 256;

/// Where the gateway of a machine listens, and as whom.
#[derive(Debug, Clone)]
pub struct GatewayOptions {
    /// Where devices connect with MQTT over TLS.
    pub mqtt: SocketAddr,
    /// What listens there already; `None` to be bound.
    pub listener: Option<Arc<TcpListener>>,
    /// PEM files: the certificate of `spec.link.iotHub.hostName` with its chain, and its key.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// Proxies in front of it, whose failed logins are not counted: they are those of many clients.
    pub proxies: Vec<IpAddr>,
    /// How other threads speak to the devices.
    pub switchboard: Switchboard,
}

impl GatewayOptions {
    /// Checks the files of the certificate, so that what is wrong with them is said at the start.
    ///
    /// # Errors
    /// A file cannot be read, is none of its kind, or the two do not belong together.
    pub fn check(&self) -> Result<(), TlsError> {
        server_config(&self.certificate, &self.key).map(drop)
    }
}

/// The devices that are connected to this process.
pub struct HubLink {
    /// `None` in a process that is no gateway: nobody connects to it.
    exchange: Option<Arc<Exchange>>,
    thread: Option<JoinHandle<()>>,
    /// What was returned and is not settled, and the receipts for it.
    returned: Vec<LinkEvent>,
    receipts: Vec<Receipt>,
    expects_until: Option<Timestamp>,
}

impl HubLink {
    /// Listens for devices, when this process is the gateway.
    ///
    /// # Errors
    /// The address cannot be listened on, or a file of the certificate cannot be used.
    pub fn open(config: &HubLinkConfig, surroundings: Surroundings<'_>) -> Result<HubLink, LinkError> {
        let Some(gateway) = surroundings.gateway else {
            return Ok(HubLink {
                exchange: None,
                thread: None,
                returned: Vec::new(),
                receipts: Vec::new(),
                expects_until: None,
            });
        };
        let failed = |reason: String| LinkError::Gateway { address: gateway.mqtt, reason };
        let GatewayOptions { certificate, key, switchboard, .. } = gateway.clone();
        let certificate =
            Certificate::read(certificate, key, Some(&config.host_name)).map_err(|error| failed(error.to_string()))?;
        let files = config.device_authorities.iter().map(|file| surroundings.folder.join(file)).collect();
        let authorities = DeviceAuthorities::read(files).map_err(|error| failed(error.to_string()))?;
        let listener = match &gateway.listener {
            Some(given) => given.try_clone(),
            None => TcpListener::bind(gateway.mqtt),
        };
        let listener = listener.map_err(|error| failed(error.to_string()))?;
        listener.set_nonblocking(true).map_err(|error| failed(error.to_string()))?;
        let address = listener.local_addr().map_err(|error| failed(error.to_string()))?;
        let (door, visitors) = mpsc::channel(VISITORS_MAX);
        let exchange = Arc::new(Exchange::new(surroundings.wake, switchboard.calls(), door));
        exchange.lock().take_policies(surroundings.policies);
        exchange.happened(Happened::Began, None, 0);
        let sink = open_sink(config, (surroundings.folder, surroundings.registry), &surroundings.telemetry, &exchange)
            .map_err(failed)?;
        let front = Front {
            listener,
            certificate,
            authorities,
            visitors,
            host_name: config.host_name.as_str().into(),
            exchange: Arc::clone(&exchange),
            switchboard: switchboard.clone(),
            sink,
            proxies: gateway.proxies.clone(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        let work = move || {
            runtime.block_on(front.run());
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("gateway".to_string()).spawn(work);
        let thread = thread.map_err(|error| failed(error.to_string()))?;
        switchboard.enter(&exchange);
        tracing::info!(%address, host = %config.host_name, "listening for devices");
        Ok(HubLink {
            exchange: Some(exchange),
            thread: Some(thread),
            returned: Vec::new(),
            receipts: Vec::new(),
            expects_until: None,
        })
    }

    fn tell(&self, device_id: &str, told: Told, payload: Vec<u8>) -> bool {
        let order = Out::Tell { told, payload: payload.into() };
        self.exchange.as_ref().is_some_and(|exchange| exchange.lock().order(device_id, order))
    }
}

/// Starts the thread that passes telemetry on; `None` when it goes nowhere.
fn open_sink(
    config: &HubLinkConfig,
    (folder, registry): (&Path, &str),
    credentials: &Credentials,
    exchange: &Arc<Exchange>,
) -> Result<Option<Arc<Sink>>, String> {
    let Some(telemetry) = &config.telemetry else { return Ok(None) };
    let (sink, outlet) = Sink::new(Arc::clone(exchange));
    let work: Box<dyn FnOnce() + Send> = match telemetry {
        TelemetrySink::File { path } => {
            let path = folder.join(path);
            Box::new(move || write_lines(path, outlet))
        }
        TelemetrySink::Broker(broker) => {
            let client_id = format!("fleetform-{registry}-telemetry");
            let options = client_of(broker, folder, client_id, credentials).map_err(|error| error.to_string())?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let (runtime, prefix) = (runtime.map_err(|error| error.to_string())?, broker.topic_prefix.clone());
            Box::new(move || runtime.block_on(publish_all(options, prefix, outlet)))
        }
    };
    let thread = std::thread::Builder::new().name("telemetry".to_string()).spawn(work);
    thread.map(|_| Some(Arc::new(sink))).map_err(|error| error.to_string())
}

impl DeviceLink for HubLink {
    fn send(&mut self, now: Timestamp, request: Request) {
        let Request { token, device_id, execution_id, ask } = request;
        let Some(exchange) = &self.exchange else { return };
        let listens_to = exchange.lock().listens_to(&device_id).unwrap_or_default();
        match ask {
            Ask::Command { method, payload, .. } => {
                let rid = RequestId::new(token, &execution_id).to_string();
                let told = Told::Method { method, rid, xid: execution_id.to_string() };
                let is_sent = listens_to.methods && self.tell(&device_id, told, payload.to_string().into_bytes());
                if !is_sent {
                    exchange.happened(Happened::NotDelivered { token }, None, 0);
                }
            }
            Ask::Desired { patch, version } => {
                if listens_to.desired {
                    // A device that is not told asks for its twin when it connects.
                    self.tell(&device_id, Told::Desired { version }, desired_payload(&patch, version));
                }
                self.expects_until = now.checked_add(ACKNOWLEDGE_TIME).ok();
            }
        }
    }

    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError> {
        let Some(exchange) = &self.exchange else { return Ok(Vec::new()) };
        let mut state = exchange.lock();
        state.answer_signal();
        // What could not be written down is tried again alone.
        let taken = if self.returned.is_empty() { state.take() } else { Vec::new() };
        drop(state);
        exchange.make_room();
        if !self.returned.is_empty() {
            return Ok(self.returned.clone());
        }
        let mut events = Vec::with_capacity(taken.len());
        for Inbound { happened, receipt, .. } in taken {
            self.receipts.extend(receipt);
            events.extend(happened.event(now));
        }
        self.returned = lasting(&events);
        Ok(events)
    }

    fn due(&self) -> Option<Timestamp> {
        let exchange = self.exchange.as_ref()?;
        (!self.returned.is_empty() || exchange.lock().has_events()).then_some(Timestamp::MIN)
    }

    fn under_way(&self) -> usize {
        0
    }

    fn expects_until(&self) -> Option<Timestamp> {
        self.expects_until
    }

    fn reply(&mut self, reply: Reply) {
        let Reply { device_id, rid, answer } = reply;
        match answer {
            ReplyAnswer::Identity(identity) => {
                let Some(exchange) = &self.exchange else { return };
                match rid.as_str() {
                    AGAIN => exchange.lock().look_again_at(&device_id, identity.as_ref()),
                    rid => exchange.lock().answer_login(&device_id, rid, identity),
                }
            }
            ReplyAnswer::Twin(twin) => {
                self.tell(&device_id, Told::Response { status: 200, rid, version: None }, twin_payload(&twin));
            }
            ReplyAnswer::Messages { messages, has_more } => {
                if let Some(exchange) = &self.exchange {
                    exchange.messages_came(&device_id, &rid, messages, has_more);
                }
            }
            ReplyAnswer::Written { version } => {
                self.tell(&device_id, Told::Response { status: 204, rid, version: Some(version) }, Vec::new());
            }
            ReplyAnswer::Refused { status } => {
                self.tell(&device_id, Told::Response { status, rid, version: None }, Vec::new());
                // It was blocked, or is gone, since it was let in.
                if let (403 | 404, Some(exchange)) = (status, &self.exchange) {
                    exchange.lock().close(&device_id, Closing::NotAllowed);
                }
            }
        }
    }

    fn settle(&mut self) {
        let Some(exchange) = &self.exchange else { return };
        self.returned.clear();
        if !self.receipts.is_empty() {
            let mut state = exchange.lock();
            self.receipts.drain(..).for_each(|receipt| state.acknowledge(&receipt));
        }
    }

    fn is_ready(&self) -> bool {
        self.exchange.is_some()
    }

    fn fault(&self) -> Option<LinkError> {
        self.exchange.is_none().then_some(LinkError::NoGateway)
    }

    fn tells_desired(&self) -> bool {
        true
    }

    fn hears_alone(&self) -> bool {
        true
    }

    fn is_connected(&self, device_id: &str) -> bool {
        self.exchange.as_ref().is_some_and(|exchange| exchange.lock().listens_to(device_id).is_some())
    }

    fn look_again(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.lock().look_again();
        }
    }

    fn messages_wait(&mut self, device_ids: &[String]) {
        if let Some(exchange) = &self.exchange {
            device_ids.iter().for_each(|device_id| exchange.messages_wait(device_id));
        }
    }

    fn take_policies(&mut self, policies: PolicyKeys) {
        if let Some(exchange) = &self.exchange {
            exchange.lock().take_policies(policies);
        }
    }

    fn status(&self) -> Option<LinkStatus> {
        let exchange = self.exchange.as_ref()?;
        let state = exchange.lock();
        Some(LinkStatus {
            connected: 1,
            connections: 1,
            fault: None,
            online: state.connected() as u64,
            malformed: state.malformed,
            refused: state.refused,
            telemetry: state.telemetry,
            telemetry_lost: state.telemetry_lost,
        })
    }
}

impl Drop for HubLink {
    fn drop(&mut self) {
        if let Some(exchange) = &self.exchange {
            exchange.closing.notify_one();
        }
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has told so.
            drop(thread.join());
        }
    }
}
