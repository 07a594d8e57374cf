//! Connections of devices that register themselves, as with Azure's Device Provisioning Service: MQTT 3.1.1 in its
//! dialect, on the listeners of the devices.
//!
//! Who may register is for the fleet's documents, the keys of its groups and the registry to say, which this room does
//! not know. It asks a [`Registrar`], which whoever makes the gateway gives to the [`Switchboard`](super::Switchboard).
//! The reconciler, which is asked of devices that log in, is not in between: a registration writes an identity and
//! waits for the lock of the registry, and all other devices would wait with it. What a connection says is not kept
//! here: it asks one thing after the other, and reads on when it has the answer.
//!
//! | from | topic | payload |
//! | --- | --- | --- |
//! | device | `$dps/registrations/PUT/iotdps-register/?$rid={rid}` | ignored |
//! | device | `$dps/registrations/GET/iotdps-get-operationstatus/?$rid={rid}&operationId={id}` | ignored |
//! | us | `$dps/registrations/res/{status}/?$rid={rid}`, with `&retry-after={seconds}` to come again | JSON |
//!
//! Source: Microsoft, "Communicate with DPS using the MQTT protocol".

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use mqtt_protocol_core::mqtt::packet::{Packet, Qos};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::admission::{Hello, Refusal};
use super::end::End;
use super::packets::{Greeting, Incoming, Message, Verdict};
use super::token::is_host;
use super::wire::{READ_BYTES, Wire, read};
use crate::link::protocol::{Malformed, member, rid_of};
use crate::model::limits;

/// What a device subscribes to.
const RESPONSES: &str = "$dps/registrations/res/#";
/// How long a registration is waited for before a device is told to come again.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);
/// How long a connection lives: a registration takes seconds.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(600);
/// Filters that do not exist, after which a connection ends.
const BAD_FILTERS_MAX: usize = 3;

/// Who says which devices may register, and registers them.
pub trait Registrar: Send + Sync {
    /// Answers a device. It is polled in a runtime of tokio that has timers.
    fn ask(&self, asked: Registering) -> Pin<Box<dyn Future<Output = RegistrarAnswer> + Send>>;
}

/// What a device that registers itself asks for, and what it proves who it is with.
#[derive(Clone, PartialEq)]
pub struct Registering {
    pub scope: String,
    /// The registration id, as the device writes it.
    pub id: String,
    pub step: RegistrationStep,
    /// What it signs with, a secret; `None` for one that has a certificate.
    pub token: Option<String>,
    /// The certificate that it has the key of, and those that it has shown with it.
    pub chain: Vec<CertificateDer<'static>>,
    pub address: IpAddr,
}

/// How far a registration is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistrationStep {
    /// It has connected, and wants nothing yet.
    Admission,
    Register,
    /// How a registration that it began is.
    Operation {
        operation: String,
    },
    /// How its registration is.
    State,
}

/// What a device that registers itself is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistrarAnswer {
    /// As of HTTP.
    pub status: u16,
    /// In how many seconds it is to ask again.
    pub retry_after: Option<u32>,
    /// JSON.
    pub body: String,
    /// It is not the device that it says.
    pub is_failed_login: bool,
}

/// Who has connected to register.
#[derive(Debug, PartialEq, Eq)]
pub struct Newcomer {
    pub scope: String,
    pub id: String,
}

/// Returns who wants to register, by the user name `{scope}/registrations/{id}/api-version=…`; `None` for a device, whose
/// user name begins with the name of the hub.
pub fn newcomer(host_name: &str, hello: Hello<'_>) -> Option<Newcomer> {
    let mut parts = hello.username?.splitn(4, '/');
    let (scope, word, id, _version) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_one = word == "registrations" && !is_host(host_name, scope);
    is_one.then(|| Newcomer { scope: scope.to_string(), id: id.to_string() })
}

/// Returns what a device asks for with a topic, and the id of its request.
fn said(topic: &str) -> Result<(RegistrationStep, String), Malformed> {
    let rest = topic.strip_prefix("$dps/registrations/").ok_or(Malformed::Topic)?;
    if let Some(query) = rest.strip_prefix("PUT/iotdps-register/") {
        return Ok((RegistrationStep::Register, rid_of(query)?));
    }
    let query = rest.strip_prefix("GET/iotdps-get-operationstatus/").ok_or(Malformed::Topic)?;
    let operation = member(query, "operationId").filter(|id| id.len() <= limits::DEVICE_ID_CHARS_MAX);
    let operation = operation.ok_or(Malformed::RequestId)?.to_string();
    Ok((RegistrationStep::Operation { operation }, rid_of(query)?))
}

fn response(rid: &str, answer: &RegistrarAnswer) -> String {
    let again = answer.retry_after.map(|seconds| format!("&retry-after={seconds}")).unwrap_or_default();
    format!("$dps/registrations/res/{}/?$rid={rid}{again}", answer.status)
}

