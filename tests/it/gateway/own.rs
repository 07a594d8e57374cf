//! Devices at the gateway that speak fleetform's own topics, as behind a broker: no broker is needed.

use super::*;

const TOPICS: [&str; 4] = ["methods/POST/#", "twin/PATCH/properties/desired/#", "twin/res/#", "messages/devicebound/#"];

/// What a device logs in with whose user name is its id: its key is the password.
fn own(site: &Site, device: &str) -> ClientOptions {
    let password = Some(site.key(device).into_bytes());
    let will = Some((format!("fleetform/{device}/presence"), b"offline".to_vec()));
    ClientOptions { username: Some(device.to_string()), password, will, session_seconds: 0, ..site.options(device) }
}

fn filters(device: &str) -> Vec<String> {
    TOPICS.iter().map(|rest| format!("fleetform/{device}/{rest}")).collect()
}

fn subscribe(device: &mut Device, id: &str) -> bool {
    let filters = filters(id);
    device.subscribe(&filters.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Starts the reference device of `device run`.
fn run_device(site: &Site, id: &str, version: &str) -> Process {
    let key = site.world.file(&format!(".git/{id}.key"));
    fs::write(&key, site.key(id)).unwrap();
    let mut command = fleetform();
    let broker = format!("mqtts://{}:{}", site.host, site.port);
    command.args(["device", "run", "--id", id, "--broker", &broker, "--username", "{id}", "--mqtt", version]);
    command.arg("--password-file").arg(key).arg("--ca").arg(site.certificate());
    command.arg("--journal").arg(site.world.file(&format!(".git/{id}.journal")));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Process::start(&mut command)
}

fn executed(site: &Site, id: &str) -> usize {
    fs::read_to_string(site.world.file(&format!(".git/{id}.journal"))).unwrap_or_default().lines().count()
}

#[test]
fn the_reference_device_needs_no_broker() {
    let mut site = Site::with_back_ends(3);
    let _devices = [run_device(&site, "d-001", "5"), run_device(&site, "d-002", "3.1.1")];
    let mut of_hub = Device::new(&site, "d-003");
    ["d-001", "d-002", "d-003"].iter().for_each(|id| site.wait_state(id, "Connected"));
    job(&site, "reboot", "1", "{query: '*'}", REBOOT, "");
    of_hub.answer(200, "{}");
    assert_eq!(site.wait_run("reboot", "1")["completed"], 3);
    let acknowledged = ", delivery: {confirm: acknowledged}";
    job(&site, "dim", "1", "{devices: [d-001, d-002]}", "property: {level: 4}", acknowledged);
    assert_eq!(site.wait_run("dim", "1")["completed"], 2);
    // A method beside jobs, also with its answer.
    let call = r#"{"methodName": "blink", "responseTimeoutInSeconds": 20, "payload": 1}"#;
    let (status, answer) = site.ask("service", "POST /twins/d-001/methods", &[], call);
    assert_eq!((status, &answer["status"]), (200, &json!(200)), "{answer}");
    // They come again by themselves, and are called again.
    site.kill();
    site.start();
    ["d-001", "d-002"].iter().for_each(|id| site.wait_state(id, "Connected"));
    let waits = ", delivery: {offline: wait, expiresAfter: 10m}";
    job(&site, "again", "1", "{devices: [d-001, d-002]}", REBOOT, waits);
    assert_eq!(site.wait_run("again", "1")["completed"], 2);
    assert_eq!((executed(&site, "d-001"), executed(&site, "d-002")), (3, 2));
}

#[test]
fn both_versions_of_mqtt_have_all_topics() {
    let site = Site::with_back_ends(2);
    for (id, version) in [("d-001", Version::V5), ("d-002", Version::V311)] {
        let mut device = Device::connect_with(&own(&site, id), version).unwrap();
        assert!(!device.was_kept && subscribe(&mut device, id));
        device.publish_and_wait(&format!("fleetform/{id}/presence"), "online").unwrap();
        device.publish(&format!("fleetform/{id}/twin/GET/?$rid=a"), "");
        let (topic, twin) = device.message();
        assert_eq!(topic, format!("fleetform/{id}/twin/res/200/?$rid=a"));
        assert_eq!(twin["reported"]["$version"], 1);
        device.publish(&format!("fleetform/{id}/twin/PATCH/properties/reported/?$rid=b"), r#"{"firmware": "1.0"}"#);
        assert_eq!(device.message().0, format!("fleetform/{id}/twin/res/204/?$rid=b&$version=2"));
        device.publish(&format!("fleetform/{id}/twin/PATCH/properties/reported/?$rid=c"), "[1]");
        assert_eq!(device.message().0, format!("fleetform/{id}/twin/res/400/?$rid=c"));
        // A command has the id by which a device knows one that it has executed.
        job(&site, &format!("reboot-{id}"), "1", &format!("{{devices: [{id}]}}"), REBOOT, "");
        let (topic, payload) = device.message();
        let rest = topic.strip_prefix(&format!("fleetform/{id}/methods/POST/reboot/?$rid=")).unwrap();
        let (rid, xid) = rest.split_once("&$xid=").unwrap();
        assert_eq!((payload, xid.len()), (json!({"delay": 3}), 64));
        device.publish_and_wait(&format!("fleetform/{id}/methods/res/200/?$rid={rid}"), "1").unwrap();
        assert_eq!(site.wait_run(&format!("reboot-{id}"), "1")["completed"], 1);
        // Messages, and telemetry.
        let sent = site.ask("service", &format!("POST /devices/{id}/messages/devicebound"), &[], "open");
        assert_eq!(sent.0, 204);
        match device.next().unwrap() {
            Received::Message { topic, payload, packet_id, .. } => {
                assert!(topic.starts_with(&format!("fleetform/{id}/messages/devicebound/")), "{topic}");
                assert_eq!(payload, b"open");
                device.connection.acknowledge(packet_id.unwrap());
            }
            other => panic!("{other:?}"),
        }
        device.publish_and_wait(&format!("fleetform/{id}/messages/events/a=b"), "{}").unwrap();
        drop(device);
        site.wait_state(id, "Disconnected");
    }
}

/// A device of MQTT 5 that takes one message at a time gets the next one when it has acknowledged the one before.
#[test]
fn a_device_gets_no_more_messages_at_once_than_it_takes() {
    let site = Site::with_back_ends(1);
    for n in 0..5 {
        let sent = site.ask("service", "POST /devices/d-001/messages/devicebound", &[], &n.to_string());
        assert_eq!(sent.0, 204);
    }
    let options = ClientOptions { receive_max: 1, ..own(&site, "d-001") };
    let mut device = Device::connect_with(&options, Version::V5).unwrap();
    assert!(subscribe(&mut device, "d-001"));
    for n in 0..5 {
        match device.next().unwrap() {
            Received::Message { payload, packet_id, .. } => {
                assert_eq!(payload, n.to_string().as_bytes());
                device.connection.acknowledge(packet_id.unwrap());
            }
            other => panic!("{other:?}"),
        }
    }
}

/// MQTT 5, 3.1.2.11.4: what is larger than the device takes is dropped, and counts as sent.
#[test]
fn a_message_that_is_larger_than_the_device_takes_is_dropped() {
    let site = Site::with_back_ends(1);
    let options = ClientOptions { packet_bytes_max: 300, receive_max: 2, ..own(&site, "d-001") };
    let mut device = Device::connect_with(&options, Version::V5).unwrap();
    assert!(subscribe(&mut device, "d-001"));
    let send = |text: &str| {
        let sent = site.ask("service", "POST /devices/d-001/messages/devicebound", &[], text);
        assert_eq!(sent.0, 204, "{sent:?}");
    };
    // More of them than may be under way.
    for n in 0..10 {
        send(&format!("{n}{}", "x".repeat(400)));
    }
    send("small");
    match device.next().unwrap() {
        Received::Message { payload, packet_id, .. } => {
            assert_eq!(payload, b"small");
            device.connection.acknowledge(packet_id.unwrap());
        }
        other => panic!("{other:?}"),
    }
    // So are a twin and a command; the connection goes on.
    let (status, twin) = site.ask(
        "iothubowner",
        "PATCH /twins/d-001",
        &[],
        &json!({"properties": {"desired": {"text": "y".repeat(400)}}}).to_string(),
    );
    assert_eq!(status, 200, "{twin}");
    device.publish("fleetform/d-001/twin/GET/?$rid=a", "");
    let call = json!({"methodName": "blink", "responseTimeoutInSeconds": 5, "payload": "z".repeat(400)}).to_string();
    let (status, answer) = site.ask("service", "POST /twins/d-001/methods", &[], &call);
    assert_eq!(status, 504, "{answer}");
    device.publish("fleetform/d-001/twin/PATCH/properties/reported/?$rid=b", r#"{"firmware": "1.0"}"#);
    assert_eq!(device.message().0, "fleetform/d-001/twin/res/204/?$rid=b&$version=2");
    assert_eq!(site.said().matches("larger than the device takes").count(), 1, "{}", site.said());
    drop(device);
    site.wait_state("d-001", "Disconnected");
    // Nothing of it waits for a device that takes more.
    let mut device = Device::connect_with(&own(&site, "d-001"), Version::V5).unwrap();
    assert!(subscribe(&mut device, "d-001"));
    send("later");
    assert!(matches!(device.next().unwrap(), Received::Message { payload, .. } if payload == b"later"));
}

#[test]
fn who_is_not_the_device_is_not_let_in_by_its_own_topics() {
    let site = Site::new(2);
    let good = own(&site, "d-001");
    let cases = [
        ClientOptions { password: None, ..good.clone() },
        ClientOptions { password: Some(b"secret".to_vec()), ..good.clone() },
        ClientOptions { password: Some(Vec::new()), ..good.clone() },
        ClientOptions { password: own(&site, "d-002").password, ..good.clone() },
        ClientOptions { username: Some("d-002".to_string()), ..good.clone() },
        ClientOptions { client_id: "d-002".to_string(), ..good.clone() },
        ClientOptions { will: Some(("fleetform/d-002/presence".to_string(), b"x".to_vec())), ..good.clone() },
        ClientOptions { will: Some(("devices/d-001/messages/events/".to_string(), b"x".to_vec())), ..good.clone() },
    ];
    for options in cases {
        let refused = Device::connect_with(&options, Version::V5).map(|_| ());
        assert!(matches!(refused, Err(BrokerError::Credentials)), "{:?}: {refused:?}", options.username);
    }
    // A key is none of IoT Hub's passwords, and a token may stand for it.
    let of_hub = ClientOptions { password: good.password.clone(), ..site.options("d-001") };
    assert!(matches!(Device::connect(&of_hub).map(|_| ()), Err(BrokerError::Credentials)));
    let token = ClientOptions { password: site.options("d-001").password, ..good.clone() };
    Device::connect_with(&token, Version::V5).unwrap();
    assert!(!site.said().contains(std::str::from_utf8(good.password.as_ref().unwrap()).unwrap()), "keys are in no log");
}

#[test]
fn a_device_stays_with_its_own_topics() {
    let site = Site::new(2);
    let begin = || {
        let mut device = Device::connect_with(&own(&site, "d-001"), Version::V5).unwrap();
        assert!(subscribe(&mut device, "d-001"));
        device
    };
    for foreign in ["fleetform/d-002/presence", "fleetform/d-001/methods/POST/x/?$rid=1", "$iothub/twin/GET/?$rid=1"] {
        let mut device = begin();
        device.publish(foreign, "{}");
        device.wait_end();
    }
    let mut device = begin();
    for foreign in ["fleetform/d-002/methods/POST/#", "$share/g/fleetform/d-001/methods/POST/#"] {
        assert!(!device.subscribe(&[foreign]));
    }
    device.connection.subscribe(&["fleetform/#".to_string()]).unwrap();
    device.wait_end();
    // Who is blocked, or deleted, is cut off.
    let mut device = begin();
    site.world.run(&["device", "block", "d-001", "--yes"]).expect(0);
    device.wait_end();
    assert!(matches!(
        Device::connect_with(&own(&site, "d-001"), Version::V5).map(|_| ()),
        Err(BrokerError::Credentials)
    ));
}
