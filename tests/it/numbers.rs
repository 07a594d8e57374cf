//! The text, the comment and the JSON of a plan say the same numbers: each is read back, and they are compared.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::world::{Ran, World, devices_csv, fleetform};

/// The numbers of a plan, as any of its forms has them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Numbers {
    /// Of the last line: `to run`, `devices`, `imports`, `import devices`, `to continue`, `to stop`, `to close`.
    sums: BTreeMap<&'static str, u64>,
    /// By address: everything but what is done.
    changes: BTreeMap<String, Change>,
}

/// The numbers of a change; what is 0 or does not apply is left out.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    word: String,
    facts: BTreeMap<&'static str, u64>,
    /// Each row of the diff, sorted: its path and its devices.
    rows: Vec<(String, u64)>,
}

fn number(text: &str) -> u64 {
    text.replace(',', "").parse().unwrap_or_else(|_| panic!("no number: {text}"))
}

/// Returns the number at the front of a fact such as `12 unchanged` when the rest of it is one of these.
fn counted(fact: &str, wanted: &[&str]) -> Option<u64> {
    let (count, rest) = fact.split_once(' ')?;
    wanted.contains(&rest).then(|| number(count))
}

/// Puts the facts of a change, which the text and the comment have on a line, into their numbers.
fn facts_of(line: &str) -> BTreeMap<&'static str, u64> {
    let mut facts = BTreeMap::new();
    let mut add = |name, count: Option<u64>| facts.extend(count.filter(|count| *count > 0).map(|count| (name, count)));
    for fact in line.split(" · ") {
        let (devices, batches) = fact.split_once(" in ").unwrap_or((fact, "1 batch"));
        // A schedule has a number `now`, and no batches.
        let devices = devices.trim_end_matches(" as of now").trim_end_matches(" now");
        let count = counted(devices, &["device", "devices"]);
        add("devices", count);
        let (batches, canary) = batches.split_once(", the first of ").unwrap_or((batches, "0"));
        add("canary", Some(number(canary)));
        if count.is_some_and(|count| count > 0) && (!fact.ends_with(" now") || fact.ends_with("as of now")) {
            add("batches", counted(batches, &["batch", "batches"]));
        }
        add("unchanged", counted(fact, &["unchanged"]));
        add("blocked", counted(fact, &["blocked"]));
        add("mismatched", counted(fact, &["template-mismatch"]));
        add("missing", counted(fact, &["not in the registry"]));
        let allowed = fact.strip_prefix("cancel above ").map(|fact| fact.trim_end_matches(" in a batch"));
        // One more, so that none is a number too.
        add("failures", allowed.and_then(|fact| counted(fact, &["failure", "failures"])).map(|count| count + 1));
        add("new", counted(fact, &["new"]));
        let (updated, renamed) = fact.split_once(" (").unwrap_or((fact, ""));
        add("updated", counted(updated, &["updated"]));
        add("renamed", counted(renamed.trim_end_matches(')'), &["renamed"]));
        add("removed", counted(fact, &["to delete", "to block"]));
        add("rejected", counted(fact, &["rejected row", "rejected rows"]));
    }
    facts
}

fn sums_of<'a>(parts: impl Iterator<Item = &'a str>) -> BTreeMap<&'static str, u64> {
    let mut sums = BTreeMap::new();
    for part in parts {
        let (first, rest) = part.split_once(' ').unwrap();
        let second = |mark: &str| number(rest.split_once(mark).unwrap().1.split(' ').next().unwrap());
        match rest.split(' ').next().unwrap() {
            "import" | "imports" => sums.extend([("imports", number(first)), ("import devices", second(" of "))]),
            "job" | "jobs" => sums.extend([("to run", number(first)), ("devices", second(" on "))]),
            "to" => {
                let name = match rest.split(' ').nth(1).unwrap() {
                    "run" => "to run",
                    "continue" => "to continue",
                    "stop" => "to stop",
                    "close" => "to close",
                    other => panic!("{other}"),
                };
                sums.insert(name, number(first));
                if name == "to run" {
                    sums.insert("devices", second(" on "));
                }
            }
            other => panic!("{other}: {part}"),
        }
    }
    sums.retain(|_, count| *count > 0);
    sums
}

