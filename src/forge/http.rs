//! One call of an API: its headers, and what its answer means.

use std::time::Duration;

use jiff::fmt::rfc2822;
use serde_json::Value;
use ureq::http::{HeaderMap, Request, Response, header};
use ureq::{Agent, Body};

use super::error::ForgeError;
use super::place::{Kind, Place};
use super::token::Token;
use crate::model::limits::{FORGE_ANSWER_BYTES_MAX, FORGE_PAUSE_MAX, HTTP_CONNECT_TIME_MAX};
use crate::model::text::{duration, sanitize_line, shorten};
use crate::tls::{HttpCalls, http_client};

/// The version of GitHub's API that the requests are of.
/// <https://docs.github.com/en/rest/about-the-rest-api/api-versions>
const GITHUB_VERSION: &str = "2022-11-28";
/// How long to wait when a forge does not say for how long: what GitHub asks of its clients.
/// <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>
const PAUSE_DEFAULT: Duration = Duration::from_secs(60);
/// Bytes of an error that are read for its message.
const ERROR_BYTES_MAX: u64 = 64 << 10;
/// Characters of such a message that are shown.
const MESSAGE_CHARS_MAX: usize = 200;

/// A request.
pub(super) struct Call<'a> {
    pub method: &'static str,
    /// Behind the address of the API, with `/` at its begin.
    pub path: &'a str,
    pub body: Option<&'a Value>,
    /// What it is for, as in "refuses to {doing}".
    pub doing: &'static str,
}

/// A client of one API.
#[derive(Debug)]
pub(super) struct Http {
    agent: Agent,
    kind: Kind,
    api: String,
    host: String,
    time_max: Duration,
}

impl Http {
    pub fn new(place: &Place, time_max: Duration) -> Http {
        // The token would go with a redirect, and to a proxy that is asked without encryption.
        let agent = http_client(HttpCalls { time_max, is_plain: place.is_plain(), skips_proxy: false });
        let (api, host) = (place.api().to_string(), place.host().to_string());
        Http { agent, kind: place.kind(), api, host, time_max }
    }

    /// Makes a call and returns what it answers; null for no content.
    ///
    /// # Errors
    /// Everything but a 2xx.
    pub fn call(&self, token: &Token, call: &Call<'_>) -> Result<Value, ForgeError> {
        let answer = self.send(token, call);
        answer.map_err(|error| match error {
            ForgeError::Unreachable { host, why } => ForgeError::Unreachable { host, why: token.redact(&why) },
            error => error,
        })
    }

