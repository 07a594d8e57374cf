//! Why the history of a fleet cannot be trusted.

use crate::registry::RegistryError;
use crate::repo::RepoError;

/// Why the history cannot be trusted; each is a hold: nothing is touched.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Repo(#[from] RepoError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("`{path}` on the branch {branch} cannot be used: {what}")]
    Malformed { branch: String, path: String, what: String },
    #[error("the branch {branch} was rewritten: the commit {seen} that was its tip is no longer part of it")]
    Rewritten { branch: String, seen: String },
    #[error("the branch {branch} is behind here: the commit {seen}, which the registry knows of, came after its tip")]
    Behind { branch: String, seen: String, is_on_remote: bool },
    #[error("the branch {branch} was put back: the commit {seen}, which this repository has, came after its tip")]
    PutBack { branch: String, seen: String },
    #[error(
        "the branch {branch} is gone here, where results were written to it, and so is the registry: what {remote} was \
            last seen with may lack some"
    )]
    StaleCopy { branch: String, remote: String },
    #[error("the branch {branch} lacks `{path}`, which was claimed here: it was put back to an earlier commit")]
    ClaimMissing { branch: String, path: String },
    #[error("history was rewound: the commit {head} does not come after {last}, which was applied last")]
    Rewound { head: String, last: String },
    #[error("the branch {branch} has the commit {commit}, which fleetform did not write")]
    Foreign { branch: String, commit: String },
    #[error("the branch {branch} holds the results of the fleet `{found}`, and this is the fleet `{fleet}`")]
    OtherFleet { branch: String, found: String, fleet: String },
    #[error(
        "there is no branch {branch} and no registry that remembers, so nobody knows which of the {jobs} declared jobs \
            have run before"
    )]
    Unknown { branch: String, jobs: usize },
}

impl HistoryError {
    /// Returns what to do about it.
    pub fn help(&self) -> String {
        match self {
            HistoryError::Repo(error) => error.help(),
            HistoryError::Registry(error) => error.help().to_string(),
            HistoryError::Malformed { .. } => {
                "Somebody edited the results branch: restore it with `git reflog` or from another clone.".to_string()
            }
            HistoryError::Rewritten { branch, seen } => {
                format!(
                    "Put it back where it was: `git branch -f {branch} {seen}`, or fetch it from another clone. {}",
                    help_republish(branch)
                )
            }
            HistoryError::PutBack { branch, seen } => {
                format!("The next apply moves it there again; so does `git branch -f {branch} {seen}`.")
            }
            HistoryError::Behind { branch, is_on_remote, .. } => {
                let otherwise = if *is_on_remote { String::new() } else { format!(" {}", help_republish(branch)) };
                format!(
                    "Another process pushed it: fetch it with `git fetch origin {branch}:{branch}`; in the folder of a \
                        daemon, start the daemon, which does.{otherwise}"
                )
            }
            HistoryError::StaleCopy { branch, remote } => format!(
                "Fetch what the remote has: `git fetch {remote} {branch}:{branch}`. When it has all there is, this \
                 goes on from there; what ran since would run again."
            ),
            HistoryError::ClaimMissing { branch, .. } => format!(
                "When a remote has more of it, fetch that: `git fetch origin {branch}:{branch}`. Otherwise put it back \
                 where it was (`git reflog {branch}`). {}",
                help_republish(branch)
            ),
            HistoryError::Rewound { .. } => {
                "Look at `git reflog` and `fleetform plan`; if this is meant, say so to `apply` or `watch` with \
                    --accept-rewind."
                    .to_string()
            }
            HistoryError::Foreign { branch, commit } => {
                format!("Put the branch back to the commit before: `git branch -f {branch} {commit}~1`.")
            }
            HistoryError::OtherFleet { .. } => {
                "Give each fleet a branch of its own in `spec.results.branch`.".to_string()
            }
            HistoryError::Unknown { branch, .. } => format!(
                "In a clone, fetch the branch: `git fetch origin {branch}:{branch}`. In a repository that is new, run \
                 `fleetform init`. When both are lost for good, `fleetform adopt --mark-done` runs \
                 nothing that is declared now, and `fleetform adopt --run` all of it."
            ),
        }
    }
}

/// Returns the way out when the commits of a branch are lost for good, and the registry is not.
fn help_republish(branch: &str) -> String {
    format!(
        "When that commit is lost, the registry still remembers: delete the branch (`git branch -D {branch}`) and what \
            remotes had of \
         it (`git update-ref -d refs/remotes/origin/{branch}`), and the next apply or the daemon publishes it again."
    )
}
