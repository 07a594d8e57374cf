//! The daemon as a process that follows remotes behind real servers: what it does when they refuse, break and go away,
//! and beside a second daemon.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use fleetform::sim::Random;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::cluster::fresh_database;
use crate::servers::{CutProxy, Daemon, Gate, Line, PLAIN_GIT, Ssh, bare, git, hook, url_of, wait_until};
use crate::stores::shared_registry;
use crate::world::{BRANCH, Ran, World, folder, times};

const DIM: &str = "{target: {query: '*'}, action: {property: {light: {level: 3}}}}";
const REBOOT: &str = "{target: {query: '*'}, action: {command: {name: reboot}}}";
const SECRET: &str = "sixteen characters at least";
/// Refuses pushes to the results branch and no others.
const NO_RESULTS: &str = "case $1 in refs/heads/fleetform/*) echo no results on Sundays; exit 1;; esac; exit 0";

/// A person's clone of a fleet, and the bare repository that it is pushed to.
struct Site {
    folder: tempfile::TempDir,
    /// What daemons name with `--registry` that share one.
    registry: String,
    world: World,
}

impl Site {
    /// Returns a fleet of so many devices, pushed.
    fn new(simulated: &str, devices: usize) -> Site {
        let spec = format!(
            "{{link: {{simulated: {{journal: devices.jsonl, {simulated}}}}}, limits: {{inFlight: 2, runningJobs: 20}}}}"
        );
        Site::with_spec(&spec, devices)
    }

    fn with_spec(spec: &str, devices: usize) -> Site {
        let world = World::with_devices(spec, devices);
        let folder = folder();
        let site = Site { registry: shared_registry(folder.path()), folder, world };
        bare(&site.served(), "fleet.git");
        site.git_push(&["main", BRANCH]);
        site
    }

    fn served(&self) -> PathBuf {
        self.folder.path().join("served")
    }

    /// The bare repository.
    fn remote(&self) -> PathBuf {
        self.served().join("fleet.git")
    }

    fn git_push(&self, branches: &[&str]) {
        let mut command = git();
        // The hooks are for daemons.
        let receive = "--receive-pack=git -c core.hooksPath=/dev/null receive-pack";
        command.arg("-C").arg(self.world.path()).args(["push", "--quiet", receive]).arg(self.remote()).args(branches);
        let ran = Ran::of(&mut command);
        assert_eq!(ran.code, 0, "{ran:?}");
    }

    /// Declares a job and pushes it.
    fn job(&self, name: &str, spec: &str) {
        self.world.job(name, spec);
        self.git_push(&["main"]);
    }

    fn repository(&self) -> git2::Repository {
        git2::Repository::open_bare(self.remote()).unwrap()
    }

    fn tip(&self) -> String {
        self.repository().refname_to_id(&format!("refs/heads/{BRANCH}")).unwrap().to_string()
    }

    /// Returns a document on the results branch of the remote.
    fn file(&self, path: &str) -> Option<Value> {
        read_file(&self.repository(), path)
    }

    fn status(&self, job: &str) -> Option<String> {
        let record = self.file(&format!("runs/{job}/1/run.json"))?;
        Some(record["status"].as_str().unwrap().to_string())
    }

    #[track_caller]
    fn wait_completed(&self, job: &str) {
        wait_until(&format!("{job} is completed on the remote"), || self.status(job).as_deref() == Some("completed"));
    }

    #[track_caller]
    fn wait_released(&self) {
        wait_until("the lease is given back", || {
            self.file("lease.json").is_some_and(|lease| lease["owner"] == json!(""))
        });
    }

    /// Returns the owner of the lease, and its epoch; `None` while no process has it.
    fn lease(&self) -> Option<(u32, u64)> {
        let lease = self.file("lease.json")?;
        let process = lease["owner"].as_str().unwrap().split('/').nth(1)?.parse().unwrap();
        Some((process, lease["epoch"].as_u64().unwrap()))
    }

    fn is_claimed(&self, job: &str) -> bool {
        self.file(&format!("claims/{job}/1.json")).is_some()
    }

