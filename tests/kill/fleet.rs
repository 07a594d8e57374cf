//! A fleet in a folder of its own, and the binary that applies it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use fleetform::repo::Repo;

/// The name of the fleet: a part of every run key, and so of every execution id.
pub const FLEET: &str = "acme";
pub const BRANCH: &str = "fleetform/results";
/// Devices of the fleet, four rings of them.
pub const DEVICES: usize = 240;
/// Failures above which `trip` is canceled.
pub const TRIP_FAILURES: u64 = 3;

/// What kind of work a job is, as far as the outcomes of a run may differ from those of one that nobody disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writes the registry.
    Write,
    /// A command that may be sent again.
    Idempotent,
    /// A command that is never sent twice.
    Once,
    /// The same, and its threshold is crossed.
    Canceled,
}

/// A job. `{g}` in its action stands for the generation.
pub struct Job {
    pub name: &'static str,
    pub kind: Kind,
    target: &'static str,
    action: &'static str,
    /// Whatever else is in its spec.
    rest: &'static str,
    /// It gets a new run token only with every so many generations.
    every: u64,
}

/// The jobs.
pub const JOBS: &[Job] = &[
    Job {
        name: "dim",
        kind: Kind::Write,
        target: "{query: '*'}",
        action: "{property: {light: {level: {g}}}}",
        rest: "delivery: {batchSize: 6}",
        every: 1,
    },
    Job {
        name: "wave",
        kind: Kind::Write,
        target: "{query: '*'}",
        action: "{tags: {wave: {g}}}",
        rest: "delivery: {batchSize: 10}",
        every: 1,
    },
    Job {
        name: "owner",
        kind: Kind::Write,
        target: "{query: \"tags.ring != 'd'\"}",
        action: "{cloudProperty: {owner: 'team {g}'}}",
        rest: "delivery: {batchSize: 40}",
        every: 1,
    },
    Job {
        name: "again",
        kind: Kind::Idempotent,
        target: "{query: \"tags.ring = 'a'\"}",
        action: "{command: {name: sync, idempotent: true}}",
        rest: "delivery: {batchSize: 12, retry: {attempts: 3, backoff: 1s}}",
        every: 1,
    },
    Job {
        name: "once",
        kind: Kind::Once,
        target: "{query: \"tags.ring = 'b'\"}",
        action: "{command: {name: reboot}}",
        rest: "delivery: {batchSize: 9}",
        every: 1,
    },
    Job {
        name: "trip",
        kind: Kind::Canceled,
        target: "{query: \"tags.ring = 'c'\"}",
        action: "{command: {name: flash}}",
        rest: "delivery: {batchSize: 6, cancellationThreshold: {failures: 3, per: job}}",
        every: 1,
    },
    Job {
        name: "then",
        kind: Kind::Once,
        target: "{query: \"tags.ring = 'b'\"}",
        action: "{command: {name: report}}",
        rest: "after: [once], delivery: {batchSize: 20}",
        every: 1,
    },
    // Waits for seconds, so it is not always there: for the slow devices, which answer only after the first attempt has
    // timed out, and for one that never answers.
    Job {
        name: "patient",
        kind: Kind::Idempotent,
        target: "{devices: [d-003, d-007, d-011, d-015]}",
        action: "{command: {name: locate, idempotent: true, connectTimeout: 1s, responseTimeout: 1s}}",
        rest: "delivery: {batchSize: 3, retry: {attempts: 1, backoff: 1s}}",
        every: 6,
    },
];

impl Job {
    /// Returns the run token that it has in a generation, `None` when it is not there yet.
    pub fn run(&self, generation: u64) -> Option<u64> {
        Some(generation - generation % self.every).filter(|run| *run > 0)
    }
}

/// Returns true for a generation with jobs that wait for seconds.
pub fn is_patient(generation: u64) -> bool {
    JOBS.iter().any(|job| job.every > 1 && job.run(generation) == Some(generation))
}

/// A repository, a registry and devices.
pub struct Fleet {
    folder: PathBuf,
}

