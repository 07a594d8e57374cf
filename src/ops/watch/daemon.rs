//! The steps of a daemon, and what is in the way of the next one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::follower::{Follower, News};
use super::notes::{Look, Note};
use super::options::WatchOptions;
use crate::execute::{Clock, Inbox, Waker, Wakeup, Wakeups};
use crate::model::id::Name;
use crate::model::status::LinkStatus;
use crate::ops::{OpsError, Workspace};
use crate::prepare::{HistoryError, OnError, Planned, View};
use crate::reconcile::{Backoff, Ending, Reconciler, Rested, RoundEvent, Terms, Upstream, behind};
use crate::registry::RegistryError;
use crate::repo::UpstreamError;

/// The shortest time between two notes of how the way to the devices is.
const LINK_INTERVAL: Duration = Duration::from_secs(1);
/// How long what devices say is gathered before it is written down.
const LISTEN_PAUSE: Duration = Duration::from_millis(50);
/// How long what runs is executed before the next look.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest time without a look, whatever the interval: it is how others see that the daemon is alive.
const HEARTBEAT: Duration = Duration::from_secs(30);

/// A source, a reconciler, and when each is next.
pub(super) struct Daemon<'w> {
    follower: Follower<'w>,
    reconciler: Reconciler<'w>,
    interval: Duration,
    /// What has arrived since the last look.
    woken: Wakeups,
    /// Something may have changed since the last plan.
    is_due: bool,
    /// The last round could not claim what it was to, and is made again when the remote has answered.
    awaits_answer: bool,
    /// When schedules are due next, by name.
    next_due: BTreeMap<Name, Timestamp>,
    /// When the schedules are to be looked at again.
    agenda_at: Option<Timestamp>,
    /// What was in the way last, as it was told.
    trouble: Option<String>,
    /// Pauses between looks at the source that fail.
    looks: Backoff,
    /// Pauses between rounds that fail.
    rounds: Backoff,
    /// Pauses between tries to write down what devices say that fail.
    hearings: Backoff,
    /// How the way to the devices was, as it was told last, and when.
    link_told: Option<LinkStatus>,
    link_told_at: Option<Timestamp>,
}

