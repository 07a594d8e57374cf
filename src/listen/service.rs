//! The daemon's messages to the service manager that started it: ready, alive, stopping, and one line of status.
//!
//! The protocol is that of `sd_notify(3)`: <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>.
//! Without `NOTIFY_SOCKET` in the environment nothing is sent. The crate is `sd-notify`; it sends a datagram to a
//! socket and is easy to replace.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::model::text::{sanitize_line, shorten};

/// Characters of a status: `systemctl status` shows one line.
const STATUS_CHARS_MAX: usize = 200;

/// The service manager, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct ServiceManager {
    /// How long the manager waits for a sign of life before it kills the daemon; `None` when it never does.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Returns the manager that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_environment() -> ServiceManager {
        ServiceManager { watchdog: sd_notify::watchdog_enabled().filter(|watchdog| !watchdog.is_zero()) }
    }

    /// Reports that the daemon is ready, with a first status.
    pub fn ready(self, status: &str) {
        send(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
    }

    /// Reports what the daemon does, in one line for people.
    pub fn status(self, status: &str) {
        send(&[NotifyState::Status(&line(status))]);
    }

    /// Reports that the daemon stops; closing its jobs may take the grace period.
    pub fn stopping(self) {
        send(&[NotifyState::Stopping]);
    }

    /// Reports that the daemon is alive. Call it from the loop that does the work, every
    /// [`ServiceManager::watchdog_interval`].
    pub fn alive(self) {
        if self.watchdog.is_some() {
            send(&[NotifyState::Watchdog]);
        }
    }

    /// Returns how often to report that the daemon is alive: half of the manager's timeout, as it advises; `None`
    /// without a timeout.
    pub fn watchdog_interval(self) -> Option<Duration> {
        self.watchdog.map(|watchdog| (watchdog / 2).max(Duration::from_millis(1)))
    }
}

/// A line feed in a status would be a message of its own: `MAINPID=1` among them.
fn line(status: &str) -> String {
    shorten(&sanitize_line(status), STATUS_CHARS_MAX).into_owned()
}

fn send(states: &[NotifyState<'_>]) {
    // A manager that cannot be reached is no reason to stop the fleet's work.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(target: super::LOG_TARGET, error = &error as &dyn std::error::Error, "the service manager \
            cannot be told");
    }
}
