//! What the daemon tells the service manager that started it: ready, alive, stopping, and one line of status.
//!
//! The protocol is that of `sd_notify(3)`: <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>. Without
//! `NOTIFY_SOCKET` in the environment all of it is silent. `sd-notify` is the crate; it is a datagram to a socket, and easily left.

use std::time::Duration;

use sd_notify::NotifyState;

use crate::model::text::{sanitize_line, shorten};

/// Characters of a status: `systemctl status` shows one line.
const STATUS_CHARS_MAX: usize = 200;

/// The service manager, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct ServiceManager {
    /// How long the manager waits for a sign of life before it kills; `None` when it does not.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// Returns the manager that the environment names (`NOTIFY_SOCKET`, `WATCHDOG_USEC`, `WATCHDOG_PID`).
    pub fn from_environment() -> ServiceManager {
        ServiceManager { watchdog: sd_notify::watchdog_enabled().filter(|watchdog| !watchdog.is_zero()) }
    }

    /// Says that the daemon does its work, with a first status.
    pub fn ready(self, status: &str) {
        send(&[NotifyState::Ready, NotifyState::Status(&line(status))]);
    }

    /// Says what the daemon does, for people: one line.
    pub fn status(self, status: &str) {
        send(&[NotifyState::Status(&line(status))]);
    }

    /// Says that the daemon stops: jobs are closed, and that may take its grace.
    pub fn stopping(self) {
        send(&[NotifyState::Stopping]);
    }

    /// Says that the daemon is alive. Call it from the loop that does the work, every [`ServiceManager::watchdog_interval`].
    pub fn alive(self) {
        if self.watchdog.is_some() {
            send(&[NotifyState::Watchdog]);
        }
    }

    /// Returns how often to say that the daemon is alive: half of what the manager waits, as it advises; `None` when nobody waits.
    pub fn watchdog_interval(self) -> Option<Duration> {
        self.watchdog.map(|watchdog| (watchdog / 2).max(Duration::from_millis(1)))
    }
}

/// A line feed in a status would be a message of its own: `MAINPID=1` among them.
fn line(status: &str) -> String {
    shorten(&sanitize_line(status), STATUS_CHARS_MAX).into_owned()
}

fn send(states: &[NotifyState<'_>]) {
    // A manager that cannot be told is no reason to stop the fleet's work.
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(target: super::LOG_TARGET, error = &error as &dyn std::error::Error, "the service manager cannot be told");
    }
}
