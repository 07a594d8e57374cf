//! Copies for one process alone: what a rehearsal works on.

use fleetform::model::outcome::Reason;
use fleetform::registry::{Change, KeptFile, Noted, Registry, RegistryError};

use super::Fresh;
use super::fleet::{FLEET, Fleet, devices, name, now, outcome, spec, texts};

/// Ten devices, a run under way and what a branch has left behind; with the number of the run.
fn in_use(fresh: Fresh) -> (Fleet, i64) {
    let mut fleet = Fleet::with_devices(fresh, 10);
    let run_id = fleet.run("dim");
    fleet.record(run_id, &[outcome(3, Reason::Responded)]);
    fleet.registry.write(Change::Confirm { run_id }).unwrap();
    let file = KeptFile { path: "imports/a".to_string(), content: b"{}".to_vec(), blob_id: None };
    fleet.registry.keep_files::<RegistryError>(std::iter::once(Ok(file))).unwrap();
    fleet.registry.write(Change::Note { what: Noted::AppliedHead, commit: "c1" }).unwrap();
    fleet.registry.enter_epoch(4).unwrap();
    (fleet, run_id)
}

pub fn a_copy_has_what_the_registry_has(fresh: Fresh) {
    let (fleet, run_id) = in_use(fresh);
    let copy = fleet.registry.scratch_copy().unwrap();
    assert_eq!(devices(&copy), devices(&fleet.registry));
    assert_eq!(copy.devices().keys("d-0003").unwrap(), fleet.registry.devices().keys("d-0003").unwrap());
    assert_eq!(copy.journal().unclosed().unwrap(), fleet.registry.journal().unclosed().unwrap());
    assert_eq!(copy.journal().pending_targets(run_id).unwrap().len(), 9);
    assert_eq!(copy.journal().claims_version().unwrap(), fleet.registry.journal().claims_version().unwrap());
    assert_eq!(copy.branch_copy().runs().unwrap(), fleet.registry.branch_copy().runs().unwrap());
    assert_eq!(copy.branch_copy().outbox().unwrap(), fleet.registry.branch_copy().outbox().unwrap());
    assert_eq!(copy.kept_files(|_| true).unwrap(), fleet.registry.kept_files(|_| true).unwrap());
    assert_eq!(copy.branch_copy().noted(Noted::AppliedHead).unwrap().as_deref(), Some("c1"));
    assert_eq!(copy.imports().applied().unwrap(), fleet.registry.imports().applied().unwrap());
    assert_eq!(copy.noted_epoch().unwrap(), 4);
}

pub fn what_is_written_to_a_copy_stays_there(fresh: Fresh) {
    let (fleet, run_id) = in_use(fresh);
    let mut copy = fleet.registry.scratch_copy().unwrap();
    copy.write(Change::Block { device_ids: &texts(&["d-0001"]), is_blocked: true, at: now() }).unwrap();
    copy.write(Change::Delete { device_ids: &texts(&["d-0002"]) }).unwrap();
    copy.write(Change::Close { run_id }).unwrap();
    assert!(copy.devices().get("d-0001").unwrap().unwrap().blocked);
    assert_eq!(copy.devices().get("d-0002").unwrap(), None);
    assert_eq!(copy.journal().unclosed().unwrap(), []);

    assert!(!fleet.device("d-0001").blocked);
    assert_eq!(fleet.ids().len(), 10);
    let unclosed = fleet.reopened().registry.journal().unclosed().unwrap();
    assert_eq!(unclosed.iter().map(|run| run.job.clone()).collect::<Vec<_>>(), [name("dim")]);
}

pub fn what_is_written_after_the_copy_is_not_in_it(fresh: Fresh) {
    let (mut fleet, run_id) = in_use(fresh);
    let copy = fleet.registry.scratch_copy().unwrap();
    fleet.block(&["d-0001"]);
    fleet.delete(&["d-0002"]);
    fleet.registry.write(Change::Close { run_id }).unwrap();
    fleet.registry.enter_epoch(5).unwrap();
    assert!(!copy.devices().get("d-0001").unwrap().unwrap().blocked);
    assert_eq!(devices(&copy).len(), 10);
    assert_eq!(copy.journal().unclosed().unwrap().len(), 1);
    assert_eq!(copy.noted_epoch().unwrap(), 4);
}

pub fn a_copy_of_what_does_not_exist_can_be_written(fresh: Fresh) {
    let world = fresh();
    let reader = Registry::new(world.place(FLEET).open_for_reading().unwrap());
    let mut copy = reader.scratch_copy().unwrap();
    let spec = spec("a");
    let mut found = copy.imports_mut().stage(&spec, &mut &b"IOTC_DEVICEID\nd-1\n"[..]).unwrap();
    copy.imports_mut().settle(&spec, &mut found).unwrap();
    copy.write(Change::Import { spec: &spec, at: now(), outbox: "" }).unwrap();
    assert_eq!(devices(&copy).len(), 1);
    assert_eq!(devices(&reader).len(), 0);
    assert!(!world.is_made());
}

pub fn a_copy_outlives_its_registry(fresh: Fresh) {
    let (fleet, _) = in_use(fresh);
    let copy = fleet.registry.scratch_copy().unwrap();
    let Fleet { registry, .. } = fleet;
    drop(registry);
    assert_eq!(devices(&copy).len(), 10);
}
