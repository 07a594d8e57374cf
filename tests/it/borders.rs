//! What lies around a fleet: what a commit or a folder may bring, other work trees, line ends, locks that a kill left,
//! branches of other names, and people who cannot wait.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use fleetform::execute::direct_entry;
use fleetform::model::outcome::{Reason, RunStatus};
use fleetform::registry::Change;
use fleetform::results::DirectRow;

use crate::world::{Ran, World, fleetform};

const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";
/// A job that waits for as long as a device is offline.
const WAITING: &str =
    "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {batchSize: 1, offline: wait}}";
const OFFLINE: &str = "{link: {simulated: {devices: {d-001: {offline: true}}}}}";

fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.args(["-c", "user.name=T", "-c", "user.email=t@example.com"]).args(arguments).current_dir(folder);
    let ran = Ran::of(&mut command);
    assert_eq!(ran.code, 0, "{arguments:?}: {ran:#?}");
    ran.stdout.trim().to_string()
}

fn run_in(folder: &Path, arguments: &[&str]) -> Ran {
    Ran::of(fleetform().arg("-C").arg(folder).args(arguments))
}

/// A fleet in `fleets/staging` of a repository; with the folder.
fn in_a_folder() -> (World, std::path::PathBuf) {
    let world = World::new("{}");
    let spec = "{results: {branch: fleetform/results-staging}}";
    world.declare("fleets/staging/fleetform.yaml", "Fleet", "staging", spec);
    world.commit("staging");
    let folder = world.file("fleets/staging");
    run_in(&folder, &["init"]).expect(0);
    (world, folder)
}

