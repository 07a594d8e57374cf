//! The journal of runs: targets, sent marks and outcomes. What the results branch does not hold yet.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rusqlite::{OptionalExtension, params};

use super::marks::{COUNT_LATE, Mark, PendingRows, SELECT_MARKS};
use super::{Registry, RegistryError};
use crate::ledger::OpenRun;
use crate::model::digest::Digest;
use crate::model::fleet::ResultDevices;
use crate::model::id::{Name, RunToken};
use crate::model::observation::DeviceIds;
use crate::model::outcome::{DeviceStatus, Outcome, Reason, RunStatus};

pub(super) const INSERT_OUTCOME: &str =
    "INSERT INTO outcome (run_id, ordinal, reason, code, message, attempts, started_at, finished_at)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

const SELECT_RUN: &str =
    "SELECT run_id, job, run, is_claimed, status, reason, total, claim, started_at, finished_at, batch_size,
            spec, edge_manifest_digest
     FROM run";

/// Devices whose names are read together.
const NAMES_AT_ONCE: u32 = 1_000;

/// A run that the journal holds.
#[derive(Debug, Clone, PartialEq)]
pub struct JournaledRun {
    pub run_id: i64,
    pub job: Name,
    pub run: RunToken,
    pub is_claimed: bool,
    pub status: RunStatus,
    pub reason: Option<String>,
    pub total: u32,
    /// Devices of each batch but perhaps the last, at least 1.
    pub batch_size: u64,
    /// The claim document.
    pub claim: String,
    /// As in [`super::NewRun`].
    pub spec: Option<String>,
    /// As in [`super::NewRun`].
    pub manifest: Option<Digest>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

/// One row of the results.
#[derive(Debug, Clone, PartialEq)]
pub struct ResultRow {
    pub device_id: String,
    /// Empty when the device is gone.
    pub device_name: String,
    pub outcome: Outcome,
}

impl Registry {
    /// Returns the runs that are not closed, in the order in which they were journaled.
    ///
    /// # Errors
    /// The registry cannot be read, or a row holds what it should not.
    pub fn open_journal(&self) -> Result<Vec<JournaledRun>, RegistryError> {
        let read = || {
            let text = format!("{SELECT_RUN} WHERE is_closed = 0 ORDER BY run_id");
            let mut statement = self.connection.prepare_cached(&text)?;
            statement.query_map([], journaled_run)?.collect::<rusqlite::Result<Vec<JournaledRun>>>()
        };
        read().map_err(|e| self.error("read the journal", e))
    }

    /// Returns a run that was claimed here, whether it has ended or not; `None` when the journal has no such run.
    ///
    /// # Errors
    /// As [`Registry::open_journal`].
    pub fn journaled(&self, job: &Name, run: &RunToken) -> Result<Option<JournaledRun>, RegistryError> {
        let text = format!("{SELECT_RUN} WHERE job = ?1 AND run = ?2 AND is_claimed = 1");
        let found = self.connection.query_row(&text, [job.as_str(), run.as_str()], journaled_run).optional();
        found.map_err(|e| self.error("read the journal", e))
    }

    /// Returns how far each open run is that is claimed: that the journal knows to be, or of which `is_published` knows that its
    /// claim is on the results branch although the process died before it could be noted.
    ///
    /// # Errors
    /// As [`Registry::open_journal`].
    pub fn open_runs(
        &self,
        is_published: impl Fn(&JournaledRun) -> bool,
    ) -> Result<BTreeMap<(Name, RunToken), OpenRun>, RegistryError> {
        let mut open = BTreeMap::new();
        for run in self.open_journal()? {
            if !run.is_claimed && !is_published(&run) {
                continue;
            }
            let count = |text: &str| self.connection.query_row(text, [run.run_id], |row| row.get::<_, u64>(0));
            let read = || {
                let completed = count("SELECT count(*) FROM outcome WHERE run_id = ?1 AND reason < 20")?;
                let failed = count("SELECT count(*) FROM outcome WHERE run_id = ?1 AND reason >= 20")?;
                let unchanged =
                    format!("SELECT count(*) FROM outcome WHERE run_id = ?1 AND reason = {}", Reason::Unchanged as u8);
                let unchanged = count(&unchanged)?;
                let in_flight = count("SELECT count(*) FROM sent WHERE run_id = ?1 AND waits = 0")?;
                let waiting = count("SELECT count(*) FROM sent WHERE run_id = ?1 AND waits <> 0")?;
                let late = count(COUNT_LATE)?;
                let (status, total, started_at) = (run.status, u64::from(run.total), run.started_at);
                Ok(OpenRun { status, total, completed, failed, unchanged, in_flight, waiting, late, started_at })
            };
            open.insert((run.job.clone(), run.run.clone()), read().map_err(|e| self.error("count outcomes", e))?);
        }
        Ok(open)
    }

