//! Results that go to a remote: claims on the remote, the outbox, and the lease.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fleetform::execute::{Inbox, Progress};
use fleetform::ops::apply::ApplyOptions;
use fleetform::ops::plan::PlanOptions;
use fleetform::ops::{Environment, OpsError};
use fleetform::plan::ActionKind;
use fleetform::repo::{RemoteError, UpstreamError};
use serde_json::{Value, json};

use crate::world::{BRANCH, World, folder};

const DIM: &str = "{target: {query: '*'}, action: {property: {light: {level: 3}}}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";

/// A fleet whose results go to a bare repository beside it.
struct Remote {
    folder: tempfile::TempDir,
}

impl Remote {
    fn of(world: &World) -> Remote {
        let remote = Remote { folder: folder() };
        git(remote.path(), &["init", "--quiet", "--bare", "--initial-branch=main"]);
        git(world.path(), &["remote", "add", "origin", remote.path().to_str().unwrap()]);
        remote
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn hook(&self, name: &str, script: &str) {
        let path = self.path().join("hooks").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::os::unix::fs::PermissionsExt::set_mode(&mut fs::metadata(&path).unwrap().permissions(), 0o755);
        git(self.path(), &["config", "core.hooksPath", "hooks"]);
        assert!(Command::new("chmod").arg("+x").arg(&path).status().unwrap().success());
    }

    fn unhook(&self, name: &str) {
        fs::remove_file(self.path().join("hooks").join(name)).unwrap();
    }

    fn file(&self, path: &str) -> Option<Value> {
        let output = Command::new("git")
            .args(["-C", self.path().to_str().unwrap(), "show", &format!("{BRANCH}:{path}")])
            .output()
            .unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    fn subjects(&self) -> Vec<String> {
        let text = git(self.path(), &["log", "--reverse", "--format=%s", BRANCH]);
        text.lines().map(str::to_string).collect()
    }

    fn tip(&self) -> String {
        git(self.path(), &["rev-parse", BRANCH])
    }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_string()
}

fn world() -> (World, Remote) {
    let world = World::with_devices(
        "{link: {simulated: {latency: 1s, journal: devices.jsonl}}, limits: {inFlight: 2}, results: {remote: origin}}",
        5,
    );
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.commit("ignore");
    let remote = Remote::of(&world);
    (world, remote)
}

/// A second clone of a fleet, with a registry of its own or that of the first.
struct Clone {
    folder: tempfile::TempDir,
}

impl Clone {
    fn of(world: &World, remote: &Remote) -> Clone {
        git(world.path(), &["push", "--quiet", "origin", "main"]);
        let folder = folder();
        git(folder.path(), &["clone", "--quiet", remote.path().to_str().unwrap(), "fleet"]);
        Clone { folder }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("fleet")
    }

    fn run(&self, registry: Option<&str>) -> crate::world::Ran {
        let mut command = crate::world::fleetform();
        command.arg("-C").arg(self.path()).args(["apply", "--yes"]);
        if let Some(registry) = registry {
            command.args(["--registry", registry]);
        }
        crate::world::Ran::of(&mut command)
    }
}

#[test]
fn claims_and_results_are_on_the_remote_and_the_lease_is_given_back() {
    let (world, remote) = world();
    world.job("dim", DIM);
    world.job("reboot", REBOOT);
    let applied = world.apply().unwrap();
    assert_eq!(applied.records.len(), 2);
    let subjects = remote.subjects();
    assert_eq!(subjects[0], "fleet acme: results");
    assert!(subjects[1].starts_with("lease 1: "), "{subjects:?}");
    assert!(subjects.contains(&"claim 2 runs".to_string()), "{subjects:?}");
    assert!(
        subjects.last().unwrap().starts_with("job "),
        "the lease is given back with the last results: {subjects:?}"
    );
    assert_eq!(remote.file("claims/dim/1.json").unwrap()["targets"]["count"], json!(5));
    assert_eq!(remote.file("runs/reboot/1/run.json").unwrap()["status"], json!("completed"));
    assert_eq!(remote.file("lease.json").unwrap()["owner"], json!(""));
    let tip = remote.tip();
    assert!(world.apply().unwrap().was_empty);
    assert_eq!(remote.tip(), tip, "nothing to do, nothing pushed");
}

#[test]
fn a_clone_with_the_same_registry_knows_what_was_done_and_one_with_another_runs_nothing_again() {
    let (world, remote) = world();
    world.job("reboot", REBOOT);
    world.apply().unwrap();
    let clone = Clone::of(&world, &remote);
    let tip = remote.tip();
    clone.run(Some(&world.registry_url())).expect(0);
    assert_eq!(remote.tip(), tip);
    let other = clone.run(None).expect(75);
    assert!(other.stderr.contains("another registry works on this fleet"), "{}", other.stderr);
    assert_eq!(remote.tip(), tip, "it looks, and writes nothing");
    let owner = || remote.file("fleet.json").unwrap()["registry"].clone();
    let before = owner();
    let mut take_over = crate::world::fleetform();
    take_over.arg("-C").arg(clone.path()).args(["apply", "--yes", "--take-over"]);
    crate::world::Ran::of(&mut take_over).expect(0);
    assert_ne!(owner(), before);
    assert_eq!(remote.file("runs/reboot/1/run.json").unwrap()["status"], "completed", "its end stays");
    world.job("more", REBOOT);
    let refused = world.apply().unwrap_err().to_string();
    assert!(refused.contains("another registry works on this fleet"), "{refused}");
    assert_eq!(world.executions().len(), 5);
}

#[test]
fn whoever_has_no_lease_waits_and_is_told_who_has_it() {
    let (world, remote) = world();
    world.job("reboot", REBOOT);
    let clone = Clone::of(&world, &remote);
    let said = Cell::new(None);
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { .. }) {
            // The clone has another registry: the lock of this one does not keep it.
            let mut lease = remote.file("lease.json").unwrap();
            lease["until"] = json!("2999-01-01T00:00:00Z");
            said.set(Some((lease["owner"].as_str().unwrap().to_string(), lease)));
        }
    };
    world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer).unwrap();
    let (owner, lease) = said.take().unwrap();
    // As if the first site were still at work, with the same clock.
    put_lease(&remote, &lease);
    world.job("dim", DIM);
    git(world.path(), &["push", "--quiet", "origin", "main"]);
    git(&clone.path(), &["pull", "--quiet"]);
    let held = clone.run(None).expect(75);
    assert!(held.stderr.contains(&owner), "{}", held.stderr);
    assert!(remote.file("claims/dim/1.json").is_none());
}

