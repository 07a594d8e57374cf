//! The history of the declared files, commit by commit, and how far it was verified.

use std::path::Path;

use git2::{Commit, Delta, Oid, Sort};

use super::{Repo, RepoError};
use crate::model::digest::Digest;

/// A commit of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    pub id: String,
    pub parents: Vec<String>,
    /// `Name <address>`, as it is written.
    pub author: String,
    /// The first line of the message.
    pub subject: String,
    pub message: String,
}

impl CommitInfo {
    /// Returns the text of a trailer of the message, such as `Fleetform-Vouch`; `None` without one that says anything.
    pub fn trailer(&self, name: &str) -> Option<String> {
        let message = self.message.replace("\r\n", "\n");
        let trailers = git2::message_trailers_strs(&message).ok()?;
        let found = trailers.iter().find(|(key, text)| key.eq_ignore_ascii_case(name) && !text.trim().is_empty());
        found.map(|(_, text)| text.trim().to_string())
    }
}

impl Repo {
    /// Returns a commit.
    ///
    /// # Errors
    /// It is not there.
    pub fn commit(&self, id: &str) -> Result<CommitInfo, RepoError> {
        let commit = self.find(id)?;
        let text = |text: Option<&str>| text.unwrap_or_default().to_string();
        let author = commit.author();
        let message = String::from_utf8_lossy(commit.message_bytes()).into_owned();
        Ok(CommitInfo {
            id: commit.id().to_string(),
            parents: commit.parent_ids().map(|id| id.to_string()).collect(),
            author: format!("{} <{}>", text(author.name().ok()), text(author.email().ok())),
            subject: message.lines().next().unwrap_or_default().to_string(),
            message,
        })
    }

    /// Returns the commits from `head` back along the line that `anchor` is on, the oldest first, without `until` and what
    /// is before it. At a merge the line goes on with the first parent that is the anchor or comes after it, else with
    /// the first one. The second value is true when `until` is not on that line, or there is none: then all of it.
    ///
    /// # Errors
    /// A commit is not there.
    pub fn line(
        &self,
        head: &str,
        until: Option<&str>,
        anchor: Option<&str>,
    ) -> Result<(Vec<String>, bool), RepoError> {
        let (mut ids, mut next) = (Vec::new(), Some(self.find(head)?));
        let mut anchor = anchor;
        while let Some(commit) = next {
            let id = commit.id().to_string();
            if Some(id.as_str()) == until {
                ids.reverse();
                return Ok((ids, false));
            }
            if Some(id.as_str()) == anchor {
                // Before it, the line is the one that leads to the end.
                anchor = until;
            }
            let mut parents = commit.parent_ids();
            let on_line =
                |parent: &Oid| anchor.is_some_and(|anchor| self.descends(&parent.to_string(), anchor) == Some(true));
            let chosen = match commit.parent_count() {
                0 | 1 => parents.next(),
                _ => commit.parent_ids().find(on_line).or_else(|| parents.next()),
            };
            ids.push(id);
            next = chosen.and_then(|parent| self.repository.find_commit(parent).ok());
        }
        ids.reverse();
        Ok((ids, true))
    }