    fn send(&self, token: &Token, call: &Call<'_>) -> Result<Value, ForgeError> {
        let mut request = Request::builder().method(call.method).uri(format!("{}{}", self.api, call.path));
        request = match self.kind {
            Kind::GitHub => request
                .header(header::ACCEPT, "application/vnd.github+json")
                .header("X-GitHub-Api-Version", GITHUB_VERSION)
                .header(header::AUTHORIZATION, format!("Bearer {}", token.secret())),
            Kind::Gitea => request
                .header(header::ACCEPT, "application/json")
                .header(header::AUTHORIZATION, format!("token {}", token.secret())),
            Kind::GitLab => request.header(header::ACCEPT, "application/json").header("PRIVATE-TOKEN", token.secret()),
        };
        let unfit = |_| self.strange("the request cannot be made");
        let answer = match call.body {
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.agent.run(request.body(body.to_string()).map_err(unfit)?)
            }
            None => self.agent.run(request.body(()).map_err(unfit)?),
        };
        let mut answer = answer.map_err(|error| self.failure(error))?;
        let status = answer.status().as_u16();
        if !answer.status().is_success() {
            return Err(self.refusal(&mut answer, status, call.doing, token));
        }
        let bytes = read(&mut answer, FORGE_ANSWER_BYTES_MAX).map_err(|error| self.failure(error))?;
        if bytes.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes).map_err(|_| self.strange("it is no JSON"))
    }

    /// Returns what an answer means that is no success.
    fn refusal(&self, answer: &mut Response<Body>, status: u16, doing: &'static str, token: &Token) -> ForgeError {
        let host = self.host.clone();
        let headers = answer.headers();
        let has_no_calls_left = text(headers, "x-ratelimit-remaining") == Some("0");
        let is_limit = status == 429 || text(headers, "retry-after").is_some() || status == 403 && has_no_calls_left;
        match status {
            300..=399 => {
                let to = text(headers, "location").unwrap_or("it does not say where");
                let to = sanitize_line(to.split('?').next().unwrap_or_default()).into_owned();
                ForgeError::Moved { host, to: token.redact(&shorten(&to, MESSAGE_CHARS_MAX)) }
            }
            400.. if is_limit => ForgeError::Limited { host, wait: pause(headers).min(FORGE_PAUSE_MAX) },
            500.. => ForgeError::Broken { host, status },
            401 | 403 | 404 => ForgeError::Denied { host, doing, status, message: token.redact(&message(answer)) },
            400..=499 => ForgeError::Refused { host, doing, status, message: token.redact(&message(answer)) },
            _ => self.strange(&format!("it has the status {status}")),
        }
    }

    fn failure(&self, error: ureq::Error) -> ForgeError {
        let host = self.host.clone();
        match error {
            ureq::Error::BodyExceedsLimit(_) => {
                self.strange(&format!("it has more than {} MiB", FORGE_ANSWER_BYTES_MAX >> 20))
            }
            ureq::Error::Timeout(ureq::Timeout::Connect) => {
                let why = format!("no connection after {}", duration(HTTP_CONNECT_TIME_MAX));
                ForgeError::Unreachable { host, why }
            }
            ureq::Error::Timeout(_) => {
                ForgeError::Unreachable { host, why: format!("no answer after {}", duration(self.time_max)) }
            }
            error => {
                let text = error.to_string();
                let why = shorten(&sanitize_line(&text), MESSAGE_CHARS_MAX).into_owned();
                ForgeError::Unreachable { host, why }
            }
        }
    }

    pub fn strange(&self, why: &str) -> ForgeError {
        ForgeError::Strange { host: self.host.clone(), why: why.to_string() }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn read(answer: &mut Response<Body>, bytes_max: u64) -> Result<Vec<u8>, ureq::Error> {
    answer.body_mut().with_config().limit(bytes_max).read_to_vec()
}

/// Returns for how long no call is to be made: `Retry-After` in seconds, or until `X-RateLimit-Reset` (GitHub) or
/// `RateLimit-Reset` (GitLab), seconds of Unix time, by the forge's own clock.
fn pause(headers: &HeaderMap) -> Duration {
    let seconds = |name: &str| text(headers, name)?.trim().parse::<i64>().ok();
    if let Some(seconds) = seconds("retry-after") {
        return Duration::from_secs(seconds.max(1).unsigned_abs());
    }
    let reset = seconds("x-ratelimit-reset").or_else(|| seconds("ratelimit-reset"));
    let now = text(headers, "date").and_then(|date| rfc2822::parse(date).ok()).map(|date| date.timestamp().as_second());
    match (reset, now) {
        (Some(reset), Some(now)) => Duration::from_secs(reset.saturating_sub(now).max(1).unsigned_abs()),
        _ => PAUSE_DEFAULT,
    }
}

/// Returns what an error says, as `: text`; empty when it says nothing.
fn message(answer: &mut Response<Body>) -> String {
    let Ok(bytes) = read(answer, ERROR_BYTES_MAX) else { return String::new() };
    let Ok(value) = serde_json::from_slice::<Value>(&bytes) else { return String::new() };
    let said = ["message", "error_description", "error"].iter().map(|name| &value[*name]).find(|said| !said.is_null());
    match said {
        Some(Value::String(text)) => format!(": {}", shorten(&sanitize_line(text), MESSAGE_CHARS_MAX)),
        Some(other) => format!(": {}", shorten(&sanitize_line(&other.to_string()), MESSAGE_CHARS_MAX)),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_for_how_long() {
        let check = |given: &[(&'static str, &str)], expect: u64| {
            let mut headers = HeaderMap::new();
            given.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            assert_eq!(pause(&headers), Duration::from_secs(expect), "{given:?}");
        };
        let date = ("date", "Sun, 29 Nov 2026 08:00:00 GMT");
        check(&[], 60);
        check(&[("retry-after", "7"), date, ("x-ratelimit-reset", "1795939300")], 7);
        check(&[("retry-after", "-7")], 1);
        check(&[("retry-after", "soon")], 60);
        check(&[date, ("x-ratelimit-reset", "1795939300")], 100);
        check(&[date, ("ratelimit-reset", "1795939290")], 90);
        check(&[date, ("x-ratelimit-reset", "1")], 1);
        check(&[("x-ratelimit-reset", "1795939300")], 60);
    }
}
