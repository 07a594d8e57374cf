//! Conditions: which devices those of IoT Hub's documentation select, and the messages for malformed ones.
//!
//! `fixtures/queries` holds the twins, the conditions with the devices that each must select (in memory and in SQLite),
//! and the malformed ones with the column, from 1 and in characters, and the message. `reference` is the number of a
//! condition in the list that they come from: WHERE conditions seen in the documentation, the SDKs and the command line
//! of IoT Hub, 1 to 33.

use std::collections::BTreeSet;

use fleetform::query;
use fleetform::registry::DeviceFilter;
use serde_json::{Value, json};

use crate::twins::{fixture, listed, registry_of, text, twins};
use crate::world::World;

/// The conditions of the list are numbered from 1 to this.
const REFERENCES: u64 = 33;

/// Returns the ids of a line, sorted.
fn ids(of: &Value) -> BTreeSet<String> {
    of.as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_string()).collect()
}

#[test]
fn every_condition_selects_what_its_line_says() {
    let (twins, folder) = (twins(), crate::world::folder());
    let registry = registry_of(&twins, folder.path());
    let all: BTreeSet<String> = twins.iter().map(|twin| twin.device_id.clone()).collect();
    let (mut seen, mut problems) = (BTreeSet::new(), Vec::new());
    for line in fixture("conditions.jsonl") {
        let condition = text(&line, "condition");
        seen.extend(line["reference"].as_u64());
        let query = query::parse(condition).unwrap_or_else(|errors| panic!("{condition}: {errors:?}"));
        let expected: BTreeSet<String> = match line.get("selects") {
            Some(selected) => ids(selected),
            None => all.difference(&ids(&line["all_but"])).cloned().collect(),
        };
        assert!(expected.is_subset(&all), "{condition} expects devices that there are not");
        let in_memory = twins.iter().filter(|twin| query::matches(&query, twin)).map(|twin| twin.device_id.clone());
        let in_memory: BTreeSet<String> = in_memory.collect();
        let filter = DeviceFilter { query: Some(query), ..DeviceFilter::default() };
        let in_sqlite: BTreeSet<String> = listed(&registry, &filter).into_iter().collect();
        assert_eq!(
            registry.devices().count(&filter.request()).unwrap().selected,
            in_sqlite.len() as u64,
            "{condition}"
        );
        for (place, found) in [("in memory", in_memory), ("in SQLite", in_sqlite)] {
            if found != expected {
                problems.push(format!("{condition} selects {place}\n    {found:?}\n  and should\n    {expected:?}"));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
    // Those that are not about devices get a diagnostic.
    seen.extend(fixture("malformed.jsonl").iter().filter_map(|line| line["reference"].as_u64()));
    assert_eq!(seen, (1..=REFERENCES).collect(), "every condition of the list is looked at");
}

#[test]
fn every_malformed_condition_is_told_where_and_why() {
    let lines = fixture("malformed.jsonl");
    assert!(lines.len() >= 60, "there are enough conditions");
    let mut problems = Vec::new();
    for line in lines {
        let condition = text(&line, "condition");
        let Err(errors) = query::parse(condition) else {
            problems.push(format!("{condition} parses"));
            continue;
        };
        let first = &errors[0];
        let found = json!([condition[..first.start].chars().count() + 1, first.to_string()]);
        let expected = json!([line["column"], line["message"]]);
        if found != expected {
            problems.push(format!("{condition}\n    {found}\n  and should be\n    {expected}"));
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

/// In a file, the column is that of the token inside the YAML scalar; on the command line, that in the text.
#[test]
fn a_malformed_condition_is_told_where_it_was_written() {
    let world = World::new("{}");
    let mut expected = Vec::new();
    for (n, line) in fixture("malformed.jsonl").iter().enumerate() {
        let condition = text(line, "condition");
        if condition.contains('\n') {
            continue;
        }
        let spec = format!("{{query: '{}'}}", condition.replace('\'', "''"));
        world.declare(&format!("groups/{n:03}.yaml"), "DeviceGroup", &format!("group-{n}"), &spec);
        let column = line["column"].as_u64().unwrap();
        let quotes = condition.chars().take(column as usize - 1).filter(|c| *c == '\'').count() as u64;
        let before = "spec: {query: '".len() as u64;
        expected.push(json!([format!("groups/{n:03}.yaml"), 4, before + column + quotes, line["message"]]));
    }
    let mut told = world.run(&["validate", "--format", "json"]).expect(65).json();
    // With several mistakes in one condition, the first one is reported.
    told.dedup_by_key(|one| one["file"].clone());
    let found: Vec<Value> =
        told.iter().map(|one| json!([one["file"], one["line"], one["column"], one["detail"]])).collect();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found, expected);
    }

    let told = world.run(&["device", "list", "--query", "tags.a = 1 AND\ntag.b = 2", "--json"]).expect(65).json();
    assert_eq!((&told[0]["line"], &told[0]["column"]), (&json!(2), &json!(1)), "{told:?}");
}

/// Forty devices of three organizations: `acme`, `acme/eu` below it and `acme/eu/north` below that; `acme/eu2` is
/// another branch.
fn organized_world() -> World {
    let world = World::new("{}");
    for (at, (name, parent)) in
        [("acme", ""), ("eu", "parent: acme"), ("north", "parent: eu"), ("eu2", "parent: acme")].iter().enumerate()
    {
        world.declare(&format!("o{at}.yaml"), "Organization", name, &format!("{{{parent}}}"));
        let rows: String = (0..10).map(|n| format!("{name}-{n},{n}\n")).collect();
        world.write(&format!("i{at}.csv"), format!("IOTC_DEVICEID,TAG.n\n{rows}"));
        let spec = format!("{{file: i{at}.csv, organization: {name}}}");
        world.declare(&format!("i{at}.yaml"), "DeviceImport", name, &spec);
    }
    world.commit("devices");
    world.apply().unwrap();
    world
}

fn listed_ids(world: &World, arguments: &[&str]) -> Vec<String> {
    let all: Vec<&str> = ["device", "list", "--json"].iter().chain(arguments).copied().collect();
    let lines = world.run(&all).expect(0).json();
    lines.iter().map(|line| text(line, "device_id").to_string()).collect()
}

#[test]
fn a_list_of_an_organization_has_the_branches_below_it() {
    let world = organized_world();
    let check = |organization: &str, prefixes: &[&str]| {
        let mut expected: Vec<String> =
            prefixes.iter().flat_map(|prefix| (0..10).map(move |n| format!("{prefix}-{n}"))).collect();
        expected.sort();
        assert_eq!(listed_ids(&world, &["--organization", organization]), expected, "{organization}");
        let count = world.run(&["device", "list", "--organization", organization, "--count"]).expect(0).stdout;
        assert_eq!(count, format!("{}\n", expected.len()), "{organization}");
    };
    check("acme", &["acme", "eu", "north", "eu2"]);
    check("acme/eu", &["eu", "north"]);
    check("eu", &["eu", "north"]);
    check("acme/eu/north", &["north"]);
    check("acme/eu2", &["eu2"]);
    let told = world.run(&["device", "list", "--organization", "acme/eu3"]).expect(1).stderr;
    assert!(told.contains("there is no organization `acme/eu3`") && told.contains("Did you mean `acme/eu"), "{told}");
}

#[test]
fn a_list_is_read_in_pages() {
    let world = organized_world();
    let query = ["--organization", "acme/eu", "--query", "tags.n IN ['1', '3', '5'] OR tags.n = '7'"];
    let all = listed_ids(&world, &query);
    assert_eq!(all, ["eu-1", "eu-3", "eu-5", "eu-7", "north-1", "north-3", "north-5", "north-7"]);
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let page = listed_ids(&world, &[&query[..], &["--limit", "3", "--after", &after]].concat());
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        pages.push(page);
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3, 2]);
    assert_eq!(pages.concat(), all);
    // An id that is not there has a place in the order too, and a count has no pages.
    assert_eq!(listed_ids(&world, &[&query[..], &["--after", "eu-4"]].concat())[0], "eu-5");
    let count = [&["device", "list", "--count", "--limit", "3", "--after", "eu-5"], &query[..]].concat();
    assert_eq!(world.run(&count).expect(0).stdout, "8\n");
    assert_eq!(world.run(&[&count[..], &["--json"]].concat()).expect(0).json(), [json!({"count": 8})]);

    let shown = world.run(&[&["device", "list", "--limit", "3"], &query[..]].concat()).expect(0);
    assert!(shown.stderr.contains("3 devices\nFor the next ones, add --after eu-5\n"), "{shown:#?}");
    let shown = world.run(&[&["device", "list", "--limit", "30"], &query[..]].concat()).expect(0);
    assert!(!shown.stderr.contains("--after"), "{shown:#?}");
}

#[test]
fn a_condition_over_the_model_of_a_template_selects_its_devices() {
    let world = World::with_devices("{}", 6);
    let model = |id: &str| format!(r#"{{"@context": "dtmi:dtdl:context;2", "@id": "{id}", "@type": "Interface"}}"#);
    for (template, id) in [("lamp", "dtmi:acme:lamp;1"), ("gate", "dtmi:acme:gate;1")] {
        world.write(&format!("{template}.json"), model(id));
        world.declare(&format!("{template}.yaml"), "DeviceTemplate", template, &format!("{{model: {template}.json}}"));
        let devices = if template == "lamp" { "[d-001, d-002, d-003]" } else { "[d-004]" };
        let spec = format!("{{target: {{devices: {devices}}}, action: {{deviceTemplate: {template}}}}}");
        world.declare(&format!("jobs/to-{template}.yaml"), "Job", &format!("to-{template}"), &spec);
    }
    let query = "modelId = 'dtmi:acme:lamp;1' AND deviceId != 'd-002'";
    world.declare("group.yaml", "DeviceGroup", "lamps", &format!("{{query: \"{query}\"}}"));
    world.commit("templates");
    world.apply().unwrap();
    let count = |query: &str| world.run(&["device", "list", "--count", "--query", query]).expect(0).stdout;
    assert_eq!((count(query).as_str(), count("NOT is_defined(modelId)").as_str()), ("2\n", "2\n"));
    assert_eq!(count("devices.modelId != 'dtmi:acme:lamp;1'"), "1\n");
    assert_eq!(world.run(&["group", "show", "lamps", "--json"]).expect(0).json()[0]["devices"], 2);
    let device = world.run(&["device", "show", "d-003", "--json"]).expect(0).json();
    assert_eq!(device[0]["groups"], serde_json::json!(["lamps"]));
    world.job("tag", "{target: {group: lamps}, action: {tags: {seen: true}}}");
    world.apply().unwrap();
    assert_eq!(world.record("tag", "1")["completed"], 2);
}
