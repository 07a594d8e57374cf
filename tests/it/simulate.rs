//! Rehearsals: `simulate` predicts what the apply then does, and changes nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use fleetform::execute::Inbox;
use fleetform::ops::apply::ApplyOptions;
use serde_json::{Value, json};

use crate::world::{BRANCH, Ran, World, fleetform};

const LINK: &str = "{simulated: {seed: 3, latency: 40ms, failures: 12%, offline: 5%, journal: devices.jsonl, \
                    devices: {d-003: {silent: true}, d-011: {answers: 503}, d-019: {offline: true}, \
                    d-027: {connectsAfter: 1s}}}}";

/// A fleet with devices that fail in every way, three of them blocked, in the registry.
fn world() -> World {
    let world = World::with_devices(&format!("{{link: {LINK}}}"), 120);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.commit("ignore");
    world.apply().unwrap();
    world.sql("UPDATE device SET blocked = true WHERE device_id IN ('d-002', 'd-050', 'd-051')");
    world
}

/// Runs `simulate --json` with a folder of its own for temporary files, which is empty after it.
fn simulate(world: &World, arguments: &[&str]) -> Ran {
    let temporary = crate::world::folder();
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["simulate", "--json"]).args(arguments);
    command.env("TMPDIR", temporary.path());
    let ran = Ran::of(&mut command);
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0, "nothing is left behind");
    ran
}

/// Returns the line of a job.
fn line<'a>(lines: &'a [Value], job: &str) -> &'a Value {
    lines.iter().find(|line| line["job"] == job).unwrap_or_else(|| panic!("no line of {job}: {lines:#?}"))
}

/// Fails unless each job that was rehearsed has ended as it was told, batch by batch; returns the lines.
#[track_caller]
fn assert_predicted(world: &World, arguments: &[&str], code: i32, options: &ApplyOptions) -> Vec<Value> {
    let lines = simulate(world, arguments).expect(code).json();
    let applied = world.apply_with(options, &Inbox::new(), &mut |_| {}).unwrap();
    let predicted: Vec<&Value> = lines.iter().filter(|line| line.get("job").is_some()).collect();
    assert_eq!(predicted.len(), applied.records.len());
    for record in &applied.records {
        let line = line(&lines, record.job.as_str());
        let (found, told) = (record.to_json(), record.to_summary_json());
        assert_eq!(line["per_batch"], found["per_batch"], "{line:#}");
        for (key, value) in told.as_object().unwrap() {
            if !matches!(key.as_str(), "started_at" | "finished_at" | "source_commit") {
                assert_eq!(&line[key], value, "{key} of {line:#}");
            }
        }
        if let (Some(start), Some(end)) = (record.started_at, record.finished_at) {
            let took = end.duration_since(start).as_secs_f64();
            let predicted = line["takes_seconds"].as_f64().unwrap();
            // A step of the rehearsal is a twentieth of the latency, and each wave of requests may lose one.
            assert!((predicted - took).abs() <= 0.05 + took * 0.1, "{predicted} s and {took} s: {line:#}");
        }
    }
    lines
}

#[test]
fn a_property_job_ends_as_it_was_rehearsed() {
    let world = world();
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}, delivery: {batchSize: 25%}}");
    let lines = assert_predicted(&world, &[], 0, &ApplyOptions::default());
    assert_eq!(line(&lines, "dim")["failed"], 3);
    assert_eq!(line(&lines, "dim")["batches"], 4);
}

#[test]
fn a_canceled_property_job_ends_as_it_was_rehearsed() {
    let world = world();
    world.job(
        "dim",
        "{target: {query: '*'}, action: {property: {level: 3}}, \
         delivery: {batchSize: 30, cancellationThreshold: {failures: 1, per: batch}}}",
    );
    let lines = assert_predicted(&world, &[], 3, &ApplyOptions::default());
    let dim = line(&lines, "dim");
    assert_eq!((&dim["status"], &dim["failed"]), (&json!("canceled"), &json!(3)));
    assert!(dim["pending"].as_u64().unwrap() > 60, "{dim:#}");
}

