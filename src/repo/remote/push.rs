//! Pushes: a branch of the remote is moved by compare-and-swap.

use git2::{Oid, Repository};

use super::answer::{Fault, PushStatus, lacks_atomic, message_of, pushed_to, status_of};
use super::git::GitOutput;
use super::{Remote, RemoteError, check_branch};
use crate::model::text::sanitize_line;

/// A branch of the remote that is to be at a commit, when it is where it is expected.
#[derive(Debug, Clone, Copy)]
pub struct Move<'a> {
    pub branch: &'a str,
    pub commit: &'a str,
    /// `None` expects that there is no such branch.
    pub expected: Option<&'a str>,
}

impl Remote {
    /// Moves a branch of the remote to a commit, never by force. The branch must be at `expected`, an ancestor of the
    /// commit; with `None` it must not exist. A branch that is at the commit already is a success. A branch of the
    /// remote that is named `refs/heads/` and this name is in the way, and may be moved instead:
    /// [`RemoteError::Failed`] names it.
    ///
    /// # Errors
    /// [`RemoteError::Rejected`] when the branch is elsewhere; otherwise any. When [`RemoteError::is_open`] is true for
    /// the error, only a fetch can tell whether the branch was moved.
    pub fn push(&self, commit: &str, branch: &str, expected: Option<&str>) -> Result<(), RemoteError> {
        let (moved, reference) = (Move { branch, commit, expected }, format!("refs/heads/{branch}"));
        self.check_move(&moved)?;
        let said = self.run_push(&[], &[&moved])?;
        match status_of(&said.stdout, &reference) {
            // The server has confirmed the push; what failed in git after that was local.
            Some(status) if status.is_done() => Ok(()),
            Some(status) if !status.is_done() && said.status.is_some() => {
                let message = message_of(Some(status.reason()), &said.stderr);
                Err(self.error_with(status.fault(), "push to", branch, message))
            }
            None if let Some(other) = pushed_to(&said.stdout) => {
                Err(self
                    .failed("push to", &format!("its branch `{}` is in the way of `{branch}`", sanitize_line(other))))
            }
            _ => Err(self.error(self.fault(&said), "push to", self.push_time_max, &said)),
        }
    }

    /// Moves a branch of the remote as [`Remote::push`] does, and replaces another one beside it: both are moved, or
    /// none is. A branch whose commit is the one that it is expected at stays there, and is compared only when the
    /// connection is made.
    ///
    /// # Errors
    /// [`RemoteError::Rejected`] when one of them is elsewhere. [`RemoteError::Alone`] when the remote takes no other
    /// branch beside the first, or does not let this one be replaced: nothing was moved. Otherwise as
    /// [`Remote::push`].
    pub fn push_both(&self, moved: &Move<'_>, beside: &Move<'_>) -> Result<(), RemoteError> {
        self.check_move(moved)?;
        check_branch(beside.branch)?;
        check_ids(beside)?;
        let said = self.run_push(&["--atomic"], &[moved, beside])?;
        let of = |one: &Move<'_>| status_of(&said.stdout, &format!("refs/heads/{}", one.branch));
        let statuses: Vec<(&Move<'_>, PushStatus<'_>)> =
            [moved, beside].into_iter().filter_map(|one| Some((one, of(one)?))).collect();
        let is_done = |(one, status): &(&Move<'_>, PushStatus<'_>)| {
            status.is_done() || (one.branch == beside.branch && status.is_forced())
        };
        if statuses.len() == 2 && statuses.iter().all(is_done) {
            return Ok(());
        }
        if said.status.is_some() && lacks_atomic(&said.stderr) {
            return Err(self.alone(beside.branch, message_of(None, &said.stderr)));
        }
        // The other one fails with the one that is at fault, and says nothing of its own.
        let mut at_fault: Vec<_> = statuses.iter().filter(|one| !is_done(one) && !one.1.is_follower()).collect();
        if at_fault.is_empty() {
            at_fault.extend(statuses.iter().filter(|one| !is_done(one)));
        }
        let (Some((one, status)), Some(_)) = (at_fault.first(), said.status) else {
            return Err(self.error(self.fault(&said), "push to", self.push_time_max, &said));
        };
        let message = message_of(Some(status.reason()), &said.stderr);
        // Both may be refused because of either: the first shows alone whether it was because of it.
        match status.fault() {
            Fault::Denied => Err(self.alone(beside.branch, message)),
            Fault::Rejected if one.branch == beside.branch && status.forbids_force() => {
                Err(self.alone(beside.branch, message))
            }
            fault => Err(self.error_with(fault, "push to", one.branch, message)),
        }
    }

