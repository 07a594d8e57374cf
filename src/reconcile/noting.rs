//! Notes of what happened elsewhere, on the results branch.

use jiff::Timestamp;

use super::terms::EntryOf;
use super::{ReconcileError, Reconciler, Seen};
use crate::registry::Change;

impl<'w> Reconciler<'w> {
    /// Notes that a saved plan was used.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub(super) fn note_plan(&mut self, plan_id: &str, at: Timestamp) -> Result<(), ReconcileError> {
        if let Some(session) = &mut self.session {
            session.view.registry.write(Change::UsePlan { plan_id, at })?;
        }
        Ok(())
    }

    /// Takes the right to work and commits an entry of the outbox, with its name, that `entry_of` makes of what is known
    /// then. Nothing is executed.
    ///
    /// # Errors
    /// Another process or registry has the right, `entry_of` refuses, or the surroundings fail.
    pub fn write_down(
        &mut self,
        seen: &Seen<'w>,
        now: Timestamp,
        entry_of: &mut EntryOf<'_>,
    ) -> Result<(), ReconcileError> {
        self.turn_to(seen, now, &mut |_| {})?;
        self.recover_and_plan(now, &mut |_| {})?;
        let session = self.session.as_mut().expect("what is written down needs an open registry");
        let (about, entry) = entry_of(&session.view)?;
        session.view.registry.write(Change::Report { about: &about, entry: &entry })?;
        let planned = self.planning().plan_to_work(now);
        if planned.is_err()
            && let Some(session) = &mut self.session
        {
            // What the caller is told has failed does not happen later.
            drop(session.view.registry.write(Change::Delivered { about: &about, files: &[] }));
        }
        planned.map(drop)
    }
}
