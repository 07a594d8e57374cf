//! What was found in declared files, with the texts that it points into.

use crate::diag::{Diagnostics, SourceMap};
use crate::manifest::Loaded;

/// Diagnostics with the texts that they point into.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    pub sources: SourceMap,
    pub diagnostics: Diagnostics,
}

impl Findings {
    /// Returns the findings of files, and `later` ones about the same files.
    pub fn of(loaded: &Loaded, later: Diagnostics) -> Findings {
        let mut diagnostics = loaded.diagnostics.clone();
        diagnostics.extend(later);
        Findings { sources: loaded.sources.clone(), diagnostics }
    }
}
