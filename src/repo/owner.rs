//! The registry that works on a fleet: `fleet.json` on the results branch names it.
//!
//! `{"format_version": 1, "fleet": "acme", "registry": "9f2c…", "host": "plant-7"}`: the identity of the one registry
//! that may claim, record and close, and the machine that it is on. A branch without them is taken by the first
//! registry that works on it. Every commit checks the tip that it is made on.

use serde_json::{Value, json};

use super::writer::Writer;
use super::{FileChange, RepoError, ResultsBranch};

/// The file that names the fleet and its registry.
pub const FLEET_JSON: &str = "fleet.json";
/// How often a registry is written into a branch that others keep moving.
const ATTEMPTS_MAX: usize = 100;

/// A registry that works on a fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The identity of the registry.
    pub registry: String,
    /// The machine that it is on; a branch that others can push to may say anything.
    pub host: String,
}

impl Owner {
    /// Returns the owner that a `fleet.json` names; `None` when it names none.
    pub fn of_json(document: &Value) -> Option<Owner> {
        let text = |member: &str| document.get(member).and_then(Value::as_str).map(str::to_string);
        Some(Owner { registry: text("registry")?, host: text("host").unwrap_or_default() })
    }

    fn of_bytes(bytes: Option<Vec<u8>>) -> Option<Owner> {
        Owner::of_json(&serde_json::from_slice(&bytes?).ok()?)
    }

    /// Returns `fleet.json` with this owner in the place of another; `None` when there is no such file.
    pub fn written_into(&self, bytes: Option<Vec<u8>>) -> Option<FileChange> {
        let mut document: Value = serde_json::from_slice(&bytes?).ok()?;
        let members = document.as_object_mut()?;
        members.insert("registry".to_string(), json!(self.registry));
        members.insert("host".to_string(), json!(self.host));
        Some(FileChange::bytes(FLEET_JSON, format!("{document:#}\n").into_bytes()))
    }
}

impl ResultsBranch<'_> {
    /// Returns the registry that works on the fleet; `None` when none has yet.
    ///
    /// # Errors
    /// The branch cannot be read.
    pub fn owner(&self) -> Result<Option<Owner>, RepoError> {
        Ok(Owner::of_bytes(self.read(FLEET_JSON)?))
    }

    /// Lets all commits from here on be those of a registry: they are refused when the branch is another one's.
    pub fn belong_to(&mut self, registry: &str) {
        self.registry = Some(registry.to_string());
    }

    /// Makes a registry the one that works on the fleet, in one commit; in the place of another only when `takes_over`.
    ///
    /// # Errors
    /// [`RepoError::NotOwner`]: it is another one. Otherwise as [`ResultsBranch::commit`].
    pub fn bind(&self, owner: &Owner, takes_over: bool, message: &str) -> Result<(), RepoError> {
        let (mut writer, mut locked) = (Writer::begin(self.repository().commondir(), &self.reference), 0);
        for _ in 0..ATTEMPTS_MAX {
            let tip = self.tip_id()?.ok_or_else(|| RepoError::Gone { branch: self.name().to_string() })?;
            let bytes = self.read_at(tip, FLEET_JSON)?;
            match Owner::of_bytes(bytes.clone()) {
                Some(there) if there.registry == owner.registry => return Ok(()),
                Some(there) if !takes_over => return Err(self.not_owner(there)),
                Some(_) | None => {}
            }
            let Some(change) = owner.written_into(bytes) else { return Ok(()) };
            let Some(commit) = self.commit_unchecked(tip, &[change], message)? else { return Ok(()) };
            let from = match self.local_id()? {
                Some(local) if local != tip => continue,
                local => local,
            };
            if self.try_move(&mut writer, &mut locked, from, commit, message)? {
                return Ok(());
            }
        }
        Err(RepoError::Contended { branch: self.name().to_string() })
    }

    /// Refuses a commit on a tip that is another registry's.
    pub(super) fn check_owner(&self, tip: git2::Oid, changes: &[FileChange]) -> Result<(), RepoError> {
        let Some(own) = &self.registry else { return Ok(()) };
        // The commit that takes the fleet over.
        if changes.iter().any(|change| change.path == FLEET_JSON) {
            return Ok(());
        }
        match Owner::of_bytes(self.read_at(tip, FLEET_JSON)?) {
            Some(there) if there.registry != *own => Err(self.not_owner(there)),
            Some(_) | None => Ok(()),
        }
    }

    fn not_owner(&self, owner: Owner) -> RepoError {
        RepoError::NotOwner { branch: self.name().to_string(), registry: owner.registry, host: owner.host }
    }
}
