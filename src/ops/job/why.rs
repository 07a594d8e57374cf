//! Why a run is where it is: the recorded numbers behind a cancel, a hold, a wait, a stop or a failure.

use jiff::Timestamp;

use super::cause::{Cause, RunProgress, StopCause, Waiting, Why};
use super::crossing::replay;
use super::history::{History, with_history};
use super::planned::planned;
use super::{Environment, Life, OpsError, RunChoice};
use crate::ledger::{OpenRun, RunCause, RunRecord, Standing};
use crate::model::delivery::OfflinePolicy;
use crate::model::id::{Name, RunToken};
use crate::model::job::{Action, Job};
use crate::model::outcome::RunStatus;
use crate::prepare::Caveats;
use crate::registry::{JournaledRun, LateAnswer, Waits};

/// Devices that are named where many wait.
const SAMPLE_IDS: u32 = 3;
/// Late answers that are listed.
const LATE_MAX: u32 = 20;

/// Returns why a run is where it is. Without a token: the declared run when it has not been claimed, else the newest
/// one.
///
/// # Errors
/// There is no such run, the files are invalid, or something cannot be read.
pub fn why(
    environment: &Environment,
    choice: &RunChoice,
    now: Timestamp,
    tell: &mut dyn FnMut(&Caveats),
) -> Result<Why, OpsError> {
    let recorded = with_history(environment, tell, |history| {
        let declared = history.view.declared.jobs.get(choice.job.as_str());
        let declared = declared.filter(|job| choice.run.as_ref().is_none_or(|run| job.run.as_str() == run));
        let is_known = declared.is_none_or(|job| {
            let ledger = &history.view.ledger;
            let name = ledger.claimed_as(&job.name, &job.run, &job.previous_names);
            let standing = ledger.standing(&name, &job.run);
            matches!(standing, Standing::Open(..) | Standing::Ended(..))
        });
        match history.find(choice) {
            Ok(record) if is_known => of_record(history, &record).map(Ok),
            Ok(_) => Ok(Err(None)),
            Err(error) => Ok(Err(Some(error))),
        }
    })?;
    let missing = match recorded {
        Ok(why) => return Ok(why),
        Err(missing) => missing,
    };
    if let Some(why) = planned(environment, &choice.job, choice.run.as_deref(), now)? {
        return Ok(why);
    }
    Err(missing.unwrap_or_else(|| OpsError::NotFound {
        what: format!("job `{}` is not declared any more", crate::diag::shown(&choice.job)),
        help: "`fleetform job list` shows the runs; choose one with --run.".to_string(),
    }))
}

pub(super) fn of_record(history: &History<'_>, record: &RunRecord) -> Result<Why, OpsError> {
    let key = (record.job.clone(), record.run.clone());
    let journal = history.view.registry.journal().find(&record.job, &record.run)?;
    let mut causes = match history.view.ledger.open.get(&key) {
        Some(open) if !record.status.is_final() => of_open(history, record, open, journal.as_ref())?,
        Some(_) | None => vec![of_ended(history, record)?],
    };
    let declared = history.view.declared.jobs.get(&record.job).filter(|job| job.run == record.run);
    if declared.is_some_and(|job| job.spec_digest != record.spec_digest) {
        causes.push(Cause::Edited);
    }
    let by_reason = history.failures(record)?;
    if !by_reason.is_empty() {
        causes.push(Cause::Failures { by_reason });
    }
    if record.late > 0 {
        let answers = match &journal {
            Some(run) => late_answers(history, run)?,
            None => Vec::new(),
        };
        causes.push(Cause::Late { total: record.late, answers });
    }
    let word = history.life(record).word(record.status);
    Ok(Why { job: record.job.clone(), run: record.run.clone(), status: Some(record.status), word: Some(word), causes })
}

fn late_answers(history: &History<'_>, run: &JournaledRun) -> Result<Vec<(String, LateAnswer)>, OpsError> {
    let answers = history.view.registry.journal().late_answers(run.run_id, LATE_MAX)?;
    if answers.is_empty() {
        return Ok(Vec::new());
    }
    let ids = history.targets(run)?;
    Ok(answers.into_iter().map(|answer| (ids.get(answer.ordinal as usize).to_string(), answer)).collect())
}

