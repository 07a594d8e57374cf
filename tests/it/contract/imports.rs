//! Imports: staged beside the devices, compared with them, laid over them for a plan, and written.

use fleetform::model::device::{Authentication, DeviceState};
use fleetform::model::digest::Digest;
use fleetform::model::fleet::{ImportFormat, Removed};
use fleetform::registry::{Alike, Change, ImportSpec, Registry, Request, StagedImport, twin_etag};
use serde_json::json;

use super::Fresh;
use super::fleet::{FLEET, Fleet, devices, hub, hub_spec, now, spec, texts};

fn selected(registry: &Registry) -> u64 {
    registry.devices().count(&Request::all()).unwrap().selected
}

fn owner_of(fleet: &Fleet, id: &str) -> Option<String> {
    fleet.registry.devices().imports_of(&texts(&[id])).unwrap().remove(id)
}

pub fn an_import_tells_new_updated_renamed_and_unchanged_rows(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let header = "IOTC_DEVICEID,IOTC_DEVICENAME,TAG.line,CLOUD.owner\n";
    let found = fleet.import(&spec("a"), &format!("{header}d-1,One,1,north\nd-2,Two,1,\nd-3,,,\n"));
    assert_eq!((found.new, found.updated, found.unchanged, found.rejected), (3, 0, 0, 0));
    let device = fleet.device("d-1");
    assert_eq!((device.tags, device.cloud), (json!({"line": "1"}), json!({"owner": "north"})));
    assert_eq!((device.state, fleet.device("d-3").device_name.as_str()), (DeviceState::Unassociated, "d-3"));

    let found = fleet.import(&spec("a"), &format!("{header}d-1,Uno,1,north\nd-2,Two,2,\nd-3,,,\nd-4,Four,,\n"));
    assert_eq!((found.new, found.updated, found.renamed, found.unchanged), (1, 2, 1, 1));
    // An empty cell removes, a column that is not there leaves alone.
    fleet.import(&spec("a"), "IOTC_DEVICEID,CLOUD.owner\nd-1,\n");
    let device = fleet.device("d-1");
    assert_eq!((device.tags, device.cloud), (json!({"line": "1"}), json!({})));
}

pub fn devices_get_keys_once(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("a"), "IOTC_DEVICEID,TAG.x\nd-1,1\nd-2,1\n");
    let keys = fleet.registry.devices().keys("d-1").unwrap();
    let (primary, secondary) = (keys.primary_key.clone().unwrap(), keys.secondary_key.clone().unwrap());
    assert_eq!((primary.len(), secondary.len()), (32, 32));
    assert!(primary != secondary && fleet.registry.devices().keys("d-2").unwrap().primary_key != Some(primary));
    fleet.import(&spec("a"), "IOTC_DEVICEID,TAG.x\nd-1,2\nd-2,1\n");
    assert_eq!(fleet.registry.devices().keys("d-1").unwrap(), keys);
}

/// Imports a file without a row that it had before.
fn without_a_row(fresh: Fresh, removed: Removed, count: u64) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    let spec = ImportSpec { removed, ..spec("a") };
    fleet.import(&spec, "IOTC_DEVICEID\nd-1\nd-2\n");
    fleet.import(&self::spec("b"), "IOTC_DEVICEID\ne-1\n");
    let found = fleet.import(&spec, "IOTC_DEVICEID\nd-1\n");
    assert_eq!(found.removed, count, "{removed:?}");
    assert!(fleet.ids().contains(&"e-1".to_string()), "devices of others stay");
    // Once more: nothing left to remove.
    assert_eq!(fleet.import(&spec, "IOTC_DEVICEID\nd-1\n").removed, 0, "{removed:?}");
    fleet
}

pub fn rows_that_left_the_file_are_kept(fresh: Fresh) {
    let fleet = without_a_row(fresh, Removed::Keep, 0);
    assert!(!fleet.device("d-2").blocked);
}

pub fn rows_that_left_the_file_are_blocked(fresh: Fresh) {
    let fleet = without_a_row(fresh, Removed::Block, 1);
    assert!(fleet.device("d-2").blocked && !fleet.device("d-1").blocked);
}

