//! Which commit is the newest, and what of it can be used.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;

use super::super::guards::content_of;
use super::{Daemon, WatchOptions};
use crate::diag::Diagnostics;
use crate::manifest::{Loaded, Sound};
use crate::model::fleet::{Declared, Held};
use crate::ops::workspace::findings_of;
use crate::ops::{Findings, OpsError, Workspace};
use crate::prepare::load_sound;
use crate::repo::FleetTree;

/// Where the declared files come from.
#[derive(Debug)]
pub enum Source {
    /// A branch of the repository itself, as a full reference; `None` for `HEAD`.
    Local { reference: Option<String> },
}

impl Source {
    /// Returns the source that the options name.
    ///
    /// # Errors
    /// There is no such branch.
    pub fn open(workspace: &Workspace, options: &WatchOptions) -> Result<Source, OpsError> {
        let reference = options.branch.as_ref().map(|branch| format!("refs/heads/{branch}"));
        let source = Source::Local { reference };
        source.head(workspace)?;
        Ok(source)
    }

    /// Returns the newest commit.
    fn head(&self, workspace: &Workspace) -> Result<String, OpsError> {
        match self {
            Source::Local { reference: None } => Ok(workspace.repo.head()?),
            Source::Local { reference: Some(reference) } => Ok(workspace.repo.resolve(reference)?),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Local { reference: None } => f.write_str("HEAD"),
            Source::Local { reference: Some(reference) } => f.write_str(reference.trim_start_matches("refs/heads/")),
        }
    }
}

/// A commit as far as it can be used.
pub struct Seen<'w> {
    pub head: String,
    pub tree: FleetTree<'w>,
    pub loaded: Loaded,
    pub declared: Declared,
    /// Documents with errors.
    pub held: Held,
    /// The declared files with what git calls their content: what has to differ for a reconcile.
    content: BTreeMap<String, String>,
    /// What is held of it and what was found was told.
    pub is_told: Cell<bool>,
}

impl<'w> Daemon<'w> {
    /// Takes up the newest commit. One whose Fleet document cannot be used is refused once and passed over.
    pub(super) fn look(&mut self) -> Result<(), OpsError> {
        let head = self.source.head(self.workspace)?;
        let is_known = self.seen.as_ref().is_some_and(|seen| seen.head == head);
        if is_known || self.passed_over.as_ref() == Some(&head) {
            return Ok(());
        }
        let tree = self.workspace.repo.tree_at(&head)?;
        if let Some(seen) = &mut self.seen
            && seen.tree.tree == tree.tree
        {
            (seen.head, seen.tree) = (head, tree);
            return Ok(());
        }
        let seen = match Seen::load(head, tree)? {
            Ok(seen) => seen,
            Err((head, findings)) => {
                self.passed_over = Some(head);
                return Err(OpsError::Invalid(Box::new(findings)));
            }
        };
        let is_same = |old: &Seen<'w>| old.content == seen.content && old.held == seen.held;
        match &mut self.seen {
            // Only the commit is another: nothing is declared that was not before.
            Some(old) if is_same(old) => (old.head, old.tree) = (seen.head, seen.tree),
            _ => {
                self.is_due = true;
                self.rounds.reset();
                self.seen = Some(seen);
            }
        }
        self.passed_over = None;
        Ok(())
    }
}

impl<'w> Seen<'w> {
    /// The inner error: the commit, and what is wrong with its Fleet document.
    fn load(head: String, tree: FleetTree<'w>) -> Result<Result<Seen<'w>, (String, Findings)>, OpsError> {
        let Sound { mut loaded, held } = load_sound(&tree);
        let Some(declared) = loaded.declared.take() else {
            return Ok(Err((head, findings_of(&loaded, Diagnostics::new()))));
        };
        let content = content_of(&tree, &loaded)?;
        Ok(Ok(Seen { head, tree, loaded, declared, held, content, is_told: Cell::new(false) }))
    }
}
