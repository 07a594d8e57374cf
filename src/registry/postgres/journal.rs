//! The journal of runs: targets, sent marks and outcomes that the results branch does not hold yet.

use std::collections::BTreeMap;
use std::ops::Range;

use jiff::Timestamp;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::marks::pending_outcome;
use super::super::{JournaledRun, OpenBatch, PendingRows, ResultRow};
use super::connection::{Connection, Params};
use super::fault::Fault;
use super::json::{read_text, stored_text};
use super::marks::{SELECT_MARKS, mark_of_row};
use super::outcome_counts;
use super::rows::{malformed, micros_of, number_of, reason_of, time_of};
use crate::ledger::OpenRun;
use crate::model::delivery::BatchSizes;
use crate::model::digest::Digest;
use crate::model::fleet::ResultDevices;
use crate::model::id::{Name, RunToken};
use crate::model::observation::DeviceIds;
use crate::model::outcome::{Counts, DeviceStatus, Outcome, Reason, RunStatus};

const SELECT_RUN: &str =
    "SELECT run_id, job, run, is_claimed, status, reason, total, claim, started_at, finished_at, batch_size,
            spec, edge_manifest_digest, batch, batch_opened_at, first_batch, keeps_answers
     FROM run";

/// Devices of which results are read at once.
const READ_AT_ONCE: u32 = 10_000;

/// Returns the runs that are not closed.
pub(super) fn unclosed(connection: &Connection) -> Result<Vec<JournaledRun>, Fault> {
    let rows = connection.rows(&format!("{SELECT_RUN} WHERE NOT is_closed ORDER BY run_id"), &[])?;
    rows.iter().map(journaled_run).collect()
}

/// Returns a claimed run.
pub(super) fn find(connection: &Connection, job: &Name, run: &RunToken) -> Result<Option<JournaledRun>, Fault> {
    let text = format!("{SELECT_RUN} WHERE job = $1 AND run = $2 AND is_claimed");
    connection.row(&text, &[&job.as_str(), &run.as_str()])?.as_ref().map(journaled_run).transpose()
}

/// Returns the job and the run token of a claimed run.
pub(super) fn name_of(connection: &Connection, run_id: i64) -> Result<Option<(Name, RunToken)>, Fault> {
    let row = connection.row(&format!("{SELECT_RUN} WHERE run_id = $1 AND is_claimed"), &[&run_id])?;
    let run = row.as_ref().map(journaled_run).transpose()?;
    Ok(run.map(|run| (run.job, run.run)))
}

/// Returns the progress of the open runs that are claimed.
pub(super) fn under_way(
    connection: &Connection,
    is_published: &dyn Fn(&JournaledRun) -> bool,
) -> Result<BTreeMap<(Name, RunToken), OpenRun>, Fault> {
    let text = "SELECT (SELECT count(*) FROM sent WHERE run_id = $1 AND waits = 0),
                       (SELECT count(*) FROM sent WHERE run_id = $1 AND waits <> 0),
                       (SELECT count(*) FROM late WHERE run_id = $1)";
    let mut open = BTreeMap::new();
    for run in unclosed(connection)? {
        if !run.is_claimed && !is_published(&run) {
            continue;
        }
        let Counts { total, completed, failed, unchanged } =
            outcome_counts::progress(connection, run.run_id, u64::from(run.total))?;
        let row = connection.one(text, &[&run.run_id])?;
        let count = |at: usize| number_of::<u64>(&row, at);
        let progress = OpenRun {
            status: run.status,
            total,
            completed,
            failed,
            unchanged,
            in_flight: count(0)?,
            waiting: count(1)?,
            late: count(2)?,
            started_at: run.started_at,
        };
        open.insert((run.job, run.run), progress);
    }
    Ok(open)
}

/// Returns the target of a run.
pub(super) fn target(connection: &Connection, run_id: i64) -> Result<DeviceIds, Fault> {
    let mut ids = DeviceIds::new();
    connection.stream("SELECT ids FROM run_target WHERE run_id = $1 ORDER BY first", [&run_id], |row| {
        row.try_get::<_, &str>(0)?.lines().for_each(|id| ids.push(id));
        Ok(())
    })?;
    Ok(ids)
}

