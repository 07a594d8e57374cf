//! The gateway with devices and back ends on TLS, beside a listener that does nothing but the protocol.
//!
//! The devices are one process with a connection each; the bare listener and the gateway have the same devices, the same
//! certificate and the same window. The gateway is the binary, as it is installed.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetform::link::mqtt::{ClientOptions, Connection, Publication, Received, Version};
use fleetform::tls::{TlsFiles, tls_config};
use hmac::{Hmac, KeyInit as _, Mac as _};
use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::{Event, role};
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait as _, Packet, Qos, v3_1_1};
use mqtt_protocol_core::mqtt::result_code::{ConnectReturnCode, SubackReturnCode};
use sha2::Sha256;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::mqtt::{Running, start_broker};
use crate::{Failure, broker, commit, environment, idle, twins};

pub const HOST: &str = "127.0.0.1";
/// Devices that are connected.
const CONNECTED_MAX: u32 = 10_000;
/// How long a gateway has for what follows many connections, before it is said to rest.
const SETTLING: Duration = Duration::from_secs(5);
/// Commands that are under way at once.
pub const WINDOW: usize = 1_000;
/// Devices that connect at the same time.
const CONNECTING: usize = 200;
/// Policies of back ends: each may do so much a second.
const POLICIES: usize = 8;
/// The key of all of them.
const KEY: &str = "YmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggYmVuY2ggMDE=";
/// Direct methods of one connection, one after the other; never more than there are devices. Many connections call five
/// times as many.
const METHODS: usize = 2_000;
const CALLERS: usize = 32;
/// Jobs that are made one after the other, and by many connections at once.
const JOBS: usize = 200;
const MAKERS: usize = 16;

/// Another process of this benchmark, and what it says.
struct Phase {
    process: Running,
    lines: BufReader<ChildStdout>,
}

impl Phase {
    fn start(name: &str, folder: &Path) -> Result<Phase, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["--phase", name, "--folder"]).arg(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running(command.spawn()?);
        let lines = BufReader::new(process.0.stdout.take().ok_or("a pipe")?);
        Ok(Phase { process, lines })
    }

    /// Returns the microseconds behind a word that it says next.
    fn told(&mut self, word: &str) -> Result<Duration, Failure> {
        let mut line = String::new();
        self.lines.read_line(&mut line)?;
        let rest = line.trim().strip_prefix(word).ok_or_else(|| format!("`{word}` was to come, not `{line}`"))?;
        Ok(Duration::from_micros(rest.trim().parse()?))
    }
}

/// Measures and prints the table: at most [`CONNECTED_MAX`] of the devices connect, and queries are about all of them.
pub fn measure(folder: &Path, devices: u32) -> Result<(), Failure> {
    measure_connected(folder, devices.min(CONNECTED_MAX))?;
    twins::measure(&folder.join("twins"), devices)
}

