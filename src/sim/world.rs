//! A fleet's repository, registry and devices in a folder, and an `apply` that can be made to fail. Uses git2 for what
//! people do with git and fleetform never does: rewinding, and reading the log.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::relay::relayed;
use super::remote::{BareRemote, RemoteFault};
use super::{BRANCH, FLEET, Faults, Relay, SimClock, dying_in_doubt};
use crate::execute::{Clock as _, Died, Inbox, Progress, Waker};
use crate::ledger::LEASE_TIME;
use crate::ops::apply::{Applied, ApplyOptions, apply};
use crate::ops::watch::{Note, WatchOptions, watch};
use crate::ops::{Environment, OpsError, Trust};
use crate::registry::{Registry, sqlite};
use crate::repo::Repo;

/// The journal of the simulated devices, in the fleet's folder.
pub(super) const JOURNAL: &str = "devices.jsonl";
/// An apply that passes this many crash points loops for ever: the largest world needs some thousands.
const PLACES_MAX: u64 = 100_000;
/// The same for a daemon, which looks for devices each second for some days.
const DAEMON_PLACES_MAX: u64 = 1_000_000;

/// The longest time between two looks of a daemon.
const LOOK_INTERVAL: Duration = Duration::from_secs(30);

/// How often a daemon finds the branch locked before the other program unlocks it.
const LOCKED_TRIES: u64 = 4;
/// A daemon that looks this often while no time passes loops for ever.
const LOOKS_MAX: u32 = 1_000;
/// After this time the lease of a dead process has run out, by any clock of a world.
const REST_TIME: Duration = Duration::from_secs(900);

/// Bytes by path.
pub type WorldFiles = BTreeMap<String, Vec<u8>>;

/// How an apply ended.
#[derive(Debug)]
pub enum Ended {
    Applied(Box<Applied>),
    Refused(Box<OpsError>),
    /// A daemon was asked to end, and did. `looked_at` is the time of its last look; `troubles` counts its failed
    /// tries.
    Watched {
        looked_at: Option<Timestamp>,
        troubles: u64,
    },
    /// The process died at a place.
    Died(&'static str),
    /// A bug: an assertion failed, or the process looped for ever.
    Panicked(String),
}

/// The world of one seed.
pub struct World {
    /// Clones of the fleet's repository. They share the registry of the first, where people commit. One clone without a
    /// remote.
    pub(super) sites: Vec<PathBuf>,
    /// The site where commands run.
    site: usize,
    pub clock: SimClock,
    /// The remote that results go to.
    pub(super) remote: Option<BareRemote>,
    /// How long the lease of an apply lasts, with a remote.
    pub lease_time: Duration,
    /// The broker between fleetform and its devices; `None` when they speak directly.
    pub relay: Option<Rc<RefCell<Relay>>>,
}

impl World {
    /// Returns a repository with a results branch and a fleet document in an empty folder.
    ///
    /// # Panics
    /// When the folder cannot be written: a world without a place to be cannot go on.
    pub fn new(folder: &Path) -> World {
        let sites = vec![folder.to_path_buf()];
        let world =
            World { sites, site: 0, clock: SimClock::default(), remote: None, lease_time: LEASE_TIME, relay: None };
        Repo::open_or_init(folder).expect("a repository can be made");
        world.write(".gitignore", &format!(".fleetform/\n{JOURNAL}\n"));
        let fleet = format!("apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {{name: {FLEET}}}\nspec: {{}}\n");
        world.write("fleetform.yaml", &fleet);
        world.commit(&[".gitignore".to_string(), "fleetform.yaml".to_string()]);
        crate::ops::init::init(folder, crate::ops::init::InitOptions::default()).expect("a results branch can be made");
        world
    }

    /// Returns the same world with two sites whose results go to a bare repository beside them.
    ///
    /// # Panics
    /// As [`World::new`].
    pub fn with_remote(folder: &Path) -> World {
        let (one, two) = (folder.join("a"), folder.join("b"));
        std::fs::create_dir_all(&one).expect("a folder can be made");
        let mut world = World::new(&one);
        let remote = BareRemote::new(folder.join("remote.git"));
        Repo::open_or_init(&two).expect("a repository can be made");
        for site in [&one, &two] {
            remote.add_to(site);
        }
        std::os::unix::fs::symlink(one.join(JOURNAL), two.join(JOURNAL)).expect("a link can be made");
        world.sites.push(two);
        world.remote = Some(remote);
        world.spread();
        world
    }