fn of_text(text: &str) -> Numbers {
    let mut numbers = Numbers::default();
    let mut last = None;
    for line in text.lines() {
        if let Some(sums) = line.strip_prefix("Plan: ") {
            let sums = sums.trim_end_matches('.');
            if sums != "nothing to do" {
                numbers.sums = sums_of(sums.split(", ").fold(Vec::new(), joined).iter().map(String::as_str));
            }
        } else if let Some(row) = line.strip_prefix("      ~ ").or_else(|| line.strip_prefix("      ! ")) {
            let path = row.split("  ").next().unwrap().trim().to_string();
            let devices = row.rsplit("  ").next().unwrap();
            let change: &mut Change = numbers.changes.get_mut(last.as_ref().unwrap()).unwrap();
            change.rows.push((path, counted(devices, &["device", "devices"]).unwrap()));
            change.rows.sort();
        } else if line.starts_with("  ") && !line.starts_with("    ") {
            let words: Vec<&str> = line[4..].split_whitespace().take(4).collect();
            if words[0] == "done" || words[0] == "index" {
                continue;
            }
            let facts = line[13..].split_once("  ").map_or("", |(_, facts)| facts.trim_start());
            numbers.changes.insert(
                words[1].to_string(),
                Change { word: words[0].into(), facts: facts_of(facts), rows: Vec::new() },
            );
            last = Some(words[1].to_string());
        }
    }
    numbers
}

/// Puts together what was split at the comma of a number.
fn joined(mut parts: Vec<String>, part: &str) -> Vec<String> {
    parts.push(part.to_string());
    parts
}

fn of_comment(text: &str) -> Numbers {
    let plain = |text: &str| {
        let mut text = text.to_string();
        for (code, c) in
            [("&#95;", "_"), ("&#126;", "~"), ("&#42;", "*"), ("&#35;", "#"), ("&#64;", "@"), ("&gt;", ">")]
        {
            text = text.replace(code, c);
        }
        text
    };
    let mut numbers = Numbers::default();
    let mut last = String::new();
    for line in text.lines() {
        let folded = line.strip_prefix("<details><summary>").map(|line| line.trim_end_matches("</summary>"));
        if let Some(title) = line.strip_prefix("### fleetform: ") {
            if title != "nothing to do" {
                numbers.sums = sums_of(title.split(", "));
            }
        } else if let Some(line) = folded.or_else(|| line.strip_prefix("- ")) {
            let line = plain(line);
            let (title, facts) = line.split_once(": ").unwrap();
            let words: Vec<&str> = title.split(' ').collect();
            if words[0] != "done" && words[0] != "warning" {
                let change = Change { word: words[0].to_string(), facts: facts_of(facts), rows: Vec::new() };
                numbers.changes.insert(words[1].to_string(), change);
                last = words[1].to_string();
            }
        } else if line.starts_with("| `") {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let change = numbers.changes.get_mut(&last).unwrap();
            change.rows.push((cells[0].trim_matches('`').to_string(), number(cells.last().unwrap())));
            change.rows.sort();
        }
    }
    numbers
}

