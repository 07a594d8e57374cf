//! The daemon's HTTP server for health, metrics and webhooks, and its messages to the service manager.
//!
//! The daemon writes the [`StatusHandle`], the pages read it; a webhook rings the [`Bell`] and does nothing more: its
//! body is only bytes to check a signature over. Nothing here decides or blocks: all of it runs beside the daemon on
//! one thread.
//!
//! `axum` routes, `hyper` serves (axum's own server has no timeout for the head of a request), `hmac` and `subtle`
//! compare, `prometheus-client` writes the metrics. To leave them: [`serve`] and one file each.

mod door;
mod events;
mod metrics;
mod priority;
mod process;
mod routes;
mod sentence;
mod served;
mod service;
mod sockets;
mod status_handle;
mod webhook;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;

use crate::model::buckets::Rate;
use crate::model::limits;

pub use events::{Event, EventLog, Missed};
pub use priority::{LISTENS, READS_PAGES, lower_priority};
pub use served::{Acceptor, Patience, Peer, Places, serve};
pub use service::ServiceManager;
pub use sockets::GivenSockets;
pub use status_handle::StatusHandle;
pub use webhook::{SecretError, WebhookSecrets};

/// The target of all lines that are logged here: a name for filters, which stays the same when code moves.
pub const LOG_TARGET: &str = "fleetform::listen";

/// Wakes the daemon. It is called by every accepted webhook, and returns at once: many rings may be one.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// Lets those who operate a daemon through to some routes, and nobody else.
pub type Operators = Arc<dyn Fn(Router) -> Router + Send + Sync>;

/// The pages of a daemon.
pub struct Server {
    pub handle: StatusHandle,
    pub bell: Bell,
    /// The secrets that webhooks are signed with; without them webhooks answer 404.
    pub secrets: Option<WebhookSecrets>,
    pub bounds: Bounds,
    /// What answers the paths that are none of these; a sentence when `None`.
    pub pages: Option<Router>,
    /// Who reads the status and the metrics, and why the daemon is not ready; everybody when `None`.
    pub operators: Option<Operators>,
    /// Encrypts connections; they are plain when `None`.
    pub tls: Option<Acceptor>,
}

/// The resources that a client may use; [`Bounds::default`] has those of [`limits`].
#[derive(Debug, Clone)]
pub struct Bounds {
    pub connections_max: usize,
    /// How often an address may connect.
    pub accepts_of_address_max: Rate,
    /// Addresses of proxies: many clients have them, so their connections are not counted.
    pub proxies: Vec<IpAddr>,
    /// How long a connection keeps its place when all are taken.
    pub patience: Duration,
    pub head_time_max: Duration,
    pub connection_time_max: Duration,
    /// The same of a connection whose answer has [`Patience`].
    pub download_time_max: Duration,
    pub body_time_max: Duration,
    pub body_bytes_max: u64,
    /// For each webhook.
    pub accepted_per_minute_max: u32,
    /// For all webhooks together.
    pub refused_per_minute_max: u32,
    pub heartbeat_age_max: Duration,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            connections_max: limits::LISTEN_CONNECTIONS_MAX,
            accepts_of_address_max: limits::LISTEN_ACCEPTS_OF_ADDRESS_MAX,
            proxies: Vec::new(),
            patience: limits::LISTEN_PATIENCE,
            head_time_max: limits::LISTEN_HEAD_TIME_MAX,
            connection_time_max: limits::LISTEN_CONNECTION_TIME_MAX,
            download_time_max: limits::LISTEN_CONNECTION_TIME_MAX,
            body_time_max: limits::WEBHOOK_READ_TIME_MAX,
            body_bytes_max: limits::WEBHOOK_BODY_BYTES_MAX,
            accepted_per_minute_max: limits::WEBHOOKS_ACCEPTED_PER_MINUTE_MAX,
            refused_per_minute_max: limits::WEBHOOKS_REFUSED_PER_MINUTE_MAX,
            heartbeat_age_max: limits::HEARTBEAT_AGE_MAX,
        }
    }
}

impl Bounds {
    /// Returns the bounds of a server with pages for people, some of whom come by proxies: more connections, which may
    /// be those of downloads.
    pub fn with_pages(proxies: Vec<IpAddr>) -> Bounds {
        Bounds {
            proxies,
            connections_max: limits::PAGES_CONNECTIONS_MAX,
            connection_time_max: limits::PAGES_CONNECTION_TIME_MAX,
            download_time_max: limits::PAGES_DOWNLOAD_TIME_MAX,
            ..Bounds::default()
        }
    }
}

impl Server {
    /// Serves until `shutdown` ends. Then no more connections are accepted, and open ones have one second left.
    ///
    /// It is a future of a tokio runtime with time and IO, of one thread or many. One connection carries one request: a
    /// monitor asks every few seconds, and an idle connection would hold a place.
    ///
    /// # Errors
    /// The listener cannot be used with the runtime. A client never ends the service.
    pub async fn serve(self, listener: std::net::TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let places = Places::of(&self.bounds);
        let tls = self.tls.clone();
        serve(listener, routes::router(self), (places, tls), shutdown).await
    }
}