/// Commits a lease to the branch of the remote as its owner would.
fn put_lease(remote: &Remote, lease: &Value) {
    put_file(remote, "lease.json", lease, "lease: as it was");
}

fn put_file(remote: &Remote, path: &str, content: &Value, subject: &str) {
    let repository = git2::Repository::open_bare(remote.path()).unwrap();
    let tip = repository.refname_to_id(&format!("refs/heads/{BRANCH}")).unwrap();
    let parent = repository.find_commit(tip).unwrap();
    let blob = repository.blob(content.to_string().as_bytes()).unwrap();
    let mut update = git2::build::TreeUpdateBuilder::new();
    update.upsert(path, blob, git2::FileMode::Blob);
    let tree = update.create_updated(&repository, &parent.tree().unwrap()).unwrap();
    let tree = repository.find_tree(tree).unwrap();
    let author = git2::Signature::now("Test", "test@example.com").unwrap();
    let message = format!("{subject}\n\nFleetform-Writer: test\n");
    repository.commit(Some(&format!("refs/heads/{BRANCH}")), &author, &author, &message, &tree, &[&parent]).unwrap();
}

/// Claims come after the lease, and both branches can have moved in between.
#[test]
fn what_somebody_else_claims_in_between_is_left_to_them() {
    let (world, remote) = world();
    world.job("dim", DIM);
    world.job("reboot", REBOOT);
    let claim = json!({
        "format_version": 1, "fleet": "acme", "job": "reboot", "run": "1", "spec_digest": "a".repeat(64),
        "targets": {"count": 5, "digest": "b".repeat(64)}, "source_commit": world.head(), "plan_id": "c".repeat(64),
        "claimed_at": "2026-11-20T10:00:00Z",
    });
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::ImportFinished { .. }) {
            put_file(&remote, "claims/reboot/1.json", &claim, "claim 1 run");
        }
    };
    let applied = world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer).unwrap();
    assert_eq!(applied.records[0].job.as_str(), "dim", "the others are claimed");
    assert_eq!(remote.file("runs/dim/1/run.json").unwrap()["completed"], json!(5));
    assert_eq!(remote.file("claims/reboot/1.json").unwrap(), claim);
    assert!(world.registry().journal().unclosed().unwrap().is_empty());
    assert_eq!(world.executions().len(), 0);
}

