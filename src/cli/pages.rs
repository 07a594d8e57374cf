//! The arguments of `serve`, and the words that pages share with the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use axum::http::HeaderName;
use clap::{Args, Subcommand};

use super::error::CommandError;
use super::logs::LogArgs;
use super::view::{diagnostic, why};
use crate::listen::Acceptor;
use crate::ops::Findings;
use crate::ops::job::Why;
use crate::web::{Access, TrustedProxy, Voice, certificate};

/// Columns in which causes and findings are written: those of a page.
const COLUMNS: usize = 110;

/// The words of the command line.
pub const VOICE: Voice = Voice { why: why_text, causes: why::to_json, findings: findings_text };

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ServeArgs {
    #[command(subcommand)]
    pub command: Option<ServeCommand>,
    /// Where to serve; any address but a loopback one needs --auth or --trust-header
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    pub listen: String,
    #[command(flatten)]
    pub pages: PagesArgs,
    #[command(flatten)]
    pub log: LogArgs,
}

#[derive(Debug, Subcommand)]
pub enum ServeCommand {
    /// Make a token for somebody, and the line for the file of --auth
    Token {
        /// Who gets it: a name without spaces
        name: String,
    },
}

/// Who may look at pages, and how they are encrypted.
#[derive(Debug, Clone, Default, Args)]
pub struct PagesArgs {
    /// Show pages to those who have a token of this file: lines `name sha256:…`, as `serve token` makes them
    #[arg(long, value_name = "FILE", help_heading = "Pages")]
    pub auth: Option<PathBuf>,
    /// Show pages to those whom a proxy names in this header
    #[arg(long, value_name = "HEADER", requires = "trust_proxy", help_heading = "Pages")]
    pub trust_header: Option<HeaderName>,
    /// The address that a proxy connects from; several are possible. Requests and failed logins of it are not counted:
    /// they are those of many people
    #[arg(long, value_name = "ADDR", help_heading = "Pages")]
    pub trust_proxy: Vec<IpAddr>,
    /// Encrypt connections with this certificate and its chain, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key", help_heading = "Pages")]
    pub tls_cert: Option<PathBuf>,
    /// The key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert", help_heading = "Pages")]
    pub tls_key: Option<PathBuf>,
    /// Let those who may look stop jobs and block devices, each with a reason: written as `job stop` and `device block`
    /// do
    #[arg(long, help_heading = "Pages")]
    pub actions: bool,
}

impl PagesArgs {
    /// Returns who may look at pages at an address; `None` when nobody has to say who it is, and anybody could ask.
    ///
    /// # Errors
    /// `CommandError::Usage`: the file of tokens cannot be used.
    pub fn access(&self, address: SocketAddr) -> Result<Option<Access>, CommandError> {
        let proxy = (!self.trust_proxy.is_empty()).then(|| TrustedProxy {
            header: self.trust_header.clone(),
            addresses: self.trust_proxy.iter().map(IpAddr::to_canonical).collect(),
        });
        if self.auth.is_none() && self.trust_header.is_none() {
            if proxy.is_some() {
                return Err(CommandError::Usage {
                    what: "--trust-proxy alone says of nobody who it is".to_string(),
                    help: "Add --auth FILE, or --trust-header NAME when the proxy says who asks.".to_string(),
                });
            }
            return Ok(address.ip().is_loopback().then_some(Access::Open));
        }
        let named = Access::named(self.auth.as_deref(), proxy).map_err(|what| CommandError::Usage {
            what,
            help: "`fleetform serve token NAME` makes a token, and prints its line.".to_string(),
        })?;
        Ok(Some(named))
    }

    /// Returns what encrypts connections; `None` when they are plain.
    ///
    /// # Errors
    /// `CommandError::Usage`: the files cannot be used.
    pub fn acceptor(&self) -> Result<Option<Acceptor>, CommandError> {
        let Some((file, key)) = self.tls_cert.clone().zip(self.tls_key.clone()) else { return Ok(None) };
        let acceptor = certificate(file, key).map_err(|error| CommandError::Usage {
            what: format!("connections cannot be encrypted: {error}"),
            help: "Name a certificate with its chain, and its key, both in PEM.".to_string(),
        })?;
        Ok(Some(acceptor))
    }
}

fn why_text(cause: &Why) -> String {
    let text = why::render(cause, super::output::Painter { is_on: false });
    // The page has the first line as its title.
    let lines = text.lines().skip(1).map(|line| line.strip_prefix("  ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

fn findings_text(found: &Findings) -> String {
    let sorted = found.diagnostics.sorted();
    let texts = sorted.iter().map(|one| diagnostic::render(one, &found.sources, false, Some(COLUMNS)));
    texts.collect::<Vec<_>>().join("\n\n")
}
