//! A daemon under churn for a long time: a commit each second that adds, changes and removes jobs, a remote that goes
//! away now and then. The test watches its memory and its open files, and in the end checks that everything was done
//! once. Before that, it runs a day of virtual time with a commit each half hour in this process.
//!
//! ```text
//! cargo test --test soak                               20 seconds
//! FLEETFORM_SOAK_SECONDS=1800 cargo test --test soak   half an hour
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, reads its settings from the environment, waits for real and says what it \
        saw"
)]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use fleetform::execute::{Clock, Inbox, Progress, Wakeups};
use fleetform::ops::Environment;
use fleetform::ops::watch::{Note, WatchOptions, watch};
use fleetform::repo::Repo;
use jiff::Timestamp;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const BRANCH: &str = "fleetform/results";
const DEVICES: usize = 20;
/// Jobs that are declared at once, at most.
const JOBS_MAX: usize = 12;
/// The remote is away for the last seconds of each such time.
const AWAY_EVERY: u64 = 15;
const AWAY_SECONDS: u64 = 3;
/// Memory may grow by this share and so many bytes.
const GROWTH_SHARE_MAX: f64 = 1.1;
const GROWTH_BYTES_MAX: u64 = 4 << 20;
const GROWTH_FILES_MAX: u64 = 2;
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        println!("soak: test");
        return ExitCode::SUCCESS;
    }
    if arguments.iter().any(|argument| !argument.starts_with('-') && !"soak".contains(argument.as_str())) {
        return ExitCode::SUCCESS;
    }
    let seconds = std::env::var("FLEETFORM_SOAK_SECONDS").map_or(20, |text| text.parse().expect("a number of seconds"));
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    match day(&folder.path().join("day")).and_then(|()| soak(folder.path(), seconds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            eprintln!("{what}\nThe log is in {}.", folder.keep().display());
            ExitCode::FAILURE
        }
    }
}

/// Virtual time, which passes only while the daemon waits for it; ends the daemon after a day.
struct DayClock<'a> {
    now: Cell<Timestamp>,
    end: Timestamp,
    interrupt: &'a Inbox,
}

impl Clock for DayClock<'_> {
    fn now(&self) -> Timestamp {
        self.now.get()
    }

    fn wait(&self, time: Timestamp, inbox: &Inbox) -> Wakeups {
        if time >= self.end {
            self.interrupt.waker().interrupt();
        }
        self.now.set(self.now.get().max(time.min(self.end)));
        inbox.take()
    }
}

/// Follows a local branch for a day of virtual time, with a commit each half hour.
fn day(folder: &Path) -> Result<(), String> {
    let person = person(folder);
    let repo = Repo::open(&person).unwrap();
    let start: Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
    let interrupt = Inbox::new();
    let clock = DayClock { now: Cell::new(start), end: start + Duration::from_secs(24 * 3_600), interrupt: &interrupt };
    let (mut samples, mut looks, mut finished) = (Vec::new(), 0, 0);
    let mut tell = |note: &Note<'_>| match note {
        Note::Looked(look) => {
            looks += 1;
            let half_hours = look.at.duration_since(start).as_secs() / 1_800;
            if half_hours as usize > samples.len() {
                samples.push(sample(std::process::id()).unwrap());
                let name = format!("job-{half_hours}");
                fs::create_dir_all(person.join("jobs")).unwrap();
                let path = format!("jobs/{name}.yaml");
                let action = format!("{{command: {{name: reboot, payload: {half_hours}}}}}");
                fs::write(
                    person.join(&path),
                    document("Job", &name, &format!("{{target: {{query: '*'}}, action: {action}}}")),
                )
                .unwrap();
                repo.commit_files(&[path], &name).unwrap();
            }
        }
        Note::Progress(Progress::RunFinished { .. }) => finished += 1,
        _ => {}
    };
    let options = WatchOptions {
        gateway: None,
        trust: fleetform::ops::Trust { introduction: None, remembers: false },
        remote: None,
        branch: None,
        interval: Duration::from_secs(30),
        grace: Duration::from_secs(10),
        lease_time: Duration::from_secs(180),
        pulse: None,
        accepts_rewind: false,
        ports: fleetform::execute::Ports::REAL,
        has_events: true,
    };
    let environment = Environment { folder: person.clone(), ..Environment::default() };
    let watched = watch(&environment, &options, &clock, &interrupt, &mut tell);
    watched.map_err(|error| error.to_string())?;
    let (early, late) = (&samples[12], &samples[samples.len() - 1]);
    println!(
        "a day: {looks} looks, {finished} runs; at a quarter and at the end: {} and {} KiB, {} and {} files",
        early.bytes >> 10,
        late.bytes >> 10,
        early.files,
        late.files
    );
    if finished < 46 || looks < 2_880 {
        return Err("the day was too short".to_string());
    }
    check_growth((early.bytes, late.bytes), (early.files, late.files))
}

fn check_growth(bytes: (u64, u64), files: (u64, u64)) -> Result<(), String> {
    if bytes.1 as f64 > bytes.0 as f64 * GROWTH_SHARE_MAX + GROWTH_BYTES_MAX as f64 {
        return Err("memory grows".to_string());
    }
    if files.1 > files.0 + GROWTH_FILES_MAX {
        return Err("open files grow".to_string());
    }
    Ok(())
}

