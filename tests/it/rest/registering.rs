//! Devices that register themselves, over HTTPS and MQTT: by hand, and with Microsoft's clients as they are installed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fleetform::link::BrokerError;
use fleetform::link::mqtt::ClientOptions;
use fleetform::tls::{TlsFiles, tls_config};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{HOST, Hub, OWNER_KEY, installed, run_within};
use crate::gateway::{Device, Signer, token};
use crate::servers::{Process, wait_until};

/// Each test that needs the ports of the clients has an address of its own.
const PYTHON_HOST: &str = "127.0.83.20";
const NODE_HOST: &str = "127.0.83.21";
const RESPONSES: &str = "$dps/registrations/res/#";
const REGISTER: &str = "$dps/registrations/PUT/iotdps-register/?$rid=";

/// A fleet with a group of keys and one of certificates, and its gateway; with who signs the certificates.
fn hub(host: &'static str) -> (Hub, Signer) {
    let groups = "line: {primary: {env: HUB_OWNER}, tags: {line: '3'}}, signed: {authority: {file: .git/ours/ca.pem}, \
                  tags: {line: '4'}}";
    let of_hub = format!(", provisioning: {{idScope: 0ne1, groups: {{{groups}}}}}");
    let hub = Hub::without_gateway(host, &of_hub, 1);
    let signer = Signer::new(hub.world.file(".git/ours"));
    hub.world.run(&["gateway", "init"]).expect(0);
    (hub, signer)
}

/// Returns the key of a device of the group, in Base64.
fn derived(id: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(OWNER_KEY).unwrap()).unwrap();
    mac.update(id.as_bytes());
    STANDARD.encode(mac.finalize().into_bytes())
}

fn registration_token(key: &str, id: &str) -> String {
    format!("{}&skn=registration", token(key, &format!("0ne1%2Fregistrations%2F{id}"), 600))
}

/// Returns how a device connects to register, with a token or a certificate.
fn options(hub: &Hub, scope: &str, id: &str, key: Option<&str>, shown: Option<&(PathBuf, PathBuf)>) -> ClientOptions {
    let ca = hub.certificate();
    let (client_certificate, client_key) = (shown.map(|one| one.0.as_path()), shown.map(|one| one.1.as_path()));
    ClientOptions {
        host: hub.host.to_string(),
        port: hub.mqtt,
        tls: Some(tls_config(TlsFiles { ca: Some(&ca), client_certificate, client_key }).unwrap()),
        client_id: id.to_string(),
        username: Some(format!("{scope}/registrations/{id}/api-version=2019-03-31&ClientVersion=test")),
        password: key.map(|key| registration_token(key, id).into_bytes()),
        session_seconds: 60,
        is_new_session: true,
        will: None,
        packet_bytes_max: 1 << 20,
        receive_max: 100,
    }
}

/// Says something, and returns the status and the body that come.
fn say(device: &mut Device, topic: &str) -> (String, Value) {
    device.publish(topic, "{}");
    device.message()
}

fn poll(device: &mut Device, operation: &str) -> Value {
    let topic = format!("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=r2&operationId={operation}");
    let (topic, body) = say(device, &topic);
    assert_eq!(topic, "$dps/registrations/res/200/?$rid=r2");
    body
}

/// Begins a registration, and returns its operation.
fn begin(device: &mut Device) -> String {
    let (topic, body) = say(device, &format!("{REGISTER}r1"));
    assert_eq!(
        (topic.as_str(), &body["status"]),
        ("$dps/registrations/res/202/?$rid=r1&retry-after=1", &json!("assigning"))
    );
    body["operationId"].as_str().unwrap().to_string()
}

