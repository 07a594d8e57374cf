//! Apply, end to end: the results branch, the registry and the devices afterwards, and then a second apply, a plan, an
//! interruption or a loss.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use fleetform::execute::{Inbox, Progress};
use fleetform::model::digest::Digest;
use fleetform::model::outcome::{DeviceStatus, Reason, RunStatus};
use fleetform::ops::apply::ApplyOptions;
use fleetform::plan::{ActionKind, plan_to_json};
use serde_json::{Value, json};

use crate::world::{BRANCH, Ran, World, devices_csv, fleetform};

/// The keys of `job list`, in alphabetical order.
const SUMMARY_KEYS: [&str; 13] = [
    "batches",
    "completed",
    "failed",
    "finished_at",
    "job",
    "pending",
    "reason",
    "run",
    "source_commit",
    "started_at",
    "status",
    "total",
    "unchanged",
];

const PROPERTY: &str = "{target: {query: '*'}, action: {property: {light: {level: 3}}}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Every file and folder below a folder, with its bytes.
fn snapshot(folder: &std::path::Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_path_buf()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path.clone());
                files.insert(path.display().to_string(), Vec::new());
            } else {
                files.insert(path.display().to_string(), fs::read(&path).unwrap());
            }
        }
    }
    files
}

#[test]
fn the_quickstart_runs_and_is_done() {
    let folder = crate::world::folder();
    let fleet = folder.path().join("my-fleet");
    let ran = Ran::of(fleetform().arg("quickstart").arg(&fleet)).expect(0);
    assert!(ran.stderr.contains("job reboot-hall-c run 1: canceled"), "{}", ran.stderr);
    let at = |arguments: &[&str]| Ran::of(fleetform().arg("-C").arg(&fleet).args(arguments));
    assert_eq!(at(&["device", "list", "--count"]).expect(0).stdout.trim(), "1000");
    let list = at(&["job", "list", "--json"]).expect(0).json();
    let status = |job: &str| list.iter().find(|line| line["job"] == job).unwrap()["status"].as_str().unwrap();
    assert_eq!(list.len(), 5);
    for job in ["assign-owner", "canary-template", "dim-hall-a", "mark-tested"] {
        assert_eq!(status(job), "completed", "{job}");
    }
    assert_eq!(status("reboot-hall-c"), "canceled");
    // Nothing is left to do, and a second apply says so.
    let plan = at(&["plan", "--json", "--detailed-exitcode"]).expect(0).json();
    assert!(plan[0]["changes"].as_array().unwrap().iter().all(|change| change["actions"] == json!(["done"])));
    at(&["apply", "--yes"]).expect(0);
    // The canceled job is a bad end for apply, though not for the quickstart.
    assert!(
        at(&["job", "show", "reboot-hall-c", "--devices", "--status", "failed"]).expect(0).stdout.contains("lamp-07")
    );
}

#[test]
fn results_are_commits_of_one_job_each() {
    let world = World::with_devices("{}", 3);
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}, delivery: {batchSize: 2}}");
    world.apply().unwrap();
    assert_eq!(
        world.subjects(),
        [
            "fleet acme: results",
            "fleet: a registry begins to work",
            "import all: 3 imported, 0 updated",
            "claim job dim run 1: 3 devices",
            "job dim run 1: completed, 3 completed, 0 failed",
        ]
    );
    let record = world.record("dim", "1");
    let message = world.messages().pop().unwrap();
    let trailers: Vec<&str> = message.lines().skip(2).collect();
    assert_eq!(trailers[0], "Fleetform-Run: acme/job/dim/1");
    assert_eq!(trailers[1], format!("Fleetform-Source: {}", world.head()));
    assert_eq!(trailers[2], format!("Fleetform-Plan: {}", record["plan_id"].as_str().unwrap()));
    assert!(trailers[3].starts_with("Fleetform-Writer: fleetform "), "{message}");
    assert_eq!(trailers.len(), 4);

    let mut expect: Vec<&str> = SUMMARY_KEYS.to_vec();
    expect.extend(["format_version", "late", "per_batch", "plan_id", "published", "spec_digest"]);
    expect.sort_unstable();
    let mut found = keys(&record);
    found.sort_unstable();
    assert_eq!(found, expect);
    assert_eq!(record["source_commit"], json!(world.head()));
    let counts: Vec<(u64, u64)> = record["per_batch"].as_array().unwrap().iter().map(counts_of).collect();
    assert_eq!(counts, [(2, 2), (1, 1)]);

    let files = world.results();
    let paths: Vec<&str> = files.keys().map(String::as_str).filter(|path| !path.starts_with("imports/")).collect();
    assert_eq!(paths, ["claims/dim/1.json", "fleet.json", "runs/dim/1/devices-00001.csv", "runs/dim/1/run.json"]);
    let shard = String::from_utf8(files["runs/dim/1/devices-00001.csv"].clone()).unwrap();
    let mut lines = shard.split("\r\n");
    let header = "device_id,device_name,status,reason,code,message,attempts,batch,started_at,finished_at";
    assert_eq!(lines.next(), Some(header));
    let first = "d-001,Device 1,completed,written,,,1,1,2026-11-20T10:00:00Z,2026-11-20T10:00:00Z";
    assert_eq!(lines.next(), Some(first));
    let ids: Vec<String> = world.rows("dim", "1").into_iter().map(|row| row.device_id).collect();
    assert_eq!(ids, ["d-001", "d-002", "d-003"]);
}

fn counts_of(batch: &Value) -> (u64, u64) {
    (batch["total"].as_u64().unwrap(), batch["completed"].as_u64().unwrap())
}

#[test]
fn the_history_of_results_is_an_orphan_and_only_grows() {
    let world = World::with_devices("{}", 2);
    world.job("dim", PROPERTY);
    world.apply().unwrap();
    let repository = world.repository();
    let tip = repository.find_reference(&format!("refs/heads/{BRANCH}")).unwrap().target().unwrap();
    assert!(repository.merge_base(tip, repository.head().unwrap().target().unwrap()).is_err(), "no common history");
    let mut walk = repository.revwalk().unwrap();
    walk.push(tip).unwrap();
    for id in walk {
        let commit = repository.find_commit(id.unwrap()).unwrap();
        assert!(commit.parent_count() <= 1);
        // No empty commits.
        let before = commit.parent(0).ok().map(|parent| parent.tree_id());
        assert_ne!(before, Some(commit.tree_id()), "{:?}", commit.message());
    }
}

#[test]
fn a_second_apply_does_nothing() {
    let world = World::with_devices("{link: {simulated: {journal: devices.jsonl}}}", 5);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("reboot", REBOOT);
    world.apply().unwrap();
    let registry = || fs::read(world.registry_path()).unwrap();
    let (before, messages, executions) = (registry(), world.messages(), world.executions());
    assert_eq!(executions.len(), 5);
    let again = world.apply().unwrap();
    assert!(again.was_empty && again.records.is_empty() && again.imports.is_empty());
    assert_eq!(world.messages(), messages);
    assert_eq!(world.executions(), executions);
    assert!(registry() == before, "the registry's file has the same bytes");
    assert!(!world.plan().unwrap().plan.has_changes());
}

