//! Identities of devices: `/devices` and `/statistics`.

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::answer::{self, Fault, IfMatch};
use super::asked::{Asked, time};
use super::throttle::Operation;
use super::twins::When;
use crate::model::device::Authentication;
use crate::model::hub::HubRight;
use crate::ops::hub::{Caller, Desk, Expected, GivenIdentity, HubError, IdentityRow, TwinPatch};
use crate::query;

/// Devices of one bulk request.
const BULK_MAX: usize = 100;
/// Identities of a list.
const LIST_MAX: u64 = 1_000;
const STATUS_REASON_CHARS_MAX: usize = 128;

/// `GET /devices/{id}`
pub async fn get(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Registry)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    let (id, shows_keys) = (id.to_string(), asked.admitted.has(HubRight::RegistryWrite));
    let read = move |desk: &mut Desk<'_>| Ok((desk.identity(&id)?, desk.message_counts(&[id], time())?));
    let (row, messages) = asked.served.desks.read(read).await?;
    Ok(answer::tagged(&identity_json(&row, messages[0], shows_keys), &row.etag))
}

/// `GET /devices?top=`
pub async fn list(asked: &Asked) -> Result<Response, Fault> {
    asked.take(Operation::Registry)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    let top = match asked.parameter("top").or_else(|| asked.parameter("maxCount")) {
        None | Some("") => LIST_MAX,
        Some(text) => text
            .parse()
            .ok()
            .filter(|top| (1..=LIST_MAX).contains(top))
            .ok_or_else(|| Fault::argument("`top` is a number from 1 to 1000"))?,
    };
    let shows_keys = asked.admitted.has(HubRight::RegistryWrite);
    let read = move |desk: &mut Desk<'_>| {
        let rows = desk.identities(top)?;
        let ids: Vec<String> = rows.iter().map(|row| row.device_id.clone()).collect();
        Ok((rows, desk.message_counts(&ids, time())?))
    };
    let (rows, messages) = asked.served.desks.read(read).await?;
    let shown = rows.iter().zip(messages).map(|(row, messages)| identity_json(row, messages, shows_keys));
    Ok(answer::ok(&shown.collect::<Vec<Value>>()))
}

/// `PUT /devices/{id}`: makes it without If-Match, and updates it with one
pub async fn put(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Registry)?;
    asked.admitted.needs(HubRight::RegistryWrite)?;
    let body = asked.json()?;
    if body["deviceId"].as_str().is_some_and(|named| named != id) {
        return Err(Fault::argument("`deviceId` is another one than in the address"));
    }
    let given = given(&body)?;
    let expected = match IfMatch::of(&asked.headers) {
        IfMatch::Absent => Expected::Absent,
        IfMatch::Any => Expected::Any,
        IfMatch::Etag(etag) => Expected::Etag(etag),
    };
    let (device_id, caller) = (id.to_string(), asked.admitted.caller.clone());
    let is_blocked = given.is_blocked;
    let write = move |desk: &mut Desk<'_>| {
        let row = desk.put_identity(&device_id, &given, &expected, &caller, time())?;
        Ok((row, desk.message_counts(&[device_id], time())?))
    };
    let (row, messages) = asked.served.desks.write(write).await?;
    if is_blocked {
        asked.served.switchboard.disconnect(id);
    }
    asked.served.noted();
    let shows_keys = asked.admitted.has(HubRight::RegistryRead);
    Ok(answer::tagged(&identity_json(&row, messages[0], shows_keys), &row.etag))
}

/// `DELETE /devices/{id}`
pub async fn delete(asked: &Asked, id: &str) -> Result<Response, Fault> {
    asked.take(Operation::Registry)?;
    asked.admitted.needs(HubRight::RegistryWrite)?;
    let etag = match IfMatch::of(&asked.headers) {
        IfMatch::Absent | IfMatch::Any => None,
        IfMatch::Etag(etag) => Some(etag),
    };
    let (device_id, caller) = (id.to_string(), asked.admitted.caller.clone());
    let delete = move |desk: &mut Desk<'_>| desk.delete_identity(&device_id, etag.as_deref(), &caller, time());
    asked.served.desks.write(delete).await?;
    asked.served.switchboard.disconnect(id);
    asked.served.noted();
    Ok(answer::nothing())
}

/// `GET /statistics/devices`
pub async fn statistics(asked: &Asked) -> Result<Response, Fault> {
    asked.take(Operation::Registry)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    let counts = asked.served.desks.read(|desk| desk.statistics()).await?;
    Ok(answer::ok(&json!({
        "totalDeviceCount": counts.total,
        "enabledDeviceCount": counts.enabled,
        "disabledDeviceCount": counts.disabled,
    })))
}

