//! Begins a results branch for a fleet whose history is lost: neither the branch nor the registry says what has run
//! before, so a person has to.

use jiff::Timestamp;

use super::{Environment, OpsError, Workspace};
use crate::execute::{fleet_file, text_of, writer};
use crate::ledger::{Claim, RunCause, RunRecord};
use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};
use crate::model::job::Job;
use crate::model::outcome::RunStatus;
use crate::prepare::{Files, OnError, TreeChoice};
use crate::repo::{FileChange, UpstreamError};
use crate::results::{Trailers, document, with_trailers};

/// What becomes of the jobs that are declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdoptMode {
    /// They count as run: none of them is executed.
    MarkDone,
    /// They count as never run: the next apply executes all of them.
    Run,
}

/// What was adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    pub fleet: Name,
    pub branch: String,
    /// The jobs of `HEAD`, sorted by name.
    pub jobs: Vec<(Name, RunToken)>,
}

/// Makes the results branch of the fleet of `HEAD`, in one commit.
///
/// # Errors
/// The files are invalid or uncommitted, there is something left to know the past from, or the repository cannot be
/// written.
pub fn adopt(environment: &Environment, mode: AdoptMode, now: Timestamp) -> Result<Adopted, OpsError> {
    let workspace = Workspace::open(environment)?;
    let head = workspace.repo.head()?;
    let files = Files::read(&workspace, TreeChoice::Head, OnError::Refuse)?;
    let declared = files.usable()?;
    workspace.refuse_uncommitted(&files)?;
    let fleet = &declared.fleet.name;
    let branch = workspace.repo.results(&declared.fleet.results.branch);
    if branch.tip()?.is_some() {
        return Err(OpsError::Usage {
            what: format!("there is nothing to adopt: the branch {} is there", branch.name()),
            help: "Run `fleetform plan`: it knows from the branch what has run.".to_string(),
        });
    }
    if workspace.open_for_reading(&declared.fleet)?.branch_copy().exists()? {
        return Err(OpsError::Usage {
            what: format!("there is nothing to adopt: the registry remembers what was on the branch {}", branch.name()),
            help: "Run `fleetform apply`: it publishes the branch again.".to_string(),
        });
    }
    if let Some(remote) = workspace.remote_with_results(&declared.fleet).map_err(UpstreamError::Remote)? {
        let branch = branch.name();
        return Err(OpsError::Usage {
            what: format!("there is nothing to adopt: the remote {remote} has the branch {branch}"),
            help: format!("Fetch it: `git fetch {remote} {branch}:{branch}`."),
        });
    }
    let mut changes = vec![fleet_file(fleet)];
    if mode == AdoptMode::MarkDone {
        for job in declared.jobs.values() {
            changes.extend(done(job, fleet, &head, now));
        }
    }
    let subject = match mode {
        AdoptMode::MarkDone => format!("fleet {fleet}: adopted, {} marked as done", jobs(declared.jobs.len())),
        AdoptMode::Run => format!("fleet {fleet}: adopted, {} to run", jobs(declared.jobs.len())),
    };
    let writer = writer();
    let trailers = Trailers { source: Some(&head), writer: &writer, ..Trailers::default() };
    branch.create(&changes, &with_trailers(&subject, &trailers))?;
    Ok(Adopted {
        fleet: fleet.clone(),
        branch: branch.name().to_string(),
        jobs: declared.jobs.values().map(|job| (job.name.clone(), job.run.clone())).collect(),
    })
}

fn jobs(count: usize) -> String {
    if count == 1 { "1 job".to_string() } else { format!("{count} jobs") }
}

/// Returns the claim and the record of a run on no device, which nothing executes any more.
fn done(job: &Job, fleet: &Name, head: &str, now: Timestamp) -> [FileChange; 2] {
    let claim = Claim {
        job: job.name.clone(),
        run: job.run.clone(),
        spec_digest: job.spec_digest,
        total: 0,
        targets_digest: Digest::of_texts(std::iter::empty::<&str>()),
        source_commit: head.to_string(),
        // No plan was made; an id that no plan will have takes its place.
        plan_id: Digest::of_texts(["adopt", head, &now.to_string()]).to_string(),
        claimed_at: now,
    };
    let record = RunRecord {
        status: RunStatus::Completed,
        reason: Some(RunCause::Adopted.to_string()),
        cause: Some(RunCause::Adopted),
        finished_at: Some(now),
        ..RunRecord::of_claim(&claim)
    };
    let key = claim.key(fleet);
    [
        FileChange::bytes(key.claim_path(), document(&claim.to_json(fleet))),
        FileChange::bytes(format!("{}/run.json", key.results_folder()), text_of(&record).into_bytes()),
    ]
}
