//! Jobs of back ends in a repository that people work in: nothing of either is lost.

use std::fs;

use serde_json::{Value, json};

use super::{HOST, Hub, twin_job};
use crate::servers::{bare, git};
use crate::world::Ran;

/// Runs git as the person who has the work tree.
fn by_hand(hub: &Hub, arguments: &[&str]) -> Ran {
    let mut command = git();
    Ran::of(command.arg("-C").arg(hub.world.path()).args(arguments))
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
    let mut hub = Hub::unapplied(HOST, "", ", results: {remote: origin}", 1);
    let origin = bare(hub.world.path(), ".git/origin.git");
    by_hand(&hub, &["remote", "add", "origin", origin.to_str().unwrap()]).expect(0);
    by_hand(&hub, &["push", "-q", "origin", "main"]).expect(0);
    hub.world.run(&["apply", "--yes"]).expect(0);
    hub.world.run(&["gateway", "init"]).expect(0);
    hub.start();
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
    let asked = |hub: &Hub, signed: Option<&str>| {
        let answer = hub.send("GET", "/jobs/v2/query?api-version=2021-04-12", signed, b"");
        (answer.status, answer.body["Message"].as_str().unwrap_or_default().to_string())
    };
    let (status, message) = asked(&hub, Some(&signed));
    assert!(status == 503 && message.contains("fleetform validate"), "{status} {message}");
    assert_eq!(asked(&hub, None).0, 401);
    hub.kill();
    hub.world.run(&["validate"]).expect(65);
    fs::write(hub.world.file("fleetform.yaml"), &whole).unwrap();
    hub.world.commit("as it was");
    hub.start();
    hub.ask("GET", "/jobs/v2/query", &Value::Null).expect(200);
}
