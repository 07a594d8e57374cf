//! Commands that look at runs: the state of each device, the cause of a run's status, late answers, and the choice of
//! time zone tables.

use std::time::Duration;

use fleetform::execute::{Inbox, Progress};
use fleetform::model::outcome::{DeviceStatus, Reason, RunStatus};
use fleetform::ops::apply::ApplyOptions;
use serde_json::{Value, json};

use crate::world::World;

/// Applies, and ends the process without awaiting what is in flight when `devices` of them are terminal.
fn leave_in_flight(world: &World, devices: u64) {
    let options = ApplyOptions { grace: Duration::ZERO, ..ApplyOptions::default() };
    let interrupt = Inbox::new();
    let mut look = |progress: &Progress| {
        if let Progress::Advanced { counts, .. } = progress
            && counts.completed + counts.failed >= devices
        {
            interrupt.waker().interrupt();
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

    // A request that was not delivered is no longer in doubt: it is sent to its device again, but not to the other
    // devices in flight.
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

    // No process was left to take the answer.
    let world = late_world(2);
    assert_eq!(world.apply().unwrap().records[0].late, 0);
    let shown = world.run(&["job", "show", "reboot"]).expect(0);
    assert!(!shown.stdout.contains("late"), "{}", shown.stdout);
}

/// Returns the one cause with a word that `job show --why` gives.
#[track_caller]
fn cause(world: &World, arguments: &[&str], word: &str) -> Value {
    let mut all = vec!["job", "show", "--why", "--json"];
    all.extend(arguments);
    let answer = world.run(&all).expect(0).json().remove(0);
    let documented = include_str!("../../docs/why.md");
    for one in answer["why"].as_array().unwrap() {
        let word = one["cause"].as_str().unwrap();
        assert!(documented.contains(&format!("| `{word}` |")), "docs/why.md has no `{word}`");
        for key in one.as_object().unwrap().keys().filter(|key| *key != "cause") {
            assert!(documented.contains(&format!("`{key}`")), "docs/why.md has no key `{key}` of `{word}`");
        }
    }
    let found: Vec<&Value> =
        answer["why"].as_array().unwrap().iter().filter(|one| one["cause"] == json!(word)).collect();
    assert_eq!(found.len(), 1, "{answer:#}");
    found[0].clone()
}

/// Ten devices, two of a batch, of which d-002, d-003 and d-004 refuse; one after the other, a second each.
fn canceled_world(threshold: &str) -> World {
    let own = "{d-002: {answers: 500}, d-003: {answers: 503}, d-004: {answers: 500}}";
    let spec = format!("{{link: {{simulated: {{latency: 1s, devices: {own}}}}}, limits: {{inFlight: 1}}}}");
    let world = World::with_devices(&spec, 10);
    let delivery = format!("{{batchSize: 2, cancellationThreshold: {threshold}}}");
    world.job(
        "reboot",
        &format!("{{target: {{query: '*'}}, action: {{command: {{name: reboot}}}}, delivery: {delivery}}}"),
    );
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Canceled);
    world
}

fn ids(rows: &Value) -> Vec<&str> {
    rows.as_array().unwrap().iter().map(|row| row["device_id"].as_str().unwrap()).collect()
}

#[test]
fn the_crossing_of_a_threshold_is_replayed_in_the_order_of_recording() {
    let world = canceled_world("{failures: 20%}");
    let crossed = cause(&world, &["reboot"], "threshold-crossed");
    assert_eq!((&crossed["allowed"], &crossed["total"], &crossed["batch"]), (&json!(2), &json!(10), &Value::Null));
    assert_eq!(ids(&crossed["failures"]), ["d-002", "d-003", "d-004"]);
    let flags: Vec<&Value> = crossed["failures"].as_array().unwrap().iter().map(|row| &row["crossed"]).collect();
    assert_eq!(flags, [&json!(false), &json!(false), &json!(true)]);
    assert_eq!((&crossed["after"]["completed"], &crossed["after"]["failed"]), (&json!(0), &json!(0)));
    assert_eq!((&crossed["pending"], &crossed["pending_waiting"]), (&json!(6), &json!(0)));
    assert_eq!(cause(&world, &["reboot"], "failures")["by_reason"], json!({"rejected": 3}));

    let told = world.run(&["job", "show", "reboot", "--why"]).expect(0).stdout;
    assert!(
        told.contains("Threshold 20% per job: at most 2 of the 10 devices may fail. Failure 3 crossed it:"),
        "{told}"
    );
    assert!(told.lines().any(|line| line.contains("d-004") && line.ends_with("<- crossed")), "{told}");
    assert!(told.contains("6 devices stay pending."), "{told}");
    let shown = world.run(&["job", "show", "reboot"]).expect(0).stdout;
    assert!(shown.contains("failed     3 rejected"), "{shown}");

    // The document says something else now: what was recorded still has the numbers.
    world.job(
        "reboot",
        "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {cancellationThreshold: {failures: 9}}}",
    );
    assert_eq!(cause(&world, &["reboot"], "threshold-crossed"), crossed);
    cause(&world, &["reboot"], "edited");
}

#[test]
fn a_threshold_of_a_batch_counts_in_its_batch() {
    let world = canceled_world("{failures: 1, per: batch}");
    let crossed = cause(&world, &["reboot"], "threshold-crossed");
    assert_eq!((&crossed["allowed"], &crossed["total"], &crossed["batch"]), (&json!(1), &json!(2), &json!(2)));
    assert_eq!(ids(&crossed["failures"]), ["d-003", "d-004"], "the failure of batch 1 is not of this count");
}

#[test]
fn what_was_in_flight_at_the_crossing_is_told_apart() {
    let own = "{d-001: {latency: 3s}, d-002: {answers: 500, latency: 1s}, d-003: {answers: 500, latency: 2s}}";
    let spec = format!("{{link: {{simulated: {{devices: {own}}}}}, limits: {{inFlight: 3}}}}");
    let world = World::with_devices(&spec, 6);
    let delivery = "{cancellationThreshold: {failures: 0}}";
    world.job(
        "reboot",
        &format!("{{target: {{query: '*'}}, action: {{command: {{name: reboot}}}}, delivery: {delivery}}}"),
    );
    world.apply().unwrap();
    let crossed = cause(&world, &["reboot"], "threshold-crossed");
    assert_eq!(ids(&crossed["failures"]), ["d-002"]);
    assert_eq!((&crossed["after"]["completed"], &crossed["after"]["failed"]), (&json!(1), &json!(1)));
    assert_eq!(ids(&crossed["after"]["sample"]), ["d-003", "d-001"], "in the order in which they ended");
}

#[test]
fn a_long_list_of_failures_is_cut_and_ends_with_the_crossing() {
    let spec = "{link: {simulated: {latency: 1s, failures: 100%}}, limits: {inFlight: 1}}";
    let world = World::with_devices(spec, 40);
    let delivery = "{cancellationThreshold: {failures: 29}}";
    world.job(
        "reboot",
        &format!("{{target: {{query: '*'}}, action: {{command: {{name: reboot}}}}, delivery: {delivery}}}"),
    );
    world.apply().unwrap();
    let told = world.run(&["job", "show", "reboot", "--why"]).expect(0).stdout;
    assert!(
        told.contains("… 24 more") && told.lines().any(|l| l.contains("30      d-030") && l.ends_with("crossed")),
        "{told}"
    );
    assert!(told.lines().count() < 15, "{told}");
}

#[test]
fn a_run_that_waits_says_for_what_and_until_when() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {offline: true}}}}}", 4);
    let delivery = "{offline: wait, expiresAfter: 2h, batchSize: 2}";
    world.job(
        "reboot",
        &format!("{{target: {{query: '*'}}, action: {{command: {{name: reboot}}}}, delivery: {delivery}}}"),
    );
    world.apply().unwrap();
    let waits = cause(&world, &["reboot"], "offline");
    assert_eq!((&waits["devices"], &waits["sample"]), (&json!(1), &json!(["d-002"])));
    assert_eq!(waits["until"], json!("2026-11-20T12:00:00Z"));
    let batch = cause(&world, &["reboot"], "open-batch");
    assert_eq!((&batch["batch"], &batch["batches"], &batch["pending"]), (&json!(1), &json!(2), &json!(1)));
    assert_eq!(cause(&world, &["reboot"], "queued")["devices"], json!(2));
    let told = world.run(&["job", "show", "reboot", "--why"]).expect(0).stdout;
    assert!(
        told.contains("1 device waits to come online, until 2026-11-20 12:00:00Z (expiresAfter): d-002."),
        "{told}"
    );
}

