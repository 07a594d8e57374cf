//! Models and values that the "DTDL Language Specification" allows or not, in versions 2 and 3, written from its rules.

use serde_json::{Value, json};

use super::read;

/// Returns an interface with contents in a version.
fn interface(version: u8, contents: Value) -> Value {
    json!({"@context": format!("dtmi:dtdl:context;{version}"), "@id": "dtmi:acme:A;1", "@type": "Interface",
           "contents": contents})
}

/// Returns a list of an interface with these contents, and others beside it.
fn beside(version: u8, contents: Value, others: &[Value]) -> Value {
    let mut list = vec![interface(version, contents)];
    list.extend(others.iter().map(|other| {
        let mut other = other.clone();
        other["@context"] = json!(format!("dtmi:dtdl:context;{version}"));
        other["@type"] = json!("Interface");
        other
    }));
    Value::Array(list)
}

fn telemetry(schema: Value) -> Value {
    json!([{"@type": "Telemetry", "name": "a", "schema": schema}])
}

/// Returns contents with one member added to the one content.
fn with(mut content: Value, key: &str, value: Value) -> Value {
    content[key] = value;
    json!([content])
}

fn nested(levels: usize, wrap: fn(Value) -> Value) -> Value {
    (0..levels).fold(json!("string"), |inner, _| wrap(inner))
}

fn object(inner: Value) -> Value {
    json!({"@type": "Object", "fields": [{"name": "x", "schema": inner}]})
}

fn map(inner: Value) -> Value {
    json!({"@type": "Map", "mapKey": {"name": "k", "schema": "string"}, "mapValue": {"name": "v", "schema": inner}})
}

fn array(inner: Value) -> Value {
    json!({"@type": "Array", "elementSchema": inner})
}

fn numbers(count: usize) -> Value {
    let one = |n: usize| json!({"name": format!("v{n}"), "enumValue": n});
    json!({"@type": "Enum", "valueSchema": "integer", "enumValues": (0..count).map(one).collect::<Vec<_>>()})
}

fn invalid_members() -> Vec<(&'static str, Value)> {
    let property = json!({"@type": "Property", "name": "a", "schema": "double"});
    let command = json!({"@type": "Command", "name": "a"});
    let component = json!({"@type": "Component", "name": "a", "schema": {"@type": "Interface", "@id": "dtmi:b;1"}});
    let relationship = json!({"@type": "Relationship", "name": "a"});
    let payload = |key: &str| json!({"name": "p", "schema": "string", key: 1});
    vec![
        ("a property with an unknown member", with(property.clone(), "valueSchem", json!("double"))),
        ("a slip of writable", with(property.clone(), "writeable", json!(true))),
        ("another case", with(property.clone(), "Writable", json!(true))),
        ("a property with a target", with(property.clone(), "target", json!("dtmi:b;1"))),
        (
            "telemetry that is writable",
            json!([{"@type": "Telemetry", "name": "a", "schema": "double", "writable": true}]),
        ),
        ("a command with a schema", with(command.clone(), "schema", json!("double"))),
        ("a slip of request", with(command.clone(), "requests", json!({"name": "p", "schema": "string"}))),
        ("a request with an unknown member", with(command.clone(), "request", payload("foo"))),
        ("a response with an unknown member", with(command, "response", payload("default"))),
        ("a component with contents", with(component.clone(), "contents", json!([]))),
        ("a component that is writable", with(component, "writable", json!(true))),
        ("a relationship with a schema", with(relationship.clone(), "schema", json!("double"))),
        ("a slip of maxMultiplicity", with(relationship, "maxMultiplicty", json!(1))),
        ("an object with a slip", telemetry(json!({"@type": "Object", "field": [{"name": "x", "schema": "double"}]}))),
        (
            "a field with an unknown member",
            telemetry(json!({"@type": "Object",
            "fields": [{"name": "x", "schema": "double", "optional": true}]})),
        ),
        (
            "an array with an unknown member",
            telemetry(json!({"@type": "Array", "elementSchema": "double", "items": 1})),
        ),
        (
            "a map with a slip",
            telemetry(json!({"@type": "Map", "mapKeys": {"name": "k", "schema": "string"},
            "mapValue": {"name": "v", "schema": "string"}})),
        ),
        (
            "an enum with a slip",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValue": [{"name": "x", "enumValue": 1}]})),
        ),
        (
            "a value of an enum with an unknown member",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValues": [{"name": "x", "enumValue": 1, "color": 3, "weight": 1}]})),
        ),
    ]
}

fn invalid_structure() -> Vec<(&'static str, Value)> {
    let mut all = invalid_contents();
    all.extend(invalid_parts());
    all
}

