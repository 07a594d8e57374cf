//! What is trusted, and who we are, on an encrypted connection.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use super::error::BrokerError;

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
pub fn tls_config(files: TlsFiles<'_>) -> Result<Arc<ClientConfig>, BrokerError> {
    let mut roots = RootCertStore::empty();
    match files.ca {
        Some(ca) => {
            for certificate in certificates(ca)? {
                roots.add(certificate).map_err(|error| unusable(ca, &error))?;
            }
        }
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| BrokerError::Tls { reason: error.to_string() })?
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    let found = found.map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(unusable(path, &"it has no certificate"));
    }
    Ok(found)
}

fn unusable(path: &Path, reason: &dyn std::fmt::Display) -> BrokerError {
    BrokerError::Settings {
        what: path.display().to_string(),
        reason: reason.to_string(),
        help: "Name a PEM file that fleetform may read, absolute or relative to the folder of the fleet.".to_string(),
    }
}