#[test]
fn nothing_is_claimed_by_whoever_has_lost_the_right_to_work() {
    let (world, remote) = world();
    world.job("reboot", REBOOT);
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::ImportFinished { .. }) {
            let until = "2026-11-20T11:00:00Z";
            put_lease(&remote, &json!({"format_version": 1, "owner": "other/1/0", "epoch": 2, "until": until}));
        }
    };
    let applied = world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer);
    assert!(remote.file("claims/reboot/1.json").is_none(), "{applied:?}");
    assert!(world.registry().journal().unclosed().unwrap().is_empty());
    assert_eq!(world.executions().len(), 0);
}

#[test]
fn a_lease_that_ran_out_is_taken_over_with_a_higher_epoch() {
    let (world, remote) = world();
    world.job("dim", DIM);
    world.apply().unwrap();
    put_lease(&remote, &json!({"format_version": 1, "owner": "dead/1/0", "epoch": 7, "until": "2026-11-20T09:59:59Z"}));
    world.job("reboot", REBOOT);
    world.apply().unwrap();
    assert_eq!(remote.file("lease.json").unwrap()["epoch"], json!(8));
    assert_eq!(remote.file("runs/reboot/1/run.json").unwrap()["completed"], json!(5));
}

#[test]
fn a_remote_that_refuses_claims_nothing_and_a_refusal_in_mid_run_loses_nothing() {
    let (world, remote) = world();
    world.apply().unwrap();
    world.job("dim", DIM);
    remote.hook("update", "echo no results on Sundays; exit 1");
    match world.apply() {
        Err(OpsError::Upstream(UpstreamError::Remote(RemoteError::Denied { message, .. }))) => {
            assert!(message.contains("no results on Sundays") || message.contains("hook declined"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(world.registry().journal().claim_documents().unwrap().is_empty());
    remote.unhook("update");
    world.job("reboot", REBOOT);
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { .. }) {
            remote.hook("update", "exit 1");
        }
    };
    match world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer) {
        Err(OpsError::Unpushed { commits, .. }) => assert!(commits >= 2, "{commits}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.record("reboot", "1")["completed"], json!(5));
    assert!(remote.file("runs/reboot/1/run.json").is_none());
    assert_eq!(world.run(&["apply", "--yes"]).code, 77);
    remote.unhook("update");
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(remote.file("runs/reboot/1/run.json").unwrap()["completed"], json!(5));
    assert_eq!(world.executions().len(), 5, "nothing ran twice");
}

/// Returns a hook that ends the server when the branch has got the claim of a job, before it can say so.
fn dies_with(job: &str) -> String {
    format!("[ \"$1\" = committed ] && git show {BRANCH}:claims/{job}/1.json >/dev/null 2>&1 && kill -9 $PPID; exit 0")
}

#[test]
fn a_push_that_landed_though_it_failed_is_found_out() {
    let (world, remote) = world();
    world.apply().unwrap();
    world.job("reboot", REBOOT);
    // The server moves the branch, and dies before it says so, at the push of the claim.
    remote.hook("reference-transaction", &dies_with("reboot"));
    match world.apply() {
        Err(OpsError::Upstream(error)) => assert!(error.is_open(), "{error}"),
        other => panic!("{other:?}"),
    }
    assert!(remote.file("claims/reboot/1.json").is_some(), "it landed");
    assert_eq!(world.executions().len(), 0, "and nobody knew");
    remote.unhook("reference-transaction");
    // The lease of the process that is gone has to run out first.
    world.pass(Duration::from_secs(200));
    world.apply().unwrap();
    assert_eq!(world.record("reboot", "1")["completed"], json!(5));
    assert_eq!(world.executions().len(), 5, "once");
}

#[test]
fn a_claim_that_landed_and_could_not_be_noted_here_is_taken_up() {
    let (world, remote) = world();
    world.apply().unwrap();
    world.job("reboot", REBOOT);
    // Another program locks the branch here at the moment at which the remote takes the claim.
    let lock = world.file(&format!(".git/refs/heads/{BRANCH}.lock"));
    let claimed = "git show fleetform/results:claims/reboot/1.json >/dev/null 2>&1";
    remote.hook("post-receive", &format!("{claimed} && touch '{}'; exit 0", lock.display()));
    match world.apply() {
        Err(OpsError::Upstream(error @ UpstreamError::Unnoted { .. })) => assert!(error.is_open(), "{error}"),
        other => panic!("{other:?}"),
    }
    remote.unhook("post-receive");
    fs::remove_file(lock).unwrap();
    assert!(remote.file("claims/reboot/1.json").is_some());
    assert_eq!(world.executions().len(), 0);
    world.pass(Duration::from_secs(200));
    world.apply().unwrap();
    assert_eq!(world.record("reboot", "1")["completed"], json!(5), "it was not lost");
    assert_eq!(world.executions().len(), 5);
}

#[test]
fn a_remote_that_is_away_holds_new_runs_and_lets_the_others_end() {
    let (world, remote) = world();
    world.apply().unwrap();
    let away = remote.path().with_extension("away");
    fs::rename(remote.path(), &away).unwrap();
    world.job("dim", DIM);
    match world.apply() {
        Err(OpsError::Upstream(UpstreamError::Remote(_))) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(world.run(&["apply", "--yes"]).code, 69);
    fs::rename(&away, remote.path()).unwrap();
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { .. }) {
            fs::rename(remote.path(), &away).unwrap();
        }
    };
    match world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer) {
        Err(OpsError::Unpushed { .. }) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(world.record("dim", "1")["completed"], json!(5));
    fs::rename(&away, remote.path()).unwrap();
    world.apply().unwrap();
    assert_eq!(remote.file("runs/dim/1/run.json").unwrap()["completed"], json!(5));
}

#[test]
fn a_remote_that_goes_away_while_jobs_run_lets_them_end() {
    let (world, remote) = world();
    world.apply().unwrap();
    let reboot =
        |target: &str, more: &str| format!("{{target: {{{target}}}, {more}action: {{command: {{name: reboot}}}}}}");
    world.job("short", &reboot("devices: [d-001]", ""));
    world.job("long", &reboot("devices: [d-002, d-003, d-004]", "delivery: {batchSize: 1}, "));
    world.job("next", &reboot("devices: [d-005]", "after: [short], "));
    let away = remote.path().with_extension("away");
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { job, .. } if job.as_str() == "long") {
            fs::rename(remote.path(), &away).unwrap();
        }
    };
    match world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer) {
        Err(OpsError::Upstream(UpstreamError::Remote(_)) | OpsError::Unpushed { .. }) => {}
        other => panic!("{other:?}"),
    }
    for (job, devices) in [("short", 1), ("long", 3)] {
        let record = world.record(job, "1");
        assert_eq!((&record["status"], &record["completed"]), (&json!("completed"), &json!(devices)), "{record}");
    }
    fs::rename(&away, remote.path()).unwrap();
    world.apply().unwrap();
    assert_eq!(remote.file("runs/next/1/run.json").unwrap()["completed"], json!(1));
    assert_eq!(remote.file("runs/long/1/run.json").unwrap()["completed"], json!(3));
    assert_eq!(world.executions().len(), 5);
}