#[test]
fn a_run_whose_devices_do_not_acknowledge_says_so() {
    let world = unacknowledged_world(1);
    world.apply().unwrap();
    let waits = cause(&world, &["dim"], "unacknowledged");
    assert_eq!((&waits["devices"], &waits["until"]), (&json!(2), &json!("2026-11-20T11:00:00Z")));
}

#[test]
fn a_claimed_run_without_a_slot_says_who_has_it() {
    let world = World::with_devices("{link: {simulated: {latency: 1s}}, limits: {runningJobs: 1}}", 4);
    for job in ["a", "b"] {
        world.job(job, "{target: {query: '*'}, action: {command: {name: reboot}}}");
    }
    leave_in_flight(&world, 1);
    let slot = cause(&world, &["b"], "slot");
    assert_eq!((&slot["running"], &slot["limit"]), (&json!(1), &json!(1)));
    assert_eq!(cause(&world, &["b"], "same-devices")["job"], json!("a"));
    assert!(cause(&world, &["a"], "in-flight")["devices"].as_u64().unwrap() > 0);
}

#[test]
fn a_stopped_run_says_who_stopped_it() {
    let world = late_world(8);
    world.apply_interrupted(Duration::from_millis(3_500));
    world.run(&["job", "stop", "reboot"]).expect(0);
    let told = world.run(&["job", "show", "reboot", "--why"]).expect(0).stdout;
    assert!(told.contains("says `suspend: true`: the next apply stops it."), "{told}");
    world.apply().unwrap();
    let stopped = cause(&world, &["reboot"], "stopped");
    let sum: u64 = ["done", "in_flight", "waiting", "queued"].iter().map(|key| stopped[key].as_u64().unwrap()).sum();
    assert_eq!((&stopped["by"], &stopped["total"], sum), (&json!("suspend"), &json!(8), 8));

    std::fs::remove_file(world.file("jobs/reboot.yaml")).unwrap();
    world.commit("Delete");
    assert_eq!(cause(&world, &["reboot"], "stopped")["by"], json!("undeclared"));
}

