//! Checks that the results branch only grew, by commits of fleetform.

use git2::Oid;

use super::{RepoError, ResultsBranch};
use crate::model::text::sanitize_line;

/// The result of an audit of the results branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audit {
    /// The branch grew commit by commit, each written by fleetform.
    Sound,
    /// The branch no longer has the commit that was its tip before.
    Rewritten,
    /// The former tip came after the tip, and this repository still has it, though no remote is known to: the branch
    /// was put back, or is the older one of a remote. The repository has remotes.
    PutBack,
    /// A remote was last seen with the former tip, or the former tip is not in this repository, which has remotes to
    /// fetch it from.
    Behind { is_on_remote: bool },
    /// The branch has a commit that fleetform did not write, or a merge.
    Foreign { commit: String },
}

/// A remote that was last seen with commits of the results branch that the local branch lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    pub remote: String,
    /// Commits that only the remote has.
    pub commits: usize,
    /// Commits that only the local branch has: the two have diverged unless it is 0.
    pub own: usize,
}

impl Behind {
    /// Says how a branch of a name stands, as the beginning of a sentence.
    pub fn text(&self, branch: &str) -> String {
        let Behind { remote, commits, own } = self;
        let (branch, remote) = (sanitize_line(branch), sanitize_line(remote));
        let commits_of = |count: usize| if count == 1 { "1 commit".to_string() } else { format!("{count} commits") };
        let there = commits_of(*commits);
        match own {
            0 => format!("The branch {branch} here is {there} behind {remote}'s, as of the last fetch"),
            own => format!(
                "The branch {branch} has {} here that {remote}'s lacks, and {remote}'s has {there} that it lacks, as of \
                 the last fetch",
                commits_of(*own)
            ),
        }
    }

    /// Says what to do about it.
    pub fn help(&self, branch: &str) -> String {
        let (branch, remote) = (sanitize_line(branch), sanitize_line(&self.remote));
        match self.own {
            0 => format!("Fetch it: `git fetch {remote} {branch}:{branch}`."),
            _ => format!(
                "Where fleetform works on the fleet, the next `fleetform apply` puts its commits on top. Elsewhere, take \
                 the remote's: `git branch --force {branch} {remote}/{branch}`."
            ),
        }
    }
}

impl ResultsBranch<'_> {
    /// Returns the source commit of the newest results, from their trailers; `None` when no commit has one.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn last_source(&self) -> Result<Option<String>, RepoError> {
        let Some(mut at) = self.tip_id()? else { return Ok(None) };
        loop {
            let fail = |e| self.error("read the history of results", e);
            let commit = self.repository().find_commit(at).map_err(fail)?;
            let message = commit.message().unwrap_or_default();
            if let Some(source) = message.lines().find_map(|line| line.strip_prefix("Fleetform-Source: ")) {
                return Ok(Some(source.trim().to_string()));
            }
            match commit.parent_id(0) {
                Ok(parent) => at = parent,
                Err(_) => return Ok(None),
            }
        }
    }

    /// Returns the remote that was last seen furthest ahead of the local branch. Returns `None` when no remote has more,
    /// and when there is no local branch: then the remote's is read.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn behind_tracked(&self) -> Result<Option<Behind>, RepoError> {
        let Some(local) = self.local_id()? else { return Ok(None) };
        let fail = |e| self.error("compare the results branch with its remotes", e);
        let mut most: Option<Behind> = None;
        for remote in self.repository().remotes().map_err(fail)?.iter().flatten().flatten() {
            let name = format!("refs/remotes/{remote}/{}", self.name());
            let Ok(there) = self.repository().refname_to_id(&name) else { continue };
            let (own, commits) = self.repository().graph_ahead_behind(local, there).map_err(fail)?;
            if commits > most.as_ref().map_or(0, |most| most.commits) {
                most = Some(Behind { remote: remote.to_string(), commits, own });
            }
        }
        Ok(most)
    }

    /// Returns what became of a branch that does not have its former tip.
    fn without(&self, seen: Oid, tip: Oid) -> Audit {
        let has_remote = self.repository().remotes().is_ok_and(|remotes| !remotes.is_empty());
        let is_here = self.repository().find_commit(seen).is_ok();
        let is_after = || self.repository().graph_descendant_of(seen, tip).unwrap_or(false);
        match (has_remote, is_here) {
            (true, true) if self.is_tracked(seen) && is_after() => Audit::Behind { is_on_remote: true },
            (true, false) => Audit::Behind { is_on_remote: false },
            (true, true) if is_after() => Audit::PutBack,
            (true, true) | (false, _) => Audit::Rewritten,
        }
    }

    /// Returns true when a remote was last seen with a commit on its branch of this name.
    fn is_tracked(&self, commit: Oid) -> bool {
        let remotes = self.repository().remotes();
        let tip = |remote: &str| self.repository().refname_to_id(&format!("refs/remotes/{remote}/{}", self.name()));
        let has = |tip: Oid| tip == commit || self.repository().graph_descendant_of(tip, commit).unwrap_or(false);
        remotes.is_ok_and(|remotes| remotes.iter().flatten().flatten().any(|remote| tip(remote).is_ok_and(has)))
    }

    /// Moves the local branch forward to a commit that came after its tip, or makes it there.
    ///
    /// # Errors
    /// The commit did not come after the tip; otherwise as [`ResultsBranch::commit`].
    pub fn move_forward(&self, to: &str) -> Result<(), RepoError> {
        let fail = |e| self.error("move the results branch", e);
        let to = Oid::from_str(to).map_err(fail)?;
        let is_after = |tip| self.repository().graph_descendant_of(to, tip).map_err(fail);
        let is_forward = self.tip_id()?.map(is_after).transpose()?.unwrap_or(false);
        if !is_forward {
            return Err(RepoError::Contended { branch: self.name().to_string() });
        }
        self.move_local(self.local_id()?, to)
    }

    /// Checks the commits since `seen`, a former tip, or all commits without one. A missing branch is sound.
    ///
    /// # Errors
    /// The history cannot be read.
    pub fn audit(&self, seen: Option<&str>) -> Result<Audit, RepoError> {
        match self.tip()? {
            Some(tip) => self.audit_of(&tip, seen, None),
            None => Ok(Audit::Sound),
        }
    }

    /// Returns what [`ResultsBranch::audit`] finds at a tip; `sound` is one that was found to be sound with the same
    /// `seen`, and what leads to it is not read again.
    ///
    /// # Errors
    /// As [`ResultsBranch::audit`].
    pub fn audit_of(&self, tip: &str, seen: Option<&str>, sound: Option<&str>) -> Result<Audit, RepoError> {
        let fail = |e| self.error("read the history of results", e);
        let tip = Oid::from_str(tip).map_err(fail)?;
        let [seen, sound] = [seen, sound].map(|id| id.and_then(|id| Oid::from_str(id).ok()));
        let mut at = tip;
        loop {
            if Some(at) == seen || Some(at) == sound {
                return Ok(Audit::Sound);
            }
            let commit = self.repository().find_commit(at).map_err(fail)?;
            let message = commit.message().unwrap_or_default().to_string();
            let is_ours = message.lines().any(|line| line.starts_with("Fleetform-Writer: "));
            if !is_ours || commit.parent_count() > 1 {
                return Ok(Audit::Foreign { commit: at.to_string() });
            }
            match commit.parent_id(0) {
                Ok(parent) => at = parent,
                Err(_) => return Ok(seen.map_or(Audit::Sound, |seen| self.without(seen, tip))),
            }
        }
    }
}
