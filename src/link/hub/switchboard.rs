//! How threads beside the reconciler speak to connected devices, at once.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::direct::{Begun, DirectAnswer, DirectCalls, Unreadable};
use super::exchange::{Closing, Exchange, Out};
use super::registration::Registrar;
use super::websocket::Visitor;
use crate::link::protocol::{Told, desired_payload};

/// How often a call that waits for a device looks for it, beside being told.
const LOOK_TIME: Duration = Duration::from_secs(1);
/// The longest time that a call waits for each: longer ones are cut.
const TIME_MAX: Duration = Duration::from_secs(3_600);

/// Speaks to the devices that are connected to this process, from any thread. It is made before the link, and given to
/// it with [`super::GatewayOptions`]; clones are the same one. When a link is opened anew, the newest one counts.
#[derive(Clone, Default)]
pub struct Switchboard {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Of the link that is open.
    exchange: Mutex<Weak<Exchange>>,
    calls: Arc<DirectCalls>,
    registrar: OnceLock<Arc<dyn Registrar>>,
}

impl fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switchboard").field("connected", &self.connected()).finish_non_exhaustive()
    }
}

/// A method to call on a device.
#[derive(Clone, PartialEq)]
pub struct DirectCall {
    pub device_id: String,
    /// The name, as the device knows it.
    pub method: String,
    /// It may be a secret, and is not in the `Debug`.
    pub payload: Value,
    /// How long a device that is not online is waited for; zero for not at all.
    pub connect_timeout: Duration,
    /// How long the answer is waited for, from when the device was called.
    pub response_timeout: Duration,
}

impl fmt::Debug for DirectCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DirectCall { device_id, method, .. } = self;
        f.debug_struct("DirectCall").field("device_id", device_id).field("method", method).finish_non_exhaustive()
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It was not called: it is not connected, or does not listen to methods.
    #[error("the device is not online")]
    NotOnline,
    /// It was called, and may have done it.
    #[error("the device has not answered in time")]
    TimedOut,
    /// It was not called.
    #[error("the device has as many calls under way as it may have")]
    TooMany,
    /// It was called, and answered with what is no JSON, or is too large.
    #[error("the answer of the device is no JSON, or is larger than 128 KiB")]
    BadAnswer,
    /// Nobody was called.
    #[error("this process does not listen for devices now")]
    NoGateway,
}

impl Switchboard {
    /// Notes the exchange of a link that opens.
    pub(super) fn enter(&self, exchange: &Arc<Exchange>) {
        let mut entered = self.inner.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        *entered = Arc::downgrade(exchange);
    }

    pub(super) fn calls(&self) -> Arc<DirectCalls> {
        Arc::clone(&self.inner.calls)
    }

    /// Has devices that register themselves asked of this registrar. The first one counts.
    pub fn take_registrar(&self, registrar: Arc<dyn Registrar>) {
        drop(self.inner.registrar.set(registrar));
    }

    pub(super) fn registrar(&self) -> Option<Arc<dyn Registrar>> {
        self.inner.registrar.get().cloned()
    }

