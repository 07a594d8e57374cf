//! Brokers, daemons and networks that go away while a job runs. Devices count what they are told: nothing is executed
//! twice, no outcome is lost and none invented.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetform::link::mqtt::Version;
use fleetform::link::protocol::Told;
use fleetform::model::outcome::Reason;

use super::{Daemon, Gadget, Running, obey, reasons, reboot, status, world};
use crate::broker::Broker;
use crate::servers::{CutProxy, Line, wait_until};
use crate::world::World;

const DEVICES: usize = 60;

/// How often each device has executed each execution id.
type Executions = Arc<Mutex<BTreeMap<(String, String), u32>>>;

/// Devices that answer after a moment, and keep to the protocol: an execution id is executed once.
fn devices(port: u16) -> (Vec<Running>, Executions) {
    let executions = Executions::default();
    let start = |n: usize| {
        let executions = Arc::clone(&executions);
        let react = move |gadget: &Gadget, heard: &(Told, Vec<u8>)| {
            if let Told::Method { xid, .. } = &heard.0 {
                *executions.lock().unwrap().entry((gadget.id.clone(), xid.clone())).or_default() += 1;
                std::thread::sleep(Duration::from_millis(30));
            }
            obey(gadget, heard)
        };
        Gadget::start(port, &format!("d-{n:03}"), Version::V5, Box::new(react))
    };
    ((1..=DEVICES).map(start).collect(), executions)
}

/// A fleet whose devices are behind a port, with a job that takes about half a second.
fn fleet(port: u16, response_timeout: &str) -> World {
    let link = format!("{{mqtt: {{url: \"mqtt://127.0.0.1:{port}\"}}}}");
    let world = World::with_devices(&format!("{{link: {link}, limits: {{inFlight: 4}}}}"), DEVICES);
    world.job("reboot", &reboot(&format!("responseTimeout: {response_timeout}"), ""));
    world
}

fn executed(executions: &Executions) -> usize {
    executions.lock().unwrap().len()
}

/// Judges a job that has ended: every device has one outcome, and it is what the device knows of it. Returns how many
/// devices did not answer.
fn judge(world: &World, executions: &Executions, may_be: &[Reason]) -> usize {
    let executions = executions.lock().unwrap();
    assert!(executions.values().all(|times| *times == 1), "{executions:?}");
    let has_executed: BTreeSet<&str> = executions.keys().map(|(device, _)| device.as_str()).collect();
    assert_eq!(has_executed.len(), executions.len(), "one execution id a device");
    let reasons = reasons(world, "reboot");
    assert_eq!(reasons.len(), DEVICES);
    for (device, reason) in &reasons {
        match reason {
            Reason::Responded => assert!(has_executed.contains(device.as_str()), "{device} answered nothing"),
            other => assert!(may_be.contains(other), "{device}: {other:?}"),
        }
    }
    let record = world.record("reboot", "1");
    let count = |field: &str| record[field].as_u64().unwrap();
    let responded = reasons.values().filter(|reason| **reason == Reason::Responded).count();
    assert_eq!((count("total"), count("completed")), (DEVICES as u64, responded as u64));
    assert_eq!(count("failed"), (DEVICES - responded) as u64);
    DEVICES - responded
}

#[test]
fn a_broker_that_dies_in_the_middle_of_a_job_loses_at_most_what_was_under_way() {
    let mut broker = Broker::start();
    let (_devices, executions) = devices(broker.port);
    let world = fleet(broker.port, "2s");
    let _daemon = Daemon::start(&world);
    wait_until("the job is under way", || executed(&executions) > 10);
    broker.kill();
    std::thread::sleep(Duration::from_millis(500));
    broker.restart();
    wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
    let lost = judge(&world, &executions, &[Reason::Timeout]);
    assert!(lost <= 4, "{lost}");
}

#[test]
fn a_daemon_that_dies_in_the_middle_of_a_job_sends_nothing_twice() {
    let broker = Broker::start();
    let (_devices, executions) = devices(broker.port);
    let world = fleet(broker.port, "2s");
    let mut kills = 0;
    while status(&world, "reboot").as_deref() != Some("completed") {
        let before = executed(&executions);
        let daemon = Daemon::start(&world);
        wait_until("the job goes on", || {
            executed(&executions) > before + 8 || status(&world, "reboot").as_deref() == Some("completed")
        });
        daemon.kill();
        kills += 1;
        if executed(&executions) == DEVICES {
            let _last = Daemon::start(&world);
            wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
        }
    }
    assert!(kills > 3, "{kills}");
    let lost = judge(&world, &executions, &[Reason::OutcomeUnknown]);
    assert!(lost <= 4 * kills, "{lost}");
}

