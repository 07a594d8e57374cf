//! The REST API of a gateway: Microsoft's clients for back ends as they are installed, and requests by hand, those of
//! `az` among them.

use std::cell::RefCell;
mod kept;
mod paging;
mod registering;
mod standing;
mod torn;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use fleetform::tls::{TlsFiles, tls_config};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};

use crate::gateway::token;
use crate::servers::{Process, bare, free_port, git, hook, wait_until};
use crate::world::{Ran, World, fleetform};

const HOST: &str = "127.0.0.1";
/// Python's client for devices connects to port 8883 and no other, Node's client for back ends to 443: each test has an
/// address of its own.
const PYTHON_HOST: &str = "127.0.83.18";
const NODE_HOST: &str = "127.0.83.19";
/// The version of the API that `az` asks for.
const VERSION: &str = "api-version=2024-03-31";
/// Keys of declared policies, of 32 bytes.
const OWNER_KEY: &str = "b3duZXItb3duZXItb3duZXItb3duZXItb3duZXItMTI=";
const READER_KEY: &str = "cmVhZGVyLXJlYWRlci1yZWFkZXItcmVhZGVyLTEyMzQ=";
const TWIN: &str = "scheduleUpdateTwin";
const METHOD: &str = "scheduleDeviceMethod";

/// A fleet with a hub, and its gateway.
struct Hub {
    world: World,
    host: &'static str,
    mqtt: u16,
    https: u16,
    gateway: Option<Process>,
    /// The bodies of all faults.
    faults: RefCell<String>,
}

/// A test that fails shows what the gateway has said.
impl Drop for Hub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = self.said();
            let warnings = said.lines().filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
            warnings.for_each(|line| drop(writeln!(std::io::stderr(), "{line}")));
        }
    }
}

/// What a request was answered with.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Value,
}

impl Answer {
    /// Fails, showing all, when the status is another.
    #[track_caller]
    fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// Fails when it is no fault that all clients can read, with this name.
    #[track_caller]
    fn expect_fault(self, status: u16, name: &str) -> Answer {
        let answer = self.expect(status);
        assert_eq!(answer.headers["iothub-errorcode"], name, "{answer:#?}");
        assert_eq!(answer.headers["content-type"], "application/json; charset=utf-8");
        let message = answer.body["Message"].as_str().unwrap();
        assert!(message.starts_with(&format!("ErrorCode:{name};")), "{message}");
        assert_eq!(message.matches(';').count(), 1, "clients cut there: {message}");
        assert!(answer.body["ExceptionMessage"].as_str().unwrap().starts_with("Tracking ID:"), "{answer:#?}");
        answer
    }
}

impl Hub {
    /// Starts a hub with IoT Hub's five policies.
    fn new(devices: usize) -> Hub {
        let mut hub = Hub::without_gateway(HOST, "", devices);
        hub.world.run(&["gateway", "init"]).expect(0);
        hub.start();
        hub
    }

    /// Makes a fleet with more members of its hub, in YAML's flow style, and imports its devices.
    fn without_gateway(host: &'static str, of_hub: &str, devices: usize) -> Hub {
        let hub = Hub::unapplied(host, of_hub, "", devices);
        hub.world.run(&["apply", "--yes"]).expect(0);
        hub
    }

    /// Makes a fleet with more members of its hub and of itself.
    fn unapplied(host: &'static str, of_hub: &str, of_fleet: &str, devices: usize) -> Hub {
        let spec = format!("{{link: {{iotHub: {{hostName: {host}{of_hub}}}}}{of_fleet}}}");
        let world = World::with_devices(&spec, devices);
        let own = rcgen::generate_simple_self_signed([host.to_string()]).unwrap();
        let hub = Hub { world, host, mqtt: free_port(), https: free_port(), gateway: None, faults: RefCell::default() };
        fs::write(hub.certificate(), own.cert.pem()).unwrap();
        fs::write(hub.world.file(".git/key.pem"), own.signing_key.serialize_pem()).unwrap();
        hub
    }

    /// Makes a fleet with two declared policies: the first may do all with so many devices, the second may read.
    fn with_declared_policies(of_hub: &str) -> Hub {
        let policies = "policies: {iothubowner: {primary: {env: HUB_OWNER}, maxDevices: 3, rights: [registryRead, \
                        registryWrite, serviceConnect, deviceConnect]}, reader: {primary: {env: HUB_READER}, rights: \
                        [registryRead]}}";
        Hub::without_gateway(HOST, &format!(", {policies}{of_hub}"), 4)
    }

    fn certificate(&self) -> PathBuf {
        self.world.file(".git/cert.pem")
    }

