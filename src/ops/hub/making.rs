//! Jobs of back ends are made here: each is a document and a commit.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::desk::{Desk, held};
use super::job::{HubJob, HubStatus, describe};
use super::names::{REQUEST_LABEL, find, named, names_of};
use super::publish::{Made, message, subject};
use super::request::JobRequest;
use super::{Caller, HubError};
use crate::diag::{Diagnostic, Severity};
use crate::model::id::Name;
use crate::plan::Refusal;
use crate::prepare::{Files, Purpose, View};
use crate::registry::Change;
use crate::repo::DeclaredFile;

/// How often answers of devices are looked for that are too old.
const DROP_INTERVAL: Duration = Duration::from_secs(3_600);

/// A job that a back end asks for.
#[derive(Debug, Clone)]
pub struct GivenJob {
    pub request: JobRequest,
    pub caller: Caller,
    /// When it was asked.
    pub at: Timestamp,
}

/// A new job that is to be committed: its number among those that are asked for, its name and its file.
struct Placed {
    number: usize,
    name: Name,
    file: DeclaredFile,
}

impl Desk<'_> {
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
        let make = &mut |desk: &mut Self, tip: &str, asked: &[GivenJob]| {
            let together = desk.made_together(tip, asked, &api.jobs_folder);
            together.unwrap_or_else(|| desk.made_in_turn(tip, asked, &api.jobs_folder))
        };
        let made = self.publish(asked, make);
        if let Err(error) = self.drop_old_answers(now) {
            tracing::warn!(%error, "answers of devices that are too old are still kept");
        }
        // One look for all of them.
        let view = self.view().ok();
        let shown = |(one, made): (&GivenJob, Result<Option<String>, HubError>)| {
            let GivenJob { request, caller, at } = one;
            let commit = made?;
            if let Some(commit) = &commit {
                tracing::info!(job = %request.id, policy = %caller.policy, %commit, "a back end has made a job");
            }
            if let Some(view) = &view
                && let Some(work) = find(&view.declared, &request.id)
            {
                let mut job = describe(view, work, *at);
                self.say_standstill(view, std::slice::from_mut(&mut job));
                return Ok(job);
            }
            let gone = || HubError::Unavailable("somebody removed the job meanwhile".to_string());
            self.job(&request.id, *at)?.ok_or_else(gone)
        };
        asked.iter().zip(made).map(shown).collect()
    }

    /// Makes the commits of jobs one after the other, and checks each.
    fn made_in_turn(&mut self, tip: &str, asked: &[GivenJob], folder: &str) -> Vec<Result<Option<Made>, HubError>> {
        let mut last = tip.to_string();
        let one = |one: &GivenJob| {
            let GivenJob { request, caller, at } = one;
            let files = self.files_to_commit_on(&last)?;
            let view = self.view_of(files)?;
            let Some((name, path)) = place_of(&view, &self.api()?.retention, request, (folder, &BTreeSet::new()), *at)?
            else {
                return Ok(None);
            };
            let files = vec![DeclaredFile { path, text: request.document(&name, &caller.policy, *at)? }];
            let commit = self.written(&last, (&files, &message_of(request, caller)), caller)?;
            self.check(&commit, &[(&name, caller)], *at)?;
            last.clone_from(&commit);
            Ok(Some(Made { commit, files }))
        };
        asked.iter().map(one).collect()
    }

    /// Makes the commits of several jobs, and checks them with one plan: what it takes for all is taken with each.
    /// Returns `None` when they have to be made in turn: there are not several, two have one id, or one of them is
    /// refused beside the others.
    fn made_together(
        &mut self,
        tip: &str,
        asked: &[GivenJob],
        folder: &str,
    ) -> Option<Vec<Result<Option<Made>, HubError>>> {
        let ids: BTreeSet<&str> = asked.iter().map(|one| one.request.id.as_str()).collect();
        if asked.len() < 2 || ids.len() < asked.len() {
            return None;
        }
        let retention = self.api().ok()?.retention;
        let files = self.files_at(tip).ok()?;
        let view = self.view_of(files).ok()?;
        let (mut made, mut placed, mut taken) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (number, GivenJob { request, caller, at }) in asked.iter().enumerate() {
            let place = place_of(&view, &retention, request, (folder, &taken), *at);
            let placed_one = place.and_then(|place| {
                let Some((name, path)) = place else { return Ok(None) };
                let text = request.document(&name, &caller.policy, *at)?;
                Ok(Some(Placed { number, name, file: DeclaredFile { path, text } }))
            });
            made.push(placed_one.map(|one| {
                if let Some(one) = one {
                    taken.insert(one.name.clone());
                    placed.push(one);
                }
                None
            }));
        }
        if placed.len() < 2 {
            return None;
        }
        let of = |one: &Placed| &asked[one.number];
        let commits = placed.iter().map(|one| {
            let GivenJob { request, caller, .. } = of(one);
            (vec![one.file.clone()], message_of(request, caller), caller)
        });
        let commits = self.written_all(tip, commits.collect()).ok()?;
        let names: Vec<(&Name, &Caller)> = placed.iter().map(|one| (&one.name, &of(one).caller)).collect();
        let latest = placed.iter().map(|one| of(one).at).max()?;
        self.check(commits.last()?, &names, latest).ok()?;
        for (Placed { number, file, .. }, commit) in placed.into_iter().zip(commits) {
            made[number] = Ok(Some(Made { commit, files: vec![file] }));
        }
        Some(made)
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
        let files = self.files_to_commit_on(&tip)?;
        let (view, retention) = (self.view_of(files)?, self.api()?.retention);
        let Some((name, path)) = place_of(&view, &retention, request, (folder, &BTreeSet::new()), now)? else {
            return self.job(&request.id, now)?.ok_or_else(gone);
        };
        let branch = self.review_branch(&name)?.ok_or_else(gone)?;
        let files = [DeclaredFile { path, text: request.document(&name, &caller.policy, now)? }];
        let commit = self.written(&tip, (&files, &message_of(request, caller)), caller)?;
        self.check(&commit, &[(&name, caller)], now)?;
        self.propose(&branch, &commit)?;
        // It must never run without its review.
        let reviewed = self.reviewed(&request.id, now)?.ok_or_else(|| {
            HubError::Unavailable(format!("the job was proposed on {branch}, and cannot be read from there"))
        })?;
        Ok(reviewed.job)
    }

    /// Refuses jobs whose commits make the files invalid, or that their plan or a policy refuses.
    fn check(&mut self, commit: &str, made: &[(&Name, &Caller)], now: Timestamp) -> Result<(), HubError> {
        let files = self.files_at(commit)?;
        let declared = files.usable()?;
        for (name, _) in made {
            if let Some(why) = held_by_itself(&files, name) {
                return Err(HubError::Argument(why));
            }
            if !declared.jobs.contains_key(*name) && !declared.schedules.contains_key(*name) {
                let what = "the job would not be declared by its file: choose another id";
                return Err(HubError::Argument(what.to_string()));
            }
        }
        let mut view = self.view_of(files)?;
        let planned = view.plan(Purpose::Work, now)?;
        for (name, caller) in made {
            if let Some(most) = caller.devices_max
                && let Some(run) = planned.plan.runs.iter().find(|run| run.job == **name)
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
        }
        let mut plan = planned.plan;
        plan.refusals.retain(|refusal| made.iter().any(|(name, _)| refusal.is_about(name)));
        plan.notices.clear();
        let is_conflict = plan.refusals.iter().any(|one| matches!(one, Refusal::Conflict(_)));
        match view.diagnose(&plan).iter().find(|one| one.severity == Severity::Error) {
            Some(error) if is_conflict => Err(HubError::Conflict(one_line(error))),
            Some(error) => Err(HubError::Argument(one_line(error))),
            None => Ok(()),
        }
    }
}

