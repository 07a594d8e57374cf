//! A fleet that has been opened: its repository, what it declares, and the way to its registry.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

use super::OpsError;
use crate::diag::{Diagnostic, Diagnostics, SourceMap, code};
use crate::manifest::{Kind, Loaded, ValidSubset};
use crate::model::fleet::{Declared, Fleet, HeldDocuments, RegistryConfig};
use crate::model::text::sanitize_line;
use crate::prepare::{load, load_valid};
use crate::registry::sqlite::SqlitePlace;
use crate::registry::{ExclusionFailure, Exclusive, Place as _, Registry, Store};
use crate::repo::{FLEET_FILE, FleetTree, Repo};

/// The folder of a fleet's folder that is of this machine alone.
pub(super) const OWN_FOLDER: &str = ".fleetform";

/// What a command is told by its surroundings, read once.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The fleet's folder.
    pub folder: PathBuf,
    /// `--registry`: overrides the Fleet document; a path is relative to the folder that the command was called in.
    pub registry: Option<String>,
}

/// Diagnostics with the texts that they point into.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    pub sources: SourceMap,
    pub diagnostics: Diagnostics,
}

/// An opened fleet repository.
pub struct Workspace {
    pub repo: Repo,
    environment: Environment,
}

impl From<ExclusionFailure> for OpsError {
    fn from(failure: ExclusionFailure) -> OpsError {
        match failure {
            ExclusionFailure::Failed(error) => error.into(),
            ExclusionFailure::Held(holder) => OpsError::Held {
                what: match holder {
                    Some(holder) => format!("another fleetform is applying to this registry: {holder}"),
                    None => "another fleetform is applying to this registry".to_string(),
                },
                help: "Wait until it is done: the next try goes on. It stops jobs whose stop is committed.".to_string(),
            },
        }
    }
}

/// Returns a name for whoever works on a fleet now, other than every one before: `host/process/random`.
pub fn owner() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let host = if host.is_empty() { "host" } else { host };
    let mut drawn = [0; 4];
    // Without randomness the process alone has to do.
    let unique = getrandom::fill(&mut drawn).map_or(0, |()| u32::from_le_bytes(drawn));
    format!("{host}/{}/{unique:08x}", std::process::id())
}

/// The place of a registry that is this machine's own.
pub struct OwnRegistry {
    path: PathBuf,
    place: SqlitePlace,
}

impl OwnRegistry {
    /// Opens the registry for writing. A new folder of a registry inside the fleet's is kept out of git: it holds keys.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open_for_writing(&self) -> Result<Box<dyn Store>, OpsError> {
        if let Some(folder) = self.path.parent()
            && folder.file_name().is_some_and(|name| name == OWN_FOLDER)
            && !folder.join(".gitignore").exists()
        {
            let ignore = folder.join(".gitignore");
            let made = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&ignore, "*\n"));
            made.map_err(|source| OpsError::Output {
                what: format!("{} cannot be written", ignore.display()),
                source,
            })?;
        }
        Ok(self.place.open()?)
    }

    /// Takes the right to work on the registry, for an owner of this name.
    ///
    /// # Errors
    /// Another process has it, or it cannot be taken.
    pub fn lock(&self, owner: &str) -> Result<Rc<dyn Exclusive>, ExclusionFailure> {
        self.place.exclude(owner)
    }
}

impl Workspace {
    /// Opens the repository around the environment's folder.
    ///
    /// # Errors
    /// There is no repository.
    pub fn open(environment: &Environment) -> Result<Workspace, OpsError> {
        let repo = Repo::open(&environment.folder)?;
        Ok(Workspace { repo, environment: environment.clone() })
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
    ) -> Result<Workspace, OpsError> {
        let repo = Repo::mirror(&environment.folder, address, branch, path)?;
        Ok(Workspace { repo, environment: environment.clone() })
    }

    /// Returns what the work tree declares, with all findings.
    ///
    /// # Errors
    /// The folder cannot be read or is not the root of a fleet.
    pub fn load_work_tree(&self) -> Result<(FleetTree<'_>, Loaded), OpsError> {
        let tree = self.work_tree()?;
        let mut loaded = load(&tree);
        refuse_results_on(self.repo.head_branch().as_deref(), &mut loaded);
        Ok((tree, loaded))
    }

