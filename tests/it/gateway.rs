//! Devices of IoT Hub at the gateway: as they are with a client that keeps to the protocol, and with what does not.

mod both;
mod crowd;
mod messages;
mod own;
mod renewal;
mod rows;
mod sockets;
mod telemetry;

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetform::link::BrokerError;
use fleetform::link::mqtt::{ClientOptions, Connection, Publication, Received, Version};
use fleetform::model::id::{Name, RunToken};
use fleetform::model::outcome::Reason;
use fleetform::registry::WholeAnswer;
use fleetform::tls::{TlsFiles, tls_config};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::mqtt::example::{blocks, shell};
use crate::servers::{Process, free_port, wait_until};
use crate::world::{Ran, World, fleetform, folder, times};

pub const HOST: &str = "127.0.0.1";
const SDK_HOST: &str = "127.0.83.17";
pub const METHODS: &str = "$iothub/methods/POST/#";
pub const DESIRED: &str = "$iothub/twin/PATCH/properties/desired/#";
pub const RESPONSES: &str = "$iothub/twin/res/#";

/// A fleet with so many devices, and its gateway.
pub struct Site {
    pub world: World,
    host: &'static str,
    port: u16,
    /// Where back ends are served, when they are.
    https: Option<u16>,
    gateway: Option<Process>,
}

impl Site {
    pub fn new(devices: usize) -> Site {
        let site = Site::without_gateway(devices);
        site.world.run(&["apply", "--yes"]).expect(0);
        let mut site = site;
        site.start();
        site
    }

    /// With the REST API.
    pub fn with_back_ends(devices: usize) -> Site {
        let mut site = Site::without_gateway(devices);
        site.world.run(&["apply", "--yes"]).expect(0);
        site.world.run(&["gateway", "init"]).expect(0);
        site.https = Some(free_port());
        site.start();
        site
    }

    fn without_gateway(devices: usize) -> Site {
        Site::of_fleet(&format!("{{link: {{iotHub: {{hostName: {HOST}}}}}}}"), devices)
    }

    /// With a spec in YAML's flow style.
    fn of_fleet(spec: &str, devices: usize) -> Site {
        let world = World::with_devices(spec, devices);
        let site = Site { world, host: HOST, port: free_port(), https: None, gateway: None };
        site.make_certificate();
        site
    }

    fn make_certificate(&self) {
        let own = rcgen::generate_simple_self_signed([self.host.to_string()]).unwrap();
        fs::write(self.certificate(), own.cert.pem()).unwrap();
        fs::write(self.world.file(".git/key.pem"), own.signing_key.serialize_pem()).unwrap();
    }

    pub fn certificate(&self) -> PathBuf {
        self.world.file(".git/cert.pem")
    }

    fn log(&self) -> PathBuf {
        self.world.file(".git/gateway.log")
    }

    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = fleetform();
        command
            .arg("-C")
            .arg(self.world.path())
            .arg("gateway")
            .args(["--mqtt", &format!("{}:{}", self.host, self.port)]);
        command.arg("--certificate").arg(self.certificate()).arg("--key").arg(self.world.file(".git/key.pem"));
        if let Some(port) = self.https {
            command.args(["--https", &format!("{}:{port}", self.host)]);
        }
        command.args(["--log-filter", "debug"]).stdout(Stdio::null()).stderr(log);
        let began = self.said().matches("listening for devices").count();
        self.gateway = Some(Process::start(&mut command));
        wait_until("the gateway listens", || self.said().matches("listening for devices").count() > began);
    }

    /// Kills it without a word.
    pub fn kill(&mut self) {
        self.gateway.as_mut().unwrap().kill();
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Returns the first key of a device, in Base64.
    pub fn key(&self, device: &str) -> String {
        let exported = self.world.run(&["device", "export", "-o", "-"]).expect(0).stdout;
        let row = exported.lines().find(|line| line.starts_with(&format!("{device},"))).unwrap();
        row.split(',').nth(2).unwrap().to_string()
    }

    /// Asks the REST API as a policy. Returns the status, and the body as JSON.
    pub fn ask(&self, policy: &str, request: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let token = format!("{}&skn={policy}", token(&policy_key(self, policy, "primary"), self.host, 60));
        let mut text =
            format!("{request}?api-version=2021-04-12 HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        headers.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str(&format!("Authorization: {token}\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
        let heard = String::from_utf8(Raw::to(self, self.https.unwrap()).say(text.as_bytes())).unwrap();
        let (head, body) = heard.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap_or(Value::Null))
    }

    pub fn options(&self, device: &str) -> ClientOptions {
        let ca = self.certificate();
        ClientOptions {
            host: HOST.to_string(),
            port: self.port,
            tls: Some(tls_config(TlsFiles { ca: Some(&ca), ..TlsFiles::default() }).unwrap()),
            client_id: device.to_string(),
            username: Some(format!("{HOST}/{device}/?api-version=2021-04-12")),
            password: Some(token(&self.key(device), &format!("{HOST}%2Fdevices%2F{device}"), 3_600).into_bytes()),
            session_seconds: 3_600,
            is_new_session: false,
            will: None,
            packet_bytes_max: 1 << 20,
            receive_max: 100,
        }
    }

    fn wait_run(&self, job: &str, run: &str) -> Value {
        wait_until(&format!("{job} run {run} is over"), || {
            let shown = self.world.run(&["job", "show", job, "--run", run, "--json"]);
            shown.code == 0 && shown.json()[0]["finished_at"].is_string()
        });
        self.world.record(job, run)
    }

    fn state_of(&self, device: &str) -> String {
        let shown = self.world.run(&["device", "show", device, "--json"]).expect(0).json();
        shown[0]["connection_state"].as_str().unwrap().to_string()
    }

    pub fn wait_state(&self, device: &str, state: &str) {
        wait_until(&format!("{device} is {state}"), || self.state_of(device) == state);
    }
}

/// Returns a token that is good for so many seconds from now.
pub fn token(key: &str, resource: &str, seconds: i64) -> String {
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let expiry = now + seconds;
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key).unwrap()).unwrap();
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}")
}

/// A device, and what it has heard.
pub struct Device {
    runtime: tokio::runtime::Runtime,
    pub connection: Connection,
    heard: VecDeque<Received>,
    id: String,
    was_kept: bool,
}

impl Device {
    pub fn connect(options: &ClientOptions) -> Result<Device, BrokerError> {
        Device::connect_with(options, Version::V311)
    }

