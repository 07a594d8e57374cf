//! Failures of the registry, with the same messages for every store.

use std::error::Error;

/// A failure of the registry. `location` tells people where it is: a path, or an address without secrets. `Display`
/// says what happened, [`RegistryError::help`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the folder {location} of the registry cannot be made")]
    Folder { location: String, source: std::io::Error },
    #[error("the registry {location} is locked by another process")]
    Locked { location: String },
    /// The fence of a commit is older than the one that was noted last: nothing was written.
    #[error("another fleetform has taken over the work on the registry {location}")]
    Fenced { location: String },
    #[error("the disk is full: the registry {location} cannot grow")]
    Full { location: String },
    #[error("the registry {location} cannot be written")]
    ReadOnly { location: String },
    #[error("{location} is not a fleetform registry")]
    NotARegistry { location: String },
    #[error("the registry {location} belongs to the fleet `{known}`")]
    Foreign { location: String, known: String },
    #[error("the registry {location} has version {version}, and this fleetform knows up to {known}")]
    Newer { location: String, version: i64, known: i64 },
    #[error("the registry {location} has version {version}, and version {known} is needed")]
    Older { location: String, version: i64, known: i64 },
    #[error("the registry {location} cannot be used: {what}")]
    Corrupt { location: String, what: String },
    #[error("the registry {location} was replaced while this process worked with it")]
    Replaced { location: String },
    #[error("the registry {location} cannot be reached: {reason}")]
    Unreachable { location: String, reason: String },
    #[error("the registry {location} is not empty")]
    Occupied { location: String },
    /// A copy is not what was copied. `what` says in what.
    #[error("the registry {location} is not what was copied from {other}: it differs in {what}")]
    Different { location: String, other: String, what: String },
    #[error("the registry {location} refuses us: {reason}")]
    Refused { location: String, reason: String },
    #[error("the registry {location} cannot be used: {what}")]
    Unfit { location: String, what: String, help: &'static str },
    /// A variable of the environment has no URL that can be used. `what` goes on after it.
    #[error("the variable `{name}`, which has the URL of the registry, {what}")]
    Variable { name: String, what: String, help: &'static str },
    /// `source` is the error of the store.
    #[error("the registry {location} failed to {doing}")]
    Failed { location: String, doing: &'static str, source: Box<dyn Error + Send + Sync> },
}

impl RegistryError {
    /// Returns what to do about it, one sentence or two.
    pub fn help(&self) -> &'static str {
        match self {
            RegistryError::Folder { .. } => "Check the permissions of the folder above it, or set `spec.registry`.",
            RegistryError::Locked { .. } => "Wait until the other process is done: the next try goes on.",
            RegistryError::Replaced { .. } => "Start again: what may have been sent is known, and is not sent again.",
            RegistryError::Fenced { .. } => {
                "The lease of this one had run out. Nothing is lost: what it had begun, the other one goes on with."
            }
            RegistryError::Full { .. } => {
                "Make room on the disk: the next try goes on where this one was, nothing is lost."
            }
            RegistryError::Newer { .. } => "Use a newer fleetform.",
            RegistryError::Older { .. } => "Run `fleetform apply` once: it brings the registry up to date.",
            RegistryError::Unreachable { .. } => {
                "See whether the server runs and can be reached from here. Nothing is lost: the next try goes on where \
                 this one was."
            }
            RegistryError::Refused { .. } => {
                "Check the user, the password and the database of the URL, and which rights the user has: \
                 docs/production.md lists them."
            }
            RegistryError::Occupied { .. } => "Copy into a registry that does not exist yet: nothing was changed.",
            RegistryError::Different { .. } => {
                "The other one works on the fleet as before. Look at the disk and the server, remove what was copied, \
                 and copy again."
            }
            RegistryError::Unfit { help, .. } | RegistryError::Variable { help, .. } => help,
            RegistryError::ReadOnly { location }
            | RegistryError::NotARegistry { location }
            | RegistryError::Foreign { location, .. }
            | RegistryError::Corrupt { location, .. }
            | RegistryError::Failed { location, .. } => match location.starts_with("postgres://") {
                true => self.help_with_database(),
                false => self.help_with_file(),
            },
        }
    }

    fn help_with_file(&self) -> &'static str {
        match self {
            RegistryError::ReadOnly { .. } => "Check the permissions of the file and of its folder.",
            RegistryError::NotARegistry { .. } => "Point `spec.registry.sqlite.path` or --registry at another file.",
            RegistryError::Foreign { .. } => {
                "Give each fleet a registry of its own with `spec.registry.sqlite.path` or --registry."
            }
            RegistryError::Corrupt { .. } => {
                "Restore the file from a backup, or remove it: devices are imported again and runs are read from git."
            }
            _ => "Check the file and the disk that it is on.",
        }
    }

    fn help_with_database(&self) -> &'static str {
        match self {
            RegistryError::ReadOnly { .. } => {
                "Name the server that takes writes, or all of them as `HOST,HOST`, and a user that may write: \
                 docs/production.md lists the rights."
            }
            RegistryError::NotARegistry { .. } => {
                "Its schema `fleetform` is of something else: name another database in the URL."
            }
            RegistryError::Foreign { .. } => "Give each fleet a database of its own, and name it in the URL.",
            RegistryError::Corrupt { .. } => {
                "Restore the database from a backup, or drop its schema `fleetform`: devices are imported again and \
                 runs are read from git."
            }
            _ => "Look into the log of the server.",
        }
    }
}
