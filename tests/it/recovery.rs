//! The results branch and the registry both know what was done: losing one of them loses nothing, losing both holds the
//! jobs.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use fleetform::execute::{CrashPoints, Inbox, Progress, Side};
use fleetform::model::outcome::RunStatus;
use fleetform::ops::apply::ApplyOptions;
use fleetform::plan::ActionKind;
use fleetform::results::Row;
use serde_json::{Value, json};

use crate::world::{BRANCH, World};

const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot, responseTimeout: 10s}}, \
                      delivery: {batchSize: 3, cancellationThreshold: {failures: 1}}}";
const TAG: &str = "{target: {query: '*'}, action: {tags: {ring: canary}}}";

/// A fleet of ten devices, two of which fail; a command takes a second each.
fn world() -> World {
    let devices = "devices: {d-004: {answers: 500}, d-009: {offline: true}}";
    let link = format!("{{latency: 1s, journal: devices.jsonl, {devices}}}");
    let world = World::with_devices(&format!("{{link: {{simulated: {link}}}, limits: {{inFlight: 1}}}}"), 10);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("tag", TAG);
    world.job("reboot", REBOOT);
    world
}

fn delete_branch(world: &World) {
    world.repository().find_reference(&format!("refs/heads/{BRANCH}")).unwrap().delete().unwrap();
    assert!(world.results().is_empty());
}

fn delete_registry(world: &World) {
    world.lose_registry();
}

/// The documents of the branch without how shards are cut, and the rows of each run.
fn said(world: &World) -> (BTreeMap<String, Value>, BTreeMap<String, Vec<Row>>) {
    let (mut documents, mut rows) = (BTreeMap::new(), BTreeMap::new());
    for (path, bytes) in world.results() {
        if let Some((folder, _)) = path.split_once("/devices-") {
            let rows: &mut Vec<Row> = rows.entry(folder.to_string()).or_default();
            fleetform::results::read_shard(&bytes, |row| rows.push(row)).unwrap();
        } else if path.ends_with(".json") {
            let mut document: Value = serde_json::from_slice(&bytes).unwrap();
            if let Some(published) = document.pointer_mut("/published/shards") {
                published.take();
            }
            documents.insert(path, document);
        } else {
            documents.insert(path, String::from_utf8(bytes).unwrap().into());
        }
    }
    (documents, rows)
}

fn republished(world: &World) -> (bool, Option<u64>) {
    let mut found = None;
    let applied = world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
        if let Progress::BranchRepublished { runs, branch } = progress {
            assert_eq!(branch, BRANCH);
            found = Some(*runs);
        }
    });
    (applied.unwrap().was_empty, found)
}

#[test]
fn a_branch_that_is_gone_is_published_again_and_nothing_is_sent() {
    let world = world();
    world.apply().unwrap();
    let (before, claims) = (said(&world), claims(&world));
    assert_eq!(before.1.len(), 2, "both runs have rows");
    let executions = world.executions();
    delete_branch(&world);
    assert_eq!(republished(&world), (true, Some(2)));
    assert_eq!(said(&world), before);
    assert_eq!(self::claims(&world), claims, "claims keep their bytes");
    assert_eq!(world.executions(), executions, "nothing was sent");
    let subjects = world.subjects();
    assert_eq!(subjects, ["fleet acme: results of 2 runs, published again from the registry"]);
    assert_eq!(republished(&world), (true, None), "the tip is the one that was noted");
    assert_eq!(world.subjects(), subjects);
    // It grows as before, and is published again as often as it is lost.
    world.job("more", TAG.replace("canary", "all").as_str());
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Completed);
    let before = said(&world);
    delete_branch(&world);
    assert_eq!(republished(&world), (true, Some(3)));
    assert_eq!(said(&world), before);
}

fn claims(world: &World) -> BTreeMap<String, Vec<u8>> {
    world.results().into_iter().filter(|(path, _)| path.starts_with("claims/")).collect()
}

