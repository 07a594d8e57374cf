//! Twins and direct methods: `/twins`.

use std::borrow::Cow;

use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use serde::Serialize;
use serde::de::{Deserializer as _, Error as _, MapAccess, Visitor};
use serde::ser::{Error as _, SerializeMap, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::LOG_TARGET;
use super::answer::{self, Fault, IfMatch};
use super::asked::{Asked, time};
use super::throttle::Operation;
use crate::link::{CallError, DirectAnswer, DirectCall};
use crate::model::device::Device;
use crate::model::hub::HubRight;
use crate::model::limits;
use crate::model::secret::{self, shown_if_hidden};
use crate::model::text::sanitize_line;
use crate::ops::hub::{DeviceKeys, HubTwin, NotedCall, TwinPatch, TwinRow, timeout};
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
    Ok(answer::tagged(&Twin::of(&twin), &twin.etag))
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
    Ok(answer::tagged(&Twin::of(&written.twin), &written.twin.etag))
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
            members.retain(|key, _| !is_ours(key));
            Ok(Some(members))
        }
        Some(_) => Err(Fault::argument(format!("`{what}` is no object"))),
    }
}

/// A time, or what IoT Hub says of none.
pub struct When(pub Option<Timestamp>);

impl Serialize for When {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(time) => serializer.collect_str(&time),
            None => serializer.serialize_str(NEVER),
        }
    }
}

/// A twin as IoT Hub shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Twin<'a> {
    #[serde(flatten)]
    facts: Facts<'a>,
    #[serde(flatten)]
    identity: Option<IdentityFacts<'a>>,
    cloud_to_device_message_count: u64,
    etag: Cow<'a, str>,
    version: u64,
}

impl<'a> Twin<'a> {
    pub fn of(twin: &'a HubTwin) -> Twin<'a> {
        let HubTwin { device, etag, identity, messages } = twin;
        Twin {
            facts: Facts::of(device).with_metadata(device.last_activity),
            identity: identity.as_ref().map(|identity| IdentityFacts {
                authentication_type: identity.keys.authentication.as_str(),
                device_etag: Cow::Borrowed(&identity.etag),
                status_reason: identity.status_reason.as_deref(),
                status_update_time: When(identity.status_updated),
                x509_thumbprint: Thumbprints::of(&identity.keys),
            }),
            cloud_to_device_message_count: *messages,
            etag: Cow::Borrowed(etag),
            version: device.desired_version,
        }
    }

    pub fn of_row(row: &'a TwinRow<'_>) -> Twin<'a> {
        let facts = Facts {
            device_id: row.device_id,
            device_name: row.device_name,
            status: query::status(row.blocked),
            connection_state: row.connection_state.as_str(),
            last_activity_time: When(row.last_activity),
            template: row.template,
            organization: row.organization,
            tags: Json::of(row.tags),
            properties: Properties {
                desired: Section::new(Json::shown(row.desired), row.desired_version),
                reported: Section::new(Json::shown(row.reported), row.reported_version),
            },
            capabilities: Capabilities { iot_edge: row.iot_edge },
        };
        Twin {
            facts: facts.with_metadata(row.last_activity),
            identity: Some(IdentityFacts {
                authentication_type: row.keys.authentication.as_str(),
                device_etag: Cow::Owned(row.identity_etag()),
                status_reason: row.status_reason,
                status_update_time: When(row.status_updated),
                x509_thumbprint: Thumbprints::of(&row.keys),
            }),
            cloud_to_device_message_count: row.messages,
            etag: Cow::Owned(row.etag()),
            version: row.desired_version,
        }
    }

    pub fn value(&self) -> Value {
        // What is nested too deep to be read is nothing that a query can name.
        serde_json::to_value(self).unwrap_or_default()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IdentityFacts<'a> {
    authentication_type: &'static str,
    device_etag: Cow<'a, str>,
    status_reason: Option<&'a str>,
    status_update_time: When,
    x509_thumbprint: Thumbprints<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Thumbprints<'a> {
    primary_thumbprint: Option<&'a str>,
    secondary_thumbprint: Option<&'a str>,
}

impl Thumbprints<'_> {
    fn of(keys: &DeviceKeys) -> Thumbprints<'_> {
        Thumbprints {
            primary_thumbprint: keys.primary_thumbprint.as_deref(),
            secondary_thumbprint: keys.secondary_thumbprint.as_deref(),
        }
    }
}

