//! The address of a database as people write it: a URL as libpq reads it
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING>), with safer defaults.
//!
//! `sslmode` is `verify-full` unless every host is this machine. `require` means the same here, because encryption to
//! somebody unknown helps nobody.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};

use crate::model::encoding::percent_decoded;
use crate::tls::{TlsFiles, tls_config, trusted};

/// How long a connection may take to be made, when the URL does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a sent byte may stay unacknowledged before the connection counts as lost.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Which database to connect to, and how.
#[derive(Clone)]
pub(super) struct Settings {
    pub config: Config,
    /// How the connection is encrypted; `None` when it is not.
    pub tls: Option<Arc<ClientConfig>>,
    /// The address without the password, for messages.
    pub location: String,
}

/// Why a URL is not understood. `Display` goes on after "the URL of the registry": no part of the URL is told, as it may
/// be the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("does not begin with postgres:// or postgresql://")]
    Scheme,
    #[error("cannot be read: {0}")]
    Form(String),
    #[error("names no {0}")]
    Lacks(&'static str),
    #[error("has the sslmode `{0}`, which may not encrypt or not check who answers")]
    SslMode(String),
    #[error("has the sslmode `{0}`, which does not exist")]
    UnknownSslMode(String),
    #[error("names files, and {0}")]
    File(String),
}

/// Options of libpq that the client does not know. Any other word may be part of a password.
const UNKNOWN_OPTIONS: &[&str] = &[
    "client_encoding",
    "fallback_application_name",
    "gssencmode",
    "krbsrvname",
    "passfile",
    "pgbouncer",
    "replication",
    "requirepeer",
    "service",
    "sslcompression",
    "sslcrl",
    "sslpassword",
    "sslsni",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
];

impl UrlError {
    fn of(error: &tokio_postgres::Error) -> UrlError {
        let text = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        let Some(option) = text.strip_prefix("unknown option") else { return UrlError::Form(text) };
        let known = UNKNOWN_OPTIONS.iter().find(|known| option.trim_matches([' ', '`']) == **known);
        UrlError::Form(
            known.map_or_else(|| "it has an unknown option".to_string(), |known| format!("unknown option `{known}`")),
        )
    }

    /// Returns what to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            UrlError::SslMode(_) | UrlError::UnknownSslMode(_) => {
                "Write `sslmode=verify-full`, with `sslrootcert=FILE` for an authority of your own; or `verify-ca`, or \
                 `disable` where the network is trusted."
            }
            UrlError::File(_) => "Name a PEM file that fleetform may read.",
            UrlError::Scheme | UrlError::Form(_) | UrlError::Lacks(_) => {
                "Write it as `postgres://USER:PASSWORD@HOST[:PORT][,HOST…]/DATABASE?sslmode=verify-full`."
            }
        }
    }
}

/// Returns true for a text that begins as the URL of a database does.
pub fn is_url(text: &str) -> bool {
    text.starts_with("postgres://") || text.starts_with("postgresql://")
}

/// The `sslmode` of a URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encryption {
    None,
    /// The certificate must be signed by an authority that is trusted.
    Authority,
    /// It must also be for the name of the host.
    Full,
}

impl Settings {
    /// Reads a URL.
    ///
    /// # Errors
    /// It is none, or it names files that cannot be used.
    pub(super) fn parse(url: &str) -> Result<Settings, UrlError> {
        if !is_url(url) {
            return Err(UrlError::Scheme);
        }
        let (rest, encryption, files) = Ssl::taken_from(url)?;
        let mut config: Config = rest.parse().map_err(|error: tokio_postgres::Error| UrlError::of(&error))?;
        if config.get_hosts().is_empty() {
            return Err(UrlError::Lacks("host"));
        }
        if config.get_user().is_none() {
            return Err(UrlError::Lacks("user"));
        }
        if config.get_dbname().is_none_or(str::is_empty) {
            return Err(UrlError::Lacks("database"));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE_MAX);
        }
        config.keepalives_idle(SILENCE_MAX);
        let is_local = config.get_hosts().iter().all(is_this_machine);
        let tls = match encryption.unwrap_or(if is_local { Encryption::None } else { Encryption::Full }) {
            Encryption::None => None,
            wanted => Some(files.config(wanted)?),
        };
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        let location = location_of(&config);
        Ok(Settings { config, tls, location })
    }

    /// Returns the settings of connections that write: of several hosts, the one that takes writes.
    pub(super) fn for_writing(&self) -> Settings {
        let mut settings = self.clone();
        if settings.config.get_hosts().len() > 1 {
            settings.config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        settings
    }
}

/// The files that a URL names.
#[derive(Debug, Default)]
struct Ssl {
    root: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl Ssl {
    /// Takes the parameters of encryption out of a URL, because the client knows few of them.
    fn taken_from(url: &str) -> Result<(String, Option<Encryption>, Ssl), UrlError> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut encryption, mut files, mut rest) = (None, Ssl::default(), Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = || decoded(value);
            match key {
                "sslmode" => encryption = Some(mode_of(&value()?)?),
                // The authorities of the system are what is trusted without a file.
                "sslrootcert" if value()? == "system" => files.root = None,
                "sslrootcert" => files.root = Some(value()?.into()),
                "sslcert" => files.certificate = Some(value()?.into()),
                "sslkey" => files.key = Some(value()?.into()),
                _ => rest.push(pair),
            }
        }
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Ok((format!("{address}{query}"), encryption, files))
    }

    fn config(&self, encryption: Encryption) -> Result<Arc<ClientConfig>, UrlError> {
        let files = TlsFiles {
            ca: self.root.as_deref(),
            client_certificate: self.certificate.as_deref(),
            client_key: self.key.as_deref(),
        };
        let config = tls_config(files).map_err(|error| UrlError::File(error.to_string()))?;
        if encryption == Encryption::Full {
            return Ok(config);
        }
        let roots = trusted(self.root.as_deref()).map_err(|error| UrlError::File(error.to_string()))?;
        let provider = Arc::clone(config.crypto_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let inner = inner.map_err(|error| UrlError::File(error.to_string()))?;
        let mut config = ClientConfig::clone(&config);
        config.dangerous().set_certificate_verifier(Arc::new(AnyName { inner }));
        Ok(Arc::new(config))
    }
}

