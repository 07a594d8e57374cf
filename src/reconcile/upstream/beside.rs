//! Calls of the remote that go on beside what runs. A remote that is slow, or that does not answer at all, keeps no
//! device waiting:
//!
//! - What is committed here is pushed by a thread of its own.
//! - A claim and a longer lease have to land before anything follows from them. The remote is asked first, beside what
//!   runs, whether it answers at all, and they are tried when it does.
//!
//! One of them goes on at a time, and whatever else has to do with the remote waits for it. Short calls, and that is
//! nearly all of them, are waited for.

use std::time::Duration;

use jiff::Timestamp;

use super::{ReconcileError, Upstream, Wakeup};
use crate::ledger::LEASE_RENEWAL_PART;
use crate::registry::Registry;
use crate::repo::{Call, Outgoing, Pulse, ResultsBranch, Sent, UpstreamError};

/// How long a call is waited for when it begins, before it is left to itself.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often a push is put off, of about one each second, for claims or a lease that wait for an answer.
const QUIET_MAX: u32 = 60;
/// A push beside what runs has this long at least; otherwise two thirds of a lease, so that the lease can be made to
/// last in time.
const PUSH_TIME_MIN: Duration = Duration::from_secs(10);

/// The calls that were begun.
#[derive(Debug, Default)]
pub(super) struct Beside {
    push: Option<(Outgoing, Call<Sent>)>,
    question: Option<Call<Vec<Option<String>>>>,
    /// How often a push is still to be put off, since a claim or a lease waits for an answer and it would be in the
    /// way.
    quiet: u32,
    /// How often in a row another process had moved the branch.
    attempt: u32,
}

