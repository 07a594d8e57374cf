//! Rehearses an apply: the planner, the machine and the driver of a real one, on a copy of the registry, with simulated devices and
//! in virtual time. Nothing of the fleet is written, and its lock is not taken.
//!
//! What the rehearsal has of its own:
//!
//! * The registry is a temporary copy, the results branch is one in a scratch repository that reads the objects of the real one.
//! * Only devices that failed get rows in its results: nobody but `failedOf` ever reads them.
//! * Answers are due in steps of a twentieth of the mean latency (at least a millisecond), so that they are handled in groups as in
//!   reality. Deadlines are kept to the instant: who answers in time does so in the rehearsal too.
//! * The work of the machine itself takes no time: a registry write is over when it has begun.
//!
//! Which devices are offline and which of them fail is a function of the seed, the run and the device, so the counts are those of
//! an apply with the same devices. The one exception is a command that is canceled by its threshold while a batch is larger than
//! what may be in flight: who had been started by then depends on how quick the machine is.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::{Apply, ApplyOptions};
use crate::execute::{Clock, Inbox, Progress, VirtualClock};
use crate::ledger::{ImportReport, RunRecord};
use crate::link::SimulatedDevices;
use crate::manifest::Loaded;
use crate::model::fleet::{Declared, HeldDocuments, Probability, ResultDevices, SimulatedLink};
use crate::model::id::{Name, RunToken};
use crate::ops::workspace::declared_of;
use crate::ops::{Environment, Findings, OpsError, Workspace};
use crate::plan::{ActionKind, Change, Plan, Subject};
use crate::prepare::{Known, Preparation, prepare, read_ledger};
use crate::registry::Registry;
use crate::repo::{FleetTree, Repo};

/// The commit that is not there: as git writes what is not committed yet.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
/// How often the registry and the branch are read again because an apply worked in between.
const LOOKS_MAX: usize = 5;
/// Names that are tried for a folder.
const NAMES_MAX: u32 = 1_000;
/// The steps of the mean latency in which answers are handled.
const STEPS_OF_LATENCY: u32 = 20;
const STEP_MIN: Duration = Duration::from_millis(1);

/// What to rehearse; what is `None` stays as the fleet says.
#[derive(Debug, Clone, Default)]
pub struct RehearsalOptions {
    /// A revision; `None` rehearses the work tree.
    pub revision: Option<String>,
    pub failures: Option<Probability>,
    pub offline: Option<Probability>,
    /// The mean time between a request and its answer.
    pub latency: Option<Duration>,
    pub seed: Option<u64>,
    /// Leave devices that wait to come online, as an apply does that is not told to stay; otherwise they are waited for until they
    /// expire.
    pub leaves_waiting: bool,
}

/// What an apply would come to.
#[derive(Debug, Clone)]
pub struct Rehearsed {
    /// In the order in which they start.
    pub runs: Vec<RehearsedRun>,
    pub imports: Vec<(Name, ImportReport)>,
    /// Jobs that would not run, with the reason.
    pub held: Vec<Change>,
    /// The results branch is gone, and the apply would publish it again from the registry, with so many runs.
    pub republished: Option<u64>,
    /// Of the first plan: warnings.
    pub findings: Findings,
    /// Why jobs that come after others could not be claimed.
    pub refused: Option<Findings>,
    /// There would be nothing to do.
    pub was_empty: bool,
    /// The commit; `None` for the work tree.
    pub commit: Option<String>,
    /// The time of the fleet that all of it takes.
    pub takes: Duration,
}

/// What a run would come to. The times in its record are virtual.
#[derive(Debug, Clone)]
pub struct RehearsedRun {
    pub record: RunRecord,
    /// From the start of the apply to the start of the run.
    pub starts_after: Duration,
    /// From its start, or from the start of the apply when it had started before, to its end.
    pub takes: Duration,
}

