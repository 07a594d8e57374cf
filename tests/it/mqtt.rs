//! Devices behind a broker: a real Mosquitto, and devices that speak the protocol by hand.

mod answers;
pub mod example;
mod listening;
mod many;
mod outages;
mod trusted;
mod two;

use std::collections::BTreeMap;
use std::fs::File;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fleetform::link::mqtt::{ClientOptions, Connection, Publication, Received, Version};
use fleetform::link::protocol::{OFFLINE, ONLINE, Told, Topics, versioned};
use fleetform::model::acknowledgement::acknowledge;
use fleetform::model::device::Device;
use fleetform::model::outcome::Reason;
use rustix::process::Signal;
use serde_json::Value;

use crate::broker::Broker;
use crate::servers::{Process, wait_until};
use crate::world::{Ran, World, fleetform};

/// What a hand-driven device is told: a topic of the protocol and the payload.
type Heard = (Told, Vec<u8>);
/// What it answers: topics and payloads.
type Reaction = dyn Fn(&Gadget, &Heard) -> Vec<(String, Vec<u8>)> + Send + Sync;

/// A device that speaks the protocol by hand, in a thread of its own.
pub struct Gadget {
    pub id: String,
    pub topics: Topics,
    heard: Mutex<Vec<Heard>>,
    to_say: Mutex<Vec<(String, Vec<u8>)>>,
    ends: AtomicBool,
    password: Option<String>,
    is_up: AtomicBool,
}

/// A running [`Gadget`]; it takes leave when this is dropped.
pub struct Running {
    pub gadget: Arc<Gadget>,
    thread: Option<JoinHandle<()>>,
}

impl Gadget {
    /// Connects a device; `react` says what it answers to what it hears.
    pub fn start(port: u16, id: &str, version: Version, react: Box<Reaction>) -> Running {
        Gadget::with_password(port, (id, None), version, react)
    }

