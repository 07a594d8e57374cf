//! The outbox: what the registry has done at once, as entries that wait to be committed to the results branch.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{CrashPoints, ExecuteError, writer};
use crate::ledger::ImportReport;
use crate::model::id::Name;
use crate::registry::{Change, OutboxEntry, Registry, RowError};
use crate::repo::{FileChange, RepoError, ResultsBranch};
use crate::results::{DIRECT_HEADER, DirectRow, ImportErrors, Trailers, document, import_subject, with_trailers};

/// Entries that are published as one commit.
const APPENDED_MAX: usize = 5_000;

/// Publishes what the registry has done and the branch does not have: rows of one file together.
///
/// # Errors
/// The registry or the results branch cannot be written.
pub fn empty_outbox(
    branch: &ResultsBranch<'_>,
    registry: &mut Registry,
    crash: &CrashPoints,
) -> Result<(), ExecuteError> {
    let entries = registry.branch_copy().outbox()?;
    let mut rest = entries.as_slice();
    while let Some(first) = rest.first() {
        let path = appends_to(&first.text);
        let is_like_first = |one: &&OutboxEntry| path.is_some() && appends_to(&one.text) == path;
        let count = 1 + rest[1..].iter().take(APPENDED_MAX - 1).take_while(is_like_first).count();
        let (together, later) = rest.split_at(count);
        rest = later;
        let texts: Vec<&str> = together.iter().map(|entry| entry.text.as_str()).collect();
        let files = crash.around("publish import", || match texts.as_slice() {
            [one] => publish_entry(branch, one),
            several => publish_appended(branch, several),
        })?;
        // The file once, and whole.
        let delivered = together.iter().enumerate();
        let files_of = |at: usize| if at == 0 { files.as_slice() } else { &[] };
        let delivered = delivered.map(|(at, entry)| Change::Delivered { about: &entry.about, files: files_of(at) });
        registry.commit(&delivered.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// Returns the report of an import, with its rejected rows, as an entry of the outbox for [`empty_outbox`].
pub fn import_entry(import: &Name, digest: &str, report: &ImportReport, errors: &[RowError]) -> String {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("a report is UTF-8");
    let folder = format!("imports/{import}/{digest}");
    let mut files = Map::new();
    files.insert(format!("{folder}/report.json"), text(document(&report.to_json())).into());
    if !errors.is_empty() {
        let mut file = ImportErrors::new();
        errors.iter().for_each(|error| file.push(error.line, &error.device_id, &error.message));
        files.insert(format!("{folder}/errors.csv"), text(file.into_bytes()).into());
    }
    let writer = writer();
    let trailers =
        Trailers { run: &[], source: Some(&report.source_commit), plan: Some(&report.plan_id), writer: &writer };
    json!({"message": with_trailers(&import_subject(import, report), &trailers), "files": files}).to_string()
}

/// Returns rows about what a person did to devices at once, as an entry of the outbox for [`empty_outbox`]: they go to
/// the end of the file of their day.
pub fn direct_entry(rows: &[DirectRow<'_>], subject: &str) -> String {
    let path = rows.first().map_or_else(String::new, DirectRow::path);
    let lines: String = rows.iter().map(DirectRow::line).collect();
    let writer = writer();
    let message = with_trailers(subject, &Trailers { writer: &writer, ..Trailers::default() });
    json!({"message": message, "files": {}, "append": {"path": path, "header": DIRECT_HEADER, "lines": lines}})
        .to_string()
}

/// Returns claims with their records, of runs that nothing executes, as an entry of the outbox for [`empty_outbox`].
pub fn adoption_entry(files: &[(String, Vec<u8>)], subject: &str, source: &str) -> String {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let files: Map<String, Value> = files.iter().map(|(path, bytes)| (path.clone(), text(bytes))).collect();
    let writer = writer();
    let trailers = Trailers { source: Some(source), writer: &writer, ..Trailers::default() };
    json!({"message": with_trailers(subject, &trailers), "files": files}).to_string()
}

/// Returns the file that entries add lines to, with them; `None` when they add none. Lines that the file has near its
/// end are not added again: a process died before it could note that they were.
fn appended(branch: &ResultsBranch<'_>, appends: &[Value]) -> Result<Option<(String, Vec<u8>)>, RepoError> {
    /// Bytes that others may have added meanwhile.
    const OTHERS: usize = 64 * 1024;
    let mut parts = Vec::new();
    for append in appends {
        let text = |member: &str| append[member].as_str();
        let (Some(path), Some(header), Some(lines)) = (text("path"), text("header"), text("lines")) else { continue };
        parts.push((path, header, lines));
    }
    let Some((path, header, _)) = parts.first() else { return Ok(None) };
    let mut bytes = branch.read(path)?.unwrap_or_else(|| header.as_bytes().to_vec());
    let near = parts.iter().map(|(_, _, lines)| lines.len()).sum::<usize>() + OTHERS;
    let tail = bytes[bytes.len().saturating_sub(near)..].to_vec();
    let known: BTreeSet<&[u8]> = tail.split(|byte| *byte == b'\n').collect();
    for (_, _, lines) in &parts {
        if !lines.as_bytes().split(|byte| *byte == b'\n').all(|line| known.contains(line)) {
            bytes.extend_from_slice(lines.as_bytes());
        }
    }
    Ok(Some((path.to_string(), bytes)))
}

/// Returns the path of the file that an entry adds lines to; `None` for one that does anything else.
fn appends_to(entry: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(entry).ok()?;
    entry["files"].as_object().filter(|files| files.is_empty())?;
    entry["append"]["path"].as_str().map(str::to_string)
}

/// Commits entries of the outbox that add lines to one file, as one commit, and returns that file.
///
/// # Errors
/// As [`publish_entry`].
fn publish_appended(branch: &ResultsBranch<'_>, entries: &[&str]) -> Result<Vec<(String, Vec<u8>)>, RepoError> {
    let appends =
        entries.iter().map(|entry| serde_json::from_str::<Value>(entry).map(|mut entry| entry["append"].take()));
    let appends = appends.collect::<Result<Vec<Value>, _>>().map_err(|_| unreadable_entry())?;
    let files: Vec<(String, Vec<u8>)> = appended(branch, &appends)?.into_iter().collect();
    let changes: Vec<FileChange> =
        files.iter().map(|(path, bytes)| FileChange::bytes(path.clone(), bytes.clone())).collect();
    let writer = writer();
    let subject = format!("devices: {} direct changes", entries.len());
    branch.commit(&changes, &with_trailers(&subject, &Trailers { writer: &writer, ..Trailers::default() }))?;
    Ok(files)
}

fn unreadable_entry() -> RepoError {
    RepoError::Malformed { path: "the outbox".to_string(), what: "it has an entry that cannot be read".to_string() }
}

/// Commits an entry of the outbox, unless the branch has it already, and returns its files as (path, bytes). An entry
/// with a claim that is on the branch is dropped: a claim never changes.
///
/// # Errors
/// The repository cannot be written, or the entry is not one of [`import_entry`], [`direct_entry`] or
/// [`adoption_entry`].
fn publish_entry(branch: &ResultsBranch<'_>, entry: &str) -> Result<Vec<(String, Vec<u8>)>, RepoError> {
    let malformed = unreadable_entry;
    let entry: Value = serde_json::from_str(entry).map_err(|_| malformed())?;
    let files = entry["files"].as_object().ok_or_else(malformed)?;
    let bytes_of = |text: &Value| Ok(text.as_str().ok_or_else(malformed)?.as_bytes().to_vec());
    let mut files =
        files.iter().map(|(path, text)| Ok((path.clone(), bytes_of(text)?))).collect::<Result<Vec<_>, _>>()?;
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with("claims/")) {
        if branch.read(path)?.is_some() {
            return Ok(Vec::new());
        }
    }
    files.extend(appended(branch, std::slice::from_ref(&entry["append"]))?);
    let changes: Vec<FileChange> =
        files.iter().map(|(path, bytes)| FileChange::bytes(path.clone(), bytes.clone())).collect();
    branch.commit(&changes, entry["message"].as_str().ok_or_else(malformed)?)?;
    Ok(files)
}
