//! Devices: imports of both forms, exports, and commands for single devices.

use std::fs;

use fleetform::model::device::Device;
use serde_json::{Value, json};

use crate::world::World;

/// A fleet with one import `all` of a file of IoT Hub's form.
fn hub_world(lines: &[Value]) -> World {
    let world = World::new("{}");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.jsonl}");
    set_lines(&world, lines);
    world
}

/// Commits the lines of the import.
fn set_lines(world: &World, lines: &[Value]) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    world.write("devices.jsonl", text);
    world.commit("devices");
}

/// Applies, and returns the report of the import `all` that this made.
fn import(world: &World) -> Value {
    let applied = world.apply().unwrap();
    let (_, report) = applied.imports.iter().find(|(name, _)| name.as_str() == "all").expect("it is imported");
    report.to_json()
}

/// Returns the counts of a report: imported, updated, unchanged, removed, rejected.
fn counts(report: &Value) -> [u64; 5] {
    ["imported", "updated", "unchanged", "removed", "rejected"].map(|key| report[key].as_u64().unwrap())
}

/// Returns the rejected rows of all imports, as `errors.csv` has them.
fn errors(world: &World) -> String {
    let files = world.results();
    files
        .iter()
        .filter(|(path, _)| path.ends_with("errors.csv"))
        .map(|(_, bytes)| String::from_utf8_lossy(bytes))
        .collect()
}

fn device(world: &World, id: &str) -> Device {
    world.device(id)
}

fn ids(world: &World) -> Vec<String> {
    world.devices().into_iter().map(|device| device.device_id).collect()
}

const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
const OTHER_KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";

/// A line as IoT Hub exports it.
fn full_line() -> Value {
    json!({
        "id": "pump_7:a",
        "eTag": "MA==",
        "status": "disabled",
        "statusReason": "on its way",
        "authentication": {
            "symmetricKey": {"primaryKey": KEY, "secondaryKey": OTHER_KEY},
            "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
            "type": "sas",
        },
        "twinETag": "AAAAAAAAAAI=",
        "tags": {"building": "43", "place": {"floor": 2}},
        "properties": {
            "desired": {"threshold": 3, "$metadata": {"$lastUpdated": "2026-01-01T00:00:00Z"}, "$version": 12},
            "reported": {"battery": 0.1, "$metadata": {}, "$version": 7},
        },
        "capabilities": {"iotEdge": true},
        "deviceScope": "ms-azure-iot-edge://x",
    })
}

#[test]
fn a_line_of_iot_hub_is_a_whole_device() {
    let world = hub_world(&[full_line()]);
    let planned = world.plan().unwrap();
    let codes: Vec<&str> = planned.findings.diagnostics.iter().map(|d| d.code.0).collect();
    assert_eq!(codes, ["FF655"], "keys are warned of");
    assert_eq!(counts(&import(&world)), [1, 0, 0, 0, 0]);
    let pump = device(&world, "pump_7:a");
    assert_eq!(pump.device_name, "pump_7:a");
    assert!(pump.blocked && pump.iot_edge);
    assert_eq!(pump.tags, json!({"building": "43", "place": {"floor": 2}}));
    assert_eq!((pump.desired, pump.desired_version), (json!({"threshold": 3}), 12));
    assert_eq!((pump.reported, pump.reported_version), (json!({"battery": 0.1}), 7));
    let found = world.run(&["device", "list", "--json", "--query", "status = 'disabled'"]).expect(0).json();
    assert_eq!(found.len(), 1);

    // A second import changes nothing; a value of a job stays, because the line does not have it.
    world.job("dim", "{target: {query: '*'}, action: {property: {dim: true}}}");
    world.apply().unwrap();
    assert_eq!(device(&world, "pump_7:a").desired, json!({"threshold": 3}), "it is blocked");
    let mut line = full_line();
    line["status"] = json!("enabled");
    line["properties"] = json!({"desired": {"threshold": null, "dim": false}, "reported": {"battery": 1}});
    line["tags"] = json!({"place": {"floor": 3}});
    set_lines(&world, &[line.clone()]);
    assert_eq!(counts(&import(&world)), [0, 1, 0, 0, 0]);
    let pump = device(&world, "pump_7:a");
    assert!(!pump.blocked);
    assert_eq!(pump.tags, json!({"building": "43", "place": {"floor": 3}}), "a merge patch");
    assert_eq!(
        (pump.desired, pump.desired_version),
        (json!({"dim": false}), 13),
        "null removes, and one version a write"
    );
    assert_eq!(pump.reported, json!({"battery": 0.1}), "only the device says what it reports");
    line["importMode"] = json!("createOrUpdate");
    set_lines(&world, &[line]);
    assert_eq!(counts(&import(&world)), [0, 0, 1, 0, 0]);
}

