//! The pages of a fleet with many devices and runs, each beside its raw floor: what it shows, read by hand.
//!
//! The runs have ended, a tenth of them with failures, and one of them has all devices. They are written by hand, with
//! the writers of the results: a pack for some of them, one transaction for the registry. Pages are asked of the binary,
//! each over a connection of its own, as the server wants it. A first request comes after the start, when nothing is
//! known yet.
//!
//! Then the daemon runs jobs on all devices, one after the other: without visitors, with [`OPEN_PAGES`] open pages, and
//! in a flood of requests, each for [`CROWD_TIME`] or longer; of each kind the job in the middle counts. An open page has
//! a stream of events, and is read again when one comes, at most once a second. The flood has slow readers and half-open
//! connections. Visitors would be at other machines: here they have the lowest priority, and what the daemon and its
//! pages take of the processor is told apart.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fleetform::ledger::{Claim, Published, RunRecord, claim_path};
use fleetform::listen::lower_priority;
use fleetform::model::digest::Digest;
use fleetform::model::id::RunToken;
use fleetform::model::job::Job;
use fleetform::model::outcome::{Counts, Outcome, Reason, RunStatus};
use fleetform::prepare::load;
use fleetform::repo::Repo;
use fleetform::results::{Shard, Trailers, document, shard_path, with_trailers};
use git2::Repository;
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;

use crate::reconcile::{RESULTS, Run, import, journal};
use crate::{Failure, apply_at, commit, environment};

/// Runs of each job.
const RUNS_OF_JOB: u32 = 20;
/// Devices of each run.
const ROWS: u32 = 100;
/// Devices of a shard of the large run.
const SHARD_ROWS: u32 = 50_000;
/// Runs that are committed together.
const RUNS_OF_COMMIT: usize = 50;
const GROUPS: u32 = 5;
/// Requests of a page, unless they take too long together.
const REQUESTS: usize = 200;
/// The pause between two of them: an address that asks more often is told to come again.
const PACE: Duration = Duration::from_millis(10);
const TIME_MAX: Duration = Duration::from_secs(4);
const OPEN_PAGES: u32 = 100;
const RELOAD: Duration = Duration::from_secs(1);
/// Jobs without a crowd before it and behind it, and how long a crowd is there.
const ALONE: u32 = 3;
const CROWD_TIME: Duration = Duration::from_secs(30);
/// Requests a second of a flood, and its connections.
const FLOOD: u64 = 10_000;
const FLOODING: u64 = 16;
const IDLING: usize = 50;
/// Requests of a thread that wait for their answers, and how long one of them waits that has to make room.
const OUTSTANDING: usize = 40;
const PATIENCE: Duration = Duration::from_millis(2);

/// A process that ends with this value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Measures and prints the tables.
pub fn measure(folder: &Path, devices: u32, runs: u32) -> Result<(), Failure> {
    let began = Instant::now();
    make(folder, devices, runs)?;
    println!("{devices} devices, {runs} runs; made in {:.0} s\n", began.elapsed().as_secs_f64());
    pages(folder, devices)?;
    beside(folder, devices)
}

/// Makes the fleet.
fn make(folder: &Path, devices: u32, runs: u32) -> Result<(), Failure> {
    crate::make_fleet(folder, devices)?;
    let fleet = environment(folder).folder;
    commit(&fleet, "fleetform.yaml", &fleet_text(), &[])?;
    apply_at(&environment(folder))?;
    crate::give_twins(folder)?;
    let jobs = (0..runs / RUNS_OF_JOB).map(|n| (format!("jobs/{n}.yaml"), job_text(&format!("job-{n}"), n % 7)));
    let groups = (0..GROUPS).map(|n| {
        let head = format!("apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {{name: group-{n}}}\n");
        (format!("groups/{n}.yaml"), format!("{head}spec: {{query: \"tags.building = '{n}'\"}}\n"))
    });
    let schedule = "apiVersion: fleetform/v1\nkind: Schedule\nmetadata: {name: nightly}\nspec:\n  \
                    start: 2099-01-01T02:30:00\n  timeZone: UTC\n  recurrence: daily\n  job:\n    \
                    target: {query: \"tags.line = '3'\"}\n    action: {command: {name: reboot}}\n";
    let others = [("big.yaml".to_string(), job_text("big", 0)), ("nightly.yaml".to_string(), schedule.to_string())];
    let files = jobs.chain(groups).chain(others).map(|(path, text)| (path, text.into_bytes()));
    import(&fleet, "HEAD", "declare", files)?;
    let status = Command::new("git").args(["reset", "--quiet", "--hard"]).current_dir(&fleet).status()?;
    assert!(status.success(), "the files are checked out");
    write_runs(&fleet, devices)
}

