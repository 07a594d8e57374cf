//! A fleet goes on with a copy of its registry.
//!
//! The copy is whole before anything else changes, and never do two registries have the identity that the results
//! branch names:
//!
//! 1. The copy gets all rows in one transaction, with an identity of its own, and a note of whose copy it is. It is
//!    compared with the original.
//! 2. The original takes another identity, and notes where the copy is. Neither works on the fleet now.
//! 3. What is witnessed of the original is witnessed of the copy.
//! 4. The copy takes the identity.
//!
//! A process that dies leaves what [`Stage::of`] makes out; the next one goes on there.

use std::path::PathBuf;

use super::ReconcileError;
use super::ownership::drawn_identity;
use crate::execute::CrashPoints;
use crate::prepare::OwnRegistry;
use crate::registry::{Change, Moved, Registry, RegistryIdentity};
use crate::repo::{Repo, ResultsBranch, Witness};

/// How far a copy is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// The rows are to be copied.
    Rows,
    /// The copy has rows that are to be compared: the original may have been worked on since.
    Compare,
    /// The original has given this identity up, and the copy does not have it yet.
    GivenUp { identity: String },
    /// The copy works on the fleet.
    Done,
}

/// Why a registry cannot be copied to another place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfit {
    /// It is itself a copy that is not finished.
    IsUnfinished,
    /// It was copied to another place, and the copy works on the fleet.
    WasCopied { to: String },
    /// The results branch names another registry, or none.
    IsNotTheFleets { named: Option<String> },
    /// Both have the identity: they are one, or the other one was copied in another way.
    IsThere,
}

impl Stage {
    /// Returns how far the copy of a registry is, where the results branch names a registry.
    ///
    /// # Errors
    /// The registry cannot be copied there.
    pub fn of(from: &RegistryIdentity, to: &RegistryIdentity, named: Option<&str>) -> Result<Stage, Unfit> {
        let is_the_fleets = named == Some(from.id.as_str());
        match &from.moved {
            Some(Moved::GaveUp { identity, .. }) if !is_the_fleets && to.id == *identity && to.moved.is_none() => {
                return Ok(Stage::Done);
            }
            Some(Moved::GaveUp { identity, to: place }) if !is_the_fleets => {
                let is_copy = to.moved.as_ref() == Some(&Moved::CopyOf(identity.clone()));
                return match is_copy && named == Some(identity.as_str()) {
                    true => Ok(Stage::GivenUp { identity: identity.clone() }),
                    false => Err(Unfit::WasCopied { to: place.clone() }),
                };
            }
            Some(Moved::CopyOf(_)) => return Err(Unfit::IsUnfinished),
            Some(Moved::GaveUp { .. }) | None => {}
        }
        if !is_the_fleets {
            return Err(Unfit::IsNotTheFleets { named: named.map(str::to_string) });
        }
        match &to.moved {
            _ if to.id == from.id => Err(Unfit::IsThere),
            Some(Moved::CopyOf(identity)) if *identity == from.id => Ok(Stage::Compare),
            Some(_) | None => Ok(Stage::Rows),
        }
    }
}

/// The two registries of a copy that is whole.
pub struct Handover<'a> {
    pub from: (&'a OwnRegistry, &'a mut Registry),
    pub to: (&'a OwnRegistry, &'a mut Registry),
    /// The name of this process.
    pub process: &'a str,
    pub crash: &'a CrashPoints,
}

impl Handover<'_> {
    /// Gives the identity of the original to the copy. `given_up` is the one that the original had, when it has given
    /// it up already. The right to work on both has to be held.
    ///
    /// # Errors
    /// One of them, or what is witnessed, cannot be written. The next try goes on.
    pub fn finish(
        self,
        given_up: Option<String>,
        (repo, branch): (&Repo, &ResultsBranch<'_>),
    ) -> Result<(), ReconcileError> {
        let (from, original) = self.from;
        let (to, copy) = self.to;
        let identity = match given_up {
            Some(identity) => identity,
            None => {
                let identity = original.identity()?.id;
                let change = Change::GiveUp { identity: &drawn_identity(), to: &to.place_name() };
                original.write(change)?;
                identity
            }
        };
        let sends = copy.identity()?.sends;
        let common = Witness::path(repo, branch);
        let witness = witness_of(&identity, sends, (from, &common));
        let fail =
            |source| ReconcileError::Output { what: "the witness of the registry cannot be written".into(), source };
        let moved = self.crash.around("move witness", || {
            match witness {
                Some(witness) => {
                    let witness = Witness { process: self.process.to_string(), place: to.place_name(), ..witness };
                    let paths: Vec<PathBuf> = [common].into_iter().chain(to.witness_path()).collect();
                    witness.write_all(&paths)?;
                }
                None => to.witness_path().iter().try_for_each(remove)?,
            }
            from.witness_path().iter().try_for_each(remove)
        });
        moved.map_err(fail)?;
        copy.write(Change::Inherit { identity: &identity })?;
        Ok(())
    }
}

