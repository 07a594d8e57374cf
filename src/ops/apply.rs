//! Executes the plan of `HEAD`: imports, claims, batches, results. Plans again until nothing is left that can go on now, because
//! jobs that come after others get their target only then.

mod backoff;
mod guards;
mod heed;
mod indexes;
mod occurrences;
mod recover;
pub mod rehearse;
mod runs;
mod upstream;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::workspace::{declared_of, findings_of, owner};
use super::{Environment, Findings, OpsError, Workspace};
use crate::diag::Diagnostics;
use crate::execute::{Clock, Executor, Inbox, Ports, Progress, Running, Wakeups, import_letter};
use crate::ledger::{ImportReport, LEASE_TIME, Ledger, RunRecord};
use crate::link::{DeviceLink, SimulatedDevices};
use crate::manifest::Loaded;
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::id::Name;
use crate::plan::{ActionKind, Plan, PlannedRun, Subject};
use crate::prepare::{Known, Preparation, StagedFile, prepare, with_open_occurrences};
use crate::registry::{Change, IndexChanges, Registry};
use crate::repo::{FleetTree, Pulse, Repo, ResultsBranch, UpstreamError};
use upstream::{HURRY_MIN, Upstream, finish, upstream_of};

/// How often a running apply looks for stops that were committed meanwhile.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
const SAVED_HELP: &str = "Make a new plan with `fleetform plan --out FILE`.";

/// How to apply.
#[derive(Debug, Clone)]
pub struct ApplyOptions {
    /// A saved plan: only its changes are made, and only when nothing about them has moved.
    pub saved: Option<Value>,
    /// Stay for devices that wait to come online.
    pub waits: bool,
    /// Apply although the history was rewound since the last apply.
    pub accepts_rewind: bool,
    /// How long devices in flight are awaited after an interrupt.
    pub grace: Duration,
    /// How long one call of the remote may take; `None` for the usual.
    pub remote_time_max: Option<Duration>,
    /// Told that the process is alive while a call of the remote keeps it waiting.
    pub pulse: Option<Pulse>,
    /// How long the right to work lasts that is not renewed, with a remote.
    pub lease_time: Duration,
    /// How many pages of 4 KiB the registry may grow by; `None` for as far as the disk goes.
    pub growth: Option<u32>,
    /// For simulations.
    pub ports: Ports,
}

impl Default for ApplyOptions {
    fn default() -> ApplyOptions {
        ApplyOptions {
            saved: None,
            waits: false,
            accepts_rewind: false,
            grace: Duration::from_secs(10),
            remote_time_max: None,
            pulse: None,
            lease_time: LEASE_TIME,
            growth: None,
            ports: Ports::REAL,
        }
    }
}

/// What an apply came to.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// Runs that ended or were left to go on later, in that order.
    pub records: Vec<RunRecord>,
    pub imports: Vec<(Name, ImportReport)>,
    pub was_interrupted: bool,
    /// The user did not agree.
    pub was_declined: bool,
    /// There was nothing to do.
    pub was_empty: bool,
    /// What the first plan held: suspended or stopped jobs, and those that wait for others.
    pub held: u64,
    /// Why jobs that came after others could not be claimed: found when their targets were resolved.
    pub refused: Option<Findings>,
    /// What was done about the registry's indexes.
    pub indexes: IndexChanges,
    /// Why nothing was done about them.
    pub index_failure: Option<String>,
}

/// Shows a plan and its findings and returns whether to go on. Called once, for the first plan; of one that changes nothing it is told
/// too, and its answer counts for nothing.
pub type Agree<'a> = dyn FnMut(&Plan, &Findings) -> bool + 'a;

