//! A registry in PostgreSQL, beside plain SQL that comes to the same, in a cluster of its own that waits for the disk.
//!
//! Both have a database with the same devices: 18 columns, with twins of about 200 bytes in four of them. Each pair is
//! measured in turns (the floor first, then ours, then the other way round), and the least of each is shown: the machine
//! may be shared. Before each phase there is a checkpoint, so that each writes whole pages to the log alike. Nothing is
//! vacuumed meanwhile.
//!
//! * import: a line is parsed into the values that it inserts; a binary COPY into a temporary table; a merge into the
//!   devices and one into their keys;
//! * observation: id, blocked, one path, sorted, streamed;
//! * property: lean sets of 1,000 (not blocked, changed, below the size, the run's row locked) with their outcomes, each
//!   in one round trip from BEGIN to COMMIT; outcomes and names out by COPY into a CSV, and its commit;
//! * commands: a transaction of 1,000 marks, then one of their outcomes, of so few statements as there are tables.
//!
//! `--alone` measures the commands of a large fleet without floors.
//!
//! The processor time is that of the phase's process, and of the processes of the server that it had.

#[path = "postgres/ours.rs"]
mod ours;
#[path = "../../tests/it/cluster/programs.rs"]
#[allow(clippy::unwrap_used, reason = "the tests have it too, and a benchmark without a server is over")]
mod programs;
#[path = "postgres/raw.rs"]
mod raw;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use fleetform::ops::init;
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

use crate::{Failure, commit, declare_job, output_of, peak_kib};

/// Ticks of a second in `/proc` (`USER_HZ`, the same on every Linux).
const TICKS: u64 = 100;
/// How long the server may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);
const SETTINGS: &[&str] = &[
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "shared_buffers=1GB",
    "max_wal_size=8GB",
    "checkpoint_timeout=1h",
    "fsync=on",
    "synchronous_commit=on",
    "autovacuum=off",
    "log_min_messages=fatal",
    "timezone=UTC",
];

/// What is measured, and the most that it may take beside its floor.
struct Pair {
    what: &'static str,
    floor: &'static str,
    ours: &'static str,
    must: &'static str,
}

/// The phases that fill the databases.
const IMPORTS: &[Pair] = &[
    Pair { what: "import, the registry", floor: "pg-raw-import", ours: "pg-import", must: "2.0" },
    Pair { what: "import, all of apply", floor: "pg-raw-import", ours: "pg-import-all", must: "" },
];
/// The phases behind them, in their order; each works on what the ones before have left.
const JOBS: &[Pair] = &[
    Pair { what: "plan, the observation", floor: "pg-raw-observe", ours: "pg-observe", must: "2.0" },
    Pair { what: "plan, all of it", floor: "pg-raw-observe", ours: "pg-plan-all", must: "2.0" },
    Pair { what: "property, the registry", floor: "pg-raw-apply", ours: "pg-apply", must: "1.5" },
    Pair { what: "  its results only", floor: "pg-raw-results", ours: "pg-results", must: "" },
    Pair { what: "commands, the registry", floor: "pg-raw-commands", ours: "pg-commands", must: "1.5" },
];

/// Runs all phases and prints the table.
pub fn measure(folder: &Path, devices: u32, rounds: u32) -> Result<(), Failure> {
    let cluster = prepare(folder, devices)?;
    println!("{devices} devices in PostgreSQL, the least of {rounds} rounds; load {}\n", load());
    println!(
        "{:<22} {:>16} {:>6} {:>5} {:>13} {:>14} {:>6} {:>15}",
        "what", "seconds", "ratio", "must", "client CPU", "server CPU", "MiB", "log MB"
    );
    for pair in IMPORTS {
        measure_pair(folder, &cluster, pair, rounds)?;
    }
    withdraw_import(folder)?;
    declare_job(folder)?;
    for pair in JOBS {
        measure_pair(folder, &cluster, pair, rounds)?;
    }
    forget_runs(&cluster)?;
    // Once: the job has run then.
    std::fs::write(folder.join("round"), rounds.to_string())?;
    let floor = cluster.phase("pg-raw-apply", folder)?;
    row("property, all of apply", &floor, &cluster.phase("pg-apply-all", folder)?, "");
    println!(
        "\nseconds, processor time and log: floor, then ours. A process must stay below 200 MiB, and a client below"
    );
    println!("5 s of processor time a million devices. Load at the end: {}", load());
    Ok(())
}

