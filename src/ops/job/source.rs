//! What declared a run: its document at the commit that it was claimed from, and who changed that last.

use super::history::History;
use crate::ledger::RunRecord;
use crate::model::limits;
use crate::prepare::{Files, OnError, TreeChoice};
use crate::repo::CommitInfo;

/// What declared a run.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file of its document, from the fleet's folder.
    pub file: String,
    /// What the file had at the commit that the run was claimed from.
    pub text: String,
    /// The commit that gave the file that content; `None` where that cannot be told, as in a clone that was cut off.
    pub change: Option<CommitInfo>,
    /// What the file had before that commit; `None` when it was not there, or is not known.
    pub before: Option<String>,
}

impl History<'_> {
    /// Returns what declared a run; `None` when its commit or its file is not here, or the file has documents that are
    /// not to be shown.
    pub(super) fn source(&self, record: &RunRecord) -> Option<Source> {
        let repo = &self.view.workspace.repo;
        let commit = &record.source_commit;
        let text_at = |commit: &str, file: &str| {
            let bytes = repo.file_at(commit, file, limits::YAML_FILE_BYTES_MAX)?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let file = self.file_of(record)?;
        let text = text_at(commit, &file)?;
        if !self.shows_all() && is_of_many(&text) {
            return None;
        }
        let change = repo.last_change(&file, commit, None).and_then(|change| repo.commit(&change.id).ok());
        let before = change.as_ref().and_then(|change| text_at(change.parents.first()?, &file));
        if !self.shows_all() && before.as_deref().is_some_and(is_of_many) {
            return None;
        }
        Some(Source { file, text, change, before })
    }

    /// Returns the newest commit that changed a file.
    pub(super) fn last_change(&self, file: &str) -> Option<CommitInfo> {
        let repo = &self.view.workspace.repo;
        let change = repo.last_change(file, &repo.head().ok()?, None)?;
        repo.commit(&change.id).ok()
    }

    /// Returns the file that declared a run: the one that does now where it did then, else one that is looked for.
    fn file_of(&self, record: &RunRecord) -> Option<String> {
        let (repo, commit) = (&self.view.workspace.repo, &record.source_commit);
        let names = |file: &str| {
            let bytes = repo.file_at(commit, file, limits::YAML_FILE_BYTES_MAX);
            bytes.is_some_and(|bytes| String::from_utf8_lossy(&bytes).contains(record.job.as_str()))
        };
        let now = self.declared_run(record).map(|job| job.file.clone());
        if let Some(file) = now.filter(|file| names(file)) {
            return Some(file);
        }
        let choice = TreeChoice::Revision(commit);
        let files = Files::read_all(self.view.workspace, choice, OnError::Hold).ok()?;
        let job = files.loaded.job(record.job.as_str()).map(|job| job.file);
        job.or_else(|| files.loaded.schedule(record.job.as_str()).map(|(_, file)| file.to_string()))
    }
}

/// Returns true for a file that may have several documents: others may be of another organization.
fn is_of_many(text: &str) -> bool {
    text.lines()
        .skip_while(|line| line.trim().is_empty() || line.starts_with(['#', '%']))
        .skip(1)
        .any(|line| line.starts_with("---") || line.starts_with("..."))
}
