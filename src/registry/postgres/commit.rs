//! A commit: the changes of one transaction, in their order, done again while the connection is lost.

use tokio_postgres::Row;

use super::super::twin_write::Sections;
use super::super::{Answer, Change, Fence, GivenUp, NextFile, Noted, RegistryError};
use super::connection::{Connection, Params};
use super::fault::Fault;
use super::writer::{Standing, Writer};
use super::{
    PostgresStore, RECONNECT_PAUSE, answers, claims, fence, heard, identities, identity, import, indexes, journal,
    lease, marks, messages, migrations, now, outbox, remembered, secrets, single, twins, write, writer,
};
use crate::model::limits;

/// Begins a transaction. A server that we are cut off from ends it, or the next connection would wait for its locks.
const BEGIN: &str = "BEGIN; SET LOCAL idle_in_transaction_session_timeout = '60s'";

impl PostgresStore {
    pub(super) fn commit_changes(
        &mut self,
        fence: Fence,
        changes: &[Change<'_>],
    ) -> Result<Vec<Answer>, RegistryError> {
        let Some(first) = changes.first() else { return Ok(Vec::new()) };
        if let [Change::Index { wanted, changed }] = changes {
            return Ok(vec![Answer::Indexes(self.make_indexes(fence, wanted, *changed)?)]);
        }
        if changes.iter().all(|change| change.is_noted(self)) {
            return Ok(changes.iter().map(|_| Answer::Done).collect());
        }
        // Waiting for the disk would take most of the time of a reconcile with nothing to do.
        let may_be_lost = changes.iter().all(|change| matches!(change, Change::Seen { .. }));
        let location = self.settings.location.clone();
        let answers = self.in_transaction(first.doing(), fence, &mut |connection| {
            if may_be_lost {
                connection.batch("SET LOCAL synchronous_commit = off")?;
            }
            let written = |change: &Change<'_>| {
                let answer = written(connection, change);
                answer.map_err(|fault| match fault {
                    fault if fault.is_lost() || fault.is_transient() || matches!(fault, Fault::Fenced) => fault,
                    fault => Fault::Registry(fault.into_error(&location, change.doing())),
                })
            };
            changes.iter().map(written).collect()
        })?;
        if changes.iter().any(|change| matches!(change, Change::Import { .. })) {
            self.note_imported();
        }
        Ok(answers)
    }

    /// Does work in one transaction, and does it again on another connection when the first one is lost, unless it is
    /// known to be committed. Durable when it returns.
    pub(super) fn in_transaction<T>(
        &mut self,
        doing: &'static str,
        fence: Fence,
        work: &mut dyn FnMut(&Connection) -> Result<T, Fault>,
    ) -> Result<T, RegistryError> {
        let began = now();
        // What an attempt has come to whose commit is in doubt.
        let mut in_doubt = None;
        loop {
            let fault = match self.attempt(fence, &mut in_doubt, work) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            let is_lost = fault.is_lost();
            if is_lost {
                self.forget_connection();
            }
            if !(is_lost || fault.is_transient()) || began.elapsed() > limits::REGISTRY_PATIENCE {
                return Err(self.error(doing, fault));
            }
            if is_lost {
                // A server that takes no writes any more may take them again, or another one does.
                std::thread::sleep(RECONNECT_PAUSE);
            }
        }
    }

