//! Calls of devices beside the reconciler, over a link that is opened here.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetform::link::mqtt::ClientOptions;
use fleetform::link::{
    CallError, Credentials, DeviceLink as _, DirectAnswer, DirectCall, GatewayOptions, HubLink, Identity, LinkEvent,
    PolicyKeys, Reply, ReplyAnswer, Surroundings, Switchboard,
};
use fleetform::model::device::Authentication;
use fleetform::model::hub::{HubApi, HubLinkConfig};
use fleetform::tls::{TlsFiles, tls_config};
use futures_util::{SinkExt as _, StreamExt as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Message, Role};

use crate::gateway::{DESIRED, Device, HOST, METHODS, token};
use crate::servers::{free_port, wait_until};
use crate::world::folder;

const KEY: &[u8] = b"a key of sixteen or more";

/// A link that lets everybody in who has the key, and what it has heard.
struct Desk {
    switchboard: Switchboard,
    folder: tempfile::TempDir,
    port: u16,
    heard: Arc<Mutex<Vec<LinkEvent>>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Desk {
    fn new() -> Desk {
        let folder = folder();
        let own = rcgen::generate_simple_self_signed([HOST.to_string()]).unwrap();
        fs::write(folder.path().join("cert.pem"), own.cert.pem()).unwrap();
        fs::write(folder.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
        let (switchboard, heard, is_over) = (Switchboard::default(), Arc::default(), Arc::default());
        let mut desk = Desk { switchboard, folder, port: free_port(), heard, is_over, thread: None };
        desk.open();
        desk
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn open(&mut self) {
        let gateway = GatewayOptions {
            mqtt: SocketAddr::new(HOST.parse().unwrap(), self.port),
            listener: None,
            proxies: Vec::new(),
            certificate: self.certificate(),
            key: self.folder.path().join("key.pem"),
            switchboard: self.switchboard.clone(),
        };
        let surroundings = Surroundings {
            folder: self.folder.path(),
            registry: "test",
            role: "watch",
            credentials: Credentials::default(),
            telemetry: Credentials::default(),
            policies: PolicyKeys::default(),
            gateway: Some(gateway),
            wake: Arc::new(|| {}),
        };
        let config = HubLinkConfig {
            host_name: HOST.to_string(),
            device_authorities: Vec::new(),
            telemetry: None,
            api: HubApi::default(),
        };
        self.is_over = Arc::default();
        let (heard, is_over) = (Arc::clone(&self.heard), Arc::clone(&self.is_over));
        let mut link = HubLink::open(&config, surroundings).unwrap();
        let identity = Identity {
            authentication: Authentication::Sas,
            keys: vec![KEY.to_vec()],
            thumbprints: Vec::new(),
            is_blocked: false,
            subscriptions: None,
        };
        self.thread = Some(std::thread::spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                for event in link.poll(Timestamp::UNIX_EPOCH).unwrap() {
                    if let LinkEvent::LoginWanted { device_id, rid } = &event {
                        let answer = ReplyAnswer::Identity(Some(identity.clone()));
                        link.reply(Reply { device_id: device_id.clone(), rid: rid.clone(), answer });
                    }
                    heard.lock().unwrap().push(event);
                }
                link.settle();
                std::thread::sleep(Duration::from_millis(2));
            }
        }));
    }

    fn close(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }

    fn connect(&self, device: &str, is_new_session: bool) -> Device {
        let ca = self.certificate();
        let password = token(&STANDARD.encode(KEY), &format!("{HOST}%2Fdevices%2F{device}"), 3_600);
        Device::connect(&ClientOptions {
            host: HOST.to_string(),
            port: self.port,
            tls: Some(tls_config(TlsFiles { ca: Some(&ca), ..TlsFiles::default() }).unwrap()),
            client_id: device.to_string(),
            username: Some(format!("{HOST}/{device}/?api-version=2021-04-12")),
            password: Some(password.into_bytes()),
            session_seconds: 3_600,
            is_new_session,
            will: None,
            packet_bytes_max: 1 << 20,
            receive_max: 100,
        })
        .unwrap()
    }

    /// Calls on a thread of its own.
    fn call(&self, call: DirectCall) -> JoinHandle<(Result<DirectAnswer, CallError>, Duration)> {
        let switchboard = self.switchboard.clone();
        std::thread::spawn(move || {
            let began = Instant::now();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            (runtime.block_on(switchboard.call(call)), began.elapsed())
        })
    }

    fn answers_to_jobs(&self) -> usize {
        self.heard.lock().unwrap().iter().filter(|event| matches!(event, LinkEvent::Answered { .. })).count()
    }
}

