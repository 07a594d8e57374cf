//! The contract of a registry, through its public methods: imports, observations and writes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use fleetform::ledger::Claim;
use fleetform::model::device::{Device, DeviceState};
use fleetform::model::digest::Digest;
use fleetform::model::fleet::{ImportFormat, Removed};
use fleetform::model::id::{Name, RunToken};
use fleetform::model::observation::{DeviceIds, Observation};
use fleetform::model::outcome::Reason;
use fleetform::model::patch::{Patch, Section, merge};
use fleetform::registry::{
    Assignment, Change, Chunk, DeviceFilter, ImportFailure, ImportSpec, NewRun, Registry, RegistryError, Request,
    Selection, StagedImport, Touched, sqlite,
};
use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// A registry in a folder of its own.
struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
    registry: Registry,
    /// The last file of each import.
    files: BTreeMap<String, (ImportFormat, String)>,
}

fn now() -> Timestamp {
    "2026-11-20T10:00:00Z".parse().unwrap()
}

fn spec(name: &str) -> ImportSpec {
    ImportSpec {
        name: name.to_string(),
        format: ImportFormat::Csv,
        template: None,
        organization: None,
        simulated: false,
        removed: Removed::Keep,
        others: ["a", "b", "other"].iter().filter(|other| **other != name).map(ToString::to_string).collect(),
        digest: Digest::of_bytes(b"state"),
    }
}

impl Fixture {
    fn new() -> Fixture {
        let folder = crate::world::folder();
        let path = folder.path().join("fleet.db");
        let registry = sqlite::open(&path, "acme").unwrap();
        Fixture { _folder: folder, path, registry, files: BTreeMap::new() }
    }

    /// Stages and applies a file.
    fn import(&mut self, spec: &ImportSpec, file: &str) -> StagedImport {
        let found = self.stage(spec, file);
        self.registry.write(Change::Import { spec, at: now(), outbox: "" }).unwrap();
        found
    }

    /// Stages a file, and asks the owners of devices that it wants.
    fn stage(&mut self, spec: &ImportSpec, file: &str) -> StagedImport {
        let mut found = self.registry.imports_mut().stage(spec, &mut file.as_bytes()).unwrap();
        for owner in self.registry.imports().owners_to_ask().unwrap() {
            let (format, file) = &self.files[&owner];
            self.registry.imports_mut().ask_owner(&owner, *format, &mut file.as_bytes()).unwrap();
        }
        self.registry.imports_mut().settle(spec, &mut found).unwrap();
        let sum = found.new + found.updated + found.unchanged + found.deleted + found.rejected;
        assert_eq!(sum, found.rows, "every row is in one place: {found:?}");
        self.files.insert(spec.name.clone(), (spec.format, file.to_string()));
        found
    }

    /// Returns a registry with devices that have these desired properties: `d-0000`, `d-0001`, …
    fn with_desired(twins: &[Value]) -> Fixture {
        let mut fixture = Fixture::new();
        let rows: String = (0..twins.len()).map(|n| format!("d-{n:04}\n")).collect();
        fixture.import(&spec("all"), &format!("IOTC_DEVICEID\n{rows}"));
        let mut other = rusqlite::Connection::open(&fixture.path).unwrap();
        let transaction = other.transaction().unwrap();
        for (n, twin) in twins.iter().enumerate() {
            let id = format!("d-{n:04}");
            transaction.execute("UPDATE device SET desired = ?2 WHERE device_id = ?1", (id, twin.to_string())).unwrap();
        }
        transaction.commit().unwrap();
        fixture
    }

    fn sql(&self, text: &str) {
        rusqlite::Connection::open(&self.path).unwrap().execute_batch(text).unwrap();
    }

    fn device(&self, id: &str) -> Device {
        self.registry.devices().get(id).unwrap().unwrap_or_else(|| panic!("no device {id}"))
    }

    fn ids(&self) -> Vec<String> {
        let mut ids = Vec::new();
        self.registry
            .each_device::<RegistryError>(&DeviceFilter::default(), |device| {
                ids.push(device.device_id);
                Ok(())
            })
            .unwrap();
        ids
    }

