//! Pushes: a branch of the remote is moved by compare-and-swap.

use git2::{Oid, Repository};

use super::answer::{message_of, pushed_to, status_of};
use super::{Remote, RemoteError, check_branch};
use crate::model::text::sanitize_line;

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
        check_branch(branch)?;
        for id in [Some(commit), expected].into_iter().flatten() {
            if id.len() != 40 || Oid::from_str(id).is_err() {
                return Err(RemoteError::BadName { name: sanitize_line(id).into_owned(), what: "commit" });
            }
        }
        // Git forces the branch when the lease holds, so we check here that the commit descends from it.
        if let Some(expected) = expected
            && !self.descends(commit, expected)?
        {
            return Err(self.failed("push to", &format!("the commit {commit} does not come after {expected}")));
        }
        let reference = format!("refs/heads/{branch}");
        let lease = format!("--force-with-lease={reference}:{}", expected.unwrap_or_default());
        let refspec = format!("{commit}:{reference}");
        let arguments = [
            "push",
            "--porcelain",
            "--no-progress",
            "--no-verify",
            "--no-follow-tags",
            "--recurse-submodules=no",
            "--no-force-if-includes",
            &lease,
            "--",
            &self.address,
            &refspec,
        ];
        // A clone made with `--mirror` would push everything by force, and refuses to push a single branch.
        let mirror = format!("remote.{}.mirror=false", self.address);
        let is_name = !self.address.contains(['/', ':', '=']);
        let settings: &[&str] = if is_name { &[&mirror] } else { &[] };
        let said = self.run(self.push_time_max, settings, &arguments)?;
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