#[test]
fn a_new_device_registers_with_a_key_of_its_group() {
    let (mut hub, _signer) = hub(HOST);
    hub.start();
    let step = |method: &str, scope: &str, rest: &str, key: &str| {
        let signed = registration_token(key, "Sn-7");
        hub.ask_with(&signed, method, &format!("/{scope}/registrations/Sn-7{rest}"), &json!({"registrationId": "Sn-7"}))
    };
    let own = derived("sn-7");
    // A device that asks without having registered, the key of the group itself, another device's, another scope.
    assert_eq!(step("GET", "0ne1", "/operations/5.1", &own).status, 404);
    for key in [OWNER_KEY, &derived("sn-8")] {
        assert_eq!(step("PUT", "0ne1", "/register", key).expect(401).body["errorCode"], 401_002);
    }
    assert_eq!(step("PUT", "other", "/register", &own).status, 404);
    for _ in 0..2 {
        let begun = step("PUT", "0ne1", "/register", &own).expect(202);
        assert_eq!((&begun.body["status"], begun.headers["retry-after"].as_str()), (&json!("assigning"), "1"));
        let operation = begun.body["operationId"].as_str().unwrap().to_string();
        let done = step("GET", "0ne1", &format!("/operations/{operation}"), &own).expect(200).body;
        let state = &done["registrationState"];
        assert_eq!((&done["status"], &done["operationId"]), (&json!("assigned"), &json!(operation)));
        assert_eq!((&state["deviceId"], &state["assignedHub"]), (&json!("sn-7"), &json!(HOST)));
    }
    let identity = hub.ask("GET", "/devices/sn-7", &Value::Null).expect(200).body;
    assert_eq!(identity["authentication"]["symmetricKey"]["primaryKey"], json!(own));
    let twin = hub.ask("GET", "/twins/sn-7", &Value::Null).expect(200).body;
    assert_eq!(twin["tags"], json!({"line": "3"}));
    // A blocked device has failed, which it is told when it asks again.
    hub.world.run(&["device", "block", "sn-7", "--reason", "lost", "--yes"]).expect(0);
    step("PUT", "0ne1", "/register", &own).expect(202);
    let failed = step("GET", "0ne1", "/operations/5.1", &own).expect(200).body;
    assert_eq!((&failed["status"], &failed["registrationState"]["errorCode"]), (&json!("failed"), &json!(403_001)));
    hub.tells_no_secret(&[own]);
}

#[test]
fn a_registration_over_mqtt_goes_on_after_a_kill() {
    let (mut hub, _signer) = hub(HOST);
    hub.start();
    let own = derived("sn-7");
    let connect = |hub: &Hub| {
        let mut device = Device::connect(&options(hub, "0ne1", "sn-7", Some(&own), None)).unwrap();
        assert!(device.subscribe(&[RESPONSES]));
        device
    };
    let mut device = connect(&hub);
    let operation = begin(&mut device);
    hub.kill();
    device.wait_end();
    hub.start();
    let mut device = connect(&hub);
    let done = poll(&mut device, &operation);
    let state = &done["registrationState"];
    assert_eq!(
        (&done["status"], &state["deviceId"], &state["assignedHub"]),
        (&json!("assigned"), &json!("sn-7"), &json!(HOST))
    );
    let identity = || hub.ask("GET", "/devices/sn-7", &Value::Null).expect(200).body;
    let before = identity();
    assert_eq!(before["authentication"]["symmetricKey"]["primaryKey"], json!(own));
    begin(&mut device);
    assert_eq!(identity()["etag"], before["etag"], "a second registration finds it as it is");
    // It connects as the device that it is now.
    let password = Some(token(&own, &format!("{HOST}%2Fdevices%2Fsn-7"), 60).into_bytes());
    let username = Some(format!("{HOST}/sn-7/?api-version=2021-04-12"));
    let registered = ClientOptions { username, password, ..options(&hub, "0ne1", "sn-7", None, None) };
    drop(Device::connect(&registered).unwrap());
    hub.world.run(&["device", "block", "sn-7", "--yes"]).expect(0);
    let operation = begin(&mut device);
    let failed = poll(&mut device, &operation);
    assert_eq!((&failed["status"], &failed["registrationState"]["errorCode"]), (&json!("failed"), &json!(403_001)));
    hub.tells_no_secret(&[own]);
}