    /// Returns the commits that a merge brings in: those behind its other parents and not behind the first, parents
    /// first.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn merged(&self, merge: &CommitInfo) -> Result<Vec<String>, RepoError> {
        match &merge.parents[..] {
            [first, second] => self.not_behind(second, first),
            _ => Ok(Vec::new()),
        }
    }

    /// Returns the commits behind one commit, and this itself, that are not behind another, parents first.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn not_behind(&self, commit: &str, other: &str) -> Result<Vec<String>, RepoError> {
        let list = || {
            let mut walk = self.repository.revwalk()?;
            walk.set_sorting(Sort::TOPOLOGICAL | Sort::REVERSE)?;
            walk.push(Oid::from_str(commit)?)?;
            walk.hide(Oid::from_str(other)?)?;
            walk.map(|id| id.map(|id| id.to_string())).collect::<Result<Vec<String>, git2::Error>>()
        };
        list().map_err(|e| RepoError::git("read the history", self.repository.path(), e))
    }

    /// Returns true for a merge of two parents that adds nothing of its own: its tree is what merging them gives.
    pub fn adds_nothing(&self, merge: &CommitInfo) -> bool {
        let is_plain = || {
            let [one, other] = &merge.parents[..] else { return Ok(false) };
            let commit = self.repository.find_commit(Oid::from_str(&merge.id)?)?;
            let (one, other) = (Oid::from_str(one)?, Oid::from_str(other)?);
            let (one, other) = (self.repository.find_commit(one)?, self.repository.find_commit(other)?);
            let mut index = self.repository.merge_commits(&one, &other, None)?;
            if index.has_conflicts() {
                return Ok(false);
            }
            // Nothing is written: planning writes nothing.
            is_tree(&mut index, &commit)
        };
        is_plain().unwrap_or(false)
    }

    /// Returns the files of the fleet's folder that a commit has otherwise than another one, as paths from that folder.
    /// Without another one, all that it has.
    ///
    /// # Errors
    /// A commit is not there.
    pub fn changed_paths(&self, from: Option<&str>, to: &str) -> Result<Vec<String>, RepoError> {
        let fail = |e| RepoError::git("compare two commits", self.repository.path(), e);
        let tree = |id: &str| self.find(id)?.tree().map_err(fail);
        let (before, after) = (from.map(tree).transpose()?, tree(to)?);
        let mut options = git2::DiffOptions::new();
        if !self.prefix.is_empty() {
            options.pathspec(self.prefix.trim_end_matches('/')).disable_pathspec_match(true);
        }
        let diff =
            self.repository.diff_tree_to_tree(before.as_ref(), Some(&after), Some(&mut options)).map_err(fail)?;
        let mut paths = Vec::new();
        for delta in diff.deltas().filter(|delta| delta.status() != Delta::Unmodified) {
            let both = [delta.old_file().path_bytes(), delta.new_file().path_bytes()];
            for path in both.into_iter().flatten().map(String::from_utf8_lossy) {
                paths.extend(path.strip_prefix(self.prefix.as_str()).map(str::to_string));
            }
        }
        paths.sort_unstable();
        paths.dedup();
        Ok(paths)
    }

    /// Returns the bytes of a plain file of the fleet's folder at a commit; `None` when it is not there, is none, or has
    /// more than `max`.
    pub fn file_at(&self, commit: &str, path: &str, max: usize) -> Option<Vec<u8>> {
        let tree = self.find(commit).ok()?.tree().ok()?;
        let entry = tree.get_path(Path::new(&format!("{}{path}", self.prefix))).ok()?;
        if entry.filemode() & 0o170_000 != 0o100_000 {
            return None;
        }
        let blob = self.repository.find_blob(entry.id()).ok()?;
        (blob.size() <= max).then(|| blob.content().to_vec())
    }

    /// Returns what was noted of the fleet's history: `verified`, up to where it was verified, or `introduction`, the
    /// first commit that was.
    pub fn noted_history(&self, what: &str) -> Option<String> {
        self.repository.refname_to_id(&self.history_reference(what)).ok().map(|id| id.to_string())
    }

    /// Notes it.
    ///
    /// # Errors
    /// The reference cannot be written.
    pub fn note_history(&self, what: &str, commit: &str) -> Result<(), RepoError> {
        let fail = |e| RepoError::git("note what was verified", self.repository.path(), e);
        let id = Oid::from_str(commit).map_err(fail)?;
        let name = self.history_reference(what);
        self.repository.reference(&name, id, true, "verified").map(drop).map_err(fail)
    }

    fn history_reference(&self, what: &str) -> String {
        match self.prefix.trim_end_matches('/') {
            "" => format!("refs/fleetform/{what}/root"),
            // Not every name of a folder is one of a reference, and one may lie in another.
            folder => format!("refs/fleetform/{what}/{}", Digest::of_bytes(folder.as_bytes())),
        }
    }

    fn find(&self, id: &str) -> Result<Commit<'_>, RepoError> {
        let missing = || RepoError::NoRevision { revision: id.to_string() };
        self.repository.find_commit(Oid::from_str(id).map_err(|_| missing())?).map_err(|_| missing())
    }
}

/// Returns true when an index holds the files of a commit.
fn is_tree(index: &mut git2::Index, commit: &Commit<'_>) -> Result<bool, git2::Error> {
    let tree = commit.tree()?;
    let mut count = 0_usize;
    let mut differs = false;
    tree.walk(git2::TreeWalkMode::PreOrder, |folder, entry| {
        if entry.kind() == Some(git2::ObjectType::Tree) {
            return git2::TreeWalkResult::Ok;
        }
        count += 1;
        let mut path = folder.as_bytes().to_vec();
        path.extend(entry.name_bytes());
        let found = index.get_path(Path::new(&String::from_utf8_lossy(&path).into_owned()), 0);
        let is_same = found.is_some_and(|found| {
            found.id == entry.id() && i32::try_from(found.mode).is_ok_and(|mode| mode == entry.filemode())
        });
        if !is_same {
            differs = true;
            return git2::TreeWalkResult::Abort;
        }
        git2::TreeWalkResult::Ok
    })
    .or_else(|error| if differs { Ok(()) } else { Err(error) })?;
    Ok(!differs && count == index.len())
}
