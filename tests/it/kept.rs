//! What the pages keep between two requests is never older than the branch, the files and the registry.

use std::process::Command;

use serde_json::{Value, json};

use crate::web::Served;
use crate::world::World;

const SPEC: &str = "{link: {simulated: {latency: 1ms, devices: {d-003: {answers: 500}}}}}";
const PAGES: [&str; 11] = [
    "/jobs",
    "/jobs?limit=2",
    "/jobs?status=completed",
    "/jobs/one",
    "/jobs/two",
    "/jobs/one?after=d-005&limit=3",
    "/devices/d-003",
    "/groups",
    "/failing",
    "/imports",
    "/schedules",
];

fn command(name: &str) -> String {
    format!("{{target: {{query: '*'}}, action: {{command: {{name: {name}}}}}}}")
}

fn git(world: &World, folder: &str, arguments: &[&str]) -> String {
    let output = Command::new("git").current_dir(world.file(folder)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

/// The names of the runs that a server lists.
fn jobs(served: &Served) -> Vec<String> {
    let page = served.json("/jobs");
    let runs = page["runs"].as_array().unwrap().iter().map(|run| run["job"].as_str().unwrap().to_string());
    let runs: Vec<String> = runs.collect();
    assert_eq!(page["total"], json!(runs.len()));
    runs
}

#[test]
fn a_page_shows_what_another_process_has_committed() {
    let world = World::with_devices(SPEC, 12);
    world.job("one", &command("reboot"));
    world.apply().unwrap();
    let served = Served::of(world.path(), &[]);
    assert_eq!(jobs(&served), ["one"]);
    assert_eq!(served.json("/failing")["devices"][0]["failed_runs"], 1);
    for page in PAGES {
        served.html(page);
    }
    world.job("two", &command("check"));
    world.declare("group.yaml", "DeviceGroup", "all", "{query: '*'}");
    world.commit("group");
    world.apply().unwrap();
    assert_eq!(jobs(&served), ["two", "one"]);
    assert_eq!(served.json("/failing")["devices"][0]["failed_runs"], 2);
    assert_eq!(served.json("/devices/d-003")["jobs"].as_array().unwrap().len(), 2);
    // A job that waits for devices is one that goes on.
    world.job("three", &command("wait"));
    world.sql("UPDATE device SET connection_state = 'Disconnected'");
    world.apply().unwrap();
    // One that has read it all bit by bit shows what one shows that reads it for the first time.
    let fresh = Served::of(world.path(), &[]);
    for page in PAGES.into_iter().chain(["/jobs/three", "/"]) {
        assert_eq!(served.json(page), fresh.json(page), "{page}");
    }
}

#[test]
fn a_page_shows_a_branch_that_was_put_back_as_it_is() {
    const RESULTS: &str = "refs/remotes/origin/fleetform/results";
    let world = World::with_devices(SPEC, 12);
    world.job("one", &command("reboot"));
    world.apply().unwrap();
    git(&world, ".", &["clone", "--quiet", ".", ".git/clone"]);
    let served = Served::of(&world.file(".git/clone"), &[]);
    assert_eq!(jobs(&served), ["one"]);
    let before = git(&world, ".git/clone", &["rev-parse", RESULTS]);
    world.job("two", &command("check"));
    world.apply().unwrap();
    assert_eq!(jobs(&served), ["one"]);
    git(&world, ".git/clone", &["fetch", "--quiet"]);
    let after = git(&world, ".git/clone", &["rev-parse", RESULTS]);
    assert_eq!(jobs(&served), ["two", "one"]);
    served.json("/jobs/two");
    assert_eq!(served.json("/failing")["devices"][0]["failed_runs"], 2);
    git(&world, ".git/clone", &["update-ref", RESULTS, &before]);
    assert_eq!(jobs(&served), ["one"]);
    assert_eq!(served.json("/failing")["devices"][0]["failed_runs"], 1);
    served.html("/jobs/two").expect(404);
    git(&world, ".git/clone", &["update-ref", RESULTS, &after]);
    assert_eq!(jobs(&served), ["two", "one"]);
    // A commit that is not ours is told however much was read before it.
    let tree = format!("{after}^{{tree}}");
    let author = ["-c", "user.name=x", "-c", "user.email=x@localhost"];
    let foreign = [&author[..], &["commit-tree", &tree, "-p", &after, "-m", "by hand"]].concat();
    let foreign = git(&world, ".git/clone", &foreign);
    git(&world, ".git/clone", &["update-ref", RESULTS, &foreign]);
    assert_ne!(served.html("/jobs").status, 200);
    git(&world, ".git/clone", &["update-ref", RESULTS, &after]);
    assert_eq!(jobs(&served), ["two", "one"]);
}

#[test]
fn a_page_shows_the_files_and_the_registry_as_they_are() {
    let world = World::with_devices(SPEC, 12);
    world.declare("group.yaml", "DeviceGroup", "all", "{query: '*'}");
    world.commit("a group");
    world.apply().unwrap();
    let served = Served::of(world.path(), &[]);
    let groups = || {
        let page = served.json("/groups");
        let names = page["groups"].as_array().unwrap().iter().map(|group| group["group"].clone());
        names.collect::<Vec<Value>>()
    };
    assert_eq!(groups(), ["all"]);
    world.declare("more.yaml", "DeviceGroup", "more", "{query: '*'}");
    assert_eq!(groups(), ["all"]);
    world.commit("another group");
    assert_eq!(groups(), ["all", "more"]);
    git(&world, ".", &["reset", "--quiet", "--hard", "HEAD~1"]);
    assert_eq!(groups(), ["all"]);
    // What cannot be used on `HEAD` is looked for in the work tree, and that is not kept.
    world.write("broken.yaml", "kind: [");
    world.commit("broken");
    let notes = |page: &Value| page["notes"].as_array().unwrap().len();
    assert_eq!(notes(&served.json("/groups")), 1);
    world.write("broken.yaml", "# Nothing.\n");
    assert_eq!(notes(&served.json("/groups")), 0);
    world.write("broken.yaml", "kind: [");
    assert_eq!(notes(&served.json("/groups")), 1);
    assert_eq!(served.json("/devices/d-001")["device_name"], "Device 1");
    assert_eq!(served.json("/groups")["groups"][0]["devices"], 12);
    world.sql("UPDATE device SET device_name = 'Renamed' WHERE device_id = 'd-001'");
    world.sql("DELETE FROM device WHERE device_id = 'd-002'");
    assert_eq!(served.json("/devices/d-001")["device_name"], "Renamed");
    assert_eq!(served.json("/groups")["groups"][0]["devices"], 11);
}

#[test]
fn a_copy_of_some_seconds_is_for_those_who_say_that_it_will_do() {
    let world = World::with_devices(SPEC, 2);
    world.job("one", &command("reboot"));
    world.apply().unwrap();
    let served = Served::of(world.path(), &[]);
    let total = |headers: &[&str]| {
        let headers: Vec<&str> = ["Accept: application/json"].iter().chain(headers).copied().collect();
        served.ask("/jobs", &headers).expect(200).json()["total"].as_u64().unwrap()
    };
    let copy = "Cache-Control: max-age=10";
    assert_eq!((total(&[copy]), total(&[])), (1, 1));
    world.job("two", &command("check"));
    world.apply().unwrap();
    assert_eq!(total(&[]), 2, "nobody else gets a copy");
    assert_eq!(total(&["Cache-Control: max-age=0"]), 2);
    assert_eq!(total(&["Cache-Control: no-cache, max-age=10"]), 2);
    assert_eq!(served.ask("/jobs?limit=1", &["Accept: application/json", copy]).json()["total"], 2, "another page");
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(total(&["Cache-Control: max-age=1"]), 2, "the copy is older");
}