    fn work_tree(&self) -> Result<FleetTree<'_>, OpsError> {
        let tree = self.repo.work_tree()?;
        if !is_fleet(&tree) {
            let (path, around) = (self.repo.folder().to_path_buf(), self.repo.fleet_around());
            return Err(crate::repo::RepoError::NoFleet { path, around }.into());
        }
        Ok(tree)
    }

    /// Returns what a commit declares, with all findings.
    ///
    /// # Errors
    /// The commit cannot be read or has no fleet in the folder.
    pub fn load_commit(&self, commit: &str) -> Result<(FleetTree<'_>, Loaded), OpsError> {
        let tree = self.repo.tree_at(commit)?;
        if !is_fleet(&tree) {
            let is_declared = self.repo.folder().join(FLEET_FILE).exists();
            let (path, around) = (self.repo.folder().to_path_buf(), self.repo.fleet_around());
            let revision = commit.to_string();
            return Err(if is_declared {
                crate::repo::RepoError::NoFleetAt { revision }.into()
            } else {
                crate::repo::RepoError::NoFleet { path, around }.into()
            });
        }
        let mut loaded = load(&tree);
        refuse_results_on(self.repo.head_branch().as_deref(), &mut loaded);
        Ok((tree, loaded))
    }

    /// Returns what `HEAD` declares, or what the work tree does when `HEAD` is invalid: for commands that only look at what
    /// was done, and that a mistake in one file should not keep from it.
    ///
    /// # Errors
    /// Both are invalid.
    pub fn declared_somewhere(&self) -> Result<Declared, OpsError> {
        if let Ok(head) = self.repo.head()
            && let Ok((_, loaded)) = self.load_commit(&head)
            && let Ok(declared) = declared_of(&loaded)
        {
            return Ok(declared.clone());
        }
        let (_, loaded) = self.load_work_tree()?;
        declared_of(&loaded).cloned()
    }

    /// Returns what can be used of the work tree, in a mirror of its commit, and what cannot.
    ///
    /// # Errors
    /// The folder cannot be read or is not the root of a fleet, or the Fleet document itself cannot be used.
    pub fn sound_work_tree(&self) -> Result<(Loaded, HeldDocuments), OpsError> {
        let tree = self.work_tree()?;
        let ValidSubset { loaded, held } = load_valid(&tree);
        match &loaded.declared {
            Some(_) => Ok((loaded, held)),
            None => Err(OpsError::Invalid(Box::new(findings_of(&loaded, Diagnostics::new())))),
        }
    }

    /// Returns what can be used of `HEAD`; `None` when the Fleet document cannot, or when there is none.
    pub fn sound_head(&self) -> Option<Declared> {
        let tree = self.repo.tree_at(&self.repo.head().ok()?).ok()?;
        load_valid(&tree).loaded.declared
    }

    /// Returns the path of the registry's file.
    ///
    /// # Errors
    /// `--registry` is not one that this fleetform knows.
    pub fn registry_path(&self, fleet: &Fleet) -> Result<PathBuf, OpsError> {
        if let Some(url) = &self.environment.registry {
            return match url.strip_prefix("sqlite:") {
                Some(path) if !path.is_empty() => Ok(PathBuf::from(path)),
                Some(_) | None => Err(OpsError::Usage {
                    what: "the value of --registry is not understood".to_string(),
                    help: "Write it as `sqlite:PATH`.".to_string(),
                }),
            };
        }
        let RegistryConfig::Sqlite { path } = &fleet.registry;
        Ok(self.repo.folder().join(path))
    }

    /// Returns the place of the registry, unless git has something to say about what is in it: then a pull request could bring a
    /// registry of its own, with devices, keys and runs that never were.
    ///
    /// # Errors
    /// Git has it, or `--registry` is not one that this fleetform knows.
    pub fn own_registry(&self, fleet: &Fleet) -> Result<OwnRegistry, OpsError> {
        let path = self.registry_path(fleet)?;
        let mut places = Vec::new();
        if self.environment.registry.is_none() {
            places.push(PathBuf::from(OWN_FOLDER));
        }
        // `--registry` is relative to where the command was called, and `registry_path` has joined the other with the folder.
        let whole = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
        places.push(SqlitePlace::lock_path(&whole));
        places.extend(SqlitePlace::files(&whole));
        self.refuse_tracked(&places)?;
        Ok(OwnRegistry { place: SqlitePlace::new(path.clone(), fleet.name.as_str()), path })
    }

    /// Refuses places that git fills.
    ///
    /// # Errors
    /// `OpsError::Refused`: `HEAD` or the index has one of them, or a link on the way to it.
    pub fn refuse_tracked(&self, places: &[PathBuf]) -> Result<(), OpsError> {
        let Some(tracked) = self.repo.tracked(places)? else { return Ok(()) };
        // As a path from the fleet's folder, of the whole folder of ours.
        let inner = tracked.strip_prefix(self.repo.prefix()).unwrap_or(&tracked);
        let of_ours = inner.split('/').next().filter(|first| *first == OWN_FOLDER);
        let remove = sanitize_line(of_ours.unwrap_or(inner)).into_owned();
        Err(OpsError::Refused {
            what: format!(
                "`{remove}` is under git's control, and the registry of this machine must not come from a commit"
            ),
            help: format!(
                "Take it out of git with `git rm --cached -r {remove}`, and commit that. It stays on the disk: unless it is yours, remove it there too."
            ),
        })
    }

    /// Opens the registry for reading.
    ///
    /// # Errors
    /// It cannot be read, or git has it.
    pub fn open_for_reading(&self, fleet: &Fleet) -> Result<Registry, OpsError> {
        Ok(Registry::new(self.own_registry(fleet)?.place.open_for_reading()?))
    }

    /// Refuses when the work tree declares something else than `HEAD`: what would run is not what the person sees.
    pub(super) fn refuse_uncommitted(&self, tree: &FleetTree<'_>, loaded: &Loaded) -> Result<(), OpsError> {
        if self.repo.is_bare() {
            return Ok(());
        }
        let work = self.repo.work_tree()?;
        let here = load(&work);
        let paths: BTreeSet<&String> = loaded.declared_files.iter().chain(&here.declared_files).collect();
        let mut differing = Vec::new();
        for path in paths {
            let committed = tree.entries.contains_key(path).then(|| tree.content_id(path)).transpose();
            let present = work.entries.contains_key(path).then(|| work.content_id(path)).transpose();
            match (committed, present) {
                (Ok(one), Ok(two)) if one == two => {}
                _ => differing.push(path.clone()),
            }
        }
        if differing.is_empty() {
            return Ok(());
        }
        let shown = differing.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
        let more = differing.len().saturating_sub(5);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Err(OpsError::Held {
            what: format!("declared files are not committed: {shown}{more}"),
            help: "Commit them, or put them aside with `git stash -u`: apply executes what is committed.".to_string(),
        })
    }
}

