//! A client of HTTP over encrypted connections: certificates are checked by what the system trusts.

use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::ring::default_provider;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

/// How a client calls.
#[derive(Debug, Clone, Copy)]
pub struct HttpCalls {
    /// The most time of a call, and that of its connection in it.
    pub time_max: Duration,
    pub connect_time_max: Duration,
    /// Calls of `http://`, which go to this machine; any other client calls `https://` alone.
    pub is_plain: bool,
    /// No proxy of the environment is asked: the server is this machine.
    pub skips_proxy: bool,
}

/// Returns a client. An answer that is no success is an answer, and none leads anywhere else: what a request brings is
/// for nobody else.
pub fn http_client(calls: HttpCalls) -> Agent {
    let HttpCalls { time_max, connect_time_max, is_plain, skips_proxy } = calls;
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
        .timeout_connect(Some(connect_time_max))
        .https_only(!is_plain)
        .user_agent(concat!("fleetform/", env!("CARGO_PKG_VERSION")));
    if skips_proxy || is_plain {
        config = config.proxy(None);
    }
    config.build().new_agent()
}
