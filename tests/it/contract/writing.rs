//! Writes of a job: each device with its outcome, one after the other.

use std::collections::BTreeSet;

use fleetform::model::device::{Device, DeviceState};
use fleetform::model::digest::Digest;
use fleetform::model::id::Name;
use fleetform::model::marks::Marks;
use fleetform::model::outcome::Reason;
use fleetform::model::patch::{Patch, Section, merge};
use fleetform::registry::{Assignment, Change, Chunk, ImportSpec, PendingRows, ResultRow, Waits};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Map, Value, json};

use super::Fresh;
use super::fleet::{Fleet, hub, hub_spec, now, spec};

/// Writes to all devices that a run over them has, and returns its number and what became of them.
fn assign(fleet: &mut Fleet, job: &str, assignment: &Assignment, awaits_acknowledgement: bool) -> (i64, Vec<Reason>) {
    let run_id = fleet.run(job);
    let ids = fleet.target();
    let devices: Vec<(u32, &str)> = (0..).zip(ids.iter()).collect();
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement, now: now() };
    let written = fleet.registry.write(Change::Write { assignment, chunk }).unwrap().into_written();
    (run_id, written.into_iter().map(|(_, reason)| reason).collect())
}

fn rows(fleet: &Fleet, run_id: i64) -> Vec<ResultRow> {
    let ids = fleet.registry.journal().targets(run_id).unwrap();
    let end = u32::try_from(ids.len()).unwrap();
    let mut rows = Vec::new();
    let mut keep = |row| rows.push(row);
    fleet.registry.journal().each_result(run_id, &ids, 0..end, PendingRows::Omitted, &mut keep).unwrap();
    rows
}

/// A device whose sections have a value each, and its twin after a write to one of them.
fn written_section(fresh: Fresh, section: Section) -> (Device, Device) {
    let mut fleet = Fleet::new(fresh);
    let line = json!({
        "id": "d-1",
        "tags": {"x": 1},
        "properties": {"desired": {"x": 2, "$version": 5}, "reported": {"x": 3, "$version": 8}},
    });
    fleet.import(&hub_spec("a"), &hub(&[line]));
    assert_eq!(fleet.write(Section::Cloud, json!({"x": 4}), None), [Reason::Written]);
    let before = fleet.device("d-1");
    assert_eq!(fleet.write(section, json!({"x": null, "y": 9}), None), [Reason::Written]);
    let after = fleet.device("d-1");
    (before, after)
}

pub fn a_write_changes_only_what_differs(fresh: Fresh) {
    let twins = [json!({}), json!({"level": 3}), json!({"level": 2, "color": "red"}), json!({"level": 1}), json!({})];
    let mut fleet = Fleet::with_desired(fresh, &twins);
    fleet.block(&["d-0003"]);
    let versions: Vec<u64> = (0..5).map(|n| fleet.device(&format!("d-{n:04}")).desired_version).collect();
    let (run_id, ids) = (fleet.run("job"), fleet.target());
    fleet.delete(&["d-0004"]);
    let devices: Vec<(u32, &str)> = (0..).zip(ids.iter()).collect();
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: false, now: now() };
    let patch = Assignment::patch(Section::Desired, json!({"level": 3, "old": null}));
    let reasons: Vec<Reason> = fleet
        .registry
        .write(Change::Write { assignment: &patch, chunk })
        .unwrap()
        .into_written()
        .into_iter()
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(reasons, [Reason::Written, Reason::Unchanged, Reason::Written, Reason::Blocked, Reason::Deleted]);
    assert_eq!(fleet.device("d-0002").desired, json!({"level": 3, "color": "red"}));
    assert_eq!(fleet.device("d-0003").desired, json!({"level": 1}));
    let moved: Vec<u64> = (0..4).map(|n| fleet.device(&format!("d-{n:04}")).desired_version - versions[n]).collect();
    assert_eq!(moved, [1, 0, 1, 0]);
}

pub fn a_write_ends_with_the_failure_that_is_one_too_many(fresh: Fresh) {
    for (left, expect) in [(Some(0), 2), (Some(1), 4), (Some(2), 6), (None, 6)] {
        let mut fleet = Fleet::with_desired(fresh, &vec![json!({}); 6]);
        fleet.block(&["d-0001", "d-0003"]);
        let reasons = fleet.write(Section::Desired, json!({"level": 3}), left);
        assert_eq!(reasons.len(), expect, "{left:?}");
        for n in 0..6 {
            let is_written = n < expect && n != 1 && n != 3;
            let desired = if is_written { json!({"level": 3}) } else { json!({}) };
            assert_eq!(fleet.device(&format!("d-{n:04}")).desired, desired, "{left:?}, {n}");
        }
    }
}

