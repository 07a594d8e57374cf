//! The results branch and the remote that it is pushed to.
//!
//! The local branch may be ahead of the remote's: the commits between are the outbox. It is never behind for long, and
//! never diverges:
//!
//! 1. A and B share a remote whose branch is at T. Both have T.
//! 2. A commits T -> A1 and pushes: the remote moves from T to A1 (compare-and-swap).
//! 3. B commits T -> B1 and pushes: the remote refuses, because it is no longer at T.
//! 4. B fetches A1, makes B1 again on top of it, and pushes A1 -> B1'.
//!
//! What must not be done twice is pushed before it is committed here ([`ResultsBranch::commit_upstream`]), and counts
//! when the remote has it. In step 4 B then finds that A has written the file that B's change must be the first to
//! write.
//!
//! The remote's branch only grows. The last commit of the outbox is made again with the lease that is given back
//! ([`ResultsBranch::fold_upstream`]): who fetched from this repository in between has one that was replaced.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use git2::{Delta, FileMode, Oid, Sort};

mod error;
mod renewal;

pub use self::error::UpstreamError;
use self::renewal::Renewal;
pub use self::renewal::StillRenewed;

use super::remote::{Move, Remote, RemoteError};
use super::writer::Writer;
use super::{FileChange, RepoError, ResultsBranch};
use crate::model::backoff::doubled;

/// How often a change is tried on a branch that others keep moving.
const ATTEMPTS_MAX: u32 = 20;
/// A rejected push of a branch that is where it was expected is tried again this often: another push that has failed by
/// now may have had its lock.
const UNMOVED_ATTEMPTS_MAX: u32 = 5;
/// The mean of the first pause between tries. It doubles with each try, up to 64 times this. The pause is drawn from 0
/// to twice the mean, so that writers that started together do not stay together.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_millis(20 * 64);

/// Returns the files and the message of a commit on the branch as it is now; `None` when there is nothing to commit any
/// more.
pub type Still<'a> = dyn FnMut(&ResultsBranch<'_>) -> Result<Option<(Vec<FileChange>, String)>, RepoError> + 'a;

/// Returns the file that the branch beside is to have with the changes of a commit; `None` when it stays as it is.
pub type Beside<'a> = dyn Fn(&[FileChange]) -> Option<FileChange> + 'a;

/// How changes came to the remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landed {
    /// Why the branch beside was not replaced with them; `None` when it was, or was not to be.
    pub alone: Option<String>,
}

/// Writes a commit of changes and a message on top of a commit, or in its place; `None` when it would change nothing.
type Make<'a> = dyn FnMut(Oid, &[FileChange], &str) -> Result<Option<Oid>, RepoError> + 'a;

/// The branch as it is on the remote.
pub struct Tip<'a> {
    branch: &'a ResultsBranch<'a>,
    id: Oid,
}

impl Tip<'_> {
    /// Returns the bytes of a file, `None` when it is not there.
    pub fn read(&self, path: &str) -> Option<Vec<u8>> {
        let repository = self.branch.repository();
        let tree = repository.find_commit(self.id).and_then(|commit| commit.tree()).ok()?;
        let entry = tree.get_path(Path::new(path)).ok()?;
        Some(repository.find_blob(entry.id()).ok()?.content().to_vec())
    }
}

/// The commits to push. Any thread can push them, since only the git binary is needed.
#[derive(Debug, Clone)]
pub struct Outgoing {
    branch: String,
    commit: Oid,
    expected: Option<Oid>,
    fetched_reference: String,
}

/// The outcome of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The remote has the commits.
    Landed,
    /// Another writer moved the remote's branch, which was then fetched.
    Behind,
}

impl Outgoing {
    /// Pushes the commits, and fetches the branch when another writer has moved it. `attempt` counts how often that has
    /// happened.
    ///
    /// # Errors
    /// Any but [`RemoteError::Rejected`]; after a few tries [`RemoteError::Stuck`] when the branch stays where it is.
    pub fn send(&self, remote: &Remote, attempt: u32) -> Result<Sent, RemoteError> {
        let expected = self.expected.map(|id| id.to_string());
        match remote.push(&self.commit.to_string(), &self.branch, expected.as_deref()) {
            Ok(()) => Ok(Sent::Landed),
            Err(error @ RemoteError::Rejected { .. }) => {
                pause(attempt);
                let found = remote.fetch(&[(&self.branch, &self.fetched_reference)])?;
                if attempt >= UNMOVED_ATTEMPTS_MAX && found.into_iter().next().flatten() == expected {
                    return Err(remote.unmoved(error, &self.branch));
                }
                Ok(Sent::Behind)
            }
            Err(error) => Err(error),
        }
    }
}

