//! Conditions: whatever a store can say of one in its own language, it selects what `query::matches` selects.

use std::collections::BTreeMap;

use fleetform::model::device::Device;
use fleetform::model::patch::{Section, violations};
use fleetform::query::{self, Query};
use fleetform::registry::{Assignment, Change, Chunk, DeviceFilter, Heard, HeardOf, ImportSpec, Request, Selection};
use serde_json::{Map, Value, json};

use super::Fresh;
use super::fleet::{Fleet, after, devices, hub, hub_spec, listed, now, observed, query};
use crate::twins::{fixture, text};

/// What some dialect of SQL cannot say, or not exactly: arithmetic, texts that are searched for and are not constant,
/// awkward keys, truth values that are compared again, and values of several types.
const AWKWARD: [&str; 36] = [
    "(tags.n + 1) % 2 = 0",
    "tags.n % 2.0 = 1",
    "tags.n % tags.m = 0",
    "tags.n / tags.m > 1",
    "-tags.n * 2 < tags.m - 0.5",
    "tags.n = tags.m",
    "tags.n != tags.m",
    "startswith(deviceId, tags.p)",
    "endswith(deviceId, tags.p)",
    "contains(tags.text, tags.p)",
    "startswith(tags.text, '{')",
    "contains(tags.text, \"a\\u0000\")",
    "endswith(tags.text, '😀')",
    "tags.text > 'é'",
    "tags.text IN ['ABC', '{\"a\":1}', '1']",
    "upper(tags.text) = 'ABC'",
    "lower(deviceId) = lower(tags.p)",
    "length(tags.text) = 3",
    "length(tags.list) > length(tags.p)",
    "tags.[[a\\b]] = 1",
    "is_defined(tags.[[a\\b]])",
    "tags.[[\"q\"]] = tags.[[a\\b]]",
    "tags.[[it's]].[[a\\b]] = 'x'",
    "tags.[[*]] = 1 OR tags.[[[0]] = 1",
    "(tags.n = 1) = tags.flag",
    "(tags.n = 1) = (tags.m = 1)",
    "tags.flag",
    "tags.n IN [tags.m, 2]",
    "tags.n NIN [tags.m, 'x']",
    "tags.n IN [1, '1', true, null]",
    "tags.n NIN [1, '1', true, null]",
    "NOT is_defined(tags.list) OR tags.list = tags.list",
    "is_primitive(tags.list) OR is_array(tags.list)",
    "is_null(tags.n) OR is_bool(tags.n)",
    "properties.desired.$version > properties.reported.$version",
    "template != 'lamp' AND organization > 'acme/e'",
];

/// Tags of the devices that the awkward conditions are about.
fn awkward_tags() -> Vec<Value> {
    vec![
        json!({"n": 1, "m": 1, "p": "aw", "text": "abc", "flag": true}),
        json!({"n": 2, "m": 1.0, "p": "AWKWARD-1", "text": "ABC", "flag": false}),
        json!({"n": 3.0, "m": 1.5, "p": "", "text": "{\"a\":1}"}),
        json!({"n": 1.5, "m": 0, "p": "3", "text": "a\u{0}b", "flag": 1}),
        json!({"n": "1", "m": "1", "p": 4, "text": "éa😀", "flag": "true"}),
        json!({"n": true, "m": true, "p": "awkward-5", "text": 1, "flag": {"a": 1}}),
        json!({"n": 4_503_599_627_370_495_i64, "m": 4_503_599_627_370_495.0, "list": [1, null], "text": "1", "p": "x"}),
        json!({"n": -7, "m": 2, "list": [], "p": "b", "a\\b": 1, "\"q\"": 1}),
        json!({"n": {"a": 1}, "m": [1], "list": {"a": 1}, "a\\b": {"c": 1}, "it's": {"a\\b": "x"}}),
        json!({"n": 1e300, "m": 1e-300, "*": 1, "text": ""}),
        json!({"n": 0, "m": 0.0, "[0": 1, "list": [[], {}]}),
        json!({}),
    ]
}

