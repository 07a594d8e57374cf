//! What became of the devices of a job, between the end of its run and its results.

use super::*;

fn rows(site: &Site) -> Vec<(String, String)> {
    let query = json!({"query": "SELECT * FROM devices.jobs WHERE devices.jobs.jobId = 'ask'"}).to_string();
    let (status, rows) = site.ask("iothubowner", "POST /devices/query", &[], &query);
    assert_eq!(status, 200, "{rows}");
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_string();
    rows.as_array().unwrap().iter().map(|row| (text(row, "deviceId"), text(row, "status"))).collect()
}

#[test]
fn they_are_there_before_the_results_are() {
    let site = Site::with_back_ends(2);
    let mut device = Device::new(&site, "d-001");
    site.wait_state("d-001", "Connected");
    let body = json!({
        "jobId": "ask",
        "type": "scheduleDeviceMethod",
        "queryCondition": "deviceId = 'd-001'",
        "cloudToDeviceMethod": {"methodName": "ask", "payload": null, "responseTimeoutInSeconds": 60},
        "startTime": jiff::Timestamp::now().to_string(),
        "maxExecutionTimeInSeconds": 600,
    });
    let (status, answer) = site.ask("iothubowner", "PUT /jobs/v2/ask", &[], &body.to_string());
    assert_eq!(status, 200, "{answer}");
    let (topic, _) = device.message();
    // As a git does that is at work: nothing can be committed.
    let lock = site.world.file(".git/refs/heads/fleetform/results.lock");
    fs::write(&lock, "").unwrap();
    let rid = topic.rsplit_once("$rid=").unwrap().1;
    // The connection may end, and is made again: the answer is in the registry.
    drop(device.publish_and_wait(&format!("$iothub/methods/res/200/?$rid={rid}"), "1"));
    wait_until("the run is over", || site.ask("iothubowner", "GET /jobs/v2/ask", &[], "").1["status"] == "completed");
    let expected = [("d-001".to_string(), "completed".to_string())];
    assert_eq!(rows(&site), expected);
    let page = site.world.run(&["job", "show", "ask", "--devices", "--json"]);
    assert!(page.stdout.contains("d-001"), "{page:#?}");
    assert!(!site.said().contains("event=run_finished"), "no results are on the branch");
    fs::remove_file(lock).unwrap();
    wait_until("the results are there", || site.said().contains("event=run_finished"));
    assert_eq!(rows(&site), expected);
}