fn of_json(plan: &Value) -> Numbers {
    let mut numbers = Numbers::default();
    let sums = [
        ("to run", "run"),
        ("devices", "devices"),
        ("imports", "import"),
        ("import devices", "import_devices"),
        ("to continue", "continue"),
        ("to stop", "stop"),
        ("to close", "close"),
    ];
    for (name, member) in sums {
        numbers.sums.insert(name, plan["summary"][member].as_u64().unwrap());
    }
    if numbers.sums["to run"] > 0 {
        numbers.sums.entry("devices").or_default();
    }
    numbers.sums.retain(|_, count| *count > 0);
    for change in plan["changes"].as_array().unwrap() {
        let action = change["actions"][0].as_str().unwrap();
        if action == "done" {
            continue;
        }
        let mut facts = BTreeMap::new();
        let mut add = |name, count: u64| facts.extend((count > 0).then_some((name, count)));
        let count = |pointer: &str| change.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
        add("devices", count("/targets/count") + count("/devices_now"));
        add("batches", count("/batches/count"));
        // One batch has no first one.
        add("canary", if count("/batches/count") > 1 { count("/batches/first") } else { 0 });
        add("unchanged", count("/targets/unchanged"));
        add("blocked", count("/targets/blocked"));
        add("mismatched", count("/targets/mismatched"));
        add("missing", count("/targets/missing"));
        if let Some(failures) = change.pointer("/threshold/failures").and_then(Value::as_str) {
            let per = if change["threshold"]["per"] == "job" { "/targets/count" } else { "/batches/size" };
            add(
                "failures",
                1 + match failures.strip_suffix('%') {
                    Some(percent) => number(percent) * count(per) / 100,
                    None => number(failures),
                },
            );
        }
        for name in ["new", "updated", "renamed", "rejected"] {
            add(name, count(&format!("/import/{name}")));
        }
        add("removed", count("/import/deleted") + count("/import/removed"));
        let row = |row: &Value| (row["path"].as_str().unwrap().to_string(), row["devices"].as_u64().unwrap());
        let mut rows: Vec<(String, u64)> = change["diff"].as_array().into_iter().flatten().map(row).collect();
        rows.sort();
        let word = if action == "schedule" { "next" } else { action }.to_string();
        numbers.changes.insert(change["address"].as_str().unwrap().to_string(), Change { word, facts, rows });
    }
    numbers
}

/// Compares the forms of the plan of a folder, and returns their numbers.
fn agreed(folder: &std::path::Path) -> Numbers {
    let run =
        |arguments: &[&str]| Ran::of(fleetform().arg("-C").arg(folder).arg("plan").args(arguments)).expect(0).stdout;
    let (text, comment) = (run(&["-v"]), run(&["--markdown", "--markdown-bytes", "10000000"]));
    let json = of_json(&serde_json::from_str(&run(&["--json"])).unwrap());
    assert_eq!(of_text(&text), json, "{text}");
    assert_eq!(of_comment(&comment), json, "{comment}");
    json
}