#[test]
fn a_slow_remote_starves_no_claim_and_nothing_goes_backwards() {
    let spec = "{link: {simulated: {latency: 1s, journal: devices.jsonl}}, limits: {runningJobs: 20}, results: \
        {remote: origin}}";
    let world = World::with_devices(spec, 56);
    world.write(".gitignore", ".fleetform/\ndevices.jsonl\n");
    world.commit("ignore");
    let _remote = Remote::of(&world);
    world.run(&["apply", "--yes"]).expect(0);
    for (name, value) in [
        ("remote.origin.uploadpack", "sleep 1; git-upload-pack"),
        ("remote.origin.receivepack", "sleep 1; git-receive-pack"),
        ("core.logAllRefUpdates", "always"),
    ] {
        git(world.path(), &["config", name, value]);
    }
    // One of them ends each second, and is pushed.
    let mut free = 1..=56;
    for last in 1..=10 {
        let ids: Vec<String> = free.by_ref().take(last).map(|number| format!("d-{number:03}")).collect();
        let target = format!("target: {{devices: [{}]}}", ids.join(", "));
        let spec = format!("{{{target}, delivery: {{batchSize: 1}}, action: {{command: {{name: reboot}}}}}}");
        world.job(&format!("job-{last:02}"), &spec);
    }
    world.job("next", "{target: {devices: [d-056]}, after: [job-01], action: {command: {name: reboot}}}");
    world.run(&["apply", "--yes"]).expect(0);
    let at = |job: &str, key: &str| world.record(job, "1")[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let (started, last) = (at("next", "started_at"), at("job-10", "finished_at"));
    assert!(started < last, "it was claimed when nothing else was left: {started}, {last}");
    let log = git(world.path(), &["reflog", "--format=%H", &format!("refs/fleetform/upstream/{BRANCH}")]);
    let tips: Vec<&str> = log.lines().collect();
    assert!(tips.len() > 2, "{tips:?}");
    for two in tips.windows(2) {
        git(world.path(), &["merge-base", "--is-ancestor", two[1], two[0]]);
    }
}

#[test]
fn a_branch_that_moved_on_the_remote_is_built_upon() {
    let (world, remote) = world();
    world.apply().unwrap();
    world.job("dim", DIM);
    // Another process commits while the job runs.
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { .. }) {
            let lease = remote.file("lease.json").unwrap();
            put_lease(
                &remote,
                &json!({"format_version": 1, "owner": lease["owner"], "epoch": lease["epoch"],
                                       "until": "2026-11-20T10:30:00Z"}),
            );
        }
    };
    world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer).unwrap();
    assert_eq!(remote.file("runs/dim/1/run.json").unwrap()["completed"], json!(5));
    assert!(remote.subjects().contains(&"lease: as it was".to_string()));
    assert_eq!(remote.tip(), git(world.path(), &["rev-parse", BRANCH]));
    assert!(world.apply().unwrap().was_empty);
}