fn measure_connected(folder: &Path, devices: u32) -> Result<(), Failure> {
    make_fleet(folder, devices)?;
    crate::apply_at(&environment(folder))?;
    write_tokens(folder)?;
    println!("{devices} devices on TLS, a window of {WINDOW}\n");
    println!("{:<34} {:>10} {:>10} {:>7} {:>11}", "what", "bare", "gateway", "ratio", "must reach");
    let resting = idle::time_of(devices);

    let through_broker = broker_trips(folder)?;
    let mut bare = Phase::start("bare-hub", folder)?;
    let mut with_bare = Phase::start("hub-devices", folder)?;
    let bare_connects = with_bare.told("connected")?;
    let bare_trips = bare.told("trips")?;
    let bare_one = bare.told("one")?;
    let bare_idle = idle::share_of_core(&bare.process, resting)?;
    drop((bare, with_bare));

    let mut gateway = start_gateway(folder, "100ms")?;
    let before = resident_kib(&gateway)?;
    let mut own = Phase::start("hub-devices", folder)?;
    let connects = own.told("connected")?;
    std::thread::sleep(Duration::from_secs(3));
    let resident = resident_kib(&gateway)?;
    row("connect all, with a login", bare_connects, connects, "2.0");

    let took = run_job(folder, "reboot-all")?;
    row("a method job on all, durable", bare_trips, took, "2.0");
    row("  beside Mosquitto on plain TCP", through_broker, took, "1.5");
    let each = (resident.saturating_sub(before)) as f64 / f64::from(devices);
    println!("{:<34} {:>10} {:>6.1} KiB {:>7} {:>11}", "memory of a connected device", "", each, "", "30 KiB");
    println!("{:<34} {:>10} {:>6} MiB {:>7} {:>11}", "memory in all", "", resident / 1024, "", "350 MiB");

    let trips = one_after_the_other(folder)?;
    let (middle, last) = (trips[trips.len() / 2], trips[trips.len() * 99 / 100]);
    println!(
        "{:<34} {:>7} µs {:>7} µs {:>7} {:>11}",
        "a direct method by REST, p50",
        bare_one.as_micros(),
        middle.as_micros(),
        "",
        "+1 ms"
    );
    println!("{:<34} {:>10} {:>7} µs {:>7} {:>11}", "  p99", "", last.as_micros(), "", "+5 ms");
    let rate = calls_per_second(folder)?;
    println!("{:<34} {:>10} {:>8.0}/s {:>7} {:>11}", format!("  of {CALLERS} connections"), "", rate, "", "2,000/s");
    let (middle, rate) = jobs_per_second(folder)?;
    println!(
        "{:<34} {:>10} {:>7.1} ms {:>7} {:>11}",
        "PUT of a job, committed, p50",
        "",
        middle.as_secs_f64() * 1e3,
        "",
        "20 ms"
    );
    println!("{:<34} {:>10} {:>8.0}/s {:>7} {:>11}", "  one after the other", "", rate, "", "");
    let rate = jobs_together(folder)?;
    println!("{:<34} {:>10} {:>8.0}/s {:>7} {:>11}", format!("  of {MAKERS} connections"), "", rate, "", "100/s");

    gateway.0.kill()?;
    gateway.0.wait()?;
    // At rest it looks for new commits as often as it does by default.
    let gateway = start_gateway(folder, "30s")?;
    let back = own.told("connected")?;
    println!("{:<34} {:>10} {:>8.1} s {:>7} {:>11}", "all back after kill -9", "", back.as_secs_f64(), "", "30 s");
    std::thread::sleep(SETTLING);
    let share = idle::share_of_core(&gateway, resting)?;
    idle::row(bare_idle, share);
    let took = run_job(folder, "reboot-again")?;
    row("a method job on all, once more", bare_trips, took, "2.0");
    row("  beside Mosquitto on plain TCP", through_broker, took, "1.5");
    Ok(())
}

/// Returns how long the same methods take through Mosquitto.
fn broker_trips(folder: &Path) -> Result<Duration, Failure> {
    let port = free_port()?;
    std::fs::write(folder.join("broker"), port.to_string())?;
    let _broker = start_broker(folder, port)?;
    let mut devices = Phase::start("broker-devices", folder)?;
    devices.told("connected")?;
    Phase::start("broker-back-end", folder)?.told("trips")
}

fn row(name: &str, bare: Duration, ours: Duration, must: &str) {
    let ratio = ours.as_secs_f64() / bare.as_secs_f64();
    println!("{name:<34} {:>8.2} s {:>8.2} s {ratio:>7.2} {must:>11}", bare.as_secs_f64(), ours.as_secs_f64());
}

pub fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind((HOST, 0))?.local_addr()?.port())
}

pub fn read(folder: &Path, file: &str) -> Result<String, Failure> {
    Ok(std::fs::read_to_string(folder.join(file))?)
}

/// A fleet with a hub, its certificate and its ports, whose devices are not imported yet.
pub fn make_fleet(folder: &Path, devices: u32) -> Result<(), Failure> {
    crate::make_fleet(folder, devices)?;
    std::fs::write(folder.join("port"), free_port()?.to_string())?;
    std::fs::write(folder.join("https"), free_port()?.to_string())?;
    let own = rcgen::generate_simple_self_signed([HOST.to_string()])?;
    std::fs::write(folder.join("cert.pem"), own.cert.pem())?;
    std::fs::write(folder.join("key.pem"), own.signing_key.serialize_pem())?;
    let fleet = environment(folder).folder;
    let rights = "[registryRead, registryWrite, serviceConnect]";
    let policies = (0..POLICIES).map(|n| format!("p{n}: {{primary: {{env: BENCH_KEY}}, rights: {rights}}}"));
    let policies = policies.collect::<Vec<_>>().join(", ");
    let text = format!(
        "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {{name: fleet}}\nspec:\n  \
         link: {{iotHub: {{hostName: {HOST}, policies: {{{policies}}}}}}}\n  limits: {{inFlight: {WINDOW}}}\n"
    );
    commit(&fleet, "fleetform.yaml", &text, &[])
}