/// `GET /statistics/service`
pub fn connected(asked: &Asked) -> Result<Response, Fault> {
    asked.take(Operation::Registry)?;
    asked.admitted.needs(HubRight::RegistryRead)?;
    Ok(answer::ok(&json!({"connectedDeviceCount": asked.served.switchboard.connected().unwrap_or(0)})))
}

/// `POST /devices`: up to 100 lines of an import, each by itself
pub async fn bulk(asked: &Asked) -> Result<Response, Fault> {
    asked.take(Operation::Registry)?;
    asked.admitted.needs(HubRight::RegistryWrite)?;
    let body = asked.json()?;
    let items = body.as_array().ok_or_else(|| Fault::argument("the body is a list of devices"))?.clone();
    if items.len() > BULK_MAX {
        let sentence = format!("{} devices are too many for one request: {BULK_MAX} are the most", items.len());
        return Err(Fault::new(StatusCode::BAD_REQUEST, "TooManyDevices", sentence));
    }
    let caller = asked.admitted.caller.clone();
    let (errors, gone) = asked
        .served
        .desks
        .write(move |desk| {
            let (mut errors, mut gone) = (Vec::new(), Vec::new());
            for item in &items {
                let (id, mode) = (text(item, "id"), text(item, "importMode"));
                match one(desk, item, &caller) {
                    Ok(is_gone) => gone.extend(is_gone.then(|| id.to_string())),
                    Err((name, sentence)) => errors.push(json!({
                        "deviceId": id, "moduleId": null, "errorCode": name, "errorStatus": sentence,
                        "operation": if mode.is_empty() { "create" } else { mode },
                    })),
                }
            }
            Ok((errors, gone))
        })
        .await?;
    gone.iter().for_each(|id| asked.served.switchboard.disconnect(id));
    asked.served.noted();
    let body = json!({"isSuccessful": errors.is_empty(), "errors": errors, "warnings": []});
    if errors.is_empty() {
        return Ok(answer::ok(&body));
    }
    let mut response = answer::answer(StatusCode::BAD_REQUEST, &body);
    response.headers_mut().insert("iothub-errorcode", HeaderValue::from_static("BulkRegistryOperationFailure"));
    Ok(response)
}

/// Carries out one line, and returns true when the device must be disconnected.
fn one(desk: &mut Desk<'_>, item: &Value, caller: &Caller) -> Result<bool, (&'static str, String)> {
    let hub = |error: HubError| (name_of(&error), error.to_string());
    let fault = |sentence: String| ("ArgumentInvalid", sentence);
    let (id, mode, now) = (text(item, "id"), text(item, "importMode").to_ascii_lowercase(), time());
    if !text(item, "moduleId").is_empty() {
        return Err(fault("modules do not exist here".to_string()));
    }
    let etag = |member: &str| {
        let etag = text(item, member).trim_matches('"').to_string();
        if etag.is_empty() { Err(fault(format!("`{member}` is missing"))) } else { Ok(etag) }
    };
    let put = |desk: &mut Desk<'_>, expected: Expected| -> Result<bool, (&'static str, String)> {
        let given = given_import(item).map_err(fault)?;
        let is_blocked = given.is_blocked;
        desk.put_identity(id, &given, &expected, caller, now).map_err(hub)?;
        Ok(is_blocked)
    };
    let patch = |desk: &mut Desk<'_>, if_match: Option<String>| -> Result<bool, (&'static str, String)> {
        let section = |value: &Value| value.as_object().cloned();
        let patch = TwinPatch {
            tags: section(&item["tags"]),
            desired: section(&item["properties"]["desired"]),
            replaces: false,
            if_match,
        };
        desk.write_twin(id, &patch, caller, now).map_err(hub)?;
        Ok(false)
    };
    let exists = |desk: &mut Desk<'_>| match desk.identity(id) {
        Ok(_) => Ok(true),
        Err(HubError::NoDevice(_)) => Ok(false),
        Err(error) => Err(hub(error)),
    };
    match mode.as_str() {
        "" | "create" => put(desk, Expected::Absent),
        "update" => put(desk, Expected::Any),
        "updateifmatchetag" => {
            let etag = etag("eTag")?;
            put(desk, Expected::Etag(etag))
        }
        "createorupdate" | "createorupdateifmatchetag" => match (exists(desk)?, mode.ends_with("etag")) {
            (false, _) => put(desk, Expected::Absent),
            (true, false) => put(desk, Expected::Any),
            (true, true) => {
                let etag = etag("eTag")?;
                put(desk, Expected::Etag(etag))
            }
        },
        "delete" => desk.delete_identity(id, None, caller, now).map(|()| true).map_err(hub),
        "deleteifmatchetag" => {
            let etag = etag("eTag")?;
            desk.delete_identity(id, Some(&etag), caller, now).map(|()| true).map_err(hub)
        }
        "updatetwin" => patch(desk, None),
        "updatetwinifmatchetag" => {
            let etag = etag("twinETag")?;
            patch(desk, Some(etag))
        }
        other => Err(fault(format!("`importMode` is `{other}`, which is none"))),
    }
}

