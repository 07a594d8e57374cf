//! Messages to devices: `/devices/{id}/messages/devicebound` and `/devices/{id}/commands`.

use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::answer::{self, Fault};
use super::asked::{Asked, time};
use super::throttle::Operation;
use super::twins::refuse_direct;
use crate::model::hub::HubRight;
use crate::ops::hub::GivenMessage;

/// What a header becomes on the way to the device.
const NAMES: [(&str, &str); 5] = [
    ("iothub-correlationid", "$.cid"),
    ("iothub-userid", "$.uid"),
    ("iothub-ack", "iothub-ack"),
    ("content-type", "$.ct"),
    ("content-encoding", "$.ce"),
];
/// Of the headers of own properties.
const OWN_PREFIX: &str = "iothub-app-";
const ACKS: [&str; 4] = ["none", "positive", "negative", "full"];

/// `POST /devices/{id}/messages/devicebound`
pub async fn send(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Methods)?;
    asked.admitted.needs(HubRight::ServiceConnect)?;
    refuse_direct(asked)?;
    let given = given(asked)?;
    let (device_id, caller) = (id.to_string(), asked.admitted.caller.clone());
    asked.served.desks.write(move |desk| desk.send_message(&device_id, given, &caller, time())).await?;
    asked.served.switchboard.messages_wait(id);
    asked.served.noted();
    Ok(answer::nothing())
}

/// `DELETE /devices/{id}/commands`
pub async fn purge(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Methods)?;
    asked.admitted.needs(HubRight::ServiceConnect)?;
    let (device_id, caller) = (id.to_string(), asked.admitted.caller.clone());
    let purged = asked.served.desks.write(move |desk| desk.purge_messages(&device_id, &caller, time())).await?;
    asked.served.noted();
    Ok(answer::ok(&json!({"deviceId": id, "moduleId": null, "totalMessagesPurged": purged})))
}

/// Returns the message of a request: its body, and what its headers say.
fn given(asked: &Asked) -> Result<GivenMessage, Fault> {
    let mut properties = Map::new();
    for (header, value) in &asked.headers {
        let header = header.as_str();
        let known = NAMES.iter().find(|(name, _)| *name == header).map(|(_, name)| *name);
        let Some(name) = known.or_else(|| header.strip_prefix(OWN_PREFIX)) else { continue };
        if known.is_none() && (name.is_empty() || name.starts_with("$.")) {
            return Err(Fault::argument("the name of an own property is not empty, and does not begin with `$.`"));
        }
        let value = value.to_str().map_err(|_| Fault::argument(format!("the header `{header}` is no ASCII text")))?;
        properties.insert(name.to_string(), Value::String(value.to_string()));
    }
    let ack = properties.get("iothub-ack").and_then(Value::as_str);
    if ack.is_some_and(|ack| !ACKS.contains(&ack)) {
        return Err(Fault::argument("`iothub-ack` is none, positive, negative or full"));
    }
    let expires_at = match asked.header("iothub-expiry") {
        None => None,
        Some(text) => {
            // Some clients write UTC without its `Z`.
            let read: Result<Timestamp, _> = text.parse().or_else(|_| format!("{text}Z").parse());
            Some(read.map_err(|_| Fault::argument("`iothub-expiry` is no time such as 2026-12-01T02:30:00Z"))?)
        }
    };
    let message_id = asked.header("iothub-messageid").map(str::to_string);
    Ok(GivenMessage { message_id, properties, body: asked.body.clone(), expires_at })
}