    fn alone(&self, branch: &str, message: String) -> RemoteError {
        RemoteError::Alone { remote: self.shown(), branch: branch.to_string(), message }
    }

    /// Removes a branch of the remote that is at a commit.
    ///
    /// # Errors
    /// The branch is elsewhere, or the remote does not take it.
    pub fn remove(&self, branch: &str, expected: &str) -> Result<(), RemoteError> {
        check_branch(branch)?;
        check_ids(&Move { branch, commit: expected, expected: None })?;
        // A push of nothing removes it.
        let said = self.run_push(&[], &[&Move { branch, commit: "", expected: Some(expected) }])?;
        match said.is_success() {
            true => Ok(()),
            false => Err(self.error(self.fault(&said), "push to", self.push_time_max, &said)),
        }
    }

    /// Refuses a move that git would force: it does when the lease holds.
    fn check_move(&self, moved: &Move<'_>) -> Result<(), RemoteError> {
        check_branch(moved.branch)?;
        check_ids(moved)?;
        match moved.expected {
            Some(expected) if !self.descends(moved.commit, expected)? => {
                let what = format!("the commit {} does not come after {expected}", moved.commit);
                Err(self.failed("push to", &what))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn run_push(&self, options: &[&str], moves: &[&Move<'_>]) -> Result<GitOutput, RemoteError> {
        let mut arguments = vec![
            "push",
            "--porcelain",
            "--no-progress",
            "--no-verify",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--no-force-if-includes",
        ];
        arguments.extend(options);
        let lease = |one: &&Move<'_>| {
            format!("--force-with-lease=refs/heads/{}:{}", one.branch, one.expected.unwrap_or_default())
        };
        let leases: Vec<String> = moves.iter().map(lease).collect();
        let refspecs: Vec<String> =
            moves.iter().map(|one| format!("{}:refs/heads/{}", one.commit, one.branch)).collect();
        arguments.extend(leases.iter().map(String::as_str));
        arguments.extend(["--", &self.address]);
        arguments.extend(refspecs.iter().map(String::as_str));
        // A clone made with `--mirror` would push everything by force, and refuses to push a single branch.
        let mirror = format!("remote.{}.mirror=false", self.address);
        let is_name = !self.address.contains(['/', ':', '=']);
        let settings: &[&str] = if is_name { &[&mirror] } else { &[] };
        self.run(self.push_time_max, settings, &arguments)
    }

    /// Returns why a branch that is where it was expected cannot be moved: `error` was that somebody else moved it.
    pub(in crate::repo) fn unmoved(&self, error: RemoteError, branch: &str) -> RemoteError {
        match self.in_the_way(branch) {
            Ok(Some(other)) => RemoteError::InTheWay { remote: self.shown(), branch: branch.to_string(), other },
            Ok(None) | Err(_) => error.though_unmoved(),
        }
    }

    /// Returns a branch of the remote because of which one of this name cannot exist there: git keeps a branch in a
    /// file, and `a` and `a/b` would be a file and a folder.
    fn in_the_way(&self, branch: &str) -> Result<Option<String>, RemoteError> {
        let above: Vec<String> =
            branch.match_indices('/').map(|(at, _)| format!("refs/heads/{}", &branch[..at])).collect();
        let below = format!("refs/heads/{branch}/*");
        let mut arguments = vec!["ls-remote", "--quiet", "--heads", "--", &self.address];
        arguments.extend(above.iter().map(String::as_str).chain([below.as_str()]));
        let said = self.run(self.ask_time_max, &[], &arguments)?;
        let prefix = below.trim_end_matches('*');
        // The remote also answers with branches whose names only end like these.
        let names = said.stdout.lines().filter_map(|line| line.split_once('\t')).map(|(_, name)| name);
        let other = names.filter(|name| above.iter().any(|one| one == name) || name.starts_with(prefix));
        Ok(other
            .filter_map(|name| name.strip_prefix("refs/heads/"))
            .map(|name| sanitize_line(name).into_owned())
            .next())
    }

    fn descends(&self, commit: &str, from: &str) -> Result<bool, RemoteError> {
        let descends = || {
            let (commit, from) = (Oid::from_str(commit)?, Oid::from_str(from)?);
            let repository = Repository::open(&self.repository)?;
            Ok(commit == from || repository.graph_descendant_of(commit, from)?)
        };
        descends().map_err(|error: git2::Error| self.failed("push to", error.message()))
    }
}

fn check_ids(moved: &Move<'_>) -> Result<(), RemoteError> {
    for id in [Some(moved.commit), moved.expected].into_iter().flatten() {
        if id.len() != 40 || Oid::from_str(id).is_err() {
            return Err(RemoteError::BadName { name: sanitize_line(id).into_owned(), what: "commit" });
        }
    }
    Ok(())
}