/// Runs the commands alone, once and without floors, which need as much room on the disk again.
pub fn measure_alone(folder: &Path, devices: u32) -> Result<(), Failure> {
    let cluster = prepare(folder, devices)?;
    println!("{devices} devices in PostgreSQL; load {}\n", load());
    println!(
        "{:<22} {:>9} {:>12} {:>12} {:>6} {:>8} {:>12}",
        "what", "seconds", "client CPU", "server CPU", "MiB", "log MB", "database MB"
    );
    for (what, name) in
        [("import", "pg-import-all"), ("plan of a property", "pg-plan-all"), ("apply of it", "pg-apply-all")]
    {
        if name == "pg-plan-all" {
            withdraw_import(folder)?;
            declare_job(folder)?;
        }
        let ours = cluster.phase(name, folder)?;
        println!(
            "{what:<22} {:>9.2} {:>12.2} {:>12.2} {:>6} {:>8.0} {:>12}",
            ours.took.as_secs_f64(),
            ours.client.as_secs_f64(),
            ours.server.as_secs_f64(),
            ours.peak_kib / 1024,
            ours.log as f64 / 1e6,
            cluster.session()?.one("SELECT pg_database_size('ours') / 1000000")?,
        );
    }
    println!("\nload at the end: {}", load());
    Ok(())
}

/// Starts a server, and makes a fleet with one import.
fn prepare(folder: &Path, devices: u32) -> Result<Cluster, Failure> {
    let cluster = Cluster::start()?;
    std::fs::write(folder.join("port"), cluster.port.to_string())?;
    std::fs::write(folder.join("devices"), devices.to_string())?;
    let fleet = folder.join("fleet");
    init::init(&fleet, init::InitOptions::default())?;
    raw::make_lines(&fleet.join("devices.jsonl"), devices)?;
    let import = "apiVersion: fleetform/v1\nkind: DeviceImport\nmetadata: {name: all}\nspec: {file: devices.jsonl}\n";
    commit(&fleet, "import.yaml", import, &["devices.jsonl"])?;
    Ok(cluster)
}

/// Measures a floor and ours in turns, and prints the least of each.
fn measure_pair(folder: &Path, cluster: &Cluster, pair: &Pair, rounds: u32) -> Result<(), Failure> {
    let (mut floor, mut ours): (Option<Measured>, Option<Measured>) = (None, None);
    for round in 0..rounds {
        let mut turns = [(pair.floor, &mut floor), (pair.ours, &mut ours)];
        if round % 2 == 1 {
            turns.reverse();
        }
        for (name, least) in turns {
            std::fs::write(folder.join("round"), round.to_string())?;
            let measured = cluster.phase(name, folder)?;
            if least.as_ref().is_none_or(|least| measured.took < least.took) {
                *least = Some(measured);
            }
        }
    }
    let (Some(floor), Some(ours)) = (floor, ours) else { return Err("there is one round at least".into()) };
    row(pair.what, &floor, &ours, pair.must);
    Ok(())
}

fn row(what: &str, floor: &Measured, ours: &Measured, must: &str) {
    println!(
        "{what:<22} {:>7.2} {:>8.2} {:>6.2} {must:>5} {:>6.2} {:>6.2} {:>7.2} {:>6.2} {:>6} {:>7.0} {:>7.0}",
        floor.took.as_secs_f64(),
        ours.took.as_secs_f64(),
        ours.took.as_secs_f64() / floor.took.as_secs_f64(),
        floor.client.as_secs_f64(),
        ours.client.as_secs_f64(),
        floor.server.as_secs_f64(),
        ours.server.as_secs_f64(),
        ours.peak_kib / 1024,
        floor.log as f64 / 1e6,
        ours.log as f64 / 1e6,
    );
}

/// Takes the import out of the fleet: a plan would read all of its file, to see that it has not changed.
fn withdraw_import(folder: &Path) -> Result<(), Failure> {
    for arguments in [&["rm", "-q", "import.yaml", "devices.jsonl"][..], &["commit", "-q", "-m", "withdraw"]] {
        let identity = ["-c", "user.name=bench", "-c", "user.email=bench@localhost", "-c", "commit.gpgsign=false"];
        if !Command::new("git").current_dir(folder.join("fleet")).args(identity).args(arguments).status()?.success() {
            return Err("the import cannot be taken back".into());
        }
    }
    Ok(())
}

/// Takes the runs back that only the registry has had: the results branch knows nothing of them.
fn forget_runs(cluster: &Cluster) -> Result<(), Failure> {
    let session = Session::open(&format!("postgres://postgres@127.0.0.1:{}/ours", cluster.port))?;
    session.run(
        "SET search_path = fleetform; DELETE FROM run; TRUNCATE outcome, sent, late;
         UPDATE meta SET value = '0' WHERE key IN ('epoch', 'sends')",
    )
}

/// Runs a phase, and prints what it took.
pub fn run_phase(name: &str, folder: &Path) -> Result<(), Failure> {
    let begun = Instant::now();
    match name {
        "pg-raw-import" => raw::import(folder)?,
        "pg-import" => ours::import(folder)?,
        "pg-import-all" | "pg-apply-all" => ours::apply_all(folder)?,
        "pg-plan-all" => ours::plan_all(folder)?,
        "pg-raw-observe" => raw::observe(folder)?,
        "pg-observe" => ours::observe(folder)?,
        "pg-raw-apply" => raw::apply(folder)?,
        "pg-apply" => ours::apply(folder)?,
        "pg-raw-results" => raw::results(folder, raw::number(folder, "round")?.into())?,
        "pg-results" => ours::results(folder)?,
        "pg-raw-commands" => raw::commands(folder)?,
        "pg-commands" => ours::commands(folder)?,
        other => return Err(format!("there is no phase {other}").into()),
    }
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    println!("{} {} {}", begun.elapsed().as_micros(), peak_kib(), ticks(&stat, 11) * 1000 / TICKS);
    Ok(())
}

