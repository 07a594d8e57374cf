//! Import files as spreadsheets and people write them, read by `validate` as by a plan.

use crate::world::{Ran, World};

/// Returns a fleet with one import of a file.
fn world(file: impl AsRef<[u8]>) -> World {
    let world = World::new("{}");
    world.write("devices.csv", file);
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.csv}");
    world.commit("devices");
    world
}

/// Returns what `validate` says; `plan` must say the same of the file.
fn refused(file: impl AsRef<[u8]>) -> String {
    let world = world(file);
    let [validate, plan] = [world.run(&["validate"]), world.run(&["plan"])].map(|ran: Ran| ran.expect(65));
    let note = |text: &str| text.lines().find(|line| line.contains("= note")).unwrap().to_string();
    assert_eq!(note(&validate.stderr), note(&plan.stderr));
    validate.stderr
}

#[test]
fn another_separator_is_named() {
    for (file, word) in [
        ("IOTC_DEVICEID;IOTC_DEVICENAME\nd-1;Lamp\n", "separated by `;`"),
        ("\u{feff}IOTC_DEVICEID;TAG.site\r\nd-1;a\r\n", "separated by `;`"),
        ("IOTC_DEVICEID\tIOTC_DEVICENAME\nd-1\tLamp\n", "separated by tabs"),
        ("IOTC_DEVICEID|TAG.site\nd-1|a\n", "separated by `|`"),
        ("\"IOTC_DEVICEID\";\"TAG.a\"\n\"d-1\";\"a\"\n", "separated by `;`"),
        ("name;IOTC_DEVICEID\nx;d-1\n", "separated by `;`"),
        ("sep=,\nIOTC_DEVICEID\nd-1\n", "the first line is `sep=,`"),
        ("sep=;\nIOTC_DEVICEID;TAG.a\nd-1;x\n", "the first line is `sep=;`"),
    ] {
        let said = refused(file);
        assert!(said.contains(word), "{file:?}: {said}");
        assert!(said.contains("help: "), "{said}");
    }
}

#[test]
fn another_encoding_is_named() {
    let text = "IOTC_DEVICEID,TAG.a\nd-1,x\n";
    let wide = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> { text.encode_utf16().flat_map(bytes).collect() };
    let (little, big) = (wide(u16::to_le_bytes), wide(u16::to_be_bytes));
    for file in [[&b"\xff\xfe"[..], &little].concat(), [&b"\xfe\xff"[..], &big].concat(), little] {
        let said = refused(file);
        assert!(said.contains("the file is UTF-16") && said.contains("UTF-8"), "{said}");
    }
    let said = refused(b"IOTC_DEVICEID,TAG.stra\xdfe\nd-1,x\n");
    assert!(said.contains("column 2 is not UTF-8") && said.contains("Save the file as UTF-8"), "{said}");
}

#[test]
fn empty_columns_and_rows_of_spreadsheets_are_passed_over() {
    for file in [
        "IOTC_DEVICEID,IOTC_DEVICENAME,,\nd-1,Lamp,,\nd-2,Lamp,,\n,,,\n\n",
        "IOTC_DEVICEID,,IOTC_DEVICENAME\nd-1,,Lamp\nd-2,,Lamp\n,,\n",
        // Fewer and more cells than the header, all of them empty.
        "IOTC_DEVICEID,IOTC_DEVICENAME,\nd-1,Lamp\nd-2,Lamp,,,\n , ,\n",
    ] {
        let world = world(file);
        let validate = world.run(&["validate"]).expect(0);
        assert!(!validate.stderr.contains("warning"), "{validate:?}");
        world.apply().unwrap();
        let devices = world.devices();
        assert_eq!(
            devices.iter().map(|device| device.device_name.as_str()).collect::<Vec<_>>(),
            ["Lamp", "Lamp"],
            "{file:?}"
        );
    }
}

#[test]
fn text_without_a_column_is_a_rejected_row_that_validate_sees() {
    let world = world("IOTC_DEVICEID,,TAG.a\nd-1,lost,x\nd-2,,x\nd-3,,x,more\n");
    for command in ["validate", "plan"] {
        let ran = world.run(&[command]).expect(0);
        assert!(ran.stderr.contains("FF653") && ran.stderr.contains("2 of 3 rows"), "{ran:?}");
        assert!(ran.stderr.contains("line 2 `d-1`: it has text in a column without a name"), "{ran:?}");
        assert!(ran.stderr.contains("line 4 `d-3`: the row has 4 cells, and the header has 3"), "{ran:?}");
    }
    assert!(refused("IOTC_DEVICEID\na b\n").contains("FF602"));
    assert!(refused("IOTC_DEVICEID\n").contains("has no row"));
}

#[test]
fn validate_reads_lines_of_iot_hub_too() {
    let world = World::new("{}");
    let lines = "{\"id\": \"d-1\", \"importMode\": \"createOrUpdat\"}\n{\"id\": \"d-2\", \"importMode\": \"merge\"}\n\
                 {\"id\": \"d-3\", \"status\": \"on\"}\n{\"id\": \"d-4\"}\n";
    world.write("devices.jsonl", lines);
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.jsonl}");
    world.commit("devices");
    let ran = world.run(&["validate"]).expect(0);
    assert!(
        ran.stderr.contains("`importMode` `createOrUpdat` is not known: did you mean `createOrUpdate`?"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("`importMode` `merge` is not known"), "{ran:?}");
    assert!(ran.stderr.contains("neither `enabled` nor `disabled`, but `on`"), "{ran:?}");
}

/// Writes the file of an import that blocks what leaves it, and applies.
fn set(world: &World, ids: &[&str]) {
    world.write("devices.csv", format!("IOTC_DEVICEID\n{}\n", ids.join("\n")));
    world.commit("devices");
    world.apply().unwrap();
}

#[test]
fn a_row_that_comes_back_is_unblocked_unless_a_person_blocked_the_device() {
    let world = World::new("{}");
    world.declare("imports.yaml", "DeviceImport", "all", "{file: devices.csv, removed: block}");
    set(&world, &["d-1", "d-2", "d-3", "d-4"]);
    world.run(&["device", "block", "d-4", "--yes"]).expect(0);
    set(&world, &["d-4"]);
    // A person decides about one of those that left.
    world.run(&["device", "block", "d-2", "--yes"]).expect(0);
    let blocked = || -> Vec<String> {
        world.devices().into_iter().filter(|device| device.blocked).map(|device| device.device_id.to_string()).collect()
    };
    assert_eq!(blocked(), ["d-1", "d-2", "d-3", "d-4"]);
    world.write("devices.csv", "IOTC_DEVICEID\nd-1\nd-2\nd-4\n");
    world.commit("back");
    let plan = world.run(&["plan"]).expect(0);
    assert!(plan.stdout.contains("1 updated"), "{plan:?}");
    world.apply().unwrap();
    assert_eq!(blocked(), ["d-2", "d-3", "d-4"]);
    // It is no more the import's than before: blocked again by hand, it stays so.
    world.run(&["device", "block", "d-1", "--yes"]).expect(0);
    set(&world, &["d-1", "d-2", "d-3", "d-4"]);
    assert_eq!(blocked(), ["d-1", "d-2", "d-4"]);
}
