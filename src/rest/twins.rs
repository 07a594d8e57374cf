//! Twins and direct methods: `/twins`.

use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::LOG_TARGET;
use super::answer::{self, Fault, IfMatch};
use super::asked::{Asked, time};
use super::throttle::Operation;
use crate::link::{CallError, DirectAnswer, DirectCall};
use crate::model::device::Device;
use crate::model::hub::HubRight;
use crate::model::limits;
use crate::model::text::sanitize_line;
use crate::ops::hub::{HubTwin, NotedCall, TwinPatch, timeout};
use crate::query::{self, Column, ColumnValue};

/// What IoT Hub says of a time that never was.
pub const NEVER: &str = "0001-01-01T00:00:00Z";
/// IoT Hub's bounds of the timeouts of a direct method, in seconds.
const RESPONSE_TIMEOUT: (i64, i64) = (5, 300);
const CONNECT_TIMEOUT: (i64, i64) = (0, 300);
const METHOD_CHARS_MAX: usize = 128;

/// `GET /twins/{id}`
pub async fn get(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Twins)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    let id = id.to_string();
    let twin = asked.served.desks.read(move |desk| desk.twin(&id, time())).await?;
    Ok(answer::tagged(&twin_json(&twin), &twin.etag))
}

/// `PATCH /twins/{id}`, and `PUT`, which replaces
pub async fn write(asked: &Asked, id: &str, replaces: bool) -> Result<Response, Fault> {
    asked.take(Operation::Twins)?;
    asked.admitted.needs(HubRight::RegistryWrite)?;
    refuse_direct(asked)?;
    let body = asked.json()?;
    let body = body.as_object().ok_or_else(|| Fault::argument("the body is no JSON object"))?;
    let tags = section(body.get("tags"), "tags")?;
    let properties = section(body.get("properties"), "properties")?;
    let desired = section(properties.as_ref().and_then(|properties| properties.get("desired")), "properties.desired")?;
    let if_match = match IfMatch::of(&asked.headers) {
        IfMatch::Absent | IfMatch::Any => None,
        IfMatch::Etag(etag) => Some(etag),
    };
    let (tags, desired) =
        if replaces { (tags.or(Some(Map::new())), desired.or(Some(Map::new()))) } else { (tags, desired) };
    let patch = TwinPatch { tags, desired, replaces, if_match };
    let (device_id, caller) = (id.to_string(), asked.admitted.caller.clone());
    let written = asked.served.desks.write(move |desk| desk.write_twin(&device_id, &patch, &caller, time())).await?;
    if let Some(told) = &written.told {
        asked.served.switchboard.tell_desired(id, told, written.twin.device.desired_version);
    }
    asked.served.noted();
    Ok(answer::tagged(&twin_json(&written.twin), &written.twin.etag))
}

/// `POST /twins/{id}/methods`
pub async fn call(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Methods)?;
    asked.admitted.needs(HubRight::ServiceConnect)?;
    refuse_direct(asked)?;
    let body = asked.json()?;
    let body = body.as_object().ok_or_else(|| Fault::argument("the body is no JSON object"))?;
    let method = body.get("methodName").and_then(Value::as_str).filter(|name| !name.is_empty());
    let method = method.ok_or_else(|| Fault::argument("`methodName` is missing"))?.to_string();
    if method.chars().count() > METHOD_CHARS_MAX {
        return Err(Fault::argument(format!("`methodName` has more than {} characters", METHOD_CHARS_MAX)));
    }
    let payload = body.get("payload").cloned().unwrap_or(Value::Null);
    if payload.to_string().len() > limits::PAYLOAD_BYTES_MAX {
        let sentence = format!("the payload has more than {} bytes", limits::PAYLOAD_BYTES_MAX);
        return Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "MessageTooLarge", sentence));
    }
    let response_timeout = timeout(body, "responseTimeoutInSeconds", RESPONSE_TIMEOUT, 30)?;
    let connect_timeout = timeout(body, "connectTimeoutInSeconds", CONNECT_TIMEOUT, 0)?;
    let (device_id, caller) = (id.to_string(), asked.admitted.caller.clone());
    // It is noted before it is called: afterwards nobody may be there to do it.
    let call = NotedCall { device_id, method: method.clone(), caller, at: time() };
    asked.served.notes.ask(&asked.served.desks, call).await?;
    asked.served.noted();
    let call = DirectCall { device_id: id.to_string(), method, payload, connect_timeout, response_timeout };
    // Whoever asked may hang up: the call goes on.
    let switchboard = asked.served.switchboard.clone();
    let called = tokio::spawn(async move { switchboard.call(call).await }).await;
    let failed = |_| Fault::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "the call failed: try again");
    match called.map_err(failed)? {
        Ok(DirectAnswer { status, payload }) => Ok(answer::ok(&json!({"status": status, "payload": payload}))),
        Err(error) => Err(call_fault(&error, id)),
    }
}

