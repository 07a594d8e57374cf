//! What devices answer, and what comes of it.

use fleetform::link::mqtt::Version;
use fleetform::link::protocol::Told;
use fleetform::model::device::ConnectionState;
use fleetform::model::outcome::Reason;
use serde_json::json;

use super::{Gadget, Running, apply, dim, expected, obey, reasons, reboot, world};
use crate::broker::Broker;

#[test]
fn commands_and_properties_reach_devices_and_their_answers_the_results() {
    let broker = Broker::start();
    let world = world(&broker, 3);
    let gadgets: Vec<Running> = ["d-001", "d-002"].iter().map(|id| Gadget::obedient(broker.port, id)).collect();
    world.job("reboot", &reboot("responseTimeout: 5s", ""));
    apply(&world, &[]).expect(0);
    let rows = [("d-001", Reason::Responded), ("d-002", Reason::Responded), ("d-003", Reason::Offline)];
    assert_eq!(reasons(&world, "reboot"), expected(rows));
    let row = &world.rows("reboot", "1")[0];
    assert_eq!((row.code, row.message.as_str()), (Some(200), "{\"in\":5}"));
    assert_eq!(gadgets[0].gadget.executions().len(), 1);
    assert_eq!(world.device("d-001").connection_state, ConnectionState::Connected);
    assert_eq!(world.device("d-003").connection_state, ConnectionState::Disconnected);

    let of_two = dim(3, "confirm: acknowledged, expiresAfter: 20s").replace("query: '*'", "devices: [d-001, d-002]");
    world.job("dim", &of_two);
    apply(&world, &[]).expect(0);
    assert!(reasons(&world, "dim").values().all(|reason| *reason == Reason::Acknowledged));
    let device = world.device("d-001");
    assert_eq!(device.reported["level"], json!({"value": 3, "ac": 200, "av": 2, "ad": "done"}));
}

#[test]
fn devices_of_mqtt_3_1_1_are_devices_too() {
    let broker = Broker::start();
    let world = world(&broker, 1);
    let gadget = Gadget::start(broker.port, "d-001", Version::V311, Box::new(obey));
    world.job("reboot", &reboot("responseTimeout: 5s", ""));
    world.job("dim", &dim(3, "confirm: acknowledged, expiresAfter: 20s"));
    apply(&world, &[]).expect(0);
    assert_eq!(reasons(&world, "reboot"), expected([("d-001", Reason::Responded)]));
    assert_eq!(reasons(&world, "dim"), expected([("d-001", Reason::Acknowledged)]));
    assert_eq!(gadget.gadget.executions().len(), 1);
}

#[test]
fn a_property_that_is_only_written_is_told_to_devices_that_are_there() {
    let broker = Broker::start();
    let world = world(&broker, 2);
    let gadget = Gadget::start(broker.port, "d-001", Version::V5, Box::new(|_, _| Vec::new()));
    world.job("dim", &dim(3, ""));
    apply(&world, &[]).expect(0);
    assert_eq!(reasons(&world, "dim"), expected([("d-001", Reason::Written), ("d-002", Reason::Written)]));
    crate::servers::wait_until("the device has the patch", || {
        let is_it = |(told, payload): &(Told, Vec<u8>)| {
            *told == (Told::Desired { version: 2 }) && payload == br#"{"$version":2,"level":3}"#
        };
        gadget.gadget.heard().iter().any(is_it)
    });
}

#[test]
fn a_device_says_no_and_says_what_it_likes() {
    let broker = Broker::start();
    let world = world(&broker, 5);
    let say = |status: u16, body: Vec<u8>| {
        Box::new(move |gadget: &Gadget, (told, _): &(Told, Vec<u8>)| match told {
            Told::Method { rid, .. } => vec![(gadget.topics.answer(&gadget.id, status, rid), body.clone())],
            _ => Vec::new(),
        })
    };
    let _gadgets = [
        Gadget::start(broker.port, "d-001", Version::V5, say(503, b"\"no\"".to_vec())),
        Gadget::start(broker.port, "d-002", Version::V5, say(200, b"\x1b[31m=1+1\xff\n".to_vec())),
        Gadget::start(broker.port, "d-003", Version::V5, say(200, vec![b'x'; 1 << 20])),
        Gadget::start(broker.port, "d-004", Version::V311, say(200, Vec::new())),
        Gadget::start(broker.port, "d-005", Version::V5, say(99, Vec::new())),
    ];
    world.job("reboot", &reboot("responseTimeout: 3s", ""));
    apply(&world, &[]).expect(0);
    let rows = world.rows("reboot", "1");
    let told: Vec<(Reason, Option<u16>)> = rows.iter().map(|row| (row.reason, row.code)).collect();
    let expected = [
        (Reason::Rejected, Some(503)),
        (Reason::Responded, Some(200)),
        (Reason::Responded, Some(200)),
        (Reason::Responded, Some(200)),
        // A status of two digits is none.
        (Reason::Timeout, None),
    ];
    assert_eq!(told, expected);
    assert_eq!(rows[0].message, "\"no\"");
    assert!(!rows[1].message.contains('\x1b') && rows[1].message.contains("=1+1"), "{:?}", rows[1].message);
    assert!(rows[2].message.starts_with("xxx") && rows[2].message.len() < 2_000, "{}", rows[2].message.len());
}