#[test]
fn nothing_that_was_claimed_runs_again_when_the_registry_is_lost() {
    let world = World::with_devices("{link: {simulated: {journal: devices.jsonl}}}", 4);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("reboot", REBOOT);
    world.job("dim", PROPERTY);
    world.apply().unwrap();
    let executions = world.executions();
    let claims: Vec<String> = world.subjects().into_iter().filter(|line| line.starts_with("claim")).collect();
    world.lose_registry();
    let applied = world.apply().unwrap();
    assert_eq!(applied.records, []);
    assert_eq!(applied.imports[0].1.imported, 4, "devices come back by import");
    assert_eq!(world.executions(), executions);
    assert_eq!(world.subjects().into_iter().filter(|line| line.starts_with("claim")).collect::<Vec<_>>(), claims);
    assert_eq!(world.device("d-001").desired, json!({}), "a done job is not done again for new devices");
}

#[test]
fn plan_tells_whether_there_is_something_to_do() {
    let world = World::with_devices("{}", 3);
    world.job("dim", PROPERTY);
    world.run(&["plan"]).expect(0);
    world.run(&["plan", "--detailed-exitcode"]).expect(2);
    world.run(&["apply", "--yes"]).expect(0);
    world.run(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn plan_writes_nothing() {
    let world = World::with_devices("{}", 3);
    world.job("dim", PROPERTY);
    let check = |world: &World| {
        let before = snapshot(world.path());
        world.run(&["plan"]).expect(0);
        world.run(&["plan", "--rev", "HEAD", "--json"]).expect(0);
        world.run(&["validate"]).expect(0);
        world.run(&["job", "list"]).expect(0);
        world.run(&["device", "list"]).expect(0);
        let after = snapshot(world.path());
        let changed = |path: &&String| before.get(*path) != after.get(*path);
        assert_eq!(before.keys().chain(after.keys()).find(changed), None);
    };
    check(&world);
    assert!(!world.has_registry(), "a plan makes no registry");
    world.apply().unwrap();
    world.job("dim-2", "{target: {query: '*'}, action: {property: {light: {level: 4}}}}");
    check(&world);
}

/// The plan sees the devices of an import that is not applied yet.
#[test]
fn a_plan_counts_the_devices_of_its_own_imports() {
    let world = World::with_devices("{}", 7);
    world.job("dim", "{target: {query: \"tags.parity = 'odd'\"}, action: {property: {level: 3}}}");
    let plan = plan_to_json(&world.plan().unwrap().plan);
    assert_eq!(plan["changes"][1]["targets"]["count"], 4);
    assert_eq!(plan["summary"]["import_devices"], 7);
    let applied = world.apply().unwrap();
    assert_eq!(applied.records[0].counts.total, 4);
}

#[test]
fn each_action_changes_what_it_is_for_and_leaves_alone_what_is_as_desired() {
    let world = crate::edge::world("{link: {simulated: {journal: devices.jsonl}}}", 3, 0);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.write(
        "m.json",
        r#"{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:x:M;1", "@type": "Interface", "contents": [
          {"@type": "Property", "name": "light", "writable": true, "schema":
            {"@type": "Object", "fields": [{"name": "level", "schema": "integer"}]}},
          {"@type": "Command", "name": "reboot"}]}"#,
    );
    world.declare("t.yaml", "DeviceTemplate", "lamp", "{model: m.json, cloudProperties: {owner: string}}");
    let edge = crate::edge::manifest(json!({}));
    world.write("g.json", edge.to_string());
    world.declare("g.yaml", "EdgeManifest", "gateway", "{file: g.json}");
    world.commit("template and manifest");
    world.apply().unwrap();
    let digest = Digest::of_json(&edge["modulesContent"]);
    world.sql(&format!(
        "UPDATE device SET desired = '{{\"light\":{{\"level\":3}}}}', tags = json_set(tags, '$.ring', 'canary'),
             cloud = '{{\"owner\":\"north\"}}', template = 'lamp', edge_manifest = 'gateway',
             edge_manifest_digest = '{digest}' WHERE device_id = 'd-002'"
    ));
    let actions = [
        ("property", "{property: {light: {level: 3}}}"),
        ("cloud", "{cloudProperty: {owner: north}}"),
        ("tags", "{tags: {ring: canary}}"),
        ("template", "{deviceTemplate: lamp}"),
        ("edge", "{edgeManifest: gateway}"),
        ("command", "{command: {name: reboot}}"),
    ];
    for (name, action) in actions {
        let file = format!("jobs/{name}.yaml");
        world.declare(&file, "Job", name, &format!("{{target: {{query: '*'}}, action: {action}}}"));
    }
    world.commit("jobs");
    let before = world.devices();
    let applied = world.apply().unwrap();
    assert_eq!(applied.records.len(), 6);
    assert!(applied.records.iter().all(|record| record.status == RunStatus::Completed), "{:?}", applied.records);
    for (name, _) in actions {
        let reasons: Vec<Reason> = world.rows(name, "1").iter().map(|row| row.reason).collect();
        let expect = match name {
            "command" => [Reason::Responded; 3],
            _ => [Reason::Written, Reason::Unchanged, Reason::Written],
        };
        assert_eq!(reasons, expect, "{name}");
        let unchanged = if name == "command" { 0 } else { 1 };
        assert_eq!(world.record(name, "1")["unchanged"], json!(unchanged), "{name}");
    }
    for (before, after) in before.iter().zip(world.devices()) {
        assert_eq!(after.desired, json!({"light": {"level": 3}}));
        assert_eq!(after.cloud, json!({"owner": "north"}));
        assert_eq!(after.tags["ring"], "canary");
        assert_eq!(after.tags["n"], before.tags["n"]);
        assert_eq!((after.template.as_deref(), after.edge_manifest.as_deref()), (Some("lamp"), Some("gateway")));
        let moved = u64::from(before.device_id != "d-002");
        assert_eq!(after.desired_version - before.desired_version, moved, "{}", before.device_id);
    }
    assert_eq!(world.executions().len(), 3);
}

