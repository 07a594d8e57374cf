//! The journal of runs: targets, sent marks and outcomes that the results branch does not hold yet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Transaction, params};

use super::super::marks::pending_outcome;
use super::super::{JournaledRun, OpenBatch, PendingRows, RegistryError, ResultRow};
use super::SqliteStore;
use super::marks::{COUNT_LATE, SELECT_MARKS, mark_of_row};
use super::outcome_counts;
use super::rows::reason_of;
use crate::ledger::OpenRun;
use crate::model::delivery::BatchSizes;
use crate::model::digest::Digest;
use crate::model::fleet::ResultDevices;
use crate::model::id::{Name, RunToken};
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Counts, DeviceStatus, Outcome, Reason, RunStatus};

pub(super) const INSERT_OUTCOME: &str =
    "INSERT INTO outcome (run_id, ordinal, reason, code, message, attempts, started_at, finished_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

const SELECT_RUN: &str =
    "SELECT run_id, job, run, is_claimed, status, reason, total, claim, started_at, finished_at, batch_size,
            spec, edge_manifest_digest, batch, batch_opened_at, first_batch, keeps_answers
     FROM run";

/// The number of devices that are looked up together.
const LOOKED_UP_AT_ONCE: u32 = 1_000;

impl SqliteStore {
    pub(super) fn unclosed_runs(&self) -> Result<Vec<JournaledRun>, RegistryError> {
        let read = || {
            let text = format!("{SELECT_RUN} WHERE is_closed = 0 ORDER BY run_id");
            let mut statement = self.connection.prepare_cached(&text)?;
            statement.query_map([], journaled_run)?.collect::<rusqlite::Result<Vec<JournaledRun>>>()
        };
        read().map_err(|e| self.error("read the journal", e))
    }

    pub(super) fn find_run(&self, job: &Name, run: &RunToken) -> Result<Option<JournaledRun>, RegistryError> {
        let text = format!("{SELECT_RUN} WHERE job = ?1 AND run = ?2 AND is_claimed = 1");
        let found = self.connection.query_row(&text, [job.as_str(), run.as_str()], journaled_run).optional();
        found.map_err(|e| self.error("read the journal", e))
    }

    pub(super) fn run_numbered(&self, run_id: i64) -> Result<Option<JournaledRun>, RegistryError> {
        let text = format!("{SELECT_RUN} WHERE run_id = ?1 AND is_claimed = 1");
        let found = self.connection.query_row(&text, [run_id], journaled_run).optional();
        found.map_err(|e| self.error("read the journal", e))
    }

    pub(super) fn runs_under_way(
        &self,
        is_published: &dyn Fn(&JournaledRun) -> bool,
    ) -> Result<BTreeMap<(Name, RunToken), OpenRun>, RegistryError> {
        let mut open = BTreeMap::new();
        for run in self.unclosed_runs()? {
            if !run.is_claimed && !is_published(&run) {
                continue;
            }
            let count = |text: &str| self.connection.query_row(text, [run.run_id], |row| row.get::<_, u64>(0));
            let read = || {
                let Counts { total, completed, failed, unchanged } =
                    self.progress_of(run.run_id, u64::from(run.total))?;
                let in_flight = count("SELECT count(*) FROM sent WHERE run_id = ?1 AND waits = 0")?;
                let waiting = count("SELECT count(*) FROM sent WHERE run_id = ?1 AND waits <> 0")?;
                let late = count(COUNT_LATE)?;
                let (status, started_at) = (run.status, run.started_at);
                Ok(OpenRun { status, total, completed, failed, unchanged, in_flight, waiting, late, started_at })
            };
            open.insert((run.job.clone(), run.run.clone()), read().map_err(|e| self.error("count outcomes", e))?);
        }
        Ok(open)
    }

    pub(super) fn target_of(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
        let read = || {
            let mut ids = DeviceIds::new();
            let mut statement =
                self.connection.prepare_cached("SELECT ids FROM run_target WHERE run_id = ?1 ORDER BY first")?;
            let mut rows = statement.query([run_id])?;
            while let Some(row) = rows.next()? {
                row.get_ref(0)?.as_str()?.lines().for_each(|id| ids.push(id));
            }
            Ok(ids)
        };
        read().map_err(|e| self.error("read a target", e))
    }