    /// Returns how many sites there are.
    pub fn sites(&self) -> usize {
        self.sites.len()
    }

    /// Runs later commands in a site, counted from 0.
    pub fn go_to(&mut self, site: usize) {
        self.site = site;
    }

    /// Copies the commits of people to the other sites.
    fn spread(&self) {
        let (first, others) = self.sites.split_first().expect("there is a site");
        let to = |site: &PathBuf| {
            let repository = git2::Repository::open(site)?;
            let mut from = repository.remote_anonymous(&first.to_string_lossy())?;
            from.fetch(&["+HEAD:refs/people"], None, None)?;
            let head = repository.find_reference("refs/people")?.peel_to_commit()?;
            if repository.head().is_err() {
                repository.reference("refs/heads/main", head.id(), true, "people")?;
                repository.set_head("refs/heads/main")?;
            }
            repository.reset(head.as_object(), git2::ResetType::Hard, None)
        };
        others.iter().try_for_each(to).unwrap_or_else(|error: git2::Error| panic!("people can fetch: {error}"));
    }

    pub(super) fn folder(&self) -> &Path {
        &self.sites[self.site]
    }

    /// Returns the path of the registry of all sites.
    fn registry_path(&self) -> PathBuf {
        self.sites[0].join(".fleetform/fleet.db")
    }

    /// Writes a file of the work tree.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.sites[0].join(path);
        let parent = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(parent).expect("a folder can be made");
        std::fs::write(path, text).expect("a file can be written");
    }