#[test]
fn a_broker_and_a_daemon_that_die_together_send_nothing_twice() {
    let mut broker = Broker::start();
    let (_devices, executions) = devices(broker.port);
    let world = fleet(broker.port, "2s");
    let daemon = Daemon::start(&world);
    wait_until("the job is under way", || executed(&executions) > 10);
    broker.kill();
    daemon.kill();
    let _daemon = Daemon::start(&world);
    std::thread::sleep(Duration::from_millis(500));
    broker.restart();
    wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
    let lost = judge(&world, &executions, &[Reason::OutcomeUnknown, Reason::Timeout]);
    assert!(lost <= 8, "{lost}");
}

#[test]
fn a_network_that_is_cut_for_half_a_minute_loses_nothing() {
    let broker = Broker::start();
    let proxy = CutProxy::start(broker.port);
    let (_devices, executions) = devices(broker.port);
    let world = fleet(proxy.port, "60s");
    let _daemon = Daemon::start(&world);
    wait_until("the job is under way", || executed(&executions) > 10);
    proxy.set(Line::Stalled);
    let before = executed(&executions);
    std::thread::sleep(Duration::from_secs(30));
    assert!(executed(&executions) <= before + 4, "no more is sent than may be in flight");
    proxy.set(Line::Whole);
    wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
    assert_eq!(judge(&world, &executions, &[]), 0);
}

#[test]
fn a_connection_that_is_cut_is_made_again() {
    let broker = Broker::start();
    let proxy = CutProxy::start(broker.port);
    let (_devices, executions) = devices(broker.port);
    let world = fleet(proxy.port, "2s");
    let _daemon = Daemon::start(&world);
    for at in [5, 15, 25, 35] {
        wait_until("the job is under way", || executed(&executions) > at);
        proxy.cut();
    }
    wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
    let lost = judge(&world, &executions, &[Reason::Timeout]);
    assert!(lost <= 16, "{lost}");
}

#[test]
fn a_daemon_waits_for_its_broker() {
    let mut broker = Broker::start();
    broker.kill();
    let world = fleet(broker.port, "2s");
    world.job("tag", "{target: {query: '*'}, action: {tags: {ring: a}}}");
    let daemon = Daemon::start(&world);
    wait_until("what needs no broker is done", || status(&world, "tag").as_deref() == Some("completed"));
    let shown = || world.run(&["status", "--json"]).expect(0).json().remove(0);
    wait_until("the daemon says why it waits", || {
        shown()["daemon"]["link"]["fault"].as_str().is_some_and(|fault| fault.contains("it cannot be reached"))
    });
    broker.restart();
    let (_devices, executions) = devices(broker.port);
    wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
    judge(&world, &executions, &[Reason::Offline]);
    // And ends in good time when there is none.
    broker.kill();
    world.job("again", &reboot("responseTimeout: 60s", ""));
    std::thread::sleep(Duration::from_secs(3));
    let start = std::time::Instant::now();
    daemon.end();
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[test]
fn what_was_written_is_told_by_the_next_process() {
    let broker = Broker::start();
    let proxy = CutProxy::start(broker.port);
    // Every device answers: however busy the machine is, none is given up.
    let world = fleet(proxy.port, "60s");
    let (devices, executions) = devices(broker.port);
    let daemon = Daemon::start(&world);
    wait_until("the job has ended", || status(&world, "reboot").as_deref() == Some("completed"));
    judge(&world, &executions, &[]);
    // The broker stands still while a job writes, and the daemon is told to end.
    proxy.set(Line::Stalled);
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    wait_until("the devices are written", || {
        super::device(&world, "d-060").is_some_and(|device| device.desired_version == 2)
    });
    let start = std::time::Instant::now();
    daemon.end();
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert_eq!(status(&world, "dim").as_deref(), Some("running"), "it has not ended");
    proxy.set(Line::Whole);
    proxy.cut();
    let told = || {
        let has =
            |running: &Running| running.gadget.heard().iter().any(|(told, _)| *told == Told::Desired { version: 2 });
        devices.iter().filter(|running| has(running)).count()
    };
    assert!(told() < DEVICES, "{}", told());
    let _daemon = Daemon::start(&world);
    wait_until("the job has ended", || status(&world, "dim").as_deref() == Some("completed"));
    wait_until("all devices are told", || told() == DEVICES);
}

#[test]
fn an_apply_says_when_there_is_no_broker() {
    let broker = Broker::start();
    let world = world(&broker, 1);
    drop(broker);
    world.job("reboot", &reboot("responseTimeout: 2s", ""));
    let ran = super::apply(&world, &[]).expect(69);
    assert!(ran.stderr.contains("it cannot be reached"), "{}", ran.stderr);
}