fn soak(folder: &Path, seconds: u64) -> Result<(), String> {
    let mut fleet = Fleet::new(folder);
    let mut daemon = Daemon::start(folder, &fleet.remote);
    let begun = Instant::now();
    let mut samples = Vec::new();
    for second in 1..=seconds {
        let is_away = second % AWAY_EVERY >= AWAY_EVERY - AWAY_SECONDS;
        fleet.set_away(is_away);
        if !is_away {
            fleet.churn(second);
        }
        std::thread::sleep((begun + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
        let sample = daemon.sample()?;
        if second % (seconds / 30).max(1) == 0 {
            println!("{second:>5} s  {:>7} KiB  {:>3} files", sample.bytes >> 10, sample.files);
        }
        samples.push(sample);
    }
    fleet.set_away(false);
    let declared = fleet.come_to_rest(&mut daemon)?;
    daemon.end()?;
    // Every plan reads more as the number of past runs grows; a freshly started daemon shows how much of the memory
    // that is.
    let mut fresh = Daemon::start(folder, &fleet.remote);
    fleet.churn(seconds + 1);
    fleet.come_to_rest(&mut fresh)?;
    let fresh_bytes = fresh.sample()?.bytes;
    fresh.end()?;
    let executions = fleet.check_executions(folder)?;
    let median = |part: &[Sample], of: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = part.iter().map(of).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let quarter = samples.len() / 4;
    let (early, late) = (&samples[quarter..2 * quarter], &samples[3 * quarter..]);
    let bytes = (median(early, |one| one.bytes), median(late, |one| one.bytes));
    // While a git is running there are five more.
    let least = |part: &[Sample]| part.iter().map(|one| one.files).min().unwrap_or_default();
    let files = (least(early), least(late));
    println!(
        "{seconds} s, {} commits, {} runs, {declared} jobs declared at the end, {executions} executions; the second \
            and the last quarter: \
         {} and {} KiB (median), {} and {} files (least); a fresh daemon: {} KiB",
        fleet.commits,
        fleet.runs.len(),
        bytes.0 >> 10,
        bytes.1 >> 10,
        files.0,
        files.1,
        fresh_bytes >> 10
    );
    check_growth((bytes.0.max(fresh_bytes), bytes.1), files)
}

fn document(kind: &str, name: &str, spec: &str) -> String {
    format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Makes a fleet with its results branch, and returns the folder of a person's work tree of it.
fn person(folder: &Path) -> PathBuf {
    let person = folder.join("person");
    fs::create_dir_all(&person).unwrap();
    let repo = Repo::open_or_init(&person).unwrap();
    let rows: String = (0..DEVICES).map(|n| format!("d-{n:03},Device {n},{}\n", n % 2)).collect();
    let spec = "{link: {simulated: {latency: 5ms, journal: devices.jsonl}}}";
    let files = [
        ("fleetform.yaml", document("Fleet", "acme", spec)),
        ("imports.yaml", document("DeviceImport", "all", "{file: devices.csv}")),
        ("devices.csv", format!("IOTC_DEVICEID,IOTC_DEVICENAME,TAG.parity\n{rows}")),
    ];
    for (path, text) in &files {
        fs::write(person.join(path), text).unwrap();
    }
    repo.commit_files(&files.map(|(path, _)| path.to_string()), "fleet").unwrap();
    fleetform::ops::init::init(&person, fleetform::ops::init::InitOptions::default()).unwrap();
    person
}

/// A bare repository that a person writes to.
struct Fleet {
    remote: PathBuf,
    is_away: bool,
    /// The declared jobs with their run tokens, the oldest first.
    jobs: VecDeque<(String, u64)>,
    commits: u64,
    /// All that were ever declared.
    runs: BTreeSet<(String, u64)>,
}

impl Fleet {
    fn new(folder: &Path) -> Fleet {
        let person = person(folder);
        let remote = folder.join("fleet.git");
        let cloned =
            Command::new("git").args(["clone", "--quiet", "--bare"]).arg(&person).arg(&remote).status().unwrap();
        assert!(cloned.success());
        Fleet { remote, is_away: false, jobs: VecDeque::new(), commits: 0, runs: BTreeSet::new() }
    }

    fn set_away(&mut self, is_away: bool) {
        let elsewhere = self.remote.with_extension("away");
        match (self.is_away, is_away) {
            (false, true) => fs::rename(&self.remote, elsewhere).unwrap(),
            (true, false) => fs::rename(elsewhere, &self.remote).unwrap(),
            (_, _) => {}
        }
        self.is_away = is_away;
    }

    /// Adds a job, gives another one a new run and takes the oldest away, by turns.
    fn churn(&mut self, second: u64) {
        if self.jobs.len() >= JOBS_MAX || (second % 6 == 2 && self.jobs.len() > 3) {
            self.jobs.pop_front();
        } else if second % 3 == 1 && !self.jobs.is_empty() {
            let at = (second as usize / 3) % self.jobs.len();
            self.jobs[at].1 += 1;
        } else {
            self.jobs.push_back((format!("job-{second}"), 1));
        }
        self.runs.extend(self.jobs.iter().cloned());
        self.commits += 1;
        let repository = git2::Repository::open_bare(&self.remote).unwrap();
        let parent = repository.find_reference("refs/heads/main").unwrap().peel_to_commit().unwrap();
        let mut folder = repository.treebuilder(None).unwrap();
        for (name, run) in &self.jobs {
            let number: u64 = name.trim_start_matches("job-").parse().unwrap();
            // Two jobs of one spec would be one that was renamed, and two that write the same tag are in conflict.
            let action = match number % 5 {
                0 => format!("{{tags: {{soak-{}: {number}-{run}}}}}", number % 50),
                _ => format!("{{command: {{name: reboot, payload: {number}}}}}"),
            };
            let target = format!("{{query: \"tags.parity = '{}'\"}}", number % 2);
            let text = document("Job", name, &format!("{{run: \"{run}\", target: {target}, action: {action}}}"));
            folder.insert(format!("{name}.yaml"), repository.blob(text.as_bytes()).unwrap(), 0o100_644).unwrap();
        }
        let folder = folder.write().unwrap();
        let mut root = repository.treebuilder(Some(&parent.tree().unwrap())).unwrap();
        root.insert("jobs", folder, 0o040_000).unwrap();
        let tree = repository.find_tree(root.write().unwrap()).unwrap();
        let author = git2::Signature::now("Person", "person@example.com").unwrap();
        repository.commit(Some("refs/heads/main"), &author, &author, "churn", &tree, &[&parent]).unwrap();
    }

    /// Waits until all that is declared is done and the remote does not move any more.
    fn come_to_rest(&self, daemon: &mut Daemon) -> Result<usize, String> {
        let since = Instant::now();
        let mut still_since = Instant::now();
        let mut tip = None;
        while since.elapsed() < PATIENCE {
            daemon.sample()?;
            let repository = git2::Repository::open_bare(&self.remote).unwrap();
            let now = repository.find_reference(&format!("refs/heads/{BRANCH}")).unwrap().peel_to_commit().unwrap();
            if tip != Some(now.id()) {
                (tip, still_since) = (Some(now.id()), Instant::now());
            }
            let tree = now.tree().unwrap();
            let read = |path: String| {
                let blob =
                    tree.get_path(Path::new(&path)).ok().and_then(|entry| repository.find_blob(entry.id()).ok())?;
                serde_json::from_slice::<Value>(blob.content()).ok()
            };
            let is_done = |(name, run): &(String, u64)| {
                read(format!("runs/{name}/{run}/run.json")).is_some_and(|record| record["status"] == "completed")
            };
            let is_free = read("lease.json".to_string()).is_some_and(|lease| lease["owner"] == "");
            if self.jobs.iter().all(is_done) && is_free && still_since.elapsed() > Duration::from_secs(5) {
                return Ok(self.jobs.len());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        Err(format!("not everything that is declared was done within {PATIENCE:?}"))
    }

    /// Demands that no device executed anything twice.
    fn check_executions(&self, folder: &Path) -> Result<usize, String> {
        let text = fs::read_to_string(folder.join("daemon/devices.jsonl")).unwrap_or_default();
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
            *counts.entry(line["execution_id"].to_string()).or_default() += 1;
        }
        match counts.iter().find(|(_, count)| **count > 1) {
            Some((id, count)) => Err(format!("{id} was executed {count} times")),
            None => Ok(counts.len()),
        }
    }
}

struct Sample {
    bytes: u64,
    files: u64,
}

/// Looks at a process.
fn sample(process: u32) -> Result<Sample, String> {
    let folder = PathBuf::from(format!("/proc/{process}"));
    let text = fs::read_to_string(folder.join("status")).map_err(|error| error.to_string())?;
    let resident =
        text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse::<u64>().ok());
    let files = fs::read_dir(folder.join("fd")).map_err(|error| error.to_string())?.count() as u64;
    Ok(Sample { bytes: resident.ok_or("no VmRSS")? << 10, files })
}

/// The daemon, killed when dropped.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    fn start(folder: &Path, remote: &Path) -> Daemon {
        let log = folder.join("daemon.log");
        let file = File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetform"));
        command.arg("-C").arg(folder.join("daemon")).args(["watch", "--interval", "1s", "--remote"]).arg(remote);
        command.env_remove("FLEETFORM_REGISTRY").env("NO_COLOR", "1").env("XDG_CONFIG_HOME", folder.join("nobody"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Daemon { child: command.spawn().unwrap(), log }
    }

    fn sample(&mut self) -> Result<Sample, String> {
        if let Some(status) = self.child.try_wait().unwrap() {
            return Err(format!(
                "the daemon ended with {status}:\n{}",
                fs::read_to_string(&self.log).unwrap_or_default()
            ));
        }
        sample(self.child.id())
    }

    fn end(&mut self) -> Result<(), String> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).map_err(|error| error.to_string())?;
        let status = self.child.wait().map_err(|error| error.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the daemon ended with {status}")) }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