fn fleet_text() -> String {
    "apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {name: fleet}\nspec: {link: {simulated: {latency: 0s}}}\n"
        .to_string()
}

fn job_text(name: &str, line: u32) -> String {
    format!(
        "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  run: '{RUNS_OF_JOB}'\n  \
         target: {{query: \"tags.line = '{line}'\"}}\n  action: {{property: {{light: {{threshold: 3}}}}}}\n"
    )
}

/// A run that has ended, and the devices that it begins with.
struct Ended {
    claim: Claim,
    record: RunRecord,
    first: u32,
    failing: u32,
}

impl Ended {
    fn of(job: &Job, head: &str, (run, at): (&str, Timestamp), (first, rows, failing): (u32, u32, u32)) -> Ended {
        let claim = Claim {
            job: job.name.clone(),
            run: RunToken::parse(run).expect("a number is a token"),
            spec_digest: job.spec_digest,
            total: u64::from(rows),
            targets_digest: Digest::of_texts([]),
            source_commit: head.to_string(),
            plan_id: Digest::of_texts(["bench"]).to_string(),
            claimed_at: at,
        };
        let failed = (0..rows).filter(|n| failing > 0 && n % failing == 0).count() as u64;
        let total = u64::from(rows);
        let counts = Counts { total, completed: total - failed, failed, unchanged: 0 };
        let record = RunRecord {
            status: RunStatus::Completed,
            counts,
            started_at: Some(at),
            finished_at: Some(at),
            per_batch: RunRecord::batches_of(&[counts]),
            published: Published { devices: rows, shards: rows.div_ceil(SHARD_ROWS) },
            ..RunRecord::of_claim(&claim)
        };
        Ended { claim, record, first, failing }
    }

    fn files(&self, fleet: &fleetform::model::id::Name) -> Vec<(String, Vec<u8>)> {
        let Ended { claim, record, first, failing } = self;
        let folder = claim.key(fleet).results_folder();
        let mut files = vec![
            (claim_path(&claim.job, &claim.run), document(&claim.to_json(fleet))),
            (format!("{folder}/run.json"), document(&record.to_json())),
        ];
        let rows = record.published.devices;
        for number in 0..record.published.shards {
            let mut shard = Shard::new();
            for n in number * SHARD_ROWS..rows.min((number + 1) * SHARD_ROWS) {
                let is_failed = *failing > 0 && n % failing == 0;
                let outcome = Outcome {
                    ordinal: n,
                    reason: if is_failed { Reason::Rejected } else { Reason::Written },
                    code: is_failed.then_some(500),
                    message: if is_failed { "the valve is stuck".to_string() } else { String::new() },
                    attempts: 1,
                    started_at: record.started_at,
                    finished_at: record.finished_at,
                };
                let device = first + n;
                shard.push(&format!("device-{device:07}"), &format!("Device {device}"), &outcome, 1);
            }
            files.push((shard_path(&folder, number + 1), shard.into_bytes()));
        }
        files
    }
}

fn write_runs(fleet: &Path, devices: u32) -> Result<(), Failure> {
    let repo = Repo::open(fleet)?;
    let head = repo.head()?;
    let declared = load(&repo.tree_at(&head)?).declared.ok_or("the files are valid")?;
    let (mut runs, now) = (Vec::new(), Timestamp::now());
    let jobs = declared.jobs.values().filter(|job| job.name.as_str() != "big");
    for (n, job) in jobs.enumerate() {
        for run in 1..=RUNS_OF_JOB {
            let number = n as u32 * RUNS_OF_JOB + run;
            let at = now.checked_sub(SignedDuration::from_mins(3 * i64::from(number) + 3))?;
            let failing = if number.is_multiple_of(10) { 33 } else { 0 };
            let first = number.wrapping_mul(7_919) % (devices - ROWS).max(1);
            runs.push(Ended::of(job, &head, (&run.to_string(), at), (first, ROWS, failing)));
        }
    }
    let big = declared.jobs.get("big").ok_or("the large job is declared")?;
    let at = now.checked_sub(SignedDuration::from_mins(1))?;
    runs.push(Ended::of(big, &head, (&RUNS_OF_JOB.to_string(), at), (0, devices, 1_000)));
    let trailers = Trailers { source: Some(&head), writer: "bench", ..Trailers::default() };
    for part in runs.chunks(RUNS_OF_COMMIT) {
        let files = part.iter().flat_map(|run| run.files(&declared.fleet.name));
        import(fleet, RESULTS, &with_trailers("what has run", &trailers), files)?;
    }
    let rows = runs.iter().map(|Ended { claim, record, .. }| Run {
        job: claim.job.to_string(),
        run: claim.run.to_string(),
        claim: document(&claim.to_json(&declared.fleet.name)),
        record: document(&record.to_json()),
    });
    journal(fleet, &head, rows)
}

