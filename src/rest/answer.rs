//! Answers, and faults in the one shape that all clients of IoT Hub can read.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::LOG_TARGET;
use crate::model::text::{sanitize_line, shorten};
use crate::ops::OpsError;
use crate::ops::hub::HubError;

/// Node parses nothing without the charset.
const JSON: &str = "application/json; charset=utf-8";
const ERROR_CODE: HeaderName = HeaderName::from_static("iothub-errorcode");
pub const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");
pub const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
/// Characters of a sentence in a fault.
const SENTENCE_CHARS_MAX: usize = 1_000;

/// Why a request is not served.
#[derive(Debug)]
pub struct Fault {
    status: StatusCode,
    /// IoT Hub's name of it.
    name: &'static str,
    /// What to do about it.
    sentence: String,
    /// In how many seconds it may be tried again.
    retry_after: Option<u32>,
}

impl Fault {
    pub fn new(status: StatusCode, name: &'static str, sentence: impl Into<String>) -> Fault {
        Fault { status, name, sentence: sentence.into(), retry_after: None }
    }

    /// 400.
    pub fn argument(sentence: impl Into<String>) -> Fault {
        Fault::new(StatusCode::BAD_REQUEST, "ArgumentInvalid", sentence)
    }

    /// 501: never a 500, which clients send again.
    pub fn refused(sentence: impl Into<String>) -> Fault {
        Fault::new(StatusCode::NOT_IMPLEMENTED, "InvalidOperation", sentence)
    }

    /// 401.
    pub fn unauthorized(sentence: impl Into<String>) -> Fault {
        Fault::new(StatusCode::UNAUTHORIZED, "IotHubUnauthorizedAccess", sentence)
    }

    /// 429, to be tried again in so many seconds.
    pub fn throttled(name: &'static str, sentence: impl Into<String>, seconds: u32) -> Fault {
        Fault { retry_after: Some(seconds), ..Fault::new(StatusCode::TOO_MANY_REQUESTS, name, sentence) }
    }

    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// Returns the answer.
    pub fn into_response(self) -> Response {
        // `;` and `:` are where clients cut the message.
        let sentence = sanitize_line(&self.sentence).replace(['\n', '\r'], " ").replace(';', ",");
        let sentence = shorten(&sentence, SENTENCE_CHARS_MAX);
        let at = jiff_now();
        let tracking = random_id();
        let body = json!({
            "Message": format!("ErrorCode:{};{sentence}", self.name),
            "ExceptionMessage": format!("Tracking ID:{tracking}-TimeStamp:{at}"),
        });
        let mut response = answer(self.status, &body);
        let headers = response.headers_mut();
        headers.insert(ERROR_CODE, HeaderValue::from_static(self.name));
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("SharedAccessSignature"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[expect(clippy::disallowed_methods, reason = "an answer says when it was given")]
fn jiff_now() -> String {
    jiff::Timestamp::now().strftime("%m/%d/%Y %H:%M:%S").to_string()
}

/// Returns 32 hex digits that nothing else has.
pub fn random_id() -> String {
    let mut drawn = [0; 16];
    // One without a name of its own is as good.
    let _random = getrandom::fill(&mut drawn);
    crate::model::encoding::hex(&drawn)
}

impl From<HubError> for Fault {
    fn from(error: HubError) -> Fault {
        let sentence = error.to_string();
        match error {
            HubError::Argument(_) => Fault::argument(sentence),
            HubError::TooLarge(_) => Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "MessageTooLarge", sentence),
            HubError::NoDevice(_) => Fault::new(StatusCode::NOT_FOUND, "DeviceNotFound", sentence),
            HubError::NoJob(_) => Fault::new(StatusCode::NOT_FOUND, "JobNotFound", sentence),
            HubError::JobExists(_) => Fault::new(StatusCode::CONFLICT, "JobAlreadyExists", sentence),
            HubError::DeviceExists(_) => Fault::new(StatusCode::CONFLICT, "DeviceAlreadyExists", sentence),
            HubError::QueueFull(_) => Fault::new(StatusCode::FORBIDDEN, "DeviceMaximumQueueDepthExceeded", sentence),
            HubError::Stale => Fault::new(StatusCode::PRECONDITION_FAILED, "PreconditionFailed", sentence),
            HubError::Conflict(_) => Fault::throttled("ThrottlingMaxActiveJobCountExceeded", sentence, 10),
            HubError::Refused(_) => Fault::new(StatusCode::FORBIDDEN, "InvalidOperation", sentence),
            HubError::State(_) => Fault::new(StatusCode::BAD_REQUEST, "OperationNotAllowedInCurrentState", sentence),
            HubError::Unavailable(_) => Fault::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", sentence),
            HubError::Ops(OpsError::Invalid(_)) => {
                let sentence = "the Fleet document of the newest commit has errors: `fleetform validate` shows them";
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", sentence)
            }
            HubError::Ops(error) => {
                tracing::warn!(target: LOG_TARGET, %error, "a back end cannot be served");
                let sentence = "the gateway cannot do this now, and its log says why: try again";
                Fault::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", sentence)
            }
        }
    }
}

/// Returns a value as JSON.
pub fn json_of(value: &(impl Serialize + ?Sized)) -> Vec<u8> {
    serde_json::to_vec(value).expect("the keys of what is answered are texts")
}

/// An array of JSON that is written item by item.
#[derive(Debug, Default)]
pub struct JsonItems {
    json: Vec<u8>,
    count: usize,
}

impl JsonItems {
    pub fn push(&mut self, item: &impl Serialize) {
        self.json.push(if self.count == 0 { b'[' } else { b',' });
        serde_json::to_writer(&mut self.json, item).expect("the keys of what is answered are texts");
        self.count += 1;
    }

    /// Returns the number of items, and the array.
    pub fn end(mut self) -> (usize, Vec<u8>) {
        self.json.extend_from_slice(if self.count == 0 { b"[]" } else { b"]" });
        (self.count, self.json)
    }
}

/// Returns an answer with a body.
pub fn answer(status: StatusCode, body: &(impl Serialize + ?Sized)) -> Response {
    answer_of(status, json_of(body))
}

fn answer_of(status: StatusCode, json: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(json));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(JSON));
    response
}

