//! Models as people and tools write them, broken ones, and what fits them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Template, read, violations};
use crate::model::fleet::DeviceTemplate;
use crate::model::id::Name;
use crate::model::job::{Action, Command};
use crate::model::patch::Patch;

const V2: &str = "dtmi:dtdl:context;2";

/// A model with a bit of everything, in a list whose first interface is not the device's.
const MODEL: &str = r#"[
  {"@context": ["dtmi:dtdl:context;3", "dtmi:dtdl:extension:quantitativeTypes;1"], "@id": "dtmi:x:Thermo;1", "@type": "Interface", "contents": [
    {"@type": ["Telemetry", "Temperature"], "name": "temperature", "schema": "double", "unit": "degreeCelsius"},
    {"@type": ["Property", "Temperature"], "name": "target", "schema": "double", "writable": true, "unit": "degreeCelsius"},
    {"@type": "Property", "name": "serial", "schema": "string"},
    {"@type": "Command", "name": "report", "request": {"name": "since", "schema": "dateTime"},
     "response": {"name": "found", "schema": {"@type": "Object", "fields": [{"name": "max", "schema": "double"}]}}}
  ]},
  {"@context": ["dtmi:dtdl:context;3", "dtmi:iotcentral:context;2"], "@id": "dtmi:x:Lamp;1", "@type": "Interface",
   "displayName": {"en": "Lamp", "de": "Lampe"}, "description": "A lamp", "extends": ["dtmi:x:Base;1"],
   "schemas": [{"@id": "dtmi:x:mode;1", "@type": "Enum", "valueSchema": "string",
                "enumValues": [{"name": "a", "enumValue": "auto"}, {"name": "m", "enumValue": "manual"}]}],
   "contents": [
    {"@type": "Property", "name": "light", "writable": true, "schema": {"@type": "Object", "fields": [
      {"name": "level", "schema": "integer"}, {"name": "color", "schema": "string"}, {"name": "mode", "schema": "dtmi:x:mode;1"}]}},
    {"@type": "Property", "name": "modes", "writable": true, "schema": {"@type": "Array", "elementSchema": "dtmi:x:mode;1"}},
    {"@type": "Property", "name": "speed", "writable": true, "schema": {"@type": "Enum", "valueSchema": "integer",
      "enumValues": [{"name": "slow", "enumValue": 1}, {"name": "fast", "enumValue": 2}]}},
    {"@type": "Property", "name": "limits", "writable": true, "schema": {"@type": "Map",
      "mapKey": {"name": "zone", "schema": "string"}, "mapValue": {"name": "limit", "schema": "float"}}},
    {"@type": ["Property", "Cloud", "StringValue"], "name": "customer", "schema": "string"},
    {"@type": "Property", "name": "where", "writable": true, "schema": "point"},
    {"@type": "Property", "name": "whereTo", "writable": true, "schema": "geopoint"},
    {"@type": "Component", "name": "thermo", "schema": "dtmi:x:Thermo;1"},
    {"@type": "Component", "name": "fan", "schema": {"@id": "dtmi:x:Fan;1", "@type": "Interface", "contents":
      {"@type": "Property", "name": "on", "writable": true, "schema": "boolean"}}},
    {"@type": "Relationship", "name": "room", "target": "dtmi:elsewhere:Room;1"},
    {"@type": "Command", "name": "reboot", "request": {"name": "o", "schema":
      {"@type": "Object", "fields": [{"name": "delay", "schema": "integer"}]}}},
    {"@type": "Command", "name": "blink"},
    {"@type": "Command", "name": "wait", "request": {"name": "for", "nullable": true, "schema": "duration"}},
    {"@type": "Command", "name": "dim", "request": {"name": "to", "schema": "long"}}
  ]},
  {"@context": "dtmi:dtdl:context;2", "@id": "dtmi:x:Base;1", "@type": "Interface", "contents": [
    {"@type": "Property", "name": "name", "writable": true, "schema": "dtmi:dtdl:instance:Schema:string;2"},
    {"@type": "Property", "name": "day", "writable": true, "schema": "date"},
    {"@type": "Property", "name": "at", "writable": true, "schema": "time"},
    {"@type": "Property", "name": "seen", "writable": true, "schema": "dateTime"},
    {"@type": "Property", "name": "every", "writable": true, "schema": "duration"},
    {"@type": "Property", "name": "big", "writable": true, "schema": "long"},
    {"@type": "Property", "name": "enabled", "writable": true, "schema": "boolean"}
  ]}
]"#;