fn mode_of(word: &str) -> Result<Encryption, UrlError> {
    match word {
        "disable" => Ok(Encryption::None),
        "verify-ca" => Ok(Encryption::Authority),
        "verify-full" | "require" => Ok(Encryption::Full),
        "allow" | "prefer" => Err(UrlError::SslMode(word.to_string())),
        _ => Err(UrlError::UnknownSslMode(crate::model::text::sanitize_line(word).into_owned())),
    }
}

/// Checks who signed a certificate, but not for which name (`verify-ca`).
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName | rustls::CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback()),
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

/// Returns the address of a database without its password.
fn location_of(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts = config.get_hosts().iter().enumerate().map(|(at, host)| {
        let name = match host {
            Host::Tcp(name) if name.contains(':') => format!("[{name}]"),
            Host::Tcp(name) => name.clone(),
            #[cfg(unix)]
            Host::Unix(path) => path.display().to_string().replace('/', "%2F"),
        };
        match ports.get(at).or(ports.first()) {
            Some(port) if *port != 5432 => format!("{name}:{port}"),
            _ => name,
        }
    });
    let hosts = hosts.collect::<Vec<_>>().join(",");
    let (user, database) = (config.get_user().unwrap_or_default(), config.get_dbname().unwrap_or_default());
    crate::model::text::sanitize_line(&format!("postgres://{user}@{hosts}/{database}")).into_owned()
}

/// Returns the text of a part of a URL that is percent-encoded.
fn decoded(text: &str) -> Result<String, UrlError> {
    let fail = || UrlError::Form("a percent sign is not followed by two hex digits of UTF-8".to_string());
    percent_decoded(text).ok_or_else(fail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(url: &str) -> Settings {
        Settings::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    fn error(url: &str) -> UrlError {
        Settings::parse(url).err().unwrap_or_else(|| panic!("{url} is read"))
    }

    #[test]
    fn an_address_is_told_without_its_password() {
        let told = [
            ("postgres://ann:secret@db.acme.example/fleet", "postgres://ann@db.acme.example/fleet"),
            ("postgresql://ann:s%40t@127.0.0.1:5433/fleet", "postgres://ann@127.0.0.1:5433/fleet"),
            ("postgres://ann@a:5432,b:5433/fleet", "postgres://ann@a,b:5433/fleet"),
            ("postgres://ann@[::1]:5433/fleet?connect_timeout=3", "postgres://ann@[::1]:5433/fleet"),
            ("postgres:///fleet?host=/run/postgresql&user=ann", "postgres://ann@%2Frun%2Fpostgresql/fleet"),
        ];
        for (url, location) in told {
            assert_eq!(parsed(url).location, location, "{url}");
        }
    }

    #[test]
    fn a_connection_to_another_machine_is_encrypted_unless_the_url_says_no() {
        assert!(parsed("postgres://a@db.acme.example/fleet").tls.is_some());
        assert!(parsed("postgres://a@db.acme.example/fleet?sslmode=require").tls.is_some());
        assert!(parsed("postgres://a@db.acme.example/fleet?sslmode=verify-ca").tls.is_some());
        assert!(parsed("postgres://a@db.acme.example/fleet?sslmode=disable").tls.is_none());
        assert!(parsed("postgres://a@localhost/fleet").tls.is_none());
        assert!(parsed("postgres://a@127.0.0.1,db.acme.example/fleet").tls.is_some());
        assert!(parsed("postgres://a@127.0.0.1/fleet?sslmode=verify-full").tls.is_some());
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_password() {
        assert_eq!(error("mysql://a@b/c"), UrlError::Scheme);
        assert_eq!(error("postgres:///fleet?user=a"), UrlError::Lacks("host"));
        assert_eq!(error("postgres://db/fleet"), UrlError::Lacks("user"));
        assert_eq!(error("postgres://a@db"), UrlError::Lacks("database"));
        assert_eq!(error("postgres://a@db/f?sslmode=prefer"), UrlError::SslMode("prefer".to_string()));
        assert_eq!(error("postgres://a@db/f?sslmode=full"), UrlError::UnknownSslMode("full".to_string()));
        assert!(matches!(error("postgres://a@db/f?sslrootcert=/nowhere.pem"), UrlError::File(_)));
        for url in ["postgres://a:secret@db:x/f", "postgres://a:secret@db/f?port=x", "postgres://a:secret@db/f?what=x"]
        {
            let told = error(url).to_string();
            assert!(!told.contains("secret"), "{told}");
        }
        let unknown = |option: &str| error(&format!("postgres://a@db/f?{option}=1")).to_string();
        assert_eq!(unknown("pgbouncer"), "cannot be read: unknown option `pgbouncer`");
        assert_eq!(unknown("secret"), "cannot be read: it has an unknown option");
    }

    #[test]
    fn of_several_hosts_the_one_that_takes_writes_is_written_to() {
        let several = parsed("postgres://a@127.0.0.1:1,127.0.0.1:2/f");
        assert_eq!(several.config.get_target_session_attrs(), TargetSessionAttrs::Any);
        assert_eq!(several.for_writing().config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
    }
}