#[test]
fn commands_end_as_they_were_rehearsed() {
    let world = world();
    let command = "{name: reboot, connectTimeout: 2s, responseTimeout: 3s}";
    world.job(
        "once",
        &format!("{{target: {{query: '*'}}, action: {{command: {command}}}, delivery: {{batchSize: 40}}}}"),
    );
    let lines = assert_predicted(&world, &[], 0, &ApplyOptions::default());
    let failed = line(&lines, "once")["failed"].as_u64().unwrap();
    assert!(failed > 10, "{failed}");

    world.job(
        "again",
        "{target: {query: '*'}, action: {command: {name: reboot, connectTimeout: 2s, responseTimeout: 3s, \
         idempotent: true}}, delivery: {retry: {attempts: 2, backoff: 1s}}}",
    );
    let lines = assert_predicted(&world, &[], 0, &ApplyOptions::default());
    // The one that is silent is asked three times.
    assert!(line(&lines, "again")["takes_seconds"].as_f64().unwrap() > 9.0);

    world.job(
        "canceled",
        "{target: {query: '*'}, action: {command: {name: reboot, connectTimeout: 2s, responseTimeout: 3s}}, \
         delivery: {batchSize: 20, cancellationThreshold: {failures: 5%}}}",
    );
    let lines = assert_predicted(&world, &[], 3, &ApplyOptions::default());
    assert_eq!(line(&lines, "canceled")["status"], "canceled");
    let executed = world.executions().len();
    assert!(executed > 200, "{executed}");
}

#[test]
fn an_answer_just_in_time_counts_in_the_rehearsal_too() {
    let world = world();
    // Latencies from one to three seconds: the last of them come after the deadline, some within a step of it.
    world.job("slow", "{target: {query: '*'}, action: {command: {name: reboot, responseTimeout: 2s}}}");
    let slow = LINK.replace("latency: 40ms", "latency: 2s").replace("failures: 12%", "failures: 0%");
    world.declare("fleetform.yaml", "Fleet", "acme", &format!("{{link: {slow}}}"));
    world.commit("slow");
    let lines = assert_predicted(&world, &[], 0, &ApplyOptions::default());
    let failed = line(&lines, "slow")["failed"].as_u64().unwrap();
    assert!((40..80).contains(&failed), "{failed} of 120, about half");
}

#[test]
fn devices_that_wait_are_waited_for_unless_told_otherwise() {
    let world = world();
    let delivery = "{confirm: acknowledged, offline: wait, expiresAfter: 2h}";
    world.job("dim", &format!("{{target: {{query: '*'}}, action: {{property: {{level: 3}}}}, delivery: {delivery}}}"));
    let left = simulate(&world, &["--no-wait"]).expect(0).json();
    assert_eq!(line(&left, "dim")["status"], "running");
    assert!(line(&left, "dim")["pending"].as_u64().unwrap() > 0);
    assert!(line(&left, "dim")["reason"].as_str().unwrap().contains("to acknowledge"));
    let lines = assert_predicted(&world, &[], 0, &ApplyOptions { waits: true, ..ApplyOptions::default() });
    assert_eq!(line(&lines, "dim")["status"], "completed");
    assert_eq!(line(&lines, "dim")["takes_seconds"], 7200.0);
}

#[test]
fn a_run_that_was_interrupted_is_rehearsed_to_its_end() {
    let world = World::with_devices("{link: {simulated: {latency: 1s, failures: 20%}}, limits: {inFlight: 1}}", 10);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot, responseTimeout: 10s}}}");
    assert!(world.apply_interrupted(Duration::from_millis(3_500)).was_interrupted);
    let lines = simulate(&world, &[]).expect(0).json();
    let takes = line(&lines, "reboot")["takes_seconds"].as_f64().unwrap();
    assert!((3.0..9.0).contains(&takes), "only what is left of it: {takes} s");
    let applied = world.apply().unwrap();
    assert_eq!(line(&lines, "reboot")["per_batch"], applied.records[0].to_json()["per_batch"]);
}

#[test]
fn imports_and_jobs_after_others_are_rehearsed_in_one_change() {
    let world = World::with_devices("{link: {simulated: {failures: 30%}}}", 40);
    world.job("first", "{target: {query: \"tags.parity = 'odd'\"}, action: {tags: {ring: canary}}}");
    world.job(
        "second",
        "{after: [first], target: {query: \"tags.ring = 'canary'\"}, action: {command: {name: reboot}}}",
    );
    world.job("third", "{after: [second], target: {failedOf: {job: second}}, action: {property: {level: 3}}}");
    world.job(
        "fourth",
        "{target: {query: '*'}, action: {command: {name: x}}, delivery: {cancellationThreshold: {failures: 0}}}",
    );
    world.job("fifth", "{after: [fourth], target: {query: '*'}, action: {property: {level: 4}}}");
    world.job("sixth", "{suspend: true, target: {query: '*'}, action: {property: {level: 5}}}");
    let lines = assert_predicted(&world, &[], 3, &ApplyOptions::default());
    let total = |job: &str| line(&lines, job)["total"].as_u64().unwrap();
    assert_eq!((total("first"), total("second")), (20, 20));
    assert!((2..15).contains(&total("third")), "the failed ones of the second: {}", total("third"));
    assert_eq!(lines[0]["imported"], 40);
    assert_eq!(lines[0]["import"], "all");
    let summary = &lines.last().unwrap()["summary"];
    assert_eq!(
        summary["held"],
        json!([
            {"job": "fifth", "reason": "waits for fourth, which was canceled"},
            {"job": "sixth", "reason": "suspended before it was claimed"},
        ])
    );
    assert_eq!(summary["jobs"], 4);
}

