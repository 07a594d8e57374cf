//! One registry, and only one, works on a fleet: clones, copies, registries that are lost or put back from a backup.

use std::fs;
use std::path::{Path, PathBuf};

use fleetform::model::outcome::Reason;
use serde_json::Value;

use crate::stores::is_postgres;
use crate::world::{Backup, Ran, World, fleetform};

const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";
const SPEC: &str = "{limits: {inFlight: 1}, link: {simulated: {latency: 1s, journal: devices.jsonl}}}";
const GITIGNORE: &str = ".fleetform/\ndevices.jsonl\n";

fn world(count: usize) -> World {
    let world = World::with_devices(SPEC, count);
    world.write(".gitignore", GITIGNORE);
    world.job("reboot", REBOOT);
    world
}

/// Clones a fleet with its results, as a colleague or a CI job does.
fn clone_of(world: &World, folder: &Path) -> PathBuf {
    let clone = folder.join("clone");
    git2::build::RepoBuilder::new().clone(world.path().to_str().unwrap(), &clone).unwrap();
    clone
}

fn at(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::of(fleetform().arg("-C").arg(folder).args(arguments))
}

/// How many devices executed a command more than once.
fn twice(world: &World) -> usize {
    let mut executions = world.executions();
    executions.sort();
    executions.windows(2).filter(|pair| pair[0] == pair[1]).count()
}

/// Kills an apply in mid-run, backs the registry up, goes on and kills it later.
fn killed_after_a_backup(world: &World) -> Backup {
    let sent = |count: usize| {
        for looks in 1..400 {
            let was_killed = world.apply_killed(looks);
            assert!(was_killed, "it never gets there");
            if world.executions().len() >= count {
                return;
            }
        }
    };
    sent(2);
    let backup = world.back_up();
    sent(4);
    backup
}

#[test]
fn a_clone_plans_and_looks_and_takes_over_on_purpose_only() {
    let world = world(3);
    world.apply().unwrap();
    let folder = crate::world::folder();
    let clone = clone_of(&world, folder.path());
    let tip =
        |path: &Path| git2::Repository::open(path).unwrap().revparse_single("origin/fleetform/results").unwrap().id();
    let before = tip(&clone);
    at(&clone, &["plan"]).expect(0);
    let refused = at(&clone, &["apply", "--yes"]).expect(75);
    assert!(refused.stderr.contains("another registry works on this fleet"), "{refused:?}");
    assert_eq!(tip(&clone), before);
    assert_eq!(at(&clone, &["job", "list", "--json"]).expect(0).json()[0]["status"], "completed");
    // The message followed to the letter.
    at(&clone, &["apply", "--yes", "--take-over"]).expect(0);
    assert_eq!(at(&clone, &["device", "list", "--count"]).expect(0).stdout, "3\n");
    at(&clone, &["apply", "--yes"]).expect(0);
    assert_eq!(fs::read_to_string(clone.join("devices.jsonl")).unwrap_or_default(), "", "nothing is sent again");
}

#[test]
fn a_run_at_work_is_closed_by_none_but_a_take_over_and_its_end_stays() {
    let world = world(4);
    assert!(world.apply_killed(12));
    let other = format!("sqlite:{}", world.file(".git/other.db").display());
    let refused = world.run(&["apply", "--yes", "--registry", &other]).expect(75);
    assert!(refused.stderr.contains("another registry"), "{refused:?}");
    let ran = world.run(&["apply", "--yes", "--take-over", "--registry", &other]);
    assert_eq!(ran.code, 3, "{ran:?}");
    let record = world.record("reboot", "1");
    assert_eq!((&record["status"], &record["cause"]["kind"]), (&Value::from("failed"), &Value::from("journal-lost")));
    // The first registry has lost the fleet, and changes nothing: it says so, with nothing to do too.
    world.run(&["apply", "--yes"]).expect(75);
    assert_eq!(world.record("reboot", "1"), record);
    assert_eq!(twice(&world), 0);
    // The claim counts devices that nobody can name: who takes those that failed is told.
    world.run(&["job", "rerun", "reboot", "--registry", &other]).expect(0);
    let plan = world.run(&["plan", "--registry", &other]).expect(0);
    assert!(plan.stderr.contains("FF674") && plan.stderr.contains("4 devices of it have no row"), "{plan:?}");
    let some = "{target: {failedOf: {job: reboot, run: '1', reasons: [timeout]}}, action: {command: {name: reboot}}}";
    world.job("reboot-rerun", some);
    let plan = world.run(&["plan", "--registry", &other]).expect(0);
    assert!(!plan.stderr.contains("FF674"), "{plan:?}");
}

