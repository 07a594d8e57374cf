//! The reference devices, that of `device run` and that of `examples/device.py`, with a real Mosquitto and a fleetform
//! that is played by hand. And the page about their protocol, whose examples are those of the code.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use fleetform::link::mqtt::{ClientOptions, Connection, Publication, Received, Version};
use fleetform::link::protocol::{RequestId, Said, Told, Topics, desired_payload, twin_payload, versioned};
use fleetform::link::{Token, Twin};
use fleetform::model::acknowledgement::acknowledge;
use fleetform::model::digest::Digest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::broker::Broker;
use crate::servers::{free_port, wait_until};
use crate::world::{Ran, World, devices_csv, fleetform, folder, spawn};

/// What a device said, by whom.
#[derive(Debug, Clone)]
struct Heard {
    device_id: String,
    said: Said,
    payload: Vec<u8>,
}

/// A fleetform that is played by hand, on a thread of its own.
struct Side {
    topics: Topics,
    heard: Mutex<Vec<Heard>>,
    to_say: Mutex<Vec<(String, Vec<u8>)>>,
    /// The answer to who asks for a twin; nobody gets one without it.
    twin: Mutex<Option<Value>>,
    confirms: AtomicBool,
    ends: AtomicBool,
    is_up: AtomicBool,
}

/// A running [`Side`].
struct RunningSide {
    side: Arc<Side>,
    thread: Option<JoinHandle<()>>,
}

impl std::ops::Deref for RunningSide {
    type Target = Side;

    fn deref(&self) -> &Side {
        &self.side
    }
}

impl Drop for RunningSide {
    fn drop(&mut self) {
        self.side.ends.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Side {
    fn start(port: u16) -> RunningSide {
        Side::start_as(port, None)
    }

    /// Starts one that is a user of the broker, with a password.
    fn start_as(port: u16, user: Option<(&'static str, &'static str)>) -> RunningSide {
        let side = Arc::new(Side {
            topics: Topics::new("fleetform"),
            heard: Mutex::default(),
            to_say: Mutex::default(),
            twin: Mutex::default(),
            confirms: AtomicBool::new(true),
            ends: AtomicBool::new(false),
            is_up: AtomicBool::new(false),
        });
        let own = Arc::clone(&side);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(own.live(port, user));
        });
        let running = RunningSide { side, thread: Some(thread) };
        running.wait("fleetform listens", || running.is_up.load(Ordering::SeqCst));
        running
    }

