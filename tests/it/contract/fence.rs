//! The fence: whose lease was taken over writes nothing any more.

use fleetform::registry::{Change, KeptFile, Registry, RegistryError};

use super::Fresh;
use super::fleet::{Fleet, now, texts};

/// A fleet that works with epoch 4, and a registry of another process that has taken it over with epoch 5.
fn taken_over(fresh: Fresh) -> (Fleet, Registry) {
    let mut fleet = Fleet::with_devices(fresh, 1);
    fleet.registry.enter_epoch(4).unwrap();
    let mut newer = fleet.another();
    newer.enter_epoch(5).unwrap();
    (fleet, newer)
}

fn block(registry: &mut Registry) -> Result<Vec<String>, RegistryError> {
    let answer = registry.write(Change::Block { device_ids: &texts(&["d-0000"]), is_blocked: true, at: now() })?;
    Ok(answer.into_devices())
}

fn keep(registry: &mut Registry) -> Result<(), RegistryError> {
    let file = KeptFile { path: "imports/a/1/report.json".to_string(), content: b"{}".to_vec(), blob_id: None };
    registry.keep_files(std::iter::once(Ok(file)))
}

#[track_caller]
fn is_fenced<T>(result: Result<T, RegistryError>) {
    let error = result.err().expect("it comes too late");
    assert!(matches!(error, RegistryError::Fenced { .. }), "{error:?}");
}

pub fn a_commit_of_an_older_epoch_is_refused(fresh: Fresh) {
    let (mut fleet, _newer) = taken_over(fresh);
    is_fenced(block(&mut fleet.registry));
    assert!(!fleet.device("d-0000").blocked);
}

pub fn files_of_an_older_epoch_are_refused(fresh: Fresh) {
    let (mut fleet, _newer) = taken_over(fresh);
    is_fenced(keep(&mut fleet.registry));
    assert!(fleet.registry.branch_copy().file_ids().unwrap().is_empty());
}

pub fn an_older_epoch_is_not_entered(fresh: Fresh) {
    let (mut fleet, _newer) = taken_over(fresh);
    is_fenced(fleet.registry.enter_epoch(4));
    assert_eq!(fleet.registry.noted_epoch().unwrap(), 5);
}

pub fn who_is_refused_an_epoch_writes_nothing(fresh: Fresh) {
    let (mut fleet, _newer) = taken_over(fresh);
    is_fenced(fleet.registry.enter_epoch(4));
    is_fenced(block(&mut fleet.registry));
    let mut late = fleet.another();
    is_fenced(late.enter_epoch(3));
    is_fenced(block(&mut late));
}

pub fn the_newer_epoch_goes_on(fresh: Fresh) {
    let (mut fleet, mut newer) = taken_over(fresh);
    is_fenced(block(&mut fleet.registry));
    assert_eq!(block(&mut newer).unwrap(), ["d-0000"]);
    keep(&mut newer).unwrap();
    newer.enter_epoch(6).unwrap();
    assert_eq!(newer.noted_epoch().unwrap(), 6);
}

pub fn an_epoch_is_entered_again(fresh: Fresh) {
    let (_fleet, mut newer) = taken_over(fresh);
    newer.enter_epoch(5).unwrap();
    assert_eq!(block(&mut newer).unwrap(), ["d-0000"]);
}

pub fn who_has_no_lease_is_not_fenced(fresh: Fresh) {
    let (fleet, _newer) = taken_over(fresh);
    assert_eq!(block(&mut fleet.another()).unwrap(), ["d-0000"]);
}

pub fn an_epoch_outlives_its_store(fresh: Fresh) {
    let (fleet, newer) = taken_over(fresh);
    drop(newer);
    assert_eq!(fleet.reopened().registry.noted_epoch().unwrap(), 5);
}