#[test]
fn a_branch_that_was_rewritten_on_the_remote_holds() {
    let (world, remote) = world();
    world.job("dim", DIM);
    world.apply().unwrap();
    git(remote.path(), &["update-ref", &format!("refs/heads/{BRANCH}"), &format!("{BRANCH}~2")]);
    world.job("reboot", REBOOT);
    assert!(matches!(world.apply(), Err(OpsError::Upstream(UpstreamError::Rewritten { .. }))));
    git(remote.path(), &["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
    assert!(matches!(world.apply(), Err(OpsError::Upstream(UpstreamError::Gone { .. }))));
    assert_eq!(world.run(&["apply", "--yes"]).code, 75);
    assert_eq!(world.executions().len(), 0);
}

#[test]
fn what_one_could_not_push_another_one_publishes() {
    let (world, remote) = world();
    world.job("reboot", REBOOT);
    let clone = Clone::of(&world, &remote);
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { .. }) {
            remote.hook("update", "exit 1");
        }
    };
    match world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer) {
        Err(OpsError::Unpushed { .. }) => {}
        other => panic!("{other:?}"),
    }
    remote.unhook("update");
    // The first has died with its outbox, and its lease has run out; the registry is the same.
    clone.run(Some(&world.registry_url())).expect(0);
    let record = remote.file("runs/reboot/1/run.json").unwrap();
    assert_eq!((record["status"].clone(), record["completed"].clone()), (json!("completed"), json!(5)), "{record}");
    assert_eq!(remote.file("lease.json").unwrap()["epoch"], json!(2));
    // The first process comes back: its outbox has the results that the other one has published.
    world.apply().unwrap();
    assert_eq!(remote.tip(), git(world.path(), &["rev-parse", BRANCH]));
    assert_eq!(remote.file("runs/reboot/1/run.json").unwrap(), record);
    assert_eq!(world.executions().len(), 5, "once");
}