/// A folder of this process for what has to be in files, readable by its owner; removed with all that is in it when it is dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    /// Makes a folder below the system's for temporary files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make() -> Result<ScratchFolder, OpsError> {
        let parent = std::env::temp_dir();
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let mut number = 0;
        loop {
            let path = parent.join(format!("fleetform-simulate-{}-{number}", std::process::id()));
            match builder.create(&path) {
                Ok(()) => return Ok(ScratchFolder { path }),
                // Of another thread, or of a process that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < NAMES_MAX => number += 1,
                Err(source) => {
                    let what = format!("the temporary folder {} cannot be made", path.display());
                    return Err(OpsError::Output { what, source });
                }
            }
        }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // What stays is for the system to clean up, as all of its folder is.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

/// Rehearses an apply of the work tree or of a revision that begins `now`.
///
/// # Errors
/// As a plan; and there is no room for the copies.
pub fn rehearse(
    environment: &Environment,
    options: &RehearsalOptions,
    scratch: &ScratchFolder,
    now: Timestamp,
    observer: &mut dyn FnMut(&Progress),
) -> Result<Rehearsed, OpsError> {
    let workspace = Workspace::open(environment)?;
    let (tree, loaded) = match &options.revision {
        Some(revision) => workspace.load_commit(&workspace.repo.resolve(revision)?)?,
        None => workspace.load_work_tree()?,
    };
    let mut declared = declared_of(&loaded)?.clone();
    declared.fleet.results.devices = ResultDevices::Failures;
    let (mut registry, repo) = copies(&workspace, &declared, scratch.path())?;
    let config = overridden(&declared.fleet.link, options);
    let step = (config.latency / STEPS_OF_LATENCY).max(STEP_MIN);
    let mut link = SimulatedDevices::new(&config, scratch.path())?.in_rhythm(now, step);
    let apply_options =
        ApplyOptions { waits: !options.leaves_waiting, accepts_rewind: true, ..ApplyOptions::default() };
    let head = tree.commit.clone().unwrap_or_else(|| NO_COMMIT.to_string());
    let held = HeldDocuments::default();
    let mut apply = Apply {
        upstream: None,
        held: &held,
        repo: &workspace.repo,
        declared: &declared,
        loaded: &loaded,
        tree: &tree,
        branch: repo.results(&declared.fleet.results.branch),
        known: &mut Known::default(),
        registry: &mut registry,
        link: &mut link,
        heeds_stops: false,
        looked_at: head.clone(),
        head,
        options: &apply_options,
    };
    let clock = VirtualClock::new(now);
    let mut first = FirstPlan::default();
    let mut times = Times::new(now);
    let mut notes = |progress: &Progress| {
        times.note(progress, clock.now());
        observer(progress);
    };
    apply.republish(&mut notes)?;
    let mut agree = |plan: &Plan, findings: &Findings| first.keep(plan, findings);
    let applied = apply.reconcile(&clock, &Inbox::new(), &mut agree, &mut notes)?;
    let mut runs: Vec<RehearsedRun> = applied.records.into_iter().map(|record| times.run(record)).collect();
    runs.sort_by(|one, other| (one.starts_after, &one.record.job).cmp(&(other.starts_after, &other.record.job)));
    let ran = |name: &Name| runs.iter().any(|run| run.record.job == *name);
    let mut held = first.held;
    if applied.refused.is_none() && first.to_run.iter().any(|name| !ran(name)) {
        // A job that comes after others waits on: only a plan of what they left says why.
        held = held_at_the_end(&mut apply, &loaded, &declared, &tree, clock.now())?;
    }
    held.retain(|change| matches!(&change.subject, Subject::Job(name) if !ran(name)));
    Ok(Rehearsed {
        runs,
        imports: applied.imports,
        held,
        republished: times.republished,
        findings: first.findings,
        refused: applied.refused,
        was_empty: applied.was_empty,
        commit: tree.commit.clone(),
        takes: between(now, clock.now()),
    })
}

