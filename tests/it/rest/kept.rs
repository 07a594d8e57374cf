//! Jobs of back ends in a repository that people work in: nothing of either is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::{HOST, Hub, twin_job};
use crate::servers::{Gate, bare, git, hook, wait_until};
use crate::world::Ran;

/// Runs git as the person who has the work tree.
pub fn by_hand(hub: &Hub, arguments: &[&str]) -> Ran {
    let mut command = git();
    Ran::of(command.arg("-C").arg(hub.world.path()).args(arguments))
}

/// Waits until git finds nothing broken. What the daemon commits while git looks has an entry in a log that git reads
/// behind the objects, and looks missing once; what is missing stays so.
pub fn finds_nothing_broken(hub: &Hub) {
    wait_until("git finds nothing broken", || by_hand(hub, &["fsck", "--full", "--strict"]).code == 0);
}

fn status(hub: &Hub) -> String {
    by_hand(hub, &["status", "--porcelain"]).expect(0).stdout
}

#[test]
fn no_id_of_a_job_hides_another_job() {
    let hub = Hub::new(1);
    hub.put_job("job1", &twin_job("*", &json!({"a": 1}))).expect(200);
    // A file of this name makes a fleet of its folder.
    hub.put_job("fleetform", &twin_job("*", &json!({"b": 1}))).expect(200);
    hub.wait_job("fleetform", "completed");
    hub.wait_job("job1", "completed");
    assert!(!hub.world.file("jobs/hub/fleetform.yaml").exists());
}

#[test]
fn the_next_commit_of_a_person_keeps_the_jobs() {
    let hub = Hub::new(1);
    hub.world.write("jobs/hub/mine.yaml", "# not yet a job\n");
    let ahead = json!({"startTime": "2099-01-01T00:00:00Z"});
    let mut later = twin_job("*", &json!({"a": 1}));
    later["startTime"] = ahead["startTime"].clone();
    hub.put_job("mine", &later).expect(200);
    // What somebody has written is left as it is, and is a change of the job now.
    assert_eq!(fs::read_to_string(hub.world.file("jobs/hub/mine.yaml")).unwrap(), "# not yet a job\n");
    assert_eq!(status(&hub), " M jobs/hub/mine.yaml\n");
    by_hand(&hub, &["checkout", "--", "jobs/hub/mine.yaml"]).expect(0);
    // An edit that is not committed, and a cancel of the same job.
    let text = fs::read_to_string(hub.world.file("jobs/hub/mine.yaml")).unwrap();
    hub.world.write("jobs/hub/mine.yaml", format!("# why\n{text}"));
    hub.ask("POST", "/jobs/v2/mine/cancel", &Value::Null).expect(200);
    hub.world.write("notes.md", "a note\n");
    by_hand(&hub, &["add", "notes.md"]).expect(0);
    let person = ["-c", "user.name=p", "-c", "user.email=p@localhost", "commit", "-m", "a note"];
    by_hand(&hub, &person).expect(0);
    assert_eq!(hub.job("mine")["status"], "cancelled");
}

#[test]
fn a_repository_that_another_git_has_keeps_nothing_of_a_job() {
    let hub = Hub::new(1);
    let lock = hub.world.file(".git/index.lock");
    fs::write(&lock, "").unwrap();
    hub.put_job("job1", &twin_job("*", &json!({"a": 1}))).expect_fault(503, "ServiceUnavailable");
    fs::remove_file(&lock).unwrap();
    assert_eq!(status(&hub), "");
    assert_eq!(hub.job("job1")["status"], "unknown");
    hub.put_job("job1", &twin_job("*", &json!({"a": 1}))).expect(200);
    assert_eq!((hub.commits().len(), status(&hub)), (1, String::new()));
    // A branch that another work tree has checked out: the files there would not follow.
    let other = hub.world.folder_file("other");
    by_hand(&hub, &["checkout", "-q", "-b", "aside"]).expect(0);
    by_hand(&hub, &["worktree", "add", "-q", &other, "main"]).expect(0);
    let head = by_hand(&hub, &["rev-parse", "main"]).expect(0).stdout;
    hub.put_job("job2", &twin_job("*", &json!({"b": 1}))).expect_fault(503, "ServiceUnavailable");
    assert_eq!(by_hand(&hub, &["rev-parse", "main"]).expect(0).stdout, head);
}