impl Upstream {
    /// Pushes what is committed here, and makes the lease last, when it is time for either. What fails is noted and
    /// tried again later.
    ///
    /// # Errors
    /// Another process has taken over the work.
    pub fn keep(
        &mut self,
        branch: &ResultsBranch<'_>,
        registry: &mut Registry,
        clock: &dyn Fn() -> Timestamp,
    ) -> Result<(), ReconcileError> {
        let now = clock();
        if self.beside.push.is_none() && !self.backoff.is_over(now) {
            return Ok(());
        }
        let is_old = now.duration_since(self.taken_at).unsigned_abs() >= self.lease_time / LEASE_RENEWAL_PART;
        let kept = if self.beside.push.is_some() {
            self.push_beside(branch).map_err(ReconcileError::from)
        } else if self.lease.is_some() && is_old {
            self.answers(branch).map_err(ReconcileError::from).and_then(|()| self.renew(branch, registry, now))
        } else if self.beside.quiet > 0 {
            self.beside.quiet -= 1;
            return Ok(());
        } else if branch.unpushed()? > 0 {
            self.push_beside(branch).map_err(ReconcileError::from)
        } else {
            return Ok(());
        };
        match kept {
            Ok(()) => {
                self.backoff.reset();
                self.note(None);
                Ok(())
            }
            Err(ReconcileError::Upstream(UpstreamError::Unanswered { .. })) => Ok(()),
            Err(error @ ReconcileError::Upstream(UpstreamError::Remote(_))) => {
                self.backoff.fail(clock(), false);
                self.note(Some(&error));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns when the remote has just answered, so that a call of it will probably not keep its caller waiting.
    ///
    /// # Errors
    /// [`UpstreamError::Unanswered`] until it has: ask again. The remote cannot be reached.
    pub fn answers(&mut self, branch: &ResultsBranch<'_>) -> Result<(), UpstreamError> {
        if self.beside.push.is_some() {
            self.beside.quiet = QUIET_MAX;
            return Err(self.unanswered());
        }
        let (question, patience) = match self.beside.question.take() {
            Some(question) => (question, Duration::ZERO),
            None => {
                let (remote, name) = (self.remote.clone().with_pulse(None), branch.name().to_string());
                (Call::begin(move || remote.heads(&[&name]), self.ended()), PATIENCE)
            }
        };
        match question.wait(patience) {
            Ok(answer) => {
                self.beside.quiet = 0;
                Ok(answer.map(drop)?)
            }
            Err(question) => {
                (self.beside.question, self.beside.quiet) = (Some(question), QUIET_MAX);
                Err(self.unanswered())
            }
        }
    }

    /// Returns true while the remote owes an answer: to ask again now would be in vain.
    pub fn is_awaited(&self) -> bool {
        self.beside.push.as_ref().is_some_and(|(_, push)| !push.has_ended())
            || self.beside.question.as_ref().is_some_and(|question| !question.has_ended())
    }

    /// Waits for the end of a push that goes on; how it went shows in what is still to be pushed. An answer to what was
    /// asked before is too old for the next caller.
    ///
    /// # Errors
    /// What it brought cannot be noted here, or the two branches cannot be brought together.
    pub fn settle(&mut self, branch: &ResultsBranch<'_>) -> Result<(), UpstreamError> {
        (self.beside.question, self.beside.quiet) = (None, 0);
        let mut waited = Duration::ZERO;
        while self.beside.push.is_some() {
            if self.hurry.is_some_and(|hurry| waited >= hurry) {
                // It goes on, and the next pull finds out how it ended.
                self.beside.push = None;
                return Ok(());
            }
            waited += PATIENCE;
            self.remote.pulse().into_iter().for_each(Pulse::beat);
            match self.push_beside_for(branch, PATIENCE) {
                Ok(()) => self.note(None),
                // The caller goes on to call the remote, and learns that it fails from that.
                Err(UpstreamError::Unanswered { .. } | UpstreamError::Remote(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Begins to push what is committed here, or goes on with a push that was begun.
    ///
    /// # Errors
    /// [`UpstreamError::Unanswered`] while it goes on; otherwise as [`ResultsBranch::push`].
    fn push_beside(&mut self, branch: &ResultsBranch<'_>) -> Result<(), UpstreamError> {
        // It was waited for when it began.
        let patience = if self.beside.push.is_some() { Duration::ZERO } else { PATIENCE };
        self.push_beside_for(branch, patience)
    }

    fn push_beside_for(&mut self, branch: &ResultsBranch<'_>, patience: Duration) -> Result<(), UpstreamError> {
        let crash = self.crash.clone();
        crash.around("push", || {
            let (outgoing, push) = match self.beside.push.take() {
                Some(push) => push,
                None => {
                    let Some(outgoing) = branch.outgoing()? else { return Ok(()) };
                    let time_max = PUSH_TIME_MIN.max(self.lease_time * 2 / 3);
                    let remote = self.remote.clone().with_pulse(None).with_time_at_most(time_max);
                    let attempt = self.beside.attempt;
                    let mine = outgoing.clone();
                    (outgoing, Call::begin(move || mine.send(&remote, attempt), self.ended()))
                }
            };
            let sent = match push.wait(patience) {
                Ok(sent) => sent,
                Err(push) => {
                    self.beside.push = Some((outgoing, push));
                    return Err(self.unanswered());
                }
            };
            self.beside.attempt = if matches!(sent, Ok(Sent::Behind)) { self.beside.attempt + 1 } else { 0 };
            if !matches!(sent, Ok(Sent::Behind)) {
                self.pushes.count(sent.is_ok());
            }
            let sent = sent?;
            self.exchange(branch, |exchange| branch.take_sent(&outgoing, sent, exchange))
        })
    }

    /// Returns what tells the reconciling thread that a call has ended.
    fn ended(&self) -> impl FnOnce() + Send + 'static {
        let waker = self.waker.clone();
        move || waker.wake(Wakeup::Push)
    }

    fn unanswered(&self) -> UpstreamError {
        UpstreamError::Unanswered { remote: self.remote.shown() }
    }
}