fn call(device: &str, connect: u64, response: u64) -> DirectCall {
    DirectCall {
        device_id: device.to_string(),
        method: "lamp*reboot".to_string(),
        payload: json!({"delay": 3}),
        connect_timeout: Duration::from_millis(connect),
        response_timeout: Duration::from_millis(response),
    }
}

fn rid_of(topic: &str) -> String {
    topic.strip_prefix("$iothub/methods/POST/lamp*reboot/?$rid=").unwrap().to_string()
}

#[test]
fn a_device_is_called_at_once_and_answers_once() {
    let desk = Desk::new();
    let mut device = desk.connect("d-1", true);
    assert!(device.subscribe(&[METHODS, DESIRED]));
    let mut other = desk.connect("d-2", false);
    assert_eq!(desk.switchboard.connected(), Some(2));
    let called = desk.call(call("d-1", 0, 30_000));
    let (topic, payload) = device.message();
    assert_eq!(payload, json!({"delay": 3}));
    let rid = rid_of(&topic);
    assert!(rid.len() > 16 && rid.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{rid}");
    // Another device cannot answer for it, and of two answers the first one counts.
    let large = "x".repeat(128 * 1024 - 2);
    other.publish_and_wait(&format!("$iothub/methods/res/500/?$rid={rid}"), "").unwrap();
    device.publish_and_wait(&format!("$iothub/methods/res/-70000/?$rid={rid}"), &format!("\"{large}\"")).unwrap();
    device.publish_and_wait(&format!("$iothub/methods/res/500/?$rid={rid}"), "").unwrap();
    let (answer, _) = called.join().unwrap();
    assert_eq!(answer, Ok(DirectAnswer { status: -70_000, payload: Value::String(large) }));
    for (body, expected) in
        [("", Ok(DirectAnswer { status: 200, payload: Value::Null })), ("no JSON", Err(CallError::BadAnswer))]
    {
        let called = desk.call(call("d-1", 0, 30_000));
        assert_eq!(device.answer(200, body).0, "lamp*reboot");
        assert_eq!(called.join().unwrap().0, expected);
    }
    assert_eq!(desk.answers_to_jobs(), 0);
    desk.switchboard.tell_desired("d-1", &json!({"level": 4}), 7);
    let told = ("$iothub/twin/PATCH/properties/desired/?$version=7".to_string(), json!({"$version": 7, "level": 4}));
    assert_eq!(device.message(), told);
    desk.switchboard.disconnect("d-1");
    assert!(device.next().is_err());
    wait_until("it is gone", || desk.switchboard.connected() == Some(1));
}

#[test]
fn a_device_that_is_not_online_is_waited_for() {
    let mut desk = Desk::new();
    let (answer, took) = desk.call(call("d-1", 0, 30_000)).join().unwrap();
    assert!(answer == Err(CallError::NotOnline) && took < Duration::from_secs(10), "{answer:?} {took:?}");
    // Connected is not online before it listens.
    let mut device = desk.connect("d-1", true);
    let (answer, took) = desk.call(call("d-1", 300, 30_000)).join().unwrap();
    assert!(answer == Err(CallError::NotOnline) && took >= Duration::from_millis(300), "{answer:?} {took:?}");
    let called = desk.call(call("d-1", 60_000, 60_000));
    std::thread::sleep(Duration::from_millis(100));
    assert!(device.subscribe(&[METHODS]));
    device.answer(200, "1");
    assert_eq!(called.join().unwrap().0.unwrap().payload, json!(1));
    // One that says nothing is waited for as long as was said, and its answer is late.
    let called = desk.call(call("d-1", 0, 400));
    let (topic, _) = device.message();
    let (answer, took) = called.join().unwrap();
    assert!(answer == Err(CallError::TimedOut) && took >= Duration::from_millis(400), "{answer:?} {took:?}");
    device.publish_and_wait(&format!("$iothub/methods/res/200/?$rid={}", rid_of(&topic)), "").unwrap();
    // It leaves, and answers on its next connection, also when that is one of another link.
    let called = desk.call(call("d-1", 0, 60_000));
    let rid = rid_of(&device.message().0);
    drop(device);
    desk.close();
    // The thread that has made the call may not have let go of the link yet.
    wait_until("the link is gone", || desk.switchboard.connected().is_none());
    assert_eq!(desk.call(call("d-1", 1_000, 1_000)).join().unwrap().0, Err(CallError::NoGateway));
    desk.open();
    let mut device = desk.connect("d-1", false);
    device.publish_and_wait(&format!("$iothub/methods/res/201/?$rid={rid}"), "").unwrap();
    assert_eq!(called.join().unwrap().0.unwrap().status, 201);
    assert_eq!(desk.answers_to_jobs(), 0);
}

#[test]
fn a_caller_that_hangs_up_does_not_recall_the_call() {
    let desk = Desk::new();
    let mut device = desk.connect("d-1", true);
    assert!(device.subscribe(&[METHODS]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rids = Vec::new();
    for _ in 0..10 {
        let called = desk.switchboard.call(call("d-1", 0, 60_000));
        assert!(runtime.block_on(async { tokio::time::timeout(Duration::from_millis(10), called).await }).is_err());
        rids.push(rid_of(&device.message().0));
    }
    assert_eq!(desk.call(call("d-1", 0, 1_000)).join().unwrap().0, Err(CallError::TooMany));
    // Another device has places of its own, and an answer gives one back.
    assert_eq!(desk.call(call("d-2", 0, 1_000)).join().unwrap().0, Err(CallError::NotOnline));
    device.publish_and_wait(&format!("$iothub/methods/res/200/?$rid={}", rids[3]), "").unwrap();
    let called = desk.call(call("d-1", 0, 60_000));
    device.answer(200, "");
    assert!(called.join().unwrap().0.is_ok());
}

/// Returns a field of a packet: its length in two bytes, and it.
fn field(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

fn hello(device: &str, key: &[u8]) -> Vec<u8> {
    let password = token(&STANDARD.encode(key), &format!("{HOST}%2Fdevices%2F{device}"), 3_600);
    let username = format!("{HOST}/{device}/?api-version=2021-04-12");
    let fields = [device.as_bytes(), username.as_bytes(), password.as_bytes()].map(field).concat();
    let body = [&[0, 4][..], b"MQTT", &[4, 0xc2, 0, 60], &fields].concat();
    let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    [&[0x10][..], &length, &body].concat()
}

#[test]
fn a_device_comes_by_a_websocket() {
    let desk = Desk::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let peer = SocketAddr::new("192.0.2.1".parse().unwrap(), 1_234);
    runtime.block_on(async {
        let open = async || {
            let (near, far) = tokio::io::duplex(1_000);
            desk.switchboard.serve_websocket(near, peer, Vec::new());
            WebSocketStream::from_raw_socket(far, Role::Client, None).await
        };
        let mut device = open().await;
        // A packet in two frames, and two packets in one.
        let hello_bytes = hello("d-1", KEY);
        device.send(Message::binary(hello_bytes[..50].to_vec())).await.unwrap();
        device.send(Message::binary(hello_bytes[50..].to_vec())).await.unwrap();
        let welcome = device.next().await.unwrap().unwrap().into_data();
        assert_eq!(welcome.as_ref(), [0x20, 2, 0, 0]);
        let body = [&[0, 7][..], &field(METHODS.as_bytes()), &[0]].concat();
        let subscribe = [&[0x82, body.len() as u8][..], &body, &[0xc0, 0]].concat();
        device.send(Message::binary(subscribe)).await.unwrap();
        let mut told = Vec::new();
        while told.len() < 7 {
            told.extend(device.next().await.unwrap().unwrap().into_data());
        }
        told.sort_unstable();
        let mut expected = [0x90, 3, 0, 7, 0, 0xd0, 0];
        expected.sort_unstable();
        assert_eq!(told, expected);
        let called = desk.call(call("d-1", 0, 30_000));
        let packet = device.next().await.unwrap().unwrap().into_data();
        let text = String::from_utf8_lossy(&packet).into_owned();
        let rid = text.split_once("$rid=").unwrap().1[..36].to_string();
        let topic = field(format!("$iothub/methods/res/200/?$rid={rid}").as_bytes());
        let answer = [&[0x30, topic.len() as u8 + 1][..], &topic, b"1"].concat();
        device.send(Message::binary(answer)).await.unwrap();
        assert_eq!(called.join().unwrap().0.unwrap().payload, json!(1));
        // Who is not the device is not let in, and not listened to after ten times, which are counted behind the answer.
        let mut refused = 0;
        loop {
            let mut other = open().await;
            drop(other.send(Message::binary(hello("d-2", b"another key"))).await);
            let Some(Ok(Message::Binary(answer))) = other.next().await else { break };
            assert_eq!(answer.as_ref(), [0x20, 2, 0, 5]);
            assert!(!matches!(other.next().await, Some(Ok(Message::Binary(_)))));
            refused += 1;
        }
        assert!((10..15).contains(&refused), "{refused}");
        let mut other = open().await;
        drop(other.send(Message::binary(hello("d-1", KEY))).await);
        assert!(!matches!(other.next().await, Some(Ok(Message::Binary(_)))));
        assert_eq!(desk.switchboard.connected(), Some(1));
    });
}