#[test]
fn a_completed_and_a_lost_run_have_their_numbers() {
    let world = late_world(8);
    world.apply_interrupted(Duration::from_millis(3_500));
    world.lose_registry();
    world.run(&["job", "show", "reboot", "--why"]).expect(0);
    assert_eq!(cause(&world, &["reboot"], "planned")["action"], json!("close"));
    world.apply().unwrap();
    let lost = cause(&world, &["reboot"], "journal-lost");
    assert_eq!((&lost["total"], &lost["unknown"]), (&json!(8), &json!(8)));
    assert_eq!(cause(&world, &["reboot"], "failures")["by_reason"], json!({"outcome-unknown": 8}));

    let world = late_world(8);
    world.apply().unwrap();
    let completed = cause(&world, &["reboot"], "completed");
    assert_eq!((&completed["completed"], &completed["failed"]), (&json!(7), &json!(1)));
    let late = cause(&world, &["reboot"], "late");
    assert_eq!((&late["total"], &late["answers"][0]["device_id"]), (&json!(1), &json!("d-001")));
}

#[test]
fn a_job_that_was_never_claimed_says_what_the_planner_says() {
    let world = World::with_devices("{link: {simulated: {devices: {d-001: {answers: 500}}}}}", 3);
    world.job(
        "one",
        "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {cancellationThreshold: {failures: 0}}}",
    );
    let planned = cause(&world, &["one"], "planned");
    assert_eq!(
        (&planned["action"], &planned["devices"], &planned["committed"]),
        (&json!("run"), &json!(3), &json!(true))
    );
    world.apply().unwrap();
    world.job("two", "{target: {query: '*'}, after: [one], action: {tags: {a: '1'}}}");
    let planned = cause(&world, &["two"], "planned");
    assert_eq!((&planned["action"], &planned["reason"]), (&json!("hold"), &json!("waits for one, which was canceled")));
    let before = cause(&world, &["two"], "after");
    assert_eq!((&before["status"], &before["counts"]["failed"]), (&json!("canceled"), &json!(1)));

    world.job("three", "{target: {query: '*', expect: {max: 2}}, action: {tags: {b: '1'}}}");
    assert_eq!(cause(&world, &["three"], "refused")["code"], json!("FF605"));
    assert_eq!(cause(&world, &["two"], "others-refused")["errors"], json!(1));

    world.declare("jobs/four.yaml", "Job", "four", "{suspend: true, target: {query: '*'}, action: {tags: {c: '1'}}}");
    let planned = cause(&world, &["four"], "planned");
    assert_eq!((&planned["action"], &planned["committed"]), (&json!("hold"), &json!(false)));
    let ran = world.run(&["job", "show", "fuor", "--why"]).expect(1);
    assert!(ran.stderr.contains("there is no job `fuor`"), "{}", ran.stderr);

    // A job that has run gets a new token: by default the command shows the new run, which is not claimed; the old
    // token shows the old run.
    let text = std::fs::read_to_string(world.file("jobs/one.yaml")).unwrap().replace("spec: {", "spec: {run: '2', ");
    world.write("jobs/one.yaml", text);
    world.commit("Again");
    assert_eq!(cause(&world, &["one"], "planned")["action"], json!("run"));
    cause(&world, &["one", "--run", "1"], "threshold-crossed");
    world.run(&["job", "show", "one", "--why", "--run", "7"]).expect(1);
    world.run(&["job", "show", "one", "--why", "--devices"]).expect(64);
}

