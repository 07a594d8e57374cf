//! What the daemon of a folder last said, whether it lives, and what the fleet's branch and registry say beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Environment, OpsError, Workspace};
use crate::execute::{Clock as _, SystemClock};
use crate::model::status::Snapshot;
use crate::prepare::{Files, OWN_FOLDER, OnError, PassedOver, TreeChoice, View, unfinished_of};
use crate::registry::Noted;
use crate::repo::{Behind, LastChange, NamedCommit};

/// What a daemon keeps about itself, in [`OWN_FOLDER`].
const LOCK: &str = "watch.lock";
const SNAPSHOT: &str = "status.json";

/// The one place of a daemon in a folder, for as long as it lives.
pub struct DaemonLock {
    folder: PathBuf,
    /// What was written last.
    written: Vec<u8>,
    _lock: File,
}

impl DaemonLock {
    /// Takes the place.
    ///
    /// # Errors
    /// Another daemon has it, the folder cannot be written, or git has it.
    pub fn take(environment: &Environment) -> Result<DaemonLock, OpsError> {
        if let Ok(workspace) = Workspace::open(environment) {
            workspace.refuse_tracked(&[PathBuf::from(OWN_FOLDER)])?;
        }
        let folder = environment.folder.join(OWN_FOLDER);
        let fail = |source| OpsError::Output { what: format!("{} cannot be written", folder.display()), source };
        let open = || {
            std::fs::create_dir_all(&folder)?;
            let ignore = folder.join(".gitignore");
            if !ignore.exists() {
                std::fs::write(ignore, "*\n")?;
            }
            File::options().create(true).truncate(false).write(true).open(folder.join(LOCK))
        };
        let lock = open().map_err(fail)?;
        match lock.try_lock() {
            Ok(()) => Ok(DaemonLock { folder, written: Vec::new(), _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(OpsError::Held {
                what: format!("another daemon works in {}", environment.folder.display()),
                help: "Look at it with `fleetform status`; give each daemon a folder of its own with -C.".to_string(),
            }),
            Err(std::fs::TryLockError::Error(source)) => Err(fail(source)),
        }
    }

    /// Writes what `status` shows; nothing when it is what was written last.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn write(&mut self, snapshot: &Snapshot) -> io::Result<()> {
        let text = serde_json::to_vec(snapshot).map_err(io::Error::other)?;
        if text == self.written {
            return Ok(());
        }
        let unfinished = self.folder.join(format!("{SNAPSHOT}.unfinished"));
        std::fs::write(&unfinished, &text)?;
        std::fs::rename(&unfinished, self.folder.join(SNAPSHOT))?;
        self.written = text;
        Ok(())
    }
}

/// What is known of a fleet and of its daemon.
#[derive(Debug)]
pub struct Status {
    /// What the daemon of the folder said last; `None` when there was none.
    pub daemon: Option<Snapshot>,
    /// It lives now.
    pub is_alive: bool,
    /// A fleet that cannot be read is no reason not to show the daemon.
    pub fleet: Result<FleetStatus, OpsError>,
}

/// What the branch and the registry say.
#[derive(Debug, Clone)]
pub struct FleetStatus {
    pub name: String,
    /// The newest commit that declares something.
    pub head: String,
    /// That commit when its Fleet document cannot be used: what is shown is of the one before it.
    pub passed_over: Option<Arc<PassedOver>>,
    /// The commit that was applied last, here or by what the branch has; `None` before the first.
    pub applied: Option<String>,
    /// Runs that have not ended: claimed, running, stopped.
    pub open_runs: u64,
    /// What the registry lacks because it was put back from a backup, a sentence.
    pub lacks: Option<String>,
    /// The process that works on the fleet now, here or elsewhere, as far as is known here.
    pub worker: Option<String>,
    /// Commits of results that the remote did not have when it was last seen; `None` without a remote.
    pub unpushed: Option<u64>,
    /// The remote that has more of the results branch, as of the last fetch.
    pub behind: Option<Behind>,
    pub branch: String,
    /// The branch whose files are shown, such as `main`; `None` for a `HEAD` that is on none.
    pub checked_out: Option<String>,
}

/// Whether something of a fleet has changed: its files, its results, its registry or what its daemon says. It reads
/// little, and says when to look, not what is there.
pub struct Changes {
    environment: Environment,
    seen: Vec<String>,
    /// The registry; `None` for a database, of which only what is published is seen.
    registry: Option<PathBuf>,
    branch: String,
}

impl Changes {
    /// Returns the changes from now on.
    pub fn of(environment: Environment) -> Changes {
        let mut changes = Changes { environment, seen: Vec::new(), registry: None, branch: String::new() };
        changes.look();
        changes
    }

