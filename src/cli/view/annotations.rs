//! Diagnostics as workflow commands of GitHub Actions, which show them beside the lines of a pull request.
//!
//! Format: "Workflow commands for GitHub Actions", setting an error or warning message.

use std::fmt::Write as _;

use crate::diag::{Diagnostic, Severity, SourceMap};
use crate::model::text::sanitize;

/// Annotations of a severity that a step can have; those beyond are not shown ("Usage limits" of check annotations).
const SHOWN_MAX: usize = 10;

/// Returns one line for each diagnostic; where there are more of a severity than are shown, the last says how many.
pub fn github(diagnostics: &[&Diagnostic], sources: &SourceMap) -> String {
    let mut text = String::new();
    for severity in [Severity::Error, Severity::Warning] {
        let of_it: Vec<&Diagnostic> = diagnostics.iter().filter(|one| one.severity == severity).copied().collect();
        let shown = if of_it.len() > SHOWN_MAX { SHOWN_MAX - 1 } else { of_it.len() };
        of_it[..shown].iter().for_each(|one| annotation(one, sources, &mut text));
        let more = of_it.len() - shown;
        if more > 0 {
            let word = severity.as_str();
            writeln!(text, "::{word} title=fleetform::{more} more {word}s: `fleetform validate` shows all of them.")
                .expect("writing to a String cannot fail");
        }
    }
    text
}

fn annotation(diagnostic: &Diagnostic, sources: &SourceMap, text: &mut String) {
    let mut properties = Vec::new();
    if let Some(span) = diagnostic.span {
        let position = sources.position(span);
        properties.push(format!("file={}", property(sources.path(span.file))));
        properties.push(format!("line={}", position.line));
        properties.push(format!("col={}", position.column));
    }
    properties.push(format!("title={}", property(&format!("{} {}", diagnostic.code.0, diagnostic.summary))));
    let mut message = diagnostic.detail.clone();
    if let Some(help) = &diagnostic.help {
        write!(message, "\n{help}").expect("writing to a String cannot fail");
    }
    let severity = diagnostic.severity.as_str();
    writeln!(text, "::{severity} {}::{}", properties.join(","), data(&message))
        .expect("writing to a String cannot fail");
}

/// Escapes a message, which ends at a line feed.
fn data(text: &str) -> String {
    sanitize(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property, which also ends at a comma or colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