#[test]
fn every_import_mode_does_what_it_says() {
    // The effect of a row on a missing device, and on a device of the same import with the tag a=1.
    let cases = [
        ("create", [1, 0, 0, 0, 0], [0, 0, 1, 0, 0], Some("1")),
        ("createOrUpdate", [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], Some("2")),
        ("CreateOrUpdateIfMatchETag", [1, 0, 0, 0, 0], [0, 1, 0, 0, 0], Some("2")),
        ("update", [0, 0, 0, 0, 1], [0, 1, 0, 0, 0], Some("2")),
        ("updateIfMatchETag", [0, 0, 0, 0, 1], [0, 1, 0, 0, 0], Some("2")),
        ("updateTwin", [0, 0, 0, 0, 1], [0, 1, 0, 0, 0], Some("2")),
        ("updateTwinIfMatchETag", [0, 0, 0, 0, 1], [0, 1, 0, 0, 0], Some("2")),
        ("delete", [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], None),
        ("deleteIfMatchETag", [0, 0, 1, 0, 0], [0, 0, 0, 1, 0], None),
    ];
    for (mode, absent, present, tag) in cases {
        let world = hub_world(&[json!({"id": "x"}), json!({"id": "d", "tags": {"a": "1"}})]);
        import(&world);
        let row = |id: &str, etag: &str| json!({"id": id, "importMode": mode, "eTag": etag, "twinETag": etag, "tags": {"a": "2"}, "status": "disabled"});
        set_lines(&world, &[json!({"id": "x"}), json!({"id": "d"}), row("new", "*")]);
        let expect = [absent[0], 0, 2 + absent[2], 0, absent[4]];
        assert_eq!(counts(&import(&world)), expect, "{mode}, absent");
        set_lines(&world, &[json!({"id": "x"}), row("d", "*")]);
        let expect = [0, present[1], 1 + present[2], present[3], 0];
        assert_eq!(counts(&import(&world)), expect, "{mode}, present");
        match tag {
            None => assert!(!ids(&world).contains(&"d".to_string()), "{mode}"),
            Some(tag) => {
                let device = device(&world, "d");
                assert_eq!(device.tags, json!({"a": tag}), "{mode}");
                let is_whole = !mode.starts_with("updateTwin") && mode != "create";
                assert_eq!(device.blocked, is_whole, "{mode}");
            }
        }
        // The same import again: the device is as the row says, in any mode.
        set_lines(&world, &[json!({"id": "x", "tags": {}}), row("d", "*")]);
        assert_eq!(counts(&import(&world)), [0, 0, 2, 0, 0], "{mode}, again");
        if mode.ends_with("ETag") && tag.is_some() {
            let mut row = row("d", "stale");
            row["tags"] = json!({"a": "3"});
            set_lines(&world, &[json!({"id": "x"}), row]);
            assert_eq!(counts(&import(&world)), [0, 0, 1, 0, 1], "{mode}, stale");
            assert!(errors(&world).contains("ETag"), "{}", errors(&world));
        }
    }
}

/// The ETag of an export is that of the device's content, and changes with it.
#[test]
fn etags_of_an_export_guard_against_what_happened_since() {
    let world = hub_world(&[json!({"id": "d", "tags": {"a": "1"}})]);
    import(&world);
    let file = world.folder_file("export.jsonl");
    world.run(&["device", "export", "--format", "iothub", "-o", &file]).expect(0);
    let mut line: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    line["importMode"] = json!("updateTwinIfMatchETag");
    line["tags"] = json!({"a": "2"});
    let stale = line.clone();
    set_lines(&world, &[line]);
    assert_eq!(counts(&import(&world)), [0, 1, 0, 0, 0]);
    let mut again = stale;
    again["tags"] = json!({"a": "3"});
    set_lines(&world, &[json!({"id": "e"}), again]);
    assert_eq!(counts(&import(&world)), [1, 0, 0, 0, 1]);
    assert_eq!(device(&world, "d").tags, json!({"a": "2"}));
}

#[test]
fn lines_that_cannot_be_used_are_rejected_with_their_number() {
    let world = hub_world(&[]);
    let long = format!("{{\"id\": \"long\", \"x\": \"{}\"}}", "x".repeat(1 << 20));
    let text = [
        "\u{feff}{\"id\": \"d-1\"}\r",                                                 // 1
        "",                                                                            // 2
        "  \r",                                                                        // 3
        "{\"id\": \"d-1\"}",                                                           // 4
        "{\"id\": \"a/b\"}",                                                           // 5
        "{\"status\": \"enabled\"}",                                                   // 6
        "{\"id\": \"d-2\", \"status\": \"paused\"}",                                   // 7
        "{\"id\": \"d-3\", \"tags\": {\"a b\": 1}}",                                   // 8
        "{\"id\": \"d-4\", \"properties\": {\"desired\": {\"n\": 4503599627370496}}}", // 9
        "{\"id\": \"d-5\", \"importMode\": \"createOrUpdates\"}",                      // 10
        "{\"id\": \"d-6\", \"authentication\": {\"symmetricKey\": {\"primaryKey\": \"hunter2\"}}}", // 11
        "{\"id\": \"d-7\", \"authentication\": {\"symmetricKey\": \"hunter2\"}}",      // 12
        "{\"id\": \"d-8\", \"authentication\": {\"type\": \"selfSigned\"}}",           // 13
        "[1]",                                                                         // 14
        &long,                                                                         // 15
        "{\"id\": \"d-9\", \"properties\": {\"reported\": {\"$version\": -1}}}",       // 16
        "{\"id\": \"d-10\", \"moduleId\": \"$edgeAgent\"}",                            // 17
        "{\"id\": \"d-11\", \"status\":",                                              // 18
    ]
    .join("\n");
    world.write("devices.jsonl", &text);
    world.commit("devices");
    let report = import(&world);
    assert_eq!(counts(&report), [1, 0, 0, 0, 14]);
    assert_eq!(report["rows"], json!(15), "blank lines and modules are no rows");
    let errors = errors(&world);
    let expect = [
        "4,d-1,the device is in this file twice",
        "5,a/b,the device id contains '/'",
        "6,,the line has no `id`",
        "7,d-2,`status` is neither",
        "8,d-3,tags: a twin key may not contain ' '",
        "9,d-4,properties.desired: an integer",
        "10,d-5,its `importMode` `createOrUpdates` is not known: did you mean `createOrUpdate`?",
        "11,d-6,a key is not base64",
        "12,d-7,`symmetricKey` is not an object",
        "13,d-8,`authentication.type` is selfSigned",
        "14,,the line is not a JSON object",
        "15,,the line is longer than 1048576 bytes",
        "16,d-9,`$version` of properties.reported",
        "18,,the file ends in the middle of this line",
    ];
    for (line, part) in errors.lines().skip(1).zip(expect) {
        let line = line.replace('"', "");
        assert!(line.starts_with(part), "{line}\nis not\n{part}");
    }
    assert!(!errors.contains("hunter2"), "no value of a rejected row is shown: {errors}");
    assert_eq!(errors.lines().count(), 1 + 14, "{errors}");
}

