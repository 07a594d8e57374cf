//! Accepts connections. One that is refused is no matter of the runtime, and while some are refused all that wait are
//! taken together: what a flood costs is what the system does for it.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;
use tokio::time::{Instant, sleep_until};

/// How long others gather behind connections that were refused: the system keeps 128 (the backlog of std).
const PAUSE: Duration = Duration::from_millis(5);

/// A listener.
pub struct Door {
    listener: Listener,
    /// One of those that were taken together was refused.
    has_refused: bool,
    opens_at: Option<Instant>,
}

impl Door {
    /// Takes a listener into the runtime that runs.
    ///
    /// # Errors
    /// It cannot be used with it.
    pub fn of(listener: std::net::TcpListener) -> io::Result<Door> {
        listener.set_nonblocking(true)?;
        Ok(Door { listener: Listener::of(listener)?, has_refused: false, opens_at: None })
    }

    /// Returns the next connection. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The system gives none.
    pub async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            if let Some(at) = self.opens_at {
                sleep_until(at).await;
                self.opens_at = None;
            }
            if let Some(accepted) = self.listener.accept().await {
                return accepted;
            }
            if std::mem::take(&mut self.has_refused) {
                self.opens_at = Some(Instant::now() + PAUSE);
            }
        }
    }

    /// Closes a connection with nothing left of it in the system.
    pub async fn refuse(&mut self, stream: TcpStream) {
        self.has_refused = true;
        drop(SockRef::from(&stream).set_linger(Some(Duration::ZERO)));
        drop(stream);
        // Others have their turn, however many come.
        tokio::task::coop::consume_budget().await;
    }
}

#[cfg(unix)]
struct Listener(tokio::io::unix::AsyncFd<std::net::TcpListener>);

#[cfg(unix)]
impl Listener {
    #[expect(deprecated, reason = "the other way is unsafe, and a listener of std keeps its descriptor")]
    fn of(listener: std::net::TcpListener) -> io::Result<Listener> {
        tokio::io::unix::AsyncFd::new(listener).map(Listener)
    }

    /// Returns the next connection; `None` after it was found that none waits.
    async fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let mut ready = match self.0.readable().await {
            Ok(ready) => ready,
            Err(error) => return Some(Err(error)),
        };
        ready.try_io(|listener| listener.get_ref().accept()).ok()
    }
}

#[cfg(not(unix))]
struct Listener(tokio::net::TcpListener);

#[cfg(not(unix))]
impl Listener {
    fn of(listener: std::net::TcpListener) -> io::Result<Listener> {
        tokio::net::TcpListener::from_std(listener).map(Listener)
    }

    async fn accept(&self) -> Option<io::Result<(TcpStream, SocketAddr)>> {
        let accepted = self.0.accept().await;
        Some(accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer))))
    }
}
