//! Registrations of new devices, as with Azure's Device Provisioning Service over HTTPS.
//!
//! Source: Microsoft, "Runtime Registration: Register Device, Operation Status Lookup" (2019-03-31). Clients expect to be
//! told that it is under way first, and ask again.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::LOG_TARGET;
use super::answer::{self, Fault, random_id};
use super::asked::{Served, time};
use super::throttle::Operation;
use crate::model::text::sanitize_line;
use crate::ops::hub::{Desk, NotRegistered, Registration};

/// What a device asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    Register,
    /// How a registration that it began is.
    Operation {
        operation: &'a str,
    },
    /// How its registration is.
    State,
}

/// Returns what a device asks for with a path, its scope and its registration id; `None` for what is no registration.
pub fn step<'a>(method: &str, segments: &[&'a str]) -> Option<(Step<'a>, &'a str, &'a str)> {
    match (method, segments) {
        ("PUT", [scope, "registrations", id, "register"]) => Some((Step::Register, scope, id)),
        ("GET", [scope, "registrations", id, "operations", operation]) => {
            Some((Step::Operation { operation }, scope, id))
        }
        ("POST", [scope, "registrations", id]) => Some((Step::State, scope, id)),
        _ => None,
    }
}

/// Answers a step of a registration.
///
/// # Errors
/// The registry cannot be read or written.
pub async fn answer(
    served: &Arc<Served>,
    (step, scope, id): (Step<'_>, &str, &str),
    authorization: &str,
    address: std::net::IpAddr,
) -> Result<Response, Fault> {
    let (key, text) = ((scope.to_string(), id.to_string()), authorization.to_string());
    if !served.throttle.take(&format!("registrations {scope}"), Operation::Registry) {
        return Ok(refused(StatusCode::TOO_MANY_REQUESTS, 429_001, "too many registrations: wait a moment"));
    }
    let from = address.to_string();
    let makes = step == Step::Register;
    let register = move |desk: &mut Desk<'_>| desk.register((&key.0, &key.1), makes, (&text, &from), time());
    let found = served.desks.write(register).await?;
    let registration = match found {
        Ok(registration) => registration,
        Err(reason) => {
            let device = sanitize_line(id);
            tracing::warn!(target: LOG_TARGET, %address, %device, %reason, "a device is not registered");
            served.throttle.count_failure(address);
            return Ok(match reason {
                NotRegistered::Off | NotRegistered::Scope | NotRegistered::Id | NotRegistered::Never => {
                    refused(StatusCode::NOT_FOUND, 404_201, "there is no such enrollment")
                }
                NotRegistered::Token => refused(StatusCode::UNAUTHORIZED, 401_002, "Unauthorized"),
                NotRegistered::Disabled => refused(StatusCode::FORBIDDEN, 403_001, "the device is disabled"),
            });
        }
    };
    if registration.is_new {
        served.noted();
    }
    Ok(match step {
        Step::Register => {
            let operation = format!("5.{}", random_id());
            let mut response =
                answer::answer(StatusCode::ACCEPTED, &json!({"operationId": operation, "status": "assigning"}));
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            response
        }
        Step::Operation { operation } => answer::ok(&json!({
            "operationId": operation, "status": "assigned", "registrationState": state_json(&registration, id),
        })),
        Step::State => answer::ok(&state_json(&registration, id)),
    })
}

fn state_json(registration: &Registration, id: &str) -> Value {
    let Registration { identity, host_name, is_new: _ } = registration;
    let at = time().to_string();
    json!({
        "registrationId": id,
        "deviceId": identity.device_id,
        "assignedHub": host_name,
        "status": "assigned",
        "substatus": "initialAssignment",
        "createdDateTimeUtc": at,
        "lastUpdatedDateTimeUtc": at,
        "etag": identity.etag,
    })
}

fn refused(status: StatusCode, code: u32, message: &str) -> Response {
    let mut response = answer::answer(
        status,
        &json!({
            "errorCode": code,
            "trackingId": random_id(),
            "message": message,
            "timestampUtc": time().to_string(),
        }),
    );
    if status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_known_by_their_paths() {
        assert_eq!(step("PUT", &["s", "registrations", "d", "register"]), Some((Step::Register, "s", "d")));
        assert_eq!(
            step("GET", &["s", "registrations", "d", "operations", "5.0"]),
            Some((Step::Operation { operation: "5.0" }, "s", "d"))
        );
        assert_eq!(step("POST", &["s", "registrations", "d"]), Some((Step::State, "s", "d")));
        assert_eq!(step("GET", &["s", "registrations", "d"]), None);
        assert_eq!(step("PUT", &["devices", "d"]), None);
    }
}
