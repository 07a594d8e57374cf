//! A repository to rehearse in: reads what the real one has, writes to memory.

use std::path::Path;

use git2::{Repository, RepositoryInitOptions};

use super::{Repo, RepoError};

/// Before the object stores on disk, whose priorities are 1 and 2.
const MEMORY_PRIORITY: i32 = 1_000;

impl Repo {
    /// Makes a bare repository in an empty folder, whose results branch stands where the one of this repository stands. It reads this
    /// repository's objects; its own stay in memory, and its folder holds references only. Nothing of this repository is written.
    ///
    /// # Errors
    /// The folder cannot be written or the branch cannot be read.
    pub fn scratch(&self, folder: &Path, branch: &str) -> Result<Repo, RepoError> {
        let tip = self.results(branch).tip_id()?;
        let make = || {
            let mut options = RepositoryInitOptions::new();
            // Whatever templates the user has are about hooks and exclusions.
            let options = options.bare(true).no_reinit(true).external_template(false);
            let repository = Repository::init_opts(folder, options)?;
            {
                let objects = repository.odb()?;
                // It belongs to the store from here on.
                let _memory = objects.add_new_mempack_backend(MEMORY_PRIORITY)?;
                objects.add_disk_alternate(&self.repository.commondir().join("objects").to_string_lossy())?;
            }
            if let Some(tip) = tip {
                repository.reference(&format!("refs/heads/{branch}"), tip, false, "rehearsal")?;
            }
            Ok(repository)
        };
        let repository = make().map_err(|e| RepoError::git("make a repository to rehearse in", folder, e))?;
        Ok(Repo { repository, prefix: String::new(), folder: None, home: None })
    }
}