#[test]
fn answers_that_nobody_asked_for_change_nothing() {
    let broker = Broker::start();
    let world = world(&broker, 2);
    // Answers for the other device, to a request that was never made, in vain, and then its own, three times.
    let first = Gadget::start(
        broker.port,
        "d-001",
        Version::V5,
        Box::new(|gadget, (told, _)| match told {
            Told::Method { rid, .. } => {
                let answer = |device: &str, rid: &str, body: &str| {
                    (gadget.topics.answer(device, 200, rid), body.as_bytes().to_vec())
                };
                let other = rid.replacen("-0-", "-1-", 1);
                let unknown = rid.replacen('-', "9-", 1);
                let mut all = vec![
                    answer(&gadget.id, &other, "forged"),
                    answer("d-002", rid, "in another's name"),
                    answer(&gadget.id, &unknown, "unknown"),
                    ("fleetform/d-001/methods/res/200/?$rid=".to_string(), b"empty".to_vec()),
                    ("fleetform/d-001/no/such/topic".to_string(), b"lost".to_vec()),
                    ("fleetform/nobody/presence".to_string(), b"perhaps".to_vec()),
                ];
                all.extend(std::iter::repeat_n(answer(&gadget.id, rid, "own"), 3));
                all
            }
            _ => Vec::new(),
        }),
    );
    let second = Gadget::start(broker.port, "d-002", Version::V5, Box::new(|_, _| Vec::new()));
    world.job("reboot", &reboot("responseTimeout: 2s", ""));
    apply(&world, &[]).expect(0);
    let rows = world.rows("reboot", "1");
    assert_eq!((rows[0].reason, rows[0].message.as_str()), (Reason::Responded, "own"));
    assert_eq!(rows[1].reason, Reason::Timeout);
    assert_eq!((first.gadget.executions().len(), second.gadget.executions().len()), (1, 1));
    let late = world.record("reboot", "1")["late"].as_u64().unwrap_or_default();
    assert_eq!(late, 0, "an answer that comes again is not a late one");
}

#[test]
fn an_answer_to_an_earlier_attempt_counts() {
    let broker = Broker::start();
    let world = world(&broker, 1);
    // Silent at first; at the second attempt it answers the first request, as a device does that was slow.
    let gadget = Gadget::start(
        broker.port,
        "d-001",
        Version::V5,
        Box::new(|gadget, (told, _)| {
            let Told::Method { rid, .. } = told else { return Vec::new() };
            let earlier = gadget.heard().into_iter().find_map(|(told, _)| match told {
                Told::Method { rid, .. } => Some(rid),
                _ => None,
            });
            assert_ne!(earlier.as_ref(), Some(rid));
            earlier.map(|rid| (gadget.topics.answer(&gadget.id, 200, &rid), b"slow".to_vec())).into_iter().collect()
        }),
    );
    let retry = "retry: {attempts: 2, backoff: 100ms}";
    world.job("reboot", &reboot("idempotent: true, responseTimeout: 1s", retry));
    apply(&world, &[]).expect(0);
    let rows = world.rows("reboot", "1");
    assert_eq!((rows[0].reason, rows[0].message.as_str(), rows[0].attempts), (Reason::Responded, "slow", 2));
    let executions = gadget.gadget.executions();
    assert_eq!((executions.len(), &executions[0]), (2, &executions[1]), "the execution id is the same");
}

#[test]
fn a_device_that_comes_online_gets_what_waits_for_it() {
    let broker = Broker::start();
    let world = world(&broker, 2);
    world.job("reboot", &reboot("responseTimeout: 5s", "offline: wait, expiresAfter: 3s"));
    world.job("dim", &dim(4, "confirm: acknowledged, expiresAfter: 3s"));
    let port = broker.port;
    let arrives = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(1_500));
        Gadget::obedient(port, "d-001")
    });
    apply(&world, &["--wait"]).expect(0);
    assert_eq!(reasons(&world, "reboot"), expected([("d-001", Reason::Responded), ("d-002", Reason::Expired)]));
    assert_eq!(reasons(&world, "dim"), expected([("d-001", Reason::Acknowledged), ("d-002", Reason::Expired)]));
    assert_eq!(arrives.join().unwrap().gadget.executions().len(), 1);
}