    /// Returns how often each device executed each command, over the folders of some daemons.
    fn executions(&self, homes: &[&Path]) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for home in homes {
            let text = fs::read_to_string(home.join("devices.jsonl")).unwrap_or_default();
            for line in text.lines() {
                let line: Value = serde_json::from_str(line).unwrap();
                *counts.entry(line["execution_id"].as_str().unwrap().to_string()).or_default() += 1;
            }
        }
        counts
    }

    /// Checks that so many executions took place, each once.
    #[track_caller]
    fn check_executions(&self, homes: &[&Path], count: usize) {
        let found = self.executions(homes);
        let twice: Vec<_> = found.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "executed more than once: {twice:?}");
        assert_eq!(found.len(), count);
    }

    /// Checks that a run has an outcome for each device, that no device executed it twice, and that the completed
    /// devices did execute it.
    #[track_caller]
    fn check_run(&self, homes: &[&Path], job: &str) {
        let record = self.file(&format!("runs/{job}/1/run.json")).unwrap();
        let number = |name: &str| record[name].as_u64().unwrap();
        assert_eq!(number("completed") + number("failed"), number("total"), "{record}");
        let found = self.executions(homes);
        let mut rows = BTreeMap::new();
        let tip = self.repository().find_reference(&format!("refs/heads/{BRANCH}")).unwrap().target().unwrap();
        let mut command = git();
        command.arg("--git-dir").arg(self.remote()).arg("show").arg(format!("{tip}:runs/{job}/1/devices-00001.csv"));
        let shard = Ran::of(&mut command).expect(0).stdout;
        fleetform::results::read_shard(shard.as_bytes(), |row| drop(rows.insert(row.device_id.clone(), row))).unwrap();
        assert_eq!(rows.len() as u64, number("total"), "{shard}");
        assert!(found.values().all(|times| *times == 1), "{found:?}");
    }

    /// Checks that the results branch is one line of commits, each of which changes something and is marked as ours,
    /// that claims and shards were written once, and that no ended run has a different end now.
    #[track_caller]
    fn check_branch(&self) {
        let repository = self.repository();
        let mut walk = repository.revwalk().unwrap();
        walk.push_ref(&format!("refs/heads/{BRANCH}")).unwrap();
        for id in walk {
            let commit = repository.find_commit(id.unwrap()).unwrap();
            let message = commit.message().unwrap();
            assert!(message.contains("Fleetform-Writer: "), "{message}");
            assert!(commit.parent_count() <= 1, "a merge: {message}");
            let Ok(parent) = commit.parent(0) else { continue };
            assert_ne!(commit.tree_id(), parent.tree_id(), "an empty commit: {message}");
            let (before, after) = (parent.tree().unwrap(), commit.tree().unwrap());
            let diff = repository.diff_tree_to_tree(Some(&before), Some(&after), None).unwrap();
            for delta in diff.deltas() {
                let path = delta.new_file().path().unwrap().to_str().unwrap();
                let is_new = delta.status() == git2::Delta::Added;
                if path.starts_with("claims/") || path.contains("/devices-") {
                    assert!(is_new, "{path} was written again by: {message}");
                } else if path.ends_with("/run.json") && !is_new {
                    let old = repository.find_blob(delta.old_file().id()).unwrap();
                    let old: Value = serde_json::from_slice(old.content()).unwrap();
                    let status = old["status"].as_str().unwrap();
                    assert!(["running", "pending", "stopped"].contains(&status), "{path} had ended: {message}");
                }
            }
        }
    }
}

fn read_file(repository: &git2::Repository, path: &str) -> Option<Value> {
    read_at(repository, BRANCH, path)
}

fn read_at(repository: &git2::Repository, branch: &str, path: &str) -> Option<Value> {
    let tip = repository.find_reference(&format!("refs/heads/{branch}")).ok()?;
    let entry = tip.peel_to_tree().unwrap().get_path(Path::new(path)).ok()?;
    Some(serde_json::from_slice(repository.find_blob(entry.id()).unwrap().content()).unwrap())
}

/// A daemon in a folder of its own, killed when dropped.
struct Watch {
    child: Child,
    home: PathBuf,
    log: PathBuf,
    /// The length of the log at the start: an earlier daemon in the same folder wrote that part.
    since: u64,
}

impl Watch {
    /// Starts a daemon that follows a remote, in the folder of this name.
    fn start(site: &Site, name: &str, remote: &str, arguments: &[&str], variables: &[(&str, &str)]) -> Watch {
        let home = site.folder.path().join(name);
        fs::create_dir_all(&home).unwrap();
        let log = site.folder.path().join(format!("{name}.log"));
        let mut command = crate::world::fleetform();
        command.arg("-C").arg(&home).arg("-v").args(["watch", "--remote", remote]).args(arguments);
        command.envs(PLAIN_GIT.iter().copied()).envs(variables.iter().copied());
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let since = file.metadata().unwrap().len();
        command.stdout(Stdio::null()).stderr(file);
        Watch { child: crate::world::spawn(&mut command), home, log, since }
    }

    /// Starts one that looks at the remote each second.
    fn eager(site: &Site, name: &str, remote: &str, arguments: &[&str]) -> Watch {
        Watch::start(site, name, remote, &[&["--interval", "1s"], arguments].concat(), &[])
    }

    fn said(&self) -> String {
        let mut text = fs::read_to_string(&self.log).unwrap_or_default();
        text.split_off(usize::try_from(self.since).unwrap())
    }

    #[track_caller]
    fn wait_said(&self, words: &str) {
        wait_until(&format!("the daemon says {words:?}"), || self.said().contains(words));
    }

    fn count_said(&self, words: &str) -> usize {
        self.said().matches(words).count()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    #[track_caller]
    fn wait_ended(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the daemon ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// Asks the daemon to end and checks that it ends well.
    #[track_caller]
    fn end(mut self) {
        self.wait_said("following");
        self.signal(Signal::TERM);
        let status = self.wait_ended();
        assert_eq!(status.code(), Some(0), "{}", self.said());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Returns the port that it listens on.
    fn port(&self) -> u16 {
        let mut port = None;
        wait_until("the daemon listens", || {
            let said = self.said();
            let rest = said.split("address=127.0.0.1:").nth(1);
            port = rest.and_then(|rest| rest.split_whitespace().next()?.trim_end_matches('"').parse().ok());
            port.is_some()
        });
        port.unwrap()
    }

    /// Returns the status and the body of an answer of its pages.
    fn ask(&self, method: &str, path: &str, header: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_string())
    }

    /// Returns the codes of what makes it unready; none when it is ready.
    fn unready(&self) -> Vec<String> {
        let (status, body) = self.ask("GET", "/readyz", "");
        if status == 200 {
            return Vec::new();
        }
        let body: Value = serde_json::from_str(&body).unwrap();
        body["reasons"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap().to_string()).collect()
    }

    /// Returns a document on the results branch of its mirror.
    fn mirrored(&self, path: &str) -> Option<Value> {
        read_file(&git2::Repository::open_bare(self.home.join(".fleetform/mirror.git")).unwrap(), path)
    }

    /// Runs a command in its folder.
    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = crate::world::fleetform();
        command.arg("-C").arg(&self.home).args(arguments).envs(PLAIN_GIT.iter().copied());
        Ran::of(&mut command)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let start = said.len().saturating_sub(6_000);
            let start = (start..said.len()).find(|at| said.is_char_boundary(*at)).unwrap_or(0);
            drop(writeln!(std::io::stderr(), "--- {}\n{}", self.log.display(), &said[start..]));
        }
    }
}

