//! The argument that says which secrets a fleet may use.

use clap::Args;

use super::error::CommandError;
use crate::model::text::sanitize_line;
use crate::ops::{AllowedSecrets, Environment};

/// Which secrets a fleet may use.
#[derive(Debug, Clone, Default, Args)]
pub struct SecretArgs {
    /// Let the fleet send a secret to its devices: env:NAME, file:/path or file:/folder/. Several times, or with commas
    #[arg(long = "allow-secret", value_name = "WHAT", env = "FLEETFORM_ALLOW_SECRETS", value_delimiter = ',')]
    pub allowed: Vec<String>,
}

impl SecretArgs {
    /// Returns an environment with the secrets that are allowed. Variables are read here.
    ///
    /// # Errors
    /// `CommandError::Usage`: one of them is not understood.
    pub fn give_to(&self, environment: &Environment) -> Result<Environment, CommandError> {
        let mut secrets = AllowedSecrets::default();
        // A variable that is set and empty is how unit and compose files leave one out.
        for text in self.allowed.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
            secrets.allow(text, &variable).map_err(|why| CommandError::Usage {
                what: format!("--allow-secret `{}`: {why}", sanitize_line(text)),
                help: "Name each variable, each file or the folder with the files.".to_string(),
            })?;
        }
        Ok(Environment { secrets, ..environment.clone() })
    }
}

#[expect(clippy::disallowed_methods, reason = "a secret is no argument, and this room owns the environment")]
pub(super) fn variable(name: &str) -> Option<std::ffi::OsString> {
    match std::env::var(name) {
        Ok(value) => Some(value.into()),
        Err(std::env::VarError::NotUnicode(value)) => Some(value),
        Err(std::env::VarError::NotPresent) => None,
    }
}
