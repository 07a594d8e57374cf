//! Which commit is the newest, and what of it can be used.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::super::backoff::Backoff;
use super::start::{addressed, hopeless};
use super::{Daemon, Note, RemoteSource, WatchOptions};
use crate::diag::Diagnostics;
use crate::execute::{Waker, Wakeup};
use crate::manifest::{Loaded, ParsedFiles, ValidSubset};
use crate::model::digest::Digest;
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::text::sanitize_line;
use crate::ops::workspace::{findings_of, refuse_results_on};
use crate::ops::{Findings, OpsError, Workspace};
use crate::prepare::load_valid_again;
use crate::repo::{
    Call, FLEET_FILE, FleetTree, MIRRORED, Remote, RepoError, UpstreamError, source_reference, without_secrets,
};
use jiff::Timestamp;

/// No pause between two fetches is longer than this and twice the interval.
const FETCH_PAUSE_MAX: Duration = Duration::from_secs(120);
/// How often the mirror is packed.
const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(24 * 3_600);

/// Where the declared files come from.
pub enum Source {
    /// A branch of the repository itself, as a full reference; `None` for `HEAD`.
    Local { reference: Option<String> },
    /// A branch of another repository, which this one mirrors.
    Remote { remote: Remote, branch: String, fetches: Box<Fetches> },
}

/// When a remote was asked, and is asked next.
pub struct Fetches {
    interval: Duration,
    due_at: Timestamp,
    backoff: Backoff,
    /// Goes on beside what runs: a remote that does not answer holds nobody up.
    under_way: Option<Call<Vec<Option<String>>>>,
    /// Told when a fetch has ended.
    waker: Waker,
    /// When the mirror is packed next.
    maintain_at: Timestamp,
    /// The last one succeeded, or there was none yet.
    is_well: bool,
    /// The address, without secrets.
    shown: String,
    /// Something was fetched, by this process or one before it.
    has_fetched: bool,
}

impl Source {
    /// Returns the source that the options name.
    ///
    /// # Errors
    /// There is no such branch in the repository.
    pub fn open(
        workspace: &Workspace,
        options: &WatchOptions,
        waker: Waker,
        now: Timestamp,
    ) -> Result<Source, OpsError> {
        if let Some(RemoteSource { time_max, address, .. }) = &options.remote {
            let mut remote = Remote::new(workspace.repo.git_folder(), MIRRORED);
            if let Some(time) = time_max {
                remote = remote.with_time_max(*time);
            }
            let (interval, backoff) = (options.interval, Backoff::new(now));
            let branch = options.branch_followed();
            let fetches = Fetches {
                interval,
                due_at: now,
                backoff,
                maintain_at: now,
                under_way: None,
                waker,
                is_well: true,
                shown: sanitize_line(&without_secrets(address)).into_owned(),
                has_fetched: workspace.repo.resolve(&source_reference(&branch)).is_ok(),
            };
            return Ok(Source::Remote { remote, branch, fetches: Box::new(fetches) });
        }
        // The branch that is checked out now stays the one that is followed.
        let named = options.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
        let reference = named.or_else(|| workspace.repo.checked_out_branch());
        let source = Source::Local { reference };
        source.head(workspace)?;
        Ok(source)
    }

    /// Returns the branch that is followed; `None` for a `HEAD` that is on none.
    fn branch(&self, workspace: &Workspace) -> Option<String> {
        match self {
            Source::Local { reference: None } => workspace.repo.head_branch(),
            Source::Local { reference: Some(_) } | Source::Remote { .. } => Some(self.to_string()),
        }
    }

    /// Returns the newest commit that is here; `None` when none was fetched yet.
    fn head(&self, workspace: &Workspace) -> Result<Option<String>, OpsError> {
        match self {
            Source::Local { reference: None } => Ok(Some(workspace.repo.head()?)),
            Source::Local { reference: Some(reference) } => Ok(Some(workspace.repo.resolve(reference)?)),
            Source::Remote { branch, .. } => Ok(workspace.repo.resolve(&source_reference(branch)).ok()),
        }
    }

