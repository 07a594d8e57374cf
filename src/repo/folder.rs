//! A folder of the results branch, opened once for many looks into it.

use std::path::Path;

use git2::{ObjectType, Repository};

use super::{BlobId, RepoError, ResultsBranch};

/// A folder of the results branch at a commit.
pub struct ResultsFolder<'a> {
    repository: &'a Repository,
    tree: git2::Tree<'a>,
}

impl ResultsFolder<'_> {
    /// Returns the blob of a file, and `None` when there is none.
    pub fn blob(&self, path: &str) -> Option<BlobId> {
        let entry = self.tree.get_path(Path::new(path)).ok()?;
        (entry.kind() == Some(ObjectType::Blob)).then(|| BlobId(entry.id()))
    }

    /// Returns the id of the tree of a folder in it, which is another one when anything in that is; `None` when
    /// there is none.
    pub fn tree(&self, path: &str) -> Option<String> {
        let entry = self.tree.get_path(Path::new(path)).ok()?;
        self.repository.find_tree(entry.id()).ok().map(|tree| tree.id().to_string())
    }
}

impl<'a> ResultsBranch<'a> {
    /// Returns a folder at the tip, for many looks into it; `None` when it is not there.
    ///
    /// # Errors
    /// The object database cannot be read.
    pub fn folder(&self, path: &str) -> Result<Option<ResultsFolder<'a>>, RepoError> {
        let Some(tip) = self.tip_id()? else { return Ok(None) };
        let fail = |e| self.error("read results", e);
        let root = self.repository().find_commit(tip).and_then(|commit| commit.tree()).map_err(fail)?;
        let Some(id) = root.get_name(path).map(|entry| entry.id()) else { return Ok(None) };
        let tree = self.repository().find_tree(id).map_err(fail)?;
        Ok(Some(ResultsFolder { repository: self.repository(), tree }))
    }
}
