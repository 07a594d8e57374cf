//! Device templates, end to end: what does not fit is told by the plan with its count, and is not done to any device.

use fleetform::model::outcome::{DeviceStatus, Reason};
use fleetform::ops::apply::ApplyOptions;
use serde_json::{Value, json};

use crate::world::World;

const LAMP: &str = r#"{
  "@context": "dtmi:dtdl:context;2", "@id": "dtmi:x:Lamp;1", "@type": "Interface",
  "contents": [
    {"@type": "Property", "name": "light", "writable": true, "schema": {"@type": "Object", "fields": [
      {"name": "level", "schema": "integer"}, {"name": "color", "schema": "string"}]}},
    {"@type": "Property", "name": "serial", "schema": "string"},
    {"@type": "Command", "name": "reboot", "request": {"name": "options", "schema":
      {"@type": "Object", "fields": [{"name": "delay", "schema": "integer"}]}}}
  ]
}"#;

const THERMOSTAT: &str = r#"[
  {"@context": "dtmi:dtdl:context;2", "@id": "dtmi:x:Thermostat;1", "@type": "Interface",
   "contents": [
    {"@type": "Component", "name": "sensor", "schema": "dtmi:x:Sensor;1"},
    {"@type": "Command", "name": "reboot"}
  ]},
  {"@context": "dtmi:dtdl:context;2", "@id": "dtmi:x:Sensor;1", "@type": "Interface",
   "contents": [
    {"@type": ["Property", "Temperature"], "name": "target", "writable": true, "schema": "double", "unit": "degreeCelsius"},
    {"@type": "Command", "name": "calibrate", "request": {"name": "to", "schema": "double"}}
  ]}
]"#;

/// The lamps are `l-1` to `l-4`, the thermostats `t-1` to `t-3`.
fn world() -> World {
    let world = World::new("{link: {simulated: {journal: devices.jsonl}}}");
    world.write("lamp.json", LAMP);
    world.write("thermostat.json", THERMOSTAT);
    world.declare(
        "lamp.yaml",
        "DeviceTemplate",
        "lamp",
        "{model: lamp.json, cloudProperties: {owner: string, rank: integer}}",
    );
    world.declare("thermostat.yaml", "DeviceTemplate", "thermostat", "{model: thermostat.json}");
    for (template, count) in [("lamp", 4), ("thermostat", 3)] {
        let rows: String = (1..=count).map(|n| format!("{}-{n}\n", &template[..1])).collect();
        world.write(&format!("{template}.csv"), format!("IOTC_DEVICEID\n{rows}"));
        let spec = format!("{{file: {template}.csv, template: {template}}}");
        world.declare(&format!("import-{template}.yaml"), "DeviceImport", &format!("all-{template}"), &spec);
    }
    world.commit("fleet");
    world
}

/// Declares a job on all devices with an action, and returns its document.
fn job(world: &World, name: &str, action: &str) {
    world.job(name, &format!("{{target: {{query: '*'}}, action: {action}}}"));
}

/// What a plan says: (code, line, column, detail, help) of each finding, and the changes.
struct Said {
    code: i32,
    findings: Vec<Value>,
    changes: Vec<Value>,
}

fn plan(world: &World) -> Said {
    let ran = world.run(&["plan", "--json"]);
    let document = ran.json().remove(0);
    let list = |key: &str| document[key].as_array().unwrap().clone();
    Said { code: ran.code, findings: list("diagnostics"), changes: list("changes") }
}

impl Said {
    /// Returns the only finding.
    #[track_caller]
    fn one(&self, code: &str) -> &Value {
        let [found] = self.findings.as_slice() else { panic!("{:#?}", self.findings) };
        assert_eq!(found["code"], code, "{found:#}");
        found
    }

    fn targets(&self, job: &str) -> &Value {
        let address = format!("job/{job}");
        &self.changes.iter().find(|change| change["address"] == address.as_str()).unwrap()["targets"]
    }
}

fn reasons(world: &World, job: &str) -> Vec<(String, Reason)> {
    world.rows(job, "1").into_iter().map(|row| (row.device_id, row.reason)).collect()
}

