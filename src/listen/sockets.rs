//! Sockets that the service manager has opened and passed on: `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`.
//!
//! The protocol is that of `sd_listen_fds(3)`. It needs no right to a port below 1024, and who connects while the
//! process starts anew waits, and is not refused.

use std::collections::BTreeMap;
use std::io::{Error, ErrorKind, Result};
use std::net::TcpListener;

/// The sockets, by the names that they have (`FileDescriptorName=`).
#[derive(Debug, Default)]
pub struct GivenSockets(BTreeMap<String, TcpListener>);

impl GivenSockets {
    /// Takes over the sockets that the environment names; none when it names none, or those of another process.
    ///
    /// # Errors
    /// One is none that listens with TCP, has no name of its own, or the variables are not as they should be.
    pub fn from_environment() -> Result<GivenSockets> {
        let mut found = BTreeMap::new();
        for (number, name) in sd_notify::listen_fds_with_names()? {
            let listener = taken_over(number)?;
            listener.local_addr().map_err(|_| wrong(&format!("the socket `{name}` is none of TCP")))?;
            if found.insert(name.clone(), listener).is_some() {
                return Err(wrong(&format!("two sockets are named `{name}`")));
            }
        }
        Ok(GivenSockets(found))
    }

    /// Takes out the socket of a name.
    pub fn take(&mut self, name: &str) -> Option<TcpListener> {
        self.0.remove(name)
    }

    /// Returns the name of a socket that nobody has taken out.
    pub fn other(&self) -> Option<&str> {
        self.0.keys().next().map(String::as_str)
    }
}

/// Returns a duplicate of a file descriptor of this process, which is owned from here on.
#[cfg(target_os = "linux")]
fn taken_over(number: std::os::fd::RawFd) -> Result<TcpListener> {
    use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    Ok(TcpListener::from(pidfd_getfd(own, number, PidfdGetfdFlags::empty())?))
}

#[cfg(not(target_os = "linux"))]
fn taken_over(_number: i32) -> Result<TcpListener> {
    Err(Error::from(ErrorKind::Unsupported))
}

fn wrong(what: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, what)
}
