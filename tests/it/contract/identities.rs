//! Identities of devices: made, changed and deleted one at a time, listed and counted.

use fleetform::model::device::{Authentication, ConnectionState, DeviceState};
use fleetform::model::fleet::Removed;
use fleetform::registry::{
    Change, DeviceKeys, Heard, HeardOf, Identity, IdentityRow, IdentityWrite, IfMatch, ImportSpec, NewIdentity,
    Statistics,
};
use jiff::Timestamp;
use serde_json::json;

use super::Fresh;
use super::fleet::{Fleet, after, hub, hub_spec, now, spec, texts};

/// An identity with keys of one byte many times over.
fn identity(byte: u8) -> NewIdentity {
    let keys = DeviceKeys {
        primary_key: Some(vec![byte; 32]),
        secondary_key: Some(vec![byte + 1; 16]),
        ..DeviceKeys::default()
    };
    NewIdentity {
        keys,
        is_blocked: false,
        status_reason: None,
        iot_edge: false,
        template: None,
        organization: None,
        tags: None,
        desired: None,
    }
}

fn put(fleet: &mut Fleet, id: &str, if_match: IfMatch<'_>, identity: &NewIdentity, at: Timestamp) -> IdentityWrite {
    fleet.registry.write(Change::PutIdentity { device_id: id, if_match, identity, at }).unwrap().into_identity()
}

#[track_caller]
fn written(fleet: &mut Fleet, id: &str, if_match: IfMatch<'_>, identity: &NewIdentity, at: Timestamp) -> IdentityRow {
    match put(fleet, id, if_match, identity, at) {
        IdentityWrite::Written(row) => {
            assert_eq!(fleet.registry.devices().identity(id).unwrap().as_ref(), Some(&*row));
            *row
        }
        refused => panic!("{refused:?}"),
    }
}

#[track_caller]
fn made(fleet: &mut Fleet, id: &str) -> IdentityRow {
    written(fleet, id, IfMatch::Absent, &identity(7), now())
}

fn delete(fleet: &mut Fleet, id: &str, if_match: Option<&str>) -> IdentityWrite {
    fleet.registry.write(Change::DeleteIdentity { device_id: id, if_match }).unwrap().into_identity()
}

#[track_caller]
fn counts(fleet: &Fleet, total: u64, disabled: u64, connected: u64) {
    let expect = Statistics { total, enabled: total - disabled, disabled, connected };
    assert_eq!(fleet.registry.devices().statistics().unwrap(), expect);
    assert_eq!(fleet.registry.flaws().unwrap(), []);
}

pub fn a_device_is_made_once(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let row = made(&mut fleet, "Dev%1#+$'");
    assert_eq!((row.device_id.as_str(), row.blocked, row.iot_edge), ("Dev%1#+$'", false, false));
    assert_eq!((row.connection_state, row.last_activity), (ConnectionState::Disconnected, None));
    assert_eq!((row.status_reason.as_ref(), row.status_updated), (None, None));
    assert_eq!(row.keys, identity(7).keys);
    assert_eq!(row.etag, Identity { is_blocked: false, iot_edge: false, keys: &row.keys }.etag());
    assert!(!format!("{row:?}").contains("7, 7"), "keys are not shown");
    assert_eq!(put(&mut fleet, "Dev%1#+$'", IfMatch::Absent, &identity(9), now()), IdentityWrite::Exists);
    assert_eq!(fleet.registry.devices().keys("Dev%1#+$'").unwrap(), identity(7).keys);
    made(&mut fleet, "dev%1#+$'");
    assert_eq!(fleet.ids(), ["Dev%1#+$'", "dev%1#+$'"], "ids differ in case");
}

pub fn a_device_is_made_with_its_twin(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    made(&mut fleet, "plain");
    let plain = fleet.device("plain");
    assert_eq!((plain.device_name.as_str(), plain.state), ("plain", DeviceState::Unassociated));
    assert_eq!((plain.template, plain.organization, plain.simulated), (None, None, false));
    assert_eq!([&plain.tags, &plain.cloud, &plain.desired, &plain.reported], [&json!({}); 4]);
    assert_eq!((plain.desired_version, plain.reported_version), (1, 1));
    let keys = DeviceKeys {
        authentication: Authentication::SelfSigned,
        primary_thumbprint: Some("ab".repeat(20)),
        ..DeviceKeys::default()
    };
    let full = NewIdentity {
        keys,
        is_blocked: true,
        status_reason: Some("a\u{0}b".to_string()),
        iot_edge: true,
        template: Some("lamp".to_string()),
        organization: Some("acme/eu".to_string()),
        tags: Some(json!({"zone": {"a": null, "b": 1}})),
        desired: Some(json!({"level": "\u{1}"})),
    };
    let row = written(&mut fleet, "full", IfMatch::Absent, &full, after(3));
    assert_eq!((row.blocked, row.iot_edge, &row.keys), (true, true, &full.keys));
    assert_eq!((row.status_reason.as_deref(), row.status_updated), (Some("a\u{0}b"), Some(after(3))));
    let device = fleet.device("full");
    assert_eq!((device.template.as_deref(), device.organization.as_deref()), (Some("lamp"), Some("acme/eu")));
    assert_eq!((device.state, device.blocked, device.iot_edge), (DeviceState::Registered, true, true));
    assert_eq!((device.tags, device.desired), (json!({"zone": {"b": 1}}), json!({"level": "\u{1}"})));
    let none = NewIdentity {
        keys: DeviceKeys { authentication: Authentication::None, ..DeviceKeys::default() },
        ..identity(7)
    };
    assert_eq!(written(&mut fleet, "none", IfMatch::Absent, &none, now()).keys, none.keys);
}

