//! Sent marks: which devices of a run were spoken to and have no outcome, and what they wait for. And the answers that came after
//! the outcome.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, params};
use serde_json::Value;

use super::{Registry, RegistryError};
use crate::model::acknowledgement::{Acknowledgement, acknowledgement};
use crate::model::outcome::{Outcome, Reason};

/// What a marked device waits for. The discriminants are stored and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Waits {
    /// It was spoken to and may answer yet.
    ToAnswer = 0,
    /// Nothing was delivered: it waits to come online.
    ToConnect = 1,
    /// The registry has the new value, and it has not acknowledged it.
    ToAcknowledge = 2,
}

impl Waits {
    fn from_stored(stored: u8) -> Option<Waits> {
        [Waits::ToAnswer, Waits::ToConnect, Waits::ToAcknowledge].into_iter().find(|waits| *waits as u8 == stored)
    }
}

/// Inserts a mark, or puts it in the place of the one that the device has: run, ordinal, attempt, microseconds.
const INSERT_SENT: &str = "INSERT INTO sent (run_id, ordinal, attempt, sent_at) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (run_id, ordinal) DO UPDATE SET attempt = excluded.attempt, sent_at = excluded.sent_at, waits = 0";
/// Marks a device as written and not acknowledged: run, ordinal, microseconds, device.
pub(super) const INSERT_WRITTEN: &str = "INSERT INTO sent (run_id, ordinal, attempt, sent_at, waits, version)
     SELECT ?1, ?2, 1, ?3, 2, desired_version FROM device WHERE device_id = ?4
     ON CONFLICT (run_id, ordinal)
     DO UPDATE SET attempt = 1, sent_at = excluded.sent_at, waits = 2, version = excluded.version";
/// The columns of [`Mark::of_row`]: run, first ordinal, end.
pub(super) const SELECT_MARKS: &str = "SELECT ordinal, attempt, sent_at, waits FROM sent
     WHERE run_id = ?1 AND ordinal >= ?2 AND ordinal < ?3 ORDER BY ordinal";

pub(super) const COUNT_LATE: &str = "SELECT count(*) FROM late WHERE run_id = ?1";

/// Which rows of pending devices are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PendingRows {
    /// None: terminal devices only.
    Omitted,
    /// Those of a run that can still go on.
    UnderWay,
    /// Those of a run that has ended: they stay pending for good, and their message says what they were left in.
    Ended,
}

/// An answer that came after its device had an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateAnswer {
    /// The place of the device in the run's sorted target, from 0.
    pub ordinal: u32,
    pub code: u16,
    /// What the device said; untrusted, sanitised and cut when it was recorded.
    pub message: String,
    /// When it came, UTC.
    pub at: Timestamp,
}

/// The mark of one device.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    pub ordinal: u32,
    attempt: u32,
    sent_at: Option<Timestamp>,
    waits: Waits,
}

impl Mark {
    /// Returns the mark of a row of [`SELECT_MARKS`].
    pub(super) fn of_row(row: &Row<'_>) -> rusqlite::Result<Mark> {
        let micros: i64 = row.get(2)?;
        let sent_at = Timestamp::from_microsecond(micros).ok();
        let stored: u8 = row.get(3)?;
        let waits = Waits::from_stored(stored).ok_or_else(|| super::rows::malformed(3, &stored.to_string()))?;
        Ok(Mark { ordinal: row.get(0)?, attempt: row.get(1)?, sent_at, waits })
    }
}

impl PendingRows {
    /// Returns the row of a device without an outcome; `None` when it is not wanted.
    pub(super) fn outcome(self, ordinal: u32, mark: Option<Mark>) -> Option<Outcome> {
        let has_ended = match self {
            PendingRows::Omitted => return None,
            PendingRows::UnderWay => false,
            PendingRows::Ended => true,
        };
        let (reason, message) = match mark.map(|mark| mark.waits) {
            None => (Reason::Queued, ""),
            Some(Waits::ToAnswer) => (Reason::InFlight, ""),
            Some(Waits::ToAcknowledge) if has_ended => {
                (Reason::Waiting, "written; the job ended before the device acknowledged it")
            }
            Some(Waits::ToAcknowledge) => (Reason::Waiting, "written; not acknowledged yet"),
            Some(Waits::ToConnect) if has_ended => {
                (Reason::Waiting, "not delivered; the job ended before the device came online")
            }
            Some(Waits::ToConnect) => (Reason::Waiting, "not delivered; it waits to come online"),
        };
        Some(Outcome {
            ordinal,
            reason,
            code: None,
            message: message.to_string(),
            attempts: mark.map_or(0, |mark| mark.attempt),
            started_at: mark.and_then(|mark| mark.sent_at),
            finished_at: None,
        })
    }
}

