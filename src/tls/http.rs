//! A client of HTTP over encrypted connections: certificates are checked by what the system trusts.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring::default_provider;
use ureq::Agent;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::model::limits::HTTP_CONNECT_TIME_MAX;

/// A server that may be called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpServer {
    /// Its name or address, without brackets and port.
    pub host: String,
    /// It is this machine.
    pub is_local: bool,
    /// It is called without encryption, which only this machine is.
    pub is_plain: bool,
}

impl HttpServer {
    /// Returns the server of an address, and the address.
    ///
    /// # Errors
    /// A phrase about the address, without it.
    pub fn of(address: &str) -> Result<(HttpServer, Uri), String> {
        let uri: Uri = address.parse().map_err(|_| "is not a URL".to_string())?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_string();
        let is_local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        let is_plain = match uri.scheme_str() {
            Some("https") if !host.is_empty() => false,
            Some("http") if is_local => true,
            Some("http") => return Err("is of `http://` and another machine: use `https://`".to_string()),
            _ => return Err("is not of `https://`".to_string()),
        };
        Ok((HttpServer { host, is_local, is_plain }, uri))
    }
}

/// How a client calls.
#[derive(Debug, Clone, Copy)]
pub struct HttpCalls {
    /// The most time of a call.
    pub time_max: Duration,
    /// Calls of `http://`, which go to this machine; any other client calls `https://` alone.
    pub is_plain: bool,
    /// No proxy of the environment is asked: the server is this machine.
    pub skips_proxy: bool,
}

/// Returns a client. An answer that is no success is an answer, and none leads anywhere else: what a request brings is
/// for nobody else.
pub fn http_client(calls: HttpCalls) -> Agent {
    let HttpCalls { time_max, is_plain, skips_proxy } = calls;
    // Without any, no server is trusted.
    let found = if is_plain { Vec::new() } else { rustls_native_certs::load_native_certs().certs };
    let trusted: Vec<_> = found.iter().map(|one| Certificate::from_der(one).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(trusted))
        .unversioned_rustls_crypto_provider(Arc::new(default_provider()))
        .build();
    let mut config = Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .timeout_global(Some(time_max))
        .timeout_connect(Some(HTTP_CONNECT_TIME_MAX))
        .https_only(!is_plain)
        .user_agent(concat!("fleetform/", env!("CARGO_PKG_VERSION")));
    if skips_proxy || is_plain {
        config = config.proxy(None);
    }
    config.build().new_agent()
}