/// What a query can read of a device.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Facts<'a> {
    device_id: &'a str,
    device_name: &'a str,
    status: &'static str,
    connection_state: &'static str,
    last_activity_time: When,
    template: Option<&'a str>,
    organization: Option<&'a str>,
    tags: Json<'a>,
    properties: Properties<'a>,
    capabilities: Capabilities,
}

#[derive(Serialize)]
struct Properties<'a> {
    desired: Section<'a>,
    reported: Section<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    iot_edge: bool,
}

#[derive(Serialize)]
struct Metadata {
    #[serde(rename = "$lastUpdated")]
    last_updated: When,
    #[serde(rename = "$lastUpdatedVersion", skip_serializing_if = "Option::is_none")]
    last_updated_version: Option<u64>,
}

/// JSON as a value, or as the text that is stored.
enum Json<'a> {
    Value(Cow<'a, Value>),
    Stored(&'a RawValue),
}

impl<'a> Json<'a> {
    /// Returns a stored object; what is none is empty.
    fn of(stored: &'a RawValue) -> Json<'a> {
        let text = stored.get();
        // An escape may stand for half a character.
        if text.starts_with('{') && !text.contains('\\') {
            return Json::Stored(stored);
        }
        Json::Value(Cow::Owned(
            serde_json::from_str::<Map<_, _>>(text).map(Value::Object).unwrap_or_else(|_| json!({})),
        ))
    }

    /// Returns what people see of a stored section, where secrets have marks.
    fn shown(stored: &'a RawValue) -> Json<'a> {
        if !secret::may_hide(stored.get()) {
            return Json::of(stored);
        }
        let value = serde_json::from_str(stored.get()).unwrap_or_default();
        Json::Value(Cow::Owned(shown_if_hidden(&value).into_owned()))
    }
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Json::Value(value) => value.serialize(serializer),
            Json::Stored(text) => text.serialize(serializer),
        }
    }
}

/// A section of a twin.
struct Section<'a> {
    members: Json<'a>,
    version: u64,
    metadata: Option<Metadata>,
}

impl<'a> Section<'a> {
    fn new(members: Json<'a>, version: u64) -> Section<'a> {
        Section { members, version, metadata: None }
    }
}

impl Serialize for Section<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(metadata) = &self.metadata {
            map.serialize_entry("$metadata", metadata)?;
        }
        map.serialize_entry("$version", &self.version)?;
        match &self.members {
            Json::Value(value) => {
                for (key, value) in value.as_object().into_iter().flatten().filter(|(key, _)| !is_ours(key)) {
                    map.serialize_entry(key, value)?;
                }
            }
            Json::Stored(text) => {
                let mut poured = serde_json::Deserializer::from_str(text.get());
                poured.deserialize_map(Members(&mut map)).map_err(S::Error::custom)?;
            }
        }
        map.end()
    }
}

/// Passes the members of an object on.
struct Members<'m, M>(&'m mut M);

impl<'de, M: SerializeMap> Visitor<'de> for Members<'_, M> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some((key, value)) = members.next_entry::<&str, &RawValue>()? {
            if !is_ours(key) {
                self.0.serialize_entry(key, value).map_err(A::Error::custom)?;
            }
        }
        Ok(())
    }
}

/// Returns true for the members of a section that are no properties.
fn is_ours(key: &str) -> bool {
    matches!(key, "$metadata" | "$version")
}

impl<'a> Facts<'a> {
    fn of(device: &'a Device) -> Facts<'a> {
        let section = |members, version| Section::new(Json::Value(shown_if_hidden(members)), version);
        Facts {
            device_id: &device.device_id,
            device_name: &device.device_name,
            status: query::status(device.blocked),
            connection_state: device.connection_state.as_str(),
            last_activity_time: When(device.last_activity),
            template: device.template.as_deref(),
            organization: device.organization.as_deref(),
            tags: Json::Value(Cow::Borrowed(&device.tags)),
            properties: Properties {
                desired: section(&device.desired, device.desired_version),
                reported: section(&device.reported, device.reported_version),
            },
            capabilities: Capabilities { iot_edge: device.iot_edge },
        }
    }

    /// Adds when the sections were written last, in IoT Hub's field: it has when the device was heard last.
    fn with_metadata(mut self, heard: Option<Timestamp>) -> Facts<'a> {
        let metadata = |last_updated_version| Some(Metadata { last_updated: When(heard), last_updated_version });
        let Properties { desired, reported } = &mut self.properties;
        desired.metadata = metadata(Some(desired.version));
        reported.metadata = metadata(None);
        self
    }
}

/// Returns what a query can read of a device.
pub fn facts(device: &Device) -> Value {
    serde_json::to_value(Facts::of(device)).expect("its keys are texts")
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
