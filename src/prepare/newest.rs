//! The newest files that can be used: those of a commit, or of one before it when its Fleet document has an error.

use std::sync::Arc;

use super::passed_over::PassedOver;
use super::{Files, OnError, PrepareError, TreeChoice, Workspace};
use crate::manifest::ParsedFiles;
use crate::model::limits::COMMITS_BACK_MAX;
use crate::repo::RepoError;

impl<'w> Files<'w> {
    /// Reads `HEAD` where all of it can be used, else the work tree where all of that can. With [`OnError::Hold`], else
    /// what can be used of the work tree, else of `HEAD`, else of the newest commit before it.
    ///
    /// # Errors
    /// Nothing can be used.
    pub(super) fn read_newest(workspace: &'w Workspace, on_error: OnError) -> Result<Files<'w>, PrepareError> {
        if let Ok(files) = Files::read(workspace, TreeChoice::Head, OnError::Refuse) {
            return Ok(files);
        }
        let error = match Files::read(workspace, TreeChoice::WorkTree, OnError::Refuse) {
            Err(error) if on_error == OnError::Hold => error,
            whole => return whole,
        };
        let usable = [TreeChoice::WorkTree, TreeChoice::Head].into_iter().find_map(|choice| {
            let files = Files::read_all(workspace, choice, OnError::Hold).ok()?;
            files.declared.is_some().then_some(files)
        });
        if let Some(files) = usable {
            return Ok(files);
        }
        // A folder that has no fleet any more is none. A mirror was made for one.
        let has_fleet = matches!(error, PrepareError::Invalid(_)) || workspace.repo.is_mirror();
        let before = || {
            let (head, branch) = (workspace.repo.head().ok()?, workspace.repo.head_branch());
            Files::before(workspace, (&head, branch.as_deref()), &mut ParsedFiles::default()).ok()?
        };
        has_fleet.then(before).flatten().ok_or(error)
    }

    /// Reads the newest commit before one that cannot be used, followed as `branch`, of which something can; with what
    /// is wrong with the one that is passed over. `None` when there is none near it.
    ///
    /// # Errors
    /// A commit cannot be read.
    pub fn before(
        workspace: &'w Workspace,
        (commit, branch): (&str, Option<&str>),
        parsed: &mut ParsedFiles,
    ) -> Result<Option<Files<'w>>, PrepareError> {
        let (repo, mut at) = (&workspace.repo, commit.to_string());
        let mut read = |at: &str| match repo.tree_at(at) {
            Ok(tree) => Ok(Some(Files::of_tree(tree, (repo, branch), OnError::Hold, parsed))),
            Err(RepoError::NoFleetAt { .. }) => Ok(None),
            Err(error) => Err(error),
        };
        let passed_over = match read(commit)? {
            Some(files) => PassedOver::of(commit, &files.loaded, &files.held),
            None => PassedOver::without_fleet(commit),
        };
        for _ in 0..COMMITS_BACK_MAX {
            // A clone may be cut off here.
            let parents = repo.commit(&at).map(|commit| commit.parents).unwrap_or_default();
            let Some(parent) = parents.into_iter().next() else { return Ok(None) };
            at = parent;
            if let Some(mut files) = read(&at)?.filter(Files::is_usable) {
                passed_over.add_to(Arc::make_mut(&mut files.held));
                files.passed_over = Some(Arc::new(passed_over));
                return Ok(Some(files));
            }
        }
        Ok(None)
    }

    /// Returns that the commit of these files is passed over.
    pub fn passing_over(&self, commit: &str) -> PassedOver {
        PassedOver::of(commit, &self.loaded, &self.held)
    }
}
