//! Publishes the results branch again from the registry when the branch is gone.

use serde_json::json;

use super::publish::{Cutter, commit_record, text_of};
use super::{CrashPoints, ExecuteError, writer};
use crate::ledger::{FORMAT_VERSION, Published, RunKey};
use crate::model::id::Name;
use crate::registry::{Change, Noted, Registry, RememberedRun};
use crate::repo::{FileChange, Owner, ResultsBranch};
use crate::results::{Trailers, document, with_trailers};

/// Returns the file that names the fleet of the results: the first file of every results branch.
pub fn fleet_file(fleet: &Name) -> FileChange {
    let content = json!({"format_version": FORMAT_VERSION, "fleet": fleet.as_str()});
    FileChange::bytes("fleet.json", document(&content)).first()
}

/// Makes the branch again, in one commit, from the registry, and returns the number of runs on it.
///
/// Claims, reports and the runs of a lost journal keep their bytes. Shards may be cut differently than before; they
/// hold the same rows, with the current names of the devices.
///
/// The tip is noted before the branch points to it: whenever the process dies, either the branch is still gone or its
/// tip is the noted one.
///
/// # Errors
/// The registry or the repository cannot be read or written, or the branch exists after all.
pub fn republish(
    branch: &ResultsBranch<'_>,
    registry: &mut Registry,
    (fleet, host): (&Name, &str),
    crash: &CrashPoints,
) -> Result<u64, ExecuteError> {
    let owner = Owner { registry: registry.identity()?.id, host: host.to_string() };
    let first = document(&json!({"format_version": FORMAT_VERSION, "fleet": fleet.as_str()}));
    let mut changes: Vec<FileChange> = owner.written_into(Some(first)).into_iter().map(FileChange::first).collect();
    let mut runs = 0;
    for run in registry.branch_copy().runs()? {
        runs += 1;
        changes.push(FileChange::bytes(run.claim_path(), run.claim.clone().into_bytes()));
        let Some(mut record) = run.record.clone() else { continue };
        let mut cutter = Cutter::new(branch, run.results_folder(), 0);
        registry.branch_copy().each_published(&run, &mut |row, batch| cutter.push(&row, batch))?;
        let (shards, files) = cutter.finish()?;
        changes.extend(files);
        record.published = Published { devices: record.published.devices, shards };
        changes.push(FileChange::bytes(format!("{}/run.json", run.results_folder()), text_of(&record).into_bytes()));
    }
    registry.each_kept_file::<ExecuteError>(
        |_| true,
        |path, content| {
            runs += u64::from(path.starts_with("claims/"));
            changes.push(FileChange::blob(path, branch.write_blob(content)?));
            Ok(())
        },
    )?;
    let (writer, source) = (writer(), registry.branch_copy().noted(Noted::AppliedHead)?);
    let trailers = Trailers { source: source.as_deref(), writer: &writer, ..Trailers::default() };
    let noun = if runs == 1 { "run" } else { "runs" };
    let subject = format!("fleet {fleet}: results of {runs} {noun}, published again from the registry");
    let root = branch.write_root(&changes, &with_trailers(&subject, &trailers))?;
    registry.write(Change::Note { what: Noted::ResultsTip, commit: &root })?;
    crash.around("publish again", || branch.plant(&root))?;
    Ok(runs)
}

/// Commits the end of a run that the registry remembers, with the rows that the branch lacks: `published` is how far
/// that is.
///
/// # Errors
/// The registry or the repository cannot be read or written.
pub fn publish_ended(
    branch: &ResultsBranch<'_>,
    registry: &Registry,
    run: &RememberedRun,
    (key, published): (&RunKey, Published),
) -> Result<(), ExecuteError> {
    let Some(mut record) = run.record.clone() else { return Ok(()) };
    let mut cutter = Cutter::new(branch, run.results_folder(), published.shards);
    registry.branch_copy().each_published(run, &mut |row, batch| {
        if row.outcome.ordinal >= published.devices {
            cutter.push(&row, batch);
        }
    })?;
    let (shards, changes) = cutter.finish()?;
    record.published = Published { devices: record.published.devices, shards };
    commit_record(branch, key, &record, changes)?;
    Ok(())
}