    async fn live(&self, port: u16, user: Option<(&str, &str)>) {
        let options = ClientOptions {
            host: "127.0.0.1".to_string(),
            port,
            tls: None,
            client_id: "the-other-side".to_string(),
            username: user.map(|(name, _)| name.to_string()),
            password: user.map(|(_, password)| password.as_bytes().to_vec()),
            session_seconds: 0,
            is_new_session: false,
            will: None,
            packet_bytes_max: 1 << 20,
            receive_max: 1_000,
        };
        while !self.ends.load(Ordering::SeqCst) {
            match Connection::open(&options, Version::V5).await {
                Ok((connection, _)) => self.serve(connection).await,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn serve(&self, mut connection: Connection) {
        connection.subscribe(&self.topics.of_devices()).unwrap();
        while !self.ends.load(Ordering::SeqCst) {
            for (topic, payload) in std::mem::take(&mut *self.to_say.lock().unwrap()) {
                let publication =
                    Publication { topic, payload: payload.into(), is_retained: false, expires_after: Some(60) };
                connection.publish(&publication).unwrap();
            }
            let received: Vec<Received> = connection.received().collect();
            for received in received {
                match received {
                    Received::Subscribed { is_granted, .. } => self.is_up.store(is_granted, Ordering::SeqCst),
                    Received::Message { topic, payload, packet_id, .. } => {
                        packet_id.into_iter().for_each(|packet_id| connection.acknowledge(packet_id));
                        let (device_id, said) = self.topics.said(&topic).unwrap();
                        self.react(&device_id, &said);
                        self.heard.lock().unwrap().push(Heard { device_id, said, payload });
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
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
            }
        }
        connection.close(true).await;
    }

    fn react(&self, device_id: &str, said: &Said) {
        match said {
            Said::TwinWanted { rid } => {
                if let Some(twin) = &*self.twin.lock().unwrap() {
                    self.say(self.topics.response(device_id, 200, rid, None), twin.to_string());
                }
            }
            Said::Reported { rid } if self.confirms.load(Ordering::SeqCst) => {
                self.say(self.topics.response(device_id, 204, rid, Some(2)), "");
            }
            Said::Reported { .. } | Said::Answer { .. } | Said::Presence => {}
        }
    }

    fn say(&self, topic: String, payload: impl Into<Vec<u8>>) {
        self.to_say.lock().unwrap().push((topic, payload.into()));
    }

    /// Waits for what `is_so` looks at; what was heard is shown when it does not come.
    #[track_caller]
    fn wait(&self, what: &str, is_so: impl FnMut() -> bool) {
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_until(what, is_so)));
        assert!(waited.is_ok(), "{what}; what was heard: {:#?}", self.heard.lock().unwrap());
    }

    /// Returns what devices said, in order, as far as `pick` takes it.
    fn picked<T>(&self, pick: impl FnMut(&Heard) -> Option<T>) -> Vec<T> {
        self.heard.lock().unwrap().iter().filter_map(pick).collect()
    }

    /// Returns the presences of a device, in order.
    fn presences(&self, device_id: &str) -> Vec<String> {
        self.picked(|heard| {
            let is_one = heard.said == Said::Presence && heard.device_id == device_id;
            is_one.then(|| String::from_utf8(heard.payload.clone()).unwrap())
        })
    }

    fn reports(&self) -> Vec<Value> {
        self.picked(|heard| {
            matches!(heard.said, Said::Reported { .. }).then(|| serde_json::from_slice(&heard.payload).unwrap())
        })
    }

    fn twins_wanted(&self) -> usize {
        self.picked(|heard| matches!(heard.said, Said::TwinWanted { .. }).then_some(())).len()
    }

    /// Returns the answer to a method: its status and its JSON.
    fn answer(&self, rid: &str) -> Option<(u16, Value)> {
        let answers = self.picked(|heard| match &heard.said {
            Said::Answer { status, rid: of } if of == rid => {
                Some((*status, serde_json::from_slice(&heard.payload).unwrap()))
            }
            _ => None,
        });
        assert!(answers.len() < 2, "one answer for each request: {answers:?}");
        answers.into_iter().next()
    }

    /// Calls a method and returns its answer.
    #[track_caller]
    fn call(&self, device_id: &str, method: &str, rid: &str, xid: &Digest) -> (u16, Value) {
        self.say(self.topics.method(device_id, method, rid, xid), r#"{"delay":5}"#);
        self.wait("the method is answered", || self.answer(rid).is_some());
        self.answer(rid).unwrap()
    }

    fn wait_for_presence(&self, device_id: &str, expected: &[&str]) {
        self.wait(&format!("{device_id} is {expected:?}"), || self.presences(device_id) == expected);
    }
}

/// Which device is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Make {
    Rust,
    Python,
}

/// A device in a process of its own.
struct Gadget {
    child: Child,
    log: PathBuf,
}

impl Gadget {
    fn start(make: Make, port: u16, folder: &Path, arguments: &[&str]) -> Gadget {
        let (state, journal) = (folder.join("state"), folder.join("journal"));
        let mut command = match make {
            Make::Rust => {
                let mut command = fleetform();
                command.args(["device", "run", "--broker", &format!("mqtt://127.0.0.1:{port}")]);
                command
            }
            Make::Python => {
                let mut command = Command::new("python3");
                command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/device.py"));
                command.args(["--host", "127.0.0.1", "--port", &port.to_string()]).stdin(Stdio::null());
                command
            }
        };
        command.arg("--state").arg(state).arg("--journal").arg(journal).args(arguments);
        Gadget::of(&mut command, folder)
    }

    fn of(command: &mut Command, folder: &Path) -> Gadget {
        let log = folder.join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        Gadget { child: spawn(command.current_dir(folder).stdout(Stdio::null()).stderr(file)), log }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Ends it with `kill -9`.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends it in good order, and returns its exit code.
    fn stop(mut self) -> Option<i32> {
        let id = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(id, Signal::TERM).unwrap();
        wait_until("the device ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Gadget {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn executions(folder: &Path) -> Vec<Value> {
    let text = fs::read_to_string(folder.join("journal")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn twin(desired: Value) -> Option<Value> {
    Some(json!({"desired": desired, "reported": {"$version": 1}}))
}

/// A device says when it is there and when it goes, and takes desired properties in the order of their versions.
fn a_device_lives(make: Make) {
    let (broker, folder) = (Broker::start(), folder());
    let side = Side::start(broker.port);
    *side.twin.lock().unwrap() = twin(json!({"$version": 4, "light": {"level": 3}}));
    let device = Gadget::start(make, broker.port, folder.path(), &["--id", "lamp+1#50%"]);
    side.wait_for_presence("lamp+1#50%", &["online"]);
    let first = acknowledge(&json!({"light": {"level": 3}}), 4, 200, "done");
    side.wait("the twin is acknowledged", || side.reports() == [first.clone()]);
    let desired = |version: u64, patch: Value| {
        side.say(side.topics.desired("lamp+1#50%", version), desired_payload(&patch, version));
    };
    desired(4, json!({"light": {"level": 9}}));
    desired(3, json!({"light": {"level": 8}}));
    let component = json!({"fan": {"__t": "c", "speed": 2}, "old": null});
    desired(5, component.clone());
    // It is delivered twice.
    desired(5, component.clone());
    let second = acknowledge(&component, 5, 200, "done");
    side.wait("the patch is acknowledged", || side.reports().len() > 1);
    assert_eq!(side.reports(), [first, second]);
    assert_eq!(device.stop(), Some(0));
    side.wait_for_presence("lamp+1#50%", &["online", "offline"]);
    let device = Gadget::start(make, broker.port, folder.path(), &["--id", "lamp+1#50%"]);
    side.wait_for_presence("lamp+1#50%", &["online", "offline", "online"]);
    device.kill();
    side.wait_for_presence("lamp+1#50%", &["online", "offline", "online", "offline"]);
}

/// However often a method comes, and whatever happens to the process: it is executed once.
fn a_method_is_executed_once(make: Make) {
    let (broker, folder) = (Broker::start(), folder());
    let side = Side::start(broker.port);
    let (xid, other) = (Digest::of_bytes(b"x"), Digest::of_bytes(b"y"));
    let device = Gadget::start(make, broker.port, folder.path(), &["--id", "d-1"]);
    side.wait_for_presence("d-1", &["online"]);
    assert_eq!(side.call("d-1", "lamp*reboot", "1-0-1-ab", &xid), (200, json!({})));
    assert_eq!(side.call("d-1", "lamp*reboot", "1-0-2-ab", &xid), (200, json!({})));
    device.kill();
    side.wait_for_presence("d-1", &["online", "offline"]);
    let device = Gadget::start(make, broker.port, folder.path(), &["--id", "d-1"]);
    side.wait_for_presence("d-1", &["online", "offline", "online"]);
    assert_eq!(side.call("d-1", "lamp*reboot", "1-0-3-ab", &xid), (200, json!({})));
    assert_eq!(side.call("d-1", "other", "1-0-4-ab", &other), (200, json!({})));
    let executed = executions(folder.path());
    let shown: Vec<(&str, &str)> = executed
        .iter()
        .map(|line| (line["method"].as_str().unwrap(), line["execution_id"].as_str().unwrap()))
        .collect();
    assert_eq!(shown, [("lamp*reboot", xid.to_string().as_str()), ("other", other.to_string().as_str())]);
    assert!(executed.iter().all(|line| line["device_id"] == "d-1" && line["at"].is_string()), "{executed:?}");
    drop(device);
}

/// A device outlives its broker, and says again what was not confirmed.
fn a_device_comes_back(make: Make) {
    let (mut broker, folder) = (Broker::start(), folder());
    let side = Side::start(broker.port);
    side.confirms.store(false, Ordering::SeqCst);
    *side.twin.lock().unwrap() = twin(json!({"$version": 2, "level": 1}));
    let _device = Gadget::start(make, broker.port, folder.path(), &["--id", "d-1"]);
    let patch = acknowledge(&json!({"level": 1}), 2, 200, "done");
    side.wait("the twin is acknowledged", || side.reports() == [patch.clone()]);
    broker.kill();
    side.confirms.store(true, Ordering::SeqCst);
    broker.restart();
    side.wait("it says again what was not confirmed", || side.reports() == [patch.clone(), patch.clone()]);
    assert_eq!(side.presences("d-1"), ["online", "online"]);
    assert_eq!(side.twins_wanted(), 2, "it asks for its twin on each connect");
    let xid = Digest::of_bytes(b"x");
    assert_eq!(side.call("d-1", "reboot", "1-0-1-ab", &xid).0, 200);
}

#[test]
fn the_reference_device_lives() {
    a_device_lives(Make::Rust);
}

#[test]
fn the_reference_device_in_python_lives() {
    a_device_lives(Make::Python);
}

#[test]
fn the_reference_device_executes_a_method_once() {
    a_method_is_executed_once(Make::Rust);
}

#[test]
fn the_reference_device_in_python_executes_a_method_once() {
    a_method_is_executed_once(Make::Python);
}

#[test]
fn the_reference_device_comes_back() {
    a_device_comes_back(Make::Rust);
}

#[test]
fn the_reference_device_in_python_comes_back() {
    a_device_comes_back(Make::Python);
}

#[test]
fn a_method_that_was_interrupted_is_not_executed_again() {
    let (broker, folder) = (Broker::start(), folder());
    let side = Side::start(broker.port);
    let xid = Digest::of_bytes(b"x");
    let arguments = ["--id", "d-1", "--method", "slow=echo >> began; sleep 600"];
    let device = Gadget::start(Make::Rust, broker.port, folder.path(), &arguments);
    side.wait_for_presence("d-1", &["online"]);
    side.say(side.topics.method("d-1", "slow", "1-0-1-ab", xid), "null");
    let began = folder.path().join("began");
    side.wait("the command has begun", || began.exists());
    device.kill();
    let _device = Gadget::start(Make::Rust, broker.port, folder.path(), &arguments);
    side.wait_for_presence("d-1", &["online", "offline", "online"]);
    assert_eq!(side.call("d-1", "slow", "1-0-2-ab", &xid), (500, json!({"message": "interrupted"})));
    assert_eq!((fs::read_to_string(&began).unwrap().as_str(), executions(folder.path()).len()), ("\n", 1));
    // The same of the one in Python, which was killed between its line and its work.
    let (folder, xid) = (crate::world::folder(), Digest::of_bytes(b"z"));
    let interrupted = json!({xid.to_string(): [500, r#"{"message":"interrupted"}"#]});
    fs::write(folder.path().join("state"), interrupted.to_string()).unwrap();
    let _other = Gadget::start(Make::Python, broker.port, folder.path(), &["--id", "d-2"]);
    side.wait_for_presence("d-2", &["online"]);
    assert_eq!(side.call("d-2", "slow", "1-0-3-ab", &xid), (500, json!({"message": "interrupted"})));
    assert_eq!(executions(folder.path()).len(), 0);
}

#[test]
fn a_command_of_the_shell_is_a_method() {
    let (broker, folder) = (Broker::start(), folder());
    let side = Side::start(broker.port);
    let methods = ["--method", "echo=cat", "--method", "fail=echo no lamp; exit 3"];
    let arguments =
        [&["--id", "d-1", "--mqtt", "3.1.1", "--reported", r#"{"firmware": "1.2"}"#][..], &methods].concat();
    let device = Gadget::start(Make::Rust, broker.port, folder.path(), &arguments);
    side.wait("what it has is reported", || side.reports() == [json!({"firmware": "1.2"})]);
    let call = |method: &str, rid: &str| side.call("d-1", method, rid, &Digest::of_bytes(rid.as_bytes()));
    assert_eq!(call("echo", "1-0-1-ab"), (200, json!({"delay": 5})));
    assert_eq!(call("fail", "1-0-2-ab"), (500, json!({"output": "no lamp"})));
    assert_eq!(call("none", "1-0-3-ab"), (404, json!({"message": "there is no method `none`"})));
    let log = device.log();
    for line in
        ["d-1: connected, MQTT 3.1.1\n", "d-1: fail answered with 500, execution ", "d-1: none answered with 404"]
    {
        assert!(log.contains(line), "{line}: {log}");
    }
    assert_eq!(device.stop(), Some(0));
    // Who is quiet says nothing.
    let quiet = crate::world::folder();
    let device = Gadget::start(Make::Rust, broker.port, quiet.path(), &["--id", "d-2", "-q"]);
    side.wait_for_presence("d-2", &["online"]);
    assert_eq!(device.log(), "");
}

#[test]
fn a_job_runs_on_a_fleet_of_them() {
    let broker = Broker::start();
    let world = World::with_devices(&broker.link(), 40);
    let ids = world.file("ids.csv");
    fs::write(&ids, devices_csv(40)).unwrap();
    let mut command = fleetform();
    // The broker is the fleet's.
    command.arg("-C").arg(world.path()).args(["device", "fleet", "--latency", "1ms..20ms", "--ids-from"]).arg(&ids);
    let folder = folder();
    let fleet = Gadget::of(&mut command, folder.path());
    wait_until("all are connected", || fleet.log().contains("40 of 40 devices connected"));
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}, delivery: {confirm: acknowledged}}");
    world.run(&["apply", "--yes"]).expect(0);
    for job in ["reboot", "dim"] {
        let codes: Vec<Option<u16>> = world.rows(job, "1").iter().map(|row| row.code).collect();
        assert_eq!(codes, [Some(200); 40], "{job}");
    }
    assert_eq!(fleet.stop(), Some(0));
    let log = fs::read_to_string(folder.path().join("log")).unwrap();
    assert!(log.contains(", 40 methods executed"), "{log}");
}

/// Returns the access control list of the page.
fn access_control_list() -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device-protocol.md")).unwrap();
    let list = page.split("```text\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert!(list.contains("user fleetform\n"), "{list}");
    list.to_string()
}

#[test]
fn each_device_has_a_user_and_what_that_user_may() {
    let folder = folder();
    let passwords = folder.path().join("passwords");
    fs::write(&passwords, "fleetform:correct horse\nd-1:battery staple\nd-2:battery staple\n").unwrap();
    // It makes hashes of them.
    Ran::of(Command::new("mosquitto_passwd").arg("-U").arg(&passwords)).expect(0);
    fs::write(folder.path().join("acl"), access_control_list()).unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    fs::write(folder.path().join("cert.pem"), own.cert.pem()).unwrap();
    fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
    let tls_port = free_port();
    let lines = format!(
        "allow_anonymous false\npassword_file {{folder}}/passwords\nacl_file {{folder}}/acl\n\
         listener {tls_port} 127.0.0.1\ncertfile {{folder}}/cert.pem\nkeyfile {{folder}}/key.pem"
    );
    let broker = Broker::start_in(folder, &lines);
    let side = Side::start_as(broker.port, Some(("fleetform", "correct horse")));
    *side.twin.lock().unwrap() = twin(json!({"$version": 2, "level": 1}));
    let devices = crate::world::folder();
    fs::write(devices.path().join("password"), "battery staple\n").unwrap();
    let ca = broker.path().join("cert.pem").display().to_string();
    let url = format!("mqtts://localhost:{tls_port}");
    let connect = ["--broker", &url, "--ca", &ca, "--password-file", "password", "--username"];
    // All that a device does is allowed.
    fs::write(devices.path().join("ids"), "d-1\n\nd-2\n").unwrap();
    let mut command = fleetform();
    command.args(["device", "fleet", "--ids-from", "ids"]).args(connect).arg("{id}");
    let fleet = Gadget::of(&mut command, devices.path());
    for (id, rid) in [("d-1", "1-0-1-ab"), ("d-2", "1-0-2-ab")] {
        side.wait_for_presence(id, &["online"]);
        assert_eq!(side.call(id, "reboot", rid, &Digest::of_bytes(id.as_bytes())), (200, json!({})));
    }
    side.wait("both acknowledge", || side.reports().len() == 2);
    assert_eq!(fleet.stop(), Some(0));
    side.wait_for_presence("d-2", &["online", "offline"]);
    // And nothing in the name of another.
    let mut command = fleetform();
    command.args(["device", "run", "--id", "d-2"]).args(connect).arg("d-1");
    let thief = Gadget::of(&mut command, devices.path());
    let said = |gadget: &Gadget, text: &str| {
        let waited =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| wait_until(text, || gadget.log().contains(text))));
        assert!(waited.is_ok(), "{text}: {}", gadget.log());
    };
    said(&thief, "it does not let us publish to fleetform/d-2/presence");
    assert_eq!(side.presences("d-2"), ["online", "offline"]);
    let wrong = crate::world::folder();
    fs::write(wrong.path().join("password"), "correct horse").unwrap();
    let mut command = fleetform();
    command.args(["device", "run", "--id", "d-1"]).args(connect).arg("d-1");
    let liar = Gadget::of(&mut command, wrong.path());
    said(&liar, "it does not take our user name and password");
}

#[test]
fn devices_that_cannot_be_run_say_why() {
    let run = |arguments: &[&str]| {
        let folder = folder();
        Ran::of(fleetform().current_dir(folder.path()).args(["device"]).args(arguments))
    };
    let check = |arguments: &[&str], code: i32, says: &str| {
        let ran = run(arguments).expect(code);
        assert!(ran.stderr.contains(says), "{says}: {ran:#?}");
    };
    let at = "--broker=mqtt://127.0.0.1:1";
    check(&["run", "--id", "d-1"], 64, "no broker is named");
    check(&["run", "--id", "d 1", at], 64, "`d 1` is no device id");
    check(&["run", "--id", "d-1", "--broker=127.0.0.1"], 64, "it begins neither with `mqtts://` nor with `mqtt://`");
    check(&["run", "--id", "d-1", at, "--ca=x.pem"], 64, "`--ca` is for an encrypted connection");
    check(&["run", "--id", "d-1", at, "--method=reboot"], 64, "it is NAME=COMMAND");
    check(&["run", "--id", "d-1", at, "--method=a=b", "--method=a=c"], 64, "the method `a` has two commands");
    check(&["run", "--id", "d-1", at, "--reported=[]"], 64, "it is no JSON object");
    check(&["run", "--id", "d-1", at, "--state=none/state"], 69, "none/state cannot be used: No such file");
    check(&["run", "--id", "d-1", "--broker=mqtts://127.0.0.1:1", "--ca=none.pem"], 69, "none.pem cannot be used");
    check(&["fleet", "-n", "0", at], 64, "0 devices cannot be run by one process");
    check(&["fleet", "--ids-from=none.csv", at], 64, "the ids of none.csv cannot be read");
    check(&["fleet", "-n", "2", at, "--latency=2s..1s"], 64, "the first time is the shorter one");
    let world = World::new("{}");
    let ran = world.run(&["device", "run", "--id", "d-1"]).expect(64);
    assert!(ran.stderr.contains("the fleet here has none"), "{ran:#?}");
    let mut shell = Command::new("sh");
    let line = format!("ulimit -n 200; exec {} device fleet -n 1000 {at}", env!("CARGO_BIN_EXE_fleetform"));
    let ran = Ran::of(shell.args(["-c", &line])).expect(69);
    assert!(ran.stderr.contains("1000 devices need 1096 open files, and this system allows 200"), "{ran:#?}");
}

/// Returns the messages of the page about the protocol, by name: the topic, and the payload.
fn examples() -> BTreeMap<String, (String, String)> {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/device-protocol.md")).unwrap();
    let mut found = BTreeMap::new();
    for (start, _) in page.match_indices("```mqtt ") {
        let block = &page[start + "```mqtt ".len()..];
        let block = &block[..block.find("```").unwrap()];
        // One in a list is indented.
        let mut lines = block.lines().map(str::trim_start).filter(|line| !line.is_empty());
        let name = lines.next().unwrap().to_string();
        let (topic, payload) = (lines.next().unwrap().to_string(), lines.collect::<Vec<_>>().join("\n"));
        assert!(found.insert(name.clone(), (topic, payload)).is_none(), "{name} is there twice");
    }
    found
}

#[test]
fn the_examples_of_the_page_are_what_is_sent_and_read() {
    let topics = Topics::new("fleetform");
    let (id, odd) = ("lamp-0001", "lamp+1#50%");
    let request = |ordinal: u32, execution_id: &Digest| {
        RequestId::new(Token { run_id: 12, ordinal, attempt: 1 }, execution_id).to_string()
    };
    let (xid, other) = (Digest::of_bytes(b"an example"), Digest::of_bytes(b"another example"));
    let rid = request(3, &xid);
    let desired = json!({"light": {"level": 3}, "name": null});
    let twin = Twin {
        desired: json!({"light": {"level": 3}}),
        desired_version: 7,
        reported: json!({"firmware": "1.2.0"}),
        reported_version: 4,
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let response = |status: u16| (topics.response(id, status, "d41f-2", None), String::new());
    let expected: BTreeMap<String, (String, String)> = [
        ("online", (topics.presence(id), "online".to_string())),
        ("offline", (topics.presence(id), "offline".to_string())),
        ("method", (topics.method(id, "reboot", &rid, xid), json!({"delay": 5}).to_string())),
        ("answer", (topics.answer(id, 200, &rid), json!({"uptime": 3}).to_string())),
        ("answer-without-a-payload", (topics.answer(id, 204, &rid), String::new())),
        ("method-of-a-component", (topics.method(odd, "light1*dim", &request(4, &other), other), "null".to_string())),
        ("twin-wanted", (topics.twin_wanted(id, "d41f-1"), String::new())),
        ("twin", (topics.response(id, 200, "d41f-1", None), text(twin_payload(&twin)))),
        ("desired", (topics.desired(id, 8), text(desired_payload(&desired, 8)))),
        ("reported", (topics.reported(id, "d41f-2"), acknowledge(&desired, 8, 200, "done").to_string())),
        ("written", (topics.response(id, 204, "d41f-2", Some(5)), String::new())),
        ("refused-as-invalid", response(400)),
        ("refused-as-blocked", response(403)),
        ("refused-as-unknown", response(404)),
        ("refused-as-too-large", response(413)),
    ]
    .map(|(name, message)| (name.to_string(), message))
    .into();
    let found = examples();
    for (name, message) in &expected {
        assert_eq!(found.get(name), Some(message), "the page has another `{name}`");
    }
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    // And each of them is read back by its reader.
    for (name, (topic, payload)) in &found {
        let is_read = topics.said(topic).is_ok() || topics.told(topic).is_ok();
        assert!(is_read, "{name}: {topic}");
        if name == "desired" {
            let (members, version) = versioned(payload.as_bytes()).unwrap();
            assert_eq!((Value::Object(members), version), (desired.clone(), Some(8)));
            assert_eq!(topics.told(topic), Ok((id.to_string(), Told::Desired { version: 8 })));
        }
    }
    let odd_topic = &found["method-of-a-component"].0;
    let (device_id, told) = topics.told(odd_topic).unwrap();
    assert!(matches!(&told, Told::Method { method, .. } if method == "light1*dim") && device_id == odd, "{told:?}");
}