#[test]
fn devices_of_another_template_are_told_and_left_alone() {
    let world = world();
    job(&world, "dim", "{property: {light: {level: 60}}}");
    let said = plan(&world);
    assert_eq!(said.code, 0);
    let found = said.one("FF661");
    assert_eq!(found["severity"], "warning");
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.starts_with("3 of the 7 devices of job `dim` have a template that it does not fit"), "{detail}");
    assert!(detail.contains("template `thermostat`, 3 devices: `light` is not a property of it"), "{detail}");
    // It points at the key that is unknown there.
    let column = world_line(&world, "jobs/dim.yaml", 4).find("light").unwrap() + 1;
    assert_eq!(
        (&found["file"], &found["line"], &found["column"]),
        (&json!("jobs/dim.yaml"), &json!(4), &json!(column))
    );
    let targets = said.targets("dim");
    assert_eq!((&targets["count"], &targets["mismatched"], &targets["unchanged"]), (&json!(7), &json!(3), &json!(0)));
    assert_eq!(targets["mismatched_templates"], json!([{"template": "thermostat", "devices": 3}]));
    let human = world.run(&["plan"]).expect(0);
    assert!(human.stdout.contains("7 devices · 3 template-mismatch"), "{}", human.stdout);
    assert!(human.stdout.contains("light.level  (none) -> 60  4 devices"), "{}", human.stdout);

    let applied = world.apply().unwrap();
    let counts = applied.records[0].counts;
    assert_eq!((counts.total, counts.completed, counts.failed), (7, 4, 3));
    for (device, reason) in reasons(&world, "dim") {
        let is_lamp = device.starts_with("l-");
        assert_eq!(reason, if is_lamp { Reason::Written } else { Reason::TemplateMismatch }, "{device}");
        let expect = if is_lamp { json!({"light": {"level": 60}}) } else { json!({}) };
        assert_eq!(world.device(&device).desired, expect);
    }
    let row = world.rows("dim", "1").into_iter().find(|row| row.device_id == "t-1").unwrap();
    assert_eq!((row.status, row.attempts), (DeviceStatus::Failed, 0));
    let show = world.run(&["job", "show", "dim", "--devices", "--status", "failed"]).expect(0);
    assert!(show.stdout.contains("template-mismatch"), "{}", show.stdout);
}

#[test]
fn a_job_that_fits_no_device_is_refused() {
    let world = world();
    world.apply().unwrap();
    world.job("dim", "{target: {query: \"template = 'lamp'\"}, action: {property: {light: {level: warm}}}}");
    let said = plan(&world);
    assert_eq!(said.code, 65);
    let found = said.one("FF611");
    let detail = found["detail"].as_str().unwrap();
    assert!(detail.starts_with("Job `dim` fits the template of none of its 4 devices."), "{detail}");
    assert!(detail.contains("template `lamp`, 4 devices: `light.level` expects integer, got \"warm\""), "{detail}");
    // It points at the value.
    let line = world_line(&world, "jobs/dim.yaml", 4);
    assert_eq!(found["column"], json!(line.find("warm").unwrap() + 1));
    world.run(&["apply", "--yes"]).expect(65);
    assert!(world.rows("dim", "1").is_empty());
    let why = world.run(&["job", "show", "dim", "--why"]);
    assert!(why.stdout.contains("FF611"), "{}{}", why.stdout, why.stderr);

    // A read-only property, and one that is not there; each mistake is told.
    world.job("dim", "{target: {devices: [l-1]}, action: {property: {serial: x, lihgt: {level: 1}}}}");
    let said = plan(&world);
    let detail = said.one("FF611")["detail"].as_str().unwrap().to_string();
    assert!(detail.contains("does not fit the template of its only device."), "{detail}");
    assert!(detail.contains("`lihgt` is not a property of it (did you mean `light`?)"), "{detail}");
    assert!(detail.contains("`serial` is a property that cannot be written"), "{detail}");

    // To remove is always allowed.
    world.job(
        "dim",
        "{target: {devices: [l-1]}, action: {property: {serial: null, lihgt: null, light: {level: null}}}}",
    );
    let said = plan(&world);
    assert_eq!((said.code, said.findings.len()), (0, 0), "{:#?}", said.findings);
}

fn world_line(world: &World, path: &str, line: usize) -> String {
    std::fs::read_to_string(world.file(path)).unwrap().lines().nth(line - 1).unwrap().to_string()
}

