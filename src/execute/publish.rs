//! Publishes to the results branch: the claim before the first device, a shard when enough batches are done, the rest
//! at the end.

use serde_json::{Map, Value, json};

use super::{ExecuteError, writer};
use crate::ledger::{Claim, ImportReport, Published, RunKey, RunRecord};
use crate::model::delivery::BatchSizes;
use crate::model::fleet::ResultDevices;
use crate::model::id::Name;
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::registry::{Change, PendingRows, Registry, ResultRow, RowError};
use crate::repo::{FileChange, RepoError, ResultsBranch};
use crate::results::{
    DIRECT_HEADER, DirectRow, ImportErrors, Shard, Trailers, claim_subject, document, import_subject, run_subject,
    shard_path, with_trailers,
};

/// Commits a claim, which must be the first for its run.
///
/// # Errors
/// [`RepoError::AlreadyWritten`] when another process has claimed the run.
pub fn publish_claim(branch: &ResultsBranch<'_>, fleet: &Name, claim: &Claim) -> Result<(), RepoError> {
    let (changes, message) = claims_commit(fleet, &[claim], None, (&claim.source_commit, &claim.plan_id));
    branch.commit(&changes, &message)?;
    Ok(())
}

/// Returns the files and the message of a commit of claims of one plan, given as (source commit, plan id). Each claim
/// must be the first for its run. The subject says how many there are unless another one is given.
pub fn claims_commit(
    fleet: &Name,
    claims: &[&Claim],
    subject: Option<&str>,
    (source, plan): (&str, &str),
) -> (Vec<FileChange>, String) {
    let keys: Vec<RunKey> = claims.iter().map(|claim| claim.key(fleet)).collect();
    let file =
        |(claim, key): (&&Claim, &RunKey)| FileChange::bytes(key.claim_path(), document(&claim.to_json(fleet))).first();
    let changes = claims.iter().zip(&keys).map(file).collect();
    let subject = match (subject, claims) {
        (Some(subject), _) => subject.to_string(),
        (None, [claim]) => claim_subject(claim),
        (None, several) => format!("claim {} runs", several.len()),
    };
    let writer = writer();
    let trailers = Trailers { run: &keys[..], source: Some(source), plan: Some(plan), writer: &writer };
    (changes, with_trailers(&subject, &trailers))
}

/// Returns the report of an import, with its rejected rows, as an entry of the outbox for [`publish_entry`].
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

/// Returns rows about what a person did to devices at once, as an entry of the outbox for [`publish_entry`]: they go to
/// the end of the file of their day.
pub fn direct_entry(rows: &[DirectRow<'_>], subject: &str) -> String {
    let path = rows.first().map_or_else(String::new, DirectRow::path);
    let lines: String = rows.iter().map(DirectRow::line).collect();
    let writer = writer();
    let message = with_trailers(subject, &Trailers { writer: &writer, ..Trailers::default() });
    json!({"message": message, "files": {}, "append": {"path": path, "header": DIRECT_HEADER, "lines": lines}})
        .to_string()
}

/// Returns claims with their records, of runs that nothing executes, as an entry of the outbox for [`publish_entry`].
pub fn adoption_entry(files: &[(String, Vec<u8>)], subject: &str, source: &str) -> String {
    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
    let files: Map<String, Value> = files.iter().map(|(path, bytes)| (path.clone(), text(bytes))).collect();
    let writer = writer();
    let trailers = Trailers { source: Some(source), writer: &writer, ..Trailers::default() };
    json!({"message": with_trailers(subject, &trailers), "files": files}).to_string()
}

/// Returns the file that an entry adds lines to, with them; `None` when it adds none. Lines that the file has at its
/// end are not added again: a process died before it could note that they were.
fn appended(branch: &ResultsBranch<'_>, append: &Value) -> Result<Option<(String, Vec<u8>)>, RepoError> {
    let text = |member: &str| append[member].as_str();
    let (Some(path), Some(header), Some(lines)) = (text("path"), text("header"), text("lines")) else {
        return Ok(None);
    };
    let mut bytes = branch.read(path)?.unwrap_or_else(|| header.as_bytes().to_vec());
    if !bytes.ends_with(lines.as_bytes()) {
        bytes.extend_from_slice(lines.as_bytes());
    }
    Ok(Some((path.to_string(), bytes)))
}

/// Commits an entry of the outbox, unless the branch has it already, and returns its files as (path, bytes). An entry
/// with a claim that is on the branch is dropped: a claim never changes.
///
/// # Errors
/// The repository cannot be written, or the entry is not one of [`import_entry`], [`direct_entry`] or
/// [`adoption_entry`].
pub fn publish_entry(branch: &ResultsBranch<'_>, entry: &str) -> Result<Vec<(String, Vec<u8>)>, RepoError> {
    let malformed = || RepoError::Malformed {
        path: "the outbox".to_string(),
        what: "it has an entry that cannot be read".to_string(),
    };
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
    files.extend(appended(branch, &entry["append"])?);
    let changes: Vec<FileChange> =
        files.iter().map(|(path, bytes)| FileChange::bytes(path.clone(), bytes.clone())).collect();
    branch.commit(&changes, entry["message"].as_str().ok_or_else(malformed)?)?;
    Ok(files)
}

/// Commits the record of a run without new devices: one whose journal was lost, or that nothing declares any more.
///
/// # Errors
/// The repository cannot be written.
pub fn publish_record(branch: &ResultsBranch<'_>, key: &RunKey, record: &RunRecord) -> Result<(), RepoError> {
    commit_record(branch, key, record, Vec::new())
}

/// The parts of a run to publish.
pub(super) struct Publication<'a> {
    pub run_id: i64,
    pub key: &'a RunKey,
    pub ids: &'a DeviceIds,
    pub devices: ResultDevices,
    /// Devices before this place are terminal, or the run has ended.
    pub upto: u32,
    pub sizes: BatchSizes,
}