/// Writes a file of the devices with their tokens.
fn write_tokens(folder: &Path) -> Result<(), Failure> {
    let exported = fleetform(folder).args(["device", "export", "-o", "-"]).output()?;
    let mut tokens = String::new();
    for row in String::from_utf8(exported.stdout)?.lines().skip(1) {
        let mut cells = row.split(',');
        let (Some(id), Some(key)) = (cells.next(), cells.nth(1)) else { return Err("a row without a key".into()) };
        tokens.push_str(&format!("{id} {}\n", token(key, &format!("{HOST}%2Fdevices%2F{id}"))?));
    }
    std::fs::write(folder.join("tokens"), tokens)?;
    Ok(())
}

fn fleetform(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetform"));
    command.arg("-C").arg(environment(folder).folder);
    command.env("BENCH_KEY", KEY).env("FLEETFORM_ALLOW_SECRETS", "env:BENCH_KEY");
    command
}

/// Starts the gateway, and returns when it listens.
pub fn start_gateway(folder: &Path, interval: &str) -> Result<Running, Failure> {
    let (mqtt, https) = (read(folder, "port")?, read(folder, "https")?);
    let mut command = fleetform(folder);
    command.args(["gateway", "--mqtt", &format!("{HOST}:{mqtt}"), "--https", &format!("{HOST}:{https}")]);
    command.arg("--certificate").arg(folder.join("cert.pem")).arg("--key").arg(folder.join("key.pem"));
    let log = std::fs::File::create(folder.join("gateway.log"))?;
    let gateway = Running(command.args(["--interval", interval]).stdout(Stdio::null()).stderr(log).spawn()?);
    for port in [mqtt, https] {
        while TcpStream::connect((HOST, port.parse::<u16>()?)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    Ok(gateway)
}

/// Returns the resident memory of a process (`VmRSS`, proc(5)); 0 where there is no /proc.
fn resident_kib(process: &Running) -> Result<u64, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    Ok(line.and_then(|line| line.split_whitespace().nth(1)).map_or(Ok(0), str::parse)?)
}

/// Commits a job of a method on all devices, and returns how long its run took.
fn run_job(folder: &Path, name: &str) -> Result<Duration, Failure> {
    let text = format!(
        "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  target: {{query: '*'}}\n  \
         action: {{command: {{name: reboot, payload: {{delay: 5}}}}}}\n"
    );
    commit(&environment(folder).folder, &format!("{name}.yaml"), &text, &[])?;
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let shown = fleetform(folder).args(["job", "show", name, "--json"]).output()?;
        let Ok(run) = serde_json::from_slice::<serde_json::Value>(&shown.stdout) else { continue };
        let time = |key: &str| run[key].as_str().map(str::parse::<jiff::Timestamp>);
        if let (Some(began), Some(ended)) = (time("started_at"), time("finished_at")) {
            let counts = (&run["completed"], &run["total"]);
            assert!(counts.0 == counts.1, "every device has answered: {run}");
            return Ok(ended?.duration_since(began?).unsigned_abs());
        }
    }
}

/// Returns a token that is good for a day.
fn token(key: &str, resource: &str) -> Result<String, Failure> {
    let expiry = SystemTime::UNIX_EPOCH.elapsed()?.as_secs() + 86_400;
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key)?)?;
    mac.update(format!("{resource}\n{expiry}").as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
    Ok(format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}"))
}

