//! `validate`

use super::{CommandResult, Output};
use crate::cli::args::ReportFormat;
use crate::cli::exit;
use crate::cli::view::{annotations, counted, diagnostic, junit, sarif};
use crate::ops::Environment;
use crate::ops::validate::{Validated, validate};

/// `validate [--format F]`
pub fn run(environment: &Environment, format: ReportFormat, output: &Output) -> CommandResult {
    let Validated { findings, documents } = validate(environment)?;
    let sorted = findings.diagnostics.sorted();
    let format = if output.is_json && format == ReportFormat::Human { ReportFormat::Json } else { format };
    match format {
        ReportFormat::Human => {
            output.findings(&findings);
            if !findings.diagnostics.has_errors() {
                let kinds = documents.iter().filter(|(_, count)| *count > 0);
                let list: Vec<String> = kinds.map(|(kind, count)| counted(*count as u64, kind)).collect();
                output.say(&format!("The files are valid: {}.", list.join(", ")));
            }
        }
        ReportFormat::Json => {
            for item in sorted {
                output.json_line(&diagnostic::to_json(item, &findings.sources))?;
            }
        }
        ReportFormat::Github => output.result(&annotations::github(&sorted, &findings.sources))?,
        ReportFormat::Sarif => output.result(&sarif::sarif(&sorted, &findings.sources))?,
        ReportFormat::Junit => output.result(&junit::junit(&sorted, &findings.sources))?,
    }
    Ok(if findings.diagnostics.has_errors() { exit::INVALID } else { exit::OK })
}
