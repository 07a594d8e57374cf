//! What forges are told: `review` in CI, and the statuses that a daemon and an apply set; against a stand-in.

use std::fs;
use std::path::Path;
use std::process::Command;

use fleetform::forge::Kind;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::servers::{git, wait_until};
use crate::stand_in::{PROJECT, Posted, StandIn, TOKEN, assert_secret, says};
use crate::world::{Ran, World, fleetform, folder, spawn};

const COMMIT: &str = "0123456789012345678901234567890123456789";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";
/// It asks for a group that is not there.
const BROKEN: &str = "{target: {group: none}, action: {tags: {a: b}}}";

/// A fleet on `main`, and a branch `change` that is checked out.
fn changed() -> World {
    let world = World::with_devices("{}", 20);
    world.apply().unwrap();
    run_git(world.path(), &["checkout", "-q", "-b", "change"]);
    world
}

fn run_git(folder: &Path, arguments: &[&str]) -> String {
    let output = git().arg("-C").arg(folder).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_string()
}

/// A job of GitHub Actions about a pull request of a project.
struct Action<'a> {
    server: &'a StandIn,
    folder: tempfile::TempDir,
    from: &'static str,
}

impl Action<'_> {
    fn of<'a>(server: &'a StandIn, from: &'static str) -> Action<'a> {
        Action { server, folder: folder(), from }
    }

    fn review(&self, world: &World, arguments: &[&str]) -> Ran {
        let tip = world.head();
        let request = json!({"number": 7, "head": {"sha": tip, "repo": {"full_name": self.from}}});
        let event = self.folder.path().join("event.json");
        fs::write(&event, json!({"pull_request": request}).to_string()).unwrap();
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).arg("review").args(arguments);
        command.env("GITHUB_ACTIONS", "true").env("GITHUB_REPOSITORY", PROJECT).env("GITHUB_API_URL", &self.server.api);
        command.env("GITHUB_EVENT_PATH", &event).env("GITHUB_SHA", COMMIT).env("GITHUB_TOKEN", TOKEN);
        command.env("GITHUB_STEP_SUMMARY", self.summary_path());
        let ran = Ran::of(&mut command);
        assert_secret(&format!("{ran:?}"));
        ran
    }

    fn summary_path(&self) -> std::path::PathBuf {
        self.folder.path().join("summary.md")
    }
}

#[test]
fn a_review_makes_one_comment_a_summary_and_a_status() {
    let (world, server) = (changed(), StandIn::new(Kind::GitHub));
    server.state().is_app = true;
    let action = Action::of(&server, PROJECT);
    world.job("reboot", REBOOT);
    let ran = action.review(&world, &["--base", "main"]).expect(0);
    assert!(ran.stdout.starts_with("<!-- fleetform:plan -->\n### fleetform: 1 job on 20 devices"), "{ran:?}");
    assert!(ran.stderr.contains("Comment 1 was made."), "{ran:?}");
    assert_eq!(fs::read_to_string(action.summary_path()).unwrap(), ran.stdout);
    // The same comment shows what is wrong with the next commit, and the summary grows.
    world.job("broken", BROKEN);
    let broken = action.review(&world, &["--base", "main"]).expect(65);
    assert!(broken.stderr.contains("Comment 1 was brought up to date."), "{broken:?}");
    let comments = server.comments();
    assert_eq!((comments.len(), comments[0].change, &comments[0].body), (1, 7, &broken.stdout));
    assert_eq!(fs::read_to_string(action.summary_path()).unwrap(), ran.stdout + &broken.stdout);
    let said: Vec<_> = server.statuses().into_iter().map(|one| (one.state, one.context, one.description)).collect();
    assert_eq!(said[0], ("success".into(), "fleetform/acme/plan".into(), "1 job on 20 devices".into()));
    let failed = "There is no device group named `none`.";
    assert_eq!(said[1], ("failure".into(), "fleetform/acme/plan".into(), failed.into()));
    // It is of the newest commit of the pull request, not of the one that was made for the job.
    assert_eq!(server.statuses()[1].commit, world.head());
    let json = action.review(&world, &["--base", "main", "--json", "--no-status"]).expect(65).json();
    assert_eq!(json[0]["comment"], json!({"id": 1, "new": false}), "{json:?}");
    assert_eq!((&json[0]["status"], json.len()), (&json!(false), 1));
    server.assert_described();
}

