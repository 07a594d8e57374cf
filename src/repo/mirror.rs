//! The daemon's own copy of a remote repository: a bare repository in `.fleetform/mirror.git` of the folder that the
//! daemon works in. Nothing is ever checked out.
//!
//! The followed branch is kept apart from the branches of the mirror, at `refs/fleetform/source/<branch>`: it always
//! moves to where the remote has it, while the results branch of the mirror may be ahead of the remote's. `HEAD` names
//! the followed branch, so that other commands in the folder see the fleet as the daemon does.

use std::path::Path;

use super::{Repo, RepoError, init_mirror};

/// The path of the mirror below the folder of a daemon.
const MIRROR: &str = ".fleetform/mirror.git";
/// The remote's name in the mirror's configuration.
pub const MIRRORED: &str = "origin";
/// Where the followed branch is kept.
const SOURCES: &str = "refs/fleetform/source/";
/// The key of the fleet's folder in the mirror's configuration.
const PATH_KEY: &str = "fleetform.path";

impl Repo {
    /// Makes or opens the mirror in a folder, for a branch of a remote repository and the folder of one fleet in it
    /// (empty for its root).
    ///
    /// # Errors
    /// The folder cannot be written, or the branch has an illegal name.
    pub fn mirror(home: &Path, address: &str, branch: &str, path: &str) -> Result<Repo, RepoError> {
        let folder = home.join(MIRROR);
        if super::discover(home)?.is_some() {
            return Err(RepoError::InsideRepository { path: home.to_path_buf() });
        }
        if let Some(parent) = folder.parent() {
            let fail = |source| RepoError::Io { path: parent.to_path_buf(), doing: "made", source };
            std::fs::create_dir_all(parent).map_err(fail)?;
            std::fs::write(parent.join(".gitignore"), "*\n").map_err(fail)?;
        }
        init_mirror(&folder)?;
        let configure = || {
            let repository = git2::Repository::open_bare(&folder)?;
            if repository.find_remote(MIRRORED).is_err() {
                repository.remote(MIRRORED, address)?;
            }
            repository.config()?.set_str(PATH_KEY, path.trim_matches('/'))?;
            repository.reference_symbolic("HEAD", &source_reference(branch), true, "follow")?;
            Ok(())
        };
        configure().map_err(|e: git2::Error| RepoError::git("make a mirror", &folder, e))?;
        let repo = Repo::open_mirror(home)?.ok_or_else(|| RepoError::NoRepository { path: folder.clone() })?;
        if repo.mirrored() == Some(address.to_string()) {
            return Ok(repo);
        }
        // The mirror may hold another fleet: a person must say that the fleet has moved.
        if repo.has_references()? {
            return Err(repo.is_a_mirror());
        }
        // Nothing was ever fetched from the old address: it was mistyped.
        let moved = repo.repository.remote_set_url(MIRRORED, address);
        moved.map_err(|e| RepoError::git("make a mirror", &folder, e))?;
        Ok(repo)
    }

    fn has_references(&self) -> Result<bool, RepoError> {
        let fail = |e| RepoError::git("read the mirror", self.repository.path(), e);
        Ok(self.repository.references().map_err(fail)?.next().is_some())
    }

    /// Returns the address of the mirrored repository; `None` when it is not known.
    pub(super) fn mirrored(&self) -> Option<String> {
        self.repository.find_remote(MIRRORED).ok()?.url().ok().map(str::to_string)
    }

    /// Returns the branch of the remote that is followed; `None` where this is no mirror.
    pub fn followed_branch(&self) -> Option<String> {
        let head = self.repository.find_reference("HEAD").ok()?;
        let target = head.symbolic_target().ok().flatten()?;
        target.strip_prefix(SOURCES).map(str::to_string)
    }

    /// Returns the error for operations that a mirror does not support.
    pub fn is_a_mirror(&self) -> RepoError {
        let address = self.mirrored().map_or_else(String::new, |address| super::without_secrets(&address).into_owned());
        RepoError::Mirror { path: self.folder().to_path_buf(), address }
    }

    /// Opens the mirror of a folder; `None` when it has none.
    pub(super) fn open_mirror(home: &Path) -> Result<Option<Repo>, RepoError> {
        let folder = home.join(MIRROR);
        if !folder.exists() {
            return Ok(None);
        }
        let open = || {
            let repository = git2::Repository::open_bare(&folder)?;
            let path = repository.config()?.get_string(PATH_KEY).unwrap_or_default();
            Ok((repository, path))
        };
        let (repository, path) = open().map_err(|e: git2::Error| RepoError::git("open the mirror", &folder, e))?;
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        Ok(Some(Repo { home: Some(home.to_path_buf()), ..Repo::of(repository, prefix, None) }))
    }
}

/// Returns true for a legal name of a branch, without `refs/heads/`.
pub fn is_branch_name(name: &str) -> bool {
    git2::Branch::name_is_valid(name).unwrap_or(false)
}

/// Returns the reference of the followed branch in the mirror.
pub fn source_reference(branch: &str) -> String {
    format!("{SOURCES}{branch}")
}
