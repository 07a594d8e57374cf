//! What a program is told that gets no page.

use schemars::JsonSchema;
use serde::Serialize;

/// The JSON of an answer that is no page.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub struct Problem {
    /// A sentence without a full stop.
    pub error: String,
    /// What to do, whole sentences; null when there is nothing to say.
    pub help: Option<String>,
    /// Where a text goes wrong: its lines, with a mark below the place; null without one.
    pub detail: Option<String>,
}
