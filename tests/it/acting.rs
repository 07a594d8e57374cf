//! Stop and block on the pages of a daemon that follows a remote.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::web::{Served, daemon};
use crate::world::{Ran, World, folder};

/// Two devices are never there: the job goes on for long.
const SPEC: &str = "{results: {remote: origin}, link: {simulated: {devices: {d-002: {offline: true}}}}}";
const JOB: &str =
    "{target: {query: '*'}, action: {command: {name: reboot}}, delivery: {offline: wait, expiresAfter: 30d}}";

fn git(folder: &Path, arguments: &[&str]) -> String {
    let ran = Ran::of(Command::new("git").args(arguments).current_dir(folder)).expect(0);
    ran.stdout.trim().to_string()
}

/// A bare repository with a fleet, and a daemon that follows it.
struct Followed {
    remote: tempfile::TempDir,
    home: tempfile::TempDir,
    served: Served,
}

impl Followed {
    fn new() -> Followed {
        let (remote, home) = (folder(), folder());
        git(remote.path(), &["init", "-q", "--bare", "-b", "main", "."]);
        let world = World::with_devices(SPEC, 4);
        world.job("reboot", JOB);
        git(world.path(), &["remote", "add", "origin", remote.path().to_str().unwrap()]);
        git(world.path(), &["push", "-q", "origin", "HEAD:main", "fleetform/results"]);
        let address = remote.path().to_str().unwrap().to_string();
        let made =
            Ran::of(crate::world::fleetform().arg("serve").args(["token", "ann@example.com", "--json"])).expect(0);
        let made = made.json().remove(0);
        std::fs::write(home.path().join("tokens"), format!("{}\n", made["line"].as_str().unwrap())).unwrap();
        let tokens = home.path().join("tokens");
        let fleet = home.path().join("fleet");
        std::fs::create_dir_all(&fleet).unwrap();
        let arguments = ["--remote", &address, "--interval", "200ms", "--actions", "--auth", tokens.to_str().unwrap()];
        let served = daemon(&fleet, "127.0.0.1:0", &arguments);
        std::fs::write(home.path().join("token"), made["token"].as_str().unwrap()).unwrap();
        let followed = Followed { remote, home, served };
        followed.until("running", |page| page["progress"]["completed"] == json!(3));
        followed
    }

    fn bearer(&self) -> String {
        format!("Authorization: Bearer {}", std::fs::read_to_string(self.home.path().join("token")).unwrap())
    }

    fn page(&self) -> Value {
        let answer = self.served.ask("/jobs/reboot/runs/1", &[&self.bearer(), "Accept: application/json"]);
        serde_json::from_str(&answer.body).unwrap_or(Value::Null)
    }

    fn until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let page = self.page();
            if is_so(&page) {
                return page;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "not {what}: {page:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn hook(&self, script: &str) {
        let path = self.remote.path().join("hooks/pre-receive");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        git(self.remote.path(), &["config", "core.hooksPath", "hooks"]);
        assert!(Command::new("chmod").arg("+x").arg(&path).status().unwrap().success());
    }

    fn act(&self, path: &str, json: &str) -> (u16, Value) {
        let body = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\n{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{json}",
            self.served.address,
            self.bearer(),
            json.len()
        );
        let answer = self.served.raw(&body);
        (answer.status, serde_json::from_str(&answer.body).unwrap_or(Value::Null))
    }

    /// Pushes a file to the followed branch, and waits until the daemon holds so many documents.
    fn push(&self, path: &str, text: &str, held: u64) {
        let clone = folder();
        git(clone.path(), &["clone", "-q", self.remote.path().to_str().unwrap(), "fleet"]);
        let fleet = clone.path().join("fleet");
        std::fs::write(fleet.join(path), text).unwrap();
        git(&fleet, &["add", "-A"]);
        git(&fleet, &["-c", "user.name=B", "-c", "user.email=b@example.com", "commit", "-q", "-m", "change it"]);
        git(&fleet, &["push", "-q", "origin", "HEAD:main"]);
        crate::servers::wait_until("it is taken up", || self.status()["held_count"] == json!(held));
    }

    /// Returns what the daemon says of itself.
    fn status(&self) -> Value {
        serde_json::from_str(&self.served.ask("/status", &[&self.bearer()]).expect(200).body).unwrap()
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.served.ask(path, &[&self.bearer(), "Accept: application/json"]).expect(200);
        serde_json::from_str(&answer.body).unwrap()
    }

    fn stop(&self) -> (u16, Value) {
        self.act("/jobs/reboot/runs/1/stop", "{\"reason\": \"smoke in hall 3\"}")
    }
}