#[test]
fn a_twin_job_sets_tags_and_desired_properties_at_once() {
    let world = World::with_devices("{link: {simulated: {journal: devices.jsonl}}}", 3);
    let job = |run: &str, level: u64| {
        world.job(
            "move",
            &format!(
                "{{run: \"{run}\", target: {{devices: [d-001, d-002]}}, delivery: {{confirm: acknowledged}},
                   action: {{twin: {{tags: {{ring: a}}, property: {{light: {{level: {level}}}}}}}}}}}"
            ),
        );
    };
    job("1", 3);
    let planned = world.run(&["plan", "--json"]).expect(0).json()[0].clone();
    let changes = planned["changes"].as_array().unwrap();
    let change = changes.iter().find(|change| change["address"] == "job/move").unwrap();
    let lines = change["diff"].as_array().unwrap();
    let paths: Vec<&str> = lines.iter().map(|line| line["path"].as_str().unwrap()).collect();
    assert_eq!((paths, &change["work"]), (vec!["light.level", "tags.ring"], &json!("twin")));
    world.apply().unwrap();
    let reasons = |run: &str| world.rows("move", run).iter().map(|row| row.reason).collect::<Vec<_>>();
    assert_eq!(reasons("1"), [Reason::Acknowledged; 2]);
    for (device, is_meant) in world.devices().iter().zip([true, true, false]) {
        assert_eq!(device.tags["ring"] == "a", is_meant, "{device:?}");
        assert_eq!(device.desired == json!({"light": {"level": 3}}), is_meant, "{device:?}");
    }
    let told = world.devices()[0].desired_version;
    job("2", 3);
    world.apply().unwrap();
    assert_eq!(reasons("2"), [Reason::Unchanged; 2]);
    assert_eq!(world.devices()[0].desired_version, told);
    // It is in conflict with a job that writes either part.
    job("3", 4);
    for (other, path) in [("tags: {ring: b}", "tags.ring"), ("property: {light: {level: 5}}", "light.level")] {
        world.job("other", &format!("{{target: {{devices: [d-002]}}, action: {{{other}}}}}"));
        let refused = world.run(&["plan"]).expect(65);
        assert!(refused.stderr.contains(path) && refused.stderr.contains("FF604"), "{refused:?}");
    }
}

#[test]
fn a_canceled_run_has_a_row_for_every_device() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {answers: 503}}}}}", 6);
    world.job(
        "reboot",
        "{target: {query: '*'}, action: {command: {name: reboot}},
          delivery: {batchSize: 2, cancellationThreshold: {failures: 0}}}",
    );
    let applied = world.apply().unwrap();
    assert_eq!(applied.records[0].status, RunStatus::Canceled);
    let rows = world.rows("reboot", "1");
    let statuses: Vec<DeviceStatus> = rows.iter().map(|row| row.status).collect();
    use DeviceStatus::{Completed, Failed, Pending};
    assert_eq!(statuses, [Completed, Failed, Pending, Pending, Pending, Pending]);
    assert_eq!((rows[1].reason, rows[1].code), (Reason::Rejected, Some(503)));
    assert_eq!((rows[2].reason, rows[2].attempts, rows[2].started_at), (Reason::Queued, 0, None));
    assert_eq!(rows.iter().map(|row| row.batch).collect::<Vec<_>>(), [1, 1, 2, 2, 3, 3]);
    assert_eq!(world.subjects().pop().unwrap(), "job reboot run 1: canceled, 1 completed, 1 failed, 4 pending");
    let reason = world.record("reboot", "1")["reason"].as_str().unwrap().to_string();
    assert!(reason.starts_with("1 of 6 devices failed"), "{reason}");
}

#[test]
fn exit_codes_tell_how_jobs_ended() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {answers: 503}}}}}", 3);
    world.job("reboot", REBOOT);
    world.run(&["apply", "--yes"]).expect(0);
    world.job("reboot", &REBOOT.replace("{target", "{run: '2', target"));
    world.run(&["apply", "--yes", "--strict"]).expect(3);
    let canceled = REBOOT.replace("{target", "{run: '3', delivery: {cancellationThreshold: {failures: 0}}, target");
    world.job("reboot", &canceled);
    world.run(&["apply", "--yes"]).expect(3);
    // Rejected rows are a failure only with --strict.
    world.write("devices.csv", devices_csv(3) + "not legal,x,1,odd\n");
    world.commit("a bad row");
    world.run(&["apply", "--yes"]).expect(0);
    world.write("devices.csv", devices_csv(4) + "not legal,x,1,odd\n");
    world.commit("a bad row");
    world.run(&["apply", "--yes", "--strict"]).expect(3);
    assert!(world.results().keys().any(|path| path.ends_with("/errors.csv")));
}

#[test]
fn events_are_one_object_a_line_with_the_keys_of_job_list() {
    let world = World::with_devices("{}", 4);
    world.job("dim", "{target: {query: '*'}, action: {property: {level: 3}}, delivery: {batchSize: 2}}");
    let events = world.run(&["apply", "--yes", "--json"]).expect(0).json();
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let expect = ["import_finished", "run_claimed", "run_started", "batch_finished", "batch_finished", "run_finished"];
    assert_eq!(names, expect);
    let mut finished = keys(&events[5]);
    finished.retain(|key| *key != "event");
    let list = world.run(&["job", "list", "--json"]).expect(0).json();
    assert_eq!(finished, SUMMARY_KEYS);
    assert_eq!(keys(&list[0]), SUMMARY_KEYS);
    assert_eq!(list[0]["status"], "completed");
    let devices = world.run(&["job", "show", "dim", "--devices", "--json"]).expect(0).json();
    assert_eq!(devices.len(), 4);
    let results = world.run(&["job", "results", "dim"]).expect(0).stdout;
    assert_eq!(results.as_bytes(), world.results()["runs/dim/1/devices-00001.csv"]);
    // A run that is not there has no table, a header neither.
    assert_eq!(world.run(&["job", "results", "dim", "--run", "9"]).expect(1).stdout, "");
    for since in ["1w", "7d"] {
        assert_eq!(world.run(&["job", "list", "--json", "--since", since]).expect(0).json().len(), list.len());
    }
}

#[test]
fn wrong_usage_is_never_two() {
    let world = World::with_devices("{}", 1);
    let wrong: [&[&str]; 9] = [
        &[],
        &["plann"],
        &["plan", "--no-such-flag"],
        &["plan", "--rev", "no-such-revision"],
        &["job", "list", "--status", "done"],
        &["job", "list", "--since", "yesterday"],
        &["explain", "FF999"],
        &["apply"],
        &["apply", "no-such-plan.json", "--yes"],
    ];
    for arguments in wrong {
        let ran = world.run(arguments);
        assert_eq!(ran.code, 64, "{arguments:?}: {ran:#?}");
    }
    Ran::of(fleetform().args(["-C", "/", "plan"])).expect(64);
    world.run(&["--help"]).expect(0);
    world.run(&["--version"]).expect(0);
}

#[test]
fn an_import_twice_is_a_no_op() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    let (devices, keys) = (world.devices(), world.registry().devices().keys("d-001").unwrap());
    // Another spelling of the same file: applied again, and nothing changes.
    world.write("devices.csv", format!("\u{feff}{}", devices_csv(3).replace('\n', "\r\n")));
    world.commit("as a spreadsheet saves it");
    let applied = world.apply().unwrap();
    let report = &applied.imports[0].1;
    assert_eq!((report.imported, report.updated, report.unchanged, report.rejected), (0, 0, 3, 0));
    assert_eq!(world.devices(), devices);
    assert_eq!(world.registry().devices().keys("d-001").unwrap(), keys, "keys are made once");
}

#[test]
fn a_renamed_import_keeps_its_devices() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    let devices = world.devices();
    world.declare("imports.yaml", "DeviceImport", "lamps", "{file: devices.csv, removed: delete}");
    world.commit("another name");
    let report = world.apply().unwrap().imports.remove(0).1;
    assert_eq!((report.updated, report.rejected), (3, 0));
    assert_eq!(world.devices(), devices);
}

