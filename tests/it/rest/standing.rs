//! A branch that stands still: its newest commit cannot be used, or does not come after the one that was applied last.

use std::fs;

use serde_json::{Value, json};

use super::{Hub, method_job, twin_job};
use crate::servers::{git, wait_until};
use crate::world::Ran;

fn later(hub: &Hub, id: &str) {
    let mut job = twin_job("*", &json!({"b": 1}));
    job["startTime"] = json!("2099-01-01T00:00:00Z");
    hub.put_job(id, &job).expect(200);
}

fn get(hub: &Hub, path: &str) -> Value {
    hub.ask("GET", path, &Value::Null).expect(200).body
}

#[test]
fn a_fleet_document_that_cannot_be_used_leaves_the_last_one_in_force() {
    let hub = Hub::new(2);
    hub.put_job("one", &twin_job("*", &json!({"a": 1}))).expect(200);
    hub.wait_job("one", "completed");
    later(&hub, "late");
    let fleet = fs::read_to_string(hub.world.file("fleetform.yaml")).unwrap();
    let broken = [fleet.replace("iotHub", "iotHob"), "a: [".to_string(), fleet.replace("kind: Fleet", "kind: Float")];
    for text in broken {
        assert_ne!(text, fleet);
        hub.world.write("fleetform.yaml", &text);
        hub.world.commit("Break the fleet");
        let head = hub.world.head();
        // What is read.
        assert_eq!(hub.job("one")["status"], "completed");
        assert_eq!(get(&hub, "/jobs/v2/query").as_array().unwrap().len(), 2);
        for query in ["SELECT * FROM devices", "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'one'"] {
            let rows = hub.ask("POST", "/devices/query", &json!({"query": query})).expect(200).body;
            assert_eq!(rows.as_array().unwrap().len(), 2, "{query}");
        }
        assert_eq!(get(&hub, "/devices/d-001")["deviceId"], "d-001");
        let late = hub.job("late");
        let why = late["statusMessage"].as_str().unwrap();
        assert!(late["status"] == "scheduled" && why.contains("fleetform.yaml"), "{late}");
        // What is state needs no commit.
        hub.ask("PATCH", "/twins/d-001", &json!({"tags": {"floor": text.len()}})).expect(200);
        assert_eq!(get(&hub, "/twins/d-001")["tags"]["floor"], json!(text.len()));
        // What needs one says why there is none.
        for answer in [
            hub.put_job("two", &twin_job("*", &json!({"a": 2}))),
            hub.ask("POST", "/jobs/v2/late/cancel", &Value::Null),
        ] {
            let answer = answer.expect_fault(503, "ServiceUnavailable");
            let said = answer.body["Message"].as_str().unwrap();
            assert!(said.contains("main cannot be used: fleetform.yaml:") && said.contains("FF"), "{said}");
        }
        hub.ask("POST", "/jobs/v2/nobody/cancel", &Value::Null).expect_fault(404, "JobNotFound");
        let over = hub.ask("POST", "/jobs/v2/one/cancel", &Value::Null);
        over.expect_fault(400, "OperationNotAllowedInCurrentState");
        assert_eq!(hub.world.head(), head);
        let status = hub.world.run(&["status", "--json"]).expect(0).json().remove(0);
        assert_eq!(status["fleet"]["passed_over"]["file"], "fleetform.yaml", "{status}");
        wait_until("the gateway says so", || {
            let status = hub.world.run(&["status", "--json"]).expect(0).json().remove(0);
            status["daemon"]["source"]["passed_over"] == json!(head) && status["daemon"]["held_count"] == 1
        });
    }
    hub.world.write("fleetform.yaml", &fleet);
    hub.world.commit("Mend the fleet");
    assert_eq!(hub.job("late")["statusMessage"], Value::Null);
    hub.put_job("two", &twin_job("*", &json!({"a": 2}))).expect(200);
    hub.wait_job("two", "completed");
    hub.ask("POST", "/jobs/v2/late/cancel", &Value::Null).expect(200);
}