#[test]
fn a_registry_that_is_put_back_sends_nothing_again() {
    for variant in ["only the registry", "the whole folder was lost", "an older write-ahead log", "no witness at all"] {
        let world = world(6);
        let backup = killed_after_a_backup(&world);
        let sent = world.executions().len();
        match variant {
            "the whole folder was lost" => world.lose_registry(),
            "no witness at all" => {
                world.lose_registry();
                fs::remove_dir_all(world.file(".git/fleetform")).unwrap();
            }
            _ => {}
        }
        world.put_back(&backup);
        let ran = world.run(&["apply", "--yes"]);
        assert!(ran.code == 0 && ran.stderr.contains("a copy that was put back"), "{variant}: {ran:?}");
        assert_eq!(twice(&world), 0, "{variant}");
        let unknown = world.rows("reboot", "1").iter().filter(|row| row.reason == Reason::OutcomeUnknown).count();
        // What other machines have sent since is not known here.
        let most = if variant == "no witness at all" || is_postgres() { 6 } else { sent };
        assert!(unknown >= 1 && unknown <= most, "{variant}: {unknown} unknown of {sent} sent");
    }
}

#[test]
fn commands_that_may_be_sent_again_are() {
    let world = world(6);
    world.job("reboot", &REBOOT.replace("reboot}", "reboot, idempotent: true}"));
    let backup = killed_after_a_backup(&world);
    world.put_back(&backup);
    world.apply().unwrap();
    assert!(world.rows("reboot", "1").iter().all(|row| row.reason == Reason::Responded));
}

#[test]
fn a_registry_in_the_place_of_a_lost_one_goes_on() {
    let world = world(4);
    assert!(world.apply_killed(12));
    let owner = |world: &World| -> Value {
        serde_json::from_slice::<Value>(&world.results()["fleet.json"]).unwrap()["registry"].clone()
    };
    let before = owner(&world);
    world.lose_registry();
    world.run(&["apply", "--yes"]).expect(3);
    assert_eq!(owner(&world), before);
    assert_eq!(world.record("reboot", "1")["status"], "failed");
    world.job("again", "{target: {query: '*'}, action: {tags: {a: b}}}");
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(twice(&world), 0);
}

#[test]
fn a_copy_beside_the_original_is_another_registry_and_a_moved_one_is_not() {
    let world = world(3);
    world.apply().unwrap();
    let copy = world.file(".git/copy.db");
    fs::copy(world.registry_path(), &copy).unwrap();
    world.job("more", "{target: {query: '*'}, action: {tags: {a: b}}}");
    let other = format!("sqlite:{}", copy.display());
    let refused = world.run(&["apply", "--yes", "--registry", &other]).expect(75);
    assert!(refused.stderr.contains("another registry"), "{refused:?}");
    let moved = world.file(".git/moved.db");
    fs::rename(world.registry_path(), &moved).unwrap();
    world.run(&["apply", "--yes", "--registry", &format!("sqlite:{}", moved.display())]).expect(0);
    assert_eq!(world.record("more", "1")["status"], "completed");
    // A link to it is it.
    std::os::unix::fs::symlink(&moved, world.file(".git/link.db")).unwrap();
    world.job("last", "{target: {query: '*'}, action: {tags: {c: d}}}");
    let link = format!("sqlite:{}", world.file(".git/link.db").display());
    world.run(&["apply", "--yes", "--registry", &link]).expect(0);
}

#[test]
fn a_folder_that_is_copied_as_a_whole_is_another_registry() {
    let world = world(3);
    world.apply().unwrap();
    let folder = crate::world::folder();
    let copy = folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(world.path()).arg(&copy).status();
    assert!(copied.unwrap().success());
    world.job("more", "{target: {query: '*'}, action: {tags: {a: b}}}");
    world.apply().unwrap();
    fs::write(
        copy.join("jobs/own.yaml"),
        format!("apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: own}}\nspec: {REBOOT}\n"),
    )
    .unwrap();
    for arguments in [&["add", "-A"][..], &["-c", "user.name=T", "-c", "user.email=t@x", "commit", "-qm", "own"]] {
        assert!(std::process::Command::new("git").arg("-C").arg(&copy).args(arguments).status().unwrap().success());
    }
    at(&copy, &["plan"]).expect(0);
    at(&copy, &["apply", "--yes"]).expect(75);
}