    fn log(&self) -> PathBuf {
        self.world.file(".git/gateway.log")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    fn start(&mut self) {
        let devices = self.said().matches("listening for devices").count();
        self.start_rest();
        wait_until("the gateway listens for devices", || {
            self.said().matches("listening for devices").count() > devices
        });
    }

    /// Starts a gateway that may hold, and listens for back ends alone then.
    fn start_rest(&mut self) {
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let mut command = fleetform();
        command.arg("-C").arg(self.world.path()).arg("gateway");
        command.args(["--mqtt", &format!("{}:{}", self.host, self.mqtt)]);
        command.args(["--https", &format!("{}:{}", self.host, self.https), "--interval", "500ms"]);
        command.arg("--certificate").arg(self.certificate()).arg("--key").arg(self.world.file(".git/key.pem"));
        command.env("HUB_OWNER", OWNER_KEY).env("HUB_READER", READER_KEY);
        command.env("FLEETFORM_ALLOW_SECRETS", "env:HUB_OWNER,env:HUB_READER");
        command.args(["--log-filter", "debug"]).stdout(Stdio::null()).stderr(log);
        let began = self.said().matches("listening for back ends").count();
        self.gateway = Some(Process::start(&mut command));
        wait_until("the gateway listens", || self.said().matches("listening for back ends").count() > began);
    }

    /// Kills it without a word.
    fn kill(&mut self) {
        self.gateway.as_mut().unwrap().kill();
    }

    fn connection_string(&self, policy: &str) -> String {
        let port = self.https.to_string();
        let text = self.world.run(&["gateway", "connection-string", policy, "--port", &port]).expect(0).stdout;
        text.trim().to_string()
    }

    fn key(&self, policy: &str) -> String {
        self.connection_string(policy).split_once("SharedAccessKey=").unwrap().1.to_string()
    }

    /// Returns what a policy of `gateway init` signs a request with.
    fn signed(&self, policy: &str) -> String {
        format!("{}&skn={policy}", token(&self.key(policy), HOST, 600))
    }

    /// Sends a request, and returns what it is answered with.
    fn send(&self, method: &str, path: &str, authorization: Option<&str>, body: &[u8]) -> Answer {
        let answer = send((self.host, self.https), &self.certificate(), (method, path), authorization, body);
        if answer.status >= 400 {
            self.faults.borrow_mut().push_str(&answer.body.to_string());
        }
        answer
    }

    /// Sends a request that a key of a declared or a made policy signs.
    fn ask_with(&self, authorization: &str, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.send(method, &format!("{path}?{VERSION}"), Some(authorization), &body)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask_with(&self.signed("iothubowner"), method, path, body)
    }

    fn put_job(&self, id: &str, body: &Value) -> Answer {
        self.ask("PUT", &format!("/jobs/v2/{id}"), body)
    }

    fn job(&self, id: &str) -> Value {
        loop {
            let answer = self.ask("GET", &format!("/jobs/v2/{id}"), &Value::Null);
            // Who waits for a new lease asks more often than a policy may.
            if answer.status != 429 {
                return answer.expect(200).body;
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    fn wait_job(&self, id: &str, status: &str) -> Value {
        wait_until(&format!("{id} is {status}"), || self.job(id)["status"] == status);
        self.job(id)
    }

    /// Returns the messages of the commits of back ends, the newest first.
    fn commits(&self) -> Vec<String> {
        let repository = self.world.repository();
        let mut walk = repository.revwalk().unwrap();
        walk.push_head().unwrap();
        let found = walk.map(|id| repository.find_commit(id.unwrap()).unwrap());
        let found = found.filter(|commit| commit.author().email() == Ok(&format!("gateway@{}", self.host)));
        found.map(|commit| commit.message().unwrap().to_string()).collect()
    }

    /// Fails when a key or a token is in the log, in an object of git or in a fault.
    fn tells_no_secret(&self, more: &[String]) {
        let exported = self.world.run(&["device", "export", "-o", "-"]).expect(0).stdout;
        let mut secrets: Vec<String> =
            exported.lines().skip(1).flat_map(|line| line.split(',').skip(2).take(2)).map(str::to_string).collect();
        secrets.extend([OWNER_KEY.to_string(), READER_KEY.to_string(), "sig=".to_string()]);
        if self.world.file(".fleetform/gateway.json").exists() {
            let made = fs::read_to_string(self.world.file(".fleetform/gateway.json")).unwrap();
            let made: Value = serde_json::from_str(&made).unwrap();
            let keys = made["policies"].as_object().unwrap().values();
            let keys = keys.flat_map(|one| [one["primary"].clone(), one["secondary"].clone()]);
            secrets.extend(keys.map(|key| key.as_str().unwrap().to_string()));
        }
        secrets.extend_from_slice(more);
        let objects = git()
            .arg("-C")
            .arg(self.world.path())
            .args(["cat-file", "--batch-all-objects", "--batch", "--buffer"])
            .output()
            .unwrap();
        assert!(objects.status.success() && objects.stdout.len() > 1_000);
        let places = [
            ("the log", self.said()),
            ("git", String::from_utf8_lossy(&objects.stdout).into_owned()),
            ("a fault", self.faults.borrow().clone()),
        ];
        for (place, text) in places {
            for secret in secrets.iter().filter(|secret| secret.len() >= 4) {
                assert!(!text.contains(secret.as_str()), "{place} has {}…", &secret[..4]);
            }
        }
    }
}

/// Sends a request to a hub with a certificate, and returns what it is answered with.
fn send(
    place: (&'static str, u16),
    certificate: &Path,
    request: (&str, &str),
    authorization: Option<&str>,
    body: &[u8],
) -> Answer {
    try_send(place, certificate, request, authorization, body).unwrap_or_else(|what| panic!("{what}"))
}

/// As [`send`], of a hub that may not answer; the error says what came.
fn try_send(
    (host, port): (&'static str, u16),
    certificate: &Path,
    (method, path): (&str, &str),
    authorization: Option<&str>,
    body: &[u8],
) -> Result<Answer, String> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n");
    if let Some(authorization) = authorization {
        head.push_str(&format!("Authorization: {authorization}\r\n"));
    }
    head.push_str("Content-Type: application/json; charset=utf-8\r\n");
    head.push_str(&format!("x-ms-client-request-id: r-{method}\r\nContent-Length: {}\r\n\r\n", body.len()));
    let config = tls_config(TlsFiles { ca: Some(certificate), ..TlsFiles::default() }).unwrap();
    let connection = rustls::ClientConnection::new(Arc::clone(&config), ServerName::try_from(host).unwrap());
    let stream = TcpStream::connect((host, port)).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut stream = rustls::StreamOwned::new(connection.unwrap(), stream);
    // The answer to a body that is too large may come before all of it was sent.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut heard = Vec::new();
    let read = stream.read_to_end(&mut heard);
    let text = String::from_utf8(heard).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("{sent:?} {read:?}: {text}"))?;
    let mut lines = head.lines();
    let status: u16 = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_string())).collect();
    Ok(Answer { status, headers, body: serde_json::from_str(body).unwrap_or(Value::Null) })
}

fn twin_job(condition: &str, tags: &Value) -> Value {
    json!({
        "type": TWIN, "queryCondition": condition, "updateTwin": {"etag": "*", "tags": tags}, "startTime": null,
        "maxExecutionTimeInSeconds": "3600",
    })
}

fn method_job(condition: &str, seconds: u64) -> Value {
    json!({
        "type": METHOD, "queryCondition": condition, "startTime": null, "maxExecutionTimeInSeconds": seconds.to_string(),
        "cloudToDeviceMethod": {
            "methodName": "reboot", "payload": null, "responseTimeoutInSeconds": "30", "connectTimeoutInSeconds": "30",
        },
    })
}

/// Runs a program that says on stderr what it found wrong, within a time.
#[track_caller]
fn run_within(what: &str, command: &mut Command, log: &Path) {
    let file = File::create(log).unwrap();
    command.stdin(Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
    let mut process = Process::start(command);
    wait_until(what, || process.has_ended());
    let said = fs::read_to_string(log).unwrap();
    assert!(said.contains("all of it holds\n"), "{what}: {said}");
}

/// Returns what a variable names, where it is set.
fn installed(variable: &str) -> Option<String> {
    let found = std::env::var(variable).ok();
    if found.is_none() {
        drop(writeln!(std::io::stderr(), "left out: {variable} is not set"));
    }
    found
}

#[test]
fn the_client_of_python_finds_a_hub_also_after_a_kill() {
    let Some(python) = installed("FLEETFORM_TEST_AZURE_PYTHON") else { return };
    let mut hub = Hub::without_gateway(PYTHON_HOST, "", 6);
    hub.mqtt = 8883;
    hub.world.run(&["gateway", "init"]).expect(0);
    hub.start();
    let devices = hub.world.folder_file("devices.jsonl");
    hub.world.run(&["device", "export", "--format", "iothub", "-o", &devices]).expect(0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/azure/service.py");
    let run = |hub: &Hub, phase: &str| {
        let mut command = Command::new(&python);
        command.arg(script).arg(phase).arg(hub.certificate()).arg(&devices).arg(hub.world.folder_file("state.json"));
        command.env("HUB", hub.connection_string("iothubowner")).env("REQUESTS_CA_BUNDLE", hub.certificate());
        run_within(&format!("service.py {phase}"), &mut command, &hub.world.file(".git/service.log"));
    };
    run(&hub, "before");
    hub.kill();
    hub.start();
    run(&hub, "after");
    hub.tells_no_secret(&[]);
}

#[test]
fn the_clients_of_node_find_a_hub_at_port_443() {
    let Some(folder) = installed("FLEETFORM_TEST_AZURE_NODE") else { return };
    if let Err(error) = TcpListener::bind((NODE_HOST, 443)) {
        drop(writeln!(std::io::stderr(), "left out: port 443 of {NODE_HOST} cannot be listened on: {error}"));
        return;
    }
    let mut hub = Hub::without_gateway(NODE_HOST, "", 3);
    hub.https = 443;
    hub.world.run(&["gateway", "init"]).expect(0);
    hub.start();
    let devices = hub.world.folder_file("devices.jsonl");
    hub.world.run(&["device", "export", "--format", "iothub", "-o", &devices]).expect(0);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/azure/service.js");
    let mut command = Command::new("node");
    command.arg(script).arg(&devices).env("HUB", hub.connection_string("iothubowner"));
    command.env("NODE_PATH", Path::new(&folder).join("node_modules")).env("NODE_EXTRA_CA_CERTS", hub.certificate());
    run_within("service.js", &mut command, &hub.world.file(".git/service.log"));
    hub.tells_no_secret(&[]);
}

/// What the clients send for the samples of `docs/azure.md`, in its order: `az` with numbers as text, then .NET.
fn samples() -> [(&'static str, Value); 4] {
    let on = |condition: &str, kind: &str, of_kind: Value| {
        let mut body = json!({"type": kind, "queryCondition": condition});
        body.as_object_mut().unwrap().extend(of_kind.as_object().unwrap().clone());
        body
    };
    let (one, dotnet) = ("deviceId = 'myExampleDevice'", "DeviceId IN ['Device-1']");
    let lock = |timeout: Value| json!({"methodName": "LockDoor", "payload": null, "responseTimeoutInSeconds": timeout});
    let began = json!("2026-11-20T10:00:00Z");
    [
        (
            "lock-43",
            on(one, METHOD, json!({"cloudToDeviceMethod": lock(json!("30")), "maxExecutionTimeInSeconds": "3600"})),
        ),
        (
            "building-45",
            on(
                one,
                TWIN,
                json!({
                    "updateTwin": {"etag": "*", "properties": {"desired": {"BuildingNo": 45}}},
                    "maxExecutionTimeInSeconds": "3600",
                }),
            ),
        ),
        (
            "0b7e2f1c-6f5e-4c0f-9a53-0f6f0d1f8a11",
            on(
                dotnet,
                METHOD,
                json!({"cloudToDeviceMethod": lock(json!(5)), "startTime": began, "maxExecutionTimeInSeconds": 120}),
            ),
        ),
        (
            "2d4c6f0e-31a7-4f4e-8c9a-7f3f5f1f2b22",
            on(
                dotnet,
                TWIN,
                json!({
                    "updateTwin": {
                        "deviceId": "Device-1", "etag": "*", "tags": {"Building": "43", "Floor": "3"},
                        "properties": {"desired": {"LocationUpdate": began}, "reported": {}},
                    },
                    "startTime": began,
                    "maxExecutionTimeInSeconds": 120,
                }),
            ),
        ),
    ]
}

#[test]
fn the_samples_of_the_documentation_become_the_documents_that_it_shows() {
    let hub = Hub::new(1);
    for device in ["myExampleDevice", "Device-1"] {
        let identity = json!({"deviceId": device, "authentication": {"type": "sas", "symmetricKey": {}}});
        hub.ask("PUT", &format!("/devices/{device}"), &identity).expect(200);
    }
    let page = include_str!("../../docs/azure.md");
    let section = page.split_once("## The samples of Azure's documentation").unwrap().1;
    let shown: Vec<&str> = section.split("```yaml\n").skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    let mut made = Vec::new();
    for (id, body) in samples() {
        let before = hub.world.head();
        hub.put_job(id, &body).expect(200);
        let repository = hub.world.repository();
        let tree = |rev: &str| repository.revparse_single(rev).unwrap().peel_to_tree().unwrap();
        let diff = repository.diff_tree_to_tree(Some(&tree(&before)), Some(&tree("HEAD")), None).unwrap();
        assert_eq!(diff.deltas().len(), 1, "{id}");
        let blob = repository.find_blob(diff.get_delta(0).unwrap().new_file().id()).unwrap();
        let text = String::from_utf8(blob.content().to_vec()).unwrap();
        let masked = |line: &str| match line.trim_start() {
            rest if rest.starts_with("iothub/created:") => "    iothub/created: \"2026-11-20T10:00:00Z\"".to_string(),
            rest if rest.starts_with("run:") => "  run: 0ffcfe7372af".to_string(),
            _ => line.to_string(),
        };
        made.push(text.lines().map(|line| masked(line) + "\n").collect::<String>());
    }
    assert_eq!(made, shown, "{}", made.join("\n"));
}

#[test]
fn jobs_of_az_are_commits() {
    let hub = Hub::new(2);
    let nothing = Value::Null;
    // `az iot hub job create`: the document is committed when it is answered.
    let mut twin = twin_job("deviceId = 'd-001'", &json!({"ring": "a"}));
    twin["jobId"] = json!("az-twin");
    let made = hub.put_job("az-twin", &twin).expect(200);
    assert_eq!(made.headers["x-ms-request-id"], "r-PUT");
    assert_eq!((&made.body["jobId"], &made.body["type"]), (&json!("az-twin"), &json!(TWIN)));
    let commits = hub.commits();
    let expected = "Hub job az-twin: update twins on deviceId = 'd-001'\n\nFleetform-Hub-Job: \
                    az-twin\nFleetform-Hub-Policy: iothubowner\nFleetform-Hub-Request: r-PUT\n";
    assert_eq!(commits, [expected]);
    // `show`.
    let shown = hub.wait_job("az-twin", "completed");
    assert_eq!(shown["deviceJobStatistics"]["succeededCount"], 1);
    assert_eq!(shown["maxExecutionTimeInSeconds"], 3_600);
    assert_eq!(shown["updateTwin"]["tags"], json!({"ring": "a"}));
    assert_eq!(hub.ask("GET", "/twins/d-001", &nothing).expect(200).body["tags"]["ring"], "a");
    assert_eq!(hub.ask("GET", "/twins/d-002", &nothing).expect(200).body["tags"].get("ring"), None);
    // The same request again is the job that it has made, in one run; another one of that id is refused.
    assert_eq!(hub.put_job("az-twin", &twin).expect(200).body["status"], "completed");
    let other = twin_job("deviceId = 'd-002'", &json!({"ring": "a"}));
    hub.put_job("az-twin", &other).expect_fault(409, "JobAlreadyExists");
    assert_eq!(hub.commits().len(), 1);
    let rows = hub.ask("POST", "/devices/query", &json!({"query": "SELECT * FROM devices.jobs"})).expect(200);
    assert_eq!(rows.headers["x-ms-item-type"], "DeviceJob");
    assert_eq!(rows.body.as_array().unwrap().len(), 1, "{rows:?}");
    assert_eq!(
        hub.world.messages().iter().filter(|one| one.contains("az-twin") && one.contains("completed")).count(),
        1
    );
    // One that `show` does not know is asked for among imports and exports.
    let unknown = hub.job("none");
    assert_eq!((&unknown["type"], &unknown["status"]), (&json!("unknown"), &json!("unknown")));
    hub.ask("GET", "/jobs/none", &nothing).expect_fault(404, "JobNotFound");
    // `list` asks both.
    assert_eq!(hub.ask("GET", "/jobs", &nothing).expect(200).body, json!([]));
    let listed = hub.ask("GET", "/jobs/v2/query", &nothing).expect(200);
    assert_eq!(listed.headers["x-ms-item-type"], "JobResponse");
    assert_eq!(listed.body.as_array().unwrap().iter().map(|one| &one["jobId"]).collect::<Vec<_>>(), ["az-twin"]);
    // `cancel`, while it waits for devices that are not connected; twice is once.
    hub.put_job("az-method", &method_job("*", 3_600)).expect(200);
    hub.wait_job("az-method", "running");
    let canceled =
        hub.send("POST", &format!("/jobs/v2/az-method/cancel?{VERSION}"), Some(&hub.signed("iothubowner")), b"");
    assert_eq!(canceled.expect(200).body["status"], "cancelled");
    assert_eq!(hub.job("az-method")["status"], "cancelled");
    hub.ask("POST", "/jobs/v2/az-method/cancel", &nothing).expect(200);
    hub.ask("POST", "/jobs/v2/none/cancel", &nothing).expect_fault(404, "JobNotFound");
    hub.ask("POST", "/jobs/v2/az-twin/cancel", &nothing).expect_fault(400, "OperationNotAllowedInCurrentState");
    let commits = hub.commits();
    assert_eq!(commits.len(), 3, "{commits:?}");
    let expected = "Hub job az-method: cancel\n\nFleetform-Hub-Job: az-method\nFleetform-Hub-Policy: \
                    iothubowner\nFleetform-Hub-Request: r-POST\n";
    assert_eq!(commits[0], expected);
    wait_until("its devices are canceled", || {
        let query = json!({"query": "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'az-method'"});
        let rows = hub.ask("POST", "/devices/query", &query).expect(200).body;
        let rows = rows.as_array().unwrap();
        rows.len() == 2 && rows.iter().all(|row| row["status"] == "canceled")
    });
    // The work tree has what was committed.
    let status = git().arg("-C").arg(hub.world.path()).args(["status", "--porcelain"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "");
    hub.tells_no_secret(&[]);
}

/// The client of .NET writes seven digits of a second, members that mean nothing here, and the names of its enums.
#[test]
fn jobs_of_dotnet_are_taken() {
    let hub = Hub::new(2);
    let id = "3f2504e0-4f89-11d3-9a0c-0305e82c3301";
    let twin = json!({
        "jobId": id, "type": TWIN, "cloudToDeviceMethod": null, "queryCondition": "DeviceId IN ['d-001']",
        "updateTwin": {
            "deviceId": "d-001", "etag": "*", "version": null, "tags": {"Building": "43", "Floor": "3"},
            "properties": {"desired": {"LocationUpdate": "2026-01-01T00:00:00.1234567Z"}, "reported": {}},
        },
        "startTime": "2026-01-01T00:00:00.1234567Z", "maxExecutionTimeInSeconds": 120,
    });
    hub.put_job(id, &twin).expect(200);
    hub.wait_job(id, "completed");
    let shown = hub.ask("GET", "/twins/d-001", &Value::Null).expect(200);
    assert_eq!(shown.headers["etag"], format!("\"{}\"", shown.body["etag"].as_str().unwrap()));
    assert_eq!(shown.body["tags"]["Building"], "43");
    assert_eq!(shown.body["properties"]["desired"]["LocationUpdate"], "2026-01-01T00:00:00.1234567Z");
    let method = json!({
        "jobId": "lock", "type": METHOD, "queryCondition": "DeviceId IN ['d-001']", "maxExecutionTimeInSeconds": 120,
        "cloudToDeviceMethod": {
            "methodName": "LockDoor", "responseTimeoutInSeconds": 5, "connectTimeoutInSeconds": 5, "payload": null,
        },
    });
    hub.put_job("lock", &method).expect(200);
    hub.wait_job("lock", "running");
    let listed = |filter: &str| {
        let path = format!("/jobs/v2/query?{VERSION}&{filter}");
        let listed = hub.send("GET", &path, Some(&hub.signed("iothubowner")), b"").expect(200).body;
        listed.as_array().unwrap().iter().map(|one| one["jobId"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listed("jobType=ScheduleUpdateTwin&jobStatus=Completed"), [id]);
    assert_eq!(listed("jobType=ScheduleDeviceMethod&jobStatus=Running"), ["lock"]);
    assert_eq!(listed("jobType=Nothing"), [""; 0]);
    assert_eq!(listed(""), ["lock", id]);
    hub.tells_no_secret(&[]);
}

#[test]
fn ids_of_jobs_do_not_collide() {
    let hub = Hub::new(1);
    let long = "x".repeat(64);
    let ids = ["job1", "Job1", "JOB1", "0D9E7F30-6D3A-4C0E-9C1A-3F5D6A1B2C3D", &long, &long[..63]];
    for (n, id) in ids.iter().enumerate() {
        hub.put_job(id, &twin_job("*", &json!({format!("t{n}"): n}))).expect(200);
    }
    for id in ids {
        assert_eq!(hub.wait_job(id, "completed")["jobId"], id);
        let query = json!({"query": format!("SELECT * FROM devices.jobs WHERE jobId = '{id}'")});
        let rows = hub.ask("POST", "/devices/query", &query).expect(200).body;
        assert_eq!((rows.as_array().unwrap().len(), &rows[0]["jobId"]), (1, &json!(id)), "{rows}");
    }
    assert_eq!(hub.commits().len(), ids.len());
    let tags = &hub.ask("GET", "/twins/d-001", &Value::Null).expect(200).body["tags"];
    assert!((0..ids.len()).all(|n| tags[format!("t{n}")] == json!(n)), "{tags}");
    hub.put_job(&"x".repeat(65), &twin_job("*", &json!({"a": 1}))).expect_fault(400, "ArgumentInvalid");
    hub.put_job("a%2Fb", &twin_job("*", &json!({"a": 1}))).expect_fault(400, "ArgumentInvalid");
}

#[test]
fn who_does_not_prove_who_it_is_learns_nothing() {
    let hub = Hub::new(1);
    let path = format!("/devices/d-001?{VERSION}");
    let owner = hub.key("iothubowner");
    let exported = hub.world.run(&["device", "export", "-o", "-"]).expect(0).stdout;
    let device = exported.lines().nth(1).unwrap().split(',').nth(2).unwrap().to_string();
    let wrong = [
        format!("{}&skn=iothubowner", token(READER_KEY, HOST, 600)),
        format!("{}&skn=iothubowner", token(&hub.key("registryRead"), HOST, 600)),
        format!("{}&skn=iothubowner", token(&owner, HOST, -1)),
        format!("{}&skn=iothubowner", token(&owner, "127.0.0.2", 600)),
        format!("{}&skn=nobody", token(&owner, HOST, 600)),
        format!("{}&skn=iothubowner", token(&owner, "127.0.0.1%2Fdevices%2Fd-00", 600)),
        token(&device, "127.0.0.1%2Fdevices%2Fd-001", 600),
        token(&owner, HOST, 600),
        "SharedAccessSignature".to_string(),
        "Basic YTpi".to_string(),
    ];
    let mut messages: Vec<String> = Vec::new();
    for authorization in &wrong {
        let refused = hub.send("GET", &path, Some(authorization), b"").expect_fault(401, "IotHubUnauthorizedAccess");
        assert_eq!(refused.headers["www-authenticate"], "SharedAccessSignature");
        messages.push(refused.body["Message"].as_str().unwrap().to_string());
    }
    messages.dedup();
    assert_eq!(messages.len(), 1, "what is wrong is told: {messages:?}");
    let bearer = hub.send("GET", &path, Some("Bearer eyJhbGciOiJub25lIn0.e30."), b"");
    let bearer = bearer.expect_fault(401, "IotHubUnauthorizedAccess");
    assert!(bearer.body["Message"].as_str().unwrap().contains("Entra"));
    hub.send("GET", &path, None, b"").expect_fault(401, "IotHubUnauthorizedAccess");
    // A policy without the right is told which.
    for (policy, method, path, right) in [
        ("service", "GET", "/devices/d-001", "registryRead"),
        ("device", "GET", "/twins/d-001", "registryRead"),
        ("registryRead", "DELETE", "/devices/d-001", "registryWrite"),
        ("registryReadWrite", "POST", "/twins/d-001/methods", "serviceConnect"),
    ] {
        let body = if method == "POST" { json!({"methodName": "a"}) } else { Value::Null };
        let refused = hub.ask_with(&hub.signed(policy), method, path, &body);
        let refused = refused.expect_fault(401, "IotHubUnauthorizedAccess");
        assert!(refused.body["Message"].as_str().unwrap().contains(right), "{refused:?}");
    }
    let method = method_job("*", 60);
    let refused = hub.ask_with(&hub.signed("registryReadWrite"), "PUT", "/jobs/v2/m1", &method);
    refused.expect_fault(401, "IotHubUnauthorizedAccess");
    // Keys are shown to who may write them.
    let shown = |policy: &str| {
        let shown = hub.ask_with(&hub.signed(policy), "GET", "/devices/d-001", &Value::Null).expect(200).body;
        shown["authentication"]["symmetricKey"]["primaryKey"].clone()
    };
    assert_eq!(shown("registryReadWrite"), json!(device));
    assert_eq!(shown("registryRead"), Value::Null);
    // The scope of a token may be the beginning of a path, with the port or without.
    let scoped = |resource: &str| format!("{}&skn=iothubowner", token(&owner, resource, 600));
    let with_port = format!("127.0.0.1%3A{}", hub.https);
    for resource in [&with_port, "127.0.0.1%2Fdevices", "127.0.0.1%2Fdevices%2Fd-001"] {
        hub.send("GET", &path, Some(&scoped(resource)), b"").expect(200);
    }
    hub.send("GET", &path, Some(&scoped("127.0.0.1%2Ftwins")), b"").expect_fault(401, "IotHubUnauthorizedAccess");
    assert_eq!(hub.commits(), [""; 0]);
    hub.tells_no_secret(&["eyJhbGciOiJub25lIn0".to_string()]);
}

#[test]
fn what_there_is_not_is_refused_with_what_there_is() {
    let hub = Hub::new(1);
    for (method, path) in [
        ("GET", "/devices/d-001/modules"),
        ("PUT", "/devices/d-001/modules/m"),
        ("GET", "/twins/d-001/modules/m"),
        ("POST", "/twins/d-001/modules/m/methods"),
        ("PUT", "/configurations/c1"),
        ("DELETE", "/configurations/c1"),
        ("POST", "/configurations/testQueries"),
        ("POST", "/devices/d-001/applyConfigurationContent"),
        ("GET", "/digitaltwins/d-001"),
        ("POST", "/digitaltwins/d-001/commands/reboot"),
        ("POST", "/jobs/create"),
        ("POST", "/devices/d-001/files"),
        ("POST", "/devices/d-001/files/notifications"),
        ("POST", "/devices/d-001/messages/events"),
    ] {
        let body = if method == "GET" { Value::Null } else { json!({}) };
        hub.ask(method, path, &body).expect_fault(501, "InvalidOperation");
    }
    let query = |text: &str| hub.ask("POST", "/devices/query", &json!({"query": text}));
    query("SELECT * FROM devices.modules").expect_fault(501, "InvalidOperation");
    // Clients ask for these without being asked.
    for path in ["/configurations", "/configurations/", "/jobs"] {
        assert_eq!(hub.ask("GET", path, &Value::Null).expect(200).body, json!([]), "{path}");
    }
    hub.ask("GET", "/messages/serviceBound/feedback", &Value::Null).expect(204);
    // Versions.
    let owner = hub.signed("iothubowner");
    for version in ["", "?api-version=", "?api-version=2021", "?api-version=latest"] {
        let refused = hub.send("GET", &format!("/devices/d-001{version}"), Some(&owner), b"");
        refused.expect_fault(400, "InvalidProtocolVersion");
    }
    for version in ["2019-10-01", "2021-04-12", "2021-11-30-preview"] {
        let path = format!("/devices/d-001?api-version={version}");
        hub.send("GET", &path, Some(&owner), b"").expect(200);
    }
    // Bodies.
    let jobs = format!("/jobs/v2/job1?{VERSION}");
    for body in [&b"{\"type\": "[..], b"\xff\xfe", b"[]", b"3", b""] {
        hub.send("PUT", &jobs, Some(&owner), body).expect_fault(400, "ArgumentInvalid");
    }
    let large = vec![b' '; 3 << 20];
    for (method, path) in [("PUT", jobs.as_str()), ("POST", &format!("/devices?{VERSION}"))] {
        hub.send(method, path, Some(&owner), &large).expect_fault(413, "MessageTooLarge");
    }
    // Jobs that can be none say so before anything is written.
    for condition in ["tags.a = ", "SELECT * FROM devices", "FROM devices.modules WHERE moduleId = 'a'", ""] {
        hub.put_job("job1", &twin_job(condition, &json!({"a": 1}))).expect_fault(400, "ArgumentInvalid");
    }
    hub.put_job("job1", &twin_job("*", &json!({"a.b": 1}))).expect_fault(400, "ArgumentInvalid");
    let mut stale = twin_job("*", &json!({"a": 1}));
    stale["updateTwin"]["etag"] = json!("AAAAAAAAAAE=");
    hub.put_job("job1", &stale).expect_fault(412, "PreconditionFailed");
    let refused = query("SELECT * FROM devices WHERE tags.a = ").expect_fault(400, "ArgumentInvalid");
    assert!(refused.body["Message"].as_str().unwrap().contains("at character"), "{refused:?}");
    hub.ask("GET", "/devices/none", &Value::Null).expect_fault(404, "DeviceNotFound");
    hub.ask("GET", "/nothing", &Value::Null).expect(404);
    assert_eq!(hub.job("job1")["status"], "unknown");
    assert_eq!(hub.commits(), [""; 0]);
    hub.tells_no_secret(&[]);
}

#[test]
fn a_remote_that_refuses_gets_no_job_and_nothing_is_kept() {
    let mut hub = Hub::unapplied(HOST, "", ", results: {remote: origin}", 1);
    let origin = bare(hub.world.path(), ".git/origin.git");
    let run = |arguments: &[&str]| {
        let mut command = git();
        Ran::of(command.arg("-C").arg(hub.world.path()).args(arguments)).expect(0);
    };
    run(&["remote", "add", "origin", origin.to_str().unwrap()]);
    run(&["push", "origin", "main"]);
    hub.world.run(&["apply", "--yes"]).expect(0);
    hub.world.run(&["gateway", "init"]).expect(0);
    hub.start();
    let there = |origin: &Path| {
        let repository = git2::Repository::open(origin).unwrap();
        repository.find_reference("refs/heads/main").unwrap().target().unwrap().to_string()
    };
    // The jobs are where the remote is.
    hub.put_job("job1", &twin_job("*", &json!({"a": 1}))).expect(200);
    assert_eq!((hub.commits().len(), hub.world.head()), (1, there(&origin)));
    hub.wait_job("job1", "completed");
    hook(&origin, "pre-receive", "while read old new name; do [ $name != refs/heads/main ] || exit 1; done");
    let head = hub.world.head();
    let refused = hub.put_job("job2", &twin_job("*", &json!({"a": 2})));
    refused.expect_fault(503, "ServiceUnavailable");
    assert_eq!((hub.world.head(), there(&origin)), (head.clone(), head));
    assert_eq!(hub.job("job2")["status"], "unknown");
    let status = git().arg("-C").arg(hub.world.path()).args(["status", "--porcelain"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&status.stdout), "");
    // It takes commits again.
    fs::remove_file(origin.join("hooks/pre-receive")).unwrap();
    hub.put_job("job2", &twin_job("*", &json!({"a": 2}))).expect(200);
    hub.wait_job("job2", "completed");
    assert_eq!(hub.world.head(), there(&origin));
    hub.tells_no_secret(&[]);
}

#[test]
fn a_fleet_says_what_back_ends_may_not() {
    let mut hub = Hub::with_declared_policies(", direct: refuse");
    hub.world.declare("guard.yaml", "Policy", "guard", "{limits: {devicesPerJob: 2}}");
    hub.world.commit("guard");
    hub.start();
    let owner = format!("{}&skn=iothubowner", token(OWNER_KEY, HOST, 600));
    let put = |id: &str, condition: &str, tags: &Value| {
        hub.ask_with(&owner, "PUT", &format!("/jobs/v2/{id}"), &twin_job(condition, tags))
    };
    let message = |answer: Answer| answer.body["Message"].as_str().unwrap().to_string();
    // Twins and methods go by jobs only.
    let refused = hub.ask_with(&owner, "PATCH", "/twins/d-001", &json!({"tags": {"a": 1}}));
    assert!(message(refused.expect_fault(403, "InvalidOperation")).contains("direct: refuse"));
    let refused = hub.ask_with(&owner, "POST", "/twins/d-001/methods", &json!({"methodName": "a"}));
    refused.expect_fault(403, "InvalidOperation");
    // More devices than the policy of the back end may have, then than the rules of the fleet.
    let refused = put("many", "*", &json!({"a": 1})).expect_fault(403, "InvalidOperation");
    assert!(message(refused).contains("at most 3"));
    let three = "deviceId IN ['d-001', 'd-002', 'd-003']";
    let refused = put("three", three, &json!({"a": 1})).expect_fault(403, "InvalidOperation");
    let said = message(refused);
    assert!(said.contains("guard"), "{said}");
    let reader = format!("{}&skn=reader", token(READER_KEY, HOST, 600));
    hub.ask_with(&reader, "PUT", "/jobs/v2/r1", &twin_job("*", &json!({"a": 1})))
        .expect_fault(401, "IotHubUnauthorizedAccess");
    assert_eq!(hub.commits(), [""; 0]);
    // Nor are they sent what the operator lets the fleet read.
    let secret = json!({"a": [{"$secret": {"env": "HUB_READER"}}]});
    let mut method = method_job("deviceId = 'd-001'", 60);
    method["cloudToDeviceMethod"]["payload"] = secret.clone();
    let mut twin = twin_job("deviceId = 'd-001'", &json!({"a": 1}));
    twin["updateTwin"]["properties"] = json!({"desired": secret});
    for body in [method, twin] {
        let refused = hub.ask_with(&owner, "PUT", "/jobs/v2/secret", &body).expect_fault(400, "ArgumentInvalid");
        assert!(message(refused).contains("refers to a secret"));
    }
    assert_eq!(hub.commits(), [""; 0]);
    put("two", "deviceId IN ['d-001', 'd-002']", &json!({"a": 1})).expect(200);
    assert_eq!(hub.commits().len(), 1);
    hub.tells_no_secret(&[]);
}

#[test]
fn a_job_against_one_that_goes_on_is_to_come_later() {
    let hub = Hub::new(2);
    let spec = "{target: {query: '*'}, action: {property: {level: 1}}, delivery: {confirm: acknowledged, offline: wait, expiresAfter: 1h}}";
    hub.world.job("first", spec);
    hub.wait_job("first", "running");
    let body = json!({
        "type": TWIN, "queryCondition": "deviceId = 'd-001'", "updateTwin": {"properties": {"desired": {"level": 2}}},
    });
    let refused = hub.put_job("second", &body).expect_fault(429, "ThrottlingMaxActiveJobCountExceeded");
    assert_eq!(refused.headers["retry-after"], "10");
    assert!(refused.body["Message"].as_str().unwrap().contains("first"), "{refused:?}");
    assert_eq!(hub.commits(), [""; 0]);
    // Jobs that people have made are there for back ends, and can be canceled.
    let listed = hub.ask("GET", "/jobs/v2/query", &Value::Null).expect(200).body;
    assert_eq!(listed[0]["jobId"], "first");
    hub.put_job("first", &body).expect_fault(409, "JobAlreadyExists");
    let canceled = hub.ask("POST", "/jobs/v2/first/cancel", &Value::Null).expect(200).body;
    assert_eq!(canceled["status"], "cancelled");
    wait_until("the other one may come", || hub.put_job("second", &body).status == 200);
    assert_eq!(hub.wait_job("second", "completed")["deviceJobStatistics"]["succeededCount"], 1);
}
