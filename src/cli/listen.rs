//! The arguments of the daemon's pages: where they listen, and the secret of the webhooks.

use std::io;
use std::net::TcpListener;
use std::path::PathBuf;

use clap::Args;

use super::error::CommandError;
use super::pages::PagesArgs;
use super::secret_files::{read_secrets, variable};
use crate::listen::{Acceptor, WebhookSecrets};
use crate::model::limits::WEBHOOK_SECRET_CHARS_MIN;
use crate::model::text::sanitize_line;
use crate::web::Access;

/// The secret of the webhooks.
const SECRET: &str = "FLEETFORM_WEBHOOK_SECRET";
/// The previous secret, which is also accepted while callers change over.
const SECRET_PREVIOUS: &str = "FLEETFORM_WEBHOOK_SECRET_PREVIOUS";

/// Where the daemon serves its pages and receives webhooks.
#[derive(Debug, Clone, Default, Args)]
pub struct ListenArgs {
    /// Serve pages, webhooks, health and metrics over HTTP, such as on 127.0.0.1:8080. On any address but a loopback one
    /// pages need --auth, --oidc-issuer or --trust-header. The secret of the webhooks comes from
    /// FLEETFORM_WEBHOOK_SECRET, and the previous one, while it changes, from FLEETFORM_WEBHOOK_SECRET_PREVIOUS
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<String>,
    /// Read the secret of the webhooks from a file, and the previous one from its second line
    #[arg(long, value_name = "FILE", env = "FLEETFORM_WEBHOOK_SECRET_FILE")]
    pub webhook_secret_file: Option<PathBuf>,
    /// Serve health and metrics, and no webhooks
    #[arg(long, requires = "listen")]
    pub no_webhooks: bool,
    /// Serve no pages for a browser
    #[arg(long, requires = "listen", help_heading = "Pages")]
    pub no_pages: bool,
    #[command(flatten)]
    pub pages: PagesArgs,
}

/// What [`ListenArgs`] ask for.
pub struct Listening {
    /// Bound early, so that a taken port is reported before the fleet's work begins.
    pub listener: TcpListener,
    /// `None` with `--no-webhooks`.
    pub secrets: Option<WebhookSecrets>,
    /// Who may look at pages; `None` when there are none.
    pub access: Option<Access>,
    pub tls: Option<Acceptor>,
    pub has_actions: bool,
}

impl std::fmt::Debug for Listening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listening").field("listener", &self.listener).finish_non_exhaustive()
    }
}

impl ListenArgs {
    /// Reads the secrets and binds the address; `None` without `--listen`.
    ///
    /// # Errors
    /// `CommandError::Unavailable`: the address cannot be bound; `CommandError::Usage`: the address is not valid, or
    /// the secret is missing, unreadable or too short.
    pub fn open(&self) -> Result<Option<Listening>, CommandError> {
        let Some(address) = &self.listen else { return Ok(None) };
        let secrets = if self.no_webhooks { None } else { Some(self.secrets(&variable)?) };
        let listener = bind(address)?;
        let access = match self.no_pages {
            true => None,
            false => self.pages.access(listener.local_addr()?)?,
        };
        if self.pages.actions && access.is_none() {
            let (what, help) = match self.no_pages {
                true => ("--actions is of the pages, and there are none", "Leave out --no-pages or --actions."),
                false => (
                    "--actions would let whoever reaches this address stop jobs and block devices",
                    "Add --auth FILE, --oidc-issuer or --trust-header, or listen on a loopback address.",
                ),
            };
            return Err(CommandError::Usage { what: what.to_string(), help: help.to_string() });
        }
        Ok(Some(Listening { listener, secrets, access, tls: self.pages.acceptor()?, has_actions: self.pages.actions }))
    }

    fn secrets(
        &self,
        variable: &dyn Fn(&str) -> Result<Option<String>, CommandError>,
    ) -> Result<WebhookSecrets, CommandError> {
        // A variable that is set and empty is how unit and compose files leave one out.
        let file = self.webhook_secret_file.as_deref().filter(|path| !path.as_os_str().is_empty());
        let (name, current, previous) = match file {
            Some(path) => {
                let text = read_secrets(path).map_err(|error| CommandError::Usage {
                    what: format!("the webhook secret cannot be read from {}: {error}", path.display()),
                    help: "Check --webhook-secret-file and the rights of the file.".to_string(),
                })?;
                let mut lines = text.lines().map(str::to_string);
                (path.display().to_string(), lines.next(), lines.next())
            }
            None => (SECRET.to_string(), variable(SECRET)?, variable(SECRET_PREVIOUS)?),
        };
        let is_given = |secret: &String| !secret.is_empty();
        let Some(current) = current.filter(is_given) else {
            return Err(CommandError::Usage {
                what: format!("--listen hears webhooks, and there is no secret for them in {}", sanitize_line(&name)),
                help: format!(
                    "Set {SECRET} to at least {WEBHOOK_SECRET_CHARS_MIN} characters (`openssl rand -hex 32` makes \
                        some), or add --no-webhooks."
                ),
            });
        };
        WebhookSecrets::new(&current, previous.filter(is_given).as_deref()).map_err(|error| CommandError::Usage {
            what: format!("a webhook secret in {} cannot be used: {error}", sanitize_line(&name)),
            help: "`openssl rand -hex 32` makes a good one.".to_string(),
        })
    }
}