/// What a back end is answered.
pub struct Answered {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl Answered {
    pub fn header(&self, name: &str) -> Option<&str> {
        let of_line = |line: &'_ str| line.split_once(": ").filter(|(one, _)| one.eq_ignore_ascii_case(name)).is_some();
        self.head.lines().find(|line| of_line(line)).and_then(|line| line.split_once(": ")).map(|(_, value)| value)
    }
}

/// A back end with one connection.
pub struct BackEnd {
    stream: rustls::StreamOwned<rustls::ClientConnection, TcpStream>,
    tokens: Vec<String>,
    asked: usize,
}

impl BackEnd {
    pub fn connect(folder: &Path) -> Result<BackEnd, Failure> {
        BackEnd::connect_to(folder, read(folder, "https")?.parse()?)
    }

    /// Connects to another listener that has the certificate of the gateway.
    pub fn connect_to(folder: &Path, port: u16) -> Result<BackEnd, Failure> {
        let ca = folder.join("cert.pem");
        let config = tls_config(TlsFiles { ca: Some(&ca), ..TlsFiles::default() })?;
        let connection = rustls::ClientConnection::new(config, ServerName::try_from(HOST)?)?;
        let stream = TcpStream::connect((HOST, port))?;
        stream.set_nodelay(true)?;
        let tokens = (0..POLICIES).map(|n| Ok(format!("{}&skn=p{n}", token(KEY, HOST)?)));
        let tokens = tokens.collect::<Result<_, Failure>>()?;
        Ok(BackEnd { stream: rustls::StreamOwned::new(connection, stream), tokens, asked: 0 })
    }

    /// Asks as the next policy, and returns the status.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<u16, Failure> {
        Ok(self.answer_to(method, path, "", body)?.status)
    }

    /// Asks as the next policy, with more lines in the head, each with its end.
    pub fn answer_to(&mut self, method: &str, path: &str, more: &str, body: &str) -> Result<Answered, Failure> {
        let token = &self.tokens[self.asked % self.tokens.len()];
        self.asked += 1;
        let head = format!(
            "{method} {path}?api-version=2021-04-12 HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: {token}\r\n{more}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(head.as_bytes())?;
        let (mut heard, mut part) = (Vec::new(), [0; 16 * 1024]);
        let end = loop {
            let read = self.stream.read(&mut part)?;
            heard.extend_from_slice(&part[..read]);
            if let Some(end) = heard.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        let mut body = heard.split_off(end + 4);
        let head = String::from_utf8(heard)?;
        let status = head.split(' ').nth(1).ok_or("a status")?.parse()?;
        let mut answered = Answered { status, head, body: Vec::new() };
        let length = answered.header("content-length").map_or(Ok(0), str::parse::<usize>)?;
        while body.len() < length {
            let read = self.stream.read(&mut part)?;
            body.extend_from_slice(&part[..read]);
        }
        answered.body = body;
        Ok(answered)
    }

    /// Makes a job that begins in a hundred years, and returns how long it took.
    fn make_job(&mut self, id: &str, tag: usize) -> Result<Duration, Failure> {
        let body = format!(
            r#"{{"jobId":"{id}","type":"scheduleUpdateTwin","queryCondition":"deviceId = 'device-0000000'",
                "startTime":"2099-01-01T00:00:00Z","maxExecutionTimeInSeconds":60,
                "updateTwin":{{"tags":{{"n":{tag}}},"etag":"*"}}}}"#
        );
        loop {
            let began = Instant::now();
            match self.ask("PUT", &format!("/jobs/v2/{id}"), &body)? {
                200 => return Ok(began.elapsed()),
                429 => std::thread::sleep(Duration::from_millis(20)),
                status => return Err(format!("a job was answered with {status}").into()),
            }
        }
    }

    fn call(&mut self, device: usize) -> Result<u16, Failure> {
        let body = r#"{"methodName":"ping","responseTimeoutInSeconds":30,"payload":null}"#;
        self.ask("POST", &format!("/twins/device-{device:07}/methods"), body)
    }
}

/// Calls a method of one device after the other, and returns how long each took, sorted.
fn one_after_the_other(folder: &Path) -> Result<Vec<Duration>, Failure> {
    let mut back_end = BackEnd::connect(folder)?;
    let devices = read(folder, "tokens")?.lines().count();
    let mut trips = Vec::new();
    for n in 0..METHODS.min(devices) {
        let began = Instant::now();
        let status = back_end.call(n % devices)?;
        assert_eq!(status, 200, "a method is answered");
        trips.push(began.elapsed());
    }
    trips.sort();
    Ok(trips)
}

