//! What went wrong with a request: a status, a sentence and what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::form::Form;
use super::html;
use super::problem::Problem;
use crate::model::text::sanitize;
use crate::ops::OpsError;

/// Why a page cannot be shown.
#[derive(Debug)]
pub enum Fault {
    /// What was asked for is no page, or may not be asked for.
    Asked { form: Form, status: StatusCode, what: String, help: String },
    /// The fleet cannot be read, or has no such thing.
    Ops(OpsError),
    /// Too much is asked for at once.
    Busy,
}

impl From<OpsError> for Fault {
    fn from(error: OpsError) -> Fault {
        Fault::Ops(error)
    }
}

impl Fault {
    /// Returns that a request cannot be understood.
    pub fn asked(form: Form, what: &str, help: &str) -> Fault {
        Fault::of(form, StatusCode::BAD_REQUEST, what, help)
    }

    /// Returns that there is no such page.
    pub fn not_found(form: Form, what: &str, help: &str) -> Fault {
        Fault::of(form, StatusCode::NOT_FOUND, what, help)
    }

    /// Returns a fault with a status of its own.
    pub fn of(form: Form, status: StatusCode, what: &str, help: &str) -> Fault {
        Fault::Asked { form, status, what: what.to_string(), help: help.to_string() }
    }

    /// Returns the status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Fault::Asked { status, .. } => *status,
            Fault::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Fault::Ops(OpsError::NotFound { .. }) => StatusCode::NOT_FOUND,
            Fault::Ops(OpsError::Usage { .. } | OpsError::Unusable { .. }) => StatusCode::BAD_REQUEST,
            Fault::Ops(OpsError::Refused { .. }) => StatusCode::FORBIDDEN,
            Fault::Ops(OpsError::Held { .. } | OpsError::AtWork { .. }) => StatusCode::CONFLICT,
            Fault::Ops(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns what it says; `findings` renders what is wrong with declared files.
    pub fn problem(&self, findings: impl Fn(&crate::ops::Findings) -> String) -> Problem {
        let (error, help, detail) = match self {
            Fault::Asked { what, help, .. } => (what.clone(), help.clone(), None),
            Fault::Busy => {
                ("too much is asked for at once".to_string(), "Come again in some seconds.".to_string(), None)
            }
            Fault::Ops(OpsError::Invalid(found)) => {
                let help = "`fleetform validate` shows the same.".to_string();
                ("the declared files are invalid".to_string(), help, Some(findings(found)))
            }
            Fault::Ops(error) => (error.to_string(), error.help(), None),
        };
        Problem { error, help: (!help.is_empty()).then_some(help), detail }
    }
}

/// An answer without a site around it: nothing of a fleet is in it.
impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let form = if let Fault::Asked { form, .. } = &self { *form } else { Form::Html };
        respond(form, self.status(), &self.problem(|_| String::new()), None)
    }
}

/// Returns the answer that says what went wrong.
pub fn respond(form: Form, status: StatusCode, problem: &Problem, around: Option<&html::Around>) -> Response {
    let mut response = match form {
        Form::Json => html::json(status, problem),
        Form::Html => html::problem(status, problem, around),
        Form::Csv => plain(status, problem),
    };
    if status == StatusCode::SERVICE_UNAVAILABLE || status == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    }
    response
}

/// Returns what went wrong for a program that asked for a table.
fn plain(status: StatusCode, problem: &Problem) -> Response {
    let Problem { error, help, detail } = problem;
    let help = help.iter().map(|help| format!("{help}\n")).collect::<String>();
    let detail = detail.iter().map(|detail| format!("\n{detail}\n")).collect::<String>();
    let text = sanitize(&format!("{error}\n{help}{detail}")).into_owned();
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