/// Returns the devices of the target of a run that have no outcome.
pub(super) fn pending_target(connection: &Connection, run_id: i64) -> Result<DeviceIds, Fault> {
    let (ids, mut pending, mut next) = (target(connection, run_id)?, DeviceIds::new(), 0);
    let text = "SELECT ordinal FROM outcome WHERE run_id = $1 ORDER BY ordinal";
    connection.stream(text, [&run_id], |row| {
        let ordinal: usize = number_of(row, 0)?;
        (next..ordinal).for_each(|at| pending.push(ids.get(at)));
        next = ordinal + 1;
        Ok(())
    })?;
    (next..ids.len()).for_each(|at| pending.push(ids.get(at)));
    Ok(pending)
}

/// Returns the ordinal, the reason and the attempts of each outcome, in order.
pub(super) fn outcomes(connection: &Connection, run_id: i64) -> Result<Vec<(u32, Reason, u32)>, Fault> {
    let text = "SELECT ordinal, reason, attempts FROM outcome WHERE run_id = $1 ORDER BY ordinal";
    let mut outcomes = Vec::new();
    connection.stream(text, [&run_id], |row| {
        outcomes.push((number_of(row, 0)?, reason_of(row, 1)?, number_of(row, 2)?));
        Ok(())
    })?;
    Ok(outcomes)
}

/// Returns the parts in which the results of a range are read.
pub(super) fn parts(range: Range<u32>) -> impl Iterator<Item = Range<u32>> {
    let end = range.end;
    range.step_by(READ_AT_ONCE as usize).map(move |start| start..end.min(start + READ_AT_ONCE))
}

/// Returns the results of a part, as [`super::super::Journal::each_result`] tells them.
pub(super) fn results(
    connection: &Connection,
    run_id: i64,
    ids: &DeviceIds,
    part: Range<u32>,
    pending: PendingRows,
) -> Result<Vec<ResultRow>, Fault> {
    let mut names = names_of(connection, ids, part.clone())?.into_iter();
    let (start, end) = (i64::from(part.start), i64::from(part.end));
    let text = "SELECT ordinal, reason, code, message, attempts, started_at, finished_at
        FROM outcome WHERE run_id = $1 AND ordinal >= $2 AND ordinal < $3 ORDER BY ordinal";
    let outcomes = connection.rows(text, &[&run_id, &start, &end])?;
    let mut outcomes = outcomes.iter().map(outcome_of_row).collect::<Result<Vec<_>, _>>()?.into_iter().peekable();
    let marks = connection.rows(SELECT_MARKS, &[&run_id, &start, &end])?;
    let mut marks = marks.iter().map(mark_of_row).collect::<Result<Vec<_>, _>>()?.into_iter().peekable();
    let row = |ordinal: u32| {
        let device_name = names.next().flatten().unwrap_or_default();
        let mark = marks.next_if(|mark| mark.ordinal == ordinal);
        let recorded = outcomes.next_if(|outcome| outcome.ordinal == ordinal);
        let outcome = recorded.or_else(|| pending_outcome(pending, ordinal, mark))?;
        let device_id = ids.get(ordinal as usize).to_string();
        Some(ResultRow { device_id, device_name, outcome })
    };
    Ok(part.filter_map(row).collect())
}