pub fn rows_that_left_the_file_are_deleted(fresh: Fresh) {
    let fleet = without_a_row(fresh, Removed::Delete, 1);
    assert_eq!(fleet.ids(), ["d-1", "e-1"]);
    assert_eq!(fleet.registry.devices().keys("d-2").unwrap().primary_key, None, "its keys go with it");
}

/// Two devices, and a staged file that changes one of them, has a new one and lacks the other.
fn staged(fresh: Fresh) -> Fleet {
    let mut fleet = Fleet::new(fresh);
    let spec = ImportSpec { removed: Removed::Delete, ..spec("a") };
    fleet.import(&spec, "IOTC_DEVICEID,TAG.n\nd-1,1\nd-2,1\n");
    fleet.stage(&spec, "IOTC_DEVICEID,TAG.n\nd-1,2\nd-3,3\n");
    fleet.registry.imports_mut().overlay().unwrap();
    fleet
}

pub fn what_is_staged_is_seen_and_not_written(fresh: Fresh) {
    let fleet = staged(fresh);
    assert_eq!(fleet.ids(), ["d-1", "d-3"]);
    assert_eq!(fleet.device("d-1").tags, json!({"n": "2"}));
    let other = fleet.reader();
    assert_eq!(selected(&other), 2);
    assert_eq!(other.devices().get("d-1").unwrap().unwrap().tags, json!({"n": "1"}));
}

pub fn what_is_staged_is_gone_when_it_is_cleared(fresh: Fresh) {
    let mut fleet = staged(fresh);
    fleet.registry.imports_mut().clear().unwrap();
    assert_eq!(fleet.ids(), ["d-1", "d-2"]);
    assert_eq!(fleet.device("d-1").tags, json!({"n": "1"}));
    // Nothing of it is laid over the devices later.
    fleet.registry.imports_mut().overlay().unwrap();
    assert_eq!(fleet.ids(), ["d-1", "d-2"]);
}

pub fn what_is_staged_is_not_seen_before_it_is_laid_over(fresh: Fresh) {
    let mut fleet = staged(fresh);
    fleet.registry.imports_mut().clear().unwrap();
    fleet.stage(&spec("a"), "IOTC_DEVICEID\nd-4\n");
    assert_eq!(fleet.ids(), ["d-1", "d-2"]);
    fleet.registry.imports_mut().overlay().unwrap();
    assert_eq!(fleet.ids(), ["d-1", "d-2", "d-4"]);
}

pub fn what_is_staged_is_of_one_open_store(fresh: Fresh) {
    let fleet = staged(fresh);
    let mut other = fleet.another();
    other.imports_mut().overlay().unwrap();
    assert_eq!(other.devices().get("d-1").unwrap().unwrap().tags, json!({"n": "1"}));
    drop(other);
    assert_eq!(fleet.reopened().ids(), ["d-1", "d-2"]);
}

pub fn a_reader_stages_what_does_not_exist_yet(fresh: Fresh) {
    let world = fresh();
    let mut reader = Registry::new(world.place(FLEET).open_for_reading().unwrap());
    let spec = spec("a");
    let mut found = reader.imports_mut().stage(&spec, &mut &b"IOTC_DEVICEID\nd-1\n"[..]).unwrap();
    reader.imports_mut().settle(&spec, &mut found).unwrap();
    reader.imports_mut().overlay().unwrap();
    assert_eq!((found.new, selected(&reader)), (1, 1));
    assert!(!world.is_made());
}

/// A device counts for each row of a file that has it, and for the first import that has it.
pub fn a_device_of_two_staged_files_belongs_to_the_first(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let (a, b) = (spec("a"), spec("b"));
    fleet.registry.imports_mut().stage(&a, &mut &b"IOTC_DEVICEID\nd-1\n"[..]).unwrap();
    let found = fleet.registry.imports_mut().stage(&b, &mut &b"IOTC_DEVICEID\nd-1\nd-2\n"[..]).unwrap();
    assert_eq!((found.new, found.rejected), (1, 1));
    assert!(found.errors[0].message.contains("import/a"), "{:?}", found.errors);
    fleet.registry.write(Change::Import { spec: &a, at: now(), outbox: "" }).unwrap();
    fleet.registry.write(Change::Import { spec: &b, at: now(), outbox: "" }).unwrap();
    assert_eq!(fleet.ids(), ["d-1", "d-2"]);
}

