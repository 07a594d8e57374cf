//! Who may look: everybody of this machine, or those who have a token, whom a proxy has let through, or who have logged
//! in by a provider.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::{HeaderMap, HeaderName, header};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use super::budget::Budgets;
use super::oidc::{Oidc, OidcOptions};
use super::sessions::{Proof, Session, Sessions};
use super::tokens::{Tokens, digest_of};
use crate::link::FailedLogins;
use crate::model::buckets::{Buckets, Rate};
use crate::model::text::{sanitize_line, shorten};

/// The cookie of a session.
pub const COOKIE: &str = "fleetform_session";
/// Failed logins of an address in a minute, after which it is not listened to.
const FAILURES_MAX: u32 = 10;
/// Requests of an address.
const RATE: Rate = Rate { per_second: 100.0, at_once: 400.0 };
/// Characters of the name that a proxy gives.
const NAME_CHARS_MAX: usize = 100;

/// Who may look.
pub enum Access {
    /// Whoever reaches a loopback address: the people of this machine.
    Open,
    /// Those who say who they are.
    Named { tokens: Option<Tokens>, proxy: Option<TrustedProxy>, oidc: Option<Arc<Oidc>> },
}

/// A proxy before the pages: many people have its address.
#[derive(Debug, Clone)]
pub struct TrustedProxy {
    /// The header in which it says who asks; `None` when it does not.
    pub header: Option<HeaderName>,
    /// Where the proxy connects from.
    pub addresses: Vec<IpAddr>,
}

/// Who asks.
#[derive(Debug, Clone, Default)]
pub struct Visitor {
    /// Empty where nobody has to say who it is.
    pub name: String,
    /// Whose time its pages take: its name, or where it connects from when it has none.
    pub payer: String,
    /// What a form of this visitor has to bring.
    pub token: String,
    /// It came with a cookie: it can log out.
    pub has_session: bool,
    /// It came with a bearer token, as no browser does by itself.
    pub is_program: bool,
    /// Its address asks more often than people do: half of what it may ask at once is used up.
    pub is_hasty: bool,
}

/// Whether it is known who asks.
#[derive(Debug)]
pub enum Asker {
    Known(Visitor),
    Unknown,
    /// Its address had too many failed logins, and no token of it is looked at.
    Out,
}

/// What is counted of each address, and the sessions.
pub struct Gate {
    pub access: Access,
    pub sessions: Sessions,
    pub budgets: Budgets,
    /// The token of forms for visitors without a session.
    token: String,
    failures: Mutex<FailedLogins>,
    buckets: Mutex<Buckets<IpAddr>>,
}

impl Access {
    /// Returns the access of those who have a token of a file, come by a proxy, or log in by a provider.
    ///
    /// # Errors
    /// The file or the provider cannot be used; the error says why.
    pub fn named(
        file: Option<&Path>,
        proxy: Option<TrustedProxy>,
        oidc: Option<OidcOptions>,
    ) -> Result<Access, String> {
        let oidc = oidc.map(Oidc::new).transpose()?.map(Arc::new);
        Ok(Access::Named { tokens: file.map(Tokens::open).transpose()?, proxy, oidc })
    }

    /// Returns the addresses of proxies: many people may have one.
    pub fn proxies(&self) -> Vec<IpAddr> {
        match self {
            Access::Named { proxy: Some(proxy), .. } => proxy.addresses.clone(),
            Access::Named { proxy: None, .. } | Access::Open => Vec::new(),
        }
    }
}

impl Gate {
    /// Returns a gate; `token` is what forms of visitors without a session have to bring.
    pub fn new(access: Access, token: String) -> Gate {
        Gate {
            token,
            sessions: Sessions::default(),
            budgets: Budgets::default(),
            failures: Mutex::new(FailedLogins::new(FAILURES_MAX, access.proxies())),
            access,
            buckets: Mutex::default(),
        }
    }

