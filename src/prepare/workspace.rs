//! A fleet that has been opened: its repository, and the way to its registry.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;

use super::PrepareError;
use super::kept::Kept;
use super::lease::at_work;
use super::needed_secrets::has_secrets;
use super::own_registry::{OWN_FOLDER, OwnRegistry, Variables};
use super::secrets::{AllowedSecrets, SecretFault, SecretStore};
use crate::model::access::Sight;
use crate::model::fleet::{Declared, Fleet, RegistryConfig};
use crate::model::id::Name;
use crate::model::job::Job;
use crate::model::secret::{Masks, SecretRef, SecretText, Secrets};
use crate::model::text::sanitize_line;
use crate::registry::sqlite::SqlitePlace;
use crate::registry::{Change, Registry, RegistryError};
use crate::repo::{Remote, RemoteError, Repo, ResultsBranch, Tracking, file_id};

/// What a command is told by its surroundings, read once.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// The fleet's folder.
    pub folder: PathBuf,
    /// `--registry`: overrides the Fleet document; a path is relative to the folder that the command was called in.
    pub registry: Option<String>,
    /// The variables of the process, one of which a Fleet document may name.
    pub variables: Variables,
    /// The secrets that the fleet may use.
    pub secrets: AllowedSecrets,
    /// The SSH key that signs the commits of results.
    pub signing_key: Option<PathBuf>,
    /// What was read before, for a process that looks again and again.
    pub kept: Kept,
    /// What is shown: less than everything to somebody whom the Access document restricts.
    pub sight: Sight,
}

/// An opened fleet repository.
pub struct Workspace {
    pub repo: Repo,
    environment: Environment,
    secrets: SecretStore,
    /// Where the registry is, and what named it.
    registry: RefCell<Option<((RegistryConfig, Name), OwnRegistry)>>,
    /// Stores stay open between two uses.
    keeps_open: bool,
    /// When git had none of the registry's files.
    untracked: RefCell<Option<Untracked>>,
}

/// What git tracked at a moment, and which file the registry was, with device and inode.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Untracked {
    tracking: Tracking,
    file: PathBuf,
    id: (u64, u64),
}

/// Returns a name for a process that works on a fleet, unlike every one before: `host/process/random`.
pub fn owner() -> String {
    let mut drawn = [0; 4];
    // Without randomness the process alone has to do.
    let unique = getrandom::fill(&mut drawn).map_or(0, |()| u32::from_le_bytes(drawn));
    format!("{}/{}/{unique:08x}", host(), std::process::id())
}

/// Returns the name that this machine had when it was asked for first, `host` when it has none.
pub fn host() -> String {
    static HOST: OnceLock<String> = OnceLock::new();
    let read = || {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        if host.is_empty() { "host".to_string() } else { host.to_string() }
    };
    HOST.get_or_init(read).clone()
}

impl Workspace {
    /// Opens the repository around the environment's folder.
    ///
    /// # Errors
    /// There is no repository.
    pub fn open(environment: &Environment) -> Result<Workspace, PrepareError> {
        let repo = Repo::open(&environment.folder)?;
        Ok(Workspace::of(repo, environment))
    }

    fn of(mut repo: Repo, environment: &Environment) -> Workspace {
        repo.sign_with(environment.signing_key.as_deref());
        let secrets = SecretStore::new(environment.secrets.clone());
        Workspace {
            repo,
            environment: environment.clone(),
            secrets,
            registry: RefCell::default(),
            keeps_open: false,
            untracked: RefCell::default(),
        }
    }

    /// Reads no secrets from now on: jobs that need them have values that are none.
    #[must_use]
    pub fn rehearsing(self) -> Workspace {
        Workspace { secrets: SecretStore::pretended(), ..self }
    }

    /// Keeps the registry open between two uses from now on, for who looks often; [`Workspace::rest`] closes it.
    #[must_use]
    pub fn keeping_open(self) -> Workspace {
        Workspace { keeps_open: true, ..self }
    }

    /// Closes the registry where it is kept open and not in use.
    pub fn rest(&self) {
        if let Some((_, own)) = &*self.registry.borrow() {
            own.close_kept();
        }
    }

    /// Returns what was read before.
    pub fn kept(&self) -> &Kept {
        &self.environment.kept
    }

    pub(super) fn secrets(&self) -> &SecretStore {
        &self.secrets
    }

