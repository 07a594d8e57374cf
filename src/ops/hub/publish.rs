//! A commit of a back end: written, pushed where the fleet has a remote, and only then the branch's.

use super::desk::{Desk, Followed};
use super::{Caller, HubError};
use crate::model::fleet::Fleet;
use crate::model::limits;
use crate::model::text::{sanitize_line, shorten};
use crate::repo::{DeclaredCommit, DeclaredFile, MIRRORED, Remote, RemoteError, source_reference};

/// How often a commit is made again because somebody else was faster.
const ATTEMPTS_MAX: usize = 5;
/// The trailer with the id of the job.
const JOB_TRAILER: &str = "Fleetform-Hub-Job";
/// Where the branch of the remote is kept when it was fetched.
const FETCHED_PREFIX: &str = "refs/fleetform/fetched/source/";
/// Characters of the condition in the subject of a commit.
const CONDITION_CHARS_MAX: usize = 48;

/// Commits that become the branch's together, each of one thing that was asked.
const CHAIN_MAX: usize = 64;

/// Makes commits that do what is asked, each on top of the one before and the first on top of the one that is given,
/// and returns the commit of each thing; `None` when there is nothing to do.
type Make<'a, D, T> = dyn FnMut(&mut D, &str, &[T]) -> Vec<Result<Option<Made>, HubError>> + 'a;

/// A commit that no branch has yet.
pub(super) struct Made {
    pub commit: String,
    /// What it changes.
    pub files: Vec<DeclaredFile>,
}

/// Returns the message of the commit of a job.
pub(super) fn message(subject: &str, id: &str, caller: &Caller) -> String {
    let line = |text: &str| sanitize_line(text).replace(['\n', '\r'], " ");
    format!(
        "{}\n\n{JOB_TRAILER}: {}\nFleetform-Hub-Policy: {}\nFleetform-Hub-Request: {}\n",
        line(subject),
        line(id),
        line(&caller.policy),
        line(&caller.request_id),
    )
}

/// Returns the subject of the commit of a job.
pub(super) fn subject(id: &str, verb: &str, condition: &str) -> String {
    format!("Hub job {id}: {verb} on {}", shorten(condition, CONDITION_CHARS_MAX))
}

