//! The listener of the devices: connections, their encryption, and what is bounded before anybody knows who it is.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::admission::Refusal;
use super::end::End;
use super::exchange::Exchange;
use super::failed_logins::FailedLogins;
use super::files::{Certificate, DeviceAuthorities};
use super::session::{CONNECT_TIME_MAX, Connection, House};
use super::shares::Shares;
use super::switchboard::Switchboard;
use super::telemetry::Sink;
use super::websocket::{FramedBytes, Visitor};
use crate::model::text::sanitize_line;
use crate::tls::is_old_certificate;

/// Connections that say who they are at the same time; others wait.
const HANDSHAKES_MAX: usize = 200;
/// Those of one address: who begins handshakes and ends none leaves others theirs.
const HANDSHAKES_OF_ADDRESS_MAX: usize = 50;
/// How long a handshake may take that has begun.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);
/// Connections at the same time.
const CONNECTIONS_MAX: usize = 100_000;
/// Failed logins of an address in a minute, beyond which it is not listened to for as long.
const FAILURES_MAX: u32 = 10;
/// How long the listener waits when the system has no more connections to give.
const PAUSE: Duration = Duration::from_millis(100);

/// How often the files are looked at: what was renewed is used for new connections.
const RENEWAL_TIME: Duration = Duration::from_secs(10);

/// What the listener needs.
pub(super) struct Front {
    pub listener: TcpListener,
    pub certificate: Certificate,
    pub authorities: DeviceAuthorities,
    /// Connections that somebody else has accepted.
    pub visitors: mpsc::Receiver<Visitor>,
    pub host_name: Arc<str>,
    pub exchange: Arc<Exchange>,
    /// It knows who registers new devices.
    pub switchboard: Switchboard,
    pub sink: Option<Arc<Sink>>,
    pub proxies: Vec<IpAddr>,
}

impl Front {
    /// Serves devices until the link is closed.
    pub async fn run(self) {
        let Front {
            listener,
            mut certificate,
            mut authorities,
            mut visitors,
            host_name,
            exchange,
            switchboard,
            sink,
            proxies,
        } = self;
        let listener = match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => listener,
            Err(error) => {
                tracing::error!(%error, "the listener of the devices cannot be used");
                return;
            }
        };
        let (all, mut shares) = (Arc::new(Semaphore::new(HANDSHAKES_MAX)), Shares::new(HANDSHAKES_OF_ADDRESS_MAX));
        let (mut connections, mut failures) = (JoinSet::new(), FailedLogins::new(FAILURES_MAX, proxies));
        let mut renewal = tokio::time::interval(RENEWAL_TIME);
        let house = |authorities: &DeviceAuthorities, peer: SocketAddr| House {
            host_name: Arc::clone(&host_name),
            authorities: authorities.authorities.clone(),
            exchange: Arc::clone(&exchange),
            registrar: switchboard.registrar(),
            sink: sink.clone(),
            address: peer.ip(),
        };
        loop {
            tokio::select! {
                () = exchange.closing.notified() => return,
                accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => match accepted {
                    Ok((_, peer)) if failures.is_out(peer.ip()) => {}
                    Ok((stream, peer)) => {
                        let house = house(&authorities, peer);
                        let handshakes = [shares.of(peer.ip(), failures.is_proxy(peer.ip())), Arc::clone(&all)];
                        let acceptor = certificate.acceptor.clone();
                        connections.spawn(async move {
                            (peer.ip(), serve(stream, acceptor, &house, handshakes).await)
                        });
                    }
                    Err(_) => tokio::time::sleep(PAUSE).await,
                },
                Some(visitor) = visitors.recv(), if connections.len() < CONNECTIONS_MAX => {
                    let Visitor { io, peer, chain } = visitor;
                    if !failures.is_out(peer.ip()) {
                        let house = house(&authorities, peer);
                        connections.spawn(async move {
                            let stream = FramedBytes::new(io).await;
                            (peer.ip(), Connection::new(stream, chain).serve(&house).await)
                        });
                    }
                }
                _ = renewal.tick() => {
                    certificate.renew();
                    authorities.renew();
                }
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if let Ok((address, (device_id, end))) = ended {
                        if is_failed_login(&end) {
                            failures.count(address);
                        }
                        note(address, device_id.as_deref(), &end, &exchange);
                    }
                }
            }
        }
    }
}

/// Returns true for who is not the device that it says. One that is blocked, or was away for too long, is.
fn is_failed_login(end: &End) -> bool {
    match end {
        End::Refused(why) => !matches!(why, Refusal::Blocked | Refusal::Expired),
        End::NotRegistered => true,
        _ => false,
    }
}

/// Serves a connection; who it was of, as far as that is known, and why it ended.
async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    house: &House,
    handshakes: [Arc<Semaphore>; 2],
) -> (Option<String>, End) {
    // What counts the handshakes of an address is given back with the last of them.
    let begun = async move {
        // Small packets wait for each other otherwise.
        stream.set_nodelay(true)?;
        // Who says nothing takes nobody's turn.
        timeout(CONNECT_TIME_MAX, stream.readable()).await.map_err(|_| End::Silent)??;
        let [of_address, all] = &handshakes;
        let _turns = (of_address.acquire().await, all.acquire().await);
        match timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await {
            Ok(Err(error)) if is_old_certificate(&error) => Err(Refusal::Version.into()),
            Ok(stream) => Ok(stream?),
            Err(_) => Err(End::Silent),
        }
    };
    match begun.await {
        Ok(stream) => {
            let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let chain = shown.iter().map(|certificate| certificate.clone().into_owned()).collect();
            Connection::new(stream, chain).serve(house).await
        }
        Err(end) => (None, end),
    }
}

/// Says why a connection has ended: what a device should not have done louder than what happens.
fn note(address: IpAddr, device_id: Option<&str>, end: &End, exchange: &Exchange) {
    let device = sanitize_line(device_id.unwrap_or_default());
    match end {
        End::Refused(refusal) => tracing::warn!(%address, %device, reason = %refusal, "a device is not let in"),
        End::Malformed(_) | End::Protocol(_) => {
            exchange.lock().count_malformed(device_id.unwrap_or_default(), end);
            tracing::debug!(%address, %device, reason = %end, "a connection of a device has ended");
        }
        _ => {
            if matches!(end, End::NotRegistered) {
                exchange.lock().refused += 1;
            }
            tracing::debug!(%address, %device, reason = %end, "a connection of a device has ended");
        }
    }
}
