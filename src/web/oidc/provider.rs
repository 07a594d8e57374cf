//! What is asked of the provider: its addresses, its keys, the token of a code, and what it knows of who logs in.

use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};
use tokio::time::Instant;
use ureq::Agent;
use ureq::http::{Request, header};

use super::id_token::{Expected, Flaw, claims};
use crate::model::encoding::percent_encoded;
use crate::model::limits::{OIDC_ANSWER_BYTES_MAX, OIDC_CALL_TIME_MAX, OIDC_KEYS_PAUSE_MIN, OIDC_KNOWN_TIME_MAX};
use crate::model::text::{sanitize_line, shorten};
use crate::tls::{HttpCalls, HttpServer, http_client};

/// A provider, by its issuer.
pub struct Provider {
    issuer: String,
    host: String,
    agent: Agent,
    is_plain: bool,
    known: Mutex<Option<Arc<Known>>>,
}

/// What is known of it.
struct Known {
    /// Its metadata (OpenID Connect Discovery 1.0).
    metadata: Map<String, Value>,
    keys: Value,
    read_at: Instant,
}

/// A client of the provider: us.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    pub id: &'a str,
    pub secret: Option<&'a str>,
    pub redirect: &'a str,
}

/// A code that the provider has given, with what has to fit.
#[derive(Debug, Clone, Copy)]
pub struct Code<'a> {
    pub code: &'a str,
    /// Of PKCE (RFC 7636).
    pub verifier: &'a str,
    pub nonce: &'a str,
    /// Seconds of Unix time.
    pub now: i64,
}

impl Provider {
    /// Returns the provider of an issuer. Nothing is asked yet.
    ///
    /// # Errors
    /// A phrase: the issuer is no address that may be asked.
    pub fn of(issuer: &str) -> Result<Provider, String> {
        let (HttpServer { host, is_plain, .. }, _) = HttpServer::of(issuer)?;
        let agent = http_client(HttpCalls { time_max: OIDC_CALL_TIME_MAX, is_plain, skips_proxy: is_plain });
        Ok(Provider { issuer: issuer.to_string(), host, agent, is_plain, known: Mutex::default() })
    }

