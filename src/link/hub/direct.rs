//! Methods that are called on devices at once, beside the reconciler: which are under way, and their answers.
//!
//! They outlive the exchange of a link: a device may answer on its next connection, also when the link was opened anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// Calls that are under way to a device, or wait for it to connect.
const CALLS_OF_DEVICE_MAX: usize = 10;
/// The same, of all devices.
const CALLS_MAX: usize = 100_000;
/// Bytes of the largest answer that is taken.
const ANSWER_BYTES_MAX: usize = 128 * 1024;
/// What the request id of such a call begins with: that of a job begins with a number.
const PREFIX: &str = "call";

/// What a device answered.
#[derive(Debug, Clone, PartialEq)]
pub struct DirectAnswer {
    /// As the device says it: any integer.
    pub status: i64,
    /// `null` when the device sent no body.
    pub payload: Value,
}

/// The answer was too large, or no JSON.
#[derive(Debug)]
pub struct Unreadable;

type Outcome = Result<DirectAnswer, Unreadable>;

/// The calls that are under way.
#[derive(Debug, Default)]
pub struct DirectCalls {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By request id.
    calls: BTreeMap<String, Call>,
    devices: BTreeMap<String, Device>,
    /// When the time of each call is over.
    ends: BTreeSet<(Instant, String)>,
}

#[derive(Debug)]
struct Call {
    device_id: String,
    until: Instant,
    answer: oneshot::Sender<Outcome>,
}

/// A device that is called.
#[derive(Debug, Default)]
struct Device {
    calls: usize,
    /// It can be called now.
    ready: Arc<Notify>,
}

/// A call that has its place.
pub struct Begun {
    pub rid: String,
    pub answer: oneshot::Receiver<Outcome>,
    pub ready: Arc<Notify>,
}

impl DirectCalls {
    /// A poisoned lock is safe to use: each change is made at once.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place for a call whose time is over then; `None` when there is none.
    pub fn begin(&self, device_id: &str, now: Instant, until: Instant) -> Option<Begun> {
        let random = u128::from(getrandom::u64().ok()?) << 64 | u128::from(getrandom::u64().ok()?);
        let rid = format!("{PREFIX}{random:032x}");
        let mut state = self.lock();
        state.forget_before(now);
        let calls = state.devices.get(device_id).map_or(0, |device| device.calls);
        if calls >= CALLS_OF_DEVICE_MAX || state.calls.len() >= CALLS_MAX {
            return None;
        }
        let device = state.devices.entry(device_id.to_string()).or_default();
        device.calls += 1;
        let ready = Arc::clone(&device.ready);
        let (sender, answer) = oneshot::channel();
        state.ends.insert((until, rid.clone()));
        state.calls.insert(rid.clone(), Call { device_id: device_id.to_string(), until, answer: sender });
        Some(Begun { rid, answer, ready })
    }

    /// Notes that the time of a call is over then.
    pub fn extend(&self, rid: &str, until: Instant) {
        let state = &mut *self.lock();
        // It may have been answered already.
        let Some(call) = state.calls.get_mut(rid) else { return };
        state.ends.remove(&(call.until, rid.to_string()));
        call.until = until;
        state.ends.insert((until, rid.to_string()));
    }

    /// Gives back the place of a call.
    pub fn forget(&self, rid: &str) {
        drop(self.lock().remove(rid));
    }

    /// Tells the calls that wait for a device that it can be called.
    pub fn can_be_called(&self, device_id: &str) {
        if let Some(device) = self.lock().devices.get(device_id) {
            device.ready.notify_waiters();
        }
    }

