//! Logins by OpenID Connect: to the provider, and back from it.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};

use super::LOG_TARGET;
use super::access::{Access, COOKIE, cookie};
use super::asked::Asked;
use super::fault::Fault;
use super::guard::own_address;
use super::oidc::{CALLBACK, Oidc};
use super::sessions::Proof;
use super::site::Site;
use crate::listen::Peer;
use crate::model::text::sanitize_line;

/// The cookie of a login that was begun: it comes back from the provider, so it is not a strict one.
const BEGUN: &str = "fleetform_login";
/// What to do when a login fails.
const AGAIN: &str = "Log in again at /login; whoever runs this server finds the reason in its log.";

/// `GET /oidc/login`
pub async fn begin(State(site): State<Site>, Extension(Peer(peer)): Extension<Peer>, asked: Asked) -> Response {
    if let Err(fault) = asked.only(&["next"]) {
        return site.fault(&asked, &fault);
    }
    let next = asked.text("next").unwrap_or_default();
    let begun = call(&site, &asked, move |oidc| oidc.begin(own_address(&next))).await;
    let (oidc, begun) = match begun {
        Ok(begun) => begun,
        Err(Fault::Asked { what, status, .. }) if status == StatusCode::UNAUTHORIZED => {
            return refused(&site, &asked, peer.ip(), &what);
        }
        Err(fault) => return site.fault(&asked, &fault),
    };
    let mut response = Redirect::to(&begun.address).into_response();
    let cookie = format!("{BEGUN}={}; Path={CALLBACK}; HttpOnly; SameSite=Lax{}", begun.browser, secure(&site, &oidc));
    set_cookie(&mut response, &cookie);
    response
}

/// `GET /oidc/callback`
pub async fn end(
    State(site): State<Site>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
    asked: Asked,
) -> Response {
    if site.gate().is_out(peer.ip()) {
        let (what, help) = ("too many logins from this address have failed", "Come again in a minute.");
        return site.fault(&asked, &Fault::of(asked.form, StatusCode::TOO_MANY_REQUESTS, what, help));
    }
    let (parameters, now) = (asked.parameters.clone(), asked.now.as_second());
    let browser = cookie(&headers, BEGUN).map(str::to_string);
    let ended = call(&site, &asked, move |oidc| oidc.end(&parameters, browser.as_deref(), now)).await;
    let (oidc, (name, next)) = match ended {
        Ok(ended) => ended,
        Err(Fault::Asked { what, status, .. }) if status == StatusCode::UNAUTHORIZED => {
            site.gate().count_failure(peer.ip());
            return refused(&site, &asked, peer.ip(), &what);
        }
        Err(fault) => return site.fault(&asked, &fault),
    };
    let Ok(id) = site.gate().sessions.begin(&name, Proof::Provider) else { return site.fault(&asked, &Fault::Busy) };
    tracing::info!(target: LOG_TARGET, name, address = %peer.ip(), "logged in by the provider");
    let mut response = Redirect::to(own_address(&next)).into_response();
    let secure = secure(&site, &oidc);
    // It is set on a way back from another site, from which a strict one would not be sent to the next page.
    set_cookie(&mut response, &format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Lax{secure}"));
    set_cookie(&mut response, &format!("{BEGUN}=; Path={CALLBACK}; HttpOnly; SameSite=Lax; Max-Age=0{secure}"));
    response
}

/// Asks the provider, on a thread of its own: it may be slow.
async fn call<T: Send + 'static>(
    site: &Site,
    asked: &Asked,
    ask: impl FnOnce(&Oidc) -> Result<T, String> + Send + 'static,
) -> Result<(Arc<Oidc>, T), Fault> {
    let Access::Named { oidc: Some(oidc), .. } = &site.gate().access else {
        let help = "Whoever looks says who it is in another way, or need not say it.";
        return Err(Fault::not_found(asked.form, "nobody logs in by a provider here", help));
    };
    let _place = oidc.calls.try_acquire().map_err(|_| Fault::Busy)?;
    let other = Arc::clone(oidc);
    let answer = tokio::task::spawn_blocking(move || ask(&other)).await.map_err(|_| Fault::Busy)?;
    let answer = answer.map_err(|what| Fault::of(asked.form, StatusCode::UNAUTHORIZED, &what, AGAIN))?;
    Ok((Arc::clone(oidc), answer))
}

fn refused(site: &Site, asked: &Asked, address: IpAddr, why: &str) -> Response {
    let why = sanitize_line(why);
    tracing::warn!(target: LOG_TARGET, %address, %why, "a login by the provider has failed");
    site.fault(asked, &Fault::of(asked.form, StatusCode::UNAUTHORIZED, &why, AGAIN))
}

fn secure(site: &Site, oidc: &Oidc) -> &'static str {
    if site.is_encrypted() || oidc.is_encrypted() { "; Secure" } else { "" }
}

fn set_cookie(response: &mut Response, cookie: &str) {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}
