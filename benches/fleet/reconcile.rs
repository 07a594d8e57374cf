//! Measures reconciles of a daemon, each from its wakeup until it waits again. All run in one process, because the
//! daemon's caches between reconciles are what is measured.
//!
//! The fleet has 10,000 files of its own: jobs that have run, or half of them groups. Its results branch has a claim
//! and a record for each job, and so has its journal. They are written by hand: one pack for git, one transaction for
//! the registry.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use fleetform::execute::{Clock, Inbox, Waker, Wakeup, Wakeups};
use fleetform::ledger::{Claim, Published, RunRecord};
use fleetform::model::digest::Digest;
use fleetform::model::outcome::{Counts, RunStatus};
use fleetform::ops::Environment;
use fleetform::ops::watch::{Note, WatchOptions, watch};
use fleetform::prepare::load;
use fleetform::repo::Repo;
use fleetform::results::{Trailers, document, with_trailers};
use git2::Repository;
use jiff::Timestamp;
use rusqlite::Connection;

use super::{Failure, peak_kib};

const FILES: u32 = 10_000;
/// Reconciles of each kind.
const ROUNDS: usize = 21;
pub const RESULTS: &str = "refs/heads/fleetform/results";

/// What the files declare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Jobs that have run.
    Jobs,
    /// As many of them as groups.
    Halves,
}

impl Mix {
    fn is_group(self, n: u32) -> bool {
        self == Mix::Halves && n % 2 == 1
    }

    fn path(self, n: u32) -> String {
        if self.is_group(n) { format!("groups/{n}.yaml") } else { format!("jobs/{n}.yaml") }
    }

    /// `edit` is something that no two versions of a file have in common, and that changes nothing of a job.
    fn text(self, n: u32, edit: u32) -> String {
        match self.is_group(n) {
            true => format!(
                "apiVersion: fleetform/v1\nkind: DeviceGroup\nmetadata: {{name: group-{n}}}\nspec:\n  \
                 query: \"tags.line = '{n}' AND tags.building = '{edit}'\"\n"
            ),
            false => format!(
                "# Edit {edit}\napiVersion: fleetform/v1\nkind: Job\nmetadata: {{name: job-{n}}}\nspec:\n  \
                    target:\n    \
                 query: \"tags.line = '{n}'\"\n    expect: {{min: 1, max: 5000}}\n  action:\n    \
                 property: {{light: {{threshold: {n}}}, mode: eco}}\n  delivery: {{batchSize: 10%, expiresAfter: \
                 24h}}\n"
            ),
        }
    }
}

/// Declares the files in a fleet that has only its devices, and writes down that the jobs have run.
pub fn make(fleet: &Path, mix: Mix) -> Result<(), Failure> {
    let files = (0..FILES).map(|n| (mix.path(n), mix.text(n, 0).into_bytes()));
    import(fleet, "HEAD", "declare 10,000 files", files)?;
    let head = Repo::open(fleet)?.head()?;
    let runs = runs(fleet, &head)?;
    let message =
        with_trailers("what has run", &Trailers { source: Some(&head), writer: "bench", ..Trailers::default() });
    let files = runs.iter().flat_map(|run| {
        let key = (&run.job, &run.run);
        [
            (format!("claims/{}/{}.json", key.0, key.1), run.claim.clone()),
            (format!("runs/{}/{}/run.json", key.0, key.1), run.record.clone()),
        ]
    });
    import(fleet, RESULTS, &message, files)?;
    journal(fleet, &head, runs.into_iter())
}

/// Writes down in the registry of a fleet that runs have ended.
pub fn journal(fleet: &Path, head: &str, runs: impl Iterator<Item = Run>) -> Result<(), Failure> {
    let mut connection = Connection::open(fleet.join(".fleetform/fleet.db"))?;
    let transaction = connection.transaction()?;
    for run in runs {
        let Run { job, run, claim, record } = run;
        transaction.execute(
            "INSERT INTO run (job, run, is_claimed, status, total, batch_size, claim, is_closed, record)
             VALUES (?1, ?2, 1, 'completed', 0, 1, ?3, 1, ?4)",
            (job, run, String::from_utf8(claim)?, String::from_utf8(record)?),
        )?;
    }
    let tip = Repository::open(fleet)?.refname_to_id(RESULTS)?.to_string();
    transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'results_tip'", [tip])?;
    transaction.execute("UPDATE meta SET value = ?1 WHERE key = 'applied_head'", [head])?;
    transaction.commit()?;
    Ok(())
}