#[test]
fn what_reads_does_not_write_while_the_branch_is_gone() {
    let world = world();
    world.apply().unwrap();
    let asked: [&[&str]; 4] = [
        &["job", "list", "--json"],
        &["job", "show", "reboot", "--devices", "--json"],
        &["job", "results", "reboot"],
        &["plan", "--detailed-exitcode"],
    ];
    let answers = |world: &World| asked.map(|arguments| world.run(arguments).expect(0).stdout);
    let before = answers(&world);
    delete_branch(&world);
    assert_eq!(answers(&world), before);
    let ran = world.run(&["plan"]).expect(0);
    assert!(ran.stderr.contains("FF657") && ran.stderr.contains("2 runs"), "{}", ran.stderr);
    world.job("again", "{target: {failedOf: {job: reboot, run: '1'}}, action: {tags: {bad: 1}}}");
    let plan = world.run(&["plan"]).expect(0).stdout;
    assert!(plan.contains("job/again run 1") && plan.contains("d-004"), "{plan}");
    assert!(world.results().is_empty(), "nothing was written");
    let ran = world.run(&["apply", "--yes"]).expect(0);
    let told = "the branch fleetform/results was gone: published again from the registry, 2 runs";
    assert!(ran.stderr.contains(told), "{}", ran.stderr);
    assert!(!ran.stderr.contains("FF657"), "{}", ran.stderr);
    delete_branch(&world);
    let events = world.run(&["apply", "--yes", "--json"]).expect(0).json();
    assert_eq!(events[0], json!({"event": "branch_republished", "branch": BRANCH, "runs": 3}));
}

#[test]
fn a_stopped_run_goes_on_after_its_branch_was_lost() {
    let world = world();
    let text = fs::read_to_string(world.file("jobs/reboot.yaml")).unwrap();
    assert!(world.apply_interrupted(Duration::from_millis(4_500)).was_interrupted);
    world.write("jobs/reboot.yaml", text.replace("spec: {", "spec: {suspend: true, "));
    world.commit("Stop");
    assert_eq!(world.apply().unwrap().records[0].status, RunStatus::Stopped);
    let (before, sent) = (said(&world), world.executions().len());
    assert_eq!(before.1["runs/reboot/1"].len(), 3, "the finished batch is published");
    delete_branch(&world);
    assert_eq!(republished(&world), (true, Some(2)));
    assert_eq!(said(&world), before);
    assert_eq!(world.planned_action("reboot"), ActionKind::Hold);

    delete_branch(&world);
    world.write("jobs/reboot.yaml", text);
    world.commit("Continue");
    assert_eq!(world.planned_action("reboot"), ActionKind::Continue);
    let record = world.apply().unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.completed, record.counts.failed), (RunStatus::Canceled, 7, 2));
    let rows = world.rows("reboot", "1");
    assert_eq!(rows.len(), 10, "every device has one row");
    assert_eq!(rows[..3], before.1["runs/reboot/1"][..]);
    assert!(world.executions().len() > sent && world.executions().len() <= 8, "no device was asked twice");
}

#[test]
fn a_process_that_dies_while_it_publishes_again_is_survived() {
    for point in 0..6 {
        let world = world();
        world.apply().unwrap();
        let before = said(&world);
        delete_branch(&world);
        let options = ApplyOptions { ports: fleetform::sim::dying(CrashPoints::at(point)), ..ApplyOptions::default() };
        let apply = AssertUnwindSafe(|| world.apply_with(&options, &Inbox::new(), &mut |_| {}));
        let died = catch_unwind(apply).is_err();
        assert!(world.results().is_empty() || said(&world) == before, "all of it or nothing");
        assert!(world.apply().unwrap().was_empty, "after {point}");
        assert_eq!(said(&world), before);
        assert!(died || point > 3, "places are passed while it publishes");
    }
}

