//! What is heard of devices: presence and reports.

use fleetform::model::device::{ConnectionState, DeviceState};
use fleetform::registry::{Change, Heard, HeardOf, ImportSpec};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{Fleet, after, spec};

/// Three devices with a template: `d-1`, `d-2` and `d-3`.
fn registered(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    let spec = ImportSpec { template: Some("lamp".to_string()), ..spec("a") };
    fleet.import(&spec, "IOTC_DEVICEID\nd-1\nd-2\nd-3\n");
    fleet
}

fn presence(device_id: &str, is_online: bool, seconds: i64) -> Heard<'_> {
    Heard { device_id, at: after(seconds), what: HeardOf::Presence { is_online } }
}

fn report<'a>(device_id: &'a str, patch: &'a Value, seconds: i64) -> Heard<'a> {
    Heard { device_id, at: after(seconds), what: HeardOf::Report { patch } }
}

fn hear(fleet: &mut Fleet, from: &[Heard<'_>]) -> Vec<Option<Value>> {
    fleet.registry.write(Change::Heard { from }).unwrap().into_reported()
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
    let expect = [Some(json!({"lux": 1})), Some(json!({"lux": 2})), Some(json!({"lux": 1, "volt": 3}))];
    assert_eq!(hear(&mut fleet, &from), expect);
}

pub fn a_device_that_is_gone_has_no_section(fresh: Fresh) {
    let mut fleet = registered(fresh);
    fleet.delete(&["d-2"]);
    let patch = json!({"lux": 1});
    let from = [presence("d-2", true, 5), report("d-2", &patch, 5), report("d-1", &patch, 5)];
    assert_eq!(hear(&mut fleet, &from), [None, Some(json!({"lux": 1}))]);
    assert_eq!(fleet.ids(), ["d-1", "d-3"]);
}
