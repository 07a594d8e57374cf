//! What stands before every page: how often an address may ask, by which name, and who it is.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Form, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::{Extension, extract::FromRequestParts as _};
use serde::Deserialize;
use tokio::time::timeout;

use super::access::{Access, Asker, COOKIE, Gate, Visitor, is_loopback_host, is_own_origin, session_id};
use super::asked::Asked;
use super::fault::{Fault, respond};
use super::form::Form as AnswerForm;
use super::oidc::CALLBACK;
use super::problem::Problem;
use super::sessions::Proof;
use super::site::Site;
use super::{LOG_TARGET, html};
use crate::listen::{Patience, Peer};
use crate::model::encoding::{percent_decoded, percent_encoded};
use crate::model::limits::{FORM_BYTES_MAX, FORM_READ_TIME_MAX};
use crate::ops::Environment;

/// Headers that a proxy adds: what comes with one does not come from this machine alone.
const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];

/// How long the grants of who asks are waited for.
const SIGHT_TIME_MAX: Duration = Duration::from_secs(2);

const TOO_MANY_LOGINS: &str = "too many logins from this address have failed";
const LATER: &str = "Come again in a minute.";

/// The form of a login.
#[derive(Deserialize)]
pub struct Login {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

/// The form that ends a session.
#[derive(Deserialize)]
pub struct Logout {
    #[serde(default)]
    token: String,
}

/// Lets a request through, with its [`Visitor`].
pub async fn guard(
    State(site): State<Site>,
    (Extension(Peer(peer)), Extension(patience)): (Extension<Peer>, Extension<Patience>),
    request: Request,
    next: Next,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let asked = match Asked::from_request_parts(&mut parts, &site).await {
        Ok(asked) => asked,
        Err(fault) => return fault.into_response(),
    };
    let gate = site.gate();
    // Nothing of the fleet is told to whom it is not known yet.
    let refuse = |status: StatusCode, what: &str, help: &str| {
        let problem = Fault::of(asked.form, status, what, help).problem(|_| String::new());
        respond(asked.form, status, &problem, None)
    };
    let Some(is_hasty) = gate.take(peer.ip()) else {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "this address asks too often", "Come again in some seconds.");
    };
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if matches!(gate.access, Access::Open) {
        if !is_loopback_host(host) {
            let help = "Ask for localhost or 127.0.0.1; for other names, start it with --auth or --trust-header.";
            return refuse(StatusCode::MISDIRECTED_REQUEST, "these pages are not served under this name", help);
        }
        if FORWARDED.iter().any(|name| parts.headers.contains_key(*name)) {
            let help = "Whoever reaches the proxy would see them: start it with --auth or --trust-header.";
            return refuse(StatusCode::FORBIDDEN, "these pages are for this machine, and a proxy asks for them", help);
        }
    }
    if parts.method == Method::POST && !is_own_origin(&parts.headers) {
        return refuse(StatusCode::FORBIDDEN, "the form is of another site", "Use the form of the page itself.");
    }
    let is_open =
        ["/login", "/oidc/login", CALLBACK].contains(&asked.path.as_str()) || asked.path.starts_with("/assets/");
    match gate.asker(&parts.headers, peer.ip()) {
        Asker::Known(visitor) => drop(parts.extensions.insert(Visitor { is_hasty, ..visitor })),
        Asker::Out => return refuse(StatusCode::TOO_MANY_REQUESTS, TOO_MANY_LOGINS, LATER),
        Asker::Unknown if is_open => drop(parts.extensions.insert(Visitor::default())),
        Asker::Unknown
            if asked.form == AnswerForm::Html && parts.method == Method::GET && accepts_html(&parts.headers) =>
        {
            return Redirect::to(&format!("/login?next={}", percent_encoded(&asked.address(&[])))).into_response();
        }
        Asker::Unknown => {
            let help = "Send `Authorization: Bearer` with a token, or log in at /login.";
            let mut response = refuse(StatusCode::UNAUTHORIZED, "it is not known who asks", help);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return response;
        }
    }
    if percent_decoded(&asked.path).is_none() {
        let (what, help) = ("the address is not UTF-8", "A `%` begins two hex digits of a byte of UTF-8.");
        let asked = Asked { visitor: parts.extensions.get::<Visitor>().cloned().unwrap_or_default(), ..asked };
        return site.fault(&asked, &Fault::asked(asked.form, what, help));
    }
    let body = match whole(body).await {
        Ok(body) => body,
        Err(status) => return refuse(status, "the form is too long, or took too long", "Send it again."),
    };
    if parts.method == Method::GET && (asked.form == AnswerForm::Csv || asked.path == "/events") {
        patience.ask();
    }
    next.run(Request::from_parts(parts, body)).await
}

