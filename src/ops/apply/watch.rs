//! The daemon: reconciles whenever the branch moves or something is due, and goes on with what runs meanwhile.
//!
//! It is a loop of four steps, each a function of what it reads, never of what woke it:
//!
//! 1. *Look*: which commit is the newest, and does it declare something else than the one before? (`source`)
//! 2. *Reconcile*, when something is due: plan, leave out what has errors, claim, begin. (`round`)
//! 3. *Execute* what runs, a second at a time, so that a new commit is taken up while jobs run.
//! 4. *Wait*, when nothing runs: for an event, for the interval, or until something is due.
//!
//! The lock and the registry are held while there is work, and given back when there is none: a person may apply by hand beside an
//! idle daemon. What fails is told, and tried again later; nothing but the start ends the daemon.

mod events;
mod round;
mod source;
mod start;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::upstream::{HURRY_MIN, Upstream};
use super::{Applied, ApplyOptions};
use crate::execute::{Clock, Inbox, Ports, Progress, Running, Waker, Wakeup, Wakeups};
use crate::ledger::Lease;
use crate::link::DeviceLink;
use crate::model::fleet::{HeldDocuments, SimulatedLink};
use crate::model::id::Name;
use crate::model::status::Attempts;
use crate::ops::workspace::owner;
use crate::ops::{Environment, Findings, OpsError, Workspace};
use crate::prepare::Known;
use crate::registry::{Exclusive, Registry};
use crate::repo::{Pulse, UpstreamError};

use super::backoff::Backoff;
pub use events::Events;
use source::{Seen, Source};

/// How long what runs is executed before the next look.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time without a look, whatever the interval: it is how others see that the daemon is alive.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// The branch that is followed of a remote when none is named.
const BRANCH_DEFAULT: &str = "main";

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// Another repository to follow; `None` for the one of the environment's folder. With one, the folder holds a mirror of it.
    pub remote: Option<RemoteSource>,
    /// The branch with the declared files; `None` for `HEAD`, and `main` of a remote.
    pub branch: Option<String>,
    /// The longest time between two looks.
    pub interval: Duration,
    /// How long devices in flight are awaited after a signal.
    pub grace: Duration,
    /// How long the right to work lasts that is not renewed, with a remote.
    pub lease_time: Duration,
    /// Told that the daemon is alive while a call of the remote keeps it waiting.
    pub pulse: Option<Pulse>,
    /// Take up a history that was rewound since the last apply.
    pub accepts_rewind: bool,
    /// Have the system tell of new commits in the repository itself; without, the interval has to do.
    pub has_events: bool,
    /// For simulations.
    pub ports: Ports,
}

impl WatchOptions {
    fn branch_followed(&self) -> String {
        self.branch.clone().unwrap_or_else(|| BRANCH_DEFAULT.to_string())
    }
}

/// A repository to follow.
#[derive(Debug, Clone)]
pub struct RemoteSource {
    /// A URL or a path.
    pub address: String,
    /// The folder of the fleet in it; empty for its root.
    pub path: String,
    /// How long one call of it may take; `None` for the usual.
    pub time_max: Option<Duration>,
}

