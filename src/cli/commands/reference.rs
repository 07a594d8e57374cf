//! What is in the binary to look up: codes, schemas, completions.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::{CommandResult, Output, args};
use crate::cli::error::CommandError;
use crate::cli::exit;
use crate::diag::{CODES, nearest};
use crate::manifest::schema_text;
use crate::model::kind::Kind;

/// `explain [CODE]`
pub fn explain(code: Option<&str>, output: &Output) -> CommandResult {
    let Some(wanted) = code else {
        let mut text = String::new();
        for info in CODES {
            writeln!(text, "{}  {:<7}  {}", info.code.0, info.severity.as_str(), info.summary)
                .expect("writing to a String cannot fail");
        }
        output.result(&text)?;
        return Ok(exit::OK);
    };
    let Some(info) = CODES.iter().find(|info| info.code.0.eq_ignore_ascii_case(wanted)) else {
        return Err(unknown("code", wanted, CODES.iter().map(|info| info.code.0)));
    };
    let text =
        format!("{} ({}): {}\n\n{}\n", info.code.0, info.severity.as_str(), info.summary, info.explanation.trim());
    output.result(&text)?;
    Ok(exit::OK)
}

/// `schema [KIND]`
pub fn schema(kind: Option<&str>, output: &Output) -> CommandResult {
    let Some(wanted) = kind else {
        let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.as_str()).collect();
        output.result(&format!("{}\n", kinds.join("\n")))?;
        return Ok(exit::OK);
    };
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(wanted)) else {
        return Err(unknown("kind", wanted, Kind::ALL.iter().map(|kind| kind.as_str())));
    };
    output.result(&schema_text(kind))?;
    Ok(exit::OK)
}

/// `completions SHELL`
pub fn completions(shell: clap_complete::Shell, output: &Output) -> CommandResult {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut args::Cli::command(), "fleetform", &mut script);
    output.result(&String::from_utf8_lossy(&script))?;
    Ok(exit::OK)
}

fn unknown<'a>(what: &str, wanted: &str, known: impl IntoIterator<Item = &'a str>) -> CommandError {
    let help = match nearest(wanted, known) {
        Some(near) => format!("Did you mean `{near}`?"),
        None => "Leave it out to see all of them.".to_string(),
    };
    let wanted = crate::model::text::sanitize_line(wanted);
    CommandError::Usage { what: format!("there is no {what} `{wanted}`"), help }
}
