//! Which path is what.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha1::{Digest as _, Sha1};
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::CertificateDer;

use super::answer::{self, Fault, random_id};
use super::asked::{Asked, Served, time};
use super::{LOG_TARGET, identities, jobs, messages, provisioning, queries, twins};
use crate::link::Registering;
use crate::model::encoding::percent_decoded;
use crate::model::text::sanitize_line;
use crate::ops::hub::Caller;

const BODY_BYTES_MAX: usize = 256 * 1024;
const BULK_BYTES_MAX: usize = 2 * 1024 * 1024;
const BODY_TIME_MAX: Duration = Duration::from_secs(30);
/// How much of a body that is too large is read and dropped: a client that still sends does not hear why it is refused.
const DROPPED_BYTES_MAX: usize = 16 * 1024 * 1024;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-ms-request-id");

/// Where a device opens a WebSocket for MQTT.
const WEBSOCKET: &str = "/$iothub/websocket";

/// Who has made a connection.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: SocketAddr,
    /// The certificate that it has the key of, with those that sign it; empty for none.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Returns the routes for a connection.
pub fn router(served: Arc<Served>, client: Client) -> Router {
    let handle = move |request: Request| {
        let (served, client) = (Arc::clone(&served), client.clone());
        async move {
            match request.uri().path() == WEBSOCKET && request.method() == Method::GET {
                true => upgrade(&served, client, request).unwrap_or_else(Fault::into_response),
                false => respond(served, client, request).await,
            }
        }
    };
    Router::new().fallback(handle)
}