impl Desk<'_> {
    /// Has each of the things that are asked made a commit, one after the other, and makes them the followed branch's
    /// together, pushed. Returns the commit of each; `None` where there is nothing to do any more. `make` is called
    /// with some of them and the commit that they come after. It is called again when somebody else has moved the
    /// branch meanwhile.
    ///
    /// # Errors
    /// Nothing could be written or pushed, and nothing of it was kept; or the error of `make`.
    pub(super) fn publish<T>(
        &mut self,
        asked: &[T],
        make: &mut Make<'_, Self, T>,
    ) -> Vec<Result<Option<String>, HubError>> {
        let mut verdicts = Vec::with_capacity(asked.len());
        for part in asked.chunks(CHAIN_MAX) {
            verdicts.extend(self.publish_chain(part, make));
        }
        verdicts
    }

    fn publish_chain<T>(&mut self, asked: &[T], make: &mut Make<'_, Self, T>) -> Vec<Result<Option<String>, HubError>> {
        for _ in 0..ATTEMPTS_MAX {
            let tip = match self.head() {
                Ok(tip) => tip,
                Err(error) => return error.of_all(asked.len()),
            };
            let made = make(self, &tip, asked);
            // Those before the first commit hold, whatever becomes of that.
            let settled = made.iter().take_while(|made| !matches!(made, Ok(Some(_)))).count();
            let (mut last, mut files) = (tip.clone(), Vec::new());
            let mut chained = |Made { commit, files: own }: Made| {
                files.retain(|file: &DeclaredFile| own.iter().all(|own| own.path != file.path));
                files.extend(own);
                last.clone_from(&commit);
                commit
            };
            let mut verdicts: Vec<_> = made.into_iter().map(|made| made.map(|made| made.map(&mut chained))).collect();
            if last == tip {
                return verdicts;
            }
            match self.take(&tip, &last, &files) {
                Ok(true) => return verdicts,
                Ok(false) => {}
                Err(error) => {
                    verdicts.truncate(settled);
                    verdicts.extend(error.of_all(asked.len() - settled));
                    return verdicts;
                }
            }
        }
        let busy = "others commit to the branch without a pause: try again".to_string();
        HubError::Unavailable(busy).of_all(asked.len())
    }

    /// Writes a commit of a back end, and returns it. No branch moves.
    pub(super) fn written(
        &mut self,
        tip: &str,
        (files, message): (&[DeclaredFile], &str),
        caller: &Caller,
    ) -> Result<String, HubError> {
        let (name, address) = author(caller, &self.config()?.host_name);
        Ok(self.workspace.repo.commit_declared(tip, files, message, (&name, &address))?)
    }

    /// Writes commits of back ends, each on top of the one before, and returns them. No branch moves.
    pub(super) fn written_all(
        &mut self,
        tip: &str,
        commits: Vec<(Vec<DeclaredFile>, String, &Caller)>,
    ) -> Result<Vec<String>, HubError> {
        let host = self.config()?.host_name;
        let commits = commits.into_iter().map(|(files, message, caller)| {
            let author = author(caller, &host);
            DeclaredCommit { files, message, author }
        });
        Ok(self.workspace.repo.commit_chain(tip, &commits.collect::<Vec<_>>())?)
    }

    /// Makes a commit the tip of the followed branch, first at the remote. Returns false when somebody was faster.
    fn take(&mut self, tip: &str, commit: &str, files: &[DeclaredFile]) -> Result<bool, HubError> {
        let repo = &self.workspace.repo;
        match self.followed.clone() {
            Followed::Remote { branch } => {
                let remote = Remote::new(repo.git_folder(), MIRRORED);
                match remote.push(commit, &branch, Some(tip)) {
                    Ok(()) => {
                        repo.set_reference(&source_reference(&branch), commit)?;
                        Ok(true)
                    }
                    Err(RemoteError::Rejected { .. }) => {
                        let fetched = remote.fetch(&[(&branch, &source_reference(&branch))]);
                        fetched.map_err(|error| unavailable(&error))?;
                        if self.head()? == tip {
                            return Err(HubError::Unavailable(
                                "the remote does not take commits on its branch: allow the gateway to push, or let its \
                                 jobs be reviewed with `jobs.branch`"
                                    .to_string(),
                            ));
                        }
                        Ok(false)
                    }
                    Err(error) => Err(unavailable(&error)),
                }
            }
            Followed::Local { reference: Some(reference) } => {
                let fleet = self.declared()?.fleet.clone();
                let branch = reference.trim_start_matches("refs/heads/").to_string();
                let remote = self.own_remote(&fleet);
                let there = match &remote {
                    Some(remote) => remote.heads(&[&branch]).map_err(|error| unavailable(&error))?.pop().flatten(),
                    None => None,
                };
                if let (Some(remote), Some(there)) = (&remote, &there)
                    && there != tip
                    && self.workspace.repo.descends(tip, there) != Some(true)
                {
                    self.catch_up(remote, &reference, (tip, there))?;
                    return Ok(false);
                }
                self.workspace.repo.move_declared(&reference, (tip, commit), files, || match &remote {
                    Some(remote) => remote.push(commit, &branch, there.as_deref()).map_err(|error| unavailable(&error)),
                    None => Ok(()),
                })
            }
            Followed::Local { reference: None } => Err(HubError::Unavailable(
                "HEAD is on no branch here, so a job cannot be committed: check out a branch".to_string(),
            )),
        }
    }

    /// Returns the remote of the fleet that is here.
    pub(super) fn own_remote(&self, fleet: &Fleet) -> Option<Remote> {
        let name = fleet.results.remote.as_deref().filter(|name| self.workspace.repo.has_remote(name))?;
        Some(Remote::new(self.workspace.repo.git_folder(), name))
    }

    /// Takes up commits of back ends that were pushed and did not become the branch's here: the process died between
    /// the two.
    ///
    /// # Errors
    /// The remote has something else, which a person has to pull.
    fn catch_up(&mut self, remote: &Remote, reference: &str, (tip, there): (&str, &str)) -> Result<(), HubError> {
        let branch = reference.trim_start_matches("refs/heads/");
        let pull = || {
            HubError::Unavailable(format!(
                "the remote has commits on `{branch}` that are not here: pull them where the gateway runs"
            ))
        };
        let repo = &self.workspace.repo;
        remote.fetch(&[(branch, &format!("{FETCHED_PREFIX}{branch}"))]).map_err(|error| unavailable(&error))?;
        let mut below = there.to_string();
        for _ in 0..CHAIN_MAX {
            let commit = repo.commit(&below)?;
            let [parent] = commit.parents.as_slice() else { return Err(pull()) };
            if commit.trailer(JOB_TRAILER).is_none() {
                return Err(pull());
            }
            below.clone_from(parent);
            if below == tip {
                break;
            }
        }
        if below != tip {
            return Err(pull());
        }
        let mut files = Vec::new();
        for path in repo.changed_paths(Some(tip), there)? {
            let bytes = repo.file_at(there, &path, limits::YAML_FILE_BYTES_MAX);
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            files.push(DeclaredFile { path, text: text.ok_or_else(pull)? });
        }
        match repo.move_declared::<HubError>(reference, (tip, there), &files, || Ok(()))? {
            true => Ok(()),
            false => Err(pull()),
        }
    }
}

/// Returns the name and the address that a back end commits with.
fn author(caller: &Caller, host: &str) -> (String, String) {
    (format!("{} (IoT Hub API)", caller.policy), format!("gateway@{host}"))
}

pub(super) fn unavailable(error: &RemoteError) -> HubError {
    HubError::Unavailable(format!("the remote repository did not take the commit, nothing was kept: {error}"))
}