    /// Returns the name of its machine.
    pub fn host(&self) -> &str {
        &self.host
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Returns where people log in.
    ///
    /// # Errors
    /// A sentence: the provider does not answer as one.
    pub fn authorization_endpoint(&self) -> Result<String, String> {
        let known = self.known(false)?;
        self.endpoint(&known, "authorization_endpoint")
    }

    /// Returns what the provider says of who has logged in: the claims of the ID token, and those that only the user
    /// info has.
    ///
    /// # Errors
    /// A sentence: the provider does not answer as one, or what it says is not for this login.
    pub fn who(&self, client: Client<'_>, code: Code<'_>) -> Result<Map<String, Value>, String> {
        let known = self.known(false)?;
        let answer = self.exchange(&known, client, code)?;
        let token = answer["id_token"].as_str().ok_or_else(|| self.strange("its answer has no ID token"))?;
        let expected = Expected { issuer: &self.issuer, client_id: client.id, nonce: code.nonce, now: code.now };
        let mut found = match claims(token, &known.keys, expected) {
            // Keys change from time to time.
            Err(Flaw::NoKey) => claims(token, &self.known(true)?.keys, expected),
            found => found,
        }
        .map_err(|flaw| match flaw {
            Flaw::NoKey => self.strange("no key of it has signed the ID token"),
            Flaw::Wrong(what) => self.strange(&format!("the ID token is not taken: {what}")),
        })?;
        if let (Ok(address), Some(access)) =
            (self.endpoint(&known, "userinfo_endpoint"), answer["access_token"].as_str())
        {
            let bearer = format!("Bearer {access}");
            let request = Request::builder().uri(address).header(header::AUTHORIZATION, bearer);
            let info = self.run(request.body(String::new()))?;
            if info["sub"] != found["sub"] {
                return Err(self.strange("its user info is of somebody else"));
            }
            for (name, value) in info.as_object().into_iter().flatten() {
                found.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(found)
    }

    fn exchange(&self, known: &Known, client: Client<'_>, code: Code<'_>) -> Result<Value, String> {
        let address = self.endpoint(known, "token_endpoint")?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code.code),
            ("redirect_uri", client.redirect),
            ("code_verifier", code.verifier),
        ];
        let mut request = Request::builder()
            .method("POST")
            .uri(address)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(header::ACCEPT, "application/json");
        let methods = known.metadata.get("token_endpoint_auth_methods_supported").and_then(Value::as_array);
        let has = |name: &str| methods.is_some_and(|methods| methods.iter().any(|method| method == name));
        match client.secret {
            // Without a word of it, it takes the header.
            Some(secret) if methods.is_some() && !has("client_secret_basic") && has("client_secret_post") => {
                fields.extend([("client_id", client.id), ("client_secret", secret)]);
            }
            Some(secret) => {
                let pair = format!("{}:{}", percent_encoded(client.id), percent_encoded(secret));
                request = request.header(header::AUTHORIZATION, format!("Basic {}", BASE64_STANDARD.encode(pair)));
            }
            None => fields.push(("client_id", client.id)),
        }
        let body: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        self.run(request.body(body.join("&")))
    }

    /// Returns what is known of the provider: asked again when it is old, or with `anew` for newer keys.
    fn known(&self, anew: bool) -> Result<Arc<Known>, String> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let time_max = if anew { OIDC_KEYS_PAUSE_MIN } else { OIDC_KNOWN_TIME_MAX };
        if let Some(known) = known.as_ref().filter(|known| known.read_at.elapsed() < time_max) {
            return Ok(Arc::clone(known));
        }
        let address = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let metadata = self.get(&address)?;
        let metadata = metadata.as_object().cloned().ok_or_else(|| self.strange("its metadata is no object"))?;
        if metadata.get("issuer").and_then(Value::as_str) != Some(&self.issuer) {
            return Err(self.strange("its metadata names another issuer: give --oidc-issuer as the provider writes it"));
        }
        let mut next = Known { metadata, keys: Value::Null, read_at: Instant::now() };
        next.keys = self.get(&self.endpoint(&next, "jwks_uri")?)?;
        let next = Arc::new(next);
        *known = Some(Arc::clone(&next));
        Ok(next)
    }

    fn endpoint(&self, known: &Known, name: &str) -> Result<String, String> {
        let address = known.metadata.get(name).and_then(Value::as_str).unwrap_or_default();
        match HttpServer::of(address) {
            Ok((server, _)) if server.is_plain == self.is_plain => Ok(address.to_string()),
            _ => Err(self.strange(&format!("its metadata has no {name} that may be asked"))),
        }
    }

    fn get(&self, address: &str) -> Result<Value, String> {
        self.run(Request::builder().uri(address).header(header::ACCEPT, "application/json").body(String::new()))
    }

    fn run(&self, request: Result<Request<String>, ureq::http::Error>) -> Result<Value, String> {
        let request = request.map_err(|_| self.strange("it cannot be asked"))?;
        // A GET has no body.
        let answer = match request.method().as_str() {
            "GET" => self.agent.run(request.map(|_| ())),
            _ => self.agent.run(request),
        };
        let failed = |error: ureq::Error| {
            let text = error.to_string();
            format!("{} cannot be asked: {}", self.host, shorten(&sanitize_line(&text), 200))
        };
        let mut answer = answer.map_err(failed)?;
        let bytes = answer.body_mut().with_config().limit(OIDC_ANSWER_BYTES_MAX).read_to_vec().map_err(failed)?;
        let value = serde_json::from_slice::<Value>(&bytes).unwrap_or_default();
        match answer.status().is_success() {
            true if value.is_object() => Ok(value),
            true => Err(self.strange("its answer is no JSON object")),
            false => {
                let why = value["error"].as_str().map_or_else(String::new, |why| format!(": {}", sanitize_line(why)));
                Err(self.strange(&format!("it answers with {}{}", answer.status().as_u16(), shorten(&why, 100))))
            }
        }
    }

    fn strange(&self, what: &str) -> String {
        format!("{}: {what}", self.host)
    }
}