/// Takes a connection of a device over to MQTT (RFC 6455, 4.2). Who it is is asked there.
fn upgrade(served: &Arc<Served>, client: Client, mut request: Request) -> Result<Response, Fault> {
    let header =
        |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let has = |name: HeaderName, word: &str| header(name).split(',').any(|one| one.trim().eq_ignore_ascii_case(word));
    let key = header(header::SEC_WEBSOCKET_KEY).to_string();
    let is_upgrade = has(header::UPGRADE, "websocket") && has(header::CONNECTION, "upgrade");
    if !is_upgrade || key.is_empty() || !has(header::SEC_WEBSOCKET_VERSION, "13") {
        return Err(Fault::argument("this is where devices open a WebSocket of version 13"));
    }
    if !has(header::SEC_WEBSOCKET_PROTOCOL, "mqtt") {
        return Err(Fault::argument("the subprotocol of the WebSocket is `mqtt`, and AMQP is not spoken"));
    }
    let (switchboard, upgraded) = (served.switchboard.clone(), hyper::upgrade::on(&mut request));
    tokio::spawn(async move {
        if let Ok(upgraded) = upgraded.await {
            switchboard.serve_websocket(TokioIo::new(upgraded), client.address, client.chain);
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("mqtt"));
    if let Ok(accept) = HeaderValue::from_str(&accept_key(&key)) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    Ok(response)
}

/// Returns what a server answers to the key of a handshake (RFC 6455, 4.2.2).
fn accept_key(key: &str) -> String {
    STANDARD.encode(Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")))
}

async fn respond(served: Arc<Served>, client: Client, request: Request) -> Response {
    let peer = client.address;
    let (method, path) = (request.method().clone(), request.uri().path().to_string());
    let (policy, result) = match answered(&served, client, request).await {
        (policy, Ok(response)) => (policy, response),
        (policy, Err(fault)) => {
            if policy.is_none() && fault.status() == StatusCode::UNAUTHORIZED {
                served.throttle.count_failure(peer.ip());
            }
            (policy, fault.into_response())
        }
    };
    let (policy, request_id) =
        policy.map_or_else(|| (String::new(), random_id()), |caller| (caller.policy, caller.request_id));
    let path = sanitize_line(&path).into_owned();
    let status = result.status().as_u16();
    if method == Method::GET && status < 400 || status == 404 {
        tracing::debug!(target: LOG_TARGET, %peer, %policy, %method, %path, status, "asked");
    } else {
        tracing::info!(target: LOG_TARGET, %peer, %policy, %method, %path, status, "asked");
    }
    let mut response = result;
    if let Ok(request_id) = HeaderValue::from_str(&request_id) {
        response.headers_mut().insert(REQUEST_ID, request_id);
    }
    response
}

/// Returns the answer, and who is let in.
async fn answered(served: &Arc<Served>, client: Client, request: Request) -> (Option<Caller>, Result<Response, Fault>) {
    let Client { address: peer, chain } = client;
    let (head, body) = request.into_parts();
    let path = head.uri.path();
    let decoded = percent_decoded(path).unwrap_or_default();
    if served.throttle.is_out(peer.ip()) {
        let sentence = "too many failed logins from this address: wait a minute";
        return (None, Err(Fault::throttled("ThrottlingException", sentence, 60)));
    }
    let parts = segments(path);
    let segments: Vec<&str> = parts.iter().flatten().map(String::as_str).collect();
    if let Some((step, scope, id)) = provisioning::step(head.method.as_str(), &segments) {
        let token = head.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_string);
        let (scope, id) = (scope.to_string(), id.to_string());
        let asked = Registering { scope, id, step, token, chain, address: peer.ip() };
        return (None, provisioning::answer(served, asked).await);
    }
    let rules = match served.access.rules(&served.desks).await {
        Ok(rules) => rules,
        Err(error) => return (None, Err(error.into())),
    };
    let admitted = match rules.admit(&decoded, &head.headers, peer, now()) {
        Ok(admitted) => admitted,
        Err(fault) => return (None, Err(fault)),
    };
    let policy = Some(admitted.caller.clone());
    if parts.is_none() {
        return (policy, Err(Fault::argument("the address is not percent-encoded as it should be")));
    }
    let is_bulk = head.method == Method::POST && segments == ["devices"];
    let most = if is_bulk { BULK_BYTES_MAX } else { BODY_BYTES_MAX };
    let body = match read(body, most).await {
        Ok(body) => body,
        Err(fault) => return (policy, Err(fault)),
    };
    let parameters = parameters(head.uri.query().unwrap_or_default());
    let asked = Asked { served: Arc::clone(served), rules, admitted, headers: head.headers, parameters, body };
    if !asked.parameter("api-version").is_some_and(is_version) {
        let sentence = "the parameter `api-version` is a date such as 2021-04-12";
        return (policy, Err(Fault::new(StatusCode::BAD_REQUEST, "InvalidProtocolVersion", sentence)));
    }
    (policy, dispatch(&asked, &head.method, &segments).await)
}

async fn dispatch(asked: &Asked, method: &Method, segments: &[&str]) -> Result<Response, Fault> {
    match (method.as_str(), segments) {
        ("GET", ["jobs"] | ["configurations"]) => Ok(answer::ok(&Value::Array(Vec::new()))),
        ("GET", ["jobs", "v2", "query"]) => jobs::list(asked).await,
        ("PUT", ["jobs", "v2", id]) => jobs::put(asked, id).await,
        ("GET", ["jobs", "v2", id]) => jobs::get(asked, id).await,
        ("POST", ["jobs", "v2", id, "cancel"]) => jobs::cancel(asked, id).await,
        ("POST", ["devices", "query"]) => queries::query(asked).await,
        ("GET", ["devices"]) => identities::list(asked).await,
        ("POST", ["devices"]) => identities::bulk(asked).await,
        ("GET", ["devices", id]) => identities::get(asked, id).await,
        ("PUT", ["devices", id]) => identities::put(asked, id).await,
        ("DELETE", ["devices", id]) => identities::delete(asked, id).await,
        ("POST", ["devices", id, "messages", "devicebound"]) => messages::send(asked, id).await,
        ("DELETE", ["devices", id, "commands"]) => messages::purge(asked, id).await,
        ("GET", ["twins", id]) => twins::get(asked, id).await,
        ("PATCH", ["twins", id]) => twins::write(asked, id, false).await,
        ("PUT", ["twins", id]) => twins::write(asked, id, true).await,
        ("POST", ["twins", id, "methods"]) => twins::call(asked, id).await,
        ("GET", ["statistics", "devices"]) => identities::statistics(asked).await,
        ("GET", ["statistics", "service"]) => identities::connected(asked),
        ("GET", ["messages", "serviceBound", "feedback"]) => Ok(answer::nothing()),
        ("GET", ["configurations", id]) => {
            let sentence = format!("there is no configuration `{id}`: here it is a Job");
            Err(Fault::new(StatusCode::NOT_FOUND, "ConfigurationNotFound", sentence))
        }
        _ => Err(refused(method, segments)),
    }
}

/// Returns why a path is not served, with what there is in its place.
fn refused(method: &Method, segments: &[&str]) -> Fault {
    match segments {
        ["devices" | "twins", _, "modules", ..] => {
            Fault::refused("modules do not exist here: an `edgeManifest` job says what runs on an IoT Edge device")
        }
        ["devices", _, "applyConfigurationContent"] => {
            Fault::refused("the content of an IoT Edge device is set by a job with `action.edgeManifest`")
        }
        ["configurations", ..] => {
            Fault::refused("configurations do not exist here: commit a Job, or convert yours with `fleetform convert`")
        }
        ["enrollments" | "enrollmentGroups", ..] => Fault::refused(
            "enrollments are `provisioning.groups` of the fleet's document, and devices that are there already",
        ),
        ["digitaltwins", ..] => {
            Fault::refused("use the twins, as `/twins/ID`: components are members of it with a mark")
        }
        ["jobs", "create"] => Fault::refused(
            "devices are imported with a DeviceImport document, and exported with `fleetform device export`",
        ),
        ["devices", _, "files", ..] => Fault::refused("there is no file upload here"),
        ["devices", _, "messages", "events"] => Fault::refused("telemetry comes over MQTT here"),
        ["jobs", id] => {
            Fault::new(StatusCode::NOT_FOUND, "JobNotFound", format!("there is no import or export job `{id}`"))
        }
        ["devices", ..] | ["twins", ..] | ["jobs", ..] | ["statistics", ..] => Fault::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "InvalidOperation",
            format!("{method} is not possible of this address"),
        ),
        _ => Fault::new(StatusCode::NOT_FOUND, "NotFound", "there is nothing at this address"),
    }
}

/// Returns the parts of a path, decoded; a slash at the end is none.
fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.trim_start_matches('/');
    let path = path.strip_suffix('/').unwrap_or(path);
    path.split('/').map(percent_decoded).collect()
}