pub fn an_identity_is_changed_by_its_etag(fresh: Fresh) {
    let mut fleet = Fleet::with_tags(fresh, &[json!({"zone": 1})]);
    let before = fleet.device("d-0000");
    let first = fleet.registry.devices().identity("d-0000").unwrap().unwrap();
    let edge = NewIdentity { iot_edge: true, tags: Some(json!({"zone": 2})), ..identity(9) };
    let row = written(&mut fleet, "d-0000", IfMatch::Etag(&first.etag), &edge, now());
    assert_eq!((row.iot_edge, &row.keys, &row.generation_id), (true, &edge.keys, &first.generation_id));
    assert_ne!(row.etag, first.etag);
    let device = fleet.device("d-0000");
    assert_eq!(
        (device.tags, device.desired_version, device.state),
        (before.tags, before.desired_version, before.state)
    );
    assert_eq!(put(&mut fleet, "d-0000", IfMatch::Etag(&first.etag), &identity(1), now()), IdentityWrite::Stale);
    assert_eq!(fleet.registry.devices().identity("d-0000").unwrap(), Some(row));
    let forced = written(&mut fleet, "d-0000", IfMatch::Any, &identity(1), now());
    assert_eq!((forced.iot_edge, forced.keys), (false, identity(1).keys));
    for if_match in [IfMatch::Any, IfMatch::Etag(&first.etag)] {
        assert_eq!(put(&mut fleet, "d-0001", if_match, &identity(1), now()), IdentityWrite::Unknown);
    }
    assert_eq!(fleet.ids(), ["d-0000"]);
    assert_eq!(fleet.registry.devices().identity("d-0001").unwrap(), None);
}

pub fn an_identity_is_deleted_by_its_etag(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let etag = |fleet: &Fleet, id: &str| fleet.registry.devices().identity(id).unwrap().unwrap().etag;
    let (of_other, own) = (etag(&fleet, "d-0001"), etag(&fleet, "d-0000"));
    assert_eq!(delete(&mut fleet, "d-0000", Some(&of_other)), IdentityWrite::Stale);
    assert_eq!(fleet.ids().len(), 3);
    assert_eq!(delete(&mut fleet, "d-0000", Some(&own)), IdentityWrite::Deleted);
    assert_eq!(delete(&mut fleet, "d-0000", Some(&own)), IdentityWrite::Unknown);
    assert_eq!(delete(&mut fleet, "d-0002", None), IdentityWrite::Deleted);
    assert_eq!(delete(&mut fleet, "d-0002", None), IdentityWrite::Unknown);
    assert_eq!(fleet.ids(), ["d-0001"]);
    assert_eq!(fleet.registry.devices().keys("d-0000").unwrap().primary_key, None);
    counts(&fleet, 1, 0, 0);
}

pub fn a_device_that_is_made_anew_is_of_another_generation(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let first = made(&mut fleet, "d-1");
    assert_ne!(made(&mut fleet, "d-2").generation_id, first.generation_id);
    fleet.block(&["d-1"]);
    let blocked = fleet.registry.devices().identity("d-1").unwrap().unwrap();
    assert_eq!(blocked.generation_id, first.generation_id);
    delete(&mut fleet, "d-1", None);
    let second = written(&mut fleet, "d-1", IfMatch::Absent, &identity(7), after(1));
    assert_ne!(second.generation_id, first.generation_id);
    assert_eq!((second.status_updated, second.etag), (None, first.etag), "nothing is left of the first one");
}

pub fn a_device_of_an_import_has_a_generation(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let generation = |fleet: &Fleet, id: &str| {
        let found = fleet.registry.devices().identity(id).unwrap().unwrap().generation_id;
        assert!(found.len() == 16 && found.bytes().all(|byte| byte.is_ascii_hexdigit()), "{found}");
        found
    };
    let first = generation(&fleet, "d-0000");
    assert_ne!(generation(&fleet, "d-0001"), first);
    written(&mut fleet, "d-0000", IfMatch::Any, &NewIdentity { is_blocked: true, ..identity(7) }, now());
    let fleet = fleet.reopened();
    assert_eq!(generation(&fleet, "d-0000"), first);
    let mut copy = Fleet::new(fresh);
    copy.registry.copy_from(&fleet.registry).unwrap();
    assert_eq!(generation(&copy, "d-0000"), first);
    copy.import(&spec("all"), "IOTC_DEVICEID,IOTC_DEVICENAME\nd-0000,renamed\nd-0001,\n");
    assert_eq!(generation(&copy, "d-0000"), first);
}