#[test]
fn a_json_list_is_told_from_lines() {
    let world = World::new("{}");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.txt}");
    world.write("devices.txt", "[{\"id\": \"d-1\"},\n {\"id\": \"d-2\"}]\n");
    world.commit("devices");
    let ran = world.run(&["plan"]).expect(65);
    assert!(ran.stderr.contains("FF601") && ran.stderr.contains("jq -c '.[]'"), "{}", ran.stderr);
    world.write("devices.txt", "{\"id\": \"d-1\"}\n");
    world.commit("lines");
    assert_eq!(counts(&import(&world)), [1, 0, 0, 0, 0]);
}

#[test]
fn ids_that_differ_in_case_are_two_devices_and_a_warning() {
    for (file, text) in [
        ("d.csv", "IOTC_DEVICEID\nPump-7\nother\npump-7\npUMP-7\nVALVE\n"),
        (
            "d.jsonl",
            "{\"id\":\"Pump-7\"}\n{\"id\":\"other\"}\n{\"id\":\"pump-7\"}\n{\"id\":\"pUMP-7\"}\n{\"id\":\"VALVE\"}\n",
        ),
    ] {
        let world = World::new("{}");
        world.declare("imports.yaml", "DeviceImport", "all", &format!("{{file: {file}}}"));
        world.write(file, text);
        world.commit("devices");
        let ran = world.run(&["plan"]).expect(0);
        assert!(ran.stderr.contains("FF658") && ran.stderr.contains("`Pump-7` and `pump-7`"), "{}", ran.stderr);
        assert_eq!(counts(&import(&world)), [5, 0, 0, 0, 0]);
        assert_eq!(ids(&world), ["Pump-7", "VALVE", "other", "pUMP-7", "pump-7"]);
        world.write(file, text.replace("pump-7", "pump-8").replace("pUMP-7", "pump-9"));
        world.commit("devices");
        assert!(!world.run(&["plan"]).expect(0).stderr.contains("FF658"));
    }
}

#[test]
fn ids_that_differ_in_case_from_those_of_the_registry_are_a_warning() {
    let world = World::new("{}");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv}");
    world.declare("more.yaml", "DeviceImport", "more", "{file: more.jsonl}");
    world.write("d.csv", "IOTC_DEVICEID\nPump-7\nvalve\n");
    world.write("more.jsonl", "{\"id\":\"fan\"}\n");
    world.commit("devices");
    world.apply().unwrap();
    world.write("more.jsonl", "{\"id\":\"fan\"}\n{\"id\":\"pump-7\"}\n{\"id\":\"Valve\"}\n{\"id\":\"lamp\"}\n");
    world.commit("more");
    let ran = world.run(&["plan"]).expect(0);
    let told = "makes the device `pump-7`, and the registry has `Pump-7`, and 1 more of the kind";
    assert!(ran.stderr.contains("FF658") && ran.stderr.contains(told), "{}", ran.stderr);
    assert_eq!(ran.stderr.matches("FF658").count(), 1, "{}", ran.stderr);
    // The warning is about new devices, so it does not come again once they exist.
    world.apply().unwrap();
    world.write("more.jsonl", "{\"id\":\"fan\",\"tags\":{\"a\":1}}\n{\"id\":\"pump-7\"}\n{\"id\":\"door\"}\n");
    world.commit("tags");
    let ran = world.run(&["plan"]).expect(0);
    assert!(!ran.stderr.contains("FF658"), "{}", ran.stderr);
}