    /// Takes an answer that came on a connection of a device. Returns false when it is none to a call of that device
    /// that is under way.
    pub fn answered(&self, device_id: &str, rid: &str, status: i64, payload: &[u8]) -> bool {
        let mut state = self.lock();
        if state.calls.get(rid).is_none_or(|call| call.device_id != device_id) {
            return false;
        }
        let Some(call) = state.remove(rid) else { return false };
        drop(state);
        let read = match payload {
            [] => Ok(Value::Null),
            payload if payload.len() > ANSWER_BYTES_MAX => Err(Unreadable),
            payload => serde_json::from_slice(payload).map_err(|_| Unreadable),
        };
        // Whoever called may have gone.
        drop(call.answer.send(read.map(|payload| DirectAnswer { status, payload })));
        true
    }
}

impl State {
    fn remove(&mut self, rid: &str) -> Option<Call> {
        let call = self.calls.remove(rid)?;
        self.ends.remove(&(call.until, rid.to_string()));
        if let Some(device) = self.devices.get_mut(&call.device_id) {
            device.calls -= 1;
            if device.calls == 0 {
                self.devices.remove(&call.device_id);
            }
        }
        Some(call)
    }

    fn forget_before(&mut self, now: Instant) {
        while let Some((until, rid)) = self.ends.first().cloned()
            && until < now
        {
            drop(self.remove(&rid));
        }
    }
}

/// Returns true for a request id of the form of these calls.
pub fn is_rid(rid: &str) -> bool {
    rid.strip_prefix(PREFIX).is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::link::protocol::RequestId;

    #[test]
    fn a_device_has_ten_places_and_gets_them_back() {
        let calls = DirectCalls::default();
        let now = Instant::now();
        let until = now + Duration::from_secs(5);
        let mut begun: Vec<Begun> = (0..10).map(|_| calls.begin("d", now, until).unwrap()).collect();
        assert!(calls.begin("d", now, until).is_none() && calls.begin("e", now, until).is_some());
        assert!(begun.iter().all(|one| is_rid(&one.rid) && RequestId::parse(&one.rid).is_none()));
        // One is answered, and by nobody else than its device.
        let one = begun.pop().unwrap();
        assert!(!calls.answered("e", &one.rid, 200, b"") && calls.answered("d", &one.rid, -7, b""));
        assert!(!calls.answered("d", &one.rid, 200, b""), "an answer is taken once");
        let answer = one.answer.blocking_recv().unwrap().unwrap();
        assert_eq!(answer, DirectAnswer { status: -7, payload: Value::Null });
        let again = calls.begin("d", now, until).unwrap();
        calls.forget(&again.rid);
        // Who hung up keeps the place until the time is over.
        drop(begun);
        let again = calls.begin("d", now, until).unwrap();
        assert!(calls.begin("d", until, until).is_none());
        calls.extend(&again.rid, until + Duration::from_secs(9));
        let later = until + Duration::from_secs(1);
        let places = (0..20).map_while(|_| calls.begin("d", later, later + Duration::from_secs(9))).count();
        assert_eq!(places, 9);
        let end = later + Duration::from_secs(60);
        let last = calls.begin("f", end, end).unwrap();
        let counts = |state: MutexGuard<'_, State>| (state.calls.len(), state.ends.len(), state.devices.len());
        assert_eq!(counts(calls.lock()), (1, 1, 1));
        calls.forget(&last.rid);
        assert!(calls.lock().devices.is_empty());
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        let calls = DirectCalls::default();
        let now = Instant::now();
        let outcome = |payload: &[u8]| {
            let begun = calls.begin("d", now, now).unwrap();
            assert!(calls.answered("d", &begun.rid, 200, payload));
            begun.answer.blocking_recv().unwrap().ok().map(|answer| answer.payload)
        };
        let large = format!("\"{}\"", "x".repeat(ANSWER_BYTES_MAX - 2));
        assert_eq!(outcome(large.as_bytes()).unwrap().as_str().unwrap().len(), ANSWER_BYTES_MAX - 2);
        assert_eq!(outcome(format!("{large} ").as_bytes()), None);
        assert_eq!(outcome(b"x"), None);
        assert_eq!(outcome(b"\xff"), None);
        assert_eq!(outcome(b"null"), Some(Value::Null));
    }
}