    /// Removes a file of the work tree.
    ///
    /// # Panics
    /// When it cannot be removed.
    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.sites[0].join(path)).expect("a file can be removed");
    }

    /// Commits files that were written or removed.
    ///
    /// # Panics
    /// When the repository cannot be written.
    pub fn commit(&self, paths: &[String]) {
        let repo = Repo::open(&self.sites[0]).expect("the repository is there");
        repo.commit_files(paths, "people").expect("a person can commit");
        self.spread();
    }

    /// Deletes the registry.
    pub fn delete_registry(&self) {
        for name in ["fleet.db", "fleet.db-wal", "fleet.db-shm"] {
            drop(std::fs::remove_file(self.sites[0].join(".fleetform").join(name)));
        }
    }

    /// Returns a copy of the registry as it is on the disk, as a backup makes it.
    pub fn back_up_registry(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let files = ["fleet.db", "fleet.db-wal"].map(|name| self.sites[0].join(".fleetform").join(name));
        files.into_iter().filter_map(|file| Some((file.clone(), std::fs::read(&file).ok()?))).collect()
    }

    /// Puts a copy in the place of the registry.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn put_back_registry(&self, backup: &[(PathBuf, Vec<u8>)]) {
        self.delete_registry();
        for (file, bytes) in backup {
            std::fs::write(file, bytes).expect("a file can be put back");
        }
    }

    /// Deletes the results branch, as `git branch -D` does.
    ///
    /// # Panics
    /// When there is none.
    pub fn delete_branch(&self) {
        let git = self.folder().join(".git");
        std::fs::remove_file(git.join("refs/heads").join(BRANCH)).expect("the branch is there");
        drop(std::fs::remove_file(git.join("logs/refs/heads").join(BRANCH)));
    }

    /// Returns the commit that people made last.
    ///
    /// # Panics
    /// When the repository cannot be read.
    pub fn head(&self) -> String {
        let repo = Repo::open(&self.sites[0]).expect("the repository is there");
        repo.head().expect("people have committed")
    }

    /// Returns the registry, read only.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn registry(&self) -> Result<Registry, OpsError> {
        Ok(sqlite::open_for_reading(&self.registry_path(), FLEET)?)
    }

    /// Returns the tip of the results branch and all files at it; those of the remote when there is one.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn results(&self) -> Result<(Option<String>, WorldFiles), OpsError> {
        let repo = Repo::open(self.remote.as_ref().map_or(self.folder(), BareRemote::path))?;
        let branch = repo.results(BRANCH);
        Ok((branch.tip()?, branch.read_all(|_| true)?))
    }

    /// Checks the remote, if there is one, during the faults.
    pub(super) fn check_remote(&self) -> Result<(), String> {
        self.remote.as_ref().map_or(Ok(()), BareRemote::check_growth)
    }

    /// Checks after an apply without faults that its site has nothing left to push, and that it gave the lease back
    /// when it has worked.
    pub(super) fn check_pushed(&self, has_worked: bool) -> Result<(), String> {
        self.remote.as_ref().map_or(Ok(()), |remote| remote.check_pushed(self.folder(), has_worked))
    }

    /// Checks the remote and the sites when the world has come to rest.
    pub(super) fn check_remote_at_rest(&self) -> Result<(), String> {
        self.remote
            .as_ref()
            .map_or(Ok(()), |remote| remote.check_rest(&self.sites, self.site, self.clock.now() + REST_TIME))
    }

    /// Returns true when a process has the lease on the remote.
    pub(super) fn is_leased(&self) -> bool {
        let lease = self.remote.as_ref().and_then(BareRemote::lease);
        lease.is_some_and(|lease| lease.is_live(self.clock.now()))
    }

    /// Returns the text of the devices' journal.
    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.sites[0].join(JOURNAL)).unwrap_or_default()
    }

    /// Returns the text of a file of the work tree, `None` when it is not there.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.sites[0].join(path)).ok()
    }

    /// Removes the last commits, as `git reset --hard` does.
    ///
    /// # Errors
    /// There are not so many.
    pub fn rewind(&self, commits: usize) -> Result<(), String> {
        let reset = || {
            let repository = git2::Repository::open(self.folder())?;
            let target = repository.revparse_single(&format!("HEAD~{commits}"))?;
            repository.reset(&target, git2::ResetType::Hard, None)
        };
        reset().map_err(|error| error.message().to_string())
    }

    /// Returns the first lines of the messages of the results branch, the oldest first; empty when there is no branch.
    pub fn subjects(&self) -> Vec<String> {
        let read = || {
            let repository = git2::Repository::open(self.folder())?;
            let mut walk = repository.revwalk()?;
            walk.push_ref(&format!("refs/heads/{BRANCH}"))?;
            let subject = |id| Ok(repository.find_commit(id)?.summary().ok().flatten().unwrap_or_default().to_string());
            walk.map(|id| id.and_then(subject)).collect::<Result<Vec<String>, git2::Error>>()
        };
        let mut subjects = read().unwrap_or_default();
        subjects.reverse();
        subjects
    }

    /// Makes the lock that another program would hold on the results branch.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn lock_branch(&self) {
        std::fs::write(self.branch_lock(), "").expect("a lock can be made");
    }

    /// Removes the lock of the results branch, if it is there.
    pub fn unlock_branch(&self) {
        drop(std::fs::remove_file(self.branch_lock()));
    }

    fn branch_lock(&self) -> PathBuf {
        self.folder().join(format!(".git/refs/heads/{BRANCH}.lock"))
    }

    /// Returns the environment of commands.
    pub fn environment(&self) -> Environment {
        let registry = self.remote.is_some().then(|| format!("sqlite:{}", self.registry_path().display()));
        Environment { folder: self.folder().to_path_buf(), registry, ..Environment::default() }
    }

    /// Applies `HEAD` as a separate process would: nothing in memory outlives it. Returns how it ended, and the number
    /// of crash points that it passed.
    pub fn apply(&self, faults: &Faults) -> (Ended, u64) {
        self.apply_with(faults, &mut |_| {})
    }

    /// As [`World::apply`]; calls `told` with each progress event.
    pub fn apply_with(&self, faults: &Faults, told: &mut dyn FnMut(&Progress)) -> (Ended, u64) {
        let options = ApplyOptions { lease_time: self.lease_time, ..ApplyOptions::default() };
        let ended = self.apply_as(faults, &options, told);
        if faults.lock_at.is_some() {
            self.unlock_branch();
        }
        ended
    }

    /// As [`World::apply_with`], with options; the crash points and the growth of the registry are those of `faults`. A
    /// lock that they made stays.
    pub fn apply_as(&self, faults: &Faults, options: &ApplyOptions, told: &mut dyn FnMut(&Progress)) -> (Ended, u64) {
        let crash = faults.crash_points(PLACES_MAX);
        let options = ApplyOptions {
            ports: relayed(self.relay.as_ref(), dying_in_doubt(crash.clone(), faults.doubted)),
            growth: faults.growth,
            ..options.clone()
        };
        let (inbox, events) = (Inbox::new(), Cell::new(0));
        let mut observer = |progress: &Progress| {
            self.fail(faults, &events);
            told(progress);
        };
        self.begin(faults, faults.interrupt_after, inbox.waker());
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let (agree, environment) = (&mut |_: &_, _: &_| true, self.environment());
            apply(&environment, &options, &self.clock, &inbox, agree, &mut observer)
        }));
        let ended = self.ended(faults, ended.map(|ended| ended.map(|applied| Ended::Applied(Box::new(applied)))));
        (ended, crash.passed())
    }

    /// Follows `HEAD` for some time as a separate process would, and calls `told` with each note. Returns the same as
    /// [`World::apply`].
    pub fn watch(&self, faults: &Faults, time: Duration, told: &mut dyn FnMut(&Note<'_>)) -> (Ended, u64) {
        let crash = faults.crash_points(DAEMON_PLACES_MAX);
        let options = WatchOptions {
            gateway: None,
            trust: Trust::default(),
            remote: None,
            branch: None,
            interval: LOOK_INTERVAL,
            grace: Duration::from_secs(10),
            lease_time: LEASE_TIME,
            pulse: None,
            accepts_rewind: false,
            has_events: false,
            ports: relayed(self.relay.as_ref(), dying_in_doubt(crash.clone(), faults.doubted)),
        };
        let (inbox, events) = (Inbox::new(), Cell::new(0));
        let (mut looked_at, mut troubles) = (None, 0);
        let (mut last, mut looks) = (None, 0);
        let mut tell = |note: &Note<'_>| {
            if let Note::Looked(look) = note {
                looks = if last == Some(look.at) { looks + 1 } else { 0 };
                last = Some(look.at);
                assert!(looks < LOOKS_MAX, "a daemon looks again and again at {}", look.at);
            }
            match note {
                Note::Progress(_) => self.fail(faults, &events),
                Note::Trouble { .. } => {
                    troubles += 1;
                    // Each try waits for the lock.
                    if troubles == LOCKED_TRIES {
                        self.unlock_branch();
                    }
                }
                Note::Looked(look) if !inbox.is_interrupted() => looked_at = Some(look.at),
                _ => {}
            }
            told(note);
        };
        self.begin(faults, Some(time), inbox.waker());
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let environment = self.environment();
            watch(&environment, &options, &self.clock, &inbox, &mut tell)
        }));
        let ended = self.ended(faults, ended.map(|ended| ended.map(|()| Ended::Watched { looked_at, troubles })));
        if faults.lock_at.is_some() {
            self.unlock_branch();
        }
        (ended, crash.passed())
    }

    fn begin(&self, faults: &Faults, interrupt_after: Option<Duration>, waker: Waker) {
        self.clock.interrupt_after(interrupt_after.map(|after| (after, waker)));
        self.clock.overshoot(faults.overshoot.clone());
        self.fail_remote(faults, 0);
    }

    /// Causes the faults that are due at a progress event.
    fn fail(&self, faults: &Faults, events: &Cell<u64>) {
        if faults.lock_at == Some(events.get()) {
            self.lock_branch();
        }
        events.set(events.get() + 1);
        self.fail_remote(faults, events.get());
    }

    fn fail_remote(&self, faults: &Faults, events: u64) {
        if let (Some(remote), Some((fault, at))) = (&self.remote, faults.remote)
            && (at == events || (fault == RemoteFault::Moves && at < events))
        {
            remote.begin(fault, self.clock.now(), (self.folder(), &self.registry_path()));
        }
    }

    /// Removes the faults and returns how a process ended.
    fn ended(&self, faults: &Faults, ended: std::thread::Result<Result<Ended, OpsError>>) -> Ended {
        self.clock.interrupt_after(None);
        self.clock.overshoot(None);
        if let Some(remote) = &self.remote {
            remote.mend();
        }
        let is_meant = faults.crash_at.is_some() || faults.crash_step.is_some();
        match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => Ended::Refused(Box::new(error)),
            Err(payload) => match payload.downcast_ref::<Died>() {
                Some(Died(place)) if is_meant => Ended::Died(place),
                Some(Died(place)) => Ended::Panicked(format!("it runs in circles around `{place}`")),
                None => Ended::Panicked(message_of(payload.as_ref())),
            },
        }
    }
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_string()
}