fn invalid_contents() -> Vec<(&'static str, Value)> {
    vec![
        ("no schema", json!([{"@type": "Property", "name": "a"}])),
        ("no name", json!([{"@type": "Telemetry", "schema": "double"}])),
        ("no type", json!([{"name": "a", "schema": "double"}])),
        ("two types", json!([{"@type": ["Telemetry", "Property"], "name": "a", "schema": "double"}])),
        ("two types of schemas", telemetry(json!({"@type": ["Map", "Array"], "elementSchema": "double"}))),
        ("an unknown schema", telemetry(json!("number"))),
        (
            "two contents of one name",
            json!([{"@type": "Telemetry", "name": "a", "schema": "double"},
            {"@type": "Property", "name": "a", "schema": "double"}]),
        ),
        ("a name with a dash", json!([{"@type": "Telemetry", "name": "a-b", "schema": "double"}])),
        ("a name that begins with a digit", json!([{"@type": "Telemetry", "name": "1a", "schema": "double"}])),
        ("writable that is no boolean", json!([{"@type": "Property", "name": "a", "schema": "double", "writable": 1}])),
        (
            "an enum of doubles",
            telemetry(json!({"@type": "Enum", "valueSchema": "double",
            "enumValues": [{"name": "x", "enumValue": 1}]})),
        ),
        (
            "an enum without valueSchema",
            telemetry(json!({"@type": "Enum", "enumValues": [{"name": "x", "enumValue": 1}]})),
        ),
        (
            "two values of one name",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValues": [{"name": "x", "enumValue": 1}, {"name": "x", "enumValue": 2}]})),
        ),
        (
            "one value twice",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValues": [{"name": "x", "enumValue": 1}, {"name": "y", "enumValue": 1}]})),
        ),
        (
            "a value without a name",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValues": [{"enumValue": 1}]})),
        ),
        (
            "a value of another type",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValues": [{"name": "x", "enumValue": "1"}]})),
        ),
    ]
}

fn invalid_parts() -> Vec<(&'static str, Value)> {
    let reference = |name: &str| json!([{"@type": "Component", "name": "a", "schema": name}]);
    let same = json!([{"@type": "Property", "name": "a", "schema": "double"}]);
    vec![
        ("a map without a key", telemetry(json!({"@type": "Map", "mapValue": {"name": "v", "schema": "double"}}))),
        ("a map without a value", telemetry(json!({"@type": "Map", "mapKey": {"name": "k", "schema": "string"}}))),
        (
            "a map with integer keys",
            telemetry(json!({"@type": "Map", "mapKey": {"name": "k", "schema": "integer"},
            "mapValue": {"name": "v", "schema": "double"}})),
        ),
        (
            "a map value without a name",
            telemetry(json!({"@type": "Map", "mapKey": {"name": "k", "schema": "string"},
            "mapValue": {"schema": "double"}})),
        ),
        ("an array without elements", telemetry(json!({"@type": "Array"}))),
        ("a field without a schema", telemetry(json!({"@type": "Object", "fields": [{"name": "x"}]}))),
        (
            "two fields of one name",
            telemetry(json!({"@type": "Object",
            "fields": [{"name": "x", "schema": "double"}, {"name": "x", "schema": "string"}]})),
        ),
        ("six objects", telemetry(nested(6, object))),
        ("six maps", telemetry(nested(6, map))),
        ("six arrays", telemetry(nested(6, array))),
        ("an object in five arrays", telemetry(array(array(array(array(array(object(json!("string"))))))))),
        ("a component of itself", reference("dtmi:acme:A;1")),
        ("a component that is not there", reference("dtmi:acme:Nowhere;1")),
        ("a component without a schema", json!([{"@type": "Component", "name": "a"}])),
        ("a request without a name", json!([{"@type": "Command", "name": "a", "request": {"schema": "double"}}])),
        ("a request that is a word", json!([{"@type": "Command", "name": "a", "request": "double"}])),
        ("a target that is no identifier", json!([{"@type": "Relationship", "name": "a", "target": "room"}])),
        (
            "telemetry as the property of a relationship",
            json!([{"@type": "Relationship", "name": "a",
            "properties": [{"@type": "Telemetry", "name": "x", "schema": "double"}]}]),
        ),
        ("an inherited name again", same),
    ]
}

/// What is allowed in both versions.
fn valid() -> Vec<(&'static str, Value)> {
    vec![
        ("nothing", json!([])),
        ("one content that is no list", json!({"@type": "Telemetry", "name": "a", "schema": "double"})),
        ("five objects", telemetry(nested(5, object))),
        ("five maps", telemetry(nested(5, map))),
        ("five arrays", telemetry(nested(5, array))),
        ("an enum in five objects", telemetry((0..5).fold(numbers(2), |inner, _| object(inner)))),
        (
            "a semantic type",
            json!([{"@type": ["Telemetry", "Temperature"], "name": "a", "schema": "double",
            "unit": "degreeCelsius"}]),
        ),
        (
            "names in languages",
            json!([{"@type": "Property", "name": "a", "schema": "double",
            "displayName": {"en": "A", "de": "A"}, "description": "x", "comment": "y"}]),
        ),
        ("a schema by its identifier", telemetry(json!("dtmi:dtdl:instance:Schema:double;2"))),
        (
            "a class by its identifier",
            json!([{"@type": "dtmi:dtdl:class:Telemetry;2", "name": "a", "schema": "double"}]),
        ),
        ("a map in a property", json!([{"@type": "Property", "name": "a", "schema": map(json!("double"))}])),
        (
            "a relationship",
            json!([{"@type": "Relationship", "name": "a", "target": "dtmi:acme:Room;1",
            "minMultiplicity": 0, "maxMultiplicity": 5, "writable": true,
            "properties": [{"@type": "Property", "name": "since", "schema": "date"}]}]),
        ),
        (
            "a command",
            json!([{"@type": "Command", "name": "a", "request": {"name": "r", "schema": "string"},
            "response": {"name": "s", "schema": object(json!("string"))}}]),
        ),
        (
            "a component",
            json!([{"@type": "Component", "name": "a", "schema": {"@type": "Interface", "@id": "dtmi:b;1",
            "contents": [{"@type": "Telemetry", "name": "t", "schema": "double"}]}}]),
        ),
        (
            "identifiers of elements",
            json!([{"@id": "dtmi:acme:A:a;1", "@type": "Telemetry", "name": "a",
            "schema": "double"}]),
        ),
    ]
}

