//! fleetform: bulk work on fleets of connected devices through pull requests.

pub mod cli;
pub mod diag;
pub mod execute;
pub mod ledger;
pub mod link;
pub mod manifest;
pub mod model;
pub mod ops;
pub mod plan;
pub mod prepare;
pub mod query;
pub mod registry;
pub mod repo;
pub mod results;
pub mod rollout;
