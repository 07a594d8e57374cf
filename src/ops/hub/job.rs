//! Jobs of back ends: made, read, listed and canceled.

use std::time::Duration;

use jiff::Timestamp;

use super::desk::{Desk, held};
use super::names::{CREATED_LABEL, HubWork, REQUEST_LABEL, all, find, named, names_of};
use super::publish::{Made, message, subject};
use super::request::{HubAction, JobRequest};
use super::{Caller, HubError};
use crate::diag::{Diagnostic, Severity};
use crate::ledger::{RunCause, RunRecord};
use crate::manifest::edit;
use crate::model::fleet::Declared;
use crate::model::id::Name;
use crate::model::job::{Action, Job, Selector};
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::outcome::{Counts, RunStatus};
use crate::plan::Refusal;
use crate::prepare::{Files, Purpose, View, records_of};
use crate::registry::Change;
use crate::repo::DeclaredFile;

/// How often answers of devices are looked for that are too old.
const DROP_INTERVAL: Duration = Duration::from_secs(3_600);

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

/// A job that a back end asks for.
#[derive(Debug, Clone)]
pub struct GivenJob {
    pub request: JobRequest,
    pub caller: Caller,
    /// When it was asked.
    pub at: Timestamp,
}

impl<'w> Desk<'w> {
    /// Makes jobs: each a document and a commit, pushed when this returns. The same request again is the job that it
    /// has made. Returns what becomes of each.
    ///
    /// # Errors
    /// Of a job: its id has another one, a plan or a policy of the fleet refuses it, or it could not be committed.
    /// Nothing of it was kept.
    pub fn put_jobs(&mut self, asked: &[GivenJob], now: Timestamp) -> Vec<Result<HubJob, HubError>> {
        let api = self.api();
        let api = match api {
            Ok(api) => api,
            Err(error) => return error.of_all(asked.len()),
        };
        if api.review_branch.is_some() {
            let review = |one: &GivenJob| self.put_for_review(&one.request, &api.jobs_folder, &one.caller, one.at);
            return asked.iter().map(review).collect();
        }
        let made = self.publish(asked, &mut |desk: &mut Desk<'_>, tip: &str, one: &GivenJob| {
            let GivenJob { request, caller, at } = one;
            let files = desk.files_at(tip)?;
            let Some((name, path)) = desk.place_of(request, files, &api.jobs_folder, *at)? else { return Ok(None) };
            let files = vec![DeclaredFile { path, text: request.document(&name, &caller.policy, *at)? }];
            let subject = subject(&request.id, &request.verb(), &request.condition);
            let commit = desk.written(tip, (&files, &message(&subject, &request.id, caller)), caller)?;
            desk.check(&commit, &name, caller, *at)?;
            Ok(Some(Made { commit, files }))
        });
        if let Err(error) = self.drop_old_answers(now) {
            tracing::warn!(%error, "answers of devices that are too old are still kept");
        }
        let shown = |(one, made): (&GivenJob, Result<Option<String>, HubError>)| {
            let GivenJob { request, caller, at } = one;
            let commit = made?;
            if let Some(commit) = &commit {
                tracing::info!(job = %request.id, policy = %caller.policy, %commit, "a back end has made a job");
            }
            let gone = || HubError::Unavailable("somebody removed the job meanwhile".to_string());
            self.job(&request.id, *at)?.ok_or_else(gone)
        };
        asked.iter().zip(made).map(shown).collect()
    }

    /// Drops the whole answers of devices that are older than the fleet keeps them, at most once an hour.
    fn drop_old_answers(&mut self, now: Timestamp) -> Result<(), HubError> {
        let is_recent = |then: Timestamp| now.duration_since(then).unsigned_abs() < DROP_INTERVAL;
        if self.dropped_at.is_some_and(is_recent) {
            return Ok(());
        }
        self.dropped_at = Some(now);
        let before = now.checked_sub(self.api()?.retention).unwrap_or(Timestamp::MIN);
        self.registry_to_write()?.write(Change::DropAnswers { before })?;
        Ok(())
    }

    /// Makes a job on a branch of its own, where it waits for a review.
    fn put_for_review(
        &mut self,
        request: &JobRequest,
        folder: &str,
        caller: &Caller,
        now: Timestamp,
    ) -> Result<HubJob, HubError> {
        if let Some(reviewed) = self.reviewed(&request.id, now)? {
            return match reviewed.request.as_deref() == Some(&request.digest) {
                true => Ok(reviewed.job),
                false => Err(HubError::JobExists(request.id.clone())),
            };
        }
        let gone = || HubError::Unavailable("the fleet changes at this moment: try again".to_string());
        let tip = self.head()?;
        let files = self.files_at(&tip)?;
        let Some((name, path)) = self.place_of(request, files, folder, now)? else {
            return self.job(&request.id, now)?.ok_or_else(gone);
        };
        let branch = self.review_branch(&name)?.ok_or_else(gone)?;
        let files = [DeclaredFile { path, text: request.document(&name, &caller.policy, now)? }];
        let subject = subject(&request.id, &request.verb(), &request.condition);
        let commit = self.written(&tip, (&files, &message(&subject, &request.id, caller)), caller)?;
        self.check(&commit, &name, caller, now)?;
        self.propose(&branch, &commit)?;
        // It must never run without its review.
        let reviewed = self.reviewed(&request.id, now)?.ok_or_else(|| {
            HubError::Unavailable(format!("the job was proposed on {branch}, and cannot be read from there"))
        })?;
        Ok(reviewed.job)
    }

    /// Returns the name and the file of a new job beside these files; `None` when this very request has made it before.
    ///
    /// # Errors
    /// The id is taken.
    fn place_of(
        &mut self,
        request: &JobRequest,
        files: Files<'w>,
        folder: &str,
        now: Timestamp,
    ) -> Result<Option<(Name, String)>, HubError> {
        let exists = || HubError::JobExists(request.id.clone());
        if held(&files, &request.id).is_some() {
            return Err(exists());
        }
        let view = self.view_of(files)?;
        if let Some(work) = find(&view.declared, &request.id) {
            let retention = self.api()?.retention;
            let job = describe(&view, work, now);
            // One that was cancelled before it began has no end.
            let ended = job.end.or(job.created.filter(|_| job.status == HubStatus::Cancelled));
            let is_free = ended.is_some_and(|end| now.duration_since(end).unsigned_abs() > retention && end < now);
            let is_same = work.label(REQUEST_LABEL) == Some(request.digest.as_str());
            return match (is_free, is_same) {
                // After that time the id may be used again: in the place of the old document, with a token of its own.
                (true, _) if work.file().starts_with(&format!("{folder}/")) => {
                    Ok(Some((work.name().clone(), work.file().to_string())))
                }
                (_, true) => Ok(None),
                _ => Err(exists()),
            };
        }
        let is_free = |name: &Name| {
            let file = format!("{folder}/{name}.yaml");
            named(&view.declared, name).is_none() && !view.files.tree.entries.contains_key(&file)
        };
        let name = names_of(&request.id).into_iter().find(is_free).ok_or_else(exists)?;
        let file = format!("{folder}/{name}.yaml");
        Ok(Some((name, file)))
    }

    /// Refuses a job whose commit makes the files invalid, or that their plan or a policy refuses.
    fn check(&mut self, commit: &str, name: &Name, caller: &Caller, now: Timestamp) -> Result<(), HubError> {
        let files = self.files_at(commit)?;
        let own = files.held.documents.iter().find(|((_, held), _)| held == name).map(|(_, hold)| hold.why.clone());
        let own = own.or_else(|| {
            let is_own = |path: &&String| files.held.files.contains_key(*path);
            let path = files.tree.entries.keys().find(|path| path.ends_with(&format!("/{name}.yaml")))?;
            Some(&path).filter(|path| is_own(path)).map(|path| files.held.files[*path].why.clone())
        });
        if let Some(why) = own {
            return Err(HubError::Argument(why));
        }
        let declared = files.usable()?;
        if !declared.jobs.contains_key(name) && !declared.schedules.contains_key(name) {
            return Err(HubError::Argument("the job would not be declared by its file: choose another id".to_string()));
        }
        let mut view = self.view_of(files)?;
        let planned = view.plan(Purpose::Work, now)?;
        if let Some(most) = caller.devices_max
            && let Some(run) = planned.plan.runs.iter().find(|run| run.job == *name)
            && run.ids.len() as u64 > most
        {
            return Err(HubError::Refused(format!(
                "the job has {} devices, and a job of the policy `{}` has at most {most}",
                run.ids.len(),
                caller.policy
            )));
        }
        let refused = planned.diagnostics.iter().find(|one| view.is_refused_by_policy(name, one));
        if let Some(refused) = refused {
            return Err(HubError::Refused(one_line(refused)));
        }
        let mut plan = planned.plan;
        plan.refusals.retain(|refusal| refusal.is_about(name));
        plan.notices.clear();
        let is_conflict = plan.refusals.iter().any(|one| matches!(one, Refusal::Conflict(_)));
        match view.diagnose(&plan).iter().find(|one| one.severity == Severity::Error) {
            Some(error) if is_conflict => Err(HubError::Conflict(one_line(error))),
            Some(error) => Err(HubError::Argument(one_line(error))),
            None => Ok(()),
        }
    }

    /// Returns a job; `None` when there is none of this id.
    ///
    /// # Errors
    /// The repository or the registry cannot be read.
    pub fn job(&mut self, id: &str, now: Timestamp) -> Result<Option<HubJob>, HubError> {
        let view = self.view()?;
        if let Some(work) = find(&view.declared, id) {
            return Ok(Some(describe(&view, work, now)));
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
        found.sort_by(|one, two| two.created.cmp(&one.created).then_with(|| one.id.cmp(&two.id)));
        Ok(found)
    }

    /// Cancels a job, also while it runs: no new device starts, and those in flight end. It is committed when this
    /// returns.
    ///
    /// # Errors
    /// There is no such job, it has ended, or it could not be committed.
    pub fn cancel_job(&mut self, id: &str, caller: &Caller, now: Timestamp) -> Result<HubJob, HubError> {
        let is_declared = find(&self.view()?.declared, id).is_some();
        if !is_declared && let Some(reviewed) = self.reviewed(id, now)? {
            self.withdraw(&reviewed)?;
            let message = Some("It was cancelled before its review.".to_string());
            return Ok(HubJob { status: HubStatus::Cancelled, message, ..reviewed.job });
        }
        let mut made = self.publish(&[id], &mut |desk: &mut Desk<'_>, tip: &str, id: &&str| {
            let files = desk.files_at(tip)?;
            let view = desk.view_of(files)?;
            let work = find(&view.declared, id).ok_or_else(|| HubError::NoJob((*id).to_string()))?;
            match describe(&view, work, now).status {
                HubStatus::Cancelled => return Ok(None),
                status @ (HubStatus::Completed | HubStatus::Failed) => {
                    return Err(HubError::State(format!("the job has {} and cannot be cancelled", status.as_str())));
                }
                HubStatus::Queued | HubStatus::Scheduled | HubStatus::Running => {}
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
            let commit = desk.written(tip, (&files, &message), caller)?;
            Ok(Some(Made { commit, files }))
        });
        made.pop().unwrap_or(Ok(None))?;
        self.job(id, now)?.ok_or_else(|| HubError::NoJob(id.to_string()))
    }
}

/// Returns a finding as one line without `;`, at which clients cut messages.
fn one_line(one: &Diagnostic) -> String {
    let detail = crate::model::text::sanitize_line(&one.detail).replace(['\n', '\r'], " ");
    let help = one.help.as_deref().map(|help| format!(" {help}")).unwrap_or_default();
    format!("{}: {detail}{help}", one.code.0).replace(';', ",")
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
    let is_own = |record: &RunRecord| match work {
        HubWork::Job(job) => record.job == job.name && record.run == job.run,
        HubWork::Schedule(schedule) => schedule.owns(&record.job, &record.run),
    };
    let claimed_at = |record: &RunRecord| {
        view.ledger.claims.get(&(record.job.clone(), record.run.clone())).map(|claim| claim.claimed_at)
    };
    records_of(&view.ledger).into_iter().filter(is_own).max_by_key(claimed_at)
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
