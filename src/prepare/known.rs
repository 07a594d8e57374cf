//! What a process that prepares again and again knows from before.

use super::{Recorded, Searches};
use crate::manifest::ParsedFiles;

/// Handed in with each look and each plan, it makes them read only what is new, and changes nothing of what they return. Whoever plans once
/// begins with nothing. It holds what the newest look and plan were made of, so it grows with the fleet and not with time.
#[derive(Default)]
pub struct Known {
    /// Of the declared files.
    pub files: ParsedFiles,
    /// Of the results branch.
    pub recorded: Recorded,
    /// Of the conditions.
    pub searches: Searches,
}