impl Registry {
    /// Returns the marks of a run's devices that may have got what was sent, as (ordinal, attempt), sorted; those that wait to come
    /// online got nothing.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn sent_marks(&self, run_id: i64) -> Result<Vec<(u32, u32)>, RegistryError> {
        let read = || {
            let text = "SELECT ordinal, attempt FROM sent WHERE run_id = ?1 AND waits <> ?2 ORDER BY ordinal";
            let mut statement = self.connection.prepare_cached(text)?;
            let marks =
                statement.query_map(params![run_id, Waits::ToConnect as u8], |row| Ok((row.get(0)?, row.get(1)?)))?;
            marks.collect::<rusqlite::Result<Vec<(u32, u32)>>>()
        };
        read().map_err(|e| self.error("read sent marks", e))
    }

    /// Returns how many devices of a run wait for something, and the first of them as ordinals, sorted.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn waiting(&self, run_id: i64, waits: Waits, most: u32) -> Result<(u64, Vec<u32>), RegistryError> {
        let read = || {
            let count = "SELECT count(*) FROM sent WHERE run_id = ?1 AND waits = ?2";
            let count = self.connection.query_row(count, params![run_id, waits as u8], |row| row.get(0))?;
            let text = "SELECT ordinal FROM sent WHERE run_id = ?1 AND waits = ?2 ORDER BY ordinal LIMIT ?3";
            let mut statement = self.connection.prepare_cached(text)?;
            let first = statement.query_map(params![run_id, waits as u8, most], |row| row.get(0))?;
            Ok((count, first.collect::<rusqlite::Result<Vec<u32>>>()?))
        };
        read().map_err(|e| self.error("count waiting devices", e))
    }

    /// Marks devices as sent: (ordinal, attempt). Durable when it returns.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn mark_sent(&mut self, run_id: i64, devices: &[(u32, u32)], now: Timestamp) -> Result<(), RegistryError> {
        self.in_transaction("mark devices as sent", |transaction| {
            let mut insert = transaction.prepare_cached(INSERT_SENT)?;
            for (ordinal, attempt) in devices {
                insert.execute(params![run_id, ordinal, attempt, now.as_microsecond()])?;
            }
            Ok(())
        })
    }

    /// Notes of devices that were marked as sent that nothing was delivered: they wait to come online.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn unmark_sent(&mut self, run_id: i64, ordinals: &[u32]) -> Result<(), RegistryError> {
        self.in_transaction("take back sent marks", |transaction| {
            let mut update =
                transaction.prepare_cached("UPDATE sent SET waits = ?3 WHERE run_id = ?1 AND ordinal = ?2")?;
            for ordinal in ordinals {
                update.execute(params![run_id, ordinal, Waits::ToConnect as u8])?;
            }
            Ok(())
        })
    }

    /// Returns the version of the desired section that a run has written to some devices, in their order; 0 for one that was not written.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn written_versions(&self, run_id: i64, ordinals: &[u32]) -> Result<Vec<u64>, RegistryError> {
        let read = || {
            let text = "SELECT version FROM sent WHERE run_id = ?1 AND ordinal = ?2";
            let mut statement = self.connection.prepare_cached(text)?;
            let version = |ordinal: &u32| -> rusqlite::Result<u64> {
                let found: Option<Option<u64>> =
                    statement.query_row(params![run_id, ordinal], |row| row.get(0)).optional()?;
                Ok(found.flatten().unwrap_or_default())
            };
            ordinals.iter().map(version).collect::<rusqlite::Result<Vec<u64>>>()
        };
        read().map_err(|e| self.error("read what was written", e))
    }

    /// Merges what devices report into their twins and returns for each whether it acknowledges the patch that a run has written, in
    /// the same order. A device that is gone acknowledges nothing.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn take_reports(
        &mut self,
        run_id: i64,
        reports: &[(u32, &str, &Value)],
        written: &Value,
        now: Timestamp,
    ) -> Result<Vec<Acknowledgement>, RegistryError> {
        let ordinals: Vec<u32> = reports.iter().map(|(ordinal, ..)| *ordinal).collect();
        let versions = self.written_versions(run_id, &ordinals)?;
        self.in_transaction("take in reported properties", |transaction| {
            let mut update = transaction.prepare_cached(
                "UPDATE device SET reported = json_patch(reported, ?2), reported_version = reported_version + 1,
                        connection_state = 'Connected', last_activity = ?3,
                        state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
                 WHERE device_id = ?1 RETURNING reported",
            )?;
            let mut acknowledgements = Vec::with_capacity(reports.len());
            for ((_, device_id, patch), version) in reports.iter().zip(versions) {
                let row = params![device_id, patch.to_string(), now.to_string()];
                let reported: Option<String> = update.query_row(row, |row| row.get(0)).optional()?;
                acknowledgements.push(match reported {
                    None => Acknowledgement::Pending,
                    Some(text) => {
                        let reported = serde_json::from_str(&text).map_err(|_| super::rows::malformed(0, &text))?;
                        acknowledgement(written, version, &reported)
                    }
                });
            }
            Ok(acknowledgements)
        })
    }

    /// Notes an answer that came after its device had an outcome.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn record_late(
        &mut self,
        run_id: i64,
        ordinal: u32,
        code: u16,
        message: &str,
        now: Timestamp,
    ) -> Result<(), RegistryError> {
        self.execute(
            "note a late answer",
            "INSERT INTO late (run_id, ordinal, code, message, at) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![run_id, ordinal, code, message, now.as_microsecond()],
        )
    }

    /// Returns how many late answers a run has.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn count_late(&self, run_id: i64) -> Result<u64, RegistryError> {
        self.connection
            .query_row(COUNT_LATE, [run_id], |row| row.get(0))
            .map_err(|e| self.error("count late answers", e))
    }

    /// Returns the first late answers of a run in the order in which they came.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn late_answers(&self, run_id: i64, most: u32) -> Result<Vec<LateAnswer>, RegistryError> {
        let read = || {
            let text = "SELECT ordinal, code, message, at FROM late WHERE run_id = ?1 ORDER BY at, ordinal LIMIT ?2";
            let mut statement = self.connection.prepare_cached(text)?;
            let answers = statement.query_map(params![run_id, most], |row| {
                let micros: i64 = row.get(3)?;
                let at =
                    Timestamp::from_microsecond(micros).map_err(|_| super::rows::malformed(3, &micros.to_string()))?;
                Ok(LateAnswer { ordinal: row.get(0)?, code: row.get(1)?, message: row.get(2)?, at })
            })?;
            answers.collect::<rusqlite::Result<Vec<LateAnswer>>>()
        };
        read().map_err(|e| self.error("read late answers", e))
    }
}
