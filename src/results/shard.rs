//! Shards of devices as CSV (RFC 4180), and the rejected rows of an import.
//!
//! Names and messages come from devices and files: a cell that a spreadsheet would run as a formula gets a `'` in front
//! (OWASP, CSV injection). Ids are never changed; they cannot begin with such a character.

use std::borrow::Cow;
use std::ops::{Bound, ControlFlow};

use jiff::Timestamp;

use crate::model::outcome::{DeviceStatus, Outcome, Reason};

/// The columns of a shard, in order.
pub const SHARD_HEADER: [&str; 10] = [
    "device_id",
    "device_name",
    "status",
    "reason",
    "code",
    "message",
    "attempts",
    "batch",
    "started_at",
    "finished_at",
];

/// A shard that is being written. Rows come in the order of their ids.
pub struct Shard {
    writer: csv::Writer<Vec<u8>>,
    rows: usize,
    /// The last time that was written and its text: devices that were written together share theirs.
    last_time: Option<(Timestamp, String)>,
}

/// A row of a shard as it is read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub device_id: String,
    pub device_name: String,
    pub status: DeviceStatus,
    pub reason: Reason,
    pub code: Option<u16>,
    pub message: String,
    pub attempts: u32,
    pub batch: u32,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
}

impl Default for Shard {
    fn default() -> Shard {
        Shard::new()
    }
}

impl Shard {
    /// Returns a shard with its header.
    pub fn new() -> Shard {
        let mut writer = csv_writer();
        writer.write_record(SHARD_HEADER).expect("writing to memory cannot fail");
        Shard { writer, rows: 0, last_time: None }
    }

    /// Adds a device; `batch` counts from 1.
    pub fn push(&mut self, device_id: &str, device_name: &str, outcome: &Outcome, batch: u32) {
        let Outcome { ordinal: _, reason, code, message, attempts, started_at, finished_at } = outcome;
        let started_at = started_at.map(|time| self.text_of(time)).unwrap_or_default();
        let finished_at = finished_at.map(|time| self.text_of(time)).unwrap_or_default();
        let cells: [&str; 10] = [
            device_id,
            &defuse(device_name),
            reason.status().as_str(),
            reason.as_str(),
            &code.map_or(String::new(), |code| code.to_string()),
            &defuse(message),
            &attempts.to_string(),
            &batch.to_string(),
            &started_at,
            &finished_at,
        ];
        self.writer.write_record(cells).expect("writing to memory cannot fail");
        self.rows += 1;
    }

    fn text_of(&mut self, time: Timestamp) -> String {
        match &self.last_time {
            Some((last, text)) if *last == time => text.clone(),
            Some(_) | None => {
                let text = time.to_string();
                self.last_time = Some((time, text.clone()));
                text
            }
        }
    }

    /// Returns the number of devices.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.writer.into_inner().expect("writing to memory cannot fail")
    }
}

/// Calls `visit` for each row of a shard.
///
/// # Errors
/// A row is malformed; the error names its line.
pub fn read_shard(bytes: &[u8], mut visit: impl FnMut(Row)) -> Result<(), String> {
    let mut reader = csv::ReaderBuilder::new().from_reader(bytes);
    for record in reader.records() {
        let record = record.map_err(|error| format!("a shard is no CSV: {error}"))?;
        let line = record.position().map_or(0, csv::Position::line);
        visit(row_of(&record).ok_or_else(|| format!("line {line} of a shard is malformed"))?);
    }
    Ok(())
}

