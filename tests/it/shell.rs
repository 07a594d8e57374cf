//! What a person has around the commands: the folder that they stand in, words and codes explained, and errors that a
//! program reads.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::world::{Ran, World, fleetform};

/// Returns the error of a command as a program reads it.
fn error(ran: &Ran) -> Value {
    serde_json::from_str(ran.stderr.lines().last().unwrap()).unwrap_or_else(|e| panic!("{e}: {ran:#?}"))
}

#[test]
fn words_and_codes_are_explained() {
    let world = World::with_devices("{}", 1);
    let claim = world.run(&["explain", "claim"]).expect(0);
    assert!(claim.stdout.starts_with("claim\n\n") && claim.stdout.contains("results branch"), "{claim:?}");
    for word in ["take-over", "Take Over", "desired", "run token", "signs of a plan", "ff301"] {
        world.run(&["explain", word]).expect(0);
    }
    let words = world.run(&["explain", "desired", "--json"]).expect(0).json();
    assert_eq!(words.len(), 1);
    assert_eq!(words[0]["word"], "desired, reported");
    let codes = world.run(&["explain", "FF301", "--json"]).expect(0).json();
    assert_eq!((&codes[0]["code"], &codes[0]["severity"]), (&json!("FF301"), &json!("error")));
    let all = world.run(&["explain", "--json"]).expect(0).json();
    assert!(all.iter().any(|line| line["code"] == "FF604") && all.iter().any(|line| line["word"] == "lease"));
    let unknown = world.run(&["explain", "clam"]).expect(64);
    assert!(unknown.stderr.contains("Did you mean `claim`?"), "{unknown:?}");
}

#[test]
fn errors_are_json_where_json_was_asked_for() {
    let world = World::with_devices("{}", 1);
    let missing = world.run(&["job", "show", "none", "--json"]).expect(1);
    assert_eq!(error(&missing)["error"], "there is no job `none`");
    assert_eq!(error(&missing)["exit_code"], 1);
    assert!(error(&missing)["help"].as_str().unwrap().contains("fleetform job list"), "{missing:?}");
    let misspelt = world.run(&["plann", "--json"]).expect(64);
    assert_eq!(error(&misspelt)["exit_code"], 64);
    assert_eq!(error(&misspelt)["error"], "unrecognized subcommand 'plann'");
    let nowhere = Ran::of(fleetform().args(["-C", "/", "plan", "--json"])).expect(64);
    assert!(error(&nowhere)["error"].as_str().unwrap().contains("not inside a git repository"));
    assert_eq!(nowhere.stdout, "");
}

#[test]
fn the_fleet_is_found_from_a_folder_in_it() {
    let world = World::with_devices("{}", 2);
    world.job("reboot", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    let inner = world.file("jobs/of/2026");
    fs::create_dir_all(&inner).unwrap();
    Ran::of(fleetform().current_dir(&inner).args(["plan", "--out", "saved.json"])).expect(0);
    assert!(inner.join("saved.json").exists(), "a file that is named is one of the folder that the person is in");
    let applied = Ran::of(fleetform().current_dir(&inner).args(["apply", "saved.json", "--yes"])).expect(0);
    assert!(applied.stderr.contains("reboot"), "{applied:?}");
    Ran::of(fleetform().current_dir(&inner).args(["job", "show", "reboot"])).expect(0);
    // What is named is meant.
    Ran::of(fleetform().current_dir(&inner).args(["plan", "-C", "."])).expect(64);
    // Another repository is not the fleet's.
    let other = world.file("other");
    git2::Repository::init(&other).unwrap();
    Ran::of(fleetform().current_dir(&other).arg("plan")).expect(64);
    // A new fleet is made where the person is.
    Ran::of(fleetform().current_dir(&other).arg("init")).expect(0);
    assert!(other.join("fleetform.yaml").exists());
}

#[test]
fn a_plan_of_a_clean_work_tree_names_its_commit() {
    let world = World::with_devices("{}", 2);
    let source = |world: &World| world.run(&["plan", "--json"]).expect(0).json()[0]["source"].clone();
    let named = world.run(&["plan", "--json", "--rev", "HEAD"]).expect(0).json()[0]["source"].clone();
    assert_eq!(source(&world), named);
    // Not what is declared.
    world.write("notes.txt", "to do\n");
    assert_eq!(source(&world), named);
    // A change that git was told to pass over is a change.
    let fleet = fs::read_to_string(world.file("fleetform.yaml")).unwrap();
    let repository = git2::Repository::open(world.path()).unwrap();
    let mut index = repository.index().unwrap();
    let mut entry = index.get_path("fleetform.yaml".as_ref(), 0).unwrap();
    entry.flags |= 1 << 15;
    index.add(&entry).unwrap();
    index.write().unwrap();
    world.write("fleetform.yaml", format!("{fleet}# more\n"));
    assert_eq!(source(&world)["commit"], Value::Null);
    world.write("fleetform.yaml", &fleet);
    assert_eq!(source(&world), named);
    let job = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: one}\nspec: {target: {query: '*'}, action: \
               {command: {name: reboot}}}\n";
    world.write("one.yaml", job);
    assert_eq!(source(&world)["commit"], Value::Null, "a document that is not committed");
    fs::remove_file(world.file("one.yaml")).unwrap();
    world.write("devices.csv", "IOTC_DEVICEID\nd-001\n");
    assert_eq!(source(&world)["commit"], Value::Null, "another file of an import");
}

