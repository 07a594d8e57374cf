//! From the JSON of IoT Central and IoT Hub to documents of ours: every fixture of `fixtures/convert` with its result,
//! and the command.
//!
//! `UPDATE_FIXTURES=1 cargo test --test it convert` writes the expected output anew; review it as prose.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use fleetform::convert::{Conversion, Input, Options, Source, convert};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::{Ran, World, fleetform, folder};

/// A time between the starts of the fixtures.
const NOW: &str = "2026-11-20T10:00:00Z";

fn options() -> Options {
    Options { source: None, has_keys: false, now: NOW.parse().unwrap() }
}

fn convert_value(value: &Value) -> Conversion {
    convert(&[Input { name: "in.json".to_string(), bytes: value.to_string().into_bytes() }], options())
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/convert");
    let mut found: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    found.sort();
    assert!(found.len() > 10);
    found
}

fn converted(path: &Path) -> Conversion {
    let name = path.file_name().unwrap().to_str().unwrap().to_string();
    convert(&[Input { name, bytes: fs::read(path).unwrap() }], options())
}

/// Returns everything that came of a conversion, as one text.
fn rendered(conversion: &Conversion) -> String {
    let mut text = String::new();
    for note in &conversion.notes {
        writeln!(text, "== note: {note}").unwrap();
    }
    for document in &conversion.documents {
        writeln!(text, "== {}\n{}", document.path, document.text).unwrap();
        for file in &document.files {
            writeln!(text, "== {}\n{}", file.path, file.text).unwrap();
        }
    }
    for refusal in &conversion.refusals {
        writeln!(text, "== refused: {}\n{}", refusal.place, refusal.what).unwrap();
    }
    text
}

#[test]
fn every_fixture_becomes_what_is_expected_of_it() {
    let mut problems = Vec::new();
    for path in fixtures() {
        let (expected, actual) = (path.with_extension("expected"), rendered(&converted(&path)));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            fs::write(expected, actual).unwrap();
        } else if fs::read_to_string(&expected).unwrap_or_default() != actual {
            problems.push(format!("{} expects something else than:\n{actual}", expected.display()));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}

/// Returns the documents that the documents of a conversion refer to and that are not among them, each as a file.
fn stand_ins(documents: &[Value]) -> Vec<(String, String)> {
    let mut wanted: BTreeSet<(&str, String)> = BTreeSet::new();
    let mut want = |kind, value: &Value| {
        if let Some(name) = value.as_str() {
            wanted.insert((kind, name.to_string()));
        }
    };
    for document in documents {
        for spec in [&document["spec"], &document["spec"]["job"]] {
            want("Organization", &spec["organization"]);
            want("DeviceTemplate", &spec["template"]);
            want("DeviceGroup", &spec["target"]["group"]);
            want("DeviceTemplate", &spec["action"]["deviceTemplate"]);
            want("EdgeManifest", &spec["action"]["edgeManifest"]);
        }
    }
    let is_there = |kind: &str, name: &str| {
        documents.iter().any(|document| document["kind"] == kind && document["metadata"]["name"] == name)
    };
    wanted.retain(|(kind, name)| !is_there(kind, name));
    let mut files = vec![
        (
            "x.dtdl.json".to_string(),
            json!({"@context": "dtmi:dtdl:context;2", "@id": "dtmi:x:y;1", "@type": "Interface", "contents": []})
                .to_string(),
        ),
        ("x.deployment.json".to_string(), crate::edge::manifest(json!({})).to_string()),
    ];
    for (kind, name) in wanted {
        let spec = match kind {
            "DeviceTemplate" => "{model: x.dtdl.json}",
            "DeviceGroup" => "{query: '*'}",
            "EdgeManifest" => "{file: x.deployment.json}",
            _ => "{}",
        };
        let text = format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: \"{name}\"}}\nspec: {spec}\n");
        files.push((format!("stand-in-{kind}-{name}.yaml"), text));
    }
    files
}

