//! Says of jobs that they have run elsewhere: all of a fleet whose history is lost, for neither the branch nor the
//! registry says then what has run before; or some, that another system has run.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Environment, OpsError, Workspace};
use crate::execute::{Inbox, adoption_entry, fleet_file, text_of, writer};
use crate::ledger::{Claim, RunCause, RunRecord, Standing};
use crate::model::digest::Digest;
use crate::model::fleet::Declared;
use crate::model::id::{Name, RunToken};
use crate::model::job::Job;
use crate::model::outcome::RunStatus;
use crate::prepare::{Files, OnError, TreeChoice, View, owner};
use crate::reconcile::{Ending, ReconcileOptions, Reconciler, Seen};
use crate::repo::{FileChange, UpstreamError};
use crate::results::{Trailers, document, with_trailers};

/// What becomes of the jobs that are declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdoptMode {
    /// They count as run: none of them is executed.
    MarkDone,
    /// These count as run, also beside a results branch; the others are left as they are.
    MarkSome(Vec<String>),
    /// They count as never run: the next apply executes all of them.
    Run,
}

/// What was adopted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Adopted {
    pub fleet: Name,
    pub branch: String,
    /// The jobs that were marked as done or are to run, sorted by name.
    pub jobs: Vec<(Name, RunToken)>,
}

/// Makes the results branch of the fleet of `HEAD`, in one commit; with [`AdoptMode::MarkSome`], adds to the one that is
/// there.
///
/// # Errors
/// The files are invalid or uncommitted, there is something left to know the past from, a job is not declared or was
/// claimed, another process or another registry works on the fleet, or the repository cannot be written.
pub fn adopt(environment: &Environment, mode: &AdoptMode, now: Timestamp) -> Result<Adopted, OpsError> {
    let workspace = Workspace::open(environment)?;
    let head = workspace.repo.head()?;
    let files = Files::read(&workspace, TreeChoice::Head, OnError::Refuse)?;
    let declared = files.usable()?;
    workspace.refuse_uncommitted(&files)?;
    let marked = match mode {
        AdoptMode::MarkDone => declared.jobs.values().collect(),
        AdoptMode::MarkSome(names) => named(names, declared)?,
        AdoptMode::Run => Vec::new(),
    };
    let shown: Vec<&Job> = match mode {
        AdoptMode::Run => declared.jobs.values().map(|job| &**job).collect(),
        AdoptMode::MarkDone | AdoptMode::MarkSome(_) => marked.iter().map(|job| &***job).collect(),
    };
    let adopted = Adopted {
        fleet: declared.fleet.name.clone(),
        branch: declared.fleet.results.branch.clone(),
        jobs: shown.iter().map(|job| (job.name.clone(), job.run.clone())).collect(),
    };
    let changes: Vec<(String, Vec<u8>)> = marked.iter().flat_map(|job| done(job, &adopted.fleet, &head, now)).collect();
    match past(&workspace, &files)? {
        None => begin(&workspace, &adopted, mode, changes, &head)?,
        Some(_) if matches!(mode, AdoptMode::MarkSome(_)) => {
            add(&workspace, files.clone(), &adopted, (&changes, &head), now)?;
        }
        Some(refusal) => return Err(refusal),
    }
    Ok(adopted)
}

/// Returns the declared jobs with names, sorted, each once.
fn named<'a>(names: &[String], declared: &'a Declared) -> Result<Vec<&'a Arc<Job>>, OpsError> {
    let names: BTreeSet<&String> = names.iter().collect();
    let find = |name: &String| {
        let found = declared.jobs.get(name.as_str());
        found.ok_or_else(|| match declared.schedules.contains_key(name.as_str()) {
            true => OpsError::Usage {
                what: format!("`{name}` is a schedule, and only jobs are marked"),
                help: format!("`fleetform schedule unschedule {name}` keeps it from running."),
            },
            false => OpsError::not_declared("job", name, declared.jobs.keys().map(Name::as_str)),
        })
    };
    names.into_iter().map(find).collect()
}

