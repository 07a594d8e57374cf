//! What an operator sees of the daemon as a process: `status`, its log, and how it ends when it cannot start.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::servers::{PLAIN_GIT, bare, git, wait_until};
use crate::world::{BRANCH, Ran, World, fleetform, folder, spawn};

/// A daemon on the branch of a world, killed when dropped.
struct Watch {
    child: Child,
    log: PathBuf,
}

impl Watch {
    fn start(world: &World, arguments: &[&str]) -> Watch {
        Watch::start_in(world.path(), PathBuf::from(world.folder_file("watch.log")), arguments)
    }

    fn start_in(folder: &Path, log: PathBuf, arguments: &[&str]) -> Watch {
        let mut command = daemon(folder, arguments);
        command.stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        Watch { child: spawn(&mut command), log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    #[track_caller]
    fn wait_said(&self, words: &str) {
        wait_until(&format!("the daemon says {words:?}"), || self.said().contains(words));
    }

    /// Asks the daemon to end, checks that it ends well, and returns its output.
    #[track_caller]
    fn end(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{}", self.said());
        self.said()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn daemon(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = fleetform();
    command.arg("-C").arg(folder).arg("watch").args(arguments).envs(PLAIN_GIT.iter().copied());
    command
}

const DIM: &str = "{target: {query: '*'}, action: {property: {light: {level: 3}}}}";

/// Returns the daemon's part of `status`; null before the daemon has written any.
fn daemon_status(world: &World) -> Value {
    let ran = world.run(&["status", "--json"]);
    if ran.code == 0 { ran.json().remove(0)["daemon"].clone() } else { Value::Null }
}

#[test]
fn what_is_held_has_its_place_and_its_code() {
    let world = World::with_devices("{}", 2);
    world.declare("jobs/lost.yaml", "Job", "lost", &DIM.replace("query: '*'", "group: nowhere"));
    world.declare("jobs/expects.yaml", "Job", "expects", &DIM.replace("query: '*'", "query: '*', expect: {min: 9}"));
    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: broken\nspec: 1\n");
    world.write("jobs/nameless.yaml", "\n\napiVersion: fleetform/v1\nkind: Job\nspec: {}\n");
    world.write("jobs/alien.yaml", "apiVersion: fleetform/v1\nkind: Jobb\nmetadata: {name: a}\nspec: {}\n");
    world.commit("Break");
    let watch = Watch::start(&world, &[]);
    let mut held = Vec::new();
    wait_until("all is held", || {
        held = daemon_status(&world)["held"].as_array().cloned().unwrap_or_default();
        held.len() == 5
    });
    let places: Vec<Value> =
        held.iter().map(|one| json!([one["address"], one["code"], one["file"], one["line"]])).collect();
    assert_eq!(
        places,
        [
            json!(["file/jobs/alien.yaml", "FF202", "jobs/alien.yaml", 2]),
            json!(["file/jobs/broken.yaml", "FF105", "jobs/broken.yaml", 4]),
            json!(["file/jobs/nameless.yaml", "FF207", "jobs/nameless.yaml", 3]),
            json!(["job/expects", "FF605", "jobs/expects.yaml", 4]),
            json!(["job/lost", "FF401", "jobs/lost.yaml", 4]),
        ],
        "{held:#?}"
    );
    assert!(held.iter().all(|one| one["reason"].as_str().unwrap().len() > 10), "{held:#?}");
    let text = world.run(&["status"]).expect(0).stdout;
    assert!(text.contains("held       jobs/lost.yaml:4: FF401 job/lost: "), "{text}");
    assert!(text.contains("held       jobs/broken.yaml:4: FF105 "), "{text}");
    assert!(!text.contains("file/"), "{text}");
    let said = watch.end();
    assert!(said.contains("held document=job/lost code=FF401 place=jobs/lost.yaml:4 why="), "{said}");
    assert!(said.contains("held document=file/jobs/broken.yaml code=FF105 "), "{said}");
}

#[test]
fn status_says_what_it_knows_and_what_it_cannot_read() {
    let world = World::with_devices("{}", 2);
    world.job("dim", DIM);
    let fleet = std::fs::read_to_string(world.file("fleetform.yaml")).unwrap();
    let watch = Watch::start(&world, &[]);
    let is_done = |world: &World| daemon_status(world)["counters"]["runs"]["completed"] == json!(1);
    wait_until("the job has run", || is_done(&world));
    watch.end();
    let lines = |world: &World| world.run(&["status"]).expect(0).stdout;
    // A mistake beside the Fleet document keeps nothing from being read.
    world.write("jobs/broken.yaml", "apiVersion: fleetform/v1\nkind: Job\n");
    world.commit("Break a job");
    assert!(lines(&world).contains("runs       0 open\n"), "{}", lines(&world));
    world.write("fleetform.yaml", fleet.replace("spec: {}", "spec: {limits: none}"));
    world.commit("Break the fleet");
    let text = lines(&world);
    assert!(text.contains("fleet      acme\n"), "{text}");
    // What was declared before goes on, and is shown.
    let invalid = text.lines().find(|line| line.starts_with("invalid    ")).unwrap();
    assert!(invalid.starts_with("invalid    fleetform.yaml:4: FF206 fleet/acme: "), "{invalid}");
    assert!(invalid.ends_with("What was declared before goes on.") && text.contains("runs       0 open\n"), "{text}");
    let status = world.run(&["status", "--json"]).expect(0).json().remove(0);
    assert_eq!(status["fleet_error"], Value::Null);
    let passed_over = &status["fleet"]["passed_over"];
    assert_eq!((&passed_over["file"], &passed_over["line"]), (&json!("fleetform.yaml"), &json!(4)), "{status}");
    world.write("fleetform.yaml", fleet);
    world.commit("Mend the fleet");
    assert_eq!(world.run(&["status", "--json"]).expect(0).json()[0]["fleet"]["passed_over"], Value::Null);
    // What a process has not brought into the file yet would be read in its place.
    for part in ["fleet.db-wal", "fleet.db-shm"] {
        drop(std::fs::remove_file(world.file(&format!(".fleetform/{part}"))));
    }
    world.write(".fleetform/fleet.db", "no database at all, but longer than its header would be: ".repeat(20));
    let text = lines(&world);
    assert!(text.contains("unread     ") && text.contains("fleet.db"), "{text}");
    assert!(text.contains("(as the daemon had it)\n"), "{text}");
    let status = world.run(&["status", "--json"]).expect(0).json().remove(0);
    assert_eq!(status["fleet"], Value::Null);
    assert!(status["fleet_error"].as_str().unwrap().contains("fleet.db"), "{status}");
}

#[test]
fn a_remote_that_can_never_work_ends_the_start() {
    let folder = folder();
    let home = |name: &str| folder.path().join(name);
    let watch = |name: &str, arguments: &[&str]| Ran::of(&mut daemon(&home(name), arguments));
    for (arguments, words) in [
        (["--remote", "gopher://host/fleet"], "the remote `gopher://host/fleet` cannot be used: "),
        (["--remote", "ext::sh -c true"], "it is a command, not a place"),
        (["--remote=https://host/fleet", "--branch=a..b"], "`a..b` is no name of a branch"),
        (["--remote=https://host/fleet", "--path=/srv/fleet"], "--path `/srv/fleet` is no folder"),
        (["--remote=https://host/fleet", "--path=../other"], "--path `../other` is no folder"),
    ] {
        let ran = watch("never", &arguments).expect(64);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("\nhelp: "), "{ran:?}");
    }
    let ran = Ran::of(daemon(&home("no-git"), &["--remote", "https://host/fleet"]).env("PATH", "/nowhere")).expect(69);
    assert!(ran.stderr.contains("the program `git` cannot be run") && ran.stderr.contains("Install git"), "{ran:?}");
}

#[test]
fn a_remote_that_may_come_is_waited_for_and_a_mistyped_one_put_right() {
    let world = World::with_devices("{}", 2);
    let served = folder();
    let remote = bare(served.path(), "fleet.git");
    let home = served.path().join("home");
    let other = served.path().join("flet.git");
    let watch = |remote: &Path, arguments: &[&str]| {
        let arguments = [&["--interval", "100ms", "--remote", remote.to_str().unwrap()], arguments].concat();
        Watch::start_in(&home, served.path().join("watch.log"), &arguments)
    };
    let daemon = watch(&other, &[]);
    daemon.wait_said("there is no repository at the remote");
    let said = daemon.end();
    let address = other.to_str().unwrap();
    assert!(said.contains(&format!("Check the address with `git ls-remote {address}`")), "{said}");
    let daemon = watch(&remote, &["--path", "halls/c/"]);
    daemon.wait_said("there is no branch main on the remote");
    daemon.wait_said("Push it there, or name another one with --branch.");
    let push = Ran::of(git().arg("-C").arg(world.path()).args(["push", "-q"]).arg(&remote).args(["main", BRANCH]));
    push.expect(0);
    daemon.wait_said("has no folder `halls/c`");
    daemon.wait_said("or name the fleet's folder with --path.");
    daemon.end();
    let daemon = watch(&remote, &[]);
    daemon.wait_said("reconciled");
    daemon.end();
    // The daemon does not replace the followed repository with another one.
    let arguments = ["--remote", other.to_str().unwrap()];
    Ran::of(&mut self::daemon(&home, &arguments)).expect(64);
    // A path is one from where the command is called.
    let mut command = self::daemon(&served.path().join("near"), &["--remote", "fleet.git"]);
    let log = served.path().join("near.log");
    command.current_dir(served.path()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
    let daemon = Watch { child: spawn(&mut command), log };
    // It reaches the remote; the fleet is that of the other daemon's registry.
    daemon.wait_said("another registry works on this fleet");
    daemon.end();
}

/// Commands show the help of an error, and so does the log of a daemon, where there is no command to run again.
#[test]
fn no_help_is_for_commands_alone() {
    use fleetform::ops::OpsError;
    use fleetform::prepare::HistoryError;
    use fleetform::registry::RegistryError;
    use fleetform::repo::{RemoteError, RepoError, UpstreamError};
    let (remote, message, branch) = (|| "r".to_string(), || "m".to_string(), || "b".to_string());
    let path = || PathBuf::from("p");
    let errors: [OpsError; 11] = [
        UpstreamError::Remote(RemoteError::Rejected { remote: remote(), branch: branch(), message: message() }).into(),
        UpstreamError::Remote(RemoteError::Unreachable { remote: remote(), message: message() }).into(),
        UpstreamError::Remote(RemoteError::NotARepository { remote: remote(), message: message() }).into(),
        UpstreamError::Diverged { branch: branch(), remote: remote(), path: message() }.into(),
        RepoError::Contended { branch: branch() }.into(),
        RepoError::AlreadyWritten { path: message() }.into(),
        RepoError::Gone { branch: branch() }.into(),
        RepoError::Full { path: path() }.into(),
        RegistryError::Locked { location: message() }.into(),
        RegistryError::Full { location: message() }.into(),
        HistoryError::Rewound { head: message(), last: message() }.into(),
    ];
    for error in errors {
        let help = error.help();
        assert!(!help.contains("command again") && !help.contains("apply again") && help.ends_with('.'), "{help}");
    }
}

/// Adds paths to the index of a world's repository, whatever is ignored, as a person does with `git add -f`.
fn force_add(world: &World, paths: &[&str]) {
    Ran::of(git().arg("-C").arg(world.path()).args(["add", "-f"]).args(paths)).expect(0);
}

fn git_commit(world: &World) {
    let name = ["-c", "user.name=Test", "-c", "user.email=test@example.com"];
    Ran::of(git().arg("-C").arg(world.path()).args(name).args(["commit", "-qm", "Bring it"])).expect(0);
}

/// A pull request brings a registry, and CI plans with it.
#[test]
fn a_registry_that_a_commit_brings_is_refused() {
    let world = World::with_devices("{}", 2);
    world.apply().unwrap();
    world.run(&["plan"]).expect(0);
    force_add(&world, &[".fleetform/fleet.db"]);
    let refused = |arguments: &[&str]| {
        let ran = world.run(arguments).expect(77);
        assert!(ran.stderr.contains("`.fleetform` is under git's control"), "{ran:?}");
        assert!(ran.stderr.contains("git rm --cached -r .fleetform"), "{ran:?}");
    };
    // Staged files will be committed.
    refused(&["plan"]);
    git_commit(&world);
    let commands: [&[&str]; 9] = [
        &["plan"],
        &["plan", "--rev", "HEAD~1"],
        &["apply", "--yes"],
        &["simulate"],
        &["job", "list"],
        &["device", "list"],
        &["schedule", "list"],
        &["status"],
        &["watch"],
    ];
    commands.into_iter().for_each(refused);
    world.run(&["validate"]).expect(0);
    // Another one, which the caller names, is no concern of the repository.
    world.run(&["--registry", &format!("sqlite:{}", world.folder_file("other.db")), "plan"]).expect(0);
    let path = world.registry_path();
    world.run(&["--registry", &format!("sqlite:{}", path.display()), "plan"]).expect(77);
    Ran::of(git().arg("-C").arg(world.path()).args(["rm", "-q", "--cached", "-r", ".fleetform"])).expect(0);
    git_commit(&world);
    world.run(&["plan"]).expect(0);
}

/// A pull request brings the status of a daemon that never ran, and breaks the fleet so that nothing else is checked.
#[test]
fn a_status_that_a_commit_brings_is_refused() {
    let world = World::with_devices("{}", 2);
    world.write(".fleetform/status.json", "{}");
    let elsewhere = format!("sqlite:{}", world.folder_file("other.db"));
    let refused = |arguments: &[&str]| {
        let ran = world.run(arguments).expect(77);
        assert!(ran.stderr.contains("git rm --cached -r .fleetform`"), "{ran:?}");
    };
    world.run(&["--registry", &elsewhere, "status"]).expect(0);
    force_add(&world, &[".fleetform/status.json"]);
    git_commit(&world);
    refused(&["--registry", &elsewhere, "status"]);
    world.write("fleetform.yaml", "kind: [");
    force_add(&world, &["fleetform.yaml"]);
    git_commit(&world);
    refused(&["status"]);
}

#[test]
fn links_files_beside_it_and_other_places_of_a_registry_are_no_way_around() {
    let check = |path: &str, bring: &dyn Fn(&World), remove: &str| {
        let world = World::with_devices(&format!("{{registry: {{sqlite: {{path: {path}}}}}}}"), 2);
        bring(&world);
        git_commit(&world);
        let ran = world.run(&["plan"]).expect(77);
        assert!(ran.stderr.contains(&format!("git rm --cached -r {remove}`")), "{path}: {ran:?}");
    };
    let outside = folder();
    let link = |name: &'static str, target: PathBuf| {
        move |world: &World| {
            std::os::unix::fs::symlink(&target, world.file(name)).unwrap();
            force_add(world, &[name]);
        }
    };
    let file = |name: &'static str| {
        move |world: &World| {
            world.write(name, "x");
            force_add(world, &[name]);
        }
    };
    check(".fleetform/fleet.db", &link(".fleetform", outside.path().to_path_buf()), ".fleetform");
    check("data/fleet.db", &link("data", outside.path().to_path_buf()), "data");
    check("data/fleet.db", &link("data", PathBuf::from("elsewhere")), "data");
    check("data/fleet.db", &file("data/fleet.db"), "data/fleet.db");
    check("data/fleet.db", &file("data/fleet.db-wal"), "data/fleet.db-wal");
    check("./fleet.db", &file("fleet.db"), "fleet.db");
    check("fleet.db", &file(".fleetform/status.json"), ".fleetform");
    // An uncommitted link belongs to the operator, and is followed.
    let world = World::with_devices("{registry: {sqlite: {path: data/fleet.db}}}", 2);
    world.write("kept/fleet.db", "x");
    force_add(&world, &["kept/fleet.db"]);
    git_commit(&world);
    std::os::unix::fs::symlink(outside.path(), world.file("data")).unwrap();
    world.run(&["plan"]).expect(0);
    std::fs::remove_file(world.file("data")).unwrap();
    std::os::unix::fs::symlink("kept", world.file("data")).unwrap();
    world.run(&["plan"]).expect(77);
}

/// Returns the lines of a log of JSON.
fn lines(said: &str) -> Vec<Value> {
    said.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect()
}

#[test]
fn the_log_says_what_happened_to_which_run_in_fields() {
    let world = World::with_devices("{}", 4);
    world.job("dim", &DIM.replace("{target", "{delivery: {batchSize: 2}, target"));
    world.declare("jobs/lost.yaml", "Job", "lost", &DIM.replace("query: '*'", "group: nowhere"));
    world.commit("Lost");
    let watch = Watch::start(&world, &["--log", "json", "--listen", "127.0.0.1:0", "--no-webhooks"]);
    watch.wait_said("run_finished");
    let said = lines(&watch.end());
    let of = |target: &str| -> Vec<&Value> { said.iter().filter(|line| line["target"] == target).collect() };
    let runs: Vec<Value> = of("fleetform::run")
        .iter()
        .map(|line| {
            let mut fields = (*line).clone();
            let members = fields.as_object_mut().unwrap();
            ["timestamp", "level", "target", "message"].iter().for_each(|name| drop(members.remove(*name).unwrap()));
            fields
        })
        .collect();
    // Its counts are those of the batch.
    let batch = |batch: u64| {
        json!({
            "event": "batch_finished", "job": "dim", "run": "1", "batch": batch, "batches": 2,
            "total": 2, "completed": 2, "failed": 0, "unchanged": 0,
        })
    };
    let expected = [
        json!({
            "event": "import_finished", "import": "all",
            "imported": 4, "updated": 0, "unchanged": 0, "removed": 0, "rejected": 0, "rows": 4,
        }),
        json!({"event": "run_started", "job": "dim", "run": "1", "total": 4, "batches": 2}),
        batch(1),
        batch(2),
        json!({
            "event": "run_finished", "job": "dim", "run": "1", "status": "completed",
            "total": 4, "completed": 4, "failed": 0, "unchanged": 0, "pending": 0,
        }),
    ];
    assert_eq!(runs, expected, "{said:#?}");
    let messages = |target: &str| -> Vec<String> {
        of(target).iter().map(|line| line["message"].as_str().unwrap().to_string()).collect()
    };
    assert_eq!(messages("fleetform::listen"), ["listening"]);
    let watched = messages("fleetform::watch");
    assert!(["following", "reconciled", "held", "stopped"].iter().all(|word| watched.contains(&word.to_string())));
    let known = ["fleetform::watch", "fleetform::run", "fleetform::remote", "fleetform::listen"];
    assert!(said.iter().all(|line| known.contains(&line["target"].as_str().unwrap())), "{said:#?}");
}

/// Checks the log filters of docs/watch.md against the log of the daemon.
#[test]
fn the_filters_of_the_docs_choose_what_they_say() {
    let docs = include_str!("../../docs/watch.md");
    let check = |filter: &str, expect: &[&str], reject: &[&str]| {
        assert!(docs.contains(&format!("`{filter}`")), "{filter} is not in the docs");
        let world = World::with_devices("{}", 2);
        world.job("dim", DIM);
        let watch = Watch::start(&world, &["--listen", "127.0.0.1:0", "--no-webhooks", "--log-filter", filter]);
        wait_until("the job has run", || daemon_status(&world)["counters"]["runs"]["completed"] == json!(1));
        let said = watch.end();
        expect.iter().for_each(|words| assert!(said.contains(words), "{filter}: {words}: {said}"));
        reject.iter().for_each(|words| assert!(!said.contains(words), "{filter}: {words}: {said}"));
    };
    check("warn,fleetform::run=info", &["event=run_started job=dim run=1 total=2"], &["following", "listening"]);
    check("info,fleetform::run=warn", &["following", "listening", "stopped"], &["job=dim", "import"]);
    check("warn,fleetform::listen=debug", &["listening"], &["following", "job=dim"]);
    for target in ["fleetform::watch", "fleetform::run", "fleetform::remote", "fleetform::listen"] {
        assert!(docs.contains(&format!("| `{target}` |")), "{target}");
    }
}
