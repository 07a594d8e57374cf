//! What a forge, or the way to it, did.

use std::time::Duration;

use thiserror::Error;

use crate::model::text::duration;

/// Why a forge was not told. No text has the token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ForgeError {
    /// What was given cannot be used.
    #[error("{what}")]
    Unusable { what: String, help: String },
    /// There is no token where it should be.
    #[error("the token of the forge cannot be read from {place}: {why}")]
    NoToken { place: String, why: String },
    /// No answer came: a name, a connection, a certificate, or time.
    #[error("{host} does not answer: {why}")]
    Unreachable { host: String, why: String },
    /// 401, 403 or 404: to a token without rights, a private project is one that is not there.
    #[error("{host} does not let this token {doing} ({status}{message})")]
    Denied { host: String, doing: &'static str, status: u16, message: String },
    /// Too many calls, and when the next one may be made.
    #[error("{host} asks to wait for {}", duration(*.wait))]
    Limited { host: String, wait: Duration },
    /// A redirect, which is not followed: the token would go with it.
    #[error("{host} answers that it is elsewhere: {to}")]
    Moved { host: String, to: String },
    /// Another 4xx: the request is not one that it takes.
    #[error("{host} refuses to {doing} ({status}{message})")]
    Refused { host: String, doing: &'static str, status: u16, message: String },
    /// A 5xx.
    #[error("{host} fails ({status})")]
    Broken { host: String, status: u16 },
    /// An answer that is none of its API.
    #[error("what {host} answers cannot be used: {why}")]
    Strange { host: String, why: String },
}

impl ForgeError {
    /// Returns true when the same call may do later.
    pub fn is_transient(&self) -> bool {
        match self {
            ForgeError::Unreachable { .. } | ForgeError::Limited { .. } | ForgeError::Broken { .. } => true,
            ForgeError::Unusable { .. }
            | ForgeError::NoToken { .. }
            | ForgeError::Denied { .. }
            | ForgeError::Moved { .. }
            | ForgeError::Refused { .. }
            | ForgeError::Strange { .. } => false,
        }
    }

    /// Returns what to do about it.
    pub fn help(&self) -> String {
        match self {
            ForgeError::Unusable { help, .. } => help.clone(),
            ForgeError::NoToken { .. } => "Check --forge-token-file and the rights of the file.".to_string(),
            ForgeError::Unreachable { .. } => {
                "Check the network, the proxy, --forge-api, and the certificates that the system trusts.".to_string()
            }
            ForgeError::Denied { status: 401, .. } => "The token is wrong or has expired: make a new one.".to_string(),
            ForgeError::Denied { .. } => {
                "Check --forge-project, and the rights of the token: GitHub `statuses: write` and `pull-requests: \
                 write`, GitLab `api`, Gitea and Forgejo `write:repository` and `write:issue`."
                    .to_string()
            }
            ForgeError::Limited { .. } | ForgeError::Broken { .. } => "Try again later.".to_string(),
            ForgeError::Moved { .. } => {
                "Give its new name with --forge-project, or its new address with --forge-api.".to_string()
            }
            ForgeError::Refused { .. } => "Check --forge and --forge-project, and that the commit was pushed.".into(),
            ForgeError::Strange { .. } => "Check --forge and --forge-api.".to_string(),
        }
    }
}