/// Serves a device that has said that it wants to register until its connection ends, and returns why. `asked` is what
/// it shows, with any step.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    wire: &mut Wire<S>,
    hello: &Greeting,
    asked: Registering,
    registrar: Option<Arc<dyn Registrar>>,
) -> End {
    let refusal = match (hello.client_id.eq_ignore_ascii_case(&asked.id), &hello.will_topic) {
        (false, _) => Some(Refusal::ClientId),
        (true, Some(_)) => Some(Refusal::Will),
        (true, None) => None,
    };
    if let Some(refusal) = refusal {
        return wire.refuse(hello, Verdict::NotAuthorized, refusal.into()).await;
    }
    let Some(registrar) = registrar else {
        return wire.refuse(hello, Verdict::Unavailable, End::Busy).await;
    };
    let mut registering = Counter { asked, registrar, bad_filters: 0 };
    match registering.ask(RegistrationStep::Admission).await {
        Some(answer) if answer.is_failed_login => {
            return wire.refuse(hello, Verdict::NotAuthorized, End::NotRegistered).await;
        }
        Some(answer) if answer.status < 300 => wire.answer(hello, Verdict::Welcome, false),
        _ => return wire.refuse(hello, Verdict::Unavailable, End::Busy).await,
    }
    let end = match registering.converse(wire).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    // It is told as far as it listens.
    drop(timeout(Duration::from_secs(1), wire.flush()).await);
    end
}

/// Where one device registers.
struct Counter {
    asked: Registering,
    registrar: Arc<dyn Registrar>,
    bad_filters: usize,
}

impl Counter {
    /// Asks for a step; `None` when there is no answer in time.
    async fn ask(&self, step: RegistrationStep) -> Option<RegistrarAnswer> {
        let asked = Registering { step, ..self.asked.clone() };
        timeout(ANSWER_TIME_MAX, self.registrar.ask(asked)).await.ok()
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
    ) -> Result<std::convert::Infallible, End> {
        let ends_at = Instant::now() + CONNECTION_TIME_MAX;
        let mut input = [0; READ_BYTES];
        loop {
            for packet in std::mem::take(&mut wire.packets) {
                self.take_in(wire, packet).await?;
            }
            wire.flush().await?;
            if let Some(end) = wire.end.take() {
                return Err(end);
            }
            let until = wire.alive_until().min(ends_at);
            tokio::select! {
                read = wire.stream.read(&mut input) => match read? {
                    0 => return Err(End::Left),
                    length => wire.feed(&input[..length], false),
                },
                () = sleep_until(until) => return Err(End::Silent),
            }
        }
    }

    async fn take_in<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        packet: Packet,
    ) -> Result<(), End> {
        match read(packet)? {
            Incoming::Message { topic, qos, packet_id, .. } if qos != Qos::ExactlyOnce => {
                let (step, rid) = said(&topic)?;
                let answer = self.ask(step).await.ok_or(End::Busy)?;
                if let Some(packet_id) = packet_id {
                    wire.acknowledge(packet_id);
                }
                let payload = answer.body.as_bytes().into();
                wire.publish(Message { payload, ..Message::unacknowledged(response(&rid, &answer)) }).map(drop)
            }
            Incoming::Subscribe { packet_id, filters } => {
                let granted: Vec<Option<Qos>> =
                    filters.iter().map(|(filter, qos)| (filter == RESPONSES).then_some(*qos)).collect();
                self.bad_filters += granted.iter().filter(|granted| granted.is_none()).count();
                if self.bad_filters >= BAD_FILTERS_MAX {
                    return Err(End::Protocol("it subscribes to what is not its own".to_string()));
                }
                wire.subscribed(packet_id, &granted)
            }
            Incoming::Unsubscribe { packet_id, filters } => wire.unsubscribed(packet_id, filters.len()),
            Incoming::Farewell => Err(End::Left),
            Incoming::Ping => Ok(()),
            Incoming::Message { .. } | Incoming::Acknowledged { .. } | Incoming::Other => {
                Err(End::Protocol("the packet is none of a device that registers".to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(username: &str) -> Option<(String, String)> {
        let hello = Hello { client_id: "sn-7", username: Some(username), will_topic: None };
        newcomer("hub.example.com", hello).map(|one| (one.scope, one.id))
    }

    #[test]
    fn who_registers_is_told_by_the_user_name() {
        let one = Some(("0ne1".to_string(), "sn-7".to_string()));
        assert_eq!(named("0ne1/registrations/sn-7/api-version=2019-03-31&ClientVersion=a%2Fb"), one);
        assert_eq!(named("0ne1/registrations/sn-7/?api-version=2019-03-31"), one);
        assert_eq!(named("hub.example.com/registrations/?api-version=2021-04-12"), None);
        assert_eq!(named("Hub.example.com:8883/registrations/x/api-version=2021-04-12"), None);
        assert_eq!(named("0ne1/registration/sn-7/api-version=2019-03-31"), None);
    }

    #[test]
    fn the_topics_are_those_of_the_documentation() {
        let rid = || "1-2".to_string();
        assert_eq!(said("$dps/registrations/PUT/iotdps-register/?$rid=1-2"), Ok((RegistrationStep::Register, rid())));
        let operation = "5.0".to_string();
        let step = RegistrationStep::Operation { operation };
        let topic = "$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1-2&operationId=5.0";
        assert_eq!(said(topic), Ok((step, rid())));
        for (topic, fault) in [
            ("$dps/registrations/PUT/iotdps-register/", Malformed::RequestId),
            ("$dps/registrations/GET/iotdps-get-operationstatus/?$rid=1", Malformed::RequestId),
            ("$dps/registrations/res/200/?$rid=1", Malformed::Topic),
            ("devices/sn-7/messages/events/", Malformed::Topic),
        ] {
            assert_eq!(said(topic), Err(fault), "{topic}");
        }
        let mut answer =
            RegistrarAnswer { status: 202, retry_after: Some(1), body: String::new(), is_failed_login: false };
        assert_eq!(response("r", &answer), "$dps/registrations/res/202/?$rid=r&retry-after=1");
        answer = RegistrarAnswer { status: 200, retry_after: None, ..answer };
        assert_eq!(response("r", &answer), "$dps/registrations/res/200/?$rid=r");
    }
}
