//! What a device knows of its twin, and what it has to say about it. Pure: times come in, and what to send goes out.
//!
//! Desired properties come in two ways: whole, in the answer to a request for the twin, and as patches. A version that
//! is not newer than the last that is known is ignored. When a version was left out, the twin is asked for again, and
//! all of it is taken.
//!
//! Reported properties go out one patch at a time. What is to be reported meanwhile becomes the next patch, so that the
//! order is kept whatever is repeated.

use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::link::protocol::versioned;
use crate::model::acknowledgement::acknowledge;

/// How long a request may be without an answer before it is repeated; the time doubles with each repetition, because a
/// broker may keep every one of them for a fleetform that is not there.
const ANSWER_TIME: Duration = Duration::from_secs(10);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(300);
/// When a twin that was too old is asked for again.
const AGAIN_TIME: Duration = Duration::from_secs(1);
/// Acknowledgements of desired properties.
const ACCEPTED: u16 = 200;

/// A request that waits for its answer.
#[derive(Debug)]
struct Open {
    rid: String,
    /// `None` while it is not sent on this connection.
    until: Option<Instant>,
    pause: Duration,
}

impl Open {
    fn new(rid: String) -> Open {
        Open { rid, until: None, pause: ANSWER_TIME }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| until <= now)
    }

    fn sent(&mut self, now: Instant) {
        self.until = Some(now + self.pause);
        self.pause = (self.pause * 2).min(ANSWER_TIME_MAX);
    }
}

/// What is to be sent.
#[derive(Debug, PartialEq)]
pub(super) enum Request {
    Twin { rid: String },
    Report { rid: String, patch: Value },
}

/// What a person may want to know of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The patch broke a rule of twins, or was too large; it is not repeated.
    Patch { status: u16 },
    /// fleetform does not know the device, or the device is blocked; it asks again later.
    Device { status: u16 },
}

/// The twin, as the device knows it.
#[derive(Debug)]
pub(super) struct Twin {
    /// Begins all request ids of this process: an answer to an earlier one is none to this.
    run: String,
    requests: u64,
    /// The newest version of the desired properties that was taken, and the newest up to which none was left out.
    known: Option<u64>,
    complete: Option<u64>,
    wanted: Option<Open>,
    /// What is to be reported after the patch that waits for its answer.
    pending: Map<String, Value>,
    reporting: Option<(Open, Map<String, Value>)>,
}

impl Twin {
    /// Returns the twin of a device that has said nothing yet; it reports these properties first.
    pub fn new(run: String, reported: Map<String, Value>) -> Twin {
        Twin { run, requests: 0, known: None, complete: None, wanted: None, pending: reported, reporting: None }
    }

    fn next_rid(&mut self) -> String {
        self.requests += 1;
        format!("{}-{}", self.run, self.requests)
    }

    /// Takes notice of a new connection: the twin is asked for, and a patch without an answer is repeated.
    pub fn connected(&mut self) {
        self.want();
        if let Some((open, _)) = &mut self.reporting {
            (open.until, open.pause) = (None, ANSWER_TIME);
        }
    }

    fn want(&mut self) {
        let rid = self.next_rid();
        self.wanted = Some(Open::new(rid));
    }

    /// Takes a patch of the desired properties, and returns whether it was new.
    pub fn desired(&mut self, version: u64, members: &Map<String, Value>) -> bool {
        if self.known.is_some_and(|known| version <= known) {
            return false;
        }
        self.known = Some(version);
        if self.complete.is_some_and(|complete| complete + 1 == version) {
            self.complete = Some(version);
        } else if self.wanted.is_none() {
            self.want();
        }
        self.acknowledge(version, members);
        true
    }

    fn acknowledge(&mut self, version: u64, members: &Map<String, Value>) {
        let answer = acknowledge(&Value::Object(members.clone()), version, ACCEPTED, "done");
        if let Value::Object(members) = answer {
            compose(&mut self.pending, members);
        }
    }