/// Validates what came of a conversion in a fleet of its own.
fn validate(conversion: &Conversion, subject: &str) {
    let world = World::new("{}");
    let documents = &conversion.documents;
    let values: Vec<Value> = documents.iter().map(|document| serde_yaml::from_str(&document.text).unwrap()).collect();
    for document in documents {
        assert!(!world.file(&document.path).exists(), "{subject}: {} is there twice", document.path);
        world.write(&document.path, &document.text);
        document.files.iter().for_each(|file| world.write(&file.path, &file.text));
    }
    for (path, text) in stand_ins(&values) {
        world.write(&path, text);
    }
    let ran = world.run(&["validate"]);
    assert_eq!(ran.code, 0, "{subject}: {}", ran.stderr);
}

#[test]
fn whatever_is_emitted_is_valid_in_a_fleet() {
    for path in fixtures() {
        validate(&converted(&path), &path.display().to_string());
    }
}

#[test]
fn every_kind_is_told_by_its_shape_or_forced() {
    let mut seen = BTreeSet::new();
    for path in fixtures() {
        let value: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let list = value.as_array().or_else(|| value["value"].as_array());
        for item in list.map_or(std::slice::from_ref(&value), Vec::as_slice) {
            if let Some(Ok(source)) = item.as_object().map(Source::of) {
                let name = path.file_name().unwrap().to_str().unwrap();
                let system = if source.as_str().starts_with("iot-hub") { "hub" } else { "central" };
                assert!(name.starts_with(system) || name == "refused.json", "{name}: {source:?}");
                seen.insert(source);
            }
        }
    }
    assert_eq!(seen.len(), Source::ALL.len());
    let group = json!({"filter": "SELECT * FROM devices", "queryCondition": "*", "id": "a"});
    let forced = Options { source: Some(Source::CentralDeviceGroup), ..options() };
    let made = convert(&[Input { name: "a".to_string(), bytes: group.to_string().into_bytes() }], forced);
    assert_eq!(made.documents[0].path, "groups/a.yaml");
    assert!(convert_value(&group).documents.is_empty());
}

#[test]
fn references_are_resolved_across_files_in_any_order() {
    let id = "5d1f6c2a-1111-4222-8333-944445555666";
    let job = json!({"id": "j", "group": id, "data": [{"type": "command", "path": "reboot"}]});
    let group = json!({"id": id, "displayName": "Hall A", "filter": "SELECT * FROM devices"});
    let inputs = [job, group].map(|value| Input { name: "in".to_string(), bytes: value.to_string().into_bytes() });
    let made = convert(&inputs, options());
    assert!(made.documents[0].text.contains("group: hall-a\n"), "{}", made.documents[0].text);
    assert_eq!(made.documents[1].path, "groups/hall-a.yaml");
}

#[test]
fn tags_and_properties_of_an_update_become_one_job() {
    let check = |update: Value, expect: Value| {
        let job = json!({"jobId": "j", "queryCondition": "tags.a = 2", "updateTwin": update});
        let documents = convert_value(&job).documents;
        assert_eq!(documents.len(), 1);
        let value: Value = serde_yaml::from_str(&documents[0].text).unwrap();
        assert_eq!(value["spec"]["action"], expect);
    };
    let desired = json!({"desired": {"b": 2, "$version": 4}});
    check(json!({"etag": "*", "tags": {"a": 1}}), json!({"tags": {"a": 1}}));
    check(json!({"tags": {}, "properties": desired}), json!({"property": {"b": 2}}));
    check(
        json!({"etag": "*", "tags": {"a": null}, "properties": desired}),
        json!({"twin": {"tags": {"a": null}, "property": {"b": 2}}}),
    );
}

#[test]
fn a_start_makes_a_schedule_only_in_the_future() {
    let check = |start: &str, kind: &str| {
        let job = json!({"jobId": "j", "queryCondition": "*", "startTime": start, "updateTwin": {"tags": {"a": 1}}});
        assert_eq!(convert_value(&job).documents[0].kind.word(), kind, "{start}");
    };
    check("2026-11-20T10:00:00Z", "Job");
    check("2026-11-20T10:00:01.0000000Z", "Schedule");
    check("2026-11-20T11:00:01+02:00", "Job");
    check("2026-11-20T10:00:01", "Schedule");
}

