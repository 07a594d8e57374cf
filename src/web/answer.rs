//! The answer to a request for a page: read on a thread of its own, in the form that was asked for.

use axum::http::StatusCode;
use axum::response::Response;

use super::access::Visitor;
use super::asked::Asked;
use super::fault::{Fault, respond};
use super::form::Form;
use super::html::{self, Around};
use super::pages::Page;
use super::site::Site;
use super::table::Sink;
use crate::model::text::sanitize_line;
use crate::ops::Environment;

impl Site {
    /// Answers with a page, or with its whole table as CSV.
    pub(super) async fn answer<P: Page + Send + 'static>(
        self,
        asked: Asked,
        read: impl FnOnce(&Environment, &Asked, &Site) -> Result<P, Fault> + Send + 'static,
        write: impl FnOnce(&Environment, &Asked, &mut Sink) -> Result<(), Fault> + Send + 'static,
    ) -> Response {
        if let Err(fault) = asked.only(P::PARAMETERS) {
            return self.fault(&asked, &fault);
        }
        if asked.form == Form::Csv {
            let (wanted, name, site) = (asked.clone(), name_of(&asked.path), self.clone());
            let write = move |environment: &Environment, sink: &mut Sink| {
                write(&site.as_seen_by(environment, &wanted)?, &wanted, sink)
            };
            let written = self.downloads().answer(&name, write);
            return match written.await {
                Ok(response) => response,
                Err(fault) => self.fault(&asked, &fault),
            };
        }
        let (wanted, site) = (asked.clone(), self.clone());
        let read = move |environment: &Environment| {
            // What happens while the page is read is news to it.
            let seq = site.events().map_or(0, |events| events.log.newest());
            let page = read(&site.as_seen_by(environment, &wanted)?, &wanted, &site)?;
            Ok(site.page(&wanted, &page, seq))
        };
        let made = async { self.pool().read(read).await.unwrap_or_else(|fault| self.fault(&asked, &fault)) };
        if asked.age_max.is_zero() {
            return made.await;
        }
        self.copies().answer(&copy_name(&asked), asked.age_max, made).await
    }

    /// Returns the answer with a page that was read after an event.
    fn page<P: Page>(&self, asked: &Asked, page: &P, seq: u64) -> Response {
        let status = if page.is_well() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        match asked.form {
            Form::Json | Form::Csv => html::json(status, page),
            Form::Html => {
                let mut around = self.around(asked, &asked.visitor);
                (around.title, around.is_live) = (page.title(), P::IS_LIVE && self.events().is_some());
                if around.is_live {
                    around.events = self.events().map(|events| events.address(seq, page.about())).unwrap_or_default();
                }
                html::page(status, P::TEMPLATE, page, &around)
            }
        }
    }

    /// Answers with what went wrong.
    pub(super) fn fault(&self, asked: &Asked, fault: &Fault) -> Response {
        let findings = self.voice().findings;
        respond(asked.form, fault.status(), &fault.problem(findings), Some(&self.around(asked, &asked.visitor)))
    }

    /// Returns what stands around every page.
    pub(super) fn around(&self, asked: &Asked, visitor: &Visitor) -> Around {
        Around {
            title: String::new(),
            fleet: sanitize_line(&self.fleet()).into_owned(),
            address: asked.address(&[]),
            is_live: false,
            events: String::new(),
            user: visitor.name.clone(),
            token: visitor.token.clone(),
            has_session: visitor.has_session,
            has_actions: self.has_actions(),
            note: asked.text("note").and_then(|note| self.said().find(&note)).unwrap_or_default(),
            json: asked.address(&[("format", "json")]),
            csv: asked.address(&[("format", "csv"), ("after", ""), ("limit", "")]),
        }
    }
}

/// Returns the name of a download by the path of its page, such as `jobs-dim-runs-1`.
fn name_of(path: &str) -> String {
    let name = path.trim_matches('/').replace('/', "-");
    if name.is_empty() { "now".to_string() } else { name }
}

/// Returns what an answer depends on besides the fleet: what was asked for, and by whom.
fn copy_name(asked: &Asked) -> String {
    let Visitor { name, token, has_session, is_program: _ } = &asked.visitor;
    format!("{:?} {} {:?} {name:?} {token:?} {has_session}", asked.form, asked.path, asked.parameters)
}
