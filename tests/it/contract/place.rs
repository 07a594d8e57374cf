//! Places: what opening a registry makes, and whose it is.

use fleetform::registry::{Change, Noted, Registry, RegistryError, Request, Store};

use super::Fresh;
use super::fleet::{FLEET, Fleet, now, spec};

/// Returns the fleet that a registry is said to belong to.
#[track_caller]
fn owner_of(opened: Result<Box<dyn Store>, RegistryError>) -> String {
    match opened.err().expect("it is refused") {
        RegistryError::Foreign { known, .. } => known,
        other => panic!("{other:?}"),
    }
}

pub fn a_place_that_does_not_exist_reads_as_empty(fresh: Fresh) {
    let world = fresh();
    let registry = Registry::new(world.place(FLEET).open_for_reading().unwrap());
    assert_eq!(registry.devices().observe(&Request::all()).unwrap().ids.len(), 0);
    assert_eq!(registry.devices().count(&Request::all()).unwrap().selected, 0);
    assert_eq!(registry.devices().get("d-0000").unwrap(), None);
    assert_eq!(registry.journal().unclosed().unwrap(), []);
    assert_eq!(registry.imports().applied().unwrap(), []);
    assert!(!registry.branch_copy().exists().unwrap());
    assert_eq!(registry.branch_copy().runs().unwrap(), []);
    assert_eq!(registry.branch_copy().outbox().unwrap(), []);
    assert_eq!(registry.branch_copy().noted(Noted::ResultsTip).unwrap(), None);
    assert_eq!(registry.noted_epoch().unwrap(), 0);
}

pub fn reading_makes_nothing(fresh: Fresh) {
    let world = fresh();
    assert!(!world.is_made());
    drop(world.place(FLEET).open_for_reading().unwrap());
    assert!(!world.is_made());
}

pub fn opening_makes_it(fresh: Fresh) {
    let world = fresh();
    drop(world.place(FLEET).open().unwrap());
    assert!(world.is_made());
}

pub fn the_registry_of_another_fleet_is_refused(fresh: Fresh) {
    let world = fresh();
    drop(world.place(FLEET).open().unwrap());
    assert_eq!(owner_of(world.place("other").open()), FLEET);
}

pub fn the_registry_of_another_fleet_is_refused_for_reading(fresh: Fresh) {
    let world = fresh();
    drop(world.place(FLEET).open().unwrap());
    assert_eq!(owner_of(world.place("other").open_for_reading()), FLEET);
}

pub fn what_was_committed_is_there_when_it_is_opened_again(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 3);
    let (run_id, ids) = (fleet.run("dim"), fleet.target());
    fleet.registry.write(Change::Mark { run_id, devices: &[(1, 1)], ids: &ids, at: now() }).unwrap();
    fleet.registry.write(Change::Note { what: Noted::AppliedHead, commit: "c1" }).unwrap();
    let runs = fleet.registry.journal().unclosed().unwrap();

    let fleet = fleet.reopened();
    assert_eq!(fleet.ids(), ["d-0000", "d-0001", "d-0002"]);
    assert_eq!(fleet.registry.journal().unclosed().unwrap(), runs);
    assert_eq!(fleet.marked(run_id), [1]);
    assert_eq!(fleet.registry.branch_copy().noted(Noted::AppliedHead).unwrap().as_deref(), Some("c1"));
    assert_eq!(fleet.registry.imports().applied().unwrap(), [("all".to_string(), spec("all").digest.to_string())]);
}

pub fn a_reader_sees_what_is_committed_meanwhile(fresh: Fresh) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    let reader = fleet.reader();
    assert!(!reader.devices().get("d-0000").unwrap().unwrap().blocked);
    fleet.block(&["d-0000"]);
    assert!(reader.devices().get("d-0000").unwrap().unwrap().blocked);
}