fn template() -> Template {
    Template::of(&DeviceTemplate {
        name: Name::parse("lamp").unwrap(),
        model_id: "dtmi:x:Lamp;1".to_string(),
        model: serde_json::from_str(MODEL).unwrap(),
        components: ["fan", "thermo"].map(str::to_string).into(),
        cloud_properties: [("owner", "string"), ("rank", "integer")]
            .map(|(name, word)| (name.to_string(), word.to_string()))
            .into(),
    })
    .unwrap()
}

/// Checks an action; `expect` are messages with their pointers, such as `/light ...`.
#[track_caller]
fn check(action: &Action, expect: &[(&str, &str)]) {
    let found = violations(&template(), action);
    let found: Vec<(&str, &str)> = found.iter().map(|one| (one.pointer.as_str(), one.message.as_str())).collect();
    assert_eq!(found, expect, "{action:?}");
}

fn patch(value: Value) -> Patch {
    Patch::new(value.as_object().unwrap().clone()).unwrap()
}

#[track_caller]
fn property(value: Value, expect: &[(&str, &str)]) {
    check(&Action::Property(patch(value)), expect);
}

#[track_caller]
fn command(component: Option<&str>, name: &str, payload: Value, expect: &[(&str, &str)]) {
    let timeout = Duration::from_secs(30);
    let command = Command {
        name: name.to_string(),
        component: component.map(str::to_string),
        payload,
        connect_timeout: timeout,
        response_timeout: timeout,
        idempotent: false,
    };
    check(&Action::Command(command), expect);
}

#[test]
fn what_fits_has_no_violations() {
    property(
        json!({"light": {"level": 3}, "modes": ["auto", "manual"], "speed": 2, "limits": {"a b": 1.5, "c": null}}),
        &[],
    );
    property(json!({"light": null, "modes": null, "nothing": null, "serial": null, "light2": null}), &[]);
    property(json!({"light": {"level": null, "old": null}}), &[]);
    property(
        json!({"name": "x", "enabled": true, "big": 4_000_000_000_u64, "where": {"type": "Point", "coordinates": [1, 2]}}),
        &[],
    );
    property(json!({"whereTo": {"lat": 1, "lon": 2.5}, "where": {"coordinates": [1, 3]}}), &[]);
    property(json!({"thermo": {"__t": "c", "target": 21}, "fan": {"on": false}}), &[]);
    property(
        json!({"day": "2026-02-28", "at": "10:00:00Z", "seen": "2026-02-28T10:00:00+01:00", "every": "P1DT2H"}),
        &[],
    );
    property(json!({"at": "10:00:00.5", "every": "PT0.5S"}), &[]);
    command(None, "reboot", json!({"delay": 5}), &[]);
    command(None, "reboot", Value::Null, &[]);
    command(None, "blink", Value::Null, &[]);
    command(None, "blink", json!({}), &[]);
    command(None, "wait", Value::Null, &[]);
    command(Some("thermo"), "report", json!("2026-02-28T10:00:00Z"), &[]);
    check(&Action::CloudProperty(patch(json!({"owner": "x", "rank": 3, "customer": "y", "unknown": null}))), &[]);
    check(&Action::Tags(patch(json!({"light": "anything"}))), &[]);
    check(&Action::DeviceTemplate(Name::parse("other").unwrap()), &[]);
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    property(json!({"light": {"level": "warm"}}), &[("/light/level", "`light.level` expects integer, got \"warm\"")]);
    property(json!({"light": {"level": 3.0}}), &[("/light/level", "`light.level` expects integer, got 3.0")]);
    property(
        json!({"light": {"level": 3_000_000_000_u64, "colour": "red"}}),
        &[
            ("/light/colour", "`light.colour` is not a field of its schema (did you mean `color`?)"),
            ("/light/level", "`light.level` expects integer, got 3000000000"),
        ],
    );
    property(json!({"light": 3}), &[("/light", "`light` expects object, got 3")]);
    property(
        json!({"light": {"mode": "off"}}),
        &[("/light/mode", "`light.mode` expects one of \"auto\", \"manual\", got \"off\"")],
    );
    property(
        json!({"modes": ["auto", 1, null]}),
        &[
            ("/modes/1", "`modes.1` expects one of \"auto\", \"manual\", got 1"),
            ("/modes/2", "`modes.2` expects one of \"auto\", \"manual\", got null"),
        ],
    );
    property(json!({"speed": 3}), &[("/speed", "`speed` expects one of 1, 2, got 3")]);
    property(json!({"limits": {"a/b": "x"}}), &[("/limits/a~1b", "`limits.a/b` expects float, got \"x\"")]);
    property(json!({"serial": 1}), &[("/serial", "`serial` is not a property of it")]);
    property(json!({"temperature": 1}), &[("/temperature", "`temperature` is not a property of it")]);
    property(json!({"lihgt": 1}), &[("/lihgt", "`lihgt` is not a property of it (did you mean `light`?)")]);
    property(json!({"customer": "x"}), &[("/customer", "`customer` is a cloud property: set it with `cloudProperty`")]);
    property(json!({"reboot": 1}), &[("/reboot", "`reboot` is a command, not a property")]);
    property(
        json!({"where": {"type": "Polygon", "coordinates": []}}),
        &[("/where", "`where` expects a GeoJSON Point, got {\"coordinates\":[],\"type\":\"Polygon\"}")],
    );
    for (key, value) in [("day", "2026-02-30"), ("at", "25:00:00"), ("seen", "2026-02-28 10:00"), ("every", "1 hour")] {
        let found = violations(&template(), &Action::Property(patch(json!({key: value}))));
        assert!(
            found[0].message.starts_with(&format!(
                "`{key}` expects {}",
                if key == "at" {
                    "time"
                } else if key == "day" {
                    "date"
                } else if key == "seen" {
                    "dateTime"
                } else {
                    "duration"
                }
            )),
            "{found:?}"
        );
    }
}

