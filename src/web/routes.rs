//! The paths and their pages.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};

use super::access::Access;
use super::asked::Asked;
use super::fault::Fault;
use super::form::Form;
use super::oidc::CALLBACK;
use super::pages;
use super::site::Site;
use super::{actions, assets, events, guard, html, oidc_login, openapi};
use crate::listen::Operators;
use crate::model::limits::FORM_BYTES_MAX;

/// What a browser may do with a page: show it with our style and our script, and nothing else.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'self'";

impl Site {
    /// Returns what answers every path, those that are no page as well.
    pub fn router(&self) -> Router {
        router(self.clone())
    }

    /// Returns what guards routes of a daemon that are for those who see its whole fleet; `None` where nobody has to
    /// say who it is.
    pub fn operators(&self) -> Option<Operators> {
        let site = self.clone();
        let guarded = move |routes: Router| {
            routes
                .layer(from_fn_with_state(site.clone(), guard::operators_alone))
                .layer(from_fn_with_state(site.clone(), guard::guard))
                .layer(map_response(with_security_headers))
        };
        matches!(self.gate().access, Access::Named { .. }).then(|| Arc::new(guarded) as Operators)
    }
}

fn router(site: Site) -> Router {
    let pages = Router::new()
        .route("/", get(now))
        .route("/jobs", get(jobs))
        .route("/jobs/{name}", get(job))
        .route("/jobs/{name}/runs/{run}", get(run))
        .route("/schedules", get(schedules))
        .route("/devices", get(devices))
        .route("/devices/{id}", get(device))
        .route("/groups", get(groups))
        .route("/groups/{name}", get(group))
        .route("/imports", get(imports))
        .route("/imports/{name}", get(import))
        .route("/failing", get(failing))
        .route("/jobs/{name}/runs/{run}/stop", post(actions::stop).fallback(only_acted))
        .route("/devices/{id}/block", post(actions::block).fallback(only_acted))
        .route("/events", get(events::events))
        .route("/login", get(guard::login_page).post(guard::log_in))
        .route("/logout", post(guard::log_out).fallback(only_acted))
        .route("/oidc/login", get(oidc_login::begin))
        .route(CALLBACK, get(oidc_login::end))
        .route("/openapi.json", get(async || html::json(StatusCode::OK, &*openapi::DOCUMENT)));
    pages
        .merge(assets::router())
        .fallback(nothing)
        .method_not_allowed_fallback(not_so)
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .layer(from_fn_with_state(site.clone(), guard::guard))
        .layer(map_response(with_security_headers))
        .with_state(site)
}

async fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // A page is of one moment and of one person; the style and the script say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::VARY, HeaderValue::from_static("accept, authorization, cookie"));
    response
}

async fn nothing(State(site): State<Site>, method: Method, asked: Asked) -> Response {
    // The page itself answers to its address alone.
    let trimmed = asked.path.trim_end_matches('/');
    if [Method::GET, Method::HEAD].contains(&method)
        && trimmed.len() < asked.path.len()
        && trimmed.len() > 1
        && !trimmed.starts_with("//")
    {
        let (asked, form) = (Asked { path: trimmed.to_string(), ..asked.clone() }, asked.text("format"));
        let query = form.map(|form| ("format", form));
        let query: Vec<(&str, &str)> = query.iter().map(|(name, form)| (*name, form.as_str())).collect();
        return Redirect::permanent(&asked.address(&query)).into_response();
    }
    let help = match asked.form {
        Form::Html => "The links above lead to all pages; /openapi.json lists their addresses.",
        Form::Json | Form::Csv => "/openapi.json lists the addresses of all pages.",
    };
    site.fault(&asked, &Fault::not_found(asked.form, "there is no such page", help))
}

async fn not_so(State(site): State<Site>, asked: Asked) -> Response {
    let (what, help) = ("this page is not asked for with this method", "Pages are read with GET.");
    let allowed = if asked.path == "/login" { "GET, HEAD, POST" } else { "GET, HEAD" };
    refused_method(&site, &asked, (what, help), allowed)
}

/// What changes something is never read.
async fn only_acted(State(site): State<Site>, asked: Asked) -> Response {
    let (what, help) = ("this is no page, and is not asked for with this method", "It changes something: send a POST.");
    refused_method(&site, &asked, (what, help), "POST")
}

