//! Who changed a file last, and in which commit.

use std::path::Path;

use git2::{Commit, Oid};
use jiff::Timestamp;

use super::{Repo, ResultsBranch};
use crate::model::text::{sanitize_line, shorten};

/// The walk ends after this many commits, which take a second or two.
const COMMITS_MAX: usize = 100_000;
/// Characters of an author or a subject that are shown.
const SHOWN_CHARS_MAX: usize = 72;

/// A commit as a sentence names it; `Display` is `AUTHOR in 1a2b3c4d5e6f (SUBJECT)`, safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedCommit {
    /// 40 hex digits, or 64.
    pub id: String,
    pub author: String,
    pub subject: String,
    /// When it was made, by the clock of who made it.
    pub at: Timestamp,
}

impl std::fmt::Display for NamedCommit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |text: &str| shorten(&sanitize_line(text), SHOWN_CHARS_MAX).into_owned();
        let id: String = self.id.chars().take(12).collect();
        write!(f, "{} in {id} ({})", shown(&self.author), shown(&self.subject))
    }
}

impl NamedCommit {
    fn of(commit: &Commit<'_>) -> NamedCommit {
        let author = commit.author();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        NamedCommit {
            id: commit.id().to_string(),
            author: text(author.name_bytes()),
            at: Timestamp::from_second(commit.time().seconds()).unwrap_or_default(),
            subject: text(commit.message_bytes()).trim_start().lines().next().unwrap_or_default().to_string(),
        }
    }
}

impl Repo {
    /// Returns a commit by its id; `None` when it is not here.
    pub fn named_commit(&self, id: &str) -> Option<NamedCommit> {
        let commit = self.repository.find_commit(Oid::from_str(id).ok()?).ok()?;
        Some(NamedCommit::of(&commit))
    }

    /// Returns the commit that gave a file, as a path from the fleet's folder, what it has at `tip`, or removed it.
    /// `None` when it has the same at `since`, and where that cannot be told, as in a clone that was cut off.
    pub fn last_change(&self, path: &str, tip: &str, since: Option<&str>) -> Option<NamedCommit> {
        last_change(&self.repository, &format!("{}{path}", self.prefix), tip, since)
    }
}

impl ResultsBranch<'_> {
    /// Returns the commit that wrote a file of the branch last; `None` when it is not there.
    pub fn last_change(&self, path: &str) -> Option<NamedCommit> {
        let tip = self.tip().ok()??;
        entry(&self.repository().find_commit(Oid::from_str(&tip).ok()?).ok()?, path)?;
        last_change(self.repository(), path, &tip, None)
    }
}

/// Goes back from a tip, always to a parent that has the file as the tip has it, as `git log` does.
fn last_change(repository: &git2::Repository, path: &str, tip: &str, since: Option<&str>) -> Option<NamedCommit> {
    let mut commit = repository.find_commit(Oid::from_str(tip).ok()?).ok()?;
    let content = entry(&commit, path);
    let since = since.and_then(|since| repository.find_commit(Oid::from_str(since).ok()?).ok());
    if since.is_some_and(|since| entry(&since, path) == content) {
        return None;
    }
    for _ in 0..COMMITS_MAX {
        // The first commit of all made the files that it has.
        if commit.parent_count() == 0 {
            return content.filter(|_| !repository.is_shallow()).map(|_| NamedCommit::of(&commit));
        }
        // Where a clone was cut off, a commit has parents that are not there.
        let parents: Option<Vec<Commit<'_>>> = commit.parent_ids().map(|id| repository.find_commit(id).ok()).collect();
        match parents?.into_iter().find(|parent| entry(parent, path) == content) {
            Some(parent) => commit = parent,
            None => return Some(NamedCommit::of(&commit)),
        }
    }
    None
}

/// Returns what git calls the content of a file at a commit; `None` when it is not there.
fn entry(commit: &Commit<'_>, path: &str) -> Option<Oid> {
    commit.tree().ok()?.get_path(Path::new(path)).ok().map(|entry| entry.id())
}