/// Applies the plan of `HEAD`.
///
/// # Errors
/// The files are invalid or uncommitted, somebody else applies, the history cannot be trusted, or the surroundings fail.
pub fn apply(
    environment: &Environment,
    options: &ApplyOptions,
    clock: &dyn Clock,
    inbox: &Inbox,
    agree: &mut Agree<'_>,
    observer: &mut dyn FnMut(&Progress),
) -> Result<Applied, OpsError> {
    let workspace = Workspace::open(environment)?;
    let head = workspace.repo.head()?;
    let (tree, loaded) = workspace.load_commit(&head)?;
    let declared = declared_of(&loaded)?;
    workspace.refuse_uncommitted(&tree, &loaded)?;
    let owner = owner();
    let own = workspace.own_registry(&declared.fleet)?;
    let lock = own.lock(&owner)?;
    let mut registry = options.ports.registry(own.open_for_writing()?);
    if let Some(pages) = options.growth {
        registry.limit_growth(pages)?;
    }
    let branch = workspace.repo.results(&declared.fleet.results.branch);
    let mut link = options.ports.link(SimulatedDevices::new(&declared.fleet.link, workspace.repo.folder())?);
    let held = HeldDocuments::default();
    let mut upstream = upstream_of(&workspace.repo, &declared.fleet, (&owner, options), &inbox.waker(), clock.now())?;
    if let Some(upstream) = &mut upstream {
        upstream.take_lock(&lock);
        upstream.sync(&branch)?;
    }
    let declared = &*with_open_occurrences(declared, &registry, (&workspace.repo, &branch))?;
    let apply = Apply {
        upstream: upstream.as_mut(),
        held: &held,
        repo: &workspace.repo,
        declared,
        loaded: &loaded,
        tree: &tree,
        branch,
        known: &mut Known::default(),
        registry: &mut registry,
        link: &mut *link,
        heeds_stops: true,
        looked_at: head.clone(),
        head,
        options,
    };
    apply.run(clock, inbox, agree, observer)
}

/// Where the loop of an apply is.
struct Round {
    is_first: bool,
    /// It is time to plan.
    is_due: bool,
    /// The last one could not claim what it was to, and is made again when the remote has answered.
    is_postponed: bool,
    /// The last plan had jobs that wait for others of it.
    has_deferred: bool,
}

/// A plan with what it was made of, to be carried out.
struct Planned {
    plan: Plan,
    staged: Vec<StagedFile>,
    ledger: Ledger,
    now: Timestamp,
}

struct Apply<'a> {
    declared: &'a Declared,
    /// Documents of the tree that cannot be used: of a daemon, which goes on without them.
    held: &'a HeldDocuments,
    repo: &'a Repo,
    loaded: &'a Loaded,
    tree: &'a FleetTree<'a>,
    branch: ResultsBranch<'a>,
    /// The remote of the results branch; `None` when it stays in the repository.
    upstream: Option<&'a mut Upstream>,
    /// What need not be read again.
    known: &'a mut Known,
    registry: &'a mut Registry,
    link: &'a mut (dyn DeviceLink + 'static),
    head: String,
    /// Look for stops that are committed meanwhile.
    heeds_stops: bool,
    /// The newest commit that was looked at for stops.
    looked_at: String,
    options: &'a ApplyOptions,
}