    /// Journals a run over all devices and returns its number.
    fn run(&mut self) -> (i64, Vec<String>) {
        let names = self.ids();
        let ids: DeviceIds = names.iter().map(String::as_str).collect();
        let claim = Claim {
            job: Name::parse("job").unwrap(),
            run: RunToken::default(),
            spec_digest: Digest::of_bytes(b""),
            total: ids.len() as u64,
            targets_digest: Digest::of_texts(ids.iter()),
            source_commit: "c".to_string(),
            plan_id: "p".to_string(),
            claimed_at: now(),
        };
        let new =
            NewRun { claim: &claim, document: String::new(), spec: None, manifest: None, ids: &ids, batch_size: 3 };
        let run = self.registry.write(Change::Claim(new)).unwrap().into_run();
        (run, names)
    }

    /// Writes a patch to all devices.
    fn write(&mut self, section: Section, patch: Value, failures_left: Option<u64>) -> Vec<Reason> {
        let (run_id, names) = self.run();
        let devices: Vec<(u32, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
        let chunk = Chunk { run_id, devices: &devices, failures_left, awaits_acknowledgement: false, now: now() };
        let written = self
            .registry
            .write(Change::Write { assignment: &Assignment::Patch { section, patch }, chunk })
            .unwrap()
            .into_written();
        let ordinals: Vec<u32> = written.iter().map(|(ordinal, _)| *ordinal).collect();
        assert_eq!(ordinals, (0..written.len() as u32).collect::<Vec<_>>(), "one after the other, in order");
        let mut recorded = Vec::new();
        self.registry
            .journal()
            .each_outcome(run_id, &mut |ordinal, reason, _| recorded.push((ordinal, reason)))
            .unwrap();
        assert_eq!(recorded, written, "a write and its outcome are one");
        written.into_iter().map(|(_, reason)| reason).collect()
    }

    fn observe(&self, section: Section, patch: &Value) -> Observation {
        let assignments = Patch::new(patch.as_object().unwrap().clone()).unwrap().assignments();
        let selection = Selection::Matching { template: None, conditions: Vec::new() };
        let touched = Touched::Section { section, assignments };
        self.registry.devices().observe(&Request { touched, ..Request::new(selection, Vec::new()) }).unwrap()
    }
}

#[test]
fn an_import_tells_new_updated_renamed_and_unchanged_rows() {
    let mut fixture = Fixture::new();
    let header = "IOTC_DEVICEID,IOTC_DEVICENAME,TAG.line,CLOUD.owner\n";
    let found = fixture.import(&spec("a"), &format!("{header}d-1,One,1,north\nd-2,Two,1,\nd-3,,,\n"));
    assert_eq!((found.new, found.updated, found.unchanged, found.rejected), (3, 0, 0, 0));
    let device = fixture.device("d-1");
    assert_eq!((device.tags, device.cloud), (json!({"line": "1"}), json!({"owner": "north"})));
    assert_eq!((device.state, fixture.device("d-3").device_name.as_str()), (DeviceState::Unassociated, "d-3"));

    let found = fixture.import(&spec("a"), &format!("{header}d-1,Uno,1,north\nd-2,Two,2,\nd-3,,,\nd-4,Four,,\n"));
    assert_eq!((found.new, found.updated, found.renamed, found.unchanged), (1, 2, 1, 1));
    // An empty cell removes the value; an absent column leaves it as it is.
    fixture.import(&spec("a"), "IOTC_DEVICEID,CLOUD.owner\nd-1,\n");
    let device = fixture.device("d-1");
    assert_eq!((device.tags, device.cloud), (json!({"line": "1"}), json!({})));
}

#[test]
fn devices_get_keys_once() {
    let mut fixture = Fixture::new();
    fixture.import(&spec("a"), "IOTC_DEVICEID,TAG.x\nd-1,1\nd-2,1\n");
    let keys = fixture.registry.devices().keys("d-1").unwrap();
    let (primary, secondary) = (keys.primary_key.clone().unwrap(), keys.secondary_key.clone().unwrap());
    assert_eq!((primary.len(), secondary.len()), (32, 32));
    assert!(primary != secondary && fixture.registry.devices().keys("d-2").unwrap().primary_key != Some(primary));
    fixture.import(&spec("a"), "IOTC_DEVICEID,TAG.x\nd-1,2\nd-2,1\n");
    assert_eq!(fixture.registry.devices().keys("d-1").unwrap(), keys);
}

#[test]
fn rows_that_left_the_file_are_kept_blocked_or_deleted() {
    for (removed, count) in [(Removed::Keep, 0), (Removed::Block, 1), (Removed::Delete, 1)] {
        let mut fixture = Fixture::new();
        let spec = ImportSpec { removed, ..spec("a") };
        fixture.import(&spec, "IOTC_DEVICEID\nd-1\nd-2\n");
        fixture.import(&self::spec("b"), "IOTC_DEVICEID\ne-1\n");
        let found = fixture.import(&spec, "IOTC_DEVICEID\nd-1\n");
        assert_eq!(found.removed, count, "{removed:?}");
        let ids = fixture.ids();
        let has = removed != Removed::Delete;
        assert_eq!(ids.contains(&"d-2".to_string()), has, "{removed:?}");
        assert!(ids.contains(&"e-1".to_string()), "devices of others stay");
        if has {
            assert_eq!(fixture.device("d-2").blocked, removed == Removed::Block);
        } else {
            assert_eq!(fixture.registry.devices().keys("d-2").unwrap().primary_key, None, "its keys go with it");
        }
        // Once more: nothing left to remove.
        assert_eq!(fixture.import(&spec, "IOTC_DEVICEID\nd-1\n").removed, 0, "{removed:?}");
    }
}

#[test]
fn what_is_staged_is_seen_and_not_written() {
    let mut fixture = Fixture::new();
    fixture.import(&ImportSpec { removed: Removed::Delete, ..spec("a") }, "IOTC_DEVICEID,TAG.n\nd-1,1\nd-2,1\n");
    let staged = ImportSpec { removed: Removed::Delete, ..spec("a") };
    fixture.stage(&staged, "IOTC_DEVICEID,TAG.n\nd-1,2\nd-3,3\n");
    fixture.registry.imports_mut().overlay().unwrap();
    assert_eq!(fixture.ids(), ["d-1", "d-3"]);
    assert_eq!(fixture.device("d-1").tags, json!({"n": "2"}));
    let other = sqlite::open_for_reading(&fixture.path, "acme").unwrap();
    assert_eq!(other.devices().count(&Request::all()).unwrap().selected, 2);
    assert_eq!(other.devices().get("d-1").unwrap().unwrap().tags, json!({"n": "1"}));
}

#[test]
fn rows_are_rejected_with_their_line_and_the_others_are_imported() {
    let mut fixture = Fixture::new();
    fixture.import(&spec("other"), "IOTC_DEVICEID\ntaken\n");
    let long = "n".repeat(149);
    let file = format!(
        "IOTC_DEVICEID,IOTC_DEVICENAME\nd-1,One\nno_underscore,x\n\nd-1,Again\n,empty\nd-2,\"two\nlines\"\nd-3\ntaken,x\nd-4,{long}\nd-5,Five\n"
    );
    let found = fixture.import(&spec("a"), &file);
    let errors: Vec<(u64, &str)> = found.errors.iter().map(|error| (error.line, error.message.as_str())).collect();
    let expect = [
        (3, "'_'"),
        (5, "twice"),
        (6, "is empty"),
        (7, "control characters"),
        (9, "1 cells"),
        (10, "import/other"),
        (11, "149 characters"),
    ];
    assert_eq!(errors.len(), expect.len(), "{errors:?}");
    for ((line, message), (expect_line, part)) in errors.iter().zip(expect) {
        assert!(*line == expect_line && message.contains(part), "line {line}: {message}; line {expect_line}: {part}");
    }
    assert_eq!((found.new, found.rejected, found.rows), (2, 7, 9));
    assert_eq!(fixture.ids(), ["d-1", "d-5", "taken"]);
    assert_eq!(fixture.device("d-1").device_name, "One", "the first row counts");
}

#[test]
fn lines_are_those_of_an_editor() {
    let check = |file: &str, expect: &[u64]| {
        let found = Fixture::new().registry.imports_mut().stage(&spec("a"), &mut file.as_bytes()).unwrap();
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
    let mut fixture = Fixture::new();
    let mut check = |file: &[u8], part: &str| match fixture.registry.imports_mut().stage(&spec("a"), &mut &*file) {
        Err(ImportFailure::File { message, .. }) => assert!(message.contains(part), "{message}: {part}"),
        other => panic!("{part}: {other:?}"),
    };
    check(b"", "empty");
    check(b"name\nx\n", "`name` is not known");
    check(b"IOTC_DEVICENAME\nx\n", "IOTC_DEVICEID");
    check(b"IOTC_DEVICEID,IOTC_DEVICEID\n", "twice");
    check(b"IOTC_DEVICEID,TAG.a..b\n", "TAG.a..b");
    check(b"IOTC_DEVICEID,TAG.$x\n", "TAG.$x");
    // A quote that is never closed must not take the whole file into memory.
    let open = format!("IOTC_DEVICEID\n\"{}", "x".repeat(1 << 20));
    check(open.as_bytes(), "longer than");
    assert!(fixture.ids().is_empty());
}

/// A device counts for each row of a file that has it, and for the first import that has it.
#[test]
fn a_device_of_two_staged_files_belongs_to_the_first() {
    let mut fixture = Fixture::new();
    let (a, b) = (spec("a"), spec("b"));
    fixture.registry.imports_mut().stage(&a, &mut &b"IOTC_DEVICEID\nd-1\n"[..]).unwrap();
    let found = fixture.registry.imports_mut().stage(&b, &mut &b"IOTC_DEVICEID\nd-1\nd-2\n"[..]).unwrap();
    assert_eq!((found.new, found.rejected), (1, 1));
    assert!(found.errors[0].message.contains("import/a"), "{:?}", found.errors);
    fixture.registry.write(Change::Import { spec: &a, at: now(), outbox: "" }).unwrap();
    fixture.registry.write(Change::Import { spec: &b, at: now(), outbox: "" }).unwrap();
    assert_eq!(fixture.ids(), ["d-1", "d-2"]);
}

#[test]
fn an_import_that_is_gone_gives_its_devices_up() {
    let mut fixture = Fixture::new();
    fixture.import(&spec("gone"), "IOTC_DEVICEID,TAG.x\nd-1,1\nd-2,1\n");
    let keys = fixture.registry.devices().keys("d-1").unwrap();
    let found = fixture.import(&spec("a"), "IOTC_DEVICEID\nd-1\n");
    assert_eq!((found.updated, found.rejected), (1, 0));
    assert_eq!(
        (fixture.device("d-1").tags, fixture.registry.devices().keys("d-1").unwrap()),
        (json!({"x": "1"}), keys)
    );
    assert_eq!(fixture.import(&spec("a"), "IOTC_DEVICEID\nd-1\n").unchanged, 1);
    assert_eq!(fixture.import(&spec("b"), "IOTC_DEVICEID\nd-1\nd-2\n").rejected, 1, "it has an owner again");
}

#[test]
fn a_write_changes_only_what_differs() {
    let twins = [json!({}), json!({"level": 3}), json!({"level": 2, "color": "red"}), json!({"level": 1}), json!({})];
    let mut fixture = Fixture::with_desired(&twins);
    fixture.sql("UPDATE device SET blocked = 1 WHERE device_id = 'd-0003'");
    let versions: Vec<u64> = (0..5).map(|n| fixture.device(&format!("d-{n:04}")).desired_version).collect();
    let (run_id, names) = fixture.run();
    fixture.sql("DELETE FROM device WHERE device_id = 'd-0004'");
    let devices: Vec<(u32, &str)> = (0..).zip(names.iter().map(String::as_str)).collect();
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: false, now: now() };
    let patch = Assignment::Patch { section: Section::Desired, patch: json!({"level": 3, "old": null}) };
    let reasons: Vec<Reason> = fixture
        .registry
        .write(Change::Write { assignment: &patch, chunk })
        .unwrap()
        .into_written()
        .into_iter()
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(reasons, [Reason::Written, Reason::Unchanged, Reason::Written, Reason::Blocked, Reason::Deleted]);
    assert_eq!(fixture.device("d-0002").desired, json!({"level": 3, "color": "red"}));
    assert_eq!(fixture.device("d-0003").desired, json!({"level": 1}));
    let moved: Vec<u64> = (0..4).map(|n| fixture.device(&format!("d-{n:04}")).desired_version - versions[n]).collect();
    assert_eq!(moved, [1, 0, 1, 0]);
}

#[test]
fn a_write_ends_with_the_failure_that_is_one_too_many() {
    for (left, expect) in [(Some(0), 2), (Some(1), 4), (Some(2), 6), (None, 6)] {
        let mut fixture = Fixture::with_desired(&vec![json!({}); 6]);
        fixture.sql("UPDATE device SET blocked = 1 WHERE device_id IN ('d-0001', 'd-0003')");
        let reasons = fixture.write(Section::Desired, json!({"level": 3}), left);
        assert_eq!(reasons.len(), expect, "{left:?}");
        for n in 0..6 {
            let is_written = n < expect && n != 1 && n != 3;
            let desired = if is_written { json!({"level": 3}) } else { json!({}) };
            assert_eq!(fixture.device(&format!("d-{n:04}")).desired, desired, "{left:?}, {n}");
        }
    }
}

#[test]
fn a_section_that_would_get_too_large_is_left_alone() {
    // Tags may count 8,192: this one is at 8,004.
    let tags = json!({"k1": "x".repeat(4000), "k2": "x".repeat(4000)});
    let mut fixture = Fixture::with_desired(&[json!({}), json!({})]);
    fixture.sql(&format!("UPDATE device SET tags = '{tags}' WHERE device_id = 'd-0000'"));
    let reasons = fixture.write(Section::Tags, json!({"k3": "x".repeat(187)}), None);
    assert_eq!(reasons, [Reason::Error, Reason::Written]);
    assert_eq!(fixture.device("d-0000").tags, tags);

    let mut fixture = Fixture::with_desired(&[json!({})]);
    fixture.sql(&format!("UPDATE device SET tags = '{tags}'"));
    assert_eq!(fixture.write(Section::Tags, json!({"k3": "x".repeat(186)}), None), [Reason::Written]);
}

#[test]
fn an_observation_has_one_entry_for_devices_that_are_alike() {
    let twins = [
        json!({"level": 1}),
        json!({"level": null}),
        json!({}),
        json!({"level": 1, "x": 2}),
        json!({"level": {"a": 1}}),
    ];
    let mut fixture = Fixture::with_desired(&twins);
    let found = fixture.observe(Section::Desired, &json!({"level": 3}));
    assert_eq!(found.ids.iter().collect::<Vec<_>>(), fixture.ids());
    assert_eq!(found.before, [0, 1, 2, 0, 3]);
    let values: Vec<Option<Value>> = found.table.iter().map(|entry| entry.values[0].clone()).collect();
    assert_eq!(values, [Some(json!(1)), Some(Value::Null), None, Some(json!({"a": 1}))]);
    // Nested paths, and a path through what is no object.
    let found = fixture.observe(Section::Desired, &json!({"level": {"a": 2}}));
    let values: Vec<Option<Value>> =
        found.before.iter().map(|at| found.table[*at as usize].values[0].clone()).collect();
    assert_eq!(values, [None, None, None, None, Some(json!(1))]);
    fixture.import(&spec("more"), "IOTC_DEVICEID\nz-1\n");
    fixture.sql("UPDATE device SET blocked = 1 WHERE device_id = 'd-0000'");
    let found = fixture.observe(Section::Desired, &json!({"level": 3}));
    assert_eq!(found.table.iter().filter(|entry| entry.blocked).count(), 1);
}

#[test]
fn awkward_keys_are_found() {
    let keys = ["it's", "say \"x\"", "back\\slash", "ü", "a-b", "0", "[0]", "*", "%", "a/b", "true", "\u{1F600}"];
    for key in keys {
        let twin = json!({key: {"inner": 1}});
        let mut fixture = Fixture::with_desired(&[twin.clone(), json!({})]);
        let found = fixture.observe(Section::Desired, &json!({key: {"inner": 2}}));
        let values: Vec<Option<Value>> =
            found.before.iter().map(|at| found.table[*at as usize].values[0].clone()).collect();
        assert_eq!(values, [Some(json!(1)), None], "{key}");
        assert_eq!(fixture.write(Section::Desired, json!({key: {"inner": 2}}), None), [Reason::Written; 2], "{key}");
        assert_eq!(fixture.device("d-0000").desired, json!({key: {"inner": 2}}), "{key}");
    }
}

#[test]
fn many_values_are_told_together_and_counts_stay_exact() {
    let twins: Vec<Value> = (0..5_000).map(|n| json!({"level": n})).collect();
    let fixture = Fixture::with_desired(&twins);
    // The device that is as desired comes late, after the table is full.
    let found = fixture.observe(Section::Desired, &json!({"level": 4_999}));
    assert!(found.table.len() <= 4_096 + 3, "{}", found.table.len());
    assert_eq!(found.before.len(), 5_000);
    assert_eq!(found.table[found.before[4_998] as usize].values, [Some(json!("(various)"))]);
    let unchanged = found.before.iter().filter(|at| found.table[**at as usize].values == [Some(json!(4_999))]).count();
    assert_eq!(unchanged, 1);
}

#[test]
fn devices_that_are_named_and_not_there_are_missing() {
    let fixture = Fixture::with_desired(&[json!({}), json!({})]);
    let selection = Selection::Listed(vec!["d-0001".to_string(), "x-1".to_string(), "x-2".to_string()]);
    let request = Request::new(selection, Vec::new());
    let found = fixture.registry.devices().observe(&request).unwrap();
    assert_eq!(found.ids.iter().collect::<Vec<_>>(), ["d-0001"]);
    assert_eq!(found.missing, ["x-1", "x-2"]);
}

#[test]
fn an_organization_has_the_devices_below_it_and_no_others() {
    let mut fixture = Fixture::new();
    for (n, path) in ["acme", "acme/eu", "acme/eu/nl", "acme-x", "acme/eu2", "acme0"].iter().enumerate() {
        let spec = ImportSpec { organization: Some(path.to_string()), ..spec(&format!("i{n}")) };
        fixture.import(&spec, &format!("IOTC_DEVICEID\nd-{n}\n"));
    }
    let below = |path: &str| {
        let filter = DeviceFilter { organization: Some(path.to_string()), ..DeviceFilter::default() };
        fixture.registry.devices().count(&filter.request()).unwrap().selected
    };
    assert_eq!((below("acme"), below("acme/eu"), below("acme/eu/nl"), below("acm")), (4, 2, 1, 0));
}

fn twin_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-1000_i64..1000).prop_map(Value::from),
        (-1.0e6..1.0e6_f64).prop_map(Value::from),
        "[ -~é\\n\"'\\\\]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::btree_map("[a-d'\"\\\\]{1,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::btree_map("[a-d'\"\\\\]{1,2}", twin_value(), 0..5).prop_map(|map| map.into_iter().collect())
}