#[test]
fn a_file_with_a_byte_order_mark_and_crlf_imports() {
    let world = World::new("{}");
    world.write("d.csv", "\u{feff}IOTC_DEVICEID,IOTC_DEVICENAME\r\nd-1,\"One, the first\"\r\n\r\nd-2,\r\n");
    world.declare("d.yaml", "DeviceImport", "d", "{file: d.csv}");
    world.commit("import");
    world.run(&["apply", "--yes", "--strict"]).expect(0);
    let names: Vec<String> = world.devices().into_iter().map(|device| device.device_name).collect();
    assert_eq!(names, ["One, the first", "d-2"]);
}

#[test]
fn what_is_declared_wrong_is_refused_with_65() {
    // Nothing is imported.
    let world = World::new("{}");
    world.write("d.csv", "IOTC_DEVICEID\nnot legal\n");
    world.declare("d.yaml", "DeviceImport", "d", "{file: d.csv}");
    world.commit("import");
    let ran = world.run(&["apply", "--yes"]).expect(65);
    assert!(ran.stderr.contains("line 2"), "{}", ran.stderr);
    assert!(world.devices().is_empty());

    let world = World::with_devices("{}", 4);
    // Two jobs want different things of the same devices.
    world.job("a", "{target: {query: '*'}, action: {property: {light: {level: 1}}}}");
    world.job("b", "{target: {devices: [d-002, d-003]}, action: {property: {light: {level: 2}}}}");
    let ran = world.run(&["apply", "--yes"]).expect(65);
    for word in ["`a`", "`b`", "light.level", "2 devices", "d-002", "d-003", "after"] {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
    assert_eq!(world.subjects(), ["fleet acme: results"], "nothing was touched");
    world.job("b", "{after: [a], target: {devices: [d-002, d-003]}, action: {property: {light: {level: 2}}}}");
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(world.device("d-002").desired, json!({"light": {"level": 2}}));

    // The target is not of the expected size.
    world.job("c", "{target: {query: '*', expect: {max: 3}}, action: {tags: {x: '1'}}}");
    let ran = world.run(&["apply", "--yes"]).expect(65);
    assert!(ran.stderr.contains("selects 4 devices") && ran.stderr.contains("at most 3"), "{}", ran.stderr);
}

#[test]
fn an_edit_of_a_claimed_run_is_refused_and_names_the_fix() {
    let world = World::with_devices("{}", 2);
    world.job("dim", PROPERTY);
    world.apply().unwrap();
    world.job("dim", &PROPERTY.replace('3', "4"));
    let ran = world.run(&["apply", "--yes"]).expect(65);
    assert!(ran.stderr.contains("run: \"2\"") && ran.stderr.contains("ended completed"), "{}", ran.stderr);
    assert_eq!(world.device("d-001").desired, json!({"light": {"level": 3}}));
    world.job("dim", &PROPERTY.replace('3', "4").replace("{target", "{run: '2', target"));
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(world.device("d-001").desired, json!({"light": {"level": 4}}));
    // Back to the old token: nothing, with a warning.
    world.job("dim", PROPERTY);
    let ran = world.run(&["plan", "--detailed-exitcode"]).expect(0);
    assert!(ran.stderr.contains("newest run is 2"), "{}", ran.stderr);
}

#[test]
fn comments_layout_moves_and_suspend_are_no_edit() {
    let world = World::with_devices("{}", 2);
    world.job("dim", PROPERTY);
    world.apply().unwrap();
    fs::remove_file(world.file("jobs/dim.yaml")).unwrap();
    world.write(
        "elsewhere/dimming.yml",
        "# Moved.\nkind: Job\napiVersion: fleetform/v1\nmetadata:\n  labels: {team: north}\n  name: dim\nspec:\n  \
            suspend: false\n  \
         action: {property: {light: {level: 3}}}\n  run: 1\n  target:\n    query: '*'\n",
    );
    world.commit("moved");
    assert!(world.apply().unwrap().was_empty);
}

#[test]
fn uncommitted_files_hold_apply() {
    let world = World::with_devices("{}", 2);
    world.declare("jobs/dim.yaml", "Job", "dim", PROPERTY);
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("jobs/dim.yaml"), "{}", ran.stderr);
    world.commit("job");
    world.write("devices.csv", devices_csv(3));
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("devices.csv"), "{}", ran.stderr);
    // Uncommitted files that no document declares do not count.
    world.write("devices.csv", devices_csv(2));
    world.write("notes.txt", "later");
    world.run(&["apply", "--yes"]).expect(0);
}

#[test]
fn a_saved_plan_is_applied_once_and_only_while_it_holds() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("dim", PROPERTY);
    let saved = world.folder_file("plan.json");
    world.run(&["plan", "--out", &saved]).expect(0);
    let stale = world.folder_file("stale.json");
    world.run(&["plan", "--out", &stale]).expect(0);
    world.run(&["apply", &saved, "--yes"]).expect(0);
    let ran = world.run(&["apply", &saved, "--yes"]).expect(75);
    assert!(ran.stderr.contains("was applied before"), "{}", ran.stderr);
    // The other saved plan runs a job that has run by now.
    let ran = world.run(&["apply", &stale, "--yes"]).expect(75);
    assert!(ran.stderr.contains("job/dim"), "{}", ran.stderr);
}

#[test]
fn a_saved_plan_whose_target_has_moved_is_stale() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    world.job("dim", PROPERTY);
    let saved = world.folder_file("plan.json");
    world.run(&["plan", "--out", &saved]).expect(0);
    world.sql("DELETE FROM device WHERE device_id = 'd-003'");
    let ran = world.run(&["apply", &saved, "--yes"]).expect(75);
    assert!(ran.stderr.contains("job/dim"), "{}", ran.stderr);
    assert!(world.rows("dim", "1").is_empty());
}

#[test]
fn nobody_knowing_what_ran_holds() {
    let world = World::with_devices("{}", 2);
    world.job("dim", PROPERTY);
    world.apply().unwrap();
    world.repository().find_reference(&format!("refs/heads/{BRANCH}")).unwrap().delete().unwrap();
    world.lose_registry();
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("nobody knows"), "{}", ran.stderr);
    assert!(world.results().is_empty());
}

const WITH_JOURNAL: &str = "{link: {simulated: {latency: 1s, journal: devices.jsonl}}, limits: {inFlight: 2}}";

/// A fleet of ten devices that takes five seconds for a command job.
fn slow_world(job: &str) -> World {
    let world = World::with_devices(WITH_JOURNAL, 10);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("reboot", job);
    world
}

fn count_executions(world: &World) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for (device, _) in world.executions() {
        *counts.entry(device).or_default() += 1;
    }
    counts
}