#[test]
fn commands_are_checked_with_their_payload_and_component() {
    let world = world();
    world.apply().unwrap();
    job(&world, "reboot", "{command: {name: reboot, payload: {delay: soon}}}");
    let said = plan(&world);
    assert_eq!(said.code, 65);
    let detail = said.one("FF611")["detail"].as_str().unwrap().to_string();
    assert!(detail.contains("template `lamp`, 4 devices: `payload.delay` expects integer, got \"soon\""), "{detail}");
    assert!(
        detail.contains("template `thermostat`, 3 devices: `payload` must be left out: `reboot` takes none"),
        "{detail}"
    );

    job(&world, "reboot", "{command: {name: reboot, payload: {delay: 5}}}");
    let said = plan(&world);
    assert_eq!(said.code, 0);
    let detail = said.one("FF661")["detail"].as_str().unwrap().to_string();
    assert!(detail.starts_with("3 of the 7 devices of job `reboot`"), "{detail}");
    world.apply().unwrap();
    assert!(reasons(&world, "reboot").iter().all(|(device, reason)| {
        *reason == if device.starts_with("l-") { Reason::Responded } else { Reason::TemplateMismatch }
    }));
    let called: Vec<String> = world.executions().into_iter().map(|(device, _)| device).collect();
    assert_eq!(called.len(), 4, "no thermostat was sent to: {called:?}");
    assert!(called.iter().all(|device| device.starts_with("l-")), "{called:?}");

    job(&world, "calibrate", "{command: {name: calibrate, component: sensor, payload: 21.5}}");
    let said = plan(&world);
    let detail = said.one("FF661")["detail"].as_str().unwrap().to_string();
    assert!(detail.starts_with("4 of the 7 devices"), "{detail}");
    assert!(detail.contains("`sensor` is not a component of it"), "{detail}");
    world.apply().unwrap();
    assert_eq!(reasons(&world, "calibrate").iter().filter(|(_, reason)| *reason == Reason::Responded).count(), 3);
}

#[test]
fn components_have_properties_of_their_own() {
    let world = world();
    world.apply().unwrap();
    world.job("set", "{target: {devices: [t-1, t-2]}, action: {property: {sensor: {__t: c, target: 21}}}}");
    assert!(plan(&world).findings.is_empty());
    world.apply().unwrap();
    assert_eq!(world.device("t-1").desired, json!({"sensor": {"__t": "c", "target": 21}}));
    world.job("set-2", "{target: {devices: [t-1, t-2]}, action: {property: {sensor: {__t: c, target: hot}}}}");
    let said = plan(&world);
    let detail = said.one("FF611")["detail"].as_str().unwrap().to_string();
    assert!(detail.contains("`sensor.target` expects double, got \"hot\""), "{detail}");
}

#[test]
fn cloud_properties_have_schemas() {
    let world = world();
    world.apply().unwrap();
    job(&world, "owner", "{cloudProperty: {owner: north, rank: first}}");
    let said = plan(&world);
    assert_eq!(said.code, 65);
    let detail = said.one("FF611")["detail"].as_str().unwrap().to_string();
    assert!(detail.contains("template `lamp`, 4 devices: `rank` expects integer, got \"first\""), "{detail}");
    assert!(detail.contains("template `thermostat`, 3 devices: `owner` is not a cloud property of it"), "{detail}");
    job(&world, "owner", "{cloudProperty: {owner: north, rank: 1}}");
    assert!(plan(&world).one("FF661")["detail"].as_str().unwrap().starts_with("3 of the 7 devices"));
    world.apply().unwrap();
    assert_eq!(world.device("l-1").cloud, json!({"owner": "north", "rank": 1}));
    assert_eq!(world.device("t-1").cloud, json!({}));
    // No model covers tags.
    job(&world, "tag", "{tags: {anything: 1}}");
    assert!(plan(&world).findings.is_empty());
}

#[test]
fn devices_without_a_known_template_are_not_checked() {
    let world = world();
    world.write("bare.csv", "IOTC_DEVICEID\nb-1\n");
    world.declare("bare.yaml", "DeviceImport", "bare", "{file: bare.csv}");
    world.commit("bare");
    world.apply().unwrap();
    // As after the document of its template was deleted.
    world.sql(
        "UPDATE device SET template = 'gone' WHERE device_id = 'l-4'; UPDATE device SET blocked = true WHERE \
        device_id = 't-3'",
    );
    world.job("set", "{target: {query: '*'}, action: {property: {unheard: 1}}}");
    let said = plan(&world);
    assert_eq!(said.code, 0, "{:#?}", said.findings);
    let detail = said.one("FF661")["detail"].as_str().unwrap().to_string();
    assert!(detail.starts_with("5 of the 8 devices"), "{detail}");
    assert_eq!(said.targets("set")["blocked"], 1);
    world.apply().unwrap();
    let found = reasons(&world, "set");
    let written: Vec<&str> =
        found.iter().filter(|(_, reason)| *reason == Reason::Written).map(|(id, _)| id.as_str()).collect();
    assert_eq!(written, ["b-1", "l-4"]);
    assert!(found.contains(&("t-3".to_string(), Reason::Blocked)));
}

