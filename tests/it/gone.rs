//! What has run and leaves the files: a plan says so once, until that is applied.

use crate::world::World;

const SPEC: &str = "{link: {simulated: {journal: devices.jsonl}}}";
const DIM: &str = "{target: {query: '*'}, action: {tags: {level: 3}}}";

fn world() -> World {
    let world = World::with_devices(SPEC, 3);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("dim", DIM);
    world.apply().unwrap();
    world
}

fn gone_lines(world: &World, arguments: &[&str]) -> Vec<String> {
    let plan = world.run(arguments).expect(0);
    plan.stdout.lines().filter(|line| line.contains("- gone")).map(str::to_string).collect()
}

#[test]
fn a_job_that_is_deleted_after_it_ran_is_gone_until_that_is_applied() {
    let world = world();
    std::fs::remove_file(world.file("jobs/dim.yaml")).unwrap();
    let line = "  - gone     job/dim run 1  completed: 3 of 3 devices completed; what it wrote stays";
    assert_eq!(gone_lines(&world, &["plan"]), [line], "in the work tree");
    world.commit("no dim");
    assert_eq!(gone_lines(&world, &["plan", "--rev", "HEAD", "--detailed-exitcode"]), [line], "nothing is to be done");
    let plan = world.run(&["plan", "--json"]).expect(0);
    assert!(plan.stdout.contains("\"gone\""), "{plan:?}");
    world.apply().unwrap();
    assert_eq!(gone_lines(&world, &["plan"]), [""; 0], "it was said");
}

#[test]
fn a_revert_says_what_is_gone() {
    let world = world();
    let repository = git2::Repository::open(world.file("")).unwrap();
    let head = repository.head().unwrap().peel_to_commit().unwrap();
    // The tree of the commit before, as `git revert` makes it.
    let (before, who) = (head.parent(0).unwrap().tree().unwrap(), head.author());
    repository.commit(Some("HEAD"), &who, &who, "revert", &before, &[&head]).unwrap();
    repository.checkout_head(Some(git2::build::CheckoutBuilder::new().force())).unwrap();
    let lines = gone_lines(&world, &["plan"]);
    assert!(lines.iter().any(|line| line.contains("job/dim run 1")), "{lines:?}");
}

#[test]
fn a_moved_a_renamed_and_a_held_document_are_not_gone() {
    let world = world();
    std::fs::create_dir_all(world.file("other")).unwrap();
    std::fs::rename(world.file("jobs/dim.yaml"), world.file("other/dim.yaml")).unwrap();
    assert_eq!(gone_lines(&world, &["plan"]), [""; 0], "another folder");
    std::fs::remove_file(world.file("other/dim.yaml")).unwrap();
    let renamed = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: dimmer, previousName: dim}\n";
    world.write("jobs/dimmer.yaml", format!("{renamed}spec: {DIM}\n"));
    assert_eq!(gone_lines(&world, &["plan"]), [""; 0], "another name");
}

#[test]
fn an_import_that_leaves_is_gone_and_its_devices_stay() {
    let world = world();
    std::fs::remove_file(world.file("imports.yaml")).unwrap();
    assert_eq!(gone_lines(&world, &["plan"]), ["  - gone     import/all     what it imported stays"]);
    world.commit("no import");
    world.apply().unwrap();
    assert_eq!(world.devices().len(), 3);
}
