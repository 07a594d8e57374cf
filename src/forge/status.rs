//! The status of a commit, as each kind of forge takes it.

use serde_json::{Value, json};

use super::error::ForgeError;
use super::place::Kind;
use super::{Forge, http::Call};
use crate::model::limits::{FORGE_CONTEXT_CHARS_MAX, FORGE_LINK_CHARS_MAX, FORGE_PAGE_ITEMS};
use crate::model::text::{sanitize_line, shorten};

/// How a commit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Pending,
    Success,
    Failure,
}

impl State {
    /// Returns the word of GitHub and Gitea.
    pub fn word(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Success => "success",
            State::Failure => "failure",
        }
    }

    /// Returns the word of GitLab.
    fn gitlab_word(self) -> &'static str {
        match self {
            State::Pending => "pending",
            State::Success => "success",
            State::Failure => "failed",
        }
    }

    fn parse(word: &str) -> State {
        match word {
            "success" | "skipped" => State::Success,
            "pending" | "running" | "created" => State::Pending,
            _ => State::Failure,
        }
    }
}

/// What is said of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whose status it is: `fleetform/<fleet>`. A later one of the same context replaces it.
    pub context: String,
    pub state: State,
    /// One line; what a forge has no room for is cut.
    pub description: String,
    /// Where to read more; http or https.
    pub link: Option<String>,
}

impl Forge {
    /// Sets the status of a commit, which is named by its whole id.
    ///
    /// # Errors
    /// The forge does not take it, or was not reached; `ForgeError::Unusable`: that is no id.
    pub fn set_status(&self, commit: &str, status: &Status) -> Result<(), ForgeError> {
        check_commit(commit)?;
        let (kind, project) = (self.place.kind(), self.place.project_path());
        let path = match kind {
            Kind::GitHub | Kind::Gitea => format!("/repos/{project}/statuses/{commit}"),
            Kind::GitLab => format!("/projects/{project}/statuses/{commit}"),
        };
        let call = Call { method: "POST", path: &path, body: Some(&body(kind, status)), doing: "set a commit status" };
        match self.http.call(&self.token.read()?, &call) {
            Ok(_) => Ok(()),
            // GitLab has no transition from a state to itself: it stands as it should.
            Err(ForgeError::Refused { status: 400, message, .. })
                if kind == Kind::GitLab && message.contains("Cannot transition status") =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the state of a commit in a context; `None` when none is set.
    ///
    /// # Errors
    /// The forge does not answer, or nothing that can be used; `ForgeError::Unusable`: that is no id.
    pub fn state_of(&self, commit: &str, context: &str) -> Result<Option<State>, ForgeError> {
        check_commit(commit)?;
        let project = self.place.project_path();
        let path = match self.place.kind() {
            // The newest first.
            Kind::GitHub => format!("/repos/{project}/commits/{commit}/statuses?per_page={FORGE_PAGE_ITEMS}"),
            Kind::Gitea => {
                format!("/repos/{project}/commits/{commit}/statuses?sort=recentupdate&limit={FORGE_PAGE_ITEMS}")
            }
            Kind::GitLab => {
                format!("/projects/{project}/repository/commits/{commit}/statuses?per_page={FORGE_PAGE_ITEMS}")
            }
        };
        let call = Call { method: "GET", path: &path, body: None, doing: "read commit statuses" };
        let answer = self.http.call(&self.token.read()?, &call)?;
        let list = answer.as_array().ok_or_else(|| self.http.strange("it is no list of statuses"))?;
        let text = |one: &Value, names: [&str; 2]| {
            names.iter().find_map(|name| one[*name].as_str().map(str::to_string)).unwrap_or_default()
        };
        // GitHub has `context` and `state`, Gitea `context` and `status`, GitLab `name` and `status`.
        let ours = list.iter().find(|one| text(one, ["context", "name"]) == context);
        Ok(ours.map(|one| State::parse(&text(one, ["state", "status"]))))
    }
}

/// It becomes a part of a path.
fn check_commit(commit: &str) -> Result<(), ForgeError> {
    if matches!(commit.len(), 40 | 64) && commit.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(());
    }
    let what = format!("`{}` is no commit", sanitize_line(commit));
    Err(ForgeError::Unusable { what, help: "Name it by all of its 40 hex digits.".to_string() })
}

fn body(kind: Kind, status: &Status) -> Value {
    let Status { context, state, description, link } = status;
    let state = if kind == Kind::GitLab { state.gitlab_word() } else { state.word() };
    let description = sanitize_line(description);
    let mut body = json!({
        "state": state,
        "context": shorten(context, FORGE_CONTEXT_CHARS_MAX),
        "description": shorten(&description, kind.description_chars_max()),
    });
    // A link that is cut leads nowhere.
    if let Some(link) = link.as_deref().filter(|link| link.chars().count() <= FORGE_LINK_CHARS_MAX) {
        body["target_url"] = Value::from(link);
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_has_the_room_of_its_forge() {
        let status = Status {
            context: "fleetform/acme".to_string(),
            state: State::Failure,
            description: "ä\n".repeat(300),
            link: Some("https://fleet.example.com/".to_string()),
        };
        for (kind, state, room) in
            [(Kind::GitHub, "failure", 140), (Kind::Gitea, "failure", 140), (Kind::GitLab, "failed", 255)]
        {
            let body = body(kind, &status);
            let description = body["description"].as_str().unwrap();
            assert_eq!(description.chars().count(), room, "{description}");
            assert!(!description.contains('\n') && body["state"] == state && body["target_url"].is_string());
        }
        let long = Status { link: Some(format!("https://{}", "x".repeat(300))), ..status };
        assert!(body(Kind::GitHub, &long)["target_url"].is_null());
    }
}
