//! Webhooks: a call that proves that it knows the secret rings the bell, and does nothing else.
//!
//! GitHub, and clients of the same protocol (Gitea, Forgejo, a script): HMAC-SHA-256 over the body as it came, in hex,
//! in `X-Hub-Signature-256` (<https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>).
//! GitLab: the secret itself in `X-Gitlab-Token` (<https://docs.gitlab.com/user/project/integrations/webhooks/>). The
//! body is hashed piece by piece and never stored.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::{Instant, timeout};

use super::sentence::sentence;
use super::status_handle::StatusHandle;
use super::{Bell, Bounds};
use crate::model::limits::WEBHOOK_SECRET_CHARS_MIN;
use crate::model::status;

/// The secret that webhooks are signed with, and the previous one while callers change over.
pub struct WebhookSecrets {
    current: String,
    previous: Option<String>,
}

/// Why a secret cannot be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    #[error("it has {chars} characters, and must have at least {WEBHOOK_SECRET_CHARS_MIN}")]
    Short { chars: usize },
    #[error("it has a control character or a space at its start or end, which is hardly meant")]
    Unprintable,
}

impl WebhookSecrets {
    /// Returns the secrets.
    ///
    /// # Errors
    /// [`SecretError::Short`], and [`SecretError::Unprintable`]: a line feed that a file left behind would make every
    /// signature wrong.
    pub fn new(current: &str, previous: Option<&str>) -> Result<WebhookSecrets, SecretError> {
        for secret in [Some(current), previous].into_iter().flatten() {
            let chars = secret.chars().count();
            if chars < WEBHOOK_SECRET_CHARS_MIN {
                return Err(SecretError::Short { chars });
            }
            if secret.trim() != secret || secret.chars().any(char::is_control) {
                return Err(SecretError::Unprintable);
            }
        }
        Ok(WebhookSecrets { current: current.to_string(), previous: previous.map(str::to_string) })
    }

    fn each(&self) -> impl Iterator<Item = &str> {
        [Some(self.current.as_str()), self.previous.as_deref()].into_iter().flatten()
    }
}

impl fmt::Debug for WebhookSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookSecrets").field("has_previous", &self.previous.is_some()).finish_non_exhaustive()
    }
}

/// The kind of caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    Github,
    Gitlab,
    Generic,
}

impl Endpoint {
    pub const ALL: [Endpoint; 3] = [Endpoint::Github, Endpoint::Gitlab, Endpoint::Generic];

    pub fn path(self) -> &'static str {
        match self {
            Endpoint::Github => "/hooks/github",
            Endpoint::Gitlab => "/hooks/gitlab",
            Endpoint::Generic => "/hooks/generic",
        }
    }
}

/// The webhooks of a server.
pub struct Webhooks {
    handle: StatusHandle,
    bell: Bell,
    secrets: WebhookSecrets,
    bounds: Bounds,
    rates: Mutex<Rates>,
}

/// The numbers of recent calls.
#[derive(Debug, Default)]
struct Rates {
    /// As in [`Endpoint::ALL`].
    accepted: [Window; 3],
    refused: Window,
}

/// Calls of one minute.
#[derive(Debug, Default)]
struct Window {
    /// When the minute began; `None` before the first call.
    began: Option<Instant>,
    calls: u32,
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WebhookRefusal {
    /// No signature, more than one, a malformed or a wrong one. The answer does not say which.
    Unproven,
    TooLarge,
    Slow,
    /// The body does not end as HTTP requires.
    Broken,
}

impl Webhooks {
    pub fn new(handle: StatusHandle, bell: Bell, secrets: WebhookSecrets, bounds: Bounds) -> Webhooks {
        Webhooks { handle, bell, secrets, bounds, rates: Mutex::default() }
    }

    /// Answers a call.
    pub async fn hear(&self, endpoint: Endpoint, request: Request) -> Response {
        let is_ping = endpoint == Endpoint::Github && one(request.headers(), "x-github-event") == Some(b"ping");
        match self.prove(endpoint, request).await {
            Ok(()) if is_ping => {
                self.count(|webhooks| webhooks.pinged += 1);
                sentence(StatusCode::OK, "The signature is right. Pushes will be heard.")
            }
            Ok(()) => self.accept(endpoint),
            Err(refusal) => self.refuse(endpoint, refusal),
        }
    }

    /// Reads the body to its end, within the bounds, and holds it against the proof in the headers.
    async fn prove(&self, endpoint: Endpoint, request: Request) -> Result<(), WebhookRefusal> {
        let (parts, body) = request.into_parts();
        let announced = one(&parts.headers, header::CONTENT_LENGTH.as_str());
        let announced = announced.and_then(|text| std::str::from_utf8(text).ok()?.parse::<u64>().ok());
        if announced.is_some_and(|bytes| bytes > self.bounds.body_bytes_max) {
            return Err(WebhookRefusal::TooLarge);
        }
        // The body of a caller without a proof is not read.
        let proof = Proof::begin(endpoint, &parts.headers, &self.secrets).ok_or(WebhookRefusal::Unproven)?;
        let read = self.read(body, proof);
        let proof = timeout(self.bounds.body_time_max, read).await.map_err(|_| WebhookRefusal::Slow)??;
        if proof.holds() { Ok(()) } else { Err(WebhookRefusal::Unproven) }
    }

