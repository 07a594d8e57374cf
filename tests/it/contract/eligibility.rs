//! Who of a batch cannot be started.

use std::collections::BTreeSet;
use std::ops::Range;

use fleetform::model::id::Name;
use fleetform::model::observation::DeviceIds;
use fleetform::model::outcome::Reason;
use fleetform::registry::{ImportSpec, Needs};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, hub, hub_spec, name};

/// What nearly all jobs need.
fn nothing(mismatching: &BTreeSet<Name>) -> Needs<'_> {
    Needs { mismatching, edge: false, presence: false }
}

/// What a command needs.
fn presence(mismatching: &BTreeSet<Name>) -> Needs<'_> {
    Needs { presence: true, ..nothing(mismatching) }
}

fn told(fleet: &Fleet, needs: Needs<'_>, ids: &DeviceIds, range: Range<u32>) -> Vec<(u32, Reason, &'static str)> {
    fleet.registry.devices().ineligible(&needs, ids, range).unwrap()
}

/// Edge devices `l-0` and `l-1` of the template `lamp`, `h-0` of the template `heater`, and `n-0` and `n-1` that are no
/// edge devices and have no template.
fn mixed(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    let mut import = |name: &str, template: Option<&str>, lines: &[Value]| {
        let spec = ImportSpec { template: template.map(str::to_string), ..hub_spec(name) };
        fleet.import(&spec, &hub(lines));
    };
    let edge = |id: &str| json!({"id": id, "capabilities": {"iotEdge": true}});
    import("lamps", Some("lamp"), &[edge("l-0"), edge("l-1")]);
    import("heaters", Some("heater"), &[edge("h-0")]);
    import("rest", None, &[json!({"id": "n-0"}), json!({"id": "n-1"})]);
    fleet
}

/// Every hundredth of 5,000 devices. One in four of them is blocked and one in four is deleted; and the ordinals of
/// these.
fn sparse(fresh: Fresh) -> (Fleet, DeviceIds, Vec<u32>, Vec<u32>) {
    let mut fleet = Fleet::with_devices(fresh, 5_000);
    let targets: Vec<String> = fleet.ids().into_iter().step_by(100).collect();
    let every = |rest: usize| -> Vec<&str> { targets.iter().map(String::as_str).skip(rest).step_by(4).collect() };
    fleet.block(&every(1));
    fleet.delete(&every(2));
    // Their neighbours are not in the run.
    fleet.block(&["d-0001", "d-0099", "d-0101", "d-2501", "d-4999"]);
    let ids: DeviceIds = targets.iter().map(String::as_str).collect();
    let ordinals = |rest: usize| -> Vec<u32> { (0..50).skip(rest).step_by(4).collect() };
    (fleet, ids, ordinals(1), ordinals(2))
}

pub fn a_blocked_device_cannot_be_started(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 4);
    fleet.block(&["d-0003", "d-0001"]);
    let (ids, none) = (fleet.target(), BTreeSet::new());
    let expect = [(1, Reason::Blocked, ""), (3, Reason::Blocked, "")];
    assert_eq!(told(&fleet, nothing(&none), &ids, 0..4), expect);
    assert_eq!(told(&fleet, presence(&none), &ids, 0..4), expect);
}

pub fn a_device_that_is_gone_cannot_be_commanded(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 4);
    let (ids, none) = (fleet.target(), BTreeSet::new());
    fleet.delete(&["d-0000", "d-0002", "d-0003"]);
    let expect = [(0, Reason::Deleted, ""), (2, Reason::Deleted, ""), (3, Reason::Deleted, "")];
    assert_eq!(told(&fleet, presence(&none), &ids, 0..4), expect);
}

pub fn a_device_that_is_gone_is_left_to_the_write(fresh: Fresh) {
    let mut fleet = mixed(fresh);
    let (ids, none, lamps) = (fleet.target(), BTreeSet::new(), BTreeSet::from([name("lamp")]));
    fleet.delete(&["l-0", "n-0"]);
    assert_eq!(told(&fleet, nothing(&none), &ids, 0..5), []);
    assert_eq!(told(&fleet, nothing(&lamps), &ids, 0..5), [(2, Reason::TemplateMismatch, "")]);
}

pub fn a_device_that_is_no_edge_device_cannot_get_a_manifest(fresh: Fresh) {
    let fleet = mixed(fresh);
    let (ids, none) = (fleet.target(), BTreeSet::new());
    let needs = Needs { edge: true, ..nothing(&none) };
    let told = told(&fleet, needs, &ids, 0..5);
    assert_eq!(told, [(3, Reason::TemplateMismatch, Needs::NOT_EDGE), (4, Reason::TemplateMismatch, Needs::NOT_EDGE)]);
}