/// What the daemon says.
#[derive(Debug)]
pub enum Note<'a> {
    /// It follows a branch.
    Started { fleet_branch: &'a str },
    /// The system does not tell of new commits: the interval has to do.
    NoEvents { error: &'a notify::Error },
    /// The remote was asked; `is_news` when it did not go as the last time, or did not go well.
    Fetched { error: Option<&'a OpsError>, is_news: bool, next_at: Timestamp, at: Timestamp },
    /// Something happened to an import or a run.
    Progress(&'a Progress),
    /// A commit was taken up that declares something new, or the documents that are held are others than before.
    TakenUp { fleet: &'a str, commit: &'a str, held: &'a HeldDocuments, findings: &'a Findings },
    /// The branch was looked at, and the fleet reconciled if that was due.
    Looked(Look<'a>),
    /// It cannot go on, and tries again: at once when another commit comes, otherwise at this time.
    /// `is_news` when it is not what was in the way before.
    Trouble { error: &'a OpsError, is_news: bool, retry_at: Timestamp, at: Timestamp },
    /// An occurrence of a schedule did not run.
    Missed { job: &'a str, run: &'a str, reason: &'a str },
    /// What was in the way is gone.
    Recovered,
}

/// One look, for those who show what the daemon does.
#[derive(Debug)]
pub struct Look<'a> {
    pub at: Timestamp,
    /// The newest commit that can be used; `None` before the first.
    pub commit: Option<&'a str>,
    /// Of what it declares.
    pub digest: Option<String>,
    pub is_reconciled: bool,
    /// When schedules are due next, by name.
    pub next_due: &'a BTreeMap<Name, Timestamp>,
    /// Ours, while there is work.
    pub lease: Option<&'a Lease>,
    /// Commits that the remote does not have.
    pub unpushed: usize,
    /// Why the last push failed.
    pub push_failure: Option<&'a str>,
    /// Pushes from the start of the process.
    pub pushes: Attempts,
    /// It was a refusal.
    pub is_push_denied: bool,
    /// The branch is of the repository itself: every look is as good as a fetch.
    pub is_local: bool,
}

/// Follows a branch until it is interrupted.
///
/// # Errors
/// It cannot start: there is no repository or no such branch, or a remote that was never fetched can never be (its address is none, git is
/// not installed). What fails later is told and tried again.
pub fn watch(
    environment: &Environment,
    options: &WatchOptions,
    clock: &dyn Clock,
    inbox: &Inbox,
    tell: &mut dyn FnMut(&Note<'_>),
) -> Result<(), OpsError> {
    let workspace = match &options.remote {
        Some(remote) => {
            let branch = options.branch_followed();
            let path = start::check_remote(remote, &branch)?;
            Workspace::open_mirror(environment, &remote.address, &branch, &path)?
        }
        None => Workspace::open(environment)?,
    };
    if options.remote.is_none() && workspace.repo.is_mirror() {
        return Err(workspace.repo.is_a_mirror().into());
    }
    let source = Source::open(&workspace, options, inbox.waker(), clock.now())?;
    tell(&Note::Started { fleet_branch: &source.to_string() });
    // Of a mirror nobody but the daemon moves a reference.
    let _events =
        if options.has_events && options.remote.is_none() { events(&workspace, inbox.waker(), tell) } else { None };
    let apply_options = ApplyOptions {
        waits: true,
        accepts_rewind: options.accepts_rewind,
        grace: options.grace,
        lease_time: options.lease_time,
        remote_time_max: options.remote.as_ref().and_then(|remote| remote.time_max),
        pulse: options.pulse.clone(),
        ports: options.ports.clone(),
        ..ApplyOptions::default()
    };
    let mut daemon = Daemon {
        workspace: &workspace,
        owner: owner(),
        source,
        options: apply_options,
        interval: options.interval,
        seen: None,
        known: Known::default(),
        passed_over: None,
        session: None,
        upstream: None,
        running: Running::default(),
        is_due: false,
        awaits_answer: false,
        woken: Wakeups::default(),
        waker: inbox.waker(),
        next_due: BTreeMap::new(),
        agenda_at: None,
        held: HeldDocuments::default(),
        trouble: None,
        looks: Backoff::new(clock.now()),
        rounds: Backoff::new(clock.now()),
    };
    loop {
        daemon.step(clock, inbox, tell)?;
        if inbox.is_interrupted() && daemon.running.is_idle() {
            daemon.end(clock.now(), tell);
            return Ok(());
        }
        if daemon.running.is_empty() {
            daemon.rest(clock.now(), tell);
            daemon.source.maintain(clock.now());
            let until = daemon.next_look(clock.now());
            daemon.woken = daemon.woken.and(clock.wait(until, inbox));
        }
    }
}

fn events(workspace: &Workspace, waker: Waker, tell: &mut dyn FnMut(&Note<'_>)) -> Option<Events> {
    match Events::of_references(workspace.repo.common_folder(), waker) {
        Ok(events) => Some(events),
        Err(error) => {
            tell(&Note::NoEvents { error: &error });
            None
        }
    }
}

/// What is open while there is work.
struct Session {
    registry: Registry,
    link: Box<dyn DeviceLink>,
    link_config: SimulatedLink,
    /// What has been done since it was opened.
    applied: Applied,
    /// The commit of the last reconcile that went well; what was refused is not noted as applied.
    reconciled: Option<String>,
    /// `None` when it is held by somebody who stands still.
    _lock: Option<Rc<dyn Exclusive>>,
}

struct Daemon<'w> {
    workspace: &'w Workspace,
    /// The name that this daemon has on locks and leases.
    owner: String,
    source: Source,
    options: ApplyOptions,
    interval: Duration,
    /// The newest commit whose Fleet document can be used.
    seen: Option<Seen<'w>>,
    /// What need not be read again.
    known: Known,
    session: Option<Session>,
    /// The remote of the results branch.
    upstream: Option<Upstream>,
    running: Running,
    /// What has arrived since the last look.
    woken: Wakeups,
    /// Wakes this thread.
    waker: Waker,
    /// Something may have changed since the last plan.
    is_due: bool,
    /// The last round could not claim what it was to, and is made again when the remote has answered.
    awaits_answer: bool,
    /// The newest commit, when its Fleet document cannot be used.
    passed_over: Option<String>,
    /// When schedules are due next, by name.
    next_due: BTreeMap<Name, Timestamp>,
    /// When the schedules are to be looked at again.
    agenda_at: Option<Timestamp>,
    /// What was held by the last plan.
    held: HeldDocuments,
    /// What was in the way last, as it was told.
    trouble: Option<String>,
    /// Of looks at the source.
    looks: Backoff,
    /// Of reconciles.
    rounds: Backoff,
}

impl Daemon<'_> {
    /// Looks, reconciles if that is due, and executes what runs for a while.
    ///
    /// # Errors
    /// The remote was never fetched, and can never be.
    fn step(&mut self, clock: &dyn Clock, inbox: &Inbox, tell: &mut dyn FnMut(&Note<'_>)) -> Result<(), OpsError> {
        let now = clock.now();
        let (is_woken, was_well) = (std::mem::take(&mut self.woken).has(Wakeup::Doorbell), self.source.is_well());
        self.source.fetch(now, is_woken, tell)?;
        // Of a remote: of the repository itself what the daemon commits wakes it, too.
        if self.source.is_well() == Some(true) && (is_woken || was_well == Some(false)) {
            self.rounds.hasten();
        }
        if self.looks.is_over(now) {
            match self.look(now) {
                Ok(()) => drop(self.looks.reset()),
                Err(error) => {
                    // A commit that cannot be used is not looked at again: the next one may be better.
                    let is_bad = self.passed_over.is_some();
                    let retry_at = if is_bad { Timestamp::MAX } else { self.looks.fail(clock.now(), false) };
                    self.tell_trouble(&error, retry_at, now, tell);
                }
            }
        }
        self.is_due |= self.agenda_at.is_some_and(|at| at <= now);
        // With nothing running nobody is kept waiting.
        let is_awaited =
            self.awaits_answer && !self.running.is_empty() && self.upstream.as_ref().is_some_and(Upstream::is_awaited);
        let is_time = self.is_due && self.rounds.is_over(now) && !is_awaited && !inbox.is_interrupted();
        let reconciled = if is_time { self.reconcile(now, tell) } else { Ok(()) };
        let is_reconciled = is_time && reconciled.is_ok();
        let executed = if self.running.is_empty() { Ok(()) } else { self.execute(clock, inbox, tell) };
        // What was planned and then failed at once has not recovered: the next try waits longer.
        if is_reconciled && executed.is_ok() && (self.rounds.reset() | self.trouble.is_some()) {
            self.trouble = None;
            tell(&Note::Recovered);
        }
        for error in [reconciled, executed].into_iter().filter_map(Result::err) {
            self.is_due = true;
            self.awaits_answer = matches!(error, OpsError::Upstream(UpstreamError::Unanswered { .. }));
            if self.awaits_answer {
                continue;
            }
            // What failed may have taken its time.
            let retry_at = self.rounds.fail(clock.now(), matches!(error, OpsError::Held { .. }));
            self.tell_trouble(&error, retry_at, now, tell);
        }
        self.tell_look(is_reconciled, now, tell);
        Ok(())
    }

    fn tell_trouble(&mut self, error: &OpsError, retry_at: Timestamp, at: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        // Which findings they are is said by the findings.
        let text = match error {
            OpsError::Invalid(findings) => {
                findings.diagnostics.iter().map(|one| one.detail.as_str()).collect::<Vec<_>>().join("\n")
            }
            error => error.to_string(),
        };
        let is_news = self.trouble.as_ref() != Some(&text);
        tell(&Note::Trouble { error, is_news, retry_at, at });
        self.trouble = Some(text);
    }

    fn tell_look(&self, is_reconciled: bool, at: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        let seen = self.seen.as_ref();
        let upstream = self.upstream.as_ref();
        let branch = seen.map(|seen| self.workspace.repo.results(&seen.declared.fleet.results.branch));
        // Without work and without a failure there is nothing to push.
        let may_wait = upstream.filter(|upstream| upstream.lease().is_some() || upstream.failure.is_some());
        let unpushed = may_wait.and(branch).and_then(|branch| branch.unpushed().ok()).unwrap_or(0);
        tell(&Note::Looked(Look {
            at,
            commit: seen.map(|seen| seen.head.as_str()),
            digest: seen.map(|seen| seen.loaded.digest.to_string()),
            is_reconciled,
            next_due: &self.next_due,
            lease: upstream.and_then(Upstream::lease),
            unpushed,
            push_failure: upstream.and_then(|upstream| upstream.failure.as_deref()),
            pushes: upstream.map(|upstream| upstream.pushes).unwrap_or_default(),
            is_push_denied: upstream.is_some_and(|upstream| upstream.is_denied),
            is_local: matches!(self.source, Source::Local { .. }),
        }));
    }

    /// Returns when to look again although nothing calls.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        let next = now.checked_add(self.interval.min(HEARTBEAT)).unwrap_or(Timestamp::MAX);
        let next = self.source.due_at().map_or(next, |due_at| next.min(due_at));
        // What is due and cannot be done now is not due before its pause is over.
        let round_at = if self.is_due { Some(self.rounds.until(now)) } else { self.agenda_at };
        round_at.map_or(next, |at| next.min(at.max(now)))
    }

    fn execute(&mut self, clock: &dyn Clock, inbox: &Inbox, tell: &mut dyn FnMut(&Note<'_>)) -> Result<(), OpsError> {
        let (Some(seen), Some(session)) = (&self.seen, &mut self.session) else { return Ok(()) };
        let until = clock.now().checked_add(LOOK_INTERVAL).unwrap_or(Timestamp::MAX);
        let held = HeldDocuments::default();
        let Session { registry, link, applied, .. } = session;
        let mut apply = round::apply_of(
            self.workspace,
            seen,
            (&seen.declared, &held),
            (registry, &mut **link, self.upstream.as_mut(), &mut self.known),
            &self.options,
        );
        let mut observer = |progress: &Progress| tell(&Note::Progress(progress));
        let mut executor = apply.executor(clock, inbox, &mut observer);
        let executed = executor.execute(&mut self.running, until);
        self.woken = self.woken.and(executor.woken);
        match executed.map_err(OpsError::from).and_then(|ended| apply.keep_up(&|| clock.now()).map(|()| ended)) {
            Ok(ended) => {
                // What ended may be what others wait for.
                self.is_due |= !ended.is_empty();
                applied.records.extend(ended);
                Ok(())
            }
            Err(error) => {
                apply.executor(clock, inbox, &mut observer).drain(&mut self.running);
                self.running = Running::default();
                // The journal has what came of it; the next round takes it up from there, with a lease of its own.
                self.session = None;
                if let Some(upstream) = &mut self.upstream {
                    upstream.forget();
                }
                Err(error)
            }
        }
    }

    /// Gives everything back, and tries once more what could not be pushed; what stays is for the next start.
    fn end(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        let time_max = self.options.grace.max(HURRY_MIN);
        self.upstream.iter_mut().for_each(|upstream| upstream.hurry(time_max));
        self.rest(now, tell);
        let (Some(seen), Some(upstream)) = (&self.seen, &mut self.upstream) else { return };
        if upstream.failure.is_some() {
            let branch = self.workspace.repo.results(&seen.declared.fleet.results.branch);
            // The lease is given back with what is pushed.
            drop(upstream.pull(&branch).and_then(|()| upstream.finish(&branch, now)));
        }
    }

    /// Gives everything back: there is nothing to execute.
    fn rest(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        let (Some(seen), Some(mut session)) = (&self.seen, self.session.take()) else { return };
        let held = HeldDocuments::default();
        let reconciled = session.reconciled.take();
        let Session { registry, link, applied, .. } = &mut session;
        let mut apply = round::apply_of(
            self.workspace,
            seen,
            (&seen.declared, &held),
            (registry, &mut **link, self.upstream.as_mut(), &mut self.known),
            &self.options,
        );
        let finished = match &mut apply.upstream {
            Some(upstream) => upstream.finish(&apply.branch, now),
            None => Ok(()),
        };
        let noted = match reconciled {
            Some(head) => {
                apply.head = head;
                apply.note_seen()
            }
            None => Ok(()),
        };
        apply.make_indexes(applied);
        for error in [finished, noted].into_iter().filter_map(Result::err) {
            // The next round begins with what is left to push.
            self.is_due = true;
            let retry_at = self.rounds.fail(now, false);
            self.tell_trouble(&error, retry_at, now, tell);
        }
    }
}