/// Calls methods from many connections at once. Returns how many a second were answered.
fn calls_per_second(folder: &Path) -> Result<f64, Failure> {
    let devices = read(folder, "tokens")?.lines().count();
    let began = Instant::now();
    let counts = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS)
            .map(|caller| {
                scope.spawn(move || -> Result<usize, String> {
                    let mut back_end = BackEnd::connect(folder).map_err(|error| error.to_string())?;
                    back_end.asked = caller;
                    let mut answered = 0;
                    for n in 0..(METHODS.min(devices) * 5).div_ceil(CALLERS) {
                        let status =
                            back_end.call((caller + n * CALLERS) % devices).map_err(|error| error.to_string())?;
                        answered += usize::from(status == 200);
                    }
                    Ok(answered)
                })
            })
            .collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap_or(Err("a caller failed".to_string())))
            .collect::<Vec<_>>()
    });
    let mut answered = 0;
    for count in counts {
        answered += count?;
    }
    Ok(answered as f64 / began.elapsed().as_secs_f64())
}

/// Returns how many jobs are made: no more than there are devices.
fn jobs_of(folder: &Path) -> Result<usize, Failure> {
    Ok(read(folder, "tokens")?.lines().count().min(JOBS))
}

/// Makes jobs that begin in a hundred years, one after the other. Returns the middle time of one, and the rate.
fn jobs_per_second(folder: &Path) -> Result<(Duration, f64), Failure> {
    let mut back_end = BackEnd::connect(folder)?;
    let mut trips = Vec::new();
    for n in 0..jobs_of(folder)? {
        trips.push(back_end.make_job(&format!("later-{n}"), n)?);
    }
    let all: Duration = trips.iter().sum();
    let rate = trips.len() as f64 / all.as_secs_f64();
    trips.sort();
    Ok((trips[trips.len() / 2], rate))
}

/// Makes such jobs by many connections at once. Returns how many a second were made.
fn jobs_together(folder: &Path) -> Result<f64, Failure> {
    let each = jobs_of(folder)?.div_ceil(MAKERS);
    let began = Instant::now();
    let made = std::thread::scope(|scope| {
        let make = |maker: usize| -> Result<(), String> {
            let mut back_end = BackEnd::connect(folder).map_err(|error| error.to_string())?;
            back_end.asked = maker;
            for n in 0..each {
                back_end.make_job(&format!("together-{maker}-{n}"), n).map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let makers: Vec<_> = (0..MAKERS).map(|maker| scope.spawn(move || make(maker))).collect();
        makers.into_iter().map(|maker| maker.join().unwrap_or(Err("a maker failed".to_string()))).collect::<Vec<_>>()
    });
    made.into_iter().collect::<Result<(), String>>()?;
    Ok((each * MAKERS) as f64 / began.elapsed().as_secs_f64())
}

/// Where devices connect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// At the gateway or the bare listener, with TLS and the topics of IoT Hub.
    Hub,
    /// At Mosquitto, with plain TCP and topics of their own.
    Broker,
}

impl At {
    /// Returns what a device subscribes to, and what its answers begin with.
    fn topics(self, id: &str) -> (String, String) {
        match self {
            At::Hub => ("$iothub/methods/POST/#".to_string(), "$iothub/methods/res/200/?$rid=".to_string()),
            At::Broker => (broker::asked_at(id, "#"), broker::answered_at(id)),
        }
    }
}

/// All devices, until stdin is closed. Says `connected` and how long it took whenever all of them are connected, and
/// answers their methods. Each sends a PINGREQ whenever it has sent nothing for 30 s.
pub fn devices(folder: &Path, at: At) -> Result<(), Failure> {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let is_hub = at == At::Hub;
    let port: u16 = read(folder, if is_hub { "port" } else { "broker" })?.parse()?;
    let ca = folder.join("cert.pem");
    let tls = tls_config(TlsFiles { ca: Some(&ca), ..TlsFiles::default() })?;
    let tokens = read(folder, "tokens")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        while TcpStream::connect((HOST, port)).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let all = Arc::new(Standing {
            count: tokens.lines().count(),
            connected: AtomicUsize::new(0),
            turns: Semaphore::new(CONNECTING),
            began: std::sync::Mutex::new(Instant::now()),
        });
        let mut devices = tokio::task::JoinSet::new();
        for line in tokens.lines() {
            let Some((id, token)) = line.split_once(' ') else { continue };
            let options = ClientOptions {
                host: HOST.to_string(),
                port,
                tls: is_hub.then(|| Arc::clone(&tls)),
                client_id: id.to_string(),
                username: is_hub.then(|| format!("{HOST}/{id}/?api-version=2021-04-12")),
                password: is_hub.then(|| token.as_bytes().to_vec()),
                session_seconds: if is_hub { 3_600 } else { 0 },
                is_new_session: false,
                will: None,
                packet_bytes_max: 1 << 20,
                receive_max: 4,
            };
            let (all, topics) = (Arc::clone(&all), at.topics(id));
            devices.spawn(async move {
                loop {
                    if all.connect_and_answer(&options, &topics).await.is_err() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            });
        }
        while devices.join_next().await.is_some() {}
        Ok(())
    })
}

