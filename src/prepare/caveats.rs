//! What a look at a fleet leaves out.

use crate::model::fleet::HeldDocuments;
use crate::repo::{Behind, RepoError, ResultsBranch};

/// What a look at the runs does not show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caveats {
    /// What cannot be used of the files.
    pub held: HeldDocuments,
    /// The name of the results branch.
    pub branch: String,
    /// The remote that has more of that branch, as of the last fetch.
    pub behind: Option<Behind>,
}

impl Caveats {
    /// Returns what a look lacks that reads a results branch, beside what is held.
    pub fn of(held: HeldDocuments, branch: &ResultsBranch<'_>) -> Result<Caveats, RepoError> {
        Ok(Caveats { held, branch: branch.name().to_string(), behind: branch.behind_tracked()? })
    }
}
