//! The way to the devices: requests go out, events come in.
//!
//! A link never blocks its caller and never reads a clock: the driver passes the time in and polls. A link with its own
//! thread wakes the driver when it has events; a link that knows the time of its next event returns it from
//! [`DeviceLink::due`].
//!
//! Events are of two kinds. Those with a [`Token`] answer a request. Those with a device's id (presence, reported
//! properties, twin requests) come at any time, whether or not a request was sent: they are written to the registry
//! first, and the device is answered with a [`Reply`].
//!
//! | file | what it is |
//! | --- | --- |
//! | `protocol` | topics and payloads of the device protocol, pure |
//! | `mqtt` | devices behind an MQTT broker |
//! | `hub` | devices of Azure IoT Hub, which connect to this process |
//! | `both` | the two in one fleet |
//! | `happened` | what the thread of a link hands to the reconciler |
//! | `answered` | answers that come again |
//! | `simulated`, `journal` | devices that are a function of a seed |

mod answered;
mod both;
mod happened;
mod hub;
mod journal;
pub mod mqtt;
pub mod protocol;
mod simulated;

pub use both::BothLinks;
pub use hub::{
    CallError, DirectAnswer, DirectCall, FailedLogins, GatewayOptions, HubLink, Registering, Registrar,
    RegistrarAnswer, RegistrationStep, SasToken, ServerCertificate, Shares, Switchboard,
};
pub use mqtt::{BrokerError, Credentials, MqttLink};
pub use simulated::SimulatedDevices;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::model::device::Authentication;
use crate::model::digest::Digest;
use crate::model::fleet::LinkConfig;
use crate::model::status::LinkStatus;
use crate::model::subscriptions::Subscriptions;

/// A way to the devices.
pub trait DeviceLink {
    /// Takes a request. Its outcome is a later event, or never comes. What fails here is for the next poll to report:
    /// until then `due` returns a time, so that there is one.
    fn send(&mut self, now: Timestamp, request: Request);

    /// Returns what has happened by now, in the order in which it happened.
    ///
    /// # Errors
    /// The link itself failed; it has not spoken to devices since. Events of this call are lost, and the link is not
    /// used again: the runs are left as the journal has them, and the next round opens the link anew.
    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError>;

    /// Returns when to poll next; `None` when that is not known, and the link wakes the driver.
    fn due(&self) -> Option<Timestamp>;

    /// Returns the number of requests that are on their way to a device or back, without those that wait for a device
    /// to connect.
    fn under_way(&self) -> usize;

    /// Returns the latest time at which an answer to a sent request can be expected; `None` when no answer is expected
    /// any more. A process that ends before that time may miss an answer.
    fn expects_until(&self) -> Option<Timestamp>;

    /// Answers a request of a device. A link whose devices ask for nothing ignores it.
    fn reply(&mut self, reply: Reply) {
        drop(reply);
    }

    /// Takes notice that what the last poll returned is durable: what is between may forget it. A link that hears alone
    /// returns what devices have said again until then.
    fn settle(&mut self) {}

    /// Returns true when requests reach devices now. While it is false nothing new is sent, and nothing fails for it.
    fn is_ready(&self) -> bool {
        true
    }

    /// Returns how many more requests go out at once when they are sent now. More are not lost, and take their time.
    fn room(&self) -> usize {
        usize::MAX
    }

    /// Returns how many new desired properties are on their way out. A run that has written them ends after that.
    fn untold(&self) -> usize {
        0
    }

    /// Returns why requests do not reach devices, when there is no use in waiting any longer.
    fn fault(&self) -> Option<LinkError> {
        None
    }

    /// Returns true when devices are told of new desired properties also where no acknowledgement is awaited.
    fn tells_desired(&self) -> bool {
        false
    }

    /// Returns true when nobody else hears what devices say to this process: what it leaves out is lost.
    fn hears_alone(&self) -> bool {
        false
    }

    /// Returns true for a device that is known to be connected now. What is not delivered to it is no sign that it is
    /// not.
    fn is_connected(&self, device_id: &str) -> bool {
        let _ = device_id;
        false
    }

    /// Takes notice that what devices log in with may have changed: a link that lets them in asks again
    /// ([`LinkEvent::LoginWanted`]) for those that are connected.
    fn look_again(&mut self) {}

    /// Takes the keys of the policies with which any device may log in. Who is connected with a key that is none of them
    /// any more loses its connection.
    fn take_policies(&mut self, policies: PolicyKeys) {
        drop(policies);
    }

    /// Takes notice that messages may wait for devices: a link that hands them over asks for those of devices that listen
    /// to them ([`LinkEvent::MessagesWanted`]).
    fn messages_wait(&mut self, device_ids: &[String]) {
        let _ = device_ids;
    }

