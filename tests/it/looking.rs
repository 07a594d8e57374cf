//! Looking at runs: where each device is, why a run is where it is, what came late, and how the tables are chosen.

use std::time::Duration;

use fleetform::execute::{Interrupt, Progress};
use fleetform::model::outcome::{DeviceStatus, Reason, RunStatus};
use fleetform::ops::apply::ApplyOptions;
use serde_json::{Value, json};

use crate::world::World;

/// Applies, and ends the process without awaiting what is in flight when `devices` of them are terminal.
fn leave_in_flight(world: &World, devices: u64) {
    let options = ApplyOptions { grace: Duration::ZERO, ..ApplyOptions::default() };
    let interrupt = Interrupt::new();
    let mut look = |progress: &Progress| {
        if let Progress::Advanced { counts, .. } = progress
            && counts.completed + counts.failed >= devices
        {
            interrupt.set();
        }
    };
    assert!(world.apply_with(&options, &interrupt, &mut look).unwrap().was_interrupted);
}

/// Returns the devices of a run as `job show --devices` has them.
fn devices(world: &World, job: &str) -> Vec<Value> {
    world.run(&["job", "show", job, "--devices", "--json"]).expect(0).json()
}

#[test]
fn devices_in_flight_and_devices_that_wait_are_told_from_queued_ones() {
    let link = "{latency: 1s, devices: {d-001: {offline: true}}}";
    let world = World::with_devices(&format!("{{link: {{simulated: {link}}}, limits: {{inFlight: 2}}}}"), 8);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {offline: wait}}");
    leave_in_flight(&world, 2);
    let rows = devices(&world, "reboot");
    let reasons: Vec<&str> = rows.iter().map(|row| row["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons[0], "waiting", "{rows:#?}");
    assert!(rows[0]["message"].as_str().unwrap().contains("waits to come online"), "{rows:#?}");
    let count = |word: &str| reasons.iter().filter(|reason| **reason == word).count();
    assert!(count("in-flight") > 0 && count("queued") > 0, "{reasons:?}");
    assert_eq!(count("responded") + count("in-flight") + count("queued"), 7, "{reasons:?}");
    let flying = rows.iter().find(|row| row["reason"] == json!("in-flight")).unwrap();
    assert_eq!((&flying["status"], &flying["attempts"]), (&json!("pending"), &json!(1)));

    // What was not delivered is no longer in doubt: the device is sent to again, and the others that were in flight are not.
    world.write(
        "fleetform.yaml",
        std::fs::read_to_string(world.file("fleetform.yaml")).unwrap().replace("d-001", "d-009"),
    );
    world.commit("It is back");
    world.apply().unwrap();
    let rows = world.rows("reboot", "1");
    assert_eq!((rows[0].reason, rows[0].attempts), (Reason::Responded, 1));
    assert_eq!(rows.iter().filter(|row| row.reason == Reason::OutcomeUnknown).count(), count("in-flight"));
}

/// A property job whose devices d-003 and d-004 never acknowledge, and whose d-001 refuses: one more than may.
fn unacknowledged_world(failures: u32) -> World {
    let own = "{d-001: {answers: 500, latency: 2s}, d-003: {silent: true}, d-004: {silent: true}}";
    let world = World::with_devices(&format!("{{link: {{simulated: {{latency: 1s, devices: {own}}}}}}}"), 4);
    let delivery = format!(
        "{{confirm: acknowledged, expiresAfter: 1h, batchSize: 4, cancellationThreshold: {{failures: {failures}}}}}"
    );
    world.job("dim", &format!("{{target: {{query: '*'}}, action: {{property: {{level: 3}}}}, delivery: {delivery}}}"));
    world
}

#[test]
fn a_written_device_that_has_not_acknowledged_waits() {
    let world = unacknowledged_world(1);
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Running);
    let reasons: Vec<Value> = devices(&world, "dim").iter().map(|row| row["reason"].clone()).collect();
    assert_eq!(reasons, [json!("rejected"), json!("acknowledged"), json!("waiting"), json!("waiting")]);
}

#[test]
fn a_canceled_run_says_which_devices_were_written_and_not_acknowledged() {
    let world = unacknowledged_world(0);
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Canceled);
    let rows = world.rows("dim", "1");
    for row in &rows[2..] {
        assert_eq!((row.status, row.reason), (DeviceStatus::Pending, Reason::Waiting), "{row:?}");
        assert_eq!(row.message, "written; the job ended before the device acknowledged it");
    }
}

/// A fleet that reboots its devices one after the other; d-001 answers when it was given up long ago.
fn late_world(devices: usize) -> World {
    let own = "{d-001: {latency: 5s}}";
    let spec = format!("{{link: {{simulated: {{latency: 1s, devices: {own}}}}}, limits: {{inFlight: 1}}}}");
    let world = World::with_devices(&spec, devices);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot, responseTimeout: 2s}}}");
    world
}

#[test]
fn a_late_answer_is_counted_and_changes_no_outcome() {
    let world = late_world(8);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.counts.failed, record.late), (1, 1));
    assert_eq!(world.record("reboot", "1")["late"], json!(1));
    assert_eq!(world.rows("reboot", "1")[0].reason, Reason::Timeout);
    let shown = world.run(&["job", "show", "reboot"]).expect(0);
    assert!(shown.stdout.contains("late answers 1: it came after"), "{}", shown.stdout);
    let shown = world.run(&["job", "show", "reboot", "--json"]).expect(0).json();
    assert_eq!(shown[0]["late"], json!(1));

    // Nobody was there any more to take the answer.
    let world = late_world(2);
    assert_eq!(world.apply().unwrap().records[0].late, 0);
    let shown = world.run(&["job", "show", "reboot"]).expect(0);
    assert!(!shown.stdout.contains("late"), "{}", shown.stdout);
}