/// The devices of `fixtures/queries`, as far as the port can make them, and those with awkward tags.
fn fleet(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    let mut twins = fixture("twins.jsonl");
    // A key with a dot cannot be imported.
    twins.retain(|twin| violations(twin["tags"].as_object().unwrap(), Section::Tags).is_empty());
    assert!(twins.len() >= 40, "nearly all can");
    let mut groups: BTreeMap<_, Vec<Value>> = BTreeMap::new();
    for twin in &twins {
        let line = json!({
            "id": twin["deviceId"],
            "status": twin["status"],
            "capabilities": twin["capabilities"],
            "tags": twin["tags"],
            "properties": twin["properties"],
        });
        let of = (twin["template"].as_str(), twin["organization"].as_str(), twin["simulated"] == true);
        groups.entry(of).or_default().push(line);
    }
    let awkward =
        (0..).zip(awkward_tags()).map(|(n, tags): (u32, _)| json!({"id": format!("awkward-{n}"), "tags": tags}));
    groups.entry((None, Some("acme/eu/nl"), false)).or_default().extend(awkward);
    for (at, ((template, organization, simulated), lines)) in groups.iter().enumerate() {
        let spec = ImportSpec {
            template: template.map(str::to_string),
            organization: organization.map(str::to_string),
            simulated: *simulated,
            ..hub_spec(&format!("i{at}"))
        };
        assert_eq!(fleet.import(&spec, &hub(lines)).errors, []);
    }
    let (ids, run_id) = (fleet.target(), fleet.run("fill"));
    for twin in &twins {
        let device_id = text(twin, "deviceId");
        let presence = |is_online, at| Heard { device_id, at, what: HeardOf::Presence { is_online, is_news: true } };
        let is_connected = twin["connectionState"] == "Connected";
        if is_connected || twin["state"] == "provisioned" {
            fleet.registry.write(Change::Heard { from: &[presence(true, after(5))] }).unwrap();
        }
        if !is_connected {
            fleet.registry.write(Change::Heard { from: &[presence(false, after(6))] }).unwrap();
        }
        let devices = [(u32::try_from(ids.find(device_id).unwrap()).unwrap(), device_id)];
        let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: false, now: now() };
        let assignment = Assignment::patch(Section::Cloud, twin["cloud"].clone());
        fleet.registry.write(Change::Write { assignment: &assignment, chunk }).unwrap();
    }
    fleet
}

/// The conditions of the documentation and the awkward ones: each by itself, negated, and beside what all devices meet.
fn conditions() -> Vec<Query> {
    let documented = fixture("conditions.jsonl");
    let documented = documented.iter().map(|line| text(line, "condition"));
    let mut conditions = Vec::new();
    for condition in documented.chain(AWKWARD) {
        conditions.push(query(condition));
        if condition == "*" {
            continue;
        }
        conditions.push(query(&format!("NOT ({condition})")));
        conditions.push(query(&format!("is_defined(deviceId) OR ({condition})")));
        conditions.push(query(&format!("NOT (is_defined(moduleId) OR ({condition}))")));
    }
    conditions
}

fn request(query: &Query) -> Request {
    Request::new(Selection::Matching { template: None, conditions: vec![query.clone()] }, Vec::new())
}

/// Returns the ids of those devices that meet a condition.
fn meeting<'a>(devices: &'a [Device], query: &Query) -> Vec<&'a str> {
    devices.iter().filter(|device| query::matches(query, device)).map(|device| device.device_id.as_str()).collect()
}

pub fn an_observation_selects_what_the_reference_selects(fresh: Fresh) {
    let fleet = fleet(fresh);
    let devices = devices(&fleet.registry);
    for text in AWKWARD {
        let count = meeting(&devices, &query(text)).len();
        assert!(count > 0 && count < devices.len(), "{text} tells devices apart");
    }
    for query in conditions() {
        let found = observed(&fleet.registry, &request(&query));
        assert_eq!(found, meeting(&devices, &query), "{}", query.text());
    }
}

pub fn a_count_selects_what_the_reference_selects(fresh: Fresh) {
    let fleet = fleet(fresh);
    let devices = devices(&fleet.registry);
    for query in conditions() {
        let found = fleet.registry.devices().count(&request(&query)).unwrap().selected;
        assert_eq!(found, meeting(&devices, &query).len() as u64, "{}", query.text());
    }
}

