//! Rehearses an apply: the planner, the machine and the driver of a real one, on a copy of the registry, with simulated
//! devices and in virtual time. Nothing of the fleet is written, and its lock is not taken.
//!
//! What the rehearsal has of its own:
//!
//! * The registry is a temporary copy, the results branch is one in a scratch repository that reads the objects of the
//!   real one.
//! * Only devices that failed get rows in its results: only `failedOf` ever reads them.
//! * Answers are due in steps of a twentieth of the mean latency (at least a millisecond), so that they are handled in
//!   groups as in reality. Deadlines are kept to the instant: who answers in time does so in the rehearsal too.
//! * The work of the machine itself takes no time: a registry write is over when it has begun.
//!
//! Which devices are offline and which of them fail is a function of the seed, the run and the device, so the counts
//! are those of an apply with the same devices. The one exception is a command that is canceled by its threshold while
//! a batch is larger than what may be in flight: who had been started by then depends on how quick the machine is.

mod scratch;
mod times;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::{Environment, Findings, OpsError, Workspace};
use crate::execute::{Clock as _, Inbox, Progress, VirtualClock};
use crate::ledger::ImportReport;
use crate::link::SimulatedDevices;
use crate::model::fleet::{Declared, LinkConfig, Probability, ResultDevices, SimulatedLink};
use crate::model::id::Name;
use crate::plan::{ActionKind, Plan, PlannedChange, Subject};
pub use crate::prepare::ScratchFolder;
use crate::prepare::{Files, OnError, TreeChoice, View};
use crate::reconcile::{Agreement, Quiet, ReconcileOptions, Reconciler, Seen, until_quiet};
use scratch::copies;
pub use times::RehearsedRun;
use times::{Times, between};

/// The commit that is not there: as git writes what is not committed yet.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";
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
    /// Leave devices that wait to come online, as an apply does that is not told to stay; otherwise they are waited for
    /// until they expire.
    pub leaves_waiting: bool,
}

/// What an apply would come to.
#[derive(Debug, Clone)]
pub struct Rehearsed {
    /// In the order in which they start.
    pub runs: Vec<RehearsedRun>,
    pub imports: Vec<(Name, ImportReport)>,
    /// Jobs that would not run, with the reason.
    pub held: Vec<PlannedChange>,
    /// The results branch is gone, and the apply would publish it again from the registry, with so many runs.
    pub republished: Option<u64>,
    /// The warnings of the first plan.
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
    let workspace = Workspace::open(environment)?.rehearsing();
    let choice = options.revision.as_deref().map_or(TreeChoice::WorkTree, TreeChoice::Revision);
    let mut files = Files::read(&workspace, choice, OnError::Refuse)?;
    let mut declared = Declared::clone(files.usable()?);
    declared.fleet.results.devices = ResultDevices::Failures;
    let (registry, repo) = copies(&workspace, &declared.fleet, scratch.path())?;
    let config = overridden(&declared.fleet.link, options);
    let step = (config.latency / STEPS_OF_LATENCY).max(STEP_MIN);
    let link = SimulatedDevices::new(&config, scratch.path())?.in_rhythm(now, step);
    let branch = repo.results(&declared.fleet.results.branch);
    files.declared = Some(Arc::new(declared));
    let (clock, inbox) = (VirtualClock::new(now), Inbox::new());
    let reconcile =
        ReconcileOptions { waits: !options.leaves_waiting, accepts_rewind: true, ..ReconcileOptions::default() };
    let mut reconciler = Reconciler::new(&workspace, reconcile, inbox.waker());
    reconciler.work_on(View::unread(&workspace, files.clone(), branch, registry)?, Box::new(link));
    let commit = files.tree.commit.clone();
    let seen = Seen::new(commit.clone().unwrap_or_else(|| NO_COMMIT.to_string()), files, now);
    let (mut findings, mut held, mut to_run) = (Findings::default(), Vec::new(), Vec::new());
    let mut agree = |plan: &Plan, found: &Findings| {
        findings = found.clone();
        held = plan.changes.iter().filter(|change| change.action() == ActionKind::Hold).cloned().collect();
        to_run = plan.runs.iter().map(|run| run.job.clone()).collect();
        true
    };
    let mut times = Times::new(now);
    let mut notes = |progress: &Progress| {
        times.note(progress, clock.now());
        observer(progress);
    };
    let mut agreement = Agreement { saved: None, agree: Some(&mut agree) };
    let quiet = until_quiet(&mut reconciler, &seen, None, &mut agreement, (&clock, &inbox), &mut notes)?;
    let (Quiet { was_empty, refused, .. }, done) = (quiet, reconciler.take_done());
    let mut runs: Vec<RehearsedRun> = done.records.into_iter().map(|record| times.run(record)).collect();
    runs.sort_by(|one, other| (one.starts_after, &one.record.job).cmp(&(other.starts_after, &other.record.job)));
    let ran = |name: &Name| runs.iter().any(|run| run.record.job == *name);
    if refused.is_none() && to_run.iter().any(|name| !ran(name)) {
        // A job that comes after others waits on: only a plan of what they left says why. One that comes after a run
        // that was left is still to run.
        let waits = |change: &PlannedChange| matches!(change.action(), ActionKind::Hold | ActionKind::Run);
        held = reconciler.plan(clock.now())?.plan.changes.into_iter().filter(waits).collect();
    }
    held.retain(|change| matches!(&change.subject, Subject::Job(name) if !ran(name)));
    let (republished, takes, imports) = (times.republished, between(now, clock.now()), done.imports);
    Ok(Rehearsed { runs, imports, held, republished, findings, refused, was_empty, commit, takes })
}

/// Returns the settings of the devices of a rehearsal: those that the fleet has for simulated ones, but for what the
/// options say.
fn overridden(link: &LinkConfig, options: &RehearsalOptions) -> SimulatedLink {
    let own;
    let link = match link {
        LinkConfig::Simulated(link) => link,
        // No device is spoken to in a rehearsal.
        LinkConfig::Mqtt(_) | LinkConfig::Hub(_) | LinkConfig::Both { .. } => {
            own = SimulatedLink::default();
            &own
        }
    };
    SimulatedLink {
        seed: options.seed.unwrap_or(link.seed),
        latency: options.latency.unwrap_or(link.latency),
        failures: options.failures.unwrap_or(link.failures),
        offline: options.offline.unwrap_or(link.offline),
        devices: link.devices.clone(),
        // No device executes anything.
        journal: None,
    }
}