#[test]
fn an_interrupted_run_goes_on_where_it_was() {
    let world = slow_world(REBOOT);
    let applied = world.apply_interrupted(Duration::from_millis(2_000));
    assert!(applied.was_interrupted);
    let record = &applied.records[0];
    assert_eq!(record.status, RunStatus::Running);
    let done = record.counts.completed;
    assert!((1..10).contains(&done), "{record:?}");
    assert_eq!(world.executions().len() as u64, done, "what was in flight was awaited, and nothing new started");
    let shown = world.run(&["job", "list", "--json"]).expect(0).json();
    assert_eq!((&shown[0]["status"], &shown[0]["completed"]), (&json!("interrupted"), &json!(done)));
    let listed = |status: &str| world.run(&["job", "list", "--json", "--status", status]).expect(0).json().len();
    assert_eq!((listed("interrupted"), listed("running")), (1, 0), "by the word that is shown");
    assert_eq!(world.planned_action("reboot"), ActionKind::Continue);

    let applied = world.apply().unwrap();
    assert_eq!(applied.records[0].status, RunStatus::Completed);
    assert_eq!((applied.records[0].counts.total, applied.records[0].counts.completed), (10, 10));
    assert_eq!(count_executions(&world).into_values().collect::<Vec<_>>(), [1; 10]);
    let rows = world.rows("reboot", "1");
    assert_eq!(rows.len(), 10);
    assert!(rows.iter().all(|row| row.reason == Reason::Responded && row.attempts == 1));
    let record = world.record("reboot", "1");
    assert_eq!((&record["completed"], &record["started_at"]), (&json!(10), &json!("2026-11-20T10:00:00Z")));
}

/// Leaves a run as a killed process does: devices are marked as sent, and no process waits for them.
fn kill_while_in_flight(world: &World) -> Vec<String> {
    let options = ApplyOptions { grace: Duration::ZERO, ..ApplyOptions::default() };
    let interrupt = Inbox::new();
    let mut batch = 0;
    let applied = world
        .apply_with(&options, &interrupt, &mut |progress| {
            if let Progress::Advanced { .. } = progress {
                batch += 1;
                if batch == 2 {
                    interrupt.waker().interrupt();
                }
            }
        })
        .unwrap();
    assert!(applied.was_interrupted);
    let open = rusqlite::Connection::open(world.registry_path()).unwrap();
    let mut marks = open.prepare("SELECT ordinal FROM sent ORDER BY ordinal").unwrap();
    let ordinals = marks.query_map([], |row| row.get::<_, usize>(0)).unwrap();
    ordinals.map(|ordinal| format!("d-{:03}", ordinal.unwrap() + 1)).collect()
}

#[test]
fn a_command_without_an_answer_is_not_sent_again() {
    let world = slow_world(REBOOT);
    let sent = kill_while_in_flight(&world);
    assert!(!sent.is_empty(), "some devices are in flight");
    world.apply().unwrap();
    let rows = world.rows("reboot", "1");
    for row in &rows {
        let expect = if sent.contains(&row.device_id) { Reason::OutcomeUnknown } else { Reason::Responded };
        assert_eq!(row.reason, expect, "{}", row.device_id);
    }
    assert!(count_executions(&world).values().all(|count| *count == 1));
    let record = world.record("reboot", "1");
    assert_eq!(record["failed"], json!(sent.len()));
    assert_eq!(record["completed"], json!(10 - sent.len()));
}

#[test]
fn an_idempotent_command_without_an_answer_is_sent_again_with_its_id() {
    let world = slow_world(&REBOOT.replace("name: reboot", "name: reboot, idempotent: true"));
    let sent = kill_while_in_flight(&world);
    assert!(!sent.is_empty(), "some devices are in flight");
    world.apply().unwrap();
    assert!(world.rows("reboot", "1").iter().all(|row| row.reason == Reason::Responded));
    let mut ids: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (device, id) in world.executions() {
        ids.entry(device).or_default().push(id);
    }
    assert_eq!(ids.len(), 10);
    assert!(ids.values().all(|ids| ids.iter().all(|id| *id == ids[0] && id.len() == 64)), "{ids:?}");
}

#[test]
fn a_run_whose_journal_is_lost_is_closed_and_nothing_is_sent() {
    let world = slow_world(REBOOT);
    world.apply_interrupted(Duration::from_millis(2_000));
    let executions = world.executions();
    world.lose_registry();
    assert_eq!(world.planned_action("reboot"), ActionKind::Close);
    world.run(&["apply", "--yes"]).expect(3);
    assert_eq!(world.executions(), executions);
    let record = world.record("reboot", "1");
    assert_eq!(record["status"], "failed");
    assert!(record["reason"].as_str().unwrap().starts_with("journal-lost"), "{record}");
    assert_eq!((&record["total"], &record["pending"]), (&json!(10), &json!(0)));
    world.run(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn suspend_stops_a_run_and_its_removal_continues_it() {
    let world = slow_world(REBOOT);
    world.apply_interrupted(Duration::from_millis(2_000));
    world.job("reboot", &REBOOT.replace("{target", "{suspend: true, target"));
    assert_eq!(world.planned_action("reboot"), ActionKind::Stop);
    let applied = world.apply().unwrap();
    assert_eq!(applied.records[0].status, RunStatus::Stopped);
    let done = world.executions().len();
    assert_eq!(world.record("reboot", "1")["status"], "stopped");
    assert!(world.apply().unwrap().was_empty, "a stopped run stays stopped");
    world.job("reboot", REBOOT);
    let applied = world.apply().unwrap();
    assert_eq!((applied.records[0].status, applied.records[0].counts.completed), (RunStatus::Completed, 10));
    assert_eq!(world.executions().len(), 10);
    assert!(done < 10);
}

#[test]
fn a_deleted_file_stops_its_run_and_its_return_continues_it() {
    let world = slow_world(REBOOT);
    world.apply_interrupted(Duration::from_millis(2_000));
    let done = world.executions().len();
    fs::remove_file(world.file("jobs/reboot.yaml")).unwrap();
    world.commit("gone");
    let plan = world.run(&["plan", "--detailed-exitcode"]).expect(2).stdout;
    assert!(plan.contains("~ stop") && plan.contains("job/reboot") && plan.contains("not declared any more"), "{plan}");
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.total, record.counts.completed), (RunStatus::Stopped, 10, done as u64));
    assert_eq!(world.record("reboot", "1")["status"], "stopped");
    assert_eq!(world.executions().len(), done);
    let messages = world.messages();
    assert!(world.apply().unwrap().was_empty, "it stays stopped");
    assert_eq!(world.messages(), messages);

    world.job("reboot", REBOOT);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.completed), (RunStatus::Completed, 10));
    assert_eq!(world.executions().len(), 10);
    assert_eq!(world.rows("reboot", "1").len(), 10);
    // Deleted when it has ended: nothing.
    fs::remove_file(world.file("jobs/reboot.yaml")).unwrap();
    world.commit("gone for good");
    assert!(world.apply().unwrap().was_empty);
}

