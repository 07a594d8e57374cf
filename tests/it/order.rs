//! The order of jobs, conflicts between them, and the limits on batches.

use std::time::Duration;

use fleetform::execute::{Inbox, Progress};
use fleetform::ops::OpsError;
use fleetform::ops::apply::ApplyOptions;

use crate::world::World;

fn tags(path: &str) -> String {
    format!("{{target: {{query: '*'}}, action: {{tags: {{{path}: 1}}}}}}")
}

fn starts(world: &World) -> Vec<String> {
    let mut order = Vec::new();
    world
        .apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
            if let Progress::RunStarted { job, .. } = progress {
                order.push(job.to_string());
            }
        })
        .unwrap();
    order
}

/// Returns the codes of the findings that an apply is refused with, and all of their words.
fn refusal(world: &World) -> (String, String) {
    match world.apply() {
        Err(OpsError::Invalid(findings)) => {
            let sorted = findings.diagnostics.sorted();
            let codes: Vec<&str> = sorted.iter().map(|item| item.code.0).collect();
            let words: Vec<String> = sorted.iter().map(|item| format!("{} {:?}", item.detail, item.help)).collect();
            (codes.join(" "), words.join("\n"))
        }
        other => panic!("the apply is not refused: {other:?}"),
    }
}

#[test]
fn jobs_wait_for_a_slot_in_commit_order_then_by_name() {
    let world = World::with_devices("{limits: {runningJobs: 1}}", 3);
    world.job("zebra", &tags("zebra"));
    world.declare("jobs/yak.yaml", "Job", "yak", &tags("yak"));
    world.declare("jobs/cow.yaml", "Job", "cow", &tags("cow"));
    world.commit("two at once");
    world.job("ant", &tags("ant"));
    let planned = world.plan().unwrap().plan;
    let order: Vec<String> = planned.changes.iter().map(|change| change.subject.to_string()).collect();
    assert_eq!(order, ["import/all", "job/zebra", "job/cow", "job/yak", "job/ant"]);
    assert_eq!(starts(&world), ["zebra", "cow", "yak", "ant"]);
    world.declare("jobs/wolf.yaml", "Job", "wolf", &tags("wolf"));
    world.job("hen", &tags("hen"));
    world.declare("jobs/bee.yaml", "Job", "bee", &tags("bee"));
    let planned = world.plan().unwrap().plan;
    let order: Vec<String> = planned.changes.iter().take(3).map(|change| change.subject.to_string()).collect();
    assert_eq!(order, ["job/hen", "job/wolf", "job/bee"], "what is not committed comes last");
}

#[test]
fn a_run_that_goes_on_is_not_contested() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {silent: true}}}}}", 3);
    let job = |value: u32| {
        format!(
            "{{target: {{query: '*'}}, action: {{property: {{level: {value}}}}}, delivery: {{confirm: acknowledged, \
                expiresAfter: 1h}}}}"
        )
    };
    world.job("one", &job(1));
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.counts.completed, record.counts.pending()), (2, 1), "d-002 has not acknowledged");

    world.job("two", &job(2));
    let (codes, words) = refusal(&world);
    assert_eq!(codes, "FF604");
    assert!(words.contains("of the same 1 device (d-002)") && words.contains("`after: [one]` in job `two`"), "{words}");

    world.job("two", &job(2).replace("{target", "{after: [one], target"));
    assert!(world.apply().unwrap().records.iter().all(|record| record.job.as_str() == "one"), "two waits");
    world.pass(Duration::from_secs(3_601));
    let ended = world.apply().unwrap().records;
    assert_eq!(ended[0].counts.failed, 1, "d-002 expired");
    assert_eq!((ended[1].job.as_str(), ended[1].counts.completed), ("two", 2));
}

#[test]
fn a_run_has_at_most_ten_thousand_batches() {
    let world = World::with_devices("{}", 10_001);
    let spec = "{target: {query: '*'}, action: {tags: {x: 1}}, delivery: {batchSize: 1}}";
    world.job("fine", spec);
    let (codes, words) = refusal(&world);
    assert_eq!(codes, "FF608");
    assert!(words.contains("into 10001 batches of 1") && words.contains("at least 2"), "{words}");
    world.job("fine", &spec.replace("batchSize: 1", "batchSize: 2"));
    assert!(!world.plan().unwrap().findings.diagnostics.has_errors());
}

#[test]
fn commands_to_one_device_keep_the_order_of_their_jobs() {
    let spec = "{link: {simulated: {latency: 1s, journal: devices.jsonl}}}";
    let world = World::with_devices(spec, 3);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    let command = |name: &str, devices: &str| {
        format!("{{target: {{devices: [{devices}]}}, action: {{command: {{name: {name}, responseTimeout: 5s}}}}}}")
    };
    world.job("one", &command("one", "d-001"));
    world.job("two", &command("two", "d-001, d-002"));
    world.job("three", &command("three", "d-002"));
    world.job("four", &command("four", "d-003"));
    assert_eq!(starts(&world), ["one", "four", "two", "three"], "four is about another device");
}