#[test]
fn components_have_properties_and_commands_of_their_own() {
    property(
        json!({"thermo": {"target": "hot"}}),
        &[("/thermo/target", "`thermo.target` expects double, got \"hot\"")],
    );
    property(
        json!({"thermo": {"serial": "1"}}),
        &[("/thermo/serial", "`thermo.serial` is a property that cannot be written")],
    );
    property(
        json!({"thermo": {"temperature": 1}}),
        &[("/thermo/temperature", "`thermo.temperature` is telemetry, not a property")],
    );
    property(
        json!({"thermo": 3}),
        &[("/thermo", "`thermo` is a component, so it expects an object with its properties")],
    );
    property(
        json!({"fan": {"__t": "x", "on": true}}),
        &[("/fan/__t", "`fan.__t` marks a component and expects \"c\"")],
    );
    property(
        json!({"thrmo": {"__t": "c"}}),
        &[("/thrmo", "`thrmo` is not a component of it (did you mean `thermo`?)")],
    );
    command(
        Some("thremo"),
        "report",
        json!(1),
        &[("/component", "`thremo` is not a component of it (did you mean `thermo`?)")],
    );
    command(
        Some("thermo"),
        "reboot",
        Value::Null,
        &[("/name", "`reboot` is not a command of its component `thermo` (did you mean `report`?)")],
    );
    command(
        Some("thermo"),
        "report",
        json!(3),
        &[("/payload", "`payload` expects dateTime (such as 2026-11-20T10:00:00Z), got 3")],
    );
}

#[test]
fn commands_and_cloud_properties_are_checked() {
    command(None, "rebot", Value::Null, &[("/name", "`rebot` is not a command of it (did you mean `reboot`?)")]);
    command(None, "reboot", json!({"delay": "5"}), &[("/payload/delay", "`payload.delay` expects integer, got \"5\"")]);
    command(None, "reboot", json!({"delay": null}), &[("/payload/delay", "`payload.delay` expects integer, got null")]);
    command(None, "blink", json!({"a": 1}), &[("/payload", "`payload` must be left out: `blink` takes none")]);
    command(None, "dim", Value::Null, &[("/payload", "`payload` expects long, got null")]);
    let check_cloud = |value: Value, expect: &[(&str, &str)]| check(&Action::CloudProperty(patch(value)), expect);
    check_cloud(json!({"owner": 3}), &[("/owner", "`owner` expects string, got 3")]);
    check_cloud(json!({"ownr": "x"}), &[("/ownr", "`ownr` is not a cloud property of it (did you mean `owner`?)")]);
    check_cloud(json!({"light": {}}), &[("/light", "`light` is not a cloud property of it")]);
    // A secret by reference stands for a string.
    property(json!({"name": {"$secret": {"env": "PSK"}}}), &[]);
    property(
        json!({"big": {"$secret": {"env": "PSK"}}}),
        &[("/big", "`big` expects long, got {\"$secret\":{\"env\":\"PSK\"}}")],
    );
}