#[test]
fn a_refusal_is_shown_and_exits_as_plan_does() {
    let world = World::with_devices("{}", 20);
    world.declare("policies/guard.yaml", "Policy", "guard", "{appliesTo: {kinds: [Job]}, require: {expect: true}}");
    world.commit("policy");
    world.apply().unwrap();
    run_git(world.path(), &["checkout", "-q", "-b", "change"]);
    world.job("reboot", REBOOT);
    let server = StandIn::new(Kind::GitHub);
    let action = Action::of(&server, PROJECT);
    action.review(&world, &["--base", "main"]).expect(77);
    assert!(server.comments()[0].body.contains("FF68"), "{:?}", server.comments());
    let said = &server.statuses()[0];
    assert!(said.state == "failure" && said.description.contains("policy `guard`"), "{said:?}");
    // What is known only by asking fails without a comment: the status says why.
    let error = action.review(&world, &["--base", "nowhere"]).expect(64);
    assert!(error.stderr.contains("nowhere") && server.comments().len() == 1, "{error:?}");
    let said = server.statuses().pop().unwrap();
    assert!(said.state == "failure" && said.description.starts_with("cannot be planned: "), "{said:?}");
}

#[test]
fn a_forge_that_refuses_fails_a_review_but_not_that_of_a_fork() {
    let world = changed();
    world.job("reboot", REBOOT);
    let server = StandIn::new(Kind::GitHub);
    let read_only = says(403, "", r#"{"message": "Resource not accessible by integration"}"#);
    server.state().denies = Some(("/repos/", read_only));
    let own = Action::of(&server, PROJECT).review(&world, &["--base", "main"]).expect(69);
    assert!(own.stderr.contains("Not said at the forge: ") && own.stderr.contains("statuses: write"), "{own:?}");
    assert!(own.stdout.contains("1 job on 20 devices"), "the plan is printed nevertheless: {own:?}");
    let fork = Action::of(&server, "mallory/fleet").review(&world, &["--base", "main"]).expect(0);
    assert!(fork.stderr.contains("Not said at the forge: "), "{fork:?}");
    // A forge that is down fails it too, and what is wrong with the plan comes first.
    server.state().denies = Some(("/repos/", says(502, "", "")));
    Action::of(&server, "mallory/fleet").review(&world, &["--base", "main"]).expect(69);
    world.job("broken", BROKEN);
    Action::of(&server, PROJECT).review(&world, &["--base", "main"]).expect(65);
}

#[test]
fn a_review_needs_no_forge_and_says_what_it_lacks() {
    let world = changed();
    world.job("reboot", REBOOT);
    let ran = world.run(&["review", "--base", "main"]).expect(0);
    assert!(ran.stdout.contains("1 job on 20 devices") && ran.stderr.contains("There is no token"), "{ran:?}");
    assert!(world.run(&["review"]).expect(64).stderr.contains("--base"));
    let check = |variables: &[(&str, &str)], arguments: &[&str], word: &str| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["review", "--base", "main"]).args(arguments);
        command.envs(variables.iter().copied());
        let ran = Ran::of(&mut command).expect(64);
        assert!(ran.stderr.contains(word), "{word}: {ran:?}");
        assert_secret(&ran.stderr);
    };
    let token = ("FLEETFORM_FORGE_TOKEN", TOKEN);
    check(&[], &["--forge", "github"], "there is no token for the forge");
    check(&[token], &[], "it is not known which forge has the repository");
    check(&[token], &["--forge", "github"], "it is not known where the forge is");
    check(&[token], &["--forge", "github", "--forge-api", "http://git.example.com"], "use https");
    check(&[token], &["--forge", "github", "--forge-api", "https://api.github.com"], "which project of the forge");
    check(&[("FLEETFORM_FORGE_TOKEN", "two HUSH")], &["--forge", "github"], "the token of the forge cannot be used");
    check(&[], &["--forge-token-file", "/nowhere/token"], "cannot be read from /nowhere/token");
    let link = ["--forge", "github", "--forge-link", "javascript:alert(1)"];
    check(&[token], &link, "--forge-link `javascript:alert(1)` cannot be used");
}

