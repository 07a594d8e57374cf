//! The branch beside the results branch: one commit without parents, with one file, which is replaced whole. What
//! changes often and needs no history is there, so that it leaves none on the results branch: the renewals of a lease.
//!
//! It is moved by force, and only from where it was last seen. A push that also moves the results branch moves both or
//! none. A branch of this name that has anything else in it is somebody's, and is never touched.

use std::path::Path;

use git2::Oid;

use super::{ATTEMPTS_MAX, Exchange, UNMOVED_ATTEMPTS_MAX, UpstreamError, pause};
use crate::model::limits::RESULT_DOCUMENT_BYTES_MAX;
use crate::repo::{FileChange, Move, RemoteError, RepoError, ResultsBranch};

/// What is added to the name of the results branch.
const SUFFIX: &str = "-lease";

/// Returns the file as it is to be on the branch beside, and the message of its commit; `None` when there is no reason
/// to replace it any more.
pub type StillRenewed<'a> = dyn FnMut(&ResultsBranch<'_>) -> Result<Option<(FileChange, String)>, RepoError> + 'a;

/// A commit that is to replace the branch beside.
pub(super) struct Renewal {
    branch: String,
    commit: Oid,
    id: String,
    expected: Option<String>,
}

impl Renewal {
    pub fn as_move(&self) -> Move<'_> {
        Move { branch: &self.branch, commit: &self.id, expected: self.expected.as_deref() }
    }
}

impl ResultsBranch<'_> {
    /// Returns the name of the branch beside this one.
    pub fn branch_beside(&self) -> String {
        format!("{}{SUFFIX}", self.name())
    }

    /// Returns the local reference that the branch beside is fetched to. A push notes there what the remote has.
    pub(super) fn fetched_beside(&self) -> String {
        format!("refs/fleetform/fetched/{}", self.branch_beside())
    }

    /// Returns the file of the branch beside as it is known here: as fleetform fetched or pushed it, as git fetched it
    /// from any remote, and as it is in this very repository. In no order; those that cannot be read are left out.
    ///
    /// # Errors
    /// The references cannot be read.
    pub fn read_beside(&self, path: &str) -> Result<Vec<Vec<u8>>, RepoError> {
        let fail = |e| self.error("read the branch of the lease", e);
        let beside = self.branch_beside();
        let mut references = vec![self.fetched_beside(), format!("refs/heads/{beside}")];
        let remotes = self.repository().remotes().map_err(fail)?;
        references.extend(remotes.iter().flatten().flatten().map(|remote| format!("refs/remotes/{remote}/{beside}")));
        let mut found = Vec::new();
        for reference in references {
            found.extend(self.id_of(&reference)?.and_then(|id| self.file_beside(id, path)));
        }
        Ok(found)
    }

    /// Returns the file at a commit of the branch beside; `None` when the commit has parents or anything else in it.
    fn file_beside(&self, commit: Oid, path: &str) -> Option<Vec<u8>> {
        let commit = self.repository().find_commit(commit).ok()?;
        let tree = commit.tree().ok()?;
        let entry = tree.get_path(Path::new(path)).ok()?;
        let (size, _) = self.repository().odb().and_then(|odb| odb.read_header(entry.id())).ok()?;
        if commit.parent_count() > 0 || tree.len() != 1 || size as u64 > RESULT_DOCUMENT_BYTES_MAX {
            return None;
        }
        Some(self.repository().find_blob(entry.id()).ok()?.content().to_vec())
    }

    /// Writes a commit that is to replace the branch beside as it was last seen.
    ///
    /// # Errors
    /// [`RemoteError::Alone`]: somebody has a branch of this name.
    pub(super) fn renewal(
        &self,
        exchange: &Exchange<'_>,
        file: &FileChange,
        message: &str,
    ) -> Result<Renewal, UpstreamError> {
        let (branch, expected) = (self.branch_beside(), self.id_of(&self.fetched_beside())?);
        if expected.is_some_and(|there| self.file_beside(there, &file.path).is_none()) {
            let message = format!("it holds something else than `{}`", file.path);
            return Err(RemoteError::Alone { remote: exchange.remote.shown(), branch, message }.into());
        }
        let id = self.write_root(std::slice::from_ref(file), message)?;
        let commit = Oid::from_str(&id).map_err(|e| self.error("renew the lease", e))?;
        Ok(Renewal { branch, commit, id, expected: expected.map(|there| there.to_string()) })
    }

    /// Notes that the remote has a renewal.
    pub(super) fn note_renewal(&self, renewal: &Renewal) -> Result<(), RepoError> {
        self.note(&self.fetched_beside(), renewal.commit)
    }

    /// Returns true when the branch beside is where a renewal expected it.
    pub(super) fn is_unmoved(&self, renewal: &Renewal) -> Result<bool, RepoError> {
        Ok(self.id_of(&self.fetched_beside())?.map(|there| there.to_string()) == renewal.expected)
    }

    /// Replaces the branch beside, while the results branch of the remote is where it was last seen; what is not pushed
    /// of that stays here. `still` is called again each time one of them has moved. Returns false when it gave up.
    ///
    /// # Errors
    /// [`RemoteError::Alone`]: the remote does not let the branch be replaced, or somebody has a branch of this name.
    /// Otherwise as [`ResultsBranch::commit_upstream`].
    pub fn renew_upstream(&self, exchange: &Exchange<'_>, still: &mut StillRenewed<'_>) -> Result<bool, UpstreamError> {
        for attempt in 0..ATTEMPTS_MAX {
            let Some((file, message)) = still(self)? else { return Ok(false) };
            let Some(there) = self.upstream_tip()? else {
                return Err(RepoError::Gone { branch: self.name().to_string() }.into());
            };
            let renewal = self.renewal(exchange, &file, &message)?;
            let stays = Move { branch: self.name(), commit: &there, expected: Some(&there) };
            match exchange.remote.push_both(&stays, &renewal.as_move()) {
                Ok(()) => {
                    (exchange.tell)("note renewed");
                    let noted = self.note_renewal(&renewal);
                    return noted.map(|()| true).map_err(|source| UpstreamError::Unnoted { source });
                }
                Err(RemoteError::Rejected { remote, message, .. }) => {
                    pause(attempt);
                    self.pull(exchange)?;
                    let is_unmoved = self.upstream_tip()?.as_ref() == Some(&there) && self.is_unmoved(&renewal)?;
                    if attempt >= UNMOVED_ATTEMPTS_MAX && is_unmoved {
                        return Err(RemoteError::Alone { remote, branch: renewal.branch, message }.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RepoError::Contended { branch: self.branch_beside() }.into())
    }
}
