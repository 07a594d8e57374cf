//! How a call of a remote fails.

/// A failure of a remote. `Display` says what happened; [`RemoteError::help`] what to do. A message shows the server's
/// text on one line, sanitised and cut, and URLs without user and password.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// Authentication, permissions, hooks, protected branches: a person must act.
    #[error("the remote {remote} refused: {message}")]
    Denied { remote: String, message: String },
    /// Another writer moved the branch.
    #[error("the branch {branch} was moved by someone else on the remote {remote}: {message}")]
    Rejected { remote: String, branch: String, message: String },
    /// The server does not move the branch, and nobody else moves it.
    #[error("the remote {remote} does not move its branch {branch}, which nobody else moves: {message}")]
    Stuck { remote: String, branch: String, message: String },
    /// The server does not take this branch beside another one in one push, or does not let it be replaced.
    #[error("the remote {remote} does not take the branch {branch} beside that of the results: {message}")]
    Alone { remote: String, branch: String, message: String },
    /// The remote has a branch because of which this one cannot exist there.
    #[error(
        "the remote {remote} has a branch `{other}`, which is in the way of `{branch}`: git keeps one or the other"
    )]
    InTheWay { remote: String, branch: String, other: String },
    /// The network, the host or the server failed before or during the call, or the time was up.
    #[error("the remote {remote} cannot be reached: {message}")]
    Unreachable { remote: String, message: String },
    /// The server answers, but has no such repository or does not show it to us.
    #[error("there is no repository at the remote {remote}: {message}")]
    NotARepository { remote: String, message: String },
    /// The address is not valid, or may not be used.
    #[error("the remote `{remote}` cannot be used: {message}")]
    BadAddress { remote: String, message: String },
    #[error("`{name}` is no name of a {what}")]
    BadName { name: String, what: &'static str },
    #[error("the program `git` cannot be run")]
    NoGit { source: std::io::Error },
    /// Any other failure: the local repository or its disk, the disk of the server, a git that is too old.
    #[error("git failed to {doing} the remote {remote}: {message}")]
    Failed { remote: String, doing: &'static str, message: String },
}

impl RemoteError {
    /// Returns the error when the branch is where it was expected: nobody was faster.
    pub fn though_unmoved(self) -> RemoteError {
        match self {
            RemoteError::Rejected { remote, branch, message } => RemoteError::Stuck { remote, branch, message },
            other => other,
        }
    }

    /// Returns what to do about it, one sentence.
    pub fn help(&self) -> String {
        match self {
            RemoteError::Denied { remote, .. } => format!(
                "Check keys, tokens and host keys with `git ls-remote {remote}`, and on the server who may push to \
                    this branch."
            ),
            RemoteError::Rejected { .. } => {
                "Another fleetform works on this fleet: the next try takes up what that has done.".to_string()
            }
            RemoteError::Stuck { branch, .. } => format!(
                "A push that died may have left a lock on the server: when nobody pushes, remove \
                 `refs/heads/{branch}.lock` in its repository. Nothing is lost: the next try goes on."
            ),
            RemoteError::Alone { branch, .. } => {
                format!(
                    "Let fleetform create and replace `{branch}` on the server; until then its renewals are commits."
                )
            }
            RemoteError::InTheWay { other, .. } => {
                format!("Name another one in `spec.results.branch`, or rename `{other}` on the remote.")
            }
            RemoteError::Unreachable { .. } => {
                "Check the network and the address. Nothing is lost: the next try that reaches the remote goes \
                    on."
                .to_string()
            }
            RemoteError::NotARepository { remote, .. } => {
                format!(
                    "Check the address with `git ls-remote {remote}`; some servers also say so to those who may not \
                        see it."
                )
            }
            RemoteError::BadAddress { .. } => {
                "Name a configured remote, a URL (https://, ssh://, git@host:path) or a path.".to_string()
            }
            RemoteError::BadName { .. } => "Choose another name; `git check-ref-format --branch` tells which \
                do."
            .to_string(),
            RemoteError::NoGit { .. } => "Install git 2.31 or later, or add it to the PATH.".to_string(),
            RemoteError::Failed { .. } => {
                "Look at the repository with `git fsck`, and try the same with `git fetch`; git 2.31 or later is \
                    needed."
                    .to_string()
            }
        }
    }

    /// Returns true when a push with this error may have landed all the same; only a later fetch can tell.
    pub fn is_open(&self) -> bool {
        matches!(self, RemoteError::Unreachable { .. } | RemoteError::Failed { .. })
    }
}
