//! `registry copy` and `registry check`: a fleet that goes on with a copy of its registry, in a file or in PostgreSQL.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fleetform::execute::CrashPoints;
use fleetform::ledger::RunRecord;
use fleetform::model::id::{Name, RunToken};
use fleetform::model::outcome::Reason;
use fleetform::ops::registry::{Copied, CopyOptions, copy};
use fleetform::ops::{AllowedSecrets, OpsError};
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::sqlite::SqlitePlace;
use fleetform::registry::{Cell, FlawKind, Moved, Registry, RegistryIdentity, StorePlace};
use serde_json::{Value, json};

use crate::cluster::fresh_database;
use crate::contract::transfer::rows;
use crate::world::{Ran, World, without_children};

const SPEC: &str = "{registry: {sqlite: {path: .fleetform/fleet.db}}, limits: {inFlight: 1}, \
                    link: {simulated: {latency: 1s, journal: devices.jsonl, devices: {d-003: {answers: 500}}}}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {batchSize: 5}}";
const SECRET: &str = "{target: {query: '*'}, action: {property: {wifi: {psk: {$secret: {env: WIFI_PSK}}}}}}";
const TAGS: &str = "{target: {query: \"tags.parity = 'odd'\"}, action: {tags: {ring: canary}}}";

/// A fleet with devices, secrets, jobs that are done and one that was blocked; and a command that is to come.
fn fleet(count: usize) -> World {
    let world = World::with_devices(SPEC, count);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    let mut secrets = AllowedSecrets::default();
    secrets.allow("env:WIFI_PSK", &|_| Some("hunter2-7f3a9c".into())).unwrap();
    *world.secrets.borrow_mut() = secrets;
    world.job("secret", SECRET);
    world.job("ring", TAGS);
    world.apply().unwrap();
    world.run(&["device", "block", "d-002", "--reason", "burnt", "--yes"]).expect(0);
    world.job("reboot", REBOOT);
    world
}

/// A small fleet with a job that is done.
fn small() -> World {
    let world = World::with_devices(SPEC, 3);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("ring", TAGS);
    world.apply().unwrap();
    world
}

/// The registry that the fleet began with.
fn first(world: &World) -> String {
    at(&world.file(".fleetform/fleet.db"))
}

/// A new place for a registry in a file.
fn new_file(world: &World, name: &str) -> String {
    at(&world.file(".git").join(name))
}