pub fn a_list_selects_what_the_reference_selects(fresh: Fresh) {
    let fleet = fleet(fresh);
    let devices = devices(&fleet.registry);
    for query in conditions() {
        let filter = DeviceFilter {
            query: Some(query.clone()),
            after: Some("b".to_string()),
            limit: Some(5),
            organization: None,
        };
        let found: Vec<String> = listed(&fleet.registry, &filter).into_iter().map(|device| device.device_id).collect();
        let page: Vec<&str> = meeting(&devices, &query).into_iter().filter(|id| *id > "b").take(5).collect();
        assert_eq!(found, page, "{}", query.text());
    }
}

pub fn selects_all_says_what_the_reference_says(fresh: Fresh) {
    let fleet = fleet(fresh);
    let devices = devices(&fleet.registry);
    let mut answers = [0, 0];
    for query in conditions() {
        let is_all = meeting(&devices, &query).len() == devices.len();
        assert_eq!(fleet.registry.devices().selects_all(&request(&query)).unwrap(), is_all, "{}", query.text());
        answers[usize::from(is_all)] += 1;
    }
    assert!(answers.iter().all(|count| *count > 50), "both are asked for: {answers:?}");
}

/// Beside a selection and a question that the store may say exactly, and beside one that it may not.
pub fn questions_select_what_the_reference_selects(fresh: Fresh) {
    let fleet = fleet(fresh);
    let devices = devices(&fleet.registry);
    for selected in ["tags.n = 1", "(tags.n + 1) % 2 = 0"].map(query) {
        for question in AWKWARD.iter().flat_map(|text| [query(text), query(&format!("NOT ({text})"))]) {
            let plain = query("NOT is_defined(tags.n)");
            let passed_over = vec![vec![question.clone()], vec![plain.clone()], vec![question.clone(), plain.clone()]];
            let request = Request { passed_over, ..request(&selected) };
            let others = devices.iter().filter(|device| !query::matches(&selected, device));
            let mut expect = vec![0; 3];
            for device in others {
                let answers = [query::matches(&question, device), query::matches(&plain, device)];
                expect[0] += u64::from(answers[0]);
                expect[1] += u64::from(answers[1]);
                expect[2] += u64::from(answers[0] && answers[1]);
            }
            let found = fleet.registry.devices().observe(&request).unwrap();
            assert_eq!(found.passed_over, expect, "{} beside {}", question.text(), selected.text());
            assert_eq!(found.ids.iter().collect::<Vec<_>>(), meeting(&devices, &selected));
            assert_eq!(fleet.registry.devices().count(&request).unwrap().passed_over, expect, "{}", question.text());
        }
    }
}

pub fn conditions_beside_each_other_select_what_the_reference_selects(fresh: Fresh) {
    let fleet = fleet(fresh);
    let devices = devices(&fleet.registry);
    for pair in conditions().windows(2) {
        let expect: Vec<&str> =
            meeting(&devices, &pair[0]).into_iter().filter(|id| meeting(&devices, &pair[1]).contains(id)).collect();
        let request = Request::new(Selection::Matching { template: None, conditions: pair.to_vec() }, Vec::new());
        assert_eq!(observed(&fleet.registry, &request), expect, "{} and {}", pair[0].text(), pair[1].text());
    }
}

pub fn staged_devices_are_selected_as_the_reference_selects(fresh: Fresh) {
    let mut fleet = fleet(fresh);
    // Each device gets the tags of another one, and a new one comes with those of the first.
    let (tags, mut moved) = (awkward_tags(), awkward_tags());
    moved.rotate_left(5);
    moved.push(tags[0].clone());
    let empty: Map<String, Value> =
        tags.iter().flat_map(|tags| tags.as_object().unwrap().keys()).map(|key| (key.clone(), Value::Null)).collect();
    let line = |(n, tags): (usize, Value)| {
        let mut patch = empty.clone();
        patch.extend(tags.as_object().unwrap().clone());
        json!({"id": format!("awkward-{n}"), "tags": patch})
    };
    let lines: Vec<Value> = moved.into_iter().enumerate().map(line).collect();
    let found = fleet.stage(&hub_spec("moved"), &hub(&lines));
    assert_eq!((found.new, found.errors), (1, vec![]));
    fleet.registry.imports_mut().overlay().unwrap();
    let devices = devices(&fleet.registry);
    for query in conditions() {
        assert_eq!(observed(&fleet.registry, &request(&query)), meeting(&devices, &query), "{}", query.text());
    }
}