#[test]
fn what_a_new_registry_has_seen_outlives_the_branch() {
    let world = world();
    world.job("first", "{target: {query: '*'}, action: {tags: {a: 1}}}");
    world.apply().unwrap();
    delete_registry(&world);
    world.job("later", "{target: {query: '*'}, action: {tags: {b: 1}}}");
    world.apply().unwrap();
    let (before, sent) = (world.results(), world.executions());
    delete_branch(&world);
    assert_eq!(republished(&world), (true, Some(4)));
    assert_eq!(world.results(), before, "nothing was cut otherwise");
    assert_eq!(world.executions(), sent);
}

#[test]
fn a_fleet_that_wanted_failures_only_gets_those_again() {
    let world = world();
    let fleet = fs::read_to_string(world.file("fleetform.yaml")).unwrap();
    world.write("fleetform.yaml", fleet.replace("spec: {", "spec: {results: {devices: failures}, "));
    world.commit("Failures");
    world.apply().unwrap();
    let before = world.results();
    world.write("fleetform.yaml", fleet);
    world.commit("All from now on");
    delete_branch(&world);
    assert_eq!(republished(&world), (true, Some(2)));
    assert_eq!(world.results(), before);
}

#[test]
fn a_branch_that_vanishes_during_an_apply_is_not_begun_anew() {
    let world = world();
    let mut is_gone = false;
    let ended = world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut |progress| {
        if !is_gone && matches!(progress, Progress::RunStarted { .. }) {
            is_gone = true;
            delete_branch(&world);
        }
    });
    assert!(ended.unwrap_err().to_string().contains("is gone"));
    assert!(world.results().is_empty());
    // The end of the other run was journaled before the branch was to have it.
    assert_eq!(world.apply().unwrap().records.len(), 1);
    assert_eq!(world.record("tag", "1")["status"], "completed");
    assert_eq!(world.rows("reboot", "1").len(), 10);
    assert!(world.executions().len() <= 8, "no device was asked twice");
}

#[test]
fn a_claim_that_was_not_confirmed_is_published_and_goes_on() {
    let world = world();
    assert!(world.apply_interrupted(Duration::from_millis(2_500)).was_interrupted);
    world.sql("UPDATE run SET is_claimed = false WHERE job = 'reboot'");
    assert_eq!(world.planned_action("reboot"), ActionKind::Continue);
    let claims = claims(&world);
    delete_branch(&world);
    assert_eq!(world.planned_action("reboot"), ActionKind::Continue);
    world.apply().unwrap();
    assert_eq!(self::claims(&world), claims);
    assert_eq!(world.record("reboot", "1")["status"], "canceled");
}

#[test]
fn init_leaves_a_branch_that_is_remembered_to_the_next_apply() {
    let world = world();
    world.apply().unwrap();
    delete_branch(&world);
    let ran = world.run(&["init"]).expect(64);
    assert!(ran.stderr.contains("fleetform apply"), "{}", ran.stderr);
    assert!(world.results().is_empty());
}

/// A fleet whose jobs ran and of which neither the branch nor the registry is left.
fn lost() -> World {
    let world = world();
    world.apply().unwrap();
    delete_branch(&world);
    delete_registry(&world);
    world
}

#[test]
fn both_lost_holds_and_offers_to_adopt() {
    let world = lost();
    let executions = world.executions();
    for command in [&["apply", "--yes"][..], &["plan"], &["job", "list"]] {
        let ran = world.run(command).expect(75);
        assert!(ran.stderr.contains("fleetform adopt --mark-done"), "{}", ran.stderr);
        assert!(ran.stderr.contains("fleetform adopt --run"), "{}", ran.stderr);
    }
    assert!(world.results().is_empty());
    assert_eq!(world.executions(), executions);
}