pub fn a_device_of_a_template_that_does_not_fit_cannot_be_started(fresh: Fresh) {
    let fleet = mixed(fresh);
    let (ids, mismatching) = (fleet.target(), BTreeSet::from([name("heater"), name("pump")]));
    assert_eq!(told(&fleet, nothing(&mismatching), &ids, 0..5), [(0, Reason::TemplateMismatch, "")]);
}

pub fn a_device_is_told_once_and_for_the_first_reason(fresh: Fresh) {
    let mut fleet = mixed(fresh);
    let of_no_edge = ImportSpec { template: Some("heater".to_string()), ..hub_spec("more") };
    fleet.import(&of_no_edge, &hub(&[json!({"id": "x-0"}), json!({"id": "x-1"})]));
    let (ids, mismatching) = (fleet.target(), BTreeSet::from([name("heater")]));
    fleet.block(&["h-0", "n-0", "x-0"]);
    fleet.delete(&["l-1"]);
    let needs = Needs { mismatching: &mismatching, edge: true, presence: true };
    let expect = [
        (0, Reason::Blocked, ""),
        (2, Reason::Deleted, ""),
        (3, Reason::Blocked, ""),
        (4, Reason::TemplateMismatch, Needs::NOT_EDGE),
        (5, Reason::Blocked, ""),
        (6, Reason::TemplateMismatch, Needs::NOT_EDGE),
    ];
    assert_eq!(told(&fleet, needs, &ids, 0..7), expect);
}

pub fn only_ordinals_of_the_range_are_told(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 8);
    let (ids, none) = (fleet.target(), BTreeSet::new());
    fleet.block(&["d-0000", "d-0002", "d-0005"]);
    fleet.delete(&["d-0001", "d-0004", "d-0007"]);
    let expect = [(2, Reason::Blocked, ""), (4, Reason::Deleted, "")];
    assert_eq!(told(&fleet, presence(&none), &ids, 2..5), expect);
}

pub fn only_blocked_ordinals_of_the_range_are_told(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 8);
    // A target has but some of the devices: one beside it is blocked, and so are those before and after the range.
    let ids: DeviceIds = ["d-0000", "d-0002", "d-0003", "d-0005", "d-0007"].into_iter().collect();
    fleet.block(&["d-0000", "d-0003", "d-0004", "d-0007"]);
    let none = BTreeSet::new();
    assert_eq!(told(&fleet, nothing(&none), &ids, 1..4), [(2, Reason::Blocked, "")]);
    // The ends of the range may be gone.
    fleet.delete(&["d-0002", "d-0005"]);
    assert_eq!(told(&fleet, nothing(&none), &ids, 1..4), [(2, Reason::Blocked, "")]);
}

pub fn devices_far_apart_in_a_large_fleet_are_told(fresh: Fresh) {
    let (fleet, ids, blocked, gone) = sparse(fresh);
    let none = BTreeSet::new();
    let blocked = blocked.into_iter().map(|ordinal| (ordinal, Reason::Blocked, ""));
    let mut expect: Vec<_> = gone.into_iter().map(|ordinal| (ordinal, Reason::Deleted, "")).chain(blocked).collect();
    expect.sort_unstable();
    assert_eq!(told(&fleet, presence(&none), &ids, 0..50), expect);
}

pub fn blocked_devices_far_apart_in_a_large_fleet_are_told(fresh: Fresh) {
    let (fleet, ids, blocked, _) = sparse(fresh);
    let none = BTreeSet::new();
    let expect: Vec<_> = blocked.into_iter().map(|ordinal| (ordinal, Reason::Blocked, "")).collect();
    assert_eq!(told(&fleet, nothing(&none), &ids, 0..50), expect);
}

/// More devices than are looked up together.
pub fn a_large_target_is_told_as_a_whole(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 5_000);
    let (ids, none) = (fleet.target(), BTreeSet::new());
    fleet.block(&["d-0000", "d-0999", "d-1000", "d-4999"]);
    fleet.delete(&["d-0001", "d-1001", "d-1999", "d-2000", "d-4998"]);
    let blocked = [0, 999, 1_000, 4_999].map(|ordinal| (ordinal, Reason::Blocked, ""));
    let gone = [1, 1_001, 1_999, 2_000, 4_998].map(|ordinal| (ordinal, Reason::Deleted, ""));
    let mut expect = [&blocked[..], &gone[..]].concat();
    expect.sort_unstable();
    assert_eq!(told(&fleet, presence(&none), &ids, 0..5_000), expect);
    assert_eq!(told(&fleet, nothing(&none), &ids, 0..5_000), blocked);
}
