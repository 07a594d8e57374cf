//! Sent marks: the devices of a run that were spoken to and have no outcome, and what they wait for. Also late answers,
//! which came after the outcome.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use tokio_postgres::Row;

use super::super::marks::Mark;
use super::super::{LateAnswer, Waits};
use super::connection::{Connection, Params};
use super::fault::Fault;
use super::identity::COUNT_SENDS;
use super::json::{read_text, stored_text};
use super::rows::{first_column, malformed, micros_of, number_of, time_of};
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Reason, SentMark};

/// The columns of [`mark_of_row`]: run, first ordinal, end.
pub(super) const SELECT_MARKS: &str = "SELECT ordinal, attempt, sent_at, waits FROM sent
     WHERE run_id = $1 AND ordinal >= $2 AND ordinal < $3 ORDER BY ordinal";

/// Returns the mark of a row of [`SELECT_MARKS`].
pub(super) fn mark_of_row(row: &Row) -> Result<Mark, Fault> {
    let stored: i16 = row.try_get(3)?;
    let waits = u8::try_from(stored).ok().and_then(Waits::from_stored).ok_or_else(|| malformed(&stored.to_string()))?;
    Ok(Mark { ordinal: number_of(row, 0)?, attempt: number_of(row, 1)?, sent_at: micros_of(row, 2)?, waits })
}

/// Returns the marks of devices that may have received what was sent.
pub(super) fn of_run(connection: &Connection, run_id: i64) -> Result<Vec<SentMark>, Fault> {
    let text = "SELECT ordinal, attempt, sent_at FROM sent WHERE run_id = $1 AND waits <> $2 ORDER BY ordinal";
    let rows = connection.rows(text, &[&run_id, &(Waits::ToConnect as i16)])?;
    let mark =
        |row: &Row| Ok(SentMark { ordinal: number_of(row, 0)?, attempt: number_of(row, 1)?, at: time_of(row, 2)? });
    rows.iter().map(mark).collect()
}

/// Returns how many devices wait for something, and the first of them.
pub(super) fn waiting(connection: &Connection, run_id: i64, waits: Waits, most: u32) -> Result<(u64, Vec<u32>), Fault> {
    let count = "SELECT count(*) FROM sent WHERE run_id = $1 AND waits = $2";
    let count = number_of(&connection.one(count, &[&run_id, &(waits as i16)])?, 0)?;
    let text = "SELECT ordinal FROM sent WHERE run_id = $1 AND waits = $2 ORDER BY ordinal LIMIT $3";
    let rows = connection.rows(text, &[&run_id, &(waits as i16), &i64::from(most)])?;
    Ok((count, rows.iter().map(|row| number_of(row, 0)).collect::<Result<_, _>>()?))
}

/// Returns the versions that a run has written to some devices; 0 for one that was not written.
pub(super) fn written_versions(connection: &Connection, run_id: i64, ordinals: &[u32]) -> Result<Vec<u64>, Fault> {
    let wanted: Vec<i64> = ordinals.iter().map(|ordinal| i64::from(*ordinal)).collect();
    let text = "SELECT ordinal, version FROM sent WHERE run_id = $1 AND ordinal = ANY($2) AND version IS NOT NULL";
    let rows = connection.rows(text, &[&run_id, &wanted])?;
    let found: BTreeMap<u32, u64> =
        rows.iter().map(|row| Ok((number_of(row, 0)?, number_of(row, 1)?))).collect::<Result<_, Fault>>()?;
    Ok(ordinals.iter().map(|ordinal| found.get(ordinal).copied().unwrap_or_default()).collect())
}

/// Returns how many late answers a run has.
pub(super) fn count_late(connection: &Connection, run_id: i64) -> Result<u64, Fault> {
    number_of(&connection.one("SELECT count(*) FROM late WHERE run_id = $1", &[&run_id])?, 0)
}