    pub(super) fn pending_target_of(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
        let (ids, mut pending, mut next) = (self.target_of(run_id)?, DeviceIds::new(), 0);
        self.visit_outcomes(run_id, &mut |ordinal, _, _| {
            (next..ordinal as usize).for_each(|at| pending.push(ids.get(at)));
            next = ordinal as usize + 1;
        })?;
        (next..ids.len()).for_each(|at| pending.push(ids.get(at)));
        Ok(pending)
    }

    pub(super) fn visit_outcomes(
        &self,
        run_id: i64,
        restore: &mut dyn FnMut(u32, Reason, u32),
    ) -> Result<(), RegistryError> {
        let mut read = || {
            let mut statement = self
                .connection
                .prepare_cached("SELECT ordinal, reason, attempts FROM outcome WHERE run_id = ?1 ORDER BY ordinal")?;
            let mut rows = statement.query([run_id])?;
            while let Some(row) = rows.next()? {
                restore(row.get(0)?, reason_of(row, 1)?, row.get(2)?);
            }
            Ok(())
        };
        read().map_err(|e| self.error("read outcomes", e))
    }

    pub(super) fn visit_results(
        &self,
        run_id: i64,
        ids: &DeviceIds,
        range: std::ops::Range<u32>,
        pending: PendingRows,
        visit: &mut dyn FnMut(ResultRow),
    ) -> Result<(), RegistryError> {
        let read = || {
            let mut outcomes = self.connection.prepare_cached(
                "SELECT ordinal, reason, code, message, attempts, started_at, finished_at
                 FROM outcome WHERE run_id = ?1 AND ordinal >= ?2 AND ordinal < ?3 ORDER BY ordinal",
            )?;
            let mut rows = outcomes.query(params![run_id, range.start, range.end])?;
            let mut next = rows.next()?.map(outcome_of_row).transpose()?;
            let mut marks = self.connection.prepare_cached(SELECT_MARKS)?;
            let mut marks = marks.query(params![run_id, range.start, range.end])?;
            let mut mark = marks.next()?.map(mark_of_row).transpose()?;
            let mut deleted =
                self.connection.prepare_cached("SELECT device_name FROM deleted_device WHERE device_id = ?1")?;
            let mut failure = None;
            let mut visit_one = |ordinal: u32, name: Option<String>| -> rusqlite::Result<()> {
                let marked = mark.take_if(|mark| mark.ordinal == ordinal);
                if marked.is_some() {
                    mark = marks.next()?.map(mark_of_row).transpose()?;
                }
                let recorded = next.take_if(|outcome| outcome.ordinal == ordinal);
                if recorded.is_some() {
                    next = rows.next()?.map(outcome_of_row).transpose()?;
                }
                let row = recorded.or_else(|| pending_outcome(pending, ordinal, marked));
                if let Some(outcome) = row {
                    let device_id = ids.get(ordinal as usize).to_string();
                    visit(ResultRow { device_id, device_name: name.unwrap_or_default(), outcome });
                }
                Ok(())
            };
            let mut name_of = |id: &str| deleted.query_row([id], |row| row.get(0)).optional();
            self.look_up("device_name", ids, range, &|row| row.get(1), &mut |ordinal, name| {
                if failure.is_none() {
                    let name = name.map_or_else(|| name_of(ids.get(ordinal as usize)), |name| Ok(Some(name)));
                    failure = name.and_then(|name| visit_one(ordinal, name)).err();
                }
            })?;
            if let Some(error) = failure {
                return Err(error);
            }
            Ok(())
        };
        read().map_err(|e| self.error("read results", e))
    }