    /// Returns true when something has changed since the last look. What cannot be read has not.
    pub fn look(&mut self) -> bool {
        let Ok(workspace) = Workspace::open(&self.environment) else { return false };
        let head = workspace.repo.head().unwrap_or_default();
        if self.seen.first() != Some(&head) {
            // The Fleet document may name another one.
            let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold);
            if let Ok(Ok(fleet)) = files.as_ref().map(|files| files.usable().map(|declared| &declared.fleet)) {
                self.branch.clone_from(&fleet.results.branch);
                self.registry = workspace.registry_place(fleet).ok().and_then(|own| own.file());
            }
        }
        let tip = workspace.repo.results(&self.branch).tip().ok().flatten().unwrap_or_default();
        let own = self.environment.folder.join(OWN_FOLDER);
        let log = self.registry.as_ref().map(|file| PathBuf::from(format!("{}-wal", file.display())));
        let files = [Some(own.join(SNAPSHOT)), self.registry.clone(), log];
        let state = |file: PathBuf| {
            // Readers make and remove an empty log.
            let found = std::fs::metadata(file).ok().filter(|found| found.len() > 0);
            found.map_or_else(String::new, |found| format!("{:?} {}", found.modified().ok(), found.len()))
        };
        let now: Vec<String> = [head, tip].into_iter().chain(files.into_iter().flatten().map(state)).collect();
        std::mem::replace(&mut self.seen, now.clone()) != now
    }
}

/// Returns the status of the environment's folder.
///
/// # Errors
/// There is neither a fleet nor a daemon, or git has what a daemon would say.
pub fn status(environment: &Environment) -> Result<Status, OpsError> {
    // Before anything of it is read: what a commit brings is no daemon's word.
    if let Ok(workspace) = Workspace::open(environment) {
        let own = Path::new(OWN_FOLDER);
        workspace.refuse_tracked(&[own.join(SNAPSHOT), own.join(LOCK)])?;
    }
    let daemon = read(&environment.folder);
    let is_alive = is_alive(&environment.folder);
    match fleet_status(environment) {
        // Nor is a registry that a commit brings one.
        Err(error @ OpsError::Refused { .. }) => Err(error),
        Err(error) if daemon.is_none() && !is_alive => Err(error),
        fleet => Ok(Status { daemon, is_alive, fleet }),
    }
}

/// Returns the commit that changed each of some files last, as paths from the fleet's folder, where the history tells.
///
/// # Errors
/// There is no repository.
pub fn changed(
    environment: &Environment,
    files: &BTreeSet<String>,
) -> Result<Arc<BTreeMap<String, NamedCommit>>, OpsError> {
    let workspace = Workspace::open(environment)?;
    let (repo, head) = (&workspace.repo, workspace.repo.head()?);
    let named = |change: LastChange| repo.named_commit(&change.commit?);
    let walk = |base: Option<&str>| {
        let changes = repo.last_changes(&head, files, base).into_iter();
        changes.map(|(path, change)| (path, named(change))).collect()
    };
    Ok(workspace.kept().changes(&head, files, walk))
}

fn fleet_status(environment: &Environment) -> Result<FleetStatus, OpsError> {
    let workspace = Workspace::open(environment)?;
    // What is wrong with other documents than the Fleet is of no matter here.
    let view = View::open(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let View { declared, branch, registry, ledger, .. } = &view;
    let fleet = &declared.fleet;
    let has_remote = fleet.results.remote.is_some() || workspace.repo.is_mirror();
    Ok(FleetStatus {
        name: fleet.name.to_string(),
        head: workspace.repo.head()?,
        passed_over: view.files.passed_over.clone(),
        applied: match registry.branch_copy().noted(Noted::AppliedHead)? {
            Some(applied) => Some(applied),
            None => branch.last_source()?,
        },
        open_runs: unfinished_of(ledger).len() as u64,
        // It counts what may not be looked at.
        lacks: if environment.sight.is_whole() { view.lacks()? } else { None },
        worker: workspace.worker(fleet, branch, SystemClock.now())?,
        behind: branch.behind_tracked()?,
        branch: branch.name().to_string(),
        checked_out: workspace.repo.head_branch().filter(|_| !workspace.repo.is_mirror()),
        unpushed: if has_remote { Some(branch.unshared()? as u64) } else { None },
    })
}

/// Returns what a daemon wrote; `None` when there is nothing that can be read.
fn read(folder: &Path) -> Option<Snapshot> {
    let text = std::fs::read(folder.join(OWN_FOLDER).join(SNAPSHOT)).ok()?;
    serde_json::from_slice(&text).ok()
}

/// Returns true when a daemon of the folder lives and follows the branch that is checked out there.
pub fn is_followed_here(environment: &Environment) -> bool {
    if !is_alive(&environment.folder) {
        return false;
    }
    let Some(followed) = read(&environment.folder).map(|snapshot| snapshot.source.branch) else { return false };
    // One that follows `HEAD` follows whatever is checked out.
    followed == "HEAD" || Workspace::open(environment).is_ok_and(|here| here.repo.head_branch() == Some(followed))
}

/// The lock of a daemon ends with its process.
fn is_alive(folder: &Path) -> bool {
    let Ok(file) = File::open(folder.join(OWN_FOLDER).join(LOCK)) else { return false };
    matches!(file.try_lock_shared(), Err(std::fs::TryLockError::WouldBlock))
}
