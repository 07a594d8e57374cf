//! The process that has the right to work on a fleet, by the results branch.

use jiff::Timestamp;

use super::PrepareError;
use crate::ledger::{LEASE_PATH, Lease};
use crate::model::text::sanitize_line;
use crate::repo::{RepoError, ResultsBranch};

/// Returns the lease on a branch.
///
/// # Errors
/// The file cannot be used.
pub fn lease_of(bytes: Option<Vec<u8>>) -> Result<Option<Lease>, RepoError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let malformed = |what: String| RepoError::Malformed { path: LEASE_PATH.to_string(), what };
    let value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    Lease::from_json(&value).map(Some).map_err(malformed)
}

/// Returns the process that has the right to work on the fleet, by the results branch as it is here.
pub fn at_work(branch: &ResultsBranch<'_>, now: Timestamp) -> Result<Option<String>, PrepareError> {
    // One that cannot be used is for an apply to refuse.
    let lease = lease_of(branch.read(LEASE_PATH)?).ok().flatten();
    // The name comes from the branch, which others can push to.
    Ok(lease.filter(|lease| lease.is_live(now)).map(|lease| sanitize_line(&lease.owner).into_owned()))
}