#[test]
fn a_device_of_any_legal_id_is_reached() {
    let broker = Broker::start();
    let world = crate::world::World::new(&broker.link());
    let ids = ["a+b", "50%", "x#y", "c:d@e", "what?"];
    let rows: Vec<String> = ids.iter().map(|id| json!({"id": id}).to_string()).collect();
    world.write("devices.txt", rows.join("\n"));
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.txt}");
    world.commit("devices");
    let _gadgets: Vec<Running> = ids.iter().map(|id| Gadget::obedient(broker.port, id)).collect();
    world.job("reboot", &reboot("responseTimeout: 5s", ""));
    apply(&world, &[]).expect(0);
    assert_eq!(reasons(&world, "reboot"), expected(ids.map(|id| (id, Reason::Responded))));
}

#[test]
fn several_connections_share_the_work() {
    let broker = Broker::start();
    for connections in [2, 6] {
        let link = broker.link().replace("}}}", &format!(", connections: {connections}}}}}}}"));
        let world = crate::world::World::with_devices(&link, 20);
        let ids: Vec<String> = (1..=20).map(|n| format!("d-{n:03}")).collect();
        let gadgets: Vec<Running> = ids.iter().map(|id| Gadget::obedient(broker.port, id)).collect();
        world.job("reboot", &reboot("responseTimeout: 5s", ""));
        world.job("dim", &dim(3, "confirm: acknowledged, expiresAfter: 20s"));
        apply(&world, &[]).expect(0);
        assert!(reasons(&world, "reboot").values().all(|reason| *reason == Reason::Responded));
        assert!(reasons(&world, "dim").values().all(|reason| *reason == Reason::Acknowledged));
        assert!(gadgets.iter().all(|running| running.gadget.executions().len() == 1));
    }
}

#[test]
fn every_action_is_applied_to_devices_of_other_programs() {
    let broker = Broker::start();
    let link = broker.link();
    let world = crate::edge::world(&link, 3, 0);
    world.write(
        "m.json",
        r#"{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:x:M;1", "@type": "Interface", "contents": [
          {"@type": "Property", "name": "level", "writable": true, "schema": "integer"},
          {"@type": "Command", "name": "reboot"}]}"#,
    );
    world.declare("t.yaml", "DeviceTemplate", "lamp", "{model: m.json, cloudProperties: {owner: string}}");
    world.write("g.json", crate::edge::manifest(json!({})).to_string());
    world.declare("g.yaml", "EdgeManifest", "gateway", "{file: g.json}");
    world.commit("template and manifest");
    // One by hand, the reference device, and the one in Python.
    let by_hand = Gadget::obedient(broker.port, "d-001");
    let url = format!("mqtt://127.0.0.1:{}", broker.port);
    let quiet = |command: &mut std::process::Command| {
        use std::process::Stdio;
        crate::servers::Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))
    };
    let _reference = quiet(crate::world::fleetform().args(["device", "run", "--id", "d-002", "--broker", &url]));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/device.py");
    let state = world.folder_file("d-003.state");
    let port = broker.port.to_string();
    let arguments = [script, "--id", "d-003", "--host", "127.0.0.1", "--port", &port, "--state", &state];
    let _python = quiet(std::process::Command::new("python3").args(arguments));
    let actions = [
        ("property", "{property: {level: 3}}", Reason::Acknowledged),
        ("command", "{command: {name: reboot, connectTimeout: 20s}}", Reason::Responded),
        ("tags", "{tags: {ring: canary}}", Reason::Written),
        ("cloud", "{cloudProperty: {owner: north}}", Reason::Written),
        ("template", "{deviceTemplate: lamp}", Reason::Written),
        ("edge", "{edgeManifest: gateway}", Reason::Written),
    ];
    for (name, action, _) in actions {
        let delivery = if name == "property" { "{confirm: acknowledged, expiresAfter: 30s}" } else { "{}" };
        let spec = format!("{{target: {{query: '*'}}, action: {action}, delivery: {delivery}}}");
        world.declare(&format!("jobs/{name}.yaml"), "Job", name, &spec);
    }
    world.commit("jobs");
    apply(&world, &["--wait"]).expect(0);
    for (name, _, reason) in actions {
        assert_eq!(reasons(&world, name), expected(["d-001", "d-002", "d-003"].map(|id| (id, reason))), "{name}");
    }
    assert_eq!(by_hand.gadget.executions().len(), 1);
}
