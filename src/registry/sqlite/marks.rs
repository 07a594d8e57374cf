//! Sent marks: the devices of a run that were spoken to and have no outcome, and what they wait for. Also late answers,
//! which came after the outcome.

use jiff::Timestamp;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::super::marks::Mark;
use super::super::{LateAnswer, RegistryError, Waits};
use super::SqliteStore;
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Reason, SentMark};

/// Inserts a mark, or puts it in the place of the one that the device has: run, ordinal, attempt, microseconds.
const INSERT_SENT: &str = "INSERT INTO sent (run_id, ordinal, attempt, sent_at) VALUES (?1, ?2, ?3, ?4)
     ON CONFLICT (run_id, ordinal) DO UPDATE SET attempt = excluded.attempt, sent_at = excluded.sent_at, waits = 0";
/// Marks a device as written and not acknowledged: run, ordinal, microseconds, device.
pub(super) const INSERT_WRITTEN: &str = "INSERT INTO sent (run_id, ordinal, attempt, sent_at, waits, version)
     SELECT ?1, ?2, 1, ?3, 2, desired_version FROM device WHERE device_id = ?4
     ON CONFLICT (run_id, ordinal)
     DO UPDATE SET attempt = 1, sent_at = excluded.sent_at, waits = 2, version = excluded.version";
/// The columns of [`mark_of_row`]: run, first ordinal, end.
pub(super) const SELECT_MARKS: &str = "SELECT ordinal, attempt, sent_at, waits FROM sent
     WHERE run_id = ?1 AND ordinal >= ?2 AND ordinal < ?3 ORDER BY ordinal";

pub(super) const COUNT_LATE: &str = "SELECT count(*) FROM late WHERE run_id = ?1";

/// Notes that a device is connected: device, time.
pub(super) const SEEN_ONLINE: &str = "UPDATE device SET connection_state = 'Connected', last_activity = ?2,
            state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
     WHERE device_id = ?1";
/// Notes that a device is not connected: device.
pub(super) const SEEN_OFFLINE: &str = "UPDATE device SET connection_state = 'Disconnected'
     WHERE device_id = ?1 AND connection_state <> 'Disconnected'";

/// Returns the mark of a row of [`SELECT_MARKS`].
pub(super) fn mark_of_row(row: &Row<'_>) -> rusqlite::Result<Mark> {
    let micros: i64 = row.get(2)?;
    let sent_at = Timestamp::from_microsecond(micros).ok();
    let stored: u8 = row.get(3)?;
    let waits = Waits::from_stored(stored).ok_or_else(|| super::rows::malformed(3, &stored.to_string()))?;
    Ok(Mark { ordinal: row.get(0)?, attempt: row.get(1)?, sent_at, waits })
}

impl SqliteStore {
    pub(super) fn marks_of(&self, run_id: i64) -> Result<Vec<SentMark>, RegistryError> {
        let read = || {
            let text = "SELECT ordinal, attempt, sent_at FROM sent WHERE run_id = ?1 AND waits <> ?2 ORDER BY ordinal";
            let mut statement = self.connection.prepare_cached(text)?;
            let marks = statement.query_map(params![run_id, Waits::ToConnect as u8], |row| {
                let at = super::rows::time_of(row, 2)?;
                Ok(SentMark { ordinal: row.get(0)?, attempt: row.get(1)?, at })
            })?;
            marks.collect::<rusqlite::Result<Vec<SentMark>>>()
        };
        read().map_err(|e| self.error("read sent marks", e))
    }

    pub(super) fn count_waiting(&self, run_id: i64, waits: Waits, most: u32) -> Result<(u64, Vec<u32>), RegistryError> {
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

    pub(super) fn versions_written(&self, run_id: i64, ordinals: &[u32]) -> Result<Vec<u64>, RegistryError> {
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

    pub(super) fn late_count(&self, run_id: i64) -> Result<u64, RegistryError> {
        self.connection
            .query_row(COUNT_LATE, [run_id], |row| row.get(0))
            .map_err(|e| self.error("count late answers", e))
    }

    pub(super) fn late_of(&self, run_id: i64, most: u32) -> Result<Vec<LateAnswer>, RegistryError> {
        let read = || {
            let text = "SELECT ordinal, code, message, at FROM late WHERE run_id = ?1 ORDER BY at, ordinal LIMIT ?2";
            let mut statement = self.connection.prepare_cached(text)?;
            let answers = statement.query_map(params![run_id, most], |row| {
                let at = super::rows::time_of(row, 3)?;
                Ok(LateAnswer { ordinal: row.get(0)?, code: row.get(1)?, message: row.get(2)?, at })
            })?;
            answers.collect::<rusqlite::Result<Vec<LateAnswer>>>()
        };
        read().map_err(|e| self.error("read late answers", e))
    }
}

/// Marks devices as sent, given as (ordinal, attempt), and returns those that are not: they were blocked or deleted.
pub(super) fn mark(
    transaction: &Transaction<'_>,
    run_id: i64,
    devices: &[(u32, u32)],
    ids: &DeviceIds,
    at: Timestamp,
) -> rusqlite::Result<Vec<(u32, Reason)>> {
    let mut insert = transaction.prepare_cached(INSERT_SENT)?;
    let mut look = transaction.prepare_cached("SELECT blocked FROM device WHERE device_id = ?1")?;
    let mut withheld = Vec::new();
    for (ordinal, attempt) in devices {
        let blocked: Option<bool> = look.query_row([ids.get(*ordinal as usize)], |row| row.get(0)).optional()?;
        match blocked {
            Some(false) => drop(insert.execute(params![run_id, ordinal, attempt, at.as_microsecond()])?),
            Some(true) => withheld.push((*ordinal, Reason::Blocked)),
            None => withheld.push((*ordinal, Reason::Deleted)),
        }
    }
    Ok(withheld)
}

/// Notes that nothing was delivered to devices that were marked as sent: they wait to come online.
pub(super) fn unmark(transaction: &Transaction<'_>, run_id: i64, ordinals: &[u32]) -> rusqlite::Result<()> {
    let mut update = transaction.prepare_cached("UPDATE sent SET waits = ?3 WHERE run_id = ?1 AND ordinal = ?2")?;
    for ordinal in ordinals {
        update.execute(params![run_id, ordinal, Waits::ToConnect as u8])?;
    }
    Ok(())
}

/// Notes an answer, as (ordinal, code, message), that came after its device had an outcome.
pub(super) fn note_late(
    transaction: &Transaction<'_>,
    run_id: i64,
    (ordinal, code, message): (u32, u16, &str),
    at: Timestamp,
) -> rusqlite::Result<()> {
    let text = "INSERT INTO late (run_id, ordinal, code, message, at) VALUES (?1, ?2, ?3, ?4, ?5)";
    let row = params![run_id, ordinal, code, message, at.as_microsecond()];
    transaction.prepare_cached(text)?.execute(row).map(drop)
}
