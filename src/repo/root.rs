//! The first commit of the results branch: it is written completely before the branch points to it.

use git2::Oid;

use super::writer::Writer;
use super::{FileChange, RepoError, ResultsBranch};

impl ResultsBranch<'_> {
    /// Makes the branch with one commit. Durable when it returns.
    ///
    /// # Errors
    /// As [`ResultsBranch::write_root`] and [`ResultsBranch::plant`].
    pub fn create(&self, changes: &[FileChange], message: &str) -> Result<String, RepoError> {
        let root = self.write_root(changes, message)?;
        self.plant(&root)?;
        Ok(root)
    }

    /// Writes a commit without parents that the branch may start with, and returns its id. The branch is left alone.
    ///
    /// # Errors
    /// The repository cannot be written.
    pub fn write_root(&self, changes: &[FileChange], message: &str) -> Result<String, RepoError> {
        let fail = |error| self.error("write results", error);
        let repository = self.repository();
        let empty =
            repository.treebuilder(None).and_then(|empty| repository.find_tree(empty.write()?)).map_err(fail)?;
        let tree = repository.find_tree(self.tree_with(&empty, changes)?).map_err(fail)?;
        let author = self.signature().map_err(fail)?;
        self.write_commit((&author, &author), message, &tree, &[]).map(|id| id.to_string()).map_err(fail)
    }

    /// Makes the branch point to a commit of [`ResultsBranch::write_root`]. Durable when it returns.
    ///
    /// # Errors
    /// [`RepoError::AlreadyWritten`] when the branch exists, here or as last seen on a remote; otherwise the repository
    /// cannot be written.
    pub fn plant(&self, root: &str) -> Result<(), RepoError> {
        let fail = |e| self.error("make the results branch", e);
        let exists = || RepoError::AlreadyWritten { path: "fleet.json".to_string() };
        let root = Oid::from_str(root).map_err(fail)?;
        let (mut writer, mut locked) = (Writer::begin(self.repository().commondir(), &self.reference), 0);
        writer.moves_to(root);
        loop {
            if self.tip_id()?.is_some() {
                return Err(exists());
            }
            match self.repository().reference(&self.reference, root, false, "results") {
                Ok(_) => return Ok(()),
                Err(error) if error.code() == git2::ErrorCode::Locked => self.wait_for_lock(&mut locked)?,
                Err(error) if error.code() == git2::ErrorCode::Exists => return Err(exists()),
                Err(error) => return Err(fail(error)),
            }
        }
    }
}