/// How many devices are connected.
struct Standing {
    count: usize,
    connected: AtomicUsize,
    turns: Semaphore,
    /// When the first of them began to connect.
    began: std::sync::Mutex<Instant>,
}

impl Standing {
    /// One connection of a device, until it ends.
    async fn connect_and_answer(
        &self,
        options: &ClientOptions,
        (listens, answers): &(String, String),
    ) -> Result<(), Failure> {
        let (mut connection, early) = {
            let _turn = self.turns.acquire().await?;
            let (mut connection, _) = Connection::open(options, Version::V311).await?;
            connection.subscribe(std::slice::from_ref(listens))?;
            loop {
                let mut received: Vec<Received> = connection.received().collect();
                if let Some(at) = received.iter().position(|one| matches!(one, Received::Subscribed { .. })) {
                    break (connection, received.split_off(at + 1));
                }
                connection.turn(true).await?;
            }
        };
        if self.connected.fetch_add(1, Ordering::Relaxed) + 1 == self.count
            && let Ok(began) = self.began.lock()
        {
            println!("connected {}", began.elapsed().as_micros());
        }
        let ended = answer(&mut connection, answers, early).await;
        if self.connected.fetch_sub(1, Ordering::Relaxed) == self.count
            && let Ok(mut began) = self.began.lock()
        {
            *began = Instant::now();
        }
        ended
    }
}

/// Answers the methods of a device.
async fn answer(connection: &mut Connection, answers: &str, early: Vec<Received>) -> Result<(), Failure> {
    let body: Arc<[u8]> = b"{\"done\":true}".as_slice().into();
    let mut received = early;
    loop {
        for received in received {
            let Received::Message { topic, packet_id, .. } = received else { continue };
            packet_id.into_iter().for_each(|packet_id| connection.acknowledge(packet_id));
            let Some((_, rid)) = topic.split_once("$rid=") else { continue };
            let (topic, payload) = (format!("{answers}{rid}"), Arc::clone(&body));
            connection.publish(&Publication { topic, payload, is_retained: false, expires_after: None })?;
        }
        connection.turn(true).await?;
        received = connection.received().collect();
    }
}

/// What a connection of the bare listener tells, by the number of its device.
enum Heard {
    Subscribed(mpsc::UnboundedSender<usize>),
    Answered,
}

