//! The only place that turns a tree, the results branch and the registry into the input of the planner, and what the planner
//! refuses into diagnostics with places.
//!
//! Order matters: the files are read first, then the ledger, then the registry, so that what is observed is at least as new as
//! what is known to have been done.

mod cloud_columns;
mod diagnose;
mod edit;
mod history;
mod known;
mod load;
mod observe;
mod occurrences;
mod recorded;
mod remembered;
mod rewind;
mod scheduled;
mod searches;
mod targets;
mod templates;

pub use diagnose::diagnose;
pub use history::{HistoryError, read_ledger, read_ledger_again, records_of};
pub use known::Known;
pub use load::{load, load_valid, load_valid_again};
pub use observe::{Preparation, StagedFile, prepare};
pub use occurrences::with_open_occurrences;
pub use recorded::Recorded;
pub use remembered::{failed_devices, remembered_rows};
pub use rewind::{declares_the_same, not_after};
pub use searches::{Searches, searched_paths};
pub use templates::mismatching;

use crate::registry::RegistryError;
use crate::repo::RepoError;

/// What can keep a plan from being made, apart from what the author wrote.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    History(#[from] HistoryError),
}