#[test]
fn the_interface_that_nobody_refers_to_is_the_device() {
    let model = read(&serde_json::from_str(MODEL).unwrap()).unwrap();
    assert_eq!(model.id(), "dtmi:x:Lamp;1");
    let names: Vec<&str> = model.desired_names().into_iter().collect();
    let expect = "at,big,day,enabled,every,fan,light,limits,modes,name,seen,speed,thermo,where,whereTo";
    assert_eq!(names.join(","), expect);
    let two = json!([
        {"@context": V2, "@id": "dtmi:a;1", "@type": "Interface"},
        {"@context": V2, "@id": "dtmi:b;1", "@type": "Interface"},
    ]);
    assert_eq!(read(&two).unwrap().id(), "dtmi:a;1");
}

/// Checks what is wrong with an interface that has these contents.
#[track_caller]
fn broken(contents: Value, expect: &[(&str, &str)]) {
    broken_file(
        json!({"@id": "dtmi:x:A;1", "@type": "Interface", "@context": "dtmi:dtdl:context;2", "contents": contents}),
        expect,
    );
}

#[track_caller]
fn broken_file(content: Value, expect: &[(&str, &str)]) {
    let found = read(&content).unwrap_err();
    let found: Vec<(&str, &str)> = found.iter().map(|one| (one.pointer.as_str(), one.message.as_str())).collect();
    assert_eq!(found, expect, "{content}");
}

#[test]
fn broken_contents_are_told_with_their_place() {
    broken(json!([{"@type": "Property", "name": "a"}]), &[("/contents/0", "`schema` is missing")]);
    broken(json!([{"@type": "Property", "schema": "string"}]), &[("/contents/0", "`name` is missing")]);
    broken(
        json!([{"@type": "Property", "name": "a", "schema": "strng"}]),
        &[("/contents/0/schema", "`strng` is not a schema; did you mean `string`?")],
    );
    broken(
        json!([{"@type": "Property", "name": "a", "schema": "dtmi:b;1"}]),
        &[("/contents/0/schema", "there is no schema `dtmi:b;1` in this file")],
    );
    broken(
        json!([{"@type": "Property", "name": "a", "schema": 3}]),
        &[("/contents/0/schema", "a schema is a word such as `string`, an object, or the `@id` of one")],
    );
    broken(
        json!([{"@type": "Gadget", "name": "a"}]),
        &[("/contents/0/@type", "its `@type` must be Telemetry, Property, Command, Component or Relationship")],
    );
    broken(
        json!([{"@type": "Property", "name": "a b", "schema": "string"}]),
        &[("/contents/0/name", "a name is a letter, then letters, digits and `_`, and no `_` at the end")],
    );
    broken(
        json!([{"@type": "Property", "name": "a", "schema": "string"}, {"@type": "Telemetry", "name": "a", "schema": "time"}]),
        &[("/contents/1/name", "there are two contents named `a`")],
    );
    broken(
        json!([{"@type": "Property", "name": "a", "schema": "string", "writable": "yes"}]),
        &[("/contents/0/writable", "`writable` must be true or false")],
    );
    broken(
        json!([{"@type": "Component", "name": "a", "schema": "dtmi:x:B;1"}]),
        &[("/contents/0/schema", "there is no interface `dtmi:x:B;1` in this file: add it to a list at its top")],
    );
    broken(
        json!([{"@type": "Command", "name": "a", "request": "string"}]),
        &[("/contents/0/request", "the `request` of a command must be an object with a `name` and a `schema`")],
    );
    let with_schema = |schema: Value| json!([{"@type": "Telemetry", "name": "a", "schema": schema}]);
    broken(
        with_schema(json!({"@type": "Enum", "valueSchema": "double", "enumValues": []})),
        &[("/contents/0/schema", "the `valueSchema` of an enum must be `integer` or `string`")],
    );
    broken(
        with_schema(
            json!({"@type": "Enum", "valueSchema": "integer", "enumValues": [{"name": "a", "enumValue": "1"}]}),
        ),
        &[("/contents/0/schema/enumValues/0", "it needs an `enumValue` that is an integer")],
    );
    broken(
        with_schema(json!({"@type": "Map", "mapKey": {"name": "k", "schema": "string"}})),
        &[("/contents/0/schema", "`mapValue` is missing")],
    );
    broken(with_schema(json!({"@type": "Array"})), &[("/contents/0/schema", "`elementSchema` is missing")]);
    let deep =
        |levels: usize| (0..levels).fold(json!("string"), |inner, _| json!({"@type": "Array", "elementSchema": inner}));
    let pointer = format!("/contents/0/schema{}", "/elementSchema".repeat(5));
    let too_deep = "schemas may be nested 5 levels deep";
    broken(with_schema(deep(6)), &[(&pointer, too_deep)]);
    let five = json!({"@id": "dtmi:x:A;1", "@type": "Interface", "@context": V2, "contents": with_schema(deep(5))});
    assert!(read(&five).is_ok());
}