fn convert_stdin(input: &[u8], arguments: &[&str]) -> Ran {
    let folder = folder();
    fs::write(folder.path().join("in"), input).unwrap();
    let file = fs::File::open(folder.path().join("in")).unwrap();
    Ran::of(fleetform().args(["convert", "-"]).args(arguments).stdin(Stdio::from(file)))
}

const TEMPLATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/convert/central-device-template.json");

#[test]
fn documents_go_to_stdout_and_notes_to_stderr_as_well() {
    let ran = Ran::of(fleetform().args(["convert", TEMPLATE])).expect(0);
    let document: Value = serde_yaml::from_str(&ran.stdout).unwrap();
    assert_eq!(document["spec"]["model"], "thermostat.dtdl.json");
    assert!(ran.stdout.contains("# Note: `templates/thermostat.dtdl.json`, which it names, is not shown: `-o DIR`"));
    assert!(ran.stderr.starts_with("5 notes:\n  templates/thermostat.yaml: "), "{}", ran.stderr);
    let groups = TEMPLATE.replace("template", "groups");
    let ran = Ran::of(fleetform().args(["convert", "-q", TEMPLATE, &groups])).expect(0);
    assert_eq!(serde_yaml::from_multiple::<Value>(&ran.stdout).unwrap().len(), 5);
    assert_eq!(ran.stderr, "");
}