    async fn read(&self, mut body: Body, mut proof: Proof) -> Result<Proof, WebhookRefusal> {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| WebhookRefusal::Broken)?;
            if let Some(data) = frame.data_ref() {
                bytes += data.len() as u64;
                if bytes > self.bounds.body_bytes_max {
                    return Err(WebhookRefusal::TooLarge);
                }
                proof.update(data);
            }
        }
        Ok(proof)
    }

    /// Rings the bell, unless this endpoint rang it too often: the daemon finds the commit at the next interval.
    fn accept(&self, endpoint: Endpoint) -> Response {
        let calls_max = self.bounds.accepted_per_minute_max;
        let wait = self.with_rates(|rates| rates.accepted[endpoint as usize].enter(Instant::now(), calls_max));
        match wait {
            None => {
                self.count(|webhooks| webhooks.accepted += 1);
                (self.bell)();
                tracing::debug!(target: super::LOG_TARGET, path = endpoint.path(), "a webhook is heard");
                sentence(StatusCode::ACCEPTED, "Heard.")
            }
            Some(wait) => {
                self.count(|webhooks| webhooks.limited += 1);
                too_many(wait)
            }
        }
    }

    /// Refuses a call. Valid calls are never answered here, so that a flood of invalid ones does not lock them out.
    fn refuse(&self, endpoint: Endpoint, refusal: WebhookRefusal) -> Response {
        self.count(|webhooks| webhooks.refused += 1);
        let calls_max = self.bounds.refused_per_minute_max;
        if let Some(wait) = self.with_rates(|rates| rates.refused.enter(Instant::now(), calls_max)) {
            return too_many(wait);
        }
        tracing::info!(target: super::LOG_TARGET, path = endpoint.path(), reason = ?refusal, "a webhook is refused");
        match refusal {
            WebhookRefusal::Unproven => {
                sentence(StatusCode::UNAUTHORIZED, "The signature or token is missing or wrong.")
            }
            WebhookRefusal::TooLarge => sentence(StatusCode::PAYLOAD_TOO_LARGE, "The body is too large."),
            WebhookRefusal::Slow => sentence(StatusCode::REQUEST_TIMEOUT, "The body took too long."),
            WebhookRefusal::Broken => sentence(StatusCode::BAD_REQUEST, "The body is broken."),
        }
    }

    fn count(&self, change: impl FnOnce(&mut status::WebhookCounts)) {
        self.handle.update(|snapshot| change(&mut snapshot.counters.webhooks));
    }

    fn with_rates<T>(&self, work: impl FnOnce(&mut Rates) -> T) -> T {
        work(&mut self.rates.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn too_many(wait: Duration) -> Response {
    let mut response = sentence(StatusCode::TOO_MANY_REQUESTS, "There are too many calls. Wait, and call again.");
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    response
}

impl Window {
    const LENGTH: Duration = Duration::from_secs(60);

    /// Counts a call; returns how long to wait when there were `calls_max` in this minute.
    fn enter(&mut self, now: Instant, calls_max: u32) -> Option<Duration> {
        let age = self.began.map(|began| now.duration_since(began)).filter(|age| *age < Window::LENGTH);
        let Some(age) = age else {
            *self = Window { began: Some(now), calls: 1 };
            return None;
        };
        if self.calls >= calls_max {
            return Some(Window::LENGTH - age);
        }
        self.calls += 1;
        None
    }
}

/// The proof that a caller knows the secret. Comparing takes the same time wherever the first difference is.
enum Proof {
    /// A signature, and the hashes of the body under each secret so far.
    Signature { signature: [u8; 32], hashes: Vec<Hmac<Sha256>> },
    /// It was the secret itself.
    Token,
}

impl Proof {
    /// Returns the proof that the headers begin; `None` when they have none, a malformed one or a wrong token.
    fn begin(endpoint: Endpoint, headers: &HeaderMap, secrets: &WebhookSecrets) -> Option<Proof> {
        match endpoint {
            Endpoint::Github | Endpoint::Generic => {
                let signature = signature(one(headers, "x-hub-signature-256")?)?;
                let hash =
                    |secret: &str| Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
                Some(Proof::Signature { signature, hashes: secrets.each().map(hash).collect() })
            }
            Endpoint::Gitlab => {
                let token = Sha256::digest(one(headers, "x-gitlab-token")?);
                // Digests have one length, so that not even the length of the secret can be measured; and no secret is
                // skipped.
                let is_known = secrets.each().fold(false, |is_known, secret| {
                    is_known | bool::from(Sha256::digest(secret.as_bytes()).as_slice().ct_eq(token.as_slice()))
                });
                is_known.then_some(Proof::Token)
            }
        }
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Proof::Signature { signature: _, hashes } => hashes.iter_mut().for_each(|hash| hash.update(data)),
            Proof::Token => {}
        }
    }

    fn holds(self) -> bool {
        match self {
            Proof::Signature { signature, hashes } => {
                hashes.into_iter().fold(false, |is_right, hash| is_right | hash.verify_slice(&signature).is_ok())
            }
            Proof::Token => true,
        }
    }
}

/// Returns the value of a header that is there exactly once.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value.as_bytes()),
        _ => None,
    }
}

