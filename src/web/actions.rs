//! What an emergency needs: a job is stopped, a device is blocked. Both are written as the command line does it, with
//! who wanted it and why.

use axum::Extension;
use axum::extract::{Form, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Redirect, Response};
use serde::Deserialize;

use super::LOG_TARGET;
use super::access::{Gate, Visitor};
use super::asked::Asked;
use super::fault::Fault;
use super::guard::not_own_form;
use super::site::Site;
use crate::model::encoding::percent_encoded;
use crate::model::limits::REASON_CHARS_MAX;
use crate::ops::Environment;
use crate::ops::device::block_for;
use crate::ops::edit::{Wish, stop_for};

/// Who it is where nobody has to say so.
const NOBODY: &str = "somebody at this machine";

/// The form of an action.
#[derive(Deserialize)]
pub struct Action {
    #[serde(default)]
    token: String,
    #[serde(default)]
    reason: String,
}

/// `POST /jobs/{name}/runs/{run}/stop`
pub async fn stop(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path((name, run)): Path<(String, String)>,
    asked: Asked,
    Form(action): Form<Action>,
) -> Response {
    let page = format!("/jobs/{}/runs/{}", percent_encoded(&name), percent_encoded(&run));
    let act = move |environment: &Environment, who: &str, reason: &str| {
        if stop_for(environment, &name, Wish { run: &run, who, reason })?.has_changed {
            tracing::info!(target: LOG_TARGET, job = name, run, who, "a job was stopped on a page");
        }
        Ok(())
    };
    site.act(&asked, visitor, action, page, act).await
}

/// `POST /devices/{id}/block`
pub async fn block(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    asked: Asked,
    Form(action): Form<Action>,
) -> Response {
    let page = format!("/devices/{}", percent_encoded(&id));
    let now = asked.now;
    let act = move |environment: &Environment, who: &str, reason: &str| {
        if !block_for(environment, &id, (who, reason), now)?.changed.is_empty() {
            tracing::info!(target: LOG_TARGET, device = id, who, "a device was blocked on a page");
        }
        Ok(())
    };
    site.act(&asked, visitor, action, page, act).await
}

impl Site {
    async fn act(
        &self,
        asked: &Asked,
        visitor: Visitor,
        action: Action,
        page: String,
        act: impl FnOnce(&Environment, &str, &str) -> Result<(), Fault> + Send + 'static,
    ) -> Response {
        if !self.has_actions() {
            let help = "Whoever runs this server starts it with --actions to allow it.";
            let fault = Fault::of(asked.form, StatusCode::FORBIDDEN, "these pages change nothing", help);
            return self.fault(asked, &fault);
        }
        if !Gate::is_own_form(&visitor, &action.token) {
            return self.fault(asked, &not_own_form(asked));
        }
        let reason = action.reason.trim().to_string();
        if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
            let help = format!("Say why, in at most {REASON_CHARS_MAX} characters: others read it later.");
            return self.fault(asked, &Fault::asked(asked.form, "there is no reason, or too much of one", &help));
        }
        let who = if visitor.name.is_empty() { NOBODY.to_string() } else { visitor.name };
        match self.pool().read(move |environment| act(environment, &who, &reason)).await {
            Ok(()) => Redirect::to(&page).into_response(),
            Err(fault) => self.fault(asked, &fault),
        }
    }
}
