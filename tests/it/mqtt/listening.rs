//! What a daemon hears of devices while no job waits for it.

use fleetform::execute::Clock as _;
use fleetform::link::mqtt::Version;
use fleetform::link::protocol::{Told, versioned};
use fleetform::model::device::ConnectionState;
use fleetform::registry::Change;
use serde_json::{Value, json};

use super::{Daemon, Gadget, device, dim, obey, status, world};
use crate::broker::Broker;
use crate::servers::wait_until;

/// Returns the answers of fleetform to requests of a device, as (request id, status, version).
fn responses(gadget: &Gadget) -> Vec<(String, u16, Option<u64>)> {
    let response = |(told, _): (Told, Vec<u8>)| match told {
        Told::Response { status, rid, version } => Some((rid, status, version)),
        Told::Method { .. } | Told::Desired { .. } => None,
    };
    gadget.heard().into_iter().filter_map(response).collect()
}

#[test]
fn what_devices_say_is_written_down_at_any_time() {
    let broker = Broker::start();
    let world = world(&broker, 2);
    let _daemon = Daemon::start(&world);
    wait_until("the devices are imported", || device(&world, "d-002").is_some());
    let running = Gadget::start(broker.port, "d-001", Version::V5, Box::new(|_, _| Vec::new()));
    let gadget = &running.gadget;
    wait_until("it is connected", || world.device("d-001").connection_state == ConnectionState::Connected);
    wait_until("it has its twin", || responses(gadget) == [("get".to_string(), 200, None)]);
    let twin: Value = serde_json::from_slice(&gadget.heard()[0].1).unwrap();
    assert_eq!(twin, json!({"desired": {"$version": 1}, "reported": {"$version": 1}}));
    gadget.report(&json!({"lux": 7, "net": {"rssi": -60}}));
    wait_until("the report is confirmed", || responses(gadget).last() == Some(&("own".to_string(), 204, Some(2))));
    let device = device(&world, "d-001").unwrap();
    assert_eq!((device.reported, device.reported_version), (json!({"lux": 7, "net": {"rssi": -60}}), 2));
    assert!(device.last_activity.is_some());
    // What is no patch, what is too much, and what a twin does not take.
    let refused = |rid: &str, payload: String, status: u16| {
        gadget.say(gadget.topics.reported("d-001", rid), payload);
        wait_until("it is refused", || responses(gadget).last() == Some(&(rid.to_string(), status, None)));
    };
    refused("a", "[]".to_string(), 400);
    refused("b", "{".to_string(), 400);
    refused("c", json!({"a": "x".repeat(40_000)}).to_string(), 413);
    refused("d", json!({"a.b": 1}).to_string(), 400);
    assert_eq!(world.device("d-001").reported_version, 2);
    // A device that nobody imported, and one that is blocked.
    let stranger = Gadget::start(broker.port, "stranger", Version::V311, Box::new(|_, _| Vec::new()));
    wait_until("a stranger is refused", || responses(&stranger.gadget) == [("get".to_string(), 404, None)]);
    let mut registry = world.registry_to_write();
    let at = world.clock.now();
    registry.write(Change::Block { device_ids: &["d-002".to_string()], is_blocked: true, at }).unwrap();
    drop(registry);
    let blocked = Gadget::start(broker.port, "d-002", Version::V5, Box::new(|_, _| Vec::new()));
    wait_until("a blocked device is refused", || responses(&blocked.gadget) == [("get".to_string(), 403, None)]);
    blocked.gadget.report(&json!({"lux": 1}));
    wait_until("so is its report", || responses(&blocked.gadget).last() == Some(&("own".to_string(), 403, None)));
    drop(running);
    wait_until("it is gone", || world.device("d-001").connection_state == ConnectionState::Disconnected);
}

#[test]
fn a_device_that_was_away_gets_its_twin_when_it_connects() {
    let broker = Broker::start();
    let world = world(&broker, 1);
    world.job("dim", &dim(4, "confirm: acknowledged, expiresAfter: 1m"));
    let _daemon = Daemon::start(&world);
    wait_until("the device is written", || device(&world, "d-001").is_some_and(|device| device.desired_version == 2));
    let running = Gadget::obedient(broker.port, "d-001");
    wait_until("the job has ended", || status(&world, "dim").as_deref() == Some("completed"));
    let heard = running.gadget.heard();
    // The write may be told before the answer.
    let answer = heard.iter().find(|(told, _)| matches!(told, Told::Response { status: 200, .. }));
    let (_, payload) = answer.unwrap_or_else(|| panic!("{heard:?}"));
    let twin: Value = serde_json::from_slice(payload).unwrap();
    let (desired, version) = versioned(twin["desired"].to_string().as_bytes()).unwrap();
    assert_eq!((Value::Object(desired), version), (json!({"level": 4}), Some(2)));
}

#[test]
fn a_presence_that_lies_is_corrected_by_what_the_device_says() {
    let broker = Broker::start();
    let world = world(&broker, 1);
    let _daemon = Daemon::start(&world);
    let running = Gadget::start(broker.port, "d-001", Version::V5, Box::new(obey));
    wait_until("it is connected", || {
        device(&world, "d-001").is_some_and(|device| device.connection_state == ConnectionState::Connected)
    });
    let gadget = &running.gadget;
    // As the last will of an older connection that the broker finds dead too late.
    gadget.say(gadget.topics.presence("d-001"), "offline");
    wait_until("it is said to be gone", || world.device("d-001").connection_state == ConnectionState::Disconnected);
    gadget.report(&json!({"lux": 7}));
    wait_until("it is not", || world.device("d-001").connection_state == ConnectionState::Connected);
    world.job("reboot", &super::reboot("responseTimeout: 5s", ""));
    wait_until("it is reached", || status(&world, "reboot").as_deref() == Some("completed"));
    assert_eq!(gadget.executions().len(), 1);
}

