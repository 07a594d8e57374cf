//! Whose fleet it is: that of this registry, of another one, or of none yet.
//!
//! The results branch names the one registry that works on a fleet ([`Owner`]). Any other one looks and plans. A
//! registry that is made in the place of one that was lost, in the repository where that worked, takes its identity.
//! One that was put back from a copy catches up with its [`Witness`].
//!
//! Machines that share a database share its registry: whichever of them is named on the branch, the others work on the
//! fleet as well. Each has a witness of what it has sent itself, so what the others have sent since is not known to it.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::rc::Rc;

use jiff::Timestamp;

use super::ReconcileError;
use super::put_back::record_published;
use super::witnessed::Witnessed;
use crate::execute::{CrashPoints, Progress, writer};
use crate::ledger::claim_path;
use crate::model::encoding::hex;
use crate::model::id::{Name, RunToken};
use crate::model::job::Action;
use crate::prepare::{OwnRegistry, Recorded, View, at_work, host};
use crate::registry::sqlite::{SqlitePlace, identity_at};
use crate::registry::{Change, ExclusionFailure, JournaledRun, Moved, Registry, RegistryIdentity, StorePlace as _};
use crate::repo::{Owner, Repo, RepoError, ResultsBranch, Witness};
use crate::results::{Trailers, with_trailers};

/// The part of a registry in the question whose fleet it is.
pub(super) struct Ownership {
    /// This registry.
    pub own: Owner,
    /// The one that the branch names.
    named: Option<Owner>,
    witness: Rc<RefCell<Witness>>,
    paths: Vec<PathBuf>,
    /// It is a database: other machines may work with it, of which the witness here does not know.
    is_shared: bool,
    /// The witness knew of more than the registry when that was opened.
    is_behind: bool,
    /// Whether it was put back is looked at once: only this process writes to it from then on.
    has_looked: bool,
    /// It is a copy that waits for its identity, or gave its own up.
    moved: Option<Moved>,
}

