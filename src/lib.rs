//! fleetform: bulk work on fleets of connected devices through pull requests.

pub mod cli;
pub mod diag;
pub mod manifest;
pub mod model;
pub mod query;
pub mod registry;
