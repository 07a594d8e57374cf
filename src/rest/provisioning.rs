//! New devices that register themselves, as with Azure's Device Provisioning Service, over HTTPS and MQTT alike.
//!
//! Source: Microsoft, "Runtime Registration - Register Device" and "Operation Status Lookup" (2019-03-31). Clients expect
//! to be told that it is under way first, and ask again. Nothing is kept of a registration but the device, so a gateway
//! that was killed in between goes on with it.

use std::pin::Pin;
use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::LOG_TARGET;
use super::answer::{self, Fault, random_id};
use super::asked::{Served, time};
use super::throttle::Operation;
use crate::link::{Registering, Registrar, RegistrarAnswer, RegistrationStep};
use crate::model::text::sanitize_line;
use crate::ops::hub::{Desk, HubError, NotRegistered, Registration, Shown};

/// In how many seconds a device asks again whose registration is under way.
const POLL_SECONDS: u32 = 1;
/// The code of a device that is disabled.
const DISABLED: u32 = 403_001;
/// In how many seconds a device asks again when there is too much to do.
const BUSY_SECONDS: u32 = 2;

/// Returns what a device asks for with a path, its scope and its registration id; `None` for what is no registration.
pub fn step<'a>(method: &str, segments: &[&'a str]) -> Option<(RegistrationStep, &'a str, &'a str)> {
    match (method, segments) {
        ("PUT", [scope, "registrations", id, "register"]) => Some((RegistrationStep::Register, scope, id)),
        ("GET", [scope, "registrations", id, "operations", operation]) => {
            let operation = (*operation).to_string();
            Some((RegistrationStep::Operation { operation }, scope, id))
        }
        ("POST", [scope, "registrations", id]) => Some((RegistrationStep::State, scope, id)),
        _ => None,
    }
}

/// Answers a step of a registration over HTTPS.
///
/// # Errors
/// The registry cannot be read or written.
pub async fn answer(served: &Arc<Served>, asked: Registering) -> Result<Response, Fault> {
    let address = asked.address;
    let told = told(served, asked).await?;
    if told.is_failed_login {
        served.throttle.count_failure(address);
    }
    let status = StatusCode::from_u16(told.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = answer::answer(status, &told.body);
    if let Some(seconds) = told.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

/// Registers devices that connect with MQTT.
pub struct Registrations(pub Arc<Served>);

impl Registrar for Registrations {
    fn ask(&self, asked: Registering) -> Pin<Box<dyn Future<Output = RegistrarAnswer> + Send>> {
        let served = Arc::clone(&self.0);
        Box::pin(async move {
            let told = told(&served, asked).await.unwrap_or_else(|error| {
                tracing::warn!(target: LOG_TARGET, %error, "a device cannot be registered now");
                Told::refused(503, 503_001, "the gateway cannot do this now").again(BUSY_SECONDS)
            });
            let Told { status, retry_after, body, is_failed_login } = told;
            RegistrarAnswer { status, retry_after, body: body.to_string(), is_failed_login }
        })
    }
}

/// What a device is told.
struct Told {
    status: u16,
    retry_after: Option<u32>,
    body: Value,
    is_failed_login: bool,
}

impl Told {
    fn new(status: u16, body: Value) -> Told {
        Told { status, retry_after: None, body, is_failed_login: false }
    }

    fn refused(status: u16, code: u32, message: &str) -> Told {
        let body = json!({
            "errorCode": code,
            "trackingId": random_id(),
            "message": message,
            "timestampUtc": time().to_string(),
        });
        Told::new(status, body)
    }

    fn again(self, seconds: u32) -> Told {
        Told { retry_after: Some(seconds), ..self }
    }
}

/// Returns what a device is told of a step. Who is not registered is logged.
async fn told(served: &Arc<Served>, asked: Registering) -> Result<Told, HubError> {
    let (id, step, address) = (asked.id.clone(), asked.step.clone(), asked.address);
    if !served.throttle.take("devices that register", Operation::Registry) {
        return Ok(Told::refused(429, 429_001, "too many registrations: wait a moment").again(BUSY_SECONDS));
    }
    let makes = step == RegistrationStep::Register;
    let register = move |desk: &mut Desk<'_>| {
        let from = asked.address.to_string();
        let shown = Shown { token: asked.token.as_deref(), chain: &asked.chain, address: &from };
        desk.register((&asked.scope, &asked.id), makes, shown, time())
    };
    let found = if makes { served.desks.write(register).await? } else { served.desks.read(register).await? };
    if let Err(reason) = found
        && !(step == RegistrationStep::Admission && reason == NotRegistered::Never)
    {
        let device = sanitize_line(&id);
        tracing::warn!(target: LOG_TARGET, %address, %device, %reason, "a device is not registered");
    }
    if found.as_ref().is_ok_and(|registration| registration.is_new) {
        served.noted();
    }
    let state = match found {
        Ok(registration) => assigned(&registration, &id),
        Err(NotRegistered::Disabled) => disabled(&id),
        // It may, and has not yet.
        Err(NotRegistered::Never) if step == RegistrationStep::Admission => Value::Null,
        Err(reason) => return Ok(refused(reason)),
    };
    Ok(match step {
        RegistrationStep::Admission => Told::new(200, json!({})),
        RegistrationStep::Register => {
            let operation = format!("5.{}", random_id());
            Told::new(202, json!({"operationId": operation, "status": "assigning"})).again(POLL_SECONDS)
        }
        RegistrationStep::Operation { operation } => {
            let body = json!({"operationId": operation, "status": state["status"], "registrationState": state});
            Told::new(200, body)
        }
        RegistrationStep::State => Told::new(200, state),
    })
}

/// Returns what a device is told that is not registered.
fn refused(reason: NotRegistered) -> Told {
    let told = match reason {
        NotRegistered::Off | NotRegistered::Scope | NotRegistered::Id | NotRegistered::Never => {
            Told::refused(404, 404_201, "there is no such enrollment")
        }
        NotRegistered::Token | NotRegistered::Certificate | NotRegistered::CommonName | NotRegistered::Nothing => {
            Told::refused(401, 401_002, "Unauthorized")
        }
        NotRegistered::Disabled => Told::refused(403, DISABLED, "the device is disabled"),
        NotRegistered::TooMany { seconds } => {
            Told::refused(429, 429_001, "too many new devices: wait a moment").again(seconds)
        }
    };
    Told { is_failed_login: reason.is_failed_login(), ..told }
}

fn assigned(registration: &Registration, id: &str) -> Value {
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

/// Returns the state of a registration whose device is disabled: it has failed, and clients do not try again.
fn disabled(id: &str) -> Value {
    let at = time().to_string();
    json!({
        "registrationId": id,
        "status": "failed",
        "errorCode": DISABLED,
        "errorMessage": "the device is disabled",
        "createdDateTimeUtc": at,
        "lastUpdatedDateTimeUtc": at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registrations_are_known_by_their_paths() {
        let of = |step| Some((step, "s", "d"));
        assert_eq!(step("PUT", &["s", "registrations", "d", "register"]), of(RegistrationStep::Register));
        let operation = RegistrationStep::Operation { operation: "5.0".to_string() };
        assert_eq!(step("GET", &["s", "registrations", "d", "operations", "5.0"]), of(operation));
        assert_eq!(step("POST", &["s", "registrations", "d"]), of(RegistrationStep::State));
        assert_eq!(step("GET", &["s", "registrations", "d"]), None);
        assert_eq!(step("PUT", &["devices", "d"]), None);
    }
}
