//! What files that are written say to editors.

use std::path::Path;

use crate::manifest::{self, SCHEMA_PATH};

/// Returns the text of a new file with a line that names the schema of the fleet's documents, where the fleet has that.
/// `folder` is the fleet's, `path` is relative to it, with `/` between its parts.
pub fn with_schema_line(folder: &Path, path: &str, text: String) -> String {
    if folder.join(SCHEMA_PATH).is_file() { manifest::with_schema_line(path, text) } else { text }
}
