//! The form of an answer.

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Html,
    Json,
    /// Of one table, whole.
    Csv,
}
