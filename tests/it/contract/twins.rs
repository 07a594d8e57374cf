//! Twins that are written at once, one at a time.

use fleetform::model::device::Device;
use fleetform::model::limits;
use fleetform::model::patch::Section;
use fleetform::query;
use fleetform::registry::{Change, TwinWrite, twin_etag};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, matching, observed};

/// A write of `d-0000`.
#[derive(Default)]
struct Write {
    if_match: Option<String>,
    tags: Option<Value>,
    desired: Option<Value>,
    replaces: bool,
}

fn answer(fleet: &mut Fleet, device_id: &str, write: &Write) -> TwinWrite {
    let change = Change::WriteTwin {
        device_id,
        if_match: write.if_match.as_deref(),
        tags: write.tags.as_ref(),
        desired: write.desired.as_ref(),
        replaces: write.replaces,
    };
    fleet.registry.write(change).unwrap().into_twin()
}

/// Writes, and returns the device and what it is to be told.
#[track_caller]
fn written(fleet: &mut Fleet, write: &Write) -> (Device, Option<Value>) {
    match answer(fleet, "d-0000", write) {
        TwinWrite::Written { device, desired_changed } => {
            assert_eq!(*device, fleet.device("d-0000"), "it is answered as it is kept");
            (*device, desired_changed)
        }
        refused => panic!("{refused:?}"),
    }
}

fn patch(tags: Option<Value>, desired: Option<Value>) -> Write {
    Write { tags, desired, ..Write::default() }
}

fn whole(tags: Option<Value>, desired: Option<Value>) -> Write {
    Write { tags, desired, replaces: true, ..Write::default() }
}

pub fn a_merge_patch_changes_what_it_names(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({"net": {"a": 1, "b": 2}, "level": 1, "list": [1, {"x": 1}]})]);
    let before = fleet.device("d-0000");
    let desired = json!({"net": {"a": null, "c": {"d": 3}}, "list": [2], "level": 1, "none": null});
    let (device, told) = written(&mut fleet, &patch(Some(json!({"zone": {"floor": 1}})), Some(desired)));
    assert_eq!(device.desired, json!({"net": {"b": 2, "c": {"d": 3}}, "level": 1, "list": [2]}));
    assert_eq!(device.tags, json!({"zone": {"floor": 1}}));
    assert_eq!(device.desired_version, before.desired_version + 1);
    assert_eq!(told, Some(json!({"net": {"a": null, "c": {"d": 3}}, "list": [2]})));
    assert_eq!((device.reported, device.reported_version), (before.reported, before.reported_version));
}

pub fn a_whole_section_takes_the_place_of_the_old_one(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({"net": {"a": 1, "b": 2}, "level": 1})]);
    written(&mut fleet, &patch(Some(json!({"zone": 1})), None));
    let before = fleet.device("d-0000").desired_version;
    let desired = json!({"net": {"b": 2}, "lux": {"x": null, "y": 1}});
    let (device, told) = written(&mut fleet, &whole(None, Some(desired)));
    assert_eq!(device.desired, json!({"net": {"b": 2}, "lux": {"y": 1}}), "no member of a twin is null");
    assert_eq!((device.tags, device.desired_version), (json!({"zone": 1}), before + 1));
    assert_eq!(told, Some(json!({"net": {"a": null}, "level": null, "lux": {"y": 1}})));
    let (device, told) = written(&mut fleet, &whole(Some(json!({})), Some(json!({}))));
    assert_eq!((device.tags, device.desired, device.desired_version), (json!({}), json!({}), before + 2));
    assert_eq!(told, Some(json!({"net": null, "lux": null})));
}