#[test]
fn a_twin_has_secrets_that_the_operator_still_allows() {
    let broker = Broker::start();
    let world = world(&broker, 1);
    world.job("wifi", "{target: {query: '*'}, action: {property: {wifi: {psk: {$secret: {env: PSK}}, ssid: hall}}}}");
    let start = |allowed: &str| {
        let mut command = crate::world::fleetform();
        command.arg("-C").arg(world.path()).args(["watch", "--interval", "1s"]).env("PSK", "correct horse battery");
        command.env("FLEETFORM_ALLOW_SECRETS", allowed).stdout(std::process::Stdio::null());
        crate::servers::Process::start(command.stderr(std::process::Stdio::null()))
    };
    let twin = || {
        let running = Gadget::start(broker.port, "d-001", Version::V5, Box::new(|_, _| Vec::new()));
        wait_until("it has its twin", || !running.gadget.heard().is_empty());
        let twin: Value = serde_json::from_slice(&running.gadget.heard()[0].1).unwrap();
        twin["desired"].clone()
    };
    let mut daemon = start("env:PSK");
    wait_until("the job has ended", || status(&world, "wifi").as_deref() == Some("completed"));
    let whole = json!({"$version": 2, "wifi": {"psk": "correct horse battery", "ssid": "hall"}});
    assert_eq!(twin(), whole);
    daemon.kill();
    let mut daemon = start("env:PSK");
    assert_eq!(twin(), whole, "the next process knows it too");
    daemon.kill();
    let _daemon = start("env:OTHER");
    assert_eq!(twin(), json!({"$version": 2, "wifi": {"ssid": "hall"}}));
}

#[test]
fn an_apply_beside_an_idle_daemon_writes_a_report_once() {
    let broker = Broker::start();
    let world = world(&broker, 2);
    let _daemon = Daemon::start(&world);
    let running = Gadget::obedient(broker.port, "d-001");
    let gadget = &running.gadget;
    wait_until("the daemon listens", || {
        device(&world, "d-001").is_some_and(|device| device.connection_state == ConnectionState::Connected)
    });
    // On another branch than the one that the daemon follows.
    let repository = world.repository();
    repository.branch("other", &repository.head().unwrap().peel_to_commit().unwrap(), false).unwrap();
    repository.set_head("refs/heads/other").unwrap();
    world.job("reboot", &super::reboot("responseTimeout: 5s", "offline: wait, expiresAfter: 6s"));
    let mut command = crate::world::fleetform();
    command.arg("-C").arg(world.path()).args(["apply", "--yes", "--wait"]);
    let applying = crate::world::Ran::start(&mut command);
    wait_until("the apply is at work", || gadget.executions().len() == 1);
    for count in 0..20 {
        gadget.say(gadget.topics.reported("d-001", &format!("r-{count}")), json!({"count": count}).to_string());
    }
    let confirmed =
        || responses(gadget).iter().filter(|(rid, status, _)| rid.starts_with("r-") && *status == 204).count();
    wait_until("all are confirmed", || confirmed() == 20);
    crate::world::Ran::after(applying).expect(0);
    gadget.report(&json!({"last": true}));
    wait_until("the daemon goes on", || world.device("d-001").reported.get("last").is_some());
    let device = world.device("d-001");
    assert_eq!((device.reported_version, confirmed()), (22, 20), "each report is written once");
}

#[test]
fn what_is_kept_for_a_daemon_that_is_away_comes_in_however_much_it_is() {
    let broker = Broker::start_with("allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0");
    let world = world(&broker, 1);
    let daemon = Daemon::start(&world);
    let running = Gadget::start(broker.port, "d-001", Version::V5, Box::new(|_, _| Vec::new()));
    wait_until("the daemon listens", || {
        device(&world, "d-001").is_some_and(|device| device.connection_state == ConnectionState::Connected)
    });
    daemon.end();
    for count in 0..6_000 {
        running
            .gadget
            .say(running.gadget.topics.reported("d-001", &format!("r-{count}")), format!("{{\"n\":{count}}}"));
    }
    // The broker has them all when it has the last one.
    std::thread::sleep(std::time::Duration::from_secs(2));
    let _daemon = Daemon::start(&world);
    wait_until("the last one is written", || world.device("d-001").reported.get("n") == Some(&json!(5_999)));
    assert_eq!(world.device("d-001").reported_version, 6_001);
}

#[test]
fn a_payload_is_whatever_a_device_likes() {
    let broker = Broker::start();
    let world = world(&broker, 1);
    let react = |gadget: &Gadget, (told, _): &(Told, Vec<u8>)| match told {
        Told::Method { rid, .. } => vec![(gadget.topics.answer(&gadget.id, 200, rid), b"echo-hello".to_vec())],
        _ => Vec::new(),
    };
    let _running = Gadget::start(broker.port, "d-001", Version::V5, Box::new(react));
    world.job("reboot", &super::reboot("responseTimeout: 3s", ""));
    super::apply(&world, &[]).expect(0);
    assert_eq!(world.rows("reboot", "1")[0].message, "echo-hello");
}
