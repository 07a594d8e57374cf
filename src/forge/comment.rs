//! One comment on a pull request, found again by a hidden marker.

use serde_json::{Value, json};

use super::Forge;
use super::error::ForgeError;
use super::http::Call;
use super::place::Kind;
use super::token::Token;
use crate::model::limits::{FORGE_PAGE_ITEMS, FORGE_PAGES_MAX};

/// A comment that was made or brought up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    pub id: u64,
    /// It was not there before.
    pub is_new: bool,
}

/// Who writes comments with a token.
enum Author {
    Named(String),
    /// The token of an app: GitHub does not tell it who it is, but marks what apps write.
    App,
}

/// Returns the hidden first line of the comment of a fleet, by the folder of the fleet in its repository; empty for its
/// root. A folder cannot end the marker: what is neither a letter nor a digit nor one of `._/`, and a `-` that is not
/// between two of them, is written as `%` and its byte.
pub fn marker(folder: &str) -> String {
    let bytes = folder.trim_end_matches('/').as_bytes();
    let is_plain = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || b"._/".contains(byte));
    let mut name = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        let is_hyphen = *byte == b'-' && at > 0 && is_plain(at - 1) && is_plain(at + 1);
        if is_plain(at) || is_hyphen {
            name.push(char::from(*byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    if name.is_empty() { "<!-- fleetform:plan -->".to_string() } else { format!("<!-- fleetform:plan {name} -->") }
}

impl Forge {
    /// Makes the comment of a pull request that begins with a marker, or brings it up to date. One of somebody else that
    /// begins so is left alone: its author could change it later.
    ///
    /// # Errors
    /// The forge does not take it, was not reached, or has more comments than are looked through.
    pub fn upsert_comment(&self, change: u64, marker: &str, body: &str) -> Result<Comment, ForgeError> {
        let token = self.token.read()?;
        let author = self.author(&token)?;
        let body = json!({"body": body});
        let (method, path, is_new) = match self.find_comment(&token, change, marker, &author)? {
            Some(id) => (self.update_method(), self.comment_path(change, id), false),
            None => ("POST", self.comments_path(change), true),
        };
        let call = Call { method, path: &path, body: Some(&body), doing: "write comments" };
        let answer = self.http.call(&token, &call)?;
        let id = answer["id"].as_u64().ok_or_else(|| self.http.strange("the comment has no id"))?;
        Ok(Comment { id, is_new })
    }

    fn update_method(&self) -> &'static str {
        match self.place.kind() {
            Kind::GitHub | Kind::Gitea => "PATCH",
            Kind::GitLab => "PUT",
        }
    }

    fn comments_path(&self, change: u64) -> String {
        let project = self.place.project_path();
        match self.place.kind() {
            Kind::GitHub | Kind::Gitea => format!("/repos/{project}/issues/{change}/comments"),
            Kind::GitLab => format!("/projects/{project}/merge_requests/{change}/notes"),
        }
    }

    fn comment_path(&self, change: u64, id: u64) -> String {
        let project = self.place.project_path();
        match self.place.kind() {
            Kind::GitHub | Kind::Gitea => format!("/repos/{project}/issues/comments/{id}"),
            Kind::GitLab => format!("/projects/{project}/merge_requests/{change}/notes/{id}"),
        }
    }

    /// Returns who the token is of.
    fn author(&self, token: &Token) -> Result<Author, ForgeError> {
        let call = Call { method: "GET", path: "/user", body: None, doing: "ask who it is of" };
        let name = match self.place.kind() {
            Kind::GitHub | Kind::Gitea => "login",
            Kind::GitLab => "username",
        };
        match self.http.call(token, &call) {
            Ok(user) => {
                let name = user[name].as_str().ok_or_else(|| self.http.strange("the user has no name"))?;
                Ok(Author::Named(name.to_string()))
            }
            // The token of a workflow is of no user. GitLab has users for all of its tokens that may write notes.
            Err(ForgeError::Denied { status: 403 | 404, .. }) if self.place.kind() != Kind::GitLab => Ok(Author::App),
            Err(error) => Err(error),
        }
    }

    fn find_comment(
        &self,
        token: &Token,
        change: u64,
        marker: &str,
        author: &Author,
    ) -> Result<Option<u64>, ForgeError> {
        let base = self.comments_path(change);
        for page in 1..=FORGE_PAGES_MAX {
            let path = match self.place.kind() {
                Kind::GitHub => format!("{base}?per_page={FORGE_PAGE_ITEMS}&page={page}"),
                Kind::GitLab => {
                    format!("{base}?sort=asc&order_by=created_at&per_page={FORGE_PAGE_ITEMS}&page={page}")
                }
                // It has all of them on one page.
                Kind::Gitea => base.clone(),
            };
            let call = Call { method: "GET", path: &path, body: None, doing: "read comments" };
            let answer = self.http.call(token, &call)?;
            let list = answer.as_array().ok_or_else(|| self.http.strange("it is no list of comments"))?;
            let ours = list.iter().find(|one| begins_with(one, marker) && self.is_of(one, author));
            if let Some(id) = ours.and_then(|one| one["id"].as_u64()) {
                return Ok(Some(id));
            }
            if list.len() < FORGE_PAGE_ITEMS || self.place.kind() == Kind::Gitea {
                return Ok(None);
            }
        }
        let most = FORGE_PAGES_MAX as usize * FORGE_PAGE_ITEMS;
        Err(self.http.strange(&format!("it has more than {most} comments")))
    }

    fn is_of(&self, comment: &Value, author: &Author) -> bool {
        let (user, name) = match self.place.kind() {
            Kind::GitHub | Kind::Gitea => (&comment["user"], "login"),
            Kind::GitLab => (&comment["author"], "username"),
        };
        match author {
            Author::Named(login) => user[name].as_str() == Some(login),
            Author::App if self.place.kind() == Kind::GitHub => user["type"].as_str() == Some("Bot"),
            // What workflows of Gitea and Forgejo write is of users that nobody can be.
            Author::App => matches!(user[name].as_str(), Some("gitea-actions" | "forgejo-actions")),
        }
    }
}

fn begins_with(comment: &Value, marker: &str) -> bool {
    comment["body"].as_str().is_some_and(|body| body.lines().next().map(str::trim_end) == Some(marker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_a_marker_of_its_own_and_cannot_end_it() {
        assert_eq!(marker(""), "<!-- fleetform:plan -->");
        assert_eq!(marker("fleets/hall-c/"), "<!-- fleetform:plan fleets/hall-c -->");
        assert_eq!(marker("a-->b-"), "<!-- fleetform:plan a%2D%2D%3Eb%2D -->");
        assert_ne!(marker("a-b"), marker("a%2Db"));
    }
}