/// Fills a folder with the files of a bare repository that would run a program.
fn make_bare(folder: &Path, marker: &Path) {
    let run = format!("sh -c 'touch {}'", marker.display());
    fs::create_dir_all(folder.join("objects")).unwrap();
    fs::create_dir_all(folder.join("refs/heads")).unwrap();
    fs::create_dir_all(folder.join("hooks")).unwrap();
    fs::write(folder.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    let config = format!(
        "[core]\n\trepositoryformatversion = 0\n\tbare = true\n\tfsmonitor = \"{run}\"\n\tsshCommand = \"{run} #\"\n\
         \thooksPath = hooks\n[remote \"origin\"]\n\turl = ssh://x@localhost/x\n[filter \"f\"]\n\tclean = \"{run}\"\n\
         \tsmudge = \"{run}\"\n"
    );
    fs::write(folder.join("config"), config).unwrap();
    for hook in ["post-commit", "reference-transaction", "pre-push"] {
        fs::write(folder.join("hooks").join(hook), format!("#!/bin/sh\n{run}\n")).unwrap();
        fs::set_permissions(folder.join("hooks").join(hook), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[test]
fn a_repository_in_the_files_of_a_fleet_is_never_opened() {
    let (world, folder) = in_a_folder();
    let marker = world.file(".git/marker");
    make_bare(&folder, &marker);
    // A file keeps its folders in git.
    fs::write(folder.join("objects/keep"), "").unwrap();
    fs::write(folder.join("refs/heads/keep"), "").unwrap();
    world.declare("fleets/staging/jobs/reboot.yaml", "Job", "reboot", REBOOT);
    world.commit("a harmless change");
    let plan = run_in(&folder, &["plan"]).expect(0);
    assert!(plan.stdout.contains("job/reboot"), "{plan:?}");
    for command in [&["validate"][..], &["status"], &["apply", "--yes"], &["device", "list"]] {
        run_in(&folder, command).expect(0);
    }
    assert!(!marker.exists(), "a program of the commit was run");
    let newest = git(world.path(), &["log", "-1", "--format=%s", "fleetform/results-staging"]);
    assert!(newest.contains("completed"), "the results are in the repository around: {newest}");
}

#[test]
fn a_bare_repository_is_opened_only_apart_from_the_files_of_another() {
    let world = World::new("{}");
    let marker = world.file(".git/marker");
    // Tracked, it is part of the files of a commit, whatever it is called.
    make_bare(&world.file("vendor/evil.git"), &marker);
    fs::write(world.file("vendor/evil.git/objects/keep"), "").unwrap();
    world.commit("vendor");
    let ran = run_in(&world.file("vendor/evil.git"), &["plan"]);
    assert!(ran.code != 0 && ran.stderr.contains("no fleet"), "{ran:?}");
    // A clone of the fleet that is ignored there is a repository of its own.
    world.write(".gitignore", ".fleetform/\n*.git/\n");
    world.commit("ignore");
    git(world.path(), &["clone", "-q", "--bare", ".", "copy.git"]);
    run_in(&world.file("copy.git"), &["validate"]).expect(0);
    assert!(!marker.exists());
}

#[test]
fn filters_and_hooks_of_a_commit_are_not_run() {
    let world = World::with_devices("{}", 2);
    let marker = world.file(".git/marker");
    world.write(".gitattributes", "*.yaml filter=evil\n*.csv filter=evil\n");
    world.write(".gitconfig", format!("[filter \"evil\"]\n\tclean = touch {}\n", marker.display()));
    world.write("hooks/post-commit", format!("#!/bin/sh\ntouch {}\n", marker.display()));
    fs::set_permissions(world.file("hooks/post-commit"), fs::Permissions::from_mode(0o755)).unwrap();
    world.job("reboot", REBOOT);
    for command in [&["plan"][..], &["validate"], &["apply", "--yes"], &["job", "stop", "reboot"], &["status"]] {
        let ran = world.run(command);
        assert!(ran.code <= 1, "{command:?}: {ran:?}");
    }
    assert!(!marker.exists());
}

#[test]
fn work_trees_of_a_repository_share_a_registry() {
    let world = World::with_devices("{link: {simulated: {journal: devices.jsonl}}}", 3);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("reboot", REBOOT);
    world.run(&["apply", "--yes"]).expect(0);
    let other = tempfile::tempdir().unwrap();
    let second = other.path().join("second");
    git(world.path(), &["worktree", "add", "-q", second.to_str().unwrap(), "-b", "other"]);
    let plan = run_in(&second, &["plan"]).expect(0);
    assert!(plan.stdout.contains("Plan: nothing to do") && !plan.stderr.contains("FF656"), "{plan:?}");
    assert_eq!(run_in(&second, &["device", "list", "--count"]).expect(0).stdout, "3\n");
    assert!(!second.join(".fleetform").exists());
    // While the registry is at work here, the other work tree waits.
    let _work = world.work("other/1/0");
    run_in(&second, &["apply", "--yes"]).expect(75);
}

#[test]
fn a_commit_names_no_file_outside_of_the_fleet() {
    let outside = tempfile::tempdir().unwrap();
    let secret = outside.path().join("secret");
    fs::write(&secret, "root:x:0:0\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    for spec in [
        format!("{{registry: {{sqlite: {{path: {}}}}}}}", secret.display()),
        format!("{{link: {{simulated: {{journal: {}}}}}}}", secret.display()),
        "{registry: {sqlite: {path: .git/fleet.db}}}".to_string(),
        "{link: {simulated: {journal: .git/config}}}".to_string(),
    ] {
        let world = World::with_devices("{}", 1);
        world.declare("fleetform.yaml", "Fleet", "acme", &spec);
        world.job("reboot", REBOOT);
        let ran = world.run(&["apply", "--yes"]).expect(65);
        assert!(ran.stderr.contains("FF319"), "{ran:?}");
    }
    // Neither by a link, nor a file of the fleet that is something else.
    for (spec, link) in [
        ("{registry: {sqlite: {path: here.db}}}", Some("here.db")),
        ("{link: {simulated: {journal: here.jsonl}}}", Some("here.jsonl")),
        ("{registry: {sqlite: {path: devices.txt}}}", None),
        ("{link: {simulated: {journal: devices.txt}}}", None),
    ] {
        let world = World::with_devices("{}", 1);
        world.declare("fleetform.yaml", "Fleet", "acme", spec);
        world.job("reboot", REBOOT);
        world.write("devices.txt", "words of a person\n");
        if let Some(link) = link {
            std::os::unix::fs::symlink(&secret, world.file(link)).unwrap();
        }
        let ran = world.run(&["apply", "--yes"]);
        assert!(ran.code != 0, "{spec}: {ran:?}");
        assert_eq!(fs::read_to_string(world.file("devices.txt")).unwrap(), "words of a person\n");
        assert!(!world.file("devices.lock").exists());
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "root:x:0:0\n");
    assert_eq!(fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o644);
    assert!(!outside.path().join("secret.lock").exists());
}

#[test]
fn a_work_tree_is_clean_when_git_says_so() {
    for (name, value) in
        [("core.autocrlf", "true"), ("attributes", "* text eol=crlf\n"), ("attributes", "*.csv ident\n")]
    {
        let world = World::with_devices("{}", 2);
        world.write("note.csv", "$Id$\n");
        if name == "attributes" {
            world.write(".gitattributes", value);
        } else {
            git(world.path(), &["config", name, value]);
        }
        world.job("reboot", REBOOT);
        git(world.path(), &["rm", "-q", "-r", "--cached", "."]);
        git(world.path(), &["reset", "-q", "--hard"]);
        assert_eq!(git(world.path(), &["status", "--porcelain"]), "");
        world.run(&["apply", "--yes"]).expect(0);
        let plan = world.run(&["plan"]).expect(0);
        assert!(plan.stdout.contains("nothing to do"), "the file of an import is the same in both: {plan:?}");
        world.write("jobs/reboot.yaml", fs::read_to_string(world.file("jobs/reboot.yaml")).unwrap() + "# more\n");
        let ran = world.run(&["apply", "--yes"]).expect(75);
        assert!(ran.stderr.contains("not committed: jobs/reboot.yaml"), "{ran:?}");
    }
}

#[test]
fn files_that_a_sparse_checkout_leaves_out_are_there() {
    let world = World::new("{}");
    world.write("imports/devices.csv", crate::world::devices_csv(3));
    world.declare("imports/all.yaml", "DeviceImport", "all", "{file: devices.csv}");
    world.job("reboot", REBOOT);
    git(world.path(), &["sparse-checkout", "set", "--no-cone", "/*", "!/imports/"]);
    assert!(!world.file("imports/devices.csv").exists());
    let plan = world.run(&["plan"]).expect(0);
    assert!(plan.stdout.contains("import/all") && plan.stdout.contains("3 devices"), "{plan:?}");
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(world.devices().len(), 3);
}

#[test]
fn a_results_branch_that_was_put_back_beside_a_remote_goes_on() {
    for is_deleted in [false, true] {
        let world = World::with_devices("{}", 2);
        let remote = tempfile::tempdir().unwrap();
        git(remote.path(), &["init", "-q", "--bare"]);
        git(world.path(), &["remote", "add", "origin", remote.path().to_str().unwrap()]);
        git(world.path(), &["push", "-q", "origin", "main", "fleetform/results"]);
        world.run(&["apply", "--yes"]).expect(0);
        world.job("reboot", REBOOT);
        world.run(&["apply", "--yes"]).expect(0);
        let tip = git(world.path(), &["rev-parse", "fleetform/results"]);
        if is_deleted {
            git(world.path(), &["branch", "-q", "-D", "fleetform/results"]);
        } else {
            git(world.path(), &["branch", "-f", "fleetform/results", "fleetform/results~2"]);
        }
        let plan = world.run(&["plan"]).expect(75);
        assert!(plan.stderr.contains("was put back") && plan.stderr.contains(&tip), "{plan:?}");
        world.run(&["apply", "--yes"]).expect(0);
        assert_eq!(git(world.path(), &["rev-parse", "fleetform/results"]), tip);
    }
}

#[test]
fn a_stop_counts_after_the_history_was_amended() {
    let world = World::with_devices(OFFLINE, 3);
    world.job("reboot", WAITING);
    let child = waiting_apply(&world);
    git(world.path(), &["commit", "-q", "--amend", "-m", "amended"]);
    world.run(&["job", "stop", "reboot"]).expect(0);
    let ran = Ran::after(child);
    assert!(ran.stderr.contains("stop"), "{ran:?}");
    assert_eq!(world.record("reboot", "1")["status"], "stopped");
}

/// Starts an apply that stays for its devices, and returns it when its run is under way.
fn waiting_apply(world: &World) -> std::process::Child {
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["apply", "--yes", "--wait"]);
    let child = Ran::start(&mut command);
    wait_until(|| world.run(&["job", "list", "--json"]).stdout.contains("\"running\""));
    child
}

fn wait_until(mut is_so: impl FnMut() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it never comes to that");
}

#[test]
fn a_device_is_blocked_at_once_while_a_job_waits() {
    let world = World::with_devices(OFFLINE, 3);
    world.job("reboot", WAITING);
    let child = waiting_apply(&world);
    let why = "it is on fire, \"hot\"";
    world.run(&["device", "block", "d-003", "--yes", "--reason", why]).expect(0);
    assert!(world.device("d-003").blocked);
    world.run(&["job", "stop", "reboot"]).expect(0);
    Ran::after(child);
    let file = world.results().into_iter().find(|(path, _)| path.starts_with("direct/")).unwrap();
    let text = String::from_utf8(file.1).unwrap();
    assert!(text.contains(",block,d-003,\"it is on fire, \"\"hot\"\"\""), "{text}");
    // Without anybody at work it is on the branch at once, and the branch is still ours.
    world.run(&["device", "unblock", "d-003", "--yes"]).expect(0);
    let text = world.results().into_iter().find(|(path, _)| path.starts_with("direct/")).unwrap().1;
    assert_eq!(String::from_utf8(text).unwrap().lines().count(), 3);
    world.run(&["plan"]).expect(0);
}

#[test]
fn what_was_done_to_many_devices_is_one_commit_and_no_row_is_doubled() {
    let world = World::with_devices("{}", 3);
    world.apply().unwrap();
    let times: Vec<jiff::Timestamp> = (0..3).map(|n| format!("2026-11-20T10:00:0{n}.5Z").parse().unwrap()).collect();
    let entries = times.iter().map(|at| {
        let row = DirectRow { at: *at, who: "hub at 127.0.0.1", action: "method", device_id: "d-001", reason: "ping" };
        (format!("direct/{at}/1"), direct_entry(&[row], "device method: d-001"))
    });
    let entries: Vec<(String, String)> = entries.collect();
    let report = |upto: usize| {
        let changes = entries[..upto].iter().map(|(about, entry)| Change::Report { about, entry });
        world.registry_to_write().commit(&changes.collect::<Vec<_>>()).unwrap();
        world.apply().unwrap();
    };
    let lines = || String::from_utf8(world.results()["direct/2026-11-20.csv"].clone()).unwrap().lines().count();
    let before = world.subjects().len();
    report(2);
    assert_eq!((lines(), world.subjects().len()), (3, before + 1));
    assert!(world.subjects().contains(&"devices: 2 direct changes".to_string()), "{:?}", world.subjects());
    // A process died between the commit and its note, and one more was done meanwhile.
    report(3);
    assert_eq!(lines(), 4);
    assert!(world.registry().branch_copy().outbox().unwrap().is_empty());
}

#[test]
fn a_device_that_is_blocked_between_its_batch_and_its_turn_is_not_sent_to() {
    let spec = "{limits: {inFlight: 1}, link: {simulated: {latency: 1s, journal: devices.jsonl}}}";
    let world = World::with_devices(spec, 4);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.job("reboot", REBOOT);
    // One device at a time: the batch is open, and the last device has not had its turn.
    world.apply_interrupted(Duration::from_millis(500));
    let mut registry = world.registry_to_write();
    let blocked = ["d-004".to_string()];
    let options = fleetform::ops::apply::ApplyOptions::default();
    let mut has_blocked = false;
    let applied = world.apply_with(&options, &fleetform::execute::Inbox::new(), &mut |progress| {
        if let fleetform::execute::Progress::Advanced { .. } = progress
            && !std::mem::replace(&mut has_blocked, true)
        {
            let at = fleetform::execute::Clock::now(&world.clock);
            let change = fleetform::registry::Change::Block { device_ids: &blocked, is_blocked: true, at };
            registry.write(change).unwrap();
        }
    });
    let record = applied.unwrap().records.remove(0);
    assert_eq!((record.status, record.counts.failed), (RunStatus::Completed, 1));
    let row = world.rows("reboot", "1").remove(3);
    assert_eq!((row.reason, row.attempts, row.started_at), (Reason::Blocked, 0, None));
    assert!(world.executions().iter().all(|(device, _)| device != "d-004"));
}

#[test]
fn keys_go_to_stdout_or_to_a_file_that_git_leaves_alone() {
    let world = World::with_devices("{}", 1);
    world.run(&["apply", "--yes"]).expect(0);
    let mut command = fleetform();
    command.current_dir(world.path()).args(["device", "export", "-o", "-"]);
    let ran = Ran::of(&mut command).expect(0);
    assert!(ran.stdout.starts_with("IOTC_DEVICEID,") && ran.stdout.lines().count() == 2, "{ran:?}");
    assert!(!world.file("-").exists());
    let taken = world.file("keys.csv");
    let ran = world.run(&["device", "export", "-o", taken.to_str().unwrap()]).expect(77);
    assert!(ran.stderr.contains("is in the git work tree") && !taken.exists(), "{ran:?}");
    let ignored = world.file(".fleetform/keys.csv");
    let ran = world.run(&["device", "export", "-o", ignored.to_str().unwrap()]).expect(0);
    assert!(ran.stderr.contains("Wrote 1 device with"), "{ran:?}");
}

#[cfg(unix)]
#[test]
fn what_is_written_goes_where_a_link_leads_and_leaves_devices_as_they_are() {
    let world = World::with_devices("{}", 1);
    world.job("tag", "{target: {query: '*'}, action: {tags: {ring: a}}}");
    world.run(&["apply", "--yes"]).expect(0);
    let folder = crate::world::folder();
    let (real, link, lost) = (folder.path().join("real"), folder.path().join("link"), folder.path().join("lost"));
    std::os::unix::fs::symlink(&real, &link).unwrap();
    std::os::unix::fs::symlink(folder.path().join("nowhere"), &lost).unwrap();
    for command in [&["device", "export", "-o"][..], &["job", "results", "tag", "-o"], &["plan", "--out"]] {
        let run = |path: &Path| world.run(&[command, &[path.to_str().unwrap()]].concat());
        std::fs::write(&real, "old").unwrap();
        run(&link).expect(0);
        assert!(link.is_symlink() && std::fs::read_to_string(&real).unwrap().len() > 10, "{command:?}");
        assert_eq!(run(&lost).code, 1, "{command:?}: a link that leads nowhere");
        assert_eq!(run(folder.path()).code, 1, "{command:?}: a folder");
        // A pipe, as `/dev/stdout` is one, and a device.
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read_to_string(pipe).unwrap()
        });
        run(&pipe).expect(0);
        assert!(reader.join().unwrap().len() > 10, "{command:?}");
        std::fs::remove_file(&pipe).unwrap();
        run(Path::new("/dev/null")).expect(0);
        assert!(!Path::new("/dev/null").is_file() && !Path::new("/dev/null").is_symlink());
        let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left.len(), 3, "{command:?}: {left:?}");
    }
    let mut command = fleetform();
    command.current_dir(world.path()).args(["job", "results", "tag", "-o", "-"]);
    assert!(Ran::of(&mut command).expect(0).stdout.starts_with("device_id,"));
    for command in [&["plan", "--out", "-"][..], &["convert", "x.json", "-o", "-"]] {
        world.run(command).expect(64);
    }
    assert!(!world.file("-").exists());
}

