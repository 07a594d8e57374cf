//! A commit: the changes of one transaction, in their order.

use rusqlite::Transaction;

use super::super::twin_write::Sections;
use super::super::{Answer, Change, Fence, Noted, RegistryError};
use super::{
    SqliteStore, answers, claims, failure, fence, heard, identities, identity, import, indexes, journal, marks,
    messages, outbox, remembered, secrets, single, twins, write,
};

impl SqliteStore {
    pub(super) fn commit_changes(
        &mut self,
        fence: Fence,
        changes: &[Change<'_>],
    ) -> Result<Vec<Answer>, RegistryError> {
        let Some(first) = changes.first() else { return Ok(Vec::new()) };
        if changes.iter().all(|change| change.is_noted(self)) {
            return Ok(changes.iter().map(|_| Answer::Done).collect());
        }
        // Waiting for the disk would take most of the time of a reconcile with nothing to do.
        let may_be_lost = changes.iter().all(|change| matches!(change, Change::Seen { .. }));
        if may_be_lost {
            self.connection.close_afterwards();
            self.synchronous("NORMAL")?;
        }
        let location = &self.location;
        let committed = (|| {
            let transaction =
                fence::begin(&mut self.connection, fence).map_err(|e| failure(location, first.doing(), e))?;
            let mut answers = Vec::with_capacity(changes.len());
            for change in changes {
                answers.push(written(&transaction, change).map_err(|e| failure(location, change.doing(), e))?);
            }
            transaction.commit().map_err(|e| failure(location, first.doing(), e))?;
            Ok(answers)
        })();
        if may_be_lost {
            self.synchronous("FULL")?;
        }
        committed
    }

    fn synchronous(&self, level: &str) -> Result<(), RegistryError> {
        let set = self.connection.execute_batch(&format!("PRAGMA synchronous = {level}"));
        set.map_err(|e| self.error("note what was seen", e))
    }
}

fn written(transaction: &Transaction<'_>, change: &Change<'_>) -> rusqlite::Result<Answer> {
    match change {
        Change::Claim(new) => return claims::journal(transaction, new).map(Answer::Run),
        Change::Write { assignment, chunk } => {
            return write::write_devices(transaction, assignment, *chunk).map(Answer::Written);
        }
        Change::Mark { run_id, devices, ids, at } => {
            identity::count_sends(transaction)?;
            return marks::mark(transaction, *run_id, devices, ids, *at).map(Answer::Withheld);
        }
        Change::Heard { from } => return heard::hear(transaction, from).map(Answer::Reported),
        Change::Block { device_ids, is_blocked, at } => {
            return single::set_blocked(transaction, device_ids, *is_blocked, *at).map(Answer::Devices);
        }
        Change::DropAnswers { before } => return answers::drop_before(transaction, *before).map(Answer::Count),
        Change::Enqueue { device_id, message, at } => {
            return messages::enqueue(transaction, device_id, message, *at).map(Answer::Enqueued);
        }
        Change::HandOver { sequences } => return messages::hand_over(transaction, sequences).map(Answer::Messages),
        Change::Purge { device_id, at } => return messages::purge(transaction, device_id, *at).map(Answer::Count),
        Change::WriteTwin { device_id, if_match, tags, desired, replaces } => {
            let sections = Sections { if_match: *if_match, tags: *tags, desired: *desired, replaces: *replaces };
            return twins::write(transaction, device_id, sections).map(Answer::Twin);
        }
        Change::PutIdentity { device_id, if_match, identity, at } => {
            single::note_admissions(transaction)?;
            return identities::put(transaction, device_id, *if_match, identity, *at).map(Answer::Identity);
        }
        Change::DeleteIdentity { device_id, if_match } => {
            return identities::delete(transaction, device_id, *if_match).map(Answer::Identity);
        }
        Change::Delete { device_ids } => return single::delete(transaction, device_ids).map(Answer::Devices),
        Change::Index { wanted, changed } => {
            return indexes::make(transaction, wanted, *changed).map(Answer::Indexes);
        }
        Change::Confirm { run_id } => claims::confirm(transaction, *run_id),
        Change::Drop { run_id } => claims::drop_unclaimed(transaction, *run_id),
        Change::Start { run_id, at } => journal::start(transaction, *run_id, *at),
        Change::OpenBatch { run_id, opened } => journal::open_batch(transaction, *run_id, *opened),
        Change::Unmark { run_id, ordinals } => marks::unmark(transaction, *run_id, ordinals),
        Change::Record { run_id, outcomes, ids } => journal::record(transaction, *run_id, outcomes, ids),
        Change::KeepAnswers { run_id, answers } => answers::keep(transaction, *run_id, answers),
        Change::Late { run_id, ordinal, code, message, at } => {
            marks::note_late(transaction, *run_id, (*ordinal, *code, message), *at)
        }
        Change::End { run_id, status, reason, at } => journal::end(transaction, *run_id, (*status, *reason), *at),
        Change::KeepRecord { run_id, record, devices } => journal::keep_record(transaction, *run_id, record, *devices),
        Change::Close { run_id } => journal::close(transaction, *run_id),
        Change::Forget { run_id } => journal::forget(transaction, *run_id),
        Change::Import { spec, at, outbox } => import::apply(transaction, spec, *at, outbox),
        Change::MakeSecretKey => secrets::make_key(transaction),
        Change::Inherit { identity } => identity::inherit(transaction, identity),
        Change::GiveUp { identity, to } => identity::give_up(transaction, identity, to),
        Change::CatchUp { sends, runs, at } => identity::catch_up(transaction, *sends, runs, *at),
        Change::Settle { sequences } => messages::settle(transaction, sequences),
        Change::Report { about, entry } => outbox::put(transaction, about, entry),
        Change::Delivered { about, files } => outbox::deliver(transaction, about, files),
        Change::Note { what, commit } => remembered::note(transaction, *what, commit),
        Change::UsePlan { plan_id, at } => remembered::use_plan(transaction, plan_id, *at),
        Change::Seen { results_tip, applied_head } => remembered::note(transaction, Noted::ResultsTip, results_tip)
            .and_then(|()| remembered::note(transaction, Noted::AppliedHead, applied_head)),
        Change::DropIndexes { section, devices } => indexes::drop_indexes(transaction, *section, *devices),
    }?;
    Ok(Answer::Done)
}