/// Returns the names of the devices of a part, in their order; of those that are gone, the names that they had.
///
/// Most runs have nearly all devices between their first and their last one: these are read as they lie, and only the
/// devices of a run with few of many are looked up one by one.
fn names_of(connection: &Connection, ids: &DeviceIds, part: Range<u32>) -> Result<Vec<Option<String>>, Fault> {
    let wanted: Vec<&str> = part.map(|at| ids.get(at as usize)).collect();
    let (Some(first), Some(last)) = (wanted.first(), wanted.last()) else { return Ok(Vec::new()) };
    let mut names = vec![None; wanted.len()];
    let text = "SELECT device_id, device_name FROM device WHERE device_id >= $1 AND device_id <= $2
        ORDER BY device_id LIMIT $3";
    let most = 2 * i64::try_from(wanted.len()).unwrap_or(i64::MAX / 2);
    let rows = connection.rows(text, &[first, last, &most])?;
    let read = place(&rows, &wanted, &mut names)?;
    if rows.len() as i64 == most {
        let text = "SELECT device_id, device_name FROM device WHERE device_id = ANY($1) ORDER BY device_id";
        place(&connection.rows(text, &[&&wanted[read..]])?, &wanted[read..], &mut names[read..])?;
    }
    let gone: Vec<&str> = wanted.iter().zip(&names).filter(|(_, name)| name.is_none()).map(|(id, _)| *id).collect();
    if !gone.is_empty() {
        let text = "SELECT device_id, device_name FROM deleted_device WHERE device_id = ANY($1) ORDER BY device_id";
        place(&connection.rows(text, &[&gone])?, &wanted, &mut names)?;
    }
    Ok(names)
}

/// Puts the names of rows, which are sorted by their ids, in the places of the ids that are wanted, and returns the place
/// up to which that is done.
fn place(rows: &[Row], wanted: &[&str], names: &mut [Option<String>]) -> Result<usize, Fault> {
    let mut at = 0;
    for row in rows {
        let id: &str = row.try_get(0)?;
        at += wanted[at..].iter().take_while(|wanted| **wanted < id).count();
        if wanted.get(at) == Some(&id) {
            names[at] = Some(read_text(row.try_get(1)?));
            at += 1;
        }
    }
    Ok(at)
}

/// Notes that a run has started, or goes on.
pub(super) fn start(connection: &Connection, run_id: i64, at: Timestamp) -> Result<(), Fault> {
    outcome_counts::count_anew(connection, run_id)?;
    let text = "UPDATE run SET status = 'running', started_at = coalesce(started_at, $2) WHERE run_id = $1";
    connection.execute(text, &[&run_id, &at.to_string()]).map(drop)
}

/// Notes that a batch of a run was opened.
pub(super) fn open_batch(connection: &Connection, run_id: i64, opened: OpenBatch) -> Result<(), Fault> {
    let text = "UPDATE run SET batch = $2, batch_opened_at = $3 WHERE run_id = $1";
    connection.execute(text, &[&run_id, &i64::from(opened.batch), &opened.at.as_microsecond()]).map(drop)
}

/// Notes that a run does not go on now, or that it has ended at a time.
pub(super) fn end(
    connection: &Connection,
    run_id: i64,
    (status, reason): (RunStatus, Option<&str>),
    at: Timestamp,
) -> Result<(), Fault> {
    let finished = status.is_final().then(|| at.to_string());
    let reason = reason.map(stored_text);
    let text = "UPDATE run SET status = $2, reason = $3, finished_at = $4 WHERE run_id = $1";
    connection.execute(text, &[&run_id, &status.as_str(), &reason.as_deref(), &finished]).map(drop)
}

/// Notes `run.json` as it is about to be published, and of which devices new shards beside it have rows.
pub(super) fn keep_record(
    connection: &Connection,
    run_id: i64,
    record: &str,
    devices: Option<ResultDevices>,
) -> Result<(), Fault> {
    let text = "UPDATE run SET record = $2, is_failures = coalesce($3, is_failures) WHERE run_id = $1";
    let is_failures = devices.map(|devices| devices == ResultDevices::Failures);
    connection.execute(text, &[&run_id, &record, &is_failures]).map(drop)
}

/// Notes that the end of a run is on the results branch.
pub(super) fn close(connection: &Connection, run_id: i64) -> Result<(), Fault> {
    connection.execute("UPDATE run SET is_closed = true WHERE run_id = $1", &[&run_id]).map(drop)
}

/// Forgets a run with all that is journaled of it.
pub(super) fn forget(connection: &Connection, run_id: i64) -> Result<(), Fault> {
    for table in ["outcome", "outcome_count", "sent", "late", "answer", "run"] {
        connection.execute(&format!("DELETE FROM {table} WHERE run_id = $1"), &[&run_id])?;
    }
    Ok(())
}

