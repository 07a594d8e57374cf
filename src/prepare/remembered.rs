//! The results branch when it is gone: what the registry remembers stands in for it.

use std::collections::BTreeMap;

use super::HistoryError;
use crate::ledger::RunKey;
use crate::model::job::{DevicesOfRun, Left};
use crate::registry::{PendingRows, Registry, ResultRow};
use crate::repo::ResultsBranch;
use crate::results::{Row, defuse, document, read_shard};

/// Returns the documents of the branch by their path, without its shards and without `fleet.json`.
pub(super) fn remembered_documents(
    registry: &Registry,
    wanted: impl Fn(&str) -> bool,
) -> Result<BTreeMap<String, Vec<u8>>, HistoryError> {
    let mut documents = registry.kept_files(wanted)?;
    for run in registry.branch_copy().runs()? {
        if let Some(record) = &run.record {
            documents.insert(format!("{}/run.json", run.results_folder()), document(&record.to_json()));
        }
        documents.insert(run.claim_path(), run.claim.into_bytes());
    }
    Ok(documents)
}

/// Calls `visit` for the rows of a run as its shards on the branch had them, sorted by device.
///
/// # Errors
/// The registry cannot be read.
pub fn remembered_rows(registry: &Registry, key: &RunKey, mut visit: impl FnMut(Row)) -> Result<(), HistoryError> {
    let runs = registry.branch_copy().runs()?;
    if let Some(run) = runs.iter().find(|run| run.job == key.job && run.run == key.run) {
        registry.branch_copy().each_published(run, &mut |row, batch| visit(published_row(row, batch)))?;
        return Ok(());
    }
    let prefix = shard_prefix(key);
    for (path, bytes) in registry.kept_files(|path| path.starts_with(&prefix))? {
        read_shard(&bytes, &mut visit).map_err(|what| malformed("the registry", path, what))?;
    }
    Ok(())
}

/// Returns the sorted ids of the devices that a run left as wanted, from its shards or what is remembered of them.
///
/// # Errors
/// A shard or the registry cannot be read.
pub fn devices_of_run(
    branch: &ResultsBranch<'_>,
    registry: &Registry,
    key: &RunKey,
    wanted: &DevicesOfRun,
) -> Result<Vec<String>, HistoryError> {
    let mut found = Vec::new();
    let mut note = |row: Row| {
        if wanted.takes(row.reason) {
            found.push(row.device_id);
        }
    };
    // The shards of a run that was stopped, and those of a fleet that keeps failures only, have no pending devices.
    let journaled = match wanted.left {
        Left::Pending => registry.journal().find(&key.job, &key.run)?,
        Left::Failed => None,
    };
    if let Some(run) = journaled {
        let ids = registry.journal().targets(run.run_id)?;
        let mut keep = |row: ResultRow| note(published_row(row, 0));
        registry.journal().each_result(run.run_id, &ids, 0..run.total, PendingRows::UnderWay, &mut keep)?;
    } else if branch.tip()?.is_none() {
        remembered_rows(registry, key, note)?;
    } else {
        published_rows(branch, key, note)?;
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Calls `visit` for the rows of the shards of a run on the branch, sorted by device.
///
/// # Errors
/// The branch cannot be read, or a shard is malformed.
pub fn published_rows(
    branch: &ResultsBranch<'_>,
    key: &RunKey,
    mut visit: impl FnMut(Row),
) -> Result<(), HistoryError> {
    let prefix = shard_prefix(key);
    for (path, bytes) in branch.read_below(&key.results_folder(), |path| path.starts_with(&prefix))? {
        read_shard(&bytes, &mut visit).map_err(|what| malformed(branch.name(), path, what))?;
    }
    Ok(())
}

fn shard_prefix(key: &RunKey) -> String {
    format!("{}/devices-", key.results_folder())
}

fn malformed(branch: &str, path: String, what: String) -> HistoryError {
    HistoryError::Malformed { branch: branch.to_string(), path, what }
}

/// Returns a row as a shard has it; `batch` counts from 1.
pub fn published_row(row: ResultRow, batch: u32) -> Row {
    let ResultRow { device_id, device_name, outcome } = row;
    Row {
        device_id,
        device_name: defuse(&device_name).into_owned(),
        status: outcome.reason.status(),
        reason: outcome.reason,
        code: outcome.code,
        message: defuse(&outcome.message).into_owned(),
        attempts: outcome.attempts,
        batch,
        started_at: outcome.started_at,
        finished_at: outcome.finished_at,
    }
}