/// Lets those through who see the whole fleet: what a daemon says of itself is about all of it. When grants cannot be
/// read now, those of the last page count: the status is needed most when something fails.
pub async fn operators_alone(State(site): State<Site>, asked: Asked, request: Request, next: Next) -> Response {
    let (seer, wanted) = (site.clone(), asked.clone());
    let sees_all = move |environment: &Environment| Ok(seer.as_seen_by(environment, &wanted)?.sight.is_whole());
    let read = timeout(SIGHT_TIME_MAX, site.pool().read(sees_all)).await.unwrap_or(Err(Fault::Busy));
    let known = || Some(site.known_sights()?.sight_of(&asked.visitor.name).is_whole());
    let sees_all = match read {
        Err(Fault::Busy | Fault::Ops(_)) if let Some(known) = known() => Ok(known),
        read => read,
    };
    match sees_all {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let what = "this is about the whole fleet, and your grants are over a part of it";
            let help = "Ask an administrator of the fleet for a grant without an organization.";
            site.fault(&asked, &Fault::of(asked.form, StatusCode::FORBIDDEN, what, help))
        }
        Err(fault) => site.fault(&asked, &fault),
    }
}

/// Reads a form: a slow one would hold its place for as long as a page may take.
async fn whole(body: Body) -> Result<Body, StatusCode> {
    match timeout(FORM_READ_TIME_MAX, to_bytes(body, FORM_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(Body::from(bytes)),
        Ok(Err(_)) => Err(StatusCode::PAYLOAD_TOO_LARGE),
        Err(_) => Err(StatusCode::REQUEST_TIMEOUT),
    }
}

fn accepts_html(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accept.contains("text/html")
}

/// `GET /login`
pub async fn login_page(State(site): State<Site>, asked: Asked) -> Response {
    if let Err(fault) = asked.only(&["next"]) {
        return site.fault(&asked, &fault);
    }
    form(&site, &asked, StatusCode::OK, None)
}

fn form(site: &Site, asked: &Asked, status: StatusCode, error: Option<&str>) -> Response {
    #[derive(serde::Serialize)]
    struct Page<'a> {
        error: Option<&'a str>,
        next: String,
        /// There is a file of tokens.
        has_tokens: bool,
        /// The machine of the provider; empty without one.
        provider: String,
    }
    let (has_tokens, provider) = match &site.gate().access {
        Access::Named { tokens, oidc, .. } => {
            (tokens.is_some(), oidc.as_ref().map_or(String::new(), |oidc| oidc.host().to_string()))
        }
        Access::Open => (false, String::new()),
    };
    if !has_tokens && provider.is_empty() {
        let help = "Whoever reaches these pages may look.";
        return site.fault(asked, &Fault::not_found(asked.form, "nobody logs in here", help));
    }
    if asked.form == AnswerForm::Json {
        let error = error.unwrap_or("log in with a form, or send `Authorization: Bearer`").to_string();
        return html::json(status, &Problem { error, help: None, detail: None });
    }
    let page = Page { error, next: asked.text("next").unwrap_or_default(), has_tokens, provider };
    let mut around = site.around(asked, &Visitor::default());
    (around.title, around.fleet) = ("Log in".to_string(), String::new());
    (around.json, around.csv) = (String::new(), String::new());
    html::page(status, "login.html", &page, &around)
}

/// `POST /login`
pub async fn log_in(
    State(site): State<Site>,
    Extension(Peer(peer)): Extension<Peer>,
    asked: Asked,
    Form(login): Form<Login>,
) -> Response {
    if site.gate().is_out(peer.ip()) {
        return Fault::of(asked.form, StatusCode::TOO_MANY_REQUESTS, TOO_MANY_LOGINS, LATER).into_response();
    }
    let Some((name, digest)) = site.gate().log_in(&login.token, peer.ip()) else {
        tracing::warn!(target: LOG_TARGET, address = %peer.ip(), "a login has failed");
        return form(&site, &asked, StatusCode::UNAUTHORIZED, Some("No one has this token."));
    };
    let Ok(id) = site.gate().sessions.begin(&name, Proof::Token(digest)) else { return Fault::Busy.into_response() };
    tracing::info!(target: LOG_TARGET, name, address = %peer.ip(), "logged in");
    let mut response = Redirect::to(own_address(&login.next)).into_response();
    let secure = if site.is_encrypted() { "; Secure" } else { "" };
    let cookie = format!("{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict{secure}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Returns an address of ours; that of the first page for any other.
pub fn own_address(text: &str) -> &str {
    let is_own = text.starts_with('/') && !text.starts_with("//") && !text.contains('\\');
    if is_own && text.chars().all(|c| c.is_ascii_graphic()) { text } else { "/" }
}

/// `POST /logout`
pub async fn log_out(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
    asked: Asked,
    Form(Logout { token }): Form<Logout>,
) -> Response {
    if !Gate::is_own_form(&visitor, &token) {
        return site.fault(&asked, &not_own_form(&asked));
    }
    session_id(&headers).iter().for_each(|id| site.gate().sessions.end(id));
    let mut response = Redirect::to("/login").into_response();
    let cookie = HeaderValue::from_static("fleetform_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// Returns that a form was made by nobody whom we know.
pub fn not_own_form(asked: &Asked) -> Fault {
    let help = "Read the page again, and use the form that it has then.";
    Fault::of(asked.form, StatusCode::FORBIDDEN, "the form is old, or of somebody else", help)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_no_other_site() {
        assert_eq!(own_address("/jobs?status=failed"), "/jobs?status=failed");
        for other in ["", "https://evil.example", "//evil.example", "/\\evil.example", "/a b", "/\u{e9}", "jobs"] {
            assert_eq!(own_address(other), "/", "{other}");
        }
    }
}