#[test]
fn broken_files_are_told_with_their_place() {
    let needs_type = "it needs `\"@type\": \"Interface\"`";
    broken_file(json!(3), &[("", "a model is a DTDL interface (an object), or a list of interfaces")]);
    broken_file(json!([]), &[("", "a model is a DTDL interface (an object), or a list of interfaces")]);
    broken_file(json!([[]]), &[("/0", needs_type)]);
    broken_file(json!({"@id": "dtmi:a;1"}), &[("", needs_type)]);
    let needs_id = "it needs an `@id` such as `dtmi:contoso:Thermostat;1`";
    broken_file(json!({"@type": "Interface", "@context": V2}), &[("", needs_id)]);
    let needs_context = "it needs an `@context`, such as `\"@context\": \"dtmi:dtdl:context;2\"`";
    broken_file(json!({"@type": "Interface", "@id": "dtmi:a;1"}), &[("", needs_context)]);
    for id in
        ["thermostat", "dtmi:a", "dtmi:a;0", "dtmi:a_;1", "dtmi:;1", "dtmi:a;1.", "dtmi:a;1.2", "dtmi:a;1234567890"]
    {
        broken_file(json!({"@type": "Interface", "@id": id, "@context": V2}), &[("/@id", needs_id)]);
    }
    for id in ["dtmi:a", "dtmi:a:b_1;3.14"] {
        assert!(read(&json!({"@type": "Interface", "@id": id, "@context": ["dtmi:dtdl:context;3"]})).is_ok(), "{id}");
    }
    broken_file(
        json!({"@type": "Interface", "@id": "dtmi:a;1", "@context": "dtmi:dtdl:context;4"}),
        &[("/@context", "version 4 of DTDL cannot be read, versions 2 and 3 can")],
    );
    broken_file(
        json!({"@type": "Interface", "@id": "dtmi:a;1", "@context": "https://schema.org"}),
        &[("/@context", "its `@context` must have `dtmi:dtdl:context;2` or `dtmi:dtdl:context;3`")],
    );
    let one = |id: &str, extends: Value| json!({"@type": "Interface", "@id": id, "@context": V2, "extends": extends});
    broken_file(
        json!([one("dtmi:a;1", json!([])), one("dtmi:a;1", json!([]))]),
        &[("/1/@id", "the `@id` `dtmi:a;1` is used twice")],
    );
    broken_file(
        json!([one("dtmi:a;1", json!("dtmi:b;1")), one("dtmi:b;1", json!(["dtmi:a;1"]))]),
        &[("/0/extends", "this interface extends itself, or one that does")],
    );
    let chain = |count: usize| -> Value {
        (0..count)
            .map(|n| one(&format!("dtmi:a{n};1"), if n == 0 { json!([]) } else { json!(format!("dtmi:a{};1", n - 1)) }))
            .collect()
    };
    assert!(read(&chain(11)).is_ok());
    broken_file(chain(12), &[("/11/extends", "interfaces may extend one another 10 levels deep")]);
    let itself = json!({"@id": "dtmi:s;1", "@type": "Array", "elementSchema": "dtmi:s;1"});
    broken_file(
        json!({"@type": "Interface", "@id": "dtmi:a;1", "@context": V2, "schemas": [itself]}),
        &[("/schemas/0/elementSchema", "the schema `dtmi:s;1` is part of itself")],
    );
    broken_file(
        json!({"@type": ["ModelDefinition", "DeviceModel"], "capabilityModel": {"@type": "Interface"}}),
        &[("", "this is a device template of IoT Central: take its `capabilityModel` out into a file of its own")],
    );
}