/// A listener that lets everybody in, calls a method of each, and keeps nothing. Says `trips` and how long the methods of
/// all devices took, and `one` with the middle time of a method when nothing else happens.
pub fn bare(folder: &Path) -> Result<(), Failure> {
    let port: u16 = read(folder, "port")?.parse()?;
    let count = read(folder, "tokens")?.lines().count();
    let acceptor = tokio_rustls::TlsAcceptor::from(server_config(folder)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((HOST, port)).await?;
        let (tell, mut heard) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, tell) = (acceptor.clone(), tell.clone());
                tokio::spawn(async move {
                    let _ = stream.set_nodelay(true);
                    if let Ok(stream) = acceptor.accept(stream).await {
                        let _ = serve(stream, &tell).await;
                    }
                });
            }
        });
        let mut devices = Vec::new();
        while devices.len() < count {
            if let Some(Heard::Subscribed(device)) = heard.recv().await {
                devices.push(device);
            }
        }
        let began = Instant::now();
        let (mut sent, mut answered) = (0, 0);
        while answered < count {
            while sent < count && sent - answered < WINDOW {
                devices[sent].send(sent)?;
                sent += 1;
            }
            answered += usize::from(matches!(heard.recv().await, Some(Heard::Answered)));
        }
        println!("trips {}", began.elapsed().as_micros());
        let mut trips = Vec::new();
        for n in 0..METHODS.min(count) {
            let began = Instant::now();
            devices[n % count].send(n)?;
            heard.recv().await;
            trips.push(began.elapsed());
        }
        trips.sort();
        println!("one {}", trips[trips.len() / 2].as_micros());
        std::future::pending::<()>().await;
        Ok(())
    })
}

/// Returns what a bare listener encrypts with: the certificate of the gateway.
pub fn server_config(folder: &Path) -> Result<Arc<rustls::ServerConfig>, Failure> {
    let certificates = certificates_of(&read(folder, "cert.pem")?)?;
    let key = rustls::pki_types::pem::PemObject::from_pem_file(folder.join("key.pem"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_no_client_auth().with_single_cert(certificates, key)?))
}

fn certificates_of(text: &str) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, Failure> {
    use rustls::pki_types::pem::PemObject as _;
    Ok(rustls::pki_types::CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>()?)
}

/// One connection of the bare listener.
async fn serve(
    mut stream: tokio_rustls::server::TlsStream<tokio::net::TcpStream>,
    tell: &mpsc::UnboundedSender<Heard>,
) -> Result<(), Failure> {
    let mut core = mqtt::Connection::<role::Server>::new(mqtt::Version::V3_1_1);
    core.set_auto_ping_response(true);
    let (order, mut orders) = mpsc::unbounded_channel::<usize>();
    let mut input = [0; 2048];
    let mut events = VecDeque::new();
    let mut output = Vec::new();
    loop {
        while let Some(event) = events.pop_front() {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    let packet: Packet = packet;
                    output.extend(packet.to_continuous_buffer());
                }
                Event::NotifyPacketReceived(packet) => match packet {
                    Packet::V3_1_1Connect(_) => {
                        let welcome = v3_1_1::Connack::builder().session_present(false);
                        let welcome = welcome.return_code(ConnectReturnCode::Accepted).build()?;
                        events.extend(core.send(welcome.into()));
                    }
                    Packet::V3_1_1Subscribe(asked) => {
                        let granted = v3_1_1::Suback::builder().packet_id(asked.packet_id());
                        let granted = granted.return_codes(vec![SubackReturnCode::SuccessMaximumQos1]).build()?;
                        events.extend(core.send(granted.into()));
                        tell.send(Heard::Subscribed(order.clone()))?;
                    }
                    Packet::V3_1_1Publish(message) => {
                        if let Some(packet_id) = message.packet_id() {
                            let taken = v3_1_1::Puback::builder().packet_id(packet_id).build()?;
                            events.extend(core.send(taken.into()));
                        }
                        tell.send(Heard::Answered)?;
                    }
                    _ => {}
                },
                Event::RequestClose => return Ok(()),
                _ => {}
            }
        }
        if !output.is_empty() {
            stream.write_all(&output).await?;
            stream.flush().await?;
            output.clear();
        }
        tokio::select! {
            read = stream.read(&mut input) => {
                let length = read?;
                if length == 0 {
                    return Ok(());
                }
                let mut cursor = mqtt::common::Cursor::new(&input[..length]);
                while (cursor.position() as usize) < length {
                    events.extend(core.recv(&mut cursor));
                }
            }
            Some(rid) = orders.recv() => {
                let packet = v3_1_1::Publish::builder().topic_name(format!("$iothub/methods/POST/reboot/?$rid={rid}"));
                let packet = packet?.qos(Qos::AtMostOnce).payload(&b"{\"delay\":5}"[..]).build()?;
                events.extend(core.send(packet.into()));
            }
        }
    }
}