/// Returns why there is no history to begin: where it is.
fn past(workspace: &Workspace, files: &Files<'_>) -> Result<Option<OpsError>, OpsError> {
    let fleet = &files.usable()?.fleet;
    let branch = workspace.repo.results(&fleet.results.branch);
    if branch.tip()?.is_some() {
        return Ok(Some(OpsError::Usage {
            what: format!("there is nothing to adopt: the branch {} is there", branch.name()),
            help:
                "Run `fleetform plan`: it knows from the branch what has run. `fleetform adopt --mark-done JOB` marks \
                   jobs beside it that were never run here."
                    .to_string(),
        }));
    }
    if workspace.open_for_reading(fleet)?.branch_copy().exists()? {
        return Ok(Some(OpsError::Usage {
            what: format!("there is nothing to adopt: the registry remembers what was on the branch {}", branch.name()),
            help: "Run `fleetform apply`: it publishes the branch again.".to_string(),
        }));
    }
    if let Some(remote) = workspace.remote_with_results(fleet).map_err(UpstreamError::Remote)? {
        let branch = branch.name();
        return Err(OpsError::Usage {
            what: format!("there is nothing to adopt: the remote {remote} has the branch {branch}"),
            help: format!("Fetch it: `git fetch {remote} {branch}:{branch}`."),
        });
    }
    Ok(None)
}

/// Makes the results branch.
fn begin(
    workspace: &Workspace,
    Adopted { fleet, branch, jobs }: &Adopted,
    mode: &AdoptMode,
    files: Vec<(String, Vec<u8>)>,
    head: &str,
) -> Result<(), OpsError> {
    let becomes = if *mode == AdoptMode::Run { "to run" } else { "marked as done" };
    let subject = format!("fleet {fleet}: adopted, {} {becomes}", counted(jobs.len()));
    let mut changes = vec![fleet_file(fleet)];
    changes.extend(files.into_iter().map(|(path, bytes)| FileChange::bytes(path, bytes)));
    let writer = writer();
    let trailers = Trailers { source: Some(head), writer: &writer, ..Trailers::default() };
    Ok(workspace.repo.results(branch).create(&changes, &with_trailers(&subject, &trailers)).map(drop)?)
}

/// Adds jobs that are done to the results branch.
fn add(
    workspace: &Workspace,
    files: Files<'_>,
    adopted: &Adopted,
    (changes, head): (&[(String, Vec<u8>)], &str),
    now: Timestamp,
) -> Result<(), OpsError> {
    let inbox = Inbox::new();
    let mut reconciler = Reconciler::new(workspace, ReconcileOptions::default(), inbox.waker());
    let seen = Seen::new(head.to_string(), files, now);
    reconciler.open(&seen, now)?;
    let subject = format!("{} marked as done", counted(adopted.jobs.len()));
    let written = reconciler.write_down(&seen, now, &mut |view| {
        // Of each job, its claim and its record.
        let marked = adopted.jobs.iter().zip(changes.chunks(2)).filter(|((job, run), _)| !is_marked(view, job, run));
        let (jobs, left): (Vec<_>, Vec<_>) = marked.map(|(job, files)| (job.clone(), files)).unzip();
        refuse_claimed(view, &jobs)?;
        if jobs.is_empty() {
            return Err(OpsError::Usage {
                what: "these jobs are marked as done already".to_string(),
                help: "There is nothing to do.".to_string(),
            });
        }
        Ok((format!("adopt/{now}/{}", owner()), adoption_entry(&left.concat(), &subject, head)))
    });
    let rested = reconciler.rest(Ending::Process, now);
    written?;
    rested.failures.into_iter().next().map_or(Ok(()), Err)
}

/// Returns true for a run that was marked as done before.
fn is_marked(view: &View<'_>, job: &Name, run: &RunToken) -> bool {
    let name = view.ledger.claimed_as(job, run, view.declared.previous_names(job));
    matches!(view.ledger.standing(&name, run), Standing::Ended(_, record) if record.cause == Some(RunCause::Adopted))
}

/// Refuses to mark a run that was claimed: what became of it is known.
fn refuse_claimed(view: &View<'_>, jobs: &[(Name, RunToken)]) -> Result<(), OpsError> {
    for (job, run) in jobs {
        let name = view.ledger.claimed_as(job, run, view.declared.previous_names(job));
        let status = match view.ledger.standing(&name, run) {
            Standing::Unclaimed => continue,
            Standing::Ended(_, record) => record.status.as_str(),
            Standing::Open(..) | Standing::JournalLost(_) => "claimed and has not ended",
        };
        return Err(OpsError::Usage {
            what: format!("job `{job}` run {run} was {status}: there is nothing to mark"),
            help: format!("`fleetform job show {name} --run {run}` shows what became of it. Leave it out."),
        });
    }
    Ok(())
}

fn counted(jobs: usize) -> String {
    if jobs == 1 { "1 job".to_string() } else { format!("{jobs} jobs") }
}

/// Returns the claim and the record of a run on no device, which nothing executes any more.
fn done(job: &Job, fleet: &Name, head: &str, now: Timestamp) -> [(String, Vec<u8>); 2] {
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
        (key.claim_path(), document(&claim.to_json(fleet))),
        (format!("{}/run.json", key.results_folder()), text_of(&record).into_bytes()),
    ]
}