#[test]
fn a_remote_is_followed_over_the_git_protocol() {
    let site = Site::new("latency: 20ms", 4);
    let server = Daemon::start(&site.served());
    site.job("reboot", REBOOT);
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &[]);
    site.wait_completed("reboot");
    site.wait_released();
    let seen = Instant::now();
    site.job("dim", DIM);
    site.wait_completed("dim");
    assert!(seen.elapsed() < Duration::from_secs(10), "{:?}", seen.elapsed());
    assert_eq!(site.file("runs/reboot/1/run.json").unwrap()["completed"], json!(4));
    site.wait_released();
    site.check_executions(&[&watch.home], 4);
    site.check_branch();
    watch.end();
}

#[test]
fn a_remote_is_followed_over_ssh_and_a_webhook_makes_it_look_at_once() {
    let site = Site::new("latency: 20ms", 4);
    let ssh = Ssh::start();
    let client = format!("ssh {}", ssh.client("user"));
    let arguments = ["--interval", "1h", "--listen", "127.0.0.1:0"];
    let variables = [("GIT_SSH_COMMAND", client.as_str()), ("FLEETFORM_WEBHOOK_SECRET", SECRET)];
    site.job("reboot", REBOOT);
    let watch = Watch::start(&site, "one", &ssh.url(&site.remote()), &arguments, &variables);
    site.wait_completed("reboot");
    site.wait_released();
    wait_until("it is ready", || watch.unready().is_empty());
    site.job("dim", DIM);
    let (refused, _) = watch.ask("POST", "/hooks/gitlab", "X-Gitlab-Token: another one of that length\r\n");
    assert_eq!(refused, 401);
    let (heard, _) = watch.ask("POST", "/hooks/gitlab", &format!("X-Gitlab-Token: {SECRET}\r\n"));
    assert_eq!(heard, 202);
    site.wait_completed("dim");
    site.wait_released();
    site.check_branch();
    watch.end();
}

#[test]
fn a_refusal_before_a_run_claims_nothing_and_the_daemon_goes_on() {
    let site = Site::new("latency: 20ms", 4);
    let server = Daemon::start(&site.served());
    hook(&site.remote(), "update", NO_RESULTS);
    site.job("reboot", REBOOT);
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &["--listen", "127.0.0.1:0", "--no-webhooks"]);
    watch.wait_said("no results on Sundays");
    wait_until("it says that it is refused", || watch.unready().contains(&"push_denied".to_string()));
    site.job("dim", DIM);
    let (tip, said) = (site.tip(), watch.said().len());
    wait_until("it tries again", || watch.said()[said..].contains("no results on Sundays"));
    assert_eq!(site.tip(), tip);
    assert!(watch.mirrored("claims/reboot/1.json").is_none());
    assert!(site.executions(&[&watch.home]).is_empty());
    fs::remove_file(site.remote().join("hooks/update")).unwrap();
    site.wait_completed("reboot");
    site.wait_completed("dim");
    site.wait_released();
    wait_until("it is ready", || watch.unready().is_empty());
    site.check_executions(&[&watch.home], 4);
    site.check_branch();
    watch.end();
}

#[test]
fn a_refusal_in_mid_run_keeps_the_outcomes_until_they_can_be_pushed() {
    let site = Site::new("latency: 200ms", 8);
    let server = Daemon::start(&site.served());
    site.job("reboot", REBOOT);
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &["--listen", "127.0.0.1:0", "--no-webhooks"]);
    watch.wait_said("reboot run 1: running");
    hook(&site.remote(), "update", NO_RESULTS);
    let is_over = || watch.mirrored("runs/reboot/1/run.json").is_some_and(|run| run["status"] == json!("completed"));
    wait_until("the run ends", is_over);
    wait_until("it says that it is refused", || watch.unready().contains(&"push_denied".to_string()));
    assert!(site.file("runs/reboot/1/run.json").is_none());
    let status = watch.run(&["--json", "status"]).expect(0).json();
    assert!(status[0]["fleet"]["outbox"].as_u64().unwrap() >= 1, "{status:?}");
    assert_eq!(status[0]["alive"], json!(true));
    assert!(watch.run(&["status"]).expect(0).stdout.contains("to push"));
    // Nothing new is claimed meanwhile.
    site.job("dim", DIM);
    let said = watch.said().len();
    wait_until("it tries again", || watch.said()[said..].contains("no results on Sundays"));
    assert!(!site.is_claimed("dim") && watch.mirrored("claims/dim/1.json").is_none());
    fs::remove_file(site.remote().join("hooks/update")).unwrap();
    site.wait_completed("reboot");
    site.wait_completed("dim");
    site.wait_released();
    wait_until("it is ready", || watch.unready().is_empty());
    let status = watch.run(&["--json", "status"]).expect(0).json();
    assert_eq!(status[0]["fleet"]["outbox"], json!(0));
    site.check_executions(&[&watch.home], 8);
    site.check_branch();
    watch.end();
}