/// Returns the first late answers of a run.
pub(super) fn late_answers(connection: &Connection, run_id: i64, most: u32) -> Result<Vec<LateAnswer>, Fault> {
    let text = "SELECT ordinal, code, message, at FROM late WHERE run_id = $1 ORDER BY at, ordinal LIMIT $2";
    let answer = |row: &Row| {
        let code: i32 = row.try_get(1)?;
        Ok(LateAnswer {
            ordinal: number_of(row, 0)?,
            code: u16::try_from(code).map_err(|_| malformed(&code.to_string()))?,
            message: read_text(row.try_get(2)?),
            at: time_of(row, 3)?,
        })
    };
    connection.rows(text, &[&run_id, &i64::from(most)])?.iter().map(answer).collect()
}

/// Marks devices as sent, given as (ordinal, attempt), counts that, and returns those that are not: they were blocked
/// or deleted.
pub(super) fn mark(
    connection: &Connection,
    run_id: i64,
    devices: &[(u32, u32)],
    ids: &DeviceIds,
    at: Timestamp,
) -> Result<Vec<(u32, Reason)>, Fault> {
    let ordinals: Vec<i64> = devices.iter().map(|(ordinal, _)| i64::from(*ordinal)).collect();
    let attempts: Vec<i64> = devices.iter().map(|(_, attempt)| i64::from(*attempt)).collect();
    let names: Vec<&str> = devices.iter().map(|(ordinal, _)| ids.get(*ordinal as usize)).collect();
    let text = "WITH marked AS (
            INSERT INTO sent (run_id, ordinal, attempt, sent_at)
            SELECT $1, t.ordinal, t.attempt, $2
            FROM unnest($3::bigint[], $4::bigint[], $5::text[]) AS t (ordinal, attempt, id)
            WHERE EXISTS (SELECT 1 FROM device AS d WHERE d.device_id = t.id AND NOT d.blocked)
            ON CONFLICT (run_id, ordinal)
            DO UPDATE SET attempt = excluded.attempt, sent_at = excluded.sent_at, waits = 0
            RETURNING ordinal)
        SELECT array_agg(ordinal) FROM marked";
    let statements: [(&str, Params<'_>); 2] =
        [(COUNT_SENDS, &[]), (text, &[&run_id, &at.as_microsecond(), &ordinals, &attempts, &names])];
    let answers = connection.all(&statements)?;
    let marked = answers.last().and_then(|rows| rows.first()).map(|row| row.try_get::<_, Option<Vec<i64>>>(0));
    let marked: BTreeSet<i64> = marked.transpose()?.flatten().unwrap_or_default().into_iter().collect();
    if marked.len() == devices.len() {
        return Ok(Vec::new());
    }
    let rows = connection.rows("SELECT device_id FROM device WHERE device_id = ANY($1)", &[&names])?;
    let there: BTreeSet<String> = first_column(&rows)?.into_iter().collect();
    let withheld = devices.iter().filter(|(ordinal, _)| !marked.contains(&i64::from(*ordinal)));
    let reason = |(ordinal, _): &(u32, u32)| {
        let is_there = there.contains(ids.get(*ordinal as usize));
        (*ordinal, if is_there { Reason::Blocked } else { Reason::Deleted })
    };
    Ok(withheld.map(reason).collect())
}

/// Notes that nothing was delivered to devices that were marked as sent: they wait to come online.
pub(super) fn unmark(connection: &Connection, run_id: i64, ordinals: &[u32]) -> Result<(), Fault> {
    let ordinals: Vec<i64> = ordinals.iter().map(|ordinal| i64::from(*ordinal)).collect();
    let text = "UPDATE sent SET waits = $3 WHERE run_id = $1 AND ordinal = ANY($2)";
    connection.execute(text, &[&run_id, &ordinals, &(Waits::ToConnect as i16)]).map(drop)
}

/// Notes an answer, as (ordinal, code, message), that came after its device had an outcome.
pub(super) fn note_late(
    connection: &Connection,
    run_id: i64,
    (ordinal, code, message): (u32, u16, &str),
    at: Timestamp,
) -> Result<(), Fault> {
    let text = "INSERT INTO late (run_id, ordinal, code, message, at) VALUES ($1, $2, $3, $4, $5)";
    let (ordinal, code, message) = (i64::from(ordinal), i32::from(code), stored_text(message));
    connection.execute(text, &[&run_id, &ordinal, &code, &message.as_ref(), &at.as_microsecond()]).map(drop)
}
