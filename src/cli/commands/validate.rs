//! `validate`

use super::{CommandResult, Output};
use crate::cli::args::ReportFormat;
use crate::cli::exit;
use crate::cli::view::{annotations, counted, diagnostic, junit, sarif};
use crate::ops::Environment;
use crate::ops::validate::{Validated, validate};

/// `validate [--format F] [--strict]`
pub fn run(environment: &Environment, format: ReportFormat, is_strict: bool, output: &Output) -> CommandResult {
    let Validated { findings, prefix, documents } = validate(environment)?;
    let from_root = findings.sources.below(&prefix);
    let sorted = findings.diagnostics.sorted();
    let format = if output.is_json && format == ReportFormat::Human { ReportFormat::Json } else { format };
    match format {
        ReportFormat::Human => {
            output.findings(&findings);
            if !findings.diagnostics.has_errors() {
                let kinds = documents.iter().filter(|(_, count)| *count > 0);
                let list: Vec<String> = kinds.map(|(kind, count)| counted(*count as u64, kind.as_str())).collect();
                output.say(&format!("The files are valid: {}.", list.join(", ")));
            }
        }
        ReportFormat::Json => {
            for item in sorted {
                output.json_line(&diagnostic::to_json(item, &findings.sources))?;
            }
        }
        ReportFormat::Github => output.result(&annotations::github(&sorted, &from_root))?,
        ReportFormat::Sarif => output.result(&sarif::sarif(&sorted, &from_root))?,
        ReportFormat::Junit => output.result(&junit::junit("validate", &sorted, &from_root))?,
    }
    let is_refused = findings.diagnostics.has_errors() || is_strict && !findings.diagnostics.is_empty();
    Ok(if is_refused { exit::INVALID } else { exit::OK })
}
