//! Models and values that the "DTDL Language Specification" allows or not, in versions 2 and 3, written from its rules.

use serde_json::{Value, json};

use super::read;

/// Returns an interface with contents in a version.
pub fn interface(version: u8, contents: Value) -> Value {
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

pub fn telemetry(schema: Value) -> Value {
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

pub fn map(inner: Value) -> Value {
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

/// What is wrong with the members that every element may have.
fn invalid_common() -> Vec<(&'static str, Value)> {
    let telemetry = json!({"@type": "Telemetry", "name": "a", "schema": "double"});
    let with_id = |name: &str, id: &str| json!({"@id": id, "@type": "Telemetry", "name": name, "schema": "double"});
    let shared = json!({"@id": "dtmi:acme:A:a;1", "@type": "Array", "elementSchema": "double"});
    let long = |most: usize| format!("dtmi:{}:{};1", "x".repeat(most / 2 - 8), "y".repeat(most - most / 2 + 1));
    let component = |inner: Value| json!([{"@type": "Component", "name": "a", "schema": inner}]);
    vec![
        ("an @id that is no identifier", with(telemetry.clone(), "@id", json!("a"))),
        ("an empty @id", with(telemetry.clone(), "@id", json!(""))),
        ("a list as an @id", with(telemetry.clone(), "@id", json!(["dtmi:acme:A:a;1"]))),
        ("an @id of DTDL", with(telemetry.clone(), "@id", json!("dtmi:dtdl:mine;1"))),
        ("an @id of the standards", with(telemetry.clone(), "@id", json!("dtmi:standard:mine;1"))),
        ("an @id that is too long", with(telemetry.clone(), "@id", json!(long(2_049)))),
        ("one @id twice", json!([with_id("a", "dtmi:acme:A:a;1"), with_id("b", "dtmi:acme:A:a;1")])),
        (
            "the @id of a schema again",
            json!([{"@id": "dtmi:acme:A:a;1", "@type": "Telemetry", "name": "a", "schema": shared}]),
        ),
        ("the @id of an interface again", with(telemetry.clone(), "@id", json!("dtmi:acme:A;1"))),
        ("an interface without an @id", component(json!({"@type": "Interface"}))),
        ("an interface with a long @id", component(json!({"@type": "Interface", "@id": long(129)}))),
        ("an @type that is null", with(telemetry.clone(), "@type", json!(null))),
        ("a number in an @type", with(telemetry.clone(), "@type", json!(["Telemetry", 3]))),
        ("a type that is no identifier", with(telemetry.clone(), "@type", json!(["Telemetry", "dtmi:1x;1"]))),
        ("a graph", with(telemetry.clone(), "@graph", json!([]))),
        ("terms in a context", with(telemetry.clone(), "@context", json!({"x": "dtmi:x;1"}))),
        ("a context of the web", with(telemetry.clone(), "@context", json!("https://schema.org"))),
        ("a context without a version", with(telemetry.clone(), "@context", json!(["dtmi:acme:context"]))),
        ("a context that is null", with(telemetry.clone(), "@context", json!(null))),
        ("an inner context of version 4", with(telemetry.clone(), "@context", json!("dtmi:dtdl:context;4"))),
        ("a comment that is a number", with(telemetry.clone(), "comment", json!(3))),
        ("a long comment", with(telemetry.clone(), "comment", json!("x".repeat(513)))),
        ("a long description", with(telemetry.clone(), "description", json!({"en": "x".repeat(513)}))),
        ("a long name to display", with(telemetry.clone(), "displayName", json!("x".repeat(513)))),
        ("a name to display in no language", with(telemetry.clone(), "displayName", json!({"English": "A"}))),
        ("a name to display that is a literal", with(telemetry.clone(), "displayName", json!({"@value": "A"}))),
        ("a name with the type of a number", with(telemetry, "name", json!({"@value": "a", "@type": "xsd:integer"}))),
    ]
}

/// What is wrong with relationships, commands and the parts of schemas.
fn invalid_values() -> Vec<(&'static str, Value)> {
    let relationship = json!({"@type": "Relationship", "name": "a"});
    let command = json!({"@type": "Command", "name": "a"});
    let property = |name: &str| json!({"@type": "Property", "name": name, "schema": "double"});
    let field = |word: &str| {
        json!({"@type": "Object",
        "fields": [{"@type": word, "name": "x", "schema": "double"}]})
    };
    vec![
        (
            "two properties of one name in a relationship",
            with(relationship.clone(), "properties", json!([property("x"), property("x")])),
        ),
        ("none at most", with(relationship.clone(), "maxMultiplicity", json!(0))),
        ("less than none at most", with(relationship.clone(), "maxMultiplicity", json!(-1))),
        ("one and a half at most", with(relationship.clone(), "maxMultiplicity", json!(1.5))),
        ("a text at most", with(relationship.clone(), "maxMultiplicity", json!("5"))),
        ("null at most", with(relationship.clone(), "maxMultiplicity", json!(null))),
        ("two numbers at most", with(relationship.clone(), "maxMultiplicity", json!([1, 2]))),
        ("one at least", with(relationship.clone(), "minMultiplicity", json!(1))),
        ("a relationship with a text for writable", with(relationship.clone(), "writable", json!("yes"))),
        ("a target that is null", with(relationship.clone(), "target", json!(null))),
        ("two targets", with(relationship, "target", json!(["dtmi:b;1", "dtmi:c;1"]))),
        ("a command of another type", with(command.clone(), "commandType", json!("later"))),
        ("a command of the type null", with(command.clone(), "commandType", json!(null))),
        ("a command of two types", with(command.clone(), "commandType", json!(["synchronous", "asynchronous"]))),
        (
            "a request that is a field",
            with(command, "request", json!({"@type": "Field", "name": "x", "schema": "double"})),
        ),
        ("a field that is the value of a map", telemetry(field("MapValue"))),
        ("a field that is something", telemetry(field("Something"))),
        (
            "a value of an enum with more than a literal",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValues": [{"name": "x", "enumValue": {"@value": 1, "unit": "x"}}]})),
        ),
        (
            "a value of an enum beyond 32 bits",
            telemetry(json!({"@type": "Enum", "valueSchema": "integer",
            "enumValues": [{"name": "x", "enumValue": 3_000_000_000_u64}]})),
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
            "no writable, no most and no comment",
            json!([{"@type": "Relationship", "name": "a", "writable": [], "maxMultiplicity": [], "comment": [],
            "target": []}]),
        ),
        (
            "literals that say what they are",
            json!([{"@type": "Property", "name": {"@value": "a", "@type": "xsd:string"}, "schema": "double",
            "writable": [{"@value": true}], "comment": {"@value": "x", "@type": ["xsd:string"]},
            "displayName": [{"@value": "A", "@language": "de"}, "B"]}]),
        ),
        (
            "a command that says how it answers",
            json!([{"@type": "Command", "name": "a", "commandType": "asynchronous",
            "request": {"@type": "CommandPayload", "name": "x", "schema": "double"}}]),
        ),
        (
            "a context of its own",
            json!([{"@context": "dtmi:acme:context;1", "@type": "Telemetry", "name": "a", "schema": "double"}]),
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
    let groups = || [invalid_members(), invalid_structure(), invalid_common(), invalid_values()];
    let (mut refused, mut wrong) = ([0; 4], Vec::new());
    for version in [2, 3] {
        for (at, cases) in groups().into_iter().enumerate() {
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
    assert_eq!(refused, groups().map(|cases| 2 * cases.len()));
}

/// Contents with the verdicts of version 2 and of version 3.
fn with_other_verdicts() -> Vec<(&'static str, Value, [bool; 2])> {
    let telemetry = |name: String| json!({"@type": "Telemetry", "name": name, "schema": "double"});
    let relationship = json!({"@type": "Relationship", "name": "a"});
    vec![
        ("a name of 64 letters", json!([telemetry("a".repeat(64))]), [true; 2]),
        ("a name of 65 letters", json!([telemetry("a".repeat(65))]), [false, true]),
        ("a name of 512 letters", json!([telemetry("a".repeat(512))]), [false, true]),
        ("a name of 513 letters", json!([telemetry("a".repeat(513))]), [false; 2]),
        ("500 at most", with(relationship.clone(), "maxMultiplicity", json!(500)), [true; 2]),
        ("501 at most", with(relationship.clone(), "maxMultiplicity", json!(501)), [false, true]),
        ("a target without a version", with(relationship, "target", json!("dtmi:acme:Room")), [false, true]),
        (
            "a name of 65 letters to display",
            with(telemetry("a".to_string()), "displayName", json!("a".repeat(65))),
            [false, true],
        ),
        (
            "a keyword beside a literal",
            with(telemetry("a".to_string()), "comment", json!({"@value": "x", "@language": "en"})),
            [true, false],
        ),
        ("a keyword of JSON-LD", with(telemetry("a".to_string()), "@index", json!("x")), [true, false]),
        ("a type of the web", with(telemetry("a".to_string()), "@type", json!(["Telemetry", "x:Y"])), [true, false]),
        ("version 3 inside", with(telemetry("a".to_string()), "@context", json!("dtmi:dtdl:context;3")), [false, true]),
        ("a point in a property", json!([{"@type": "Property", "name": "a", "schema": "point"}]), [false, true]),
    ]
}

/// Schemas belong to the interface that they are in; interfaces are everybody's.
#[test]
fn a_schema_is_used_in_its_own_interface_only() {
    let list = json!({"@id": "dtmi:acme:List;1", "@type": "Map",
        "mapKey": {"name": "k", "schema": "string"}, "mapValue": {"name": "v", "schema": "double"}});
    for version in [2, 3] {
        let mut own = interface(version, telemetry(json!("dtmi:acme:List;1")));
        own["schemas"] = json!([list]);
        assert!(read(&own).is_ok());
        let owner = json!({"@id": "dtmi:acme:Owner;1", "schemas": [list]});
        let other = beside(version, telemetry(json!("dtmi:acme:List;1")), std::slice::from_ref(&owner));
        let problems = read(&other).unwrap_err();
        let expect = "the schema `dtmi:acme:List;1` is one of another interface, which only that may use";
        assert_eq!((&*problems[0].pointer, &*problems[0].message), ("/0/contents/0/schema", expect));
        let mut owner = owner;
        owner["@type"] = json!("Interface");
        let contents = json!([{"@type": "Component", "name": "c", "schema": owner},
            {"@type": "Telemetry", "name": "a", "schema": "dtmi:acme:List;1"}]);
        assert!(read(&interface(version, contents)).is_err(), "that of an interface inside of it");
    }
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
    let extending = |count: usize| {
        let one = |n: usize| json!({"@id": format!("dtmi:acme:Base{n};1"), "@type": "Interface"});
        let mut model = interface(3, json!([]));
        model["extends"] = (0..count).map(one).collect();
        read(&model).is_ok()
    };
    assert!(extending(1_024) && !extending(1_025));
    for (what, contents, expect) in with_other_verdicts() {
        let is_in = |version: u8| read(&interface(version, contents.clone())).is_ok();
        assert_eq!([is_in(2), is_in(3)], expect, "{what}");
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
    let of_unit = |unit: &str| {
        let property = json!({"@type": ["Property", "Temperature", "NumberValue"], "name": "a", "schema": "double"});
        let contents = if unit.is_empty() { json!([property]) } else { with(property, "unit", json!(unit)) };
        read(&with_context(with(contents[0].clone(), "displayUnit", json!("C")))).is_ok()
    };
    assert_eq!([of_unit(""), of_unit("kelvin"), of_unit("lumen")], [true, true, false], "it may leave a unit out");
    let slip = json!([{"@type": "Property", "name": "a", "schema": "double", "writeable": true}]);
    let problems = read(&with_context(slip)).unwrap_err();
    assert!(problems[0].message.ends_with("did you mean `writable`?"), "{problems:?}");
}
