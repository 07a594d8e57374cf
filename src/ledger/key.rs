//! The identity of a run, which does not depend on files, commits or databases.

use std::fmt;

use crate::model::digest::Digest;
use crate::model::id::{Name, RunToken};

/// Names one run for ever: fleet, job and run token, but no path, commit or hash of the spec.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunKey {
    pub fleet: Name,
    pub job: Name,
    pub run: RunToken,
}

impl RunKey {
    /// Returns the digest of the key; its parts are framed, so no two keys share one.
    pub fn digest(&self) -> Digest {
        Digest::of_texts([self.fleet.as_str(), "Job", self.job.as_str(), self.run.as_str()])
    }

    /// Returns the id under which a device is asked to execute this run: the same on every re-send, so that a device
    /// can recognise a command that it has seen.
    pub fn execution_id(&self, device_id: &str) -> Digest {
        Digest::of_texts([&self.digest().to_string(), device_id])
    }

    /// Returns the path of the claim on the results branch.
    pub fn claim_path(&self) -> String {
        claim_path(&self.job, &self.run)
    }

    /// Returns the folder of the results on the results branch, without a slash at its end.
    pub fn results_folder(&self) -> String {
        format!("runs/{}/{}", self.job, self.run)
    }
}

/// Returns the path of the claim of the run that a file of the results branch belongs to; `None` for files of no run.
pub fn claim_path_of(path: &str) -> Option<String> {
    if path.starts_with("claims/") {
        return Some(path.to_string());
    }
    let mut parts = path.strip_prefix("runs/")?.split('/');
    let (job, run) = (parts.next()?, parts.next()?);
    Some(claim_path(job, run))
}

/// Returns the path of a run's claim on the results branch.
pub fn claim_path(job: impl fmt::Display, run: impl fmt::Display) -> String {
    format!("claims/{job}/{run}.json")
}

impl fmt::Display for RunKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} run {}", self.job, self.run)
    }
}