#[test]
fn who_may_not_register_is_not_let_in() {
    let (mut hub, signer) = hub(HOST);
    let foreign = Signer::new(hub.world.file(".git/foreign"));
    hub.start();
    let own = derived("sn-7");
    let right = options(&hub, "0ne1", "sn-7", Some(&own), None);
    let will = Some(("devices/sn-7/messages/events/".to_string(), b"x".to_vec()));
    let (named, other) = (signer.sign("sn-8", |_| {}), foreign.sign("sn-7", |_| {}));
    let cases = [
        options(&hub, "0ne1", "sn-7", Some(&derived("sn-8")), None),
        options(&hub, "0ne1", "sn-7", Some(OWNER_KEY), None),
        options(&hub, "0ne2", "sn-7", Some(&own), None),
        options(&hub, "0ne1", "sn-7", None, None),
        options(&hub, "0ne1", "sn-7", None, Some(&named)),
        options(&hub, "0ne1", "sn-7", None, Some(&other)),
        ClientOptions { client_id: "sn-8".to_string(), ..right.clone() },
        ClientOptions { will, ..right.clone() },
    ];
    for (number, options) in cases.iter().enumerate() {
        let refused = Device::connect(options).map(drop);
        assert!(matches!(refused, Err(BrokerError::Credentials)), "{number}: {refused:?}");
    }
    // What is not of a registration: a device's filters and topics, and those of nobody.
    let mut device = Device::connect(&right).unwrap();
    for filter in ["$iothub/methods/POST/#", "devices/sn-7/messages/devicebound/#"] {
        assert!(!device.subscribe(&[filter]), "{filter}");
    }
    assert!(device.subscribe(&[RESPONSES]));
    device.connection.subscribe(&["#".to_string()]).unwrap();
    device.wait_end();
    for topic in
        ["devices/sn-7/messages/events/", "$iothub/twin/GET/?$rid=1", "$dps/registrations/PUT/iotdps-register/"]
    {
        let mut device = Device::connect(&right).unwrap();
        assert!(device.publish_and_wait(topic, "{}").is_err(), "{topic}");
    }
    assert_eq!(hub.ask("GET", "/devices/sn-7", &Value::Null).status, 404, "nobody has registered it");
    // Two more are wrong, and the address is not listened to.
    for _ in 0..2 {
        assert!(matches!(Device::connect(&cases[0]).map(drop), Err(BrokerError::Credentials)));
    }
    wait_until("the address is not listened to", || Device::connect(&right).is_err());
    hub.tells_no_secret(&[own]);
}

#[test]
fn a_new_device_registers_with_a_certificate_of_its_group() {
    let (mut hub, signer) = hub(HOST);
    hub.start();
    let shown = signer.sign("sn-9", |_| {});
    let mut device = Device::connect(&options(&hub, "0ne1", "sn-9", None, Some(&shown))).unwrap();
    assert!(device.subscribe(&[RESPONSES]));
    let operation = begin(&mut device);
    let state = poll(&mut device, &operation)["registrationState"].clone();
    assert_eq!((&state["deviceId"], &state["status"]), (&json!("sn-9"), &json!("assigned")));
    let identity = hub.ask("GET", "/devices/sn-9", &Value::Null).expect(200).body;
    assert_eq!(identity["authentication"]["type"], "certificateAuthority");
    assert_eq!(hub.ask("GET", "/twins/sn-9", &Value::Null).expect(200).body["tags"], json!({"line": "4"}));
    // It connects with the same certificate.
    let username = Some(format!("{HOST}/sn-9/?api-version=2021-04-12"));
    drop(Device::connect(&ClientOptions { username, ..options(&hub, "0ne1", "sn-9", None, Some(&shown)) }).unwrap());
    // One that is registered by its thumbprint, whose common name is something else, and that nobody has signed.
    let made = rcgen::generate_simple_self_signed(["x".to_string()]).unwrap();
    let files = (hub.world.file(".git/own.pem"), hub.world.file(".git/own.key"));
    fs::write(&files.0, made.cert.pem()).unwrap();
    fs::write(&files.1, made.signing_key.serialize_pem()).unwrap();
    let own = options(&hub, "0ne1", "sn-10", None, Some(&files));
    assert!(matches!(Device::connect(&own).map(drop), Err(BrokerError::Credentials)));
    let print: String = sha1::Digest::finalize(<sha1::Sha1 as sha1::Digest>::new_with_prefix(made.cert.der()))
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let authentication = json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": print}});
    hub.ask("PUT", "/devices/sn-10", &json!({"deviceId": "sn-10", "authentication": authentication})).expect(200);
    let mut device = Device::connect(&own).unwrap();
    let operation = begin(&mut device);
    assert_eq!(poll(&mut device, &operation)["registrationState"]["deviceId"], "sn-10");
    // One with keys of its own registers with them, and not with a certificate.
    let key = STANDARD.encode([9; 32]);
    let keys = json!({"type": "sas", "symmetricKey": {"primaryKey": key, "secondaryKey": key}});
    hub.ask("PUT", "/devices/sn-11", &json!({"deviceId": "sn-11", "authentication": keys})).expect(200);
    let mut device = Device::connect(&options(&hub, "0ne1", "sn-11", Some(&key), None)).unwrap();
    begin(&mut device);
    let own = options(&hub, "0ne1", "sn-11", None, Some(&files));
    assert!(matches!(Device::connect(&own).map(drop), Err(BrokerError::Credentials)));
}