#[test]
fn the_same_rehearsal_has_the_same_bytes() {
    let world = world();
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {batchSize: 10}}");
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    let once = simulate(&world, &["--seed", "8"]).expect(0);
    assert_eq!(once.stdout, simulate(&world, &["--seed", "8"]).expect(0).stdout);
    assert_ne!(once.stdout, simulate(&world, &["--seed", "9"]).expect(0).stdout);
}

#[test]
fn the_options_are_in_place_of_what_the_fleet_says() {
    let world = world();
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    let count = |arguments: &[&str]| {
        let lines = simulate(&world, arguments).expect(0).json();
        let reboot = line(&lines, "reboot");
        (reboot["failed"].as_u64().unwrap(), reboot["takes_seconds"].as_f64().unwrap())
    };
    // Three are blocked; three behave in a way of their own, whatever the probabilities say, and only they fail too.
    assert_eq!(count(&["--failures", "0%", "--offline", "0%"]).0, 6);
    assert_eq!(count(&["--failures", "100%", "--offline", "0%"]).0, 120);
    assert!(count(&["--offline", "50%"]).0 > 50);
    let all = ["--failures", "0%", "--offline", "0%", "--latency", "20s"];
    assert!(count(&all).1 > 20.0);
    for bad in [["--failures", "5"], ["--offline", "101%"], ["--latency", "20"], ["--seed", "many"]] {
        let ran = simulate(&world, &bad).expect(64);
        assert!(ran.stderr.contains(bad[0]), "{}", ran.stderr);
    }
}

/// Every file below a folder, with its bytes and the time of its last change.
fn snapshot(folder: &Path) -> BTreeMap<String, (Vec<u8>, SystemTime)> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else {
                let changed = fs::metadata(&path).unwrap().modified().unwrap();
                files.insert(path.display().to_string(), (fs::read(&path).unwrap(), changed));
            }
        }
    }
    files
}