#[test]
fn a_job_of_gitlab_knows_its_merge_request() {
    let (world, server) = (changed(), StandIn::new(Kind::GitLab));
    world.job("reboot", REBOOT);
    run_git(world.path(), &["update-ref", "refs/remotes/origin/main", "main"]);
    let token = world.folder_file("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["review", "--forge-token-file", &token]);
    for (name, value) in [
        ("GITLAB_CI", "true"),
        ("CI_API_V4_URL", &server.api),
        ("CI_MERGE_REQUEST_PROJECT_ID", PROJECT),
        ("CI_MERGE_REQUEST_IID", "12"),
        ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main"),
        ("CI_COMMIT_SHA", &world.head()),
        ("CI_JOB_URL", "https://gitlab.example.com/-/jobs/1"),
    ] {
        command.env(name, value);
    }
    Ran::of(&mut command).expect(0);
    assert_eq!((server.comments().len(), server.comments()[0].change), (1, 12));
    let said = server.statuses().remove(0);
    assert_eq!((said.commit, said.state.as_str()), (world.head(), "success"));
    assert_eq!(said.link.as_deref(), Some("https://gitlab.example.com/-/jobs/1"));
    server.assert_described();
}

/// A daemon of a fleet that tells a forge.
struct Daemon {
    child: std::process::Child,
    log: std::path::PathBuf,
}

impl Daemon {
    fn start(world: &World, server: &StandIn) -> Daemon {
        let log = world.file(".git/watch.log");
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["watch", "--interval", "1s", "--log", "json"]);
        command.args(["--forge-link", "https://fleet.example.com/"]);
        command.envs(server.variables()).stdout(fs::File::create(world.file(".git/out")).unwrap());
        command.stderr(fs::File::options().create(true).append(true).open(&log).unwrap());
        Daemon { child: spawn(&mut command), log }
    }

    /// Ends it as a service manager does, and returns its log.
    fn stop(mut self) -> String {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        let log = fs::read_to_string(&self.log).unwrap();
        assert_secret(&log);
        log
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until the last status of a commit is one.
#[track_caller]
fn wait_for(server: &StandIn, commit: &str, state: &str, description: &str) {
    let last = || server.statuses().into_iter().rfind(|one| one.commit == commit);
    let is_so = |one: &Posted| one.state == state && one.description.starts_with(description);
    wait_until(&format!("{state} {description}: {:?}", server.statuses()), || last().as_ref().is_some_and(is_so));
}

#[test]
fn a_daemon_says_how_the_commits_stand_that_it_took_up() {
    let world = World::with_devices("{link: {simulated: {latency: 400ms}}, limits: {inFlight: 4}}", 20);
    let server = StandIn::new(Kind::GitHub);
    let daemon = Daemon::start(&world, &server);
    wait_for(&server, &world.head(), "success", "1 import");
    // What runs is pending until all of it has ended.
    world.job("reboot", REBOOT);
    let reboot = world.head();
    wait_for(&server, &reboot, "success", "1 job on 20 devices");
    assert_eq!(server.states_of(&reboot), ["pending", "success"]);
    let said = server.statuses().pop().unwrap();
    assert_eq!(said.context, "fleetform/acme");
    assert_eq!(said.link.as_deref(), Some("https://fleet.example.com/"));
    // What is held is a failure of the commit that has it, and the next one mends it.
    world.job("broken", BROKEN);
    wait_for(&server, &world.head(), "failure", "1 document held: job/broken: There is no device group named `none`.");
    fs::remove_file(world.file("jobs/broken.yaml")).unwrap();
    world.commit("mended");
    wait_for(&server, &world.head(), "success", "nothing to start");
    // So is one whose Fleet document cannot be used.
    let text = fs::read_to_string(world.file("fleetform.yaml")).unwrap();
    world.write("fleetform.yaml", "kind: Fleet\n");
    world.commit("no fleet");
    wait_for(&server, &world.head(), "failure", "1 document held: ");
    world.write("fleetform.yaml", &text);
    // A run that ends badly.
    world.job(
        "bad",
        "{target: {query: '*'}, action: {command: {name: blink}}, delivery: {cancellationThreshold: {failures: 0}}}",
    );
    wait_for(&server, &world.head(), "success", "1 job on 20 devices");
    let log = daemon.stop();
    assert!(log.contains("the status of the commit was set"), "{log}");
    // The next start begins with a commit of which all is said.
    let before = server.statuses();
    let daemon = Daemon::start(&world, &server);
    wait_until("it has asked", || server.state().requests.iter().any(|one| one.starts_with("GET ")));
    daemon.stop();
    assert_eq!(server.statuses(), before);
    server.assert_described();
}

#[test]
fn a_run_that_ends_badly_and_a_lost_status_are_said() {
    let world = World::with_devices("{link: {simulated: {failures: 100%}}}", 20);
    let server = StandIn::new(Kind::GitLab);
    let threshold = "delivery: {cancellationThreshold: {failures: 2}}";
    world.job("reboot", &format!("{{target: {{query: '*'}}, action: {{command: {{name: reboot}}}}, {threshold}}}"));
    let head = world.head();
    // The forge is down while the job runs and until the daemon ends.
    server.state().denies = Some(("/statuses/", says(503, "", "")));
    let daemon = Daemon::start(&world, &server);
    wait_until("the run has ended", || world.results().contains_key("runs/reboot/1/run.json"));
    wait_until("it was tried", || server.state().requests.len() > 1);
    let log = daemon.stop();
    assert!(log.contains("it is tried again") && server.statuses().is_empty(), "{log}");
    // The next process says it.
    server.state().denies = None;
    let daemon = Daemon::start(&world, &server);
    wait_for(&server, &head, "failed", "1 job on 20 devices, 20 failed; job reboot ");
    daemon.stop();
    server.assert_described();
}

#[test]
fn an_apply_says_it_too() {
    let world = World::with_devices("{}", 20);
    let server = StandIn::new(Kind::Gitea);
    let apply = |expect: i32| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["apply", "--yes"]).envs(server.variables());
        let ran = Ran::of(&mut command).expect(expect);
        assert_secret(&format!("{ran:?}"));
        let said = server.statuses().pop().unwrap();
        assert_eq!(said.commit, world.head());
        (said.state, said.description)
    };
    world.job("reboot", REBOOT);
    assert_eq!(apply(0), ("success".into(), "1 import, 1 job on 20 devices".into()));
    world.job("broken", BROKEN);
    let failed = "1 document held: There is no device group named `none`.";
    assert_eq!(apply(65), ("failure".into(), failed.into()));
    server.assert_described();
    // A forge that is down does not fail what was done.
    fs::remove_file(world.file("jobs/broken.yaml")).unwrap();
    world.job("again", REBOOT);
    server.state().denies = Some(("/statuses/", says(500, "", "")));
    let mut command = fleetform();
    command.arg("-C").arg(world.path()).args(["apply", "--yes"]).envs(server.variables());
    let ran = Ran::of(&mut command).expect(0);
    assert!(ran.stderr.contains("The status of the commit was not set: "), "{ran:?}");
}