/// Calls `visit` for the rows of a shard from an id on, until it breaks: rows before it are passed over unread.
///
/// # Errors
/// As [`read_shard`].
pub fn read_shard_from(
    bytes: &[u8],
    from: Bound<&str>,
    mut visit: impl FnMut(Row) -> ControlFlow<()>,
) -> Result<ControlFlow<()>, String> {
    let is_before = |id: &[u8]| match from {
        Bound::Unbounded => false,
        Bound::Included(least) => id < least.as_bytes(),
        Bound::Excluded(before) => id <= before.as_bytes(),
    };
    let begin = begin_of(bytes, &is_before);
    let mut reader = csv::ReaderBuilder::new().has_headers(begin == 0).from_reader(&bytes[begin..]);
    let mut record = csv::ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| format!("a shard is no CSV: {error}"))? {
        if record.get(0).is_some_and(is_before) {
            continue;
        }
        let line = || {
            let here = record.position().map_or(0, csv::Position::line);
            here + bytes[..begin].iter().filter(|byte| **byte == b'\n').count() as u64
        };
        let text = csv::StringRecord::from_byte_record(record.clone()).ok();
        let row = text.as_ref().and_then(row_of).ok_or_else(|| format!("line {} of a shard is malformed", line()))?;
        if visit(row).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// Calls `visit` for each device of a shard that failed: others are passed over unread.
///
/// # Errors
/// As [`read_shard`].
pub fn read_failed(bytes: &[u8], mut visit: impl FnMut(Row)) -> Result<(), String> {
    // The status is a cell of its own, and no quoted one.
    const FAILED: &str = ",failed,";
    let text = std::str::from_utf8(bytes).map_err(|_| "a shard is not UTF-8".to_string())?;
    let mut from = 0;
    while let Some(at) = text[from..].find(FAILED).map(|at| from + at) {
        let begin = text[..at].rfind('\n').map_or(0, |end| end + 1);
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(&bytes[begin..end]);
        let mut record = csv::StringRecord::new();
        let is_read = begin > 0 && reader.read_record(&mut record).is_ok();
        let row = if is_read { row_of(&record) } else { None };
        let line = || bytes[..begin].iter().filter(|byte| **byte == b'\n').count() + 1;
        let row = row.ok_or_else(|| format!("line {} of a shard is malformed", line()))?;
        if row.status == DeviceStatus::Failed {
            visit(row);
        }
        from = end;
    }
    Ok(())
}

/// Returns where the row before the first one begins that is not to be passed over, or 0 where that is not found.
fn begin_of(bytes: &[u8], is_before: &dyn Fn(&[u8]) -> bool) -> usize {
    let line_from = |at: usize| bytes[at..].iter().position(|byte| *byte == b'\n').map(|end| at + end + 1);
    let Some(mut low) = line_from(0) else { return 0 };
    // Rows begin at `low`, and that one is passed over; the one that begins first from `high` on is not.
    let mut high = bytes.len();
    let id_at = |begin: usize| {
        let line = &bytes[begin..line_from(begin).unwrap_or(bytes.len())];
        let mut record = csv::ByteRecord::new();
        let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(line);
        reader.read_byte_record(&mut record).ok()?;
        record.get(0).map(<[u8]>::to_vec)
    };
    if !id_at(low).is_some_and(|id| is_before(&id)) {
        return 0;
    }
    while low < high {
        let middle = low + (high - low) / 2;
        let Some(begin) = line_from(middle).filter(|begin| *begin < high) else { break };
        match id_at(begin) {
            Some(id) if is_before(&id) => low = begin,
            Some(_) => high = middle,
            None => return 0,
        }
    }
    low
}

fn row_of(record: &csv::StringRecord) -> Option<Row> {
    let optional = |at: usize| record.get(at).filter(|cell| !cell.is_empty());
    Some(Row {
        device_id: record.get(0)?.to_string(),
        device_name: record.get(1)?.to_string(),
        status: DeviceStatus::parse(record.get(2)?)?,
        reason: Reason::parse(record.get(3)?)?,
        code: optional(4).map(str::parse).transpose().ok()?,
        message: record.get(5)?.to_string(),
        attempts: record.get(6)?.parse().ok()?,
        batch: record.get(7)?.parse().ok()?,
        started_at: optional(8).map(str::parse).transpose().ok()?,
        finished_at: optional(9).map(str::parse).transpose().ok()?,
    })
}

/// The rejected rows of an import, as `errors.csv`.
pub struct ImportErrors {
    writer: csv::Writer<Vec<u8>>,
}

impl Default for ImportErrors {
    fn default() -> ImportErrors {
        ImportErrors::new()
    }
}

impl ImportErrors {
    /// Returns a file with its header.
    pub fn new() -> ImportErrors {
        let mut writer = csv_writer();
        writer.write_record(["line", "device_id", "message"]).expect("writing to memory cannot fail");
        ImportErrors { writer }
    }

    /// Adds a rejected row. Its id is untrusted text here, so it is defused too.
    pub fn push(&mut self, line: u64, device_id: &str, message: &str) {
        let cells = [line.to_string(), defuse(device_id).into_owned(), defuse(message).into_owned()];
        self.writer.write_record(cells).expect("writing to memory cannot fail");
    }

    /// Returns the bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.writer.into_inner().expect("writing to memory cannot fail")
    }
}