pub fn a_write_of_tags_leaves_the_desired_properties(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({"level": 1}), json!({"level": 1})]);
    let before = fleet.device("d-0000");
    for write in [patch(Some(json!({"zone": 1})), None), whole(Some(json!({"zone": 2})), None)] {
        let (device, told) = written(&mut fleet, &write);
        assert_eq!((&device.desired, device.desired_version), (&before.desired, before.desired_version));
        assert_eq!((device.tags, told), (write.tags.unwrap(), None));
    }
    // An empty merge patch says nothing of its section.
    let (device, _) = written(&mut fleet, &patch(None, Some(json!({}))));
    assert_eq!(device.desired_version, before.desired_version);
    assert_eq!(fleet.device("d-0001").tags, json!({}), "another device stays as it was");
}

pub fn a_write_of_the_same_properties_counts_and_tells_nothing(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({"level": 1})]);
    let before = fleet.device("d-0000").desired_version;
    let (device, told) = written(&mut fleet, &whole(None, Some(json!({"level": 1}))));
    assert_eq!((device.desired_version, told), (before + 1, None));
    let (device, told) = written(&mut fleet, &patch(None, Some(json!({"level": 1, "lux": null}))));
    assert_eq!((device.desired_version, told), (before + 2, None));
    assert_eq!(device.desired, json!({"level": 1}));
}

pub fn a_stale_etag_writes_nothing(fresh: Fresh) {
    let mut fleet = Fleet::with_desired(fresh, &[json!({"level": 1})]);
    let etag = |fleet: &Fleet| {
        let device = fleet.device("d-0000");
        Some(twin_etag(&device.tags, &device.desired))
    };
    let first = etag(&fleet);
    let level = |if_match: &Option<String>, level: u8| Write {
        if_match: if_match.clone(),
        desired: Some(json!({"level": level})),
        ..Write::default()
    };
    written(&mut fleet, &level(&first, 2));
    let before = fleet.device("d-0000");
    assert_eq!(answer(&mut fleet, "d-0000", &level(&first, 3)), TwinWrite::Stale);
    assert_eq!(fleet.device("d-0000"), before);
    let second = etag(&fleet);
    written(&mut fleet, &level(&second, 3));
    // A blocked device has a twin as any other.
    fleet.block(&["d-0000"]);
    let third = etag(&fleet);
    assert_eq!(written(&mut fleet, &level(&third, 4)).0.desired, json!({"level": 4}));
}

pub fn a_device_that_is_not_there_has_no_twin(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    for id in ["d-0001", "D-0000", "x\u{0}"] {
        assert_eq!(answer(&mut fleet, id, &patch(Some(json!({"a": 1})), None)), TwinWrite::Unknown, "{id:?}");
    }
    assert_eq!(fleet.ids(), ["d-0000"]);
}

pub fn a_twin_does_not_outgrow_its_sections(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    // A section of one key and texts that counts so many bytes.
    let counting = |size: usize| {
        let most = limits::TWIN_STRING_BYTES_MAX;
        let texts = (0..size.div_ceil(most)).map(|n| "x".repeat(most.min(size - 1 - (n * most).min(size - 1))));
        json!({"k": texts.collect::<Vec<_>>()})
    };
    let (tags, desired) = (counting(limits::TAGS_SIZE_MAX), counting(limits::PROPERTIES_SIZE_MAX));
    written(&mut fleet, &patch(Some(tags), Some(desired)));
    let before = fleet.device("d-0000");
    let more = Some(json!({"l": 1}));
    assert_eq!(answer(&mut fleet, "d-0000", &patch(more.clone(), None)), TwinWrite::TooLarge(Section::Tags));
    let both = patch(Some(json!({"k": 1})), more);
    assert_eq!(answer(&mut fleet, "d-0000", &both), TwinWrite::TooLarge(Section::Desired));
    let larger = whole(None, Some(counting(limits::PROPERTIES_SIZE_MAX + 1)));
    assert_eq!(answer(&mut fleet, "d-0000", &larger), TwinWrite::TooLarge(Section::Desired));
    assert_eq!(fleet.device("d-0000"), before, "all of it is written or nothing");
    written(&mut fleet, &patch(Some(json!({"k": 1, "l": 1})), Some(json!({"k": null, "l": 1}))));
}

