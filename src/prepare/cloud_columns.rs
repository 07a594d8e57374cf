//! Whether the `CLOUD.` columns of an import fit the device template that it gives its devices.
//!
//! A warning and no rejection: cells are text, so a column that does not fit does so in every row, and would keep out
//! the devices for the sake of a property that they may never be asked for.

use super::preparation::{Preparation, StagedFile};
use crate::diag::{Diagnostic, code};
use crate::model::job::Action;
use crate::model::kind::Kind;
use crate::model::patch::Patch;
use crate::model::text::{sanitize_line, shorten};
use crate::registry::CloudCell;
use crate::template::{Template, violations};
use serde_json::{Map, Value};

/// Columns that the warning tells.
const COLUMNS_SHOWN: usize = 3;
/// Characters of a column's name that it shows.
const NAME_CHARS_MAX: usize = 60;

/// Returns the warning about a file; `None` when its columns fit, and when the import names no declared template.
pub fn warning(file: &StagedFile, preparation: &Preparation<'_>) -> Option<Diagnostic> {
    let declared = preparation.declared;
    let name = declared.imports.get(&file.import)?.template.as_ref()?;
    let template = Template::of(declared.templates.get(name)?).expect("models were checked with the files");
    let misfits: Vec<String> = file.found.cloud_cells.iter().filter_map(|cell| misfit(&template, cell)).collect();
    if misfits.is_empty() {
        return None;
    }
    let more = misfits.len().saturating_sub(COLUMNS_SHOWN);
    let more = if more > 0 { format!("\n  and {more} more columns") } else { String::new() };
    let shown: String = misfits.iter().take(COLUMNS_SHOWN).map(|misfit| format!("\n  {misfit}")).collect();
    let detail = format!(
        "The file of import `{}` has cloud properties that do not fit the template `{name}`. They are imported as \
            text.{shown}{more}",
        file.import
    );
    let help = "Declare them as `string` in `cloudProperties`, or leave the columns out and set them with a job.";
    let span = preparation.loaded.spans.span_of(Kind::DeviceImport, &file.import, "/spec/file");
    Some(Diagnostic::new(code::CLOUD_COLUMN, span, detail).with_help(help))
}

/// Returns what is wrong with a column, by its first text.
fn misfit(template: &Template, cell: &CloudCell) -> Option<String> {
    let mut members = Map::new();
    let mut value = Value::String(cell.text.clone());
    let (first, rest) = cell.path.split_first()?;
    for key in rest.iter().rev() {
        value = Value::Object(Map::from_iter([(key.clone(), value)]));
    }
    members.insert(first.clone(), value);
    let found = violations(template, &Action::CloudProperty(Patch::new(members)?));
    let dotted = cell.path.join(".");
    let column = sanitize_line(&dotted);
    let column = shorten(&column, NAME_CHARS_MAX);
    found.first().map(|violation| format!("column `CLOUD.{column}`, line {}: {}", cell.line, violation.message))
}