#[test]
fn a_restarted_gateway_reads_with_the_last_document_that_was_valid() {
    let mut hub = Hub::new(1);
    hub.put_job("one", &twin_job("*", &json!({"a": 1}))).expect(200);
    hub.wait_job("one", "completed");
    let fleet = fs::read_to_string(hub.world.file("fleetform.yaml")).unwrap();
    hub.world.write("fleetform.yaml", fleet.replace("iotHub", "iotHob"));
    hub.world.commit("Break the fleet");
    hub.world.write("README.md", "a note\n");
    hub.world.commit("Read me");
    hub.kill();
    hub.start_rest();
    assert_eq!(hub.job("one")["status"], "completed");
    hub.world.write("fleetform.yaml", fleet);
    hub.world.commit("Mend the fleet");
    hub.put_job("two", &twin_job("*", &json!({"a": 2}))).expect(200);
    hub.wait_job("two", "completed");
}

#[test]
fn a_job_on_a_branch_that_was_rewound_says_that_it_is_held() {
    let hub = Hub::new(1);
    let before = hub.world.head();
    hub.put_job("one", &twin_job("*", &json!({"a": 1}))).expect(200);
    hub.wait_job("one", "completed");
    let after = hub.world.head();
    let applied = || hub.world.run(&["status", "--json"]).expect(0).json()[0]["fleet"]["applied_commit"].clone();
    wait_until("it is noted", || applied() == json!(after));
    let repository = hub.world.repository();
    let reset = |commit: &str| {
        let object = repository.find_object(commit.parse().unwrap(), None).unwrap();
        repository.reset(&object, git2::ResetType::Hard, None).unwrap();
    };
    reset(&before);
    let made = hub.put_job("two", &twin_job("*", &json!({"a": 2}))).expect(200).body;
    let is_held = |job: &Value| {
        let why = job["statusMessage"].as_str().unwrap_or_default();
        job["status"] == "queued"
            && why.contains("was rewound")
            && why.contains("--accept-rewind")
            && why.contains(&after[..12])
    };
    assert!(is_held(&made), "{made}");
    assert!(is_held(&hub.job("two")), "{}", hub.job("two"));
    let listed = get(&hub, "/jobs/v2/query");
    assert!(listed.as_array().unwrap().iter().all(is_held), "{listed}");
    // The same request again is the same job.
    assert!(is_held(&hub.put_job("two", &twin_job("*", &json!({"a": 2}))).expect(200).body));
    // What was there comes back.
    let own = hub.world.head();
    let person = ["-c", "user.name=p", "-c", "user.email=p@localhost", "merge", "-q", "--no-edit", &after];
    Ran::of(git().arg("-C").arg(hub.world.path()).args(person)).expect(0);
    assert_ne!(hub.world.head(), own);
    hub.wait_job("two", "completed");
    assert_eq!(hub.job("two")["statusMessage"], Value::Null);
}

#[test]
fn a_job_that_waits_for_devices_alone_says_nothing() {
    let hub = Hub::new(1);
    let made = hub.put_job("call", &method_job("*", 3_600)).expect(200).body;
    assert_eq!(made["statusMessage"], Value::Null, "{made}");
}

#[test]
fn nobody_is_told_to_apply_what_the_gateway_does() {
    let mut hub = Hub::new(1);
    let told = |hub: &Hub, arguments: &[&str]| {
        let said = hub.world.run(arguments).expect(0).stderr;
        assert!(!said.contains(" apply"), "{said}");
        said
    };
    let call = ["device", "call", "d-001", "reboot"];
    assert!(told(&hub, &call).contains("The gateway that works here does it"));
    assert!(told(&hub, &["job", "copy", "call-d-001-1"]).contains("The gateway that works here does it"));
    hub.kill();
    // A database may take a moment to notice that it is gone.
    wait_until("nobody works here", || told(&hub, &call).contains("start it with `fleetform gateway`"));
    assert!(
        told(&hub, &["device", "call", "d-001", "reboot", "--no-commit"]).contains("commit it: the fleet's gateway")
    );
}
