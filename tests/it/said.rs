//! What real files say that is easily taken for something else: each fault that was met once, with its siblings, from
//! the file to what `validate`, `convert` or an apply makes of it.

use serde_json::{Value, json};

use crate::world::{Ran, World, fleetform};

/// A deployment manifest with one module, after an edit.
fn manifest(edit: &dyn Fn(&mut Value)) -> World {
    let of_module = |image: &str| json!({"type": "docker", "settings": {"image": image, "createOptions": "{}"}});
    let mut module = of_module("registry.example/sensor:1.0");
    module.as_object_mut().unwrap().extend([
        ("version".to_string(), json!("1.0")),
        ("status".to_string(), json!("running")),
        ("restartPolicy".to_string(), json!("always")),
    ]);
    let mut hub = of_module("mcr.microsoft.com/azureiotedge-hub:1.4");
    hub["status"] = json!("running");
    hub["restartPolicy"] = json!("always");
    let mut document = json!({"modulesContent": {
        "$edgeAgent": {"properties.desired": {
            "schemaVersion": "1.1",
            "runtime": {"type": "docker", "settings": {"minDockerVersion": "v1.25"}},
            "systemModules": {"edgeAgent": of_module("mcr.microsoft.com/azureiotedge-agent:1.4"), "edgeHub": hub},
            "modules": {"sensor": module},
        }},
        "$edgeHub": {"properties.desired": {
            "schemaVersion": "1.1",
            "routes": {"up": "FROM /messages/modules/sensor/outputs/reading INTO $upstream"},
            "storeAndForwardConfiguration": {"timeToLiveSecs": 7200},
        }},
    }});
    edit(&mut document["modulesContent"]);
    let world = World::new("{}");
    world.write("m.json", document.to_string());
    world.declare("edge.yaml", "EdgeManifest", "gateway", "{file: m.json}");
    world
}

#[test]
fn a_schema_version_that_no_runtime_reads_is_refused() {
    let of = |module: &'static str, version: &'static str| {
        manifest(&move |content| content[module]["properties.desired"]["schemaVersion"] = json!(version))
            .run(&["validate"])
    };
    for (module, version) in [("$edgeAgent", "1.2"), ("$edgeAgent", "1.1.1"), ("$edgeHub", "1.4"), ("$edgeHub", "2.0")]
    {
        let said = of(module, version).expect(65).stderr;
        assert!(said.contains(&format!("does not read the version \"{version}\"")), "{module} {version}: {said}");
    }
    for (module, version) in [("$edgeAgent", "1.0"), ("$edgeAgent", "1.1.0"), ("$edgeHub", "1.2"), ("$edgeHub", "1.3")]
    {
        of(module, version).expect(0);
    }
}

#[test]
fn a_star_behind_an_output_is_a_route() {
    let of = |route: &str| {
        let route = route.to_string();
        manifest(&move |content| content["$edgeHub"]["properties.desired"]["routes"]["up"] = json!(route))
            .run(&["validate"])
    };
    for from in ["sensor/outputs/reading/*", "sensor/outputs/*", "sensor/*", "sensor/outputs/reading"] {
        of(&format!("FROM /messages/modules/{from} INTO $upstream")).expect(0);
    }
    for route in ["FROM /messages/modules/sensor/output/reading INTO $upstream", "FROM messages INTO $upstream", "up"] {
        of(route).expect(65);
    }
}

#[test]
fn a_capability_model_of_version_1_is_named() {
    let instance = json!({"@id": "urn:acme:i:1", "@type": "InterfaceInstance", "name": "t", "schema": {
        "@id": "urn:acme:s:1", "@type": "Interface", "contents": []}});
    let model = json!({"@id": "urn:acme:Truck:1", "@type": "CapabilityModel", "implements": [instance],
        "@context": ["http://azureiot.com/v1/contexts/IoTModel.json"]});
    let world = World::new("{}");
    for (name, value) in [("model", model.clone()), ("list", json!([model])), ("page", json!({"value": [model]}))] {
        world.write("in.json", value.to_string());
        let said = Ran::of(fleetform().current_dir(world.path()).args(["convert", "in.json"])).expect(65).stderr;
        assert!(said.contains("version 1"), "{name}: {said}");
    }
    world.write("truck.json", model.to_string());
    world.declare("truck.yaml", "DeviceTemplate", "truck", "{model: truck.json}");
    let said = world.run(&["validate"]).expect(65).stderr;
    assert!(said.contains("version 1"), "{said}");
}

#[test]
fn jobs_that_are_over_run_nothing_when_they_are_converted_and_applied() {
    let world = World::with_devices("{}", 4);
    let job = |id: &str, status: &str| {
        json!({"id": id, "displayName": id, "group": "all", "status": status,
               "data": [{"type": "property", "target": "dtmi:a;1", "path": "level", "value": 7}]})
    };
    let jobs = ["complete", "completed", "failed", "canceled", "cancelled", "stopped", "odd"];
    let list: Vec<Value> = jobs.iter().map(|status| job(&format!("was-{status}"), status)).collect();
    world.write("in.json", json!({"value": list}).to_string());
    world.write(
        "groups.json",
        json!({"id": "all", "displayName": "All", "filter": "SELECT * FROM devices"}).to_string(),
    );
    let arguments = ["convert", "in.json", "groups.json", "-o", "."];
    Ran::of(fleetform().current_dir(world.path()).args(arguments)).expect(0);
    world.commit("moved");
    world.apply().unwrap();
    assert!(world.run(&["job", "list"]).expect(0).stdout.is_empty());
    assert!(world.devices().iter().all(|device| device.desired["level"].is_null()));
}

