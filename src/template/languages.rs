//! Semantic types, types and members of other languages, and identifiers in the place of elements and members: what the
//! "DTDL Language Specification" and its extension for quantities allow.

use serde_json::{Value, json};

use super::conformance::{interface, map, telemetry};
use super::read;
use super::semantic::QUANTITATIVE;

/// Returns the verdicts on one property with these members, in version 2, in version 3, and there with the extension for
/// quantities.
fn verdicts(members: &Value) -> [bool; 3] {
    [json!("dtmi:dtdl:context;2"), json!("dtmi:dtdl:context;3"), json!(["dtmi:dtdl:context;3", QUANTITATIVE])].map(
        |context| {
            let mut property = json!({"@type": "Property", "name": "a", "schema": "double"});
            members.as_object().into_iter().flatten().for_each(|(key, value)| property[key] = value.clone());
            read(&json!({"@context": context, "@id": "dtmi:acme:A;1", "@type": "Interface", "contents": [property]}))
                .is_ok()
        },
    )
}

#[test]
fn a_semantic_type_has_one_of_its_units_and_a_number() {
    let of = |types: Value, unit: Value, schema: &str| {
        let mut members = json!({"@type": types, "schema": schema});
        if !unit.is_null() {
            members["unit"] = unit;
        }
        verdicts(&members)
    };
    let (temperature, both) = (json!(["Property", "Temperature"]), [true, false, true]);
    for schema in ["double", "float", "integer", "long", "dtmi:dtdl:instance:Schema:double;2"] {
        assert_eq!(of(temperature.clone(), json!("kelvin"), schema), both, "{schema}");
    }
    for schema in ["string", "boolean", "dateTime"] {
        assert_eq!(of(temperature.clone(), json!("kelvin"), schema), [false; 3], "{schema}");
    }
    let new = [false, false, true];
    for (what, types, unit, expect) in [
        ("no unit", json!(["Property", "Temperature"]), json!(null), [false; 3]),
        ("a unit of another type", json!(["Property", "Temperature"]), json!("lumen"), [false; 3]),
        ("a unit of none", json!(["Property", "Temperature"]), json!("degreeCelcius"), [false; 3]),
        ("a number as a unit", json!(["Property", "Temperature"]), json!(3), [false; 3]),
        ("a unit alone", json!("Property"), json!("kelvin"), [false; 3]),
        ("a unit by its identifier", temperature.clone(), json!("dtmi:standard:unit:kelvin;2"), both),
        ("a type by its identifier", json!(["Property", "dtmi:standard:class:Mass;2"]), json!("gram"), both),
        ("a type that is there twice", json!(["Property", "Mass", "Mass"]), json!("gram"), both),
        ("two types of one unit", json!(["Property", "Length", "Distance"]), json!("metre"), [false; 3]),
        ("a unit of the extension", json!(["Property", "Current"]), json!("kiloampere"), new),
        (
            "a type of the extension",
            json!(["Property", "Irradiance"]),
            json!("wattPerSquareMetre"),
            [true, false, true],
        ),
        ("a type of nobody with a unit", json!(["Property", "Commercial"]), json!("euro"), [true, false, false]),
    ] {
        assert_eq!(of(types, unit, "double"), expect, "{what}");
    }
    let said = read(&interface(
        2,
        json!([{"@type": ["Property", "Temperature"], "name": "a", "schema": "double",
        "unit": "degreeCelcius"}]),
    ));
    let expect = "`degreeCelcius` is no unit of `Temperature`; did you mean `degreeCelsius`?";
    assert_eq!(said.unwrap_err()[0].message, expect);
    let said = read(&interface(
        3,
        json!([{"@type": ["Property", "Temperature"], "name": "a", "schema": "double",
        "unit": "kelvin"}]),
    ));
    assert!(said.unwrap_err()[0].message.contains(QUANTITATIVE), "the way out is told");
}

#[test]
fn semantic_types_are_of_elements_with_values() {
    let quantity = |word: &str| json!({"@type": [word, "Mass"], "name": "x", "schema": "double", "unit": "gram"});
    let object =
        |field: Value| json!([{"@type": "Telemetry", "name": "a", "schema": {"@type": "Object", "fields": [field]}}]);
    let command = |key: &str, payload: Value| json!([{"@type": "Command", "name": "a", key: payload}]);
    let mut map = map(json!("double"));
    map["mapValue"] = quantity("MapValue");
    let map = telemetry(map);
    for (what, contents, expect) in [
        ("telemetry", json!([quantity("Telemetry")]), [true, true]),
        ("a field", object(quantity("Field")), [false, true]),
        ("a value of a map", map, [false, true]),
        ("a request", command("request", quantity("CommandRequest")), [false, true]),
        ("a response", command("response", quantity("CommandResponse")), [false, true]),
        ("a command", json!([{"@type": ["Command", "Mass"], "name": "a"}]), [false, false]),
        ("a relationship", json!([{"@type": ["Relationship", "Mass"], "name": "a"}]), [false, false]),
    ] {
        let mut of_3 = interface(3, contents.clone());
        of_3["@context"] = json!(["dtmi:dtdl:context;3", QUANTITATIVE]);
        assert_eq!([read(&interface(2, contents)).is_ok(), read(&of_3).is_ok()], expect, "{what}");
    }
}

