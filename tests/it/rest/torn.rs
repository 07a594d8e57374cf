//! A gateway that is killed at a system call while it commits jobs: the same requests once more are one commit and one
//! run each.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::kept::{by_hand, finds_nothing_broken};
use super::{HOST, Hub, try_send, twin_job};

/// The calls that change files, at which a gateway dies.
const CALLS: [&str; 7] = ["write", "rename", "unlink", "fsync", "openat", "mkdir", "ftruncate"];
/// Jobs that come together: enough to be written as a pack.
const JOBS: usize = 5;
/// Kills that a test run has when nobody asks for more.
const KILLS: usize = 14;

/// Has a process killed at one of its calls from now on; `None` where that cannot be.
fn killed_at(process: u32, call: &str, number: usize) -> Option<Child> {
    let mut command = Command::new("strace");
    command.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    command.args(["-e", &format!("inject={call}:signal=KILL:when={number}"), "-p", &process.to_string()]);
    let mut tracer = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
    let mut said = BufReader::new(tracer.stderr.take()?).lines();
    // What it says afterwards goes on being read, so that it never waits for a reader.
    if said.any(|line| line.is_ok_and(|line| line.contains("attached"))) {
        std::thread::spawn(move || said.for_each(drop));
        return Some(tracer);
    }
    let _ = tracer.wait();
    None
}

/// Returns how many commits of back ends there are for each job.
fn commits_of(hub: &Hub) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in hub.commits() {
        let id =
            message.lines().find_map(|line| line.strip_prefix("Fleetform-Hub-Job: ")).unwrap_or(&message).to_string();
        *counts.entry(id).or_default() += 1;
    }
    counts
}

#[test]
fn a_kill_at_any_call_of_a_commit_leaves_a_job_whole_or_not_at_all() {
    let kills = std::env::var("FLEETFORM_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let mut hub = Hub::new(2);
    hub.put_job("warm", &twin_job("*", &json!({"warm": true}))).expect(200);
    hub.wait_job("warm", "completed");
    let (signed, certificate) = (hub.signed("iothubowner"), hub.certificate());
    let mut killed = 0;
    for round in 0..kills {
        let (call, number) = (CALLS[round % CALLS.len()], 1 + round / CALLS.len() * 2);
        let Some(mut tracer) = killed_at(hub.gateway.as_ref().unwrap().id(), call, number) else {
            drop(writeln!(std::io::stderr(), "left out: strace is missing or may not trace here"));
            return;
        };
        let jobs: Vec<(String, Value)> = (0..JOBS)
            .map(|n| (format!("job-{round}-{n}"), twin_job("*", &json!({format!("r{round}-{n}"): n}))))
            .collect();
        let place = (HOST, hub.https);
        let ask = |id: &str, job: &Value| {
            let (path, body) = (format!("/jobs/v2/{id}?{}", super::VERSION), job.to_string().into_bytes());
            try_send(place, &certificate, ("PUT", &path), Some(&signed), &body).ok().map(|answer| answer.status)
        };
        let answers: Vec<Option<u16>> = std::thread::scope(|scope| {
            let asked: Vec<_> = jobs.iter().map(|(id, job)| scope.spawn(|| ask(id, job))).collect();
            asked.into_iter().map(|one| one.join().unwrap()).collect()
        });
        killed += usize::from(answers.contains(&None));
        hub.kill();
        let _ = (tracer.kill(), tracer.wait());
        let before = commits_of(&hub);
        for ((id, _), answer) in jobs.iter().zip(&answers) {
            assert!(
                *answer != Some(200) || before.get(id) == Some(&1),
                "{id} was answered with 200, and is not in git"
            );
        }
        hub.start();
        // Another job comes first: nothing of the others is in the work tree or the index then, unless it is in git.
        hub.put_job(&format!("after-{round}"), &twin_job("*", &json!({"after": round}))).expect(200);
        assert_eq!(by_hand(&hub, &["status", "--porcelain"]).expect(0).stdout, "", "{call} {number}");
        for (id, job) in &jobs {
            hub.put_job(id, job).expect(200);
            hub.wait_job(id, "completed");
        }
        let counts = commits_of(&hub);
        assert!(jobs.iter().all(|(id, _)| counts.get(id) == Some(&1)), "{call} {number}: {counts:?}");
        let twin = hub.ask("GET", "/twins/d-001", &Value::Null).expect(200).body;
        assert!(jobs.iter().enumerate().all(|(n, _)| twin["tags"][format!("r{round}-{n}")] == n), "{twin}");
        assert_eq!(by_hand(&hub, &["status", "--porcelain"]).expect(0).stdout, "", "{call} {number}");
        finds_nothing_broken(&hub);
        // Nobody waits for what is left of a pack; it is removed when it is an hour old.
        let mut locks = locks_below(&hub.world.file(".git"));
        locks.retain(|lock| !lock.parent().is_some_and(|folder| folder.ends_with("objects/pack")));
        assert!(locks.is_empty(), "{call} {number}: {locks:?}");
    }
    assert!(killed * 2 > kills, "a kill that hits nothing tries nothing: {killed} of {kills} hit");
}

fn locks_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(locks_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "lock") {
            found.push(path);
        }
    }
    found
}