#[test]
fn a_new_token_stops_the_open_run_and_the_old_one_continues_it() {
    let world = slow_world(REBOOT);
    world.apply_interrupted(Duration::from_millis(2_000));
    let done = world.executions().len();
    world.job("reboot", &REBOOT.replace("{target", "{run: '2', target"));
    let plan = plan_to_json(&world.plan().unwrap().plan);
    let stop = &plan["changes"][0];
    assert_eq!((&stop["actions"], &stop["run"]), (&json!(["stop"]), &json!("1")), "{plan}");
    assert!(stop["reason"].as_str().unwrap().contains("5 of 10 done"), "{stop}");
    let applied = world.apply().unwrap();
    let of: Vec<(&str, RunStatus)> = applied.records.iter().map(|one| (one.run.as_str(), one.status)).collect();
    assert_eq!(of, [("1", RunStatus::Stopped), ("2", RunStatus::Completed)]);
    assert_eq!(world.executions().len(), done + 10);
    assert_eq!(world.record("reboot", "1")["status"], "stopped");
    assert!(world.apply().unwrap().was_empty);
    world.job("reboot", REBOOT);
    assert_eq!(world.apply().unwrap().records[0].counts.completed, 10);
    assert_eq!(world.executions().len(), 20, "the pending ones of run 1, and no other");
}

#[test]
fn a_bare_repository_is_applied_as_it_was_pushed() {
    let world = World::with_devices("{}", 3);
    world.job("dim", PROPERTY);
    let folder = crate::world::folder();
    let bare = folder.path().join("fleet.git");
    let from = world.file(".git");
    git2::build::RepoBuilder::new().bare(true).clone(from.to_str().unwrap(), &bare).unwrap();
    let at = |arguments: &[&str]| Ran::of(fleetform().arg("-C").arg(&bare).args(arguments));
    Ran::of(fleetform().arg("init").arg(&bare)).expect(0);
    assert!(!bare.join("fleetform.yaml").exists());
    at(&["apply", "--yes"]).expect(0);
    at(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn a_locked_registry_is_one_sentence() {
    let world = World::with_devices("{}", 2);
    world.apply().unwrap();
    world.job("dim", PROPERTY);
    let other = rusqlite::Connection::open(world.registry_path()).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;").unwrap();
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("is locked by another process"), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("error").count(), 1, "{}", ran.stderr);
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    world.run(&["apply", "--yes"]).expect(0);
}

#[test]
fn two_applies_do_not_meet() {
    let world = World::with_devices("{}", 2);
    world.apply().unwrap();
    let _work = world.work("other/1/0");
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("another fleetform is applying"), "{}", ran.stderr);
}

#[test]
fn the_registry_of_another_fleet_is_left_alone() {
    let world = World::with_devices("{}", 2);
    world.apply().unwrap();
    world.sql("UPDATE meta SET value = 'globex' WHERE key = 'fleet'");
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("globex"), "{}", ran.stderr);
    world.run(&["plan"]).expect(75);
}

#[test]
fn a_reference_that_is_locked_loses_nothing() {
    let world = World::with_devices("{}", 2);
    world.apply().unwrap();
    world.job("dim", PROPERTY);
    let lock = format!(".git/refs/heads/{BRANCH}.lock");
    world.write(&lock, "");
    let ran = world.run(&["apply", "--yes"]);
    assert_eq!(ran.code, 75, "{ran:#?}");
    assert!(ran.stderr.contains("error: ") && ran.stderr.contains("help: "), "{}", ran.stderr);
    assert_eq!(world.device("d-001").desired, json!({}), "claimed before anything is done");
    fs::remove_file(world.file(&lock)).unwrap();
    let applied = world.apply().unwrap();
    assert_eq!(applied.records[0].counts.completed, 2);
}

#[test]
fn a_file_in_the_place_of_the_registrys_folder_is_told() {
    let world = World::with_devices("{}", 2);
    world.write(".fleetform", "not a folder");
    let ran = world.run(&["apply", "--yes"]);
    assert!(matches!(ran.code, 1 | 69), "{ran:#?}");
    assert!(ran.stderr.contains(".fleetform") && ran.stderr.contains("help: "), "{}", ran.stderr);
    world.write("other.db", "not a registry, and long enough to have a header of its own");
    let registry = format!("sqlite:{}", world.file("other.db").display());
    world.run(&["apply", "--yes", "--registry", &registry]).expect(69);
    world.run(&["apply", "--yes", "--registry", "mysql://x"]).expect(64);
}

#[test]
fn a_job_after_another_sees_what_it_left() {
    let world = World::with_devices("{}", 4);
    world.job("first", "{target: {query: \"tags.parity = 'odd'\"}, action: {tags: {ring: canary}}}");
    world.job("second", "{after: [first], target: {query: \"tags.ring = 'canary'\"}, action: {property: {level: 3}}}");
    let applied = world.apply().unwrap();
    let of: Vec<(&str, u64)> =
        applied.records.iter().map(|record| (record.job.as_str(), record.counts.completed)).collect();
    assert_eq!(of, [("first", 2), ("second", 2)]);
}

#[test]
fn the_failed_devices_of_a_run_are_run_again() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {answers: 503}}}}}", 3);
    world.job("reboot", REBOOT);
    world.apply().unwrap();
    world.job("again", "{target: {failedOf: {job: reboot, run: '1'}}, action: {tags: {look-at: 'yes'}}}");
    let applied = world.apply().unwrap();
    assert_eq!(applied.records[0].counts.total, 1);
    assert_eq!(world.device("d-002").tags["look-at"], "yes");
}

#[test]
fn waiting_devices_leave_the_job_to_the_next_apply() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {offline: true}}}}}", 3);
    let job = REBOOT.replace("{target", "{delivery: {offline: wait, expiresAfter: 1h}, target");
    world.job("reboot", &job);
    let ran = world.run(&["apply", "--yes"]).expect(0);
    assert!(ran.stderr.contains("1 device waits to come online; apply --wait stays until the end"), "{}", ran.stderr);
    assert_eq!(world.planned_action("reboot"), ActionKind::Continue);
    let shown = world.run(&["job", "list", "--json"]).expect(0).json();
    assert_eq!(
        (&shown[0]["status"], &shown[0]["completed"], &shown[0]["pending"]),
        (&json!("running"), &json!(2), &json!(1))
    );
}

#[test]
fn devices_behind_a_batch_that_waits_do_not_make_a_run_interrupted() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {offline: true}}}}}", 5);
    let job = REBOOT.replace("{target", "{delivery: {offline: wait, expiresAfter: 1h, batchSize: 3}, target");
    world.job("reboot", &job);
    let ran = world.run(&["apply", "--yes"]).expect(0);
    assert!(ran.stderr.contains("2 completed, 0 failed; 1 device waits to come online, 2 behind; apply"), "{ran:?}");
    let shown = world.run(&["job", "list", "--json"]).expect(0).json();
    assert_eq!((&shown[0]["status"], &shown[0]["pending"]), (&json!("running"), &json!(3)));
    let shown = world.run(&["job", "show", "reboot"]).expect(0).stdout;
    assert!(shown.contains("waits for devices; an apply or the daemon serves those that come online"), "{shown}");
}

