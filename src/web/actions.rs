//! What an emergency needs: a job is stopped, a device is blocked. Both are written as the command line does it, with
//! who wanted it and why.

use axum::Extension;
use axum::extract::{Form, FromRequest, Json, Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::access::{Gate, Visitor};
use super::asked::Asked;
use super::fault::Fault;
use super::form::Form as AnswerForm;
use super::guard::not_own_form;
use super::site::Site;
use super::{LOG_TARGET, html};
use crate::model::encoding::percent_encoded;
use crate::model::limits::REASON_CHARS_MAX;
use crate::ops::Environment;
use crate::ops::device::{block_for, show};
use crate::ops::edit::{Edited, Wish, stop_for};
use crate::ops::sight::Sights;

/// Who it is where nobody has to say so.
const NOBODY: &str = "somebody at this machine";
/// Digits of a commit that are shown.
const COMMIT_CHARS: usize = 12;

/// What is asked for: a form, or JSON with its fields.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// What the form of a page brings; a program with a bearer token needs none in JSON.
    #[serde(default)]
    token: String,
    /// Why, in words that others read later; 1 to 500 characters.
    #[serde(default)]
    reason: String,
}

/// What was done.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Acted {
    /// False when it was so already.
    pub changed: bool,
    /// A sentence.
    pub message: String,
    /// The commit that says so; null when none was made.
    pub commit: Option<String>,
    /// The branch that the commit was pushed to for a review, because the followed one does not take it: it counts when
    /// somebody has merged it. Null when it counts already.
    pub branch: Option<String>,
}

/// A request for an action.
pub struct Sent {
    action: Action,
    is_json: bool,
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Sent, Fault> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let is_json = kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json");
        let action = match is_json {
            true => Json::from_request(request, state).await.ok().map(|Json(action)| action),
            false => Form::from_request(request, state).await.ok().map(|Form(action)| action),
        };
        let form = if is_json { AnswerForm::Json } else { AnswerForm::Html };
        let help = "Send the form of the page, or JSON such as {\"reason\": \"smoke in hall 3\"}.";
        let action = action.ok_or_else(|| Fault::asked(form, "what is sent is not understood", help))?;
        Ok(Sent { action, is_json })
    }
}

/// `POST /jobs/{name}/runs/{run}/stop`
pub async fn stop(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path((name, run)): Path<(String, String)>,
    asked: Asked,
    sent: Sent,
) -> Response {
    let page = format!("/jobs/{}/runs/{}", percent_encoded(&name), percent_encoded(&run));
    let seen = {
        let name = name.clone();
        move |environment: &Environment, sights: &Sights| sights.shows(&environment.sight, &name)
    };
    let followed = site.live().map(|live| live.snapshot().source.branch);
    // One that follows `HEAD` follows whatever is checked out.
    let followed = followed.filter(|branch| !["", "HEAD"].contains(&branch.as_str()));
    let act = move |environment: &Environment, who: &str, reason: &str| {
        let wish = Wish { run: &run, followed: followed.as_deref(), who, reason };
        let stopped = stop_for(environment, &name, wish)?;
        if stopped.has_changed {
            tracing::info!(target: LOG_TARGET, job = name, run, who, branch = stopped.proposed, "a job was stopped on a \
                page");
        }
        Ok(stopped.into())
    };
    site.act(asked, (visitor, sent), page, seen, act).await
}

/// `POST /devices/{id}/block`
pub async fn block(
    State(site): State<Site>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<String>,
    asked: Asked,
    sent: Sent,
) -> Response {
    let page = format!("/devices/{}", percent_encoded(&id));
    let now = asked.now;
    let seen = {
        let id = id.clone();
        move |environment: &Environment, _: &Sights| show(environment, &id).is_ok()
    };
    let act = move |environment: &Environment, who: &str, reason: &str| {
        let changed = !block_for(environment, &id, (who, reason), now)?.changed.is_empty();
        if changed {
            tracing::info!(target: LOG_TARGET, device = id, who, "a device was blocked on a page");
        }
        let message = if changed { "The device is blocked." } else { "The device was blocked already." };
        Ok(Acted { changed, message: message.to_string(), commit: None, branch: None })
    };
    site.act(asked, (visitor, sent), page, seen, act).await
}

impl From<Edited> for Acted {
    fn from(edited: Edited) -> Acted {
        let Edited { name, commit, proposed, has_changed, .. } = edited;
        let short: String = commit.iter().flat_map(|commit| commit.chars()).take(COMMIT_CHARS).collect();
        let message = match (&proposed, has_changed) {
            (Some(branch), true) => format!(
                "The followed branch takes no commits from here, so the stop is proposed: merge the branch {branch} \
                 (commit {short}). Until then the job {name} goes on."
            ),
            (Some(branch), false) => {
                format!("The stop is proposed already: merge the branch {branch}. Until then the job {name} goes on.")
            }
            (None, true) => format!("The commit {short} stops the job {name}: no new device starts."),
            (None, false) => format!("The job {name} was stopped already."),
        };
        Acted { changed: has_changed, message, commit, branch: proposed }
    }
}

