//! What is heard of devices: presence and reports.

use fleetform::model::device::{ConnectionState, DeviceState};
use fleetform::model::subscriptions::Subscriptions;
use fleetform::registry::{Change, Heard, HeardOf, ImportSpec, Reported};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, after, now, spec};

/// Three devices with a template: `d-1`, `d-2` and `d-3`.
fn registered(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    let spec = ImportSpec { template: Some("lamp".to_string()), ..spec("a") };
    fleet.import(&spec, "IOTC_DEVICEID\nd-1\nd-2\nd-3\n");
    fleet
}

fn presence(device_id: &str, is_online: bool, seconds: i64) -> Heard<'_> {
    Heard { device_id, at: after(seconds), what: HeardOf::Presence { is_online, is_news: true } }
}

fn retained(device_id: &str, is_online: bool, seconds: i64) -> Heard<'_> {
    Heard { device_id, at: after(seconds), what: HeardOf::Presence { is_online, is_news: false } }
}

fn report<'a>(device_id: &'a str, patch: &'a Value, seconds: i64) -> Heard<'a> {
    Heard { device_id, at: after(seconds), what: HeardOf::Report { patch } }
}

fn hear(fleet: &mut Fleet, from: &[Heard<'_>]) -> Vec<Reported> {
    fleet.registry.write(Change::Heard { from }).unwrap().into_reported()
}

fn sections(reported: &[Reported]) -> Vec<Option<&Value>> {
    reported.iter().map(Reported::section).collect()
}

pub fn a_device_that_connects_is_provisioned(fresh: Fresh) {
    let mut fleet = registered(fresh);
    assert_eq!(hear(&mut fleet, &[presence("d-1", true, 5)]), []);
    let device = fleet.device("d-1");
    assert_eq!(device.connection_state, ConnectionState::Connected);
    assert_eq!((device.state, device.last_activity), (DeviceState::Provisioned, Some(after(5))));
    assert_eq!(fleet.device("d-2").state, DeviceState::Registered);
}

pub fn a_device_that_disconnects_keeps_its_last_activity(fresh: Fresh) {
    let mut fleet = registered(fresh);
    hear(&mut fleet, &[presence("d-1", true, 5), presence("d-1", false, 9), presence("d-2", false, 9)]);
    let device = fleet.device("d-1");
    assert_eq!(device.connection_state, ConnectionState::Disconnected);
    assert_eq!((device.state, device.last_activity), (DeviceState::Provisioned, Some(after(5))));
    let device = fleet.device("d-2");
    assert_eq!((device.state, device.last_activity), (DeviceState::Registered, None));
}

pub fn a_report_is_merged(fresh: Fresh) {
    let mut fleet = registered(fresh);
    let before = fleet.device("d-1");
    let (first, second) =
        (json!({"lux": 7, "net": {"rssi": -60, "ip": "x"}}), json!({"lux": null, "net": {"ip": "y"}}));
    hear(&mut fleet, &[report("d-1", &first, 5)]);
    hear(&mut fleet, &[report("d-1", &second, 6)]);
    let device = fleet.device("d-1");
    assert_eq!(device.reported, json!({"net": {"rssi": -60, "ip": "y"}}));
    assert_eq!(device.reported_version, before.reported_version + 2);
    assert_eq!((device.desired, device.desired_version), (before.desired, before.desired_version));
}

pub fn a_device_that_reports_is_connected(fresh: Fresh) {
    let mut fleet = registered(fresh);
    hear(&mut fleet, &[report("d-1", &json!({"lux": 7}), 5)]);
    let device = fleet.device("d-1");
    assert_eq!(device.connection_state, ConnectionState::Connected);
    assert_eq!((device.state, device.last_activity), (DeviceState::Provisioned, Some(after(5))));
}

pub fn reports_are_answered_in_order(fresh: Fresh) {
    let mut fleet = registered(fresh);
    let (one, two, three) = (json!({"lux": 1}), json!({"lux": 2}), json!({"volt": 3}));
    let from = [
        report("d-3", &one, 5),
        presence("d-2", true, 5),
        report("d-1", &two, 5),
        report("d-3", &three, 6),
        presence("d-1", false, 6),
    ];
    let expect = [json!({"lux": 1}), json!({"lux": 2}), json!({"lux": 1, "volt": 3})];
    assert_eq!(sections(&hear(&mut fleet, &from)), expect.each_ref().map(Some));
}

pub fn a_device_that_is_gone_has_no_section(fresh: Fresh) {
    let mut fleet = registered(fresh);
    fleet.delete(&["d-2"]);
    let patch = json!({"lux": 1});
    let from = [presence("d-2", true, 5), report("d-2", &patch, 5), report("d-1", &patch, 5)];
    assert_eq!(hear(&mut fleet, &from), [Reported::Unknown, Reported::Written { section: patch.clone(), version: 2 }]);
    assert_eq!(fleet.ids(), ["d-1", "d-3"]);
}

pub fn a_device_that_is_blocked_reports_in_vain(fresh: Fresh) {
    let mut fleet = registered(fresh);
    let ids = ["d-2".to_string()];
    fleet.registry.write(Change::Block { device_ids: &ids, is_blocked: true, at: now() }).unwrap();
    let before = fleet.device("d-2");
    let patch = json!({"lux": 1});
    assert_eq!(hear(&mut fleet, &[report("d-2", &patch, 5)]), [Reported::Blocked]);
    assert_eq!(fleet.device("d-2"), before);
}

pub fn a_section_does_not_outgrow_a_twin(fresh: Fresh) {
    let mut fleet = registered(fresh);
    let text = "x".repeat(4_000);
    for at in 0..8 {
        let patch = json!({format!("text{at}"): text});
        assert!(matches!(hear(&mut fleet, &[report("d-1", &patch, 5)])[..], [Reported::Written { .. }]));
    }
    let before = fleet.device("d-1");
    let (more, less) = (json!({"text9": text}), json!({"text0": null}));
    assert_eq!(hear(&mut fleet, &[report("d-1", &more, 6)]), [Reported::TooLarge]);
    let after = fleet.device("d-1");
    assert_eq!((after.reported, after.reported_version), (before.reported, before.reported_version));
    assert!(matches!(hear(&mut fleet, &[report("d-1", &less, 7)])[..], [Reported::Written { version: 10, .. }]));
}

pub fn what_was_so_before_is_no_activity(fresh: Fresh) {
    let mut fleet = registered(fresh);
    hear(&mut fleet, &[presence("d-1", true, 5), retained("d-1", true, 9), retained("d-2", true, 9)]);
    hear(&mut fleet, &[presence("d-3", true, 5), retained("d-3", false, 9)]);
    let (one, two, three) = (fleet.device("d-1"), fleet.device("d-2"), fleet.device("d-3"));
    assert_eq!((one.connection_state, one.last_activity), (ConnectionState::Connected, Some(after(5))));
    assert_eq!((two.connection_state, two.last_activity), (ConnectionState::Connected, None));
    assert_eq!((three.connection_state, three.last_activity), (ConnectionState::Disconnected, Some(after(5))));
}

pub fn a_session_outlives_its_connection_and_no_device(fresh: Fresh) {
    let mut fleet = registered(fresh);
    let session =
        |device_id, subscriptions| Heard { device_id, at: after(5), what: HeardOf::Session { subscriptions } };
    let kept = |fleet: &Fleet, id: &str| fleet.registry.devices().identity(id).unwrap().unwrap().subscriptions;
    let some = Subscriptions { methods: true, ..Subscriptions::default() };
    let all = Subscriptions { methods: true, desired: true, messages: true, is_silent: true };
    hear(&mut fleet, &[session("d-1", Some(some)), session("d-2", Some(all)), session("d-9", Some(all))]);
    assert_eq!(["d-1", "d-2", "d-3"].map(|id| kept(&fleet, id)), [Some(some), Some(all), None]);
    hear(&mut fleet, &[session("d-1", Some(all)), session("d-2", None), presence("d-1", false, 6)]);
    assert_eq!(["d-1", "d-2"].map(|id| kept(&fleet, id)), [Some(all), None]);
    let listed = fleet.registry.devices().identities(None, 10).unwrap();
    assert_eq!(listed.iter().map(|row| row.subscriptions).collect::<Vec<_>>(), [Some(all), None, None]);
    // One that is made under its id has none.
    fleet.delete(&["d-1"]);
    fleet.import(&spec("b"), "IOTC_DEVICEID\nd-1\nd-9\n");
    assert_eq!(["d-1", "d-9"].map(|id| kept(&fleet, id)), [None, None]);
    assert_eq!(fleet.registry.flaws().unwrap(), []);
}

pub fn the_newest_connections_are_kept(fresh: Fresh) {
    let mut fleet = registered(fresh);
    let changes = |fleet: &Fleet, id: &str| {
        let found = fleet.registry.devices().connections(id).unwrap();
        found.into_iter().map(|one| (one.at, one.is_online)).collect::<Vec<_>>()
    };
    let patch = json!({"lux": 1});
    let from = [
        presence("d-1", true, 5),
        presence("d-1", true, 6),
        presence("d-1", false, 9),
        presence("d-1", false, 10),
        report("d-1", &patch, 11),
        retained("d-2", false, 5),
        presence("d-9", true, 5),
    ];
    hear(&mut fleet, &from);
    assert_eq!(changes(&fleet, "d-1"), [(after(11), true), (after(9), false), (after(5), true)]);
    assert_eq!((changes(&fleet, "d-2"), changes(&fleet, "d-9")), (Vec::new(), Vec::new()));
    let often: Vec<Heard<'_>> = (0..50).map(|at| presence("d-2", at % 2 == 0, 20 + at)).collect();
    hear(&mut fleet, &often);
    let kept = changes(&fleet, "d-2");
    assert_eq!((kept.len(), kept[0], kept[31]), (32, (after(69), false), (after(38), true)));
    fleet.delete(&["d-1"]);
    assert_eq!(changes(&fleet, "d-1"), []);
    assert_eq!(fleet.registry.flaws().unwrap(), []);
}