#[test]
fn a_list_of_runs_can_be_asked_about_a_device() {
    let world =
        World::with_devices("{link: {simulated: {devices: {d-002: {answers: 500}, d-003: {offline: true}}}}}", 6);
    world.job("odd", "{target: {query: \"tags.parity = 'odd'\"}, action: {tags: {seen: '1'}}}");
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {offline: wait}}");
    world.apply().unwrap();
    let listed = |pattern: &str| -> Vec<(Value, Value, Value, Value)> {
        let runs = world.run(&["job", "list", "--json", "--device", pattern]).expect(0).json();
        let mut of: Vec<_> = runs
            .iter()
            .map(|run| {
                let of = |key: &str| run[key].clone();
                (of("job"), of("devices"), of("device_status"), of("device_reason"))
            })
            .collect();
        of.sort_by_key(|run| run.0.to_string());
        of
    };
    let run = |job: &str, devices: u64, status: Value, reason: Value| (json!(job), json!(devices), status, reason);
    assert_eq!(listed("d-002"), [run("reboot", 1, json!("failed"), json!("rejected"))]);
    let waits = run("reboot", 1, json!("pending"), json!("waiting"));
    assert_eq!(listed("d-003"), [run("odd", 1, json!("completed"), json!("written")), waits]);
    assert_eq!(listed("d-00?"), [run("odd", 3, Value::Null, Value::Null), run("reboot", 6, Value::Null, Value::Null)]);
    assert_eq!(listed("e-*"), []);

    let table = world.run(&["job", "list", "--device", "d-002"]).expect(0).stdout;
    assert!(table.lines().nth(1).unwrap().ends_with("d-002   failed         rejected"), "{table}");
    let plain = world.run(&["job", "list"]).expect(0).stdout;
    assert!(!plain.contains("DEVICE-STATUS"), "{plain}");
    assert!(world.run(&["job", "list", "--json"]).expect(0).json()[0].get("device_id").is_none());
}

#[test]
fn a_device_is_found_in_a_run_that_keeps_failures_only() {
    let world =
        World::with_devices("{results: {devices: failures}, link: {simulated: {devices: {d-002: {answers: 500}}}}}", 3);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.apply().unwrap();
    let listed = |device: &str| world.run(&["job", "list", "--json", "--device", device]).expect(0).json();
    assert_eq!(listed("d-002")[0]["device_reason"], json!("rejected"));
    assert_eq!(
        (&listed("d-001")[0]["device_id"], &listed("d-001")[0]["device_status"]),
        (&json!("d-001"), &Value::Null)
    );
    assert!(listed("d-009").is_empty());
}

