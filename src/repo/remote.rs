//! Talks to a remote through the `git` binary: the user's ssh configuration, credential helpers and proxies work, hooks
//! of the server run, and refusals are reported.
//!
//! A push is a compare-and-swap of the branch: `expected` is compared when the connection is made, and by the server
//! again when it moves the branch. Two writers:
//!
//! 1. A and B fetch the tip T, and commit T -> A1 and T -> B1.
//! 2. A pushes A1 and expects T. The server moves the branch.
//! 3. B pushes B1 and expects T: [`RemoteError::Rejected`], whether A was done before B connected or while B was
//!    sending.
//! 4. B fetches A1, builds its change again on it, and pushes that.
//!
//! A push whose answer got lost:
//!
//! 1. A pushes A1. The server moves the branch. The connection breaks, or the time is up, before A gets the answer.
//! 2. A gets an error for which [`RemoteError::is_open`] is true: A1 may have arrived, may not, or may still arrive.
//! 3. A fetches. If the tip is A1 or a descendant of it, the push landed. Otherwise A pushes A1 again with the same
//!    expectation. When A1 arrived meanwhile, the push succeeds too: the branch is already there.
//!
//! This needs git 2.31 or later. A call blocks until its time limit at most; the number of bytes has no other limit.

mod answer;
mod call;
mod error;
mod git;
mod push;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::{Oid, Reference, Repository, RepositoryInitOptions};

pub use self::answer::without_secrets;
use self::answer::{Fault, fault_of, message_of};
pub use self::call::Call;
pub use self::error::RemoteError;
pub(super) use self::git::Git;
use self::git::GitOutput;
pub use self::git::Pulse;
pub(super) use self::git::stream_blob;
pub use self::push::Move;
use super::RepoError;
use super::writer::Writer;
use crate::model::text::{duration, sanitize_line};

/// The time limit of a query: a poll that takes longer has failed.
const ASK_TIME_MAX: Duration = Duration::from_secs(30);
/// The time limit of a push: enough for the results of the largest job (60 MB) over a slow line and the server's hooks.
const PUSH_TIME_MAX: Duration = Duration::from_secs(120);
/// The time limit of a fetch: the first fetch transfers the whole history.
const FETCH_TIME_MAX: Duration = Duration::from_secs(600);

/// Where the references are that only fleetform moves.
const OWN_REFERENCES: &str = "refs/fleetform/";

/// Transfers start no maintenance, which would go on in the background; [`Remote::maintain`] runs it.
const NO_UPKEEP: &[&str] = &["gc.auto=0", "maintenance.auto=false"];

/// A remote of a repository: the name of one that is configured in it, or a URL, or a path.
#[derive(Debug, Clone)]
pub struct Remote {
    repository: PathBuf,
    address: String,
    ask_time_max: Duration,
    push_time_max: Duration,
    fetch_time_max: Duration,
    environment: Vec<(OsString, OsString)>,
    pulse: Option<Pulse>,
}

impl Remote {
    /// Returns a remote of a repository; `repository` is `.git` or the folder of a bare repository. A relative path in
    /// `address` starts at the work tree, or at the folder of a bare repository.
    pub fn new(repository: &Path, address: &str) -> Remote {
        Remote {
            repository: repository.to_path_buf(),
            address: address.to_string(),
            ask_time_max: ASK_TIME_MAX,
            push_time_max: PUSH_TIME_MAX,
            fetch_time_max: FETCH_TIME_MAX,
            environment: Vec::new(),
            pulse: None,
        }
    }

    /// Gives each call this much time instead of 30 seconds for a query, 2 minutes for a push and 10 minutes for a
    /// fetch. A call that takes longer is ended within 2 more seconds, with every process that it started.
    #[must_use]
    pub fn with_time_max(mut self, time_max: Duration) -> Remote {
        (self.ask_time_max, self.push_time_max, self.fetch_time_max) = (time_max, time_max, time_max);
        self
    }

