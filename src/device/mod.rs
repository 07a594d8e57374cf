//! The reference device: it speaks the device protocol of `link::protocol` as a client of a broker, as a real device
//! would. One process has one device or ten thousand of them, each with its own connection and last will.
//!
//! What it promises: a method is executed at most once for each execution id, also when the process is killed; desired
//! properties are taken in the order of their versions; what it reports is repeated until fleetform has it.
//!
//! | file | what it is |
//! | --- | --- |
//! | `agent` | one device and its connections |
//! | `twin` | what it knows of its twin, and has to report |
//! | `memory` | which methods it has executed |
//! | `method` | how it executes one |
//! | `store` | what it keeps in files |
//! | `limit` | how many connections the system allows |
//!
//! It imports `link` for the protocol and the connection, and `model`; nothing but `cli` imports it.

mod agent;
mod error;
mod limit;
mod memory;
mod method;
mod store;
mod twin;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use crate::link::BrokerError;
use crate::link::mqtt::ClientOptions;
pub use crate::link::mqtt::Version as MqttVersion;
use crate::link::protocol::{OFFLINE, Topics};
use crate::model::limits;
use crate::model::secret::SecretText;
use crate::tls::{TlsFiles, tls_config};
use agent::{Agent, Common};
pub use error::DeviceError;
use memory::Memory;
use method::Methods;
use store::Store;
use twin::Twin;

/// Devices that connect at once: a broker has a queue of connections that it has not accepted.
const CONNECTING_MAX: usize = 500;
/// Devices from which a second thread is worth it.
const THREAD_DEVICES: usize = 2_000;
const THREADS_MAX: usize = 4;
/// Bytes of the largest packet that a device takes: a payload, its topic, and room.
const PACKET_BYTES_MAX: u32 = 2 * limits::PAYLOAD_BYTES_MAX as u32;
/// Messages that the broker may send to a device without an acknowledgement; a connection's buffer is as small.
const RECEIVE_MAX: u16 = 32;
/// Threads that look up names and write files of the runtime.
const BLOCKING_THREADS_MAX: usize = 8;

/// Where the broker is, and how devices do what they are told.
#[derive(Debug, Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub is_tls: bool,
    /// A PEM file; the authorities of the system when absent.
    pub ca: Option<PathBuf>,
    /// What all topics begin with.
    pub prefix: String,
    /// `{id}` in it stands for the id of the device.
    pub username: Option<String>,
    pub password: Option<SecretText>,
    /// The newest that the broker speaks when absent.
    pub version: Option<MqttVersion>,
    /// Commands of a shell by method; when empty, every method is answered alike.
    pub methods: BTreeMap<String, String>,
    /// The shortest and the longest time until a method is answered.
    pub latency: (Duration, Duration),
    /// The status of the answers that are no command's.
    pub status: u16,
    /// Reported once, when the process begins.
    pub reported: Map<String, Value>,
    /// Executions and their answers, for the next process.
    pub state: Option<PathBuf>,
    /// A line for each execution.
    pub journal: Option<PathBuf>,
}

/// What happens to a device.
#[derive(Debug)]
pub enum News<'a> {
    /// It is online: the broker has its subscriptions and its presence.
    Connected { device_id: &'a str, version: MqttVersion },
    /// It is not, or still not when `was_joined` is false.
    Lost { device_id: &'a str, fault: &'a BrokerError, again_in: Duration, was_joined: bool },
    /// It has answered a method; `is_again` when it had executed it before.
    Executed { device_id: &'a str, method: &'a str, execution_id: &'a str, status: u16, is_again: bool },
    /// It took new desired properties.
    Desired { device_id: &'a str, version: u64 },
    /// fleetform refused its twin request or its patch.
    Refused { device_id: &'a str, status: u16 },
    /// An answer is not in the state file.
    Unwritten { device_id: &'a str, error: &'a std::io::Error },
}

/// Called for all news, from any thread. It must not block.
pub type Tell = Arc<dyn Fn(&News<'_>) + Send + Sync>;

/// Stops devices, from any thread.
#[derive(Debug, Clone)]
pub struct Stop(watch::Sender<bool>);

impl Default for Stop {
    fn default() -> Stop {
        Stop(watch::Sender::new(false))
    }
}

impl Stop {
    /// Lets all devices take leave in good order. A second call changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// Runs devices until they are stopped. Each id is there once.
///
/// # Errors
/// A file cannot be used, or the system does not allow so many connections.
pub fn run(ids: Vec<String>, settings: &Settings, stop: &Stop, tell: Tell) -> Result<(), DeviceError> {
    limit::allow_connections(ids.len())?;
    let files = TlsFiles { ca: settings.ca.as_deref(), ..TlsFiles::default() };
    let tls = settings.is_tls.then(|| tls_config(files)).transpose();
    let tls = tls.map_err(|error| DeviceError::Broker { source: error.into() })?;
    let (store, mut past) = Store::open(settings.state.as_deref(), settings.journal.as_deref())?;
    let topics = Topics::new(&settings.prefix);
    let options = ClientOptions {
        host: settings.host.clone(),
        port: settings.port,
        tls,
        client_id: String::new(),
        username: None,
        password: settings.password.as_ref().map(|password| password.as_str().as_bytes().to_vec()),
        // What was sent to a device that is gone is not kept for it: it asks for its twin, and commands are not late.
        session_seconds: 0,
        is_new_session: false,
        will: None,
        packet_bytes_max: PACKET_BYTES_MAX,
        receive_max: RECEIVE_MAX,
    };
    let common = Arc::new(Common {
        topics: topics.clone(),
        methods: Methods::new(settings.methods.clone(), settings.latency, settings.status),
        store,
        gate: Semaphore::new(CONNECTING_MAX),
        version: settings.version,
        tell,
    });
    let threads = (ids.len() / THREAD_DEVICES + 1).min(THREADS_MAX);
    let threads = threads.min(std::thread::available_parallelism().map_or(1, usize::from));
    let process = getrandom::u32().unwrap_or_default();
    let mut shares: Vec<Vec<Agent>> = (0..threads).map(|_| Vec::new()).collect();
    for (at, device_id) in ids.into_iter().enumerate() {
        let options = ClientOptions {
            client_id: device_id.clone(),
            username: settings.username.as_ref().map(|name| name.replace("{id}", &device_id)),
            will: Some((topics.presence(&device_id), OFFLINE.as_bytes().to_vec())),
            ..options.clone()
        };
        let twin = Twin::new(format!("{process:08x}"), settings.reported.clone());
        let memory = Memory::of_past(past.remove(&device_id).unwrap_or_default());
        let stop = stop.0.subscribe();
        shares[at % threads].push(Agent { common: Arc::clone(&common), device_id, options, twin, memory, stop });
    }
    drop(common);
    let began: Result<Vec<JoinHandle<()>>, DeviceError> = shares.into_iter().map(begin).collect();
    if began.is_err() {
        stop.stop();
    }
    for thread in began? {
        // A thread that panicked has told so.
        drop(thread.join());
    }
    Ok(())
}

/// Runs some devices on a thread of their own.
fn begin(agents: Vec<Agent>) -> Result<JoinHandle<()>, DeviceError> {
    let failed = |source| DeviceError::System { source };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().max_blocking_threads(BLOCKING_THREADS_MAX).build().map_err(failed)?;
    let work = async {
        let mut devices: JoinSet<()> = agents.into_iter().map(Agent::run).collect();
        while devices.join_next().await.is_some() {}
    };
    let thread = std::thread::Builder::new().name("devices".to_string());
    thread.spawn(move || runtime.block_on(work)).map_err(failed)
}