#[test]
fn a_line_that_breaks_in_the_middle_of_pushes_loses_nothing() {
    let site = Site::new("latency: 20ms", 4);
    let server = Daemon::start(&site.served());
    let proxy = CutProxy::start(server.port);
    let watch = Watch::eager(&site, "one", &url_of("git", proxy.port, "fleet.git"), &[]);
    watch.wait_said("reconciled");
    site.wait_released();
    for (n, bytes) in [60, 250, 500, 900].into_iter().enumerate() {
        let name = format!("reboot-{n}");
        let said = watch.said().len();
        proxy.set(Line::CutAfter(bytes));
        site.job(&name, REBOOT);
        wait_until("the line breaks", || watch.said()[said..].contains("cannot be reached"));
        proxy.set(Line::Whole);
        site.wait_completed(&name);
        site.wait_released();
    }
    site.check_executions(&[&watch.home], 16);
    site.check_branch();
    watch.end();
}

#[test]
fn a_server_that_dies_in_the_middle_of_a_push_loses_nothing() {
    let site = Site::new("latency: 100ms", 6);
    let mut server = Daemon::start(&site.served());
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &[]);
    watch.wait_said("reconciled");
    site.wait_released();
    for n in 0..2 {
        let name = format!("reboot-{n}");
        if n == 0 {
            // At the first push of all: the one of the lease.
            let gate = Gate::hold(&site.remote());
            site.job(&name, REBOOT);
            gate.wait();
            server.kill();
            gate.open();
        } else {
            // At the push of the outcomes.
            site.job(&name, REBOOT);
            watch.wait_said(&format!("{name} run 1: running"));
            let gate = Gate::hold(&site.remote());
            gate.wait();
            server.kill();
            gate.open();
        }
        fs::remove_file(site.remote().join("hooks/pre-receive")).unwrap();
        server.restart();
        site.wait_completed(&name);
        site.wait_released();
    }
    site.check_executions(&[&watch.home], 12);
    site.check_branch();
    watch.end();
}

#[test]
fn pushes_that_land_though_they_fail_are_found_out() {
    let site = Site::new("latency: 20ms", 3);
    let server = Daemon::start(&site.served());
    // Every second push moves the branch, and its server dies before it says so.
    let count = site.folder.path().join("pushes");
    fs::write(&count, "0").unwrap();
    let count = count.display();
    hook(
        &site.remote(),
        "post-receive",
        &format!("n=$(cat {count}); echo $((n+1)) > {count}; [ $((n % 2)) = 0 ] && kill -9 $PPID; exit 0"),
    );
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &[]);
    for n in 0..4 {
        let name = format!("reboot-{n}");
        site.job(&name, REBOOT);
        site.wait_completed(&name);
    }
    fs::remove_file(site.remote().join("hooks/post-receive")).unwrap();
    site.wait_released();
    site.check_executions(&[&watch.home], 12);
    site.check_branch();
    watch.end();
}

#[test]
fn two_daemons_of_one_registry_run_every_job_once() {
    const JOBS: usize = 100;
    let site = Site::new("latency: 4ms", 3);
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    for n in 0..JOBS {
        site.world.declare(&format!("jobs/job-{n}.yaml"), "Job", &format!("job-{n}"), REBOOT);
    }
    let start = |name: &str| Watch::eager(&site, name, &url, &["--registry", &site.registry]);
    let (one, two) = (start("one"), start("two"));
    one.wait_said("following");
    two.wait_said("following");
    site.world.commit("a hundred jobs");
    site.git_push(&["main"]);
    let done = || (0..JOBS).filter(|n| site.status(&format!("job-{n}")).as_deref() == Some("completed")).count();
    wait_until("half of the jobs are completed", || done() >= JOBS / 2);
    wait_until("all jobs are completed", || done() == JOBS);
    site.wait_released();
    site.check_executions(&[&one.home, &two.home], JOBS * 3);
    site.check_branch();
    let started = |watch: &Watch, n: usize| watch.count_said(&format!("job-{n} run 1: running"));
    for n in 0..JOBS {
        assert_eq!(started(&one, n) + started(&two, n), 1, "job-{n}");
    }
    one.end();
    two.end();
}