    fn attempt<T>(
        &self,
        fence: Fence,
        in_doubt: &mut Option<T>,
        work: &mut dyn FnMut(&Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let connection = self.connection()?;
        let began = now();
        let mut writer = self.writer.borrow_mut();
        let Some(writer) = writer.as_mut() else {
            return Err(Fault::Registry(RegistryError::ReadOnly { location: self.settings.location.clone() }));
        };
        let epoch = self.held.epoch();
        let worked = self.begin(&connection, writer, fence, epoch).and_then(|standing| match standing {
            Standing::Committed => Ok(None),
            Standing::Begun => work(&connection).map(Some),
        });
        match worked {
            Ok(Some(done)) => *in_doubt = Some(done),
            // What is in doubt was committed.
            Ok(None) => {
                connection.batch("ROLLBACK")?;
                writer.committed();
                return in_doubt.take().ok_or(Fault::Replaced);
            }
            Err(fault) => {
                drop(connection.batch("ROLLBACK"));
                return Err(fault);
            }
        }
        connection.batch("COMMIT")?;
        if connection.is_unsure() {
            // It is on this server, and a standby that takes its place may not have it.
            return Err(Fault::Replaced);
        }
        writer.committed();
        if let Some(epoch) = epoch
            && lease::is_stale(began.elapsed())
            && !lease::is_in_force(&connection, epoch)?
        {
            return Err(Fault::Fenced);
        }
        in_doubt.take().ok_or(Fault::Replaced)
    }

    /// Begins a transaction: writes its number, and fails where nothing may be written any more. All is asked at once.
    fn begin(
        &self,
        connection: &Connection,
        writer: &Writer,
        fence: Fence,
        epoch: Option<i64>,
    ) -> Result<Standing, Fault> {
        let (id, next) = writer.next();
        let params: Params<'_> = &[&id, &next];
        let mut statements = vec![(writer::NUMBER, params), (VERSION, &[])];
        statements.extend(fence.epoch().map(|_| (fence::NOTED, &[] as Params<'_>)));
        statements.extend(epoch.map(|_| (lease::IN_FORCE, &[] as Params<'_>)));
        let mut answers = connection.begin(BEGIN, &statements)?.into_iter().map(|rows| rows.into_iter().next());
        let mut row = || answers.next().flatten();
        if writer.standing(connection, row().is_some())? == Standing::Committed {
            return Ok(Standing::Committed);
        }
        check_version(row().as_ref(), &self.settings.location)?;
        if let Some(epoch) = fence.epoch() {
            fence::check(row().as_ref(), epoch)?;
        }
        if let Some(epoch) = epoch {
            if row().map(|row| row.try_get::<_, i64>(0)).transpose()? != Some(epoch) {
                return Err(Fault::Fenced);
            }
            if writer.is_elsewhere() {
                lease::note_server(connection, epoch)?;
            }
        }
        Ok(Standing::Begun)
    }

    /// Does work in one transaction that cannot be done again, because what it reads comes once.
    pub(super) fn once<T>(
        &mut self,
        doing: &'static str,
        fence: Fence,
        work: &mut dyn FnMut(&Connection) -> Result<T, Fault>,
    ) -> Result<T, RegistryError> {
        let (mut has_begun, location) = (false, self.settings.location.clone());
        self.in_transaction(doing, fence, &mut |connection| {
            if std::mem::replace(&mut has_begun, true) {
                let (location, reason) = (location.clone(), "the connection was lost".to_string());
                return Err(RegistryError::Unreachable { location, reason }.into());
            }
            work(connection)
        })
    }

    pub(super) fn keep_each(&mut self, fence: Fence, next: &mut NextFile<'_>) -> Result<bool, RegistryError> {
        let mut gave_up = false;
        let kept = self.once("keep results", fence, &mut |connection| {
            loop {
                match next() {
                    Ok(Some(file)) => {
                        remembered::keep(connection, &file.path, &file.content, file.blob_id.as_deref())?;
                    }
                    Ok(None) => return Ok(()),
                    Err(GivenUp) => {
                        gave_up = true;
                        return Err(Fault::Malformed("the caller gave up".to_string()));
                    }
                }
            }
        });
        match kept {
            Err(_) if gave_up => Ok(false),
            kept => kept.map(|()| true),
        }
    }
}

/// Returns the version of the schema.
const VERSION: &str = "SELECT value FROM meta WHERE key = 'schema_version'";

/// Refuses to write with a schema that a newer fleetform has changed meanwhile: it has another row of [`VERSION`].
fn check_version(version: Option<&Row>, location: &str) -> Result<(), Fault> {
    let version: String = version.ok_or_else(|| Fault::Malformed("no version".to_string()))?.try_get(0)?;
    match version.parse() {
        Ok(version) if version == migrations::SCHEMA_VERSION => Ok(()),
        parsed => Err(Fault::Registry(RegistryError::Newer {
            location: location.to_string(),
            version: parsed.unwrap_or(i64::MAX),
            known: migrations::SCHEMA_VERSION,
        })),
    }
}

fn written(connection: &Connection, change: &Change<'_>) -> Result<Answer, Fault> {
    match change {
        Change::Claim(new) => return claims::journal(connection, new).map(Answer::Run),
        Change::Write { assignment, chunk } => {
            return write::write_devices(connection, assignment, *chunk).map(Answer::Written);
        }
        Change::Mark { run_id, devices, ids, at } => {
            return marks::mark(connection, *run_id, devices, ids, *at).map(Answer::Withheld);
        }
        Change::Heard { from } => return heard::hear(connection, from).map(Answer::Reported),
        Change::Block { device_ids, is_blocked, at } => {
            return single::set_blocked(connection, device_ids, *is_blocked, *at).map(Answer::Devices);
        }
        Change::DropAnswers { before } => return answers::drop_before(connection, *before).map(Answer::Count),
        Change::Enqueue { device_id, message, at } => {
            return messages::enqueue(connection, device_id, message, *at).map(Answer::Enqueued);
        }
        Change::HandOver { sequences } => return messages::hand_over(connection, sequences).map(Answer::Messages),
        Change::Purge { device_id, at } => return messages::purge(connection, device_id, *at).map(Answer::Count),
        Change::WriteTwin { device_id, if_match, tags, desired, replaces } => {
            let sections = Sections { if_match: *if_match, tags: *tags, desired: *desired, replaces: *replaces };
            return twins::write(connection, device_id, sections).map(Answer::Twin);
        }
        Change::PutIdentity { device_id, if_match, identity, at } => {
            single::note_admissions(connection)?;
            return identities::put(connection, device_id, *if_match, identity, *at).map(Answer::Identity);
        }
        Change::DeleteIdentity { device_id, if_match } => {
            return identities::delete(connection, device_id, *if_match).map(Answer::Identity);
        }
        Change::Delete { device_ids } => return single::delete(connection, device_ids).map(Answer::Devices),
        Change::Index { wanted, changed } => {
            return indexes::make(connection, wanted, *changed).map(Answer::Indexes);
        }
        Change::Confirm { run_id } => claims::confirm(connection, *run_id),
        Change::Drop { run_id } => claims::drop_unclaimed(connection, *run_id),
        Change::Start { run_id, at } => journal::start(connection, *run_id, *at),
        Change::OpenBatch { run_id, opened } => journal::open_batch(connection, *run_id, *opened),
        Change::Unmark { run_id, ordinals } => marks::unmark(connection, *run_id, ordinals),
        Change::Record { run_id, outcomes, ids } => journal::record(connection, *run_id, outcomes, ids),
        Change::KeepAnswers { run_id, answers } => answers::keep(connection, *run_id, answers),
        Change::Late { run_id, ordinal, code, message, at } => {
            marks::note_late(connection, *run_id, (*ordinal, *code, message), *at)
        }
        Change::End { run_id, status, reason, at } => journal::end(connection, *run_id, (*status, *reason), *at),
        Change::KeepRecord { run_id, record, devices } => journal::keep_record(connection, *run_id, record, *devices),
        Change::Close { run_id } => journal::close(connection, *run_id),
        Change::Forget { run_id } => journal::forget(connection, *run_id),
        Change::Import { spec, at, outbox } => import::apply(connection, spec, *at, outbox),
        Change::MakeSecretKey => secrets::make_key(connection),
        Change::Inherit { identity } => identity::inherit(connection, identity),
        Change::GiveUp { identity, to } => identity::give_up(connection, identity, to),
        Change::CatchUp { sends, runs, at } => identity::catch_up(connection, *sends, runs, *at),
        Change::Settle { sequences } => messages::settle(connection, sequences),
        Change::Report { about, entry } => outbox::put(connection, about, entry),
        Change::Delivered { about, files } => outbox::deliver(connection, about, files),
        Change::Note { what, commit } => remembered::note(connection, *what, commit),
        Change::UsePlan { plan_id, at } => remembered::use_plan(connection, plan_id, *at),
        Change::Seen { results_tip, applied_head } => remembered::note(connection, Noted::ResultsTip, results_tip)
            .and_then(|()| remembered::note(connection, Noted::AppliedHead, applied_head)),
        // Others read and write the same table: what is made once stays, and no index is in the way of anybody.
        Change::DropIndexes { .. } => Ok(()),
    }?;
    Ok(Answer::Done)
}
