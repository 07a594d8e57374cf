//! The way of one apply, from top to bottom.
//!
//! 1. [`Reconciler::open`]: take the registry's lock, open the registry and the link.
//! 2. [`Reconciler::round`]: plan, take the right to work when there is work, plan again, and begin it: imports,
//!    claims, stops.
//! 3. [`Reconciler::run_until`]: execute what runs, push what it has written, make the right to work last.
//! 4. [`Reconciler::rest`]: give back the right to work and the lock, and note what was applied.
//!
//! An apply makes rounds until nothing is left that can go on now, because jobs that come after others get their target
//! only then. The daemon makes one whenever something is new or due.

use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use super::beginning::Beginning;
use super::indexes::make_indexes;
use super::kept_link::KeptLink;
use super::occurrences::{agenda_of, settle_agenda};
use super::open_fleet::OpenFleet;
use super::ownership::Ownership;
use super::planning::Planning;
use super::recovery::Recovery;
use super::refusals::{is_fresh, leave_out, refused, tell_refusals};
use super::rewind::check_rewind;
use super::stops::Stops;
use super::terms::{Done, Ending, Rested, Round, RoundEvent, Terms};
use super::upstream::{HURRY_MIN, Upstream};
use super::{ReconcileError, ReconcileOptions, Seen};
use crate::diag::{Diagnostics, Severity};
use crate::execute::{Clock, Inbox, Progress, Running, Waker, Wakeups, empty_outbox};
use crate::ledger::RunRecord;
use crate::link::DeviceLink;
use crate::model::fleet::HeldDocuments;
use crate::model::id::Name;
use crate::model::job::Job;
use crate::plan::Agenda;
use crate::prepare::{Cache, OnError, OwnRegistry, Planned, View, Workspace, owner};
use crate::registry::{ExclusionFailure, Exclusive};
use crate::repo::ResultsBranch;

/// Makes a fleet what its files declare.
pub struct Reconciler<'w> {
    pub(super) workspace: &'w Workspace,
    pub(super) options: ReconcileOptions,
    /// The name of this process on locks and leases: `host/process/random`.
    owner: String,
    waker: Waker,
    /// What was read before.
    pub cache: Cache,
    /// The remote of the results branch, once it was opened.
    pub upstream: Option<Upstream>,
    /// The name of the results branch.
    branch: Option<String>,
    pub(super) session: Option<OpenFleet<'w>>,
    /// The way to the devices. One with connections outlives the session.
    pub(super) link: Option<KeptLink>,
    /// The registry's lock. `None` while nothing is open, and when another process has it and stands still.
    lock: Option<Rc<dyn Exclusive>>,
    /// A plan was made: there may be something to push and to give back.
    has_planned: bool,
    /// The runs that are executed.
    pub running: Running,
    /// What has arrived and was not about a run.
    pub woken: Wakeups,
    /// What the last round held.
    held: HeldDocuments,
}

