//! Logins by OpenID Connect: the authorization code with PKCE, `state` and `nonce`.
//!
//! The flow, discovery and the check of the ID token are ours, over the client and the cryptography that are here
//! anyway: the crate `openidconnect` brings 88 others, among them an implementation of RSA that is not of constant time and
//! a second set of curves; all that is needed of them is in `ring`.

mod id_token;
mod provider;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::sessions::random;
use crate::model::encoding::percent_encoded;
use crate::model::limits::{OIDC_CALLS_MAX, OIDC_LOGIN_TIME_MAX, OIDC_LOGINS_MAX};
use crate::model::text::sanitize_line;
use crate::tls::HttpServer;
use provider::{Client, Code, Provider};

/// The path that the provider sends people back to.
pub const CALLBACK: &str = "/oidc/callback";
/// The claim that is used when none is named.
pub const CLAIM: &str = "email";
/// Characters of a name.
const NAME_CHARS_MAX: usize = 100;

/// How people log in by a provider.
#[derive(Clone)]
pub struct OidcOptions {
    /// As the provider writes it, such as `https://login.example.com/realms/fleet`.
    pub issuer: String,
    pub client_id: String,
    /// `None` for a public client.
    pub secret: Option<String>,
    /// Our address for the provider; it ends with `/oidc/callback`.
    pub redirect: String,
    /// What a name is taken from, such as `email`, which counts only when the provider has verified it.
    pub claim: String,
    /// The domains of addresses that may log in; any when empty.
    pub domains: Vec<String>,
}

/// A provider that people log in by.
pub struct Oidc {
    options: OidcOptions,
    provider: Provider,
    logins: Mutex<BTreeMap<String, Login>>,
    /// Calls of the provider wait on threads of their own.
    pub calls: Semaphore,
}

/// A login that was begun.
struct Login {
    verifier: String,
    nonce: String,
    /// The digest of what the cookie of the browser says.
    browser: [u8; 32],
    next: String,
    begun_at: Instant,
}

/// Where a browser is sent, and the cookie that it comes back with.
pub struct Begun {
    pub address: String,
    pub browser: String,
}

impl Oidc {
    /// Returns the provider. It is asked when somebody logs in.
    ///
    /// # Errors
    /// A sentence: an option cannot be used.
    pub fn new(options: OidcOptions) -> Result<Oidc, String> {
        let issuer = &options.issuer;
        let provider = Provider::of(issuer).map_err(|why| format!("the issuer `{}` {why}", sanitize_line(issuer)))?;
        let redirect = &options.redirect;
        let why = |why: String| format!("the redirect URL `{}` {why}", sanitize_line(redirect));
        HttpServer::of(redirect).map_err(why)?;
        if !redirect.ends_with(CALLBACK) || redirect.contains(['?', '#']) {
            return Err(why(format!("does not end with {CALLBACK}")));
        }
        if options.client_id.is_empty() {
            return Err("the client id is empty".to_string());
        }
        Ok(Oidc { options, provider, logins: Mutex::default(), calls: Semaphore::new(OIDC_CALLS_MAX) })
    }

    /// Returns the machine of the provider.
    pub fn host(&self) -> &str {
        self.provider.host()
    }

    /// Returns true when people reach us by encrypted connections, whoever encrypts them.
    pub fn is_encrypted(&self) -> bool {
        self.options.redirect.starts_with("https://")
    }

