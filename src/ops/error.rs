//! How a use case fails; `cli` maps each to an exit code and a hint.

use super::Findings;
use crate::execute::ExecuteError;
use crate::link::LinkError;
use crate::prepare::{HistoryError, PrepareError};
use crate::registry::RegistryError;
use crate::repo::{RepoError, UpstreamError};

/// Why a use case did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum OpsError {
    /// What is declared cannot be used.
    #[error("the declared files are invalid")]
    Invalid(Box<Findings>),
    /// Nothing was touched: a person has to decide, or another process is at work.
    #[error("{what}")]
    Held { what: String, help: String },
    /// What is committed may not be used in this way, whoever asks.
    #[error("{what}")]
    Refused { what: String, help: String },
    /// The command was called in a way that it cannot serve.
    #[error("{what}")]
    Usage { what: String, help: String },
    /// What was asked for is not there.
    #[error("{what}")]
    NotFound { what: String, help: String },
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The work is done, and the remote does not have all of its results.
    #[error("what was done is recorded here, and {commits} commits of it could not be pushed: {source}")]
    Unpushed { commits: usize, source: UpstreamError },
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("{what}")]
    Output { what: String, source: std::io::Error },
}

impl From<PrepareError> for OpsError {
    fn from(error: PrepareError) -> OpsError {
        match error {
            PrepareError::Registry(error) => error.into(),
            PrepareError::Repo(error) => error.into(),
            PrepareError::History(error) => error.into(),
        }
    }
}

impl From<ExecuteError> for OpsError {
    fn from(error: ExecuteError) -> OpsError {
        match error {
            ExecuteError::Registry(error) => error.into(),
            ExecuteError::Repo(error) => error.into(),
            ExecuteError::Link(error) => error.into(),
        }
    }
}

impl OpsError {
    /// Returns what to do about it, whole sentences; empty when the diagnostics say it.
    pub fn help(&self) -> String {
        match self {
            OpsError::Invalid(_) => String::new(),
            OpsError::Held { help, .. }
            | OpsError::Refused { help, .. }
            | OpsError::Usage { help, .. }
            | OpsError::NotFound { help, .. } => help.clone(),
            OpsError::History(error) => error.help(),
            OpsError::Registry(error) => error.help().to_string(),
            OpsError::Repo(error) => error.help(),
            OpsError::Upstream(error) => error.help(),
            OpsError::Unpushed { source, .. } => {
                format!("Nothing is lost, and the next apply or the daemon pushes it. {}", source.help())
            }
            OpsError::Link(_) => "Check the path in `spec.link.simulated.journal` and its permissions.".to_string(),
            OpsError::Output { .. } => "Check the path, its permissions and the room on the disk.".to_string(),
        }
    }
}