    /// Calls `visit` for each of some devices, in order, with what `read` makes of its row; `None` for those that are
    /// gone. The columns of a row come after the id. When the devices lie close together one walk over the registry
    /// finds them all; devices beyond its reach are looked up one by one.
    pub(super) fn look_up<T>(
        &self,
        columns: &str,
        ids: &DeviceIds,
        range: std::ops::Range<u32>,
        read: &dyn Fn(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
        visit: &mut dyn FnMut(u32, Option<T>),
    ) -> rusqlite::Result<()> {
        let mut walk = self.connection.prepare_cached(&format!(
            "SELECT device_id, {columns} FROM device WHERE device_id BETWEEN ?1 AND ?2 ORDER BY device_id LIMIT ?3"
        ))?;
        let mut look =
            self.connection.prepare_cached(&format!("SELECT device_id, {columns} FROM device WHERE device_id = ?1"))?;
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + LOOKED_UP_AT_ONCE);
            let (first, last) = (ids.get(start as usize), ids.get(end as usize - 1));
            let (mut next, mut reached) = (start, 0);
            let mut rows = walk.query(params![first, last, 2 * LOOKED_UP_AT_ONCE])?;
            while let Some(row) = rows.next()? {
                reached += 1;
                let found = row.get_ref(0)?.as_str()?;
                while next < end && ids.get(next as usize) < found {
                    visit(next, None);
                    next += 1;
                }
                if next < end && ids.get(next as usize) == found {
                    visit(next, Some(read(row)?));
                    next += 1;
                }
            }
            for ordinal in next..end {
                // A walk that reached the end has seen all devices.
                let is_unseen = reached == 2 * LOOKED_UP_AT_ONCE;
                let found =
                    if is_unseen { look.query_row([ids.get(ordinal as usize)], read).optional()? } else { None };
                visit(ordinal, found);
            }
            start = end;
        }
        Ok(())
    }
}

/// Notes that a run has started, or goes on.
pub(super) fn start(transaction: &Transaction<'_>, run_id: i64, at: Timestamp) -> rusqlite::Result<()> {
    outcome_counts::count_anew(transaction, run_id)?;
    let text = "UPDATE run SET status = 'running', started_at = coalesce(started_at, ?2) WHERE run_id = ?1";
    transaction.prepare_cached(text)?.execute(params![run_id, at.to_string()]).map(drop)
}

/// Notes that a batch of a run was opened.
pub(super) fn open_batch(transaction: &Transaction<'_>, run_id: i64, opened: OpenBatch) -> rusqlite::Result<()> {
    let text = "UPDATE run SET batch = ?2, batch_opened_at = ?3 WHERE run_id = ?1";
    let row = params![run_id, opened.batch, opened.at.as_microsecond()];
    transaction.prepare_cached(text)?.execute(row).map(drop)
}

/// Notes that a run does not go on now, or that it has ended at a time.
pub(super) fn end(
    transaction: &Transaction<'_>,
    run_id: i64,
    (status, reason): (RunStatus, Option<&str>),
    at: Timestamp,
) -> rusqlite::Result<()> {
    let finished = status.is_final().then(|| at.to_string());
    let text = "UPDATE run SET status = ?2, reason = ?3, finished_at = ?4 WHERE run_id = ?1";
    transaction.prepare_cached(text)?.execute(params![run_id, status.as_str(), reason, finished]).map(drop)
}

/// Notes `run.json` as it is about to be published, and of which devices new shards beside it have rows.
pub(super) fn keep_record(
    transaction: &Transaction<'_>,
    run_id: i64,
    record: &str,
    devices: Option<ResultDevices>,
) -> rusqlite::Result<()> {
    let text = "UPDATE run SET record = ?2, is_failures = coalesce(?3, is_failures) WHERE run_id = ?1";
    let is_failures = devices.map(|devices| devices == ResultDevices::Failures);
    transaction.prepare_cached(text)?.execute(params![run_id, record, is_failures]).map(drop)
}

/// Notes that the end of a run is on the results branch.
pub(super) fn close(transaction: &Transaction<'_>, run_id: i64) -> rusqlite::Result<()> {
    transaction.prepare_cached("UPDATE run SET is_closed = 1 WHERE run_id = ?1")?.execute([run_id]).map(drop)
}

/// Forgets a run with all that is journaled of it.
pub(super) fn forget(transaction: &Transaction<'_>, run_id: i64) -> rusqlite::Result<()> {
    for table in ["outcome", "outcome_count", "sent", "late", "answer", "run"] {
        transaction.execute(&format!("DELETE FROM {table} WHERE run_id = ?1"), [run_id])?;
    }
    Ok(())
}

