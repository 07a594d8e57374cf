//! What can go wrong with the registry.

use std::path::{Path, PathBuf};

use rusqlite::ErrorCode;

/// A failure of the registry. `Display` says what happened; [`RegistryError::help`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the folder {} of the registry cannot be made", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("the registry {} is locked by another process", path.display())]
    Locked { path: PathBuf },
    #[error("another fleetform has taken over the work on the registry {}", path.display())]
    Fenced { path: PathBuf },
    #[error("the disk is full: the registry {} cannot grow", path.display())]
    Full { path: PathBuf },
    #[error("the registry {} cannot be written", path.display())]
    ReadOnly { path: PathBuf },
    #[error("{} is not a fleetform registry", path.display())]
    NotARegistry { path: PathBuf },
    #[error("the registry {} belongs to the fleet `{known}`", path.display())]
    Foreign { path: PathBuf, known: String },
    #[error("the registry {} has version {version}, and this fleetform knows up to {known}", path.display())]
    Newer { path: PathBuf, version: i64, known: i64 },
    #[error("the registry {} has version {version}, and version {known} is needed", path.display())]
    Older { path: PathBuf, version: i64, known: i64 },
    #[error("the registry {} cannot be used: {what}", path.display())]
    Corrupt { path: PathBuf, what: String },
    #[error("the registry {} failed to {doing}", path.display())]
    Sqlite { path: PathBuf, doing: &'static str, source: rusqlite::Error },
}

impl RegistryError {
    pub(super) fn from_sqlite(path: &Path, doing: &'static str, source: rusqlite::Error) -> RegistryError {
        let path = path.to_path_buf();
        if super::fence::is_fenced(&source) {
            return RegistryError::Fenced { path };
        }
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => RegistryError::Locked { path },
            Some(ErrorCode::DiskFull) => RegistryError::Full { path },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => {
                RegistryError::ReadOnly { path }
            }
            Some(ErrorCode::DatabaseCorrupt) => RegistryError::Corrupt { path, what: "it is damaged".to_string() },
            Some(ErrorCode::NotADatabase) => RegistryError::NotARegistry { path },
            _ => RegistryError::Sqlite { path, doing, source },
        }
    }

    /// Returns what to do about it, one sentence.
    pub fn help(&self) -> &'static str {
        match self {
            RegistryError::Folder { .. } => "Check the permissions of the folder above it, or set `spec.registry`.",
            RegistryError::Locked { .. } => "Wait until the other process is done: the next try goes on.",
            RegistryError::Fenced { .. } => {
                "The lease of this one had run out. Nothing is lost: what it had begun, the other one goes on with."
            }
            RegistryError::Full { .. } => {
                "Make room on the disk: the next try goes on where this one was, nothing is lost."
            }
            RegistryError::ReadOnly { .. } => "Check the permissions of the file and of its folder.",
            RegistryError::NotARegistry { .. } => "Point `spec.registry.sqlite.path` or --registry at another file.",
            RegistryError::Foreign { .. } => {
                "Give each fleet a registry of its own with `spec.registry.sqlite.path` or --registry."
            }
            RegistryError::Newer { .. } => "Use a newer fleetform.",
            RegistryError::Older { .. } => "Run `fleetform apply` once: it brings the registry up to date.",
            RegistryError::Corrupt { .. } => {
                "Restore the file from a backup, or remove it: devices are imported again and runs are read from git."
            }
            RegistryError::Sqlite { .. } => "Check the file and the disk that it is on.",
        }
    }
}