    /// Begins a login. This waits for the provider.
    ///
    /// # Errors
    /// A sentence: the provider does not answer as one, or the system has no randomness.
    pub fn begin(&self, next: &str) -> Result<Begun, String> {
        let random = || random().map_err(|error| format!("the system has no randomness: {error}"));
        let (state, nonce, verifier, browser) = (random()?, random()?, random()?, random()?);
        let place = self.provider.authorization_endpoint()?;
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.as_bytes()));
        let scope = if self.options.claim == CLAIM { "openid email" } else { "openid email profile" };
        let fields = [
            ("response_type", "code"),
            ("client_id", &self.options.client_id),
            ("redirect_uri", &self.options.redirect),
            ("scope", scope),
            ("state", &state),
            ("nonce", &nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", percent_encoded(value))).collect();
        let separator = if place.contains('?') { '&' } else { '?' };
        let address = format!("{place}{separator}{}", fields.join("&"));
        let mut logins = self.logins.lock().unwrap_or_else(PoisonError::into_inner);
        logins.retain(|_, login| login.begun_at.elapsed() < OIDC_LOGIN_TIME_MAX);
        if logins.len() >= OIDC_LOGINS_MAX {
            let oldest = logins.iter().min_by_key(|(_, login)| login.begun_at).map(|(state, _)| state.clone());
            oldest.map(|state| logins.remove(&state));
        }
        let digest = Sha256::digest(browser.as_bytes()).into();
        let login = Login { verifier, nonce, browser: digest, next: next.to_string(), begun_at: Instant::now() };
        logins.insert(state, login);
        Ok(Begun { address, browser })
    }

    /// Ends a login that came back, and returns who it is and where to go. A login ends once. This waits for the
    /// provider.
    ///
    /// # Errors
    /// A sentence: it is none that this browser began, or the provider does not say who it is.
    pub fn end(
        &self,
        parameters: &BTreeMap<String, String>,
        browser: Option<&str>,
        now: i64,
    ) -> Result<(String, String), String> {
        let given = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
        let login = self.logins.lock().unwrap_or_else(PoisonError::into_inner).remove(given("state"));
        let digest: [u8; 32] = Sha256::digest(browser.unwrap_or_default().as_bytes()).into();
        let login = login.filter(|login| login.browser == digest && login.begun_at.elapsed() < OIDC_LOGIN_TIME_MAX);
        let login = login.ok_or("the login is old, or another browser began it")?;
        // RFC 9207: who answers says who it is.
        if parameters.get("iss").is_some_and(|issuer| issuer != self.provider.issuer()) {
            return Err("another provider answers than the one that was asked".to_string());
        }
        if let Some(error) = parameters.get("error") {
            return Err(format!("{} says: {}", self.host(), sanitize_line(error)));
        }
        let OidcOptions { client_id, secret, redirect, .. } = &self.options;
        let client = Client { id: client_id, secret: secret.as_deref(), redirect };
        let code = Code { code: given("code"), verifier: &login.verifier, nonce: &login.nonce, now };
        let claims = self.provider.who(client, code)?;
        Ok((self.name(&claims)?, login.next))
    }

    /// Returns the name of who has logged in.
    fn name(&self, claims: &Map<String, Value>) -> Result<String, String> {
        let claim = &self.options.claim;
        let name = claims.get(claim).and_then(Value::as_str).unwrap_or_default();
        if name.is_empty() || name.chars().count() > NAME_CHARS_MAX || sanitize_line(name) != name {
            return Err(format!("{} says no `{}` that can be used", self.host(), sanitize_line(claim)));
        }
        // Some providers write it as a text.
        let is_verified = claims.get("email_verified").is_some_and(|is| *is == true || *is == "true");
        if claim == CLAIM && !is_verified {
            return Err(format!("{} has not verified the address", self.host()));
        }
        let domain = name.rsplit_once('@').map(|(_, domain)| domain).unwrap_or_default();
        let domains = &self.options.domains;
        if !domains.is_empty() && !domains.iter().any(|one| one.eq_ignore_ascii_case(domain)) {
            return Err("addresses of this domain may not log in here".to_string());
        }
        Ok(name.to_string())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn options() -> OidcOptions {
        OidcOptions {
            issuer: "https://login.example".to_string(),
            client_id: "fleet".to_string(),
            secret: None,
            redirect: "https://fleet.example/oidc/callback".to_string(),
            claim: CLAIM.to_string(),
            domains: Vec::new(),
        }
    }

    #[test]
    fn a_name_is_a_verified_address_of_a_domain_that_may() {
        let name = |options: OidcOptions, claims: Value| {
            Oidc::new(options).unwrap().name(claims.as_object().unwrap()).map_err(|why| why.chars().take(24).collect())
        };
        let check = |claims: Value, expect: Result<&str, &str>| {
            let found: Result<String, String> = name(options(), claims);
            assert_eq!(
                found.as_deref().map_err(|why| why.contains(expect.err().unwrap_or("\0"))),
                expect.map_err(|_| true)
            );
        };
        check(json!({"email": "ann@example.com", "email_verified": true}), Ok("ann@example.com"));
        check(json!({"email": "ann@example.com", "email_verified": "true"}), Ok("ann@example.com"));
        check(json!({"email": "ann@example.com", "email_verified": false}), Err("has not"));
        check(json!({"email": "ann@example.com"}), Err("has not"));
        check(json!({"email": "ann\n@example.com", "email_verified": true}), Err("says no"));
        check(json!({"email": "x".repeat(101), "email_verified": true}), Err("says no"));
        check(json!({"sub": "1"}), Err("says no"));
        let some = || OidcOptions { domains: vec!["example.com".to_string()], ..options() };
        for (address, may) in [
            ("ann@example.com", true),
            ("ann@EXAMPLE.com", true),
            ("ann@example.com.evil", false),
            ("ann@sub.example.com", false),
            ("example.com", false),
        ] {
            let found: Result<String, String> = name(some(), json!({"email": address, "email_verified": true}));
            assert_eq!(found.is_ok(), may, "{address}");
        }
        let other = OidcOptions { claim: "preferred_username".to_string(), ..options() };
        let found: Result<String, String> = name(other, json!({"preferred_username": "ann"}));
        assert_eq!(found.as_deref(), Ok("ann"));
    }

    #[test]
    fn addresses_are_encrypted_or_of_this_machine() {
        let fault = |change: fn(&mut OidcOptions)| {
            let mut options = options();
            change(&mut options);
            Oidc::new(options).err().unwrap_or_default()
        };
        assert_eq!(fault(|_| ()), "");
        assert_eq!(fault(|options| options.issuer = "http://127.0.0.1:9".to_string()), "");
        assert!(fault(|options| options.issuer = "http://login.example".to_string()).contains("use `https://`"));
        assert!(fault(|options| options.redirect = "https://fleet.example/".to_string()).contains("does not end with"));
        assert!(fault(|options| options.redirect = "http://fleet.example/oidc/callback".to_string()).contains("https"));
        assert!(fault(|options| options.client_id.clear()).contains("client id"));
    }

    #[test]
    fn a_login_is_of_one_browser_and_ends_once() {
        let oidc = Oidc::new(options()).unwrap();
        let begin = |state: &str| {
            let browser = Sha256::digest(b"browser").into();
            let login = Login {
                verifier: String::new(),
                nonce: String::new(),
                browser,
                next: "/".to_string(),
                begun_at: Instant::now(),
            };
            oidc.logins.lock().unwrap().insert(state.to_string(), login);
        };
        let end = |state: &str, browser: Option<&str>, more: &[(&str, &str)]| {
            let own = [("state", state)];
            let given = more.iter().chain(&own);
            let parameters = given.map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
            oidc.end(&parameters, browser, 0).unwrap_err()
        };
        let old = "the login is old, or another browser began it";
        assert_eq!(end("s", Some("browser"), &[]), old);
        begin("s");
        assert_eq!(end("s", Some("other"), &[]), old);
        begin("s");
        assert_eq!(end("s", None, &[]), old);
        begin("s");
        assert_eq!(end("s", Some("browser"), &[("error", "access_denied")]), "login.example says: access_denied");
        assert_eq!(end("s", Some("browser"), &[("error", "access_denied")]), old);
        begin("s");
        assert!(end("s", Some("browser"), &[("iss", "https://evil.example")]).contains("another provider"));
    }
}