fn of_ended(history: &History<'_>, record: &RunRecord) -> Result<Cause, OpsError> {
    let recorded = || Cause::Recorded {
        reason: record.reason.clone().unwrap_or_else(|| format!("it was {}", record.status.as_str())),
    };
    Ok(match record.status {
        RunStatus::Canceled => match replay(history, record)? {
            Some(crossed) => Cause::Crossed(Box::new(crossed)),
            None => recorded(),
        },
        // It never ran: `adopt` says so.
        RunStatus::Completed if record.reason.is_some() => recorded(),
        RunStatus::Completed => Cause::Completed { counts: record.counts },
        RunStatus::Failed => match record.cause {
            Some(RunCause::JournalLost { unknown, total }) => Cause::JournalLost { total, unknown },
            _ => recorded(),
        },
        RunStatus::Pending | RunStatus::Running | RunStatus::Stopped => {
            let reason = match history.life(record) {
                Life::AtWork(worker) => format!("it is under way with another registry: {worker}"),
                Life::Elsewhere => "it is another registry's, which goes on with it".to_string(),
                Life::Over | Life::Interrupted | Life::Waiting => {
                    "nothing declares it any more, and the registry's journal of it is gone: it is left alone"
                        .to_string()
                }
            };
            Cause::Recorded { reason }
        }
    })
}

fn of_open(
    history: &History<'_>,
    record: &RunRecord,
    open: &OpenRun,
    journal: Option<&JournaledRun>,
) -> Result<Vec<Cause>, OpsError> {
    let done = open.completed + open.failed;
    let queued = (open.total - done).saturating_sub(open.in_flight + open.waiting);
    let (total, in_flight, waiting) = (open.total, open.in_flight, open.waiting);
    let progress = RunProgress { total, done, in_flight, waiting, queued };
    let mut causes = Vec::new();
    let declared = history.declared_run(record);
    let by = match &declared {
        // What cannot be read may declare it: until that is known, nothing stops it.
        None if history.may_be_held(&record.job) => None,
        None => Some(StopCause::Undeclared),
        Some(job) if job.suspend => Some(StopCause::Suspended),
        Some(_) if open.status == RunStatus::Stopped => Some(StopCause::Continued),
        Some(_) => None,
    };
    causes.extend(by.map(|by| Cause::Stopped { by, progress }));
    let Some(run) = journal else { return Ok(causes) };
    if open.status == RunStatus::Pending {
        causes.extend(of_pending(history, record, run)?);
    }
    if open.status != RunStatus::Pending {
        causes.extend(open_batch(record));
    }
    for waits in [Waits::ToAnswer, Waits::ToConnect, Waits::ToAcknowledge] {
        causes.extend(waiting_for(history, declared.as_deref(), run, waits)?.map(Cause::Waiting));
    }
    if queued > 0 {
        causes.push(Cause::Queued { devices: queued });
    }
    Ok(causes)
}

/// Returns what a claimed run waits for before its first device starts.
fn of_pending(history: &History<'_>, record: &RunRecord, run: &JournaledRun) -> Result<Vec<Cause>, OpsError> {
    let running: Vec<&(Name, RunToken)> = history
        .view
        .ledger
        .open
        .iter()
        .filter(|(_, open)| open.status == RunStatus::Running)
        .map(|(key, _)| key)
        .collect();
    let limit = u64::from(history.view.declared.fleet.limits.running_jobs);
    let mut causes = vec![Cause::Slot { running: running.len() as u64, limit }];
    let is_command = |job: &Job| matches!(job.action, Action::Command(_));
    let declared = |name: &Name| history.view.declared.jobs.get(name).filter(|job| is_command(job));
    if declared(&record.job).is_none() {
        return Ok(causes);
    }
    let ids = history.targets(run)?;
    for (job, token) in running.into_iter().filter(|(job, _)| declared(job).is_some()) {
        let Some(other) = history.view.registry.journal().find(job, token)? else { continue };
        if history.targets(&other)?.intersects(&ids) {
            causes.push(Cause::SameDevices { job: job.clone(), run: token.clone() });
        }
    }
    Ok(causes)
}

/// Returns the batch that is open; `None` when every device is terminal.
fn open_batch(record: &RunRecord) -> Option<Cause> {
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let batches = &record.per_batch;
    let at = batches.iter().position(|batch| batch.counts.pending() > 0)?;
    Some(Cause::OpenBatch { batch: narrow(at + 1), batches: narrow(batches.len()), counts: batches[at].counts })
}

fn waiting_for(
    history: &History<'_>,
    declared: Option<&Job>,
    run: &JournaledRun,
    waits: Waits,
) -> Result<Option<Waiting>, OpsError> {
    let (devices, first) = history.view.registry.journal().waiting(run.run_id, waits, SAMPLE_IDS)?;
    if devices == 0 {
        return Ok(None);
    }
    let ids = history.targets(run)?;
    let sample = first.into_iter().map(|ordinal| ids.get(ordinal as usize).to_string()).collect();
    let until = match waits {
        Waits::ToAnswer => None,
        // Those are given up after the connect timeout of each.
        Waits::ToConnect if declared.is_some_and(|job| job.delivery.offline == OfflinePolicy::Fail) => None,
        Waits::ToConnect | Waits::ToAcknowledge => declared.and_then(|job| {
            let start = run.open_batch.map(|open| open.at).or(run.started_at)?;
            start.checked_add(job.delivery.expires_after).ok()
        }),
    };
    Ok(Some(Waiting { waits, devices, sample, until }))
}