/// Outcomes as columns, for one statement.
#[derive(Default)]
pub(super) struct OutcomeColumns<'a> {
    ordinals: Vec<i64>,
    reasons: Vec<i16>,
    codes: Vec<Option<i32>>,
    messages: Vec<Option<std::borrow::Cow<'a, str>>>,
    attempts: Vec<i64>,
    started: Vec<Option<i64>>,
    finished: Vec<Option<i64>>,
}

impl<'a> OutcomeColumns<'a> {
    pub fn push(&mut self, outcome: &'a Outcome) {
        let Outcome { ordinal, reason, code, message, attempts, started_at, finished_at } = outcome;
        self.ordinals.push(i64::from(*ordinal));
        self.reasons.push(*reason as i16);
        self.codes.push(code.map(i32::from));
        self.messages.push(Some(message.as_str()).filter(|message| !message.is_empty()).map(stored_text));
        self.attempts.push(i64::from(*attempts));
        self.started.push(started_at.map(Timestamp::as_microsecond));
        self.finished.push(finished_at.map(Timestamp::as_microsecond));
    }

    /// Returns the statement that writes the outcomes, and its parameters, the first of which is the number of the run. It
    /// fails when a device has an outcome already.
    pub fn insertion<'p>(&'p self, run_id: &'p i64) -> (String, Vec<&'p (dyn ToSql + Sync)>) {
        let mut insertion = Insertion { params: vec![run_id], lists: Vec::new(), names: Vec::new() };
        let columns = [
            insertion.column("ordinal", "bigint", &self.ordinals),
            insertion.column("reason", "smallint", &self.reasons),
            insertion.column("code", "integer", &self.codes),
            insertion.column("message", "text", &self.messages),
            insertion.column("attempts", "bigint", &self.attempts),
            insertion.column("started_at", "bigint", &self.started),
            insertion.column("finished_at", "bigint", &self.finished),
        ];
        let text = format!(
            "INSERT INTO outcome (run_id, ordinal, reason, code, message, attempts, started_at, finished_at)
             SELECT $1, {} FROM unnest({}) AS t ({})",
            columns.join(", "),
            insertion.lists.join(", "),
            insertion.names.join(", ")
        );
        (text, insertion.params)
    }

    /// Returns the parameters of the statement that counts them.
    fn counted<'p>(&'p self, run_id: &'p i64) -> [&'p (dyn ToSql + Sync); 3] {
        [run_id, &self.ordinals, &self.reasons]
    }

    /// Writes the outcomes of a run.
    pub fn insert(&self, connection: &Connection, run_id: i64) -> Result<(), Fault> {
        let (text, params) = self.insertion(&run_id);
        connection.all(&[(&text, &params), (outcome_counts::ADD, &self.counted(&run_id))]).map(drop)
    }
}

/// The parts of a statement that inserts columns: those with different values are lists.
struct Insertion<'a> {
    params: Vec<&'a (dyn ToSql + Sync)>,
    lists: Vec<String>,
    names: Vec<&'static str>,
}

impl<'a> Insertion<'a> {
    /// Returns SQL for the values of a column. One that all rows share, which is so of most columns, is sent and read
    /// once.
    fn column<T>(&mut self, name: &'static str, kind: &str, values: &'a Vec<T>) -> String
    where
        T: ToSql + Sync + PartialEq,
    {
        let shared = values.first().filter(|first| name != "ordinal" && values.iter().all(|value| value == *first));
        self.params.push(shared.map_or(values as &(dyn ToSql + Sync), |value| value as &(dyn ToSql + Sync)));
        let at = self.params.len();
        if shared.is_some() {
            return format!("${at}::{kind}");
        }
        self.lists.push(format!("${at}::{kind}[]"));
        self.names.push(name);
        format!("t.{name}")
    }
}

