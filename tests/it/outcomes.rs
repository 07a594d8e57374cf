//! What becomes of single devices of a run: when their time begins, what counts as a failure, and how the rest is
//! finished.

use std::time::Duration;

use fleetform::model::outcome::{Reason, RunStatus};
use serde_json::json;

use crate::world::World;

const HOUR: Duration = Duration::from_secs(3_600);
/// A job in batches of two; each device must acknowledge within an hour.
const STAGED: &str = "{target: {query: '*'}, action: {property: {level: 3}},
     delivery: {batchSize: 2, confirm: acknowledged, expiresAfter: 1h}}";

fn reasons(world: &World, job: &str) -> Vec<Reason> {
    world.rows(job, "1").iter().map(|row| row.reason).collect()
}

#[test]
fn a_silent_device_of_one_batch_takes_no_time_from_the_next() {
    let world = World::with_devices("{link: {simulated: {devices: {d-001: {silent: true}}}}}", 6);
    world.job("dim", STAGED);
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Running);
    world.pass(HOUR);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.completed, record.counts.failed), (RunStatus::Completed, 5, 1));
    assert_eq!(reasons(&world, "dim")[..3], [Reason::Expired, Reason::Acknowledged, Reason::Acknowledged]);
}

#[test]
fn a_restart_gives_a_batch_no_more_time() {
    let world = World::with_devices("{link: {simulated: {devices: {d-003: {offline: true}}}}}", 4);
    let job = "{target: {query: '*'}, action: {command: {name: reboot}},
         delivery: {batchSize: 2, offline: wait, expiresAfter: 1h}}";
    world.job("reboot", job);
    world.apply().unwrap();
    for _ in 0..3 {
        world.pass(HOUR / 4);
        assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Running);
    }
    let shown = world.run(&["job", "show", "reboot", "--why"]).expect(0).stdout;
    assert!(shown.contains("waits to come online"), "{shown}");
    world.pass(HOUR / 4);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.failed), (RunStatus::Completed, 1));
    assert_eq!(reasons(&world, "reboot")[2], Reason::Expired);
}

#[test]
fn deleted_devices_cancel_nothing_and_keep_their_names() {
    let offline = "{d-001: {offline: true}, d-002: {offline: true}}";
    let world = World::with_devices(&format!("{{link: {{simulated: {{devices: {offline}}}}}}}"), 3);
    let job = "{target: {query: '*'}, action: {command: {name: reboot}},
         delivery: {offline: wait, expiresAfter: 1h, cancellationThreshold: {failures: 0}}}";
    world.job("reboot", job);
    world.apply().unwrap();
    world.run(&["device", "delete", "d-001", "d-002", "--yes"]).expect(0);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.failed), (RunStatus::Completed, 2));
    let rows = world.rows("reboot", "1");
    assert_eq!((rows[0].reason, rows[0].device_name.as_str()), (Reason::Deleted, "Device 1"));
    let why = world.run(&["job", "show", "reboot", "--why"]).expect(0).stdout;
    assert!(why.contains("2 failed devices are deleted or of unknown outcome"), "{why}");
}

#[test]
fn what_a_canceled_run_left_is_finished_by_another() {
    let world = World::with_devices("{link: {simulated: {devices: {d-001: {answers: 500}}}}}", 6);
    let job = "{target: {query: '*'}, action: {command: {name: reboot}},
         delivery: {batchSize: 1, cancellationThreshold: {failures: 0}}}";
    world.job("reboot", job);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.pending()), (RunStatus::Canceled, 5));
    world.run(&["job", "rerun", "reboot", "--pending"]).expect(0);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.job.as_str(), record.counts.total, record.counts.completed), ("reboot-rerun", 5, 5));
    world.run(&["job", "rerun", "reboot-rerun", "--pending"]).expect(1);
}

#[test]
fn what_a_stopped_run_left_is_finished_by_another() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {offline: true}}}}}", 3);
    let job = "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {offline: wait}}";
    world.job("reboot", job);
    world.apply().unwrap();
    world.job("rest", "{target: {pendingOf: {job: reboot}}, action: {tags: {visit: 'yes'}}}");
    let plan = world.run(&["plan"]).expect(65);
    assert!(
        plan.stderr.contains("takes the pending devices of job `reboot` run 1, which has not ended"),
        "{}",
        plan.stderr
    );
    world.run(&["job", "stop", "reboot"]).expect(0);
    // The stop is carried out, and then the other job can have its target.
    std::fs::remove_file(world.file("jobs/rest.yaml")).unwrap();
    world.commit("later");
    world.apply().unwrap();
    world.job("rest", "{target: {pendingOf: {job: reboot}}, action: {tags: {visit: 'yes'}}}");
    let applied = world.apply().unwrap();
    let record = applied.records.iter().find(|record| record.job.as_str() == "rest").unwrap();
    assert_eq!((record.counts.total, record.counts.completed), (1, 1));
    assert_eq!(world.device("d-002").tags["visit"], json!("yes"));
}

#[test]
fn only_devices_that_failed_for_a_reason_are_meant() {
    let devices = "{d-001: {answers: 500}, d-002: {silent: true}}";
    let world = World::with_devices(&format!("{{link: {{simulated: {{devices: {devices}}}}}}}"), 3);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot, responseTimeout: 1s}}}");
    world.apply().unwrap();
    world.job("again", "{target: {failedOf: {job: reboot, reasons: [timeout, offline]}}, action: {tags: {visit: a}}}");
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!(record.counts.total, 1);
    assert_eq!(world.rows("again", "1")[0].device_id, "d-002");
    world.job("typo", "{target: {failedOf: {job: reboot, reasons: [timeuot]}}, action: {tags: {visit: a}}}");
    let ran = world.run(&["validate"]).expect(65);
    assert!(ran.stdout.contains("Did you mean `timeout`?") || ran.stderr.contains("Did you mean `timeout`?"));
}

#[test]
fn a_canary_goes_first_and_keeps_the_others_from_starting() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {answers: 500}}}}}", 12);
    let job = |name: &str, threshold: &str| {
        let spec = format!(
            "{{target: {{query: '*'}}, action: {{command: {{name: reboot}}}},
              delivery: {{canary: 2, batchSize: 5{threshold}}}}}"
        );
        world.job(name, &spec);
    };
    job("whole", "");
    let plan = world.run(&["plan", "--json"]).expect(0).json().remove(0);
    let planned = plan["changes"].as_array().unwrap().iter().find(|one| one["address"] == "job/whole").unwrap();
    assert_eq!(planned["batches"], json!({"count": 3, "size": 5, "first": 2}));
    assert!(world.run(&["plan"]).expect(0).stdout.contains("12 devices in 3 batches, the first of 2"));
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!(record.per_batch.iter().map(|batch| batch.counts.total).collect::<Vec<_>>(), [2, 5, 5]);
    let batches: Vec<u32> = world.rows("whole", "1").iter().map(|row| row.batch).collect();
    assert_eq!(batches, [1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3]);
    job("wary", ", cancellationThreshold: {failures: 0, per: batch}");
    let record = world.apply().unwrap().records.remove(0);
    let counts = record.counts;
    assert_eq!((record.status, counts.completed, counts.failed, counts.pending()), (RunStatus::Canceled, 1, 1, 10));
    let none = world.run(&["job", "show", "wary", "--json"]).expect(0).json().remove(0);
    assert_eq!(none["batches"], 3);
}