#[test]
fn a_plan_in_a_clone_does_not_take_for_lost_what_somebody_works_on() {
    let (world, remote) = world();
    world.apply().unwrap();
    world.job("reboot", REBOOT);
    git(world.path(), &["push", "--quiet", "origin", "main"]);
    let told = |at: jiff::Timestamp| {
        let clone = Clone::of(&world, &remote);
        let environment = Environment { folder: clone.path(), ..Environment::default() };
        let planned = fleetform::ops::plan::plan(&environment, &PlanOptions::default(), at).unwrap();
        let change = planned.plan.changes.iter().find(|change| change.subject.to_string() == "job/reboot").unwrap();
        (change.action(), change.reason.clone())
    };
    let seen = Cell::new(None);
    let mut observer = |progress: &Progress| {
        if matches!(progress, Progress::RunStarted { .. }) {
            let hour = Duration::from_secs(3_600);
            seen.set(Some((told(world.clock_now()), told(world.clock_now().checked_add(hour).unwrap()))));
        }
    };
    world.apply_with(&ApplyOptions::default(), &Inbox::new(), &mut observer).unwrap();
    let (now, later) = seen.into_inner().unwrap();
    assert_eq!(now.0, ActionKind::Hold, "{now:?}");
    assert!(now.1.starts_with("under way with another registry: "), "{now:?}");
    assert_eq!(
        later.0,
        ActionKind::Hold,
        "its lease has run out, and the run is still that of its registry: {later:?}"
    );
}

#[test]
fn only_a_configured_remote_and_a_branch_of_results_are_touched() {
    let (world, remote) = world();
    world.apply().unwrap();
    // A repository in the tree, which the author of any change may add, is no remote.
    git(world.path(), &["init", "--quiet", "--bare", "evil"]);
    let fleet = std::fs::read_to_string(world.file("fleetform.yaml")).unwrap();
    world.write("fleetform.yaml", fleet.replace("remote: origin", "remote: evil"));
    world.commit("evil");
    assert!(matches!(world.apply(), Err(OpsError::Held { what, .. }) if what.contains("`evil`")));
    assert_eq!(git(&world.file("evil"), &["for-each-ref"]), "");
    // A branch with other content is no results branch.
    git(world.path(), &["branch", "secret"]);
    world.write("fleetform.yaml", fleet.replace("remote: origin", "remote: origin, branch: secret"));
    world.commit("secret");
    assert!(matches!(world.apply(), Err(OpsError::Upstream(UpstreamError::NotResults { .. }))));
    assert!(!git(remote.path(), &["for-each-ref"]).contains("secret"));
}

#[test]
fn a_mirror_in_a_work_tree_is_not_believed() {
    let (world, _remote) = world();
    git(world.path(), &["init", "--quiet", "--bare", ".fleetform/mirror.git"]);
    world.job("dim", DIM);
    assert_eq!(world.plan().unwrap().plan.runs.len(), 1, "the clone itself is planned");
    let ran = world.run(&["watch", "--remote", "/nowhere"]).expect(64);
    assert!(ran.stderr.contains("lies in a git repository"), "{}", ran.stderr);
}