pub fn secrets_survive_what_does_not_touch_them(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    fleet.registry.write(Change::MakeSecretKey).unwrap();
    let mark = fleet.registry.secret_key().unwrap().unwrap().mark("hunter2-contract");
    fleet.write(Section::Desired, json!({"wifi": {"psk": mark, "ssid": "a"}, "keys": [mark]}), None);
    let (device, told) = written(&mut fleet, &patch(None, Some(json!({"wifi": {"ssid": "b"}}))));
    assert_eq!(device.desired, json!({"wifi": {"psk": mark, "ssid": "b"}, "keys": [mark]}));
    assert_eq!(told, Some(json!({"wifi": {"ssid": "b"}})));
    // What was read is written back: people see other texts in place of the marks.
    let mut shown = device.desired_with_version();
    assert_eq!((&shown["wifi"]["psk"], &shown["keys"]), (&json!("(secret)"), &json!(["(secret)"])));
    shown.as_object_mut().unwrap().remove("$version");
    shown["more"] = json!({"psk": "(secret)", "level": 1});
    for replaces in [false, true] {
        let (device, told) = written(&mut fleet, &Write { desired: Some(shown.clone()), replaces, ..Write::default() });
        let expect = json!({"wifi": {"psk": mark, "ssid": "b"}, "keys": [mark], "more": {"level": 1}});
        assert_eq!(device.desired, expect, "{replaces}");
        assert_eq!(told, (!replaces).then(|| json!({"more": {"level": 1}})));
    }
    // Nobody gives a device the mark of another secret, and a secret is replaced or removed as any value is.
    let forged = fleet.registry.secret_key().unwrap().unwrap().mark("another one");
    let (device, told) = written(&mut fleet, &patch(None, Some(json!({"more": forged, "keys": ["mine"]}))));
    assert_eq!((&device.desired["more"], &device.desired["keys"]), (&json!({"level": 1}), &json!(["mine"])));
    assert_eq!(told, Some(json!({"keys": ["mine"]})));
    let (device, told) = written(&mut fleet, &whole(None, Some(json!({"more": 1}))));
    assert_eq!(device.desired, json!({"more": 1}));
    assert_eq!(told, Some(json!({"wifi": null, "keys": null, "more": 1})));
}

pub fn what_is_written_at_once_is_found_by_conditions(fresh: Fresh) {
    let mut fleet = Fleet::with_tags(fresh, &[json!({"zone": 1}), json!({"zone": 1}), json!({})]);
    let conditions = ["tags.zone = 2", "properties.desired.level = 3"];
    let paths: Vec<_> = conditions.iter().flat_map(|one| query::searched_paths(&query::parse(one).unwrap())).collect();
    fleet.registry.write(Change::Index { wanted: &paths, changed: 3 }).unwrap();
    written(&mut fleet, &patch(Some(json!({"zone": 2})), Some(json!({"level": 3}))));
    for condition in conditions {
        assert_eq!(observed(&fleet.registry, &matching(condition)), ["d-0000"], "{condition}");
    }
    assert_eq!(observed(&fleet.registry, &matching("tags.zone = 1")), ["d-0001"]);
    assert!(fleet.registry.devices().index_changes(&paths).unwrap().is_empty());
}

pub fn awkward_sections_are_told_as_they_are_kept(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    let section = json!({"it's": "a\u{0}b\u{1}", "n": [-0.0, 1e22, 0.1, 4_503_599_627_370_495_i64], "\"": "\\u0000"});
    for write in [patch(Some(section.clone()), Some(section.clone())), whole(Some(section.clone()), Some(section))] {
        let (device, _) = written(&mut fleet, &write);
        assert_eq!((&device.tags, &device.desired), (&write.tags.unwrap(), &write.desired.unwrap()));
        let etag = twin_etag(&device.tags, &device.desired);
        written(&mut fleet, &Write { if_match: Some(etag), ..patch(Some(json!({"z": 1})), None) });
    }
}
