//! A branch that stands still: its newest commit cannot be used.

use std::fs;

use serde_json::{Value, json};

use super::{Hub, twin_job};
use crate::servers::wait_until;

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