    fn exchange(&self) -> Option<Arc<Exchange>> {
        self.inner.exchange.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// Calls a method, beside what jobs do, and returns the answer. A device is online that is connected and listens to
    /// methods; one that connects in time is called. One that leaves meanwhile may answer on its next connection. A
    /// call that is dropped is not recalled: its place is free when the answer comes, or its time is over. It is polled
    /// in a runtime of tokio that has timers.
    ///
    /// # Errors
    /// See [`CallError`].
    pub async fn call(&self, call: DirectCall) -> Result<DirectAnswer, CallError> {
        let DirectCall { device_id, method, payload, connect_timeout, response_timeout } = call;
        if self.exchange().is_none() {
            return Err(CallError::NoGateway);
        }
        let (connect_timeout, response_timeout) = (connect_timeout.min(TIME_MAX), response_timeout.min(TIME_MAX));
        let now = Instant::now();
        let connect_until = now + connect_timeout;
        let until = connect_until + response_timeout;
        let begun = self.inner.calls.begin(&device_id, now, until).ok_or(CallError::TooMany)?;
        let Begun { rid, answer, ready } = begun;
        let mut place = Place { calls: &self.inner.calls, rid: &rid, is_given_back: true };
        let told = Told::Method { method, rid: rid.clone(), xid: rid.clone() };
        let payload = Arc::from(payload.to_string().into_bytes());
        loop {
            // It may connect right behind the look.
            let is_ready = ready.notified();
            if self.is_called(&device_id, &told, &payload) {
                break;
            }
            let now = Instant::now();
            if now >= connect_until {
                return Err(CallError::NotOnline);
            }
            drop(timeout_at(connect_until.min(now + LOOK_TIME), is_ready).await);
        }
        place.is_given_back = false;
        let until = Instant::now() + response_timeout;
        self.inner.calls.extend(&rid, until);
        match timeout_at(until, answer).await {
            Ok(Ok(outcome)) => outcome.map_err(|Unreadable| CallError::BadAnswer),
            // Its time was over before this was looked at.
            Ok(Err(_)) => Err(CallError::TimedOut),
            Err(_) => {
                place.is_given_back = true;
                Err(CallError::TimedOut)
            }
        }
    }

    fn is_called(&self, device_id: &str, told: &Told, payload: &Arc<[u8]>) -> bool {
        let Some(exchange) = self.exchange() else { return false };
        let state = exchange.lock();
        let order = Out::Tell { told: told.clone(), payload: Arc::clone(payload) };
        state.listens_to(device_id).is_some_and(|listens_to| listens_to.methods) && state.order(device_id, order)
    }

    /// Tells a connected device of new desired properties: a merge patch, and the version that it makes. One that is not
    /// connected, or does not listen to them, asks for its twin when it connects.
    pub fn tell_desired(&self, device_id: &str, patch: &Value, version: u64) {
        let Some(exchange) = self.exchange() else { return };
        let state = exchange.lock();
        if state.listens_to(device_id).is_some_and(|listens_to| listens_to.desired) {
            let payload = desired_payload(patch, version).into();
            state.order(device_id, Out::Tell { told: Told::Desired { version }, payload });
        }
    }

    /// Tells a connected device's connection that a message was queued. One that connects later asks by itself.
    pub fn messages_wait(&self, device_id: &str) {
        if let Some(exchange) = self.exchange() {
            exchange.messages_wait(device_id);
        }
    }

    /// Ends the connection of a device, if it has one. It may connect again when the registry lets it in.
    pub fn disconnect(&self, device_id: &str) {
        if let Some(exchange) = self.exchange() {
            exchange.lock().close(device_id, Closing::NotAllowed);
        }
    }

    /// Serves a device on a connection that was upgraded to a WebSocket for MQTT, and returns at once. Who is let in, and
    /// what is bounded, is as where devices connect with TLS. `peer` is the device's address, or that of a proxy, and
    /// `chain` the certificate that the device has the key of, with those that sign it. The connection ends when nobody listens for devices.
    pub fn serve_websocket(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        peer: SocketAddr,
        chain: Vec<CertificateDer<'static>>,
    ) {
        if let Some(exchange) = self.exchange() {
            // With too many at once it is dropped, and the device comes again.
            drop(exchange.door.try_send(Visitor { io: Box::new(io), peer, chain }));
        }
    }

    /// Returns the number of connected devices; `None` when this process does not listen for devices now.
    pub fn connected(&self) -> Option<u64> {
        self.exchange().map(|exchange| exchange.lock().connected() as u64)
    }
}

/// The place of a call. One that was made keeps it when nobody waits for the answer any more.
struct Place<'a> {
    calls: &'a DirectCalls,
    rid: &'a str,
    is_given_back: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.is_given_back {
            self.calls.forget(self.rid);
        }
    }
}
