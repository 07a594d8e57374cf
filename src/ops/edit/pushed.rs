//! Stops a job where there is no work tree: a commit on the branch that a daemon follows, pushed to its remote; or a
//! branch of its own, where the remote takes no commits on the followed one.

use super::passed_over::refuse_passed_over;
use super::{Edited, Environment, OpsError, Wish, Workspace, files_to_edit, suspended};
use crate::model::limits::STOP_CALL_TIME_MAX;
use crate::model::text::sanitize_line;
use crate::prepare::TreeChoice;
use crate::repo::{DeclaredFile, MIRRORED, Remote, RemoteError, RepoError, UpstreamError, source_reference};

/// How often a commit is made again because somebody else was faster.
const ATTEMPTS_MAX: usize = 5;
/// What the names of proposed branches begin with.
const PROPOSED: &str = "stop/";
/// The address of whoever acts by this process.
const EMAIL: &str = "fleetform@localhost";

/// Stops a job for somebody, in the mirror that a daemon works on.
///
/// # Errors
/// There is no such job, it has another run by now, or the remote takes neither the commit nor a branch for it; nothing
/// was changed then.
pub(super) fn stop(
    workspace: &Workspace,
    environment: &Environment,
    name: &str,
    wish: Wish<'_>,
) -> Result<Edited, OpsError> {
    let repo = &workspace.repo;
    let branch = repo.followed_branch().ok_or_else(|| repo.is_a_mirror())?;
    let reference = source_reference(&branch);
    let remote = Remote::new(repo.git_folder(), MIRRORED).with_time_at_most(STOP_CALL_TIME_MAX);
    for _ in 0..ATTEMPTS_MAX {
        let tip = repo.resolve(&reference)?;
        let files = files_to_edit(workspace, TreeChoice::Revision(&tip), name, &environment.sight)?;
        let made = suspended(workspace, &files, name, (true, Some(wish)), false)?;
        let mut edited = Edited { held: files.held.count(), ..Edited::unchanged(&made.file, &made.name) };
        let Some(text) = made.written else { return Ok(edited) };
        refuse_passed_over(&files, &tip)?;
        let file = DeclaredFile { path: made.file, text };
        let who: String = sanitize_line(wish.who).chars().filter(|c| !['<', '>'].contains(c)).collect();
        let commit = repo.commit_declared(&tip, std::slice::from_ref(&file), &made.message, (who.trim(), EMAIL))?;
        edited.has_changed = true;
        match remote.push(&commit, &branch, Some(&tip)) {
            Ok(()) => {
                // Where a fetch was faster, the branch has it already.
                repo.move_declared::<RepoError>(&reference, (&tip, &commit), &[], || Ok(()))?;
                return Ok(Edited { commit: Some(commit), ..edited });
            }
            Err(RemoteError::Denied { .. }) => return propose(&remote, (&commit, wish.run), edited),
            Err(RemoteError::Rejected { .. }) => {
                let fetched = remote.fetch(&[(&branch, &reference)]);
                // The daemon may have fetched at the same moment: then git says that this could not.
                if repo.resolve(&reference)? == tip {
                    fetched.map_err(failed)?;
                    return propose(&remote, (&commit, wish.run), edited);
                }
            }
            Err(error) => return Err(failed(error)),
        }
    }
    Err(OpsError::Held {
        what: format!("others commit to `{branch}` without a pause, and the job is not stopped"),
        help: "Try again.".to_string(),
    })
}

/// Pushes a commit as a branch of its own, which somebody has to merge.
fn propose(remote: &Remote, (commit, run): (&str, &str), edited: Edited) -> Result<Edited, OpsError> {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let run: String = run.chars().map(legal).collect();
    let branch = format!("{PROPOSED}{}-{}", edited.name, run.trim_matches('-'));
    let there = remote.heads(&[&branch]).map_err(failed)?.pop().flatten();
    if there.is_none() {
        remote.push(commit, &branch, None).map_err(failed)?;
        return Ok(Edited { commit: Some(commit.to_string()), proposed: Some(branch), ..edited });
    }
    // Who asks twice is told where it is.
    Ok(Edited { has_changed: false, commit: there, proposed: Some(branch), ..edited })
}

fn failed(error: RemoteError) -> OpsError {
    UpstreamError::Remote(error).into()
}