#[test]
fn a_commit_that_only_the_remote_has_is_taken_up() {
    let (mut hub, _) = with_remote();
    let before = hub.world.head();
    hub.put_job("job1", &twin_job("*", &json!({"a": 1}))).expect(200);
    hub.wait_job("job1", "completed");
    let after = hub.world.head();
    // As a process leaves it that dies between the push and the move of the branch.
    hub.kill();
    by_hand(&hub, &["update-ref", "refs/heads/main", &before]).expect(0);
    hub.start();
    hub.put_job("job2", &twin_job("*", &json!({"b": 1}))).expect(200);
    hub.wait_job("job2", "completed");
    let parent = by_hand(&hub, &["rev-parse", "HEAD~1"]).expect(0).stdout;
    assert_eq!((parent.trim(), status(&hub)), (after.as_str(), String::new()));
    assert_eq!(hub.job("job1")["status"], "completed");
}

/// A hub whose fleet has a remote, with its gateway.
fn with_remote() -> (Hub, PathBuf) {
    let mut hub = Hub::unapplied(HOST, "", ", results: {remote: origin}", 1);
    let origin = bare(hub.world.path(), ".git/origin.git");
    by_hand(&hub, &["remote", "add", "origin", origin.to_str().unwrap()]).expect(0);
    by_hand(&hub, &["push", "-q", "origin", "main"]).expect(0);
    hub.world.run(&["apply", "--yes"]).expect(0);
    hub.world.run(&["gateway", "init"]).expect(0);
    hub.start();
    (hub, origin)
}

/// A job that begins in a hundred years.
fn later(tag: usize) -> Value {
    let mut job = twin_job("*", &json!({"n": tag}));
    job["startTime"] = json!("2099-01-01T00:00:00Z");
    job
}

/// Asks for jobs at the same time; the others come while the first one is on its way.
fn put_behind(gate: &Gate, hub: &Hub, jobs: &[(String, Value)]) -> Vec<u16> {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            gate.wait();
            std::thread::sleep(Duration::from_secs(2));
            gate.open();
        });
        put_together(hub, jobs)
    })
}

