//! Indexes of the registry follow the conditions of declared groups and jobs: an apply makes and drops them, and
//! `plan -v` shows them.

use std::fs;

use fleetform::execute::{CrashPoints, Inbox, Side};
use fleetform::ops::apply::ApplyOptions;

use crate::world::World;

/// Returns how many indexes for conditions the registry has.
fn indexes(world: &World) -> u64 {
    let text = "SELECT count(*) FROM sqlite_master WHERE type = 'index' AND name GLOB 'query_*'";
    let connection = rusqlite::Connection::open(world.registry_path()).unwrap();
    connection.query_row(text, [], |row| row.get(0)).unwrap()
}

/// Forty devices, a group by their number and a job by their parity.
fn searching_world() -> World {
    let world = World::with_devices("{}", 40);
    world.declare("groups/seven.yaml", "DeviceGroup", "seven", "{query: \"tags.n = '7'\"}");
    world.job("dim", "{target: {query: \"tags.parity = 'odd' AND tags.n != '1'\"}, action: {property: {level: 3}}}");
    world
}

#[test]
fn an_apply_makes_and_drops_what_the_plan_shows() {
    let world = searching_world();
    let quiet = world.run(&["plan"]).expect(0);
    assert!(!quiet.stdout.contains("index"), "{}", quiet.stdout);
    let shown = world.run(&["plan", "-v"]).expect(0).stdout;
    assert!(
        shown.contains("  + index    tags.n       to search by\n  + index    tags.parity  to search by\nPlan: "),
        "{shown}"
    );
    let planned = world.run(&["plan", "--json"]).expect(0).json().remove(0);
    assert_eq!(planned["indexes"], serde_json::json!({"make": ["tags.n", "tags.parity"], "drop": [], "left_out": []}));

    let told = world.run(&["apply", "--yes", "-v"]).expect(0);
    assert!(told.stderr.contains("+ index    tags.parity"), "{}", told.stderr);
    assert_eq!(indexes(&world), 2);
    let again = world.run(&["plan", "-v", "--detailed-exitcode"]).expect(0);
    assert!(!again.stdout.contains("index"), "{}", again.stdout);
    let before = fs::read(world.registry_path()).unwrap();
    assert!(world.apply().unwrap().was_empty);
    assert!(fs::read(world.registry_path()).unwrap() == before, "nothing to do writes nothing");

    fs::remove_file(world.file("groups/seven.yaml")).unwrap();
    world.commit("No group");
    let shown = world.run(&["plan", "-v", "--detailed-exitcode"]).expect(0).stdout;
    assert!(
        shown.contains("  - index    tags.n  no condition searches by it any more\nPlan: nothing to do."),
        "{shown}"
    );
    let applied = world.apply().unwrap();
    assert!(applied.was_empty);
    assert_eq!(applied.indexes.drop, ["tags.n"]);
    assert_eq!(indexes(&world), 1);
}

#[test]
fn a_death_while_indexes_are_made_leaves_them_to_the_next_apply() {
    for (side, left) in [(Side::Before, 0), (Side::After, 2)] {
        let world = searching_world();
        let options = ApplyOptions {
            ports: fleetform::sim::dying(CrashPoints::at_step(side, "make indexes", 1)),
            ..ApplyOptions::default()
        };
        let died = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            world.apply_with(&options, &Inbox::new(), &mut |_| {}).unwrap()
        }));
        assert!(died.is_err(), "{side:?}");
        assert_eq!(indexes(&world), left, "{side:?}");
        let applied = world.apply().unwrap();
        assert!(applied.was_empty && applied.records.is_empty(), "the job was done before: {side:?}");
        assert_eq!(indexes(&world), 2, "{side:?}");
    }
}

#[test]
fn a_full_disk_costs_an_index_and_not_the_apply() {
    let world = searching_world();
    world.apply().unwrap();
    world.declare("groups/odd.yaml", "DeviceGroup", "odd", "{query: \"tags.ring = 'a'\"}");
    world.commit("A group");
    let options = ApplyOptions { growth: Some(0), ..ApplyOptions::default() };
    let applied = world.apply_with(&options, &Inbox::new(), &mut |_| {}).unwrap();
    assert!(applied.index_failure.is_some_and(|failure| failure.contains("full")));
    assert_eq!(indexes(&world), 2);
    assert_eq!(world.apply().unwrap().indexes.make, ["tags.ring"]);
    assert_eq!(indexes(&world), 3);
}

#[test]
fn who_declines_gets_no_index_and_a_rehearsal_makes_none() {
    let world = searching_world();
    world.run(&["simulate"]).expect(0);
    assert!(!world.has_registry());
    world.run(&["apply"]).expect(64);
    assert_eq!(indexes(&world), 0);
}
