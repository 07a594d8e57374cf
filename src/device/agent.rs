//! One device: connects, says that it is there, asks for its twin, does what it is told, and begins anew when the
//! connection is lost.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::memory::{Answer, Memory, Verdict};
use super::method::{Call, Methods};
use super::store::Store;
use super::twin::{Refused, Request, Twin};
use super::{News, Tell};
use crate::link::BrokerError;
use crate::link::mqtt::{ClientOptions, Connection, Publication, Received, Version, connect};
use crate::link::protocol::{OFFLINE, ONLINE, Told, Topics, versioned};

/// Pauses between two tries to connect.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long the broker may take to answer a subscription and the presence.
const JOIN_TIME_MAX: Duration = Duration::from_secs(10);
/// How long methods that run, and then the last messages, are waited for at the end.
const FINISH_TIME_MAX: Duration = Duration::from_secs(5);
const LEAVE_TIME_MAX: Duration = Duration::from_secs(2);
/// Answers that wait for a connection; the oldest are dropped, nobody waits for them any more.
const ANSWERS_MAX: usize = 64;

/// What all devices of the process have in common.
pub(super) struct Common {
    pub topics: Topics,
    pub methods: Methods,
    pub store: Store,
    /// Connections that may be opened at once.
    pub gate: Semaphore,
    /// `None` for the newest version that the broker speaks.
    pub version: Option<Version>,
    pub tell: Tell,
}

/// An answer on its way.
#[derive(Debug, Clone)]
struct Reply {
    rid: String,
    answer: Answer,
}

/// A device.
pub(super) struct Agent {
    pub common: Arc<Common>,
    pub device_id: String,
    pub options: ClientOptions,
    pub twin: Twin,
    pub memory: Memory,
    pub stop: watch::Receiver<bool>,
}

/// What a device does while it is connected.
struct Session<'a> {
    connection: Connection,
    subscription: u16,
    /// The packet of the presence, when it is on its way.
    presence: Option<u16>,
    /// The broker has the presence: from now on the device speaks.
    is_joined: bool,
    /// Answers that the broker does not have yet.
    flights: BTreeMap<u16, Reply>,
    /// One of few that may connect at once; given back when it is joined.
    permit: Option<SemaphorePermit<'a>>,
    joins_until: Instant,
}

/// Why a session ended.
enum End {
    Lost { fault: BrokerError, was_joined: bool },
    Left,
}

/// What a running method came to.
struct Done {
    call: Call,
    answer: Answer,
}