/// Commits the record with the new shards, and returns how far the branch is then. The record is journaled first, so
/// the journal is never behind the branch.
pub(super) fn publish(
    branch: &ResultsBranch<'_>,
    registry: &mut Registry,
    publication: &Publication<'_>,
    record: &mut RunRecord,
) -> Result<Published, ExecuteError> {
    let Publication { run_id, key, ids, devices, upto, sizes } = publication;
    assert!(*upto >= record.published.devices, "what is published is never taken back");
    let mut cutter = Cutter::new(branch, key.results_folder(), record.published.shards);
    let is_whole = record.status.is_final() && *devices == ResultDevices::All;
    let pending = if is_whole { PendingRows::Ended } else { PendingRows::Omitted };
    registry.journal().each_result(*run_id, ids, record.published.devices..*upto, pending, &mut |row| {
        if devices.has(row.outcome.reason) {
            cutter.push(&row, batch_number(*sizes, row.outcome.ordinal));
        }
    })?;
    let (shards, changes) = cutter.finish()?;
    record.published = Published { devices: *upto, shards };
    let text = text_of(record);
    registry.write(Change::KeepRecord { run_id: *run_id, record: &text, devices: Some(*devices) })?;
    commit_record(branch, key, record, changes)?;
    Ok(record.published)
}

/// Returns the batch of a device, which counts from 1.
fn batch_number(sizes: BatchSizes, ordinal: u32) -> u32 {
    u32::try_from(sizes.batch_of(u64::from(ordinal)) + 1).unwrap_or(u32::MAX)
}

/// Returns `run.json`.
pub fn text_of(record: &RunRecord) -> String {
    String::from_utf8(document(&record.to_json())).expect("JSON is UTF-8")
}

/// Cuts the rows of a run into shards, each written as a blob as soon as it is full.
pub(super) struct Cutter<'a> {
    branch: &'a ResultsBranch<'a>,
    folder: String,
    shard: Shard,
    /// The number of shards, including those from before.
    shards: u32,
    changes: Vec<FileChange>,
    /// The first failure; nothing is written after it.
    failure: Option<RepoError>,
}

impl<'a> Cutter<'a> {
    /// Returns a cutter for rows that come after this many shards.
    pub fn new(branch: &'a ResultsBranch<'a>, folder: String, shards: u32) -> Cutter<'a> {
        Cutter { branch, folder, shard: Shard::new(), shards, changes: Vec::new(), failure: None }
    }

    /// Adds a row; `batch` counts from 1.
    pub fn push(&mut self, row: &ResultRow, batch: u32) {
        self.shard.push(&row.device_id, &row.device_name, &row.outcome, batch);
        if self.shard.rows() == limits::SHARD_ROWS_MAX {
            self.write();
        }
    }

    /// Returns the number of shards now, and the files of the new ones.
    pub fn finish(mut self) -> Result<(u32, Vec<FileChange>), RepoError> {
        if self.shard.rows() > 0 {
            self.write();
        }
        match self.failure {
            Some(error) => Err(error),
            None => Ok((self.shards, self.changes)),
        }
    }

    fn write(&mut self) {
        let full = std::mem::take(&mut self.shard);
        if self.failure.is_some() {
            return;
        }
        match self.branch.write_blob(&full.into_bytes()) {
            Ok(blob) => {
                self.shards += 1;
                self.changes.push(FileChange::blob(shard_path(&self.folder, self.shards), blob).first());
            }
            Err(error) => self.failure = Some(error),
        }
    }
}

/// Returns true for the record of a run that has ended.
fn is_final(record: &[u8]) -> bool {
    let record: Option<Value> = serde_json::from_slice(record).ok();
    record.and_then(|record| RunRecord::from_json(&record).ok()).is_some_and(|record| record.status.is_final())
}

pub(super) fn commit_record(
    branch: &ResultsBranch<'_>,
    key: &RunKey,
    record: &RunRecord,
    mut changes: Vec<FileChange>,
) -> Result<(), RepoError> {
    let path = format!("{}/run.json", key.results_folder());
    let text = document(&record.to_json());
    if branch.read(&path)?.is_some_and(|there| there != text && is_final(&there)) {
        // A run that has ended keeps its end.
        return Err(RepoError::AlreadyWritten { path });
    }
    changes.push(FileChange::bytes(path, text));
    let writer = writer();
    let trailers = Trailers {
        run: std::slice::from_ref(key),
        source: Some(&record.source_commit),
        plan: Some(&record.plan_id),
        writer: &writer,
    };
    branch.commit(&changes, &with_trailers(&run_subject(record), &trailers))?;
    Ok(())
}