pub fn an_import_that_is_gone_gives_its_devices_up(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("gone"), "IOTC_DEVICEID,TAG.x\nd-1,1\nd-2,1\n");
    let keys = fleet.registry.devices().keys("d-1").unwrap();
    let found = fleet.import(&spec("a"), "IOTC_DEVICEID\nd-1\n");
    assert_eq!((found.updated, found.rejected), (1, 0));
    assert_eq!((fleet.device("d-1").tags, fleet.registry.devices().keys("d-1").unwrap()), (json!({"x": "1"}), keys));
    assert_eq!(fleet.import(&spec("a"), "IOTC_DEVICEID\nd-1\n").unchanged, 1);
    assert_eq!(fleet.import(&spec("b"), "IOTC_DEVICEID\nd-1\nd-2\n").rejected, 1, "it has an owner again");
}

/// A device of the import `a` that a file of the import `b` wants, which was applied once `a` was asked for its file.
fn wanted(fresh: Fresh, file_of_a: &str) -> (Fleet, StagedImport) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("a"), "IOTC_DEVICEID\nd-1\n");
    let b = spec("b");
    let mut found = fleet.registry.imports_mut().stage(&b, &mut &b"IOTC_DEVICEID\nd-2\nd-1\n"[..]).unwrap();
    assert_eq!(fleet.registry.imports().owners_to_ask().unwrap(), ["a"]);
    fleet.registry.imports_mut().ask_owner("a", ImportFormat::Csv, &mut file_of_a.as_bytes()).unwrap();
    fleet.registry.imports_mut().settle(&b, &mut found).unwrap();
    fleet.registry.write(Change::Import { spec: &b, at: now(), outbox: "" }).unwrap();
    (fleet, found)
}

pub fn an_owner_that_is_not_staged_is_asked(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    fleet.import(&spec("a"), "IOTC_DEVICEID\nd-1\n");
    fleet.import(&spec("other"), "IOTC_DEVICEID\ne-1\n");
    assert!(fleet.registry.imports().owners_to_ask().unwrap().is_empty());
    fleet.registry.imports_mut().stage(&spec("other"), &mut &b"IOTC_DEVICEID\n"[..]).unwrap();
    fleet.registry.imports_mut().stage(&spec("b"), &mut &b"IOTC_DEVICEID\nd-1\ne-1\n"[..]).unwrap();
    assert_eq!(fleet.registry.imports().owners_to_ask().unwrap(), ["a"]);
}

pub fn a_device_stays_with_an_owner_that_has_it(fresh: Fresh) {
    let (fleet, found) = wanted(fresh, "IOTC_DEVICEID\nd-1\n");
    assert_eq!((found.new, found.updated, found.rejected), (1, 0, 1));
    assert_eq!((found.errors[0].line, found.errors[0].device_id.as_str()), (3, "d-1"));
    assert_eq!(owner_of(&fleet, "d-1").as_deref(), Some("a"));
}

pub fn a_device_moves_from_an_owner_that_has_it_no_more(fresh: Fresh) {
    let (fleet, found) = wanted(fresh, "IOTC_DEVICEID\nd-9\n");
    assert_eq!((found.new, found.updated, found.rejected), (1, 1, 0));
    assert_eq!(owner_of(&fleet, "d-1").as_deref(), Some("b"));
}

pub fn an_owner_whose_file_cannot_be_used_keeps_its_devices(fresh: Fresh) {
    let (fleet, found) = wanted(fresh, "no header\n");
    assert_eq!((found.new, found.updated, found.rejected), (1, 0, 1));
    assert_eq!(owner_of(&fleet, "d-1").as_deref(), Some("a"));
}

