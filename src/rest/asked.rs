//! A request that is let in, and what it is answered with.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use serde_json::Value;

use super::access::{Access, Admitted, Rules};
use super::answer::Fault;
use super::desks::Desks;
use super::throttle::{Operation, Throttle};
use super::together::{Doing, Together};
use crate::execute::Wakeup;
use crate::link::Switchboard;
use crate::ops::hub::{GivenJob, HubError, HubJob, NotedCall};

/// The shortest time between two publications of what back ends did to single devices.
const PUBLISH_INTERVAL: Duration = Duration::from_secs(60);

/// Calls that are noted with one commit of the registry.
const CALLS_MAX: usize = 256;
/// Jobs that become the branch's together: who waits for the first also waits for the last.
const PUTS_MAX: usize = 16;

/// What is noted before a method is called.
pub struct Notes;

impl Doing<NotedCall, ()> for Notes {
    async fn all(&self, desks: &Desks, calls: Vec<NotedCall>) -> Result<Vec<Result<(), HubError>>, HubError> {
        desks.write(move |desk| desk.note_calls(&calls)).await
    }
}

/// Jobs, with a commit of git each, which are pushed together.
pub struct Puts;

impl Doing<GivenJob, HubJob> for Puts {
    async fn all(&self, desks: &Desks, jobs: Vec<GivenJob>) -> Result<Vec<Result<HubJob, HubError>>, HubError> {
        desks.commit(move |desk| Ok(desk.put_jobs(&jobs, time()))).await
    }
}

/// Wakes the daemon, and returns at once.
pub type Wake = Arc<dyn Fn(Wakeup) + Send + Sync>;

/// What all requests are answered with.
pub struct Served {
    pub desks: Desks,
    pub notes: Arc<Together<NotedCall, (), Notes>>,
    pub puts: Arc<Together<GivenJob, HubJob, Puts>>,
    pub switchboard: Switchboard,
    wake: Wake,
    /// When the daemon was told last that something waits to be published; it is told at most once in
    /// [`PUBLISH_INTERVAL`].
    told_at: Mutex<Option<Instant>>,
    pub throttle: Throttle,
    pub access: Access,
}

impl Served {
    pub fn new(desks: Desks, switchboard: Switchboard, throttle: Throttle, wake: Wake) -> Served {
        let (access, told_at) = (Access::default(), Mutex::default());
        let notes = Arc::new(Together::new(CALLS_MAX, Notes));
        let puts = Arc::new(Together::new(PUTS_MAX, Puts));
        Served { desks, notes, puts, switchboard, wake, told_at, throttle, access }
    }

    /// Tells the daemon that the branch has moved.
    pub fn committed(&self) {
        (self.wake)(Wakeup::Doorbell);
    }

    /// Tells the daemon, now or within a minute, that something waits to be published.
    pub fn noted(&self) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = instant();
        let due = told_at.map_or(now, |told_at| told_at + PUBLISH_INTERVAL);
        if told_at.is_some_and(|told_at| told_at > now) {
            // It will be told.
            return;
        }
        *told_at = Some(due.max(now));
        let (wake, pause) = (Arc::clone(&self.wake), due.saturating_duration_since(now));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            wake(Wakeup::Noted);
        });
    }
}

/// A request that is let in, with its body read.
pub struct Asked {
    pub served: Arc<Served>,
    pub rules: Arc<Rules>,
    pub admitted: Admitted,
    pub headers: HeaderMap,
    /// Name and value of each, decoded.
    pub parameters: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    /// Returns a parameter of the address.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns a header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok()).filter(|value| !value.is_empty())
    }

    /// Returns the body as JSON; null when there is none.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn json(&self) -> Result<Value, Fault> {
        if self.body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&self.body).map_err(|error| Fault::argument(format!("the body is no JSON: {error}")))
    }

    /// Takes one operation of the policy.
    ///
    /// # Errors
    /// There is none left now.
    pub fn take(&self, operation: Operation) -> Result<(), Fault> {
        if self.served.throttle.take(&self.admitted.caller.policy, operation) {
            return Ok(());
        }
        Err(Fault::throttled("ThrottlingException", "too many requests of this kind: wait a moment", 1))
    }
}

#[expect(clippy::disallowed_methods, reason = "a moment of the process, not of the fleet")]
fn instant() -> Instant {
    Instant::now()
}

/// Returns the time of a request.
#[expect(clippy::disallowed_methods, reason = "a request comes in real time")]
pub fn time() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