pub fn a_section_that_would_get_too_large_is_left_alone(fresh: Fresh) {
    // Tags may count 8,192: this one is at 8,004.
    let tags = json!({"k1": "x".repeat(4000), "k2": "x".repeat(4000)});
    let mut fleet = Fleet::with_tags(fresh, &[tags.clone(), json!({})]);
    let reasons = fleet.write(Section::Tags, json!({"k3": "x".repeat(187)}), None);
    assert_eq!(reasons, [Reason::Error, Reason::Written]);
    assert_eq!(fleet.device("d-0000").tags, tags);

    let mut fleet = Fleet::with_tags(fresh, &[tags]);
    assert_eq!(fleet.write(Section::Tags, json!({"k3": "x".repeat(186)}), None), [Reason::Written]);
}

pub fn a_write_that_failed_says_why(fresh: Fresh) {
    let tags = json!({"k1": "x".repeat(4000), "k2": "x".repeat(4000)});
    let mut fleet = Fleet::with_tags(fresh, &[tags, json!({}), json!({}), json!({"a": 1})]);
    fleet.block(&["d-0001"]);
    let (run_id, ids) = (fleet.run("job"), fleet.target());
    fleet.delete(&["d-0002"]);
    let devices: Vec<(u32, &str)> = (0..).zip(ids.iter()).collect();
    let chunk = Chunk { run_id, devices: &devices, failures_left: None, awaits_acknowledgement: false, now: now() };
    let patch = json!({"a": 1, "k3": "x".repeat(187)});
    let assignment = Assignment::patch(Section::Tags, patch);
    fleet.registry.write(Change::Write { assignment: &assignment, chunk }).unwrap();
    let said: Vec<(Reason, String)> =
        rows(&fleet, run_id).into_iter().map(|row| (row.outcome.reason, row.outcome.message)).collect();
    let expect = [
        (Reason::Error, "the section would count 8202 bytes, and at most 8192 are allowed (it counts 8004 now)"),
        (Reason::Blocked, "it was blocked"),
        (Reason::Deleted, "it is no longer in the registry"),
        (Reason::Written, ""),
    ];
    assert_eq!(said, expect.map(|(reason, message)| (reason, message.to_string())));
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

/// What a store and the reference make of the same twins is the same, and so is what counts as unchanged.
pub fn a_patch_is_that_of_the_reference(fresh: Fresh) {
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    let input = (prop::collection::vec(object(), 1..12), object(), any::<u64>());
    let checked = TestRunner::new(config).run(&input, |(twins, patch, mut bits)| {
        let mut patch = Value::Object(patch);
        with_removals(&mut patch, &mut bits);
        let twins: Vec<Value> = twins.into_iter().map(Value::Object).collect();
        let mut fleet = Fleet::with_desired(fresh, &twins);
        let reasons = fleet.write(Section::Desired, patch.clone(), None);
        for (n, (before, reason)) in twins.iter().zip(reasons).enumerate() {
            let mut after = before.clone();
            merge(&mut after, &patch);
            prop_assert_eq!(fleet.device(&format!("d-{n:04}")).desired, after.clone(), "{} and {}", before, patch);
            let expect = if after == *before { Reason::Unchanged } else { Reason::Written };
            prop_assert_eq!(reason, expect, "{} and {}", before, patch);
        }
        Ok(())
    });
    checked.unwrap();
}

pub fn a_write_of_awkward_keys_is_found_again(fresh: Fresh) {
    let keys = ["it's", "say\"x\"", "back\\slash", "ü", "a-b", "0", "[0]", "*", "%", "a/b", "true", "\u{1F600}"];
    for key in keys {
        let twin = json!({key: {"inner": 1}});
        let mut fleet = Fleet::with_desired(fresh, &[twin, json!({})]);
        assert_eq!(fleet.write(Section::Desired, json!({key: {"inner": 2}}), None), [Reason::Written; 2], "{key}");
        assert_eq!(fleet.device("d-0000").desired, json!({key: {"inner": 2}}), "{key}");
        assert_eq!(fleet.write(Section::Desired, json!({key: {"inner": 2}}), None), [Reason::Unchanged; 2], "{key}");
    }
}

pub fn a_write_of_tags_changes_tags(fresh: Fresh) {
    let (before, after) = written_section(fresh, Section::Tags);
    assert_eq!(after, Device { tags: json!({"y": 9}), ..before });
}

pub fn a_write_of_cloud_properties_changes_them(fresh: Fresh) {
    let (before, after) = written_section(fresh, Section::Cloud);
    assert_eq!(after, Device { cloud: json!({"y": 9}), ..before });
}

pub fn a_write_of_the_reported_section_changes_that_one_only(fresh: Fresh) {
    let (before, after) = written_section(fresh, Section::Reported);
    assert_eq!((before.desired_version, before.reported_version), (5, 8));
    assert_eq!(after, Device { reported: json!({"y": 9}), reported_version: 9, ..before });
}

pub fn a_template_is_assigned(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("a"), "IOTC_DEVICEID\nd-1\n");
    fleet.import(&ImportSpec { template: Some("lamp".to_string()), ..spec("b") }, "IOTC_DEVICEID\nd-2\n");
    fleet.import(&ImportSpec { template: Some("heater".to_string()), ..spec("other") }, "IOTC_DEVICEID\nd-3\n");
    let (_, reasons) = assign(&mut fleet, "job", &Assignment::Template("lamp".to_string()), false);
    assert_eq!(reasons, [Reason::Written, Reason::Unchanged, Reason::Written]);
    for id in ["d-1", "d-2", "d-3"] {
        let device = fleet.device(id);
        assert_eq!((device.template.as_deref(), device.state), (Some("lamp"), DeviceState::Registered), "{id}");
    }
}