/// Makes what the scripts for the clients read: certificates of three devices, one of them of another authority.
fn certificates(hub: &Hub, signer: &Signer) -> PathBuf {
    let folder = hub.world.file(".git/shown");
    fs::create_dir(&folder).unwrap();
    let foreign = Signer::new(hub.world.file(".git/foreign"));
    for (name, (certificate, key)) in [("x-1", signer.sign("x-1", |_| {})), ("x-2", foreign.sign("x-2", |_| {}))] {
        fs::copy(certificate, folder.join(format!("{name}.pem"))).unwrap();
        fs::copy(key, folder.join(format!("{name}.key"))).unwrap();
    }
    folder
}

/// Registers two devices, blocks one of them, and returns the command with what all scripts take.
fn script(hub: &Hub, program: &str, name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/azure").join(name)).arg(hub.host);
    command.arg(hub.certificate()).arg(folder);
    command.env("GROUP_KEY", OWNER_KEY).env("REQUESTS_CA_BUNDLE", hub.certificate());
    command
}

/// Registers a device, and blocks it.
fn block(hub: &Hub, id: &str) {
    let signed = registration_token(&derived(id), id);
    hub.ask_with(&signed, "PUT", &format!("/0ne1/registrations/{id}/register"), &json!({})).expect(202);
    hub.world.run(&["device", "block", id, "--yes"]).expect(0);
}

fn is_free(host: &str) -> bool {
    let bound = TcpListener::bind((host, 443));
    if let Err(error) = &bound {
        use std::io::Write as _;
        drop(writeln!(std::io::stderr(), "left out: port 443 of {host} cannot be listened on: {error}"));
    }
    bound.is_ok()
}

#[test]
fn the_client_of_python_registers_and_connects() {
    let Some(python) = installed("FLEETFORM_TEST_AZURE_PYTHON") else { return };
    if !is_free(PYTHON_HOST) {
        return;
    }
    let (mut hub, signer) = hub(PYTHON_HOST);
    (hub.mqtt, hub.https) = (8883, 443);
    hub.start();
    block(&hub, "off-1");
    let folder = certificates(&hub, &signer);
    let mut command = script(&hub, &python, "provision.py", &folder);
    run_within("provision.py", &mut command, &hub.world.file(".git/provision.log"));
    // The client has been told that its registration is under way, and is to ask in a second.
    let log = hub.world.file(".git/killed.log");
    let file = fs::File::create(&log).unwrap();
    let mut command = script(&hub, &python, "provision.py", &folder);
    let mut client = Process::start(command.arg("killed").stdout(file.try_clone().unwrap()).stderr(file));
    wait_until("it registers", || hub.said().contains("a new device has registered device=sn-k"));
    hub.kill();
    hub.start();
    wait_until("it is registered and has connected", || client.has_ended());
    let said = fs::read_to_string(&log).unwrap();
    // What the client says of its threads when it ends may come behind it.
    assert!(said.contains("all of it holds\n"), "{said}");
    assert_eq!(hub.said().matches("a new device has registered device=sn-k").count(), 1);
    hub.tells_no_secret(&[derived("sn-1")]);
}

#[test]
fn the_clients_of_node_register_and_connect() {
    let Some(modules) = installed("FLEETFORM_TEST_AZURE_NODE") else { return };
    if !is_free(NODE_HOST) {
        return;
    }
    let (mut hub, signer) = hub(NODE_HOST);
    (hub.mqtt, hub.https) = (8883, 443);
    hub.start();
    block(&hub, "off-1");
    let folder = certificates(&hub, &signer);
    let mut command = script(&hub, "node", "provision.js", &folder);
    command.env("NODE_PATH", format!("{modules}/node_modules")).env("NODE_EXTRA_CA_CERTS", hub.certificate());
    run_within("provision.js", &mut command, &hub.world.file(".git/provision.log"));
    hub.tells_no_secret(&[derived("sn-1")]);
}