    /// Limits the time of every call to at most this.
    #[must_use]
    pub fn with_time_at_most(mut self, time_max: Duration) -> Remote {
        for time in [&mut self.ask_time_max, &mut self.push_time_max, &mut self.fetch_time_max] {
            *time = time_max.min(*time);
        }
        self
    }

    /// Sets the pulse that beats each second while a call keeps its caller waiting.
    #[must_use]
    pub fn with_pulse(mut self, pulse: Option<Pulse>) -> Remote {
        self.pulse = pulse;
        self
    }

    /// Returns the pulse.
    pub fn pulse(&self) -> Option<&Pulse> {
        self.pulse.as_ref()
    }

    /// Sets an environment variable for git and its child processes; it overrides that of this process.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Remote {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Returns the address for display: without user and password, and safe for a terminal.
    pub fn shown(&self) -> String {
        sanitize_line(&without_secrets(&self.address)).into_owned()
    }

    /// Fetches branches with their whole history, given as (name on the remote, full name of the local reference).
    /// Returns the commit of each, `None` when the remote has no such branch. The local references mirror the remote:
    /// they move to where it is, also backwards, and are removed with it. Either all of them move or none. Tags and all
    /// other references stay as they are.
    ///
    /// # Errors
    /// Any but [`RemoteError::Rejected`].
    pub fn fetch(&self, branches: &[(&str, &str)]) -> Result<Vec<Option<String>>, RemoteError> {
        self.fetch_with(branches, None)
    }

    /// Does the same with one more branch, which the remote may lack at no cost: git is asked for all branches whose
    /// names begin with its name, and does not mind when there are none.
    ///
    /// # Errors
    /// As [`Remote::fetch`].
    pub fn fetch_with(
        &self,
        branches: &[(&str, &str)],
        beside: Option<(&str, &str)>,
    ) -> Result<Vec<Option<String>>, RemoteError> {
        for (branch, local) in branches.iter().copied().chain(beside) {
            check_branch(branch)?;
            if !local.starts_with("refs/") || !Reference::is_valid_name(local) {
                return Err(RemoteError::BadName { name: local.to_string(), what: "reference" });
            }
        }
        // Git refuses the whole fetch when one branch is missing, and names the first of them. Asking first would cost
        // a connection each time.
        let mut missing: Vec<&str> = Vec::new();
        let common = self.open()?.commondir().to_path_buf();
        let own = branches.iter().copied().chain(beside).filter(|(_, local)| local.starts_with(OWN_REFERENCES));
        let _marks: Vec<Writer> = own.map(|(_, local)| Writer::own(&common, local)).collect();
        loop {
            let wanted = branches.iter().filter(|(branch, _)| !missing.contains(branch));
            let refspecs: Vec<String> = wanted.flat_map(|(branch, local)| refspecs_of(branch, local)).collect();
            if refspecs.is_empty() {
                break;
            }
            let refspecs: Vec<String> = refspecs
                .into_iter()
                .chain(beside.map(|(branch, local)| format!("+refs/heads/{branch}*:{local}*")))
                .collect();
            match self.fetch_once(&refspecs)? {
                None => break,
                Some(gone) => {
                    let known = branches.iter().find(|(branch, _)| gone.strip_prefix("refs/heads/") == Some(branch));
                    let (branch, local) =
                        known.ok_or_else(|| self.failed("fetch from", "git misses what it was not asked for"))?;
                    // Removed before the others are fetched: `a` must go before `a/b` can be created.
                    self.forget(local)?;
                    missing.push(branch);
                }
            }
        }
        let repository = self.open()?;
        let tips = branches.iter().map(|(branch, local)| match repository.refname_to_id(local) {
            Ok(id) if !missing.contains(branch) => Ok(Some(id.to_string())),
            Ok(_) => Ok(None),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        });
        tips.collect::<Result<_, git2::Error>>().map_err(|error| self.failed("fetch from", error.message()))
    }

