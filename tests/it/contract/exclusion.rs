//! Exclusion: who works on a registry, and who did before.

use fleetform::registry::ExclusionFailure;

use super::Fresh;
use super::fleet::FLEET;

pub fn a_second_owner_is_told_who_has_it(fresh: Fresh) {
    let world = fresh();
    let _first = world.place(FLEET).exclude("host-1").unwrap();
    match world.place(FLEET).exclude("host-2").err().expect("it is held") {
        ExclusionFailure::Held(owner) => assert_eq!(owner.as_deref(), Some("host-1")),
        ExclusionFailure::Failed(error) => panic!("{error:?}"),
    }
}

pub fn who_drops_it_frees_it(fresh: Fresh) {
    let world = fresh();
    drop(world.place(FLEET).exclude("host-1").unwrap());
    assert!(world.place(FLEET).exclude("host-2").is_ok());
}

pub fn former_owners_are_listed_until_they_are_forgotten(fresh: Fresh) {
    let world = fresh();
    let place = world.place(FLEET);
    let first = place.exclude("host-1").unwrap();
    assert!(first.former().is_empty());
    drop(first);
    let second = place.exclude("host-2").unwrap();
    assert_eq!(second.former(), ["host-1"]);
    drop(second);
    let third = place.exclude("host-3").unwrap();
    assert_eq!(third.former(), ["host-2", "host-1"]);
    third.forget_former().unwrap();
    assert!(third.former().is_empty());
    drop(third);
    assert_eq!(place.exclude("host-4").unwrap().former(), ["host-3"]);
}

pub fn an_owner_that_comes_back_is_no_former_one(fresh: Fresh) {
    let world = fresh();
    let place = world.place(FLEET);
    drop(place.exclude("host-1").unwrap());
    drop(place.exclude("host-2").unwrap());
    assert_eq!(place.exclude("host-1").unwrap().former(), ["host-2"]);
}
