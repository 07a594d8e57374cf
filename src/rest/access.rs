//! Who asks, and what they may: the key of a policy signs each request.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};

use super::LOG_TARGET;
use super::answer::{Fault, random_id};
use super::desks::Desks;
use crate::link::SasToken;
use crate::model::hub::HubRight;
use crate::model::text::sanitize_line;
use crate::ops::hub::{Caller, HubError, KeyedPolicy};

/// How long what the fleet says of its policies is taken for true.
const FRESH: Duration = Duration::from_secs(2);
/// Characters of what a client calls its request that are kept.
const REQUEST_CHARS_MAX: usize = 128;
/// What a token is checked with whose policy is unknown, so that it takes as long.
const NO_KEY: [u8; 32] = [0; 32];

/// What the fleet says of who may ask.
#[derive(Debug)]
pub struct Rules {
    pub host_name: String,
    pub refuses_direct: bool,
    pub policies: BTreeMap<String, KeyedPolicy>,
    /// Signs continuation tokens: made of the keys, so that it is the same after a restart.
    pub token_key: Vec<u8>,
    faults: Vec<String>,
    read_at: Instant,
}

/// The rules as they were read last.
#[derive(Default)]
pub struct Access {
    rules: Mutex<Option<Arc<Rules>>>,
    /// When they were to be read last and could not be.
    failed_at: Mutex<Option<Instant>>,
}

/// A request that is let in.
#[derive(Debug)]
pub struct Admitted {
    pub caller: Caller,
    pub rights: Vec<HubRight>,
}

impl Admitted {
    /// # Errors
    /// The policy does not have a right.
    pub fn needs(&self, right: HubRight) -> Result<(), Fault> {
        if self.rights.contains(&right) {
            return Ok(());
        }
        Err(Fault::unauthorized(format!(
            "the policy `{}` has not the right {}: use a policy that has it",
            self.caller.policy,
            right.as_str()
        )))
    }

    pub fn has(&self, right: HubRight) -> bool {
        self.rights.contains(&right)
    }
}

impl Access {
    /// Returns the rules, as of at most a moment ago.
    ///
    /// # Errors
    /// The fleet cannot be read, or has no hub, and it never could since the start.
    pub async fn rules(&self, desks: &Desks) -> Result<Arc<Rules>, HubError> {
        let known = self.rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        let has_just_failed = failed_at.is_some_and(|at| at.elapsed() < FRESH);
        if let Some(known) = known.as_ref().filter(|known| has_just_failed || known.read_at.elapsed() < FRESH) {
            return Ok(Arc::clone(known));
        }
        let read = desks.read(|desk| Ok((desk.config()?, desk.policies()?))).await;
        let (config, (policies, faults)) = match (read, known.as_ref()) {
            (Ok(read), _) => read,
            // Who is let in by the last rules that could be read is told what is wrong now.
            (Err(error), Some(known)) => {
                if failed_at.is_none_or(|at| at < known.read_at) {
                    tracing::warn!(target: LOG_TARGET, error = %sanitize_line(&error.to_string()), "the policies of the \
                        hub cannot be read: the last ones stay in force");
                }
                *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(now());
                return Ok(Arc::clone(known));
            }
            // Nobody is known yet, so nobody is told more than that.
            (Err(error), None) => {
                tracing::warn!(target: LOG_TARGET, error = %sanitize_line(&error.to_string()), "the policies of the \
                    hub cannot be read");
                let what = "the policies of the hub cannot be read now: the log of the gateway says why";
                return Err(HubError::Unavailable(what.to_string()));
            }
        };
        if known.is_none_or(|known| known.faults != faults) {
            for fault in &faults {
                tracing::warn!(target: LOG_TARGET, fault = %sanitize_line(fault), "a policy cannot be used");
            }
            if policies.is_empty() {
                tracing::warn!(target: LOG_TARGET, "no back end can ask anything: there is no policy; `fleetform \
                    gateway init` makes some");
            }
        }
        let token_key = policies.values().flat_map(|policy| policy.keys.first()).flatten().copied().collect();
        let rules = Arc::new(Rules {
            host_name: config.host_name,
            refuses_direct: config.api.refuses_direct,
            policies,
            token_key,
            faults,
            read_at: now(),
        });
        *self.rules.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&rules));
        Ok(rules)
    }
}

impl Rules {
    /// Returns who asks for a path.
    ///
    /// # Errors
    /// They do not prove that they have a key of a policy.
    pub fn admit(&self, path: &str, headers: &HeaderMap, peer: SocketAddr, now: i64) -> Result<Admitted, Fault> {
        let text = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if text.is_empty() {
            return Err(Fault::unauthorized("the request has no Authorization: sign it with the key of a policy"));
        }
        if text.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("bearer ")) {
            return Err(Fault::unauthorized(
                "tokens of Microsoft Entra are not verified here: use a connection string with a SharedAccessKey",
            ));
        }
        // The same for whatever is wrong: who asks learns nothing about policies and keys.
        let refused = || {
            Fault::unauthorized(
                "the token is not signed with a key of its policy for this hub, or it is over: check the connection \
                 string and the clock",
            )
        };
        let token = SasToken::parse(text).ok_or_else(refused)?;
        let name = token.policy.clone().unwrap_or_default();
        let policy = self.policies.get(&name);
        let none = [NO_KEY.to_vec()];
        let keys = policy.map_or(&none[..], |policy| &policy.keys);
        let is_signed = keys.iter().fold(false, |is_signed, key| token.is_signed_with(key) | is_signed);
        let (Some(policy), true) = (policy, is_signed) else { return Err(refused()) };
        if token.ends_at <= now || !token.covers_path(&self.host_name, path) {
            return Err(refused());
        }
        let caller = Caller {
            policy: name,
            address: peer.ip().to_string(),
            devices_max: policy.devices_max,
            request_id: request_id(headers),
        };
        Ok(Admitted { caller, rights: policy.rights.clone() })
    }
}

/// Returns what a client calls its request, or a name for one that it gives none.
fn request_id(headers: &HeaderMap) -> String {
    let named = ["request-id", "x-ms-client-request-id"].iter().find_map(|name| headers.get(*name)?.to_str().ok());
    match named.filter(|named| !named.trim().is_empty()) {
        Some(named) => sanitize_line(named.trim()).chars().take(REQUEST_CHARS_MAX).collect(),
        None => random_id(),
    }
}

#[expect(clippy::disallowed_methods, reason = "a moment of the process, not of the fleet")]
fn now() -> Instant {
    Instant::now()
}