/// Answers the question of an apply with Ctrl-C.
#[cfg(target_os = "linux")]
#[test]
fn an_interrupt_at_the_question_is_a_no() {
    const PERSON: &str = "\
import os, pty, signal, sys
child, terminal = pty.fork()
if child == 0:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
said = b''
while b'is a yes:' not in said:
    said += os.read(terminal, 4096)
os.write(terminal, b'\\x03')
try:
    while more := os.read(terminal, 4096):
        said += more
except OSError:
    pass
print(said.decode())
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
";
    let world = World::with_devices("{}", 3);
    world.job("reboot", REBOOT);
    let binary = env!("CARGO_BIN_EXE_fleetform");
    let arguments = ["-c", PERSON, binary, "-C", world.path().to_str().unwrap(), "apply"];
    let ran = Ran::of(std::process::Command::new("python3").args(arguments)).expect(130);
    assert!(ran.stdout.contains("Nothing was changed."), "{ran:?}");
    assert_eq!(world.planned_action("reboot"), ActionKind::Run, "nothing was claimed");
}

#[test]
fn a_device_that_waits_too_long_expires() {
    let world = World::with_devices("{link: {simulated: {devices: {d-002: {offline: true}}}}}", 3);
    world.job("reboot", &REBOOT.replace("{target", "{delivery: {offline: wait, expiresAfter: 1h}, target"));
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Running);
    world.pass(Duration::from_secs(3601));
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.failed), (RunStatus::Completed, 1));
    assert_eq!(world.rows("reboot", "1")[1].reason, Reason::Expired);
}

#[test]
fn retries_do_not_count_twice() {
    let world =
        World::with_devices("{link: {simulated: {devices: {d-002: {silent: true}}, journal: devices.jsonl}}}", 3);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    let job = REBOOT.replace("name: reboot", "name: reboot, idempotent: true, responseTimeout: 1s");
    world.job("reboot", &job.replace("{target", "{delivery: {retry: {attempts: 2, backoff: 1s}}, target"));
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.counts.completed, record.counts.failed), (2, 1));
    let rows = world.rows("reboot", "1");
    assert_eq!((rows[1].reason, rows[1].attempts), (Reason::Timeout, 3));
    assert_eq!(count_executions(&world)["d-002"], 1, "it recognises what it has executed");
}

/// The process dies when it reads the clock: in round 1 the first time, in round 2 the second, and so on until it gets
/// to its end.
#[test]
fn a_process_that_dies_at_any_moment_is_survived() {
    let job = "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {batchSize: 4}}";
    for kills in 1..200 {
        let world = slow_world(job);
        world.declare("jobs/dim.yaml", "Job", "dim", PROPERTY);
        world.commit("dim");
        let was_killed = world.apply_killed(kills);
        // And once more, early in the second start.
        if was_killed {
            world.apply_killed(kills % 7 + 1);
        }
        world.apply().unwrap();
        let executions = count_executions(&world);
        assert!(executions.values().all(|count| *count == 1), "killed at {kills}: {executions:?}");
        for name in ["dim", "reboot"] {
            let record = world.record(name, "1");
            let rows = world.rows(name, "1");
            let failed = rows.iter().filter(|row| row.status == DeviceStatus::Failed).count();
            assert_eq!((&record["status"], rows.len()), (&json!("completed"), 10), "killed at {kills}");
            assert_eq!((&record["failed"], &record["completed"]), (&json!(failed), &json!(10 - failed)));
            assert!(rows.iter().all(|row| failed == 0 || row.reason != Reason::Timeout), "killed at {kills}");
            assert!(name == "reboot" || failed == 0, "a write is never in doubt");
            let claims = world.subjects().iter().filter(|line| line.starts_with(&format!("claim job {name}"))).count();
            assert_eq!(claims, 1, "killed at {kills}");
        }
        assert!(world.apply().unwrap().was_empty, "killed at {kills}");
        if !was_killed {
            assert!(kills > 10, "there is something to be killed in");
            return;
        }
    }
    panic!("it never gets to its end");
}

/// The same with a device that fails and a threshold of zero: whenever the process dies, no device starts after the
/// crossing.
#[test]
fn a_crossing_outlives_the_process() {
    let spec = WITH_JOURNAL.replace("latency: 1s", "latency: 1s, devices: {d-004: {answers: 500}}");
    for kills in 1..200 {
        let world = World::with_devices(&spec, 10);
        world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
        world.job("reboot", &REBOOT.replace("{target", "{delivery: {cancellationThreshold: {failures: 0}}, target"));
        let was_killed = world.apply_killed(kills);
        world.apply().unwrap();
        let (record, rows) = (world.record("reboot", "1"), world.rows("reboot", "1"));
        let failed = rows.iter().filter(|row| row.reason.counts_for_threshold());
        let crossing = failed.map(|row| row.finished_at.unwrap()).min();
        // What the crash cut off says nothing about the job.
        let status = if crossing.is_some() { "canceled" } else { "completed" };
        assert_eq!((&record["status"], rows.len()), (&json!(status), 10), "killed at {kills}");
        let count = |status| json!(rows.iter().filter(|row| row.status == status).count());
        assert_eq!(record["completed"], count(DeviceStatus::Completed), "killed at {kills}");
        assert_eq!(record["failed"], count(DeviceStatus::Failed), "killed at {kills}");
        assert_eq!(record["pending"], count(DeviceStatus::Pending), "killed at {kills}");
        let is_before = |start| crossing.is_none_or(|crossing| start < crossing);
        assert!(rows.iter().filter_map(|row| row.started_at).all(is_before), "killed at {kills}: {rows:?}");
        assert!(count_executions(&world).values().all(|count| *count == 1), "killed at {kills}");
        if !was_killed {
            return;
        }
    }
    panic!("it never gets to its end");
}

#[test]
fn a_claim_that_was_not_confirmed_is_settled_by_the_branch() {
    // It reached the branch: the run goes on.
    let world = slow_world(REBOOT);
    world.apply_interrupted(Duration::from_millis(2_000));
    world.sql("UPDATE run SET is_claimed = false");
    assert_eq!(world.apply().unwrap().records[0].counts.completed, 10);
    assert_eq!(world.executions().len(), 10);
    // It did not: nothing of it was started, and the run is claimed anew.
    let world = slow_world(REBOOT);
    let unlocked = |world: &World| fs::remove_file(world.file(&format!(".git/refs/heads/{BRANCH}.lock"))).unwrap();
    world.write(&format!(".git/refs/heads/{BRANCH}.lock"), "");
    assert!(world.apply().is_err());
    unlocked(&world);
    assert_eq!(world.apply().unwrap().records[0].counts.completed, 10);
    assert_eq!(world.executions().len(), 10);
}

