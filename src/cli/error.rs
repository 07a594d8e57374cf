//! How a command fails: one sentence, one hint, one exit code. The only place that chooses exit codes of failures.

use super::exit;
use super::output::Output;
use crate::diag::{Code, Diagnostics, Severity, code};
use crate::model::text::sanitize;
use crate::ops::OpsError;
use crate::prepare::HistoryError;
use crate::registry::RegistryError;
use crate::repo::{RemoteError, RepoError, UpstreamError};

/// A failed command.
#[derive(Debug)]
pub enum CommandError {
    Ops(OpsError),
    /// The command line itself.
    Usage {
        what: String,
        help: String,
    },
    /// A resource of the machine is not available now.
    Unavailable {
        what: String,
        help: String,
    },
    /// The machine does not allow it.
    Denied {
        what: String,
        help: String,
    },
    /// The reader of stdout is gone: there is no message to print.
    BrokenPipe,
    Output(std::io::Error),
}

impl From<OpsError> for CommandError {
    fn from(error: OpsError) -> CommandError {
        match error {
            OpsError::Output { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe => {
                CommandError::BrokenPipe
            }
            error => CommandError::Ops(error),
        }
    }
}

impl From<std::io::Error> for CommandError {
    fn from(error: std::io::Error) -> CommandError {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => CommandError::BrokenPipe,
            _ => CommandError::Output(error),
        }
    }
}

impl CommandError {
    /// Prints what went wrong on stderr and returns the exit code.
    pub fn report(&self, output: &Output) -> u8 {
        match self {
            CommandError::BrokenPipe => return exit::OK,
            CommandError::Ops(OpsError::Invalid(findings)) => {
                output.findings(findings);
                output.say("Nothing was changed.");
            }
            CommandError::Ops(error) => output.error(&sentence(error), &error.help(), self.code()),
            CommandError::Usage { what, help }
            | CommandError::Unavailable { what, help }
            | CommandError::Denied { what, help } => {
                output.error(what, help, self.code());
            }
            CommandError::Output(error) => {
                let what = format!("the output cannot be written: {error}");
                output.error(&what, "Check the disk and the terminal.", self.code());
            }
        }
        self.code()
    }

    fn code(&self) -> u8 {
        match self {
            CommandError::BrokenPipe => exit::OK,
            CommandError::Usage { .. } => exit::USAGE,
            CommandError::Unavailable { .. } => exit::UNAVAILABLE,
            CommandError::Denied { .. } => exit::REFUSED,
            CommandError::Output(_) => exit::ERROR,
            CommandError::Ops(error) => code_of(error),
        }
    }
}

/// Returns the exit code of what was found: 77 when nothing but policies and access is in the way, 75 when only secrets
/// are missing. With `is_strict` a warning is,
/// too; that of a freeze says when, not what.
pub(super) fn code_of_findings(found: &Diagnostics, is_strict: bool) -> u8 {
    const REFUSALS: [Code; 3] = [code::REFUSED_BY_POLICY, code::POLICY_UNREADABLE, code::REFUSED_COMMIT];
    let mut errors = found.iter().filter(|one| one.severity == Severity::Error).peekable();
    if errors.peek().is_some() {
        // The files are right, and this machine lacks what they need.
        if found.errors_are_all(code::SECRET_MISSING) {
            return exit::HELD;
        }
        return if errors.all(|one| REFUSALS.contains(&one.code)) { exit::REFUSED } else { exit::INVALID };
    }
    let has_warning = found.iter().any(|one| one.code != code::FROZEN);
    if is_strict && has_warning { exit::INVALID } else { exit::OK }
}