/// Binds an address, so that a taken port is reported before any work begins.
///
/// # Errors
/// `CommandError::Unavailable`: it cannot be bound; `CommandError::Usage`: it is not valid.
pub fn bind(address: &str) -> Result<TcpListener, CommandError> {
    TcpListener::bind(address).map_err(|error| {
        let what = format!("nothing can listen on {}: {error}", sanitize_line(address));
        let help = "Give --listen a free address with a port, such as 127.0.0.1:8080.".to_string();
        // An address that is taken may be free at the next start; an invalid one never is.
        match error.kind() {
            io::ErrorKind::InvalidInput => CommandError::Usage { what, help },
            _ => CommandError::Unavailable { what, help },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the error about the secrets; empty when they are valid.
    fn said(arguments: &ListenArgs, variables: &[(&str, &str)]) -> String {
        let variable =
            |name: &str| Ok(variables.iter().find(|(other, _)| *other == name).map(|(_, value)| value.to_string()));
        match arguments.secrets(&variable) {
            Ok(_) => String::new(),
            Err(CommandError::Usage { what, help }) => format!("{what}. {help}"),
            Err(error) => panic!("{error:?}"),
        }
    }

    const GOOD: &str = "0123456789abcdef";

    #[test]
    fn the_secret_is_mandatory_and_long_enough() {
        let check = |variables: &[(&str, &str)], expect: &str| {
            let said = said(&ListenArgs::default(), variables);
            assert!(if expect.is_empty() { said.is_empty() } else { said.contains(expect) }, "{said}");
            assert!(!said.contains("0123"), "no secret is shown: {said}");
        };
        check(&[], "there is no secret for them in FLEETFORM_WEBHOOK_SECRET");
        check(&[(SECRET, "")], "add --no-webhooks");
        check(&[(SECRET, "0123456789abcde")], "it has 15 characters");
        check(&[(SECRET, GOOD)], "");
        check(&[(SECRET, GOOD), (SECRET_PREVIOUS, "")], "");
        check(&[(SECRET, GOOD), (SECRET_PREVIOUS, "0123")], "it has 4 characters");
        check(&[(SECRET_PREVIOUS, GOOD)], "there is no secret");
        check(&[(SECRET, GOOD), (SECRET_PREVIOUS, GOOD)], "");
    }

    #[test]
    fn a_file_has_the_secret_and_the_one_before() {
        let folder = tempfile::tempdir().unwrap();
        let check = |text: &str, expect: &str| {
            let path = folder.path().join("secret");
            std::fs::write(&path, text).unwrap();
            let arguments = ListenArgs { webhook_secret_file: Some(path), ..ListenArgs::default() };
            let said = said(&arguments, &[(SECRET, "of no matter")]);
            assert!(if expect.is_empty() { said.is_empty() } else { said.contains(expect) }, "{text:?}: {said}");
        };
        check(&format!("{GOOD}\n"), "");
        check(&format!("{GOOD}\r\n{GOOD}x\n"), "");
        check(&format!("{GOOD}\nshort"), "it has 5 characters");
        check("", "there is no secret");
        check(&"x".repeat(5_000), "it has more than 4096 bytes");
        let absent = ListenArgs { webhook_secret_file: Some(folder.path().join("absent")), ..ListenArgs::default() };
        assert!(said(&absent, &[]).contains("cannot be read from"), "{}", said(&absent, &[]));
    }

    #[test]
    fn the_arguments_fit_beside_each_other() {
        #[derive(Debug, clap::Parser)]
        struct Watch {
            #[command(flatten)]
            listen: ListenArgs,
            #[command(flatten)]
            log: super::super::logs::LogArgs,
        }
        <Watch as clap::CommandFactory>::command().debug_assert();
        let parse = |words: &[&str]| {
            <Watch as clap::Parser>::try_parse_from([&["watch"], words].concat()).map_err(|error| error.kind())
        };
        let watch = parse(&["--listen", "[::1]:8080", "--no-webhooks", "--log", "json"]).unwrap();
        assert_eq!((watch.listen.listen.as_deref(), watch.listen.no_webhooks), (Some("[::1]:8080"), true));
        assert_eq!(watch.log.log, Some(super::super::logs::LogFormat::Json));
        assert_eq!(parse(&["--no-webhooks"]).unwrap_err(), clap::error::ErrorKind::MissingRequiredArgument);
        assert_eq!(parse(&["--log", "xml"]).unwrap_err(), clap::error::ErrorKind::InvalidValue);
    }

    #[test]
    fn the_address_is_bound_at_once() {
        let arguments =
            |listen: &str| ListenArgs { listen: Some(listen.to_string()), no_webhooks: true, ..ListenArgs::default() };
        let first = arguments("127.0.0.1:0").open().unwrap().unwrap();
        assert!(first.secrets.is_none());
        let taken = arguments(&first.listener.local_addr().unwrap().to_string()).open().unwrap_err();
        assert!(
            matches!(&taken, CommandError::Unavailable { what, .. } if what.contains("can listen on")),
            "{taken:?}"
        );
        for address in ["8080", "127.0.0.1", "127.0.0.1:99999", ""] {
            let error = arguments(address).open().unwrap_err();
            assert!(matches!(&error, CommandError::Usage { what, .. } if what.contains("can listen on")), "{error:?}");
        }
        assert!(ListenArgs::default().open().unwrap().is_none());
    }
}