pub fn a_change_of_the_status_is_noted(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let status = |fleet: &Fleet| {
        let row = fleet.registry.devices().identity("d-0000").unwrap().unwrap();
        (row.blocked, row.status_reason, row.status_updated)
    };
    assert_eq!(status(&fleet), (false, None, None));
    let stolen = NewIdentity { is_blocked: true, status_reason: Some("stolen".to_string()), ..identity(7) };
    written(&mut fleet, "d-0000", IfMatch::Any, &stolen, after(1));
    assert_eq!(status(&fleet), (true, Some("stolen".to_string()), Some(after(1))));
    // Other keys are no change of the status.
    let rolled = NewIdentity { keys: identity(9).keys, ..stolen };
    written(&mut fleet, "d-0000", IfMatch::Any, &rolled, after(2));
    assert_eq!(status(&fleet), (true, Some("stolen".to_string()), Some(after(1))));
    let unblock = Change::Block { device_ids: &texts(&["d-0000", "d-0001"]), is_blocked: false, at: after(3) };
    fleet.registry.write(unblock).unwrap();
    assert_eq!(status(&fleet), (false, None, Some(after(3))));
    let other = fleet.registry.devices().identity("d-0001").unwrap().unwrap();
    assert_eq!(other.status_updated, None, "it was not blocked");
    let named = NewIdentity { is_blocked: false, status_reason: Some("back".to_string()), ..rolled };
    written(&mut fleet, "d-0000", IfMatch::Any, &named, after(4));
    assert_eq!(status(&fleet), (false, Some("back".to_string()), Some(after(4))));
    assert_eq!(status(&fleet.reopened()), (false, Some("back".to_string()), Some(after(4))));
}

pub fn identities_come_in_order_and_in_pages(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 5);
    made(&mut fleet, "Z");
    made(&mut fleet, "z");
    fleet.block(&["d-0003"]);
    let page = |after: Option<&str>, limit: u64| fleet.registry.devices().identities(after, limit).unwrap();
    let ids = |page: &[IdentityRow]| page.iter().map(|row| row.device_id.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&page(None, 3)), ["Z", "d-0000", "d-0001"]);
    assert_eq!(ids(&page(Some("d-0001"), 3)), ["d-0002", "d-0003", "d-0004"]);
    assert_eq!(ids(&page(Some("d-0004x"), 3)), ["z"]);
    assert_eq!(ids(&page(Some("z"), 3)), [""; 0]);
    assert_eq!(page(None, u64::MAX).len(), 7);
    for row in page(None, 100) {
        assert_eq!(fleet.registry.devices().identity(&row.device_id).unwrap(), Some(row));
    }
}

pub fn devices_are_counted_whatever_makes_and_deletes_them(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 5);
    counts(&fleet, 5, 0, 0);
    fleet.block(&["d-0001", "d-0002"]);
    made(&mut fleet, "e-1");
    counts(&fleet, 6, 2, 0);
    let online =
        |device_id, is_online| Heard { device_id, at: now(), what: HeardOf::Presence { is_online, is_news: true } };
    let from = [online("d-0000", true), online("d-0001", true), online("e-1", true), online("d-0001", false)];
    fleet.registry.write(Change::Heard { from: &from }).unwrap();
    counts(&fleet, 6, 2, 2);
    fleet.delete(&["d-0000", "x"]);
    counts(&fleet, 5, 2, 1);
    // Five rows of one import, of which two are new; then a file without three of them, and one that deletes another.
    let all = ImportSpec { removed: Removed::Delete, ..spec("all") };
    fleet.import(&all, "IOTC_DEVICEID\nd-0001\nd-0002\nd-0003\nd-0007\nd-0008\n");
    counts(&fleet, 6, 2, 1);
    fleet.import(&all, "IOTC_DEVICEID\nd-0003\nd-0007\nd-0009\n");
    counts(&fleet, 4, 0, 1);
    fleet.import(&hub_spec("b"), &hub(&[json!({"id": "h-1"}), json!({"id": "h-2", "status": "disabled"})]));
    counts(&fleet, 6, 1, 1);
    fleet.import(&hub_spec("b"), &hub(&[json!({"id": "h-1", "importMode": "delete"}), json!({"id": "h-2"})]));
    counts(&fleet, 5, 1, 1);
    delete(&mut fleet, "e-1", None);
    let mut copy = Fleet::new(fresh);
    counts(&copy, 0, 0, 0);
    copy.registry.copy_from(&fleet.registry).unwrap();
    counts(&copy, 4, 1, 0);
    assert_eq!(fleet.registry.scratch_copy().unwrap().devices().statistics().unwrap().total, 4);
    // What is staged is no device yet.
    copy.stage(&spec("more"), "IOTC_DEVICEID\nm-1\n");
    copy.registry.imports_mut().overlay().unwrap();
    counts(&copy, 4, 1, 0);
    counts(&copy.reopened(), 4, 1, 0);
}