/// Puts `null` where the bits say.
fn with_removals(value: &mut Value, bits: &mut u64) {
    if let Value::Object(members) = value {
        for member in members.values_mut() {
            *bits = bits.rotate_right(1);
            if *bits & 1 == 1 {
                *member = Value::Null;
            } else {
                with_removals(member, bits);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// What SQLite's `json_patch` and the reference make of the same twins is the same, and so is what counts as
    /// unchanged.
    #[test]
    fn a_patch_in_sql_is_the_patch_of_the_reference(
        twins in prop::collection::vec(object(), 1..12),
        patch in object(),
        mut bits in any::<u64>(),
    ) {
        let mut patch = Value::Object(patch);
        with_removals(&mut patch, &mut bits);
        let twins: Vec<Value> = twins.into_iter().map(Value::Object).collect();
        let mut fixture = Fixture::with_desired(&twins);
        let reasons = fixture.write(Section::Desired, patch.clone(), None);
        for (n, (before, reason)) in twins.iter().zip(reasons).enumerate() {
            let mut after = before.clone();
            merge(&mut after, &patch);
            prop_assert_eq!(fixture.device(&format!("d-{n:04}")).desired, after.clone(), "{} and {}", before, patch);
            let expect = if after == *before { Reason::Unchanged } else { Reason::Written };
            prop_assert_eq!(reason, expect, "{} and {}", before, patch);
        }
    }
}