    /// Packs the mirror once a day, beside what the daemon does: transfers leave that to it.
    pub fn maintain(&mut self, now: Timestamp) {
        let Source::Remote { remote, fetches, .. } = self else { return };
        let latest = now.checked_add(MAINTENANCE_INTERVAL).unwrap_or(Timestamp::MAX);
        if fetches.maintain_at.min(latest) <= now {
            fetches.maintain_at = now.checked_add(MAINTENANCE_INTERVAL).unwrap_or(Timestamp::MAX);
            let remote = remote.clone();
            // A mirror that could not be packed is larger than it need be, no more; the next day tries again.
            drop(Call::begin(move || remote.maintain(), || {}));
        }
    }

    /// Returns when the remote is asked next; `None` when that is under way, or when there is no remote.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self {
            Source::Local { .. } => None,
            Source::Remote { fetches, .. } => fetches.under_way.is_none().then_some(fetches.due_at),
        }
    }

    /// Returns true when the last fetch went well; `None` when there is nothing to fetch.
    pub fn is_well(&self) -> Option<bool> {
        match self {
            Source::Local { .. } => None,
            Source::Remote { fetches, .. } => Some(fetches.is_well),
        }
    }

    /// Returns true while a fetch is under way, or has ended and was not looked at.
    pub fn is_being_fetched(&self) -> bool {
        matches!(self, Source::Remote { fetches, .. } if fetches.under_way.is_some())
    }

    /// Begins a fetch when one is due or asked for, and tells how one that was under way has ended.
    ///
    /// # Errors
    /// Nothing was ever fetched, and it ended in a way that no other will.
    pub fn fetch(
        &mut self,
        now: Timestamp,
        is_asked_for: bool,
        tell: &mut dyn FnMut(&Note<'_>),
    ) -> Result<(), OpsError> {
        let Source::Remote { remote, branch, fetches } = self else { return Ok(()) };
        if let Some(fetch) = fetches.under_way.take_if(|fetch| fetch.has_ended()) {
            let ended = fetch.wait(Duration::ZERO).unwrap_or_else(|_| Ok(vec![None]));
            let error = match ended {
                Ok(commits) if commits.iter().all(Option::is_some) => None,
                Ok(_) => Some(OpsError::NotFound {
                    what: format!("there is no branch {branch} on the remote {}", fetches.shown),
                    help: "Push it there, or name another one with --branch.".to_string(),
                }),
                Err(error) => match hopeless(addressed(error, &fetches.shown)) {
                    Ok(error) if !fetches.has_fetched => return Err(error),
                    Ok(error) => Some(error),
                    Err(error) => Some(UpstreamError::Remote(error).into()),
                },
            };
            fetches.has_fetched |= error.is_none();
            let next = match &error {
                None => {
                    fetches.backoff.reset();
                    now.checked_add(jittered(fetches.interval, now)).unwrap_or(Timestamp::MAX)
                }
                Some(_) => fetches.backoff.fail(now, false).max(now),
            };
            fetches.due_at = next;
            let was_well = std::mem::replace(&mut fetches.is_well, error.is_none());
            let is_news = was_well != fetches.is_well;
            tell(&Note::Fetched { error: error.as_ref(), is_news, next_at: next, at: now });
        }
        // A clock that was put back does not make the next one far away.
        let latest = now.checked_add(fetches.interval.saturating_mul(2).max(FETCH_PAUSE_MAX)).unwrap_or(Timestamp::MAX);
        fetches.due_at = fetches.due_at.min(latest);
        if fetches.under_way.is_none() && (is_asked_for || fetches.due_at <= now) {
            let (remote, branch) = (remote.clone(), branch.clone());
            let fetch = move || remote.fetch(&[(&branch, &source_reference(&branch))]);
            let waker = fetches.waker.clone();
            fetches.under_way = Some(Call::begin(fetch, move || waker.wake(Wakeup::Source)));
        }
        Ok(())
    }
}

/// Returns a tenth more or less of a time: daemons that were started together do not ask together for ever.
fn jittered(time: Duration, now: Timestamp) -> Duration {
    let drawn = Digest::of_texts([now.to_string().as_str(), &std::process::id().to_string()]).seed() % 201;
    time.mul_f64(0.9 + drawn as f64 / 1_000.0)
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Local { reference: None } => f.write_str("HEAD"),
            Source::Local { reference: Some(reference) } => f.write_str(reference.trim_start_matches("refs/heads/")),
            Source::Remote { branch, .. } => f.write_str(branch),
        }
    }
}