fn code_of(error: &OpsError) -> u8 {
    match error {
        OpsError::Invalid(findings) => code_of_findings(&findings.diagnostics, false),
        OpsError::Held { .. } | OpsError::AtWork { .. } => exit::HELD,
        OpsError::Refused { .. } => exit::REFUSED,
        OpsError::Usage { .. } => exit::USAGE,
        OpsError::Unusable { .. } => exit::INVALID,
        OpsError::Link(error) if error.is_outage() => exit::UNAVAILABLE,
        OpsError::NotFound { .. } | OpsError::Output { .. } | OpsError::Link(_) => exit::ERROR,
        OpsError::Registry(error) | OpsError::History(HistoryError::Registry(error)) => code_of_registry(error),
        OpsError::Repo(error) | OpsError::History(HistoryError::Repo(error)) => code_of_repo(error),
        OpsError::History(_) => exit::HELD,
        OpsError::Upstream(error) | OpsError::Unpushed { source: error, .. } => code_of_upstream(error),
    }
}

fn code_of_registry(error: &RegistryError) -> u8 {
    match error {
        RegistryError::Locked { .. } | RegistryError::Foreign { .. } | RegistryError::Newer { .. } => exit::HELD,
        RegistryError::Occupied { .. }
        | RegistryError::Older { .. }
        | RegistryError::Fenced { .. }
        | RegistryError::Replaced { .. } => exit::HELD,
        RegistryError::Different { .. } => exit::ERROR,
        RegistryError::Folder { .. }
        | RegistryError::Full { .. }
        | RegistryError::ReadOnly { .. }
        | RegistryError::NotARegistry { .. }
        | RegistryError::Corrupt { .. }
        | RegistryError::Unreachable { .. }
        | RegistryError::Refused { .. }
        | RegistryError::Unfit { .. }
        | RegistryError::Variable { .. }
        | RegistryError::Failed { .. } => exit::UNAVAILABLE,
    }
}

fn code_of_upstream(error: &UpstreamError) -> u8 {
    match error {
        UpstreamError::Repo(error) | UpstreamError::Unnoted { source: error } => code_of_repo(error),
        UpstreamError::Unanswered { .. } => exit::UNAVAILABLE,
        UpstreamError::NotResults { .. } => exit::HELD,
        UpstreamError::Rewritten { .. } | UpstreamError::Gone { .. } | UpstreamError::Diverged { .. } => exit::HELD,
        UpstreamError::Remote(error) => match error {
            RemoteError::Denied { .. } | RemoteError::Alone { .. } => exit::REFUSED,
            RemoteError::Rejected { .. } => exit::HELD,
            RemoteError::BadAddress { .. } | RemoteError::BadName { .. } => exit::USAGE,
            RemoteError::InTheWay { .. } => exit::INVALID,
            RemoteError::Stuck { .. }
            | RemoteError::Unreachable { .. }
            | RemoteError::NotARepository { .. }
            | RemoteError::NoGit { .. }
            | RemoteError::Failed { .. } => exit::UNAVAILABLE,
        },
    }
}

fn code_of_repo(error: &RepoError) -> u8 {
    match error {
        RepoError::AlreadyWritten { .. }
        | RepoError::Gone { .. }
        | RepoError::NotOwner { .. }
        | RepoError::Contended { .. }
        | RepoError::Locked { .. }
        | RepoError::Malformed { .. } => exit::HELD,
        RepoError::NoFolder { .. }
        | RepoError::NoRepository { .. }
        | RepoError::NoFleet { .. }
        | RepoError::NoFleetAt { .. }
        | RepoError::InsideRepository { .. }
        | RepoError::Mirror { .. }
        | RepoError::NoRevision { .. } => exit::USAGE,
        RepoError::InTheWay { .. } => exit::INVALID,
        RepoError::NoCommit | RepoError::CheckedOut { .. } => exit::HELD,
        RepoError::Unsigned { .. }
        | RepoError::NotAFile { .. }
        | RepoError::TooLarge { .. }
        | RepoError::ReadOnly { .. }
        | RepoError::Full { .. }
        | RepoError::Extension { .. }
        | RepoError::Git { .. }
        | RepoError::Io { .. } => exit::ERROR,
    }
}

/// Returns an error with its causes, on one line.
pub(super) fn sentence(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Transparent errors say what their source says.
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    sanitize(&text).into_owned()
}