/// The remote, and the callbacks of an exchange with it.
pub struct Exchange<'a> {
    pub remote: &'a Remote,
    /// Called with the remote's branch when both have moved. True drops the commits that the remote does not have,
    /// because another process has taken over the work.
    pub drops_own: &'a dyn Fn(&Tip<'_>) -> bool,
    /// Called before each durable local step that follows an answer of the remote.
    pub tell: &'a dyn Fn(&'static str),
}

impl ResultsBranch<'_> {
    /// Returns the last known tip of the branch on the remote; `None` when it was never seen there.
    ///
    /// # Errors
    /// The reference cannot be read.
    pub fn upstream_tip(&self) -> Result<Option<String>, RepoError> {
        Ok(self.upstream_id()?.map(|id| id.to_string()))
    }

    /// Returns the number of commits that the remote does not have.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn unpushed(&self) -> Result<usize, RepoError> {
        let Some(local) = self.local_id()? else { return Ok(0) };
        Ok(self.between(self.upstream_id()?, local)?.len())
    }

    /// As [`ResultsBranch::unpushed`], where git may have pushed or fetched the branch too: what a clone was last seen
    /// to share with its remotes is not to be pushed.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn unshared(&self) -> Result<usize, RepoError> {
        let Some(local) = self.local_id()? else { return Ok(0) };
        let fail = |e| self.error("compare the results branch with its remotes", e);
        let mut least = self.between(self.upstream_id()?, local)?.len();
        for remote in self.repository().remotes().map_err(fail)?.iter().flatten().flatten() {
            if let Some(tracked) = self.id_of(&format!("refs/remotes/{remote}/{}", self.name()))? {
                least = least.min(self.between(Some(tracked), local)?.len());
            }
        }
        Ok(least)
    }

    /// Fetches the branch of the remote and the one beside it, and updates the local one: it moves forward when it is behind, and its commits
    /// are made again on top when both have moved.
    ///
    /// # Errors
    /// The remote cannot be read, or the two cannot be brought together.
    pub fn pull(&self, exchange: &Exchange<'_>) -> Result<(), UpstreamError> {
        let beside = (self.branch_beside(), self.fetched_beside());
        exchange.remote.fetch_with(&[(self.name(), &self.fetched_reference())], Some((&beside.0, &beside.1)))?;
        self.take_fetched(exchange)
    }

    /// Does the same without fetching, from [`ResultsBranch::fetched_reference`].
    ///
    /// # Errors
    /// As [`ResultsBranch::pull`].
    pub fn take_fetched(&self, exchange: &Exchange<'_>) -> Result<(), UpstreamError> {
        let (branch, shown) = (self.name().to_string(), exchange.remote.shown());
        let (before, there) = (self.upstream_id()?, self.id_of(&self.fetched_reference())?);
        let there = match (before, there) {
            (Some(seen), None) => return Err(UpstreamError::Gone { branch, remote: shown, seen: seen.to_string() }),
            (None, None) => return Ok(()),
            (_, Some(there)) => there,
        };
        if let Some(seen) = before
            && !self.is_after(there, seen)?
        {
            return Err(UpstreamError::Rewritten { branch, remote: shown, seen: seen.to_string() });
        }
        let here = self.local_id()?;
        self.check_results(there, &format!("on the remote {shown}"))?;
        if let Some(here) = here {
            self.check_results(here, "here")?;
        }
        let next = match here {
            None => Some(there),
            Some(here) if self.is_after(here, there)? => None,
            Some(here) if self.is_after(there, here)? => Some(there),
            Some(_) if (exchange.drops_own)(&Tip { branch: self, id: there }) => Some(there),
            Some(here) => {
                let own = self.between(Some(there), here)?;
                let made = self.again(&own, there)?;
                Some(made.map_err(|path| UpstreamError::Diverged { branch, remote: shown, path })?)
            }
        };
        if let Some(next) = next {
            (exchange.tell)("take fetched");
            self.move_local(here, next)?;
        }
        if before != Some(there) {
            (exchange.tell)("note fetched");
            self.note_upstream(there)?;
        }
        Ok(())
    }

    /// Pushes the commits that the remote does not have. Returns true when there were any.
    ///
    /// # Errors
    /// The remote refuses, cannot be reached or cannot be reconciled with the local branch. The commits stay here.
    pub fn push(&self, exchange: &Exchange<'_>) -> Result<bool, UpstreamError> {
        for attempt in 0..ATTEMPTS_MAX {
            let Some(outgoing) = self.outgoing()? else { return Ok(attempt > 0) };
            let sent = outgoing.send(exchange.remote, attempt)?;
            self.take_sent(&outgoing, sent, exchange)?;
            if sent == Sent::Landed {
                return Ok(true);
            }
        }
        Err(RepoError::Contended { branch: self.name().to_string() }.into())
    }

    /// Returns the commits that the remote does not have; `None` when it has all.
    ///
    /// # Errors
    /// The branch cannot be read, or does not hold results.
    pub fn outgoing(&self) -> Result<Option<Outgoing>, UpstreamError> {
        let (Some(commit), expected) = (self.local_id()?, self.upstream_id()?) else { return Ok(None) };
        if Some(commit) == expected {
            return Ok(None);
        }
        self.check_results(commit, "here")?;
        let (branch, fetched_reference) = (self.name().to_string(), self.fetched_reference());
        Ok(Some(Outgoing { branch, commit, expected, fetched_reference }))
    }

    /// Notes the outcome of a push. The local branch may have moved on meanwhile.
    ///
    /// # Errors
    /// As [`ResultsBranch::pull`].
    pub fn take_sent(&self, outgoing: &Outgoing, sent: Sent, exchange: &Exchange<'_>) -> Result<(), UpstreamError> {
        if sent == Sent::Behind {
            return self.take_fetched(exchange);
        }
        (exchange.tell)("note pushed");
        let note = || match self.upstream_id()? {
            // A later commit was seen there meanwhile.
            Some(seen) if !self.is_after(outgoing.commit, seen)? => Ok(()),
            _ => self.note_upstream(outgoing.commit),
        };
        note().map_err(|source| UpstreamError::Unnoted { source })
    }

    /// Commits changes on the tip, on the remote first: on success the remote has the commit and everything before it.
    /// `still` returns the changes and the message, and is called again each time the branch has moved; `None` gives up
    /// without a commit. Returns false when no commit was made.
    ///
    /// # Errors
    /// [`RepoError::AlreadyWritten`] when a file that must be new is there; otherwise as [`ResultsBranch::push`]. When
    /// the error [is open](UpstreamError::is_open) the remote may have the commit all the same, and a later pull brings
    /// it.
    pub fn commit_upstream(&self, exchange: &Exchange<'_>, still: &mut Still<'_>) -> Result<bool, UpstreamError> {
        let mut on_top = |here, changes: &[FileChange], message: &str| self.commit_on(here, changes, message);
        Ok(self.make_upstream(exchange, still, &mut on_top, &|_| None)?.is_some())
    }

    /// Does the same, and replaces the branch beside in the same push when `beside` says with what: the remote moves
    /// both or none. Where it takes no branch beside, the commit goes alone. Returns `None` when no commit was made.
    ///
    /// # Errors
    /// As [`ResultsBranch::commit_upstream`].
    pub fn commit_both(
        &self,
        exchange: &Exchange<'_>,
        still: &mut Still<'_>,
        beside: &Beside<'_>,
    ) -> Result<Option<Landed>, UpstreamError> {
        let mut on_top = |here, changes: &[FileChange], message: &str| self.commit_on(here, changes, message);
        self.make_upstream(exchange, still, &mut on_top, beside)
    }

    /// Does the same and makes no commit of its own while there is one that the remote does not have: the changes go
    /// into that one, in whose place the branch here then has it with them. A process that dies before the branch has
    /// it makes the old one again at the next pull, on top of the new one, and there is nothing left of it then.
    ///
    /// # Errors
    /// As [`ResultsBranch::commit_upstream`].
    pub fn fold_upstream(&self, exchange: &Exchange<'_>, still: &mut Still<'_>) -> Result<bool, UpstreamError> {
        let mut into_tip = |here: Oid, changes: &[FileChange], message: &str| {
            let has_own = match self.upstream_id()? {
                Some(there) => there != here && self.is_after(here, there)?,
                None => false,
            };
            let folded = if has_own { self.commit_in_place(here, changes)? } else { None };
            folded.map_or_else(|| self.commit_on(here, changes, message), |commit| Ok(Some(commit)))
        };
        Ok(self.make_upstream(exchange, still, &mut into_tip, &|_| None)?.is_some())
    }

    fn make_upstream(
        &self,
        exchange: &Exchange<'_>,
        still: &mut Still<'_>,
        make: &mut Make<'_>,
        beside: &Beside<'_>,
    ) -> Result<Option<Landed>, UpstreamError> {
        let mut alone = None;
        for attempt in 0..ATTEMPTS_MAX {
            let Some((changes, message)) = still(self)? else { return Ok(None) };
            let here = self.local_id()?.ok_or_else(|| RepoError::Gone { branch: self.name().to_string() })?;
            let there = self.upstream_id()?.map(|id| id.to_string());
            self.check_results(here, "here")?;
            let Some(commit) = make(here, &changes, &message)? else { return Ok(None) };
            let renewal = beside(&changes).filter(|_| alone.is_none());
            let renewal = renewal.map(|file| self.renewal(exchange, &file, &message)).transpose();
            let (renewal, pushed) = match renewal {
                Ok(renewal) => {
                    let pushed = self.push_made(exchange, &commit.to_string(), there.as_deref(), renewal.as_ref());
                    (renewal, pushed)
                }
                Err(UpstreamError::Remote(error)) => (None, Err(error)),
                Err(error) => return Err(error),
            };
            match pushed {
                Ok(()) => {
                    (exchange.tell)("take pushed");
                    let noted = self.move_local(Some(here), commit).and_then(|()| {
                        (exchange.tell)("note pushed");
                        renewal.iter().try_for_each(|renewal| self.note_renewal(renewal))?;
                        self.note_upstream(commit)
                    });
                    return noted.map(|()| Some(Landed { alone })).map_err(|source| UpstreamError::Unnoted { source });
                }
                Err(RemoteError::Alone { message, .. }) => alone = Some(message),
                Err(RemoteError::Rejected { remote, branch, message }) => {
                    pause(attempt);
                    self.pull(exchange)?;
                    if attempt < UNMOVED_ATTEMPTS_MAX || self.upstream_tip()? != there {
                        continue;
                    }
                    match renewal {
                        None => {
                            let error = RemoteError::Rejected { remote, branch, message };
                            return Err(exchange.remote.unmoved(error, self.name()).into());
                        }
                        // It may be in the way.
                        Some(renewal) if self.is_unmoved(&renewal)? => alone = Some(message),
                        Some(_) => {}
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RepoError::Contended { branch: self.name().to_string() }.into())
    }

    fn push_made(
        &self,
        exchange: &Exchange<'_>,
        commit: &str,
        expected: Option<&str>,
        renewal: Option<&Renewal>,
    ) -> Result<(), RemoteError> {
        match renewal {
            Some(renewal) => {
                exchange.remote.push_both(&Move { branch: self.name(), commit, expected }, &renewal.as_move())
            }
            None => exchange.remote.push(commit, self.name(), expected),
        }
    }

    /// Refuses a branch that does not hold results: fleetform must not push or move it.
    fn check_results(&self, commit: Oid, place: &str) -> Result<(), UpstreamError> {
        match (Tip { branch: self, id: commit }).read("fleet.json") {
            Some(_) => Ok(()),
            None => Err(UpstreamError::NotResults { branch: self.name().to_string(), place: place.to_string() }),
        }
    }

    /// Returns the name of the local reference that a fetch of the branch goes to.
    pub fn fetched_reference(&self) -> String {
        format!("refs/fleetform/fetched/{}", self.name())
    }

    fn upstream_reference(&self) -> String {
        format!("refs/fleetform/upstream/{}", self.name())
    }

    fn upstream_id(&self) -> Result<Option<Oid>, RepoError> {
        self.id_of(&self.upstream_reference())
    }

    fn id_of(&self, reference: &str) -> Result<Option<Oid>, RepoError> {
        match self.repository().refname_to_id(reference) {
            Ok(id) => Ok(Some(id)),
            Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
            Err(error) => Err(self.error("read the results branch", error)),
        }
    }

    fn note_upstream(&self, id: Oid) -> Result<(), RepoError> {
        self.note(&self.upstream_reference(), id)
    }

    /// Notes where a branch of the remote is.
    fn note(&self, reference: &str, id: Oid) -> Result<(), RepoError> {
        let _mark = Writer::own(self.repository().commondir(), reference);
        let moved = self.repository().reference(reference, id, true, "seen on the remote");
        moved.map(drop).map_err(|e| self.error("note where the remote is", e))
    }

    fn is_after(&self, commit: Oid, before: Oid) -> Result<bool, RepoError> {
        let fail = |e| self.error("read the history of results", e);
        Ok(commit == before || self.repository().graph_descendant_of(commit, before).map_err(fail)?)
    }

    /// Returns the commits between two commits, the oldest first.
    fn between(&self, after: Option<Oid>, to: Oid) -> Result<Vec<Oid>, RepoError> {
        let list = || {
            let mut walk = self.repository().revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
            walk.push(to)?;
            if let Some(after) = after {
                walk.hide(after)?;
            }
            walk.collect::<Result<Vec<Oid>, git2::Error>>()
        };
        list().map_err(|e| self.error("read the history of results", e))
    }

    /// Makes commits again on top of `onto`; the inner error is the path of a claim that exists there with other
    /// content.
    fn again(&self, commits: &[Oid], onto: Oid) -> Result<Result<Oid, String>, RepoError> {
        let fail = |e| self.error("write results", e);
        self.check_owner(onto, &[])?;
        let repository = self.repository();
        let mut tip = onto;
        for id in commits {
            let commit = repository.find_commit(*id).map_err(fail)?;
            let before = commit.parent(0).ok().map(|parent| parent.tree()).transpose().map_err(fail)?;
            let parent = repository.find_commit(tip).map_err(fail)?;
            let base = parent.tree().map_err(fail)?;
            let tree = commit.tree().map_err(fail)?;
            let diff = repository.diff_tree_to_tree(before.as_ref(), Some(&tree), None).map_err(fail)?;
            let mut changes: BTreeMap<&Path, Oid> = BTreeMap::new();
            for delta in diff.deltas().filter(|delta| matches!(delta.status(), Delta::Added | Delta::Modified)) {
                changes.extend(delta.new_file().path().map(|path| (path, delta.new_file().id())));
            }
            let mut update = git2::build::TreeUpdateBuilder::new();
            for (path, blob) in changes {
                let there = base.get_path(path).ok().map(|entry| entry.id());
                let must_be_first = path.starts_with("claims") || path == Path::new("fleet.json");
                if must_be_first && there.is_some_and(|there| there != blob) {
                    return Ok(Err(path.display().to_string()));
                }
                update.upsert(path, blob, FileMode::Blob);
            }
            let after = update.create_updated(repository, &base).map_err(fail)?;
            if after == base.id() {
                continue;
            }
            let made = repository.find_tree(after).map_err(fail)?;
            let message = commit.message().unwrap_or_default();
            let (author, committer) = (commit.author(), commit.committer());
            tip = self.write_commit((&author, &committer), message, &made, &[&parent]).map_err(fail)?;
        }
        Ok(Ok(tip))
    }
}

/// Waits before the next attempt, so that writers that collided do not collide again.
fn pause(attempt: u32) {
    let mut drawn = [0; 2];
    // Without randomness every writer waits for the mean, which is no worse than a bad draw.
    let share = getrandom::fill(&mut drawn).map_or(0.5, |()| f64::from(u16::from_le_bytes(drawn)) / 65_536.0);
    std::thread::sleep(doubled(PAUSE, attempt, PAUSE_MAX).mul_f64(2.0 * share));
}
