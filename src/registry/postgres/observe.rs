//! What the planner sees.

use tokio_postgres::types::ToSql;

use super::super::sql::Param;
use super::super::{RegistryError, Request, Tally};
use super::PostgresStore;
use super::connection::Connection;
use super::fault::Fault;
use crate::model::observation::Observation;

/// A condition over the alias `d`, with its parameters.
pub(super) struct Condition {
    pub sql: String,
    pub params: Vec<Param>,
}

impl Condition {
    /// Returns the parameters as a statement takes them.
    pub fn bound(&self) -> Vec<&(dyn ToSql + Sync)> {
        Vec::new()
    }
}

impl PostgresStore {
    pub(super) fn observation(&self, _request: &Request) -> Result<Observation, RegistryError> {
        Err(RegistryError::Locked { location: String::new() })
    }

    pub(super) fn tally(&self, _request: &Request) -> Result<Tally, RegistryError> {
        Err(RegistryError::Locked { location: String::new() })
    }

    pub(super) fn all_selected(&self, _request: &Request) -> Result<bool, RegistryError> {
        Err(RegistryError::Locked { location: String::new() })
    }

    /// Returns the condition of a request as SQL over the alias `d`: which devices it selects.
    pub(super) fn condition(&self, _connection: &Connection, _request: &Request) -> Result<Condition, Fault> {
        Ok(Condition { sql: "TRUE".to_string(), params: Vec::new() })
    }
}
