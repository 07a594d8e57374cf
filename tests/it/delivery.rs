//! Delivery to devices: acknowledgements, waiting for devices, and delivery when a device connects.

use std::time::Duration;

use fleetform::execute::Inbox;
use fleetform::model::outcome::{Reason, RunStatus};
use fleetform::ops::OpsError;
use fleetform::ops::apply::ApplyOptions;
use fleetform::registry::RegistryError;
use serde_json::json;

use crate::world::World;

fn world(devices: &str, count: usize) -> World {
    World::with_devices(&format!("{{link: {{simulated: {{latency: 1s, devices: {{{devices}}}}}}}}}"), count)
}

fn dim(delivery: &str) -> String {
    format!(
        "{{target: {{query: '*'}}, action: {{property: {{light: {{level: 3}}}}}}, \
         delivery: {{confirm: acknowledged, {delivery}}}}}"
    )
}

fn reasons(world: &World, job: &str) -> Vec<Reason> {
    world.rows(job, "1").iter().map(|row| row.reason).collect()
}

#[test]
fn a_device_acknowledges_the_version_that_was_written() {
    let world = world("d-002: {answers: 400}", 3);
    world.job("before", "{target: {query: '*'}, action: {property: {mode: night}}}");
    world.apply().unwrap();
    world.job("dim", &dim("expiresAfter: 1h"));
    world.apply().unwrap();
    assert_eq!(reasons(&world, "dim"), [Reason::Acknowledged, Reason::Rejected, Reason::Acknowledged]);
    let device = world.device("d-001");
    assert_eq!(device.desired_version, 3, "1 when it was imported, and two writes");
    let expected = json!({"light": {"value": {"level": 3}, "ac": 200, "av": 3, "ad": ""}});
    assert_eq!((json!(device.reported), device.reported_version), (expected, 2));
    let refused = &world.rows("dim", "1")[1];
    assert_eq!((refused.code, refused.message.as_str()), (Some(400), "the simulated device refused"));
    assert_eq!(world.device("d-002").reported["light"]["ac"], json!(400));
}

#[test]
fn the_properties_of_a_component_are_acknowledged_one_by_one() {
    let world = world("", 2);
    let patch = "{lamp1: {__t: c, level: 3, color: warm}}";
    world.job("dim", &dim("expiresAfter: 1h").replace("{light: {level: 3}}", patch));
    world.apply().unwrap();
    assert_eq!(reasons(&world, "dim"), [Reason::Acknowledged; 2]);
    let reported = &world.device("d-001").reported["lamp1"];
    assert_eq!(
        (&reported["__t"], &reported["level"]["value"], &reported["color"]["av"]),
        (&json!("c"), &json!(3), &json!(2))
    );
}

#[test]
fn what_was_written_and_not_acknowledged_is_pending_when_the_job_is_canceled() {
    let world = world("d-001: {answers: 500}, d-002: {silent: true}, d-003: {silent: true}", 4);
    world.job("dim", &dim("batchSize: 3, cancellationThreshold: {failures: 0}"));
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.failed, record.counts.pending()), (RunStatus::Canceled, 1, 3));
    assert_eq!(reasons(&world, "dim"), [Reason::Rejected, Reason::Waiting, Reason::Waiting, Reason::Queued]);
    assert!(world.rows("dim", "1")[1].message.starts_with("written; the job ended"));
}

#[test]
fn a_device_that_connects_gets_its_command() {
    let reboot = |delivery: &str, timeout: &str| {
        format!(
            "{{target: {{query: '*'}}, action: {{command: {{name: reboot, connectTimeout: {timeout}}}}}, \
             delivery: {{{delivery}}}}}"
        )
    };
    let world = world("d-001: {connectsAfter: 10s}, d-002: {connectsAfter: 10m}, d-003: {offline: true}", 4);
    world.job("soon", &reboot("offline: fail", "30s"));
    world.apply().unwrap();
    assert_eq!(reasons(&world, "soon"), [Reason::Responded, Reason::Offline, Reason::Offline, Reason::Responded]);

    world.job("later", &reboot("offline: wait, expiresAfter: 1h", "30s"));
    let left = world.apply().unwrap().records.remove(0);
    assert_eq!((left.status, left.counts.completed), (RunStatus::Running, 1));
    assert!(left.reason.unwrap().contains("3 devices wait to come online"));
    let stays = ApplyOptions { waits: true, ..ApplyOptions::default() };
    let start = world.clock_now();
    let ended = world.apply_with(&stays, &Inbox::new(), &mut |_| {}).unwrap().records.remove(0);
    assert_eq!((ended.status, ended.counts.completed, ended.counts.failed), (RunStatus::Completed, 3, 1));
    assert_eq!(reasons(&world, "later")[..3], [Reason::Responded, Reason::Responded, Reason::Expired]);
    let second = world.rows("later", "1")[1].finished_at.unwrap();
    assert!((600..=601).contains(&second.duration_since(start).as_secs()), "ten minutes, and the time to answer");
}

#[test]
fn a_device_that_connects_gets_its_twin() {
    let world = world("d-001: {connectsAfter: 10m}, d-002: {connectsAfter: 2h}", 3);
    world.job("dim", &dim("expiresAfter: 1h"));
    let stays = ApplyOptions { waits: true, ..ApplyOptions::default() };
    world.apply_with(&stays, &Inbox::new(), &mut |_| {}).unwrap();
    assert_eq!(reasons(&world, "dim"), [Reason::Acknowledged, Reason::Expired, Reason::Acknowledged]);
    let record = world.record("dim", "1");
    let took = |field: &str| record[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let took = took("finished_at").duration_since(took("started_at"));
    assert_eq!(took.unsigned_abs(), Duration::from_secs(3_600));
}

#[test]
fn a_registry_that_cannot_grow_loses_nothing() {
    let world = World::with_devices("{}", 300);
    world.job(
        "tag",
        "{target: {query: '*'}, action: {tags: {ring: a-long-name-for-a-ring}}, delivery: {batchSize: 30}}",
    );
    let mut refusals = 0;
    for growth in (0..60).step_by(2) {
        let options = ApplyOptions { growth: Some(growth), ..ApplyOptions::default() };
        match world.apply_with(&options, &Inbox::new(), &mut |_| {}) {
            Err(OpsError::Registry(RegistryError::Full { .. })) => refusals += 1,
            Ok(applied) if applied.was_empty => break,
            other => drop(other.unwrap()),
        }
    }
    assert!(refusals > 1, "{refusals}");
    world.apply().unwrap();
    let record = world.record("tag", "1");
    assert_eq!((&record["status"], &record["completed"]), (&json!("completed"), &json!(300)));
    assert_eq!(world.rows("tag", "1").len(), 300);
}

#[test]
fn a_job_that_waits_is_served_while_another_one_goes_on() {
    let world = world("d-001: {connectsAfter: 4s}, d-002: {latency: 20s}", 3);
    world.job("dim", &dim("expiresAfter: 10s").replace("query: '*'", "devices: [d-001, d-003]"));
    let slow = "{target: {devices: [d-002]}, action: {command: {name: slow, responseTimeout: 30s}}}";
    world.job("slow", slow);
    world.apply().unwrap();
    assert_eq!(reasons(&world, "dim"), [Reason::Acknowledged, Reason::Acknowledged]);
    assert_eq!(reasons(&world, "slow"), [Reason::Responded]);
}
