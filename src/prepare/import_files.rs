//! What can be said of the files of imports without a registry.

use std::collections::{BTreeMap, BTreeSet};

use super::diagnose::{nothing_imported, padded_cells, rejected_rows};
use super::{Files, PrepareError};
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::manifest::Loaded;
use crate::model::fleet::{Declared, DeviceImport, Organization};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::registry::{ImportFailure, RowNames, check_file};

/// Looks at the header and the first rows of each import file; nothing while other files have errors.
///
/// # Errors
/// A file cannot be read.
pub fn check_import_files(files: &Files<'_>) -> Result<Diagnostics, PrepareError> {
    let mut diagnostics = Diagnostics::new();
    let Some(declared) = &files.declared else { return Ok(diagnostics) };
    for import in declared.imports.values() {
        let file = files.tree.open(&import.file)?;
        let (templates, organizations) = (templates_of_rows(declared, import), organizations_of_rows(declared, import));
        let names = RowNames {
            organization: import.organization.as_deref(),
            templates: templates.as_ref(),
            organizations: organizations.as_ref(),
        };
        match check_file(import.format, names, file, limits::VALIDATED_ROWS_MAX) {
            Ok(found) if found.rejected == found.rows => {
                diagnostics.push(nothing_imported(&files.loaded, &import.name, &found));
            }
            Ok(found) => {
                if found.rejected > 0 {
                    diagnostics.push(rejected_rows(&files.loaded, &import.name, &found));
                }
                if let Some(warning) = padded_cells(&files.loaded, &import.name, &found) {
                    diagnostics.push(warning);
                }
            }
            Err(ImportFailure::Registry(error)) => return Err(error.into()),
            Err(ImportFailure::File { line, message, help }) => {
                diagnostics.push(unusable_file(&files.loaded, import, (line, &message), help));
            }
        }
    }
    Ok(diagnostics)
}

/// Returns the declared templates when rows of an import may name one.
pub(super) fn templates_of_rows(declared: &Declared, import: &DeviceImport) -> Option<BTreeSet<String>> {
    import.rows_have_template.then(|| declared.templates.keys().map(Name::to_string).collect())
}

/// Returns the paths of the declared organizations, by name, when rows of an import may name one.
pub(super) fn organizations_of_rows(declared: &Declared, import: &DeviceImport) -> Option<BTreeMap<String, String>> {
    let path_of = |(name, one): (&Name, &Organization)| (name.to_string(), one.path.clone());
    import.rows_have_organization.then(|| declared.organizations.iter().map(path_of).collect())
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
