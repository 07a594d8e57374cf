//! Plans, and the right to carry them out: whose fleet it is, and which process works on it.

use jiff::Timestamp;

use super::open_fleet::OpenFleet;
use super::ownership::Ownership;
use super::recovery::{Recovery, unnoted_renames};
use super::{ReconcileError, ReconcileOptions, Upstream};
use crate::prepare::{Planned, Purpose, Recorded};

/// What a plan is made with.
pub(super) struct Planning<'a, 'w> {
    pub session: &'a mut OpenFleet<'w>,
    pub upstream: Option<&'a mut Upstream>,
    pub recorded: &'a mut Recorded,
    pub options: &'a ReconcileOptions,
    /// Devices are running.
    pub is_running: bool,
}

impl Planning<'_, '_> {
    /// Plans. When there is something to do, the right to do it is taken first: the plan is made again with it.
    ///
    /// # Errors
    /// The registry, the repository or the remote fails; another process or another registry has the right; while
    /// devices are running, the remote has not answered yet.
    pub fn plan_to_work(&mut self, now: Timestamp) -> Result<Planned, ReconcileError> {
        if self.session.only_looks() && !self.options.takes_over {
            return self.plan_to_look(now);
        }
        if self.upstream.is_none() {
            self.bind(now)?;
            return self.plan(now);
        }
        let OpenFleet { view, .. } = &*self.session;
        // Whether the claims of such runs have landed is not known here.
        let has_open_claims = view.registry.journal().unclosed()?.iter().any(|run| !run.is_claimed);
        let has_outbox = !view.registry.branch_copy().outbox()?.is_empty();
        let has_lease = self.upstream.as_ref().is_some_and(|upstream| upstream.lease().is_some());
        if !has_lease {
            // What a process left behind is settled by the one that has the right to work, and only then is it clear
            // what landed.
            if !has_open_claims && !has_outbox {
                let planned = self.plan(now)?;
                let is_idle = !planned.plan.has_changes() && unnoted_renames(&self.session.view).is_empty();
                // What cannot be done needs no right to do it.
                if is_idle || planned.diagnostics.has_errors() {
                    return Ok(planned);
                }
            }
            let OpenFleet { view, ownership, .. } = &mut *self.session;
            if let Some(upstream) = &mut self.upstream {
                upstream.acquire(&view.branch, &mut view.registry, now)?;
                ownership.as_mut().map_or(Ok(()), Ownership::has_bound)?;
            }
        } else if has_open_claims && let Some(upstream) = &mut self.upstream {
            let OpenFleet { view, .. } = &mut *self.session;
            if self.is_running {
                upstream.answers(&view.branch)?;
            }
            // After this commit the push of a claim has landed or never will.
            upstream.pull(&view.branch)?;
            upstream.acquire(&view.branch, &mut view.registry, now)?;
        }
        self.plan(now)
    }

    /// Returns the plan of a registry that only looks.
    ///
    /// # Errors
    /// Another registry works on the fleet. It is told also when there is nothing to do: whoever gave this registry up
    /// learns it before there is.
    fn plan_to_look(&mut self, now: Timestamp) -> Result<Planned, ReconcileError> {
        let planned = self.plan(now)?;
        let OpenFleet { view, ownership, .. } = &*self.session;
        let refusal = ownership.as_ref().and_then(|ownership| ownership.refusal(&view.branch, now));
        match refusal.filter(|_| !planned.diagnostics.has_errors()) {
            Some(refusal) => Err(refusal),
            None => Ok(planned),
        }
    }

    /// Takes a fleet that no registry works on yet when there is something to do, or one that is to be taken over,
    /// where the results stay in the repository.
    fn bind(&mut self, now: Timestamp) -> Result<(), ReconcileError> {
        let is_free = self.session.ownership.as_ref().is_some_and(Ownership::is_free);
        if !is_free && !self.session.only_looks() {
            return Ok(());
        }
        if is_free {
            let planned = self.plan(now)?;
            if !planned.plan.has_changes() || planned.diagnostics.has_errors() {
                return Ok(());
            }
        }
        let OpenFleet { view, ownership, .. } = &mut *self.session;
        ownership.as_mut().map_or(Ok(()), |ownership| ownership.bind(&view.branch, self.options.takes_over))
    }

    /// Settles what was left behind, and plans.
    ///
    /// # Errors
    /// The history cannot be trusted, or something cannot be read or written.
    pub fn plan(&mut self, now: Timestamp) -> Result<Planned, ReconcileError> {
        let only_looks = self.session.only_looks();
        let OpenFleet { view, .. } = &mut *self.session;
        let mut recovery = Recovery::new(view, self.recorded, self.upstream.as_deref(), &self.options.ports.crash);
        if only_looks {
            recovery.look()?
        } else {
            recovery.settle()?
        }
        Ok(view.plan(Purpose::Work, now)?)
    }
}
