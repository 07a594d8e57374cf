//! Simulated devices. The seed and the device's id decide which devices are offline; the seed and the execution id
//! decide how long a command takes and whether it fails. So a run is the same in any process, and the next run differs.
//!
//! A request is executed half-way through its latency: the device first appends to the journal, then answers, like a
//! real device with a log. A device with a journal recognises a command that may be sent again (`idempotent: true`) by
//! its execution id: it answers, but does not execute it a second time. Other commands are never recognised: fleetform
//! must not send them twice, and a second execution shows such a bug.
//!
//! Without a journal the time of an execution is not visible, so only answers are scheduled.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::path::Path;
use std::time::Duration;

use super::journal::{DeviceJournal, Execution};
use super::{Ask, DeviceLink, LinkError, LinkEvent, Request};
use crate::model::acknowledgement::acknowledge;
use crate::model::digest::Digest;
use crate::model::fleet::{DeviceBehaviour, Probability, SimulatedLink};
use jiff::Timestamp;

/// The simulated devices of a fleet.
pub struct SimulatedDevices {
    config: SimulatedLink,
    /// The seed as a text; every choice depends on it.
    seed: String,
    /// Times, sequence numbers and slots of `requests`, ordered by time, then by sequence number.
    queue: BinaryHeap<Reverse<(Timestamp, u64, usize)>>,
    /// The requests that the queue points to.
    requests: Vec<Option<(Request, NextStep)>>,
    free: Vec<usize>,
    asked: u64,
    /// The times at which devices connect that got a request while offline (`connectsAfter`).
    connects: BTreeMap<String, Timestamp>,
    /// The number of entries of the queue that only wait for a device to connect.
    waiting: usize,
    /// The latest time of any other entry that was ever in the queue.
    last_at: Timestamp,
    journal: Option<DeviceJournal>,
    /// The start of a rhythm and the length of its steps; `None` when each report is due at its own time.
    rhythm: Option<(Timestamp, Duration)>,
}

/// What happens next to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum NextStep {
    /// The device executes it, and answers (or does not) at the given time.
    Execute {
        answer: Option<(Timestamp, u16)>,
    },
    Answer {
        code: u16,
    },
    Refuse,
    /// The device connects. A new value of its twin is executed then; for a command, the sender only learns that the
    /// device is online.
    Connect,
}

impl SimulatedDevices {
    /// Returns the devices of a fleet; a journal is relative to `folder`.
    ///
    /// # Errors
    /// The journal cannot be opened or read.
    pub fn new(config: &SimulatedLink, folder: &Path) -> Result<SimulatedDevices, LinkError> {
        let journal = config.journal.as_ref().map(|name| DeviceJournal::open(folder, name)).transpose()?;
        Ok(SimulatedDevices {
            config: config.clone(),
            seed: config.seed.to_string(),
            queue: BinaryHeap::new(),
            requests: Vec::new(),
            free: Vec::new(),
            asked: 0,
            connects: BTreeMap::new(),
            waiting: 0,
            last_at: Timestamp::MIN,
            journal,
            rhythm: None,
        })
    }

    /// Makes reports due in steps. In virtual time, where work takes no time, reports are then handled in groups as in
    /// reality. A poll still returns the same events in the same order; there are only fewer wake-ups.
    #[must_use]
    pub fn in_rhythm(mut self, start: Timestamp, step: Duration) -> SimulatedDevices {
        self.rhythm = (!step.is_zero()).then_some((start, step));
        self
    }

    fn execute(&mut self, now: Timestamp, request: Request, behaviour: DeviceBehaviour) {
        let about = [request.execution_id.to_string(), request.token.attempt.to_string()];
        let latency = behaviour.latency.unwrap_or_else(|| self.latency(&about));
        let code = behaviour.answers.unwrap_or_else(|| self.code(&about));
        let executes_at = add(now, latency / 2);
        let answer = if behaviour.silent { None } else { Some((add(now, latency), code)) };
        match (&self.journal, answer) {
            (Some(_), answer) => self.schedule(executes_at, request, NextStep::Execute { answer }),
            (None, Some((at, code))) => self.schedule(at, request, NextStep::Answer { code }),
            (None, None) => {}
        }
    }

    fn schedule(&mut self, at: Timestamp, request: Request, step: NextStep) {
        self.asked += 1;
        if step != NextStep::Connect {
            self.last_at = self.last_at.max(at);
        }
        let slot = self.free.pop().unwrap_or_else(|| {
            self.requests.push(None);
            self.requests.len() - 1
        });
        self.requests[slot] = Some((request, step));
        self.queue.push(Reverse((at, self.asked, slot)));
    }

