//! Creates repositories, and commits files for a person.

use std::path::{Path, PathBuf};

use git2::{FileMode, Repository, RepositoryInitOptions};

use super::{FleetTree, Repo, RepoError};

/// Returns the root of the git work tree that a file would be in, unless git ignores it there: `git add` would take it.
///
/// # Errors
/// The folder of the file is not there.
pub fn work_tree_taking(file: &Path) -> Result<Option<PathBuf>, RepoError> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let fail = |source| RepoError::Io { path: parent.to_path_buf(), doing: "opened", source };
    let folder = parent.canonicalize().map_err(fail)?;
    let Ok(Some(repository)) = super::discover(&folder) else { return Ok(None) };
    let Some(root) = repository.workdir().and_then(|root| root.canonicalize().ok()) else { return Ok(None) };
    let inner = folder.strip_prefix(&root).unwrap_or(Path::new("")).join(file.file_name().unwrap_or_default());
    let is_ignored = inner.starts_with(".git") || repository.is_path_ignored(&inner).unwrap_or(false);
    Ok((!is_ignored).then_some(root))
}

impl Repo {
    /// Opens the repository around a folder, or makes one in it; the folder is made when it is not there.
    ///
    /// # Errors
    /// The folder or the repository cannot be made.
    pub fn open_or_init(folder: &Path) -> Result<Repo, RepoError> {
        std::fs::create_dir_all(folder).map_err(|source| RepoError::Io {
            path: folder.to_path_buf(),
            doing: "made",
            source,
        })?;
        match Repo::open(folder) {
            Err(RepoError::NoRepository { .. }) => Repo::make(folder),
            other => other,
        }
    }

    /// Makes a repository in a folder, even inside another repository; the folder is made when it is not there. Opens a
    /// repository that is there.
    ///
    /// # Errors
    /// The folder or the repository cannot be made.
    pub fn make(folder: &Path) -> Result<Repo, RepoError> {
        std::fs::create_dir_all(folder).map_err(|source| RepoError::Io {
            path: folder.to_path_buf(),
            doing: "made",
            source,
        })?;
        if !folder.join(".git").exists() {
            let mut options = RepositoryInitOptions::new();
            options.initial_head("main").no_reinit(true);
            Repository::init_opts(folder, &options).map_err(|e| RepoError::git("make a repository", folder, e))?;
        }
        Repo::open(folder)
    }

    /// Returns who works here: name and address as git has them configured, `unknown` without.
    pub fn person(&self) -> String {
        let configured = self.repository.signature().ok();
        let name = configured.map(|author| {
            let part = |text: Result<&str, git2::Error>| text.unwrap_or_default().to_string();
            format!("{} <{}>", part(author.name()), part(author.email()))
        });
        name.unwrap_or_else(|| "unknown".to_string())
    }

    /// Returns true when the fleet's folder is the root of the repository.
    pub fn is_at_root(&self) -> bool {
        self.prefix.is_empty()
    }

    /// Returns true when a file of the work tree is what `HEAD` has.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn is_committed(&self, work: &FleetTree<'_>, path: &str) -> Result<bool, RepoError> {
        let Ok(head) = self.head() else { return Ok(false) };
        let committed = self.tree_at(&head)?;
        Ok(committed.entries.contains_key(path) && committed.content_id(path)? == work.content_id(path)?)
    }

    /// Adds files of the fleet to the index and commits only these on `HEAD`; files that are gone are removed. Returns
    /// the commit. Without it the index is as it was.
    ///
    /// # Errors
    /// The repository cannot be written, or git cannot sign as it is configured to.
    pub fn commit_files(&self, paths: &[String], message: &str) -> Result<String, RepoError> {
        if self.is_mirror() {
            return Err(self.is_a_mirror());
        }
        let fail = |e| RepoError::git("commit the files", self.repository.path(), e);
        let mut index = self.repository.index().map_err(fail)?;
        let names: Vec<PathBuf> = paths.iter().map(|path| PathBuf::from(format!("{}{path}", self.prefix))).collect();
        let staged: Vec<Option<git2::IndexEntry>> = names.iter().map(|name| index.get_path(name, 0)).collect();
        let mut commit = || {
            let parent = self.repository.head().and_then(|head| head.peel_to_commit()).ok();
            let before = match &parent {
                Some(parent) => parent.tree()?,
                None => self.repository.find_tree(self.repository.treebuilder(None)?.write()?)?,
            };
            let mut update = git2::build::TreeUpdateBuilder::new();
            for (path, from_root) in paths.iter().zip(&names) {
                if !self.folder().join(path).exists() {
                    index.remove_path(from_root)?;
                    if before.get_path(from_root).is_ok() {
                        update.remove(from_root.as_path());
                    }
                    continue;
                }
                index.add_path(from_root)?;
                let id = self.repository.blob_path(&self.folder().join(path))?;
                update.upsert(from_root.as_path(), id, FileMode::Blob);
            }
            index.write()?;
            // Only these files are committed: other staged changes stay staged.
            let tree = self.repository.find_tree(update.create_updated(&self.repository, &before)?)?;
            Ok::<_, git2::Error>((tree, parent))
        };
        let (tree, parent) = commit().map_err(fail)?;
        let committed = self.commit_on_head(message, &tree, parent.as_ref());
        if committed.is_err() {
            let restore = |(name, entry): (&PathBuf, &Option<git2::IndexEntry>)| match entry {
                Some(entry) => index.add(entry),
                None => index.remove_path(name),
            };
            names.iter().zip(&staged).try_for_each(restore).and_then(|()| index.write()).map_err(fail)?;
        }
        Ok(committed?.to_string())
    }
}