#[test]
fn models_of_version_1_are_told_what_they_are() {
    let check = |model: Value, expect: &str| {
        let found = read(&model).unwrap_err();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.starts_with(expect), "{found:?}");
    };
    let context = "http://azureiot.com/v1/contexts/IoTModel.json";
    let model = "This is a capability model of DTDL version 1";
    check(json!({"@id": "urn:acme:Truck:1", "@type": "CapabilityModel", "implements": []}), model);
    check(json!({"@id": "urn:acme:Truck:1", "@context": context, "implements": []}), model);
    let interface = "This is an interface of DTDL version 1";
    check(json!({"@type": "Interface", "@id": "dtmi:a;1", "@context": context}), interface);
    check(json!({"@type": "Interface", "@id": "urn:acme:Lamp:1", "@context": "dtmi:dtdl:context;2"}), interface);
    check(json!({"@id": "urn:acme:Lamp:1", "contents": []}), interface);
    let instance = "This is an interface instance of DTDL version 1";
    check(json!({"@type": "InterfaceInstance", "name": "lamp", "schema": "urn:acme:Lamp:1"}), instance);
    check(json!({"@type": ["InterfaceInstance"], "name": "lamp", "@context": context}), instance);
}

/// Long chains of references, wide diamonds and deep nesting cost time in proportion to the file, and no stack.
#[test]
fn hostile_models_are_read_in_bounds() {
    let count = 5_000;
    let next = |n: usize| if n + 1 < count { json!(format!("dtmi:s{};1", n + 1)) } else { json!("string") };
    let schemas: Vec<Value> = (0..count)
        .map(|n| json!({"@id": format!("dtmi:s{n};1"), "@type": "Array", "elementSchema": next(n)}))
        .collect();
    let found =
        read(&json!({"@type": "Interface", "@id": "dtmi:a;1", "@context": V2, "schemas": schemas})).unwrap_err();
    assert!(found.iter().any(|problem| problem.message.contains("levels deep")), "{found:?}");
    assert!(found.len() <= crate::model::limits::DTDL_PROBLEMS_MAX);

    let layer = |level: usize, n: usize| -> Value {
        let below: Vec<Value> = (0..40).map(|m| json!(format!("dtmi:l{}n{m};1", level + 1))).collect();
        let bases = if level < 9 { Value::Array(below) } else { json!([]) };
        json!({"@context": "dtmi:dtdl:context;3", "@type": "Interface", "@id": format!("dtmi:l{level}n{n};1"), "extends": bases,
               "contents": [{"@type": "Property", "name": format!("p{level}n{n}"), "schema": "string", "writable": true}]})
    };
    let interfaces: Value = (0..10).flat_map(|level| (0..40).map(move |n| layer(level, n))).collect();
    let model = read(&interfaces).unwrap();
    assert_eq!(model.desired_names().len(), 361, "the first interface and the nine layers below it");
}

/// Small changes of a legal file make another legal file or problems, never a panic.
#[test]
fn mutations_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let words = [
        "\"dtmi:x:Lamp;1\"",
        "\"dtmi:x:mode;1\"",
        "null",
        "[]",
        "{}",
        "3",
        "\"Interface\"",
        "\"@type\"",
        "\"Enum\"",
        "[[1]]",
    ];
    let tokens: Vec<&str> = MODEL.split_inclusive([',', ':', '[', ']', '{', '}']).collect();
    let (mut legal, mut refused) = (0, 0);
    for round in 0..2_000 {
        let mut text: Vec<String> = tokens.iter().map(|token| token.to_string()).collect();
        for _ in 0..=random(3) {
            let at = random(text.len());
            match random(4) {
                0 => drop(text.remove(at)),
                1 => text[at] = tokens[random(tokens.len())].to_string(),
                2 => {
                    let end = text[at].pop().unwrap_or(' ');
                    text[at] = format!("{}{end}", words[random(words.len())]);
                }
                _ => {
                    let twice = text[at].clone();
                    text.insert(at, twice);
                }
            }
        }
        let text = text.concat();
        let Ok(content) = serde_json::from_str::<Value>(&text) else {
            // What is not JSON has no places either, and asking for one is harmless.
            let _ = super::locate(&text, "/0/contents/1/schema");
            continue;
        };
        match read(&content) {
            Ok(_) => legal += 1,
            Err(problems) => {
                refused += 1;
                for problem in &problems {
                    assert!(super::locate(&text, &problem.pointer).is_some(), "{round}: {problem:?} in {text}");
                }
            }
        }
    }
    assert!(legal > 20 && refused > 100, "{legal} {refused}");
}
