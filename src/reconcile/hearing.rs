//! Listening to devices while nothing runs.

use jiff::Timestamp;

use super::{ReconcileError, Reconciler};
use crate::model::status::LinkStatus;

impl Reconciler<'_> {
    /// Writes what devices say into the registry, while nothing runs. Returns true when they had said something.
    ///
    /// # Errors
    /// The registry or the link failed.
    pub fn hear(&mut self, now: Timestamp) -> Result<bool, ReconcileError> {
        let (Some(link), None) = (&mut self.link, &self.session) else { return Ok(false) };
        let heard = link.hear(self.workspace, &self.options, now);
        if heard.as_ref().is_err_and(|error| !link.outlasts(error)) {
            // What was not written down is delivered again on a new connection, which the next round opens.
            self.link = None;
        }
        heard
    }

    /// Returns when to listen again although no device speaks; `None` when that is not needed.
    pub fn hear_at(&self, now: Timestamp) -> Option<Timestamp> {
        self.link.as_ref().filter(|_| self.session.is_none()).and_then(|link| link.look_at(now))
    }

    /// Returns how the way to the devices is; `None` when none is open, or it cannot be unwell.
    pub fn link_status(&self) -> Option<LinkStatus> {
        self.link.as_ref().and_then(|kept| kept.link.status())
    }
}
