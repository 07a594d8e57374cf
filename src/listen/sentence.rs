//! Answers of one sentence, for people who call by hand.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

/// Returns an answer of one sentence.
pub fn sentence(status: StatusCode, text: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}\n")).into_response()
}