#[test]
fn chosen_columns_are_remembered_until_they_are_forgotten() {
    let world = World::with_devices("{}", 2);
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    world.apply().unwrap();
    let header = |arguments: &[&str]| {
        let mut all = vec!["job", "show", "dim"];
        all.extend(arguments);
        let ran = world.run(&all).expect(0);
        let words: Vec<&str> = ran.stdout.lines().next().unwrap().split_whitespace().collect();
        (words.join(" "), ran.stderr)
    };
    const DEFAULT: &str = "DEVICE_ID STATUS REASON CODE BATCH MESSAGE";
    let file = world.config_home().join("fleetform/columns.yaml");
    assert_eq!(header(&["--devices"]), (DEFAULT.to_string(), String::new()));
    assert!(!file.exists());

    let (words, said) = header(&["--columns", "id,reason"]);
    assert_eq!((words.as_str(), said.lines().count()), ("ID REASON", 1));
    assert!(said.contains(&format!("remembered in {}", file.display())), "{said}");
    assert_eq!(header(&["--columns", "id,reason"]).1, "", "it is known already");
    assert_eq!(header(&["--devices"]), ("ID REASON".to_string(), String::new()));
    assert_eq!(header(&["--status", "completed"]).0, "ID REASON");
    let row = world.run(&["job", "show", "dim", "--devices", "--json"]).expect(0).json().remove(0);
    assert_eq!(row.as_object().unwrap().len(), 10, "JSON has all columns");
    let csv = world.run(&["job", "results", "dim"]).expect(0).stdout;
    assert!(csv.starts_with("device_id,device_name,status,"), "{csv}");

    world.run(&["job", "show", "dim", "--columns", "id,colour"]).expect(64);
    assert_eq!(header(&["--devices"]).0, "ID REASON", "a mistake is not remembered");
    let (words, said) = header(&["--columns", "default"]);
    assert_eq!((words.as_str(), said.lines().count()), (DEFAULT, 1));
    assert_eq!(header(&["--devices"]), (DEFAULT.to_string(), String::new()));
    assert!(!file.exists());
}

#[test]
fn remembered_columns_that_cannot_be_used_or_kept_are_one_line() {
    let world = World::with_devices("{}", 2);
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}}");
    world.apply().unwrap();
    let file = world.config_home().join("fleetform/columns.yaml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let texts = ["columns: [id, colour]", "columns: []", "columns: 7", "{", "- id", "\u{0}\u{1b}[31m", ""];
    for bytes in texts.iter().map(|text| text.as_bytes()).chain([&b"\xff\xfe"[..]]) {
        std::fs::write(&file, bytes).unwrap();
        let ran = world.run(&["job", "show", "dim", "--devices"]).expect(0);
        assert!(ran.stdout.starts_with("DEVICE_ID  STATUS"), "{ran:?}");
        assert_eq!(ran.stderr.lines().count(), 1, "{ran:?}");
        assert!(ran.stderr.starts_with("warning: ") && !ran.stderr.contains('\u{1b}'), "{ran:?}");
    }
    // A folder where the file should be, and a file where the folder should be.
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir_all(file.join("inside")).unwrap();
    for choice in ["id,status", "default"] {
        let ran = world.run(&["job", "show", "dim", "--columns", choice]).expect(0);
        assert_eq!((ran.stdout.lines().count(), ran.stderr.lines().count()), (3, 1), "{ran:?}");
    }
    std::fs::remove_dir_all(world.config_home()).unwrap();
    std::fs::write(world.config_home(), "").unwrap();
    let ran = world.run(&["job", "show", "dim", "--columns", "id"]).expect(0);
    assert!(ran.stdout.starts_with("ID\n") && ran.stderr.contains("are not remembered"), "{ran:?}");
    assert_eq!(world.run(&["job", "show", "dim", "--devices"]).expect(0).stderr, "");
    let left: Vec<_> = std::fs::read_dir(world.file(".git"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_str().unwrap().ends_with(".partial"))
        .collect();
    assert!(left.is_empty());
}

#[test]
fn the_long_version_has_those_of_the_formats_and_of_the_time_zones() {
    let world = World::new("{}");
    let short = world.run(&["--version"]).expect(0).stdout;
    assert_eq!(short, format!("fleetform {}\n", env!("CARGO_PKG_VERSION")));
    let long = world.run(&["--version", "-v"]).expect(0).stdout;
    assert_eq!(long, world.run(&["-v", "-V"]).expect(0).stdout);
    for line in ["manifests  fleetform/v1", "results    format 1", "registry   schema 13", "plan       format 1.0"] {
        assert!(long.lines().any(|found| found == line), "{line}: {long}");
    }
    assert!(long.starts_with("fleetform  "), "{long}");
    let zones = long.lines().find_map(|line| line.strip_prefix("time zones ")).unwrap();
    assert!(zones.starts_with("20") || zones.starts_with("of an unknown version"), "{long}");
    assert!(zones.contains("built in"), "{long}");

    // A folder that is no database: the one in the binary is taken, or that of the system where it has one.
    let mut elsewhere = crate::world::fleetform();
    elsewhere.args(["--version", "-v"]).env("TZDIR", world.path());
    assert!(crate::world::Ran::of(&mut elsewhere).expect(0).stdout.contains("built in"));
}