/// A commit as far as it can be used.
pub struct Seen<'w> {
    pub head: String,
    pub tree: FleetTree<'w>,
    pub loaded: Loaded,
    pub declared: Arc<Declared>,
    /// Documents with errors.
    pub held: HeldDocuments,
    /// What git calls the content of the files of imports. What is declared in the others has a digest; one of both has to differ for a
    /// reconcile.
    imported: BTreeMap<String, String>,
    /// When what it declares was first seen.
    pub seen_at: Timestamp,
    /// What is held of it and what was found was told.
    pub is_told: Cell<bool>,
}

impl<'w> Daemon<'w> {
    /// Takes up the newest commit. One whose Fleet document cannot be used is refused once and passed over.
    pub(super) fn look(&mut self, now: Timestamp) -> Result<(), OpsError> {
        let Some(head) = self.source.head(self.workspace)? else { return Ok(()) };
        if self.passed_over.as_ref() == Some(&head) {
            return Ok(());
        }
        // Whatever comes after a commit that could not be used is told, also when it is as it was before.
        self.is_due |= self.passed_over.take().is_some();
        if self.seen.as_ref().is_some_and(|seen| seen.head == head) {
            return Ok(());
        }
        let before = self.seen.as_ref().map(|seen| &seen.tree);
        let tree = self.workspace.repo.tree_after(&head, before).map_err(|error| self.no_folder(error))?;
        if let Some(seen) = &mut self.seen
            && seen.tree.tree == tree.tree
        {
            (seen.head, seen.tree) = (head, tree);
            return Ok(());
        }
        let branch = self.source.branch(self.workspace);
        let seen = match Seen::load(head, tree, (branch.as_deref(), now), &mut self.known.files)? {
            Ok(seen) => seen,
            Err((head, findings)) => {
                self.passed_over = Some(head);
                return Err(OpsError::Invalid(Box::new(findings)));
            }
        };
        let is_same = |old: &Seen<'w>| {
            let is_same = (old.loaded.digest, &old.imported) == (seen.loaded.digest, &seen.imported);
            is_same && old.held == seen.held
        };
        match &mut self.seen {
            // Only the commit is another: nothing is declared that was not before.
            Some(old) if is_same(old) => (old.head, old.tree) = (seen.head, seen.tree),
            _ => {
                self.is_due = true;
                self.awaits_answer = false;
                self.rounds.reset();
                self.seen = Some(seen);
            }
        }
        self.passed_over = None;
        Ok(())
    }
}

impl Daemon<'_> {
    /// Returns what there is to say of a commit that does not have the fleet's folder: it may come with the next one.
    fn no_folder(&self, error: RepoError) -> OpsError {
        let RepoError::NoFleetAt { revision } = error else { return error.into() };
        let folder = self.workspace.repo.prefix().trim_end_matches('/');
        let mut help = format!("Commit a {FLEET_FILE} in it");
        if self.workspace.repo.is_mirror() {
            help.push_str(", or name the fleet's folder with --path");
        }
        OpsError::NotFound { what: format!("the commit {revision} has no folder `{folder}`"), help: help + "." }
    }
}

impl<'w> Seen<'w> {
    /// The inner error: the commit, and what is wrong with its Fleet document.
    fn load(
        head: String,
        tree: FleetTree<'w>,
        (branch, seen_at): (Option<&str>, Timestamp),
        files: &mut ParsedFiles,
    ) -> Result<Result<Seen<'w>, (String, Findings)>, OpsError> {
        let ValidSubset { mut loaded, held } = load_valid_again(&tree, files);
        let is_refused = refuse_results_on(branch, &mut loaded);
        let Some(declared) = loaded.declared.take().filter(|_| !is_refused) else {
            return Ok(Err((head, findings_of(&loaded, Diagnostics::new()))));
        };
        let of_import = |file: &String| Ok((file.clone(), tree.content_id(file)?));
        let imported =
            declared.imports.values().map(|import| of_import(&import.file)).collect::<Result<_, RepoError>>()?;
        let declared = Arc::new(declared);
        Ok(Ok(Seen { head, tree, loaded, declared, held, imported, seen_at, is_told: Cell::new(false) }))
    }
}
