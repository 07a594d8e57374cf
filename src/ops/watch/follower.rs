//! Which commit is the newest, and what of it can be used.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::source::Source;
use crate::manifest::ParsedFiles;
use crate::ops::{OpsError, Workspace};
use crate::prepare::{Files, OnError, PassedOver, Trust};
use crate::reconcile::Seen;
use crate::repo::{FLEET_FILE, RepoError};

/// Follows a branch from commit to commit.
pub struct Follower<'w> {
    workspace: &'w Workspace,
    pub source: Source,
    /// The newest commit whose Fleet document can be used.
    pub seen: Option<Seen<'w>>,
    /// Whose commits count.
    trust: Trust,
    /// What git calls the content of the files of its imports. What is declared in the others has a digest; one of both
    /// has to differ for a round.
    imported: BTreeMap<String, String>,
    /// The newest commit, when its Fleet document cannot be used.
    passed_over: Option<PassedOver>,
}

/// What a look has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Nothing is declared that was not before.
    Nothing,
    /// What was declared before is so again, after a commit that could not be used.
    Again,
    /// Something else is declared.
    Declared,
}

impl<'w> Follower<'w> {
    pub fn new(workspace: &'w Workspace, source: Source, trust: Trust) -> Follower<'w> {
        Follower { workspace, source, trust, seen: None, imported: BTreeMap::new(), passed_over: None }
    }

    /// Returns the newest commit when it cannot be used: the next one may be better.
    pub fn passed_over(&self) -> Option<&PassedOver> {
        self.passed_over.as_ref()
    }

    /// Takes up the newest commit. One whose Fleet document cannot be used is refused once and passed over.
    ///
    /// # Errors
    /// The commit cannot be read, has no fleet, or its Fleet document is invalid.
    pub fn look(&mut self, parsed: &mut ParsedFiles, now: Timestamp) -> Result<News, OpsError> {
        let Some(head) = self.source.head(self.workspace)? else { return Ok(News::Nothing) };
        if self.passed_over.as_ref().is_some_and(|one| one.commit == head) {
            return Ok(News::Nothing);
        }
        let is_new = self.take_up(head, parsed, now)?;
        // What comes after a commit that could not be used is told, also when it is as it was before.
        let was_passed_over = self.passed_over.take().is_some();
        Ok(match (is_new, was_passed_over) {
            (true, _) => News::Declared,
            (false, true) => News::Again,
            (false, false) => News::Nothing,
        })
    }

    /// Takes up a commit, and returns whether it declares something else than the one before.
    fn take_up(&mut self, head: String, parsed: &mut ParsedFiles, now: Timestamp) -> Result<bool, OpsError> {
        if self.seen.as_ref().is_some_and(|seen| seen.head == head) {
            return Ok(false);
        }
        let before = self.seen.as_ref().map(|seen| &seen.files.tree);
        let tree = self.workspace.repo.tree_after(&head, before).map_err(|error| self.no_folder(error))?;
        // A commit that changes no file may vouch for others.
        let governs = self.seen.as_ref().is_some_and(|seen| seen.files.may_be_governed(&self.workspace.repo));
        if let Some(seen) = &mut self.seen
            && seen.files.tree.tree == tree.tree
            && !governs
        {
            (seen.head, seen.files.tree) = (head, tree);
            return Ok(false);
        }
        let branch = self.source.branch(self.workspace);
        let place = (&self.workspace.repo, branch.as_deref());
        let files = Files::of_tree(tree, place, OnError::Hold, parsed);
        let trust = self.trust.resolved(&self.workspace.repo)?;
        let verified = files.verify(&self.workspace.repo, (&head, None), &trust)?;
        let files = files.hold(&verified, place, parsed);
        if !files.is_usable() {
            self.passed_over = Some(files.passing_over(&head));
            return Err(files.invalid().into());
        }
        let imported = imported(&files)?;
        let is_same = |old: &Files<'_>| old.loaded.digest == files.loaded.digest && old.held == files.held;
        match &mut self.seen {
            // Only the commit is another: nothing is declared that was not before.
            Some(old) if is_same(&old.files) && imported == self.imported => {
                (old.head, old.files.tree) = (head, files.tree);
                Ok(false)
            }
            _ => {
                (self.seen, self.imported) = (Some(Seen::new(head, files, now)), imported);
                Ok(true)
            }
        }
    }

    /// Returns what there is to say of a commit that does not have the fleet's folder: it may come with the next one.
    fn no_folder(&self, error: RepoError) -> OpsError {
        let RepoError::NoFleetAt { revision } = error else { return error.into() };
        let folder = self.workspace.repo.prefix().trim_end_matches('/');
        let mut help = format!("Commit a {FLEET_FILE} in it");
        if self.workspace.repo.is_mirror() {
            help.push_str(", or name the fleet's folder with --path");
        }
        OpsError::NotFound { what: format!("the commit {revision} has no folder `{folder}`"), help: help + "." }
    }
}

/// Returns what git calls the content of the files of imports, by path.
fn imported(files: &Files<'_>) -> Result<BTreeMap<String, String>, OpsError> {
    let imports = files.usable()?.imports.values();
    let content = imports.map(|import| Ok((import.file.clone(), files.tree.content_id(&import.file)?)));
    Ok(content.collect::<Result<_, RepoError>>()?)
}