#[test]
fn a_registry_from_before_there_were_identities_goes_on() {
    let world = world(3);
    world.apply().unwrap();
    // As an older fleetform left it: the branch names no registry.
    let repository = world.repository();
    let tip = repository.find_reference("refs/heads/fleetform/results").unwrap().peel_to_commit().unwrap();
    let blob = repository.blob(b"{\"fleet\": \"acme\", \"format_version\": 1}\n").unwrap();
    let mut builder = repository.treebuilder(Some(&tip.tree().unwrap())).unwrap();
    builder.insert("fleet.json", blob, 0o100_644).unwrap();
    let tree = repository.find_tree(builder.write().unwrap()).unwrap();
    let author = git2::Signature::now("T", "t@example.com").unwrap();
    let message = "older\n\nFleetform-Writer: fleetform\n";
    let reference = Some("refs/heads/fleetform/results");
    repository.commit(reference, &author, &author, message, &tree, &[&tip]).unwrap();
    fs::remove_dir_all(world.file(".git/fleetform")).unwrap();
    world.job("more", "{target: {query: '*'}, action: {tags: {a: b}}}");
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(world.record("more", "1")["status"], "completed");
}

#[test]
fn an_old_copy_of_a_remote_is_not_the_history_when_all_else_is_lost() {
    let world = world(3);
    let remote = crate::world::folder();
    let git = |arguments: &[&str]| {
        let ran = Ran::of(std::process::Command::new("git").arg("-C").arg(world.path()).args(arguments));
        assert_eq!(ran.code, 0, "{arguments:?}: {ran:?}");
    };
    git(&["init", "-q", "--bare", remote.path().to_str().unwrap()]);
    git(&["remote", "add", "origin", remote.path().to_str().unwrap()]);
    git(&["push", "-q", "origin", "main", "fleetform/results"]);
    world.apply().unwrap();
    world.lose_registry();
    git(&["branch", "-q", "-D", "fleetform/results"]);
    for command in [&["plan"][..], &["apply", "--yes"]] {
        let ran = world.run(command).expect(75);
        assert!(ran.stderr.contains("what origin was last seen with may lack some"), "{ran:?}");
    }
    assert_eq!(world.executions().len(), 3);
    // The newest of several remotes is read, and not the first by name.
    git(&["remote", "add", "a-mirror", remote.path().to_str().unwrap()]);
    git(&["update-ref", "refs/remotes/a-mirror/fleetform/results", "refs/remotes/origin/fleetform/results"]);
    // The message followed to the letter: a person has decided.
    git(&["fetch", "-q", "origin", "fleetform/results:fleetform/results"]);
    world.run(&["plan"]).expect(0);
}

#[test]
fn a_clone_tells_the_truth_about_the_work_of_others() {
    let world = world(4);
    assert!(world.apply_killed(12));
    let folder = crate::world::folder();
    let clone = clone_of(&world, folder.path());
    // Nothing but the claim is on the branch.
    let listed = at(&clone, &["job", "list", "--json"]).expect(0).json();
    assert_eq!((&listed[0]["job"], &listed[0]["status"]), (&Value::from("reboot"), &Value::from("pending")));
    let shown = at(&clone, &["job", "show", "reboot"]).expect(0).stdout;
    assert!(shown.contains("with another registry") && !shown.contains("outcome-unknown"), "{shown}");
    let plan = at(&clone, &["plan"]).expect(0);
    let said = plan.stdout + &plan.stderr;
    assert!(
        said.contains("FF672")
            && !said.contains("FF656")
            && said.contains("Another registry works on this fleet")
            && !said.contains("close "),
        "{said}"
    );
    // Where the registry is: interrupted, and at work while a process has it.
    assert_eq!(world.run(&["job", "list", "--json"]).expect(0).json()[0]["status"], "interrupted");
    let _work = world.work("other/1/0");
    let listed = world.run(&["job", "list", "--json"]).expect(0).json();
    assert!(listed[0]["at_work"].is_string(), "{listed:?}");
}

#[test]
fn a_plan_names_the_runs_that_a_backup_lacks() {
    let world = world(3);
    world.apply().unwrap();
    let backup = world.back_up();
    assert!(!world.run(&["plan"]).expect(0).stderr.contains("FF673"));
    world.job("dim", "{target: {query: '*'}, action: {tags: {level: 3}}}");
    world.apply().unwrap();
    world.put_back(&backup);
    let plan = world.run(&["plan"]).expect(0);
    assert!(plan.stderr.contains("FF673") && plan.stderr.contains("`dim` run 1"), "{plan:?}");
    let status = world.run(&["status"]).expect(0).stdout;
    assert!(status.contains("registry") && status.contains("`dim` run 1"), "{status}");
    // The next apply takes up what the branch has, and runs nothing again.
    world.run(&["apply", "--yes"]).expect(0);
    assert!(!world.run(&["plan"]).expect(0).stderr.contains("FF673"));
    assert_eq!(world.run(&["status", "--json"]).expect(0).json()[0]["fleet"]["lacks"], Value::Null);
    assert_eq!(world.record("dim", "1")["completed"], 3);
}
