//! A snapshot of a registry, to plan with in its place.

use std::fs::File;
use std::path::Path;

use super::scratch::ScratchFolder;
use super::{Environment, PrepareError};
use crate::registry::snapshot::{SnapshotFault, SnapshotHead, open};

/// A snapshot that is open: its registry is in a folder of this process.
pub struct OpenSnapshot {
    pub head: SnapshotHead,
    scratch: ScratchFolder,
}

impl OpenSnapshot {
    /// Opens a snapshot.
    ///
    /// # Errors
    /// [`PrepareError::Unusable`]: it is none, of a newer format, or damaged.
    pub fn of(path: &Path) -> Result<OpenSnapshot, PrepareError> {
        let unusable = |fault: SnapshotFault| PrepareError::Unusable {
            what: format!("the snapshot {} cannot be used: {fault}", path.display()),
            help: "Take it anew, with a fleetform of the same version: `fleetform snapshot --out FILE`.".to_string(),
        };
        let file = File::open(path).map_err(|error| unusable(error.into()))?;
        let (head, packed) = open(file).map_err(unusable)?;
        let scratch = ScratchFolder::make()?;
        let mut to = File::create(scratch.path().join("fleet.db")).map_err(|error| unusable(error.into()))?;
        packed.unpack(&mut to).map_err(unusable)?;
        Ok(OpenSnapshot { head, scratch })
    }

    /// Returns an environment with the snapshot in place of the registry.
    pub fn environment(&self, environment: &Environment) -> Environment {
        let path = self.scratch.path().join("fleet.db");
        Environment { registry: Some(format!("sqlite:{}", path.display())), ..environment.clone() }
    }

    /// Refuses a snapshot of another fleet.
    ///
    /// # Errors
    /// [`PrepareError::Unusable`]: it is of another one.
    pub fn check_fleet(&self, fleet: &str) -> Result<(), PrepareError> {
        if self.head.fleet == fleet {
            return Ok(());
        }
        let known = crate::model::text::sanitize_line(&self.head.fleet).into_owned();
        Err(PrepareError::Unusable {
            what: format!("the snapshot is of the fleet `{known}`, and this is the fleet `{fleet}`"),
            help: "Name a snapshot of this fleet.".to_string(),
        })
    }
}
