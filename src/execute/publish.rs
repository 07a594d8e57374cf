//! Publishes to the results branch: the claim before the first device, a shard when enough batches are done, the rest
//! at the end.

use super::{ExecuteError, writer};
use crate::ledger::{Claim, Published, RunKey, RunRecord};
use crate::model::delivery::BatchSizes;
use crate::model::fleet::ResultDevices;
use crate::model::id::Name;
use crate::model::limits;
use crate::model::observation::DeviceIds;
use crate::registry::{Change, PendingRows, Registry, ResultRow};
use crate::repo::{FileChange, RepoError, ResultsBranch};
use crate::results::{Shard, Trailers, claim_subject, document, run_subject, shard_path, with_trailers};

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
    let record: Option<serde_json::Value> = serde_json::from_slice(record).ok();
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