fn at(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

fn place(named: &str, fleet: &str) -> Box<dyn StorePlace> {
    match named.strip_prefix("sqlite:") {
        Some(path) => Box::new(SqlitePlace::new(path.into(), fleet)),
        None => Box::new(PostgresPlace::new(named, fleet).unwrap()),
    }
}

fn open(named: &str) -> Registry {
    Registry::new(place(named, "acme").open_for_reading().unwrap())
}

fn identity(named: &str) -> RegistryIdentity {
    open(named).identity().unwrap()
}

/// The identity that the results branch names.
fn owner(world: &World) -> String {
    let document: Value = serde_json::from_slice(&world.results()["fleet.json"]).unwrap();
    document["registry"].as_str().unwrap().to_string()
}

/// The rows of a registry, but for those that say which one it is.
fn contents(named: &str) -> impl PartialEq + std::fmt::Debug + use<> {
    let mut found = rows(&open(named));
    let of_one = ["identity", "copy_of", "gave_up", "schema_version"].map(|key| Cell::Text(key.to_string()));
    found.get_mut("meta").unwrap().retain(|row| !of_one.contains(&row[0]));
    found
}

fn options(from: &str, to: &str) -> CopyOptions {
    CopyOptions { from: from.to_string(), to: to.to_string(), ..CopyOptions::default() }
}

/// Copies in this process, while no other process is started.
fn copied(world: &World, from: &str, to: &str) -> Result<Copied, OpsError> {
    without_children(|| copy(&world.environment(), &options(from, to), &mut |_| {}))
}

fn name(world: &World, registry: &str) {
    *world.named.borrow_mut() = Some(registry.to_string());
}

fn checked(world: &World, arguments: &[&str], code: i32) -> Vec<Value> {
    world.run(&[&["registry", "check", "--json"], arguments].concat()).expect(code).json()
}

/// The words of the findings of a check.
fn found(world: &World, arguments: &[&str]) -> Vec<String> {
    let ran = world.run(&[&["registry", "check", "--json"], arguments].concat());
    let lines = ran.json();
    let words: Vec<String> = lines.iter().filter_map(|line| line["finding"].as_str().map(str::to_string)).collect();
    assert_eq!(ran.code, i32::from(!words.is_empty()), "{ran:?}");
    words
}

/// Applies with processes that die until the devices have executed so many commands.
fn killed_after(world: &World, executions: usize) {
    for looks in 1..400 {
        assert!(world.apply_killed(looks), "it never gets there");
        if world.executions().len() >= executions {
            return;
        }
    }
}

/// Checks that no device was commanded twice, and returns how many commands were executed.
#[track_caller]
fn check_executed_once(world: &World) -> usize {
    let mut executions = world.executions();
    executions.sort();
    let sent = executions.len();
    executions.dedup();
    assert_eq!(executions.len(), sent);
    sent
}

#[test]
fn a_fleet_goes_on_in_postgresql_and_comes_back() {
    let world = fleet(12);
    let (file, database) = (first(&world), fresh_database());
    killed_after(&world, 3);
    let before = contents(&file);
    assert!(!open(&file).journal().sent_marks(open_run(&file)).unwrap().is_empty(), "a command is under way");

    // There: rows are the same, and only the copy goes on.
    let ran = world.run(&["registry", "copy", &file, &database, "--json"]).expect(0);
    let told = &ran.json()[0];
    let counts = json!([told["devices"], told["runs"], told["resumed"], told["was_done"], told["fleet"]]);
    assert_eq!(counts, json!([12, 3, false, false, "acme"]));
    assert_eq!(contents(&database), before);
    assert_eq!(identity(&database).id, owner(&world));
    assert_eq!(told["identity"], owner(&world));
    let refused = world.run(&["apply", "--yes"]).expect(75);
    assert!(refused.stderr.contains("this one was copied to postgres://"), "{refused:?}");
    assert!(refused.stderr.contains("copy it back"), "{refused:?}");
    world.run(&["plan"]).expect(0);
    name(&world, &database);
    killed_after(&world, 7);

    // And back, to another file.
    let back = new_file(&world, "back.db");
    let middle = contents(&database);
    copied(&world, &database, &back).unwrap();
    assert_eq!(contents(&back), middle);
    assert!(matches!(world.apply(), Err(OpsError::Held { .. })), "the database gave the fleet up");
    name(&world, &back);
    world.apply().unwrap();

    // No device was commanded twice, and every device is in one place.
    let sent = check_executed_once(&world);
    let rows = world.rows("reboot", "1");
    let count = |reason: Reason| rows.iter().filter(|row| row.reason == reason).count();
    assert_eq!(rows.len(), 12);
    assert_eq!(count(Reason::Blocked), 1, "{rows:?}");
    let unknown = count(Reason::OutcomeUnknown);
    assert_eq!(count(Reason::Responded) + count(Reason::Rejected) + unknown, 11);
    assert!(sent <= 11 && (1..=9).contains(&unknown), "{sent} {unknown}");
    assert_eq!(world.record("reboot", "1")["status"], "completed");
    assert_eq!(checked(&world, &[&back], 0)[0]["works_on_fleet"], true);
    assert_eq!(checked(&world, &["--registry", &back], 0)[0]["runs"], 3);
    // A secret is compared with the key that came along: nothing is to be done again.
    let plan = world.plan().unwrap();
    assert!(!plan.plan.has_changes(), "{:?}", plan.plan.changes);
}

fn open_run(named: &str) -> i64 {
    open(named).journal().unclosed().unwrap()[0].run_id
}

#[test]
fn both_ways_give_the_same_rows() {
    let world = fleet(6);
    killed_after(&world, 2);
    let (file, before) = (first(&world), contents(&first(&world)));
    let (one, two, three) = (fresh_database(), fresh_database(), new_file(&world, "three.db"));
    for (from, to) in [(&file, &one), (&one, &two), (&two, &three)] {
        let done = copied(&world, from, to).unwrap();
        assert_eq!((done.contents.rows("device"), done.has_resumed), (6, false));
        assert_eq!(contents(to), before, "{from} to {to}");
        assert_eq!(contents(from), before, "{from} to {to}");
    }
    let names = [&file, &one, &two, &three];
    assert_eq!(names.iter().filter(|named| identity(named).id == owner(&world)).count(), 1);
    // Each is another registry, and all have the same rows.
    let lines = checked(&world, &names.map(String::as_str), 0);
    let works: Vec<&Value> = lines[..4].iter().map(|line| &line["works_on_fleet"]).collect();
    assert_eq!(works, [false, false, false, true]);
    name(&world, &three);
    world.apply().unwrap();
    assert_eq!(checked(&world, &[&three], 0)[0]["findings"], 0);
}

#[test]
fn a_copy_that_died_anywhere_is_gone_on_with() {
    for is_database in [false, true] {
        let mut point = 0;
        loop {
            let world = small();
            let from = first(&world);
            let to = if is_database { fresh_database() } else { new_file(&world, "to.db") };
            let before = contents(&from);
            let crash = CrashPoints::at(point);
            let dying = CopyOptions { ports: fleetform::sim::dying(crash), ..options(&from, &to) };
            let environment = world.environment();
            let ended = without_children(|| {
                catch_unwind(AssertUnwindSafe(|| copy(&environment, &dying, &mut |_| {}).map(|done| done.was_done)))
            });
            let works =
                |named: &String| place(named, "acme").is_there().unwrap() && identity(named).id == owner(&world);
            assert!(!(works(&from) && works(&to)), "{point}: never do both work on the fleet");
            let has_died = ended.is_err();
            if let Ok(done) = ended {
                assert!(!done.unwrap());
            }
            // An apply with either of them says what is wrong, or works.
            for named in [&from, &to].into_iter().filter(|named| place(named, "acme").is_there().unwrap()) {
                let expect = if works(named) { 0 } else { 75 };
                world.run(&["apply", "--yes", "--registry", named]).expect(expect);
            }
            let done = copied(&world, &from, &to).unwrap_or_else(|error| panic!("{point}: {error:?} {}", error.help()));
            // The last point is behind the last step.
            assert_eq!(done.was_done, point >= 7, "{point}");
            assert_eq!((works(&from), works(&to)), (false, true), "{point}");
            assert_eq!((identity(&to).moved, contents(&to) == before), (None, true), "{point}");
            assert!(matches!(identity(&from).moved, Some(Moved::GaveUp { .. })), "{point}");
            name(&world, &to);
            world.job("more", "{target: {query: '*'}, action: {tags: {a: b}}}");
            world.apply().unwrap();
            assert_eq!(world.record("more", "1")["completed"], 3, "{point}");
            assert_eq!(checked(&world, &[&to], 0)[0]["findings"], 0, "{point}");
            if !has_died {
                assert_eq!(point, 8, "it may die before and after each of its steps");
                break;
            }
            point += 1;
        }
    }
}

#[test]
fn a_copy_of_what_was_worked_on_since_is_not_gone_on_with() {
    let world = small();
    let (from, to) = (first(&world), new_file(&world, "to.db"));
    let dying = CopyOptions { ports: fleetform::sim::dying(CrashPoints::at(2)), ..options(&from, &to) };
    let died = without_children(|| {
        catch_unwind(AssertUnwindSafe(|| copy(&world.environment(), &dying, &mut |_| {}).unwrap())).is_err()
    });
    assert!(died && matches!(identity(&to).moved, Some(Moved::CopyOf(_))));
    let unfinished = world.run(&["apply", "--yes", "--registry", &to]).expect(75);
    assert!(unfinished.stderr.contains("a copy that is not finished"), "{unfinished:?}");
    assert_eq!(found(&world, &[&to]), ["unfinished-copy"]);
    world.job("more", "{target: {query: '*'}, action: {tags: {a: b}}}");
    world.apply().unwrap();
    let before = contents(&to);
    let refused = world.run(&["registry", "copy", &from, &to]).expect(75);
    assert!(refused.stderr.contains("they differ: ") && refused.stderr.contains("device"), "{refused:?}");
    assert_eq!((contents(&to), identity(&from).id), (before, owner(&world)));
    // The message followed to the letter.
    for ending in ["", "-wal", "-shm"] {
        drop(fs::remove_file(world.file(&format!(".git/to.db{ending}"))));
    }
    world.run(&["registry", "copy", &from, &to]).expect(0);
    assert_eq!(identity(&to).id, owner(&world));
}

#[test]
fn the_same_copy_once_more_changes_nothing() {
    let world = small();
    let (from, to) = (first(&world), new_file(&world, "to.db"));
    world.run(&["registry", "copy", &from, &to]).expect(0);
    name(&world, &to);
    world.job("more", "{target: {query: '*'}, action: {tags: {a: b}}}");
    world.apply().unwrap();
    let before = contents(&to);
    let again = world.run(&["registry", "copy", &from, &to]).expect(0);
    assert!(again.stdout.contains("It was copied before"), "{again:?}");
    assert_eq!(contents(&to), before);
    // What gave the fleet up is not copied to another place.
    let other = world.run(&["registry", "copy", &from, &new_file(&world, "other.db")]).expect(75);
    assert!(other.stderr.contains("was copied to") && other.stderr.contains("to.db"), "{other:?}");
    // It can take the fleet over, and be copied then.
    world.run(&["apply", "--yes", "--take-over"]).expect(0);
    world.run(&["registry", "copy", &from, &new_file(&world, "third.db")]).expect(0);
    world.run(&["apply", "--yes", "--registry", &to]).expect(75);
}

#[test]
fn a_registry_is_not_copied_onto_itself() {
    let world = small();
    let file = world.file(".fleetform/fleet.db");
    let link = world.file(".git/link.db");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let hard = world.file(".git/hard.db");
    fs::hard_link(&file, &hard).unwrap();
    let spelt = world.file(".fleetform/../.fleetform/./fleet.db");
    for to in [&file, &link, &hard, &spelt] {
        let refused = world.run(&["registry", "copy", &at(&file), &at(to)]).expect(64);
        assert!(refused.stderr.contains("one registry"), "{refused:?}");
    }
    let beside = world.run(&["registry", "copy", &at(&file), &at(&file.with_extension("copy"))]).expect(64);
    assert!(beside.stderr.contains("have one lock"), "{beside:?}");
    assert!(!file.with_extension("copy").exists());
    fs::remove_file(&hard).unwrap();
    let (database, to) = (fresh_database(), new_file(&world, "to.db"));
    world.run(&["registry", "copy", &at(&file), &database]).expect(0);
    let other = database.replace("127.0.0.1", "localhost");
    for to in [&database, &other] {
        let refused = world.run(&["registry", "copy", &database, to]).expect(64);
        assert!(refused.stderr.contains("one registry"), "{refused:?}");
    }
    assert_eq!(identity(&database).id, owner(&world));
    world.run(&["registry", "copy", &other, &to]).expect(0);
    assert_eq!(identity(&to).id, owner(&world));
}

#[test]
fn a_registry_that_is_worked_with_is_not_copied() {
    let world = small();
    let (from, to, database) = (first(&world), new_file(&world, "to.db"), fresh_database());
    for (busy, to) in [(&from, &to), (&to, &to), (&database, &database)] {
        let right = place(busy, "acme").exclude("plant-7/1/0").unwrap();
        let refused = world.run(&["registry", "copy", &from, to]).expect(75);
        assert!(refused.stderr.contains("plant-7/1/0"), "{refused:?}");
        drop(right);
    }
    assert_eq!(identity(&from).id, owner(&world));
    world.run(&["registry", "copy", &from, &database]).expect(0);
    // Nor is one that is checked refused: it is told.
    let _right = place(&database, "acme").exclude("plant-7/1/0").unwrap();
    let ran = world.run(&["registry", "check", &database]).expect(0);
    assert!(ran.stderr.contains("plant-7/1/0 works with"), "{ran:?}");
}

#[test]
fn what_is_no_registry_of_the_fleet_is_not_copied() {
    let world = small();
    let (from, to) = (first(&world), new_file(&world, "to.db"));
    let gone = world.run(&["registry", "copy", &new_file(&world, "gone.db"), &to]).expect(1);
    assert!(gone.stderr.contains("there is no registry at"), "{gone:?}");
    let foreign = new_file(&world, "foreign.db");
    drop(place(&foreign, "other").open().unwrap());
    for (from, to) in [(&foreign, &to), (&from, &foreign)] {
        let refused = world.run(&["registry", "copy", from, to]).expect(75);
        assert!(refused.stderr.contains("belongs to the fleet `other`"), "{refused:?}");
    }
    let own = new_file(&world, "own.db");
    drop(place(&own, "acme").open().unwrap());
    let refused = world.run(&["registry", "copy", &own, &to]).expect(75);
    assert!(refused.stderr.contains("does not work on this fleet"), "{refused:?}");
    for wrong in ["fleet.db", "sqlite:", "mysql://ann:hunter2@db/fleet"] {
        let refused = world.run(&["registry", "copy", wrong, &to]).expect(64);
        assert!(!refused.stderr.contains("hunter2"), "{refused:?}");
    }
    let unset = world.run(&["registry", "copy", &from, "env:FLEETFORM_TEST_UNSET"]).expect(69);
    assert!(unset.stderr.contains("FLEETFORM_TEST_UNSET") && unset.stderr.contains("is not set"), "{unset:?}");
    assert_eq!(identity(&from).id, owner(&world));
    // What git has is no registry of a machine.
    world.write("state.db", "");
    world.commit("state");
    world.run(&["registry", "copy", &from, &at(&world.file("state.db"))]).expect(77);
}

#[test]
fn a_place_that_has_a_registry_is_left_as_it_is() {
    let world = small();
    let from = first(&world);
    let raw = new_file(&world, "raw.db");
    fs::copy(world.file(".fleetform/fleet.db"), world.file(".git/raw.db")).unwrap();
    let refused = world.run(&["registry", "copy", &from, &raw]).expect(75);
    assert!(refused.stderr.contains("has the identity of"), "{refused:?}");
    assert_eq!(found(&world, &[&from, &raw]), ["same-identity"]);
    let database = fresh_database();
    let other = small();
    copied(&other, &first(&other), &database).unwrap();
    let before = contents(&database);
    let refused = world.run(&["registry", "copy", &from, &database]).expect(75);
    assert!(refused.stderr.contains("is not empty"), "{refused:?}");
    assert_eq!(contents(&database), before);
    assert_eq!(identity(&from).id, owner(&world));
}

#[test]
fn a_variable_names_a_database() {
    let world = small();
    let (from, database) = (first(&world), fresh_database());
    let mut command = crate::world::fleetform();
    command.arg("-C").arg(world.path()).args(["registry", "copy", &from, "env:COPY_TO"]).env("COPY_TO", &database);
    let ran = Ran::of(&mut command).expect(0);
    assert!(ran.stderr.contains("registry copy env:COPY_TO NEW-PLACE"), "{ran:?}");
    assert!(ran.stdout.contains("Copied and compared: 3 devices, 1 run, 2 outcomes"), "{ran:?}");
    assert_eq!(identity(&database).id, owner(&world));
}

#[test]
fn an_older_registry_is_brought_up_to_date_and_copied() {
    let world = small();
    world.sql(
        "ALTER TABLE run DROP COLUMN first_batch; DROP TRIGGER device_status_deleted; DROP TABLE device_status;
         DROP INDEX device_connected; DROP TABLE answer; DROP TRIGGER message_deleted; DROP TABLE message;
         DROP TABLE outcome_count; ALTER TABLE run DROP COLUMN keeps_answers; DROP TRIGGER device_session_deleted;
         DROP TABLE device_session; DROP TABLE device_connection; PRAGMA user_version = 7",
    );
    let (from, to) = (first(&world), new_file(&world, "to.db"));
    // Looking changes nothing.
    world.run(&["registry", "check"]).expect(75);
    world.run(&["registry", "copy", &from, &to]).expect(0);
    assert_eq!(identity(&to).id, owner(&world));
    world.run(&["registry", "check", &from, &to]).expect(0);
}

#[test]
fn outcomes_that_an_older_fleetform_did_not_count_are_counted_when_the_run_goes_on() {
    let world = fleet(6);
    killed_after(&world, 3);
    let counted = |world: &World| {
        let run = world
            .registry()
            .journal()
            .find(&Name::parse("reboot").unwrap(), &RunToken::parse("1").unwrap())
            .unwrap()
            .unwrap();
        let counts = world.registry().journal().outcome_counts(run.run_id).unwrap();
        counts.iter().map(|count| count.devices).sum::<u64>()
    };
    assert!(counted(&world) > 0, "some have an outcome");
    world.sql("DELETE FROM outcome_count");
    assert!(world.registry().flaws().unwrap().iter().any(|flaw| flaw.kind == FlawKind::OutcomesMiscounted));
    world.apply().unwrap();
    let counts = RunRecord::from_json(&world.record("reboot", "1")).unwrap().counts;
    assert_eq!(counted(&world), counts.completed + counts.failed);
}

#[test]
fn a_backup_that_was_put_back_is_settled_before_it_is_copied() {
    let world = fleet(6);
    killed_after(&world, 2);
    let backup = fs::read(world.file(".fleetform/fleet.db")).unwrap();
    let log = fs::read(world.file(".fleetform/fleet.db-wal")).ok();
    killed_after(&world, 4);
    let put_back = || {
        for ending in ["", "-wal", "-shm"] {
            drop(fs::remove_file(world.file(&format!(".fleetform/fleet.db{ending}"))));
        }
        fs::write(world.file(".fleetform/fleet.db"), &backup).unwrap();
        log.iter().for_each(|log| fs::write(world.file(".fleetform/fleet.db-wal"), log).unwrap());
    };
    put_back();
    let (from, database) = (first(&world), fresh_database());
    assert!(found(&world, &[]).contains(&"put-back".to_string()));
    let refused = world.run(&["registry", "copy", &from, &database]).expect(75);
    assert!(refused.stderr.contains("put back from a backup"), "{refused:?}");
    // Nor where nothing has seen what it sent.
    fs::remove_dir_all(world.file(".git/fleetform")).unwrap();
    drop(fs::remove_file(world.file(".fleetform/fleet.witness")));
    world.run(&["registry", "copy", &from, &database]).expect(75);
    // The message followed to the letter.
    world.apply().unwrap();
    world.run(&["registry", "copy", &from, &database]).expect(0);
    name(&world, &database);
    world.apply().unwrap();
    check_executed_once(&world);
    assert_eq!(found(&world, &[&database]), [""; 0]);
}

#[test]
fn another_clone_on_the_machine_takes_the_copy_for_what_it_is() {
    let world = small();
    let (from, to) = (first(&world), new_file(&world, "to.db"));
    // Another clone has worked with the registry, and remembers where that was.
    let folder = crate::world::folder();
    let clone = folder.path().join("clone");
    let git = |arguments: &[&str]| {
        let ran = Ran::of(std::process::Command::new("git").args(arguments));
        assert_eq!(ran.code, 0, "{ran:?}");
    };
    let clone_text = clone.to_str().unwrap();
    git(&["clone", "-q", world.path().to_str().unwrap(), clone_text]);
    git(&["-C", clone_text, "branch", "-q", "fleetform/results", "origin/fleetform/results"]);
    fs::create_dir_all(clone.join(".git/fleetform")).unwrap();
    let known = "fleetform/fleetform-results.json";
    fs::copy(world.file(".git").join(known), clone.join(".git").join(known)).unwrap();
    world.run(&["registry", "copy", &from, &to]).expect(0);
    let at_clone = |arguments: &[&str]| Ran::of(crate::world::fleetform().arg("-C").arg(&clone).args(arguments));
    at_clone(&["apply", "--yes", "--registry", &to]).expect(0);
    assert_eq!(identity(&to).id, owner(&world));
}

#[test]
fn a_check_finds_what_does_not_hold() {
    let check = |sql: &str, expect: &[&str]| {
        let world = fleet(4);
        world.apply().unwrap();
        assert_eq!(found(&world, &[]), [""; 0]);
        world.sql(sql);
        assert_eq!(found(&world, &[]), expect, "{sql}");
        let shown = world.run(&["registry", "check"]).expect(1).stdout;
        assert_eq!(shown.lines().count(), 1 + expect.len(), "{shown}");
        assert!(shown.lines().skip(1).all(|line| line.ends_with('.') && line.starts_with("  ")), "{shown}");
    };
    let of_reboot = "(SELECT run_id FROM run WHERE job = 'reboot')";
    check("UPDATE meta SET value = 'f00d' WHERE key = 'identity'", &["other-registry"]);
    check("UPDATE meta SET value = '0' WHERE key = 'sends'", &["put-back"]);
    check("DELETE FROM device WHERE device_id = 'd-001'", &["keys-without-device", "devices-miscounted"]);
    check(
        &format!("INSERT INTO sent (run_id, ordinal, attempt, sent_at) VALUES ({of_reboot}, 0, 1, 0)"),
        &["mark-of-completed-run", "mark-beside-outcome"],
    );
    check(
        &format!("DELETE FROM outcome WHERE run_id = {of_reboot} AND ordinal = 3"),
        &["outcomes-miscounted", "counts-differ", "rows-differ"],
    );
    check(&format!("UPDATE outcome SET attempts = 7 WHERE run_id = {of_reboot} AND ordinal = 0"), &["rows-differ"]);
    check(
        &format!("UPDATE outcome SET ordinal = 9 WHERE run_id = {of_reboot} AND ordinal = 3"),
        &["outcome-beyond-target", "rows-differ"],
    );
    check(
        &format!("UPDATE run_target SET ids = replace(ids, 'd-001', 'd-000') WHERE run_id = {of_reboot}"),
        &["target-differs", "rows-differ"],
    );
    check(
        "UPDATE run SET claim = replace(claim, '\"kind\": \"Job\"', '\"kind\": \"Lob\"') WHERE job = 'ring'",
        &["claim-differs"],
    );
    check("DELETE FROM run WHERE job = 'ring'", &["rows-without-run", "claim-unknown", "claim-unknown"]);
    check("UPDATE run SET record = NULL WHERE job = 'ring'", &["record-unknown"]);
    check("UPDATE run SET is_closed = 0 WHERE job = 'ring'", &["end-unknown"]);
    check(
        "UPDATE kept_file SET content = x'00', blob_id = NULL WHERE path LIKE 'imports/%report.json'",
        &["files-differ"],
    );
    check("DELETE FROM kept_file WHERE path LIKE 'direct/%'", &["claim-unknown"]);
}

#[test]
fn a_check_finds_an_older_branch_and_an_older_registry() {
    let world = fleet(4);
    let backup = fs::read(world.file(".fleetform/fleet.db")).unwrap();
    let branch = "refs/heads/fleetform/results";
    let tip = world.repository().refname_to_id(branch).unwrap();
    world.apply().unwrap();
    let newest = world.repository().refname_to_id(branch).unwrap();
    let move_to = |id| world.repository().reference(branch, id, true, "moved").unwrap().target();
    move_to(tip);
    let words = found(&world, &[]);
    assert_eq!(words, ["claim-not-on-branch", "record-not-on-branch"]);
    move_to(newest);
    assert_eq!(found(&world, &[]), [""; 0]);
    let old = world.file(".git/old.db");
    fs::write(&old, backup).unwrap();
    let words = found(&world, &[&at(&old)]);
    assert_eq!(words, ["put-back", "claim-unknown", "claim-unknown"]);
    // Beside the one that is in use.
    let words = found(&world, &[&first(&world), &at(&old)]);
    assert_eq!(words, ["put-back", "claim-unknown", "claim-unknown", "same-identity", "other-rows"]);
}
