//! The arguments of `serve`, and the words that pages share with the command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use axum::http::HeaderName;
use clap::{Args, Subcommand};

use super::error::CommandError;
use super::logs::LogArgs;
use super::secret_files::{read_secrets, variable};
use super::view::{diagnostic, why};
use crate::listen::Acceptor;
use crate::ops::Findings;
use crate::ops::job::Why;
use crate::web::{Access, CLAIM, OidcOptions, TrustedProxy, Voice, certificate};

/// The secret of our client at a provider of OpenID Connect.
const CLIENT_SECRET: &str = "FLEETFORM_OIDC_CLIENT_SECRET";
/// Columns in which causes and findings are written: those of a page.
const COLUMNS: usize = 110;

/// The words of the command line.
pub const VOICE: Voice = Voice { why: why_text, causes: why::to_json, findings: findings_text };

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct ServeArgs {
    #[command(subcommand)]
    pub command: Option<ServeCommand>,
    /// Where to serve; any address but a loopback one needs --auth, --oidc-issuer or --trust-header
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
    #[command(flatten)]
    pub oidc: OidcArgs,
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

/// A provider of OpenID Connect that people log in by. The secret of the client is a file, or
/// FLEETFORM_OIDC_CLIENT_SECRET.
#[derive(Debug, Clone, Default, Args)]
pub struct OidcArgs {
    /// Let people log in by this provider of OpenID Connect: its issuer, as the provider writes it. The secret of the
    /// client comes from FLEETFORM_OIDC_CLIENT_SECRET or --oidc-secret-file
    #[arg(
        long,
        value_name = "URL",
        requires_all = ["oidc_client_id", "oidc_redirect_url"],
        help_heading = "Pages"
    )]
    pub oidc_issuer: Option<String>,
    /// The id of our client at the provider
    #[arg(long, value_name = "ID", requires = "oidc_issuer", help_heading = "Pages")]
    pub oidc_client_id: Option<String>,
    /// Read the secret of the client from the first line of a file
    #[arg(long, value_name = "FILE", requires = "oidc_issuer", help_heading = "Pages")]
    pub oidc_secret_file: Option<PathBuf>,
    /// Where people reach these pages, with /oidc/callback at its end, as the provider has it, too
    #[arg(long, value_name = "URL", requires = "oidc_issuer", help_heading = "Pages")]
    pub oidc_redirect_url: Option<String>,
    /// The claim that is the name of who logs in; `email` counts only when the provider has verified it
    #[arg(long, value_name = "NAME", default_value = CLAIM, requires = "oidc_issuer", help_heading = "Pages")]
    pub oidc_claim: String,
    /// A domain of the addresses that may log in; several are possible, and without one all are
    #[arg(long, value_name = "DOMAIN", requires = "oidc_issuer", help_heading = "Pages")]
    pub oidc_domain: Vec<String>,
}

impl OidcArgs {
    /// Returns how people log in; `None` without a provider.
    fn options(&self) -> Result<Option<OidcOptions>, CommandError> {
        let Some(issuer) = self.oidc_issuer.clone() else { return Ok(None) };
        let secret = match &self.oidc_secret_file {
            Some(file) => Some(read_secrets(file).map_err(|error| CommandError::Usage {
                what: format!("the secret of the client cannot be read from {}: {error}", file.display()),
                help: "Check --oidc-secret-file and the rights of the file.".to_string(),
            })?),
            None => variable(CLIENT_SECRET)?,
        };
        // A client without a secret is a public one.
        let secret =
            secret.and_then(|text| text.lines().next().map(str::to_string)).filter(|secret| !secret.is_empty());
        Ok(Some(OidcOptions {
            issuer,
            client_id: self.oidc_client_id.clone().unwrap_or_default(),
            secret,
            redirect: self.oidc_redirect_url.clone().unwrap_or_default(),
            claim: self.oidc_claim.clone(),
            domains: self.oidc_domain.clone(),
        }))
    }
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
        let oidc = self.oidc.options()?;
        if self.auth.is_none() && self.trust_header.is_none() && oidc.is_none() {
            if proxy.is_some() {
                return Err(CommandError::Usage {
                    what: "--trust-proxy alone says of nobody who it is".to_string(),
                    help: "Add --auth FILE or --oidc-issuer URL, or --trust-header NAME when the proxy says who asks."
                        .to_string(),
                });
            }
            return Ok(address.ip().is_loopback().then_some(Access::Open));
        }
        let has_provider = oidc.is_some();
        let named = Access::named(self.auth.as_deref(), proxy, oidc).map_err(|what| CommandError::Usage {
            what,
            help: match has_provider {
                true => "docs/pages.md says what --auth and the options of --oidc-issuer need.".to_string(),
                false => "`fleetform serve token NAME` makes a token, and prints its line.".to_string(),
            },
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
