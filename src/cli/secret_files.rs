//! Secrets of this process: from its environment, or from small files.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::error::CommandError;
use crate::model::limits::WEBHOOK_SECRET_FILE_BYTES_MAX;

/// Reads a variable of the environment; `None` when it is not set. Not an argument of clap: a flag would show the
/// secret to every user who can list processes.
///
/// # Errors
/// It is not UTF-8.
#[expect(clippy::disallowed_methods, reason = "a secret is no argument, and this room owns the environment")]
pub fn variable(name: &str) -> Result<Option<String>, CommandError> {
    match std::env::var(name) {
        Ok(value) => Ok(Some(value)),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err(CommandError::Usage {
            what: format!("{name} is not UTF-8"),
            help: "`openssl rand -hex 32` makes a good secret.".to_string(),
        }),
    }
}

/// Returns the lines of a small file with secrets.
///
/// # Errors
/// It cannot be read, or is no small one.
pub fn read_secrets(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(WEBHOOK_SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > WEBHOOK_SECRET_FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it has more than {WEBHOOK_SECRET_FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}
