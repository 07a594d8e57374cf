//! Import files as spreadsheets and people write them, read by `validate` as by a plan.

use serde_json::json;

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
        ("SEP=;\nIOTC_DEVICEID;TAG.a\nd-1;x\n", "the first line is `sep=;`"),
        ("sep=\t\nIOTC_DEVICEID\tTAG.a\nd-1\tx\n", "the first line is `sep=a tab`"),
        ("iotc_deviceid;iotc_devicename\nd-1;x\n", "separated by `;`"),
    ] {
        let said = refused(file);
        assert!(said.contains(word), "{file:?}: {said}");
        assert!(said.contains("help: "), "{said}");
    }
}

#[test]
fn rows_with_another_separator_than_the_header_are_named() {
    for (file, word) in [
        ("IOTC_DEVICEID,IOTC_DEVICENAME\nd-1;x\nd-2;y\n", "separated by `;`, and commas are needed"),
        ("IOTC_DEVICEID,IOTC_DEVICENAME\nd-1\tx\n", "separated by tabs, and commas are needed"),
        ("IOTC_DEVICEID,IOTC_DEVICENAME\nd-1\n", "The only row of import `all` was rejected"),
    ] {
        let said = world(file).run(&["validate"]).expect(65).stderr;
        assert!(said.contains(word), "{file:?}: {said}");
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
    let ran =
        self::world("IOTC_DEVICEID,IOTC_DEVICENAME,TAG.a\nd-1,One,x\nd-2,\"Two,x\nd-3,Three,x\n").run(&["validate"]);
    assert!(ran.stderr.contains("look for a quote that is never closed"), "{ran:?}");
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

/// Templates, organizations and an import of a file that lets rows name both.
fn chosen_by_rows(path: &str, file: &str, spec: &str) -> World {
    let world = World::new("{}");
    let model = r#"{"@context": "dtmi:dtdl:context;2", "@id": "dtmi:a:b;1", "@type": "Interface", "contents": []}"#;
    world.write("m.dtdl.json", model);
    for template in ["lamp", "gate"] {
        world.declare(&format!("{template}.yaml"), "DeviceTemplate", template, "{model: m.dtdl.json}");
    }
    world.declare("acme.yaml", "Organization", "acme", "{}");
    world.declare("eu.yaml", "Organization", "eu", "{parent: acme}");
    world.declare("us.yaml", "Organization", "us", "{parent: acme}");
    world.write(path, file);
    world.declare("imports.yaml", "DeviceImport", "all", &format!("{{file: {path}, {spec}}}"));
    world.commit("devices");
    world
}

#[test]
fn rows_name_their_template_and_organization_where_the_import_lets_them() {
    let csv =
        "IOTC_DEVICEID,TEMPLATE,ORGANIZATION,BLOCKED\nd-1,gate,eu,TRUE\nd-2,,,\nd-3,lmap,,\nd-4,,uss,\nd-5,,us,no\n";
    let jsonl = concat!(
        r#"{"id": "d-1", "template": "gate", "organization": "eu", "status": "disabled", "deviceName": "One"}"#,
        "\n",
        r#"{"id": "d-2", "cloudProperties": {"n": 3}, "properties": {"reported": {"t": 21.5}}}"#,
        "\n",
        r#"{"id": "d-3", "template": "lmap"}"#,
        "\n",
        r#"{"id": "d-4", "organization": "uss"}"#,
        "\n",
        r#"{"id": "d-5", "status": "no"}"#,
        "\n",
    );
    for (path, file) in [("d.csv", csv), ("d.jsonl", jsonl)] {
        let spec = "template: lamp, organization: acme, fromRows: [template, organization]";
        let world = chosen_by_rows(path, file, spec);
        let plan = world.run(&["plan"]).expect(0);
        for said in
            ["`lmap` is not declared: did you mean `lamp`?", "`uss` is not declared: did you mean `us`?", "`no`"]
        {
            assert!(plan.stderr.contains(said), "{path}: {said}: {}", plan.stderr);
        }
        world.apply().unwrap();
        let devices = world.devices();
        let of = |at: usize| (devices[at].template.as_deref(), devices[at].organization.as_deref());
        assert_eq!((devices.len(), of(0), of(1)), (2, (Some("gate"), Some("acme/eu")), (Some("lamp"), Some("acme"))));
        // An organization that moves takes the devices of such a file along.
        world.declare("eu.yaml", "Organization", "eu", "{parent: us}");
        world.commit("moved");
        world.apply().unwrap();
        assert_eq!(world.devices()[0].organization.as_deref(), Some("acme/us/eu"), "{path}");
        assert!(world.run(&["plan"]).expect(0).stdout.contains("nothing to do"));
    }
}

#[test]
fn validate_rejects_the_rows_that_a_plan_rejects_for_the_names_in_them() {
    let spec = "template: lamp, organization: acme, fromRows: [template, organization]";
    let line = |id: &str, mode: &str| json!({"id": id, "template": "lmap", "importMode": mode}).to_string() + "\n";
    let known = "{\"id\": \"d-1\", \"template\": \"lamp\"}\n{\"id\": \"d-2\"}\n{\"id\": \"d-3\"}\n{\"id\": \"d-4\"}\n";
    let world = chosen_by_rows("d.jsonl", known, spec);
    world.apply().unwrap();
    // A row that makes no device, deletes it, or changes its twin only, has its template for nothing.
    let modes = [("d-1", "create"), ("d-2", "delete"), ("d-3", "updateTwin"), ("d-4", "update"), ("d-5", "create")];
    world.write("d.jsonl", modes.map(|(id, mode)| line(id, mode)).concat());
    world.commit("modes");
    for command in ["validate", "plan"] {
        let said = world.run(&[command]).expect(0).stderr;
        assert!(said.contains("3 of 5 rows of import `all` are rejected"), "{command}: {said}");
        assert!(said.contains("line 1 `d-1`: its template `lmap` is not declared: did you mean `lamp`?"), "{said}");
    }
    world.write("d.csv", "IOTC_DEVICEID,ORGANIZATION\nd-1,uss\nd-2,\n");
    for (spec, said) in [
        ("fromRows: [organization]", "its organization `uss` is not declared: did you mean `us`?"),
        ("template: lamp", "the row names its organization, and the import does not let rows do that"),
    ] {
        world.declare("imports.yaml", "DeviceImport", "all", &format!("{{file: d.csv, {spec}}}"));
        let found = world.run(&["validate"]).expect(0).stderr;
        assert!(found.contains("1 of 2 rows") && found.contains(said), "{spec}: {found}");
    }
}

#[test]
fn a_row_goes_no_further_than_its_import_lets_it() {
    let csv = "IOTC_DEVICEID,TEMPLATE,ORGANIZATION\nd-1,gate,\nd-2,,us\nd-3,,\n";
    let plan = chosen_by_rows("d.csv", csv, "template: lamp").run(&["plan"]).expect(0);
    for said in ["`fromRows: [template]`", "`fromRows: [organization]`"] {
        assert!(plan.stderr.contains(said), "{}", plan.stderr);
    }
    let spec = "organization: eu, fromRows: [template, organization]";
    let plan = chosen_by_rows("d.csv", csv, spec).run(&["plan"]).expect(0);
    let said = "its organization `acme/us` is not within that of the import, `acme/eu`";
    assert!(plan.stderr.contains(said), "{}", plan.stderr);
    let world = chosen_by_rows("d.csv", csv, spec);
    world.declare("imports.yaml", "DeviceImport", "all", "{file: d.csv, fromRows: [templates]}");
    assert!(world.run(&["validate"]).expect(65).stderr.contains("template"), "an unknown field is told");
}