pub fn a_device_moves_between_files_that_are_staged_together(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let (a, b) = (ImportSpec { removed: Removed::Delete, ..spec("a") }, spec("b"));
    fleet.import(&a, "IOTC_DEVICEID,TAG.x\nd-1,1\nd-2,1\n");
    // The first file wants two devices, and the second one has one of them still.
    let mut of_b = fleet.registry.imports_mut().stage(&b, &mut &b"IOTC_DEVICEID\nd-1\nd-2\n"[..]).unwrap();
    let mut of_a = fleet.registry.imports_mut().stage(&a, &mut &b"IOTC_DEVICEID\nd-2\n"[..]).unwrap();
    assert!(fleet.registry.imports().owners_to_ask().unwrap().is_empty());
    fleet.registry.imports_mut().settle(&b, &mut of_b).unwrap();
    fleet.registry.imports_mut().settle(&a, &mut of_a).unwrap();
    assert_eq!((of_b.updated, of_b.rejected, of_a.unchanged, of_a.removed), (1, 1, 1, 0));
    let import = |spec| Change::Import { spec, at: now(), outbox: "" };
    fleet.registry.commit(&[import(&b), import(&a)]).unwrap();
    assert_eq!((owner_of(&fleet, "d-1").as_deref(), owner_of(&fleet, "d-2").as_deref()), (Some("b"), Some("a")));
    assert_eq!(fleet.device("d-1").tags, json!({"x": "1"}));
}

pub fn a_rejected_row_keeps_what_left_the_file(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let spec = ImportSpec { removed: Removed::Delete, ..spec("a") };
    fleet.import(&spec, "IOTC_DEVICEID\nd-1\nd-2\nd-3\n");
    let found = fleet.import(&spec, "IOTC_DEVICEID\nd-1\nd_2\n");
    assert_eq!((found.rejected, found.removed, found.kept), (1, 0, 2));
    assert_eq!(fleet.ids(), ["d-1", "d-2", "d-3"]);
}

pub fn digests_of_imports_are_those_applied_last(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let digest = |text: &str| Digest::of_bytes(text.as_bytes());
    for (name, text) in [("b", "1"), ("a", "2"), ("b", "3")] {
        fleet.import(&ImportSpec { digest: digest(text), ..spec(name) }, "IOTC_DEVICEID\n");
    }
    // What is staged is not applied.
    fleet.stage(&ImportSpec { digest: digest("4"), ..spec("a") }, "IOTC_DEVICEID\n");
    let expect = [("a".to_string(), digest("2").to_string()), ("b".to_string(), digest("3").to_string())];
    assert_eq!(fleet.registry.imports().applied().unwrap(), expect);
}

pub fn an_import_sets_what_its_spec_says(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let says = ImportSpec {
        template: Some("lamp".to_string()),
        organization: Some("acme/eu".to_string()),
        simulated: true,
        ..spec("a")
    };
    fleet.import(&says, "IOTC_DEVICEID\nd-1\n");
    let device = fleet.device("d-1");
    assert_eq!((device.template.as_deref(), device.organization.as_deref()), (Some("lamp"), Some("acme/eu")));
    assert_eq!((device.simulated, device.state), (true, DeviceState::Registered));
    // A device that has a template keeps it.
    let says = ImportSpec { template: Some("heater".to_string()), ..spec("a") };
    assert_eq!(fleet.import(&says, "IOTC_DEVICEID\nd-1\n").updated, 1);
    let device = fleet.device("d-1");
    assert_eq!((device.template.as_deref(), device.organization, device.simulated), (Some("lamp"), None, false));
}

