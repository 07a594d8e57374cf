//! The templates, and the three forms in which values are written.

use std::sync::LazyLock;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value};
use serde::Serialize;

use super::LOG_TARGET;

use super::assets::{SCRIPT, STYLE};
use super::problem::Problem;
use crate::model::encoding::percent_encoded;
use crate::model::text::{number, sanitize, sanitize_json};

macro_rules! templates {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("templates/", $name)))),*]
    };
}

const TEMPLATES: &[(&str, &str)] = templates![
    "layout.html",
    "parts.html",
    "problem.html",
    "now.html",
    "jobs.html",
    "job.html",
    "schedules.html",
    "devices.html",
    "device.html",
    "groups.html",
    "group.html",
    "imports.html",
    "import.html",
    "failing.html",
    "login.html",
];

static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    for (name, text) in TEMPLATES {
        environment.add_template(name, text).expect("a test renders every template");
    }
    environment.add_filter("number", number);
    environment.add_filter("instant", |text: &str| instant(text));
    environment.add_filter("segment", |text: &str| percent_encoded(text));
    environment.add_filter("short", |text: &str| text.chars().take(12).collect::<String>());
    environment.add_filter("pretty", |value: Value| pretty(&value));
    environment.add_global("style", STYLE.address.as_str());
    environment.add_global("script", SCRIPT.address.as_str());
    environment
});

/// What stands around a page.
#[derive(Debug, Clone, Serialize)]
pub struct Around {
    pub title: String,
    /// The name of the fleet; empty while it is not known.
    pub fleet: String,
    /// The path and the query of the page.
    pub address: String,
    /// The page asks for itself again when something has changed.
    pub is_live: bool,
    /// Where events come from, and what the page has of them; empty when none come.
    pub events: String,
    /// Who looks; empty where nobody has to say who it is.
    pub user: String,
    /// What a form has to bring to be taken; empty where no form is.
    pub token: String,
    /// Who looks can log out.
    pub has_session: bool,
    /// The page offers to stop and to block.
    pub has_actions: bool,
    /// What was just done here, a sentence; empty when nothing was.
    pub note: String,
    /// The address of the same page as JSON, and of its table as CSV.
    pub json: String,
    pub csv: String,
}

/// Returns a page from its template.
pub fn page(status: StatusCode, template: &str, value: &impl Serialize, around: &Around) -> Response {
    #[derive(Serialize)]
    struct Context<'a> {
        page: serde_json::Value,
        around: &'a Around,
    }
    let render = || {
        let page = serde_json::to_value(value)
            .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
        let safe = |text: &str| sanitize(text).into_owned();
        let around = Around { title: safe(&around.title), note: safe(&around.note), ..around.clone() };
        let context = Context { page: sanitized(page), around: &around };
        ENVIRONMENT.get_template(template)?.render(Value::from(Serde(&context)))
    };
    match render() {
        Ok(text) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(target: LOG_TARGET, error = &error as &dyn std::error::Error, template, "a page cannot be \
                written");
            let text = "This page cannot be written. Please report this as a bug.\n";
            let plain = [(header::CONTENT_TYPE, "text/plain; charset=utf-8")];
            (StatusCode::INTERNAL_SERVER_ERROR, plain, text).into_response()
        }
    }
}

/// Returns a page that says what went wrong.
pub fn problem(status: StatusCode, problem: &Problem, around: Option<&Around>) -> Response {
    let nothing = || Around {
        title: String::new(),
        fleet: String::new(),
        address: String::new(),
        is_live: false,
        events: String::new(),
        user: String::new(),
        token: String::new(),
        has_session: false,
        has_actions: false,
        note: String::new(),
        json: String::new(),
        csv: String::new(),
    };
    let mut around = around.cloned().unwrap_or_else(nothing);
    around.title = status.canonical_reason().unwrap_or("Not so").to_string();
    (around.is_live, around.json, around.csv) = (false, String::new(), String::new());
    page(status, "problem.html", problem, &around)
}

/// Returns a value as JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => {
            let body = format!("{}\n", sanitize_json(&text));
            (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
        }
        Err(error) => {
            tracing::error!(target: LOG_TARGET, %error, "an answer cannot be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Returns a value in which no text, and no name of a member, controls or reorders what stands around it.
fn sanitized(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(sanitize(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(sanitized).collect(),
        Value::Object(members) => {
            members.into_iter().map(|(name, value)| (sanitize(&name).into_owned(), sanitized(value))).collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

/// Returns an instant in UTC to the second, as the command line shows it; a text that is none as it is.
fn instant(text: &str) -> String {
    text.parse::<Timestamp>().map_or_else(|_| text.to_string(), |at| at.strftime("%F %TZ").to_string())
}

/// Returns a value as JSON for people.
fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_escaped_and_sanitized() {
        let hostile = "<script>alert(1)</script>\u{1b}[2J\u{202e}\"'&";
        let problem = Problem { error: hostile.to_string(), help: Some(hostile.to_string()), detail: None };
        let context = serde_json::json!({"page": sanitized(serde_json::to_value(&problem).unwrap()), "around": Around {
            title: "Not found".to_string(), fleet: hostile.to_string(), address: String::new(), is_live: false,
            events: String::new(), user: String::new(), token: String::new(), has_session: false,
            has_actions: false, note: String::new(),
            json: String::new(), csv: String::new(),
        }});
        let text = ENVIRONMENT.get_template("problem.html").unwrap().render(Value::from(Serde(&context))).unwrap();
        assert!(!text.contains("<script>alert"), "{text}");
        assert!(text.contains("&lt;script&gt;alert(1)"), "{text}");
        let shown = text.split("<main").nth(1).unwrap();
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{text}");
    }

    #[test]
    fn numbers_and_instants_are_those_of_the_command_line() {
        assert_eq!((number(1_234_567), number(7)), ("1,234,567".to_string(), "7".to_string()));
        assert_eq!(instant("2026-12-01T01:30:00.5Z"), "2026-12-01 01:30:00Z");
        assert_eq!(instant("never"), "never");
    }
}
