//! A repository for rehearsals: reads the objects of the real one, writes to memory.

use std::path::Path;

use git2::{Repository, RepositoryInitOptions};

use super::{Repo, RepoError};

/// Above the object stores on disk, whose priorities are 1 and 2.
const MEMORY_PRIORITY: i32 = 1_000;

/// Returns another handle of a repository, which keeps new objects in memory.
///
/// # Errors
/// It cannot be opened.
pub(super) fn in_memory(repository: &Repository) -> Result<Repository, git2::Error> {
    let memory = Repository::open(repository.commondir())?;
    {
        let objects = memory.odb()?;
        // The object store owns the backend from here on.
        let _backend = objects.add_new_mempack_backend(MEMORY_PRIORITY)?;
    }
    Ok(memory)
}

impl Repo {
    /// Makes a bare repository in an empty folder, with the results branch at the same commit as here. It reads this
    /// repository's objects and keeps new ones in memory; its folder holds references only. This repository is not
    /// written.
    ///
    /// # Errors
    /// The folder cannot be written or the branch cannot be read.
    pub fn scratch(&self, folder: &Path, branch: &str) -> Result<Repo, RepoError> {
        let tip = self.results(branch).tip_id()?;
        let make = || {
            let mut options = RepositoryInitOptions::new();
            // Templates of the user hold hooks and exclusions, which a rehearsal does not need.
            let options = options.bare(true).no_reinit(true).external_template(false);
            let repository = Repository::init_opts(folder, options)?;
            {
                let objects = repository.odb()?;
                // The object store owns the backend from here on.
                let _memory = objects.add_new_mempack_backend(MEMORY_PRIORITY)?;
                objects.add_disk_alternate(&self.repository.commondir().join("objects").to_string_lossy())?;
            }
            if let Some(tip) = tip {
                repository.reference(&format!("refs/heads/{branch}"), tip, false, "rehearsal")?;
            }
            Ok(repository)
        };
        let repository = make().map_err(|e| RepoError::git("make a repository to rehearse in", folder, e))?;
        Ok(Repo::of(repository, String::new(), None))
    }
}