#[test]
fn a_daemon_takes_over_from_one_that_was_killed() {
    let site = Site::new("latency: 100ms", 10);
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    let start = |name: &str| Watch::eager(&site, name, &url, &["--registry", &site.registry]);
    let mut both = [start("one"), start("two")];
    let homes: Vec<PathBuf> = both.iter().map(|watch| watch.home.clone()).collect();
    let homes: Vec<&Path> = homes.iter().map(PathBuf::as_path).collect();
    for n in 0..3 {
        let (name, said) = (format!("reboot-{n}"), format!("reboot-{n} run 1: running"));
        site.job(&name, REBOOT);
        wait_until("one of them works", || both.iter().any(|watch| watch.said().contains(&said)));
        let at_work = both.iter().position(|watch| watch.said().contains(&said)).unwrap();
        let (_, epoch) = site.lease().unwrap();
        both[at_work].kill();
        // Its lease would last for three minutes.
        site.wait_completed(&name);
        assert!(both[1 - at_work].said().contains(&said));
        site.wait_released();
        assert!(site.file("lease.json").unwrap()["epoch"].as_u64().unwrap() > epoch);
        both[at_work] = start(["one", "two"][at_work]);
        site.check_run(&homes, &name);
    }
    site.check_branch();
    both.into_iter().for_each(Watch::end);
}

#[test]
fn a_daemon_stands_by_and_takes_over_the_database_of_one_that_was_killed() {
    let mut site = Site::new("latency: 400ms", 40);
    site.registry = fresh_database();
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    let start = |name: &str| {
        let arguments = ["--registry", &site.registry, "--listen", "127.0.0.1:0", "--no-webhooks"];
        Watch::eager(&site, name, &url, &arguments)
    };
    let mut one = start("one");
    site.job("reboot", REBOOT);
    wait_until("it is in the middle", || site.executions(&[&one.home]).len() >= 4);
    let two = start("two");
    let words =
        format!("another fleetform is applying to this registry: {}/{}/", fleetform::prepare::host(), one.child.id());
    two.wait_said(&format!("standing by: {words}"));
    let (status, body) = two.ask("GET", "/readyz", "");
    let ready: Value = serde_json::from_str(&body).unwrap();
    assert!(status == 200 && ready["stands_by"].as_str().unwrap().starts_with(&words), "{status} {body}");
    let mut command = crate::world::fleetform();
    command.arg("-C").arg(&two.home).args(["status", "--registry", &site.registry]);
    let shown = Ran::of(&mut command).expect(0).stdout;
    assert!(shown.contains(&format!("stands by  {words}")), "{shown}");
    one.kill();
    let killed = Instant::now();
    two.wait_said("reboot run 1: running");
    let took = killed.elapsed();
    assert!(took < Duration::from_secs(30), "{took:?}");
    site.wait_completed("reboot");
    site.wait_released();
    let homes = [&*one.home, &*two.home];
    site.check_run(&homes, "reboot");
    let record = site.file("runs/reboot/1/run.json").unwrap();
    // What was under way is not known, at most as many as may be at once, and nothing else failed.
    let (completed, failed) = (record["completed"].as_u64().unwrap(), record["failed"].as_u64().unwrap());
    assert!(completed + failed == 40 && failed <= 2, "{record}");
    assert!(two.ask("GET", "/readyz", "").1.contains("\"ready\":true"));
    assert!(!two.ask("GET", "/readyz", "").1.contains("stands_by"));
    // The branch names the registry, whichever machine made it.
    let owner = site.file("fleet.json").unwrap();
    site.job("dim", DIM);
    site.wait_completed("dim");
    site.wait_released();
    assert_eq!(site.file("fleet.json").unwrap(), owner);
    let one = start("one");
    one.wait_said("reconciled");
    assert!(!one.said().contains("works on the fleet"), "{}", one.said());
    let executed = site.executions(&homes);
    assert!(executed.values().all(|times| *times == 1) && executed.len() as u64 >= completed, "{executed:?}");
    site.check_branch();
    one.end();
    two.end();
}

#[test]
fn daemons_beside_a_database_that_are_killed_lose_and_double_nothing() {
    let mut site = Site::new("latency: 100ms", 20);
    site.registry = fresh_database();
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    let start = |name: &str| Watch::eager(&site, name, &url, &["--registry", &site.registry]);
    let names = ["one", "two"];
    let mut daemons = names.map(start);
    let mut random = Random::new(11);
    let mut completed = 0;
    for kill in 0..times("FLEETFORM_TEST_DAEMON_KILLS", 2) {
        let job = format!("reboot-{kill}");
        site.job(&job, REBOOT);
        let running = format!("{job} run 1: running");
        let mut works = None;
        wait_until("one works", || {
            works = daemons.iter().position(|daemon| daemon.said().contains(&running));
            works.is_some()
        });
        let works = works.unwrap();
        // Two devices at once take 1 s for all, so that some kills come after the last answer.
        std::thread::sleep(Duration::from_millis(random.between(0, 1_300)));
        daemons[works].kill();
        let killed = Instant::now();
        daemons[works] = start(names[works]);
        site.wait_completed(&job);
        let took = killed.elapsed();
        assert!(took < Duration::from_secs(30), "{job}: {took:?}");
        let homes: Vec<&Path> = daemons.iter().map(|daemon| &*daemon.home).collect();
        site.check_run(&homes, &job);
        completed += site.file(&format!("runs/{job}/1/run.json")).unwrap()["completed"].as_u64().unwrap();
        assert!(site.executions(&homes).len() as u64 >= completed, "{job}: a device that completed executed nothing");
    }
    site.wait_released();
    site.check_branch();
    daemons.into_iter().for_each(Watch::end);
}

