//! The remote that results go to: who may work, what was claimed, what is still to be pushed.
//!
//! With a remote, the branch here is a mirror with an outbox. A round begins with a pull. Work begins with the lease,
//! whose commit also decides about a push that was cut off before: whatever had not landed until then never will, for
//! the branch has moved on. A claim counts when the remote has it. Everything else is committed here and pushed when
//! the remote can be reached.
//!
//! The registry's lock and the lease say the same of one machine, and are brought together in two cases:
//!
//! - *The lease of a process that died.* A process that takes the lock learns from its file which ones had it before,
//!   by the names that are on leases too. A lease of such a one ends at once: it was at work on this very registry, and
//!   is not any more, whether it died, was rebooted or lost its work to an error. Nothing else ends a lease before its
//!   time: neither a process number that is not alive (it may be one of another container) nor a host's name (which may
//!   not be the only one).
//! - *The lock of a process that stands still.* When it is held by the very one whose lease has run out, a daemon goes
//!   on without it: it takes over the lease, and the fence of the registry refuses what the other one writes when it
//!   wakes up.

use std::cell::Cell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use jiff::Timestamp;

mod beside;
mod renewal;

use beside::Beside;

use super::backoff::Backoff;
use super::{ReconcileError, ReconcileOptions};
use crate::execute::{CrashPoints, Waker, Wakeup, writer};
use crate::ledger::{LEASE_PATH, Lease, Sighting};
use crate::model::fleet::Fleet;
use crate::model::status::Attempts;
use crate::prepare::{lease_of, lease_on};
use crate::registry::{Exclusive, Registry, RegistryError};
use crate::repo::{
    Exchange, FLEET_JSON, FileChange, MIRRORED, Owner, Remote, RemoteError, Repo, RepoError, ResultsBranch, Tip,
    UpstreamError,
};
use crate::results::{Trailers, document, with_trailers};

/// How long the end of an apply tries to push what is left, in tries.
const LAST_PUSHES: u32 = 3;
const LAST_PAUSE: Duration = Duration::from_millis(300);
/// The least time that a call of the remote has when the process is to end.
pub(super) const HURRY_MIN: Duration = Duration::from_secs(5);

/// The remote of the results branch, for as long as a process works with it.
pub struct Upstream {
    pub remote: Remote,
    name: String,
    /// The name of this process: `host/process/random`.
    owner: String,
    /// The registry that it works with, and whether it takes over from another; `None` before that is known.
    registry: Option<(Owner, bool)>,
    /// How long a lease lasts that is not renewed.
    lease_time: Duration,
    /// Ours, while there is work.
    lease: Option<Lease>,
    /// The last lease of another process that was seen.
    sighting: Sighting,
    taken_at: Timestamp,
    /// Why leases are renewed by commits of the results branch; `None` while the branch beside it serves.
    alone: Option<String>,
    /// The same, when it is news.
    alone_news: Option<String>,
    /// The lock of the registry, while this process has it: the leases of those who had it before count no more.
    lock: Option<Weak<dyn Exclusive>>,
    /// Who has the lock of the registry and stands still: the work was taken over from it.
    overruled: Option<String>,
    /// Calls that go on while devices do.
    beside: Beside,
    /// Pauses between pushes that fail.
    backoff: Backoff,
    /// Why the last push failed; `None` when nothing is in the way.
    pub failure: Option<String>,
    /// It was a refusal: a person has to act.
    pub is_denied: bool,
    /// Pushes that landed and that failed, from the start of the process.
    pub pushes: Attempts,
    /// How long each call may take now that the process is to end; `None` before.
    hurry: Option<Duration>,
    /// Told when a call has ended that was not waited for.
    waker: Waker,
    /// Where the process may die.
    crash: CrashPoints,
}