    /// Takes one request of an address, and returns whether it asks more often than people do; `None` when it has none
    /// left now. A proxy has as many as it asks for.
    pub fn take(&self, address: IpAddr) -> Option<bool> {
        if self.failures.lock().unwrap_or_else(PoisonError::into_inner).is_proxy(address) {
            return Some(false);
        }
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let left = buckets.left(address, RATE, Instant::now().into_std());
        if *left < 1.0 {
            return None;
        }
        *left -= 1.0;
        Some(*left < RATE.at_once / 2.0)
    }

    /// Returns true for an address that had too many failed logins.
    pub fn is_out(&self, address: IpAddr) -> bool {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).is_out(address)
    }

    /// Returns who has a token, with its digest, and counts a wrong one.
    pub fn log_in(&self, token: &str, address: IpAddr) -> Option<(String, [u8; 32])> {
        let Access::Named { tokens: Some(tokens), .. } = &self.access else { return None };
        let digest = digest_of(token.trim());
        let name = tokens.name_by(&digest);
        if name.is_none() {
            self.count_failure(address);
        }
        Some((name?, digest))
    }

    /// Counts a failed login of an address.
    pub fn count_failure(&self, address: IpAddr) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).count(address);
    }

    /// Returns the session that a cookie names, while the file of tokens has the token that it began with, if any.
    fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let Access::Named { tokens, .. } = &self.access else { return None };
        let id = session_id(headers)?;
        let session = self.sessions.find(id)?;
        if let Proof::Token(digest) = session.proof
            && tokens.as_ref().and_then(|tokens| tokens.name_by(&digest)).as_ref() != Some(&session.name)
        {
            self.sessions.end(id);
            return None;
        }
        Some(session)
    }

    /// Returns who asks.
    pub fn asker(&self, headers: &HeaderMap, address: IpAddr) -> Asker {
        let payer = |name: &str| if name.is_empty() { address.to_canonical().to_string() } else { name.to_string() };
        let without_session = |name: String| {
            let payer = payer(&name);
            Visitor { name, payer, token: self.token.clone(), ..Visitor::default() }
        };
        let Access::Named { proxy, .. } = &self.access else { return Asker::Known(without_session(String::new())) };
        if let Some(name) = proxy.as_ref().and_then(|proxy| name_by(proxy, headers, address)) {
            return Asker::Known(without_session(name));
        }
        if let Some(Session { name, token, .. }) = self.session(headers) {
            let payer = payer(&name);
            return Asker::Known(Visitor { name, payer, token, has_session: true, ..Visitor::default() });
        }
        let Some(token) = bearer(headers) else { return Asker::Unknown };
        // Only now: who is known already is not locked out by others of the address.
        if self.is_out(address) {
            return Asker::Out;
        }
        let program = |(name, _)| Asker::Known(Visitor { is_program: true, ..without_session(name) });
        self.log_in(token, address).map_or(Asker::Unknown, program)
    }

    /// Returns true when a form has what it has to bring.
    pub fn is_own_form(visitor: &Visitor, token: &str) -> bool {
        !visitor.token.is_empty() && bool::from(visitor.token.as_bytes().ct_eq(token.as_bytes()))
    }
}

/// Returns the token that a program sends.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    value.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token)
}

/// Returns the name that a proxy gives, where it is the proxy that asks.
fn name_by(proxy: &TrustedProxy, headers: &HeaderMap, address: IpAddr) -> Option<String> {
    if !proxy.addresses.contains(&address.to_canonical()) {
        return None;
    }
    let mut values = headers.get_all(proxy.header.as_ref()?).iter();
    let name = values.next()?.to_str().ok()?.trim();
    // Two of them: the proxy has let one of the client through.
    if name.is_empty() || values.next().is_some() {
        return None;
    }
    Some(shorten(&sanitize_line(name), NAME_CHARS_MAX).into_owned())
}

/// Returns what the cookie of a session says.
pub fn session_id(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, COOKIE)
}