impl Fleet {
    /// Makes a fleet with its results branch and nothing to do.
    pub fn new(folder: &Path) -> Fleet {
        fs::create_dir_all(folder).unwrap();
        let fleet = Fleet { folder: folder.to_path_buf() };
        Repo::open_or_init(folder).unwrap();
        fleet.write(".gitignore", ".fleetform/\ndevices.jsonl\n*.log\n");
        let devices =
            "d-003: {latency: 1200ms, answers: 200}, d-007: {latency: 1200ms, answers: 409}, d-011: {silent: true}";
        let failing: String = (30..50).map(|n| format!(", {}: {{answers: 500}}", device_id(n * 4 + 2))).collect();
        let link = format!(
            "{{seed: 7, latency: 30ms, failures: 6%, journal: devices.jsonl, devices: {{{devices}{failing}}}}}"
        );
        fleet.document("fleetform.yaml", "Fleet", FLEET, &format!("{{link: {{simulated: {link}}}}}"));
        fleet.commit(&[".gitignore", "fleetform.yaml"]);
        let ended = fleet.binary(&["init"]).status().unwrap();
        assert!(ended.success(), "{}", fleet.said());
        fleet
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    pub fn registry(&self) -> PathBuf {
        self.path(".fleetform/fleet.db")
    }

    /// Commits new values and new run tokens: every job has something to do again.
    pub fn declare(&self, generation: u64) {
        let row = |n: usize| format!("{},Device {n},{},{generation}\n", device_id(n), ["a", "b", "c", "d"][n % 4]);
        let rows: String = (0..DEVICES).map(row).collect();
        self.write("devices.csv", &format!("IOTC_DEVICEID,IOTC_DEVICENAME,TAG.ring,TAG.generation\n{rows}"));
        self.document("imports.yaml", "DeviceImport", "all", "{file: devices.csv}");
        let mut files = vec!["devices.csv".to_string(), "imports.yaml".to_string()];
        for job in JOBS {
            let Job { name, target, action, rest, .. } = job;
            let Some(run) = job.run(generation) else { continue };
            let action = action.replace("{g}", &run.to_string());
            let path = format!("jobs/{name}.yaml");
            self.document(
                &path,
                "Job",
                name,
                &format!("{{run: \"{run}\", target: {target}, action: {action}, {rest}}}"),
            );
            files.push(path);
        }
        self.commit(&files.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Starts an apply.
    pub fn start(&self) -> Running<'_> {
        Running { fleet: self, child: self.binary(&["apply", "--yes"]).spawn().unwrap(), since: Instant::now() }
    }

    /// Applies without being disturbed and returns how long it took.
    ///
    /// # Errors
    /// It failed.
    pub fn apply(&self) -> Result<Duration, String> {
        let took = self.start().wait(Duration::MAX)?;
        Ok(took.expect("nobody kills it"))
    }

    /// Returns what the last process said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.path("said.log")).unwrap_or_default()
    }

    fn binary(&self, arguments: &[&str]) -> Command {
        let log = File::create(self.path("said.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_fleetform"));
        command.arg("-C").arg(&self.folder).args(arguments).env_remove("FLEETFORM_REGISTRY").env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        command
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn document(&self, path: &str, kind: &str, name: &str, spec: &str) {
        let head = format!("apiVersion: fleetform/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n");
        self.write(path, &format!("{head}spec: {spec}\n"));
    }

    fn commit(&self, paths: &[&str]) {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        Repo::open(&self.folder).unwrap().commit_files(&paths, "people").unwrap();
    }
}

/// A process that applies.
pub struct Running<'a> {
    fleet: &'a Fleet,
    child: Child,
    since: Instant,
}

impl Running<'_> {
    /// Waits for its end, at most so long: then it is killed with SIGKILL, and there is `None` to return. Returns how
    /// long it took.
    ///
    /// # Errors
    /// It ended otherwise than well.
    pub fn wait(mut self, most: Duration) -> Result<Option<Duration>, String> {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.since.elapsed() >= most {
                self.child.kill().unwrap();
                let status = self.child.wait().unwrap();
                // It may have ended by itself just before.
                if status.code().is_none() {
                    return Ok(None);
                }
                break status;
            }
            std::thread::sleep(Duration::from_micros(300));
        };
        let took = self.since.elapsed();
        match status.code() {
            // 3: `trip` is canceled, as it should be.
            Some(0 | 3) => Ok(Some(took)),
            _ => Err(format!("an apply ended with {status}:\n{}", self.fleet.said())),
        }
    }
}

/// Returns the id of a device, counted from 0.
pub fn device_id(number: usize) -> String {
    format!("d-{number:03}")
}