impl Agent {
    /// Lives until it is stopped.
    pub async fn run(mut self) {
        let common = Arc::clone(&self.common);
        let (done, mut finished) = mpsc::channel(ANSWERS_MAX);
        let mut answers = VecDeque::new();
        let (mut pause, mut version) = (PAUSE_MIN, common.version.unwrap_or(Version::V5));
        let mut stop = self.stop.clone();
        loop {
            let opened = tokio::select! {
                opened = open(&common, &self.options, &mut version) => opened,
                () = stopped(&mut stop) => return,
            };
            let (fault, was_joined) = match opened {
                Ok((connection, permit)) => {
                    match self.serve(connection, permit, &done, &mut finished, &mut answers).await {
                        End::Lost { fault, was_joined } => (fault, was_joined),
                        End::Left => return,
                    }
                }
                Err(fault) => (fault, false),
            };
            pause = if was_joined { PAUSE_MIN } else { pause };
            // Devices that lost one broker do not come back in one moment.
            let wait = pause / 2 + pause.mul_f64(f64::from(chance() % 1_024) / 1_024.0);
            (common.tell)(&News::Lost { device_id: &self.device_id, fault: &fault, again_in: wait, was_joined });
            let again = Instant::now() + wait;
            while let Ok(Some(done)) = {
                tokio::select! {
                    done = timeout_at(again, finished.recv()) => done,
                    () = stopped(&mut stop) => return,
                }
            } {
                self.finish(done, &mut answers).await;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn serve(
        &mut self,
        connection: Connection,
        permit: SemaphorePermit<'_>,
        done: &mpsc::Sender<Done>,
        finished: &mut mpsc::Receiver<Done>,
        answers: &mut VecDeque<Reply>,
    ) -> End {
        let mut session = Session {
            connection,
            subscription: 0,
            presence: None,
            is_joined: false,
            flights: BTreeMap::new(),
            permit: Some(permit),
            joins_until: Instant::now() + JOIN_TIME_MAX,
        };
        let ended = self.converse(&mut session, done, finished, answers).await;
        match ended {
            Ok(()) => {
                self.leave(session).await;
                End::Left
            }
            Err(fault) => {
                // The broker may not have had them.
                for (_, reply) in std::mem::take(&mut session.flights).into_iter().rev() {
                    answers.push_front(reply);
                }
                End::Lost { fault, was_joined: session.is_joined }
            }
        }
    }

    /// Serves a connection until the device is stopped.
    async fn converse(
        &mut self,
        session: &mut Session<'_>,
        done: &mpsc::Sender<Done>,
        finished: &mut mpsc::Receiver<Done>,
        answers: &mut VecDeque<Reply>,
    ) -> Result<(), BrokerError> {
        session.subscription = session.connection.subscribe(&self.common.topics.of_device(&self.device_id))?;
        let mut stop = self.stop.clone();
        let mut stops_at = None;
        loop {
            let received: Vec<Received> = session.connection.received().collect();
            for received in received {
                self.take(session, received, done, answers, stops_at.is_some()).await?;
            }
            if session.is_joined {
                self.speak(session, answers)?;
            } else if session.joins_until <= Instant::now() {
                return Err(BrokerError::Silent);
            }
            let has_finished = self.memory.running() == 0 && answers.is_empty() && session.flights.is_empty();
            if stops_at.is_some_and(|until| has_finished || !session.is_joined || until <= Instant::now()) {
                return Ok(());
            }
            let due = if session.is_joined { self.twin.due() } else { Some(session.joins_until) };
            let wakes_at = [due, stops_at].into_iter().flatten().min();
            let wake = async {
                match wakes_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                turned = session.connection.turn(true) => turned?,
                Some(done) = finished.recv() => self.finish(done, answers).await,
                () = wake => {}
                () = stopped(&mut stop), if stops_at.is_none() => {
                    stops_at = Some(Instant::now() + FINISH_TIME_MAX);
                }
            }
        }
    }

    /// Takes what has come from the broker.
    async fn take(
        &mut self,
        session: &mut Session<'_>,
        received: Received,
        done: &mpsc::Sender<Done>,
        answers: &mut VecDeque<Reply>,
        is_stopping: bool,
    ) -> Result<(), BrokerError> {
        match received {
            Received::Subscribed { packet_id, is_granted } if packet_id == session.subscription => {
                let topics = &self.common.topics;
                if !is_granted {
                    return Err(BrokerError::Subscription { filter: topics.of_device(&self.device_id).join(" and ") });
                }
                // Only now: who is told that the device is online may speak to it at once.
                session.presence = Some(session.connection.publish(&presence(topics, &self.device_id, ONLINE))?);
            }
            Received::Acknowledged { packet_id, is_refused, .. } if Some(packet_id) == session.presence => {
                if is_refused {
                    let topic = self.common.topics.presence(&self.device_id);
                    return Err(BrokerError::Refused { reason: format!("it does not let us publish to {topic}") });
                }
                (session.is_joined, session.presence, session.permit) = (true, None, None);
                self.twin.connected();
                let version = session.connection.version();
                (self.common.tell)(&News::Connected { device_id: &self.device_id, version });
            }
            Received::Acknowledged { packet_id, .. } => drop(session.flights.remove(&packet_id)),
            Received::Subscribed { .. } => {}
            Received::Message { topic, payload, is_retained, packet_id } => {
                // What is retained was meant for another time; and a method that comes while the device stops is not
                // begun any more.
                let told = self.common.topics.told(&topic).ok().filter(|(id, _)| *id == self.device_id && !is_retained);
                match told {
                    Some((_, Told::Method { .. })) if is_stopping => return Ok(()),
                    Some((_, Told::Method { method, rid, xid })) => {
                        self.called(Call { execution_id: xid, ..self.call(method, payload) }, rid, done, answers).await;
                    }
                    Some((_, Told::Desired { version })) => {
                        if let Ok((members, _)) = versioned(&payload)
                            && self.twin.desired(version, &members)
                        {
                            (self.common.tell)(&News::Desired { device_id: &self.device_id, version });
                        }
                    }
                    Some((_, Told::Response { status, rid, .. })) => {
                        let refused = self.twin.answered(Instant::now(), status, &rid, &payload);
                        if let Some(Refused::Patch { status } | Refused::Device { status }) = refused {
                            (self.common.tell)(&News::Refused { device_id: &self.device_id, status });
                        }
                    }
                    None => {}
                }
                if let Some(packet_id) = packet_id {
                    session.connection.acknowledge(packet_id);
                }
            }
        }
        Ok(())
    }

    fn call(&self, method: String, payload: Vec<u8>) -> Call {
        Call { device_id: self.device_id.clone(), method, execution_id: String::new(), payload }
    }

    /// Begins a method, or answers it as it was answered before.
    async fn called(&mut self, mut call: Call, rid: String, done: &mpsc::Sender<Done>, answers: &mut VecDeque<Reply>) {
        if call.execution_id.is_empty() {
            // Nothing but the request tells it from others.
            call.execution_id.clone_from(&rid);
        }
        let tell = |answer: &Answer, is_again: bool| {
            let (device_id, method, execution_id) = (&call.device_id, &call.method, &call.execution_id);
            let status = answer.status;
            (self.common.tell)(&News::Executed { device_id, method, execution_id, status, is_again });
        };
        if let Some(answer) = self.common.methods.unknown(&call.method) {
            tell(&answer, false);
            push(answers, Reply { rid, answer });
            return;
        }
        match self.memory.come(&call.execution_id, &rid) {
            Verdict::Wait => {}
            Verdict::Answer(answer) => {
                tell(&answer, true);
                push(answers, Reply { rid, answer });
            }
            Verdict::Execute => {
                let common = Arc::clone(&self.common);
                if let Err(error) = common.store.begun(&call.device_id, &call.execution_id, &call.method).await {
                    let answer = Answer::failed(&format!("the device cannot write its state: {error}"));
                    self.finish(Done { call, answer }, answers).await;
                    return;
                }
                let done = done.clone();
                tokio::spawn(async move {
                    let answer = common.methods.execute(&call).await;
                    // The device was stopped meanwhile.
                    drop(done.send(Done { call, answer }).await);
                });
            }
        }
    }

    /// Keeps the answer of a method that has ended, and has it sent.
    async fn finish(&mut self, done: Done, answers: &mut VecDeque<Reply>) {
        let Done { call: Call { device_id, method, execution_id, .. }, answer } = done;
        let status = answer.status;
        (self.common.tell)(&News::Executed {
            device_id: &device_id,
            method: &method,
            execution_id: &execution_id,
            status,
            is_again: false,
        });
        if let Err(error) = self.common.store.answered(&device_id, &execution_id, answer.clone()).await {
            (self.common.tell)(&News::Unwritten { device_id: &device_id, error: &error });
        }
        for rid in self.memory.done(&execution_id, &answer) {
            push(answers, Reply { rid, answer: answer.clone() });
        }
    }

    /// Sends what is to be sent, as far as the broker has room.
    fn speak(&mut self, session: &mut Session<'_>, answers: &mut VecDeque<Reply>) -> Result<(), BrokerError> {
        let topics = &self.common.topics;
        while session.connection.room() > 0
            && let Some(reply) = answers.pop_front()
        {
            let topic = topics.answer(&self.device_id, reply.answer.status, &reply.rid);
            let packet_id = session.connection.publish(&message(topic, reply.answer.body.clone().into_bytes()))?;
            session.flights.insert(packet_id, reply);
        }
        while session.connection.room() > 0
            && let Some(request) = self.twin.next(Instant::now())
        {
            let publication = match request {
                Request::Twin { rid } => message(topics.twin_wanted(&self.device_id, &rid), Vec::new()),
                Request::Report { rid, patch } => {
                    message(topics.reported(&self.device_id, &rid), patch.to_string().into_bytes())
                }
            };
            session.connection.publish(&publication)?;
        }
        Ok(())
    }

    /// Takes leave in good order: the broker hears that the device is offline, and publishes no last will.
    async fn leave(&self, mut session: Session<'_>) {
        let until = Instant::now() + LEAVE_TIME_MAX;
        if let Ok(packet) = session.connection.publish(&presence(&self.common.topics, &self.device_id, OFFLINE)) {
            let is_known = |received: &Received| matches!(received, Received::Acknowledged { packet_id, .. } if *packet_id == packet);
            while !session.connection.received().any(|received| is_known(&received)) {
                if !matches!(timeout_at(until, session.connection.turn(true)).await, Ok(Ok(()))) {
                    break;
                }
            }
        }
        drop(timeout_at(until + LEAVE_TIME_MAX, session.connection.close(true)).await);
    }
}

/// Connects when it is this device's turn.
async fn open<'c>(
    common: &'c Common,
    options: &ClientOptions,
    version: &mut Version,
) -> Result<(Connection, SemaphorePermit<'c>), BrokerError> {
    let Ok(permit) = common.gate.acquire().await else {
        // The gate is never closed.
        sleep(PAUSE_MAX).await;
        return Err(BrokerError::Closed);
    };
    let connection = match common.version {
        Some(version) => Connection::open(options, version).await?.0,
        None => connect(options, version, &mut true).await?,
    };
    Ok((connection, permit))
}

fn message(topic: String, payload: Vec<u8>) -> Publication {
    Publication { topic, payload: payload.into(), is_retained: false, expires_after: None }
}

fn presence(topics: &Topics, device_id: &str, word: &str) -> Publication {
    Publication { is_retained: true, ..message(topics.presence(device_id), word.as_bytes().to_vec()) }
}

fn push(answers: &mut VecDeque<Reply>, reply: Reply) {
    if answers.len() >= ANSWERS_MAX {
        answers.pop_front();
    }
    answers.push_back(reply);
}

/// Waits until the devices are to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // Nobody can stop them any more when the sender is gone: then they go on.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn chance() -> u32 {
    getrandom::u32().unwrap_or_default()
}
