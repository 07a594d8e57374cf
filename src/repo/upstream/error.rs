//! How the branch and its remote fail to be brought together.

use crate::repo::{RemoteError, RepoError};

/// Why the branch and its remote could not be brought together.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The remote has the commit, but that could not be noted here.
    #[error("the remote has the commit, and that cannot be noted here: {source}")]
    Unnoted { source: RepoError },
    /// The remote was asked, and its answer is not awaited.
    #[error("the remote {remote} has not answered yet")]
    Unanswered { remote: String },
    /// The branch does not hold results.
    #[error("the branch {branch} {place} has no `fleet.json`: it holds no results of a fleet")]
    NotResults { branch: String, place: String },
    /// The branch of the remote does not descend from its former tip.
    #[error("the branch {branch} was rewritten on the remote {remote}: the commit {seen} is no longer part of it")]
    Rewritten { branch: String, remote: String, seen: String },
    /// The branch of the remote is gone.
    #[error("the branch {branch} is gone from the remote {remote}, where it was at {seen}")]
    Gone { branch: String, remote: String, seen: String },
    /// Both branches have a claim of the same run, or they share no commit.
    #[error(
        "the branch {branch} here and the one on the remote {remote} cannot be brought together: both have `{path}`"
    )]
    Diverged { branch: String, remote: String, path: String },
}

impl UpstreamError {
    /// Returns what to do about it.
    pub fn help(&self) -> String {
        match self {
            UpstreamError::Remote(error) => error.help(),
            UpstreamError::Repo(error) | UpstreamError::Unnoted { source: error } => error.help(),
            UpstreamError::Unanswered { .. } => "Nothing is lost: it is waited for beside what runs.".to_string(),
            UpstreamError::NotResults { .. } => {
                "Name a branch of its own in `spec.results.branch`; nothing was pushed or moved.".to_string()
            }
            UpstreamError::Rewritten { branch, remote, seen } => format!(
                "Put it back: `git push {remote} {seen}:refs/heads/{branch}` (with --force, once you know who rewrote \
                    it and why)."
            ),
            UpstreamError::Gone { branch, remote, seen } => {
                format!("Put it back: `git push {remote} {seen}:refs/heads/{branch}`.")
            }
            UpstreamError::Diverged { branch, .. } => format!(
                "Two writers did not know of each other. Keep the branch of the remote: `git branch -m {branch} \
                    {branch}-apart`; the next try takes the other one."
            ),
        }
    }

    /// Returns true when the change may have landed all the same; only a later fetch can tell.
    pub fn is_open(&self) -> bool {
        match self {
            UpstreamError::Remote(error) => error.is_open(),
            UpstreamError::Unnoted { .. } => true,
            UpstreamError::Repo(_)
            | UpstreamError::Unanswered { .. }
            | UpstreamError::NotResults { .. }
            | UpstreamError::Rewritten { .. }
            | UpstreamError::Gone { .. }
            | UpstreamError::Diverged { .. } => false,
        }
    }
}