/// Returns the URL of one of the databases.
fn url(folder: &Path, database: &str) -> Result<String, Failure> {
    let port = std::fs::read_to_string(folder.join("port"))?;
    Ok(format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable"))
}

/// What a phase took.
struct Measured {
    took: Duration,
    peak_kib: u64,
    client: Duration,
    server: Duration,
    /// Bytes of the log of the server (WAL).
    log: i64,
}

/// A client, on a runtime of its own.
struct Session {
    client: Client,
    runtime: Runtime,
}

impl Session {
    fn open(url: &str) -> Result<Session, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (client, connection) = runtime.block_on(tokio_postgres::connect(url, NoTls))?;
        runtime.spawn(connection);
        Ok(Session { client, runtime })
    }

    /// Returns the value of a statement that has one.
    fn one(&self, text: &str) -> Result<i64, Failure> {
        Ok(self.runtime.block_on(self.client.query_one(text, &[]))?.try_get(0)?)
    }

    fn run(&self, text: &str) -> Result<(), Failure> {
        Ok(self.runtime.block_on(self.client.batch_execute(text))?)
    }
}

/// A server with a data folder of its own.
struct Cluster {
    process: Child,
    watcher: programs::Watcher,
    folder: PathBuf,
    port: u16,
    /// The processes of the server while it has no client.
    processes: usize,
}

impl Cluster {
    fn start() -> Result<Cluster, Failure> {
        let folder = tempfile::tempdir()?.keep();
        let watcher = programs::Watcher::start(&folder);
        programs::give_to_user(&folder);
        programs::initialize(&folder);
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let settings: Vec<String> = SETTINGS.iter().map(ToString::to_string).collect();
        let process = programs::server(&folder, port, &settings).spawn()?;
        let mut cluster = Cluster { process, watcher, folder, port, processes: 0 };
        let begun = Instant::now();
        while cluster.session().is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(format!("PostgreSQL does not start: see {}/log", cluster.folder.display()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // The one that answered ends meanwhile.
        std::thread::sleep(Duration::from_secs(1));
        cluster.processes = cluster.server_processes()?;
        Ok(cluster)
    }

    fn session(&self) -> Result<Session, Failure> {
        Session::open(&format!("postgres://postgres@127.0.0.1:{}/postgres", self.port))
    }

    /// Runs a phase in a process of its own.
    fn phase(&self, name: &str, folder: &Path) -> Result<Measured, Failure> {
        let session = self.session()?;
        if name.contains("import") {
            let database = if name == "pg-raw-import" { "raw" } else { "ours" };
            session.run(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)"))?;
            session.run(&format!("CREATE DATABASE {database} TEMPLATE template0"))?;
        }
        session.run("CHECKPOINT")?;
        let written = "SELECT (pg_current_wal_lsn() - '0/0')::bigint";
        let (log, server) = (session.one(written)?, self.server_ticks()?);
        let text = output_of(name, folder)?;
        // What a process of the server took is known when it is gone.
        while self.server_processes()? > self.processes + 1 {
            std::thread::sleep(Duration::from_millis(5));
        }
        let numbers: Vec<u64> = text.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
        let [micros, peak_kib, client] = numbers[..] else { return Err("a phase prints three numbers".into()) };
        Ok(Measured {
            took: Duration::from_micros(micros),
            peak_kib,
            client: Duration::from_millis(client),
            server: Duration::from_millis((self.server_ticks()? - server) * 1000 / TICKS),
            log: session.one(written)? - log,
        })
    }

    /// Returns how many processes the server has.
    fn server_processes(&self) -> Result<usize, Failure> {
        let id = self.process.id();
        Ok(std::fs::read_to_string(format!("/proc/{id}/task/{id}/children"))?.split_whitespace().count())
    }

    /// Returns the processor time of those processes of the server that have ended.
    fn server_ticks(&self) -> Result<u64, Failure> {
        Ok(ticks(&std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?, 13))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.watcher.end();
        let _ = self.process.wait();
    }
}

/// Returns the sum of a field of `/proc/…/stat` behind the name (proc(5)) and the one after it.
fn ticks(stat: &str, field: usize) -> u64 {
    let behind = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    behind.split_whitespace().skip(field).take(2).filter_map(|text| text.parse::<u64>().ok()).sum()
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split_whitespace().take(3).collect::<Vec<_>>().join(" ")
}