#[test]
fn what_is_marked_as_done_does_not_run() {
    let world = lost();
    let executions = world.executions();
    let adopted = world.run(&["adopt", "--mark-done", "--json"]).expect(0).json();
    let jobs = json!([{"job": "reboot", "run": "1"}, {"job": "tag", "run": "1"}]);
    assert_eq!(adopted, [json!({"fleet": "acme", "branch": BRANCH, "mode": "mark-done", "jobs": jobs})]);
    assert_eq!(world.subjects(), ["fleet acme: adopted, 2 jobs marked as done"]);
    let record = world.record("reboot", "1");
    assert_eq!((&record["status"], &record["total"]), (&json!("completed"), &json!(0)));
    assert!(record["reason"].as_str().unwrap().starts_with("adopted: marked as done without running"), "{record}");
    assert!(claims(&world).contains_key("claims/tag/1.json"));
    assert_eq!(world.planned_action("reboot"), ActionKind::Done);
    world.run(&["job", "show", "reboot", "--devices"]).expect(0);

    let applied = world.apply().unwrap();
    assert_eq!((applied.records.len(), applied.imports.len()), (0, 1), "the devices come back, and no job runs");
    assert!(world.apply().unwrap().was_empty);
    assert_eq!(world.executions(), executions);
    // It is known for good, and a new token is how a job runs again.
    delete_branch(&world);
    assert_eq!(republished(&world), (true, Some(2)));
    world.job("reboot", &REBOOT.replace("{target", "{run: '2', target"));
    assert_eq!(world.apply().unwrap().records[0].counts.total, 10);
}

#[test]
fn what_is_adopted_to_run_runs() {
    let world = lost();
    let executions = world.executions().len();
    let ran = world.run(&["adopt", "--run"]).expect(0);
    assert!(ran.stderr.contains("2 jobs to run"), "{}", ran.stderr);
    assert!(claims(&world).is_empty());
    assert_eq!(world.executions().len(), executions, "adopt runs nothing by itself");
    let mut jobs: Vec<String> = world.apply().unwrap().records.iter().map(|record| record.job.to_string()).collect();
    jobs.sort();
    assert_eq!(jobs, ["reboot", "tag"]);
    assert!(world.executions().len() > executions);
    assert!(world.apply().unwrap().was_empty);
}

#[test]
fn there_is_nothing_to_adopt_while_anything_is_known() {
    let world = world();
    for mode in ["--mark-done", "--run"] {
        let ran = world.run(&["adopt", mode]).expect(64);
        assert!(ran.stderr.contains("nothing to adopt") && ran.stderr.contains(BRANCH), "{}", ran.stderr);
    }
    world.apply().unwrap();
    delete_branch(&world);
    let ran = world.run(&["adopt", "--run"]).expect(64);
    assert!(ran.stderr.contains("the registry remembers"), "{}", ran.stderr);
    delete_registry(&world);
    for arguments in [&["adopt"][..], &["adopt", "--run", "--mark-done"]] {
        world.run(arguments).expect(64);
    }
    world.job("reboot", &REBOOT.replace("reboot", "restart"));
    world.declare("jobs/loose.yaml", "Job", "loose", TAG);
    let ran = world.run(&["adopt", "--mark-done"]).expect(75);
    assert!(ran.stderr.contains("jobs/loose.yaml"), "what is not committed is not adopted: {}", ran.stderr);
    assert!(world.results().is_empty());
}