    /// Returns the secrets that a job is about to send, as they were read for its plan; `None` when one is missing. A
    /// registry makes its key for the first one.
    ///
    /// # Errors
    /// The registry cannot be written.
    pub fn secrets_to_send(&self, job: &Job, registry: &mut Registry) -> Result<Option<Secrets>, RegistryError> {
        if !has_secrets(&job.action) {
            return Ok(Some(Secrets::default()));
        }
        if registry.secret_key()?.is_none() {
            registry.write(Change::MakeSecretKey)?;
        }
        let key = registry.secret_key()?.expect("the key was just made");
        Ok(self.secrets.to_send(job, &key))
    }

    /// Reads a secret that is not sent to devices, such as a password of ours.
    ///
    /// # Errors
    /// It is not allowed here, or cannot be read.
    pub fn secret(&self, reference: &SecretRef) -> Result<SecretText, SecretFault> {
        self.secrets.one(reference)
    }

    /// Reads the secrets of all declared jobs that write properties: a device that asks for its twin gets them, also
    /// when its job has ended before this process began.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn read_secrets_of_twins(&self, declared: &Declared, registry: &Registry) -> Result<(), RegistryError> {
        let Some(key) = registry.secret_key()? else { return Ok(()) };
        let writes = |job: &&Arc<Job>| job.action.desired().is_some() && has_secrets(&job.action);
        declared.jobs.values().filter(writes).for_each(|job| self.secrets.read_to_send(job, &key));
        Ok(())
    }

    /// Returns what hides the secrets that this process may have sent.
    pub fn masks(&self) -> Masks {
        self.secrets.masks()
    }

    /// Opens the mirror of a remote repository in the environment's folder, which is made when it is not there.
    ///
    /// # Errors
    /// The folder cannot be written, or the branch has an illegal name.
    pub fn open_mirror(
        environment: &Environment,
        address: &str,
        branch: &str,
        path: &str,
    ) -> Result<Workspace, PrepareError> {
        let repo = Repo::mirror(&environment.folder, address, branch, path)?;
        Ok(Workspace::of(repo, environment))
    }

    /// Returns where the registry is. It is made out once, and kept until the fleet names another one.
    ///
    /// # Errors
    /// `--registry` is not one that this fleetform knows, or the variable with its URL cannot be used.
    pub fn registry_place(&self, fleet: &Fleet) -> Result<OwnRegistry, PrepareError> {
        let mut kept = self.registry.borrow_mut();
        let key = (fleet.registry.clone(), fleet.name.clone());
        if let Some((known, own)) = kept.as_ref()
            && *known == key
        {
            return Ok(own.clone());
        }
        let name = fleet.name.as_str();
        let own = match (&self.environment.registry, &fleet.registry) {
            (Some(given), _) => OwnRegistry::given(given, name)?,
            (None, RegistryConfig::Sqlite { path }) => OwnRegistry::in_file(self.repo.shared_folder().join(path), name),
            (None, RegistryConfig::Postgres { variable }) => {
                OwnRegistry::of_variable(variable, self.environment.variables, name)?
            }
        };
        if self.keeps_open {
            own.keep_open();
        }
        *kept = Some((key, own.clone()));
        Ok(own)
    }

    /// Returns where the registry is, unless git has something to say about what is in it: then a pull request could
    /// bring a registry of its own, with devices, keys and runs that never were.
    ///
    /// # Errors
    /// Git has it; or as [`Workspace::registry_place`].
    pub fn own_registry(&self, fleet: &Fleet) -> Result<OwnRegistry, PrepareError> {
        let own = self.registry_place(fleet)?;
        let Some(file) = own.file() else { return Ok(own) };
        // Before it is looked for: what comes meanwhile is looked for the next time.
        let now = if self.keeps_open { self.repo.tracking().zip(file_id(&file)) } else { None };
        let now = now.map(|(tracking, id)| Untracked { tracking, file: file.clone(), id });
        if now.is_some() && *self.untracked.borrow() == now {
            return Ok(own);
        }
        let mut places = Vec::new();
        if self.environment.registry.is_none() {
            places.push(PathBuf::from(OWN_FOLDER));
        }
        places.extend([SqlitePlace::lock_path(&file), SqlitePlace::listener_path(&file)]);
        places.extend(SqlitePlace::files(&file));
        self.refuse_tracked(&places)?;
        *self.untracked.borrow_mut() = now;
        Ok(own)
    }

    /// Returns where a registry is that an argument names as `sqlite:PATH`, `postgres://…` or `env:NAME`, unless git has
    /// it.
    ///
    /// # Errors
    /// As [`Workspace::own_registry`]; or the argument is none of them.
    pub fn named_registry(&self, text: &str, fleet: &Fleet) -> Result<OwnRegistry, PrepareError> {
        let named = OwnRegistry::named(text, self.environment.variables, fleet.name.as_str())?;
        if let Some(file) = named.file() {
            let files = SqlitePlace::files(&file).chain([SqlitePlace::lock_path(&file)]);
            self.refuse_tracked(&files.collect::<Vec<_>>())?;
        }
        Ok(named)
    }

    /// Refuses places that git fills.
    ///
    /// # Errors
    /// `PrepareError::Refused`: `HEAD` or the index has one of them, or a link on the way to it.
    pub fn refuse_tracked(&self, places: &[PathBuf]) -> Result<(), PrepareError> {
        let Some(tracked) = self.repo.tracked(places)? else { return Ok(()) };
        // As a path from the fleet's folder, of the whole folder of ours.
        let inner = tracked.strip_prefix(self.repo.prefix()).unwrap_or(&tracked);
        let of_ours = inner.split('/').next().filter(|first| *first == OWN_FOLDER);
        let remove = sanitize_line(of_ours.unwrap_or(inner)).into_owned();
        Err(PrepareError::Refused {
            what: format!(
                "`{remove}` is under git's control, and what this machine alone writes must not come from a commit"
            ),
            help: format!(
                "Take it out of git with `git rm --cached -r {remove}`, and commit that. It stays on the disk: unless \
                    it is yours, remove it there too."
            ),
        })
    }

    /// Refuses a file of the fleet's folder to which a link leads that git has: a commit could name any file with it. A
    /// link that is the operator's own is followed.
    ///
    /// # Errors
    /// As [`Workspace::refuse_tracked`].
    pub fn refuse_tracked_link(&self, place: &Path) -> Result<(), PrepareError> {
        let folder = self.repo.folder();
        let file = folder.join(place);
        let real = |path: &Path| path.canonicalize().ok();
        let parent = file.parent().and_then(real);
        let is_plain =
            parent.is_none() || parent == real(folder).map(|folder| folder.join(place.parent().unwrap_or(place)));
        let is_link = file.symlink_metadata().is_ok_and(|found| found.is_symlink());
        if is_plain && !is_link { Ok(()) } else { self.refuse_tracked(&[place.to_path_buf()]) }
    }

    /// Returns the remote of a fleet when that has its results branch: what has run is known there. `None` when it has
    /// not, and for a fleet without a remote here.
    ///
    /// # Errors
    /// The remote cannot be reached.
    pub fn remote_with_results(&self, fleet: &Fleet) -> Result<Option<String>, RemoteError> {
        let Some(name) = fleet.results.remote.as_deref().filter(|name| self.repo.has_remote(name)) else {
            return Ok(None);
        };
        let found = Remote::new(self.repo.git_folder(), name).heads(&[&fleet.results.branch])?;
        Ok(found.into_iter().next().flatten().map(|_| name.to_string()))
    }

    /// Returns the process that works on the fleet now: with this registry, or by the lease on the results branch as it
    /// is here. `None` when none does, or none can be known of.
    ///
    /// # Errors
    /// The branch cannot be read, or git has the registry.
    pub fn worker(
        &self,
        fleet: &Fleet,
        branch: &ResultsBranch<'_>,
        now: Timestamp,
    ) -> Result<Option<String>, PrepareError> {
        match self.own_registry(fleet)?.holder() {
            Some(name) => Ok(Some(if name.is_empty() { "another process".to_string() } else { name })),
            None => at_work(branch, now),
        }
    }

    /// Returns what tells the content of the registry from any other one; `None` where it cannot be told. It has to be
    /// asked before what is read.
    pub fn registry_state(&self, fleet: &Fleet, now: Timestamp) -> Option<String> {
        self.own_registry(fleet).ok()?.state(now)
    }

    /// Opens the registry for reading.
    ///
    /// # Errors
    /// It cannot be read, or git has it.
    pub fn open_for_reading(&self, fleet: &Fleet) -> Result<Registry, PrepareError> {
        Ok(Registry::new(self.own_registry(fleet)?.open_for_reading()?))
    }
}
