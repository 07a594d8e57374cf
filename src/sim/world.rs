//! A fleet's repository, registry and devices in a folder, and an `apply` that may be made to fail. Uses git2 for what people do with
//! git and fleetform never does: rewinding, and looking at the log.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Random, VirtualClock};
use crate::execute::{CrashPoints, Died, Interrupt, Progress, Side};
use crate::ops::apply::{Applied, ApplyOptions, apply};
use crate::ops::{Environment, OpsError};
use crate::registry::Registry;
use crate::repo::Repo;

/// The name of every simulated fleet.
pub(super) const FLEET: &str = "sim";
const BRANCH: &str = "fleetform/results";
/// The journal of the simulated devices, in the fleet's folder.
pub(super) const JOURNAL: &str = "devices.jsonl";
/// An apply that passes so many places runs in circles: the largest world needs some thousands.
const PLACES_MAX: u64 = 100_000;

/// What goes wrong in one apply.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// The process dies at this crash point, counted from 0.
    pub crash_at: Option<u64>,
    /// The process dies before or after the step of this name and number, counted from 1; goes before `crash_at`.
    pub crash_step: Option<(Side, String, u64)>,
    /// The process is asked to end after some time.
    pub interrupt_after: Option<Duration>,
    /// The reference of the results branch is locked by another program from this progress event on.
    pub lock_at: Option<u64>,
    /// The registry can grow by no more than so many pages: the disk is full then.
    pub growth: Option<u32>,
    /// At this progress event, counted from 0, somebody commits a stop of the job that it is about.
    pub stop_at: Option<u64>,
    /// Some waits last longer.
    pub overshoot: Option<Random>,
}

/// Bytes by path.
pub type Files = BTreeMap<String, Vec<u8>>;

/// How an apply ended.
#[derive(Debug)]
pub enum Ended {
    Applied(Box<Applied>),
    Refused(Box<OpsError>),
    /// The process died at a place.
    Died(&'static str),
    /// A bug: an assertion failed, or it ran in circles.
    Panicked(String),
}

/// The world of one seed.
pub struct World {
    folder: PathBuf,
    pub clock: VirtualClock,
    runtime: tokio::runtime::Runtime,
}

impl World {
    /// Returns a repository with a results branch and a fleet document in an empty folder.
    ///
    /// # Panics
    /// When the folder cannot be written: a world without a place to be cannot go on.
    pub fn new(folder: &Path) -> World {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime can be built");
        let world = World { folder: folder.to_path_buf(), clock: VirtualClock::default(), runtime };
        Repo::open_or_init(folder).expect("a repository can be made");
        world.write(".gitignore", &format!(".fleetform/\n{JOURNAL}\n"));
        let fleet = format!("apiVersion: fleetform/v1\nkind: Fleet\nmetadata: {{name: {FLEET}}}\nspec: {{}}\n");
        world.write("fleetform.yaml", &fleet);
        world.commit(&[".gitignore".to_string(), "fleetform.yaml".to_string()]);
        crate::ops::init::init(folder, crate::ops::init::InitOptions::default()).expect("a results branch can be made");
        world
    }

    /// Writes a file of the work tree.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.join(path);
        let parent = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(parent).expect("a folder can be made");
        std::fs::write(path, text).expect("a file can be written");
    }

    /// Removes a file of the work tree.
    ///
    /// # Panics
    /// When it cannot be removed.
    pub fn remove(&self, path: &str) {
        std::fs::remove_file(self.folder.join(path)).expect("a file can be removed");
    }

    /// Commits files that were written or removed.
    ///
    /// # Panics
    /// When the repository cannot be written.
    pub fn commit(&self, paths: &[String]) {
        let repo = Repo::open(&self.folder).expect("the repository is there");
        repo.commit_files(paths, "people").expect("a person can commit");
    }

    /// Deletes the registry.
    pub fn delete_registry(&self) {
        for name in ["fleet.db", "fleet.db-wal", "fleet.db-shm"] {
            drop(std::fs::remove_file(self.folder.join(".fleetform").join(name)));
        }
    }

    /// Deletes the results branch, as `git branch -D` does.
    ///
    /// # Panics
    /// When there is none.
    pub fn delete_branch(&self) {
        let git = self.folder.join(".git");
        std::fs::remove_file(git.join("refs/heads").join(BRANCH)).expect("the branch is there");
        drop(std::fs::remove_file(git.join("logs/refs/heads").join(BRANCH)));
    }

    /// Returns the commit that people made last.
    ///
    /// # Panics
    /// When the repository cannot be read.
    pub fn head(&self) -> String {
        let repo = Repo::open(&self.folder).expect("the repository is there");
        repo.head().expect("people have committed")
    }