    fn note(&mut self, request: &Request, at: Timestamp) -> Result<(), LinkError> {
        let (Some(journal), Ask::Command { method, is_idempotent, .. }) = (&mut self.journal, &request.ask) else {
            return Ok(());
        };
        let execution = Execution { device_id: &request.device_id, method, execution_id: request.execution_id, at };
        if *is_idempotent { journal.append_once(execution) } else { journal.append(execution) }
    }

    fn behaviour(&self, device_id: &str) -> DeviceBehaviour {
        if let Some(own) = self.config.devices.get(device_id) {
            return *own;
        }
        let offline = self.happens(self.config.offline, &["offline", device_id]);
        DeviceBehaviour { offline, ..DeviceBehaviour::default() }
    }

    /// Returns the answer's code for an execution id and an attempt.
    fn code(&self, [id, attempt]: &[String; 2]) -> u16 {
        let fails = self.happens(self.config.failures, &["failure", id, attempt]);
        if fails { 500 } else { 200 }
    }

    /// Returns the latency for an execution id and an attempt: between 0.5 and 1.5 times the mean.
    fn latency(&self, [id, attempt]: &[String; 2]) -> Duration {
        let chosen = self.chosen(&["latency", id, attempt]) % 1_000;
        self.config.latency.mul_f64(0.5 + chosen as f64 / 1_000.0)
    }

    fn happens(&self, probability: Probability, about: &[&str]) -> bool {
        probability.per_million > 0 && self.chosen(about) % 1_000_000 < u64::from(probability.per_million)
    }

    fn chosen(&self, about: &[&str]) -> u64 {
        Digest::of_texts(std::iter::once(self.seed.as_str()).chain(about.iter().copied())).seed()
    }
}

impl DeviceLink for SimulatedDevices {
    fn send(&mut self, now: Timestamp, request: Request) {
        let behaviour = self.behaviour(&request.device_id);
        if behaviour.offline && self.connects.get(&request.device_id).is_none_or(|at| *at > now) {
            let is_command = matches!(request.ask, Ask::Command { .. });
            if let Some(after) = behaviour.connects_after {
                let at = *self.connects.entry(request.device_id.clone()).or_insert_with(|| add(now, after));
                self.waiting += 1;
                self.schedule(at, request.clone(), NextStep::Connect);
            }
            if is_command || behaviour.connects_after.is_none() {
                self.schedule(now, request, NextStep::Refuse);
            }
            return;
        }
        self.execute(now, request, behaviour);
    }

    fn poll(&mut self, now: Timestamp) -> Result<Vec<LinkEvent>, LinkError> {
        let mut events = Vec::new();
        while let Some(Reverse((at, _, slot))) = self.queue.peek().copied() {
            if at > now {
                break;
            }
            self.queue.pop();
            let (request, step) = self.requests[slot].take().expect("the queue points to requests that are under way");
            self.free.push(slot);
            match step {
                NextStep::Refuse => events.push(LinkEvent::NotDelivered { token: request.token }),
                NextStep::Connect => {
                    self.waiting -= 1;
                    let device_id = request.device_id.clone();
                    events.push(LinkEvent::Presence { device_id, is_online: true, is_news: true, at });
                    if let Ask::Desired { .. } = request.ask {
                        let behaviour = self.behaviour(&request.device_id);
                        self.execute(at, request, behaviour);
                    }
                }
                NextStep::Answer { code } => events.push(answer(request, code, at)),
                NextStep::Execute { answer } => {
                    self.note(&request, at)?;
                    if let Some((answers_at, code)) = answer {
                        self.schedule(answers_at, request, NextStep::Answer { code });
                    }
                }
            }
        }
        Ok(events)
    }

    /// Returns the time of the next event or of the next action of a device; `None` when nothing is under way.
    fn due(&self) -> Option<Timestamp> {
        let Reverse((at, _, _)) = self.queue.peek()?;
        Some(self.rhythm.map_or(*at, |(start, step)| next_step(start, step, *at)))
    }

    fn under_way(&self) -> usize {
        self.queue.len() - self.waiting
    }

    fn expects_until(&self) -> Option<Timestamp> {
        (self.under_way() > 0).then_some(self.last_at)
    }
}

