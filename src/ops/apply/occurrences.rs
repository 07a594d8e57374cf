//! The occurrences of schedules as runs: those that are under way belong to every apply, new ones are a daemon's.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Apply, Planned};
use crate::execute::{claims_commit, text_of};
use crate::ledger::{Claim, FOLLOWED_FOLDER, Followed, RunRecord, claim_path};
use crate::manifest::scheduled_job;
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::outcome::{Counts, RunStatus};
use crate::model::schedule::{Schedule, ScheduledJob, occurrence_instant};
use crate::ops::OpsError;
use crate::plan::{Agenda, agenda};
use crate::prepare::load_sound;
use crate::registry::{JournaledRun, KeptFile, Registry};
use crate::repo::{Content, FileChange, Repo, RepoError, ResultsBranch};
use crate::results::document;

/// Returns what is declared, with a job for each occurrence that is under way: as it was when it was claimed, whatever has been edited
/// since. The branch has to be up to its remote's: one whose claim was journaled and did not get there is not under way, and when it is to
/// run is a matter of its time.
///
/// # Errors
/// The registry or the branch cannot be read.
pub(super) fn with_open_occurrences<'a>(
    declared: &'a Declared,
    registry: &Registry,
    (repo, branch): (&Repo, &ResultsBranch<'_>),
) -> Result<Cow<'a, Declared>, OpsError> {
    let mut declared = Cow::Borrowed(declared);
    if declared.schedules.is_empty() {
        return Ok(declared);
    }
    for run in registry.open_journal()? {
        // A branch that is gone is published again with all that was journaled.
        let is_claimed = run.is_claimed || branch.tip()?.is_none();
        if !is_claimed && branch.read(&claim_path(&run.job, &run.run))?.is_none() {
            continue;
        }
        let schedule = declared.schedules.values().find(|schedule| schedule.owns(&run.job, &run.run));
        let claim = serde_json::from_str(&run.claim).ok().and_then(|claim| Claim::from_json(&claim).ok());
        let (Some(schedule), Some(claim)) = (schedule, claim) else { continue };
        let Some(job) = as_claimed(schedule, &run, &claim, repo) else { continue };
        // What else it names has done its work with the claim, which has the devices.
        if let Action::EdgeManifest(name) = &job.action
            && !declared.edge_manifests.contains_key(name)
        {
            let Some(digest) = run.manifest.or_else(|| manifest_at(name, &claim, repo)) else { continue };
            // Of several that were claimed with other contents of it, the last.
            declared.to_mut().kept_manifests.insert(name.clone(), digest);
        }
        declared.to_mut().jobs.insert(run.job.clone(), Arc::new(job));
    }
    Ok(declared)
}

/// Returns the digest of an edge manifest in the commit of a claim.
fn manifest_at(name: &Name, claim: &Claim, repo: &Repo) -> Option<Digest> {
    let then = load_sound(&repo.tree_at(&claim.source_commit).ok()?).loaded.declared?;
    then.edge_manifests.get(name).map(|manifest| manifest.digest)
}

/// Returns the job of an occurrence with the spec that it was claimed with: that of its schedule while nobody has edited it, else what the
/// journal has kept. `None` when that is not to be had: in a journal that did not keep it, with its commit gone.
fn as_claimed(schedule: &Schedule, run: &JournaledRun, claim: &Claim, repo: &Repo) -> Option<Job> {
    let instant = occurrence_instant(&run.run)?;
    let with = |job: ScheduledJob| {
        let job = Schedule { job, ..schedule.clone() }.job_at(instant);
        (job.spec_digest == claim.spec_digest).then(|| Job { name: run.job.clone(), ..job })
    };
    let kept = || run.spec.as_deref().and_then(scheduled_job).and_then(with);
    let then = || {
        // Other documents of that commit may have had errors, which held them alone.
        let then = load_sound(&repo.tree_at(&claim.source_commit).ok()?).loaded.declared?;
        then.schedules.get(&run.job).and_then(|then| with(then.job.clone()))
    };
    with(schedule.job.clone()).or_else(kept).or_else(then)
}

impl Apply<'_> {
    /// Returns what is due of the schedules, by what a plan has read. What they say was seen at the first time.
    pub(super) fn agenda(&self, planned: &Planned, (seen_at, now): (Timestamp, Timestamp)) -> Result<Agenda, OpsError> {
        let followed = followed(&self.branch)?;
        Ok(agenda(self.declared, self.held, &planned.ledger, &followed, (seen_at, now)))
    }

    /// Records what was missed, and since when schedules are followed: one commit.
    pub(super) fn settle_agenda(&mut self, agenda: &Agenda, planned: &Planned, now: Timestamp) -> Result<(), OpsError> {
        if agenda.is_settled() {
            return Ok(());
        }
        if let Some(upstream) = &mut self.upstream
            && upstream.lease().is_none()
        {
            upstream.acquire(&self.branch, self.registry, now)?;
        }
        let fleet = &self.declared.fleet.name;
        let (mut claims, mut changes) = (Vec::new(), Vec::new());
        for missed in &agenda.missed {
            let claim = Claim {
                job: missed.job.name.clone(),
                run: missed.job.run.clone(),
                spec_digest: missed.job.spec_digest,
                total: 0,
                targets_digest: Digest::of_texts([]),
                source_commit: self.head.clone(),
                plan_id: planned.plan.id.clone(),
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
        let (mut files, message) = claims_commit(fleet, &claims, Some(&subject), (&self.head, &planned.plan.id));
        files.extend(changes);
        // No other table has it: a branch that is lost right after this is published again with what is kept.
        let kept = files.iter().filter_map(|file| match &file.content {
            Content::Bytes(bytes) => {
                Some(Ok(KeptFile { path: file.path.clone(), content: bytes.clone(), blob_id: None }))
            }
            Content::Blob(_) => None,
        });
        self.options.crash.around("keep agenda", || self.registry.keep_files::<OpsError>(kept))?;
        self.options.crash.around("publish agenda", || self.branch.commit(&files, &message))?;
        Ok(())
    }
}

fn record_of_missed(claim: &Claim, reason: &str, now: Timestamp) -> RunRecord {
    RunRecord {
        job: claim.job.clone(),
        run: claim.run.clone(),
        status: RunStatus::Failed,
        reason: Some(reason.to_string()),
        counts: Counts::default(),
        started_at: None,
        finished_at: Some(now),
        source_commit: claim.source_commit.clone(),
        plan_id: claim.plan_id.clone(),
        spec_digest: claim.spec_digest,
        per_batch: Vec::new(),
        published: crate::ledger::Published::default(),
        late: 0,
    }
}

/// Returns since when the schedules are followed, by name.
fn followed(branch: &ResultsBranch<'_>) -> Result<BTreeMap<Name, Followed>, OpsError> {
    let mut found = BTreeMap::new();
    for (path, bytes) in branch.read_below(FOLLOWED_FOLDER, |path| path.ends_with(".json"))? {
        let malformed = |what: String| RepoError::Malformed { path: path.clone(), what };
        let value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
        let one = Followed::from_json(&value).map_err(malformed)?;
        found.insert(one.schedule.clone(), one);
    }
    Ok(found)
}