#[test]
fn columns_that_do_not_fit_the_template_are_a_warning() {
    let world = World::new("{}");
    world.write(
        "lamp.json",
        r#"{"@id": "dtmi:acme:Lamp;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2", "contents": []}"#,
    );
    world.declare(
        "templates.yaml",
        "DeviceTemplate",
        "lamp",
        "{model: lamp.json, cloudProperties: {owner: string, rank: integer, since: date}}",
    );
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv, template: lamp}");
    let header = "IOTC_DEVICEID,CLOUD.rank,CLOUD.owner,CLOUD.ownr,CLOUD.since,TAG.rank";
    world.write("d.csv", format!("{header}\na,,north,,2026-01-31,1\nb,7,,x,,2\nc,8,,,,\n"));
    world.commit("devices");
    let ran = world.run(&["plan"]).expect(0);
    assert_eq!(ran.stderr.matches("FF668").count(), 1, "{}", ran.stderr);
    for told in ["column `CLOUD.rank`, line 3: `rank` expects integer, got \"7\"", "column `CLOUD.ownr`, line 3"] {
        assert!(ran.stderr.contains(told), "{}", ran.stderr);
    }
    for quiet in ["CLOUD.owner`", "CLOUD.since", "TAG.rank"] {
        assert!(!ran.stderr.contains(quiet), "{}", ran.stderr);
    }
    world.apply().unwrap();
    assert_eq!(world.device("b").cloud, serde_json::json!({"rank": "7", "ownr": "x"}), "text, as the columns are");
    // A column without text fits every template, and a device without a template is not checked.
    world.write("d.csv", "IOTC_DEVICEID,CLOUD.rank\na,\nb,\nc,\n");
    world.commit("no rank");
    assert!(!world.run(&["plan"]).expect(0).stderr.contains("FF668"));
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv}");
    world.write("d.csv", "IOTC_DEVICEID,CLOUD.rank\na,1\n");
    world.commit("no template");
    assert!(!world.run(&["plan"]).expect(0).stderr.contains("FF668"));
}

#[test]
fn a_space_behind_a_comma_is_warned_of() {
    let world = World::new("{}");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv}");
    let warned = |rows: &str| {
        world.write("d.csv", format!("IOTC_DEVICEID, IOTC_DEVICENAME, TAG.hall,CLOUD.owner\n{rows}"));
        let [validated, planned] = ["validate", "plan"].map(|command| world.run(&[command]).expect(0).stderr);
        assert_eq!(validated.contains("FF678"), planned.contains("FF678"), "{planned}");
        planned
    };
    assert!(!warned("a,Lamp 1,a b,north\nb,,,\n").contains("FF678"));
    for (rows, told) in [
        ("a,Lamp 1,a,\nb, Lamp 2, b,\nc,, c,\n", "such as \" Lamp 2\" in line 3, column `IOTC_DEVICENAME`"),
        ("a,,a ,\n", "such as \"a \" in line 2, column `TAG.hall`"),
        ("a,,, \n", "such as \" \" in line 2, column `CLOUD.owner`"),
    ] {
        let stderr = warned(rows);
        assert!(stderr.contains(told) && stderr.matches("FF678").count() == 1, "{stderr}");
    }
    world.commit("devices");
    world.apply().unwrap();
    assert_eq!(world.device("a").cloud, serde_json::json!({"owner": " "}), "it is part of the value");
}

/// A fleet with the imports `a` and `b`, of a form each, with a device that is to move and one that stays each.
fn two_imports(removed: &str) -> World {
    let world = World::new("{}");
    world.declare("a.yaml", "DeviceImport", "a", &format!("{{file: a.csv, removed: {removed}}}"));
    world.declare("b.yaml", "DeviceImport", "b", &format!("{{file: b.jsonl, removed: {removed}}}"));
    set_both(&world, &["a-1", "move"], &["b-1"]);
    world.apply().unwrap();
    world
}

fn set_both(world: &World, a: &[&str], b: &[&str]) {
    world.write("a.csv", format!("IOTC_DEVICEID\n{}\n", a.join("\n")));
    world.write("b.jsonl", b.iter().map(|id| format!("{{\"id\": \"{id}\"}}\n")).collect::<String>());
    world.commit("devices");
}

fn owner(world: &World, id: &str) -> String {
    let connection = rusqlite::Connection::open(world.registry_path()).unwrap();
    connection.query_row("SELECT import FROM device WHERE device_id = ?1", [id], |row| row.get(0)).unwrap()
}

#[test]
fn a_device_moves_from_one_import_to_another() {
    for removed in ["keep", "block", "delete"] {
        // In one commit, there and back: the giving import is staged before the taking one, and after it.
        let world = two_imports(removed);
        let keys = world.registry().devices().keys("move").unwrap();
        for (a, b, owner_now) in [(vec!["a-1"], vec!["b-1", "move"], "b"), (vec!["a-1", "move"], vec!["b-1"], "a")] {
            set_both(&world, &a, &b);
            let applied = world.apply().unwrap();
            for (name, report) in &applied.imports {
                assert_eq!((report.removed, report.rejected), (0, 0), "{removed}, {name}: {report:?}");
            }
            assert_eq!(owner(&world, "move"), owner_now, "{removed}");
            assert!(
                !device(&world, "move").blocked && world.registry().devices().keys("move").unwrap() == keys,
                "{removed}"
            );
        }
        // In two commits.
        if removed == "keep" {
            set_both(&world, &["a-1"], &["b-1"]);
            world.apply().unwrap();
            assert_eq!(owner(&world, "move"), "a");
            set_both(&world, &["a-1"], &["b-1", "move"]);
            world.apply().unwrap();
            assert_eq!(owner(&world, "move"), "b");
        }
        // Both have it: it stays where it is, whether or not its own file changed, and nothing is removed.
        for (a, b) in [(vec!["a-1"], vec!["b-1", "b-2", "a-1"]), (vec!["a-1", "a-2"], vec!["b-1", "b-3", "a-1"])] {
            set_both(&world, &a, &b);
            let applied = world.apply().unwrap();
            let (_, report) = applied.imports.iter().find(|(name, _)| name.as_str() == "b").unwrap();
            assert_eq!(report.rejected, 1, "{removed}: {report:?}");
            assert_eq!(owner(&world, "a-1"), "a", "{removed}");
        }
        assert!(
            errors(&world).contains("a-1,the device belongs to import/a") || errors(&world).contains("import/a too")
        );
    }
}

