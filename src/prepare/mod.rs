//! The only place that turns a tree, the results branch and the registry into the input of the planner, and what the
//! planner refuses into diagnostics with places.
//!
//! Order matters: the files are read first, then the ledger, then the registry, so that what is observed is at least as
//! new as what is known to have been done.

mod cache;
mod caveats;
mod cloud_columns;
mod destination;
mod diagnose;
mod edit;
mod editors;
mod error;
mod files;
mod findings;
mod freshness;
mod gone;
mod history;
mod history_error;
mod hub_policies;
mod import_files;
mod kept;
mod lease;
mod load;
mod needed_secrets;
mod observe;
mod occurrences;
mod own_registry;
mod policies;
mod preparation;
mod recorded;
mod remembered;
mod rewind;
mod scheduled;
mod scratch;
mod searches;
mod secrets;
mod selection;
mod snapshot;
mod targets;
mod templates;
mod touched;
mod verified;
mod verify;
mod view;
mod warnings;
mod workspace;

pub use cache::Cache;
pub use caveats::Caveats;
pub use destination::{Destination, real_path};
pub use editors::with_schema_line;
pub use error::PrepareError;
pub use files::{Files, OnError, TreeChoice, organization_said};
pub use findings::Findings;
pub use freshness::{Freshness, freshness};
pub use history::{open_records, read_ledger, read_ledger_again, record_in, records_of, unfinished_of};
pub use history_error::HistoryError;
pub use hub_policies::{KeyedPolicies, KeyedPolicy};
pub use import_files::check_import_files;
pub use kept::{FailedDevice, Kept, RunFailures};
pub use lease::{at_work, lease_of, lease_on};
pub use load::{load, load_valid, load_valid_again};
pub use occurrences::with_open_occurrences;
pub use own_registry::{OWN_FOLDER, OwnRegistry, Variables};
pub use preparation::StagedFile;
pub use recorded::Recorded;
pub use remembered::{devices_of_run, published_row, published_rows, remembered_rows};
pub use rewind::{declares_the_same, not_after};
pub use scratch::ScratchFolder;
pub use searches::{Searches, searched_paths};
pub use secrets::{AllowedSecrets, SecretFault, SecretStore};
pub use selection::{models_of, query_of};
pub use snapshot::OpenSnapshot;
pub use templates::mismatching;
pub use verified::{Trust, Verified};
pub use view::{Planned, Purpose, View};
pub use workspace::{Environment, Workspace, host, owner};
