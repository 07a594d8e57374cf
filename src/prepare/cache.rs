//! What was read before, for a process that prepares again and again.

use std::collections::BTreeMap;

use super::{Recorded, Searches};
use crate::ledger::Followed;
use crate::manifest::ParsedFiles;
use crate::repo::BlobId;

/// What the newest look and plan were made of. Handed to the next ones, it makes them read only what is new, and
/// changes nothing of what they return. It grows with the fleet and not with time.
#[derive(Default)]
pub struct Cache {
    /// The declared files, parsed.
    pub files: ParsedFiles,
    /// The documents of the results branch.
    pub recorded: Recorded,
    /// The paths of the conditions.
    pub searches: Searches,
    /// Since when schedules are followed, as the results branch says, by path.
    pub followed: BTreeMap<String, (BlobId, Followed)>,
}
