//! The daemon's HTTP server for health, metrics and webhooks, and its messages to the service manager.
//!
//! The daemon writes the [`StatusHandle`], the pages read it; a webhook rings the [`Bell`] and does nothing more: its
//! body is only bytes to check a signature over. Nothing here decides or blocks: all of it runs beside the daemon on
//! one thread.
//!
//! `axum` routes, `hyper` serves (axum's own server has no timeout for the head of a request), `hmac` and `subtle`
//! compare, `prometheus-client` writes the metrics. To leave them: [`Server::serve`] and one file each.

mod metrics;
mod process;
mod routes;
mod sentence;
mod service;
mod status_handle;
mod webhook;

use std::collections::VecDeque;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use crate::model::limits;

pub use service::ServiceManager;
pub use status_handle::StatusHandle;
pub use webhook::{SecretError, WebhookSecrets};

/// The target of all lines that are logged here: a name for filters, which stays the same when code moves.
pub const LOG_TARGET: &str = "fleetform::listen";

/// Wakes the daemon. It is called by every accepted webhook, and returns at once: many rings may be one.
pub type Bell = Arc<dyn Fn() + Send + Sync>;

/// The pages of a daemon.
pub struct Server {
    pub handle: StatusHandle,
    pub bell: Bell,
    /// The secrets that webhooks are signed with; without them webhooks answer 404.
    pub secrets: Option<WebhookSecrets>,
    pub bounds: Bounds,
}

/// The resources that a client may use; [`Bounds::default`] has those of [`limits`].
#[derive(Debug, Clone)]
pub struct Bounds {
    pub connections_max: usize,
    /// How long a connection keeps its place when all are taken.
    pub patience: Duration,
    pub head_time_max: Duration,
    pub connection_time_max: Duration,
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
            patience: limits::LISTEN_PATIENCE,
            head_time_max: limits::LISTEN_HEAD_TIME_MAX,
            connection_time_max: limits::LISTEN_CONNECTION_TIME_MAX,
            body_time_max: limits::WEBHOOK_READ_TIME_MAX,
            body_bytes_max: limits::WEBHOOK_BODY_BYTES_MAX,
            accepted_per_minute_max: limits::WEBHOOKS_ACCEPTED_PER_MINUTE_MAX,
            refused_per_minute_max: limits::WEBHOOKS_REFUSED_PER_MINUTE_MAX,
            heartbeat_age_max: limits::HEARTBEAT_AGE_MAX,
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
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let bounds = self.bounds.clone();
        let router = routes::router(self);
        let mut shutdown = pin!(shutdown);
        let (mut connections, mut open) = (JoinSet::new(), VecDeque::<(Instant, AbortHandle)>::new());
        loop {
            open.retain(|(_, connection)| !connection.is_finished());
            let is_full = open.len() >= bounds.connections_max;
            let cut_at = open.front().map_or_else(Instant::now, |(since, _)| *since + bounds.patience);
            tokio::select! {
                () = &mut shutdown => break,
                // A question of a monitor takes a millisecond. When all places are taken, what has been open for
                // longest is slow, and makes room.
                () = tokio::time::sleep_until(cut_at), if is_full => {
                    if let Some((_, slow)) = open.pop_front() {
                        slow.abort();
                    }
                }
                // A connection that ended frees its place; a panic ends only its own connection.
                Some(_) = connections.join_next() => {}
                accepted = listener.accept(), if !is_full => match accepted {
                    Ok((stream, _)) => {
                        let connection = connections.spawn(converse(stream, router.clone(), bounds.clone()));
                        open.push_back((Instant::now(), connection));
                    }
                    Err(error) => {
                        // Out of file descriptors, mostly: trying again at once would be a busy loop.
                        tracing::warn!(target: LOG_TARGET, error = &error as &dyn std::error::Error, "a connection \
                            cannot be accepted");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        let all_ended = async { while connections.join_next().await.is_some() {} };
        // Remaining connections are cut when the set is dropped.
        let _in_time = timeout(limits::LISTEN_LINGER_TIME_MAX, all_ended).await;
        Ok(())
    }
}

/// Reads one request, answers it and closes, all within the bounds.
async fn converse(stream: TcpStream, router: Router, bounds: Bounds) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time_max)
        .max_headers(limits::LISTEN_HEADERS_MAX)
        .max_buf_size(limits::LISTEN_HEAD_BYTES_MAX)
        // `nc -N` and similar clients close their side after the request.
        .half_close(true)
        .keep_alive(false);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(bounds.connection_time_max, connection.without_shutdown()).await {
        Ok(Ok(parts)) => linger(parts.io.into_inner()).await,
        Ok(Err(error)) => {
            tracing::debug!(target: LOG_TARGET, error = &error as &dyn std::error::Error, "a client is cut")
        }
        Err(_) => tracing::debug!(target: LOG_TARGET, "a client is cut: it took too long"),
    }
}

/// Closes our side and reads on for a moment: closing on unread bytes would reset the connection, and the answer with
/// it.
async fn linger(mut stream: TcpStream) {
    let rest = async {
        stream.shutdown().await?;
        let mut scratch = [0; 8 * 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    let _in_time = timeout(limits::LISTEN_LINGER_TIME_MAX, rest).await;
}