#[test]
fn a_stop_is_a_commit_that_is_pushed_to_the_followed_branch() {
    let followed = Followed::new();
    let before = git(followed.remote.path(), &["rev-parse", "main"]);
    assert_eq!(followed.act("/jobs/reboot/runs/1/stop", "{\"reason\": \" \"}").0, 400);
    assert_eq!(followed.act("/jobs/reboot/runs/1/stop", "{\"why\": \"x\"}").0, 400);
    assert_eq!(followed.act("/jobs/reboot/runs/0/stop", "{\"reason\": \"x\"}").0, 409);
    let (status, done) = followed.stop();
    assert_eq!((status, &done["changed"], &done["branch"]), (200, &json!(true), &json!(null)), "{done}");
    let tip = git(followed.remote.path(), &["rev-parse", "main"]);
    assert_eq!(done["commit"], json!(tip));
    assert_eq!(git(followed.remote.path(), &["rev-parse", "main^"]), before);
    let message = git(followed.remote.path(), &["log", "-1", "--format=%an%n%B", "main"]);
    assert_eq!(message, "ann@example.com\njob reboot: stop\n\nsmoke in hall 3\n\nFleetform-Asked-By: ann@example.com");
    let file = git(followed.remote.path(), &["show", "main:jobs/reboot.yaml"]);
    assert!(file.contains("suspend: true"), "{file}");
    let page = followed.until("stopped", |page| page["progress"]["status"] == "stopped");
    assert_eq!(page["can_stop"], json!(false), "{page:#}");
    assert_eq!(page["stop"]["commit"], json!(tip));
    assert_eq!(
        (&page["stop"]["asked_by"], &page["stop"]["why"]),
        (&json!("ann@example.com"), &json!("smoke in hall 3"))
    );
    let again = followed.stop();
    assert_eq!((again.0, &again.1["changed"]), (200, &json!(false)), "{again:?}");
    // A block is at once; who and why are pushed with the results.
    let (status, done) = followed.act("/devices/d-003/block", "{\"reason\": \"burnt\"}");
    assert_eq!((status, &done["changed"]), (200, &json!(true)), "{done}");
    let started = Instant::now();
    let direct = loop {
        let files = git(followed.remote.path(), &["ls-tree", "-r", "--name-only", "fleetform/results"]);
        if let Some(path) = files.lines().find(|path| path.starts_with("direct/")) {
            break git(followed.remote.path(), &["show", &format!("fleetform/results:{path}")]);
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{files}");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(direct.contains(",ann@example.com,block,d-003,burnt"), "{direct}");
    let page = followed.served.ask("/devices/d-003", &[&followed.bearer(), "Accept: text/html"]).expect(200).body;
    assert!(page.contains("by ann@example.com at") && page.contains(": burnt"), "{page}");
    assert!(page.contains("fleetform device unblock d-003"), "{page}");
}

#[test]
fn where_the_branch_is_protected_a_stop_is_proposed() {
    let followed = Followed::new();
    followed.hook(
        "while read old new ref; do [ \"$ref\" = refs/heads/main ] && { echo protected >&2; exit 1; }; done; exit 0",
    );
    let before = git(followed.remote.path(), &["rev-parse", "main"]);
    let (status, done) = followed.stop();
    assert_eq!((status, &done["branch"]), (200, &json!("stop/reboot-1")), "{done}");
    assert!(done["message"].as_str().unwrap().contains("merge the branch stop/reboot-1"), "{done}");
    assert_eq!(git(followed.remote.path(), &["rev-parse", "main"]), before);
    let message = git(followed.remote.path(), &["log", "-1", "--format=%B", "stop/reboot-1"]);
    assert!(
        message.contains("smoke in hall 3") && message.contains("Fleetform-Asked-By: ann@example.com"),
        "{message}"
    );
    let (status, again) = followed.stop();
    assert_eq!((status, &again["changed"], &again["commit"]), (200, &json!(false), &done["commit"]), "{again}");
    // It counts when it is merged.
    std::fs::remove_file(followed.remote.path().join("hooks/pre-receive")).unwrap();
    git(followed.remote.path(), &["update-ref", "refs/heads/main", "stop/reboot-1"]);
    followed.until("stopped", |page| page["progress"]["status"] == "stopped");
}

#[test]
fn where_the_remote_takes_nothing_a_stop_says_so_and_changes_nothing() {
    let followed = Followed::new();
    followed.hook("echo closed >&2; exit 1");
    let before = git(followed.remote.path(), &["rev-parse", "main"]);
    let (status, problem) = followed.stop();
    assert_eq!(status, 503, "{problem}");
    assert!(problem["error"].as_str().unwrap().contains("refused"), "{problem}");
    assert_eq!(git(followed.remote.path(), &["rev-parse", "main"]), before);
    assert_ne!(followed.page()["progress"]["status"], "stopped");
}

#[test]
fn a_stop_goes_on_from_what_others_have_pushed_meanwhile() {
    let followed = Followed::new();
    let clone = folder();
    git(clone.path(), &["clone", "-q", followed.remote.path().to_str().unwrap(), "fleet"]);
    let fleet = clone.path().join("fleet");
    // The hook pushes before the first push is taken: as one who is faster.
    std::fs::write(fleet.join("README.md"), "later\n").unwrap();
    git(&fleet, &["add", "-A"]);
    git(&fleet, &["-c", "user.name=B", "-c", "user.email=b@example.com", "commit", "-q", "-m", "read me"]);
    git(&fleet, &["push", "-q", "origin", "HEAD:refs/heads/other"]);
    let other = git(&fleet, &["rev-parse", "HEAD"]);
    followed.hook(&format!(
        "while read old new ref; do if [ \"$ref\" = refs/heads/main ] && ! [ -e faster ]; then touch faster; \
         env -u GIT_QUARANTINE_PATH git update-ref refs/heads/main {other}; fi; done; exit 0"
    ));
    let (status, done) = followed.stop();
    assert_eq!((status, &done["branch"]), (200, &json!(null)), "{done}");
    assert_eq!(git(followed.remote.path(), &["rev-parse", "main^"]), other);
}

#[test]
fn a_job_that_is_over_and_one_that_is_not_there_cannot_be_stopped() {
    let followed = Followed::new();
    let document = "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: dim}\nspec: {target: {query: '*'}, action: \
                    {property: {dim: 1}}, delivery: {confirm: written}}\n";
    followed.push("jobs/dim.yaml", document, 0);
    crate::servers::wait_until("it has ended", || {
        let answer = followed.served.ask("/jobs/dim", &[&followed.bearer(), "Accept: application/json"]);
        answer.status == 200 && answer.body.contains("\"status\":\"completed\"")
    });
    let wish = "{\"reason\": \"too late\"}";
    let (status, problem) = followed.act("/jobs/dim/runs/1/stop", wish);
    assert_eq!(status, 409, "{problem}");
    assert!(problem["error"].as_str().unwrap().contains("was completed: there is nothing to stop"), "{problem}");
    // What is wrong elsewhere does not hide that there is no such job.
    for (name, text) in [("lost", "apiVersion: fleetform/v1\nkind: Job\nmetadata: {name: lost}\n"), ("torn", "a: [\n")]
    {
        followed.push("jobs/other.yaml", text, 1);
        for nobody in ["nobody", name] {
            let (status, problem) = followed.act(&format!("/jobs/{nobody}/runs/1/stop"), wish);
            let expect = if nobody == "lost" { 503 } else { 404 };
            assert_eq!(status, expect, "{name} {nobody}: {problem}");
        }
    }
    assert_eq!(followed.stop().0, 200);
}

#[test]
fn a_fleet_document_that_cannot_be_used_leaves_the_pages_with_the_last_one() {
    let followed = Followed::new();
    let fleet = git(followed.remote.path(), &["show", "main:fleetform.yaml"]);
    let commit = git(followed.remote.path(), &["rev-parse", "main"]);
    followed.push("fleetform.yaml", &fleet.replace("results:", "result:"), 1);
    let broken = git(followed.remote.path(), &["rev-parse", "main"]);
    let status = followed.status();
    assert_eq!((&status["source"]["passed_over"], &status["source"]["commit"]), (&json!(broken), &json!(commit)));
    assert_eq!(
        (&status["held"][0]["address"], &status["held"][0]["file"]),
        (&json!("fleet/acme"), &json!("fleetform.yaml"))
    );
    // It cannot take up changes, which an alert says: it is ready to do what was declared before.
    assert_eq!(followed.served.ask("/readyz", &[]).expect(200).body, "{\"ready\":true}\n");
    let metrics = followed.served.ask("/metrics", &[&followed.bearer()]).expect(200).body;
    assert!(metrics.contains("fleetform_held_documents 1.0\n"), "{metrics}");
    let now = followed.json("/");
    assert_eq!((&now["running"][0]["job"], &now["held_total"]), (&json!("reboot"), &json!(1)), "{now:#}");
    assert_eq!(now["held"][0]["changed_in"], json!(broken), "{now:#}");
    let note = now["notes"].to_string();
    assert!(note.contains("The newest commit cannot be used") && note.contains("fleetform.yaml:"), "{note}");
    assert_eq!(followed.page()["progress"]["completed"], json!(3));
    for path in ["/jobs", "/devices", "/devices/d-001", "/schedules", "/groups", "/imports", "/failing"] {
        followed.json(path);
    }
    let shown = crate::world::fleetform().arg("-C").arg(followed.home.path().join("fleet")).arg("status").output();
    let shown = String::from_utf8(shown.unwrap().stdout).unwrap();
    assert!(
        shown.contains("\ninvalid    fleetform.yaml:") && shown.contains("\nheld       fleetform.yaml:"),
        "{shown}"
    );
    // What needs a commit says so; a block needs none.
    let (status, problem) = followed.stop();
    assert_eq!(status, 409, "{problem}");
    assert!(problem["error"].as_str().unwrap().contains("fleetform.yaml:"), "{problem}");
    assert_eq!(followed.act("/jobs/nobody/runs/1/stop", "{\"reason\": \"x\"}").0, 404);
    assert_eq!(followed.act("/devices/d-003/block", "{\"reason\": \"burnt\"}").0, 200);
    followed.push("fleetform.yaml", &format!("{fleet}\n"), 0);
    assert_eq!(followed.status()["source"]["passed_over"], json!(null));
    assert_eq!(followed.stop().0, 200);
    followed.until("stopped", |page| page["progress"]["status"] == "stopped");
}