fn fleetform(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fleetform"));
    command.arg("-C").arg(environment(folder).folder).arg("-q").stdout(Stdio::null());
    command
}

/// Starts the binary, and returns when it listens.
fn start(folder: &Path, arguments: &[&str]) -> Result<(Running, SocketAddr), Failure> {
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let log = std::fs::File::create(folder.join("server.log"))?;
    let mut command = fleetform(folder);
    let process = command.args(arguments).args(["--listen", &address.to_string()]).stderr(log).spawn()?;
    let process = Running(process);
    while TcpStream::connect(address).is_err() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok((process, address))
}

/// A browser with one connection.
struct Browser {
    stream: TcpStream,
    address: SocketAddr,
}

impl Browser {
    fn connect(address: SocketAddr) -> Result<Browser, Failure> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(120)))?;
        Ok(Browser { stream, address })
    }

    /// Asks for a page, with lines of headers.
    fn send(&mut self, path: &str, headers: &str) -> Result<(), Failure> {
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAccept: text/html\r\n{headers}\r\n", self.address);
        Ok(self.stream.write_all(head.as_bytes())?)
    }

    /// Asks for a page, and returns its status. The server closes a connection behind its answer.
    fn ask(address: SocketAddr, path: &str, headers: &str) -> Result<u16, Failure> {
        let mut browser = Browser::connect(address)?;
        browser.send(path, headers)?;
        let mut heard = Vec::new();
        browser.stream.read_to_end(&mut heard)?;
        let head = heard.split(|byte| *byte == b'\r').next().unwrap_or_default();
        Ok(String::from_utf8_lossy(head).split(' ').nth(1).ok_or("a status")?.parse()?)
    }
}

/// What stands beside a page.
type Floor<'a> = Box<dyn Fn() -> Result<(), Failure> + 'a>;

/// Reads by hand what pages show.
struct Raw {
    fleet: PathBuf,
    repository: Repository,
    connection: Connection,
}

impl Raw {
    fn open(folder: &Path) -> Result<Raw, Failure> {
        let fleet = environment(folder).folder;
        let connection = Connection::open(fleet.join(".fleetform/fleet.db"))?;
        Ok(Raw { repository: Repository::open(&fleet)?, connection, fleet })
    }

    fn tree(&self) -> Result<git2::Tree<'_>, Failure> {
        Ok(self.repository.find_reference(RESULTS)?.peel_to_tree()?)
    }

    /// The references, and the runs that are open.
    fn references(&self) -> Result<(), Failure> {
        let repository = Repository::open(&self.fleet)?;
        repository.head()?.peel_to_commit()?;
        repository.refname_to_id(RESULTS)?;
        let open: i64 =
            self.connection.query_row("SELECT count(*) FROM run WHERE is_closed = 0", [], |row| row.get(0))?;
        assert_eq!(open, 0, "all runs have ended");
        Ok(())
    }

    /// Files of runs of the results branch.
    fn blobs(&self, paths: &[String]) -> Result<(), Failure> {
        let tree = self.tree()?;
        for path in paths {
            let entry = tree.get_path(Path::new(path))?;
            assert!(!self.repository.find_blob(entry.id())?.content().is_empty(), "a file has content");
        }
        Ok(())
    }

    /// Rows of a query.
    fn rows(&self, sql: &str) -> Result<(), Failure> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let _: rusqlite::types::ValueRef<'_> = row.get_ref(0)?;
        }
        Ok(())
    }
}

fn run_files(jobs: u32, runs: u32, file: &str) -> Vec<String> {
    let jobs = 0..jobs;
    jobs.flat_map(|job| (1..=runs).map(move |run| format!("runs/job-{job}/{run}/{file}"))).collect()
}