/// Puts jobs at the same time, each on a connection of its own, and returns the statuses.
fn put_together(hub: &Hub, jobs: &[(String, Value)]) -> Vec<u16> {
    // What a hub keeps for its end is not to be shared by threads.
    let (signed, port, certificate) = (hub.signed("iothubowner"), hub.https, hub.certificate());
    std::thread::scope(|scope| {
        let put = |(id, body): &(String, Value)| {
            let (path, body) = (format!("/jobs/v2/{id}?api-version=2021-04-12"), body.to_string());
            let (signed, certificate) = (&signed, &certificate);
            scope.spawn(move || {
                super::send((HOST, port), certificate, ("PUT", &path), Some(signed), body.as_bytes()).status
            })
        };
        let all: Vec<_> = jobs.iter().map(put).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

fn tip(hub: &Hub, repository: &Path) -> String {
    let repository = repository.to_str().unwrap();
    by_hand(hub, &["--git-dir", repository, "rev-parse", "main"]).expect(0).stdout.trim().to_string()
}

#[test]
fn jobs_that_come_together_are_pushed_together_with_a_commit_each() {
    let (hub, origin) = with_remote();
    let pushes = hub.world.folder_file("pushes");
    hook(&origin, "post-receive", &format!("grep refs/heads/main >> {pushes} || true"));
    let gate = Gate::hold(&origin);
    // Of two with the same id one is made; the one that says the same is that one, the other one is refused.
    let mut jobs: Vec<(String, Value)> = (0..10).map(|n| (format!("job{n}"), later(n))).collect();
    jobs.extend([("job3".to_string(), later(3)), ("job4".to_string(), later(44))]);
    let before = tip(&hub, &origin);
    let statuses = put_behind(&gate, &hub, &jobs);
    let refused = statuses.iter().filter(|status| **status == 409).count();
    let taken = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!((taken, refused), (11, 1), "{statuses:?}");
    let commits = hub.commits();
    let mut ids: Vec<&str> =
        commits.iter().filter_map(|one| one.split("Fleetform-Hub-Job: ").nth(1)?.lines().next()).collect();
    ids.sort_unstable();
    let expect: Vec<String> = (0..10).map(|n| format!("job{n}")).collect();
    assert_eq!(ids, expect, "each has one commit, with its trailers");
    assert!(commits.iter().all(|one| one.contains("Fleetform-Hub-Policy: iothubowner")), "{commits:?}");
    // All of it is at the remote, in fewer pushes than commits, and in the work tree.
    assert_eq!(tip(&hub, &origin), hub.world.head());
    assert_ne!(tip(&hub, &origin), before);
    let pushed = fs::read_to_string(&pushes).unwrap().lines().count();
    assert!((1..=5).contains(&pushed), "{pushed} pushes");
    assert_eq!(status(&hub), "");
    assert!((0..10).all(|n| hub.world.file(&format!("jobs/hub/job{n}.yaml")).exists()));
}

#[test]
fn jobs_that_come_together_are_written_as_one_pack() {
    let (hub, origin) = with_remote();
    let gate = Gate::hold(&origin);
    let jobs: Vec<(String, Value)> = (0..9).map(|n| (format!("job{n}"), later(n))).collect();
    let packs = || {
        let names = fs::read_dir(hub.world.file(".git/objects/pack")).into_iter().flatten();
        names.filter(|name| name.as_ref().unwrap().path().extension().is_some_and(|end| end == "pack")).count()
    };
    let before = packs();
    let statuses = put_behind(&gate, &hub, &jobs);
    assert_eq!(statuses, [200; 9]);
    // At most so many were on their way when the others came.
    assert!(packs() > before && packs() <= before + 2, "{} and then {} packs", before, packs());
    finds_nothing_broken(&hub);
    assert_eq!((hub.commits().len(), tip(&hub, &origin)), (9, hub.world.head()));
    for (id, _) in &jobs {
        let path = format!("jobs/hub/{id}.yaml");
        let touched = by_hand(&hub, &["log", "--format=%s", "--", &path]).expect(0).stdout;
        assert_eq!(touched.lines().count(), 1, "{touched}");
        assert_eq!(hub.job(id)["status"], "scheduled");
    }
}

#[test]
fn a_job_that_is_refused_is_refused_alone() {
    let hub = Hub::new(2);
    let spec = "{target: {query: '*'}, action: {property: {level: 1}}, delivery: {confirm: acknowledged, offline: wait, expiresAfter: 1h}}";
    hub.world.job("first", spec);
    hub.wait_job("first", "running");
    let mut jobs: Vec<(String, Value)> = (0..8).map(|n| (format!("job{n}"), later(n))).collect();
    let against = json!({
        "type": "scheduleUpdateTwin", "queryCondition": "deviceId = 'd-001'",
        "updateTwin": {"properties": {"desired": {"level": 2}}},
    });
    jobs.insert(4, ("against".to_string(), against));
    let mut expect = vec![200; 9];
    expect[4] = 429;
    assert_eq!(put_together(&hub, &jobs), expect);
    assert_eq!((hub.commits().len(), status(&hub)), (8, String::new()));
    assert_eq!(hub.job("against")["status"], "unknown");
    finds_nothing_broken(&hub);
}

#[test]
fn a_remote_that_refuses_keeps_nothing_of_jobs_that_come_together() {
    let (hub, origin) = with_remote();
    hook(&origin, "pre-receive", "sleep 0.2; exit 1");
    let before = (hub.world.head(), tip(&hub, &origin));
    let jobs: Vec<(String, Value)> = (0..6).map(|n| (format!("job{n}"), later(n))).collect();
    assert_eq!(put_together(&hub, &jobs), [503; 6]);
    assert_eq!((hub.world.head(), tip(&hub, &origin)), before);
    assert!(status(&hub).is_empty() && hub.commits().is_empty());
    assert_eq!(hub.job("job0")["status"], "unknown");
    fs::remove_file(origin.join("hooks/pre-receive")).unwrap();
    assert_eq!(put_together(&hub, &jobs), [200; 6]);
    assert_eq!((hub.commits().len(), tip(&hub, &origin)), (6, hub.world.head()));
}

#[test]
fn commits_that_only_the_remote_has_are_taken_up_all_of_them() {
    let (mut hub, origin) = with_remote();
    let before = hub.world.head();
    let jobs: Vec<(String, Value)> = (0..3).map(|n| (format!("job{n}"), later(n))).collect();
    assert_eq!(put_together(&hub, &jobs), [200; 3]);
    let after = hub.world.head();
    // As a process leaves it that dies between the push and the move of the branch.
    hub.kill();
    by_hand(&hub, &["update-ref", "refs/heads/main", &before]).expect(0);
    hub.start();
    hub.put_job("job9", &later(9)).expect(200);
    let parent = by_hand(&hub, &["rev-parse", "HEAD~1"]).expect(0).stdout;
    assert_eq!((parent.trim(), status(&hub)), (after.as_str(), String::new()));
    assert_eq!((hub.commits().len(), tip(&hub, &origin)), (4, hub.world.head()));
    // One of somebody else among them is for a person to pull.
    hub.kill();
    hub.world.write("notes.md", "a note\n");
    hub.world.commit("a note");
    by_hand(&hub, &["push", "-q", "origin", "main"]).expect(0);
    by_hand(&hub, &["reset", "-q", "--hard", "HEAD~1"]).expect(0);
    hub.start();
    hub.put_job("job8", &later(8)).expect_fault(503, "ServiceUnavailable");
}

#[test]
fn a_job_for_review_runs_when_its_branch_is_merged() {
    let mut hub = Hub::without_gateway(HOST, ", jobs: {branch: \"hub/{name}\"}", 1);
    hub.world.run(&["gateway", "init"]).expect(0);
    hub.start();
    let head = hub.world.head();
    let body = twin_job("*", &json!({"a": 1}));
    for _ in 0..3 {
        let put = hub.put_job("job1", &body).expect(200);
        assert_eq!(put.body["status"], "queued");
        assert_eq!(hub.world.head(), head, "it is on no other branch than its own");
    }
    assert!(hub.job("job1")["statusMessage"].as_str().unwrap().contains("hub/job1"));
    hub.put_job("job1", &twin_job("*", &json!({"a": 2}))).expect_fault(409, "JobAlreadyExists");
    // One that is withdrawn leaves nothing.
    hub.put_job("job2", &twin_job("*", &json!({"b": 1}))).expect(200);
    let canceled = hub.ask("POST", "/jobs/v2/job2/cancel", &Value::Null).expect(200);
    assert_eq!(canceled.body["status"], "cancelled");
    let branches = by_hand(&hub, &["branch", "--list", "hub/*", "--format", "%(refname:short)"]).expect(0).stdout;
    assert_eq!(branches, "hub/job1\n");
    // A branch of somebody else is not touched.
    by_hand(&hub, &["branch", "hub/job3", "main"]).expect(0);
    hub.put_job("job3", &twin_job("*", &json!({"c": 1}))).expect_fault(503, "ServiceUnavailable");
    assert_eq!(by_hand(&hub, &["rev-parse", "hub/job3"]).expect(0).stdout.trim(), head);
    by_hand(&hub, &["merge", "-q", "--ff-only", "hub/job1"]).expect(0);
    hub.wait_job("job1", "completed");
}

#[test]
fn only_who_is_known_hears_that_the_fleet_is_invalid() {
    let mut hub = Hub::new(1);
    hub.ask("GET", "/jobs/v2/query", &Value::Null).expect(200);
    let whole = fs::read_to_string(hub.world.file("fleetform.yaml")).unwrap();
    let signed = hub.signed("iothubowner");
    hub.world.write("fleetform.yaml", format!("{whole}\ncolour: red\n"));
    hub.world.commit("a mistake in the Fleet document");
    let job = twin_job("*", &json!({"a": 1})).to_string();
    let asked = |hub: &Hub, signed: Option<&str>| {
        let answer = hub.send("PUT", "/jobs/v2/one?api-version=2021-04-12", signed, job.as_bytes());
        (answer.status, answer.body["Message"].as_str().unwrap_or_default().to_string())
    };
    let (status, message) = asked(&hub, Some(&signed));
    assert!(status == 503 && message.contains("fleetform.yaml:"), "{status} {message}");
    let (status, message) = asked(&hub, None);
    assert!(status == 401 && !message.contains("fleetform.yaml"), "{status} {message}");
    hub.kill();
    hub.world.run(&["validate"]).expect(65);
    fs::write(hub.world.file("fleetform.yaml"), &whole).unwrap();
    hub.world.commit("as it was");
    hub.start();
    hub.ask("GET", "/jobs/v2/query", &Value::Null).expect(200);
}
