//! What is trusted, and who we are, on an encrypted connection: to a broker, to a database, or of a device to us.

mod http;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::client::verify_server_name;
use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    self, CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore,
    ServerConfig, SignatureScheme, crypto,
};
use x509_parser::x509::X509Version;

pub use http::{HttpCalls, HttpServer, http_client};

/// The files of an encrypted connection, in PEM.
#[derive(Debug, Clone, Copy, Default)]
pub struct TlsFiles<'a> {
    /// The authorities that are trusted; `None` for those of the system.
    pub ca: Option<&'a Path>,
    pub client_certificate: Option<&'a Path>,
    pub client_key: Option<&'a Path>,
}

/// Returns the settings of an encrypted connection.
///
/// # Errors
/// A file cannot be read, or is none of its kind.
pub fn tls_config(files: TlsFiles<'_>) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = trusted(files.ca)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Failed { reason: error.to_string() })?
        .with_root_certificates(roots);
    let config = match (files.client_certificate, files.client_key) {
        (Some(certificate), Some(key)) => {
            let private = private_key(key)?;
            builder.with_client_auth_cert(certificates(certificate)?, private).map_err(|error| unusable(key, &error))?
        }
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}

/// Returns the settings of the server's side of an encrypted connection, by two files in PEM: the certificate with its
/// chain, and its key. A client may show any certificate: that it has its key is checked, and who it is of is for the
/// caller to say.
///
/// # Errors
/// A file cannot be read, is none of its kind, or the key is that of another certificate.
pub fn server_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let private = private_key(key)?;
    let provider = Arc::new(crypto::ring::default_provider());
    let clients = Arc::new(AnyCertificate(provider.signature_verification_algorithms));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Failed { reason: error.to_string() })?
        .with_client_cert_verifier(clients)
        .with_single_cert(certificates(certificate)?, private)
        .map_err(|error| unusable(key, &error))?;
    Ok(Arc::new(config))
}

/// Returns the settings of a server of pages, as [`server_config`], which asks no client for a certificate: a browser
/// would ask its user for one.
///
/// # Errors
/// As [`server_config`].
pub fn page_config(certificate: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let private = private_key(key)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Failed { reason: error.to_string() })?
        .with_no_client_auth()
        .with_single_cert(certificates(certificate)?, private)
        .map_err(|error| unusable(key, &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Returns why a certificate is not that of a server of this name, or not now; `None` when it is.
///
/// # Errors
/// The file cannot be read, or is none of its kind.
pub fn name_problem(certificate: &Path, host: &str) -> Result<Option<String>, TlsError> {
    let own = certificates(certificate)?.swap_remove(0);
    let parsed = ParsedCertificate::try_from(&own).map_err(|error| unusable(certificate, &error))?;
    let name = ServerName::try_from(host).map_err(|error| TlsError::Failed { reason: error.to_string() })?;
    Ok(verify_server_name(&parsed, &name).err().map(|error| error.to_string()))
}

/// Authorities that may have signed the certificates of clients. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Authorities(Arc<dyn ClientCertVerifier>);

/// Why a certificate of a client is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Untrusted {
    /// No authority has signed it, directly or by certificates that were shown with it.
    Chain,
    /// It, or one that signed it, is over or not good yet.
    Time,
    /// It says what it is for, and that is something else than a client.
    Purpose,
}

impl Authorities {
    /// Reads the authorities of some PEM files; `None` of no files.
    ///
    /// # Errors
    /// A file cannot be read, has no certificate, or has one that cannot be used.
    pub fn read(files: &[PathBuf]) -> Result<Option<Authorities>, TlsError> {
        if files.is_empty() {
            return Ok(None);
        }
        let mut roots = RootCertStore::empty();
        for file in files {
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|error| unusable(file, &error))?;
            }
        }
        let provider = Arc::new(crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| TlsError::Failed { reason: error.to_string() })?;
        Ok(Some(Authorities(verifier)))
    }

    /// Checks that one of them has signed a certificate, the first one of a chain, that it is good at a time, in seconds
    /// since 1970, and for clients.
    ///
    /// # Errors
    /// It is not; why.
    pub fn check(&self, chain: &[CertificateDer<'_>], seconds: u64) -> Result<(), Untrusted> {
        let (own, between) = chain.split_first().ok_or(Untrusted::Chain)?;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let checked = self.0.verify_client_cert(own, between, now);
        checked.map(drop).map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            ) => Untrusted::Time,
            rustls::Error::InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => Untrusted::Purpose,
            _ => Untrusted::Chain,
        })
    }
}

/// Returns the common name of a certificate in DER; `None` for one with none or several.
pub fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let mut names = parsed.subject().iter_common_name();
    match (names.next(), names.next()) {
        (Some(name), None) => name.as_str().ok().map(str::to_string),
        _ => None,
    }
}

/// Returns true when a handshake failed because the client showed a certificate of a version before 3.
pub fn is_old_certificate(error: &std::io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(other)))) if other.is::<OldCertificate>())
}

/// A certificate of a version before 3: what it is signed with cannot be checked.
#[derive(Debug, thiserror::Error)]
#[error("the certificate is X.509 of version 1 or 2")]
struct OldCertificate;

/// Asks clients for a certificate, and takes any and none. No authority is named: some clients show nothing then.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let parsed = x509_parser::parse_x509_certificate(certificate);
        if parsed.is_ok_and(|(_, parsed)| parsed.version() != X509Version::V3) {
            let why = OtherError(Arc::new(OldCertificate));
            return Err(rustls::Error::InvalidCertificate(CertificateError::Other(why)));
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// Returns the authorities of a file, or those of the system.
///
/// # Errors
/// The file cannot be read, or has no certificate.
pub fn trusted(ca: Option<&Path>) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| unusable(ca, &error))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"it has no certificate"));
    }
    Ok(found)
}

/// Reads the first private key of a file in PEM.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        pem::Error::NoItemsFound => unusable(path, &"it has no private key in PEM"),
        error => unusable(path, &error),
    })
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> TlsError {
    TlsError::File { path: path.display().to_string(), reason: reason.to_string() }
}

/// Why there are no settings of an encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{path} cannot be used: {reason}")]
    File { path: String, reason: String },
    #[error("TLS fails: {reason}")]
    Failed { reason: String },
}