impl Ownership {
    /// Returns the part of a registry that was just opened, and the registry with its witness.
    ///
    /// # Errors
    /// The registry cannot be read.
    pub fn of(
        registry: Registry,
        (repo, branch): (&Repo, &mut ResultsBranch<'_>),
        (place, process): (&OwnRegistry, &str),
        crash: &CrashPoints,
    ) -> Result<(Ownership, Registry), ReconcileError> {
        let mut registry = registry;
        let mut identity = registry.identity()?;
        let file = place.file();
        let paths: Vec<PathBuf> = [Witness::path(repo, branch)].into_iter().chain(place.witness_path()).collect();
        let known = || paths.iter().filter_map(|path| Witness::read(path));
        // A copy beside the original is another registry, unless that has given up to be the original. A database may
        // have several addresses.
        let is_original = |there: &PathBuf| identity_at(there).is_none_or(|found| found == identity.id);
        let is_copied =
            |one: &Witness, file: &PathBuf| one.was_copied_to(file) && one.file().as_ref().is_none_or(is_original);
        let is_copy = |file: &PathBuf| known().any(|one| one.registry == identity.id && is_copied(&one, file));
        if file.as_ref().is_some_and(is_copy) {
            (identity.id, identity.moved) = (drawn_identity(), None);
            registry.write(Change::Inherit { identity: &identity.id })?;
        }
        let mut witness = Witness { registry: identity.id.clone(), ..Witness::default() };
        known().for_each(|one| witness.learn(&one));
        (witness.place, witness.process) = (place.place_name(), process.to_string());
        let behind = witness.sends > identity.sends;
        witness.sends = witness.sends.max(identity.sends);
        let witness = Rc::new(RefCell::new(witness));
        branch.belong_to(&identity.id);
        let own = Owner { registry: identity.id, host: host() };
        let ownership = Ownership {
            own,
            named: None,
            witness: Rc::clone(&witness),
            paths: paths.clone(),
            is_shared: file.is_none(),
            is_behind: behind,
            has_looked: false,
            moved: identity.moved,
        };
        let witnessed =
            Witnessed { port: registry.into_store(), paths, witness, crash: crash.clone(), is_claimed: false };
        Ok((ownership, Registry::new(Box::new(witnessed))))
    }

    /// Returns the other registry that works on the fleet.
    pub fn other(&self) -> Option<&Owner> {
        self.named.as_ref().filter(|named| named.registry != self.own.registry)
    }

    /// Returns true when the branch names no registry yet.
    pub fn is_free(&self) -> bool {
        self.named.is_none()
    }

    /// Looks whose fleet it is. A registry in the place of a lost one takes its identity, and one that was put back
    /// catches up.
    ///
    /// # Errors
    /// The branch or the registry cannot be read or written.
    pub fn look(
        &mut self,
        (view, recorded): (&mut View<'_>, &mut Recorded),
        now: Timestamp,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<(), ReconcileError> {
        self.named = view.branch.owner()?;
        if let Some(named) = self.other().cloned()
            && self.moved.is_none()
            && !view.registry.branch_copy().exists()?
            && let Some(lost) = self.lost(&named.registry)
        {
            let id = named.registry.as_str();
            let caught_up = Change::CatchUp { sends: lost.sends, runs: &[], at: now };
            view.registry.commit(&[Change::Inherit { identity: id }, caught_up])?;
            view.branch.belong_to(id);
            self.own.registry = id.to_string();
            let mut witness = self.witness.borrow_mut();
            (witness.registry, witness.sends) = (id.to_string(), lost.sends);
        }
        if !std::mem::replace(&mut self.has_looked, true) && self.other().is_none() {
            self.catch_up((view, recorded), now, observer)?;
        }
        Ok(())
    }

    /// Returns what is written of a registry; `None` when it never worked from here.
    fn witness_of(&self, registry: &str) -> Option<Witness> {
        self.paths.iter().filter_map(|path| Witness::read(path)).find(|one| one.registry == registry)
    }

    /// Returns the witness of a registry that worked from here and is gone, or was in this registry's place.
    fn lost(&self, registry: &str) -> Option<Witness> {
        let place = self.witness.borrow().place.clone();
        let found = self.witness_of(registry)?;
        (found.place == place || found.is_gone()).then_some(found)
    }

    /// Marks devices as sent that may have been sent to after the copy was made that was put back. What the branch has
    /// of them is recorded.
    fn catch_up(
        &mut self,
        (view, recorded): (&mut View<'_>, &mut Recorded),
        now: Timestamp,
        observer: &mut dyn FnMut(&Progress),
    ) -> Result<(), ReconcileError> {
        let RegistryIdentity { sends, may_lack, .. } = view.registry.identity()?;
        let witness = self.witness.borrow().clone();
        let is_witnessed = self.witness_of(&self.own.registry).is_some();
        let open = view.registry.journal().unclosed()?;
        let is_command =
            |name: &Name| view.declared.jobs.get(name).is_none_or(|job| matches!(job.action, Action::Command(_)));
        let is_behind = self.is_behind || may_lack || has_unknown_claims(view, &open)?;
        // What a database has that was not seen here is of another machine.
        if !is_behind && (self.is_shared || is_witnessed || sends == 0) {
            return Ok(());
        }
        let may_be_sent = |job: &Name, run: &RunToken, total: u32| match is_witnessed && !self.is_shared {
            true => witness.runs.get(&format!("{job}/{run}")).map_or(0, |end| (*end).min(total)),
            false => total,
        };
        let commands = open.iter().filter(|run| is_command(&run.job));
        let runs: Vec<(i64, u32)> =
            commands.map(|run| (run.run_id, may_be_sent(&run.job, &run.run, run.total))).collect();
        if runs.iter().all(|(_, end)| *end == 0) && !is_behind {
            return Ok(());
        }
        view.read_ledger(recorded)?;
        for run in &open {
            record_published(view, run)?;
        }
        let at = if witness.at == Timestamp::UNIX_EPOCH { now } else { witness.at };
        view.registry.write(Change::CatchUp { sends: witness.sends, runs: &runs, at })?;
        observer(&Progress::RegistryPutBack {
            runs: open.iter().map(|run| (run.job.clone(), run.run.clone())).collect(),
        });
        Ok(())
    }

    /// Makes this registry the one that works on the fleet, where the results stay in the repository.
    ///
    /// # Errors
    /// Another one does, and is not to be taken over from or is at work; or the branch cannot be written.
    pub fn bind(&mut self, branch: &ResultsBranch<'_>, takes_over: bool) -> Result<(), ReconcileError> {
        if takes_over && let Some(other) = self.other() {
            self.refuse_at_work(other)?;
        }
        let subject = match self.other() {
            Some(_) => "fleet: another registry takes over",
            None => "fleet: a registry begins to work",
        };
        let message = with_trailers(subject, &Trailers { writer: &writer(), ..Trailers::default() });
        branch.bind(&self.own, takes_over, &message)?;
        self.has_bound()
    }

    /// Notes that the branch names this registry.
    ///
    /// # Errors
    /// The witness cannot be written.
    pub fn has_bound(&mut self) -> Result<(), ReconcileError> {
        if self.named.as_ref().is_some_and(|named| named.registry == self.own.registry) {
            return Ok(());
        }
        self.named = Some(self.own.clone());
        let fail =
            |source| ReconcileError::Output { what: "the witness of the registry cannot be written".into(), source };
        self.witness.borrow().write_all(&self.paths).map_err(fail)
    }

    /// Refuses to take over from a registry of this machine that a process works with now.
    fn refuse_at_work(&self, other: &Owner) -> Result<(), ReconcileError> {
        let witness = self.witness_of(&other.registry);
        // Of a database only its own lease says who works with it, and how it is reached is not known here.
        let Some(place) = witness.and_then(|one| one.file()).filter(|file| file.exists()) else { return Ok(()) };
        match SqlitePlace::new(place, "").exclude("take-over") {
            Err(ExclusionFailure::Held(holder)) => Err(ExclusionFailure::Held(holder).into()),
            Ok(_) | Err(ExclusionFailure::Failed(_)) => Ok(()),
        }
    }

    /// Returns why this registry only looks, and which process is at work with the other one.
    pub fn refusal(&self, branch: &ResultsBranch<'_>, now: Timestamp) -> Option<ReconcileError> {
        let Owner { registry, host } = self.other()?.clone();
        let error = RepoError::NotOwner { branch: branch.name().to_string(), registry, host };
        let at_work = match at_work(branch, now).ok().flatten() {
            Some(process) => format!("; {process} is at work"),
            None => String::new(),
        };
        let (moved, help) = match &self.moved {
            None => (String::new(), error.help()),
            Some(Moved::CopyOf(_)) => (
                "; this one is a copy that is not finished".to_string(),
                "Run the same `fleetform registry copy` once more: it goes on.".to_string(),
            ),
            Some(Moved::GaveUp { to, .. }) => (
                format!("; this one was copied to {to}"),
                "Name the copy in `spec.registry` or with --registry. To go back, copy it back, to another place."
                    .to_string(),
            ),
        };
        Some(ReconcileError::Held { what: format!("{error}{moved}{at_work}"), help })
    }
}

/// Returns an identity for a registry, 32 hex digits.
pub(super) fn drawn_identity() -> String {
    let mut drawn = [0; 16];
    getrandom::fill(&mut drawn).expect("the system has randomness, which its registries were made with");
    hex(&drawn)
}

/// Returns true when the branch has claims that this registry made and does not know: it is older than they are. Asked
/// only where something is open.
fn has_unknown_claims(view: &View<'_>, open: &[JournaledRun]) -> Result<bool, ReconcileError> {
    if open.is_empty() || !view.registry.branch_copy().exists()? {
        return Ok(false);
    }
    let mut journaled: BTreeSet<String> = view.registry.journal().claim_documents()?.into_keys().collect();
    // Of a process that died before it could note that its claim is there.
    journaled.extend(open.iter().map(|run| claim_path(&run.job, &run.run)));
    let kept = view.registry.branch_copy().file_ids()?;
    let is_unknown = |path: &String| !journaled.contains(path) && !kept.contains_key(path);
    Ok(view.branch.entries(|path| path.starts_with("claims/"))?.keys().any(is_unknown))
}