/// The "open world" of version 2: whoever has a type of their own may have members of their own. In version 3 both need
/// a language that the context names.
#[test]
fn types_and_members_of_other_languages() {
    let other = json!("dtmi:acme:context;1");
    for (what, members, expect) in [
        ("a type", json!({"@type": ["Property", "Commercial"]}), [true, false]),
        ("a type with a member", json!({"@type": ["Property", "Commercial"], "brand": "Acme"}), [true, false]),
        ("a member alone", json!({"brand": "Acme"}), [false, false]),
        ("a type of the web", json!({"@type": ["Property", "https://acme.example/Sold"]}), [true, false]),
        ("a member of the web", json!({"https://acme.example/brand": "Acme"}), [false, false]),
        ("a member of the web of a type", json!({"@type": ["Property", "Sold"], "x:brand": "Acme"}), [true, false]),
        ("an identifier as a type", json!({"@type": ["Property", "dtmi:acme:Sold;1"]}), [false, false]),
        ("an identifier as a member", json!({"dtmi:acme:brand;1": "Acme"}), [false, false]),
        ("a schema as a type", json!({"@type": ["Property", "boolean"]}), [false, false]),
        ("a unit as a type", json!({"@type": ["Property", "lumen"]}), [false, false]),
        ("a member of IoT Central", json!({"decimalPlaces": 1}), [false, false]),
    ] {
        let found = verdicts(&members);
        assert_eq!([found[0], found[1]], expect, "{what}");
        let mut within = members.clone();
        within["@context"] = other.clone();
        let is_typed = members.get("@type").is_some();
        let is_of_web = members["@type"][1].as_str().is_some_and(|word| word.starts_with("https:"));
        let of_3 = is_typed && !is_of_web && members.get("x:brand").is_none();
        let found = verdicts(&within);
        assert_eq!([found[0], found[1]], [is_typed, of_3], "{what} with a context of its own");
    }
    let around = |version: u8, property: Value| {
        let mut model = interface(version, json!([property]));
        model["@context"] = json!([format!("dtmi:dtdl:context;{version}"), "dtmi:acme:context;1"]);
        read(&model).is_ok()
    };
    let sold = json!({"@type": ["Property", "dtmi:acme:Sold;1"], "name": "a", "schema": "double", "brand": "Acme"});
    assert!(around(2, sold.clone()) && around(3, sold), "the context of the interface is that of its contents");
    let alone = json!({"@type": "Property", "name": "a", "schema": "double", "brand": "Acme"});
    assert!(!around(2, alone.clone()) && !around(3, alone), "a member without a type of its language");
}

#[test]
fn elements_and_members_may_be_named_by_their_identifiers() {
    let object = |fields: Value| json!({"@type": "Object", "fields": fields});
    let property = |schema: Value| json!({"@type": "Property", "name": "a", "schema": schema});
    let field = json!({"@id": "dtmi:acme:A:field;1", "name": "x", "schema": "double"});
    let other = |schema: Value| json!({"@type": "Property", "name": "b", "schema": schema});
    let payload = json!({"@id": "dtmi:acme:A:to;1", "name": "to", "schema": "double"});
    for version in [2, 3] {
        let key = |name: &str| format!("dtmi:dtdl:property:{name};{version}");
        let named = json!([{"@type": "Property", key("name"): "a", key("schema"): "double"}]);
        assert!(read(&interface(version, named)).is_ok());
        let twice = json!([{"@type": "Property", key("name"): "a", "name": "a", "schema": "double"}]);
        let problems = read(&interface(version, twice)).unwrap_err();
        assert!(problems[0].message.contains("is there twice"), "{problems:?}");
        let fields = json!([property(object(json!([field]))), other(object(json!(["dtmi:acme:A:field;1"])))]);
        assert!(read(&interface(version, fields)).is_ok(), "a field by its identifier");
        let nowhere = json!([property(object(json!(["dtmi:acme:A:nowhere;1"])))]);
        assert!(read(&interface(version, nowhere)).is_err());
        let commands = json!([{"@type": "Command", "name": "a", "request": payload},
            {"@type": "Command", "name": "b", "request": "dtmi:acme:A:to;1", "response": []}]);
        assert!(read(&interface(version, commands)).is_ok(), "a request by its identifier");
        let again = json!([property(object(json!([field]))), other(object(json!([field])))]);
        assert!(read(&interface(version, again)).is_err(), "the element itself again");
        let itself =
            json!({"@id": "dtmi:acme:A:field;1", "name": "x", "schema": object(json!(["dtmi:acme:A:field;1"]))});
        assert!(read(&interface(version, json!([property(object(json!([itself])))]))).is_err(), "a part of itself");
    }
    let names = |level: usize| -> Vec<String> { (0..60).map(|n| format!("dtmi:acme:A:l{level}n{n};1")).collect() };
    let level = |level: usize| -> Vec<Value> {
        let schema = if level == 4 { json!("double") } else { object(json!(names(level + 1))) };
        let field = |id: String| json!({"@id": id, "name": "x", "schema": schema});
        names(level).into_iter().map(field).collect()
    };
    let all: Vec<Value> = (0..5).map(|at| property(object(json!(level(at))))).collect();
    assert!(read(&interface(3, json!(all))).is_err(), "fields that name sixty others at each level end at some time");
    let of_other = json!([{"@type": "Command", "name": "a",
        "request": {"@type": "CommandResponse", "name": "to", "schema": "double"}}]);
    assert!(read(&interface(3, of_other)).is_err(), "a request that is a response");
}