/// The import that takes is staged first, and the one that has the device keeps it.
#[test]
fn an_owner_that_still_has_a_device_keeps_it_from_an_earlier_import() {
    let world = two_imports("delete");
    set_both(&world, &["a-1", "move", "b-1"], &["b-1", "b-2"]);
    let applied = world.apply().unwrap();
    let rejected: Vec<(&str, u64)> =
        applied.imports.iter().map(|(name, report)| (name.as_str(), report.rejected)).collect();
    assert_eq!(rejected, [("a", 1), ("b", 0)]);
    assert_eq!(owner(&world, "b-1"), "b");
    assert!(
        errors(&world).contains("4,b-1,\"the device belongs to import/b, whose file has it too\""),
        "{}",
        errors(&world)
    );
}

#[test]
fn an_import_of_an_unexpected_size_is_refused() {
    let world = World::new("{}");
    let declare = |expect: &str| {
        let spec = format!("{{file: d.jsonl, removed: delete, expect: {expect}}}");
        world.declare("imports.yaml", "DeviceImport", "all", &spec);
        world.commit("import");
    };
    let lines = |ids: &[&str]| {
        world.write("d.jsonl", ids.iter().map(|id| format!("{{\"id\":\"{id}\"}}\n")).collect::<String>())
    };
    lines(&["d-1", "d-2", "d-3"]);
    for (expect, part) in [("{min: 4}", "3 devices, and its `expect` allows at least 4"), ("{max: 2}", "at most 2")] {
        declare(expect);
        let ran = world.run(&["apply", "--yes"]).expect(65);
        assert!(ran.stderr.contains("FF605") && ran.stderr.contains(part), "{}", ran.stderr);
    }
    declare("{min: 3, max: 2}");
    assert!(world.run(&["validate"]).expect(65).stderr.contains("FF310"));
    declare("{min: 3, max: 3, removed: 1}");
    assert_eq!(counts(&import(&world)), [3, 0, 0, 0, 0]);
    declare("{min: 1, removed: 1}");
    lines(&["d-1"]);
    world.commit("two are gone");
    let ran = world.run(&["apply", "--yes"]).expect(65);
    assert!(ran.stderr.contains("block or delete 2 devices") && ran.stderr.contains("at most 1"), "{}", ran.stderr);
    world.write("d.jsonl", "{\"id\":\"d-1\"}\n{\"id\":\"d-2\",\"importMode\":\"delete\"}\n{\"id\":\"d-3\"}\n");
    world.commit("one is gone");
    let ran = world.run(&["plan"]).expect(0);
    assert!(ran.stdout.contains("0 new · 0 updated · 1 to delete"), "{}", ran.stdout);
    assert_eq!(counts(&import(&world)), [0, 0, 2, 1, 0]);
    assert_eq!(ids(&world), ["d-1", "d-3"]);
}

/// Exports in a format, checks the mode of the file, and returns its bytes.
fn export(world: &World, format: &str) -> Vec<u8> {
    let file = world.folder_file(&format!("export.{format}"));
    world.run(&["device", "export", "--format", format, "-o", &file]).expect(0);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    fs::read(&file).unwrap()
}

/// A fleet with every kind of device that an import can make, and with values that jobs and devices wrote.
fn various_world() -> World {
    let sha1 = "0123456789abcdef0123456789ABCDEF01234567";
    let world = hub_world(&[
        full_line(),
        json!({"id": "plain"}),
        json!({"id": "self-signed", "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": sha1}}}),
        json!({"id": "of-authority", "authentication": {"type": "certificateAuthority"}}),
        json!({"id": "none", "authentication": {"type": "none"}}),
        json!({"id": "$odd'id,=@;", "tags": {"ü": "\u{1f600}\"\\\n", "deep": {"a": {"b": [1, {"c": null}]}}}}),
        json!({"id": "Numbers", "properties": {"desired": {"f": 0.1, "g": 1e300, "h": -4_503_599_627_370_496_i64,
            "i": 123_456.789_012_345_67, "j": 5e-324, "k": 1.0}, "reported": {"t": 8.41, "$version": 99}}}),
    ]);
    world.declare("csv.yaml", "DeviceImport", "csv", "{file: d.csv}");
    world.write("d.csv", "IOTC_DEVICEID,IOTC_DEVICENAME,TAG.line\nc-1,\"Press, north\",3\nc-2,=cmd(),4\n");
    world.job("dim", "{target: {query: '*'}, action: {property: {dim: {level: 3}}}}");
    world.apply().unwrap();
    world
}