fn parameters(query: &str) -> Vec<(String, String)> {
    let decode = |text: &str| percent_decoded(&text.replace('+', " ")).unwrap_or_default();
    let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.map(|(name, value)| (decode(name), decode(value))).collect()
}

/// Returns true for a version of IoT Hub's API: `20yy-mm-dd`, with `-preview` or without. All are answered alike.
fn is_version(text: &str) -> bool {
    let date = text.strip_suffix("-preview").unwrap_or(text);
    let is_digit = |at: usize, byte: u8| if at == 4 || at == 7 { byte == b'-' } else { byte.is_ascii_digit() };
    date.len() == 10 && date.starts_with("20") && date.bytes().enumerate().all(|(at, byte)| is_digit(at, byte))
}

async fn read(body: Body, most: usize) -> Result<Vec<u8>, Fault> {
    timeout(BODY_TIME_MAX, received(body, most)).await.unwrap_or_else(|_| {
        Err(Fault::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", "the body did not arrive in time"))
    })
}

async fn received(mut body: Body, most: usize) -> Result<Vec<u8>, Fault> {
    let (mut bytes, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Fault::argument("the body did not arrive"))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= most {
            bytes.extend_from_slice(&data);
        } else if length > DROPPED_BYTES_MAX {
            break;
        }
    }
    if length <= most {
        return Ok(bytes);
    }
    let sentence = format!("the body has more than {most} bytes");
    Err(Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "MessageTooLarge", sentence))
}

/// Returns the seconds since 1970.
fn now() -> i64 {
    time().as_second()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_versions_are_read_as_clients_write_them() {
        // The example of the RFC.
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(segments("/devices/"), Some(vec!["devices".to_string()]));
        assert_eq!(segments("/devices/a%2Fb%23/"), Some(vec!["devices".to_string(), "a/b#".to_string()]));
        assert_eq!(segments("/devices/%zz"), None);
        for good in ["2021-04-12", "2024-03-31", "2021-11-30-preview"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "2021", "21-04-12", "2021-4-12", "2021-04-12x", "1999-01-01"] {
            assert!(!is_version(bad), "{bad}");
        }
        assert_eq!(parameters("a=b%20c&d"), [("a".into(), "b c".into()), ("d".into(), String::new())]);
    }
}