    /// Returns how the link is; `None` for one that cannot be unwell.
    fn status(&self) -> Option<LinkStatus> {
        None
    }
}

/// Wakes the driver, from any thread: a link has events that the driver does not know of.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What a link needs beside its settings.
#[derive(Clone)]
pub struct Surroundings<'a> {
    /// The fleet's; paths in the settings are relative to it.
    pub folder: &'a Path,
    /// The identity of the registry: its answers are told from those of others by it.
    pub registry: &'a str,
    /// The command, such as `watch`: a daemon and an apply of one registry are two clients of a broker.
    pub role: &'a str,
    /// What stands for the references in the settings of the broker that devices are behind.
    pub credentials: Credentials,
    /// The same, of the broker that telemetry goes to.
    pub telemetry: Credentials,
    /// The keys of the policies with which any device may log in.
    pub policies: PolicyKeys,
    /// Where this process listens for devices; `None` for one that is no gateway.
    pub gateway: Option<GatewayOptions>,
    /// Called by a link with a thread of its own when it has events.
    pub wake: Wake,
}

/// Opens the way to the devices of a fleet. A link to a broker connects beside the caller: what fails there is told by
/// [`DeviceLink::fault`].
///
/// # Errors
/// The settings cannot be used.
pub fn open(config: &LinkConfig, surroundings: Surroundings<'_>) -> Result<Box<dyn DeviceLink>, LinkError> {
    match config {
        // The time of its next event is known.
        LinkConfig::Simulated(config) => Ok(Box::new(SimulatedDevices::new(config, surroundings.folder)?)),
        LinkConfig::Mqtt(config) => Ok(Box::new(MqttLink::open(config, surroundings)?)),
        LinkConfig::Hub(config) => Ok(Box::new(HubLink::open(config, surroundings)?)),
        LinkConfig::Both { mqtt, hub } => {
            let gateway = HubLink::open(hub, surroundings.clone())?;
            Ok(Box::new(BothLinks::new(MqttLink::open(mqtt, surroundings)?, gateway)))
        }
    }
}

/// Identifies a request; the answer carries the same token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The number of the run in the journal.
    pub run_id: i64,
    /// The place of the device in the run's target, from 0.
    pub ordinal: u32,
    /// From 1.
    pub attempt: u32,
}

/// What a device is asked to do. Its values may be secrets: they are sent, and are not in its `Debug`.
#[derive(Clone, PartialEq)]
pub enum Ask {
    /// Execute a method and answer. An idempotent command may be sent again; a device that keeps a log of execution ids
    /// recognises it. After `expires_after` nobody waits for the answer, and it is not delivered any more where that can
    /// be prevented.
    Command { method: String, payload: Arc<Value>, is_idempotent: bool, expires_after: Duration },
    /// Take over new desired properties, which the registry has, and report an acknowledgement for this version of them
    /// or a later one. A process that takes up a run sends it again, as attempt 1. A link whose devices cannot
    /// acknowledge may ignore it.
    Desired { patch: Arc<Value>, version: u64 },
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ask::Command { method, .. } => f.debug_struct("Command").field("method", method).finish_non_exhaustive(),
            Ask::Desired { version, .. } => f.debug_struct("Desired").field("version", version).finish_non_exhaustive(),
        }
    }
}

/// One request to one device.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub token: Token,
    pub device_id: String,
    /// The same on every re-send, so that a device can recognise a command that it has executed.
    pub execution_id: Digest,
    pub ask: Ask,
}

/// An event from a device.
#[derive(Debug, Clone, PartialEq)]
pub enum LinkEvent {
    /// A device answered a command with a status (an HTTP-like code) and a text that is not to be trusted. `origin` is
    /// to be compared with what was asked; `None` where nobody else can answer.
    Answered { token: Token, origin: Option<Origin>, code: u16, body: String },
    /// The device is not connected: the request was not delivered.
    NotDelivered { token: Token },
    /// The device has connected, or its connection is gone. `is_news` is false for what was so before.
    Presence { device_id: String, is_online: bool, is_news: bool, at: Timestamp },
    /// The device reported properties: a merge patch of its reported section. With `rid` it awaits a reply.
    Reported { device_id: String, patch: Value, rid: Option<String>, at: Timestamp },
    /// The device asks for its twin.
    TwinWanted { device_id: String, rid: String },
    /// The link has begun, and nobody is connected: who was connected to an earlier process connects again.
    Began,
    /// The device listens to messages: it is to get those that wait, with a higher number than `after`, at most so many.
    MessagesWanted { device_id: String, rid: String, after: i64, most: usize },
    /// The device has acknowledged the message of a number.
    MessageTaken { sequence: i64 },
    /// The session of the device listens to this from now on; `None` when nothing of it is to be kept.
    Subscribed { device_id: String, subscriptions: Option<Subscriptions> },
    /// Something says that it is the device, and is to be let in, or stay, when it can prove it.
    LoginWanted { device_id: String, rid: String },
}