#[test]
fn a_run_that_somebody_else_claimed_is_left_to_them() {
    let world = World::with_devices("{}", 2);
    world.job("dim", PROPERTY);
    // Another clone claims the run between this one's plan and its claim.
    let other = World::with_devices("{}", 2);
    other.job("dim", PROPERTY);
    other.apply().unwrap();
    let theirs = other.results().remove("claims/dim/1.json").unwrap();
    let claim = |world: &World| {
        let repository = world.repository();
        let blob = repository.blob(&theirs).unwrap();
        let tip = repository.find_reference(&format!("refs/heads/{BRANCH}")).unwrap().peel_to_commit().unwrap();
        let mut update = git2::build::TreeUpdateBuilder::new();
        update.upsert("claims/dim/1.json", blob, git2::FileMode::Blob);
        let tree = update.create_updated(&repository, &tip.tree().unwrap()).unwrap();
        let (tree, author) = (repository.find_tree(tree).unwrap(), tip.author());
        let name = format!("refs/heads/{BRANCH}");
        repository.commit(Some(&name), &author, &author, "claim job dim run 1", &tree, &[&tip]).unwrap();
    };
    let mut is_claimed = false;
    let result = world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
        // The import is done before the job is claimed.
        if !is_claimed && matches!(progress, Progress::ImportFinished { .. }) {
            is_claimed = true;
            claim(&world);
        }
    });
    assert!(result.unwrap_err().to_string().contains("claims/dim/1.json"));
    assert_eq!(world.device("d-001").desired, json!({}), "whoever loses the race does not run");
}

#[test]
fn at_most_the_allowed_jobs_run_at_once() {
    let world = World::with_devices("{limits: {runningJobs: 2}}", 5);
    for n in 0..5 {
        let job = REBOOT.replace("query: '*'", &format!("devices: [d-00{}]", n + 1));
        world.declare(&format!("jobs/j-{n}.yaml"), "Job", &format!("j-{n}"), &job);
    }
    world.commit("five jobs");
    let (mut running, mut most, mut started) = (0, 0, Vec::new());
    let applied = world
        .apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| match progress {
            Progress::RunStarted { job, .. } => {
                running += 1;
                most = most.max(running);
                started.push(job.to_string());
            }
            Progress::RunFinished { .. } => running -= 1,
            _ => {}
        })
        .unwrap();
    assert_eq!((most, running, applied.records.len()), (2, 0, 5));
    assert_eq!(started, ["j-0", "j-1", "j-2", "j-3", "j-4"]);
}

#[test]
fn a_device_has_one_command_in_flight() {
    let world = World::with_devices("{link: {simulated: {latency: 1s}}}", 4);
    let command = |name: &str| format!("action: {{command: {{name: {name}}}}}");
    let job = |name: &str, devices: &str, action: &str| {
        world.declare(
            &format!("jobs/{name}.yaml"),
            "Job",
            name,
            &format!("{{target: {{devices: [{devices}]}}, {action}}}"),
        );
    };
    job("a", "d-001, d-002", &command("reboot"));
    job("b", "d-002, d-003", &command("reset"));
    job("c", "d-004", &command("reboot"));
    job("d", "d-001, d-002", "action: {tags: {x: '1'}}");
    world.commit("four jobs");
    let applied = world.apply().unwrap();
    assert!(applied.records.iter().all(|record| record.counts.pending() == 0 && record.counts.failed == 0));
    let end = |name: &str| world.rows(name, "1").iter().map(|row| row.finished_at.unwrap()).max().unwrap();
    let start = |name: &str| world.rows(name, "1").iter().map(|row| row.started_at.unwrap()).min().unwrap();
    assert!(start("b") >= end("a"), "b waits for a");
    assert!(start("c") == start("a") && start("d") == start("a"), "nobody else waits");
}

#[test]
fn nothing_starts_when_the_time_of_the_job_is_up() {
    let world = slow_world(&REBOOT.replace("{target", "{delivery: {maxExecutionTime: 10s}, target"));
    world.apply_interrupted(Duration::from_millis(2_000));
    let executions = world.executions().len();
    world.pass(Duration::from_secs(3_600));
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!(world.executions().len(), executions);
    assert_eq!(record.counts.failed as usize, 10 - executions);
    for row in world.rows("reboot", "1") {
        let expect = if row.attempts == 1 { Reason::Responded } else { Reason::Expired };
        assert_eq!(row.reason, expect, "{row:?}");
    }
}

#[test]
fn an_interrupt_before_the_start_leaves_everything_to_the_next_apply() {
    let world = slow_world(REBOOT);
    let interrupt = Inbox::new();
    interrupt.waker().interrupt();
    let applied = world.apply_with(&ApplyOptions::default(), &interrupt, &mut |_| {}).unwrap();
    assert!(applied.was_interrupted);
    assert_eq!(world.executions().len(), 0);
    assert_eq!(world.apply().unwrap().records[0].counts.completed, 10);
}

#[test]
fn a_fleet_that_wants_failures_only_has_no_other_rows() {
    let link = "link: {simulated: {devices: {d-002: {answers: 503}}}}";
    let world = World::with_devices(&format!("{{results: {{devices: failures}}, {link}}}"), 4);
    world.job("reboot", REBOOT);
    world.apply().unwrap();
    let ids: Vec<String> = world.rows("reboot", "1").into_iter().map(|row| row.device_id).collect();
    assert_eq!(ids, ["d-002"]);
    assert_eq!(world.record("reboot", "1")["completed"], json!(3));
}

#[test]
fn a_fleet_in_a_folder_of_a_repository_has_a_branch_of_its_own() {
    let world = World::new("{}");
    world.write("notes.txt", "not staged");
    let inner = world.file("fleets/staging");
    Ran::of(fleetform().arg("init").arg(&inner).arg("--example")).expect(0);
    let at = |arguments: &[&str]| Ran::of(fleetform().arg("-C").arg(&inner).args(arguments));
    at(&["plan", "--detailed-exitcode"]).expect(2);
    at(&["apply", "--yes"]).expect(3);
    at(&["plan", "--detailed-exitcode"]).expect(0);
    let repository = world.repository();
    assert!(repository.find_reference("refs/heads/fleetform/results-staging").is_ok());
    assert_eq!(world.subjects(), ["fleet acme: results"], "the outer fleet is another one");
    // The outer fleet does not see the inner one.
    assert!(!world.plan().unwrap().plan.has_changes());
    assert!(repository.status_file(std::path::Path::new("notes.txt")).unwrap().is_wt_new());
}

#[test]
fn a_results_branch_that_was_edited_holds() {
    let world = World::with_devices("{}", 2);
    world.job("dim", PROPERTY);
    world.apply().unwrap();
    let repository = world.repository();
    let name = format!("refs/heads/{BRANCH}");
    let tip = repository.find_reference(&name).unwrap().peel_to_commit().unwrap();
    let mut claim: Value = serde_json::from_slice(&world.results()["claims/dim/1.json"]).unwrap();
    claim["job"] = json!("dim-2");
    let blob = repository.blob(claim.to_string().as_bytes()).unwrap();
    let mut update = git2::build::TreeUpdateBuilder::new();
    update.upsert("claims/dim/1.json", blob, git2::FileMode::Blob);
    let tree = repository.find_tree(update.create_updated(&repository, &tip.tree().unwrap()).unwrap()).unwrap();
    repository.commit(Some(&name), &tip.author(), &tip.author(), "edited", &tree, &[&tip]).unwrap();
    let ran = world.run(&["apply", "--yes"]).expect(75);
    assert!(ran.stderr.contains("claims/dim/1.json"), "{}", ran.stderr);
    world.run(&["plan"]).expect(75);
}