    /// Fetches once. When nothing was fetched because the remote lacks a reference, returns that reference.
    fn fetch_once(&self, refspecs: &[String]) -> Result<Option<String>, RemoteError> {
        let mut arguments = vec![
            "fetch",
            "--quiet",
            "--atomic",
            "--no-tags",
            // Prunes only the references that are asked for; so do all options here.
            "--prune",
            "--no-prune-tags",
            "--no-recurse-submodules",
            "--no-auto-maintenance",
            "--no-show-forced-updates",
            // Updates only what is asked for: not the tracking branches and FETCH_HEAD of a person's repository.
            "--refmap=",
            "--no-write-fetch-head",
            // libgit2 does not ask for objects that a partial clone left out.
            "--no-filter",
            "--",
            &self.address,
        ];
        arguments.extend(refspecs.iter().map(String::as_str));
        let said = self.run(self.fetch_time_max, &[], &arguments)?;
        if said.is_success() {
            return Ok(None);
        }
        match self.fault(&said) {
            Fault::NoReference(name) => Ok(Some(name)),
            fault => Err(self.error(fault, "fetch from", self.fetch_time_max, &said)),
        }
    }

    /// Asks the remote for the commits of branches, without fetching them; `None` for one that it does not have.
    ///
    /// # Errors
    /// Any but [`RemoteError::Rejected`].
    pub fn heads(&self, branches: &[&str]) -> Result<Vec<Option<String>>, RemoteError> {
        for branch in branches {
            check_branch(branch)?;
        }
        if branches.is_empty() {
            return Ok(Vec::new());
        }
        let references: Vec<String> = branches.iter().map(|branch| format!("refs/heads/{branch}")).collect();
        let mut arguments = vec!["ls-remote", "--quiet", "--heads", "--", &self.address];
        arguments.extend(references.iter().map(String::as_str));
        let said = self.run(self.ask_time_max, &[], &arguments)?;
        if !said.is_success() {
            return Err(self.error(self.fault(&said), "ask", self.ask_time_max, &said));
        }
        // The remote also answers with branches whose names only end like these.
        let found = |reference: &String| {
            said.stdout.lines().find_map(|line| {
                let (id, name) = line.split_once('\t')?;
                (name == reference && Oid::from_str(id).is_ok()).then(|| id.to_string())
            })
        };
        Ok(references.iter().map(found).collect())
    }

    /// Packs the objects of many fetches and commits in the local repository, when git finds it worth it. Nothing else
    /// packs a repository that only fleetform uses. Takes seconds in a large repository, and ten minutes at most.
    ///
    /// # Errors
    /// [`RemoteError::NoGit`] or [`RemoteError::Failed`].
    pub fn maintain(&self) -> Result<(), RemoteError> {
        let settings = ["gc.autoDetach=false"];
        let git = self.git(FETCH_TIME_MAX);
        let said = git.run(&settings, &["gc", "--auto", "--quiet"]).map_err(|source| RemoteError::NoGit { source })?;
        if said.is_success() {
            return Ok(());
        }
        Err(self.failed("pack what was fetched from", &message_of(None, &said.stderr)))
    }

    fn run(&self, time_max: Duration, settings: &[&str], arguments: &[&str]) -> Result<GitOutput, RemoteError> {
        let refuse =
            |message: &str| Err(RemoteError::BadAddress { remote: self.shown(), message: message.to_string() });
        if self.address.is_empty() {
            return refuse("it is empty");
        }
        if self.address.starts_with('-') {
            return refuse("it begins with `-`");
        }
        if self.address.chars().any(char::is_control) {
            return refuse("it has control characters");
        }
        // These schemes run commands and use open files. Git itself refuses a configured URL with them.
        if self.address.starts_with("ext::") || self.address.starts_with("fd::") {
            return refuse("it is a command, not a place");
        }
        let git = self.git(time_max);
        let settings: Vec<&str> = NO_UPKEEP.iter().chain(settings).copied().collect();
        git.run(&settings, arguments).map_err(|source| RemoteError::NoGit { source })
    }