impl Site {
    async fn act(
        &self,
        asked: Asked,
        (visitor, sent): (Visitor, Sent),
        page: String,
        is_seen: impl Fn(&Environment, &Sights) -> bool + Send + 'static,
        act: impl FnOnce(&Environment, &str, &str) -> Result<Acted, Fault> + Send + 'static,
    ) -> Response {
        let Sent { action, is_json } = sent;
        let mut asked = asked;
        if is_json {
            asked.form = AnswerForm::Json;
        }
        let asked = &asked;
        if !self.has_actions() {
            let help = "Whoever runs this server starts it with --actions to allow it.";
            let fault = Fault::of(asked.form, StatusCode::FORBIDDEN, "these pages change nothing", help);
            return self.fault(asked, &fault);
        }
        // No page of another site can send a bearer token; JSON with one is of a program.
        let is_of_program = is_json && visitor.is_program;
        if is_json && !is_of_program && action.token.is_empty() {
            let help = "Send `Authorization: Bearer` with a token of the file of --auth; without --auth only the form \
                        of the page is taken.";
            let fault = Fault::of(asked.form, StatusCode::FORBIDDEN, "no bearer token says which program asks", help);
            return self.fault(asked, &fault);
        }
        if !is_of_program && !Gate::is_own_form(&visitor, &action.token) {
            return self.fault(asked, &not_own_form(asked));
        }
        let reason = action.reason.trim().to_string();
        if reason.is_empty() || reason.chars().count() > REASON_CHARS_MAX {
            let help = format!("Say why, in at most {REASON_CHARS_MAX} characters: others read it later.");
            return self.fault(asked, &Fault::asked(asked.form, "there is no reason, or too much of one", &help));
        }
        let (site, wanted) = (self.clone(), asked.clone());
        let read = move |environment: &Environment| {
            let environment = site.as_seen_by(environment, &wanted)?;
            if !visitor.name.is_empty() {
                site.refuse_unreached(&environment, &wanted, &is_seen)?;
            }
            let who = if visitor.name.is_empty() { NOBODY } else { &visitor.name };
            act(&environment, who, &reason)
        };
        let acted = self.pool().read(read).await;
        // Whoever has changed something sees that next.
        self.copies().clear();
        match acted {
            Ok(acted) => {
                if acted.changed {
                    self.ring();
                }
                if asked.form == AnswerForm::Json {
                    return html::json(StatusCode::OK, &acted);
                }
                let note = self.said().keep(&acted.message).map_or_else(String::new, |note| format!("?note={note}"));
                Redirect::to(&format!("{page}{note}")).into_response()
            }
            Err(fault) => self.fault(asked, &fault),
        }
    }

    /// Refuses who may see something, and may not act on it.
    fn refuse_unreached(
        &self,
        environment: &Environment,
        asked: &Asked,
        is_seen: &impl Fn(&Environment, &Sights) -> bool,
    ) -> Result<(), Fault> {
        let sights = self.sights(environment)?;
        let reach = Environment { sight: sights.reach_of(&asked.visitor.name), ..environment.clone() };
        if !is_seen(environment, &sights) || is_seen(&reach, &sights) {
            return Ok(());
        }
        let help = "A grant with a role over jobs is needed for that, such as `operator`.";
        let what = "your grants let you see this, and not act on it";
        Err(Fault::of(asked.form, StatusCode::FORBIDDEN, what, help))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::id::Name;

    #[test]
    fn what_happened_is_said() {
        let check = |proposed: Option<&str>, has_changed: bool, expect: &str| {
            let acted = Acted::from(Edited {
                file: "jobs/dim.yaml".to_string(),
                name: Name::parse("dim").unwrap(),
                commit: Some("0123456789abcdef0123456789abcdef01234567".to_string()),
                proposed: proposed.map(str::to_string),
                has_changed,
                held: 0,
                remote: None,
                has_gateway: false,
            });
            assert!(acted.message.contains(expect), "{}", acted.message);
        };
        check(None, true, "The commit 0123456789ab stops the job dim");
        check(None, false, "was stopped already");
        check(Some("stop/dim-1"), true, "merge the branch stop/dim-1 (commit 0123456789ab)");
        check(Some("stop/dim-1"), false, "proposed already");
    }
}