/// Measures each page of `serve`.
fn pages(folder: &Path, devices: u32) -> Result<(), Failure> {
    let raw = Raw::open(folder)?;
    let (server, address) = start(folder, &["serve"])?;
    let before = resident_kib(&server);
    let jobs = std::fs::read_dir(environment(folder).folder.join("jobs"))?.count() as u32;
    let (middle, last) = (format!("device-{:07}", devices / 2), format!("device-{:07}", devices.saturating_sub(2)));
    let big = format!("/jobs/big/runs/{RUNS_OF_JOB}");
    let shards = devices.div_ceil(SHARD_ROWS);
    let shard = |number: u32| vec![shard_path(&format!("runs/big/{RUNS_OF_JOB}"), number)];
    let of_100 = run_files(100 / RUNS_OF_JOB, RUNS_OF_JOB, "run.json");
    let of_200 = run_files((200 / RUNS_OF_JOB).min(jobs), RUNS_OF_JOB, "devices-00001.csv");
    let of_500 = run_files((500 / RUNS_OF_JOB).min(jobs), RUNS_OF_JOB, "devices-00001.csv");
    let failing: Vec<String> =
        (0..jobs).flat_map(|job| [10, 20].map(|run| format!("runs/job-{job}/{run}/devices-00001.csv"))).collect();
    let list = "SELECT device_id, device_name, template, organization, last_activity FROM device";
    let sql = |tail: &str| format!("{list} {tail} ORDER BY device_id LIMIT 101");
    let one = format!("SELECT * FROM device WHERE device_id = '{middle}'");
    let (all, after) = (sql(""), sql(&format!("WHERE device_id > '{middle}'")));
    let by_tag = sql("WHERE json_extract(tags, '$.line') = '3'");
    let counted = "SELECT count(*) FROM device WHERE json_extract(tags, '$.building') = '3'";
    let in_group = sql("WHERE json_extract(tags, '$.building') = '3'");
    let grid = |after: &str| format!("{big}?after={after}");
    let floors: Vec<(&str, String, Floor<'_>)> = vec![
        ("now", "/".into(), Box::new(|| raw.references())),
        ("jobs, 100 of 30 days", "/jobs".into(), Box::new(|| raw.blobs(&of_100))),
        ("jobs of a device, 500 runs", format!("/jobs?device={middle}"), Box::new(|| raw.blobs(&of_500))),
        (
            "a run of 100 devices",
            "/jobs/job-3/runs/10".into(),
            Box::new(|| raw.blobs(&["runs/job-3/10/devices-00001.csv".into()])),
        ),
        ("the large run", big.clone(), Box::new(|| raw.blobs(&shard(1)))),
        ("  its grid in the middle", grid(&middle), Box::new(|| raw.blobs(&shard(shards.div_ceil(2))))),
        ("  its grid at the end", grid(&last), Box::new(|| raw.blobs(&shard(shards)))),
        ("schedules", "/schedules".into(), Box::new(|| raw.references())),
        ("devices", "/devices".into(), Box::new(|| raw.rows(&all))),
        ("  in the middle", format!("/devices?after={middle}"), Box::new(|| raw.rows(&after))),
        ("  by a condition", "/devices?query=tags.line%20%3D%20'3'".into(), Box::new(|| raw.rows(&by_tag))),
        (
            "a device, in 200 runs",
            format!("/devices/{middle}"),
            Box::new(|| raw.rows(&one).and_then(|()| raw.blobs(&of_200))),
        ),
        ("groups", "/groups".into(), Box::new(|| (0..GROUPS).try_for_each(|_| raw.rows(counted)))),
        ("a group", "/groups/group-3".into(), Box::new(|| raw.rows(counted).and_then(|()| raw.rows(&in_group)))),
        ("imports", "/imports".into(), Box::new(|| raw.references())),
        ("failing, 30 days", "/failing".into(), Box::new(|| raw.blobs(&failing))),
    ];
    compare(address, &floors)?;
    println!("memory of the server: {} MiB at first, {} MiB then\n", before / 1024, resident_kib(&server) / 1024);
    Ok(())
}

