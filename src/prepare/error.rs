//! Why a fleet cannot be opened or planned.

use super::{Findings, HistoryError};
use crate::registry::{ExclusionFailure, RegistryError};
use crate::repo::RepoError;

/// What keeps a fleet from being opened or planned.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
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
    #[error("{what}")]
    Output { what: String, source: std::io::Error },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    History(#[from] HistoryError),
}

impl From<ExclusionFailure> for PrepareError {
    fn from(failure: ExclusionFailure) -> PrepareError {
        match failure {
            ExclusionFailure::Failed(error) => error.into(),
            ExclusionFailure::Held(holder) => PrepareError::AtWork {
                what: match holder {
                    Some(holder) => format!("another fleetform is applying to this registry: {holder}"),
                    None => "another fleetform is applying to this registry".to_string(),
                },
                help: "Wait until it is done: the next try goes on. It stops jobs whose stop is committed.".to_string(),
            },
        }
    }
}