#[test]
fn models_are_judged_as_the_language_says() {
    let base =
        json!({"@id": "dtmi:acme:Base;1", "contents": [{"@type": "Telemetry", "name": "a", "schema": "double"}]});
    let inner = json!({"@id": "dtmi:acme:Inner;1", "contents": [
        {"@type": "Component", "name": "deep", "schema": {"@type": "Interface", "@id": "dtmi:acme:Deep;1"}}]});
    let (mut refused, mut wrong) = ([0, 0], Vec::new());
    for version in [2, 3] {
        for (at, cases) in [invalid_members(), invalid_structure()].into_iter().enumerate() {
            for (what, contents) in cases {
                let mut model = beside(version, contents, std::slice::from_ref(&base));
                if what == "an inherited name again" {
                    model[0]["extends"] = json!("dtmi:acme:Base;1");
                }
                match read(&model) {
                    Ok(_) => wrong.push(format!("version {version} accepts {what}")),
                    Err(_) => refused[at] += 1,
                }
            }
        }
        let nested = beside(
            version,
            json!([{"@type": "Component", "name": "x", "schema": "dtmi:acme:Inner;1"}]),
            std::slice::from_ref(&inner),
        );
        assert!(read(&nested).is_err(), "components within components");
        for (what, contents) in valid() {
            if let Err(problems) = read(&interface(version, contents)) {
                wrong.push(format!("version {version} refuses {what}: {problems:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Of as many cases, in both versions.
    assert_eq!(refused, [2 * invalid_members().len(), 2 * invalid_structure().len()]);
}

#[test]
fn the_versions_differ_where_the_language_does() {
    for (what, schema) in [
        ("an enum without values", numbers(0)),
        ("an enum without enumValues", json!({"@type": "Enum", "valueSchema": "integer"})),
        ("an object without fields", json!({"@type": "Object", "fields": []})),
        ("an object without a list of fields", json!({"@type": "Object"})),
    ] {
        let is_in = |version: u8| read(&interface(version, telemetry(schema.clone()))).is_ok();
        assert_eq!([is_in(2), is_in(3)], [false, true], "{what}");
    }
    let in_property = json!([{"@type": "Property", "name": "a", "schema": object(array(json!("double")))}]);
    assert!(read(&interface(2, in_property.clone())).is_err() && read(&interface(3, in_property)).is_ok());
    for (count, is_in_2) in [(100, true), (101, false)] {
        assert_eq!(read(&interface(2, telemetry(numbers(count)))).is_ok(), is_in_2, "{count} values");
        assert!(read(&interface(3, telemetry(numbers(count)))).is_ok(), "{count} values");
    }
    let fields = |count: usize| -> Value {
        let one = |n: usize| json!({"name": format!("f{n}"), "schema": "double"});
        telemetry(json!({"@type": "Object", "fields": (0..count).map(one).collect::<Vec<_>>()}))
    };
    assert!(read(&interface(2, fields(30))).is_ok() && read(&interface(2, fields(31))).is_err());
    assert!(read(&interface(3, fields(31))).is_ok());
}

/// IoT Central writes members of its own, under its own context.
#[test]
fn other_languages_may_add_members_but_no_slips() {
    let with_context = |contents: Value| {
        json!({"@context": ["dtmi:iotcentral:context;2", "dtmi:dtdl:context;2"], "@id": "dtmi:acme:A;1",
               "@type": "Interface", "contents": contents})
    };
    let own = json!([{"@type": ["Property", "NumberValue"], "name": "a", "schema": "double", "minValue": 0,
                      "maxValue": 9.5, "decimalPlaces": 1, "gauge": {"kind": "round"}}]);
    assert!(read(&with_context(own)).is_ok());
    let slip = json!([{"@type": "Property", "name": "a", "schema": "double", "writeable": true}]);
    let problems = read(&with_context(slip)).unwrap_err();
    assert!(problems[0].message.ends_with("did you mean `writable`?"), "{problems:?}");
}