#[test]
fn a_claim_whose_push_had_no_answer_counts_when_it_landed_also_beside_a_running_job() {
    let (world, remote) = world();
    world.apply().unwrap();
    world.job("reboot", REBOOT);
    let interrupt = Inbox::new();
    world.clock.interrupt_at(world.clock_now().checked_add(Duration::from_secs(600)).unwrap(), &interrupt);
    let options = fleetform::ops::watch::WatchOptions {
        gateway: None,
        trust: fleetform::ops::Trust { introduction: None, remembers: false },
        remote: None,
        branch: None,
        interval: Duration::from_secs(30),
        grace: Duration::from_secs(10),
        lease_time: fleetform::ledger::LEASE_TIME,
        pulse: None,
        accepts_rewind: false,
        ports: fleetform::execute::Ports::REAL,
        has_events: false,
    };
    let mut stage = 0;
    let mut tell = |note: &fleetform::ops::watch::Note<'_>| match note {
        fleetform::ops::watch::Note::Progress(Progress::RunStarted { .. }) if stage == 0 => {
            stage = 1;
            world.job("dim", DIM);
            remote.hook("reference-transaction", &dies_with("dim"));
        }
        fleetform::ops::watch::Note::Trouble { .. } if stage == 1 => {
            stage = 2;
            remote.unhook("reference-transaction");
        }
        _ => {}
    };
    let environment = world.environment();
    fleetform::ops::watch::watch(&environment, &options, &world.clock, &interrupt, &mut tell).unwrap();
    world.clock.interrupt_never();
    assert_eq!(stage, 2);
    for job in ["dim", "reboot"] {
        let record = remote.file(&format!("runs/{job}/1/run.json")).unwrap();
        assert_eq!((record["status"].clone(), record["completed"].clone()), (json!("completed"), json!(5)), "{record}");
    }
    assert_eq!(world.executions().len(), 5);
}

#[test]
fn a_lock_on_the_server_is_named_and_the_message_leads_on() {
    let world = World::with_devices("{results: {remote: origin}}", 2);
    let remote = Remote::of(&world);
    world.job("dim", DIM);
    // What a push leaves that the server's machine cut off.
    let lock = remote.path().join("refs/heads").join(format!("{BRANCH}.lock"));
    fs::create_dir_all(lock.parent().unwrap()).unwrap();
    fs::write(&lock, "").unwrap();
    let ran = world.run(&["apply", "--yes"]).expect(69);
    assert!(ran.stderr.contains("which nobody else moves"), "{ran:?}");
    assert!(ran.stderr.contains(&format!("remove `refs/heads/{BRANCH}.lock`")), "{ran:?}");
    fs::remove_file(&lock).unwrap();
    world.run(&["apply", "--yes"]).expect(0);
    assert_eq!(world.record("dim", "1")["completed"], 2);
}

/// A clone that was made with `git fetch origin b:b` in it has a branch of its own, which is as old as that.
#[test]
fn a_clone_is_told_what_the_remote_has_and_makes_no_rival_branch() {
    let (world, remote) = world();
    world.job("dim", DIM);
    world.apply().unwrap();
    let clone = Clone::of(&world, &remote);
    let run = |arguments: &[&str]| {
        let mut command = crate::world::fleetform();
        crate::world::Ran::of(command.arg("-C").arg(clone.path()).args(arguments))
    };
    git(&clone.path(), &["update-ref", "-d", &format!("refs/remotes/origin/{BRANCH}")]);
    for command in [&["init"][..], &["adopt", "--mark-done"], &["adopt", "--run"]] {
        let ran = run(command).expect(64);
        assert!(ran.stderr.contains(&format!("git fetch origin {BRANCH}:{BRANCH}")), "{command:?}: {ran:?}");
    }
    git(&clone.path(), &["fetch", "--quiet", "origin", &format!("{BRANCH}:{BRANCH}")]);
    assert!(run(&["device", "show", "d-001"]).expect(1).stderr.contains("this registry has none at all"));
    // The remote goes on.
    world.job("more", &DIM.replace('3', "4"));
    world.apply().unwrap();
    git(&clone.path(), &["fetch", "--quiet", "origin"]);
    let status = run(&["status"]).expect(0);
    assert!(status.stdout.contains("behind origin's"), "{status:?}");
    assert!(run(&["job", "show", "more"]).code != 0, "this clone has not fetched it into its branch");
    // A branch of an earlier registry of this clone cannot be fetched into.
    const WRITTEN: &str = "lease 1: released\n\nFleetform-Writer: elsewhere/1";
    let blank = git(&clone.path(), &["commit-tree", "-p", BRANCH, "-m", WRITTEN, &format!("{BRANCH}^{{tree}}")]);
    git(&clone.path(), &["branch", "--quiet", "--force", BRANCH, blank.trim()]);
    for command in [&["status"][..], &["import", "list"], &["job", "list"], &["plan"]] {
        let ran = run(command);
        let said = format!("{}{}", ran.stdout, ran.stderr).split_whitespace().collect::<Vec<_>>().join(" ");
        let way = format!("`git branch --force {BRANCH} origin/{BRANCH}`");
        assert!(said.contains("has 1 commit here that origin's lacks") && said.contains(&way), "{command:?}: {said}");
    }
    git(&clone.path(), &["branch", "--quiet", "--force", BRANCH, &format!("origin/{BRANCH}")]);
    let status = run(&["status"]).expect(0);
    assert!(!status.stdout.contains("behind"), "{status:?}");
}