/// Returns a copy of the registry and a repository with the results branch, both as of one moment: without a lock, another process may
/// apply while they are made.
fn copies(workspace: &Workspace, declared: &Declared, folder: &Path) -> Result<(Registry, Repo), OpsError> {
    let branch = &declared.fleet.results.branch;
    let real = workspace.open_for_reading(&declared.fleet)?;
    for _ in 0..LOOKS_MAX {
        let before = workspace.repo.results(branch).tip()?;
        let registry = real.scratch_copy()?;
        if workspace.repo.results(branch).tip()? == before {
            return Ok((registry, workspace.repo.scratch(folder, branch)?));
        }
    }
    Err(OpsError::Held {
        what: "another fleetform is applying to this registry".to_string(),
        help: "Rehearse again when it is done.".to_string(),
    })
}

fn overridden(link: &SimulatedLink, options: &RehearsalOptions) -> SimulatedLink {
    SimulatedLink {
        seed: options.seed.unwrap_or(link.seed),
        latency: options.latency.unwrap_or(link.latency),
        failures: options.failures.unwrap_or(link.failures),
        offline: options.offline.unwrap_or(link.offline),
        devices: link.devices.clone(),
        // Nobody executes anything.
        journal: None,
    }
}

fn held_at_the_end(
    apply: &mut Apply<'_>,
    loaded: &Loaded,
    declared: &Declared,
    tree: &FleetTree<'_>,
    now: Timestamp,
) -> Result<Vec<Change>, OpsError> {
    let ledger = read_ledger(&apply.branch, apply.registry, declared)?;
    let preparation = Preparation {
        at_work: None,
        counts_scheduled: false,
        repo: apply.repo,
        loaded,
        declared,
        tree,
        branch: &apply.branch,
        ledger: &ledger,
        held: apply.held,
        now,
    };
    let (plan, _, _) = prepare(&preparation, apply.registry)?;
    // One that comes after a run that was left is still to run.
    let waits = |change: &Change| matches!(change.action, ActionKind::Hold | ActionKind::Run);
    Ok(plan.changes.into_iter().filter(waits).collect())
}

/// What is kept of the first plan: not its devices.
#[derive(Default)]
struct FirstPlan {
    findings: Findings,
    held: Vec<Change>,
    to_run: Vec<Name>,
}

impl FirstPlan {
    fn keep(&mut self, plan: &Plan, findings: &Findings) -> bool {
        self.findings = findings.clone();
        self.held = plan.changes.iter().filter(|change| change.action == ActionKind::Hold).cloned().collect();
        self.to_run = plan.runs.iter().map(|run| run.job.clone()).collect();
        true
    }
}

/// When runs started and ended.
struct Times {
    apply_started: Timestamp,
    started: BTreeMap<(Name, RunToken), Timestamp>,
    ended: BTreeMap<(Name, RunToken), Timestamp>,
    republished: Option<u64>,
}

impl Times {
    fn new(apply_started: Timestamp) -> Times {
        Times { apply_started, started: BTreeMap::new(), ended: BTreeMap::new(), republished: None }
    }

    fn note(&mut self, progress: &Progress, now: Timestamp) {
        match progress {
            Progress::RunStarted { job, run, .. } => {
                self.started.insert((job.clone(), run.clone()), now);
            }
            Progress::RunFinished { record } | Progress::RunPaused { record, .. } => {
                self.ended.insert((record.job.clone(), record.run.clone()), now);
            }
            Progress::BranchRepublished { runs, .. } => self.republished = Some(*runs),
            _ => {}
        }
    }

    fn run(&self, record: RunRecord) -> RehearsedRun {
        let key = (record.job.clone(), record.run.clone());
        let ended = self.ended.get(&key).copied().unwrap_or(self.apply_started);
        // One that only notes its end has no start.
        let started = self.started.get(&key).copied().unwrap_or(ended);
        RehearsedRun { record, starts_after: between(self.apply_started, started), takes: between(started, ended) }
    }
}

fn between(start: Timestamp, end: Timestamp) -> Duration {
    Duration::try_from(end.duration_since(start)).unwrap_or_default()
}
