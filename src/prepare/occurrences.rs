//! The occurrences of schedules that are under way, as jobs beside those that are declared.

use std::borrow::Cow;
use std::sync::Arc;

use super::{PrepareError, load_valid};
use crate::ledger::{Claim, claim_path};
use crate::manifest::scheduled_job;
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Action, Job};
use crate::model::schedule::{Schedule, ScheduledJob, occurrence_instant};
use crate::registry::{JournaledRun, Registry};
use crate::repo::{Repo, ResultsBranch};

/// Returns what is declared, with a job for each occurrence that is under way: as it was when it was claimed, whatever
/// has been edited since. The branch has to be up to its remote's: one whose claim was journaled and did not get there
/// is not under way, and when it is to run is a matter of its time.
///
/// # Errors
/// The registry or the branch cannot be read.
pub fn with_open_occurrences<'a>(
    declared: &'a Declared,
    registry: &Registry,
    (repo, branch): (&Repo, &ResultsBranch<'_>),
) -> Result<Cow<'a, Declared>, PrepareError> {
    let mut declared = Cow::Borrowed(declared);
    if declared.schedules.is_empty() {
        return Ok(declared);
    }
    for run in registry.journal().unclosed()? {
        // A branch that is gone is published again with all that was journaled.
        let is_claimed = run.is_claimed || branch.tip()?.is_none();
        if !is_claimed && branch.read(&claim_path(&run.job, &run.run))?.is_none() {
            continue;
        }
        let schedule = declared.schedules.values().find(|schedule| schedule.owns(&run.job, &run.run));
        let (Some(schedule), Some(claim)) = (schedule, claim_of(&run)) else { continue };
        let Some(job) = as_claimed(schedule, &run, &claim, repo) else { continue };
        // What else it names has done its work with the claim, which has the devices.
        if let Action::EdgeManifest(name) = &job.action
            && !declared.edge_manifests.contains_key(name)
        {
            let Some(digest) = run.manifest.or_else(|| manifest_at(name, &claim, repo)) else { continue };
            // When several were claimed with other contents of it, the last counts.
            declared.to_mut().kept_manifests.insert(name.clone(), digest);
        }
        declared.to_mut().jobs.insert(run.job.clone(), Arc::new(job));
    }
    Ok(declared)
}

/// Returns the claim of a run; `None` for one that this fleetform does not know.
pub(super) fn claim_of(run: &JournaledRun) -> Option<Claim> {
    Claim::from_json(&serde_json::from_str(&run.claim).ok()?).ok()
}

/// Returns the digest of an edge manifest in the commit of a claim.
fn manifest_at(name: &Name, claim: &Claim, repo: &Repo) -> Option<Digest> {
    let then = load_valid(&repo.tree_at(&claim.source_commit).ok()?).loaded.declared?;
    then.edge_manifests.get(name).map(|manifest| manifest.digest)
}

/// Returns the job of an occurrence with the spec that it was claimed with: that of its schedule while that has not
/// been edited, else what the journal has kept. `None` when that is not to be had: in a journal that did not keep it,
/// with its commit gone.
fn as_claimed(schedule: &Schedule, run: &JournaledRun, claim: &Claim, repo: &Repo) -> Option<Job> {
    let instant = occurrence_instant(&run.run)?;
    let with = |job: ScheduledJob| {
        let job = Schedule { job, ..schedule.clone() }.job_at(instant);
        (job.spec_digest == claim.spec_digest).then(|| Job { name: run.job.clone(), ..job })
    };
    let kept = || run.spec.as_deref().and_then(scheduled_job).and_then(with);
    let then = || {
        // Other documents of that commit may have had errors, which held them alone.
        let then = load_valid(&repo.tree_at(&claim.source_commit).ok()?).loaded.declared?;
        then.schedules.get(&run.job).and_then(|then| with(then.job.clone()))
    };
    with(schedule.job.clone()).or_else(kept).or_else(then)
}
