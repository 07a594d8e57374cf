//! Where the declared files come from: a branch of the repository itself, or of a remote that is fetched beside what
//! runs.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use super::notes::Note;
use super::options::{RemoteSource, WatchOptions};
use super::start::{addressed, hopeless};
use crate::execute::{Waker, Wakeup};
use crate::model::digest::Digest;
use crate::model::text::sanitize_line;
use crate::ops::{OpsError, Workspace};
use crate::reconcile::Backoff;
use crate::repo::{Call, MIRRORED, Remote, UpstreamError, source_reference, without_secrets};

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
    /// Goes on beside what runs: a remote that does not answer delays no device.
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
    /// Returns true when the files come from the repository itself: every look is as good as a fetch.
    pub fn is_local(&self) -> bool {
        matches!(self, Source::Local { .. })
    }

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
    pub fn branch(&self, workspace: &Workspace) -> Option<String> {
        match self {
            Source::Local { reference: None } => workspace.repo.head_branch(),
            Source::Local { reference: Some(_) } | Source::Remote { .. } => Some(self.to_string()),
        }
    }

    /// Returns the newest commit that is here; `None` when none was fetched yet.
    pub fn head(&self, workspace: &Workspace) -> Result<Option<String>, OpsError> {
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