/// Returns the 32 bytes of `sha256=` and 64 hex digits.
fn signature(text: &[u8]) -> Option<[u8; 32]> {
    let hex = text.strip_prefix(b"sha256=").filter(|hex| hex.len() == 64)?;
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
        let digit = |at: usize| char::from(digits[at]).to_digit(16);
        *byte = u8::try_from(digit(0)? * 16 + digit(1)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of GitHub's documentation.
    const SECRET: &str = "It's a Secret to Everybody";
    const SIGNATURE: &str = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn holds(endpoint: Endpoint, secrets: &WebhookSecrets, headers: &[(&'static str, &str)], body: &[&str]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        let Some(mut proof) = Proof::begin(endpoint, &map, secrets) else { return false };
        body.iter().for_each(|part| proof.update(part.as_bytes()));
        proof.holds()
    }

    #[test]
    fn signatures_are_those_of_github() {
        let secrets = WebhookSecrets::new(SECRET, None).unwrap();
        let check = |signature: &str, body: &[&str], expect: bool| {
            let headers = [("x-hub-signature-256", signature)];
            for endpoint in [Endpoint::Github, Endpoint::Generic] {
                assert_eq!(holds(endpoint, &secrets, &headers, body), expect, "{signature} {body:?}");
            }
        };
        check(SIGNATURE, &["Hello, World!"], true);
        check(SIGNATURE, &["Hello", ", World!"], true);
        check(&SIGNATURE.to_uppercase().replace("SHA", "sha"), &["Hello, World!"], true);
        check(SIGNATURE, &["Hello, World"], false);
        check(SIGNATURE, &[], false);
        check(&SIGNATURE.replace("sha256=", ""), &["Hello, World!"], false);
        check(&SIGNATURE.replace("sha256", "sha1"), &["Hello, World!"], false);
        check(&SIGNATURE[..SIGNATURE.len() - 2], &["Hello, World!"], false);
        check(&SIGNATURE.replace("7571", "757g"), &["Hello, World!"], false);
        check("sha256=", &["Hello, World!"], false);
        assert!(!holds(Endpoint::Github, &secrets, &[], &["Hello, World!"]));
        let twice = [("x-hub-signature-256", SIGNATURE), ("x-hub-signature-256", SIGNATURE)];
        assert!(!holds(Endpoint::Github, &secrets, &twice, &["Hello, World!"]));
        // The secret itself is no proof where a signature is asked for.
        assert!(!holds(Endpoint::Generic, &secrets, &[("x-gitlab-token", SECRET)], &[]));
    }

    #[test]
    fn the_secret_before_is_good_while_it_is_named() {
        let other = "a-secret-of-now-0123";
        let both = WebhookSecrets::new(other, Some(SECRET)).unwrap();
        let now = WebhookSecrets::new(other, None).unwrap();
        let headers = [("x-hub-signature-256", SIGNATURE)];
        assert!(holds(Endpoint::Github, &both, &headers, &["Hello, World!"]));
        assert!(!holds(Endpoint::Github, &now, &headers, &["Hello, World!"]));
        for (token, by_both, by_now) in
            [(SECRET, true, false), (other, true, true), ("x", false, false), ("", false, false)]
        {
            let headers = [("x-gitlab-token", token)];
            assert_eq!(holds(Endpoint::Gitlab, &both, &headers, &["x"]), by_both, "{token}");
            assert_eq!(holds(Endpoint::Gitlab, &now, &headers, &["x"]), by_now, "{token}");
        }
    }

    #[test]
    fn short_and_unprintable_secrets_are_refused_and_none_is_shown() {
        assert_eq!(WebhookSecrets::new("0123456789abcde", None).unwrap_err(), SecretError::Short { chars: 15 });
        assert_eq!(WebhookSecrets::new(SECRET, Some("")).unwrap_err(), SecretError::Short { chars: 0 });
        assert_eq!(WebhookSecrets::new("0123456789abcdef\n", None).unwrap_err(), SecretError::Unprintable);
        let shown = format!("{:?}", WebhookSecrets::new(SECRET, Some("0123456789abcdef")).unwrap());
        assert!(!shown.contains("Secret to") && !shown.contains("0123"), "{shown}");
    }

    #[test]
    fn a_minute_holds_so_many_calls() {
        let (mut window, start) = (Window::default(), Instant::now());
        let mut enter = |second: u64| window.enter(start + Duration::from_secs(second), 2);
        assert_eq!(enter(0), None);
        assert_eq!(enter(20), None);
        assert_eq!(enter(30), Some(Duration::from_secs(30)));
        assert_eq!(enter(59), Some(Duration::from_secs(1)));
        assert_eq!(enter(60), None);
        assert_eq!(enter(61), None);
        assert_eq!(enter(61), Some(Duration::from_secs(59)));
    }
}
