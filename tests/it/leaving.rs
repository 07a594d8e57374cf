//! Somebody leaves IoT Central: an application as its REST API shows it becomes a fleet whose devices have what they had.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{Ran, fleetform, folder};

fn put(folder: &Path, path: &str, value: &Value) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, value.to_string()).unwrap();
}

/// 25 devices of two templates and two organizations on three pages, with their properties.
fn application(app: &Path) {
    let property = |name: &str, kind: &Value, is_writable: bool| json!({"@type": kind, "name": name, "schema": "double", "writable": is_writable});
    let template = |id: &str, more: &[Value]| {
        let mut contents = vec![
            property("level", &json!("Property"), true),
            property("battery", &json!("Property"), false),
            json!({"@type": ["Property", "Cloud"], "name": "owner", "schema": "string"}),
        ];
        contents.extend(more.iter().cloned());
        json!({"@id": id, "@type": ["ModelDefinition", "DeviceModel"], "displayName": id.split(':').next_back().unwrap(),
               "@context": ["dtmi:iotcentral:context;2", "dtmi:dtdl:context;2"],
               "capabilityModel": {"@id": format!("{id}m;1"), "@type": "Interface", "contents": contents}})
    };
    let motor = json!({"@type": "Component", "name": "motor", "schema": {
        "@id": "dtmi:acme:motor;1", "@type": "Interface", "contents": [property("speed", &json!("Property"), true)]}});
    put(
        app,
        "deviceTemplates.json",
        &json!({"value": [template("dtmi:acme:lamp", &[]), template("dtmi:acme:gate", &[motor])]}),
    );
    put(
        app,
        "organizations.json",
        &json!({"value": [
        {"id": "eu", "displayName": "Europe"}, {"id": "nl", "displayName": "Netherlands", "parent": "eu"}]}),
    );
    put(
        app,
        "deviceGroups.json",
        &json!({"value": [
        {"id": "gates", "displayName": "Gates", "filter": "SELECT * FROM devices WHERE $template = \"dtmi:acme:gate\" AND motor.speed > 4"}]}),
    );
    put(
        app,
        "jobs.json",
        &json!({"value": [
        {"id": "over", "displayName": "Over", "group": "gates", "status": "complete", "data": [
            {"type": "property", "target": "dtmi:acme:gate", "path": "level", "value": 9}]},
        {"id": "next", "displayName": "Next", "group": "gates", "status": "running", "data": [
            {"type": "property", "target": "dtmi:acme:gate", "path": "level", "value": 7}]}]}),
    );
    for page in 0..3 {
        let devices: Vec<Value> = (page * 10..(page * 10 + 10).min(25)).map(device).collect();
        put(app, &format!("devices-{page}.json"), &json!({"value": devices}));
    }
    for n in 0..25 {
        let (id, is_gate) = (format!("d-{n:02}"), n % 5 == 0);
        let mut properties = json!({
            "level": 1, "battery": 90 - n, "owner": "north",
            "$metadata": {"level": {"desiredValue": 2, "desiredVersion": 3}},
        });
        if is_gate {
            properties["motor"] = json!({"speed": 5, "$metadata": {"speed": {"desiredValue": 5}}});
        }
        put(app, &format!("devices/{id}/properties.json"), &properties);
        put(app, &format!("devices/{id}/cloudProperties.json"), &json!({"note": format!("n {n}")}));
        put(
            app,
            &format!("devices/{id}/credentials.json"),
            &json!({"idScope": "0ne", "symmetricKey": {"primaryKey": "c2VjcmV0IG9mIGEgZGV2aWNl"}}),
        );
    }
}

fn device(n: usize) -> Value {
    let (template, organization) =
        (if n.is_multiple_of(5) { "dtmi:acme:gate" } else { "dtmi:acme:lamp" }, if n < 12 { "eu" } else { "nl" });
    json!({"id": format!("d-{n:02}"), "etag": "x", "displayName": format!("Device {n}"), "template": template,
           "organizations": [organization], "simulated": false, "provisioned": true, "enabled": n != 3})
}

#[test]
fn an_application_that_is_left_has_its_devices_here_as_they_were() {
    let folder = folder();
    let (app, fleet) = (folder.path().join("app"), folder.path().join("fleet"));
    application(&app);
    let run = |arguments: &[&str]| Ran::of(fleetform().current_dir(folder.path()).args(arguments));
    let in_fleet = |arguments: &[&str]| Ran::of(fleetform().arg("-C").arg(&fleet).args(arguments));
    run(&["init", "fleet", "--name", "acme"]).expect(0);
    let converted = run(&["convert", "app", "-o", "fleet"]).expect(0);
    assert!(!converted.stderr.contains("c2VjcmV0"), "{}", converted.stderr);
    let text = Command::new("grep").args(["-rl", "c2VjcmV0"]).arg(&fleet).output().unwrap();
    assert!(text.stdout.is_empty(), "no key is written into a file");
    let git = |arguments: &[&str]| {
        assert!(Command::new("git").arg("-C").arg(&fleet).args(arguments).status().unwrap().success())
    };
    in_fleet(&["validate"]).expect(0);
    git(&["add", "."]);
    git(&["-c", "user.name=r", "-c", "user.email=r@localhost", "commit", "-qm", "moved"]);
    in_fleet(&["apply", "--yes"]).expect(0);

    assert_eq!(in_fleet(&["device", "list", "--count"]).expect(0).stdout, "25\n");
    let gate = in_fleet(&["device", "show", "d-15", "--json"]).expect(0).json()[0].clone();
    assert_eq!(
        (&gate["device_name"], &gate["template"], &gate["organization"]),
        (&json!("Device 15"), &json!("gate"), &json!("eu/nl"))
    );
    assert_eq!(gate["cloud"], json!({"owner": "north", "note": "n 15"}));
    let mut desired = gate["properties"]["desired"].clone();
    desired.as_object_mut().unwrap().retain(|name, _| !name.starts_with('$'));
    // The job that was under way there has run here: the condition of its group held.
    assert_eq!(desired, json!({"level": 7, "motor": {"__t": "c", "speed": 5}}));
    assert_eq!(gate["properties"]["reported"]["battery"], json!(75));
    let lamp = in_fleet(&["device", "show", "d-03", "--json"]).expect(0).json()[0].clone();
    assert_eq!((&lamp["blocked"], &lamp["properties"]["desired"]["level"]), (&json!(true), &json!(2)));
    let runs = in_fleet(&["job", "list", "--json"]).expect(0).json();
    assert_eq!(
        runs.iter().map(|run| &run["job"]).collect::<Vec<_>>(),
        ["next"],
        "what was over there runs nothing here"
    );
}

#[test]
fn equal_refusals_are_one_line() {
    let folder = folder();
    for n in 0..500 {
        let answer = json!({"error": {"code": "NotFound", "message": "gone"}});
        put(folder.path(), &format!("devices/d-{n}/properties.json"), &answer);
    }
    let ran = Ran::of(fleetform().current_dir(folder.path()).args(["convert", "."])).expect(65);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("and 499 like it: IoT Central answered with the error `NotFound`"), "{}", ran.stderr);
    let empty = crate::world::folder();
    let ran = Ran::of(fleetform().current_dir(empty.path()).args(["convert", "."])).expect(1);
    assert!(ran.stderr.contains("no `.json` file"), "{}", ran.stderr);
}
