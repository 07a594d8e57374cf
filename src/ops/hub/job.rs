//! Jobs of back ends: read, listed and canceled.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::desk::Desk;
use super::names::{CREATED_LABEL, HubWork, all, find, names_of};
use super::publish::{Made, message};
use super::request::HubAction;
use super::{Caller, HubError};
use crate::ledger::{RunCause, RunRecord};
use crate::manifest::edit;
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Action, Job, Selector};
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::outcome::{Counts, RunStatus};
use crate::prepare::{View, open_records, record_in};
use crate::repo::DeclaredFile;

/// The status of a job in IoT Hub's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubStatus {
    Queued,
    Scheduled,
    Running,
    Completed,
    Failed,
    Cancelled,
}

impl HubStatus {
    pub fn as_str(self) -> &'static str {
        match self {
            HubStatus::Queued => "queued",
            HubStatus::Scheduled => "scheduled",
            HubStatus::Running => "running",
            HubStatus::Completed => "completed",
            HubStatus::Failed => "failed",
            HubStatus::Cancelled => "cancelled",
        }
    }
}

/// How many devices a job has, and how far they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubStatistics {
    pub total: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub running: u64,
    pub pending: u64,
}

/// A job as a back end reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct HubJob {
    pub id: String,
    pub name: Name,
    pub action: HubAction,
    pub status: HubStatus,
    pub condition: String,
    pub created: Option<Timestamp>,
    /// When it has started, or is to start.
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub window: Option<Duration>,
    /// Why it has failed.
    pub failure: Option<String>,
    /// Why it is where it is, for people.
    pub message: Option<String>,
    /// `None` before its devices are known.
    pub statistics: Option<HubStatistics>,
}

impl Desk<'_> {
    /// Returns a job; `None` when there is none of this id.
    ///
    /// # Errors
    /// The repository or the registry cannot be read.
    pub fn job(&mut self, id: &str, now: Timestamp) -> Result<Option<HubJob>, HubError> {
        let view = self.view()?;
        if let Some(work) = find(&view.declared, id) {
            let mut job = describe(&view, work, now);
            self.say_standstill(&view, std::slice::from_mut(&mut job));
            return Ok(Some(job));
        }
        if let Some(reviewed) = self.reviewed(id, now)? {
            return Ok(Some(reviewed.job));
        }
        let Some(why) = self.held(id)? else { return Ok(None) };
        let Some(name) = names_of(id).into_iter().next() else { return Ok(None) };
        Ok(Some(HubJob {
            id: id.to_string(),
            name,
            action: HubAction::Other,
            status: HubStatus::Queued,
            condition: String::new(),
            created: None,
            start: None,
            end: None,
            window: None,
            failure: None,
            message: Some(why),
            statistics: None,
        }))
    }

    /// Returns the jobs and schedules that are declared, the newest first.
    ///
    /// # Errors
    /// The repository or the registry cannot be read.
    pub fn jobs(&mut self, now: Timestamp) -> Result<Vec<HubJob>, HubError> {
        let view = self.view()?;
        let mut found: Vec<HubJob> = all(&view.declared).map(|work| describe(&view, work, now)).collect();
        self.say_standstill(&view, &mut found);
        found.sort_by(|one, two| two.created.cmp(&one.created).then_with(|| one.id.cmp(&two.id)));
        Ok(found)
    }

    /// Cancels a job, also while it runs: no new device starts, and those in flight end. It is committed when this
    /// returns.
    ///
    /// # Errors
    /// There is no such job, it has ended, or it could not be committed.
    pub fn cancel_job(&mut self, id: &str, caller: &Caller, now: Timestamp) -> Result<HubJob, HubError> {
        // What there is nothing to cancel of needs no commit, and no branch that takes one.
        let view = self.view()?;
        let known = find(&view.declared, id).map(|work| describe(&view, work, now));
        match known {
            Some(job) if !may_be_cancelled(job.status)? => return Ok(job),
            Some(_) => {}
            None => {
                if let Some(reviewed) = self.reviewed(id, now)? {
                    self.withdraw(&reviewed)?;
                    let message = Some("It was cancelled before its review.".to_string());
                    return Ok(HubJob { status: HubStatus::Cancelled, message, ..reviewed.job });
                }
                if self.held(id)?.is_none() {
                    return Err(HubError::NoJob(id.to_string()));
                }
            }
        }
        let cancel = &mut |desk: &mut Self, tip: &str, ids: &[&str]| {
            ids.iter().map(|id| desk.cancellation(tip, id, caller, now)).collect()
        };
        let mut made = self.publish(&[id], cancel);
        made.pop().unwrap_or(Ok(None))?;
        self.job(id, now)?.ok_or_else(|| HubError::NoJob(id.to_string()))
    }

    /// Makes the commit that cancels a job; `None` when it is cancelled already.
    fn cancellation(&mut self, tip: &str, id: &str, caller: &Caller, now: Timestamp) -> Result<Option<Made>, HubError> {
        let files = self.files_to_commit_on(tip)?;
        let view = self.view_of(files)?;
        let work = find(&view.declared, id).ok_or_else(|| HubError::NoJob(id.to_string()))?;
        if !may_be_cancelled(describe(&view, work, now).status)? {
            return Ok(None);
        }
        let bytes = view.files.tree.read(work.file(), limits::YAML_FILE_BYTES_MAX as u64)?;
        let kind = match work {
            HubWork::Job(_) => Kind::Job,
            HubWork::Schedule(_) => Kind::Schedule,
        };
        let unusual = || HubError::Unavailable(format!("{} cannot be edited safely: edit it by hand", work.file()));
        let text = String::from_utf8(bytes).map_err(|_| unusual())?;
        let text = edit::set_suspend(&text, kind, work.name(), true).map_err(|_| unusual())?;
        let files = vec![DeclaredFile { path: work.file().to_string(), text }];
        let message = message(&format!("Hub job {id}: cancel"), id, caller);
        let commit = self.written(tip, (&files, &message), caller)?;
        Ok(Some(Made { commit, files }))
    }
}

