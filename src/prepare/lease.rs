//! The process that has the right to work on a fleet, by the results branch and the one beside it.

use jiff::Timestamp;

use super::PrepareError;
use crate::ledger::{LEASE_PATH, Lease};
use crate::model::text::sanitize_line;
use crate::repo::{RepoError, ResultsBranch};

/// Returns what counts as the lease of a fleet, by its branches as they are here: that of the results branch, as long as
/// its renewals make it last.
///
/// # Errors
/// A branch cannot be read, or the file on the results branch cannot be used.
pub fn lease_on(branch: &ResultsBranch<'_>) -> Result<Option<Lease>, RepoError> {
    let Some(lease) = lease_of(branch.read(LEASE_PATH)?)? else { return Ok(None) };
    // A renewal that cannot be used makes nothing last.
    let renewals = branch.read_beside(LEASE_PATH)?.into_iter().filter_map(|bytes| lease_of(Some(bytes)).ok().flatten());
    Ok(Some(renewals.fold(lease, |lease, renewal| lease.renewed_by(&renewal))))
}

/// Returns the lease of a file on the results branch, without its renewals.
///
/// # Errors
/// The file cannot be used.
pub fn lease_of(bytes: Option<Vec<u8>>) -> Result<Option<Lease>, RepoError> {
    let Some(bytes) = bytes else { return Ok(None) };
    let malformed = |what: String| RepoError::Malformed { path: LEASE_PATH.to_string(), what };
    let value = serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    Lease::from_json(&value).map(Some).map_err(malformed)
}

/// Returns the process that has the right to work on the fleet, by its branches as they are here.
pub fn at_work(branch: &ResultsBranch<'_>, now: Timestamp) -> Result<Option<String>, PrepareError> {
    let lease = match lease_on(branch) {
        // One that cannot be used is for an apply to refuse.
        Err(RepoError::Malformed { .. }) => None,
        lease => lease?,
    };
    // The name comes from the branch, which others can push to.
    Ok(lease.filter(|lease| lease.is_live(now)).map(|lease| sanitize_line(&lease.owner).into_owned()))
}
