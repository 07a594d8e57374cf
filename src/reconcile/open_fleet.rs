//! What is open while there is work.

use super::ownership::Ownership;
use super::terms::Done;
use super::{ReconcileError, ReconcileOptions};
use crate::execute::{Clock, Executor, Inbox, Progress, Wakeups};
use crate::link::DeviceLink;
use crate::prepare::View;
use crate::registry::Change;

/// What is open while there is work.
pub(super) struct OpenFleet<'w> {
    pub view: View<'w>,
    /// Whose fleet it is; `None` for a rehearsal.
    pub ownership: Option<Ownership>,
    pub done: Done,
    /// The commit that is reconciled.
    pub head: String,
    /// The commit of the last round that went well: what was refused is not noted as applied.
    pub reconciled: Option<String>,
}

impl<'w> OpenFleet<'w> {
    pub fn new(view: View<'w>) -> OpenFleet<'w> {
        let (done, head, reconciled) = (Done::default(), String::new(), None);
        OpenFleet { view, ownership: None, done, head, reconciled }
    }

    /// Returns true when another registry works on the fleet: this one writes nothing.
    pub fn only_looks(&self) -> bool {
        self.ownership.as_ref().is_some_and(|ownership| ownership.other().is_some())
    }

    /// Notes what was applied, and the tip of the results branch after it; with a remote, the tip that it has: what is
    /// here only may have to be made again.
    pub fn note_applied(&mut self, has_remote: bool) -> Result<(), ReconcileError> {
        let View { branch, registry, .. } = &mut self.view;
        let tip = if has_remote { branch.upstream_tip()? } else { branch.tip()? };
        if let (Some(tip), Some(head)) = (tip, &self.reconciled) {
            registry.write(Change::Seen { results_tip: &tip, applied_head: head })?;
        }
        Ok(())
    }

    /// Returns the executor of what runs.
    pub fn executor<'e>(
        &'e mut self,
        link: &'e mut dyn DeviceLink,
        (options, clock, inbox): (&'e ReconcileOptions, &'e dyn Clock, &'e Inbox),
        observer: &'e mut dyn FnMut(&Progress),
    ) -> Executor<'e> {
        Executor {
            registry: &mut self.view.registry,
            branch: &self.view.branch,
            link,
            clock,
            fleet: &self.view.declared.fleet,
            inbox,
            woken: Wakeups::default(),
            masks: self.view.workspace.masks(),
            grace: options.grace,
            waits: options.waits,
            outlasts_outages: options.outlasts_outages,
            crash: &options.ports.crash,
            observer,
        }
    }
}