impl<'w> Reconciler<'w> {
    /// Returns a reconciler that has nothing open.
    pub fn new(workspace: &'w Workspace, options: ReconcileOptions, waker: Waker) -> Reconciler<'w> {
        Reconciler {
            workspace,
            options,
            owner: owner(),
            waker,
            cache: Cache::default(),
            upstream: None,
            branch: None,
            session: None,
            link: None,
            lock: None,
            has_planned: false,
            running: Running::default(),
            woken: Wakeups::default(),
            held: HeldDocuments::default(),
        }
    }

    /// Gives the reconciler a registry and a link that are open, instead of [`Reconciler::open`]: those of a rehearsal.
    pub fn work_on(&mut self, view: View<'w>, link: Box<dyn DeviceLink>) {
        self.link = Some(KeptLink::rehearsed(&view.declared.fleet, link));
        self.session = Some(OpenFleet::new(view));
    }

    /// Takes the lock and opens the registry, unless that was done.
    ///
    /// # Errors
    /// Another process has the lock, there is no such remote, or something cannot be opened.
    pub fn open(&mut self, seen: &Seen<'w>, now: Timestamp) -> Result<(), ReconcileError> {
        let (repo, fleet) = (&self.workspace.repo, &seen.files.usable()?.fleet);
        let is_other = |upstream: &Upstream| upstream.lease().is_none() && !upstream.is_of(repo, fleet);
        if self.upstream.as_ref().is_none_or(is_other) {
            self.upstream = Upstream::of(repo, fleet, (&self.owner, &self.options), &self.waker, now)?;
        }
        let mut branch = repo.results(&fleet.results.branch);
        self.branch = Some(fleet.results.branch.clone());
        let is_other = self.link.as_ref().is_some_and(|link| link.is_other(&fleet.link));
        if let Some(session) = &mut self.session
            && (!is_other || !self.running.is_empty())
        {
            if let Some(ownership) = &session.ownership {
                branch.belong_to(&ownership.own.registry);
            }
            session.view.branch = branch;
            return Ok(());
        }
        (self.session, self.lock) = (None, None);
        let own = self.workspace.own_registry(fleet)?;
        self.link.take_if(|link| is_other || !link.stays() || !link.is_of(&own));
        self.link.iter_mut().for_each(KeptLink::give_way);
        let seat = KeptLink::seat(self.link.as_ref(), fleet, &own, (&self.owner, &self.options))?;
        self.lock = self.take_lock(&own, &branch, now)?;
        let registry = self.options.ports.registry(own.open_for_writing()?);
        let place = (repo, &mut branch);
        let (ownership, mut registry) = Ownership::of(registry, place, (&own, &self.owner), &self.options.ports.crash)?;
        if let Some(pages) = self.options.growth {
            registry.limit_growth(pages)?;
        }
        if let Some(upstream) = &mut self.upstream {
            // The fence is not put up in a registry that was just opened.
            upstream.forget();
            upstream.works_with(&ownership.own, self.options.takes_over);
            if self.lock.is_none() {
                // And without the lock it alone keeps others away.
                upstream.sync(&branch)?;
                upstream.acquire(&branch, &mut registry, now)?;
            }
        }
        if self.link.is_none() {
            let place = (self.workspace, own, seat, ownership.own.registry.as_str());
            self.link = Some(KeptLink::open(fleet, place, &self.options, &self.waker)?);
        }
        let view = View::unread(self.workspace, seen.files.clone(), branch, registry)?;
        self.session = Some(OpenFleet { ownership: Some(ownership), ..OpenFleet::new(view) });
        Ok(())
    }

    /// Takes the registry's lock; `None` when the process that has it stands still, and the work can be taken over
    /// without it.
    fn take_lock(
        &mut self,
        own: &OwnRegistry,
        branch: &ResultsBranch<'_>,
        now: Timestamp,
    ) -> Result<Option<Rc<dyn Exclusive>>, ReconcileError> {
        match (own.lock(&self.owner), &mut self.upstream) {
            (Ok(lock), upstream) => {
                upstream.iter_mut().for_each(|upstream| upstream.take_lock(&lock));
                Ok(Some(lock))
            }
            (Err(ExclusionFailure::Held(holder)), Some(upstream)) if self.options.overrules => {
                match upstream.overrules(holder.as_deref(), branch, now)? {
                    true => Ok(None),
                    false => Err(ExclusionFailure::Held(holder).into()),
                }
            }
            (Err(failure), _) => Err(failure.into()),
        }
    }

    /// Plans what a commit declares, and begins it. The registry has to be open.
    ///
    /// # Errors
    /// The history cannot be trusted, another process has the right to work, the plan is refused, or the surroundings
    /// fail. While devices are running: the remote has not answered yet, and everything but the claims is done.
    pub fn round(
        &mut self,
        seen: &Seen<'w>,
        terms: &mut Terms<'_>,
        now: Timestamp,
        tell: &mut dyn FnMut(&RoundEvent<'_>),
    ) -> Result<Round, ReconcileError> {
        let mut found = Diagnostics::new();
        self.turn_to(seen, now, tell)?;
        let (mut planned, agenda) = loop {
            let planned = self.recover_and_plan(now, tell)?;
            if planned.diagnostics.has_errors() {
                self.hold_refused(planned.diagnostics, terms.on_error, &mut found)?;
            } else if !terms.starts_occurrences {
                break (planned, Agenda::default());
            } else if let Some(agenda) = self.start_due(seen, &planned, now, tell)? {
                found.extend(planned.diagnostics.clone());
                break (planned, agenda);
            }
            // Planned again, with other documents.
        };
        let session = self.session.as_mut().expect("a round begins with an open registry");
        if self.link.as_ref().is_some_and(KeptLink::stays) {
            self.workspace.read_secrets_of_twins(&session.view.declared, &session.view.registry)?;
        }
        if terms.on_error == OnError::Hold && (!seen.is_told.replace(true) || self.held != session.view.held) {
            self.held.clone_from(&session.view.held);
            let (fleet, findings) = (&session.view.declared.fleet, session.view.findings(found));
            tell(&RoundEvent::TakenUp { fleet, commit: &seen.head, held: &self.held, findings: &findings });
        }
        if !(terms.accept)(&session.view, &mut planned)? {
            session.reconciled = (!planned.plan.has_changes()).then(|| seen.head.clone());
            return Ok(Round::default());
        }
        if terms.on_error == OnError::Refuse {
            // An apply goes on with what runs, whatever it cannot claim.
            session.reconciled = Some(seen.head.clone());
        }
        let (upstream, running, crash) = (self.upstream.as_mut(), &mut self.running, &self.options.ports.crash);
        Beginning { session, upstream, running, crash }
            .begin(&planned, terms.left, &mut |progress| tell(&RoundEvent::Progress(progress)))?;
        session.reconciled = Some(seen.head.clone());
        Ok(Round {
            is_begun: true,
            has_deferred: planned.plan.runs.iter().any(|run| run.is_deferred),
            next_due: agenda.next,
            look_again_at: agenda.look_again_at.into_iter().chain(planned.plan.thaws_at()).min(),
        })
    }

    /// Looks at what a commit declares, with the occurrences that are under way.
    pub(super) fn turn_to(
        &mut self,
        seen: &Seen<'w>,
        now: Timestamp,
        tell: &mut dyn FnMut(&RoundEvent<'_>),
    ) -> Result<(), ReconcileError> {
        let session = self.session.as_mut().expect("a round begins with an open registry");
        if let Some(upstream) = self.upstream.as_mut().filter(|upstream| upstream.lease().is_none()) {
            upstream.sync(&session.view.branch)?;
        }
        session.head.clone_from(&seen.head);
        session.view.turn_to(&seen.files)?;
        session.view.add_occurrences()?;
        if let Some(ownership) = &mut session.ownership {
            let recorded = &mut self.cache.recorded;
            ownership
                .look((&mut session.view, recorded), now, &mut |progress| tell(&RoundEvent::Progress(progress)))?;
            if let Some(upstream) = &mut self.upstream {
                upstream.works_with(&ownership.own, self.options.takes_over);
            }
        }
        Ok(())
    }

    /// Brings the registry and the results branch in line with each other, and plans.
    pub(super) fn recover_and_plan(
        &mut self,
        now: Timestamp,
        tell: &mut dyn FnMut(&RoundEvent<'_>),
    ) -> Result<Planned, ReconcileError> {
        let session = self.session.as_mut().expect("a round begins with an open registry");
        let crash = &self.options.ports.crash;
        let has_published = Recovery::new(&mut session.view, &mut self.cache.recorded, self.upstream.as_ref(), crash)
            .republish(&mut |progress| tell(&RoundEvent::Progress(progress)))?;
        if let Some(upstream) = self.upstream.as_mut().filter(|upstream| has_published && upstream.lease().is_none()) {
            // There may be no work that would push it.
            upstream.sync(&session.view.branch)?;
        }
        if !self.options.accepts_rewind {
            check_rewind(&session.view, &session.head, session.reconciled.as_deref())?;
        }
        self.has_planned = true;
        self.planning().plan_to_work(now)
    }

    /// Settles what was left behind, and plans; errors as [`Reconciler::round`].
    pub fn plan(&mut self, now: Timestamp) -> Result<Planned, ReconcileError> {
        self.planning().plan(now)
    }

    pub(super) fn planning(&mut self) -> Planning<'_, 'w> {
        Planning {
            session: self.session.as_mut().expect("a plan needs an open registry"),
            upstream: self.upstream.as_mut(),
            recorded: &mut self.cache.recorded,
            options: &self.options,
            is_running: !self.running.is_empty(),
        }
    }

    /// Holds the documents that a plan refuses, and adds the errors to what was found.
    ///
    /// # Errors
    /// [`ReconcileError::Invalid`]: nothing is to be held, or nothing can be.
    fn hold_refused(
        &mut self,
        diagnostics: Diagnostics,
        on_error: OnError,
        found: &mut Diagnostics,
    ) -> Result<(), ReconcileError> {
        let OpenFleet { view, .. } = self.session.as_mut().expect("a round begins with an open registry");
        if on_error == OnError::Refuse {
            return Err(ReconcileError::Invalid(Box::new(view.findings(diagnostics))));
        }
        let refused = refused(&view.files.loaded, &diagnostics);
        // Warnings are told by the plan that is carried out.
        let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error);
        errors.for_each(|error| found.push(error.clone()));
        if leave_out(refused, Arc::make_mut(&mut view.declared), &mut view.held) == 0 {
            return Err(ReconcileError::Invalid(Box::new(view.findings(std::mem::take(found)))));
        }
        Ok(())
    }

    /// Declares the occurrences that are due, for which a plan is to be made, and returns `None`; when there is none,
    /// records what was missed and returns the agenda.
    fn start_due(
        &mut self,
        seen: &Seen<'w>,
        planned: &Planned,
        now: Timestamp,
        tell: &mut dyn FnMut(&RoundEvent<'_>),
    ) -> Result<Option<Agenda>, ReconcileError> {
        let session = self.session.as_mut().expect("a round begins with an open registry");
        let (only_looks, view) = (session.only_looks(), &mut session.view);
        if only_looks {
            return Ok(Some(Agenda::default()));
        }
        let mut agenda = agenda_of(view, &mut self.cache.followed, (seen.seen_at, now))?;
        tell_refusals(&mut agenda, &self.held);
        let fresh = agenda.start.iter().filter(|job| is_fresh(job, &view.declared, &view.held));
        let fresh: Vec<(Name, Arc<Job>)> = fresh.map(|job| (job.name.clone(), Arc::new(job.clone()))).collect();
        if !fresh.is_empty() {
            Arc::make_mut(&mut view.declared).jobs.extend(fresh);
            return Ok(None);
        }
        let crash = &self.options.ports.crash;
        settle_agenda(view, self.upstream.as_mut(), &agenda, (&seen.head, &planned.plan.id, now), crash)?;
        for missed in &agenda.missed {
            tell(&RoundEvent::Missed { job: &missed.job.name, run: &missed.job.run, reason: &missed.reason });
        }
        Ok(Some(agenda))
    }

    /// Executes what runs until a time, or until a run ends or something else arrives; pushes what it has written, and
    /// makes the right to work last. Returns the runs that ended or were left.
    ///
    /// # Errors
    /// The registry, the repository or the link fails, or another process has taken over. What is in flight was
    /// awaited, and nothing runs any more: the journal has what came of it, and the next round takes it up from there.
    pub fn run_until(
        &mut self,
        until: Timestamp,
        clock: &dyn Clock,
        inbox: &Inbox,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<Vec<RunRecord>, ReconcileError> {
        let (Some(session), Some(kept)) = (&mut self.session, &mut self.link) else { return Ok(Vec::new()) };
        let looked = kept.look_in(self.workspace, &session.view, clock.now()).map_err(ReconcileError::from);
        let mut executor = session.executor(&mut *kept.link, (&self.options, clock, inbox), observer);
        let executed = looked.and_then(|()| Ok(executor.execute(&mut self.running, until)?));
        self.woken = self.woken.and(executor.woken);
        let kept = executed.and_then(|ended| {
            // What ended last is pushed as the lease is given back.
            if let Some(upstream) = self.upstream.as_mut().filter(|_| !self.running.is_empty()) {
                let View { branch, registry, .. } = &mut session.view;
                let kept = upstream.keep(branch, registry, &|| clock.now());
                let (news, branch) = (upstream.take_alone_news(), branch.branch_beside());
                news.into_iter()
                    .for_each(|reason| observer(&Progress::RenewsByCommits { branch: branch.clone(), reason }));
                kept?;
            }
            Ok(ended)
        });
        match kept {
            Ok(ended) => {
                session.done.records.extend(ended.iter().cloned());
                Ok(ended)
            }
            Err(error) => {
                self.link = self.give_up(clock, inbox, observer).filter(|link| link.outlasts(&error));
                Err(error)
            }
        }
    }

    /// Returns what was done since the registry was opened, and begins to count anew.
    pub fn take_done(&mut self) -> Done {
        self.session.as_mut().map(|session| std::mem::take(&mut session.done)).unwrap_or_default()
    }

    /// Waits for what is in flight, and forgets what runs. The journal has what came of it, or devices say it again.
    pub fn abandon(&mut self, clock: &dyn Clock, inbox: &Inbox, observer: &mut dyn FnMut(&Progress)) {
        drop(self.give_up(clock, inbox, observer));
    }

    /// As [`Reconciler::abandon`], and returns the link.
    fn give_up(&mut self, clock: &dyn Clock, inbox: &Inbox, tell: &mut dyn FnMut(&Progress)) -> Option<KeptLink> {
        if let (Some(session), Some(kept)) = (&mut self.session, &mut self.link) {
            let mut executor = session.executor(&mut *kept.link, (&self.options, clock, inbox), tell);
            executor.drain(&mut self.running);
            self.woken = self.woken.and(executor.woken);
        }
        self.running = Running::default();
        self.session = None;
        if let Some(upstream) = &mut self.upstream {
            upstream.forget();
        }
        self.link.take()
    }

    /// Gives back the right to work and the lock, and notes what was applied: there is nothing to execute.
    pub fn rest(&mut self, ending: Ending, now: Timestamp) -> Rested {
        let mut rested = Rested::default();
        let mut session = self.session.take();
        let may_write = self.upstream.as_ref().is_none_or(|upstream| upstream.lease().is_some());
        if let Some(session) = session.as_mut().filter(|session| may_write && !session.only_looks()) {
            // What people did to devices meanwhile. What fails now is published by the next round.
            drop(empty_outbox(&session.view.branch, &mut session.view.registry, &self.options.ports.crash));
        }
        if ending == Ending::Interrupt {
            self.hurry();
        }
        if let (Some(upstream), Some(name)) = (&mut self.upstream, &self.branch)
            && (session.is_some() || ending != Ending::Idle && self.has_planned)
        {
            let branch = self.workspace.repo.results(name);
            let finished = match ending {
                Ending::Idle => upstream.finish(&branch, now),
                Ending::Process | Ending::Interrupt => upstream.close(&branch, now),
            };
            rested.failures.extend(finished.err());
        }
        // It was kept for as long as anything was written.
        let lock = self.lock.take();
        // Where another registry works, its process listens to the devices.
        let only_looks = session.as_ref().is_some_and(OpenFleet::only_looks);
        let link = self.link.take_if(|link| ending != Ending::Idle || !link.stays() || only_looks);
        let Some(mut session) = session else { return rested };
        rested.done = std::mem::take(&mut session.done);
        // A plan that was refused or declined changes nothing.
        if session.reconciled.is_none() || session.only_looks() {
            return rested;
        }
        rested.failures.extend(session.note_applied(self.upstream.is_some()).err());
        if ending == Ending::Interrupt {
            return rested;
        }
        match make_indexes(&mut session.view, &rested.done, &mut self.cache.searches) {
            Ok(changes) => rested.indexes = changes,
            Err(error) => rested.index_failure = Some(error.to_string()),
        }
        drop((session, link, lock));
        rested
    }

    /// Gives everything back for good, and tries once more what could not be pushed; what stays is for the next start.
    pub fn end(&mut self, now: Timestamp) -> Rested {
        self.hurry();
        let rested = self.rest(Ending::Idle, now);
        self.link = None;
        if let (Some(upstream), Some(name)) = (&mut self.upstream, &self.branch)
            && upstream.failure.is_some()
        {
            let branch = self.workspace.repo.results(name);
            // The lease is given back with what is pushed.
            drop(upstream.pull(&branch).and_then(|()| upstream.finish(&branch, now)));
        }
        rested
    }

    /// Gives no call of the remote much time from now on.
    fn hurry(&mut self) {
        let time_max = self.options.grace.max(HURRY_MIN);
        self.upstream.iter_mut().for_each(|upstream| upstream.hurry(time_max));
    }

    /// Returns how many commits of results the remote does not have; 0 without work and without a failure.
    pub fn unpushed(&self) -> usize {
        let may_wait = |upstream: &Upstream| upstream.lease().is_some() || upstream.failure.is_some();
        match &self.branch {
            Some(name) if self.upstream.as_ref().is_some_and(may_wait) => {
                self.workspace.repo.results(name).unpushed().unwrap_or(0)
            }
            Some(_) | None => 0,
        }
    }

    /// Stops what a newer commit suspends or does not declare any more.
    pub fn look_for_stops(&mut self, stops: &mut Stops, observer: &mut dyn FnMut(&Progress)) {
        if !self.running.is_empty() {
            stops.look(&self.workspace.repo, &mut self.running, observer);
        }
    }

    /// Returns true while the remote owes an answer that claims wait for.
    pub fn is_awaited(&self) -> bool {
        self.upstream.as_ref().is_some_and(Upstream::is_awaited)
    }
}