/// Returns true when a commit cancels a job, and false when it is cancelled already.
///
/// # Errors
/// It is over.
fn may_be_cancelled(status: HubStatus) -> Result<bool, HubError> {
    match status {
        HubStatus::Cancelled => Ok(false),
        HubStatus::Completed => Err(HubError::State("the job has completed and cannot be cancelled".to_string())),
        HubStatus::Failed => Err(HubError::State("the job has failed and cannot be cancelled".to_string())),
        HubStatus::Queued | HubStatus::Scheduled | HubStatus::Running => Ok(true),
    }
}

/// Returns a declared job or schedule with how far it is.
pub(super) fn describe(view: &View<'_>, work: HubWork<'_>, now: Timestamp) -> HubJob {
    let record = newest_run(view, work);
    let (action, condition, window) = content(&view.declared, work);
    let claim = record.as_ref().and_then(|one| view.ledger.claims.get(&(one.job.clone(), one.run.clone())));
    let created = work.label(CREATED_LABEL).and_then(|text| text.parse().ok());
    let created = created.or_else(|| claim.map(|claim| claim.claimed_at));
    let planned = match work {
        HubWork::Schedule(schedule) => schedule.time_zone.to_timestamp(schedule.start).ok(),
        HubWork::Job(_) => created,
    };
    let is_suspended = match work {
        HubWork::Job(job) => job.suspend,
        HubWork::Schedule(schedule) => schedule.is_suspended,
    };
    let (status, failure, message) = status_of(record.as_ref(), is_suspended, planned, now);
    let statistics = record.as_ref().map(|record| {
        let open = view.ledger.open.get(&(record.job.clone(), record.run.clone()));
        let Counts { total, completed, failed, .. } = record.counts;
        let running = open.map_or(0, |open| open.in_flight).min(record.counts.pending());
        HubStatistics { total, succeeded: completed, failed, running, pending: record.counts.pending() - running }
    });
    HubJob {
        id: work.id().to_string(),
        name: work.name().clone(),
        action,
        status,
        condition,
        created,
        start: record.as_ref().and_then(|record| record.started_at).or(planned),
        end: record.as_ref().and_then(|record| record.finished_at),
        window,
        failure,
        message,
        statistics,
    }
}