#[test]
fn an_export_of_iot_hubs_form_comes_back_byte_for_byte() {
    let world = various_world();
    let first = export(&world, "iothub");
    let line: Value = serde_json::from_slice(first.split(|byte| *byte == b'\n').next().unwrap()).unwrap();
    let members: Vec<&String> = line.as_object().unwrap().keys().collect();
    let expect = ["authentication", "capabilities", "eTag", "id", "properties", "status", "tags", "twinETag"];
    assert_eq!(members, expect, "as serde_json sorts them");
    assert_eq!(line["id"], json!("$odd'id,=@;"), "sorted by id");

    let empty = World::new("{}");
    empty.declare("imports.yaml", "DeviceImport", "all", "{file: devices.jsonl}");
    empty.write("devices.jsonl", &first);
    empty.commit("devices");
    assert_eq!(counts(&import(&empty)), [9, 0, 0, 0, 0]);
    let second = export(&empty, "iothub");
    assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
    for id in ids(&world) {
        assert!(world.registry().devices().keys(&id).unwrap() == empty.registry().devices().keys(&id).unwrap(), "{id}");
    }
    // An import into a registry that has the devices changes nothing.
    empty.write("devices.jsonl", [first.as_slice(), b"\n"].concat());
    empty.commit("a blank line");
    assert_eq!(counts(&import(&empty)), [0, 0, 9, 0, 0]);
}

#[test]
fn an_export_of_the_six_columns_comes_back_byte_for_byte() {
    let world = various_world();
    // Ids that IoT Central does not allow are in no CSV file that can be imported.
    let query = "deviceId NIN ['pump_7:a', '$odd\\'id,=@;']";
    let file = world.folder_file("export.csv");
    world.run(&["device", "export", "--query", query, "-o", &file]).expect(0);
    let first = fs::read(&file).unwrap();
    assert!(first.starts_with(b"IOTC_DEVICEID,IOTC_DEVICENAME,IOTC_SASKEY_PRIMARY,"), "{first:?}");
    let empty = World::new("{}");
    empty.declare("imports.yaml", "DeviceImport", "all", "{file: devices.csv}");
    empty.write("devices.csv", &first);
    empty.commit("devices");
    assert_eq!(counts(&import(&empty)), [7, 0, 0, 0, 0]);
    assert_eq!(String::from_utf8_lossy(&first), String::from_utf8_lossy(&export(&empty, "csv")));
}