impl Apply<'_> {
    fn run(
        mut self,
        clock: &dyn Clock,
        inbox: &Inbox,
        agree: &mut Agree<'_>,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<Applied, OpsError> {
        self.republish(observer)?;
        self.check_rewind()?;
        let reconciled = self.reconcile(clock, inbox, agree, observer);
        let grace = self.options.grace;
        let finished = match &mut self.upstream {
            Some(upstream) => {
                if inbox.is_interrupted() {
                    upstream.hurry(grace.max(HURRY_MIN));
                }
                finish(upstream, &self.branch, clock.now())
            }
            None => Ok(()),
        };
        let mut applied = reconciled?;
        if !applied.was_declined {
            self.note_seen()?;
        }
        finished?;
        self.make_indexes(&mut applied);
        Ok(applied)
    }

    /// Notes what was applied, and the tip of the results branch after it; with a remote, the tip that it has: what is here only may have to be
    /// made again.
    fn note_seen(&mut self) -> Result<(), OpsError> {
        let tip = if self.upstream.is_some() { self.branch.upstream_tip()? } else { self.branch.tip()? };
        if let Some(tip) = tip {
            self.registry.write(Change::Seen { results_tip: &tip, applied_head: &self.head })?;
        }
        Ok(())
    }

    fn reconcile(
        &mut self,
        clock: &dyn Clock,
        inbox: &Inbox,
        agree: &mut Agree<'_>,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<Applied, OpsError> {
        let mut applied = Applied::default();
        // A run that was left (it waits, it was stopped or interrupted) is not taken up again by the same apply.
        let mut left: BTreeSet<Name> = BTreeSet::new();
        let mut running = Running::default();
        let mut round = Round { is_first: true, is_due: true, is_postponed: false, has_deferred: false };
        loop {
            if round.is_due {
                let begun =
                    self.plan_and_begin(clock.now(), &mut round, &left, &mut running, &mut applied, agree, observer);
                match begun {
                    Ok(true) => round.is_postponed = false,
                    Ok(false) => return Ok(applied),
                    // What runs goes on. When all of it has ended, the next try says whether the remote is still away.
                    Err(OpsError::Upstream(error @ (UpstreamError::Unanswered { .. } | UpstreamError::Remote(_))))
                        if !running.is_empty() =>
                    {
                        round.is_postponed = matches!(error, UpstreamError::Unanswered { .. });
                    }
                    Err(error) => {
                        self.executor(clock, inbox, observer).drain(&mut running);
                        return Err(error);
                    }
                }
            }
            let next_look = if self.heeds_stops || self.upstream.is_some() {
                clock.now().checked_add(LOOK_INTERVAL).ok()
            } else {
                None
            };
            let look_at = next_look.unwrap_or(Timestamp::MAX);
            let mut executor = self.executor(clock, inbox, observer);
            let ended = match executor.execute(&mut running, look_at) {
                Ok(ended) => ended,
                Err(error) => {
                    // What the other runs have in flight is not lost for it.
                    executor.drain(&mut running);
                    return Err(error.into());
                }
            };
            left.extend(ended.iter().filter(|record| !record.status.is_final()).map(|record| record.job.clone()));
            round.is_due = running.is_empty() || (round.has_deferred && !ended.is_empty());
            applied.records.extend(ended);
            if let Err(error) = self.keep_up(&|| clock.now()) {
                self.executor(clock, inbox, observer).drain(&mut running);
                return Err(error);
            }
            let is_awaited = self.upstream.as_ref().is_some_and(|upstream| upstream.is_awaited());
            round.is_due |= round.is_postponed && !is_awaited;
            if inbox.is_interrupted() {
                if running.is_idle() {
                    applied.was_interrupted = true;
                    return Ok(applied);
                }
                round.is_due = false;
            } else if self.heeds_stops && !running.is_empty() {
                self.heed_stops(&mut running, observer);
            }
        }
    }

    fn executor<'e>(
        &'e mut self,
        clock: &'e dyn Clock,
        inbox: &'e Inbox,
        observer: &'e mut dyn FnMut(&Progress),
    ) -> Executor<'e> {
        Executor {
            registry: self.registry,
            branch: &self.branch,
            link: self.link,
            clock,
            fleet: &self.declared.fleet,
            inbox,
            woken: Wakeups::default(),
            grace: self.options.grace,
            waits: self.options.waits,
            crash: &self.options.ports.crash,
            observer,
        }
    }

    /// Plans and begins what can be begun; false when this apply has come to its end.
    #[expect(clippy::too_many_arguments, reason = "one caller, and each argument is a different thing")]
    fn plan_and_begin(
        &mut self,
        now: Timestamp,
        round: &mut Round,
        left: &BTreeSet<Name>,
        running: &mut Running,
        applied: &mut Applied,
        agree: &mut Agree<'_>,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<bool, OpsError> {
        let (Planned { mut plan, staged, ledger, now }, diagnostics) = self.plan_to_work(now, running)?;
        let findings = findings_of(self.loaded, diagnostics);
        if findings.diagnostics.has_errors() {
            if round.is_first {
                return Err(OpsError::Invalid(Box::new(findings)));
            }
            // What runs is not held up by what cannot be claimed.
            applied.refused = Some(findings);
            round.has_deferred = false;
            return Ok(!running.is_empty());
        }
        if round.is_first {
            self.check_saved(&plan, &ledger)?;
            if self.options.saved.is_some() {
                plan = plan.restricted(|change| self.is_wanted(&change.subject));
            }
            applied.was_empty = !plan.has_changes();
            applied.held = plan.changes.iter().filter(|change| change.action == ActionKind::Hold).count() as u64;
            if !agree(&plan, &findings) || applied.was_empty {
                applied.was_declined = !applied.was_empty;
                return Ok(false);
            }
            round.is_first = false;
        }
        if let Some(id) = self.saved_id()? {
            // What is done in the name of a saved plan bears its id: it is how a second use is seen.
            plan.id = id;
        }
        round.has_deferred = plan.runs.iter().any(|run| run.is_deferred);
        self.begin(&Planned { plan, staged, ledger, now }, left, running, applied, observer)?;
        Ok(!running.is_empty())
    }

    /// Plans, with what the plan has to say about the declared files.
    fn plan(&mut self, now: Timestamp) -> Result<(Planned, Diagnostics), OpsError> {
        let ledger = self.settle_journal()?;
        let preparation = Preparation {
            at_work: None,
            counts_scheduled: false,
            repo: self.repo,
            loaded: self.loaded,
            declared: self.declared,
            tree: self.tree,
            branch: &self.branch,
            ledger: &ledger,
            held: self.held,
            now,
        };
        let (plan, staged, diagnostics) = prepare(&preparation, self.registry)?;
        Ok((Planned { plan, staged, ledger, now }, diagnostics))
    }

    /// Returns the id of the saved plan, `None` without one. It goes into documents and commit messages, so it is looked at.
    fn saved_id(&self) -> Result<Option<String>, OpsError> {
        let Some(saved) = &self.options.saved else { return Ok(None) };
        let id = saved.get("plan_id").and_then(Value::as_str).and_then(Digest::parse);
        let malformed =
            || OpsError::Usage { what: "the saved plan has no plan_id".to_string(), help: SAVED_HELP.to_string() };
        Ok(Some(id.ok_or_else(malformed)?.to_string()))
    }

    /// Returns true when an address is to be changed: always, or when the saved plan changes it.
    fn is_wanted(&self, subject: &Subject) -> bool {
        let Some(saved) = &self.options.saved else { return true };
        let changes = saved.get("changes").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let address = subject.to_string();
        changes.iter().any(|change| change.get("address").and_then(Value::as_str) == Some(&address))
    }

    /// Does what needs no driver (imports, claims, closing) and hands the driver the runs that it needs for, but those that were left.
    ///
    /// # Errors
    /// The registry, the repository or the remote fails; while devices are running, the remote has not answered yet: everything but the
    /// claims is done then.
    fn begin(
        &mut self,
        planned: &Planned,
        left: &BTreeSet<Name>,
        running: &mut Running,
        applied: &mut Applied,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<(), OpsError> {
        let Planned { plan, staged, ledger, now } = planned;
        let runs: BTreeMap<&Name, &PlannedRun> = plan.runs.iter().map(|run| (&run.job, run)).collect();
        let mut to_claim = Vec::new();
        for change in &plan.changes {
            if !self.is_wanted(&change.subject) {
                continue;
            }
            match (&change.subject, change.action) {
                (Subject::Import(name), ActionKind::Import) => {
                    if let Some(file) = staged.iter().find(|file| file.import == *name) {
                        let report = self.import(plan, file, *now)?;
                        observer(&Progress::ImportFinished { import: name.clone(), report: report.clone() });
                        applied.imports.push((name.clone(), report));
                    }
                }
                (Subject::Job(name), ActionKind::Run) => {
                    let run = runs.get(name).expect("a plan has the devices of each run");
                    to_claim.extend((!run.is_deferred).then_some(*run));
                }
                (Subject::Job(name), ActionKind::Stop) if running.has(name, change.run.as_ref()) => {
                    self.stop_running(name, running, observer);
                }
                (Subject::Job(name), ActionKind::Stop) if !self.is_declared(name, change.run.as_ref()) => {
                    let record = self.stop_undeclared(name, change.run.as_ref(), ledger, *now)?;
                    observer(&Progress::RunPaused { record: record.clone(), waiting: 0 });
                    applied.records.push(record);
                }
                (Subject::Job(name), ActionKind::Continue | ActionKind::Stop)
                    if !running.has(name, change.run.as_ref()) && !left.contains(name) =>
                {
                    running.add(self.reopen(name, ledger, change.action == ActionKind::Stop)?);
                }
                (Subject::Job(name), ActionKind::Close) => {
                    let record = self.close_lost(name, change.run.as_ref(), ledger, *now)?;
                    observer(&Progress::RunFinished { record: record.clone() });
                    applied.records.push(record);
                }
                _ => {}
            }
        }
        if let Some(upstream) = self.upstream.as_mut().filter(|_| !to_claim.is_empty()) {
            if !running.is_empty() {
                upstream.answers(&self.branch)?;
            }
            upstream.settle(&self.branch)?;
        }
        self.claim_all(plan, &to_claim, *now, &mut |input| {
            let (job, run) = (input.claim.job.clone(), input.claim.run.clone());
            observer(&Progress::RunClaimed { job, run, total: input.claim.total });
            running.add(input);
        })
    }

    fn import(&mut self, plan: &Plan, file: &StagedFile, now: Timestamp) -> Result<ImportReport, OpsError> {
        let found = &file.found;
        let report = ImportReport {
            plan_id: plan.id.clone(),
            source_commit: self.head.clone(),
            imported: found.new,
            updated: found.updated,
            unchanged: found.unchanged,
            removed: found.removed + found.deleted,
            rejected: found.rejected,
            rows: found.rows,
        };
        let letter = import_letter(&file.import, &file.spec.digest.to_string(), &report, &found.errors);
        self.make_way(None, found.new + found.updated)?;
        self.registry.write(Change::Import { spec: &file.spec, at: now, outbox: &letter })?;
        self.empty_outbox()?;
        Ok(report)
    }
}
