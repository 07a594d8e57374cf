//! The answer to a request for a page: read on a thread of its own, in the form that was asked for.

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::Response;
use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use super::access::Visitor;
use super::asked::Asked;
use super::budget::{Standing, timed};
use super::fault::{Fault, respond};
use super::form::Form;
use super::html::{self, Around};
use super::pages::Page;
use super::site::Site;
use super::table::Sink;
use crate::listen::StatusHandle;
use crate::model::limits::{COPY_AGE_MAX, PAGE_TIME_COPY_AGE};
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
        let (standing, _turn) = self.standing(&asked).await;
        if asked.form == Form::Csv {
            if matches!(standing, Standing::Out { .. }) {
                return self.fault(&asked, &out(&asked));
            }
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
            // Others of the visitor were read while it waited for a thread.
            if matches!(site.standing_now(&wanted), Standing::Out { .. }) {
                return Err(out(&wanted));
            }
            let (page, took) = timed(|| {
                let page = read(&site.as_seen_by(environment, &wanted)?, &wanted, &site)?;
                Ok(site.page(&wanted, &page, seq))
            });
            let now = Instant::now().into_std();
            site.gate().budgets.pay(&wanted.visitor.payer, took, site.has_work(), now);
            page
        };
        let made = async {
            let made = match standing {
                Standing::Fresh | Standing::Copies => self.pool().read(read).await,
                Standing::Out { .. } => Err(out(&asked)),
            };
            made.unwrap_or_else(|fault| self.fault(&asked, &fault))
        };
        let age_max = match standing {
            Standing::Fresh if asked.visitor.is_hasty && self.has_work() => asked.age_max.max(PAGE_TIME_COPY_AGE),
            Standing::Fresh => asked.age_max,
            Standing::Copies => asked.age_max.max(PAGE_TIME_COPY_AGE),
            Standing::Out { .. } => COPY_AGE_MAX,
        };
        if age_max.is_zero() {
            return made.await;
        }
        self.copies().answer(&copy_name(&asked), age_max, made).await
    }

    /// Returns the standing of the visitor. One that has used up its time reads one page after the other, and waits
    /// when it owes much: a program that reads page after page is slowed down by that, and not refused.
    async fn standing(&self, asked: &Asked) -> (Standing, Option<OwnedMutexGuard<()>>) {
        let standing = self.standing_now(asked);
        if standing == Standing::Fresh {
            return (standing, None);
        }
        let Some(turn) = self.gate().budgets.turn(&asked.visitor.payer).await else {
            return (Standing::Out { ends_in: Duration::ZERO }, None);
        };
        if let Standing::Out { ends_in } = self.standing_now(asked) {
            tokio::time::sleep(ends_in).await;
        }
        (self.standing_now(asked), Some(turn))
    }

    fn standing_now(&self, asked: &Asked) -> Standing {
        match self.has_work() {
            true => self.gate().budgets.standing(&asked.visitor.payer, Instant::now().into_std()),
            false => Standing::Fresh,
        }
    }

    fn has_work(&self) -> bool {
        self.live().is_some_and(StatusHandle::has_work)
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

/// Returns the refusal for a visitor that owes too much.
fn out(asked: &Asked) -> Fault {
    let (what, help) = ("your pages take more than their share of the processor", "Come again in some seconds.");
    Fault::of(asked.form, StatusCode::TOO_MANY_REQUESTS, what, help)
}

/// Returns the name of a download by the path of its page, such as `jobs-dim-runs-1`.
fn name_of(path: &str) -> String {
    let name = path.trim_matches('/').replace('/', "-");
    if name.is_empty() { "now".to_string() } else { name }
}

/// Returns what an answer depends on besides the fleet: what was asked for, and by whom.
fn copy_name(asked: &Asked) -> String {
    let Visitor { name, payer: _, token, has_session, is_program: _, is_hasty: _ } = &asked.visitor;
    format!("{:?} {} {:?} {name:?} {token:?} {has_session}", asked.form, asked.path, asked.parameters)
}