/// Returns the event of a device that has executed a request.
fn answer(request: Request, code: u16, at: Timestamp) -> LinkEvent {
    let body = if code >= 400 { "the simulated device refused" } else { "" };
    match request.ask {
        Ask::Command { .. } => LinkEvent::Answered { token: request.token, origin: None, code, body: body.to_string() },
        Ask::Desired { patch, version } => {
            let patch = acknowledge(&patch, version, code, body);
            LinkEvent::Reported { device_id: request.device_id, patch, rid: None, at }
        }
    }
}

impl Drop for SimulatedDevices {
    /// Journals the requests that are still under way: a process that ends in good order has handed over everything,
    /// although it no longer waits for the answers. A process that is killed has not, and its requests may be lost on
    /// the way.
    fn drop(&mut self) {
        while let Some(Reverse((at, _, slot))) = self.queue.pop() {
            if let Some((request, NextStep::Execute { .. })) = self.requests[slot].take() {
                // A drop cannot report that the journal cannot be written.
                drop(self.note(&request, at));
            }
        }
    }
}

/// Returns the end of the step that a time lies in; a time on the border of two steps is returned as it is.
fn next_step(start: Timestamp, step: Duration, at: Timestamp) -> Timestamp {
    let Ok(since) = Duration::try_from(at.duration_since(start)) else { return at };
    let steps = since.as_nanos().div_ceil(step.as_nanos());
    let until = u64::try_from(steps * step.as_nanos()).map(Duration::from_nanos);
    until.map_or(at, |until| add(start, until))
}