#[test]
fn numbers_that_lose_their_zero_are_warned_of_wherever_they_are_sent() {
    for (place, spec) in [
        ("property", "{target: {query: '*'}, action: {property: {version: 1.10}}}"),
        ("tags", "{target: {query: '*'}, action: {tags: {version: 1.10}}}"),
        ("cloud properties", "{target: {query: '*'}, action: {cloudProperty: {version: 1.10}}}"),
        ("payload", "{target: {query: '*'}, action: {command: {name: up, payload: {version: 1.10}}}}"),
        ("list", "{target: {query: '*'}, action: {tags: {versions: [1.0, 1.10]}}}"),
    ] {
        let world = World::with_devices("{}", 1);
        world.declare("jobs/a.yaml", "Job", "a", spec);
        let said = world.run(&["validate"]).expect(0).stderr;
        assert!(said.contains("FF115") && said.contains("`1.10` is a number, and is sent as 1.1"), "{place}: {said}");
        world.declare("jobs/a.yaml", "Job", "a", &spec.replace("1.10", "'1.10'").replace("1.0,", "'1.0',"));
        assert!(!world.run(&["validate"]).expect(0).stderr.contains("FF115"), "{place}");
    }
}

#[test]
fn numbers_are_not_warned_of_where_the_template_has_numbers() {
    let world = World::with_devices("{}", 1);
    let gone = |path: &str| std::fs::remove_file(world.path().join(path)).unwrap();
    let model = |schema: &str| {
        let contents = json!([
            {"@type": "Property", "name": "level", "schema": schema, "writable": true},
            {"@type": "Property", "name": "lamp", "writable": true, "schema": {"@type": "Object", "fields": [
                {"name": "levels", "schema": {"@type": "Map",
                    "mapKey": {"name": "key", "schema": "string"}, "mapValue": {"name": "value", "schema": schema}}}]}},
            {"@type": "Command", "name": "up", "request": {"name": "to", "schema": schema}},
        ]);
        let id = format!("dtmi:a:{schema};1");
        json!({"@context": "dtmi:dtdl:context;2", "@id": id, "@type": "Interface", "contents": contents}).to_string()
    };
    for (template, schema) in [("lamp", "double"), ("label", "string")] {
        world.write(&format!("{template}.json"), model(schema));
        let spec = format!("{{model: {template}.json, cloudProperties: {{price: {schema}}}}}");
        world.declare(&format!("{template}.yaml"), "DeviceTemplate", template, &spec);
        world.declare(
            &format!("all-{template}.yaml"),
            "DeviceGroup",
            &format!("all-{template}"),
            &format!("{{template: {template}, query: '*'}}"),
        );
    }
    let is_told = |target: &str, action: &str| {
        world.declare("jobs/a.yaml", "Job", "a", &format!("{{target: {target}, action: {action}}}"));
        let job = world.run(&["validate"]).expect(0).stderr.contains("FF115");
        gone("jobs/a.yaml");
        let spec = format!(
            "{{start: 2026-12-03T02:30:00, timeZone: UTC, recurrence: daily, job: {{target: {target}, action: {action}}}}}"
        );
        world.declare("schedules/a.yaml", "Schedule", "s", &spec);
        let schedule = world.run(&["validate"]).expect(0).stderr.contains("FF115");
        gone("schedules/a.yaml");
        assert_eq!(job, schedule, "{target} {action}");
        job
    };
    for action in [
        "{property: {level: 1.50}}",
        "{property: {level: 1e3}}",
        "{property: {lamp: {levels: {a~b/c: 1.50}}}}",
        "{cloudProperty: {price: 1.50}}",
        "{command: {name: up, payload: 1.50}}",
    ] {
        assert!(!is_told("{group: all-lamp}", action), "{action}");
        assert!(is_told("{group: all-label}", action), "{action}");
        assert!(is_told("{query: '*'}", action), "a device may have either template: {action}");
    }
    assert!(is_told("{group: all-lamp}", "{property: {version: 1.50}}"), "nothing is known of it");
    assert!(is_told("{group: all-lamp}", "{tags: {level: 1.50}}"), "templates have no tags");
    assert!(is_told("{group: all-lamp}", "{property: {level: Null}}"), "it is no number");
    gone("label.yaml");
    gone("all-label.yaml");
    assert!(!is_told("{query: '*'}", "{property: {level: 1.50}}"), "the only template has a number there");
}

#[test]
fn properties_of_iot_hub_are_told_from_those_that_a_condition_reads() {
    let world = World::with_devices("{}", 1);
    let of = |query: &str| world.run(&["device", "list", "--count", "--query", query]);
    for query in ["deviceScope IN ['x']", "array_contains(parentScopes, 'x')", "etag = 'x'", "statusReason = 'x'"] {
        let said = of(query).expect(65).stderr;
        assert!(said.contains("IoT Hub has") && !said.contains("Did you mean"), "{query}: {said}");
    }
    for query in ["authenticationType = 'sas'", "twinETag = 'x'", "x509Thumbprint.primaryThumbprint = 'x'"] {
        let said = of(query).expect(65).stderr;
        assert!(said.contains("a condition here cannot ask for it") && !said.contains("moduleId"), "{query}: {said}");
    }
    assert_eq!(of("modelId = 'dtmi:com:example:Thermostat;1'").expect(0).stdout, "0\n");
}