#[test]
fn a_branch_that_is_published_again_is_pushed_although_there_is_nothing_to_do() {
    let (world, remote) = world();
    world.job("dim", DIM);
    world.apply().unwrap();
    // Gone from everywhere, and nothing here remembers that the remote had it.
    git(remote.path(), &["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
    for reference in git(world.path(), &["for-each-ref", "--format=%(refname)"]).lines() {
        if reference.contains("fleetform") {
            git(world.path(), &["update-ref", "-d", reference]);
        }
    }
    assert!(world.apply().unwrap().was_empty);
    assert_eq!(remote.file("runs/dim/1/run.json").unwrap()["status"], json!("completed"));
}

#[test]
fn jobs_are_marked_as_done_on_the_remote_by_the_registry_that_works() {
    let (world, remote) = world();
    world.job("dim", DIM);
    world.apply().unwrap();
    world.job("moved", REBOOT);
    let clone = Clone::of(&world, &remote);
    let run = |arguments: &[&str]| {
        let mut command = crate::world::fleetform();
        crate::world::Ran::of(command.arg("-C").arg(clone.path()).args(arguments))
    };
    let refused = run(&["adopt", "--mark-done", "moved"]).expect(75);
    assert!(refused.stderr.contains("another registry works on this fleet"), "{refused:?}");
    // A remote that takes nothing gives no right to work: nothing is marked, and it can be done again.
    remote.hook("update", "exit 1");
    world.run(&["adopt", "--mark-done", "moved"]).expect(77);
    remote.unhook("update");
    world.run(&["adopt", "--mark-done", "moved"]).expect(0);
    assert_eq!(remote.file("runs/moved/1/run.json").unwrap()["cause"]["kind"], json!("adopted"));
    world.job("moved-too", &DIM.replace('3', "8"));
    world.run(&["adopt", "--mark-done", "moved-too"]).expect(0);
    assert_eq!(remote.file("runs/moved-too/1/run.json").unwrap()["cause"]["kind"], json!("adopted"));
    assert_eq!(remote.file("lease.json").unwrap()["owner"], json!(""));
    assert!(world.apply().unwrap().was_empty);
    assert!(world.executions().is_empty());
}

#[test]
fn a_branch_of_the_remote_that_is_in_the_way_is_named() {
    for other in ["fleetform", "fleetform/results/old"] {
        let (world, remote) = world();
        git(remote.path(), &["update-ref", "-d", &format!("refs/heads/{BRANCH}")]);
        git(world.path(), &["push", "--quiet", "origin", &format!("HEAD:refs/heads/{other}")]);
        world.job("dim", DIM);
        let ran = world.run(&["apply", "--yes"]).expect(65);
        assert!(ran.stderr.contains(&format!("has a branch `{other}`, which is in the way of `{BRANCH}`")), "{ran:?}");
        assert!(ran.stderr.contains(&format!("rename `{other}` on the remote")), "{ran:?}");
        git(remote.path(), &["update-ref", "-d", &format!("refs/heads/{other}")]);
        world.run(&["apply", "--yes"]).expect(0);
        assert_eq!(remote.file("runs/dim/1/run.json").unwrap()["status"], json!("completed"));
    }
}