pub fn a_line_of_iot_hub_says_all_of_a_device(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let line = json!({
        "id": "d-1",
        "status": "disabled",
        "capabilities": {"iotEdge": true},
        "authentication": {"type": "selfSigned", "x509Thumbprint": {"primaryThumbprint": "ab".repeat(20)}},
        "tags": {"line": 3},
        "properties": {"desired": {"level": 1, "$version": 7}, "reported": {"lux": 2, "$version": 9}},
    });
    assert_eq!(fleet.import(&hub_spec("a"), &hub(&[line])).new, 1);
    let device = fleet.device("d-1");
    assert!(device.blocked && device.iot_edge);
    assert_eq!((device.tags, device.cloud), (json!({"line": 3}), json!({})));
    assert_eq!((device.desired, device.desired_version), (json!({"level": 1}), 7));
    assert_eq!((device.reported, device.reported_version), (json!({"lux": 2}), 9));
    let keys = fleet.registry.devices().keys("d-1").unwrap();
    assert_eq!((keys.authentication, keys.primary_thumbprint), (Authentication::SelfSigned, Some("ab".repeat(20))));
    // A second line counts a write of the desired section, and leaves alone what the device has reported.
    let line = json!({
        "id": "d-1",
        "status": "enabled",
        "tags": {"line": null},
        "properties": {"desired": {"color": "red"}, "reported": {"lux": 5}},
    });
    assert_eq!(fleet.import(&hub_spec("a"), &hub(&[line])).updated, 1);
    let device = fleet.device("d-1");
    assert!(!device.blocked && device.iot_edge);
    assert_eq!((device.tags, device.reported), (json!({}), json!({"lux": 2})));
    assert_eq!((device.desired, device.desired_version), (json!({"level": 1, "color": "red"}), 8));
}

pub fn a_line_of_iot_hub_deletes_its_device(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 2);
    let line = json!({"id": "d-0001", "importMode": "delete"});
    fleet.stage(&hub_spec("a"), &hub(&[line]));
    fleet.registry.imports_mut().overlay().unwrap();
    assert_eq!(fleet.ids(), ["d-0000"]);
    fleet.registry.write(Change::Import { spec: &hub_spec("a"), at: now(), outbox: "" }).unwrap();
    assert_eq!(devices(&fleet.reader()).len(), 1);
    assert_eq!(fleet.registry.devices().keys("d-0001").unwrap().primary_key, None);
}

/// A line that changes the tags of a device whose twin has an ETag.
fn with_etag(fleet: &mut Fleet, etag: &str) -> StagedImport {
    let line = json!({"id": "d-0000", "importMode": "updateTwinIfMatchETag", "twinETag": etag, "tags": {"n": 2}});
    fleet.import(&hub_spec("all"), &hub(&[line]))
}

pub fn a_row_with_the_etag_of_the_device_is_taken(fresh: Fresh) {
    // Numbers as they were written, and keys in another order than that of their bytes.
    let tags = json!({"n": 1.0, "z": 1e300, "a": [0.1, 1, {"y": 1, "b": "é"}]});
    let mut fleet = Fleet::with_tags(fresh, std::slice::from_ref(&tags));
    let found = with_etag(&mut fleet, &twin_etag(&tags, &json!({})));
    assert_eq!((found.updated, found.errors), (1, vec![]));
}

pub fn a_row_with_another_etag_is_rejected(fresh: Fresh) {
    let mut fleet = Fleet::with_tags(fresh, &[json!({"n": 1})]);
    let found = with_etag(&mut fleet, &twin_etag(&json!({"n": 3}), &json!({})));
    assert_eq!((found.updated, found.rejected), (0, 1));
    assert_eq!(fleet.device("d-0000").tags, json!({"n": 1}));
}

pub fn ids_that_differ_in_case_are_told(fresh: Fresh) {
    let mut fleet = Fleet::new(fresh);
    let found = fleet.import(&spec("a"), "IOTC_DEVICEID\nlamp-1\nLAMP-1\nlamp-2\n");
    let sample = |one: &str, two: &str| Some(Alike { groups: 1, sample: [one.to_string(), two.to_string()] });
    assert_eq!((found.alike, found.alike_registered), (sample("LAMP-1", "lamp-1"), None));
    let found = fleet.import(&spec("b"), "IOTC_DEVICEID\nLamp-2\nlamp-3\n");
    assert_eq!((found.alike, found.alike_registered), (None, sample("Lamp-2", "lamp-2")));
    assert_eq!(fleet.ids(), ["LAMP-1", "Lamp-2", "lamp-1", "lamp-2", "lamp-3"]);
}