/// A run that has ended, with its documents.
pub struct Run {
    pub job: String,
    pub run: String,
    pub claim: Vec<u8>,
    pub record: Vec<u8>,
}

fn runs(fleet: &Path, head: &str) -> Result<Vec<Run>, Failure> {
    let repo = Repo::open(fleet)?;
    let declared = load(&repo.tree_at(head)?).declared.ok_or("the files are valid")?;
    let now = Timestamp::now();
    let runs = declared.jobs.values().map(|job| {
        let claim = Claim {
            job: job.name.clone(),
            run: job.run.clone(),
            spec_digest: job.spec_digest,
            total: 0,
            targets_digest: Digest::of_texts([]),
            source_commit: head.to_string(),
            plan_id: Digest::of_texts(["bench"]).to_string(),
            claimed_at: now,
        };
        let record = RunRecord {
            job: job.name.clone(),
            run: job.run.clone(),
            status: RunStatus::Completed,
            reason: None,
            cause: None,
            counts: Counts::default(),
            started_at: Some(now),
            finished_at: Some(now),
            source_commit: head.to_string(),
            plan_id: claim.plan_id.clone(),
            spec_digest: claim.spec_digest,
            per_batch: Vec::new(),
            published: Published::default(),
            late: 0,
        };
        Run {
            job: job.name.to_string(),
            run: job.run.to_string(),
            claim: document(&claim.to_json(&declared.fleet.name)),
            record: document(&record.to_json()),
        }
    });
    Ok(runs.collect())
}

/// Commits files on top of a reference, in one pack.
pub fn import(
    fleet: &Path,
    reference: &str,
    message: &str,
    files: impl Iterator<Item = (String, Vec<u8>)>,
) -> Result<(), Failure> {
    let repository = Repository::open(fleet)?;
    let reference = repository.find_reference(reference)?.resolve()?;
    let (name, tip) = (reference.name()?.to_string(), reference.peel_to_commit()?.id());
    let mut git =
        Command::new("git").args(["fast-import", "--quiet"]).current_dir(fleet).stdin(Stdio::piped()).spawn()?;
    let mut stream = std::io::BufWriter::new(git.stdin.take().ok_or("there is a pipe")?);
    let seconds = Timestamp::now().as_second();
    write!(stream, "commit {name}\ncommitter bench <bench@localhost> {seconds} +0000\n")?;
    write!(stream, "data {}\n{message}\nfrom {tip}\n", message.len())?;
    for (path, bytes) in files {
        write!(stream, "M 100644 inline {path}\ndata {}\n", bytes.len())?;
        stream.write_all(&bytes)?;
        stream.write_all(b"\n")?;
    }
    stream.flush()?;
    drop(stream);
    if git.wait()?.success() { Ok(()) } else { Err("git fast-import failed".into()) }
}

/// Changes one file at `HEAD`, in a commit of its own, and returns that.
fn change(repository: &Repository, path: &str, text: &str) -> Result<git2::Oid, git2::Error> {
    let head = repository.head()?.peel_to_commit()?;
    let blob = repository.blob(text.as_bytes())?;
    let mut update = git2::build::TreeUpdateBuilder::new();
    update.upsert(path, blob, git2::FileMode::Blob);
    let tree = update.create_updated(repository, &head.tree()?)?;
    let author = git2::Signature::now("bench", "bench@localhost")?;
    let tree = repository.find_tree(tree)?;
    repository.commit(Some("HEAD"), &author, &author, "edit", &tree, &[&head])
}

/// What comes before a reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Start,
    /// Woken, and nothing is new.
    Nothing,
    /// A commit without a change in the fleet's files.
    Empty,
    /// One file of 10,000.
    File,
}

const EVENTS: [(Event, &str, &str); 4] = [
    (Event::Start, "first reconcile", ""),
    (Event::Nothing, "reconcile, nothing to do", "50"),
    (Event::Empty, "  after an empty commit", "50"),
    (Event::File, "reconcile, 1 of 10,000", "100"),
];

/// Measures from inside of the daemon: it is done when it waits.
struct Stopwatch {
    fleet: PathBuf,
    mix: Mix,
    waker: Waker,
    count: Cell<u32>,
    event: Cell<Event>,
    begun: Cell<Instant>,
    took: RefCell<Vec<(Event, Duration)>>,
    failure: RefCell<Option<String>>,
}