fn is_fleet(tree: &FleetTree<'_>) -> bool {
    tree.entries.contains_key(FLEET_FILE) || tree.entries.contains_key("fleetform.yml")
}

/// Adds an error when results would go to the branch that the files are declared on; true when they would.
pub(super) fn refuse_results_on(source: Option<&str>, loaded: &mut Loaded) -> bool {
    let Some(fleet) = loaded.declared.as_ref().map(|declared| &declared.fleet) else { return false };
    let branch = &fleet.results.branch;
    if source != Some(branch.as_str()) {
        return false;
    }
    let span = loaded.spans.span_of(Kind::Fleet, &fleet.name, "/spec/results/branch");
    let detail = format!("`{branch}` is the branch that this file is declared on.");
    let help = "Give the results a branch of their own, such as `fleetform/results`, and run `fleetform init`.";
    loaded.diagnostics.push(Diagnostic::new(code::RESULTS_ON_SOURCE, span, detail).with_help(help));
    true
}

/// Returns what is declared, or all findings as an error.
pub(super) fn declared_of(loaded: &Loaded) -> Result<&Declared, OpsError> {
    match &loaded.declared {
        Some(declared) if !loaded.diagnostics.has_errors() => Ok(declared),
        Some(_) | None => Err(OpsError::Invalid(Box::new(findings_of(loaded, Diagnostics::new())))),
    }
}

/// Returns the findings of the files and of what came after them.
pub(super) fn findings_of(loaded: &Loaded, later: Diagnostics) -> Findings {
    let mut diagnostics = loaded.diagnostics.clone();
    diagnostics.extend(later);
    Findings { sources: loaded.sources.clone(), diagnostics }
}
