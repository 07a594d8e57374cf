//! The table of stable codes. A code is never reused; `fleetform explain CODE` prints its entry.

use super::Severity;

/// A stable diagnostic code such as `FF101`; only codes of [`CODES`] exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);

impl Code {
    /// Returns the entry of this code.
    ///
    /// # Panics
    /// When the code is not in [`CODES`], which a test over all constants excludes.
    pub fn info(self) -> &'static CodeInfo {
        CODES.iter().find(|info| info.code == self).expect("every code is listed in CODES")
    }
}

/// What a code means: shown by `explain`, in SARIF rules and in the documentation.
#[derive(Debug, Clone, Copy)]
pub struct CodeInfo {
    pub code: Code,
    pub severity: Severity,
    /// Fixed text, without user names, lower-case start.
    pub summary: &'static str,
    /// What it means, why it matters, how to fix it, with a small example.
    pub explanation: &'static str,
}

/// Every code, sorted.
pub const CODES: &[CodeInfo] = &[];