    /// Takes the answer to a request.
    pub fn answered(&mut self, now: Instant, status: u16, rid: &str, payload: &[u8]) -> Option<Refused> {
        if let Some(open) = self.wanted.as_mut().filter(|open| open.rid == rid) {
            return match status {
                200 => {
                    self.wanted = None;
                    self.take_twin(now, payload);
                    None
                }
                status => {
                    open.until = Some(now + ANSWER_TIME_MAX);
                    Some(Refused::Device { status })
                }
            };
        }
        let (open, _) = self.reporting.as_mut().filter(|(open, _)| open.rid == rid)?;
        match status {
            204 => {
                self.reporting = None;
                None
            }
            403 | 404 => {
                open.until = Some(now + ANSWER_TIME_MAX);
                Some(Refused::Device { status })
            }
            status => {
                self.reporting = None;
                Some(Refused::Patch { status })
            }
        }
    }

    fn take_twin(&mut self, now: Instant, payload: &[u8]) {
        let twin: Option<Value> = serde_json::from_slice(payload).ok();
        let desired = twin.as_ref().and_then(|twin| twin.get("desired")).map(|desired| desired.to_string());
        let Some(Ok((members, Some(version)))) = desired.map(|text| versioned(text.as_bytes())) else { return };
        if self.complete.is_some_and(|complete| version <= complete) {
            return;
        }
        if self.known.is_some_and(|known| version < known) {
            // It is older than a patch that came meanwhile, and some version before that patch is still missing.
            self.want();
            if let Some(open) = &mut self.wanted {
                open.until = Some(now + AGAIN_TIME);
            }
            return;
        }
        (self.known, self.complete) = (Some(version), Some(version));
        if !members.is_empty() {
            self.acknowledge(version, &members);
        }
    }

    /// Returns what is to be sent now, one at a time.
    pub fn next(&mut self, now: Instant) -> Option<Request> {
        if let Some(open) = self.wanted.as_mut().filter(|open| open.is_due(now)) {
            open.sent(now);
            return Some(Request::Twin { rid: open.rid.clone() });
        }
        if self.reporting.is_none() && !self.pending.is_empty() {
            let rid = self.next_rid();
            self.reporting = Some((Open::new(rid), std::mem::take(&mut self.pending)));
        }
        let (open, patch) = self.reporting.as_mut().filter(|(open, _)| open.is_due(now))?;
        open.sent(now);
        Some(Request::Report { rid: open.rid.clone(), patch: Value::Object(patch.clone()) })
    }

    /// Returns when to call `next` again, if nothing happens before.
    pub fn due(&self) -> Option<Instant> {
        let reporting = self.reporting.as_ref().and_then(|(open, _)| open.until);
        [self.wanted.as_ref().and_then(|open| open.until), reporting].into_iter().flatten().min()
    }
}

