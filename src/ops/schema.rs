//! Writes schemas for editors.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::OpsError;
use crate::manifest::{SCHEMA_PATH, schema_file_name, schema_of_all_text, schema_text};
use crate::model::kind::Kind;
use crate::prepare::Destination;

/// Writes the schema of a kind, or of all kinds together for `None`, into a folder, which is made; returns the file.
/// One that is there is replaced.
///
/// # Errors
/// The file cannot be written.
pub fn write(folder: &Path, kind: Option<Kind>) -> Result<PathBuf, OpsError> {
    let all = SCHEMA_PATH.rsplit('/').next().unwrap_or(SCHEMA_PATH);
    let (name, text) = match kind {
        Some(kind) => (schema_file_name(kind), schema_text(kind)),
        None => (all.to_string(), schema_of_all_text()),
    };
    let path = folder.join(name);
    let fail = |source| OpsError::Output { what: format!("{} cannot be written", path.display()), source };
    std::fs::create_dir_all(folder).map_err(fail)?;
    let mut destination = Destination::open(&path, false).map_err(fail)?;
    destination.write_all(text.as_bytes()).map_err(fail)?;
    destination.finish().map_err(fail)?;
    Ok(path)
}
