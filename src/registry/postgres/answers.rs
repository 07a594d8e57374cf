//! Answers of devices that are kept whole.

use std::ops::{ControlFlow, Range};

use jiff::Timestamp;

use super::super::WholeAnswer;
use super::connection::Connection;
use super::fault::Fault;
use super::rows::{malformed, number_of, time_of};

/// Calls `visit` for the answers to a run with ordinals in a range, in order.
pub(super) fn visit(
    connection: &Connection,
    run_id: i64,
    range: Range<u32>,
    visit: &mut dyn FnMut(WholeAnswer),
) -> Result<(), Fault> {
    let text = "SELECT ordinal, code, at, payload FROM answer
        WHERE run_id = $1 AND ordinal >= $2 AND ordinal < $3 ORDER BY ordinal";
    let (start, end) = (i64::from(range.start), i64::from(range.end));
    connection.each(text, &[&run_id, &start, &end], &mut |row| {
        let code: i32 = row.try_get(1)?;
        visit(WholeAnswer {
            ordinal: number_of(row, 0)?,
            code: u16::try_from(code).map_err(|_| malformed(&code.to_string()))?,
            payload: row.try_get(3)?,
            at: time_of(row, 2)?,
        });
        Ok(ControlFlow::Continue(()))
    })
}

/// Keeps answers to a run.
pub(super) fn keep(connection: &Connection, run_id: i64, answers: &[WholeAnswer]) -> Result<(), Fault> {
    let text = "INSERT INTO answer (run_id, ordinal, code, at, payload)
        SELECT $1, t.* FROM unnest($2::bigint[], $3::integer[], $4::bigint[], $5::bytea[]) AS t (a, b, c, d)";
    let ordinals: Vec<i64> = answers.iter().map(|answer| i64::from(answer.ordinal)).collect();
    let codes: Vec<i32> = answers.iter().map(|answer| i32::from(answer.code)).collect();
    let times: Vec<i64> = answers.iter().map(|answer| answer.at.as_microsecond()).collect();
    let payloads: Vec<&[u8]> = answers.iter().map(|answer| answer.payload.as_slice()).collect();
    connection.execute(text, &[&run_id, &ordinals, &codes, &times, &payloads]).map(drop)
}

/// Forgets the answers that came before a time, and returns how many they were.
pub(super) fn drop_before(connection: &Connection, before: Timestamp) -> Result<u64, Fault> {
    connection.execute("DELETE FROM answer WHERE at < $1", &[&before.as_microsecond()])
}
