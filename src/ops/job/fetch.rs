//! What a clone knows of work that goes on elsewhere is as old as its last fetch.

use std::time::Duration;

use super::{Environment, OpsError, Workspace};
use crate::prepare::{Files, OnError, TreeChoice};
use crate::repo::{Remote, UpstreamError};

/// Fetches the results branch and the branch of the lease from the fleet's remote into what git keeps of that remote, as
/// `git fetch` does, and moves a branch of this clone that is behind forward. Returns false when the fleet has no remote here.
///
/// # Errors
/// The fleet cannot be read, or the remote does not answer within `time_max`.
pub fn fetch_results(environment: &Environment, time_max: Duration) -> Result<bool, OpsError> {
    let workspace = Workspace::open(environment)?;
    let files = Files::read(&workspace, TreeChoice::Newest, OnError::Hold)?;
    let results = &files.usable()?.fleet.results;
    let Some(name) = results.remote.as_deref().filter(|name| workspace.repo.has_remote(name)) else {
        return Ok(false);
    };
    let branch = workspace.repo.results(&results.branch);
    let lease = branch.branch_beside();
    let [local, lease_here] = [&results.branch, &lease].map(|branch| format!("refs/remotes/{name}/{branch}"));
    let remote = Remote::new(workspace.repo.git_folder(), name).with_time_at_most(time_max);
    let found = remote.fetch_with(&[(&results.branch, &local)], Some((&lease, &lease_here)));
    let found = found.map_err(UpstreamError::Remote)?;
    // A branch of this clone is read before that of the remote: it goes along, as `git fetch origin b:b` lets it.
    if branch.behind_tracked()?.is_some()
        && let Some(tip) = found.into_iter().next().flatten()
    {
        branch.move_forward(&tip)?;
    }
    Ok(true)
}