/// Records outcomes, and what they say of the devices' connection. Fails when a device has an outcome already.
pub(super) fn record(
    transaction: &Transaction<'_>,
    run_id: i64,
    outcomes: &[Outcome],
    ids: &DeviceIds,
) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(INSERT_OUTCOME)?;
    let mut unmark = transaction.prepare_cached("DELETE FROM sent WHERE run_id = ?1 AND ordinal = ?2")?;
    let mut online = transaction.prepare_cached(super::marks::SEEN_ONLINE)?;
    let mut offline = transaction.prepare_cached(super::marks::SEEN_OFFLINE)?;
    let mut written = outcome_counts::begin(transaction, run_id)?;
    for outcome in outcomes {
        written.add(outcome.ordinal, outcome.reason);
        let Outcome { ordinal, reason, code, message, attempts, started_at, finished_at } = outcome;
        let message = if message.is_empty() { None } else { Some(message) };
        insert.execute(params![
            run_id,
            ordinal,
            *reason as u8,
            code,
            message,
            attempts,
            started_at.map(|time| time.as_microsecond()),
            finished_at.map(|time| time.as_microsecond()),
        ])?;
        unmark.execute(params![run_id, ordinal])?;
        let id = ids.get(*ordinal as usize);
        match reason {
            Reason::Responded | Reason::Acknowledged | Reason::Rejected => {
                online.execute(params![id, finished_at.map(|time| time.to_string())])?;
            }
            Reason::Offline => {
                offline.execute(params![id])?;
            }
            Reason::Queued
            | Reason::InFlight
            | Reason::Waiting
            | Reason::Written
            | Reason::Unchanged
            | Reason::Timeout
            | Reason::Expired
            | Reason::Blocked
            | Reason::Deleted
            | Reason::TemplateMismatch
            | Reason::OutcomeUnknown
            | Reason::Error => {}
        }
    }
    outcome_counts::add(transaction, run_id, &written)
}

/// Returns the run of a row of [`SELECT_RUN`].
fn journaled_run(row: &rusqlite::Row<'_>) -> rusqlite::Result<JournaledRun> {
    let (job, run, status): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(4)?);
    let (started, finished): (Option<String>, Option<String>) = (row.get(8)?, row.get(9)?);
    let (manifest, size): (Option<String>, u64) = (row.get(12)?, row.get(10)?);
    Ok(JournaledRun {
        run_id: row.get(0)?,
        sizes: BatchSizes { first: row.get::<_, Option<u64>>(15)?.unwrap_or(size), size },
        job: Name::parse(&job).map_err(|_| super::rows::malformed(1, &job))?,
        run: RunToken::parse(&run).map_err(|_| super::rows::malformed(2, &run))?,
        is_claimed: row.get(3)?,
        status: RunStatus::parse(&status).ok_or_else(|| super::rows::malformed(4, &status))?,
        reason: row.get(5)?,
        total: row.get(6)?,
        claim: row.get(7)?,
        spec: row.get(11)?,
        manifest: manifest.and_then(|text| Digest::parse(&text)),
        started_at: started.and_then(|text| text.parse().ok()),
        finished_at: finished.and_then(|text| text.parse().ok()),
        keeps_answers: row.get(16)?,
        open_batch: match row.get::<_, Option<u32>>(13)? {
            Some(batch) => Some(OpenBatch { batch, at: super::rows::time_of(row, 14)? }),
            None => None,
        },
    })
}

fn outcome_of_row(row: &rusqlite::Row<'_>) -> rusqlite::Result<Outcome> {
    let message: Option<String> = row.get(3)?;
    let time = |column: usize| -> rusqlite::Result<Option<Timestamp>> {
        let micros: Option<i64> = row.get(column)?;
        Ok(micros.and_then(|micros| Timestamp::from_microsecond(micros).ok()))
    };
    let reason = reason_of(row, 1)?;
    assert!(reason.status() != DeviceStatus::Pending, "only terminal devices have an outcome");
    Ok(Outcome {
        ordinal: row.get(0)?,
        reason,
        code: row.get(2)?,
        message: message.unwrap_or_default(),
        attempts: row.get(4)?,
        started_at: time(5)?,
        finished_at: time(6)?,
    })
}