/// Returns true for a registry that may lack what was sent, as the next apply with it finds out and settles: a copy
/// elsewhere could not know.
///
/// # Errors
/// The registry cannot be read.
pub fn is_unsettled(
    (place, registry): (&OwnRegistry, &Registry),
    (repo, branch): (&Repo, &ResultsBranch<'_>),
) -> Result<bool, ReconcileError> {
    let RegistryIdentity { id, sends, may_lack, moved: _ } = registry.identity()?;
    let paths = [Witness::path(repo, branch)].into_iter().chain(place.witness_path());
    let known = paths.filter_map(|path| Witness::read(&path)).filter(|one| one.registry == id);
    match known.map(|one| one.sends).max() {
        Some(witnessed) => Ok(may_lack || witnessed > sends),
        // What a database has is taken for true: other machines work with it.
        None if place.file().is_none() || sends == 0 => Ok(may_lack),
        None => Ok(may_lack || !registry.journal().unclosed()?.is_empty()),
    }
}

/// Returns what is witnessed of a registry; `None` for a file of which nothing is witnessed here: it may have been put
/// back from a backup, and who opens the copy has to know that, too. What a database has is taken for true.
fn witness_of(identity: &str, sends: u64, (from, common): (&OwnRegistry, &PathBuf)) -> Option<Witness> {
    let paths = [common.clone()].into_iter().chain(from.witness_path());
    let known: Vec<Witness> =
        paths.filter_map(|path| Witness::read(&path)).filter(|one| one.registry == identity).collect();
    if known.is_empty() && sends > 0 && from.file().is_some() {
        return None;
    }
    let mut witness = Witness { registry: identity.to_string(), sends, ..Witness::default() };
    known.iter().for_each(|one| witness.learn(one));
    Some(witness)
}

fn remove(path: &PathBuf) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(id: &str) -> RegistryIdentity {
        RegistryIdentity { id: id.to_string(), sends: 0, may_lack: false, moved: None }
    }

    fn copy_of(id: &str, of: &str) -> RegistryIdentity {
        RegistryIdentity { moved: Some(Moved::CopyOf(of.to_string())), ..plain(id) }
    }

    fn gave_up(id: &str, identity: &str) -> RegistryIdentity {
        let moved = Moved::GaveUp { identity: identity.to_string(), to: "b.db".to_string() };
        RegistryIdentity { moved: Some(moved), ..plain(id) }
    }

    #[test]
    fn a_copy_goes_on_where_the_last_one_died() {
        let check = |from: &RegistryIdentity, to: &RegistryIdentity, named, expect: Result<Stage, Unfit>| {
            assert_eq!(Stage::of(from, to, named), expect, "{from:?} {to:?} {named:?}");
        };
        let given_up = || Ok(Stage::GivenUp { identity: "f".to_string() });
        check(&plain("f"), &plain("t"), Some("f"), Ok(Stage::Rows));
        check(&plain("f"), &copy_of("t", "f"), Some("f"), Ok(Stage::Compare));
        check(&gave_up("d", "f"), &copy_of("t", "f"), Some("f"), given_up());
        check(&gave_up("d", "f"), &plain("f"), Some("f"), Ok(Stage::Done));
        // Back, to a new place; and from a registry that took over again.
        check(&plain("f"), &gave_up("d", "f"), Some("f"), Ok(Stage::Rows));
        check(&gave_up("d", "f"), &plain("t"), Some("d"), Ok(Stage::Rows));
        check(&gave_up("d", "f"), &copy_of("t", "d"), Some("d"), Ok(Stage::Compare));
        // What was taken over is not given away by a copy of before.
        let was_copied = || Err(Unfit::WasCopied { to: "b.db".to_string() });
        check(&gave_up("d", "f"), &copy_of("t", "f"), Some("x"), was_copied());
        check(&gave_up("d", "f"), &copy_of("t", "f"), None, was_copied());
    }

    #[test]
    fn what_is_not_the_registry_of_the_fleet_is_not_copied() {
        let check = |from: &RegistryIdentity, to: &RegistryIdentity, named: Option<&str>, expect: Unfit| {
            assert_eq!(Stage::of(from, to, named), Err(expect), "{from:?} {to:?} {named:?}");
        };
        let other = |named: Option<&str>| Unfit::IsNotTheFleets { named: named.map(str::to_string) };
        check(&plain("f"), &plain("t"), Some("x"), other(Some("x")));
        check(&plain("f"), &plain("t"), None, other(None));
        check(&plain("f"), &plain("f"), Some("f"), Unfit::IsThere);
        check(&copy_of("t", "f"), &plain("u"), Some("f"), Unfit::IsUnfinished);
        check(&gave_up("d", "f"), &plain("t"), Some("f"), Unfit::WasCopied { to: "b.db".to_string() });
        // The copy was copied on.
        check(&gave_up("d", "f"), &gave_up("e", "f"), Some("f"), Unfit::WasCopied { to: "b.db".to_string() });
    }
}