#[test]
fn keys_of_a_file_are_taken_over_and_never_taken_away() {
    let world = World::new("{}");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv}");
    let header = "IOTC_DEVICEID,IOTC_SASKEY_PRIMARY,IOTC_SASKEY_SECONDARY,IOTC_X509THUMBPRINT_PRIMARY,IOTC_X509THUMBPRINT_SECONDARY\n";
    let set = |rows: &str| {
        world.write("d.csv", format!("{header}{rows}"));
        world.commit("devices");
        counts(&import(&world))
    };
    assert_eq!(set(&format!("d-1,{KEY},,,\n")), [1, 0, 0, 0, 0]);
    let made = world.registry().devices().keys("d-1").unwrap().secondary_key;
    assert!(made.is_some(), "the other one is made");
    assert_eq!(set(&format!("d-1,{KEY},,,\n\n")), [0, 0, 1, 0, 0]);
    assert_eq!(set("d-1,,,,\n"), [0, 0, 1, 0, 0], "keys that were taken out of the file stay");
    assert_eq!(set(&format!("d-1,{OTHER_KEY},,,\n")), [0, 1, 0, 0, 0]);
    let keys = world.registry().devices().keys("d-1").unwrap();
    assert_eq!(
        (keys.primary_key.as_deref(), keys.secondary_key),
        (Some(&b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef"[..]), made)
    );
    assert_eq!(set("d-1,,,xyz,\nd-2,,,,\n"), [1, 0, 0, 0, 1]);
    assert!(errors(&world).contains("thumbprint"));
}

#[test]
fn show_has_the_twin_the_groups_and_what_became_of_it() {
    let world = World::new("{link: {simulated: {devices: {d-1: {answers: 500}}}}}");
    world.declare("org.yaml", "Organization", "acme", "{}");
    world.declare("eu.yaml", "Organization", "eu", "{parent: acme}");
    world.write("d.csv", "IOTC_DEVICEID,TAG.line\nd-1,3\nd-2,4\n");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv, organization: acme/eu}");
    world.declare("line.yaml", "DeviceGroup", "line-3", "{query: \"tags.line = '3'\", organization: acme}");
    world.declare("none.yaml", "DeviceGroup", "line-4", "{query: \"tags.line = '4'\"}");
    world.declare("all.yaml", "DeviceGroup", "all", "{query: '*', organization: acme/eu}");
    world.commit("devices");
    world.job("dim", "{target: {query: '*'}, action: {property: {dim: 3}}}");
    world.apply().unwrap();
    world.job("others", "{target: {devices: [d-2]}, action: {property: {dim: 4}}}");
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.pass(std::time::Duration::from_secs(60));
    world.apply().unwrap();

    let shown = world.run(&["device", "show", "d-1", "--json"]).expect(0).json().remove(0);
    assert_eq!(shown["groups"], json!(["all", "line-3"]));
    assert_eq!(
        (&shown["blocked"], &shown["import"], &shown["authentication"]),
        (&json!(false), &json!("all"), &json!("sas"))
    );
    assert_eq!(shown["properties"]["desired"], json!({"dim": 3, "$version": 2}));
    let jobs = shown["jobs"].as_array().unwrap();
    let told: Vec<[&Value; 4]> =
        jobs.iter().map(|job| ["job", "status", "reason", "code"].map(|key| &job[key])).collect();
    assert_eq!(
        told,
        [
            [&json!("reboot"), &json!("failed"), &json!("rejected"), &json!(500)],
            [&json!("dim"), &json!("completed"), &json!("written"), &Value::Null],
        ]
    );
    let text = world.run(&["device", "show", "d-1"]).expect(0).stdout;
    for part in ["groups        all, line-3", "connection    ", "desired (version 2)", "last jobs", "rejected"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let keys = world.registry().devices().keys("d-1").unwrap();
    let key = String::from_utf8(export(&world, "csv")).unwrap();
    let key = key.lines().nth(1).unwrap().split(',').nth(2).unwrap().to_string();
    assert!(keys.primary_key.is_some() && key.len() == 44);
    assert!(!text.contains(&key) && !shown.to_string().contains(&key), "keys are never shown");

    let ran = world.run(&["device", "show", "D-1"]).expect(1);
    assert!(ran.stderr.contains("Did you mean `d-1`?"), "{}", ran.stderr);
}

#[test]
fn devices_are_blocked_unblocked_and_deleted_at_once() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    // Without a terminal the command cannot ask. One missing device keeps all from being changed.
    assert!(world.run(&["device", "block", "d-001"]).expect(64).stderr.contains("--yes"));
    let ran = world.run(&["device", "block", "--yes", "d-001", "d-0002"]).expect(1);
    assert!(
        ran.stderr.contains("no device `d-0002`") && ran.stderr.contains("Did you mean `d-002`?"),
        "{}",
        ran.stderr
    );
    assert!(world.devices().iter().all(|device| !device.blocked));

    let ran = world.run(&["device", "block", "--yes", "d-001", "d-002", "d-001"]).expect(0);
    assert!(ran.stderr.contains("2 devices: blocked."), "{}", ran.stderr);
    let ran = world.run(&["device", "block", "--yes", "--json", "d-002", "d-003"]).expect(0).json();
    let told: Vec<(&Value, &Value)> = ran.iter().map(|line| (&line["device_id"], &line["changed"])).collect();
    assert_eq!(told, [(&json!("d-003"), &json!(true)), (&json!("d-002"), &json!(false))]);
    world.run(&["device", "unblock", "--yes", "d-002"]).expect(0);
    world.job("dim", "{target: {query: '*'}, action: {property: {dim: 3}}}");
    world.apply().unwrap();
    let reasons: Vec<&str> = world.rows("dim", "1").iter().map(|row| row.reason.as_str()).collect();
    assert_eq!(reasons, ["blocked", "written", "blocked"]);

    let ran = world.run(&["device", "delete", "--yes", "d-003"]).expect(0);
    assert!(ran.stderr.contains("import/all has 1 device of these: they come back"), "{}", ran.stderr);
    assert_eq!(ids(&world), ["d-001", "d-002"]);
    let left: u64 = rusqlite::Connection::open(world.registry_path())
        .unwrap()
        .query_row("SELECT count(*) FROM device_key", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 2, "its keys are gone with it");
    assert_eq!(world.run(&["plan", "--detailed-exitcode"]).code, 0, "an import that was applied is not applied again");
    world.write("devices.csv", format!("{}d-004,Four,4,even\n", crate::world::devices_csv(3)));
    world.commit("one more");
    world.apply().unwrap();
    assert_eq!(ids(&world), ["d-001", "d-002", "d-003", "d-004"], "it came back, as was said");
    assert!(device(&world, "d-001").blocked, "the file says nothing of it");
}

