//! What was read before, for a process that prepares again and again.

use super::{Recorded, Searches};
use crate::manifest::ParsedFiles;

/// What the newest look and plan were made of. Handed to the next ones, it makes them read only what is new, and
/// changes nothing of what they return. It grows with the fleet and not with time.
#[derive(Default)]
pub struct Cache {
    /// Of the declared files.
    pub files: ParsedFiles,
    /// Of the results branch.
    pub recorded: Recorded,
    /// Of the conditions.
    pub searches: Searches,
}