#[test]
fn jobs_that_ran_elsewhere_are_marked_as_done_beside_a_branch() {
    let world = world();
    world.apply().unwrap();
    let executions = world.executions().len();
    world.job("moved", REBOOT);
    world.job("moved-too", REBOOT);
    world.job("new", TAG);
    let refused = world.run(&["adopt", "--mark-done", "moved", "mved-too"]).expect(1);
    assert!(refused.stderr.contains("Did you mean `moved-too`?"), "{refused:?}");
    let refused = world.run(&["adopt", "--mark-done", "moved", "reboot"]).expect(64);
    assert!(refused.stderr.contains("job `reboot` run 1 was"), "{refused:?}");
    assert!(!world.results().contains_key("claims/moved/1.json"), "all are marked or none");
    let marked = world.run(&["adopt", "--mark-done", "moved", "moved-too", "moved", "--json"]).expect(0).json();
    assert_eq!(marked[0]["jobs"], json!([{"job": "moved", "run": "1"}, {"job": "moved-too", "run": "1"}]));
    assert_eq!(world.record("moved", "1")["cause"]["kind"], "adopted");
    world.run(&["adopt", "--mark-done", "moved"]).expect(64);
    // One that is marked is no reason not to mark another.
    world.job("moved-last", "{target: {query: '*'}, action: {command: {name: reboot}}}");
    world.run(&["adopt", "--mark-done", "moved", "moved-last"]).expect(0);
    assert!(!world.run(&["plan"]).expect(0).stdout.contains("job/moved-last run 1  "), "it has run");
    world.apply().unwrap();
    assert_eq!(world.record("new", "1")["status"], "completed");
    assert_eq!(world.executions().len(), executions, "what was marked is not run");
    // What was marked is remembered like what was run.
    delete_branch(&world);
    assert!(world.apply().unwrap().was_empty);
    assert_eq!(world.record("moved", "1")["cause"]["kind"], "adopted");
    assert_eq!(world.executions().len(), executions);
}

#[test]
fn many_jobs_are_marked_as_done_in_one_commit_and_one_pack() {
    for is_beside_a_branch in [false, true] {
        let world = World::new("{}");
        let names: Vec<String> = (0..80).map(|at| format!("job-{at:02}")).collect();
        names.iter().for_each(|name| world.job(name, REBOOT));
        let git = |arguments: &[&str]| {
            let ran = std::process::Command::new("git").current_dir(world.path()).args(arguments).output().unwrap();
            assert!(ran.status.success(), "{ran:?}");
            String::from_utf8(ran.stdout).unwrap()
        };
        let loose = || {
            let counts = git(&["count-objects", "-v"]);
            counts.lines().find_map(|line| line.strip_prefix("count: ")).unwrap().parse::<u32>().unwrap()
        };
        let mut marked: Vec<&str> = names.iter().map(String::as_str).collect();
        if is_beside_a_branch {
            world.run(&["adopt", "--mark-done", marked.remove(0)]).expect(0);
        }
        let (before, subjects) = (loose(), world.subjects().len());
        world.run(&[&["adopt", "--mark-done"][..], &marked].concat()).expect(0);
        assert!(loose() - before < 30, "two files and three folders a job: {} new files", loose() - before);
        let marks = world.subjects().iter().filter(|subject| subject.contains("marked as done")).count();
        assert_eq!(marks, 1 + usize::from(is_beside_a_branch), "{subjects} {:?}", world.subjects());
        git(&["fsck", "--strict"]);
        assert_eq!(world.results().keys().filter(|path| path.starts_with("claims/job-")).count(), 80);
        let listed = world.run(&["job", "list", "--json"]).expect(0).json();
        assert!(listed.len() == 80 && listed.iter().all(|run| run["status"] == "completed"), "{listed:?}");
    }
}

#[test]
fn what_could_not_be_marked_is_not_marked_later() {
    let world = world();
    world.apply().unwrap();
    world.job("moved", REBOOT);
    let lock = world.file(&format!(".git/refs/heads/{BRANCH}.lock"));
    fs::write(&lock, "").unwrap();
    world.run(&["adopt", "--mark-done", "moved"]).expect(75);
    fs::remove_file(&lock).unwrap();
    assert!(world.run(&["plan"]).expect(0).stdout.contains("run      job/moved run 1"));
    world.run(&["adopt", "--mark-done", "moved"]).expect(0);
    assert_eq!(world.record("moved", "1")["cause"]["kind"], "adopted");
}

#[test]
fn some_jobs_of_a_fleet_without_a_history_are_marked_as_done() {
    let world = world();
    delete_branch(&world);
    world.run(&["adopt", "--mark-done", "reboot"]).expect(0);
    world.apply().unwrap();
    assert_eq!(world.executions().len(), 0);
    assert_eq!(world.record("reboot", "1")["cause"]["kind"], "adopted");
}