#[test]
fn work_on_one_device_is_a_job_in_git() {
    let world = hub_world(&[json!({"id": "Pump_7:a"}), json!({"id": "other"})]);
    world.apply().unwrap();
    let before = world.head();
    let ran = world
        .run(&[
            "device",
            "set",
            "Pump_7:a",
            "light.threshold=3",
            "light.color=warm",
            "old=null",
            "label=\"4\"",
            "--json",
        ])
        .expect(0)
        .json()
        .remove(0);
    assert_eq!((&ran["job"], &ran["file"]), (&json!("set-pump-7-a-1"), &json!("jobs/set-pump-7-a-1.yaml")));
    assert_eq!(ran["commit"], json!(world.head()));
    assert_ne!(world.head(), before);
    let ran = world.run(&["device", "set", "Pump_7:a", "--tags", "ring=canary"]).expect(0);
    assert!(ran.stderr.contains("Wrote jobs/set-pump-7-a-2.yaml (commit"), "{}", ran.stderr);
    assert!(ran.stderr.contains("apply") && ran.stderr.contains("job show set-pump-7-a-2"), "{}", ran.stderr);
    world.run(&["device", "set", "Pump_7:a", "--cloud", "owner=north"]).expect(0);
    let call = ["device", "call", "Pump_7:a", "reboot", "{\"delay\": 5}", "--idempotent", "--response-timeout", "10s"];
    world.run(&call).expect(0);
    world.apply().unwrap();
    let pump = device(&world, "Pump_7:a");
    assert_eq!(pump.desired, json!({"light": {"threshold": 3, "color": "warm"}, "label": "4"}));
    assert_eq!((pump.tags, pump.cloud), (json!({"ring": "canary"}), json!({"owner": "north"})));
    let text = fs::read_to_string(world.file("jobs/call-pump-7-a-1.yaml")).unwrap();
    for part in ["name: reboot", "delay: 5", "idempotent: true", "responseTimeout: 10s"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(world.rows("call-pump-7-a-1", "1")[0].reason.as_str(), "responded");
    assert_eq!(device(&world, "other").desired, json!({}));

    // The name of a job that has run is not taken again when its file is gone.
    fs::remove_file(world.file("jobs/set-pump-7-a-3.yaml")).unwrap();
    world.commit("tidied up");
    let ran = world.run(&["device", "set", "Pump_7:a", "x=1", "--no-commit", "--json"]).expect(0).json().remove(0);
    assert_eq!((&ran["job"], &ran["commit"]), (&json!("set-pump-7-a-4"), &Value::Null));
    let tree = world.repository().head().unwrap().peel_to_tree().unwrap().id();
    let committed = world.repository().find_tree(tree).unwrap().get_path("jobs/set-pump-7-a-4.yaml".as_ref()).is_ok();
    assert!(!committed && world.file("jobs/set-pump-7-a-4.yaml").exists());
}

#[test]
fn work_that_cannot_be_is_refused_and_leaves_no_file() {
    let world = World::with_devices("{}", 2);
    world.apply().unwrap();
    let check = |arguments: &[&str], code: i32, part: &str| {
        let arguments: Vec<&str> = ["device"].iter().chain(arguments).copied().collect();
        let ran = world.run(&arguments).expect(code);
        assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        assert!(!world.file("jobs").exists() || fs::read_dir(world.file("jobs")).unwrap().next().is_none(), "{part}");
    };
    check(&["set", "d-01", "a=1"], 1, "Did you mean `d-001`?");
    check(&["set", "d-001", "a"], 64, "has no `=`");
    check(&["set", "d-001", "a=1", "a.b=2"], 64, "the same place");
    check(&["set", "d-001", "a.b=1", "a=2"], 64, "the same place");
    check(&["set", "d-001", "a..b=1"], 64, "may not be empty");
    check(&["set", "d-001", "$a=1"], 64, "may not contain '$'");
    check(&["set", "d-001"], 64, "PATH=VALUE");
    check(&["call", "d-001", "reboot", "{"], 64, "not JSON");
    check(&["call", "d-001", "reboot", "--response-timeout", "10 minutes"], 65, "FF303");
}

#[test]
fn work_that_a_plan_refuses_is_not_committed() {
    let world = World::new("{}");
    let property = r#"{"@type": "Property", "name": "level", "schema": "integer", "writable": true}"#;
    let model = format!(
        r#"{{"@id": "dtmi:acme:Lamp;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2", "contents": [{property}]}}"#
    );
    world.write("lamp.json", model);
    world.declare("templates.yaml", "DeviceTemplate", "lamp", "{model: lamp.json}");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv, template: lamp}");
    world.write("d.csv", "IOTC_DEVICEID\na\nb\n");
    world.commit("devices");
    world.apply().unwrap();
    let head = world.head();
    let check = |arguments: &[&str], parts: &[&str]| {
        let arguments: Vec<&str> = ["device"].iter().chain(arguments).copied().collect();
        let ran = world.run(&arguments).expect(65);
        for part in parts {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
        assert_eq!(world.head(), head);
        assert!(fs::read_dir(world.file("jobs")).map_or(true, |mut jobs| jobs.next().is_none()), "{arguments:?}");
    };
    check(&["set", "a", "level=warm"], &["FF611", "`level` expects integer, got \"warm\""]);
    check(&["set", "a", "levl=3", "--no-commit"], &["FF611", "level"]);
    check(&["call", "a", "reboot"], &["FF611", "reboot"]);
    // A mistake in another job does not concern the command.
    world.job("broken", "{target: {query: '*'}, action: {property: {level: high}}}");
    world.commit("broken");
    let ran = world.run(&["device", "set", "a", "level=3"]).expect(0);
    assert!(!ran.stderr.contains("FF611"), "{}", ran.stderr);
    assert_ne!(world.head(), head);
    // Another value for the same device before the first was applied.
    let ran = world.run(&["device", "set", "a", "level=4"]).expect(65);
    assert!(ran.stderr.contains("FF604") && ran.stderr.contains("set-a-1"), "{}", ran.stderr);
    assert!(!world.file("jobs/set-a-2.yaml").exists());
    world.run(&["device", "set", "b", "level=4"]).expect(0);
}

#[test]
fn work_is_repeated_when_the_file_of_the_first_is_gone() {
    let world = World::with_devices("{}", 2);
    world.apply().unwrap();
    let mut jobs = Vec::new();
    for _ in 0..3 {
        let ran = world.run(&["device", "call", "d-001", "reboot", "--json"]).expect(0).json().remove(0);
        world.apply().unwrap();
        fs::remove_file(world.file(ran["file"].as_str().unwrap())).unwrap();
        world.commit("tidied up");
        jobs.push(ran["job"].as_str().unwrap().to_string());
    }
    assert_eq!(jobs, ["call-d-001-1", "call-d-001-2", "call-d-001-3"]);
    for job in jobs {
        assert_eq!(world.rows(&job, if job.ends_with("-1") { "1" } else { &job[job.len() - 1..] }).len(), 1, "{job}");
    }
}