impl Upstream {
    /// Returns the remote that the results of a fleet go to, for a process that begins now; `None` when they stay in
    /// the repository.
    ///
    /// # Errors
    /// The repository has no such remote.
    pub fn of(
        repo: &Repo,
        fleet: &Fleet,
        (owner, options): (&str, &ReconcileOptions),
        waker: &Waker,
        now: Timestamp,
    ) -> Result<Option<Upstream>, ReconcileError> {
        let Some(name) = name_of(repo, fleet) else { return Ok(None) };
        if !repo.has_remote(name) {
            // git takes a name that it does not know for a path, and a commit can bring one.
            return Err(ReconcileError::Held {
                what: format!(
                    "the results of this fleet go to the remote `{name}`, and this repository has none of that name"
                ),
                help: format!("Configure it here: `git remote add {name} ADDRESS`."),
            });
        }
        let mut remote = Remote::new(repo.git_folder(), name);
        if let Some(time) = options.remote_time_max {
            remote = remote.with_time_max(time);
        }
        Ok(Some(Upstream {
            remote: remote.with_pulse(options.pulse.clone()),
            name: name.to_string(),
            owner: owner.to_string(),
            registry: None,
            lease_time: options.lease_time,
            lease: None,
            sighting: Sighting::default(),
            taken_at: now,
            alone: None,
            alone_news: None,
            lock: None,
            overruled: None,
            beside: Beside::default(),
            backoff: Backoff::new(now),
            failure: None,
            is_denied: false,
            pushes: Attempts::default(),
            hurry: None,
            waker: waker.clone(),
            crash: options.ports.crash.clone(),
        }))
    }

    /// Names the registry that this process works with: the first lease writes it into a branch that has none.
    pub fn works_with(&mut self, registry: &Owner, takes_over: bool) {
        self.registry = Some((registry.clone(), takes_over));
    }

    /// Returns true when the results of a fleet go to this remote.
    pub fn is_of(&self, repo: &Repo, fleet: &Fleet) -> bool {
        name_of(repo, fleet) == Some(self.name.as_str())
    }

    /// Returns the lease, while there is work.
    pub fn lease(&self) -> Option<&Lease> {
        self.lease.as_ref()
    }

    /// Gives no call more time than this from now on: the process is to end, and what is not pushed is for the next
    /// one.
    pub fn hurry(&mut self, time_max: Duration) {
        if self.hurry.is_none() {
            self.hurry = Some(time_max);
            self.remote = self.remote.clone().with_time_at_most(time_max);
        }
    }

    /// Notes that this process has the lock of the registry.
    pub fn take_lock(&mut self, lock: &Rc<dyn Exclusive>) {
        self.lock = Some(Rc::downgrade(lock));
        self.overruled = None;
    }

    /// Returns true when the work can be taken over although another process has the lock of the registry: its lease
    /// has run out, so it stands still or cannot reach the remote, and what it writes from now on is refused.
    ///
    /// # Errors
    /// The remote cannot be reached, or its branch cannot be brought together with the one here.
    pub fn overrules(
        &mut self,
        holder: Option<&str>,
        branch: &ResultsBranch<'_>,
        now: Timestamp,
    ) -> Result<bool, ReconcileError> {
        let Some(holder) = holder else { return Ok(false) };
        let pulled = self.pull(branch);
        self.note(pulled.as_ref().err());
        pulled?;
        let there = lease_on(branch)?.map(|lease| self.sighting.of(lease, now));
        let has_run_out = there.is_some_and(|lease| lease.owner == holder && lease.has_run_out(now));
        if has_run_out && holder != self.owner {
            self.overruled = Some(holder.to_string());
        }
        Ok(self.overruled.as_deref() == Some(holder))
    }

    /// Brings the branch here up to the remote's.
    ///
    /// # Errors
    /// The remote cannot be reached, or its branch cannot be brought together with the one here.
    pub fn pull(&mut self, branch: &ResultsBranch<'_>) -> Result<(), ReconcileError> {
        self.settle(branch)?;
        Ok(self.exchange(branch, |exchange| branch.pull(exchange))?)
    }