#[test]
fn renewals_are_no_results_and_a_clone_that_fetches_sees_who_works() {
    let site = Site::new("latency: 300ms", 120);
    let server = Daemon::start(&site.served());
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &["--lease-time", "3s"]);
    watch.wait_said("following");
    let clone = site.folder.path().join("clone");
    let run = |arguments: &[&str]| Ran::of(git().args(arguments)).expect(0);
    run(&["clone", "--quiet", site.remote().to_str().unwrap(), clone.to_str().unwrap()]);
    site.job("reboot", REBOOT);
    wait_until("it works", || site.is_claimed("reboot"));
    let taken = site.file("lease.json").unwrap();
    let until: jiff::Timestamp = taken["until"].as_str().unwrap().parse().unwrap();
    // By the results branch alone its lease has run out by then.
    wait_until("a clone says who works, after that", || {
        let is_over = jiff::Timestamp::now() > until;
        run(&["-C", clone.to_str().unwrap(), "fetch", "--quiet"]);
        let mut command = crate::world::fleetform();
        command.arg("-C").arg(&clone).args(["status", "--json"]);
        let status: Value = serde_json::from_str(&Ran::of(&mut command).expect(0).stdout).unwrap();
        assert_ne!(site.status("reboot").as_deref(), Some("completed"), "before the clone said it: {status}");
        is_over && status["fleet"]["at_work"] == taken["owner"]
    });
    assert_eq!(site.file("lease.json").unwrap(), taken, "no renewal is on the results branch");
    site.wait_completed("reboot");
    site.wait_released();
    let beside = site.repository().refname_to_id(&format!("refs/heads/{BRANCH}-lease")).unwrap();
    assert_eq!(site.repository().find_commit(beside).unwrap().parent_count(), 0);
    site.check_branch();
    site.check_run(&[&watch.home], "reboot");
    watch.end();
}

#[test]
fn a_fleet_is_taken_over_from_a_machine_that_is_gone_when_its_last_renewal_runs_out() {
    let spec = "{link: {simulated: {journal: devices.jsonl, latency: 300ms}}, limits: {inFlight: 2}, \
                results: {remote: origin}}";
    let site = Site::with_spec(spec, 60);
    let server = Daemon::start(&site.served());
    let mut watch = Watch::eager(&site, "one", &server.url("fleet.git"), &["--lease-time", "3s"]);
    site.job("reboot", REBOOT);
    let beside = || site.repository().refname_to_id(&format!("refs/heads/{BRANCH}-lease")).ok();
    wait_until("it renews its lease", || beside().is_some());
    let first = beside();
    wait_until("it renews it again", || beside() != first);
    watch.kill();
    let (_, epoch) = site.lease().unwrap();
    let clone = site.folder.path().join("clone");
    let remote = site.remote();
    Ran::of(git().args(["clone", "--quiet", remote.to_str().unwrap(), clone.to_str().unwrap()])).expect(0);
    wait_until("another registry takes over", || {
        let mut command = crate::world::fleetform();
        command.arg("-C").arg(&clone).args(["apply", "--yes", "--take-over"]);
        let ran = Ran::of(&mut command);
        // It closes the run as failed: its journal is gone.
        assert!(ran.code == 3 || ran.stderr.contains("works on this fleet until"), "{ran:?}");
        ran.code == 3
    });
    site.wait_released();
    assert_eq!(site.file("lease.json").unwrap()["epoch"], json!(epoch + 1));
    // Both were taken at once: whoever is gone can renew nothing any more.
    let renewal = read_at(&site.repository(), &format!("{BRANCH}-lease"), "lease.json").unwrap();
    assert_eq!(renewal["epoch"], json!(epoch + 1));
    site.check_branch();
}

#[test]
fn a_server_that_refuses_the_branch_of_the_lease_gets_commits_and_the_log_says_it_once() {
    let site = Site::new("latency: 300ms", 30);
    hook(&site.remote(), "update", &format!("[ $1 != refs/heads/{BRANCH}-lease ] || {{ echo not here; exit 1; }}"));
    let server = Daemon::start(&site.served());
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &["--lease-time", "2s"]);
    for job in ["first", "second"] {
        site.job(job, REBOOT);
        site.wait_completed(job);
        site.wait_released();
        site.check_run(&[&watch.home], job);
    }
    assert_eq!(watch.count_said(&format!("does not take the branch {BRANCH}-lease")), 1, "{}", watch.said());
    assert!(watch.said().contains("not here"), "{}", watch.said());
    site.check_branch();
    watch.end();
}

