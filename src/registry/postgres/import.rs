//! Device imports.

use std::io::Read;

use super::super::{ImportFailure, ImportSpec, RegistryError, StagedImport};
use super::PostgresStore;
use super::connection::Connection;
use super::fault::Fault;
use crate::model::fleet::ImportFormat;

impl PostgresStore {
    pub(super) fn stage_file(
        &mut self,
        _spec: &ImportSpec,
        _file: &mut dyn Read,
    ) -> Result<StagedImport, ImportFailure> {
        Ok(StagedImport::default())
    }

    pub(super) fn unasked_owners(&self) -> Result<Vec<String>, RegistryError> {
        Ok(Vec::new())
    }

    pub(super) fn ask(
        &mut self,
        _owner: &str,
        _format: ImportFormat,
        _file: &mut dyn Read,
    ) -> Result<(), RegistryError> {
        Ok(())
    }

    pub(super) fn settle_import(
        &mut self,
        _spec: &ImportSpec,
        _staged: &mut StagedImport,
    ) -> Result<(), RegistryError> {
        Ok(())
    }

    pub(super) fn clear_staged(&mut self) -> Result<(), RegistryError> {
        Ok(())
    }

    pub(super) fn overlay_staged(&mut self) -> Result<(), RegistryError> {
        Ok(())
    }

    pub(super) fn applied_imports(&self) -> Result<Vec<(String, String)>, RegistryError> {
        Ok(Vec::new())
    }
}

/// Writes what is staged of one import, notes its digest and fills the outbox.
pub(super) fn apply(
    _connection: &Connection,
    _spec: &ImportSpec,
    _at: jiff::Timestamp,
    _outbox: &str,
) -> Result<(), Fault> {
    Ok(())
}
