//! The certificate of encrypted connections. One that was renewed counts for the next connection.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::LOG_TARGET;
use crate::listen::Acceptor;
use crate::tls::{TlsError, page_config};

/// How often the files are looked at.
const RENEWAL_TIME: Duration = Duration::from_secs(30);

/// Returns what encrypts connections with a certificate, of two PEM files.
///
/// # Errors
/// A file cannot be read, is none of its kind, or the key is that of another certificate.
pub fn certificate(certificate: PathBuf, key: PathBuf) -> Result<Acceptor, TlsError> {
    let config = page_config(&certificate, &key)?;
    let known = Mutex::new((TlsAcceptor::from(config), None::<Instant>));
    Ok(Arc::new(move || {
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.1.is_none_or(|at| at.elapsed() >= RENEWAL_TIME) {
            match page_config(&certificate, &key) {
                Ok(config) => known.0 = TlsAcceptor::from(config),
                Err(error) => tracing::warn!(target: LOG_TARGET, %error, "the certificate is the one from before"),
            }
            known.1 = Some(Instant::now());
        }
        known.0.clone()
    }))
}