#[test]
fn mismatches_count_for_the_threshold_and_survive_a_restart() {
    let world = world();
    world.apply().unwrap();
    world.job(
        "dim",
        "{target: {query: '*'}, action: {property: {light: {level: 60}}}, delivery: {batchSize: 1, \
            cancellationThreshold: {failures: 1}}}",
    );
    // Killed at every look at the clock, one after the other, until it gets to its end.
    let mut looks = 1;
    while world.apply_killed(looks) {
        looks += 1;
    }
    let record = world.record("dim", "1");
    assert_eq!(
        (&record["status"], &record["completed"], &record["failed"]),
        (&json!("canceled"), &json!(4), &json!(2))
    );
    assert_eq!((&record["total"], &record["pending"]), (&json!(7), &json!(1)));
    assert_eq!(world.device("t-1").desired, json!({}));
}

#[test]
fn a_migration_says_what_has_no_place_in_the_new_template() {
    let world = world();
    world.apply().unwrap();
    world.sql(
        "UPDATE device SET desired = '{\"light\":{\"level\":1},\"dimmer\":2}' WHERE device_id IN ('l-1', 'l-2');
         UPDATE device SET desired = '{\"light\":{\"level\":1}}' WHERE device_id = 'l-3';
         UPDATE device SET desired = '{\"sensor\":{\"target\":1}}' WHERE device_id = 'l-4';
         UPDATE device SET desired = '{\"old\":1}' WHERE device_id = 't-1';",
    );
    job(&world, "migrate", "{deviceTemplate: thermostat}");
    let said = plan(&world);
    assert_eq!(said.code, 0);
    let detail = said.one("FF662")["detail"].as_str().unwrap();
    // `sensor` has a place; t-1 has the template already.
    assert!(detail.contains("the template `thermostat`"), "{detail}");
    assert!(detail.contains("`light` (3 devices), `dimmer` (2 devices). They stay"), "{detail}");
    world.apply().unwrap();
    let migrated = world.device("l-1");
    assert_eq!(migrated.template.as_deref(), Some("thermostat"));
    assert_eq!(migrated.desired, json!({"light": {"level": 1}, "dimmer": 2}));

    // A later job is judged by the template that the devices have then; the plan judges a job behind a migration by the
    // current template.
    world.job("back", "{target: {devices: [l-1]}, action: {deviceTemplate: lamp}}");
    world.job("dim", "{target: {devices: [l-1]}, after: [back], action: {property: {light: {level: 7}}}}");
    let said = plan(&world);
    assert_eq!(said.code, 0, "{:#?}", said.findings);
    let about = |code: &str| said.findings.iter().find(|item| item["code"] == code).unwrap()["detail"].to_string();
    assert_eq!(said.findings.len(), 2, "{:#?}", said.findings);
    assert!(about("FF661").contains("does not fit as of now"));
    assert!(about("FF662").contains("`dimmer` (1 device). They stay"));
    world.apply().unwrap();
    assert_eq!(reasons(&world, "dim"), [("l-1".to_string(), Reason::Written)]);
}

#[test]
fn many_stray_names_are_cut() {
    let world = world();
    world.apply().unwrap();
    world.sql(
        "UPDATE device SET desired = '{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1}' WHERE device_id = \
            'l-1'",
    );
    job(&world, "migrate", "{deviceTemplate: thermostat}");
    let said = plan(&world);
    let detail = said.one("FF662")["detail"].as_str().unwrap();
    assert!(detail.contains("`d` (1 device), `e` (1 device) and 2 more. They stay"), "{detail}");
}

