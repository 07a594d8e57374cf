//! The listener: connections with their bounds, plain or encrypted, each with one request.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;

use super::door::Door;
use super::{Bounds, LOG_TARGET};
use crate::model::buckets::{Buckets, Rate};
use crate::model::limits;

/// Returns what encrypts a new connection: a certificate that was renewed counts for the next one.
pub type Acceptor = Arc<dyn Fn() -> TlsAcceptor + Send + Sync>;

/// The address of who asks, an extension of each request.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// Lets an answer take as long as a download may, an extension of each request: any other is cut sooner.
#[derive(Debug, Clone, Default)]
pub struct Patience(Arc<AtomicBool>);

impl Patience {
    /// Asks for the time of a download.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The places of connections.
#[derive(Debug)]
pub struct Places {
    connections_max: usize,
    accepts_of_address_max: Rate,
    proxies: Vec<IpAddr>,
    patience: Duration,
    head_time_max: Duration,
    connection_time_max: Duration,
    download_time_max: Duration,
}

impl Places {
    /// Returns the places that bounds allow.
    pub fn of(bounds: &Bounds) -> Places {
        Places {
            connections_max: bounds.connections_max,
            accepts_of_address_max: bounds.accepts_of_address_max,
            proxies: bounds.proxies.clone(),
            patience: bounds.patience,
            head_time_max: bounds.head_time_max,
            connection_time_max: bounds.connection_time_max,
            download_time_max: bounds.download_time_max,
        }
    }

    /// Counts a connection of an address; false when it has had too many.
    fn takes(&self, accepts: &mut Buckets<IpAddr>, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.contains(&address) || accepts.take(address, self.accepts_of_address_max, Instant::now().into_std())
    }
}

/// Serves until `shutdown` ends. Then no more connections are accepted, and open ones have one second left.
///
/// # Errors
/// The listener cannot be used with the runtime. A client never ends the service.
pub async fn serve(
    listener: std::net::TcpListener,
    router: Router,
    (places, tls): (Places, Option<Acceptor>),
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut door = Door::of(listener)?;
    let mut shutdown = pin!(shutdown);
    let (mut connections, mut open) = (JoinSet::new(), VecDeque::<(Instant, AbortHandle)>::new());
    let (mut accepts, places) = (Buckets::default(), Arc::new(places));
    loop {
        open.retain(|(_, connection)| !connection.is_finished());
        let is_full = open.len() >= places.connections_max;
        let cut_at = open.front().map_or_else(Instant::now, |(since, _)| *since + places.patience);
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
            accepted = door.accept(), if !is_full => match accepted {
                // An answer that tells it to wait would cost more than it is worth: it asks on.
                Ok((stream, peer)) if !places.takes(&mut accepts, peer.ip()) => door.refuse(stream).await,
                Ok((stream, peer)) => {
                    let acceptor = tls.as_ref().map(|tls| tls());
                    let (router, places) = (router.clone(), Arc::clone(&places));
                    let stream = match of_runtime(stream) {
                        Ok(stream) => stream,
                        Err(error) => {
                            tracing::warn!(target: LOG_TARGET, %error, "a connection cannot be served");
                            continue;
                        }
                    };
                    let connection = connections.spawn(accept(stream, Peer(peer), acceptor, router, places));
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
    drop(door);
    let all_ended = async { while connections.join_next().await.is_some() {} };
    // Remaining connections are cut when the set is dropped.
    let _in_time = timeout(limits::LISTEN_LINGER_TIME_MAX, all_ended).await;
    Ok(())
}

fn of_runtime(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

async fn accept(stream: TcpStream, peer: Peer, acceptor: Option<TlsAcceptor>, router: Router, places: Arc<Places>) {
    let Some(acceptor) = acceptor else { return converse(stream, peer, router, places).await };
    match timeout(places.head_time_max, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => converse(stream, peer, router, places).await,
        Ok(Err(error)) => tracing::debug!(target: LOG_TARGET, %error, "a client is cut: it does not speak TLS with us"),
        Err(_) => tracing::debug!(target: LOG_TARGET, "a client is cut: its handshake took too long"),
    }
}

/// Reads one request, answers it and closes, all within the bounds.
async fn converse<S>(stream: S, peer: Peer, router: Router, places: Arc<Places>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(places.head_time_max)
        .max_headers(limits::LISTEN_HEADERS_MAX)
        .max_buf_size(limits::LISTEN_HEAD_BYTES_MAX)
        // `nc -N` and similar clients close their side after the request.
        .half_close(true)
        .keep_alive(false);
    let patience = Patience::default();
    let asked = patience.clone();
    let router = router.map_request(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(asked.clone());
        request
    });
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection.without_shutdown());
    let mut ended = timeout(places.connection_time_max, &mut connection).await;
    if ended.is_err() && patience.0.load(Ordering::Relaxed) {
        let rest = places.download_time_max.saturating_sub(places.connection_time_max);
        ended = timeout(rest, connection).await;
    }
    match ended {
        Ok(Ok(parts)) => linger(parts.io.into_inner()).await,
        Ok(Err(error)) => {
            tracing::debug!(target: LOG_TARGET, error = &error as &dyn std::error::Error, "a client is cut")
        }
        Err(_) => tracing::debug!(target: LOG_TARGET, "a client is cut: it took too long"),
    }
}

/// Closes our side and reads on for a moment: closing on unread bytes would reset the connection, and the answer with
/// it.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) {
    let rest = async {
        stream.shutdown().await?;
        let mut scratch = [0; 8 * 1024];
        while stream.read(&mut scratch).await? > 0 {}
        io::Result::Ok(())
    };
    let _in_time = timeout(limits::LISTEN_LINGER_TIME_MAX, rest).await;
}