    fn git(&self, time_max: Duration) -> Git<'_> {
        Git { repository: &self.repository, environment: &self.environment, time_max, pulse: self.pulse.as_ref() }
    }

    fn fault(&self, said: &GitOutput) -> Fault {
        match said.status {
            None => Fault::Unreachable,
            Some(_) => fault_of(&said.stderr),
        }
    }

    fn error(&self, fault: Fault, doing: &'static str, time_max: Duration, said: &GitOutput) -> RemoteError {
        let message = match said.status {
            None => format!("it took longer than {}", duration(time_max)),
            Some(_) => message_of(None, &said.stderr),
        };
        self.error_with(fault, doing, "", message)
    }

    fn error_with(&self, fault: Fault, doing: &'static str, branch: &str, message: String) -> RemoteError {
        let remote = self.shown();
        match fault {
            Fault::Denied => RemoteError::Denied { remote, message },
            Fault::Rejected => RemoteError::Rejected { remote, branch: branch.to_string(), message },
            Fault::Unreachable => RemoteError::Unreachable { remote, message },
            Fault::NotARepository => RemoteError::NotARepository { remote, message },
            Fault::Address => RemoteError::BadAddress { remote, message },
            Fault::NoReference(_) | Fault::Other => RemoteError::Failed { remote, doing, message },
        }
    }

    fn failed(&self, doing: &'static str, message: &str) -> RemoteError {
        RemoteError::Failed { remote: self.shown(), doing, message: message.to_string() }
    }

    fn open(&self) -> Result<Repository, RemoteError> {
        Repository::open(&self.repository).map_err(|error| self.failed("open the repository for", error.message()))
    }

    /// Removes a local reference if it is there.
    fn forget(&self, local: &str) -> Result<(), RemoteError> {
        let repository = self.open()?;
        let removed = match repository.find_reference(local) {
            Ok(mut reference) => reference.delete(),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(()),
            Err(error) => Err(error),
        };
        removed.map_err(|error| self.failed("fetch from", error.message()))
    }
}

/// Makes an empty bare repository to mirror remotes in, completely or not at all. Leaves an existing one as it is.
///
/// # Errors
/// The folder cannot be made, or has something else in it.
pub fn init_mirror(folder: &Path) -> Result<(), RepoError> {
    super::set_up_libgit2();
    if Repository::open_bare(folder).is_ok() {
        return Ok(());
    }
    let fail = |doing: &'static str| move |source| RepoError::Io { path: folder.to_path_buf(), doing, source };
    let mut unfinished = folder.as_os_str().to_owned();
    unfinished.push(".unfinished");
    let unfinished = PathBuf::from(unfinished);
    if unfinished.exists() {
        std::fs::remove_dir_all(&unfinished).map_err(fail("cleaned up for"))?;
    }
    let mut options = RepositoryInitOptions::new();
    // Templates of the user hold hooks and exclusions, which a mirror does not need.
    options.bare(true).mkpath(true).no_reinit(true).external_template(false);
    Repository::init_opts(&unfinished, &options).map_err(|e| RepoError::git("make a mirror", folder, e))?;
    // The rename replaces an empty folder, and fails for one that is not empty.
    std::fs::rename(&unfinished, folder).map_err(|source| {
        drop(std::fs::remove_dir_all(&unfinished));
        fail("used as a mirror")(source)
    })
}

/// Returns the refspecs that make git fetch this branch and no other. When a remote does not have `refs/heads/main`,
/// git takes a branch or a tag whose full name ends in it, such as `refs/heads/refs/heads/main` (which a careless
/// script easily creates). With those excluded git finds nothing, and prunes the local reference.
fn refspecs_of(branch: &str, local: &str) -> Vec<String> {
    let alike = ["refs", "refs/tags", "refs/heads", "refs/remotes"];
    let mut refspecs = vec![format!("+refs/heads/{branch}:{local}"), format!("^refs/remotes/refs/heads/{branch}/HEAD")];
    refspecs.extend(alike.iter().map(|place| format!("^{place}/refs/heads/{branch}")));
    refspecs
}

fn check_branch(branch: &str) -> Result<(), RemoteError> {
    if Reference::is_valid_name(&format!("refs/heads/{branch}")) {
        return Ok(());
    }
    Err(RemoteError::BadName { name: sanitize_line(branch).into_owned(), what: "branch" })
}