fn name_of(error: &HubError) -> &'static str {
    match error {
        HubError::Argument(_) | HubError::TooLarge(_) => "ArgumentInvalid",
        HubError::NoDevice(_) => "DeviceNotFound",
        HubError::DeviceExists(_) => "DeviceAlreadyExists",
        HubError::Stale => "PreconditionFailed",
        _ => "ServerError",
    }
}

fn text<'a>(item: &'a Value, member: &str) -> &'a str {
    item[member].as_str().unwrap_or_default()
}

/// Returns the identity of a body of `PUT /devices/{id}`.
fn given(body: &Value) -> Result<GivenIdentity, Fault> {
    if !body.is_object() {
        return Err(Fault::argument("the body is no JSON object"));
    }
    read_identity(body).map_err(Fault::argument)
}

/// Returns the identity of a line of an import, with its twin.
fn given_import(item: &Value) -> Result<GivenIdentity, String> {
    let section = |value: &Value| Some(value.clone()).filter(Value::is_object);
    let given = read_identity(item)?;
    Ok(GivenIdentity { tags: section(&item["tags"]), desired: section(&item["properties"]["desired"]), ..given })
}

fn read_identity(body: &Value) -> Result<GivenIdentity, String> {
    let authentication = &body["authentication"];
    let thumbprints = [authentication["x509Thumbprint"].clone(), authentication["x509thumbprint"].clone()];
    let thumbprints = thumbprints.into_iter().find(|one| !one.is_null()).unwrap_or_default();
    let filled = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_string);
    let thumbprints = ["primaryThumbprint", "secondaryThumbprint"].map(|name| filled(&thumbprints[name]));
    let way = match authentication["type"].as_str().unwrap_or_default() {
        // Older clients do not say it.
        "" if thumbprints.iter().any(Option::is_some) => Authentication::SelfSigned,
        "" => Authentication::Sas,
        word => Authentication::parse(word).ok_or("`authentication.type` is none that there is")?,
    };
    let keys = ["primaryKey", "secondaryKey"].map(|name| filled(&authentication["symmetricKey"][name]));
    let is_blocked = match body["status"].as_str().unwrap_or("enabled").to_ascii_lowercase().as_str() {
        "enabled" => false,
        "disabled" => true,
        _ => return Err("`status` is `enabled` or `disabled`".to_string()),
    };
    let status_reason = filled(&body["statusReason"]);
    if status_reason.as_ref().is_some_and(|reason| reason.chars().count() > STATUS_REASON_CHARS_MAX) {
        return Err(format!("`statusReason` has more than {STATUS_REASON_CHARS_MAX} characters"));
    }
    Ok(GivenIdentity {
        authentication: way,
        keys,
        thumbprints,
        is_blocked,
        status_reason,
        iot_edge: body["capabilities"]["iotEdge"].as_bool().unwrap_or(false),
        tags: None,
        desired: None,
    })
}

/// Returns an identity as IoT Hub shows it.
fn identity_json(row: &IdentityRow, messages: u64, shows_keys: bool) -> Value {
    let key = |key: &Option<Vec<u8>>| key.as_ref().filter(|_| shows_keys).map(|key| STANDARD.encode(key));
    json!({
        "deviceId": row.device_id,
        "generationId": row.generation_id,
        "etag": row.etag,
        "connectionState": row.connection_state.as_str(),
        "connectionStateUpdatedTime": When(row.last_activity),
        "status": query::status(row.blocked),
        "statusReason": row.status_reason,
        "statusUpdatedTime": When(row.status_updated),
        "lastActivityTime": When(row.last_activity),
        "cloudToDeviceMessageCount": messages,
        "authentication": {
            "type": row.keys.authentication.as_str(),
            "symmetricKey": {"primaryKey": key(&row.keys.primary_key), "secondaryKey": key(&row.keys.secondary_key)},
            "x509Thumbprint": {
                "primaryThumbprint": row.keys.primary_thumbprint,
                "secondaryThumbprint": row.keys.secondary_thumbprint,
            },
        },
        "capabilities": {"iotEdge": row.iot_edge},
    })
}