    /// Returns the registry, read only.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn registry(&self) -> Result<Registry, OpsError> {
        Ok(Registry::open_for_reading(&self.folder.join(".fleetform/fleet.db"), FLEET)?)
    }

    /// Returns the tip of the results branch and all files at it.
    ///
    /// # Errors
    /// The repository cannot be read.
    pub fn results(&self) -> Result<(Option<String>, Files), OpsError> {
        let repo = Repo::open(&self.folder)?;
        let branch = repo.results(BRANCH);
        Ok((branch.tip()?, branch.read_all(|_| true)?))
    }

    /// Returns the text of the devices' journal.
    pub fn journal(&self) -> String {
        std::fs::read_to_string(self.folder.join(JOURNAL)).unwrap_or_default()
    }

    /// Returns the text of a file of the work tree, `None` when it is not there.
    pub fn read(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(self.folder.join(path)).ok()
    }

    /// Takes the last commits back, as `git reset --hard` does.
    ///
    /// # Errors
    /// There are not so many.
    pub fn rewind(&self, commits: usize) -> Result<(), String> {
        let reset = || {
            let repository = git2::Repository::open(&self.folder)?;
            let target = repository.revparse_single(&format!("HEAD~{commits}"))?;
            repository.reset(&target, git2::ResetType::Hard, None)
        };
        reset().map_err(|error| error.message().to_string())
    }

    /// Returns the first lines of the messages of the results branch, the oldest first; empty when there is no branch.
    pub fn subjects(&self) -> Vec<String> {
        let read = || {
            let repository = git2::Repository::open(&self.folder)?;
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

    /// Takes the lock of the results branch away, if it is there.
    pub fn unlock_branch(&self) {
        drop(std::fs::remove_file(self.branch_lock()));
    }

    fn branch_lock(&self) -> PathBuf {
        self.folder.join(format!(".git/refs/heads/{BRANCH}.lock"))
    }

    /// Returns where commands are called.
    pub fn environment(&self) -> Environment {
        Environment { folder: self.folder.clone(), registry: None }
    }

    /// Applies `HEAD` in a process of its own, as it were: nothing in memory outlives it. Returns how it ended, and how many crash
    /// points it passed.
    pub fn apply(&self, faults: &Faults) -> (Ended, u64) {
        self.apply_with(faults, &mut |_| {})
    }

    /// The same, and tells of each progress event.
    pub fn apply_with(&self, faults: &Faults, told: &mut dyn FnMut(&Progress)) -> (Ended, u64) {
        let ended = self.apply_as(faults, &ApplyOptions::default(), told);
        if faults.lock_at.is_some() {
            self.unlock_branch();
        }
        ended
    }

    /// The same with options; the crash points and the growth of the journal are those of `faults`. A lock that they made stays.
    pub fn apply_as(&self, faults: &Faults, options: &ApplyOptions, told: &mut dyn FnMut(&Progress)) -> (Ended, u64) {
        let crash = match &faults.crash_step {
            Some((side, step, occurrence)) => CrashPoints::at_step(*side, step, *occurrence),
            None => CrashPoints::at(faults.crash_at.unwrap_or(PLACES_MAX)),
        };
        let options = ApplyOptions { crash: crash.clone(), growth: faults.growth, ..options.clone() };
        let interrupt = Interrupt::new();
        self.clock.interrupt_after(faults.interrupt_after.map(|after| (after, interrupt.clone())));
        self.clock.overshoot(faults.overshoot.clone());
        let mut events = 0;
        let mut observer = |progress: &Progress| {
            if faults.lock_at == Some(events) {
                self.lock_branch();
            }
            events += 1;
            told(progress);
        };
        let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
            let (agree, environment) = (&mut |_: &_, _: &_| true, self.environment());
            self.runtime.block_on(apply(&environment, &options, &self.clock, &interrupt, agree, &mut observer))
        }));
        self.clock.interrupt_after(None);
        self.clock.overshoot(None);
        let is_meant = faults.crash_at.is_some() || faults.crash_step.is_some();
        let ended = match ended {
            Ok(Ok(applied)) => Ended::Applied(Box::new(applied)),
            Ok(Err(error)) => Ended::Refused(Box::new(error)),
            Err(payload) => match payload.downcast_ref::<Died>() {
                Some(Died(place)) if is_meant => Ended::Died(place),
                Some(Died(place)) => Ended::Panicked(format!("it runs in circles around `{place}`")),
                None => Ended::Panicked(message_of(payload.as_ref())),
            },
        };
        (ended, crash.passed())
    }
}

fn message_of(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without a message").to_string()
}
