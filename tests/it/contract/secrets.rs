//! Marks of secrets: one key for all of a registry, and what devices report of what they were sent.

use fleetform::model::patch::Section;
use fleetform::model::secret::SecretKey;
use fleetform::registry::{Change, Heard, HeardOf, Registry, sqlite};
use serde_json::{Value, json};

use super::Fresh;
use super::fleet::{FLEET, Fleet, now};

const VALUE: &str = "hunter2-contract";

fn key(registry: &Registry) -> SecretKey {
    registry.secret_key().unwrap().expect("the key was made")
}

/// Two devices, the first of which has a secret.
fn with_secret(fresh: Fresh) -> (Fleet, String) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    fleet.registry.write(Change::MakeSecretKey).unwrap();
    let mark = key(&fleet.registry).mark(VALUE);
    fleet.write(Section::Desired, json!({"psk": mark}), None);
    fleet.delete(&["d-0001"]);
    fleet.import(&super::fleet::spec("more"), "IOTC_DEVICEID\nd-0001\n");
    (fleet, mark)
}

fn report(fleet: &mut Fleet, device_id: &str, patch: &Value) -> Value {
    let from = [Heard { device_id, at: now(), what: HeardOf::Report { patch } }];
    fleet.registry.write(Change::Heard { from: &from }).unwrap();
    fleet.device(device_id).reported
}

pub fn a_key_is_made_once_and_stays(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    assert_eq!(fleet.registry.secret_key().unwrap(), None);
    fleet.registry.write(Change::MakeSecretKey).unwrap();
    let made = key(&fleet.registry);
    assert_ne!(made, SecretKey::default());
    fleet.registry.write(Change::MakeSecretKey).unwrap();
    assert_eq!(key(&fleet.reader()), made);
    assert_eq!(key(&fleet.registry.scratch_copy().unwrap()), made, "a copy for a rehearsal compares as this one");
    assert_eq!(key(&fleet.reopened().registry), made);
}

pub fn registries_have_different_keys(fresh: Fresh) {
    let mut fleets = [Fleet::new(fresh), Fleet::new(fresh)];
    fleets.iter_mut().for_each(|fleet| drop(fleet.registry.write(Change::MakeSecretKey).unwrap()));
    assert_ne!(key(&fleets[0].registry), key(&fleets[1].registry));
}

pub fn a_report_of_its_secret_is_marked(fresh: Fresh) {
    let (mut fleet, mark) = with_secret(fresh);
    let reported = report(&mut fleet, "d-0000", &json!({"now": {"psk": VALUE, "more": [VALUE, 1]}, "x": "hunter2"}));
    assert_eq!(reported, json!({"now": {"psk": mark, "more": [mark, 1]}, "x": "hunter2"}));
    // It is not told apart where the device has no such secret.
    assert_eq!(report(&mut fleet, "d-0001", &json!({"psk": "another"})), json!({"psk": "another"}));
}

pub fn a_keyless_copy_has_neither_key_nor_marks(fresh: Fresh) {
    let (mut fleet, mark) = with_secret(fresh);
    report(&mut fleet, "d-0000", &json!({"psk": VALUE, "x": 1}));
    let folder = crate::world::folder();
    let path = folder.path().join("keyless.db");
    fleet.registry.write_keyless(&path).unwrap();
    let copy = sqlite::open_for_reading(&path, FLEET).unwrap();
    assert_eq!(copy.secret_key().unwrap(), None);
    let device = copy.devices().get("d-0000").unwrap().unwrap();
    assert_eq!((device.desired, device.reported), (json!({"psk": "(secret)"}), json!({"psk": "(secret)", "x": 1})));
    let bytes = std::fs::read(&path).unwrap();
    assert!(!bytes.windows(mark.len()).any(|at| at == mark.as_bytes()));
    assert_eq!(fleet.device("d-0000").desired, json!({"psk": mark}), "the registry keeps its own");
}
