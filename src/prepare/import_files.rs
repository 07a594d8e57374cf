//! What can be said of the files of imports without a registry.

use super::diagnose::{nothing_imported, rejected_rows};
use super::{Files, PrepareError};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::Loaded;
use crate::model::fleet::DeviceImport;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::registry::{ImportFailure, check_file};

/// Looks at the header and the first rows of each import file; nothing while other files have errors.
///
/// # Errors
/// A file cannot be read.
pub fn check_import_files(files: &Files<'_>) -> Result<Diagnostics, PrepareError> {
    let mut diagnostics = Diagnostics::new();
    for import in files.declared.iter().flat_map(|declared| declared.imports.values()) {
        let file = files.tree.open(&import.file)?;
        match check_file(import.format, file, limits::VALIDATED_ROWS_MAX) {
            Ok(found) if found.rejected == found.rows => {
                diagnostics.push(nothing_imported(&files.loaded, &import.name, &found));
            }
            Ok(found) if found.rejected == 0 => {}
            Ok(found) => diagnostics.push(rejected_rows(&files.loaded, &import.name, &found)),
            Err(ImportFailure::Registry(error)) => return Err(error.into()),
            Err(ImportFailure::File { line, message, help }) => {
                diagnostics.push(unusable_file(&files.loaded, import, (line, &message), help));
            }
        }
    }
    Ok(diagnostics)
}

/// Returns the diagnostic of a file that is not of its form, of which `line` is the place.
pub(super) fn unusable_file(
    loaded: &Loaded,
    import: &DeviceImport,
    (line, message): (u64, &str),
    help: Option<String>,
) -> Diagnostic {
    let span = loaded.spans.span_of(Kind::DeviceImport, &import.name, "/spec/file");
    let mut diagnostic = Diagnostic::new(code::IMPORT_FILE, span, format!("{}, line {line}: {message}.", import.file));
    diagnostic.help = help;
    diagnostic
}
