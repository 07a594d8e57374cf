//! The files of imports, row by row, and twins that no import makes.

use fleetform::model::observation::Observation;
use fleetform::model::patch::{Patch, Section};
use fleetform::registry::{ImportFailure, Registry, Request, Touched, sqlite};
use serde_json::{Value, json};

use crate::contract::SqliteWorld;
use crate::contract::fleet::{Fleet, spec};

fn observe(registry: &Registry, section: Section, patch: &Value) -> Observation {
    let assignments = Patch::new(patch.as_object().unwrap().clone()).unwrap().assignments();
    let touched = Touched::section(section, assignments);
    registry.devices().observe(&Request { touched, ..Request::all() }).unwrap()
}

#[test]
fn rows_are_rejected_with_their_line_and_the_others_are_imported() {
    let mut fleet = Fleet::new(SqliteWorld::fresh);
    fleet.import(&spec("other"), "IOTC_DEVICEID\ntaken\n");
    let long = "n".repeat(149);
    let file = format!(
        "IOTC_DEVICEID,IOTC_DEVICENAME\nd-1,One\nno_underscore,x\n\nd-1,Again\n,empty\nd-2,\"two\nlines\"\nd-3\ntaken,x\nd-4,{long}\nd-5,Five\n"
    );
    let found = fleet.import(&spec("a"), &file);
    let errors: Vec<(u64, &str)> = found.errors.iter().map(|error| (error.line, error.message.as_str())).collect();
    let expect = [
        (3, "'_'"),
        (5, "twice"),
        (6, "is empty"),
        (7, "control characters"),
        (9, "1 cell,"),
        (10, "import/other"),
        (11, "149 characters"),
    ];
    assert_eq!(errors.len(), expect.len(), "{errors:?}");
    for ((line, message), (expect_line, part)) in errors.iter().zip(expect) {
        assert!(*line == expect_line && message.contains(part), "line {line}: {message}; line {expect_line}: {part}");
    }
    assert_eq!((found.new, found.rejected, found.rows), (2, 7, 9));
    assert_eq!(fleet.ids(), ["d-1", "d-5", "taken"]);
    assert_eq!(fleet.device("d-1").device_name, "One", "the first row counts");
}

#[test]
fn lines_are_those_of_an_editor() {
    let check = |file: &str, expect: &[u64]| {
        let mut fleet = Fleet::new(SqliteWorld::fresh);
        let found = fleet.registry.imports_mut().stage(&spec("a"), &mut file.as_bytes()).unwrap();
        let lines: Vec<u64> = found.errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, expect, "{file:?}");
    };
    check("IOTC_DEVICEID\nb_d\nd-1\nb_d", &[2, 4]);
    check("IOTC_DEVICEID\r\nb_d\r\nd-1\r\nb_d\r\n", &[2, 4]);
    check("IOTC_DEVICEID\n\n\nb_d\n\nb_d\n", &[4, 6]);
    check("IOTC_DEVICEID\r\n\r\nb_d\r\n\r\n\r\nb_d", &[3, 6]);
    check("IOTC_DEVICEID,IOTC_DEVICENAME\n\nb_d,\"a\nb\"\nb_d,x", &[3, 5]);
    check("IOTC_DEVICEID,IOTC_DEVICENAME\r\nb_d,\"a\r\n\r\nb\"\r\n\r\nb_d,x", &[2, 6]);
    check("\n\nIOTC_DEVICEID\nb_d\n", &[4]);
}

#[test]
fn a_file_that_is_no_import_is_refused_as_a_whole() {
    let mut fleet = Fleet::new(SqliteWorld::fresh);
    let mut check = |file: &[u8], part: &str| match fleet.registry.imports_mut().stage(&spec("a"), &mut &*file) {
        Err(ImportFailure::File { message, .. }) => assert!(message.contains(part), "{message}: {part}"),
        other => panic!("{part}: {other:?}"),
    };
    check(b"", "empty");
    check(b"name\nx\n", "`name` is not known");
    check(b"IOTC_DEVICENAME\nx\n", "IOTC_DEVICEID");
    check(b"IOTC_DEVICEID,IOTC_DEVICEID\n", "twice");
    check(b"IOTC_DEVICEID,TAG.a..b\n", "TAG.a..b");
    check(b"IOTC_DEVICEID,TAG.$x\n", "TAG.$x");
    // A quote that is never closed does not take the whole file into memory.
    let open = format!("IOTC_DEVICEID\n\"{}", "x".repeat(1 << 20));
    check(open.as_bytes(), "longer than");
    assert!(fleet.ids().is_empty());
}

/// A `null` in a twin and a key with a space are what imports and writes never leave behind.
#[test]
fn a_twin_with_what_no_import_makes_is_observed() {
    let folder = crate::world::folder();
    let path = folder.path().join("fleet.db");
    let registry = sqlite::open(&path, "acme").unwrap();
    let sections = [
        json!({"level": 1}),
        json!({"level": null}),
        json!({}),
        json!({"level": 1, "x": 2}),
        json!({"say \"x\"": 1, "level": {"a": 1}}),
    ];
    let connection = rusqlite::Connection::open(&path).unwrap();
    for (n, desired) in sections.iter().enumerate() {
        let text = "INSERT INTO device SELECT ?1, ?1, NULL, NULL, 'unassociated', 0, 0, 0, 'Disconnected', NULL, NULL,
                        '{}', '{}', ?2, 1, '{}', 1, NULL, NULL";
        connection.execute(text, (format!("d-{n}"), desired.to_string())).unwrap();
    }
    let found = observe(&registry, Section::Desired, &json!({"level": 3}));
    assert_eq!(found.before, [0, 1, 2, 0, 3]);
    let values: Vec<Option<Value>> = found.table.iter().map(|entry| entry.values[0].clone()).collect();
    assert_eq!(values, [Some(json!(1)), Some(Value::Null), None, Some(json!({"a": 1}))]);
    // Nested paths, and a path through what is no object.
    let found = observe(&registry, Section::Desired, &json!({"level": {"a": 2}}));
    let values: Vec<Option<Value>> =
        found.before.iter().map(|at| found.table[*at as usize].values[0].clone()).collect();
    assert_eq!(values, [None, None, None, None, Some(json!(1))]);
    let found = observe(&registry, Section::Desired, &json!({"say \"x\"": 2}));
    let values: Vec<Option<Value>> =
        found.before.iter().map(|at| found.table[*at as usize].values[0].clone()).collect();
    assert_eq!(values, [None, None, None, None, Some(json!(1))]);
}
