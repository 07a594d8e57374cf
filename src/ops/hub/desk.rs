//! What one thread answers back ends with: the declared files of the newest commit, and the way to the registry.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;

use crate::manifest::ParsedFiles;
use crate::model::fleet::Declared;
use crate::model::hub::{HubApi, HubLinkConfig};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::observation::DeviceIds;
use crate::ops::{Environment, OpsError, Workspace};
use crate::prepare::{Files, OnError, PassedOver, Recorded, View};
use crate::registry::Registry;
use crate::repo::{RepoError, source_reference};

use super::{HubError, names};

/// Commits whose files are kept: that of the branch, and one that is to become it.
const KNOWN_MAX: usize = 2;
/// How often what was done is read at most, while the daemon goes on.
const READS_MAX: usize = 10;

/// The branch whose files are declared, and to which jobs are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// A branch of the repository itself, as a full reference; `None` for a `HEAD` that is on none.
    Local { reference: Option<String> },
    /// A branch of another repository, of which this one is a mirror.
    Remote { branch: String },
}

impl Followed {
    /// Returns the branch that a daemon with these options follows.
    ///
    /// # Errors
    /// The folder has no repository.
    pub fn of(environment: &Environment, remote: Option<&str>, branch: Option<&str>) -> Result<Followed, OpsError> {
        if remote.is_some() {
            return Ok(Followed::Remote { branch: branch.unwrap_or("main").to_string() });
        }
        let named = branch.map(|branch| format!("refs/heads/{branch}"));
        Ok(Followed::Local { reference: named.or(Workspace::open(environment)?.repo.checked_out_branch()) })
    }

    /// Returns the reference of the branch; `None` for a `HEAD` that is on none.
    pub fn reference(&self) -> Option<String> {
        match self {
            Followed::Local { reference } => reference.clone(),
            Followed::Remote { branch } => Some(source_reference(branch)),
        }
    }

    /// Returns the name of the branch; `None` for a `HEAD` that is on none.
    pub fn branch(&self) -> Option<&str> {
        match self {
            Followed::Local { reference } => reference.as_deref().map(|one| one.trim_start_matches("refs/heads/")),
            Followed::Remote { branch } => Some(branch),
        }
    }
}

/// The target of a run, which never changes, by the number of the run.
pub(super) type KnownTarget = Option<(i64, Rc<DeviceIds>)>;

/// Why a commit is held that does not come after another one; `None` when it is not.
pub(super) type KnownStandstill = Option<((String, String), Option<String>)>;