pub fn an_edge_manifest_is_assigned_with_its_digest(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    let manifest =
        |content: &[u8]| Assignment::EdgeManifest { name: "m".to_string(), digest: Digest::of_bytes(content) };
    let digest = |fleet: &Fleet| fleet.registry.devices().edge_manifest_digest("d-0000").unwrap();
    assert_eq!(digest(&fleet), None);
    assert_eq!(assign(&mut fleet, "first", &manifest(b"1"), false).1, [Reason::Written]);
    assert_eq!(fleet.device("d-0000").edge_manifest.as_deref(), Some("m"));
    assert_eq!(digest(&fleet), Some(Digest::of_bytes(b"1").to_string()));
    assert_eq!(assign(&mut fleet, "again", &manifest(b"1"), false).1, [Reason::Unchanged]);
    // The same name with another content is another manifest.
    assert_eq!(assign(&mut fleet, "other", &manifest(b"2"), false).1, [Reason::Written]);
    assert_eq!(digest(&fleet), Some(Digest::of_bytes(b"2").to_string()));
    assert_eq!(fleet.registry.devices().edge_manifest_digest("gone").unwrap(), None);
}

pub fn a_written_device_that_must_acknowledge_is_marked(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({}), json!({"$version": 41, "level": 1}), json!({})]);
    let assignment = Assignment::patch(Section::Desired, json!({"level": 3}));
    let (run_id, reasons) = assign(&mut fleet, "job", &assignment, true);
    assert_eq!(reasons, [Reason::Written; 3]);
    assert_eq!(fleet.outcomes(run_id), []);
    let journal = fleet.registry.journal();
    assert_eq!(fleet.marked(run_id), [0, 1, 2]);
    assert_eq!(journal.waiting(run_id, Waits::ToAcknowledge, 10).unwrap(), (3, vec![0, 1, 2]));
    assert_eq!(journal.written_versions(run_id, &[2, 1, 0]).unwrap(), [2, 42, 2]);
    assert_eq!(fleet.device("d-0001").desired_version, 42);
}

pub fn a_mark_is_written_to_devices_of_its_templates(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    for (import, template) in [("a", Some("lamp")), ("b", Some("heater")), ("c", None)] {
        let spec = ImportSpec { template: template.map(str::to_string), ..spec(import) };
        fleet.import(&spec, &format!("IOTC_DEVICEID\n{import}-1\n{import}-2\n"));
    }
    let patch = json!({"fan": {"on": true}});
    let members = Patch::new(patch.as_object().unwrap().clone()).unwrap();
    let marks = Marks::of(&members, |_| BTreeSet::from([Name::parse("lamp").unwrap()]));
    let assignment = Assignment::Patch { patches: vec![(Section::Desired, patch.clone())], marks };
    assert_eq!(assign(&mut fleet, "first", &assignment, false).1, [Reason::Written; 6]);
    assert_eq!(fleet.device("a-2").desired, json!({"fan": {"__t": "c", "on": true}}));
    assert_eq!(["b-1", "c-2"].map(|id| fleet.device(id).desired), [patch.clone(), patch]);
    assert_eq!(assign(&mut fleet, "again", &assignment, true).1, [Reason::Unchanged; 6]);
}