impl<'w> Daemon<'w> {
    pub fn new(
        workspace: &'w Workspace,
        follower: Follower<'w>,
        options: &WatchOptions,
        waker: Waker,
        now: Timestamp,
    ) -> Daemon<'w> {
        Daemon {
            follower,
            reconciler: Reconciler::new(workspace, options.reconcile(), waker),
            interval: options.interval,
            woken: Wakeups::default(),
            is_due: false,
            awaits_answer: false,
            next_due: BTreeMap::new(),
            agenda_at: None,
            trouble: None,
            looks: Backoff::new(now),
            rounds: Backoff::new(now),
            hearings: Backoff::new(now),
            link_told: None,
            link_told_at: None,
        }
    }

    pub fn has_nothing_running(&self) -> bool {
        self.reconciler.running.is_empty()
    }

    /// Returns true when nothing runs that has to be awaited.
    pub fn is_idle(&self) -> bool {
        self.reconciler.running.is_idle()
    }

    /// Notes what has arrived.
    pub fn wake(&mut self, wakeups: Wakeups) {
        self.woken = self.woken.and(wakeups);
    }

    /// Looks, reconciles if that is due, and executes what runs for a while.
    ///
    /// # Errors
    /// The remote was never fetched, and can never be; or the registry belongs to a newer fleetform now.
    pub fn step(&mut self, clock: &dyn Clock, inbox: &Inbox, tell: &mut dyn FnMut(&Note<'_>)) -> Result<(), OpsError> {
        let now = clock.now();
        self.fetch(now, tell)?;
        if self.looks.is_over(now) {
            self.look(clock, now, tell);
        }
        self.is_due |= self.agenda_at.is_some_and(|at| at <= now);
        // With nothing running no device is kept waiting.
        let is_awaited = self.awaits_answer && !self.has_nothing_running() && self.reconciler.is_awaited();
        let is_time = self.is_due && self.rounds.is_over(now) && !is_awaited && !inbox.is_interrupted();
        let reconciled = if is_time { self.reconcile(now, tell) } else { Ok(()) };
        let is_reconciled = is_time && reconciled.is_ok();
        let executed = if self.has_nothing_running() { Ok(()) } else { self.execute(clock, inbox, tell) };
        // What was planned and then failed at once has not recovered: the next try waits longer.
        if is_reconciled && executed.is_ok() && (self.rounds.reset() | self.trouble.is_some()) {
            self.trouble = None;
            tell(&Note::Recovered);
        }
        for error in [reconciled, executed].into_iter().filter_map(Result::err) {
            // A newer fleetform has changed the registry: this one must not write to it any more.
            if matches!(error, OpsError::Registry(RegistryError::Newer { .. })) {
                return Err(error);
            }
            self.is_due = true;
            self.awaits_answer = matches!(error, OpsError::Upstream(UpstreamError::Unanswered { .. }));
            if self.awaits_answer {
                continue;
            }
            // What failed may have taken its time.
            let is_held = matches!(error, OpsError::Held { .. } | OpsError::AtWork { .. });
            let retry_at = self.rounds.fail(clock.now(), is_held);
            self.tell_trouble((&error, false), retry_at, now, tell);
        }
        self.tell_look(is_reconciled, now, tell);
        Ok(())
    }

    /// Asks the remote, when it is time to or the doorbell rang.
    fn fetch(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) -> Result<(), OpsError> {
        let source = &mut self.follower.source;
        let woken = std::mem::take(&mut self.woken);
        // What waits is published by a round, whatever it finds to do.
        self.is_due |= woken.has(Wakeup::Noted);
        let (is_woken, was_well) = (woken.has(Wakeup::Doorbell), source.is_well());
        source.fetch(now, is_woken, tell)?;
        // A remote alone: what the daemon commits to the repository itself wakes it too.
        if source.is_well() == Some(true) && (is_woken || was_well == Some(false)) {
            self.rounds.hasten();
        }
        Ok(())
    }

    fn look(&mut self, clock: &dyn Clock, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        match self.follower.look(&mut self.reconciler.cache.files, now) {
            Ok(news) => {
                self.looks.reset();
                self.is_due |= news != News::Nothing;
                if news == News::Declared {
                    self.awaits_answer = false;
                    self.rounds.reset();
                }
            }
            Err(error) => {
                // A commit that cannot be used is not looked at again: the next one may be better.
                let is_bad = matches!(error, OpsError::Invalid(_)) && self.follower.passed_over().is_some();
                let retry_at = if is_bad { Timestamp::MAX } else { self.looks.fail(clock.now(), false) };
                self.tell_trouble((&error, is_bad), retry_at, now, tell);
            }
        }
    }

    /// Plans what is declared now and begins it. What the plan refuses is held, and the rest goes on.
    fn reconcile(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) -> Result<(), OpsError> {
        let Some(seen) = &self.follower.seen else { return Ok(()) };
        tell(&Note::Reconciling);
        self.reconciler.open(seen, now)?;
        let (left, accept) = (BTreeSet::new(), &mut |_: &View<'_>, _: &mut Planned| Ok(true));
        let mut terms = Terms { on_error: OnError::Hold, starts_occurrences: true, left: &left, accept };
        let round = self.reconciler.round(seen, &mut terms, now, &mut |event: &RoundEvent<'_>| match event {
            RoundEvent::Progress(progress) => tell(&Note::Progress(progress)),
            RoundEvent::Missed { job, run, reason } => {
                tell(&Note::Missed { job: job.as_str(), run: run.as_str(), reason });
            }
            RoundEvent::TakenUp { fleet, commit, held, findings } => {
                tell(&Note::TakenUp { fleet, commit, held, findings });
            }
        });
        let round = match round {
            // What it does not come after may be what is being fetched.
            Err(OpsError::History(HistoryError::Rewound { head, last })) if self.follower.source.is_being_fetched() => {
                return Err(behind(&head, &last));
            }
            Err(error @ OpsError::History(HistoryError::Rewound { .. })) => {
                self.reconciler.stop_suspended(seen, &mut |progress| tell(&Note::Progress(progress)));
                return Err(error);
            }
            round => round?,
        };
        (self.is_due, self.awaits_answer) = (false, false);
        (self.next_due, self.agenda_at) = (round.next_due, round.look_again_at);
        Ok(())
    }

    fn execute(&mut self, clock: &dyn Clock, inbox: &Inbox, tell: &mut dyn FnMut(&Note<'_>)) -> Result<(), OpsError> {
        let until = clock.now().checked_add(LOOK_INTERVAL).unwrap_or(Timestamp::MAX);
        let ended = self.reconciler.run_until(until, clock, inbox, &mut |progress| tell(&Note::Progress(progress)));
        self.woken = self.woken.and(std::mem::take(&mut self.reconciler.woken));
        // What ended may be what others wait for.
        self.is_due |= !ended?.is_empty();
        Ok(())
    }

    /// Writes down what devices say until something else calls, or it is time to look again.
    pub fn listen(&mut self, clock: &dyn Clock, inbox: &Inbox, tell: &mut dyn FnMut(&Note<'_>)) {
        let look_at = self.next_look(clock.now());
        // Devices often speak at once: one commit for all that comes in a moment takes the least time.
        let mut hear_at = Some(Timestamp::MIN);
        loop {
            let now = clock.now();
            if hear_at.is_some_and(|at| at <= now) {
                hear_at = self.hear(clock, tell);
                self.tell_link(now, tell);
            }
            let beat_at = hear_at.or_else(|| self.reconciler.hear_at(now));
            let woken = clock.wait(beat_at.map_or(look_at, |at| at.min(look_at)), inbox);
            self.wake(woken);
            if woken.is_for_others_than(Wakeup::Link) || look_at <= clock.now() {
                return;
            }
            if woken.has(Wakeup::Link) || beat_at.is_some_and(|at| at <= clock.now()) {
                hear_at.get_or_insert(Timestamp::MIN);
            }
        }
    }

    /// Tells how the way to the devices is when that has changed, at most once a second.
    fn tell_link(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        let is_old = self.link_told_at.is_none_or(|at| now.duration_since(at).unsigned_abs() >= LINK_INTERVAL);
        if is_old
            && let Some(status) = self.reconciler.link_status()
            && self.link_told.as_ref() != Some(&status)
        {
            tell(&Note::Link { status: &status });
            (self.link_told, self.link_told_at) = (Some(status), Some(now));
        }
    }

    /// Writes down what devices have said, and returns when to listen again although nothing calls.
    fn hear(&mut self, clock: &dyn Clock, tell: &mut dyn FnMut(&Note<'_>)) -> Option<Timestamp> {
        let now = clock.now();
        if !self.hearings.is_over(now) {
            return Some(self.hearings.until(now));
        }
        match self.reconciler.hear(now) {
            Ok(has_heard) => {
                self.hearings.reset();
                if has_heard { now.checked_add(LISTEN_PAUSE).ok() } else { None }
            }
            Err(error) => {
                // What failed may have taken its time.
                let now = clock.now();
                let retry_at = self.hearings.fail(now, false);
                self.is_due = true;
                self.tell_trouble((&error, false), retry_at, now, tell);
                Some(retry_at)
            }
        }
    }

    /// Returns when to look again although nothing calls.
    fn next_look(&self, now: Timestamp) -> Timestamp {
        let next = now.checked_add(self.interval.min(HEARTBEAT)).unwrap_or(Timestamp::MAX);
        let next = self.follower.source.due_at().map_or(next, |due_at| next.min(due_at));
        // What is due and cannot be done now is not due before its pause is over.
        let round_at = if self.is_due { Some(self.rounds.until(now)) } else { self.agenda_at };
        round_at.map_or(next, |at| next.min(at.max(now)))
    }

    /// Gives everything back: there is nothing to execute.
    pub fn rest(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        let rested = self.reconciler.rest(Ending::Idle, now);
        self.tell_failures(rested, now, tell);
        self.follower.source.maintain(now);
    }

    /// Gives everything back for good.
    pub fn end(&mut self, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        let rested = self.reconciler.end(now);
        self.tell_failures(rested, now, tell);
    }

    fn tell_failures(&mut self, rested: Rested, now: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        for error in rested.failures {
            // The next round begins with what is left to push.
            self.is_due = true;
            let retry_at = self.rounds.fail(now, false);
            self.tell_trouble((&error, false), retry_at, now, tell);
        }
    }

    /// Tells what is in the way, and whether it is the newest commit that is passed over.
    fn tell_trouble(
        &mut self,
        (error, is_bad): (&OpsError, bool),
        retry_at: Timestamp,
        at: Timestamp,
        tell: &mut dyn FnMut(&Note<'_>),
    ) {
        // Which findings they are is said by the findings.
        let text = match error {
            OpsError::Invalid(findings) => {
                findings.diagnostics.iter().map(|one| one.detail.as_str()).collect::<Vec<_>>().join("\n")
            }
            error => error.to_string(),
        };
        let is_news = self.trouble.as_ref() != Some(&text);
        let passed_over = self.follower.passed_over().filter(|_| is_bad);
        tell(&Note::Trouble { error, is_news, passed_over, retry_at, at });
        self.trouble = Some(text);
    }

    fn tell_look(&self, is_reconciled: bool, at: Timestamp, tell: &mut dyn FnMut(&Note<'_>)) {
        let seen = self.follower.seen.as_ref();
        let upstream = self.reconciler.upstream.as_ref();
        tell(&Note::Looked(Look {
            at,
            commit: seen.map(|seen| seen.head.as_str()),
            passed_over: self.follower.passed_over(),
            digest: seen.map(|seen| seen.files.loaded.digest.to_string()),
            is_reconciled,
            next_due: &self.next_due,
            lease: upstream.and_then(Upstream::lease),
            unpushed: self.reconciler.unpushed(),
            push_failure: upstream.and_then(|upstream| upstream.failure.as_deref()),
            pushes: upstream.map(|upstream| upstream.pushes).unwrap_or_default(),
            is_push_denied: upstream.is_some_and(|upstream| upstream.is_denied),
            is_local: self.follower.source.is_local(),
            link: self.reconciler.link_status(),
        }));
    }
}
