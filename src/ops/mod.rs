//! The use cases, one a file. Each takes an [`Environment`] and options, and returns values to show; none prints.
//!
//! A use case fails as a reconcile does, or as its preparation: [`OpsError`] is the error of all of them.

pub mod adopt;
pub mod alerts;
pub mod apply;
pub mod convert;
pub mod device;
pub mod edit;
pub mod group;
pub mod hub;
pub mod import;
pub mod init;
pub mod job;
pub mod link;
pub mod names;
pub mod plan;
pub mod registry;
pub mod rehearse;
pub mod schedule;
pub mod schema;
pub mod sight;
pub mod snapshot;
pub mod status;
pub mod validate;
pub mod watch;

pub use crate::prepare::{
    AllowedSecrets, Caveats, Destination, Environment, Findings, Kept, PassedOver, Trust, Variables, Workspace,
};
pub use crate::reconcile::ReconcileError as OpsError;