    fn connect_with(options: &ClientOptions, version: Version) -> Result<Device, BrokerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (connection, was_kept) = runtime.block_on(Connection::open(options, version))?;
        Ok(Device { runtime, connection, heard: VecDeque::new(), id: options.client_id.clone(), was_kept })
    }

    pub fn new(site: &Site, id: &str) -> Device {
        let mut device = Device::connect(&site.options(id)).unwrap();
        assert!(device.subscribe(&[METHODS, DESIRED, RESPONSES]));
        device
    }

    pub fn subscribe(&mut self, filters: &[&str]) -> bool {
        let filters: Vec<String> = filters.iter().map(ToString::to_string).collect();
        self.connection.subscribe(&filters).unwrap();
        let mut before = Vec::new();
        loop {
            match self.next().expect("an answer") {
                Received::Subscribed { is_granted, .. } => {
                    before.into_iter().rev().for_each(|message| self.heard.push_front(message));
                    return is_granted;
                }
                // What waits for the device may come before the answer.
                message @ Received::Message { .. } => before.push(message),
                other => panic!("{other:?}"),
            }
        }
    }

    /// Returns what comes next; the error is why the connection has ended.
    pub fn next(&mut self) -> Result<Received, BrokerError> {
        let Device { runtime, connection, heard, .. } = self;
        let received = async {
            loop {
                heard.extend(connection.received());
                if let Some(received) = heard.pop_front() {
                    return Ok(received);
                }
                connection.turn(true).await?;
            }
        };
        let patience = Duration::from_secs(120);
        runtime.block_on(async { tokio::time::timeout(patience, received).await.expect("something comes") })
    }

    /// Waits until the connection ends, whatever comes before.
    pub fn wait_end(&mut self) {
        while self.next().is_ok() {}
    }

    /// Returns the topic and the payload of the next message.
    pub fn message(&mut self) -> (String, Value) {
        loop {
            match self.next().unwrap() {
                Received::Message { topic, payload, .. } => {
                    return (topic, serde_json::from_slice(&payload).unwrap_or(Value::Null));
                }
                Received::Acknowledged { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn publish(&mut self, topic: &str, payload: &str) {
        let publication = Publication {
            topic: topic.to_string(),
            payload: payload.as_bytes().into(),
            is_retained: false,
            expires_after: None,
        };
        self.connection.publish(&publication).unwrap();
    }

    /// Publishes, and waits until the gateway has it for good.
    pub fn publish_and_wait(&mut self, topic: &str, payload: &str) -> Result<(), BrokerError> {
        self.publish(topic, payload);
        loop {
            if matches!(self.next()?, Received::Acknowledged { .. }) {
                return Ok(());
            }
        }
    }

    /// Answers the next method call, and returns its name and what it came with.
    pub fn answer(&mut self, status: u16, body: &str) -> (String, Value) {
        let (topic, payload) = self.message();
        let (method, rid) = topic.strip_prefix("$iothub/methods/POST/").unwrap().split_once("/?$rid=").unwrap();
        self.publish_and_wait(&format!("$iothub/methods/res/{status}/?$rid={rid}"), body).unwrap();
        (method.to_string(), payload)
    }
}

#[test]
fn a_certificate_that_cannot_be_used_ends_the_start() {
    let site = Site::without_gateway(1);
    let (certificate, key) = (site.certificate(), site.world.file(".git/key.pem"));
    let address = format!("{}:{}", site.host, site.port);
    let refused = || {
        let files = [certificate.to_str().unwrap(), key.to_str().unwrap()];
        let arguments = ["gateway", "--mqtt", &address, "--certificate", files[0], "--key", files[1]];
        let stderr = site.world.run(&arguments).expect(64).stderr;
        assert!(stderr.contains("the certificate cannot be used"), "{stderr}");
    };
    let whole = fs::read(&key).unwrap();
    for text in ["", "no key at all", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        fs::write(&key, text).unwrap();
        refused();
    }
    fs::write(&key, whole).unwrap();
    fs::remove_file(&certificate).unwrap();
    refused();
    // One that belongs to another key.
    site.make_certificate();
    let other = rcgen::generate_simple_self_signed([HOST.to_string()]).unwrap();
    fs::write(&key, other.signing_key.serialize_pem()).unwrap();
    refused();
}

const REBOOT: &str = "command: {name: reboot, payload: {delay: 3}, connectTimeout: 1s, responseTimeout: 30s}";

fn job(site: &Site, name: &str, run: &str, target: &str, action: &str, rest: &str) {
    site.world.job(name, &format!("{{run: \"{run}\", target: {target}, action: {{{action}}}{rest}}}"));
}

#[test]
fn jobs_reach_devices_that_are_connected() {
    let site = Site::new(3);
    let mut device = Device::new(&site, "d-001");
    assert!(!device.was_kept);
    site.wait_state("d-001", "Connected");
    job(&site, "reboot", "1", "{query: '*'}", REBOOT, "");
    assert_eq!(device.answer(200, r#"{"done": true}"#), ("reboot".to_string(), json!({"delay": 3})));
    let record = site.wait_run("reboot", "1");
    assert_eq!((&record["completed"], &record["failed"]), (&json!(1), &json!(2)));
    let rows = site.world.rows("reboot", "1");
    assert_eq!(
        rows.iter().map(|row| row.reason).collect::<Vec<_>>(),
        [Reason::Responded, Reason::Offline, Reason::Offline]
    );
    assert_eq!((rows[0].code, rows[0].message.as_str()), (Some(200), r#"{"done": true}"#));
    // Tags and desired properties, and what the device says of them.
    let acknowledged = ", delivery: {confirm: acknowledged}";
    let twin = "twin: {tags: {ring: a}, property: {level: 4}}";
    job(&site, "dim", "1", "{devices: [d-001]}", twin, acknowledged);
    assert_eq!(
        device.message(),
        ("$iothub/twin/PATCH/properties/desired/?$version=2".to_string(), json!({"$version": 2, "level": 4}))
    );
    let reported = r#"{"level": {"value": 4, "ac": 200, "av": 2}}"#;
    device.publish("$iothub/twin/PATCH/properties/reported/?$rid=r1", reported);
    assert_eq!(device.message(), ("$iothub/twin/res/204/?$rid=r1&$version=2".to_string(), Value::Null));
    assert_eq!(site.wait_run("dim", "1")["completed"], 1);
    device.publish("$iothub/twin/GET/?$rid=r2", "");
    let (topic, twin) = device.message();
    assert_eq!(
        (topic.as_str(), &twin["desired"]),
        ("$iothub/twin/res/200/?$rid=r2", &json!({"$version": 2, "level": 4}))
    );
    assert_eq!(twin["reported"]["level"]["av"], 2);
    // What breaks a rule is refused, and changes nothing.
    for (payload, status) in [("[1]", 400), ("x", 400), (r#"{"a.b": 1}"#, 400)] {
        device.publish("$iothub/twin/PATCH/properties/reported/?$rid=r3", payload);
        assert_eq!(device.message().0, format!("$iothub/twin/res/{status}/?$rid=r3"), "{payload}");
    }
    device.publish_and_wait("devices/d-001/messages/events/%24.ct=application%2Fjson", "{}").unwrap();
    drop(device);
    site.wait_state("d-001", "Disconnected");
}

/// Returns the whole answers to the first run of a job.
fn whole_answers(world: &World, job: &str) -> Vec<(u32, u16, String)> {
    let registry = world.registry();
    let found = registry.journal().find(&Name::parse(job).unwrap(), &RunToken::default()).unwrap();
    let mut answers = Vec::new();
    if let Some(run) = found {
        let keep = &mut |one: WholeAnswer| {
            answers.push((one.ordinal, one.code, String::from_utf8(one.payload).unwrap()));
        };
        registry.journal().each_answer(run.run_id, 0..run.total, keep).unwrap();
    }
    answers
}

/// The results have the beginning of an answer only.
#[test]
fn answers_to_a_job_of_a_back_end_are_kept_whole() {
    let mut site = Site::new(2);
    let mut device = Device::new(&site, "d-001");
    site.wait_state("d-001", "Connected");
    let ask = |site: &Site, name: &str, labels: &str| {
        let spec = "{target: {query: '*'}, delivery: {offline: wait, expiresAfter: 1h}, \
                    action: {command: {name: ask, responseTimeout: 30s}}}";
        let text = format!(
            "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}, labels: {labels}}}\nspec: {spec}\n"
        );
        site.world.write(&format!("jobs/{name}.yaml"), text);
        site.world.commit(name);
    };
    ask(&site, "asked", "{iothub/job: Ask-1}");
    let large = format!("[\"{}\"]", "x".repeat(100_000));
    device.answer(200, &large);
    wait_until("the answer is kept", || whole_answers(&site.world, "asked") == [(0, 200, large.clone())]);
    // Another process goes on with the run.
    site.kill();
    site.start();
    let mut late = Device::new(&site, "d-002");
    late.answer(404, "\"no\"");
    let record = site.wait_run("asked", "1");
    assert_eq!((&record["completed"], &record["failed"]), (&json!(1), &json!(1)));
    let rows = site.world.rows("asked", "1");
    assert_eq!((rows[0].message.chars().count(), rows[1].message.as_str()), (256, "\"no\""));
    assert_eq!(whole_answers(&site.world, "asked"), [(0, 200, large), (1, 404, "\"no\"".to_string())]);
    let mut device = Device::new(&site, "d-001");
    ask(&site, "other", "{team: north}");
    device.answer(200, "1");
    late.answer(200, "2");
    site.wait_run("other", "1");
    assert_eq!(whole_answers(&site.world, "other"), []);
}

#[test]
fn who_is_not_the_device_is_not_let_in() {
    let site = Site::new(2);
    let own = site.options("d-001");
    let signed = |resource: &str, seconds| Some(token(&site.key("d-001"), resource, seconds).into_bytes());
    let other = site.options("d-002");
    let cases = [
        ClientOptions { username: None, password: None, ..own.clone() },
        ClientOptions { username: Some("d-002".to_string()), ..own.clone() },
        ClientOptions { username: Some("hub.example.com/d-001/?api-version=2021-04-12".to_string()), ..own.clone() },
        ClientOptions { client_id: "d-002".to_string(), ..own.clone() },
        ClientOptions { client_id: "D-001".to_string(), ..own.clone() },
        ClientOptions { password: other.password.clone(), ..own.clone() },
        ClientOptions { password: signed("127.0.0.1%2Fdevices%2Fd-001", -1), ..own.clone() },
        ClientOptions { password: signed("127.0.0.2%2Fdevices%2Fd-001", 60), ..own.clone() },
        ClientOptions { will: Some(("devices/d-002/messages/events/".to_string(), b"x".to_vec())), ..own.clone() },
    ];
    for options in cases {
        let refused = Device::connect(&options).map(|device| device.id);
        assert!(matches!(refused, Err(BrokerError::Credentials)), "{:?}: {refused:?}", options.username);
    }
    assert!(!site.said().contains("SharedAccessSignature"), "{}", site.said());
    wait_until("the log has all of them", || site.said().matches("a device is not let in").count() == 9);
    // MQTT 5 is not spoken in this dialect, and says so.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(Connection::open(&own, Version::V5)).map(|_| ());
    assert!(matches!(refused, Err(BrokerError::Version)), "{refused:?}");
    Device::connect(&own).unwrap();
    // Ten in a minute from one address, and the next ones are not listened to.
    let wrong = ClientOptions { client_id: "d-002".to_string(), ..own.clone() };
    assert!(matches!(Device::connect(&wrong).map(drop), Err(BrokerError::Credentials)));
    wait_until("the address is not listened to", || {
        !matches!(Device::connect(&wrong).map(drop), Err(BrokerError::Credentials)) && Device::connect(&own).is_err()
    });
}

#[test]
fn a_device_with_a_certificate_is_known_by_its_thumbprint() {
    let site = Site::without_gateway(1);
    let own = |name: &str| {
        let made = rcgen::generate_simple_self_signed([name.to_string()]).unwrap();
        let (certificate, key) =
            (site.world.file(&format!(".git/{name}.pem")), site.world.file(&format!(".git/{name}.key")));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        (made.cert.der().to_vec(), certificate, key)
    };
    let (der, certificate, key) = own("x-1");
    let (_, other_certificate, other_key) = own("x-2");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    let print = |print: &str| json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": print}});
    let lines = [
        json!({"id": "x-1", "authentication": print(&hex(&sha1::Sha1::digest(&der)))}),
        json!({"id": "x-2", "authentication": print(&hex(&Sha256::digest(&der)).to_lowercase())}),
    ];
    site.world.write("x.jsonl", lines.map(|line| format!("{line}\n")).concat());
    site.world.declare("x.yaml", "DeviceImport", "x", "{file: x.jsonl}");
    site.world.commit("devices with certificates");
    site.world.run(&["apply", "--yes"]).expect(0);
    let mut site = site;
    site.start();
    let connect = |id: &str, shown: Option<(&PathBuf, &PathBuf)>| {
        let ca = site.certificate();
        let (client_certificate, client_key) = (shown.map(|one| one.0.as_path()), shown.map(|one| one.1.as_path()));
        let tls = tls_config(TlsFiles { ca: Some(&ca), client_certificate, client_key }).unwrap();
        let username = Some(format!("{HOST}/{id}/?api-version=2021-04-12"));
        let client_id = id.to_string();
        Device::connect(&ClientOptions { tls: Some(tls), username, client_id, ..site.options("d-001") })
    };
    let (own, other) = (Some((&certificate, &key)), Some((&other_certificate, &other_key)));
    for id in ["x-1", "x-2"] {
        let mut device = connect(id, own).unwrap();
        device.publish("$iothub/twin/GET/?$rid=r1", "");
        assert_eq!(device.message().0, "$iothub/twin/res/200/?$rid=r1");
        for shown in [other, None] {
            assert!(matches!(connect(id, shown).map(drop), Err(BrokerError::Credentials)), "{id}");
        }
    }
    // It has a token, and a certificate besides.
    connect("d-001", own).unwrap();
}

/// An authority, and what it signs.
pub struct Signer {
    folder: PathBuf,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Signer {
    /// Makes one whose certificate is in `ca.pem` of a folder.
    pub fn new(folder: PathBuf) -> Signer {
        fs::create_dir_all(&folder).unwrap();
        let mut own = rcgen::CertificateParams::new(Vec::new()).unwrap();
        own.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        fs::write(folder.join("ca.pem"), own.self_signed(&key).unwrap().pem()).unwrap();
        Signer { folder, issuer: rcgen::Issuer::new(own, key) }
    }

    /// Signs a certificate, and returns its file and that of its key.
    pub fn sign(&self, name: &str, change: impl Fn(&mut rcgen::CertificateParams)) -> (PathBuf, PathBuf) {
        let mut own = rcgen::CertificateParams::new(Vec::new()).unwrap();
        own.distinguished_name = rcgen::DistinguishedName::new();
        own.distinguished_name.push(rcgen::DnType::CommonName, name);
        change(&mut own);
        let key = rcgen::KeyPair::generate().unwrap();
        let signed = own.signed_by(&key, &self.issuer).unwrap();
        let number = fs::read_dir(&self.folder).unwrap().count();
        let file = |kind: &str| self.folder.join(format!("{name}-{number}.{kind}"));
        let files = (file("pem"), file("key"));
        fs::write(&files.0, signed.pem()).unwrap();
        fs::write(&files.1, key.serialize_pem()).unwrap();
        files
    }
}

#[test]
fn a_device_with_a_certificate_of_an_authority_is_known_by_its_common_name() {
    let site = Site::without_gateway(1);
    let (ours, other) = (Signer::new(site.world.file(".git/ours")), Signer::new(site.world.file(".git/other")));
    let link = format!("{{link: {{iotHub: {{hostName: {HOST}, deviceAuthorities: [{{file: .git/ours/ca.pem}}]}}}}}}");
    site.world.declare("fleetform.yaml", "Fleet", "acme", &link);
    let line = |id: &str| json!({"id": id, "authentication": {"type": "certificateAuthority"}});
    site.world.write("x.jsonl", ["x-1", "x-2"].map(|id| format!("{}\n", line(id))).concat());
    site.world.declare("x.yaml", "DeviceImport", "x", "{file: x.jsonl}");
    site.world.commit("devices with certificates");
    site.world.run(&["apply", "--yes"]).expect(0);
    let mut site = site;
    site.start();
    let connect = |id: &str, shown: &(PathBuf, PathBuf)| {
        let ca = site.certificate();
        let (client_certificate, client_key) = (Some(shown.0.as_path()), Some(shown.1.as_path()));
        let tls = tls_config(TlsFiles { ca: Some(&ca), client_certificate, client_key }).unwrap();
        let username = Some(format!("{HOST}/{id}/?api-version=2021-04-12"));
        let options = ClientOptions { tls: Some(tls), username, client_id: id.to_string(), ..site.options("d-001") };
        Device::connect(&options)
    };
    let client = |own: &mut rcgen::CertificateParams| {
        own.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    };
    let mut device = connect("x-1", &ours.sign("x-1", |_| {})).unwrap();
    device.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(device.message().0, "$iothub/twin/res/200/?$rid=r1");
    let one = ours.sign("x-1", client);
    connect("x-1", &one).unwrap();
    let old = |own: &mut rcgen::CertificateParams| own.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let server = |own: &mut rcgen::CertificateParams| {
        own.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    };
    let cases = [
        (one.clone(), "the common name of the certificate"),
        (other.sign("x-2", client), "signed by no authority"),
        (ours.sign("x-2", old), "is over or not good yet"),
        (ours.sign("x-2", server), "lacks clientAuth"),
    ];
    for (shown, why) in cases {
        assert!(matches!(connect("x-2", &shown).map(drop), Err(BrokerError::Credentials)), "{why}");
        wait_until(why, || site.said().contains(why));
    }
    // Version 1 is what `openssl x509 -req` makes without extensions.
    let folder = site.world.file(".git/ours");
    let openssl = |arguments: &[&str]| Ran::of(Command::new("openssl").args(arguments).current_dir(&folder)).expect(0);
    openssl(&[
        "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "v1.key", "-out", "v1.csr", "-subj", "/CN=x-2",
    ]);
    openssl(&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "r.key", "-out", "r.pem", "-subj", "/CN=r"]);
    openssl(&["x509", "-req", "-in", "v1.csr", "-CA", "r.pem", "-CAkey", "r.key", "-CAcreateserial", "-out", "v1.pem"]);
    assert!(openssl(&["x509", "-in", "v1.pem", "-noout", "-text"]).stdout.contains("Version: 1"));
    let at = format!("{HOST}:{}", site.port);
    let mut shower = Command::new("openssl");
    shower.args(["s_client", "-connect", &at, "-cert", "v1.pem", "-key", "v1.key"]).current_dir(&folder);
    let mut shower = Process::start(shower.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_until("it says why", || site.said().contains("X.509 of version 1"));
    shower.kill();
    // The file has another authority now, and the connection of the device goes on.
    fs::copy(site.world.file(".git/other/ca.pem"), site.world.file(".git/ours/ca.pem")).unwrap();
    wait_until("the new one is trusted", || site.said().contains("the new authorities of devices are trusted"));
    connect("x-2", &other.sign("x-2", client)).unwrap();
    assert!(matches!(connect("x-1", &one).map(drop), Err(BrokerError::Credentials)));
}

#[test]
fn a_device_that_was_blocked_or_deleted_is_not_let_in() {
    let site = Site::new(2);
    let options = site.options("d-001");
    let mut device = Device::new(&site, "d-001");
    // Another process blocks it: its connection ends, and no other one.
    let mut other = Device::new(&site, "d-002");
    site.world.run(&["device", "block", "d-001", "--yes"]).expect(0);
    let began = Instant::now();
    device.wait_end();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    other.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(other.message().0, "$iothub/twin/res/200/?$rid=r1");
    assert!(matches!(Device::connect(&options).map(drop), Err(BrokerError::Credentials)));
    site.world.run(&["device", "unblock", "d-001", "--yes"]).expect(0);
    let mut device = Device::connect(&options).unwrap();
    site.world.run(&["device", "delete", "d-001", "--yes"]).expect(0);
    device.wait_end();
    assert!(matches!(Device::connect(&options).map(drop), Err(BrokerError::Credentials)));
    other.publish("$iothub/twin/GET/?$rid=r2", "");
    assert_eq!(other.message().0, "$iothub/twin/res/200/?$rid=r2");
}

#[test]
fn a_device_that_gets_other_keys_loses_its_connection() {
    let site = Site::new(1);
    let key = |byte: u8| STANDARD.encode([byte; 32]);
    let import = |primary: u8, secondary: u8, message: &str| {
        let keys = json!({"primaryKey": key(primary), "secondaryKey": key(secondary)});
        let line = json!({"id": "k-1", "authentication": {"type": "sas", "symmetricKey": keys}});
        site.world.write("k.jsonl", format!("{line}\n"));
        site.world.declare("k.yaml", "DeviceImport", "k", "{file: k.jsonl}");
        site.world.commit(message);
    };
    let options = |byte: u8| {
        let username = Some(format!("{HOST}/k-1/?api-version=2021-04-12"));
        let password = Some(token(&key(byte), &format!("{HOST}%2Fdevices%2Fk-1"), 3_600).into_bytes());
        ClientOptions { username, password, client_id: "k-1".to_string(), ..site.options("d-001") }
    };
    let mut beside = Device::new(&site, "d-001");
    import(1, 2, "keys");
    wait_until("it is imported", || Device::connect(&options(2)).is_ok());
    let mut device = Device::connect(&options(2)).unwrap();
    site.world.run(&["device", "delete", "k-1", "--yes"]).expect(0);
    import(3, 4, "other keys");
    device.wait_end();
    assert!(matches!(Device::connect(&options(2)).map(drop), Err(BrokerError::Credentials)));
    wait_until("it has the other keys", || Device::connect(&options(4)).is_ok());
    beside.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(beside.message().0, "$iothub/twin/res/200/?$rid=r1");
}

#[test]
fn what_a_device_says_is_kept_while_another_process_works() {
    let site = Site::new(1);
    let mut device = Device::new(&site, "d-001");
    site.wait_state("d-001", "Connected");
    // As an apply, or a device that is blocked, has the registry.
    let lock = File::options().write(true).open(site.world.file(".fleetform/fleet.lock")).unwrap();
    lock.lock().unwrap();
    for n in 1..4 {
        device.publish(&format!("$iothub/twin/PATCH/properties/reported/?$rid=r{n}"), &format!("{{\"n\": {n}}}"));
        assert_eq!(device.message().0, format!("$iothub/twin/res/204/?$rid=r{n}&$version={}", n + 1));
        device.publish(&format!("$iothub/twin/GET/?$rid=g{n}"), "");
        let (topic, twin) = device.message();
        assert_eq!((topic, &twin["reported"]["n"]), (format!("$iothub/twin/res/200/?$rid=g{n}"), &json!(n)));
    }
}

#[test]
fn a_registry_that_is_locked_for_long_ends_no_connection() {
    let site = Site::new(1);
    let mut device = Device::new(&site, "d-001");
    site.wait_state("d-001", "Connected");
    let connection = rusqlite::Connection::open(site.world.file(".fleetform/fleet.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let reporting = std::thread::spawn(move || {
        device.publish("$iothub/twin/PATCH/properties/reported/?$rid=r1", "{\"n\": 1}");
        let answer = device.message().0;
        (device, answer)
    });
    // SQLite waits for five seconds.
    let began = Instant::now();
    while !site.said().contains("is locked by another process") {
        assert!(began.elapsed() < Duration::from_secs(30), "{}", site.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    connection.execute_batch("COMMIT").unwrap();
    let (mut device, answer) = reporting.join().unwrap();
    assert_eq!(answer, "$iothub/twin/res/204/?$rid=r1&$version=2");
    device.publish("$iothub/twin/GET/?$rid=r2", "");
    let (topic, twin) = device.message();
    assert_eq!((topic.as_str(), &twin["reported"]["n"]), ("$iothub/twin/res/200/?$rid=r2", &json!(1)));
    assert_eq!(site.said().matches("listening for devices").count(), 1);
}

#[test]
fn a_certificate_of_another_name_is_warned_of() {
    let mut site = Site::without_gateway(1);
    site.world.run(&["apply", "--yes"]).expect(0);
    let own = rcgen::generate_simple_self_signed(["hub.example.com".to_string()]).unwrap();
    fs::write(site.certificate(), own.cert.pem()).unwrap();
    fs::write(site.world.file(".git/key.pem"), own.signing_key.serialize_pem()).unwrap();
    site.start();
    assert!(site.said().contains("the certificate is not for `hostName`"), "{}", site.said());
    let right = Site::new(1);
    assert!(!right.said().contains("the certificate is not for"), "{}", right.said());
}

#[test]
fn a_device_that_asks_without_a_pause_leaves_others_their_turn() {
    let site = Site::new(3);
    let mut greedy = Device::new(&site, "d-001");
    let large: String = (0..300).map(|n| format!("\"k{n}\": \"{}\",", "x".repeat(80))).collect();
    let large = format!("{{{}}}", large.trim_end_matches(','));
    greedy.publish("$iothub/twin/PATCH/properties/reported/?$rid=r1", &large);
    assert_eq!(greedy.message().0, "$iothub/twin/res/204/?$rid=r1&$version=2");
    let mut modest = Device::new(&site, "d-002");
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    let asking = std::thread::spawn(move || {
        let mut asked = 0_u64;
        while !over.load(Ordering::SeqCst) {
            for _ in 0..20 {
                asked += 1;
                greedy.publish(&format!("$iothub/twin/GET/?$rid=g{asked}"), "");
            }
            // It reads what it is sent, and asks for more.
            greedy.message();
        }
    });
    std::thread::sleep(Duration::from_secs(1));
    let began = Instant::now();
    for n in 0..10 {
        modest.publish(&format!("$iothub/twin/GET/?$rid=m{n}"), "");
        assert_eq!(modest.message().0, format!("$iothub/twin/res/200/?$rid=m{n}"));
    }
    drop(Device::new(&site, "d-003"));
    let took = began.elapsed();
    is_over.store(true, Ordering::SeqCst);
    asking.join().unwrap();
    assert!(took < Duration::from_secs(60), "{took:?}");
}

#[test]
fn a_device_that_subscribes_late_is_called() {
    let site = Site::new(1);
    let wait = ", delivery: {offline: wait, expiresAfter: 5m}";
    job(&site, "reboot", "1", "{query: '*'}", "command: {name: reboot, responseTimeout: 30s}", wait);
    wait_until("it waits", || site.said().contains("job reboot run 1: running"));
    let clean = ClientOptions { is_new_session: true, ..site.options("d-001") };
    let mut device = Device::connect(&clean).unwrap();
    site.wait_state("d-001", "Connected");
    assert!(device.subscribe(&[METHODS]));
    device.answer(200, "");
    assert_eq!(site.wait_run("reboot", "1")["completed"], 1);
    // Nothing of a clean session is kept.
    drop(device);
    site.wait_state("d-001", "Disconnected");
    assert!(!Device::connect(&site.options("d-001")).unwrap().was_kept);
}

#[test]
fn a_device_has_its_own_topics_only() {
    let site = Site::new(2);
    let options = site.options("d-001");
    let mut device = Device::new(&site, "d-001");
    assert!(device.subscribe(&["devices/d-001/messages/devicebound/#"]));
    assert!(!device.subscribe(&["#"]));
    assert!(!device.subscribe(&["devices/d-002/messages/devicebound/#"]));
    device.connection.subscribe(&["$iothub/#".to_string()]).unwrap();
    assert!(device.next().is_err(), "three of them end the connection");
    for topic in [
        "devices/d-002/messages/events/",
        "$iothub/methods/POST/reboot/?$rid=1",
        "$iothub/twin/PATCH/properties/desired/?$version=9",
        "$iothub/twin/PATCH/properties/reported/",
        "fleetform/d-002/presence",
    ] {
        let mut device = Device::connect(&options).unwrap();
        assert!(device.publish_and_wait(topic, "{}").is_err(), "{topic}");
    }
    // An answer to what it was not asked is counted, and that is all.
    let mut device = Device::connect(&options).unwrap();
    for rid in ["x", "1-0-1-0123456789abcdef", "999999-0-1-0123456789abcdef"] {
        device.publish_and_wait(&format!("$iothub/methods/res/200/?$rid={rid}"), "{}").unwrap();
    }
}

#[test]
fn a_new_connection_ends_the_old_one() {
    let site = Site::new(1);
    let mut one = Device::new(&site, "d-001");
    let mut two = Device::connect(&site.options("d-001")).unwrap();
    assert!(one.next().is_err());
    assert!(two.was_kept, "it listens as it has said on the other connection");
    job(&site, "reboot", "1", "{query: '*'}", REBOOT, "");
    two.answer(200, "");
    assert_eq!(site.wait_run("reboot", "1")["completed"], 1);
    assert_eq!(site.state_of("d-001"), "Connected");
    // A clean one listens to nothing yet.
    let clean = ClientOptions { is_new_session: true, ..site.options("d-001") };
    let mut three = Device::connect(&clean).unwrap();
    assert!(!three.was_kept && two.next().is_err());
    job(&site, "reboot", "2", "{query: '*'}", REBOOT, "");
    assert_eq!(site.wait_run("reboot", "2")["failed"], 1);
    assert_eq!(site.state_of("d-001"), "Connected", "it does not listen, and is there");
    assert!(three.subscribe(&[METHODS]));
    job(&site, "reboot", "3", "{query: '*'}", REBOOT, "");
    three.answer(500, "null");
    let row = &site.world.rows("reboot", "3");
    site.wait_run("reboot", "3");
    assert!(row.is_empty() || row[0].reason == Reason::Rejected);
}

#[test]
fn a_connection_ends_with_its_token() {
    let site = Site::new(1);
    let (key, mut options) = (site.key("d-001"), site.options("d-001"));
    options.password = Some(token(&key, "127.0.0.1", 3).into_bytes());
    let mut device = Device::connect(&options).unwrap();
    assert!(device.next().is_err());
    wait_until("it says why", || site.said().contains("the token is over"));
    site.wait_state("d-001", "Disconnected");
}

/// Returns a key of a policy that `gateway init` has made, in Base64.
pub fn policy_key(site: &Site, policy: &str, which: &str) -> String {
    let text = fs::read_to_string(site.world.file(".fleetform/gateway.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["policies"][policy][which].as_str().unwrap().to_string()
}

#[test]
fn a_token_of_a_policy_is_one_of_every_device() {
    let site = Site::new(2);
    site.world.run(&["gateway", "init"]).expect(0);
    let connect = |device: &str, policy: &str, key: &str| {
        let password = format!("{}&skn={policy}", token(key, HOST, 3_600)).into_bytes();
        let username = Some(format!("{HOST}/{device}/?api-version=2021-04-12"));
        let client_id = device.to_string();
        Device::connect(&ClientOptions { client_id, username, password: Some(password), ..site.options("d-001") })
    };
    let key = |policy: &str, which: &str| policy_key(&site, policy, which);
    let first = key("device", "primary");
    // The gateway began before there were any. It listens to few failed logins of an address.
    let mut kept = None;
    wait_until("the keys are known", || {
        std::thread::sleep(Duration::from_secs(1));
        kept = connect("d-001", "device", &first).ok();
        kept.is_some()
    });
    let mut owner = connect("d-002", "iothubowner", &key("iothubowner", "secondary")).unwrap();
    owner.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(owner.message().0, "$iothub/twin/res/200/?$rid=r1");
    let refused = |device: &str, policy: &str, key: &str, why: &str| {
        let before = site.said().matches(why).count();
        assert!(matches!(connect(device, policy, key).map(drop), Err(BrokerError::Credentials)), "{policy}");
        wait_until(why, || site.said().matches(why).count() > before);
    };
    refused("d-001", "service", &key("service", "primary"), "does not have the right deviceConnect");
    refused("d-001", "nobody", &first, "does not have the right deviceConnect");
    refused("d-001", "device", &key("service", "primary"), "not signed with a key of its policy");
    refused("d-003", "device", &first, "the registry has no such device");
    site.world.run(&["device", "block", "d-002", "--yes"]).expect(0);
    owner.wait_end();
    refused("d-002", "device", &first, "the device is blocked");
    // A key that changes ends the connections that were made with it, and no other one.
    let mut other = connect("d-001", "device", &key("device", "secondary")).unwrap();
    kept.unwrap().wait_end();
    site.world.run(&["device", "unblock", "d-002", "--yes"]).expect(0);
    let mut kept = connect("d-002", "device", &first).unwrap();
    let file = site.world.file(".fleetform/gateway.json");
    let text = fs::read_to_string(&file).unwrap().replace(&first, &STANDARD.encode([7; 32]));
    fs::write(&file, text).unwrap();
    kept.wait_end();
    other.publish("$iothub/twin/GET/?$rid=r2", "");
    assert_eq!(other.message().0, "$iothub/twin/res/200/?$rid=r2");
    connect("d-002", "device", &STANDARD.encode([7; 32])).unwrap();
    assert!(!site.said().contains("SharedAccess") && !site.said().contains(&first), "{}", site.said());
}

#[test]
fn a_gateway_that_is_killed_calls_no_method_twice() {
    let mut site = Site::new(3);
    let mut devices: Vec<Device> = ["d-001", "d-002"].iter().map(|id| Device::new(&site, id)).collect();
    site.wait_state("d-002", "Connected");
    job(&site, "reboot", "1", "{devices: [d-001, d-002]}", REBOOT, "");
    let calls: Vec<(String, Value)> = devices.iter_mut().map(Device::message).collect();
    site.kill();
    drop(devices);
    site.start();
    // Nobody is connected to the new process, whatever the registry said.
    site.wait_state("d-001", "Disconnected");
    let mut devices: Vec<Device> =
        ["d-001", "d-002"].iter().map(|id| Device::connect(&site.options(id)).unwrap()).collect();
    // One answers what it was asked before, on its new connection.
    let rid = calls[0].0.split_once("$rid=").unwrap().1.to_string();
    devices[0].publish_and_wait(&format!("$iothub/methods/res/200/?$rid={rid}"), "{}").unwrap();
    let record = site.wait_run("reboot", "1");
    let rows = site.world.rows("reboot", "1");
    assert!(rows.iter().all(|row| [Reason::Responded, Reason::OutcomeUnknown].contains(&row.reason)), "{rows:?}");
    assert_eq!(rows[1].reason, Reason::OutcomeUnknown, "{record}");
    // They have not subscribed again, and are called all the same: each once.
    job(&site, "again", "1", "{devices: [d-001, d-002]}", "command: {name: again, connectTimeout: 5s}", "");
    for device in &mut devices {
        assert_eq!(device.answer(200, "").0, "again");
    }
    assert_eq!(site.wait_run("again", "1")["completed"], 2);
}

#[test]
fn without_a_gateway_nobody_speaks_to_the_devices() {
    let site = Site::without_gateway(2);
    site.world.run(&["apply", "--yes"]).expect(0);
    job(&site, "reboot", "1", "{query: '*'}", REBOOT, "");
    site.world.run(&["plan"]).expect(0);
    let refused = site.world.run(&["apply", "--yes"]);
    assert!(refused.code == 69 && refused.stderr.contains("fleetform gateway"), "{refused:?}");
    // What the gateway cannot use is one sentence, and nothing is lost.
    let gateway = |certificate: &str| {
        let mut command = fleetform();
        command.arg("-C").arg(site.world.path()).args(["gateway", "--mqtt", "127.0.0.1:0"]);
        command.args(["--certificate", certificate, "--key", certificate]);
        command
    };
    let missing = Ran::of(fleetform().arg("-C").arg(site.world.path()).arg("gateway"));
    assert!(missing.code == 64 && missing.stderr.contains("--certificate"), "{missing:?}");
    let log = site.world.file(".git/none.log");
    let mut command = gateway("/nonexistent.pem");
    let _gateway = Process::start(command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()));
    wait_until("it says what it cannot use", || {
        fs::read_to_string(&log).unwrap().contains("/nonexistent.pem cannot be used")
    });
}

#[test]
fn a_renewed_certificate_is_shown_to_new_connections() {
    let site = Site::new(1);
    let old = site.options("d-001");
    let mut device = Device::connect(&old).unwrap();
    // One without its key is told, and the old one goes on.
    let other = rcgen::generate_simple_self_signed([HOST.to_string()]).unwrap();
    let kept = fs::read(site.certificate()).unwrap();
    fs::write(site.certificate(), other.cert.pem()).unwrap();
    wait_until("it is told", || site.said().contains("the new certificate cannot be used"));
    fs::write(site.certificate(), kept).unwrap();
    drop(Device::connect(&old).unwrap());
    site.make_certificate();
    wait_until("it is shown", || Device::connect(&site.options("d-001")).is_ok());
    assert!(matches!(Device::connect(&old).map(drop), Err(error) if !matches!(error, BrokerError::Credentials)));
    assert!(device.next().is_err(), "a later connection of it has ended this one");
}

/// A connection of bytes.
struct Raw(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl Raw {
    fn open(site: &Site) -> Raw {
        Raw::to(site, site.port)
    }

    fn to(site: &Site, port: u16) -> Raw {
        let ca = site.certificate();
        let config = tls_config(TlsFiles { ca: Some(&ca), ..TlsFiles::default() }).unwrap();
        let name = ServerName::try_from(site.host).unwrap();
        let connection = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
        let stream = TcpStream::connect((site.host, port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Raw(rustls::StreamOwned::new(connection, stream))
    }

    /// Sends bytes, and returns what comes until the end of the connection.
    fn say(mut self, bytes: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        if self.0.write_all(bytes).is_ok() {
            drop(self.0.read_to_end(&mut heard));
        }
        heard
    }
}

#[test]
fn what_is_no_device_costs_nothing_but_its_connection() {
    let site = Site::new(1);
    // Nothing of it is MQTT, or not what a device begins with.
    assert!(Raw::open(&site).say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").is_empty());
    assert!(Raw::open(&site).say(&[0xc0, 0]).is_empty());
    let level = |level: u8| [0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', level, 2, 0, 10, 0, 2, b'd', b'1'];
    let fifth = [&[0x10, 15], &level(5)[2..12], &[0], &level(5)[12..]].concat();
    assert_eq!(Raw::open(&site).say(&fifth), [0x20, 3, 0, 0x84, 0], "as MQTT 5 says it");
    assert_eq!(Raw::open(&site).say(&level(3)), [0x20, 2, 0, 1]);
    assert_eq!(Raw::open(&site).say(&level(4)), [0x20, 2, 0, 5]);
    // What comes right behind CONNECT is taken, too.
    let options = site.options("d-001");
    let text = |text: &[u8]| [&u16::try_from(text.len()).unwrap().to_be_bytes(), text].concat();
    let fields = [options.client_id.as_bytes(), options.username.as_ref().unwrap().as_bytes()].map(text).concat();
    let body = [&[0, 4][..], b"MQTT", &[4, 0xc2, 0, 60], &fields, &text(options.password.as_ref().unwrap())].concat();
    assert!(body.len() >= 128 && body.len() < 16_384);
    let length = [(body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    let subscribe = [&[0x82, 23, 0, 7][..], &text(RESPONSES.as_bytes()), &[1]].concat();
    let hello = [&[0x10][..], &length, &body, &subscribe, &[0xe0, 0]].concat();
    assert_eq!(Raw::open(&site).say(&hello), [0x20, 2, 0, 0, 0x90, 3, 0, 7, 1]);
    // The number 0, and NUL in a topic.
    let connect = [&[0x10][..], &length, &body].concat();
    let publish = |flags: u8, topic: &[u8], number: &[u8]| {
        let rest = [&text(topic)[..], number].concat();
        [&connect[..], &[flags, rest.len() as u8], &rest].concat()
    };
    let topic = b"devices/d-001/messages/events/";
    for broken in [
        [&connect[..], &[0x82, 23, 0, 0], &text(RESPONSES.as_bytes()), &[1]].concat(),
        publish(0x32, topic, &[0, 0]),
        publish(0x30, b"devices/d-001/messages/events/\0", &[]),
    ] {
        let began = Instant::now();
        assert_eq!(Raw::open(&site).say(&broken), [0x20, 2, 0, 0]);
        assert!(began.elapsed() < Duration::from_secs(20), "the connection goes on: {broken:?}");
    }
    let mut device = Device::new(&site, "d-001");
    // A packet that would not end.
    let mut endless = vec![0x10, 0xff, 0xff, 0xff, 0x7f];
    endless.resize(200_000, 0);
    // The end may come before the answer was read: bytes are under way to it.
    assert!([&[][..], &[0x20, 2, 0, 1]].contains(&&*Raw::open(&site).say(&endless)));
    // Connections that say nothing: the device is served beside them.
    let silent: Vec<TcpStream> = (0..150).map(|_| TcpStream::connect((HOST, site.port)).unwrap()).collect();
    device.publish("$iothub/twin/GET/?$rid=r1", "");
    assert_eq!(device.message().0, "$iothub/twin/res/200/?$rid=r1");
    assert_eq!(silent.len(), 150);
}

/// Returns the Python that has Microsoft's client, where it is installed.
fn python() -> Option<String> {
    let python = std::env::var("FLEETFORM_TEST_AZURE_PYTHON").ok();
    if python.is_none() {
        drop(writeln!(std::io::stderr(), "left out: FLEETFORM_TEST_AZURE_PYTHON is not set"));
    }
    python
}

/// Microsoft's own client for devices, many in one process.
pub struct Sdk {
    process: std::process::Child,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Sdk {
    /// Starts all devices of a site; `None` where the client is not installed.
    pub fn start(site: &Site) -> Option<Sdk> {
        let python = python()?;
        let devices = site.world.folder_file("devices.jsonl");
        site.world.run(&["device", "export", "--format", "iothub", "-o", &devices]).expect(0);
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/iothub/devices.py");
        let mut command = Command::new(python);
        command.arg(script).arg(site.host).arg(site.certificate()).arg(&devices);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = command.spawn().unwrap();
        let told = Arc::new(Mutex::new(Vec::new()));
        let (lines, kept) = (BufReader::new(process.stdout.take().unwrap()).lines(), Arc::clone(&told));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Some(Sdk { process, told })
    }

    /// Returns what was told of an event.
    pub fn told(&self, event: &str) -> Vec<Value> {
        self.told.lock().unwrap().iter().filter(|one| one["event"] == event).cloned().collect()
    }

    /// Returns how often each device has told of an event with a member.
    fn count(&self, event: &str, name: &str, value: &Value) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for one in self.told.lock().unwrap().iter().filter(|one| one["event"] == event && one[name] == *value) {
            *counts.entry(one["device"].as_str().unwrap().to_string()).or_default() += 1;
        }
        counts
    }

    fn calls(&self, method: &str) -> BTreeMap<String, usize> {
        self.count("call", "method", &json!(method))
    }
}

impl Drop for Sdk {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Microsoft's client connects to port 8883 and no other: this test has an address of its own.
#[test]
fn the_clients_of_microsoft_lose_and_double_nothing_over_a_kill() {
    let count = times("FLEETFORM_TEST_AZURE_DEVICES", 12) as usize;
    let mut site = Site::without_gateway(count);
    (site.host, site.port) = (SDK_HOST, 8883);
    site.make_certificate();
    site.world.declare("fleetform.yaml", "Fleet", "acme", &format!("{{link: {{iotHub: {{hostName: {SDK_HOST}}}}}}}"));
    site.world.commit("the host of the clients");
    site.world.run(&["apply", "--yes"]).expect(0);
    site.start();
    let Some(sdk) = Sdk::start(&site) else { return };
    let all = |counts: &BTreeMap<String, usize>| counts.len() == count && counts.values().all(|times| *times == 1);
    wait_until("all are connected", || {
        sdk.told.lock().unwrap().iter().filter(|one| one["event"] == "connected").count() == count
    });
    job(&site, "reboot", "1", "{query: '*'}", REBOOT, "");
    assert_eq!(site.wait_run("reboot", "1")["completed"], count);
    assert!(all(&sdk.calls("reboot")));
    let twin = "twin: {tags: {ring: a}, property: {level: 4}}";
    job(&site, "dim", "1", "{query: '*'}", twin, ", delivery: {confirm: acknowledged}");
    assert_eq!(site.wait_run("dim", "1")["completed"], count);
    assert!(all(&sdk.count("patch", "version", &json!(2))));
    // The gateway dies while they work, and comes again.
    job(&site, "slow", "1", "{query: '*'}", "command: {name: slow, responseTimeout: 60s}", "");
    wait_until("half of them are called", || sdk.calls("slow").len() >= count / 2);
    site.kill();
    site.start();
    let record = site.wait_run("slow", "1");
    let rows = site.world.rows("slow", "1");
    assert_eq!(rows.len(), count);
    let known = [Reason::Responded, Reason::OutcomeUnknown];
    assert!(rows.iter().all(|row| known.contains(&row.reason)), "{record} {rows:?}");
    // They find their way back by themselves, within some ten seconds, and each is called once.
    let wait = ", delivery: {offline: wait, expiresAfter: 2m}";
    job(&site, "again", "1", "{query: '*'}", "command: {name: again, responseTimeout: 30s}", wait);
    let record = site.wait_run("again", "1");
    assert_eq!(record["completed"], count, "{record}");
    assert!(all(&sdk.calls("again")));
    let twice: Vec<_> = sdk.calls("slow").into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    assert!(!site.said().contains("SharedAccess"), "{}", site.said());
}

#[test]
fn the_page_of_the_example_works_in_order() {
    let Some(python) = python() else { return };
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/iothub");
    let folder = folder();
    let fleet = folder.path().join("fleet");
    Ran::of(Command::new("cp").arg("-r").arg(&source).arg(&fleet)).expect(0);
    let page = fs::read_to_string(fleet.join("README.md")).unwrap().replace("hub/bin/python", &python);
    let blocks = blocks(&page);
    let ran = |script: &str| Ran::of(&mut shell(script, 1883, &fleet)).expect(0);
    let beside = |script: &str, log: &str| {
        let file = File::create(folder.path().join(log)).unwrap();
        let mut command = shell(script, 1883, &fleet);
        Process::start(command.stdin(Stdio::piped()).stdout(file.try_clone().unwrap()).stderr(file))
    };
    let said = |log: &str| fs::read_to_string(folder.path().join(log)).unwrap();
    assert!(ran(&blocks[0]).stderr.contains("import lamps: 6 imported"));
    ran(&blocks[1]);
    let _gateway = beside(&blocks[2], "gateway.log");
    wait_until("the gateway listens", || said("gateway.log").contains("listening for devices"));
    let _lamps = beside(&blocks[3], "lamps.log");
    wait_until("the lamps are connected", || said("lamps.log").matches("\"connected\"").count() == 6);
    let listed = ran(&blocks[4]).stdout;
    assert!(listed.contains("lamp-0006"), "{listed}");
    wait_until("a lamp is called", || said("gateway.log").contains("completed, 1 completed, 0 failed"));
    ran(&blocks[5]);
    wait_until("the north pier is dimmed", || said("gateway.log").contains("dim-north run 1: completed, 3 completed"));
    let shown = ran(&blocks[6]).stdout;
    for expected in ["acknowledged", "\"light\": \"low\"", "\"level\": 30", "Connected"] {
        assert!(shown.contains(expected), "no {expected} in {shown}");
    }
    assert_eq!(blocks.len(), 7);
}