/// Returns the newest run of a job as it is declared now, or of a schedule.
pub(super) fn newest_run(view: &View<'_>, work: HubWork<'_>) -> Option<RunRecord> {
    let ledger = &view.ledger;
    let newest = match work {
        HubWork::Job(job) => (job.name.clone(), job.run.clone()),
        HubWork::Schedule(schedule) => {
            let keys: BTreeSet<_> = ledger.records.keys().chain(ledger.claims.keys()).collect();
            let own = keys.into_iter().filter(|(job, run)| schedule.owns(job, run));
            own.max_by_key(|key| ledger.claims.get(*key).map(|claim| claim.claimed_at))?.clone()
        }
    };
    record_in(ledger, &open_records(ledger), &newest).map(Cow::into_owned)
}

fn status_of(
    record: Option<&RunRecord>,
    is_suspended: bool,
    planned: Option<Timestamp>,
    now: Timestamp,
) -> (HubStatus, Option<String>, Option<String>) {
    let Some(record) = record else {
        return match (is_suspended, planned) {
            (true, _) => (HubStatus::Cancelled, None, Some("It was cancelled before it began.".to_string())),
            (false, Some(start)) if start > now => (HubStatus::Scheduled, None, None),
            (false, _) => (HubStatus::Queued, None, None),
        };
    };
    let reason = record.reason.clone();
    match record.status {
        RunStatus::Completed => (HubStatus::Completed, None, reason),
        RunStatus::Failed if matches!(record.cause, Some(RunCause::MaxExecutionTime { .. })) => {
            (HubStatus::Completed, None, reason)
        }
        RunStatus::Failed if matches!(record.cause, Some(RunCause::Undeclared)) => (HubStatus::Cancelled, None, reason),
        RunStatus::Failed => (HubStatus::Failed, reason.clone().or(Some("It failed.".to_string())), reason),
        RunStatus::Canceled => (HubStatus::Cancelled, None, reason),
        RunStatus::Stopped => (HubStatus::Cancelled, None, reason.or(Some("It was stopped.".to_string()))),
        RunStatus::Pending | RunStatus::Running if is_suspended => {
            (HubStatus::Cancelled, None, Some("It is being stopped: devices in flight end.".to_string()))
        }
        RunStatus::Pending => (HubStatus::Queued, None, reason),
        RunStatus::Running => (HubStatus::Running, None, reason),
    }
}

/// Returns what a job does, to which devices, and how long it may take.
fn content(declared: &Declared, work: HubWork<'_>) -> (HubAction, String, Option<Duration>) {
    let (action, target, delivery) = match work {
        HubWork::Job(Job { action, target, delivery, .. }) => (action, target, delivery),
        HubWork::Schedule(schedule) => (&schedule.job.action, &schedule.job.target, &schedule.job.delivery),
    };
    let members = |patch: &crate::model::patch::Patch| patch.to_value().as_object().cloned().unwrap_or_default();
    let action = match action {
        Action::Command(command) => HubAction::Method {
            method: command.method(),
            payload: Some(command.payload.clone()).filter(|payload| !payload.is_null()),
            response_timeout: command.response_timeout,
        },
        Action::Tags(tags) => HubAction::Twin { tags: members(tags), desired: Default::default() },
        Action::Property(desired) => HubAction::Twin { tags: Default::default(), desired: members(desired) },
        Action::Twin { tags, desired } => HubAction::Twin { tags: members(tags), desired: members(desired) },
        Action::CloudProperty(_) | Action::DeviceTemplate(_) | Action::EdgeManifest(_) => HubAction::Other,
    };
    let condition = match &target.selector {
        Selector::Query(text) => text.clone(),
        Selector::Group(name) => declared.groups.get(name).map_or_else(String::new, |group| group.query.clone()),
        Selector::Devices(ids) => {
            let ids: Vec<String> = ids.iter().map(|id| format!("'{}'", id.as_str().replace('\'', "\\'"))).collect();
            format!("deviceId IN [{}]", ids.join(", "))
        }
        Selector::OfRun(_) => String::new(),
    };
    (action, condition, delivery.max_execution_time)
}