fn call_fault(error: &CallError, id: &str) -> Fault {
    match error {
        CallError::NotOnline => Fault::new(
            StatusCode::NOT_FOUND,
            "DeviceNotOnline",
            "Timed out waiting for device to connect, or it does not listen to methods",
        ),
        CallError::TimedOut => Fault::new(
            StatusCode::GATEWAY_TIMEOUT,
            "GatewayTimeout",
            "Timed out waiting for the response from device, and it may have done what it was asked",
        ),
        CallError::TooMany => Fault::throttled(
            "DeviceThrottlingLimitExceeded",
            format!("too many calls of `{}` are under way", sanitize_line(id)),
            1,
        ),
        CallError::BadAnswer => Fault::new(
            StatusCode::BAD_GATEWAY,
            "BadDeviceResponse",
            "the answer of the device is no JSON, or too large",
        ),
        CallError::NoGateway => {
            tracing::warn!(target: LOG_TARGET, "a method cannot be called: the listener of devices is not open");
            Fault::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServiceUnavailable",
                "the gateway does not listen to devices now: try again",
            )
        }
    }
}

/// # Errors
/// The fleet lets nobody change or call single devices without a commit.
pub fn refuse_direct(asked: &Asked) -> Result<(), Fault> {
    if !asked.rules.refuses_direct {
        return Ok(());
    }
    let sentence = "this fleet takes changes as jobs (`direct: refuse`): PUT /jobs/v2/ID instead";
    Err(Fault::new(StatusCode::FORBIDDEN, "InvalidOperation", sentence))
}

/// Returns a section of a twin without what nobody writes; `None` when it is not given.
fn section(value: Option<&Value>, what: &str) -> Result<Option<Map<String, Value>>, Fault> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(members)) => {
            let mut members = members.clone();
            members.retain(|key, _| !matches!(key.as_str(), "$metadata" | "$version"));
            Ok(Some(members))
        }
        Some(_) => Err(Fault::argument(format!("`{what}` is no object"))),
    }
}

/// Returns the text of a time, or what IoT Hub says of none.
pub fn time_or_never(time: Option<Timestamp>) -> String {
    time.map_or_else(|| NEVER.to_string(), |time| time.to_string())
}

/// Returns a twin as IoT Hub shows it.
pub fn twin_json(twin: &HubTwin) -> Value {
    let HubTwin { device, etag, identity, messages } = twin;
    let mut shown = facts(device);
    shown["etag"] = json!(etag);
    shown["version"] = json!(device.desired_version);
    shown["cloudToDeviceMessageCount"] = json!(messages);
    if let Some(identity) = identity {
        shown["deviceEtag"] = json!(identity.etag);
        shown["statusReason"] = json!(identity.status_reason);
        shown["statusUpdateTime"] = json!(time_or_never(identity.status_updated));
        shown["authenticationType"] = json!(identity.keys.authentication.as_str());
        shown["x509Thumbprint"] = json!({
            "primaryThumbprint": identity.keys.primary_thumbprint,
            "secondaryThumbprint": identity.keys.secondary_thumbprint,
        });
    }
    let at = time_or_never(device.last_activity);
    for (section, version) in [("desired", device.desired_version), ("reported", device.reported_version)] {
        let mut metadata = json!({"$lastUpdated": at});
        if section == "desired" {
            metadata["$lastUpdatedVersion"] = json!(version);
        }
        shown["properties"][section]["$metadata"] = metadata;
    }
    shown
}

/// Returns what a query can read of a device.
pub fn facts(device: &Device) -> Value {
    json!({
        "deviceId": device.device_id,
        "deviceName": device.device_name,
        "status": query::status(device.blocked),
        "connectionState": device.connection_state.as_str(),
        "lastActivityTime": time_or_never(device.last_activity),
        "template": device.template,
        "organization": device.organization,
        "tags": device.tags,
        "properties": {"desired": device.desired_with_version(), "reported": device.reported_with_version()},
        "capabilities": {"iotEdge": device.iot_edge},
    })
}

/// Returns the value at a path of a twin, its first name in any case; `None` when there is none.
pub fn value_at(twin: &Value, path: &[String]) -> Option<Value> {
    let path = match path {
        [first, rest @ ..] if first.eq_ignore_ascii_case("devices") && !rest.is_empty() => rest,
        path => path,
    };
    let (first, rest) = path.split_first()?;
    let members = twin.as_object()?;
    let mut value = members.iter().find(|(name, _)| name.eq_ignore_ascii_case(first)).map(|(_, value)| value)?;
    for name in rest {
        value = value.get(name)?;
    }
    Some(value.clone())
}

/// Returns the columns of a row; one without a value is absent.
pub fn projected(twin: &Value, columns: &[Column]) -> Value {
    let mut row = Map::new();
    for column in columns {
        let ColumnValue::Path(path) = &column.value else { continue };
        if let Some(value) = value_at(twin, path) {
            // `SELECT DeviceId` comes back as `deviceId`.
            let known = twin.as_object().and_then(|members| {
                members.keys().find(|name| path.len() == 1 && name.eq_ignore_ascii_case(&column.name))
            });
            row.insert(known.unwrap_or(&column.name).clone(), value);
        }
    }
    Value::Object(row)
}
