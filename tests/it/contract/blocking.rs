//! Devices that a person blocks, unblocks or deletes.

use fleetform::model::device::Authentication;
use fleetform::registry::{Change, Heard, HeardOf};

use super::Fresh;
use super::fleet::{Fleet, now, spec, texts};

fn set_blocked(fleet: &mut Fleet, ids: &[&str], is_blocked: bool) -> Vec<String> {
    fleet.registry.write(Change::Block { device_ids: &texts(ids), is_blocked, at: now() }).unwrap().into_devices()
}

fn blocked(fleet: &Fleet) -> Vec<String> {
    fleet.ids().into_iter().filter(|id| fleet.device(id).blocked).collect()
}

pub fn blocking_tells_who_was_not_blocked(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    assert_eq!(set_blocked(&mut fleet, &["d-0001"], true), ["d-0001"]);
    assert_eq!(set_blocked(&mut fleet, &["d-0002", "d-0001", "x"], true), ["d-0002"]);
    assert_eq!(blocked(&fleet), ["d-0001", "d-0002"]);
}

pub fn unblocking_tells_who_was_blocked(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    set_blocked(&mut fleet, &["d-0001", "d-0002"], true);
    assert_eq!(set_blocked(&mut fleet, &["d-0000", "d-0001", "x"], false), ["d-0001"]);
    assert_eq!(blocked(&fleet), ["d-0002"]);
}

pub fn deleting_tells_who_was_there(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let ids = texts(&["x", "d-0002", "d-0000", "d-0002"]);
    let deleted = fleet.registry.write(Change::Delete { device_ids: &ids }).unwrap().into_devices();
    assert_eq!(deleted, ["d-0002", "d-0000"]);
    assert_eq!(fleet.ids(), ["d-0001"]);
}

pub fn a_deleted_device_takes_its_keys_along(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    assert_eq!(fleet.registry.devices().keys("d-0000").unwrap().authentication, Authentication::Sas);
    fleet.delete(&["d-0000"]);
    let keys = fleet.registry.devices().keys("d-0000").unwrap();
    assert_eq!((keys.authentication, keys.primary_key), (Authentication::None, None));
}

pub fn a_deleted_device_is_imported_as_a_new_one(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    fleet.block(&["d-0000"]);
    let keys = fleet.registry.devices().keys("d-0000").unwrap();
    fleet.delete(&["d-0000"]);
    assert_eq!(fleet.import(&spec("all"), "IOTC_DEVICEID\nd-0000\n").new, 1);
    assert!(!fleet.device("d-0000").blocked);
    assert_ne!(fleet.registry.devices().keys("d-0000").unwrap(), keys);
}

pub fn what_changes_admissions_is_counted(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let mut seen = vec![fleet.registry.devices().admissions().unwrap()];
    let mut is_news = |fleet: &Fleet| {
        let found = fleet.registry.devices().admissions().unwrap();
        let is_news = !seen.contains(&found);
        seen.push(found);
        is_news
    };
    let what = HeardOf::Presence { is_online: true, is_news: true };
    let heard = [Heard { device_id: "d-0001", at: now(), what }];
    fleet.registry.write(Change::Heard { from: &heard }).unwrap();
    assert!(!is_news(&fleet), "a device that connects changes nothing");
    set_blocked(&mut fleet, &["d-0001"], true);
    assert!(is_news(&fleet));
    set_blocked(&mut fleet, &["d-0001"], false);
    assert!(is_news(&fleet));
    fleet.delete(&["d-0001"]);
    assert!(is_news(&fleet));
    fleet.import(&spec("b"), "IOTC_DEVICEID\nd-9\n");
    assert!(is_news(&fleet));
}
