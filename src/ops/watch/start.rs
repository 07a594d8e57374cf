//! What is wrong with a remote before it is asked, and with one that was asked and can never answer.

use super::options::RemoteSource;
use crate::model::text::sanitize_line;
use crate::ops::OpsError;
use crate::repo::{RemoteError, UpstreamError, is_branch_name, without_secrets};

/// Returns the folder of the fleet in the remote repository as git has it: without `.` and without slashes around it;
/// empty for the root.
///
/// # Errors
/// `OpsError::Usage`: the address is none or runs a command, the branch has an illegal name, or the folder is not in
/// the repository.
pub(super) fn check_remote(remote: &RemoteSource, branch: &str) -> Result<String, OpsError> {
    let RemoteSource { address, path, .. } = remote;
    let why_not = if address.trim().is_empty() {
        Some("it is empty")
    } else if address.starts_with('-') {
        Some("it begins with `-`")
    } else if address.chars().any(char::is_control) {
        Some("it has control characters")
    } else if address.starts_with("ext::") || address.starts_with("fd::") {
        Some("it is a command, not a place")
    } else {
        None
    };
    if let Some(why) = why_not {
        return Err(unusable(address, why));
    }
    if !is_branch_name(branch) {
        return Err(OpsError::Usage {
            what: format!("`{}` is no name of a branch", sanitize_line(branch)),
            help: "Name the branch with the declared files, such as `main`, with --branch.".to_string(),
        });
    }
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').filter(|part| *part != ".").collect();
    let is_root = parts.iter().all(|part| part.is_empty()) && !path.starts_with('/');
    if !is_root && parts.iter().any(|part| matches!(*part, "" | ".." | ".git") || part.chars().any(char::is_control)) {
        return Err(OpsError::Usage {
            what: format!("--path `{}` is no folder of the remote repository", sanitize_line(path)),
            help: "Name the fleet's folder from the root of the repository, such as `fleets/hall-c`; leave --path out \
                for the root."
                .to_string(),
        });
    }
    Ok(if is_root { String::new() } else { parts.join("/") })
}

/// Returns why a remote that has never been fetched never can be, by the error of a try.
///
/// # Errors
/// The error itself: the remote may come.
pub(super) fn hopeless(error: RemoteError) -> Result<OpsError, RemoteError> {
    match error {
        RemoteError::BadAddress { remote, message } => Ok(unusable(&remote, &message)),
        RemoteError::BadName { .. } => Ok(UpstreamError::Remote(error).into()),
        RemoteError::NoGit { ref source } if is_missing(source) => Ok(UpstreamError::Remote(error).into()),
        // A machine that had too many processes or open files.
        RemoteError::NoGit { .. }
        | RemoteError::Denied { .. }
        | RemoteError::Rejected { .. }
        | RemoteError::Stuck { .. }
        | RemoteError::Alone { .. }
        | RemoteError::InTheWay { .. }
        | RemoteError::Unreachable { .. }
        | RemoteError::NotARepository { .. }
        | RemoteError::Failed { .. } => Err(error),
    }
}

/// Returns true when a program is not there, or none that may be run.
fn is_missing(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied)
}

/// Returns the error with the address in place of the name that the mirror has for the remote: users do not know it.
pub(super) fn addressed(error: RemoteError, address: &str) -> RemoteError {
    let remote = address.to_string();
    match error {
        RemoteError::Denied { message, .. } => RemoteError::Denied { remote, message },
        RemoteError::Rejected { branch, message, .. } => RemoteError::Rejected { remote, branch, message },
        RemoteError::Stuck { branch, message, .. } => RemoteError::Stuck { remote, branch, message },
        RemoteError::Alone { branch, message, .. } => RemoteError::Alone { remote, branch, message },
        RemoteError::InTheWay { branch, other, .. } => RemoteError::InTheWay { remote, branch, other },
        RemoteError::Unreachable { message, .. } => RemoteError::Unreachable { remote, message },
        RemoteError::NotARepository { message, .. } => RemoteError::NotARepository { remote, message },
        RemoteError::BadAddress { message, .. } => RemoteError::BadAddress { remote, message },
        RemoteError::Failed { doing, message, .. } => RemoteError::Failed { remote, doing, message },
        RemoteError::BadName { .. } | RemoteError::NoGit { .. } => error,
    }
}

fn unusable(address: &str, why: &str) -> OpsError {
    OpsError::Usage {
        what: format!(
            "the remote `{}` cannot be used: {}",
            sanitize_line(&without_secrets(address)),
            sanitize_line(why)
        ),
        help: "Name a URL (https://, ssh://, git@host:path) or a path with --remote.".to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_git_that_is_not_there_is_hopeless() {
        let of = |source: std::io::Error| hopeless(RemoteError::NoGit { source }).is_ok();
        // ENOENT, EACCES.
        for code in [2, 13] {
            assert!(of(std::io::Error::from_raw_os_error(code)), "{code}");
        }
        // EAGAIN, ENOMEM, EMFILE.
        for code in [11, 12, 24] {
            assert!(!of(std::io::Error::from_raw_os_error(code)), "{code}");
        }
    }

    #[test]
    fn what_can_never_work_is_refused() {
        let check = |address: &str, branch: &str, path: &str| {
            let remote = RemoteSource { address: address.to_string(), path: path.to_string(), time_max: None };
            check_remote(&remote, branch).map_err(|error| error.to_string())
        };
        let url = "https://user:secret@host/x";
        for (path, expect) in [("", ""), (".", ""), ("./", ""), ("a/b/", "a/b"), ("./a", "a"), ("a/./b", "a/b")] {
            assert_eq!(check(url, "main", path).as_deref(), Ok(expect), "{path}");
        }
        for path in ["/", "/a", "..", "a/../b", "a//b", "../a", "a\nb", ".git/x"] {
            assert!(check(url, "main", path).unwrap_err().starts_with("--path "), "{path}");
        }
        for branch in ["", "a..b", "-", "a b", "x.lock", "/main"] {
            assert!(check(url, branch, "").unwrap_err().ends_with("is no name of a branch"), "{branch}");
        }
        for address in ["", " ", "--upload-pack=x", "ext::sh -c x", "https://h/\n"] {
            assert!(check(address, "main", "").unwrap_err().contains("cannot be used"), "{address}");
        }
    }
}
