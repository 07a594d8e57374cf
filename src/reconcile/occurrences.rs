//! What is due of the schedules, and what of it was missed.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{ReconcileError, Upstream};
use crate::execute::{CrashPoints, claims_commit, text_of};
use crate::ledger::{Claim, FOLLOWED_FOLDER, Followed, RunCause, RunRecord};
use crate::model::digest::Digest;
use crate::model::id::Name;
use crate::model::outcome::RunStatus;
use crate::plan::{Agenda, agenda};
use crate::prepare::View;
use crate::registry::KeptFile;
use crate::repo::{BlobId, Content, FileChange, RepoError, ResultsBranch};
use crate::results::document;

/// Returns what is due of the schedules. What they say was seen at the first time. Of the documents in `known`, by
/// path, those that the branch still has are not read again.
///
/// # Errors
/// The results branch cannot be read.
pub(super) fn agenda_of(
    view: &View<'_>,
    known: &mut BTreeMap<String, (BlobId, Followed)>,
    (seen_at, now): (Timestamp, Timestamp),
) -> Result<Agenda, ReconcileError> {
    let followed = followed(&view.branch, known)?;
    Ok(agenda(&view.declared, &view.held, &view.ledger, &followed, (seen_at, now)))
}

/// Records what was missed, and since when schedules are followed: one commit.
///
/// # Errors
/// The registry or the results branch cannot be written; with a remote, another process has the right to work.
pub(super) fn settle_agenda(
    view: &mut View<'_>,
    upstream: Option<&mut Upstream>,
    agenda: &Agenda,
    (head, plan_id, now): (&str, &str, Timestamp),
    crash: &CrashPoints,
) -> Result<(), ReconcileError> {
    if agenda.is_settled() {
        return Ok(());
    }
    if let Some(upstream) = upstream.filter(|upstream| upstream.lease().is_none()) {
        upstream.acquire(&view.branch, &mut view.registry, now)?;
    }
    let fleet = &view.declared.fleet.name;
    let (mut claims, mut changes) = (Vec::new(), Vec::new());
    for missed in &agenda.missed {
        let claim = Claim {
            job: missed.job.name.clone(),
            run: missed.job.run.clone(),
            spec_digest: missed.job.spec_digest,
            total: 0,
            targets_digest: Digest::of_texts([]),
            source_commit: head.to_string(),
            plan_id: plan_id.to_string(),
            claimed_at: now,
        };
        let record = record_of_missed(&claim, &missed.reason, now);
        let path = format!("{}/run.json", claim.key(fleet).results_folder());
        changes.push(FileChange::bytes(path, text_of(&record).into_bytes()));
        claims.push(claim);
    }
    changes.extend(agenda.follow.iter().map(|one| FileChange::bytes(one.path(), document(&one.to_json()))));
    let subject = match (claims.len(), agenda.follow.len()) {
        (0, count) => format!("schedules: {count} followed from now on"),
        (1, _) => format!("job {} run {}: missed", claims[0].job, claims[0].run),
        (count, _) => format!("schedules: {count} occurrences missed"),
    };
    let claims: Vec<&Claim> = claims.iter().collect();
    let (mut files, message) = claims_commit(fleet, &claims, Some(&subject), (head, plan_id));
    files.extend(changes);
    // No other table has it: a branch that is lost right after this is published again with what is kept.
    let kept = files.iter().filter_map(|file| match &file.content {
        Content::Bytes(bytes) => Some(Ok(KeptFile { path: file.path.clone(), content: bytes.clone(), blob_id: None })),
        Content::Blob(_) => None,
    });
    view.registry.keep_files::<ReconcileError>(kept)?;
    crash.around("publish agenda", || view.branch.commit(&files, &message))?;
    Ok(())
}

fn record_of_missed(claim: &Claim, reason: &str, now: Timestamp) -> RunRecord {
    RunRecord {
        status: RunStatus::Failed,
        reason: Some(reason.to_string()),
        cause: Some(RunCause::Missed),
        finished_at: Some(now),
        ..RunRecord::of_claim(claim)
    }
}

/// Returns since when the schedules are followed, by name.
fn followed(
    branch: &ResultsBranch<'_>,
    known: &mut BTreeMap<String, (BlobId, Followed)>,
) -> Result<BTreeMap<Name, Followed>, ReconcileError> {
    let mut found = BTreeMap::new();
    for (path, blob) in branch.entries_below(FOLLOWED_FOLDER, |path| path.ends_with(".json"))? {
        let one = match known.remove(&path) {
            Some((same, one)) if same == blob => one,
            _ => {
                let malformed = |what: String| RepoError::Malformed { path: path.clone(), what };
                let value = serde_json::from_slice(&branch.read_blob(blob)?);
                let value = value.map_err(|error| malformed(error.to_string()))?;
                Followed::from_json(&value).map_err(malformed)?
            }
        };
        found.insert(path, (blob, one));
    }
    *known = found;
    Ok(known.values().map(|(_, one)| (one.schedule.clone(), one.clone())).collect())
}