    /// Returns the target of a run.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
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

    /// Returns those devices of the target of a run that have no outcome.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn pending_targets(&self, run_id: i64) -> Result<DeviceIds, RegistryError> {
        let (ids, mut pending, mut next) = (self.targets(run_id)?, DeviceIds::new(), 0);
        self.each_outcome(run_id, |ordinal, _, _| {
            (next..ordinal as usize).for_each(|at| pending.push(ids.get(at)));
            next = ordinal as usize + 1;
        })?;
        (next..ids.len()).for_each(|at| pending.push(ids.get(at)));
        Ok(pending)
    }

    /// Calls `restore` for each recorded outcome of a run, in order: the device's ordinal, its reason and its attempts.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn each_outcome(&self, run_id: i64, mut restore: impl FnMut(u32, Reason, u32)) -> Result<(), RegistryError> {
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

    /// Notes that a run has started, or goes on.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn start_run(&mut self, run_id: i64, now: Timestamp) -> Result<(), RegistryError> {
        self.execute(
            "start a run",
            "UPDATE run SET status = 'running', started_at = coalesce(started_at, ?2) WHERE run_id = ?1",
            params![run_id, now.to_string()],
        )
    }

    /// Notes that a run does not go on now; a final status keeps its time.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn end_run(
        &mut self,
        run_id: i64,
        status: RunStatus,
        reason: Option<&str>,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        let finished = status.is_final().then(|| now.to_string());
        self.execute(
            "end a run",
            "UPDATE run SET status = ?2, reason = ?3, finished_at = ?4 WHERE run_id = ?1",
            params![run_id, status.as_str(), reason, finished],
        )
    }

    /// Notes `run.json` as it is about to be published, and of which devices new shards beside it have rows; `None` when there are
    /// no new ones.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn keep_record(
        &mut self,
        run_id: i64,
        record: &str,
        devices: Option<ResultDevices>,
    ) -> Result<(), RegistryError> {
        self.execute(
            "keep the record of a run",
            "UPDATE run SET record = ?2, is_failures = coalesce(?3, is_failures) WHERE run_id = ?1",
            params![run_id, record, devices.map(|devices| devices == ResultDevices::Failures)],
        )
    }

    /// Notes that the end of a run is on the results branch.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn close_run(&mut self, run_id: i64) -> Result<(), RegistryError> {
        self.execute("close a run", "UPDATE run SET is_closed = 1 WHERE run_id = ?1", params![run_id])
    }

    /// Records outcomes, and what they say of the devices' connection. Durable when it returns.
    ///
    /// # Errors
    /// The registry cannot be written, or a device has an outcome already.
    pub fn record(&mut self, run_id: i64, outcomes: &[Outcome], ids: &DeviceIds) -> Result<(), RegistryError> {
        self.in_transaction("record outcomes", |transaction| {
            let mut insert = transaction.prepare_cached(INSERT_OUTCOME)?;
            let mut unmark = transaction.prepare_cached("DELETE FROM sent WHERE run_id = ?1 AND ordinal = ?2")?;
            let mut online = transaction.prepare_cached(
                "UPDATE device SET connection_state = 'Connected', last_activity = ?2,
                        state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
                 WHERE device_id = ?1",
            )?;
            let mut offline = transaction.prepare_cached(
                "UPDATE device SET connection_state = 'Disconnected'
                 WHERE device_id = ?1 AND connection_state <> 'Disconnected'",
            )?;
            for outcome in outcomes {
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
            Ok(())
        })
    }

    /// Calls `visit` for the rows of a run with `first <= ordinal < end`, in order; a device without an outcome is pending, and has a
    /// row unless `pending` leaves it out.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn each_result(
        &self,
        run_id: i64,
        ids: &DeviceIds,
        range: std::ops::Range<u32>,
        pending: PendingRows,
        mut visit: impl FnMut(ResultRow),
    ) -> Result<(), RegistryError> {
        let mut read = || {
            let mut outcomes = self.connection.prepare_cached(
                "SELECT ordinal, reason, code, message, attempts, started_at, finished_at
                 FROM outcome WHERE run_id = ?1 AND ordinal >= ?2 AND ordinal < ?3 ORDER BY ordinal",
            )?;
            let mut rows = outcomes.query(params![run_id, range.start, range.end])?;
            let mut next = rows.next()?.map(outcome_of_row).transpose()?;
            let mut marks = self.connection.prepare_cached(SELECT_MARKS)?;
            let mut marks = marks.query(params![run_id, range.start, range.end])?;
            let mut mark = marks.next()?.map(Mark::of_row).transpose()?;
            let mut at = range.start;
            while at < range.end {
                let end = range.end.min(at + NAMES_AT_ONCE);
                let names = self.names(ids, at..end)?;
                for (ordinal, name) in (at..end).zip(names) {
                    let marked = mark.take_if(|mark| mark.ordinal == ordinal);
                    if marked.is_some() {
                        mark = marks.next()?.map(Mark::of_row).transpose()?;
                    }
                    let recorded = next.take_if(|outcome| outcome.ordinal == ordinal);
                    if recorded.is_some() {
                        next = rows.next()?.map(outcome_of_row).transpose()?;
                    }
                    let Some(outcome) = recorded.or_else(|| pending.outcome(ordinal, marked)) else { continue };
                    let device_id = ids.get(ordinal as usize).to_string();
                    visit(ResultRow { device_id, device_name: name.unwrap_or_default(), outcome });
                }
                at = end;
            }
            Ok(())
        };
        read().map_err(|e| self.error("read results", e))
    }

    /// Returns those of some devices that the registry does not have, as ordinals.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn absent(&self, ids: &DeviceIds, range: std::ops::Range<u32>) -> Result<Vec<u32>, RegistryError> {
        let mut absent = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at + NAMES_AT_ONCE);
            let names = self.names(ids, at..end).map_err(|e| self.error("look for devices", e))?;
            absent.extend((at..end).zip(names).filter(|(_, name)| name.is_none()).map(|(ordinal, _)| ordinal));
            at = end;
        }
        Ok(absent)
    }

    /// Returns the names of some devices, `None` for those that are gone. Where the devices lie close together one walk over the
    /// registry finds them all; what it does not reach is looked up one by one.
    fn names(&self, ids: &DeviceIds, range: std::ops::Range<u32>) -> rusqlite::Result<Vec<Option<String>>> {
        let wanted: Vec<&str> = range.map(|at| ids.get(at as usize)).collect();
        let mut names = Vec::with_capacity(wanted.len());
        let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(names) };
        let mut walk = self.connection.prepare_cached(
            "SELECT device_id, device_name FROM device WHERE device_id BETWEEN ?1 AND ?2 ORDER BY device_id LIMIT ?3",
        )?;
        let mut rows = walk.query(params![first, last, 2 * NAMES_AT_ONCE])?;
        while let Some(row) = rows.next()? {
            let found = row.get_ref(0)?.as_str()?;
            while names.len() < wanted.len() && wanted[names.len()] < found {
                names.push(None);
            }
            if wanted.get(names.len()) == Some(&found) {
                names.push(Some(row.get(1)?));
            }
        }
        let mut look = self.connection.prepare_cached("SELECT device_name FROM device WHERE device_id = ?1")?;
        for id in &wanted[names.len()..] {
            let found: Option<String> = look.query_row([id], |row| row.get(0)).optional()?;
            names.push(found);
        }
        Ok(names)
    }

    pub(super) fn execute(
        &mut self,
        doing: &'static str,
        text: &str,
        params: &[&dyn rusqlite::ToSql],
    ) -> Result<(), RegistryError> {
        self.in_transaction(doing, |transaction| transaction.prepare_cached(text)?.execute(params).map(drop))
    }

    pub(super) fn in_transaction<T>(
        &mut self,
        doing: &'static str,
        body: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, RegistryError> {
        let path = self.path.clone();
        let fail = |e| RegistryError::from_sqlite(&path, doing, e);
        let transaction = super::fence::begin(&mut self.connection, self.epoch).map_err(fail)?;
        let result = body(&transaction).map_err(fail)?;
        transaction.commit().map_err(fail)?;
        Ok(result)
    }
}

/// Returns the run of a row of [`SELECT_RUN`].
fn journaled_run(row: &rusqlite::Row<'_>) -> rusqlite::Result<JournaledRun> {
    let (job, run, status): (String, String, String) = (row.get(1)?, row.get(2)?, row.get(4)?);
    let (started, finished): (Option<String>, Option<String>) = (row.get(8)?, row.get(9)?);
    let manifest: Option<String> = row.get(12)?;
    Ok(JournaledRun {
        run_id: row.get(0)?,
        batch_size: row.get(10)?,
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

fn reason_of(row: &rusqlite::Row<'_>, column: usize) -> rusqlite::Result<Reason> {
    let stored: u8 = row.get(column)?;
    Reason::from_stored(stored).ok_or_else(|| super::rows::malformed(column, &stored.to_string()))
}
