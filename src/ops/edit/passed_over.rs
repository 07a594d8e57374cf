//! A commit on top of one that the daemon passes over.

use super::OpsError;
use crate::prepare::Files;

/// Refuses a commit on top of one whose Fleet document cannot be used: the daemon would not see it.
///
/// # Errors
/// [`OpsError::Held`]: the document cannot be used, and where.
pub(super) fn refuse_passed_over(files: &Files<'_>, commit: &str) -> Result<(), OpsError> {
    if files.is_usable() {
        return Ok(());
    }
    Err(OpsError::Held {
        what: format!(
            "the newest commit cannot be used, so a commit on it would stop nothing: {}",
            files.passing_over(commit).reason()
        ),
        help: "Mend that, commit it, and stop the job then.".to_string(),
    })
}