    /// Brings the two up to each other.
    ///
    /// # Errors
    /// As [`Upstream::pull`]; the remote refuses what is only here.
    pub fn sync(&mut self, branch: &ResultsBranch<'_>) -> Result<(), ReconcileError> {
        let pulled = self.pull(branch);
        let synced = pulled.and_then(|()| Ok(self.push(branch)?));
        self.note(synced.as_ref().err());
        synced
    }

    /// Takes the right to work, or makes it last, with a commit; the branch has to be pulled before.
    ///
    /// # Errors
    /// Another process has it; the remote refuses or cannot be reached.
    pub fn acquire(
        &mut self,
        branch: &ResultsBranch<'_>,
        registry: &mut Registry,
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        let acquired = self.take(branch, registry, now);
        self.note_lost(acquired)
    }

    /// Notes how it went to take or renew the lease: one that another process has is not ours.
    fn note_lost(&mut self, acquired: Result<(), ReconcileError>) -> Result<(), ReconcileError> {
        self.note(acquired.as_ref().err());
        if matches!(
            acquired,
            Err(ReconcileError::AtWork { .. } | ReconcileError::Registry(RegistryError::Fenced { .. }))
        ) {
            self.lease = None;
        }
        acquired
    }

    fn take(
        &mut self,
        branch: &ResultsBranch<'_>,
        registry: &mut Registry,
        now: Timestamp,
    ) -> Result<(), ReconcileError> {
        self.settle(branch)?;
        let (owner, time, lock) = (self.owner.clone(), self.lease_time, self.lock.as_ref().and_then(Weak::upgrade));
        let gone = lock.as_ref().map_or_else(Vec::new, |lock| lock.former());
        let noted = registry.noted_epoch()?;
        let (mut taken, mut holder, mut sighting) = (None, None, self.sighting.clone());
        let (registry_of, mut stranger) = (self.registry.clone(), None);
        let own = self.lease.as_ref().map(|lease| lease.epoch);
        let takes_over = Cell::new(false);
        let mut still = |branch: &ResultsBranch<'_>| {
            let there = lease_on(branch)?;
            let is_own = there.as_ref().is_some_and(|lease| lease.owner == owner);
            // What is held is only made to last: when it has changed hands since, it is not taken back from under
            // the process that has it.
            let has_changed_hands =
                own.is_some() && there.as_ref().is_none_or(|lease| !is_own || Some(lease.epoch) != own);
            if has_changed_hands {
                holder = there.or_else(|| Some(Lease { owner: String::new(), epoch: 0, until: now, time }));
                return Ok(None);
            }
            if let Some(other) = there.as_ref().filter(|lease| !is_own && !gone.contains(&lease.owner))
                && let other = sighting.of(other.clone(), now)
                && other.is_live(now)
            {
                holder = Some(other);
                return Ok(None);
            }
            // It may be renewed as it is taken: one of the two has to fail.
            takes_over.set(!is_own && there.as_ref().is_some_and(|lease| !lease.owner.is_empty()));
            let mut lease = Lease::after(there.as_ref(), &owner, now, time);
            if !is_own {
                // The registry may know of more than a branch that was published again.
                lease.epoch = lease.epoch.max(noted + 1);
            }
            let (mut changes, subject) = (vec![lease_file(&lease)], format!("lease {}: {}", lease.epoch, lease.owner));
            match bound(branch, registry_of.as_ref())? {
                Bound::Other(other) => {
                    stranger = Some(other);
                    return Ok(None);
                }
                Bound::Own => {}
                Bound::Now(change) => changes.push(*change),
            }
            taken = Some(lease);
            Ok(Some((changes, with_trailers(&subject, &Trailers { writer: &writer(), ..Trailers::default() }))))
        };
        let is_alone = self.alone.is_some();
        let beside = |changes: &[FileChange]| {
            let lease = changes.iter().find(|change| change.path == LEASE_PATH);
            lease.filter(|_| takes_over.get() && !is_alone).cloned()
        };
        let take = || self.exchange(branch, |exchange| branch.commit_both(exchange, &mut still, &beside));
        let committed = self.crash.around("take lease", take);
        self.sighting = sighting;
        if !matches!(committed, Ok(None)) {
            self.pushes.count(committed.is_ok());
        }
        committed?.and_then(|landed| landed.alone).into_iter().for_each(|why| self.stay_alone(why));
        if let Some(lease) = holder {
            return Err(if own.is_some() { changed_hands(&lease) } else { works_on(&lease) });
        }
        if let Some(Owner { registry, host }) = stranger {
            return Err(RepoError::NotOwner { branch: branch.name().to_string(), registry, host }.into());
        }
        let lease = taken.expect("a lease that nobody else has was taken");
        registry.enter_epoch(lease.epoch)?;
        if let Some(lock) = lock {
            self.crash.around("forget former", || lock.forget_former())?;
        }
        (self.lease, self.taken_at) = (Some(lease), now);
        Ok(())
    }

    /// Ends the work: pushes everything, then gives the lease back. Without the remote both stay as they are: the lease
    /// runs out.
    ///
    /// # Errors
    /// The remote refuses or cannot be reached; what is not pushed stays in the branch here.
    pub fn finish(&mut self, branch: &ResultsBranch<'_>, now: Timestamp) -> Result<(), ReconcileError> {
        self.settle(branch)?;
        // One that was forgotten, or could not be given back before, is on the branch still.
        let on_branch =
            || Ok::<_, ReconcileError>(lease_of(branch.read(LEASE_PATH)?)?.filter(|there| there.owner == self.owner));
        let Some(lease) = self.lease.take().map_or_else(on_branch, |lease| Ok(Some(lease)))? else { return Ok(()) };
        let released = lease.released(now);
        let mut still = |branch: &ResultsBranch<'_>| {
            // A process that has taken it over keeps it.
            if lease_of(branch.read(LEASE_PATH)?)?.is_none_or(|there| there.owner != lease.owner) {
                return Ok(None);
            }
            let subject = format!("lease {}: released", released.epoch);
            let message = with_trailers(&subject, &Trailers { writer: &writer(), ..Trailers::default() });
            Ok(Some((vec![lease_file(&released)], message)))
        };
        // With what is pushed last: that the work is over is no news of its own.
        let release = || self.exchange(branch, |exchange| branch.fold_upstream(exchange, &mut still));
        let finished = self.crash.around("release lease", release);
        if !matches!(finished, Ok(false)) {
            self.pushes.count(finished.is_ok());
        }
        let finished = finished.map(drop).map_err(ReconcileError::from);
        self.note(finished.as_ref().err());
        finished
    }

    /// Does the same for a process that ends: tries a few times.
    ///
    /// # Errors
    /// As [`Upstream::finish`], after the last try.
    fn finish_for_good(&mut self, branch: &ResultsBranch<'_>, now: Timestamp) -> Result<(), ReconcileError> {
        let lease = self.lease.clone();
        for attempt in 1..=LAST_PUSHES {
            self.lease.clone_from(&lease);
            match self.finish(branch, now) {
                Err(error) if attempt == LAST_PUSHES => return Err(error),
                Err(_) => std::thread::sleep(LAST_PAUSE),
                Ok(()) => break,
            }
        }
        // Without a lease there was no work, but there may be an outbox of a former process.
        if branch.unpushed()? > 0 { Ok(self.push(branch)?) } else { Ok(()) }
    }

    /// Ends the work of a process that ends itself, and says how much of it could not be pushed.
    ///
    /// # Errors
    /// As [`Upstream::finish`], after the last try; [`ReconcileError::Unpushed`] when results are left here.
    pub fn close(&mut self, branch: &ResultsBranch<'_>, now: Timestamp) -> Result<(), ReconcileError> {
        match self.finish_for_good(branch, now) {
            // The remote has it: only here it is not known.
            Err(error @ ReconcileError::Upstream(UpstreamError::Unnoted { .. })) => Err(error),
            Err(ReconcileError::Upstream(source)) => match branch.unpushed()? {
                0 => Err(source.into()),
                commits => Err(ReconcileError::Unpushed { commits, source }),
            },
            other => other,
        }
    }

    /// Notes how a call of the remote went.
    pub(super) fn note(&mut self, failure: Option<&ReconcileError>) {
        let failure = failure.filter(|error| matches!(error, ReconcileError::Upstream(_)));
        self.failure = failure.map(ToString::to_string);
        self.is_denied =
            matches!(failure, Some(ReconcileError::Upstream(UpstreamError::Remote(RemoteError::Denied { .. }))));
    }

    fn push(&mut self, branch: &ResultsBranch<'_>) -> Result<(), UpstreamError> {
        let pushed = self.crash.around("push", || self.exchange(branch, |exchange| branch.push(exchange)));
        if !matches!(pushed, Ok(false)) {
            self.pushes.count(pushed.is_ok());
        }
        pushed.map(drop)
    }

    /// Does something with the branch and the remote.
    pub(super) fn exchange<T>(&self, branch: &ResultsBranch<'_>, work: impl FnOnce(&Exchange<'_>) -> T) -> T {
        let (drops_own, tell) = (|tip: &Tip<'_>| is_superseded(branch, tip), |step| self.crash.pass(step));
        work(&Exchange { remote: &self.remote, drops_own: &drops_own, tell: &tell })
    }

    /// Forgets the lease without giving it back: the work was cut off, and whatever comes next begins with a look at
    /// who has it now.
    pub fn forget(&mut self) {
        self.lease = None;
    }

    /// Returns true when a branch says that this process has the right to work.
    pub(super) fn is_holder(&self, branch: &ResultsBranch<'_>) -> Result<bool, RepoError> {
        Ok(lease_of(branch.read(LEASE_PATH)?)?.is_some_and(|lease| lease.owner == self.owner))
    }
}

