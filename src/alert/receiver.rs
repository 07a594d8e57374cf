//! A receiver of messages, with a thread of its own: what is told never waits.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Batch, Command, Gathered, LOG_TARGET, Webhook};
use crate::model::alert::{Alert, AlertKind};
use crate::model::limits::{ALERT_END_TIME_MAX, ALERT_GATHER_TIME, ALERT_TRIES_MAX};

/// The first pause after a failure; each next one is three times as long.
const PAUSE_FIRST: Duration = Duration::from_secs(1);

/// How messages reach a receiver.
#[derive(Debug)]
pub enum Way {
    Webhook(Webhook),
    Command(Command),
}

#[derive(Debug, Default)]
struct State {
    gathered: Gathered,
    /// Nothing more is told.
    is_ended: bool,
    is_sending: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Rung when the state changed.
    bell: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that died left a state that is whole: each change is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who is told of alerts.
#[derive(Debug)]
pub struct Receiver {
    shared: Arc<Shared>,
}

impl Receiver {
    /// Starts its thread. `every` is the shortest time between two messages.
    ///
    /// # Errors
    /// The system has no thread.
    pub fn start(fleet: &str, name: &str, way: Way, every: Duration) -> std::io::Result<Receiver> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let (fleet, name) = (fleet.to_string(), name.to_string());
        let send_all = move || send_all(&theirs, (&fleet, &name), &way, every);
        std::thread::Builder::new().name("alerts".to_string()).spawn(send_all)?;
        Ok(Receiver { shared })
    }

    /// Has it told with the next message.
    pub fn tell(&self, alert: Alert) {
        self.shared.lock().gathered.add(alert);
        self.shared.bell.notify_all();
    }

    /// Takes back what it was not told yet of something that is mended.
    pub fn withdraw(&self, kind: AlertKind, address: &str) {
        self.shared.lock().gathered.withdraw(kind, address);
    }

    /// Has it send what waits at once: nothing more is told.
    pub fn hurry(&self) {
        self.shared.lock().is_ended = true;
        self.shared.bell.notify_all();
    }

    /// Waits until what waits was sent, or it is time to go.
    pub fn end(self, until: Instant) {
        self.hurry();
        let is_open = |state: &mut State| state.is_sending || !state.gathered.is_empty();
        let left = until.saturating_duration_since(Instant::now());
        drop(self.shared.bell.wait_timeout_while(self.shared.lock(), left, is_open));
    }
}

/// Sends what waits at all receivers, and ends them. At most some seconds are waited for it.
pub fn end_all(receivers: Vec<Receiver>) {
    let until = Instant::now() + ALERT_END_TIME_MAX;
    receivers.iter().for_each(Receiver::hurry);
    receivers.into_iter().for_each(|receiver| receiver.end(until));
}

/// A receiver that is dropped ends its thread.
impl Drop for Receiver {
    fn drop(&mut self) {
        self.hurry();
    }
}

fn send_all(shared: &Shared, (fleet, name): (&str, &str), way: &Way, every: Duration) {
    let mut not_before = Instant::now();
    while wait(shared, not_before) {
        let batch = shared.lock().gathered.take(fleet, now());
        let sent = deliver(shared, name, way, &batch);
        not_before = Instant::now() + every;
        let mut state = shared.lock();
        state.is_sending = false;
        if let Err(error) = sent {
            tracing::error!(target: LOG_TARGET, alert = name, alerts = batch.count(), "a message is lost: {error}");
            state.gathered.lose(&batch);
        }
        drop(state);
        shared.bell.notify_all();
    }
}

/// Waits until there is something to send and it is time to. Returns false at the end.
fn wait(shared: &Shared, not_before: Instant) -> bool {
    let mut state = shared.lock();
    let mut send_at = None;
    loop {
        if state.gathered.is_empty() {
            if state.is_ended {
                return false;
            }
            state = shared.bell.wait(state).unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        // What belongs together comes within a moment.
        let at = *send_at.get_or_insert_with(|| not_before.max(Instant::now() + ALERT_GATHER_TIME));
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() || state.is_ended {
            state.is_sending = true;
            return true;
        }
        state = match shared.bell.wait_timeout(state, left) {
            Ok((state, _)) => state,
            Err(poisoned) => poisoned.into_inner().0,
        };
    }
}

/// Sends a message, and tries again when that fails.
fn deliver(shared: &Shared, name: &str, way: &Way, batch: &Batch) -> Result<(), String> {
    let mut pause = PAUSE_FIRST;
    let mut tries = 1;
    loop {
        let sent = match way {
            Way::Webhook(webhook) => webhook.post(batch),
            Way::Command(command) => command.run(batch),
        };
        let Err(error) = sent else {
            tracing::info!(target: LOG_TARGET, alert = name, summary = batch.summary(), "a message was sent");
            return Ok(());
        };
        if tries == ALERT_TRIES_MAX || shared.lock().is_ended {
            return Err(error);
        }
        let pause_s = pause.as_secs();
        tracing::warn!(target: LOG_TARGET, alert = name, pause_s, "a message is not sent: {error}; it is tried again");
        // The end does not wait for a pause: then it is tried once more.
        let is_open = |state: &mut State| !state.is_ended;
        drop(shared.bell.wait_timeout_while(shared.lock(), pause, is_open));
        (tries, pause) = (tries + 1, pause * 3);
    }
}

#[expect(clippy::disallowed_methods, reason = "a message says when it was sent")]
fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