/// Returns why the document of a new job cannot be used, or its file.
fn held_by_itself(files: &Files<'_>, name: &Name) -> Option<String> {
    let own = files.held.documents.iter().find(|((_, held), _)| held == name).map(|(_, hold)| hold.why.clone());
    own.or_else(|| {
        let end = format!("/{name}.yaml");
        let path = files.tree.entries.keys().find(|path| path.ends_with(&end))?;
        files.held.files.get(path).map(|hold| hold.why.clone())
    })
}

/// Returns the name and the file of a new job beside what is declared, and beside names that others have taken; `None`
/// when this very request has made it before.
///
/// # Errors
/// The id is taken.
fn place_of(
    view: &View<'_>,
    retention: &Duration,
    request: &JobRequest,
    (folder, taken): (&str, &BTreeSet<Name>),
    now: Timestamp,
) -> Result<Option<(Name, String)>, HubError> {
    let exists = || HubError::JobExists(request.id.clone());
    if held(&view.files, &request.id).is_some() {
        return Err(exists());
    }
    if let Some(work) = find(&view.declared, &request.id) {
        let job = describe(view, work, now);
        // One that was cancelled before it began has no end.
        let ended = job.end.or(job.created.filter(|_| job.status == HubStatus::Cancelled));
        let is_free = ended.is_some_and(|end| now.duration_since(end).unsigned_abs() > *retention && end < now);
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
        !taken.contains(name) && named(&view.declared, name).is_none() && !view.files.tree.entries.contains_key(&file)
    };
    let name = names_of(&request.id).into_iter().find(is_free).ok_or_else(exists)?;
    let file = format!("{folder}/{name}.yaml");
    Ok(Some((name, file)))
}

fn message_of(request: &JobRequest, caller: &Caller) -> String {
    message(&subject(&request.id, &request.verb(), &request.condition), &request.id, caller)
}

/// Returns a finding as one line without `;`, at which clients cut messages.
fn one_line(one: &Diagnostic) -> String {
    let detail = crate::model::text::sanitize_line(&one.detail).replace(['\n', '\r'], " ");
    let help = one.help.as_deref().map(|help| format!(" {help}")).unwrap_or_default();
    format!("{}: {detail}{help}", one.code.0).replace(';', ",")
}