    /// Connects a device that has a password at the broker.
    pub fn with_password(
        port: u16,
        (id, password): (&str, Option<String>),
        version: Version,
        react: Box<Reaction>,
    ) -> Running {
        let gadget = Arc::new(Gadget {
            id: id.to_string(),
            topics: Topics::new("fleetform"),
            heard: Mutex::default(),
            to_say: Mutex::default(),
            ends: AtomicBool::new(false),
            password,
            is_up: AtomicBool::new(false),
        });
        let own = Arc::clone(&gadget);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(own.live(port, version, react));
        });
        let running = Running { gadget, thread: Some(thread) };
        wait_until("the device is up", || running.gadget.is_up.load(Ordering::SeqCst));
        running
    }

    /// Connects a device that does what it is told.
    pub fn obedient(port: u16, id: &str) -> Running {
        Gadget::start(port, id, Version::V5, Box::new(obey))
    }

    async fn live(&self, port: u16, version: Version, react: Box<Reaction>) {
        let options = ClientOptions {
            host: "127.0.0.1".to_string(),
            port,
            tls: None,
            client_id: self.id.clone(),
            username: self.password.as_ref().map(|_| self.id.clone()),
            password: self.password.as_ref().map(|password| password.as_bytes().to_vec()),
            session_seconds: 0,
            is_new_session: false,
            will: Some((self.topics.presence(&self.id), OFFLINE.into())),
            packet_bytes_max: 1 << 20,
            receive_max: 100,
        };
        while !self.ends.load(Ordering::SeqCst) {
            match Connection::open(&options, version).await {
                Ok((connection, _)) => self.serve(connection, &*react).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Serves a connection until it is lost.
    async fn serve(&self, mut connection: Connection, react: &Reaction) {
        connection.subscribe(&self.topics.of_device(&self.id)).unwrap();
        let publish = |connection: &mut Connection, topic: String, payload: Vec<u8>, is_retained| {
            let publication = Publication { topic, payload: payload.into(), is_retained, expires_after: None };
            connection.publish(&publication).unwrap();
        };
        loop {
            for (topic, payload) in std::mem::take(&mut *self.to_say.lock().unwrap()) {
                publish(&mut connection, topic, payload, false);
            }
            if self.ends.load(Ordering::SeqCst) {
                publish(&mut connection, self.topics.presence(&self.id), OFFLINE.into(), true);
                return connection.close(true).await;
            }
            let received: Vec<Received> = connection.received().collect();
            for received in received {
                match received {
                    Received::Subscribed { .. } => {
                        publish(&mut connection, self.topics.presence(&self.id), ONLINE.into(), true);
                        publish(&mut connection, self.topics.twin_wanted(&self.id, "get"), Vec::new(), false);
                        self.is_up.store(true, Ordering::SeqCst);
                    }
                    Received::Message { topic, payload, packet_id, .. } => {
                        let heard = (self.topics.told(&topic).unwrap().1, payload);
                        for (topic, payload) in react(self, &heard) {
                            publish(&mut connection, topic, payload, false);
                        }
                        self.heard.lock().unwrap().push(heard);
                        packet_id.into_iter().for_each(|packet_id| connection.acknowledge(packet_id));
                    }
                    Received::Acknowledged { .. } => {}
                }
            }
            tokio::select! {
                turned = connection.turn(true) => {
                    if turned.is_err() {
                        return;
                    }
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    pub fn say(&self, topic: String, payload: impl Into<Vec<u8>>) {
        self.to_say.lock().unwrap().push((topic, payload.into()));
    }

    pub fn report(&self, patch: &Value) {
        self.say(self.topics.reported(&self.id, "own"), patch.to_string());
    }

    pub fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap().clone()
    }

    /// Returns the execution ids of the methods that it was told, in order.
    pub fn executions(&self) -> Vec<String> {
        let method = |(told, _): Heard| match told {
            Told::Method { xid, .. } => Some(xid),
            Told::Desired { .. } | Told::Response { .. } => None,
        };
        self.heard().into_iter().filter_map(method).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gadget.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Answers methods with 200, and acknowledges desired properties.
pub fn obey(gadget: &Gadget, (told, payload): &Heard) -> Vec<(String, Vec<u8>)> {
    let acknowledged = |patch: Value, version: u64| {
        let patch = acknowledge(&patch, version, 200, "done");
        vec![(gadget.topics.reported(&gadget.id, &format!("ack-{version}")), patch.to_string().into_bytes())]
    };
    match told {
        Told::Method { rid, .. } => vec![(gadget.topics.answer(&gadget.id, 200, rid), payload.clone())],
        Told::Desired { version } => acknowledged(Value::Object(versioned(payload).unwrap().0), *version),
        Told::Response { status: 200, rid, .. } if rid == "get" => {
            let twin: Value = serde_json::from_slice(payload).unwrap();
            let (desired, version) = versioned(twin["desired"].to_string().as_bytes()).unwrap();
            if desired.is_empty() { Vec::new() } else { acknowledged(Value::Object(desired), version.unwrap()) }
        }
        Told::Response { .. } => Vec::new(),
    }
}

/// Applies, in a process of its own.
fn apply(world: &World, arguments: &[&str]) -> Ran {
    world.run(&[&["apply", "--yes"], arguments].concat())
}

fn world(broker: &Broker, devices: usize) -> World {
    World::with_devices(&broker.link(), devices)
}

fn reasons(world: &World, job: &str) -> BTreeMap<String, Reason> {
    world.rows(job, "1").into_iter().map(|row| (row.device_id, row.reason)).collect()
}

fn expected<const N: usize>(rows: [(&str, Reason); N]) -> BTreeMap<String, Reason> {
    rows.map(|(id, reason)| (id.to_string(), reason)).into()
}

/// A job that reboots all devices.
fn reboot(more: &str, delivery: &str) -> String {
    format!(
        "{{target: {{query: '*'}}, \
         action: {{command: {{name: reboot, payload: {{in: 5}}, connectTimeout: 1s, {more}}}}}, delivery: {{{delivery}}}}}"
    )
}

/// A job that sets a property of all devices.
fn dim(level: u32, delivery: &str) -> String {
    format!("{{target: {{query: '*'}}, action: {{property: {{level: {level}}}}}, delivery: {{{delivery}}}}}")
}

/// A daemon in a process of its own, which looks each second.
struct Daemon(Process);

impl Daemon {
    fn start(world: &World) -> Daemon {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["watch", "--interval", "1s"]);
        let log = File::options().create(true).append(true).open(world.file(".git/watch.log")).unwrap();
        Daemon(Process::start(command.stdout(Stdio::null()).stderr(log)))
    }

    /// Ends it with a signal, and waits for that.
    fn end(mut self) {
        self.0.signal(Signal::TERM);
        wait_until("the daemon ends", || self.0.has_ended());
    }

    /// Ends it with `kill -9`.
    fn kill(mut self) {
        self.0.kill();
    }
}

/// Returns a device as the registry of a daemon has it; `None` before the first import.
fn device(world: &World, id: &str) -> Option<Device> {
    // It may just be made.
    world.registry_if_any()?.devices().get(id).ok()?
}

/// Returns the status of a run; `None` before it has a record.
fn status(world: &World, job: &str) -> Option<String> {
    let files = world.results();
    let record = files.get(&format!("runs/{job}/1/run.json"))?;
    Some(serde_json::from_slice::<Value>(record).unwrap()["status"].as_str().unwrap().to_string())
}