fn csv_writer() -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new())
}

/// Returns the id of the first row of a shard; `None` when it has none, or a malformed one.
pub fn first_id(bytes: &[u8]) -> Option<String> {
    // A row is one line: what it quotes has no line feed.
    let mut lines = bytes.splitn(3, |byte| *byte == b'\n');
    let (header, row) = (lines.next()?, lines.next()?);
    let mut first = None;
    let part = [header, b"\n", row, b"\n"].concat();
    read_shard(&part, |row| first = Some(row.device_id)).ok()?;
    first
}

/// Puts a `'` before a cell that a spreadsheet would run, and removes control characters.
pub fn defuse(cell: &str) -> Cow<'_, str> {
    let clean = crate::model::text::sanitize_line(cell);
    if clean.starts_with(['=', '+', '-', '@', '\t', '\r']) { Cow::Owned(format!("'{clean}")) } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_reads_back_and_formulas_are_defused() {
        let outcome = Outcome {
            ordinal: 0,
            reason: Reason::Rejected,
            code: Some(500),
            message: "=HYPERLINK(\"x\"), said \u{1b}[31mit".to_string(),
            attempts: 1,
            started_at: Some("2026-11-20T10:00:00Z".parse().unwrap()),
            finished_at: None,
        };
        let mut shard = Shard::new();
        shard.push("d-1", "-2+3", &outcome, 4);
        let bytes = shard.into_bytes();
        let mut rows = Vec::new();
        read_shard(&bytes, |row| rows.push(row)).unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].device_name, "'-2+3");
        assert!(rows[0].message.starts_with("'=HYPERLINK"), "{}", rows[0].message);
        assert!(!rows[0].message.contains('\u{1b}'));
        assert_eq!((rows[0].reason, rows[0].code, rows[0].batch), (Reason::Rejected, Some(500), 4));
        assert!(String::from_utf8(bytes).unwrap().starts_with("device_id,device_name,status,reason,code,"));
    }

    #[test]
    fn a_shard_is_read_from_an_id_on_until_enough() {
        let mut shard = Shard::new();
        let outcome = |ordinal| Outcome {
            ordinal,
            reason: Reason::Written,
            code: None,
            message: String::new(),
            attempts: 1,
            started_at: None,
            finished_at: None,
        };
        (0..9).for_each(|n| shard.push(&format!("d-{n}"), "", &outcome(n), 1));
        let bytes = shard.into_bytes();
        let check = |from: Bound<&str>, most: usize, expect: &[&str]| {
            let mut ids = Vec::new();
            let flow = read_shard_from(&bytes, from, |row| {
                ids.push(row.device_id);
                if ids.len() == most { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            assert_eq!(
                (ids.iter().map(String::as_str).collect::<Vec<_>>(), flow.unwrap().is_break()),
                (expect.to_vec(), expect.len() == most)
            );
        };
        check(Bound::Excluded("d-3"), 2, &["d-4", "d-5"]);
        check(Bound::Included("d-3"), 1, &["d-3"]);
        check(Bound::Excluded("d-75"), 9, &["d-8"]);
        check(Bound::Unbounded, 1, &["d-0"]);
        check(Bound::Included("e"), 1, &[]);
    }

    #[test]
    fn the_first_id_is_whole_whatever_it_has() {
        let outcome = Outcome {
            ordinal: 0,
            reason: Reason::Responded,
            code: None,
            message: String::new(),
            attempts: 1,
            started_at: None,
            finished_at: None,
        };
        for id in ["d-1", "d,1", "d,1,", ",", "d'1"] {
            let mut shard = Shard::new();
            assert_eq!(first_id(&Shard::new().into_bytes()), None);
            shard.push(id, "a \"name\", quoted", &outcome, 1);
            shard.push("z", "", &outcome, 1);
            assert_eq!(first_id(&shard.into_bytes()).as_deref(), Some(id));
        }
    }
}
