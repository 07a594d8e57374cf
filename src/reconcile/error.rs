//! Why a fleet could not be reconciled, and what to do about it.
use crate::execute::ExecuteError;
use crate::link::LinkError;
use crate::prepare::{Findings, HistoryError, PrepareError};
use crate::registry::{ExclusionFailure, RegistryError};
use crate::repo::{RepoError, UpstreamError};

/// Why a fleet could not be reconciled or looked at. The command line maps each variant to an exit code and a hint.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// What is declared cannot be used.
    #[error("the declared files are invalid")]
    Invalid(Box<Findings>),
    /// Nothing was touched: a person has to decide.
    #[error("{what}")]
    Held { what: String, help: String },
    /// Nothing was touched: another process works on the fleet, and will be done.
    #[error("{what}")]
    AtWork { what: String, help: String },
    /// What is committed may not be used in this way.
    #[error("{what}")]
    Refused { what: String, help: String },
    /// The command was called in a way that it cannot serve.
    #[error("{what}")]
    Usage { what: String, help: String },
    /// A file that was named cannot be used for this.
    #[error("{what}")]
    Unusable { what: String, help: String },
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

impl From<PrepareError> for ReconcileError {
    fn from(error: PrepareError) -> ReconcileError {
        match error {
            PrepareError::Invalid(findings) => ReconcileError::Invalid(findings),
            PrepareError::Held { what, help } => ReconcileError::Held { what, help },
            PrepareError::AtWork { what, help } => ReconcileError::AtWork { what, help },
            PrepareError::Refused { what, help } => ReconcileError::Refused { what, help },
            PrepareError::Usage { what, help } => ReconcileError::Usage { what, help },
            PrepareError::Unusable { what, help } => ReconcileError::Unusable { what, help },
            PrepareError::Output { what, source } => ReconcileError::Output { what, source },
            PrepareError::Registry(error) => error.into(),
            PrepareError::Repo(error) => error.into(),
            PrepareError::History(error) => error.into(),
        }
    }
}

impl From<ExclusionFailure> for ReconcileError {
    fn from(failure: ExclusionFailure) -> ReconcileError {
        PrepareError::from(failure).into()
    }
}

impl From<ExecuteError> for ReconcileError {
    fn from(error: ExecuteError) -> ReconcileError {
        match error {
            ExecuteError::Registry(error) => error.into(),
            ExecuteError::Repo(error) => error.into(),
            ExecuteError::Link(error) => error.into(),
        }
    }
}

impl ReconcileError {
    /// Returns what to do about it, whole sentences; empty when the diagnostics say it.
    pub fn help(&self) -> String {
        match self {
            ReconcileError::Invalid(_) => String::new(),
            ReconcileError::Held { help, .. }
            | ReconcileError::AtWork { help, .. }
            | ReconcileError::Refused { help, .. }
            | ReconcileError::Usage { help, .. }
            | ReconcileError::Unusable { help, .. }
            | ReconcileError::NotFound { help, .. } => help.clone(),
            ReconcileError::History(error) => error.help(),
            ReconcileError::Registry(error) => error.help().to_string(),
            ReconcileError::Repo(error) => error.help(),
            ReconcileError::Upstream(error) => error.help(),
            ReconcileError::Unpushed { source, .. } => {
                format!("Nothing is lost, and the next apply or the daemon pushes it. {}", source.help())
            }
            ReconcileError::Link(error) => error.help().to_string(),
            ReconcileError::Output { .. } => "Check the path, its permissions and the room on the disk.".to_string(),
        }
    }
}

impl ReconcileError {
    /// Returns that nothing of a name is declared, with a near name of those that are.
    pub fn not_declared<'a>(noun: &str, name: &str, known: impl Iterator<Item = &'a str>) -> ReconcileError {
        let near = crate::diag::nearest(name, known).map(|near| format!("Did you mean `{near}`?"));
        ReconcileError::NotFound {
            what: format!("there is no {noun} `{}`", crate::diag::shown(name)),
            help: near.unwrap_or_else(|| {
                let command = if noun == "group" { "group list" } else { "plan" };
                format!("`fleetform {command}` shows the declared {noun}s.")
            }),
        }
    }
}
