//! The copies that a rehearsal works on.

use std::fs::DirBuilder;
use std::path::{Path, PathBuf};

use crate::model::fleet::Fleet;
use crate::ops::OpsError;
use crate::prepare::Workspace;
use crate::registry::Registry;
use crate::repo::Repo;

/// How often the registry and the branch are read again because an apply worked in between.
const LOOKS_MAX: usize = 5;
/// Names that are tried for a folder.
const NAMES_MAX: u32 = 1_000;

/// A folder of this process for what has to be in files, readable by its owner; removed with all that is in it when it
/// is dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    path: PathBuf,
}

impl ScratchFolder {
    /// Makes a folder below the system's for temporary files.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make() -> Result<ScratchFolder, OpsError> {
        let parent = std::env::temp_dir();
        let mut builder = DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let mut number = 0;
        loop {
            let path = parent.join(format!("fleetform-simulate-{}-{number}", std::process::id()));
            match builder.create(&path) {
                Ok(()) => return Ok(ScratchFolder { path }),
                // It belongs to another thread, or to a process that was killed.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && number < NAMES_MAX => number += 1,
                Err(source) => {
                    let what = format!("the temporary folder {} cannot be made", path.display());
                    return Err(OpsError::Output { what, source });
                }
            }
        }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchFolder {
    fn drop(&mut self) {
        // What stays is for the system to clean up, as all of its folder is.
        drop(std::fs::remove_dir_all(&self.path));
    }
}

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