#[test]
fn a_daemon_that_stood_still_writes_nothing_when_it_wakes_up() {
    let site = Site::new("latency: 150ms", 12);
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    let start = |name: &str| Watch::eager(&site, name, &url, &["--registry", &site.registry, "--lease-time", "2s"]);
    let mut both = [start("one"), start("two")];
    let homes: Vec<PathBuf> = both.iter().map(|watch| watch.home.clone()).collect();
    let homes: Vec<&Path> = homes.iter().map(PathBuf::as_path).collect();
    site.job("first", REBOOT);
    let said = "first run 1: running";
    wait_until("one of them works", || both.iter().any(|watch| watch.said().contains(said)));
    if both[1].said().contains(said) {
        both.reverse();
    }
    let [still, other] = &both;
    wait_until("it is in the middle", || site.executions(&homes).len() >= 2);
    still.signal(Signal::STOP);
    let (holder, epoch) = site.lease().unwrap();
    assert_eq!(holder, still.child.id());
    // The daemon names the other process.
    let mut command = crate::world::fleetform();
    command.arg("-C").arg(site.world.path()).args(["apply", "--yes", "--registry", &site.registry]);
    let held = Ran::of(&mut command).expect(75);
    assert!(held.stderr.contains(&format!("/{}/", still.child.id())), "{}", held.stderr);
    site.wait_completed("first");
    assert!(site.file("lease.json").unwrap()["epoch"].as_u64().unwrap() > epoch);
    // While it stands still, the other one goes on with the next.
    site.job("second", REBOOT);
    site.wait_completed("second");
    site.wait_released();
    let said = other.said().len();
    wait_until("the other one is at rest", || other.said()[said..].matches("fetched").count() >= 3);
    let tip = site.tip();
    still.signal(Signal::CONT);
    still.wait_said("another fleetform has taken over the work");
    let after = still.said().len();
    wait_until("it goes on", || still.said()[after..].matches("fetched").count() >= 3);
    assert_eq!(site.tip(), tip, "it wrote nothing");
    assert!(!still.said().contains("history was rewound"), "it is behind, no more");
    site.job("third", REBOOT);
    site.wait_completed("third");
    // And alone.
    let [still, mut other] = both;
    other.kill();
    site.job("fourth", REBOOT);
    site.wait_completed("fourth");
    site.wait_released();
    for job in ["first", "second", "third", "fourth"] {
        site.check_run(&homes, job);
    }
    site.check_branch();
    still.end();
}

#[test]
fn what_a_dead_daemon_could_not_push_is_published_by_the_next() {
    let site = Site::new("latency: 100ms", 6);
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    let start = |name: &str| Watch::eager(&site, name, &url, &["--registry", &site.registry]);
    let mut one = start("one");
    site.job("reboot", REBOOT);
    one.wait_said("reboot run 1: running");
    hook(&site.remote(), "update", NO_RESULTS);
    one.wait_said("reboot run 1: completed");
    one.wait_said("no results on Sundays");
    one.kill();
    fs::remove_file(site.remote().join("hooks/update")).unwrap();
    let two = start("two");
    site.wait_completed("reboot");
    site.wait_released();
    let record = site.file("runs/reboot/1/run.json").unwrap();
    assert_eq!((record["completed"].clone(), record["failed"].clone()), (json!(6), json!(0)), "{record}");
    // The first one still has it in its mirror.
    let one = start("one");
    site.job("dim", DIM);
    site.wait_completed("dim");
    site.wait_released();
    one.end();
    two.end();
    let one = start("one");
    one.wait_said("reconciled");
    site.wait_released();
    site.check_executions(&[&one.home], 6);
    site.check_branch();
    one.end();
}

#[test]
fn a_signal_lets_what_is_in_flight_end_and_the_next_start_goes_on() {
    let site = Site::new("latency: 250ms", 8);
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    site.job("reboot", REBOOT);
    let watch = Watch::eager(&site, "one", &url, &[]);
    let home = watch.home.clone();
    wait_until("it is in the middle", || !site.executions(&[&home]).is_empty());
    let signalled = Instant::now();
    watch.end();
    assert!(signalled.elapsed() < Duration::from_secs(10), "{:?}", signalled.elapsed());
    let executed = site.executions(&[&home]).len();
    assert!(executed < 8, "no new device starts");
    site.wait_released();
    let watch = Watch::eager(&site, "one", &url, &[]);
    site.wait_completed("reboot");
    site.wait_released();
    let record = site.file("runs/reboot/1/run.json").unwrap();
    assert_eq!((record["completed"].clone(), record["failed"].clone()), (json!(8), json!(0)), "{record}");
    site.check_executions(&[&home], 8);
    site.check_run(&[&home], "reboot");
    site.check_branch();
    watch.end();
}