pub fn tags_and_desired_properties_are_written_together(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let line =
        |id: &str, tags: Value, desired: Value| json!({"id": id, "tags": tags, "properties": {"desired": desired}});
    let large = json!({"k1": "x".repeat(4000), "k2": "x".repeat(4000)});
    let lines = [
        line("d-0", json!({"ring": "a"}), json!({"list": [1, 2, 3], "real": 1.0})),
        line("d-1", json!({"ring": "b"}), json!({"list": [1, 2], "real": 1})),
        line("d-2", json!({"ring": "a"}), json!({"list": [1, 2], "real": 1})),
        line("d-3", json!({}), json!({"real": 2})),
        line("d-4", large.clone(), json!({"list": [1, 2], "real": 1})),
        line("d-5", large, json!({"list": [1], "real": 1})),
    ];
    fleet.import(&hub_spec("a"), &hub(&lines));
    let before: Vec<Device> = (0..6).map(|n| fleet.device(&format!("d-{n}"))).collect();
    let patches = vec![
        (Section::Tags, json!({"ring": "b", "note": "x".repeat(187)})),
        (Section::Desired, json!({"list": [1, 2], "real": 1, "old": null})),
    ];
    let assignment = Assignment::Patch { patches, marks: Marks::default() };
    let (_, reasons) = assign(&mut fleet, "first", &assignment, false);
    let (written, unchanged) = (Reason::Written, Reason::Unchanged);
    assert_eq!(reasons, [written, written, written, written, Reason::Error, Reason::Error]);
    let after: Vec<Device> = (0..6).map(|n| fleet.device(&format!("d-{n}"))).collect();
    for device in &after[..4] {
        assert_eq!((&device.tags["ring"], &device.desired["list"]), (&json!("b"), &json!([1, 2])), "{device:?}");
    }
    // Of a device that would have too many tags, the desired properties stay as they are, too.
    for n in 4..6 {
        assert_eq!((&after[n].tags, &after[n].desired), (&before[n].tags, &before[n].desired), "d-{n}");
    }
    // A version counts the writes of its own section.
    let moved = after.iter().zip(&before).map(|(after, before)| after.desired_version - before.desired_version);
    assert_eq!(moved.collect::<Vec<_>>(), [1, 0, 0, 1, 0, 0]);
    fleet.block(&["d-1"]);
    let (_, reasons) = assign(&mut fleet, "again", &assignment, true);
    assert_eq!(reasons[..4], [unchanged, Reason::Blocked, unchanged, unchanged]);
}

pub fn marks_of_desired_properties_are_no_tags(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&ImportSpec { template: Some("lamp".to_string()), ..spec("a") }, "IOTC_DEVICEID\nd-1\n");
    let patch = json!({"fan": {"on": true}});
    let members = Patch::new(patch.as_object().unwrap().clone()).unwrap();
    let marks = Marks::of(&members, |_| BTreeSet::from([Name::parse("lamp").unwrap()]));
    let patches = vec![(Section::Tags, patch.clone()), (Section::Desired, patch.clone())];
    let assignment = Assignment::Patch { patches, marks };
    assert_eq!(assign(&mut fleet, "first", &assignment, false).1, [Reason::Written]);
    let device = fleet.device("d-1");
    assert_eq!((device.tags, device.desired), (patch, json!({"fan": {"__t": "c", "on": true}})));
    assert_eq!(assign(&mut fleet, "again", &assignment, false).1, [Reason::Unchanged]);
}

pub fn a_device_that_needed_no_write_is_done(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({"level": 3}), json!({}), json!({})]);
    fleet.block(&["d-0002"]);
    let assignment = Assignment::patch(Section::Desired, json!({"level": 3}));
    let (run_id, reasons) = assign(&mut fleet, "job", &assignment, true);
    assert_eq!(reasons, [Reason::Unchanged, Reason::Written, Reason::Blocked]);
    assert_eq!(fleet.outcomes(run_id), [(0, Reason::Unchanged), (2, Reason::Blocked)]);
    assert_eq!(fleet.marked(run_id), [1]);
    assert_eq!(fleet.registry.journal().written_versions(run_id, &[0, 1, 2]).unwrap(), [0, 2, 0]);
}

pub fn a_write_counts_attempts(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({"level": 3}), json!({}), json!({})]);
    fleet.block(&["d-0002"]);
    let assignment = Assignment::patch(Section::Desired, json!({"level": 3}));
    let (run_id, _) = assign(&mut fleet, "job", &assignment, false);
    for (row, attempts) in rows(&fleet, run_id).iter().zip([0, 1, 0]) {
        assert_eq!(row.outcome.attempts, attempts, "{row:?}");
        assert_eq!((row.outcome.started_at, row.outcome.finished_at), (Some(now()), Some(now())));
    }
}