/// Prints how long each page takes, beside what it shows read by hand.
fn compare(address: SocketAddr, floors: &[(&str, String, Floor<'_>)]) -> Result<(), Failure> {
    println!(
        "{:<28} {:>9} {:>9} {:>9} {:>9} {:>7} {:>11}",
        "page, ms", "raw p50", "first", "p50", "p99", "ratio", "must reach"
    );
    for (name, path, floor) in floors {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (first, times) = timed(|| match Browser::ask(address, path, "")? {
            200 => Ok(()),
            status => Err(format!("{path} was answered with {status}").into()),
        })?;
        let (_, raws) = timed(floor)?;
        let (raw, middle, late) = (raws[raws.len() / 2], times[times.len() / 2], times[times.len() * 99 / 100]);
        let ratio = ms(middle) / ms(raw);
        println!(
            "{name:<28} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {ratio:>7.1} {:>11}",
            ms(raw),
            ms(first),
            ms(middle),
            ms(late),
            "100"
        );
    }
    Ok(())
}

/// Returns how long the first call took, and the others, sorted.
fn timed(mut call: impl FnMut() -> Result<(), Failure>) -> Result<(Duration, Vec<Duration>), Failure> {
    let began = Instant::now();
    call()?;
    let (first, mut times) = (began.elapsed(), Vec::new());
    while times.len() < REQUESTS && (times.len() < 3 || began.elapsed() < TIME_MAX) {
        let began = Instant::now();
        call()?;
        times.push(began.elapsed());
        std::thread::sleep(PACE);
    }
    times.sort();
    Ok((first, times))
}

/// Returns the resident memory of a process (`VmRSS`, proc(5)); 0 where there is no /proc.
fn resident_kib(process: &Running) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// What is asked of the pages while a job runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Looking,
    /// A listener that closes all connections at once: what the flood itself takes of the machine.
    FloodingElsewhere,
    Flooding,
}

/// Answers of a flood, by what they are.
#[derive(Default)]
struct Told {
    /// The address of the page of the job that runs.
    page: Mutex<String>,
    pages: AtomicU64,
    busy: AtomicU64,
    /// No answer, or none in time.
    others: AtomicU64,
    /// Requests of all threads, and the time that these took.
    asked: AtomicU64,
    millis: AtomicU64,
}

/// What jobs took: of the clock, and of the processor for pages and for the whole daemon.
#[derive(Default)]
struct Took {
    clock: Vec<Duration>,
    of_pages: Vec<Duration>,
    of_daemon: Vec<Duration>,
}

/// Returns the middle of some times, in seconds.
fn middle(times: &[Duration]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default().as_secs_f64()
}

/// Returns the time of the processor that all threads of a process have had, and that those have had which serve pages
/// (`utime` and `stime` of proc(5), in hundredths of a second); none where there is no /proc.
fn times(process: &Running) -> (Duration, Duration) {
    let threads = std::fs::read_dir(format!("/proc/{}/task", process.0.id())).into_iter().flatten().flatten();
    let stats = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("stat")).ok());
    let (mut all, mut of_pages) = (0, 0);
    for stat in stats {
        let behind_name = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks = behind_name.skip(11).take(2).filter_map(|text| text.parse::<u64>().ok()).sum::<u64>();
        all += ticks;
        of_pages += if stat.contains("(page") { ticks } else { 0 };
    }
    (Duration::from_millis(all * 10), Duration::from_millis(of_pages * 10))
}