#[test]
fn files_are_written_in_their_folders_and_never_over_others() {
    let folder = folder();
    let target = folder.path().join("fleet");
    let arguments = ["convert", TEMPLATE, "-o", target.to_str().unwrap()];
    let ran = Ran::of(fleetform().args(arguments)).expect(0);
    assert_eq!(ran.stdout, "");
    let text = fs::read_to_string(target.join("templates/thermostat.yaml")).unwrap();
    assert!(!text.contains("is not shown"), "{text}");
    let model: Value =
        serde_json::from_slice(&fs::read(target.join("templates/thermostat.dtdl.json")).unwrap()).unwrap();
    let names: Vec<&str> =
        model["contents"].as_array().unwrap().iter().map(|content| content["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["temperature", "targetTemperature", "maxTempSinceLastReboot", "getMaxMinReport"]);
    for name in ["thermostat.yaml", "thermostat.dtdl.json"] {
        let line = format!("wrote {}\n", target.join("templates").join(name).display());
        assert!(ran.stderr.contains(&line), "{}", ran.stderr);
    }

    fs::remove_file(target.join("templates/thermostat.yaml")).unwrap();
    fs::write(target.join("templates/thermostat.dtdl.json"), "mine").unwrap();
    let ran = Ran::of(fleetform().args(arguments)).expect(64);
    assert!(ran.stderr.contains("templates/thermostat.dtdl.json exists already"), "{}", ran.stderr);
    assert!(!target.join("templates/thermostat.yaml").exists());
    assert_eq!(fs::read_to_string(target.join("templates/thermostat.dtdl.json")).unwrap(), "mine");
}

#[test]
fn json_has_an_object_for_each_document() {
    let ran = Ran::of(fleetform().args(["convert", "--json", TEMPLATE])).expect(0);
    let [document] = ran.json().try_into().unwrap();
    assert_eq!(document["kind"], "DeviceTemplate");
    assert_eq!(document["name"], "thermostat");
    assert_eq!(document["path"], "templates/thermostat.yaml");
    assert!(document["text"].as_str().unwrap().contains("kind: DeviceTemplate"));
    assert_eq!(document["notes"].as_array().unwrap().len(), 4);
    assert_eq!(document["files"][0]["path"], "templates/thermostat.dtdl.json");
}

#[test]
fn bad_input_says_what_was_expected() {
    let check = |input: &[u8], expect: &str| {
        let ran = convert_stdin(input, &[]).expect(65);
        assert_eq!(ran.stdout, "");
        assert!(ran.stderr.starts_with("error: stdin") && ran.stderr.contains(expect), "{}", ran.stderr);
        assert!(ran.stderr.len() < 1_000, "{}", ran.stderr);
    };
    check(b"", "The file is empty.");
    check(b" \n", "The file is empty.");
    check(b"{\"id\": \"a\", ", "The file is cut off: its JSON does not end");
    check(br#"{"error": {"code": "Unauthorized", "message": "no"}}"#, "the error `Unauthorized` that the API answered");
    check(
        b"kind: {Job}",
        "not valid JSON: expected value at line 1 column 1. Expected is the JSON of one of iot-central-job,",
    );
    check(b"kind: Job", "not valid JSON");
    check(b"{\"a\": 1}", "it has `a`. Expected is");
    check(b"{\"\\u001b[31m\": 1}", "it has `\\u{1b}[31m`");
    check(b"[]", "The list is empty");
    check(b"3", "This is a number, and not a JSON object");
    check(b"[[]]", "item 1: This is an array");
    check(&vec![b' '; (16 << 20) + 1], "more than the 16 MiB that are read");
    check("[".repeat(100_000).as_bytes(), "recursion limit exceeded");
    check(b"\xff\xfe{\0}\0", "not valid JSON");
}

#[test]
fn one_bad_item_does_not_stop_the_others() {
    let input =
        json!([{"a": 1}, {"jobId": "good", "queryCondition": "*", "updateTwin": {"tags": {"a": 1}}}]).to_string();
    let ran = convert_stdin(input.as_bytes(), &[]).expect(65);
    assert!(ran.stdout.contains("name: good"), "{}", ran.stdout);
    assert!(ran.stderr.contains("stdin, item 1: "), "{}", ran.stderr);
    // A byte order mark, as Windows tools write it.
    let marked = format!("\u{feff}{input}");
    assert!(convert_stdin(marked.as_bytes(), &[]).stdout.contains("name: good"));
}

#[test]
fn a_wrong_call_is_no_bad_input() {
    let ran = Ran::of(fleetform().args(["convert", "no-such-file.json"])).expect(1);
    assert!(ran.stderr.contains("no-such-file.json cannot be read"), "{}", ran.stderr);
    let ran = convert_stdin(b"{}", &["--from", "iot-hub"]).expect(64);
    assert!(ran.stderr.contains("iot-hub-configuration"), "{}", ran.stderr);
    convert_stdin(b"{}", &["--from", "iot-central-job"]).expect(65);
    Ran::of(fleetform().args(["convert"])).expect(64);
    let folder = folder();
    fs::File::create(folder.path().join("jobs")).unwrap().write_all(b"a file").unwrap();
    let input = json!({"jobId": "good", "queryCondition": "*", "updateTwin": {"tags": {"a": 1}}}).to_string();
    convert_stdin(input.as_bytes(), &["-o", folder.path().to_str().unwrap()]).expect(1);
}

/// Returns the JSON pointers of every value below one.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_string());
    match value {
        Value::Object(members) => {
            let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
            members.iter().for_each(|(key, value)| pointers(value, &format!("{at}/{}", escaped(key)), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| pointers(value, &format!("{at}/{n}"), found));
        }
        _ => {}
    }
}

fn odd_values() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!([{}, [], null])),
        Just(json!({"$x": {"a.b": 1}})),
        Just(json!("x".repeat(40_000))),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
        "[-a-z$\"'=<>()\\[\\] ./*\\\\]{0,30}".prop_map(Value::from),
        "(SELECT \\* FROM devices WHERE )?(\\$template = \"[a:;1]{0,5}\"|\"[a.]{0,3}\" > 1|NOT|AND|OR|[().,\\[\\]]| \
            ){0,8}"
            .prop_map(Value::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// No content of a file makes the converter panic, and its output loads; this does not rely on `check.rs` alone.
    #[test]
    fn a_fixture_with_an_odd_value_is_converted_or_refused(at in any::<prop::sample::Index>(), place in any::<prop::sample::Index>(), odd in odd_values()) {
        let fixtures = fixtures();
        let path = at.get(&fixtures);
        let mut value: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let mut found = Vec::new();
        pointers(&value, "", &mut found);
        let pointer: &String = place.get(&found);
        *value.pointer_mut(pointer).unwrap() = odd;
        let made = convert_value(&value);
        let mut names = BTreeMap::new();
        for document in &made.documents {
            let text: Value = serde_yaml::from_str(&document.text).unwrap();
            prop_assert_eq!(&text["metadata"]["name"], document.name.as_str());
            prop_assert_eq!(names.insert(document.path.clone(), ()), None);
            prop_assert!(document.notes.iter().all(|note| !note.contains('\n')));
        }
    }
}

#[test]
fn a_page_without_a_list_is_refused() {
    for value in [json!({"value": {}, "nextLink": "x"}), json!({"nextLink": "x"}), json!({"value": 1, "nextLink": "x"})]
    {
        let made = convert_value(&value);
        assert!(made.documents.is_empty() && made.notes.is_empty(), "{value}");
        assert_eq!(made.refusals.len(), 1, "{value}");
    }
}

#[test]
fn what_was_asked_for_is_desired_and_what_a_device_said_is_reported() {
    let writable = |name: &str| json!({"@type": ["Property"], "name": name, "schema": "double", "writable": true});
    let model = json!({"@id": "dtmi:acme:gate;1", "@type": "Interface", "displayName": "Gate", "contents": [
        writable("asked"), writable("said"), writable("both"), writable("bare"),
        {"@type": ["Property", "Cloud"], "name": "limit", "schema": "double", "minValue": 0, "decimalPlaces": 2},
        {"@type": "Component", "name": "motor", "schema": {"@type": "Interface", "@id": "dtmi:acme:motor;1",
            "contents": [writable("speed")]}},
    ]});
    let template = json!({"@id": "dtmi:acme:gate", "@type": ["ModelDefinition", "DeviceModel"], "displayName": "Gate",
        "capabilityModel": model});
    let device = |id: &str| json!({"id": id, "enabled": true, "provisioned": true, "template": "dtmi:acme:gate"});
    let properties = json!({"id": "g-1", "properties": {
        "said": 2, "both": 3, "bare": 5,
        "motor": {"$metadata": {"speed": {"desiredValue": 33, "desiredVersion": 1}}},
        "$metadata": {
            "asked": {"desiredValue": 1, "desiredVersion": 2},
            "said": {"lastUpdateTime": "2026-01-01T00:00:00Z"},
            "both": {"desiredValue": 4, "desiredVersion": 2, "lastUpdateTime": "2026-01-01T00:00:00Z"},
        },
    }});
    let made = convert_value(&json!([template, device("g-1"), device("g-2"), properties]));
    assert!(made.refusals.is_empty(), "{:?}", made.refusals);
    let note =
        "fleetform does not check the bounds of cloud properties: those of `limit` are `minValue`, `decimalPlaces`.";
    let of_template = made.documents.iter().flat_map(|document| &document.notes).filter(|found| *found == note);
    assert_eq!(of_template.count(), 1);
    let import = made.documents.iter().find(|document| document.path.starts_with("imports/")).unwrap();
    let lines: Vec<Value> = import.files[0].text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        lines[0]["properties"],
        json!({
            "desired": {"asked": 1, "bare": 5, "both": 4, "motor": {"__t": "c", "speed": 33}},
            "reported": {"both": 3, "said": 2},
        })
    );
    // Half of the answers were not fetched.
    let note = "The properties of 1 of its 2 devices are not part of the input: these arrive without any.";
    assert!(import.notes.iter().any(|found| found == note), "{:?}", import.notes);
}

#[test]
fn a_page_that_is_missing_is_told() {
    let page = |number: u32, leads_on: bool| {
        let device = json!({"id": format!("d-{number}"), "enabled": true, "provisioned": true});
        let value = if leads_on { json!({"value": [device], "nextLink": "x"}) } else { json!({"value": [device]}) };
        Input { name: format!("app/devices-{number}.json"), bytes: value.to_string().into_bytes() }
    };
    let notes = |pages: &[Input]| convert(pages, options()).notes;
    let first = || (1..=9).map(|number| page(number, true));
    let check = |more: &[Input], expect: &[&str]| {
        let found = notes(&first().chain(more.iter().cloned()).collect::<Vec<_>>());
        assert_eq!(found.len(), expect.len(), "{found:?}");
        assert!(found.iter().zip(expect).all(|(found, expect)| found.starts_with(expect)), "{found:?}");
    };
    check(&[page(10, true), page(11, false)], &[]);
    check(&[page(10, true)], &["app/devices-10.json: all 10 pages"]);
    check(&[page(11, false)], &["app/devices-11.json: the page 10 before it is not"]);
    let two = ["app/devices-12.json: the pages 10 to 11 before it", "app/devices-14.json: the page 13 before"];
    check(&[page(14, false), page(12, true)], &two);
    let headless = notes(&[page(3, true), page(4, false)]);
    assert!(headless.len() == 1 && headless[0].starts_with("app/devices-3.json: the pages 1 to 2"), "{headless:?}");
    assert_eq!(notes(&[page(0, true), page(1, false)]), [""; 0], "pages may be counted from 0");
}

#[test]
fn devices_of_an_application_keep_what_they_are() {
    let folder = folder();
    let app = folder.path().join("app");
    let write = |path: &str, value: serde_json::Value| {
        let path = app.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, value.to_string()).unwrap();
    };
    let device = |id: &str, kind: serde_json::Value| {
        json!({"id": id, "displayName": id, "enabled": true, "provisioned": true, "simulated": false, "type": kind,
            "organizations": ["süd"]})
    };
    write("devices-1.json", json!({"value": [device("edge-1", json!(["iotEdge"])), device("d-2", json!([]))]}));
    write("organizations-1.json", json!({"value": [{"id": "süd", "displayName": "Straße Süd"}]}));
    // An error in place of an answer gives a device nothing.
    write("devices/edge-1/properties.json", json!({"error": {"code": "NotFound", "message": "no"}}));
    // A property of that name does.
    write("devices/d-2/properties.json", json!({"error": {"code": 7, "text": "hot"}}));
    let fleet = folder.path().join("fleet");
    let ran = Ran::of(fleetform().args(["convert"]).arg(&app).arg("-o").arg(&fleet)).expect(65);
    assert!(ran.stderr.contains("the error `NotFound` in place of what was asked"), "{}", ran.stderr);
    let rows = fs::read_to_string(fleet.join("imports/sud.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!(rows[1], json!({"id": "edge-1", "deviceName": "edge-1", "capabilities": {"iotEdge": true}}));
    assert_eq!(rows[0]["properties"]["reported"], json!({"error": {"code": 7, "text": "hot"}}));
    assert!(fleet.join("organizations/sud.yaml").exists(), "{}", ran.stderr);
    // Keys are written where they are asked for, of those who have some.
    let keys = json!({"primaryKey": "cHJpbWFyeQ==", "secondaryKey": "c2Vjb25kYXJ5"});
    write("devices/d-2/credentials.json", json!({"idScope": "0ne", "symmetricKey": keys}));
    let print = "0123456789ABCDEF0123456789ABCDEF01234567";
    let certificate = json!({"primary": {"certificate": "…", "info": {"sha1Thumbprint": print}}});
    write("devices/edge-1/credentials.json", json!({"idScope": "0ne", "x509": {"clientCertificates": certificate}}));
    let rows = |name: &str, more: &[&str]| -> Vec<serde_json::Value> {
        let fleet = folder.path().join(name);
        Ran::of(fleetform().arg("convert").arg(&app).arg("-o").arg(&fleet).args(more)).expect(65);
        let rows = fs::read_to_string(fleet.join("imports/sud.jsonl")).unwrap();
        rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect()
    };
    assert!(rows("keyless", &[]).iter().all(|row| row.get("authentication").is_none()));
    let keyed = rows("keyed", &["--keys"]);
    assert_eq!(keyed[0]["authentication"], json!({"type": "sas", "symmetricKey": keys}));
    let prints = json!({"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": print}});
    assert_eq!(keyed[1]["authentication"], prints);
}