#[test]
fn a_shell_completes_the_names_of_the_fleet() {
    let world = World::with_devices("{}", 12);
    world.job("reboot-a", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.job("reboot-b", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.declare("group.yaml", "DeviceGroup", "lamps", "{query: '*'}");
    world.declare("nightly.yaml", "Schedule", "nightly",
        "{start: 2030-01-01T00:00:00, timeZone: UTC, recurrence: daily, job: {target: {query: '*'}, action: {tags: {a: b}}}}");
    world.commit("named");
    world.apply().unwrap();
    fs::remove_file(world.file("jobs/reboot-b.yaml")).unwrap();
    world.commit("gone");
    let offered = |line: &[&str]| {
        let mut command = fleetform();
        command.env("FLEETFORM_COMPLETE", "bash").env("_CLAP_IFS", "\n");
        command.env("_CLAP_COMPLETE_INDEX", (line.len() - 1).to_string()).args(["--"]).args(line);
        let ran = Ran::of(command.current_dir(world.path()));
        ran.stdout.lines().map(str::to_string).collect::<Vec<_>>()
    };
    // One that has run and is declared no more can be looked at.
    assert_eq!(offered(&["fleetform", "job", "show", "reb"]), ["reboot-a", "reboot-b"]);
    assert_eq!(offered(&["fleetform", "schedule", "next", "n"]), ["nightly"]);
    assert_eq!(offered(&["fleetform", "group", "show", "l"]), ["lamps"]);
    assert_eq!(offered(&["fleetform", "device", "show", "d-01"]), ["d-010", "d-011", "d-012"]);
    assert_eq!(offered(&["fleetform", "device", "block", "d-001", "d-00"]).len(), 9);
    assert_eq!(offered(&["fleetform", "explain", "FF50"]), ["FF501"]);
    assert_eq!(offered(&["fleetform", "explain", "cla"]), ["claim"]);
    assert_eq!(offered(&["fleetform", "job", "list", "--status", "c"]), ["completed", "canceled"]);
    assert_eq!(offered(&["fleetform", "schema", "device"]), ["DeviceTemplate", "DeviceGroup", "DeviceImport"]);
    assert!(offered(&["fleetform", "sched"]).contains(&"schedule".to_string()));
    assert_eq!(offered(&["fleetform", "-C", "/nowhere", "job", "show", "reb"]), [""; 0]);
    // A shell puts the home folder in the place of `~` only when it runs the line.
    let home = world.path().parent().unwrap();
    let name = world.path().file_name().unwrap().to_str().unwrap();
    let from_home = |home: &Path, line: &[&str]| {
        let mut command = fleetform();
        command.env("FLEETFORM_COMPLETE", "bash").env("_CLAP_IFS", "\n").env("HOME", home);
        command.env("_CLAP_COMPLETE_INDEX", (line.len() - 1).to_string()).args(["--"]).args(line);
        Ran::of(command.current_dir("/")).stdout.lines().count()
    };
    for (home, folder, expect) in [
        (home, format!("~/{name}"), 2),
        (world.path(), "~".to_string(), 2),
        (home, format!("~{name}"), 0),
        (home, "~/elsewhere".to_string(), 0),
    ] {
        assert_eq!(from_home(home, &["fleetform", "-C", &folder, "job", "show", "reb"]), expect, "{folder}");
    }
    // The scripts ask this program, whatever its version.
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = Ran::of(fleetform().args(["completions", shell])).expect(0).stdout;
        assert!(script.contains("FLEETFORM_COMPLETE"), "{shell}: {script}");
    }
}