/// What one thread answers with.
pub struct Desk<'w> {
    pub(super) workspace: &'w Workspace,
    pub(super) followed: Followed,
    parsed: ParsedFiles,
    recorded: Recorded,
    /// The files of commits that were looked at last, the newest look last.
    known: Vec<(String, Files<'w>)>,
    /// The files that are in force in place of those of a commit that cannot be used, and that commit.
    standing: Option<(String, Files<'w>)>,
    pub(super) known_target: KnownTarget,
    pub(super) known_standstill: KnownStandstill,
    /// When the answers of devices were dropped last that are too old.
    pub(super) dropped_at: Option<Timestamp>,
    /// How many new devices of each group have registered in the minute that began then.
    pub(super) new_devices: BTreeMap<String, (Timestamp, u32)>,
}

impl<'w> Desk<'w> {
    pub fn new(workspace: &'w Workspace, followed: Followed) -> Desk<'w> {
        Desk {
            workspace,
            followed,
            parsed: ParsedFiles::default(),
            recorded: Recorded::default(),
            known: Vec::new(),
            standing: None,
            known_target: None,
            known_standstill: None,
            dropped_at: None,
            new_devices: BTreeMap::new(),
        }
    }

    /// Returns the newest commit that is here of the followed branch.
    pub(super) fn head(&self) -> Result<String, HubError> {
        Ok(match self.followed.reference() {
            Some(reference) => self.workspace.repo.resolve(&reference)?,
            None => self.workspace.repo.head()?,
        })
    }

    /// Returns the files of the newest commit that can be used, as the daemon has them in force.
    pub(super) fn files(&mut self) -> Result<Files<'w>, HubError> {
        let head = self.head()?;
        if let Some((commit, files)) = &self.standing
            && *commit == head
        {
            return Ok(files.clone());
        }
        let newest = self.files_at(&head);
        let has_fleet = !matches!(newest, Err(HubError::Ops(OpsError::Repo(RepoError::NoFleetAt { .. }))));
        if has_fleet && newest.as_ref().map_or(true, Files::is_usable) {
            return newest;
        }
        let place = (head.as_str(), self.followed.branch());
        match Files::before(self.workspace, place, &mut self.parsed)? {
            Some(files) => {
                self.standing = Some((head, files.clone()));
                Ok(files)
            }
            None => newest,
        }
    }

    /// Returns the files of a commit that another one is to be made on.
    ///
    /// # Errors
    /// Its Fleet document cannot be used: what is committed would not be taken up.
    pub(super) fn files_to_commit_on(&mut self, tip: &str) -> Result<Files<'w>, HubError> {
        let passed_over = match self.files_at(tip) {
            Ok(files) if files.is_usable() => return Ok(files),
            Ok(files) => files.passing_over(tip),
            // The files in force say what there is to say of the tip.
            Err(error) => match self.files()?.passed_over {
                Some(newest) if newest.commit == tip => PassedOver::clone(&newest),
                Some(_) | None => return Err(error),
            },
        };
        let branch = self.followed.branch().unwrap_or("HEAD").to_string();
        Err(HubError::Unavailable(format!(
            "nothing can be committed while the newest commit of {branch} cannot be used: {} Mend that, and ask again",
            passed_over.reason()
        )))
    }

    /// Returns the files of a commit.
    pub(super) fn files_at(&mut self, commit: &str) -> Result<Files<'w>, HubError> {
        if let Some(at) = self.known.iter().position(|(known, _)| known == commit) {
            let known = self.known.remove(at);
            self.known.push(known);
        } else {
            let before = self.known.last().map(|(_, files)| &files.tree);
            let tree = self.workspace.repo.tree_after(commit, before)?;
            let named = (&self.workspace.repo, self.followed.branch());
            let files = Files::of_tree(tree, named, OnError::Hold, &mut self.parsed);
            if self.known.len() == KNOWN_MAX {
                self.known.remove(0);
            }
            self.known.push((commit.to_string(), files));
        }
        let (_, files) = self.known.last().expect("it was just put there");
        Ok(files.clone())
    }

    pub(super) fn declared(&mut self) -> Result<Arc<Declared>, HubError> {
        Ok(Arc::clone(self.files()?.usable()?))
    }

    /// Returns the newest files with what was done, as a plan of them would see it.
    pub(super) fn view(&mut self) -> Result<View<'w>, HubError> {
        let files = self.files()?;
        self.view_of(files)
    }

    pub(super) fn view_of(&mut self, files: Files<'w>) -> Result<View<'w>, HubError> {
        // The daemon may claim a run between the look at the branch and the one at the registry.
        self.view_once(files.clone()).or_else(|_| self.view_once(files))
    }

    fn view_once(&mut self, files: Files<'w>) -> Result<View<'w>, HubError> {
        let fleet = Arc::clone(files.usable()?);
        let branch = self.workspace.repo.results(&fleet.fleet.results.branch);
        let registry = self.workspace.open_for_reading(&fleet.fleet)?;
        let mut view = View::unread(self.workspace, files, branch, registry)?;
        view.add_occurrences()?;
        for _ in 1..READS_MAX {
            let tip = view.branch.tip()?;
            let read = view.read_ledger(&mut self.recorded);
            // The daemon writes to the branch and to the registry meanwhile: what was read of both may not fit.
            if read.is_ok() || view.branch.tip()? == tip {
                read?;
                return Ok(view);
            }
        }
        view.read_ledger(&mut self.recorded)?;
        Ok(view)
    }

    /// Opens the registry for reading.
    pub(super) fn registry(&mut self) -> Result<Registry, HubError> {
        let declared = self.declared()?;
        Ok(self.workspace.open_for_reading(&declared.fleet)?)
    }

    /// Opens the registry for writing.
    pub(super) fn registry_to_write(&mut self) -> Result<Registry, HubError> {
        let declared = self.declared()?;
        let own = self.workspace.own_registry(&declared.fleet)?;
        Ok(Registry::new(own.open_for_writing()?))
    }

    /// Returns what the fleet says of its hub.
    ///
    /// # Errors
    /// The Fleet document cannot be used, or has no `spec.link.iotHub`.
    pub fn config(&mut self) -> Result<HubLinkConfig, HubError> {
        let none = || HubError::Unavailable("the fleet has no `spec.link.iotHub`, so there is no hub here".to_string());
        self.declared()?.fleet.link.hub().cloned().ok_or_else(none)
    }

    pub(super) fn api(&mut self) -> Result<HubApi, HubError> {
        Ok(self.config()?.api)
    }

    /// Returns true when something that cannot be used has a name that a job of this id may have.
    pub(super) fn held(&mut self, id: &str) -> Result<Option<String>, HubError> {
        Ok(held(&self.files()?, id))
    }
}

/// Returns why a job or schedule of these files cannot be used that has a name that a job of this id may have.
pub(super) fn held(files: &Files<'_>, id: &str) -> Option<String> {
    let names = names::names_of(id);
    let is_its = |kind: Kind, name: &Name| [Kind::Job, Kind::Schedule].contains(&kind) && names.contains(name);
    let held = files.held.documents.iter().find(|((kind, name), _)| is_its(*kind, name));
    held.map(|(_, hold)| hold.why.clone())
}