/// Puts one merge patch after another into the first: `null` stays, because it removes.
fn compose(first: &mut Map<String, Value>, second: Map<String, Value>) {
    for (name, value) in second {
        match (first.get_mut(&name), value) {
            (Some(Value::Object(inner)), Value::Object(members)) => compose(inner, members),
            (_, value) => drop(first.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn twin() -> (Twin, Instant) {
        (Twin::new("r".to_string(), Map::new()), Instant::now())
    }

    /// Sends what is to be sent, and returns the request ids with the patches.
    fn sent(twin: &mut Twin, now: Instant) -> Vec<(String, Option<Value>)> {
        std::iter::from_fn(|| twin.next(now))
            .map(|request| match request {
                Request::Twin { rid } => (rid, None),
                Request::Report { rid, patch } => (rid, Some(patch)),
            })
            .collect()
    }

    fn ack(value: Value, version: u64) -> Value {
        json!({"value": value, "ac": 200, "av": version, "ad": "done"})
    }

    #[test]
    fn a_version_is_taken_once_and_never_an_older_one() {
        let (mut twin, now) = twin();
        twin.connected();
        assert_eq!(sent(&mut twin, now), [("r-1".to_string(), None)]);
        twin.answered(now, 200, "r-1", br#"{"desired":{"$version":4,"a":1},"reported":{"$version":1}}"#);
        assert_eq!(sent(&mut twin, now), [("r-2".to_string(), Some(json!({"a": ack(json!(1), 4)})))]);
        assert!(!twin.desired(4, &members(json!({"a": 2}))));
        assert!(!twin.desired(3, &members(json!({"a": 3}))));
        assert!(twin.desired(5, &members(json!({"a": 5}))));
        assert_eq!(sent(&mut twin, now), [], "one patch at a time");
        twin.answered(now, 204, "r-2", b"");
        assert_eq!(sent(&mut twin, now), [("r-3".to_string(), Some(json!({"a": ack(json!(5), 5)})))]);
        twin.answered(now, 204, "r-3", b"");
        twin.connected();
        assert_eq!(sent(&mut twin, now), [("r-4".to_string(), None)]);
        twin.answered(now, 200, "r-4", br#"{"desired":{"$version":5,"a":5}}"#);
        assert_eq!(sent(&mut twin, now), [], "it is known");
    }

    #[test]
    fn a_version_that_was_left_out_is_asked_for() {
        let (mut twin, now) = twin();
        twin.connected();
        twin.answered(now, 200, "r-1", br#"{"desired":{"$version":1}}"#);
        assert!(twin.desired(3, &members(json!({"b": 3}))));
        let requests = sent(&mut twin, now);
        assert_eq!(requests[0], ("r-2".to_string(), None));
        // An answer from before the patch does not have it.
        twin.answered(now, 200, "r-2", br#"{"desired":{"$version":2,"a":2}}"#);
        assert_eq!(sent(&mut twin, now), []);
        let requests = sent(&mut twin, now + AGAIN_TIME);
        assert_eq!(requests[0].1, None, "it is asked for again");
        twin.answered(now, 200, &requests[0].0, br#"{"desired":{"$version":3,"a":2,"b":3}}"#);
        twin.answered(now, 204, "r-3", b"");
        let patch = sent(&mut twin, now).remove(0).1.unwrap();
        assert_eq!(patch, json!({"a": ack(json!(2), 3), "b": ack(json!(3), 3)}));
    }

    #[test]
    fn what_is_not_confirmed_is_repeated_and_what_is_refused_is_not() {
        let mut twin = Twin::new("r".to_string(), members(json!({"firmware": "1.0"})));
        let now = Instant::now();
        let firmware = json!({"firmware": "1.0"});
        assert_eq!(sent(&mut twin, now), [("r-1".to_string(), Some(firmware.clone()))]);
        assert_eq!(twin.due(), Some(now + ANSWER_TIME));
        assert_eq!(sent(&mut twin, now + ANSWER_TIME), [("r-1".to_string(), Some(firmware.clone()))]);
        twin.connected();
        let again = sent(&mut twin, now + ANSWER_TIME);
        assert_eq!(again, [("r-2".to_string(), None), ("r-1".to_string(), Some(firmware))]);
        assert_eq!(twin.answered(now, 413, "r-1", b""), Some(Refused::Patch { status: 413 }));
        assert_eq!(twin.answered(now, 404, "r-2", b""), Some(Refused::Device { status: 404 }));
        assert_eq!(sent(&mut twin, now + ANSWER_TIME), []);
        assert_eq!(sent(&mut twin, now + ANSWER_TIME_MAX), [("r-2".to_string(), None)]);
        assert_eq!(twin.answered(now, 204, "r-1", b""), None, "an answer to nothing");
    }

    #[test]
    fn two_patches_become_one() {
        let mut first = members(json!({"a": {"x": 1}, "b": 1, "c": {"y": 1}}));
        compose(&mut first, members(json!({"a": {"x": null, "z": 2}, "b": null, "c": 3})));
        assert_eq!(Value::Object(first), json!({"a": {"x": null, "z": 2}, "b": null, "c": 3}));
    }
}
