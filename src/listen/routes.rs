//! The routes: paths and their handlers.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::json;

use super::sentence::sentence;
use super::webhook::{Endpoint, Webhooks};
use super::{Bounds, Server, metrics, status_handle::StatusHandle};
use crate::model::text::sanitize_json;

/// What every page reads.
#[derive(Debug, Clone)]
struct Pages {
    handle: StatusHandle,
    bounds: Bounds,
    /// Who asks may be a stranger: probes tell no more than their status.
    is_terse: bool,
}

/// Returns the routes of a server.
pub fn router(server: Server) -> Router {
    let Server { handle, bell, secrets, bounds, pages: site, operators, tls: _ } = server;
    let hooks = match secrets {
        Some(secrets) => {
            let webhooks = Arc::new(Webhooks::new(handle.clone(), bell, secrets, bounds.clone()));
            Endpoint::ALL.into_iter().fold(Router::new(), |router, endpoint| {
                let webhooks = webhooks.clone();
                let hear = move |request: Request| {
                    let webhooks = webhooks.clone();
                    async move { webhooks.hear(endpoint, request).await }
                };
                router.route(endpoint.path(), post(hear))
            })
        }
        None => Endpoint::ALL.into_iter().fold(Router::new(), |router, endpoint| {
            let off =
                async || sentence(StatusCode::NOT_FOUND, "Webhooks are off here: the daemon has no secret for them.");
            router.route(endpoint.path(), post(off))
        }),
    };
    let pages = Pages { handle, bounds, is_terse: operators.is_some() };
    let probes = Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz));
    let told = Router::new().route("/metrics", get(metrics_page)).route("/status", get(status));
    let told = told.method_not_allowed_fallback(not_so).with_state(pages.clone());
    let told = operators.map_or(told.clone(), |guard| guard(told));
    let pages = probes.with_state(pages).merge(told);
    let nothing = async || sentence(StatusCode::NOT_FOUND, "There is nothing here. Try /status.");
    let own = |router: Router| {
        // The only bodies that are read are those of webhooks, and they are counted there.
        router.layer(DefaultBodyLimit::disable()).layer(map_response(with_security_headers))
    };
    let router = pages.merge(hooks).method_not_allowed_fallback(not_so);
    match site {
        // Pages have headers of their own.
        Some(site) => own(router).fallback_service(site),
        None => own(router.fallback(nothing)),
    }
}

async fn not_so() -> Response {
    sentence(StatusCode::METHOD_NOT_ALLOWED, "This is not asked for with this method.")
}

fn json_page(status: StatusCode, json: &str) -> Response {
    let body = format!("{}\n", sanitize_json(json));
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// Answers are data for programs: a browser must not guess the type of, cache, frame or run any of them.
async fn with_security_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ] {
        // What refuses may be a page, with headers of its own.
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// Alive: the daemon's loop gave a sign of life recently. External failures (a remote, a registry) do not count: a
/// restart would not mend them.
async fn healthz(State(pages): State<Pages>) -> Response {
    let (age, snapshot) = (pages.handle.heartbeat_age(), pages.handle.snapshot());
    let is_alive = age <= pages.bounds.heartbeat_age_max;
    let code = if is_alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let status = if is_alive { "alive" } else { "stalled" };
    if pages.is_terse {
        return json_page(code, &json!({"status": status}).to_string());
    }
    let body = json!({
        "status": status,
        "heartbeat_age_seconds": age.as_secs(),
        "version": snapshot.version,
        "fleet": snapshot.fleet,
        "commit": snapshot.source.commit,
        "started_at": snapshot.started_at,
        "last_reconcile_at": snapshot.last_reconcile_at,
        "running": snapshot.running.len(),
        "held": snapshot.held_count,
    });
    json_page(code, &body.to_string())
}

/// Ready: it has seen its source, acted on it, and both still work.
async fn readyz(State(pages): State<Pages>) -> Response {
    let snapshot = pages.handle.snapshot();
    let reasons = snapshot.unready();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if pages.is_terse {
        return json_page(status, &json!({"ready": reasons.is_empty()}).to_string());
    }
    let mut body = json!({"ready": reasons.is_empty(), "reasons": reasons});
    if let Some(waits_for) = snapshot.waits_for.as_ref().filter(|_| snapshot.stands_by) {
        body["stands_by"] = json!(waits_for);
    }
    json_page(status, &body.to_string())
}

async fn status(State(pages): State<Pages>) -> Response {
    match serde_json::to_string(&pages.handle.snapshot()) {
        Ok(json) => json_page(StatusCode::OK, &json),
        Err(error) => {
            tracing::error!(target: super::LOG_TARGET, error = &error as &dyn std::error::Error, "the status cannot be \
                written as JSON");
            sentence(StatusCode::INTERNAL_SERVER_ERROR, "The status cannot be written. Please report this as a bug.")
        }
    }
}

async fn metrics_page(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let form = metrics::Form::accepted(accept);
    match metrics::page(pages.handle.snapshot(), pages.handle.heartbeat_age(), form) {
        Ok(body) => ([(header::CONTENT_TYPE, form.content_type())], body).into_response(),
        Err(error) => {
            tracing::error!(target: super::LOG_TARGET, error = &error as &dyn std::error::Error, "the metrics cannot \
                be written");
            sentence(StatusCode::INTERNAL_SERVER_ERROR, "The metrics cannot be written. Please report this as a bug.")
        }
    }
}
