//! A name and its value, on a line.

use super::wrapped;
use crate::cli::output::stdout_width;

/// The indent of the names.
const INDENT: usize = 2;

/// Returns a line with a name, and a value that starts in the column `at`. On a terminal a long value goes on there, in
/// lines of its own.
pub fn field(name: &str, value: &str, at: usize) -> String {
    let width = at.saturating_sub(INDENT + 1);
    wrapped(&format!("{:INDENT$}{name:<width$} {value}", ""), at, stdout_width()) + "\n"
}
