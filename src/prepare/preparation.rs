//! What planning reads, apart from the registry.

use jiff::Timestamp;

use super::secrets::SecretStore;
use crate::ledger::Ledger;
use crate::manifest::Loaded;
use crate::model::fleet::{Declared, HeldDocuments};
use crate::model::id::Name;
pub(super) use crate::model::text::devices_of;
use crate::registry::{ImportSpec, StagedImport};
use crate::repo::{FleetTree, Repo, ResultsBranch};

/// What planning reads, apart from the registry.
pub(super) struct Preparation<'a> {
    pub repo: &'a Repo,
    pub tree: &'a FleetTree<'a>,
    pub loaded: &'a Loaded,
    pub declared: &'a Declared,
    /// Documents of the tree that cannot be used.
    pub held: &'a HeldDocuments,
    pub branch: &'a ResultsBranch<'a>,
    pub ledger: &'a Ledger,
    /// The process that has the right to work now, when it is another one and a person wants to know.
    pub at_work: Option<String>,
    /// The plan is for a person: it counts the devices that the schedules would select now, and tells what is gone.
    pub is_shown: bool,
    /// The commit whose policies judge what differs from it; `None` judges each document by what was there before its
    /// last change.
    pub base: Option<&'a str>,
    pub now: Timestamp,
    /// The secrets of this machine.
    pub secrets: &'a SecretStore,
}

/// An import file that has been compared with the registry and is ready to be written.
#[derive(Debug, Clone)]
pub struct StagedFile {
    pub import: Name,
    pub spec: ImportSpec,
    pub found: StagedImport,
}

/// Returns the first digits of the id of a commit, enough for git and for people.
pub(super) fn short(commit: &str) -> &str {
    commit.get(..10).unwrap_or(commit)
}
