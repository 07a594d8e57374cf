//! The ways on which a fleet has people told when something goes wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::alert::{Command, Way, Webhook};
use crate::model::alert::{AlertConfig, AlertTarget};
use crate::model::secret::SecretRef;
use crate::ops::Environment;
use crate::prepare::SecretStore;

/// Returns the way to a receiver: its secrets are read, and its command is one of those that the operator allows.
///
/// # Errors
/// A sentence on what is in the way, without a secret.
pub fn way(
    environment: &Environment,
    config: &AlertConfig,
    commands: &BTreeMap<String, PathBuf>,
) -> Result<Way, String> {
    let secrets = SecretStore::new(environment.secrets.clone());
    let read = |reference: &SecretRef| {
        let text = secrets.one(reference).map_err(|fault| format!("{reference}: {}", fault.help(reference)))?;
        Ok::<String, String>(text.as_str().to_string())
    };
    match &config.to {
        AlertTarget::Webhook { url, secret, body } => {
            let key = secret.as_ref().map(&read).transpose()?.map(String::into_bytes);
            let webhook = Webhook::new(&read(url)?, key, *body).map_err(|why| format!("the address in {url} {why}"))?;
            Ok(Way::Webhook(webhook))
        }
        AlertTarget::Command { name } => match commands.get(name) {
            Some(path) => Ok(Way::Command(Command { path: path.clone() })),
            None => Err(format!("the command `{name}` is not allowed: start with --alert-command {name}=PATH")),
        },
    }
}
