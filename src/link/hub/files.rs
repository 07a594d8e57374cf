//! What is read from files when the gateway starts, and again when they have changed.

use std::path::PathBuf;
use std::time::SystemTime;

use tokio_rustls::TlsAcceptor;

use crate::model::text::sanitize_line;
use crate::tls::{Authorities, TlsError, name_problem, server_config};

/// The authorities that may have signed certificates of devices, as their files were when they were read.
pub struct DeviceAuthorities {
    files: Vec<PathBuf>,
    changed_at: Vec<Option<SystemTime>>,
    /// `None` when none is trusted.
    pub authorities: Option<Authorities>,
}

impl DeviceAuthorities {
    /// Reads the authorities of some PEM files.
    ///
    /// # Errors
    /// A file cannot be read, or is none of its kind.
    pub fn read(files: Vec<PathBuf>) -> Result<DeviceAuthorities, TlsError> {
        let changed_at = changed_at(&files);
        let authorities = Authorities::read(&files)?;
        Ok(DeviceAuthorities { files, changed_at, authorities })
    }

    /// Reads the files again when they have changed. What cannot be used is told, and those before go on.
    pub fn renew(&mut self) {
        let changed_at = changed_at(&self.files);
        if changed_at == self.changed_at {
            return;
        }
        self.changed_at = changed_at;
        match Authorities::read(&self.files) {
            Ok(authorities) => {
                self.authorities = authorities;
                tracing::info!("the new authorities of devices are trusted");
            }
            Err(error) => tracing::warn!(%error, "the new authorities cannot be used, and the old ones are trusted"),
        }
    }
}

/// The certificate that clients are shown, as its files were when they were read.
pub struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    /// The name that devices connect to.
    host_name: Option<String>,
    changed_at: Vec<Option<SystemTime>>,
    pub acceptor: TlsAcceptor,
}

impl Certificate {
    /// Reads a certificate and its key. One that is not for the name that devices connect
    /// to, where that is given, is warned of.
    ///
    /// # Errors
    /// A file cannot be read, is none of its kind, or the two do not belong together.
    pub fn read(certificate: PathBuf, key: PathBuf, host_name: Option<&str>) -> Result<Certificate, TlsError> {
        // What is written between the two is read the next time.
        let changed_at = changed_at([&certificate, &key]);
        let acceptor = TlsAcceptor::from(server_config(&certificate, &key)?);
        let own = Certificate { certificate, key, host_name: host_name.map(str::to_string), changed_at, acceptor };
        own.warn();
        Ok(own)
    }

    /// Warns of a certificate with which devices do not connect.
    fn warn(&self) {
        let Some(host) = &self.host_name else { return };
        if let Ok(Some(reason)) = name_problem(&self.certificate, host) {
            let reason = sanitize_line(&reason);
            tracing::warn!(%host, %reason, "the certificate is not for `hostName`: devices that check it do not connect");
        }
    }

    /// Returns what begins a connection with it.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Reads the files again when they have changed. What cannot be used is told, and the one before goes on.
    pub fn renew(&mut self) {
        let changed_at = changed_at([&self.certificate, &self.key]);
        if changed_at == self.changed_at {
            return;
        }
        self.changed_at = changed_at;
        match server_config(&self.certificate, &self.key) {
            Ok(config) => {
                self.acceptor = TlsAcceptor::from(config);
                tracing::info!("clients are shown the new certificate");
                self.warn();
            }
            Err(error) => tracing::warn!(%error, "the new certificate cannot be used, and the old one is shown"),
        }
    }
}

fn changed_at<'a>(files: impl IntoIterator<Item = &'a PathBuf>) -> Vec<Option<SystemTime>> {
    files.into_iter().map(|file| std::fs::metadata(file).and_then(|found| found.modified()).ok()).collect()
}
