//! What goes wrong between us and a database.

use std::error::Error as _;
use std::io;

use tokio_postgres::error::SqlState;

use super::super::RegistryError;

/// A failure on the way to a [`RegistryError`].
#[derive(Debug)]
pub(super) enum Fault {
    /// The client or the server.
    Server(tokio_postgres::Error),
    /// There is no runtime.
    Io(io::Error),
    /// A row holds what it should not.
    Malformed(String),
    /// A later lease was noted, or the right to work is gone.
    Fenced,
    /// Commits that the server had acknowledged are gone.
    Replaced,
    /// It is an error of the registry already.
    Registry(RegistryError),
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Fault {
        Fault::Server(error)
    }
}

impl From<RegistryError> for Fault {
    fn from(error: RegistryError) -> Fault {
        Fault::Registry(error)
    }
}

impl Fault {
    /// Returns true when the connection is of no more use: it is gone, or the server behind it does not take writes any
    /// more.
    pub fn is_lost(&self) -> bool {
        match self {
            Fault::Server(error) => match error.code() {
                Some(code) => {
                    *code == SqlState::READ_ONLY_SQL_TRANSACTION
                        || *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT
                        || code.code().starts_with("08")
                        || code.code().starts_with("57P0")
                }
                None => error.is_closed() || io_cause(error).is_some(),
            },
            Fault::Io(_) | Fault::Malformed(_) | Fault::Fenced | Fault::Replaced | Fault::Registry(_) => false,
        }
    }

    /// Returns true when the same transaction may succeed when it is tried again at once.
    pub fn is_transient(&self) -> bool {
        let Fault::Server(error) = self else { return false };
        error.code().is_some_and(|code| {
            [&SqlState::T_R_DEADLOCK_DETECTED, &SqlState::T_R_SERIALIZATION_FAILURE].contains(&code)
        })
    }

    /// Returns true when a connection may be had a moment later: the server starts, is full, or is not there.
    pub fn may_pass(&self) -> bool {
        let Fault::Server(error) = self else { return false };
        match error.code() {
            Some(code) => self.is_lost() || *code == SqlState::TOO_MANY_CONNECTIONS,
            // Of several hosts, none takes writes now.
            None => io_cause(error).is_some() || error.to_string().contains("connect") || error.is_closed(),
        }
    }

    /// Converts the failure of an operation.
    pub fn into_error(self, location: &str, doing: &'static str) -> RegistryError {
        let location = location.to_string();
        if self.is_lost() && !self.is_read_only() {
            return RegistryError::Unreachable { location, reason: self.reason() };
        }
        match self {
            Fault::Fenced => RegistryError::Fenced { location },
            Fault::Replaced => RegistryError::Replaced { location },
            Fault::Registry(error) => error,
            Fault::Malformed(what) => RegistryError::Corrupt { location, what },
            Fault::Io(source) => RegistryError::Failed { location, doing, source: source.into() },
            Fault::Server(error) => match error.code().map(SqlState::code) {
                Some("25006") => RegistryError::ReadOnly { location },
                Some("53100") => RegistryError::Full { location },
                Some("55P03") => RegistryError::Locked { location },
                Some("XX001" | "XX002") => RegistryError::Corrupt { location, what: "it is damaged".to_string() },
                Some("42501" | "28000" | "28P01" | "3D000" | "0P000") => {
                    RegistryError::Refused { location, reason: told(&error) }
                }
                Some("53300") => RegistryError::Unreachable { location, reason: told(&error) },
                Some(_) => RegistryError::Failed { location, doing, source: told(&error).into() },
                None => RegistryError::Failed { location, doing, source: error.into() },
            },
        }
    }

    /// Converts the failure of a connection that is being made.
    pub fn into_connect_error(self, location: &str) -> RegistryError {
        match self {
            Fault::Server(error) if error.code().is_none() => {
                let (location, reason) = (location.to_string(), told(&error));
                // What the client says when the server asks for a password and it has none, or cannot prove that it
                // has it.
                match ["invalid configuration", "authentication error"]
                    .iter()
                    .any(|is| error.to_string().starts_with(is))
                {
                    true => RegistryError::Refused { location, reason },
                    false => RegistryError::Unreachable { location, reason },
                }
            }
            other => other.into_error(location, "connect"),
        }
    }

    fn is_read_only(&self) -> bool {
        matches!(self, Fault::Server(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION))
    }

    fn reason(&self) -> String {
        match self {
            Fault::Server(error) => told(error),
            _ => "it does not answer".to_string(),
        }
    }
}

/// Returns what the server, or the cause of a failure of the client, says.
fn told(error: &tokio_postgres::Error) -> String {
    let said = match error.as_db_error() {
        Some(said) => said.message().to_string(),
        None => {
            let mut cause: &dyn std::error::Error = error;
            while let Some(source) = cause.source() {
                cause = source;
            }
            cause.to_string()
        }
    };
    crate::model::text::sanitize_line(&said).into_owned()
}

fn io_cause(error: &tokio_postgres::Error) -> Option<&io::Error> {
    let mut cause = error.source();
    while let Some(source) = cause {
        if let Some(io) = source.downcast_ref::<io::Error>() {
            return Some(io);
        }
        cause = source.source();
    }
    None
}