/// Who answered, and to what, as far as that is known of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub device_id: String,
    /// The first digits of the execution id.
    pub proof: String,
}

impl Origin {
    /// Returns true for an answer to a request with this execution id, of the device that it was sent to.
    pub fn is_of(&self, device_id: &str, execution_id: &Digest) -> bool {
        self.device_id == device_id && !self.proof.is_empty() && execution_id.to_string().starts_with(&self.proof)
    }
}

/// A reply to a request of a device.
#[derive(Clone, PartialEq)]
pub struct Reply {
    pub device_id: String,
    /// Of the request.
    pub rid: String,
    pub answer: ReplyAnswer,
}

/// What a device is told.
#[derive(Clone, PartialEq)]
pub enum ReplyAnswer {
    /// The twin that it asked for. Its values may be secrets.
    Twin(Twin),
    /// What the device proves who it is with; `None` for one that the registry does not have.
    Identity(Option<Identity>),
    /// The messages that it is to get, in order. There are more of them with `has_more`.
    Messages { messages: Vec<DeviceMessage>, has_more: bool },
    /// Its patch is written and made this version of the reported section.
    Written { version: u64 },
    /// Its request was refused, with an HTTP-like code: 400 and 413 for what it sent, 403 for a device that is blocked,
    /// 404 for one that the registry does not have.
    Refused { status: u16 },
}

/// What a device proves who it is with, and what it listens to.
#[derive(Clone, PartialEq)]
pub struct Identity {
    pub authentication: Authentication,
    /// Its keys, which are secrets.
    pub keys: Vec<Vec<u8>>,
    /// Of its certificates: SHA-1 or SHA-256 of their DER, in hex.
    pub thumbprints: Vec<String>,
    pub is_blocked: bool,
    /// What its session listens to; `None` when none is kept.
    pub subscriptions: Option<Subscriptions>,
}

/// Leaves the keys out.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("authentication", &self.authentication).finish_non_exhaustive()
    }
}

/// A message to a device. It may be a secret.
#[derive(Clone, PartialEq)]
pub struct DeviceMessage {
    /// Its number: a device gets the lower one first.
    pub sequence: i64,
    /// It was handed over before, and may have arrived.
    pub is_again: bool,
    /// As its sender names it.
    pub message_id: Option<String>,
    /// An object of texts: what stands beside the body, by the names of the protocol.
    pub properties: Value,
    pub expires_at: Timestamp,
    pub body: Vec<u8>,
}

/// The keys of the policies with which any device may log in, by the name of the policy. They are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct PolicyKeys(pub BTreeMap<String, Vec<Vec<u8>>>);

/// Leaves the keys out.
impl fmt::Debug for PolicyKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// A device's twin, as the device sees it.
#[derive(Clone, PartialEq)]
pub struct Twin {
    /// An object, without `$version`.
    pub desired: Value,
    pub desired_version: u64,
    /// An object, without `$version`.
    pub reported: Value,
    pub reported_version: u64,
}

/// A failure of the link itself, not of a device. Each link has its own variants.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    #[error("the journal {path} of the simulated devices cannot be read or written")]
    Journal { path: String, source: std::io::Error },
    #[error("the broker {address}: {source}")]
    Broker { address: String, source: BrokerError },
    #[error("devices cannot be listened to on {address}: {reason}")]
    Gateway { address: SocketAddr, reason: String },
    #[error("the devices of this fleet are connected to its gateway, and this process is none")]
    NoGateway,
}

impl LinkError {
    /// Returns true when what is needed is elsewhere and not to be had now.
    pub fn is_outage(&self) -> bool {
        match self {
            LinkError::Journal { .. } => false,
            LinkError::Broker { .. } | LinkError::Gateway { .. } | LinkError::NoGateway => true,
        }
    }

    /// Returns what to do about it, a whole sentence.
    pub fn help(&self) -> &str {
        match self {
            LinkError::Journal { .. } => "Check the path in `spec.link.simulated.journal` and its permissions.",
            LinkError::Broker { source, .. } => source.help(),
            LinkError::Gateway { .. } => {
                "Check `--mqtt`, `--certificate` and `--key`. A port below 1024 needs a right."
            }
            LinkError::NoGateway => {
                "Commit what is to be done: `fleetform gateway` does it. It is started beside the devices' host name."
            }
        }
    }
}