#[test]
fn a_saved_plan_does_not_hold_when_the_templates_moved() {
    let world = world();
    world.apply().unwrap();
    job(&world, "dim", "{property: {light: {level: 60}}}");
    let saved = world.folder_file("plan.json");
    world.run(&["plan", "--rev", "HEAD", "--out", &saved]).expect(0);
    let saved: Value = serde_json::from_slice(&std::fs::read(saved).unwrap()).unwrap();
    world.sql("UPDATE device SET template = 'thermostat' WHERE device_id = 'l-1'");
    let options = ApplyOptions { saved: fleetform::plan::SavedPlan::from_json(&saved).ok(), ..ApplyOptions::default() };
    let error = world.apply_with(&options, &fleetform::execute::Inbox::new(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("job/dim"), "{error}");
}

/// A fleet with a template that has a component, and one device of it.
fn world_with_component() -> World {
    let world = World::new("{}");
    let model = json!([
        {"@context": "dtmi:dtdl:context;2", "@id": "dtmi:acme:Controller;1", "@type": "Interface", "contents": [
            {"@type": "Component", "name": "thermostat1", "schema": "dtmi:acme:Thermostat;1"},
            {"@type": "Property", "name": "light", "writable": true, "schema":
                {"@type": "Object", "fields": [{"name": "level", "schema": "integer"}]}}]},
        {"@context": ["dtmi:iotcentral:context;2", "dtmi:dtdl:context;2"], "@id": "dtmi:acme:Thermostat;1", "@type": "Interface", "contents": [
            {"@type": "Property", "name": "target", "schema": "double", "writable": true, "minValue": 5,
             "maxValue": 30, "decimalPlaces": 1}]},
    ]);
    world.write("controller.json", model.to_string());
    world.declare("controller.yaml", "DeviceTemplate", "controller", "{model: controller.json}");
    world.write("c.csv", "IOTC_DEVICEID\nd-1\n");
    world.declare("import.yaml", "DeviceImport", "all", "{file: c.csv, template: controller}");
    world.commit("controllers");
    world
}

#[test]
fn what_is_written_to_a_component_is_marked() {
    let world = world_with_component();
    world.job("warm", "{target: {query: '*'}, action: {property: {thermostat1: {target: 21.5}, light: {level: 3}}}}");
    let plan = world.run(&["plan"]).expect(0);
    assert!(plan.stdout.contains("thermostat1.__t"), "{plan:?}");
    world.apply().unwrap();
    let desired = json!({"thermostat1": {"__t": "c", "target": 21.5}, "light": {"level": 3}});
    assert_eq!(world.device("d-1").desired, desired);
    // The mark is no edit of the job, and with it by hand nothing changes.
    world.run(&["plan", "--detailed-exitcode"]).expect(0);
    world.job("again", "{target: {query: '*'}, action: {property: {thermostat1: {__t: c, target: 21.5}}}}");
    world.apply().unwrap();
    assert_eq!(world.record("again", "1")["unchanged"], 1);
}

/// Adds a template with a property named like the component, and another that extends the one with the component; each
/// with a device.
fn add_namesakes(world: &World) {
    let property = json!({"@context": "dtmi:dtdl:context;2", "@id": "dtmi:acme:Other;1", "@type": "Interface",
        "contents": {"@type": "Property", "name": "thermostat1", "writable": true, "schema":
            {"@type": "Object", "fields": [{"name": "target", "schema": "double"}]}}});
    let mut extending: Vec<Value> =
        serde_json::from_slice(&std::fs::read(world.file("controller.json")).unwrap()).unwrap();
    extending.push(json!({"@context": "dtmi:dtdl:context;2", "@id": "dtmi:acme:Better;1", "@type": "Interface",
        "extends": "dtmi:acme:Controller;1"}));
    for (name, id, model) in [("other", "o-1", property), ("better", "b-1", Value::from(extending))] {
        world.write(&format!("{name}.json"), model.to_string());
        world.declare(&format!("{name}.yaml"), "DeviceTemplate", name, &format!("{{model: {name}.json}}"));
        world.write(&format!("{name}.csv"), format!("IOTC_DEVICEID\n{id}\n"));
        let import = format!("{{file: {name}.csv, template: {name}, simulated: true}}");
        world.declare(&format!("{name}-import.yaml"), "DeviceImport", name, &import);
    }
    world.commit("namesakes");
}

#[test]
fn devices_whose_template_has_the_component_get_the_mark() {
    let world = world_with_component();
    add_namesakes(&world);
    world.apply().unwrap();
    world.job("warm", "{target: {query: '*'}, action: {property: {thermostat1: {target: 21.5}}}}");
    let plan = world.run(&["plan"]).expect(0);
    let marks: Vec<&str> = plan.stdout.lines().filter(|line| line.contains("thermostat1.__t")).collect();
    assert!(marks.len() == 1 && marks[0].contains("2 devices"), "{plan:?}");
    world.apply().unwrap();
    let marked = json!({"thermostat1": {"__t": "c", "target": 21.5}});
    assert_eq!(["b-1", "d-1"].map(|id| world.device(id).desired), [marked.clone(), marked]);
    assert_eq!(world.device("o-1").desired, json!({"thermostat1": {"target": 21.5}}));
    // All are as the job wants them.
    world.job("again", "{target: {query: '*'}, action: {property: {thermostat1: {target: 21.5}}}}");
    world.apply().unwrap();
    assert_eq!(world.record("again", "1")["unchanged"], 3);
    world.job("empty", "{target: {query: '*'}, action: {property: {thermostat1: {}}}}");
    world.apply().unwrap();
    assert_eq!(world.record("empty", "1")["unchanged"], 3);
}

#[test]
fn a_component_acknowledges_by_its_properties_where_it_is_one() {
    let world = world_with_component();
    add_namesakes(&world);
    world.apply().unwrap();
    world.job(
        "warm",
        "{target: {devices: [b-1, o-1]}, action: {property: {thermostat1: {target: 21.5}}}, delivery: {confirm: \
         acknowledged, expiresAfter: 1h}}",
    );
    world.apply().unwrap();
    let reasons: Vec<Reason> = reasons(&world, "warm").into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, [Reason::Acknowledged; 2]);
    assert_eq!(world.device("b-1").reported["thermostat1"]["target"]["value"], json!(21.5));
    assert_eq!(world.device("o-1").reported["thermostat1"]["value"], json!({"target": 21.5}));
}

