//! Pages of lists: the last one says that nothing follows.

use serde_json::{Value, json};

use super::{Hub, VERSION, twin_job};

/// Returns how many items each page of a query has, following the tokens.
fn pages(hub: &Hub, query: &str, size: usize) -> Vec<usize> {
    let (mut sizes, mut token) = (Vec::new(), String::new());
    loop {
        let path = format!("/devices/query?{VERSION}&pageSize={size}&continuationToken={token}");
        let body = json!({"query": query}).to_string();
        let page = hub.send("POST", &path, Some(&hub.signed("iothubowner")), body.as_bytes()).expect(200);
        sizes.push(page.body.as_array().unwrap().len());
        match page.headers.get("x-ms-continuation") {
            Some(next) if sizes.len() < 20 => token.clone_from(next),
            Some(_) => panic!("{query}: no page is the last one: {sizes:?}"),
            None => return sizes,
        }
    }
}

#[test]
fn no_token_leads_to_a_page_with_nothing() {
    let hub = Hub::new(4);
    for (id, condition) in [("one", "*"), ("two", "tags.parity = 'odd'"), ("void", "tags.parity = 'none'")] {
        hub.put_job(id, &twin_job(condition, &json!({"a": id}))).expect(200);
        hub.wait_job(id, "completed");
    }
    let rows = "SELECT * FROM devices.jobs";
    let check = |query: &str, size: usize, expect: &[usize]| {
        assert_eq!(pages(&hub, query, size), expect, "{query} by {size}");
    };
    check("SELECT * FROM devices", 2, &[2, 2]);
    check("SELECT * FROM devices", 3, &[3, 1]);
    check("SELECT * FROM devices", 4, &[4]);
    check(&format!("{rows} WHERE devices.jobs.jobId = 'one'"), 2, &[2, 2]);
    check(&format!("{rows} WHERE devices.jobs.jobId = 'one'"), 3, &[3, 1]);
    check(&format!("{rows} WHERE devices.jobs.jobId = 'one'"), 4, &[4]);
    check(&format!("{rows} WHERE devices.jobs.jobId = 'one' AND devices.jobs.deviceId < 'd-003'"), 2, &[2]);
    check(&format!("{rows} WHERE devices.jobs.jobId = 'void'"), 2, &[0]);
    // The rows of all jobs, one after the other.
    check(rows, 2, &[2, 2, 2]);
    check(rows, 4, &[4, 2]);
    check(rows, 6, &[6]);
    check(rows, 7, &[6]);
    check("SELECT TOP 4 * FROM devices.jobs", 2, &[2, 2]);
    let jobs = |size: usize| {
        let path = format!("/jobs/v2/query?{VERSION}&pageSize={size}");
        let page = hub.send("GET", &path, Some(&hub.signed("iothubowner")), b"").expect(200);
        (page.body.as_array().unwrap().len(), page.headers.contains_key("x-ms-continuation"))
    };
    assert_eq!([jobs(2), jobs(3), jobs(4)], [(2, true), (3, false), (3, false)]);
    assert_eq!(hub.ask("GET", "/configurations", &Value::Null).expect(200).body, json!([]));
    hub.ask("GET", "/configurations/c1", &Value::Null).expect_fault(404, "ConfigurationNotFound");
}