#[test]
fn a_remote_that_stands_still_holds_up_neither_the_pages_nor_signals() {
    let site = Site::new("latency: 20ms", 2);
    let server = Daemon::start(&site.served());
    let proxy = CutProxy::start(server.port);
    let url = url_of("git", proxy.port, "fleet.git");
    let mut watch = Watch::eager(&site, "one", &url, &["--listen", "127.0.0.1:0", "--no-webhooks"]);
    wait_until("it is ready", || watch.unready().is_empty());
    site.wait_released();
    let gate = Gate::hold(&site.remote());
    site.job("reboot", REBOOT);
    gate.wait();
    proxy.set(Line::Stalled);
    let asked = Instant::now();
    assert_eq!(watch.ask("GET", "/healthz", "").0, 200);
    watch.signal(Signal::TERM);
    watch.wait_said("stopping");
    watch.signal(Signal::TERM);
    assert_eq!(watch.wait_ended().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    gate.open();
}

#[test]
fn a_remote_that_stands_still_holds_up_no_device() {
    let site = Site::new("latency: 100ms", 40);
    let server = Daemon::start(&site.served());
    let proxy = CutProxy::start(server.port);
    let url = url_of("git", proxy.port, "fleet.git");
    // Both the lease and the first job's outcome must be pushed while no answer comes back.
    let watch = Watch::eager(&site, "one", &url, &["--git-timeout", "300s", "--lease-time", "6s"]);
    watch.wait_said("following");
    let done = || site.executions(&[&watch.home]).len();
    let spec =
        |target| format!("{{target: {target}, delivery: {{batchSize: 1}}, action: {{command: {{name: reboot}}}}}}");
    site.world.job("first", &spec("{devices: [d-001, d-002, d-003, d-004]}"));
    site.job("second", &spec("{query: '*'}"));
    wait_until("the first devices are done", || done() > 2);
    proxy.set(Line::Stalled);
    let (stalled, before) = (Instant::now(), done());
    assert!(before < 30, "too fast to tell: {before}");
    // Some seconds for the devices, and half a second for each call that does not come back.
    wait_until("every device is done", || done() == 44);
    assert!(stalled.elapsed() < Duration::from_secs(60), "{:?}", stalled.elapsed());
    assert_eq!(site.status("second").as_deref(), None);
    proxy.set(Line::Whole);
    site.wait_completed("first");
    site.wait_completed("second");
    site.wait_released();
    site.check_run(&[&watch.home], "second");
    site.check_branch();
    watch.end();
}

#[test]
fn a_second_signal_ends_at_once() {
    let site = Site::new("latency: 20ms, devices: {d-001: {silent: true}}", 2);
    let server = Daemon::start(&site.served());
    site.job("reboot", REBOOT);
    let mut watch = Watch::eager(&site, "one", &server.url("fleet.git"), &["--grace", "600"]);
    wait_until("it is in the middle", || !site.executions(&[&watch.home]).is_empty());
    watch.signal(Signal::TERM);
    watch.wait_said("stopping");
    assert!(watch.child.try_wait().unwrap().is_none());
    let signalled = Instant::now();
    watch.signal(Signal::TERM);
    assert_eq!(watch.wait_ended().code(), Some(130));
    assert!(signalled.elapsed() < Duration::from_secs(2));
}

#[test]
fn a_daemon_that_is_killed_again_and_again_does_everything_once() {
    const KILLS: u64 = 20;
    let site = Site::new("latency: 30ms", 6);
    let server = Daemon::start(&site.served());
    let url = server.url("fleet.git");
    let mut random = fleetform::sim::Random::new(11);
    let home = site.folder.path().join("one");
    for n in 0..KILLS {
        site.job(&format!("reboot-{n}"), REBOOT);
        let mut watch = Watch::eager(&site, "one", &url, &[]);
        // The moment matters here, so nothing is awaited.
        std::thread::sleep(Duration::from_millis(random.between(30, 900)));
        watch.kill();
    }
    let watch = Watch::eager(&site, "one", &url, &[]);
    for n in 0..KILLS {
        site.wait_completed(&format!("reboot-{n}"));
        site.check_run(&[&home], &format!("reboot-{n}"));
    }
    site.wait_released();
    site.check_branch();
    watch.end();
}

#[test]
fn results_never_go_to_the_branch_that_is_followed() {
    let site = Site::new("latency: 20ms", 2);
    let fleet = fs::read_to_string(site.world.file("fleetform.yaml")).unwrap();
    site.job("reboot", REBOOT);
    let bad = fleet.replace("spec: {", "spec: {results: {branch: main}, ");
    assert_ne!(bad, fleet);
    site.world.write("fleetform.yaml", &bad);
    site.world.commit("Results on main");
    site.git_push(&["main"]);
    for command in [&["validate"][..], &["plan"], &["apply", "--yes"], &["init"]] {
        let ran = site.world.run(command);
        assert_eq!(ran.code, 65, "{command:?}: {ran:?}");
        assert!(ran.stderr.contains("FF612"), "{command:?}: {}", ran.stderr);
    }
    let (main, tip) = (site.repository().refname_to_id("refs/heads/main").unwrap(), site.tip());
    let watch = Watch::eager(&site, "one", &site.remote().display().to_string(), &[]);
    watch.wait_said("FF612");
    let said = watch.said().len();
    wait_until("it looks again", || watch.said()[said..].matches("fetched").count() >= 2);
    assert_eq!(watch.count_said("FF612"), 1);
    assert_eq!((site.repository().refname_to_id("refs/heads/main").unwrap(), site.tip()), (main, tip));
    site.world.write("fleetform.yaml", &fleet);
    site.world.commit("Results where they were");
    site.git_push(&["main"]);
    site.wait_completed("reboot");
    watch.end();
}

#[test]
fn an_idle_daemon_writes_nothing_here_or_there() {
    let site = Site::new("latency: 20ms", 2);
    let server = Daemon::start(&site.served());
    site.job("reboot", REBOOT);
    let watch = Watch::eager(&site, "one", &server.url("fleet.git"), &[]);
    site.wait_completed("reboot");
    site.wait_released();
    let looks = |count: usize| {
        let said = watch.said().len();
        wait_until("it looks", || watch.said()[said..].matches("fetched").count() >= count);
    };
    looks(2);
    let files = || {
        let mut found = BTreeMap::new();
        let mut folders = vec![watch.home.clone(), site.remote()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else if !entry.file_name().to_str().unwrap().starts_with("status.json") {
                    let modified = entry.metadata().unwrap().modified().unwrap();
                    found.insert(entry.path(), (modified, fs::read(entry.path()).unwrap()));
                }
            }
        }
        found
    };
    let before = files();
    looks(5);
    let after = files();
    let changed: Vec<_> = after.iter().filter(|(path, file)| before.get(*path) != Some(file)).collect();
    let changed: Vec<_> = changed.iter().map(|(path, _)| path).collect();
    assert!(changed.is_empty() && before.len() == after.len(), "{changed:?}");
    watch.end();
}
