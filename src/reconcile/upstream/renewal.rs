//! The lease is made to last on the branch beside the results branch, where no history grows. The way that a renewal and
//! a take-over keep each other out is told in `ledger::lease`.

use jiff::Timestamp;

use super::{ReconcileError, Upstream, changed_hands, lease_file};
use crate::execute::writer;
use crate::ledger::Lease;
use crate::prepare::lease_on;
use crate::registry::Registry;
use crate::repo::{RemoteError, ResultsBranch, UpstreamError};
use crate::results::{Trailers, with_trailers};

impl Upstream {
    /// Makes the lease last; where the remote takes no branch beside the results branch, by a commit of that.
    ///
    /// # Errors
    /// As [`Upstream::acquire`].
    pub(super) fn renew(
        &mut self,
        branch: &ResultsBranch<'_>,
        registry: &mut Registry,
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        if self.alone.is_some() {
            return self.acquire(branch, registry, now);
        }
        match self.renew_beside(branch, registry, now) {
            Err(ReconcileError::Upstream(UpstreamError::Remote(RemoteError::Alone { message, .. }))) => {
                // A remote that takes nothing at all says so again.
                self.acquire(branch, registry, now)?;
                self.stay_alone(message);
                Ok(())
            }
            renewed => self.note_lost(renewed),
        }
    }

    fn renew_beside(
        &mut self,
        branch: &ResultsBranch<'_>,
        registry: &mut Registry,
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        self.settle(branch)?;
        let Some(own) = self.lease.clone() else { return Ok(()) };
        let time = self.lease_time;
        let (mut renewed, mut holder) = (None, None);
        let mut still = |branch: &ResultsBranch<'_>| {
            let there = lease_on(branch)?;
            let is_own = there.as_ref().is_some_and(|lease| lease.owner == own.owner && lease.epoch == own.epoch);
            if !is_own {
                holder = Some(there.unwrap_or_else(|| Lease { epoch: 0, ..own.released(now) }));
                return Ok(None);
            }
            let lease = Lease::after(there.as_ref(), &own.owner, now, time);
            let subject = format!("lease {}: {}", lease.epoch, lease.owner);
            let message = with_trailers(&subject, &Trailers { writer: &writer(), ..Trailers::default() });
            let file = lease_file(&lease);
            renewed = Some(lease);
            Ok(Some((file, message)))
        };
        let renew = || self.exchange(branch, |exchange| branch.renew_upstream(exchange, &mut still));
        let pushed = self.crash.around("renew lease", renew);
        let is_refused = matches!(pushed, Err(UpstreamError::Remote(RemoteError::Alone { .. })));
        if !is_refused && !matches!(pushed, Ok(false)) {
            self.pushes.count(pushed.is_ok());
        }
        pushed?;
        if let Some(lease) = holder {
            return Err(changed_hands(&lease));
        }
        let lease = renewed.expect("a lease that did not change hands was renewed");
        registry.enter_epoch(lease.epoch)?;
        (self.lease, self.taken_at) = (Some(lease), now);
        Ok(())
    }

    /// Renews leases by commits from now on: the branch beside is not to be had.
    pub(super) fn stay_alone(&mut self, why: String) {
        self.alone_news = Some(why.clone());
        self.alone = Some(why);
    }

    /// Returns once why leases are renewed by commits.
    pub fn take_alone_news(&mut self) -> Option<String> {
        self.alone_news.take()
    }
}
