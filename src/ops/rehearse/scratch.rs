//! The copies that a rehearsal works on.

use std::path::Path;

use crate::model::fleet::Fleet;
use crate::ops::OpsError;
use crate::prepare::Workspace;
use crate::registry::Registry;
use crate::repo::Repo;

/// How often the registry and the branch are read again because an apply worked in between.
const LOOKS_MAX: usize = 5;

/// Returns a copy of the registry and a repository with the results branch, both as of one moment: without a lock,
/// another process may apply while they are made.
pub(super) fn copies(workspace: &Workspace, fleet: &Fleet, folder: &Path) -> Result<(Registry, Repo), OpsError> {
    let branch = &fleet.results.branch;
    let real = workspace.open_for_reading(fleet)?;
    for _ in 0..LOOKS_MAX {
        let before = workspace.repo.results(branch).tip()?;
        let registry = real.scratch_copy()?;
        if workspace.repo.results(branch).tip()? == before {
            return Ok((registry, workspace.repo.scratch(folder, branch)?));
        }
    }
    Err(OpsError::Held {
        what: "another fleetform is applying to this registry".to_string(),
        help: "Rehearse again when it is done.".to_string(),
    })
}