/// Records outcomes, and what they say of the devices' connection. Fails when a device has an outcome already.
pub(super) fn record(connection: &Connection, run_id: i64, outcomes: &[Outcome], ids: &DeviceIds) -> Result<(), Fault> {
    let mut columns = OutcomeColumns::default();
    let (mut online, mut seen_at, mut offline) = (Vec::new(), Vec::new(), Vec::new());
    for outcome in outcomes {
        columns.push(outcome);
        let id = ids.get(outcome.ordinal as usize);
        match outcome.reason {
            Reason::Responded | Reason::Acknowledged | Reason::Rejected => {
                online.push(id);
                seen_at.push(outcome.finished_at.map(|time| time.to_string()));
            }
            Reason::Offline => offline.push(id),
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
    let (insertion, outcomes) = columns.insertion(&run_id);
    let marks: [&(dyn ToSql + Sync); 2] = [&run_id, &columns.ordinals];
    let counted = columns.counted(&run_id);
    let mut statements: Vec<(&str, Params<'_>)> = vec![
        (&insertion, &outcomes),
        (outcome_counts::ADD, &counted),
        ("DELETE FROM sent WHERE run_id = $1 AND ordinal = ANY($2)", &marks),
    ];
    let (connected, disconnected): ([&(dyn ToSql + Sync); 2], [&(dyn ToSql + Sync); 1]) =
        ([&online, &seen_at], [&offline]);
    if !online.is_empty() {
        let text = "UPDATE device AS d SET connection_state = 'Connected', last_activity = t.at,
                state = CASE state WHEN 'registered' THEN 'provisioned' ELSE state END
            FROM unnest($1::text[], $2::text[]) AS t (id, at) WHERE d.device_id = t.id";
        statements.push((text, &connected));
    }
    if !offline.is_empty() {
        let text = "UPDATE device SET connection_state = 'Disconnected'
            WHERE device_id = ANY($1) AND connection_state <> 'Disconnected'";
        statements.push((text, &disconnected));
    }
    connection.all(&statements).map(drop)
}

/// Returns the run of a row of [`SELECT_RUN`].
fn journaled_run(row: &Row) -> Result<JournaledRun, Fault> {
    let (job, run, status): (String, String, String) = (row.try_get(1)?, row.try_get(2)?, row.try_get(4)?);
    let (started, finished): (Option<String>, Option<String>) = (row.try_get(8)?, row.try_get(9)?);
    let (manifest, size): (Option<String>, u64) = (row.try_get(12)?, number_of(row, 10)?);
    let (first, batch): (Option<i64>, Option<i64>) = (row.try_get(15)?, row.try_get(13)?);
    Ok(JournaledRun {
        run_id: row.try_get(0)?,
        sizes: BatchSizes { first: first.and_then(|first| u64::try_from(first).ok()).unwrap_or(size), size },
        job: Name::parse(&job).map_err(|_| malformed(&job))?,
        run: RunToken::parse(&run).map_err(|_| malformed(&run))?,
        is_claimed: row.try_get(3)?,
        status: RunStatus::parse(&status).ok_or_else(|| malformed(&status))?,
        reason: row.try_get::<_, Option<String>>(5)?.map(read_text),
        total: number_of(row, 6)?,
        claim: row.try_get(7)?,
        spec: row.try_get(11)?,
        manifest: manifest.and_then(|text| Digest::parse(&text)),
        started_at: started.and_then(|text| text.parse().ok()),
        finished_at: finished.and_then(|text| text.parse().ok()),
        keeps_answers: row.try_get(16)?,
        open_batch: match batch {
            Some(_) => Some(OpenBatch { batch: number_of(row, 13)?, at: time_of(row, 14)? }),
            None => None,
        },
    })
}

fn outcome_of_row(row: &Row) -> Result<Outcome, Fault> {
    let message: Option<String> = row.try_get(3)?;
    let reason = reason_of(row, 1)?;
    assert!(reason.status() != DeviceStatus::Pending, "only terminal devices have an outcome");
    let code: Option<i32> = row.try_get(2)?;
    Ok(Outcome {
        ordinal: number_of(row, 0)?,
        reason,
        code: code.and_then(|code| u16::try_from(code).ok()),
        message: message.map(read_text).unwrap_or_default(),
        attempts: number_of(row, 4)?,
        started_at: micros_of(row, 5)?,
        finished_at: micros_of(row, 6)?,
    })
}
