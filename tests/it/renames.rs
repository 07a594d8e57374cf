//! Jobs and schedules that are renamed, once and again.

use std::time::Duration;

use fleetform::plan::ActionKind;

use crate::world::World;

const SPEC: &str = "{link: {simulated: {journal: devices.jsonl}}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

fn world() -> World {
    let world = World::with_devices(SPEC, 3);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("a", REBOOT);
    world.apply().unwrap();
    world
}

/// Moves a job to another name that says what it was before.
fn rename(world: &World, old: &str, new: &str, previous: &str, spec: &str) {
    std::fs::remove_file(world.file(&format!("jobs/{old}.yaml"))).unwrap();
    let text = format!(
        "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {new}, previousName: {previous}}}\nspec: {spec}\n"
    );
    world.write(&format!("jobs/{new}.yaml"), text);
    world.commit(&format!("{old} is {new}"));
}

fn reboots(world: &World) -> usize {
    let journal = std::fs::read_to_string(world.file("devices.jsonl")).unwrap();
    journal.lines().filter(|line| line.contains("\"reboot\"")).count()
}

#[test]
fn a_chain_of_renames_is_followed() {
    let world = world();
    rename(&world, "a", "b", "a", REBOOT);
    world.apply().unwrap();
    assert!(world.results().contains_key("renames/b.json"), "the branch remembers it");
    // The first name is in use again, for another job.
    world.job("a", "{run: '2', target: {query: '*'}, action: {command: {name: blink}}}");
    world.apply().unwrap();
    rename(&world, "b", "c", "b", REBOOT);
    assert_eq!(world.planned_action("c"), ActionKind::Done);
    world.apply().unwrap();
    rename(&world, "c", "d", "c", REBOOT);
    world.apply().unwrap();
    assert_eq!(reboots(&world), 3);
}

#[test]
fn an_edit_with_the_second_rename_is_an_edit_of_the_run() {
    let world = world();
    rename(&world, "a", "b", "a", REBOOT);
    world.apply().unwrap();
    rename(&world, "b", "c", "b", &REBOOT.replace("reboot}", "reboot, responseTimeout: 6s}"));
    let ran = world.run(&["apply", "--yes"]).expect(65);
    assert!(ran.stderr.contains("FF603"), "{ran:?}");
    assert_eq!(reboots(&world), 3);
}

#[test]
fn renames_that_no_apply_has_seen_are_listed() {
    let world = world();
    rename(&world, "a", "b", "a", REBOOT);
    rename(&world, "b", "c", "b", &REBOOT.replace("reboot}", "reboot, responseTimeout: 6s}"));
    let ran = world.run(&["plan"]).expect(65);
    assert!(ran.stderr.contains("says that it was named `b`, and nothing is known of that name"), "{ran:?}");
    // Followed to the letter: the list says it, and then it is an edit.
    rename(&world, "c", "d", "[c, b, a]", &REBOOT.replace("reboot}", "reboot, responseTimeout: 6s}"));
    let ran = world.run(&["plan"]).expect(65);
    assert!(ran.stderr.contains("FF603"), "{ran:?}");
    rename(&world, "d", "e", "[d, c, b, a]", REBOOT);
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(reboots(&world), 3);
}

#[test]
fn a_name_is_remembered_when_the_branch_and_then_the_registry_are_lost() {
    let world = world();
    rename(&world, "a", "b", "a", REBOOT);
    world.apply().unwrap();
    world.repository().find_reference("refs/heads/fleetform/results").unwrap().delete().unwrap();
    world.apply().unwrap();
    world.lose_registry();
    world.job("a", "{run: '2', target: {query: '*'}, action: {command: {name: blink}}}");
    rename(&world, "b", "c", "b", REBOOT);
    world.apply().unwrap();
    assert_eq!(reboots(&world), 3);
}

#[test]
fn a_schedule_that_is_renamed_twice_repeats_nothing() {
    let world = World::with_devices(SPEC, 2);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    let spec = |name: &str, previous: &str| {
        format!(
            "apiVersion: fleetform/v1\nkind: Schedule\nmetadata: {{name: {name}{previous}}}\nspec: {{start: \
             2026-11-19T02:30:00, timeZone: UTC, recurrence: daily, job: {REBOOT}}}\n"
        )
    };
    world.write("nightly.yaml", spec("a", ""));
    world.commit("a");
    world.apply().unwrap();
    world.write("nightly.yaml", spec("b", ", previousName: a"));
    world.commit("b");
    world.apply().unwrap();
    world.write("nightly.yaml", spec("c", ", previousName: [b, a]"));
    world.commit("c");
    world.pass(Duration::from_secs(60));
    world.run(&["plan"]).expect(0);
}

#[test]
fn a_run_is_found_under_each_name_that_its_job_had() {
    let world = world();
    rename(&world, "a", "b", "a", REBOOT);
    world.apply().unwrap();
    rename(&world, "b", "c", "b", REBOOT);
    world.apply().unwrap();
    for name in ["a", "b", "c"] {
        let show = world.run(&["job", "show", name]).expect(0);
        assert!(show.stdout.contains("job a run 1") && show.stdout.contains("completed"), "{name}: {show:?}");
        world.run(&["job", "show", name, "--run", "1", "--why"]).expect(0);
    }
    let why = world.run(&["job", "show", "c", "--why"]).expect(0);
    assert!(!why.stdout.contains("not claimed"), "{why:?}");
    // Devices of the run are taken by the name of now, and by the one before.
    for (name, source) in [("again", "c"), ("more", "b")] {
        world.job(
            name,
            &format!("{{target: {{failedOf: {{job: {source}, run: '1'}}}}, action: {{command: {{name: blink}}}}}}"),
        );
        let plan = world.run(&["plan"]).expect(0);
        assert!(plan.stdout.contains(&format!("job/{name}")), "{plan:?}");
    }
    // Nothing has failed in it, which is another answer than that there is no such run.
    let rerun = world.run(&["job", "rerun", "c", "--no-commit"]);
    assert!(rerun.stderr.contains("no device failed in"), "{rerun:?}");
}
