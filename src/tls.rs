//! What is trusted, and who we are, on an encrypted connection: to a broker, to a database, or of a device to us.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::crypto::WebPkiSupportedAlgorithms;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    self, ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme, crypto,
};

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
            let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
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
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unusable(key, &error))?;
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
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
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
