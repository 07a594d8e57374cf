//! The use cases, one a file. Each takes an [`Environment`] and options, and returns values to show; none prints.

pub mod adopt;
pub mod apply;
pub mod convert;
pub mod device;
pub mod edit;
mod error;
pub mod init;
pub mod job;
pub mod plan;
pub mod schedule;
pub mod status;
pub mod validate;
mod workspace;

pub use error::OpsError;
pub use workspace::{Environment, Findings, Workspace};