impl Stopwatch {
    fn next(&self) {
        let took = self.begun.get().elapsed();
        self.took.borrow_mut().push((self.event.get(), took));
        let count = self.count.get();
        self.count.set(count + 1);
        self.event.set([Event::Nothing, Event::Empty, Event::File][count as usize % 3]);
        if count as usize == ROUNDS * 3 {
            return self.waker.interrupt();
        }
        if let Err(error) = self.cause(count) {
            *self.failure.borrow_mut() = Some(error.to_string());
            return self.waker.interrupt();
        }
        self.begun.set(Instant::now());
        self.waker.wake(Wakeup::Doorbell);
    }

    fn cause(&self, count: u32) -> Result<(), git2::Error> {
        let repository = Repository::open(&self.fleet)?;
        // A job and a group in turn.
        let n = (count * 7) % FILES;
        match self.event.get() {
            Event::Start | Event::Nothing => {}
            Event::Empty => drop(change(&repository, &self.mix.path(0), &self.mix.text(0, 0))?),
            Event::File => drop(change(&repository, &self.mix.path(n), &self.mix.text(n, count + 1))?),
        }
        Ok(())
    }
}

impl Clock for Stopwatch {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn wait(&self, _: Timestamp, inbox: &Inbox) -> Wakeups {
        self.next();
        inbox.wait(None)
    }
}

/// Runs the daemon over a fleet and prints a row for each kind of event.
pub fn measure(fleet: &Path, mix: Mix) -> Result<(), Failure> {
    let inbox = Inbox::new();
    let clock = Stopwatch {
        fleet: fleet.to_path_buf(),
        mix,
        waker: inbox.waker(),
        count: Cell::new(0),
        event: Cell::new(Event::Start),
        begun: Cell::new(Instant::now()),
        took: RefCell::new(Vec::new()),
        failure: RefCell::new(None),
    };
    let options = WatchOptions {
        gateway: None,
        trust: fleetform::ops::Trust::default(),
        remote: None,
        branch: None,
        interval: Duration::from_secs(30),
        lease_time: fleetform::ledger::LEASE_TIME,
        grace: Duration::from_secs(10),
        pulse: None,
        accepts_rewind: false,
        ports: fleetform::execute::Ports::REAL,
        has_events: false,
    };
    let environment = Environment { folder: fleet.to_path_buf(), ..Environment::default() };
    let troubles = RefCell::new(None);
    let mut tell = |note: &Note<'_>| {
        if let Note::Trouble { error, .. } = note {
            troubles.borrow_mut().get_or_insert_with(|| error.to_string());
        }
    };
    watch(&environment, &options, &clock, &inbox, &mut tell)?;
    if let Some(failure) = troubles.take().or(clock.failure.take()) {
        return Err(failure.into());
    }
    let peak = peak_kib();
    let took = clock.took.take();
    for (event, name, must) in EVENTS {
        let mut times: Vec<Duration> = took.iter().filter(|(of, _)| *of == event).map(|(_, took)| *took).collect();
        times.sort();
        let floor = floor(fleet, event)?;
        row(name, floor, &times, must, peak);
    }
    Ok(())
}

/// The floor: resolving the reference; for an edit also comparing the two trees and reading the new bytes.
fn floor(fleet: &Path, event: Event) -> Result<Duration, Failure> {
    let repository = Repository::open(fleet)?;
    let mut least = Duration::MAX;
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let head = repository.head()?.peel_to_commit()?;
        if event == Event::File {
            let before = head.parent(0)?.tree()?;
            let diff = repository.diff_tree_to_tree(Some(&before), Some(&head.tree()?), None)?;
            for delta in diff.deltas() {
                assert!(!repository.find_blob(delta.new_file().id())?.content().is_empty(), "a file has text");
            }
        }
        least = least.min(begun.elapsed());
    }
    Ok(least)
}

/// Prints the heading of the rows.
pub fn heading(mix: Mix) {
    let what = match mix {
        Mix::Jobs => "10,000 jobs that have run",
        Mix::Halves => "5,000 jobs that have run, 5,000 groups",
    };
    println!("\n{what}\n");
    println!(
        "{:<26} {:>9} {:>9} {:>9} {:>9} {:>11} {:>11}",
        "what", "floor ms", "best ms", "median", "worst", "must reach", "memory MiB"
    );
}

fn row(name: &str, floor: Duration, times: &[Duration], must: &str, peak: u64) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let (best, worst) = (times[0], times[times.len() - 1]);
    println!(
        "{name:<26} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {must:>11} {:>11.0}",
        ms(floor),
        ms(best),
        ms(times[times.len() / 2]),
        ms(worst),
        peak as f64 / 1024.0
    );
}