/// Returns an answer with a body, 200.
pub fn ok(body: &(impl Serialize + ?Sized)) -> Response {
    answer(StatusCode::OK, body)
}

/// Returns an answer with a body and its ETag, 200.
pub fn tagged(body: &(impl Serialize + ?Sized), etag: &str) -> Response {
    let mut response = ok(body);
    if let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// Returns an answer without a body, 204.
pub fn nothing() -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Returns a page of a list: what its items are, and where the next page begins.
pub fn page(items: &[Value], item_type: &'static str, continuation: Option<String>) -> Response {
    page_of(json_of(items), item_type, continuation)
}

/// Returns a page of items that are JSON already.
pub fn page_of(json: Vec<u8>, item_type: &'static str, continuation: Option<String>) -> Response {
    let mut response = answer_of(StatusCode::OK, json);
    let headers = response.headers_mut();
    headers.insert(ITEM_TYPE, HeaderValue::from_static(item_type));
    // Node asks for ever when it is there and empty.
    if let Some(Ok(token)) = continuation.map(|token| HeaderValue::from_str(&token)) {
        headers.insert(CONTINUATION, token);
    }
    response
}

/// What `If-Match` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    Absent,
    /// `*` or `"*"`.
    Any,
    Etag(String),
}

impl IfMatch {
    pub fn of(headers: &HeaderMap) -> IfMatch {
        let text = headers.get(header::IF_MATCH).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
        match text.trim_matches('"') {
            "" => IfMatch::Absent,
            "*" => IfMatch::Any,
            etag => IfMatch::Etag(etag.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_if_match_is_read_in_all_its_forms() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
            IfMatch::of(&headers)
        };
        assert_eq!(IfMatch::of(&HeaderMap::new()), IfMatch::Absent);
        for any in ["*", "\"*\""] {
            assert_eq!(of(any), IfMatch::Any);
        }
        assert_eq!(of("\"AAA=\""), IfMatch::Etag("AAA=".to_string()));
        assert_eq!(of("AAA="), IfMatch::Etag("AAA=".to_string()));
    }

    #[test]
    fn an_array_is_written_item_by_item() {
        let mut items = JsonItems::default();
        assert_eq!(JsonItems::default().end(), (0, b"[]".to_vec()));
        items.push(&json!({"a": 1}));
        items.push(&json!("b"));
        assert_eq!(items.end(), (2, br#"[{"a":1},"b"]"#.to_vec()));
    }

    #[test]
    fn a_fault_is_cut_nowhere_but_where_it_must() {
        let response = Fault::argument("one; two\nthree").into_response();
        assert_eq!(response.headers()["iothub-errorcode"], "ArgumentInvalid");
        assert_eq!(response.headers()[header::CONTENT_TYPE], JSON);
    }
}