/// Returns what a cookie says.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// Returns true when a request names this machine by a name that no other machine can have: a page of another site
/// cannot reach us by a name of its own that leads here.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Returns true when a form comes from a page of ours: the browser says so, or says nothing as programs do. Our pages name
/// no referrer, so their forms have no origin: then `Sec-Fetch-Site` decides, which no page can set.
pub fn is_own_origin(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let site = text(HeaderName::from_static("sec-fetch-site"));
    let host = text(header::HOST).unwrap_or_default();
    let is_ours = |origin: &str| origin.split_once("://").is_some_and(|(_, name)| name.eq_ignore_ascii_case(host));
    match (site, text(header::ORIGIN)) {
        (None | Some("same-origin"), None) | (Some("same-origin"), Some("null")) => true,
        (None | Some("same-origin"), Some(origin)) => is_ours(origin),
        (Some(_), _) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.1.2.3:80", "[::1]", "[::1]:8080"] {
            assert!(is_loopback_host(host), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "10.0.0.1", "[::2]", "::"]
        {
            assert!(!is_loopback_host(host), "{host}");
        }
    }

    #[test]
    fn a_proxy_is_believed_where_it_connects_from_and_says_one_name() {
        let header = HeaderName::from_static("x-user");
        let proxy = TrustedProxy { header: Some(header.clone()), addresses: vec![IpAddr::from([10, 0, 0, 1])] };
        let mut headers = HeaderMap::new();
        let name = |headers: &HeaderMap, address: [u8; 4]| name_by(&proxy, headers, IpAddr::from(address));
        assert_eq!(name(&headers, [10, 0, 0, 1]), None);
        headers.append(&header, "ann".parse().unwrap());
        assert_eq!(name(&headers, [10, 0, 0, 1]).as_deref(), Some("ann"));
        assert_eq!(name(&headers, [10, 0, 0, 2]), None);
        headers.append(&header, "root".parse().unwrap());
        assert_eq!(name(&headers, [10, 0, 0, 1]), None);
    }

    #[test]
    fn a_form_of_another_site_is_none_of_ours() {
        let check = |pairs: &[(&'static str, &'static str)], expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "fleet.example:8080".parse().unwrap());
            pairs.iter().for_each(|(name, value)| drop(headers.insert(*name, value.parse().unwrap())));
            assert_eq!(is_own_origin(&headers), expect, "{pairs:?}");
        };
        check(&[], true);
        check(&[("origin", "https://fleet.example:8080"), ("sec-fetch-site", "same-origin")], true);
        check(&[("origin", "https://evil.example")], false);
        check(&[("origin", "null")], false);
        check(&[("origin", "null"), ("sec-fetch-site", "same-origin")], true);
        check(&[("origin", "null"), ("sec-fetch-site", "cross-site")], false);
        check(&[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")], false);
        check(&[("sec-fetch-site", "cross-site")], false);
        check(&[("sec-fetch-site", "same-site")], false);
    }

    #[tokio::test]
    async fn an_address_has_a_burst_and_no_more() {
        let gate = Gate::new(Access::Open, String::new());
        let address = IpAddr::from([127, 0, 0, 1]);
        let taken: Vec<bool> = (0..1_000).map_while(|_| gate.take(address)).collect();
        assert!(taken[..190].iter().all(|is_hasty| !is_hasty) && taken.last() == Some(&true), "{taken:?}");
        let taken = taken.len();
        assert!((400..500).contains(&taken), "{taken}");
        assert_eq!(gate.take(IpAddr::from([127, 0, 0, 2])), Some(false));
        let proxy = TrustedProxy { header: None, addresses: vec![address] };
        let gate = Gate::new(Access::Named { tokens: None, proxy: Some(proxy), oidc: None }, String::new());
        assert!((0..1_000).all(|_| gate.take(address) == Some(false)), "everybody has the address of a proxy");
    }
}