fn refused_method(site: &Site, asked: &Asked, (what, help): (&str, &str), allowed: &'static str) -> Response {
    let fault = Fault::of(asked.form, StatusCode::METHOD_NOT_ALLOWED, what, help);
    let mut response = site.fault(asked, &fault);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    response
}

async fn now(State(site): State<Site>, asked: Asked) -> Response {
    site.answer(
        asked,
        |environment, asked, site| {
            let live = site.live().map(|live| live.snapshot());
            let sights = site.known_sights();
            let sees = |name: &str| sights.as_ref().is_some_and(|sights| sights.shows(&environment.sight, name));
            let page = pages::now::read(environment, live, &sees, asked.now)?;
            page.fleet.iter().for_each(|fleet| site.is_of(fleet));
            Ok(page)
        },
        |environment, asked, sink| {
            let page = pages::now::read(environment, None, &|_| false, asked.now)?;
            sink.begin::<pages::RunRow>()?;
            Ok(page.running.iter().chain(&page.waiting).try_for_each(|row| sink.push(row))?)
        },
    )
    .await
}

async fn jobs(State(site): State<Site>, asked: Asked) -> Response {
    site.answer(asked, |environment, asked, _| pages::jobs::read(environment, asked), pages::jobs::write).await
}

async fn job(State(site): State<Site>, Path(name): Path<String>, asked: Asked) -> Response {
    one_run(site, name, None, asked).await
}

async fn run(State(site): State<Site>, Path((name, run)): Path<(String, String)>, asked: Asked) -> Response {
    one_run(site, name, Some(run), asked).await
}

async fn one_run(site: Site, name: String, run: Option<String>, asked: Asked) -> Response {
    let (other, other_run) = (name.clone(), run.clone());
    site.answer(
        asked,
        move |environment, asked, site| {
            let place = (name.as_str(), run.as_deref());
            pages::job::read(environment, place, asked, (site.voice(), site.has_actions()))
        },
        move |environment, asked, sink| pages::job::write(environment, (&other, other_run.as_deref()), asked, sink),
    )
    .await
}

async fn schedules(State(site): State<Site>, asked: Asked) -> Response {
    site.answer(
        asked,
        |environment, asked, _| Ok(pages::schedules::read(environment, asked.now)?),
        |environment, asked, sink| pages::schedules::write(environment, asked.now, sink),
    )
    .await
}

async fn devices(State(site): State<Site>, asked: Asked) -> Response {
    site.answer(
        asked,
        |environment, asked, site| pages::devices::read(environment, asked, site.voice()),
        pages::devices::write,
    )
    .await
}

async fn device(State(site): State<Site>, Path(id): Path<String>, asked: Asked) -> Response {
    let other = id.clone();
    site.answer(
        asked,
        move |environment, _, _| Ok(pages::device::read(environment, &id)?),
        move |environment, _, sink| pages::device::write(environment, &other, sink),
    )
    .await
}

async fn groups(State(site): State<Site>, asked: Asked) -> Response {
    site.answer(
        asked,
        |environment, _, _| Ok(pages::groups::read(environment)?),
        |environment, _, sink| pages::groups::write(environment, sink),
    )
    .await
}

async fn group(State(site): State<Site>, Path(name): Path<String>, asked: Asked) -> Response {
    let other = name.clone();
    site.answer(
        asked,
        move |environment, asked, _| pages::groups::read_one(environment, &name, asked),
        move |environment, _, sink| pages::groups::write_one(environment, &other, sink),
    )
    .await
}

async fn imports(State(site): State<Site>, asked: Asked) -> Response {
    site.answer(
        asked,
        |environment, _, _| Ok(pages::imports::read(environment)?),
        |environment, _, sink| pages::imports::write(environment, sink),
    )
    .await
}

async fn import(State(site): State<Site>, Path(name): Path<String>, asked: Asked) -> Response {
    let other = name.clone();
    site.answer(
        asked,
        move |environment, asked, _| pages::imports::read_one(environment, &name, asked),
        move |environment, _, sink| pages::imports::write_one(environment, &other, sink),
    )
    .await
}

async fn failing(State(site): State<Site>, asked: Asked) -> Response {
    site.answer(asked, |environment, asked, _| pages::failing::read(environment, asked), pages::failing::write).await
}