#[test]
fn bounds_of_iot_central_are_held() {
    let world = world_with_component();
    for (value, expected) in [("31", "at most 30"), ("4.9", "at least 5"), ("21.55", "at most 1 decimal place")] {
        world.job(
            "warm",
            &format!("{{target: {{query: '*'}}, action: {{property: {{thermostat1: {{target: {value}}}}}}}}}"),
        );
        let plan = world.run(&["plan"]).expect(65);
        assert!(plan.stderr.contains(&format!("`thermostat1.target` expects {expected}, got {value}")), "{plan:?}");
    }
}

#[test]
fn a_schedule_that_does_not_fit_its_devices_is_warned_of() {
    let check = |target: &str, action: &str, expect: Option<&str>| {
        let world = world();
        let job = format!("{{target: {{{target}}}, action: {action}}}");
        let spec = format!("{{start: 2099-01-01T02:30:00, timeZone: UTC, recurrence: daily, job: {job}}}");
        world.declare("nightly.yaml", "Schedule", "nightly", &spec);
        let said = plan(&world);
        let found: Vec<&str> = said.findings.iter().filter_map(|one| one["detail"].as_str()).collect();
        let found: Vec<&str> = found.into_iter().filter(|detail| detail.contains("does not fit")).collect();
        assert_eq!((said.code, found.len()), (0, usize::from(expect.is_some())), "{action}: {:#?}", said.findings);
        assert!(expect.is_none_or(|expect| found[0].starts_with(expect)), "{found:?}");
    };
    let owner = "{cloudProperty: {ownr: north}}";
    check(
        "query: \"startswith(deviceId, 'l')\"",
        owner,
        Some(
            "4 of the 4 devices that schedule `nightly` selects now have a template that it does not fit: an occurrence \
             is refused.\n  template `lamp`, 4 devices: ",
        ),
    );
    let some = "4 of the 7 devices that schedule `nightly` selects now have a template that it does not fit: an \
                occurrence fails on them with template-mismatch.\n  template `lamp`, 4 devices";
    check("query: '*'", "{property: {sensor: {target: 3}}}", Some(some));
    check("query: \"template = 'thermostat'\"", "{property: {sensor: {target: 3}}}", None);
    check("query: \"template = 'lamp'\"", "{cloudProperty: {owner: north}}", None);
    check("query: \"template = 'lamp'\"", "{tags: {a: b}}", None);
}