#[test]
fn a_number_that_would_be_sent_otherwise_is_refused() {
    let world = World::with_devices("{}", 1);
    world.run(&["apply", "--yes"]).expect(0);
    let refused = world.run(&["device", "set", "d-001", "version=1.10"]).expect(64);
    assert!(refused.stderr.contains("`1.10` is a number, and would be sent as 1.1"), "{refused:?}");
    world.run(&["device", "call", "d-001", "up", r#"{"v": 1.10}"#]).expect(64);
    // The message followed to the letter.
    world.run(&["device", "set", "d-001", "version=\"1.10\""]).expect(0);
    world.run(&["device", "set", "d-001", "level=1.1"]).expect(0);
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(world.devices()[0].desired["version"], "1.10");
}

#[test]
fn a_branch_that_is_in_the_way_of_the_results_is_named() {
    let world = World::new("{}");
    git(world.path(), &["branch", "-q", "-D", "fleetform/results"]);
    git(world.path(), &["branch", "-m", "main", "fleetform"]);
    for command in [&["init"][..], &["validate"], &["plan"], &["apply", "--yes"]] {
        let ran = world.run(command).expect(65);
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains("The branch `fleetform` is in the way of `fleetform/results`"), "{command:?}: {said}");
    }
    for command in [&["status"][..], &["job", "list"], &["import", "list"]] {
        let ran = world.run(command);
        let said = ran.stdout + &ran.stderr;
        assert!(said.contains("the branch `fleetform` is in the way of `fleetform/results`"), "{command:?}: {said}");
    }
    world.declare("fleetform.yaml", "Fleet", "acme", "{results: {branch: fleetform/x}}");
    world.run(&["validate"]).expect(65);
    world.declare("fleetform.yaml", "Fleet", "acme", "{results: {branch: results/acme}}");
    world.run(&["validate"]).expect(0);
    // Also below: `a` cannot be a branch beside `a/b`.
    git(world.path(), &["branch", "results/acme/old"]);
    let ran = world.run(&["validate"]).expect(65);
    assert!((ran.stdout + &ran.stderr).contains("`results/acme/old` is in the way"));
}

#[test]
fn looking_and_emergencies_need_the_fleet_document_only() {
    let world = World::with_devices("{}", 2);
    world.job("reboot", REBOOT);
    world.run(&["apply", "--yes"]).expect(0);
    world.declare("groups.yaml", "DeviceGroup", "odd", "{query: \"tags.parity = 'odd'\"}");
    world.job("broken", "{target: {group: nowhere}, action: {}}");
    world.run(&["plan"]).expect(65);
    for command in [
        &["device", "list"][..],
        &["device", "list", "--count"],
        &["device", "show", "d-001"],
        &["device", "export", "-o", "-"],
        &["device", "block", "d-001", "--yes"],
        &["device", "unblock", "d-001", "--yes"],
        &["device", "delete", "d-002", "--yes"],
        &["group", "list"],
        &["group", "show", "odd"],
        &["import", "list"],
        &["import", "show", "all"],
        &["job", "list"],
        &["job", "show", "reboot"],
        &["job", "results", "reboot"],
        &["status"],
    ] {
        world.run(command).expect(0);
    }
}

#[test]
fn groups_and_imports_are_shown() {
    let world = World::with_devices("{}", 3);
    world.declare("groups.yaml", "DeviceGroup", "odd", "{query: \"tags.parity = 'odd'\"}");
    world.write("more.csv", "IOTC_DEVICEID,TAG.a\nm-1,x\nm 2,y\nm-1,z\n");
    world.declare("more.yaml", "DeviceImport", "more", "{file: more.csv}");
    world.job("dim", "{target: {group: odd}, action: {property: {level: 3}}}");
    let before = world.run(&["import", "list"]).expect(0).stdout;
    assert!(before.contains("not imported yet"), "{before}");
    world.run(&["apply", "--yes"]).expect(0);
    let groups = world.run(&["group", "list", "--json"]).expect(0).json();
    assert_eq!(
        (&groups[0]["group"], &groups[0]["devices"], &groups[0]["used_by"]),
        (&"odd".into(), &2.into(), &serde_json::json!(["job/dim"]))
    );
    let shown = world.run(&["group", "show", "odd"]).expect(0).stdout;
    assert!(shown.contains("tags.parity = 'odd'") && shown.contains("job/dim"), "{shown}");
    world.run(&["group", "show", "od"]).expect(1);
    let imports = world.run(&["import", "list", "--json"]).expect(0).json();
    assert_eq!((&imports[0]["import"], &imports[0]["report"]["imported"]), (&"all".into(), &3.into()));
    let shown = world.run(&["import", "show", "more", "--json"]).expect(0).json().remove(0);
    assert_eq!(shown["report"]["rejected"], shown["rejected"].as_array().unwrap().len());
    assert!(shown["rejected"][0]["line"].is_u64() && shown["rejected"][0]["message"].is_string(), "{shown}");
    let text = world.run(&["import", "show", "more"]).expect(0).stdout;
    assert!(text.contains("line 3 `m 2`: "), "{text}");
}

#[test]
fn large_files_and_documents_are_bounded() {
    let world = World::with_devices("{}", 1);
    // Streamed from the commit, and read as any other.
    let rows: String = (0..400_000).map(|n| format!("big-{n:06},a name that takes some room {n:012}\n")).collect();
    assert!(rows.len() > 16 << 20);
    world.write("big.csv", format!("IOTC_DEVICEID,IOTC_DEVICENAME\n{rows}"));
    world.declare("big.yaml", "DeviceImport", "big", "{file: big.csv}");
    world.commit("big");
    let plan = world.run(&["plan", "--rev", "HEAD", "--json"]).expect(0).json();
    let import = plan[0]["changes"].as_array().unwrap().iter().find(|one| one["address"] == "import/big").unwrap();
    assert_eq!(import["import"]["new"], 400_000);
    // A claim that somebody pushed is not read when it is too large to be one.
    let repository = world.repository();
    let tip = repository.find_reference("refs/heads/fleetform/results").unwrap().peel_to_commit().unwrap();
    let blob = repository.blob(&vec![b' '; 33 << 20]).unwrap();
    let mut update = git2::build::TreeUpdateBuilder::new();
    update.upsert("claims/huge/1.json", blob, git2::FileMode::Blob);
    let tree = repository.find_tree(update.create_updated(&repository, &tip.tree().unwrap()).unwrap()).unwrap();
    let author = git2::Signature::now("T", "t@example.com").unwrap();
    let reference = Some("refs/heads/fleetform/results");
    repository.commit(reference, &author, &author, "x\n\nFleetform-Writer: x\n", &tree, &[&tip]).unwrap();
    let ran = world.run(&["plan"]).expect(75);
    assert!(ran.stderr.contains("and at most 33554432 are read"), "{ran:?}");
}

/// Returns what is in a folder, but for that of git.
fn listed(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name != ".git").collect();
    names.sort();
    names
}