fn add(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::Token;
    use crate::model::id::DeviceId;

    fn token(attempt: u32) -> Token {
        Token { run_id: 1, ordinal: 7, attempt }
    }

    fn answered(attempt: u32, code: u16, body: &str) -> LinkEvent {
        LinkEvent::Answered { token: token(attempt), origin: None, code, body: body.to_string() }
    }

    fn request(device_id: &str) -> Request {
        Request {
            token: token(1),
            device_id: device_id.to_string(),
            execution_id: Digest::of_bytes(device_id.as_bytes()),
            ask: ask(false),
        }
    }

    fn ask(is_idempotent: bool) -> Ask {
        let (method, expires_after) = ("reboot".to_string(), Duration::from_secs(30));
        Ask::Command { method, payload: std::sync::Arc::default(), is_idempotent, expires_after }
    }

    fn devices(behaviour: &[(&str, DeviceBehaviour)]) -> SimulatedDevices {
        let devices = behaviour.iter().map(|(id, own)| (DeviceId::parse(id).unwrap(), *own)).collect();
        let config = SimulatedLink { devices, ..SimulatedLink::default() };
        SimulatedDevices::new(&config, Path::new(".")).unwrap()
    }

    /// Returns all events, by moving the time forward to each due event.
    fn run(devices: &mut SimulatedDevices) -> Vec<LinkEvent> {
        let mut events = Vec::new();
        while let Some(at) = devices.due() {
            events.extend(devices.poll(at).unwrap());
        }
        events
    }

    #[test]
    fn each_behaviour_is_seen() {
        let check = |behaviour: DeviceBehaviour, expect: &[LinkEvent]| {
            let mut devices = devices(&[("d-1", behaviour)]);
            devices.send(Timestamp::UNIX_EPOCH, request("d-1"));
            assert_eq!(run(&mut devices), expect);
        };
        check(DeviceBehaviour::default(), &[answered(1, 200, "")]);
        check(
            DeviceBehaviour { answers: Some(503), ..DeviceBehaviour::default() },
            &[answered(1, 503, "the simulated device refused")],
        );
        check(
            DeviceBehaviour { offline: true, ..DeviceBehaviour::default() },
            &[LinkEvent::NotDelivered { token: token(1) }],
        );
        check(DeviceBehaviour { silent: true, ..DeviceBehaviour::default() }, &[]);
    }

    #[test]
    fn a_rhythm_makes_wake_ups_fewer_and_changes_nothing_else() {
        let start: Timestamp = "2026-11-20T10:00:00.0003Z".parse().unwrap();
        let run = |step: Duration| {
            let mut devices = devices(&[]).in_rhythm(start, step);
            for at in 0..200 {
                devices.send(start, request(&format!("d-{at}")));
            }
            let (mut events, mut wakes) = (Vec::new(), 0);
            while let Some(at) = devices.due() {
                wakes += 1;
                events.extend(devices.poll(at).unwrap());
            }
            (events, wakes)
        };
        let (each, many) = run(Duration::ZERO);
        let (grouped, few) = run(Duration::from_millis(5));
        assert_eq!(each, grouped);
        // Between 10 ms and 30 ms of latency.
        assert!(few <= 5 && many > 100, "{few} and {many}");
        let mut devices = devices(&[("d-1", DeviceBehaviour { offline: true, ..DeviceBehaviour::default() })])
            .in_rhythm(start, Duration::from_secs(1));
        devices.send(start, request("d-1"));
        assert_eq!(devices.due(), Some(start), "what is due at a step is not put off");
    }

    #[test]
    fn probabilities_are_kept_and_the_same_in_every_process() {
        let config = SimulatedLink {
            offline: Probability { per_million: 20_000 },
            failures: Probability { per_million: 100_000 },
            ..SimulatedLink::default()
        };
        let count = || {
            let mut devices = SimulatedDevices::new(&config, Path::new(".")).unwrap();
            for at in 0..10_000 {
                devices.send(Timestamp::UNIX_EPOCH, request(&format!("d-{at}")));
            }
            let events = run(&mut devices);
            let offline = events.iter().filter(|event| matches!(event, LinkEvent::NotDelivered { .. })).count();
            let failed = events.iter().filter(|event| matches!(event, LinkEvent::Answered { code: 500, .. })).count();
            (offline, failed)
        };
        let (offline, failed) = count();
        assert!((150..250).contains(&offline) && (900..1100).contains(&failed), "{offline} offline, {failed} failed");
        assert_eq!((offline, failed), count());
    }

    /// Returns the devices of a new process, with a journal in a folder.
    fn with_journal(folder: &Path) -> SimulatedDevices {
        let config = SimulatedLink { journal: Some("devices.jsonl".to_string()), ..SimulatedLink::default() };
        SimulatedDevices::new(&config, folder).unwrap()
    }

    fn journal(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("devices.jsonl")).unwrap()
    }

    /// Sends a command and returns its answer.
    fn execute(devices: &mut SimulatedDevices, device_id: &str, is_idempotent: bool, attempt: u32) -> Vec<LinkEvent> {
        let token = token(attempt);
        devices.send(Timestamp::UNIX_EPOCH, Request { token, ask: ask(is_idempotent), ..request(device_id) });
        run(devices)
    }

    #[test]
    fn a_command_that_may_be_sent_again_is_executed_once() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let mut devices = with_journal(folder.path());
            for attempt in 1..=2 {
                assert_eq!(execute(&mut devices, "d-1", true, attempt), [answered(attempt, 200, "")]);
            }
            // A command whose answer is no longer awaited is recognised too.
            devices.send(Timestamp::UNIX_EPOCH, Request { ask: ask(true), ..request("d-1") });
        }
        assert_eq!(journal(folder.path()).lines().count(), 1);
    }

    #[test]
    fn a_command_that_may_not_be_sent_again_shows_that_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut devices = with_journal(folder.path());
        for _ in 0..2 {
            execute(&mut devices, "d-1", false, 1);
        }
        assert_eq!(journal(folder.path()).lines().count(), 2);
    }

    #[test]
    fn what_other_jobs_executed_before_the_first_question_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let mut devices = with_journal(folder.path());
        execute(&mut devices, "d-1", false, 1);
        execute(&mut devices, "d-2", true, 1);
        execute(&mut devices, "d-1", true, 1);
        assert_eq!(journal(folder.path()).lines().count(), 2);
    }

    #[test]
    fn a_torn_line_is_completed_and_not_counted() {
        let folder = tempfile::tempdir().unwrap();
        execute(&mut with_journal(folder.path()), "d-1", true, 1);
        execute(&mut with_journal(folder.path()), "d-2", true, 1);
        let whole = journal(folder.path());
        for cut in 1..=whole.len() - whole.find('\n').unwrap() - 1 {
            let torn = &whole[..whole.len() - cut];
            std::fs::write(folder.path().join("devices.jsonl"), torn).unwrap();
            let mut devices = with_journal(folder.path());
            assert_eq!(journal(folder.path()), torn, "opening changes nothing");
            for device_id in ["d-1", "d-2", "d-2"] {
                execute(&mut devices, device_id, true, 1);
            }
            let separator = if torn.ends_with('\n') { "" } else { "\n" };
            let second = whole.lines().nth(1).unwrap();
            // A line that lacks only its line feed is whole: nothing is appended.
            let expected = if cut == 1 { torn.to_string() } else { format!("{torn}{separator}{second}\n") };
            assert_eq!(journal(folder.path()), expected);
        }
    }
}