#[test]
fn nothing_is_touched() {
    let world = world();
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.apply().unwrap();
    assert!(world.file("devices.jsonl").exists() && world.file(".fleetform/fleet.lock").exists());
    world.write("devices.csv", crate::world::devices_csv(150));
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    world.job("again", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    let before = snapshot(world.path());
    let lines = simulate(&world, &[]).expect(0).json();
    assert_eq!(line(&lines, "dim")["total"], 150);
    assert!(line(&lines, "again")["failed"].as_u64().unwrap() > 0);
    let after = snapshot(world.path());
    let changed = |path: &&String| before.get(*path) != after.get(*path);
    assert_eq!(before.keys().chain(after.keys()).find(changed), None);
}

#[test]
fn a_fleet_without_a_registry_gets_none() {
    let world = World::with_devices("{}", 4);
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    let lines = simulate(&world, &[]).expect(0).json();
    assert_eq!(line(&lines, "dim")["completed"], 4);
    assert!(!world.file(".fleetform").exists());
}

#[test]
fn a_rehearsal_does_not_need_the_lock() {
    let world = world();
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    let _work = world.work("other/1/0");
    simulate(&world, &[]).expect(0);
}

#[test]
fn the_work_tree_is_rehearsed_or_a_commit() {
    let world = world();
    let dim = |level: u32, name: &str| {
        let spec = format!("{{target: {{query: '*'}}, action: {{property: {{level: {level}}}}}}}");
        world.declare(&format!("jobs/{name}.yaml"), "Job", name, &spec);
    };
    dim(3, "committed");
    world.commit("one");
    dim(3, "uncommitted");
    let lines = simulate(&world, &[]).expect(0).json();
    assert_eq!(lines.last().unwrap()["summary"]["jobs"], 2);
    assert_eq!(line(&lines, "uncommitted")["source_commit"], Value::Null);
    let lines = simulate(&world, &["--rev", "HEAD"]).expect(0).json();
    assert_eq!(lines.last().unwrap()["summary"]["jobs"], 1);
    assert_eq!(line(&lines, "committed")["source_commit"], json!(world.head()));
    let lines = simulate(&world, &["--rev", "HEAD~1"]).expect(0).json();
    assert_eq!(
        lines,
        [json!({"summary": {"jobs": 0, "imports": 0, "total": 0, "completed": 0, "failed": 0,
        "pending": 0, "republished_runs": null, "held": [], "takes_seconds": 0.0}})]
    );
    simulate(&world, &["--rev", "nothing"]).expect(64);
}

#[test]
fn what_a_plan_refuses_is_refused_alike() {
    let world = world();
    world.job("dim", "{target: {query: '*', expect: {max: 5}}, action: {property: {level: 3}}}");
    let ran = simulate(&world, &[]).expect(65);
    assert_eq!(ran.json()[0]["severity"], "error");
    world.job("dim", "{target: {group: nobody}, action: {property: {level: 3}}}");
    simulate(&world, &[]).expect(65);
    // Found only when the target of the second is resolved: the first is told, and so is why the second is not.
    world.job("dim", "{target: {query: '*'}, action: {tags: {ring: canary}}}");
    let second = "{after: [dim], target: {query: \"tags.ring = 'canary'\", expect: {max: 5}}, action: {tags: {a: b}}}";
    world.job("second", second);
    let lines = simulate(&world, &[]).expect(65).json();
    assert_eq!(line(&lines, "dim")["completed"], 117);
    assert!(lines.iter().any(|line| line["severity"] == "error"), "{lines:#?}");
}

#[test]
fn without_a_results_branch_it_does_as_an_apply_would() {
    let world = world();
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.apply().unwrap();
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    let lose_branch = || world.repository().find_reference(&format!("refs/heads/{BRANCH}")).unwrap().delete().unwrap();
    // The registry remembers: the branch is published again.
    lose_branch();
    let people = world.run(&["simulate"]).expect(0);
    assert!(people.stdout.contains("published again from the registry, with 1 run."), "{}", people.stdout);
    assert!(world.repository().find_reference(&format!("refs/heads/{BRANCH}")).is_err(), "not by a rehearsal");
    let lines = assert_predicted(&world, &[], 0, &ApplyOptions::default());
    assert_eq!(lines.last().unwrap()["summary"]["republished_runs"], 1);
    assert!(lines.iter().all(|line| line["job"] != "reboot"), "nothing runs again");
    // Neither the branch nor the registry has the run.
    lose_branch();
    world.lose_registry();
    let plan = world.run(&["plan", "--json"]).expect(75);
    assert_eq!(simulate(&world, &[]).expect(75).stderr, plan.stderr);
}

#[test]
fn people_see_a_table_and_what_it_takes() {
    let world = world();
    world.job(
        "reboot",
        "{target: {query: '*'}, action: {command: {name: reboot}}, \
         delivery: {batchSize: 20, cancellationThreshold: {failures: 3}}}",
    );
    world.job("dim", "{suspend: true, target: {query: '*'}, action: {property: {level: 3}}}");
    let ran = world.run(&["simulate"]).expect(3);
    let (head, tail) = ran.stdout.rsplit_once("simulated in ").unwrap();
    assert!(tail.ends_with("s.\n"), "{tail}");
    insta::assert_snapshot!(head);
    world.run(&["simulate", "--failures", "0%", "--quiet"]).expect(3);
    assert_eq!(world.run(&["job", "list", "--json"]).expect(0).stdout, "");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_at_once_and_leaves_nothing() {
    let world = World::with_devices("{limits: {inFlight: 1}}", 30_000);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    let temporary = crate::world::folder();
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).arg("simulate").env("TMPDIR", temporary.path());
    let child = Ran::start(&mut command);
    let scratch = || fs::read_dir(temporary.path()).unwrap().flatten().next().map(|entry| entry.path());
    while !scratch().is_some_and(|path| path.join("HEAD").exists()) {
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(Duration::from_millis(200));
    Ran::of(std::process::Command::new("sh").args(["-c", &format!("kill -TERM {}", child.id())])).expect(0);
    let ran = Ran::after(child).expect(130);
    assert_eq!((ran.stdout.as_str(), ran.stderr.as_str()), ("", "\nEnded. Nothing was changed.\n"));
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
}
