//! The listener: TLS, HTTP/1.1, and the bounds of a connection.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::LOG_TARGET;
use super::asked::{Served, Wake};
use super::desks::Desks;
use super::provisioning::Registrations;
use super::routes::{self, Client};
use super::throttle::Throttle;
use crate::link::{ServerCertificate, Shares, Switchboard};
use crate::ops::Environment;
use crate::ops::hub::Followed;
use crate::tls::TlsError;

/// Connections at the same time; beyond, others wait to be accepted.
const CONNECTIONS_MAX: usize = 2_000;
/// Those of one address; it is not accepted any further. A connection that was taken over to MQTT does not count.
const CONNECTIONS_OF_ADDRESS_MAX: usize = 500;
/// Handshakes at the same time.
const HANDSHAKES_MAX: usize = 100;
/// Those of one address: who begins handshakes and ends none leaves others theirs.
const HANDSHAKES_OF_ADDRESS_MAX: usize = 25;
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
const REST_TIME_MAX: Duration = Duration::from_secs(60);
/// How long a connection lives, with all its requests: a client that reads nothing holds it no longer. A method may take
/// ten minutes.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(1_800);
const HEAD_BYTES_MAX: usize = 16 * 1024;
const HEADERS_MAX: usize = 64;
/// How often the files of the certificate are looked at.
const RENEWAL_TIME: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

/// Where the API is served, and as whom.
#[derive(Debug, Clone)]
pub struct RestOptions {
    pub address: SocketAddr,
    /// What listens there already; `None` to be bound.
    pub listener: Option<Arc<std::net::TcpListener>>,
    /// PEM files: the certificate of `spec.link.iotHub.hostName` with its chain, and its key.
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// The API of a gateway, not yet served.
pub struct RestServer {
    listener: std::net::TcpListener,
    certificate: ServerCertificate,
}

impl RestServer {
    /// Binds the address and reads the certificate, so that what is wrong with them is said at the start.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub fn bind(options: &RestOptions) -> std::io::Result<Result<RestServer, TlsError>> {
        let listener = match &options.listener {
            Some(given) => given.try_clone()?,
            None => std::net::TcpListener::bind(options.address)?,
        };
        listener.set_nonblocking(true)?;
        let certificate = ServerCertificate::read(
            options.certificate.clone(),
            options.key.clone(),
            // The listener of devices warns of another name.
            None,
        );
        Ok(certificate.map(|certificate| RestServer { listener, certificate }))
    }

    /// Serves on a thread of its own until the process ends.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(self, office: &Office) -> std::io::Result<()> {
        let served = Arc::clone(&office.0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let serve = move || {
            if let Err(error) = runtime.block_on(serve(self, served)) {
                tracing::error!(target: LOG_TARGET, %error, "back ends are served no more; the gateway goes on");
            }
        };
        std::thread::Builder::new().name("rest".to_string()).spawn(serve).map(drop)
    }
}

/// What answers back ends, and devices that register themselves.
pub struct Office(Arc<Served>);

impl Office {
    /// Starts the threads that answer, and has the devices that connect with MQTT register with them. `wake` is called
    /// when the branch may have moved, or when something waits to be published. Failed logins of proxies are not counted.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn open(
        environment: &Environment,
        followed: &Followed,
        (switchboard, proxies): (Switchboard, Vec<IpAddr>),
        wake: Wake,
    ) -> std::io::Result<Office> {
        let desks = Desks::start(environment, followed)?;
        let served = Arc::new(Served::new(desks, switchboard.clone(), Throttle::new(proxies), wake));
        switchboard.take_registrar(Arc::new(Registrations(Arc::clone(&served))));
        Ok(Office(served))
    }
}

async fn serve(RestServer { listener, mut certificate }: RestServer, served: Arc<Served>) -> std::io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    if let Ok(address) = listener.local_addr() {
        tracing::info!(target: LOG_TARGET, %address, "listening for back ends");
    }
    let (mut connections, handshakes) = (JoinSet::new(), Arc::new(Semaphore::new(HANDSHAKES_MAX)));
    let (mut places, mut turns) = (Shares::new(CONNECTIONS_OF_ADDRESS_MAX), Shares::new(HANDSHAKES_OF_ADDRESS_MAX));
    let mut renewal = tokio::time::interval(RENEWAL_TIME);
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                Ok((_, peer)) if served.throttle.is_out(peer.ip()) => {}
                Ok((stream, peer)) => {
                    let (address, is_proxy) = (peer.ip(), served.throttle.is_proxy(peer.ip()));
                    // It is closed at once when the address has its share.
                    if let Ok(place) = places.of(address, is_proxy).try_acquire_owned() {
                        let handshakes = [turns.of(address, is_proxy), Arc::clone(&handshakes)];
                        let (acceptor, served) = (certificate.acceptor(), Arc::clone(&served));
                        connections.spawn(async move {
                            converse(stream, peer, acceptor, handshakes, served).await;
                            drop(place);
                        });
                    }
                }
                // Out of file descriptors, mostly.
                Err(_) => tokio::time::sleep(PAUSE).await,
            },
            _ = renewal.tick() => certificate.renew(),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    acceptor: TlsAcceptor,
    handshakes: [Arc<Semaphore>; 2],
    served: Arc<Served>,
) {
    drop(stream.set_nodelay(true));
    // Who says nothing takes nobody's turn.
    if !matches!(timeout(HANDSHAKE_TIME_MAX, stream.readable()).await, Ok(Ok(()))) {
        return;
    }
    let begun = {
        let [of_address, all] = &handshakes;
        let _turns = (of_address.acquire().await, all.acquire().await);
        timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await
    };
    let Ok(Ok(stream)) = begun else { return };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
    let router: Router = routes::router(served, Client { address: peer, chain });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        // It is also how long a connection may rest: clients keep theirs for the next request.
        .header_read_timeout(REST_TIME_MAX)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_BYTES_MAX)
        .half_close(true)
        .keep_alive(true);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(CONNECTION_TIME_MAX, connection.with_upgrades()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(target: LOG_TARGET, %peer, error = &error as &dyn std::error::Error, "a client is cut");
        }
        Err(_) => tracing::debug!(target: LOG_TARGET, %peer, "a client is cut: its connection is old"),
    }
}