#[test]
fn the_forms_of_the_plan_of_a_new_example_agree() {
    for example in ["quickstart", "maintenance"] {
        let folder = crate::world::folder();
        let source = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
        copy(&source, folder.path());
        Ran::of(fleetform().args(["init", "--name", "unused"]).arg(folder.path())).expect(64);
        git2::Repository::init(folder.path()).unwrap();
        Ran::of(fleetform().arg("init").arg(folder.path())).expect(0);
        let numbers = agreed(folder.path());
        assert!(numbers.changes.len() >= 3, "{numbers:?}");
    }
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

const SLOW: &str = "{link: {simulated: {latency: 1s}}, limits: {inFlight: 2}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot, payload: {delay: 5}}}}";

#[test]
fn the_forms_of_a_plan_that_stops_continues_and_removes_agree() {
    let world = World::with_devices(SLOW, 10);
    world.job("first", REBOOT);
    world.job("second", REBOOT);
    world.apply_interrupted(Duration::from_millis(2_000));
    world.job("first", &REBOOT.replace("{target", "{suspend: true, target"));
    world.job("held", "{target: {query: '*'}, action: {tags: {ring: a}}, suspend: true}");
    world.job("named", "{target: {devices: [d-001, d-002, d-077]}, action: {tags: {parity: even, n: null}}}");
    world
        .job("later", "{target: {query: '*'}, action: {tags: {late: true}}, after: [named], delivery: {batchSize: 4}}");
    world.write("devices.csv", devices_csv(12).replace("d-003,Device 3,3,odd\n", "").replace("Device 4,", "Lamp 4,"));
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.csv, removed: delete}");
    world.declare(
        "nightly.yaml",
        "Schedule",
        "nightly",
        "{start: 2026-12-01T02:30:00, timeZone: UTC, recurrence: daily, job: {target: {query: '*'}, action: {command: \
         {name: reboot}}}}",
    );
    world.commit("more");
    world.sql("UPDATE device SET blocked = true WHERE device_id = 'd-002'");
    let numbers = agreed(world.path());
    let sums: Vec<(&str, u64)> = numbers.sums.iter().map(|(name, count)| (*name, *count)).collect();
    let expect =
        [("devices", 13), ("import devices", 4), ("imports", 1), ("to continue", 1), ("to run", 2), ("to stop", 1)];
    assert_eq!(sums, expect, "{numbers:?}");
    let facts = |address: &str| numbers.changes[address].facts.clone();
    assert_eq!(facts("import/all"), [("new", 2), ("removed", 1), ("renamed", 1), ("updated", 1)].into());
    assert_eq!(facts("job/named")["missing"], 1);
    assert_eq!(facts("job/later")["batches"], 3);
    world.lose_registry();
    assert!(agreed(world.path()).sums["to close"] >= 1, "runs whose journal was lost");
    world.run(&["apply", "--yes"]).expect(3);
}

#[test]
fn the_forms_of_a_plan_of_many_jobs_agree() {
    let world = World::with_devices("{}", 1_500);
    world.apply().unwrap();
    let mut documents = Vec::new();
    for n in 0..240_usize {
        let target = match n % 4 {
            0 => format!("{{query: \"tags.n = '{n}'\"}}"),
            1 => "{query: \"tags.parity = 'even'\"}".to_string(),
            2 => "{query: '*'}".to_string(),
            _ => format!("{{devices: [d-{:03}, d-{:03}]}}", n, n + 1),
        };
        let action = match n % 3 {
            0 => format!("{{property: {{p{n}: {{level: {n}, on: true}}}}}}"),
            1 => format!("{{tags: {{t{n}: x, parity{n}: y}}}}"),
            _ => format!("{{command: {{name: reboot{n}, payload: {{n: {n}}}}}}}"),
        };
        let (batch, failures) = (1 + n % 97, 1 + n % 50);
        let canary = 1 + n % 13;
        let per = if n % 2 == 0 { "job" } else { "batch" };
        let amount = if n % 5 == 0 { format!("'{failures}%'") } else { failures.to_string() };
        let size = if n % 7 == 0 { format!("'{}%'", 1 + n % 100) } else { (batch + 200).to_string() };
        documents.push(format!(
            "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: job-{n:03}}}\nspec: {{target: {target}, action: {action}, \
             delivery: {{batchSize: {size}, canary: {canary}, cancellationThreshold: {{failures: {amount}, per: {per}}}}}}}\n"
        ));
    }
    world.write("jobs.yaml", documents.join("---\n"));
    // One job of many values.
    let values: Vec<String> = (0..60).map(|n| format!("v{n}: {n}")).collect();
    let values = format!("{{target: {{query: '*'}}, action: {{property: {{{}}}}}}}", values.join(", "));
    world.declare("values.yaml", "Job", "values", &values);
    world.commit("many");
    let numbers = agreed(world.path());
    assert_eq!(numbers.sums["to run"], 241);
    assert_eq!(numbers.changes["job/values"].rows.len(), 60);
    assert_eq!(numbers.changes["job/job-002"].facts["canary"], 3);
    let devices: u64 = numbers.changes.values().filter_map(|change| change.facts.get("devices")).sum();
    assert_eq!(numbers.sums["devices"], devices, "the sum is that of the jobs");
}