fn changed_hands(now: &Lease) -> ReconcileError {
    ReconcileError::AtWork {
        what: format!("the right to work has changed hands: epoch {} has begun", now.epoch),
        help: "Nothing is lost: whoever has it goes on from what the registry knows.".to_string(),
    }
}

fn works_on(lease: &Lease) -> ReconcileError {
    ReconcileError::AtWork {
        what: format!("{} works on this fleet until {} at least", lease.owner, lease.until),
        help: "Wait until it is done: its right to work ends then unless it makes it last.".to_string(),
    }
}

/// Whether a branch names a registry.
enum Bound {
    Own,
    Other(Owner),
    /// With this file it does.
    Now(Box<FileChange>),
}

fn bound(branch: &ResultsBranch<'_>, registry: Option<&(Owner, bool)>) -> Result<Bound, RepoError> {
    let Some((own, takes_over)) = registry else { return Ok(Bound::Own) };
    match branch.owner()? {
        Some(there) if there.registry == own.registry => return Ok(Bound::Own),
        Some(there) if !takes_over => return Ok(Bound::Other(there)),
        Some(_) | None => {}
    }
    Ok(own.written_into(branch.read(FLEET_JSON)?).map_or(Bound::Own, |change| Bound::Now(Box::new(change))))
}

/// Returns true when what is only here was committed in a lease that has changed hands since: the process that took it
/// over has gone on from what the registry knows, which is all of it.
fn is_superseded(branch: &ResultsBranch<'_>, tip: &Tip<'_>) -> bool {
    let epoch = |bytes: Option<Vec<u8>>| lease_of(bytes).ok().flatten().map_or(0, |lease| lease.epoch);
    epoch(tip.read(LEASE_PATH)) > epoch(branch.read(LEASE_PATH).ok().flatten())
}

/// Returns the name of the remote that the results of a fleet go to: of a mirror the one that it mirrors, unless the
/// fleet names another.
fn name_of<'a>(repo: &Repo, fleet: &'a Fleet) -> Option<&'a str> {
    fleet.results.remote.as_deref().or(repo.is_mirror().then_some(MIRRORED))
}

fn lease_file(lease: &Lease) -> FileChange {
    FileChange::bytes(LEASE_PATH, document(&lease.to_json()))
}