#[test]
fn a_wrong_token_does_not_stop_a_daemon() {
    let world = World::with_devices("{}", 5);
    let server = StandIn::new(Kind::GitHub);
    server.state().denies = Some(("/", says(401, "", r#"{"message": "Bad credentials"}"#)));
    world.job("reboot", REBOOT);
    let daemon = Daemon::start(&world, &server);
    wait_until("the run has ended", || {
        world.results().contains_key("runs/reboot/1/run.json") && world.record("reboot", "1")["status"] == "completed"
    });
    wait_until("it is said", || {
        fs::read_to_string(world.file(".git/watch.log")).unwrap().contains("does not let this token")
    });
    daemon.stop();
}

#[test]
fn a_command_line_shows_no_token() {
    let help = Ran::of(
        Command::new(env!("CARGO_BIN_EXE_fleetform")).args(["watch", "--help"]).env("FLEETFORM_FORGE_TOKEN", TOKEN),
    );
    assert_secret(&help.stdout);
    assert!(help.stdout.contains("--forge-token-file") && !help.stdout.contains("--forge-token <"), "{}", help.stdout);
}

/// Serves TLS with the certificate of the tests; says with which first line each request began that it understood.
fn tls_server() -> (String, std::sync::mpsc::Receiver<String>) {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/forge/loopback.pem");
    let certificate = CertificateDer::from_pem_file(path).unwrap();
    let key = PrivateKeyDer::from_pem_file(path).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = std::sync::Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let mut bytes = [0; 4096];
            // A client that does not trust the certificate hangs up here.
            let Ok(count) = std::io::Read::read(&mut stream, &mut bytes) else { continue };
            let text = String::from_utf8_lossy(&bytes[..count]).into_owned();
            heard.send(text.lines().next().unwrap_or_default().to_string()).unwrap();
            let answer = b"HTTP/1.1 201 x\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
            drop(std::io::Write::write_all(&mut stream, answer));
            stream.conn.send_close_notify();
            drop(std::io::Write::flush(&mut stream));
        }
    });
    (address, hears)
}

#[test]
fn a_server_is_trusted_as_the_system_trusts_it() {
    let world = changed();
    world.job("reboot", REBOOT);
    let (address, hears) = tls_server();
    let review = |trusted: &str| {
        let mut command = fleetform();
        command.arg("-C").arg(world.path()).args(["review", "--base", "main", "--no-comment", "--forge", "gitea"]);
        command.args(["--forge-api", &address, "--forge-project", PROJECT]).env("FLEETFORM_FORGE_TOKEN", TOKEN);
        command.env("SSL_CERT_FILE", trusted).env_remove("SSL_CERT_DIR").env_remove("HTTPS_PROXY");
        Ran::of(&mut command)
    };
    let stranger = review("/dev/null").expect(69);
    assert!(stranger.stderr.contains("invalid peer certificate"), "{stranger:?}");
    assert!(hears.try_recv().is_err(), "no request goes to a server that is not trusted");
    review(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/forge/loopback.pem")).expect(0);
    assert_eq!(hears.recv().unwrap(), format!("POST /repos/{PROJECT}/statuses/{} HTTP/1.1", world.head()));
}