#[test]
fn a_fleet_whose_first_commit_cannot_be_signed_is_not_begun() {
    let place = crate::world::folder();
    let folder = place.path().join("fleet");
    fs::create_dir(&folder).unwrap();
    git(&folder, &["init", "-q", "-b", "main"]);
    for (name, value) in [("gpg.format", "ssh"), ("commit.gpgsign", "true"), ("user.signingkey", "/no/such/key")] {
        git(&folder, &["config", name, value]);
    }
    fs::write(folder.join("mine.txt"), "mine\n").unwrap();
    git(&folder, &["add", "mine.txt"]);
    let ran = run_in(&folder, &["init", "--example"]).expect(1);
    let said = ran.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in ["/no/such/key", "`git config user.signingkey KEY`", "`git config commit.gpgsign false`"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(git(&folder, &["status", "--porcelain"]), "A  mine.txt");
    assert_eq!(listed(&folder), ["mine.txt"]);
    // A folder that was not there is not there afterwards.
    let home = place.path().join("home");
    fs::create_dir(&home).unwrap();
    let config = "[gpg]\n\tformat = ssh\n[commit]\n\tgpgsign = true\n[user]\n\tsigningkey = /no/such/key\n";
    fs::write(home.join(".gitconfig"), config).unwrap();
    let other = place.path().join("other");
    Ran::of(fleetform().env("HOME", &home).arg("init").arg(&other)).expect(1);
    assert!(!other.exists());
    // What it says to do helps.
    git(&folder, &["config", "commit.gpgsign", "false"]);
    run_in(&folder, &["init"]).expect(0);
    assert_eq!(git(&folder, &["status", "--porcelain"]), "A  mine.txt");
}