/// Measures jobs beside the pages of a daemon.
fn beside(folder: &Path, devices: u32) -> Result<(), Failure> {
    println!("{:<34} {:>9} {:>9} {:>9} {:>11}", "a job on all devices, s", "alone", "looked at", "ratio", "must reach");
    let (server, address) = start(folder, &["watch", "--no-webhooks", "--interval", "100ms"])?;
    Browser::ask(address, "/", "")?;
    let job = |name: &str| run_job(folder, name, devices);
    job("warm")?;
    let before = resident_kib(&server);
    let (looked, flooded) = (Arc::default(), Arc::default());
    let pairs = |crowd, word: &str| -> Result<(Took, Took), Failure> {
        let told: &Arc<Told> = match crowd {
            Crowd::Looking => &looked,
            Crowd::Flooding => &flooded,
            Crowd::FloodingElsewhere => &Arc::default(),
        };
        let one = |name: &str, times_of: &mut Took| -> Result<(), Failure> {
            *told.page.lock().map_err(|_| "a visitor has failed")? = format!("/jobs/{name}");
            let before = times(&server);
            times_of.clock.push(job(name)?);
            let (all, of_pages) = times(&server);
            times_of.of_daemon.push(all.saturating_sub(before.0));
            times_of.of_pages.push(of_pages.saturating_sub(before.1));
            Ok(())
        };
        let (mut alone, mut beside) = (Took::default(), Took::default());
        // The crowd does not come and go with a job. Jobs without it are before it and behind it.
        (0..ALONE).try_for_each(|n| one(&format!("{word}-before-{n}"), &mut alone))?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (visitors, began) = (gather(address, crowd, (&is_over, told)), Instant::now());
        let mut jobs = 0;
        while jobs < 2 * ALONE || began.elapsed() < CROWD_TIME {
            one(&format!("{word}-beside-{jobs}"), &mut beside)?;
            jobs += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        for visitor in visitors {
            visitor.join().map_err(|_| "one of the crowd has failed")?;
        }
        (0..ALONE).try_for_each(|n| one(&format!("{word}-behind-{n}"), &mut alone))?;
        Ok((alone, beside))
    };
    let mut floods = Vec::new();
    for (crowd, name, must) in [
        (Crowd::Looking, "100 open pages", "1.03"),
        (Crowd::FloodingElsewhere, "a flood of a bare listener", ""),
        (Crowd::Flooding, "a flood of the pages", ""),
    ] {
        let (alone, beside) = pairs(crowd, &format!("{crowd:?}").to_lowercase())?;
        let (clock, daemon) = ([&alone.clock, &beside.clock], [&alone.of_daemon, &beside.of_daemon]);
        let ([before, took], [all, more]) = (clock.map(|times| middle(times)), daemon.map(|times| middle(times)));
        floods.push(took / before);
        println!("{name:<34} {before:>9.2} {took:>9.2} {:>9.3} {must:>11}", took / before);
        println!("{:<34} {all:>9.2} {more:>9.2} {:>9.3}", "  the processor, for the daemon", more / all);
        let [none, pages] = [&alone.of_pages, &beside.of_pages].map(|times| middle(times));
        println!("{:<34} {none:>9.2} {pages:>9.2} {:>9.3}", "  of that, for pages; its share", pages / took);
    }
    let [.., bare, ours] = floods[..] else { return Err("two floods".into()) };
    println!("{:<34} {bare:>9.3} {ours:>9.3} {:>9.3}", "  beside that of the bare listener", ours / bare);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!("the open pages: read {} times", count(&looked.pages));
    println!(
        "the flood: {} requests a second; {} pages, {} times busy, {} others",
        count(&flooded.asked) * FLOODING * 1_000 / count(&flooded.millis).max(1),
        count(&flooded.pages),
        count(&flooded.busy),
        count(&flooded.others)
    );
    println!("memory of the daemon: {} MiB before, {} MiB after", before / 1024, resident_kib(&server) / 1024);
    Ok(())
}

/// Commits a job on all devices, and returns how long its run took.
fn run_job(folder: &Path, name: &str, devices: u32) -> Result<Duration, Failure> {
    // Each job has another value for the same property: the twins do not grow.
    static JOBS: AtomicU64 = AtomicU64::new(1_000);
    let value = JOBS.fetch_add(1, Ordering::Relaxed);
    let text = format!(
        "apiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  target: {{query: '*'}}\n  \
         action: {{property: {{ticks: {value}}}}}\n"
    );
    commit(&environment(folder).folder, &format!("{name}.yaml"), &text, &[])?;
    let path = format!("runs/{name}");
    let repository = Repository::open(environment(folder).folder)?;
    let record = loop {
        std::thread::sleep(Duration::from_millis(100));
        let tree = repository.find_reference(RESULTS)?.peel_to_tree()?;
        let Ok(entry) = tree.get_path(Path::new(&path)) else { continue };
        let Some(run) = repository.find_tree(entry.id())?.iter().next().map(|run| run.id()) else { continue };
        let Some(file) = repository.find_tree(run)?.get_name("run.json").map(|file| file.id()) else { continue };
        let record = RunRecord::from_json(&serde_json::from_slice(repository.find_blob(file)?.content())?)?;
        if record.status.is_final() {
            break record;
        }
    };
    assert_eq!(record.counts.completed, u64::from(devices), "every device was written");
    let times = record.started_at.zip(record.finished_at).ok_or("a run that has ended has times")?;
    Ok(times.1.duration_since(times.0).unsigned_abs())
}

/// The work of one visitor.
type Look = Box<dyn FnOnce(&AtomicBool, &Told) + Send>;

/// Starts the visitors. That a connection ends is no error here: the server may end it.
fn gather(
    address: SocketAddr,
    crowd: Crowd,
    (is_over, told): (&Arc<AtomicBool>, &Arc<Told>),
) -> Vec<std::thread::JoinHandle<()>> {
    let spawn = |work: Look| {
        let (is_over, told) = (Arc::clone(is_over), Arc::clone(told));
        std::thread::spawn(move || {
            lower_priority(19);
            work(&is_over, &told);
        })
    };
    match crowd {
        Crowd::Looking => {
            (0..OPEN_PAGES).map(|_| spawn(Box::new(move |is_over, told| drop(look(address, is_over, told))))).collect()
        }
        Crowd::FloodingElsewhere => {
            let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            let address = listener.local_addr().expect("it is bound");
            std::thread::spawn(move || {
                lower_priority(19);
                listener.incoming().for_each(drop);
            });
            (0..FLOODING).map(|_| spawn(Box::new(move |is_over, told| flood(address, is_over, told)))).collect()
        }
        Crowd::Flooding => {
            let flood = (0..FLOODING).map(|_| spawn(Box::new(move |is_over, told| flood(address, is_over, told))));
            let idle = spawn(Box::new(move |is_over, _| drop(idle(address, is_over))));
            flood.chain([idle]).collect()
        }
    }
}

/// An open page: it asks for itself again when an event comes, as its script does.
fn look(address: SocketAddr, is_over: &AtomicBool, told: &Told) -> Result<(), Failure> {
    let mut events = Browser::connect(address)?;
    events.send("/events", "")?;
    events.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let (mut bytes, mut is_due, mut last) = ([0; 16 * 1024], false, Instant::now());
    while !is_over.load(Ordering::Relaxed) {
        match events.stream.read(&mut bytes) {
            Ok(0) => return Ok(()),
            Ok(count) => is_due |= bytes[..count].windows(6).any(|word| word == b"event:"),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        if is_due && last.elapsed() >= RELOAD {
            let page = told.page.lock().map_err(|_| "another visitor has failed")?.clone();
            Browser::ask(address, &page, "Cache-Control: max-age=2\r\n")?;
            told.pages.fetch_add(1, Ordering::Relaxed);
            (is_due, last) = (false, Instant::now());
        }
    }
    Ok(())
}

/// Asks as often as its part of the flood says, whether or not the server answers.
fn flood(address: SocketAddr, is_over: &AtomicBool, told: &Told) {
    let (began, mut asked) = (Instant::now(), 0);
    let mut open: VecDeque<TcpStream> = VecDeque::new();
    let hear = |mut stream: TcpStream| {
        let mut head = [0; 12];
        let heard = stream.set_read_timeout(Some(PATIENCE)).and_then(|()| stream.read_exact(&mut head));
        let counter = match heard.is_ok().then(|| &head[9..]) {
            Some(b"200") => &told.pages,
            Some(b"429" | b"503") => &told.busy,
            Some(_) | None => &told.others,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    };
    while !is_over.load(Ordering::Relaxed) {
        let due = began.elapsed().as_millis() as u64 * FLOOD / FLOODING / 1_000;
        if asked > due {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        }
        asked += 1;
        let asks = TcpStream::connect_timeout(&address, PATIENCE).and_then(|mut stream| {
            let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\nAccept: text/html\r\n\r\n");
            stream.write_all(head.as_bytes()).map(|()| stream)
        });
        match asks {
            Ok(stream) => open.push_back(stream),
            Err(_) => drop(told.others.fetch_add(1, Ordering::Relaxed)),
        }
        if open.len() > OUTSTANDING {
            open.pop_front().into_iter().for_each(hear);
        }
    }
    told.asked.fetch_add(asked, Ordering::Relaxed);
    told.millis.fetch_add(began.elapsed().as_millis() as u64, Ordering::Relaxed);
}

/// Connections that say half of what they ask, and some that do not read what they asked for.
fn idle(address: SocketAddr, is_over: &AtomicBool) -> Result<(), Failure> {
    let mut open = Vec::new();
    for n in 0..IDLING {
        let mut browser = Browser::connect(address)?;
        match n % 2 {
            0 => browser.stream.write_all(b"GET / HTTP/1.1\r\nHost: 127")?,
            _ => (0..50).try_for_each(|_| browser.send("/devices?limit=1000", ""))?,
        }
        open.push(browser);
    }
    while !is_over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