#[test]
fn a_run_whose_journal_is_lost_is_closed_also_when_nothing_declares_it() {
    let check = |world: &World, edit: &dyn Fn()| {
        assert!(world.apply_interrupted(Duration::from_millis(4_500)).was_interrupted);
        let executions = world.executions();
        delete_registry(world);
        edit();
        let plan = world.run(&["plan"]).expect(0).stdout;
        assert!(plan.contains("- close    job/reboot run 1") && plan.contains("not declared any more"), "{plan}");
        let records = world.apply().unwrap().records;
        let closed =
            records.iter().find(|record| (record.job.as_str(), record.run.as_str()) == ("reboot", "1")).unwrap();
        assert_eq!((closed.status, closed.counts.pending()), (RunStatus::Failed, 0));
        assert!(world.record("reboot", "1")["reason"].as_str().unwrap().starts_with("journal-lost"));
        assert!(world.apply().unwrap().was_empty);
        executions
    };
    let deleted = world();
    let before = check(&deleted, &|| {
        fs::remove_file(deleted.file("jobs/reboot.yaml")).unwrap();
        deleted.commit("Delete");
    });
    assert_eq!(deleted.executions(), before, "nothing is sent");
    deleted.job("reboot", REBOOT);
    assert!(deleted.apply().unwrap().was_empty, "it stays closed when it is back");

    let renewed = world();
    check(&renewed, &|| renewed.job("reboot", &REBOOT.replace("{target", "{run: '2', target")));
    assert_eq!(renewed.record("reboot", "2")["total"], json!(10), "the new run is another one");
}

/// Commits to the results branch as fleetform would, with another text in one file.
fn rewrite(world: &World, path: &str, change: impl Fn(&mut Value)) {
    let repository = world.repository();
    let name = format!("refs/heads/{BRANCH}");
    let tip = repository.find_reference(&name).unwrap().peel_to_commit().unwrap();
    let mut document: Value = serde_json::from_slice(&world.results()[path]).unwrap();
    change(&mut document);
    let blob = repository.blob(document.to_string().as_bytes()).unwrap();
    let mut update = git2::build::TreeUpdateBuilder::new();
    update.upsert(path, blob, git2::FileMode::Blob);
    let tree = repository.find_tree(update.create_updated(&repository, &tip.tree().unwrap()).unwrap()).unwrap();
    let message = "changed\n\nFleetform-Writer: a newer one\n";
    repository.commit(Some(&name), &tip.author(), &tip.author(), message, &tree, &[&tip]).unwrap();
}

#[test]
fn newer_versions_and_other_fleets_hold_and_touch_nothing() {
    let check = |damage: &dyn Fn(&World), expected: &[&str]| {
        let world = world();
        world.apply().unwrap();
        world.job("more", &TAG.replace("ring", "belt"));
        damage(&world);
        let (results, registry) = (world.results(), fs::read(world.registry_path()).unwrap());
        for command in [&["apply", "--yes"][..], &["plan"][..]] {
            let ran = world.run(command).expect(75);
            for words in expected {
                assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
            }
        }
        assert_eq!((results, registry), (world.results(), fs::read(world.registry_path()).unwrap()));
    };
    let newer = |document: &mut Value| document["format_version"] = json!(2);
    check(&|world| rewrite(world, "fleet.json", newer), &["fleet.json", "use a newer fleetform"]);
    check(&|world| rewrite(world, "claims/tag/1.json", newer), &["claims/tag/1.json", "use a newer fleetform"]);
    check(&|world| rewrite(world, "runs/tag/1/run.json", newer), &["runs/tag/1/run.json", "use a newer fleetform"]);
    let other = |document: &mut Value| document["fleet"] = json!("globex");
    check(&|world| rewrite(world, "fleet.json", other), &["globex", "acme"]);
    check(&|world| world.sql("UPDATE meta SET value = 'globex' WHERE key = 'fleet'"), &["globex"]);
    check(&|world| world.sql("PRAGMA user_version = 99"), &["99"]);
}

#[test]
fn a_branch_that_was_put_back_before_a_claim_holds_until_it_is_published_again() {
    let world = world();
    world.apply().unwrap();
    let name = format!("refs/heads/{BRANCH}");
    let before = world.repository().find_reference(&name).unwrap().target().unwrap();
    world.job("more", &TAG.replace("ring", "belt"));
    world.apply().unwrap();
    world.repository().reference(&name, before, true, "put back").unwrap();
    // As when the process died before it could note the new tip.
    world.sql(&format!("UPDATE meta SET value = '{before}' WHERE key = 'results_tip'"));
    for command in [&["apply", "--yes"][..], &["plan"][..]] {
        let ran = world.run(command).expect(75);
        assert!(ran.stderr.contains("claims/more/1.json") && ran.stderr.contains("git branch -D"), "{}", ran.stderr);
    }
    delete_branch(&world);
    world.apply().unwrap();
    assert_eq!(world.record("more", "1")["status"], json!("completed"));
    assert!(world.apply().unwrap().was_empty);
}

/// Applies with a process that dies before or after the first step of a name.
fn apply_dying(world: &World, side: Side, step: &str) {
    let ports = fleetform::sim::dying(CrashPoints::at_step(side, step, 1));
    let options = ApplyOptions { ports, ..ApplyOptions::default() };
    let apply = AssertUnwindSafe(|| world.apply_with(&options, &Inbox::new(), &mut |_| {}));
    assert!(catch_unwind(apply).is_err(), "it died at `{step}`");
}

/// Suspends the job `one`, or deletes its file.
fn stop_or_delete(world: &World, spec: &str, is_deleted: bool) {
    if is_deleted {
        fs::remove_file(world.file("jobs/one.yaml")).unwrap();
        world.commit("delete");
    } else {
        world.job("one", &format!("{}, suspend: true}}", spec.strip_suffix('}').unwrap()));
    }
}

#[test]
fn a_published_end_outlives_a_branch_that_is_put_back_and_a_stop() {
    let devices = "devices: {d-004: {answers: 500}, d-005: {answers: 500}}";
    let fleet = format!("{{link: {{simulated: {{journal: devices.jsonl, {devices}}}}}}}");
    let deaths = [None, Some(Side::Before), Some(Side::After)];
    let ends = [(TAG, RunStatus::Completed), (REBOOT, RunStatus::Canceled)];
    let ways = ends.iter().flat_map(|end| [false, true].map(|is_deleted| (end, is_deleted)));
    for (((spec, status), is_deleted), death) in ways.flat_map(|way| deaths.map(|death| (way, death))) {
        let world = World::with_devices(&fleet, 10);
        world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
        world.job("one", spec);
        apply_dying(&world, Side::Before, "close run");
        let (before, executions) = (said(&world), world.executions());
        assert_eq!(before.0["runs/one/1/run.json"]["status"], status.as_str());
        let name = format!("refs/heads/{BRANCH}");
        let tip = world.repository().find_reference(&name).unwrap().peel_to_commit().unwrap().parent_id(0).unwrap();
        world.repository().reference(&name, tip, true, "put back").unwrap();
        assert!(!said(&world).0.contains_key("runs/one/1/run.json"));
        world.pass(Duration::from_secs(60));
        stop_or_delete(&world, spec, is_deleted);
        if let Some(side) = death {
            apply_dying(&world, side, "publish end");
            world.apply().unwrap();
        } else {
            assert_eq!(world.apply().unwrap().records[0].status, *status);
        }
        assert_eq!(said(&world), before, "its end and its rows are those that were published");
        assert!(world.apply().unwrap().was_empty);
        assert_eq!(world.executions(), executions, "nothing was sent");
    }
}
