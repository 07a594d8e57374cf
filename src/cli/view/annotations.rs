//! Diagnostics as workflow commands of GitHub Actions, which show them beside the lines of a pull request.
//!
//! Format: "Workflow commands for GitHub Actions", setting an error or warning message.

use std::fmt::Write as _;

use crate::diag::{Diagnostic, SourceMap};
use crate::model::text::sanitize;

/// Returns one line for each diagnostic.
pub fn github(diagnostics: &[&Diagnostic], sources: &SourceMap) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics {
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
    text
}

/// Escapes a message, which ends at a line feed.
fn data(text: &str) -> String {
    sanitize(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

/// Escapes a property, which also ends at a comma or colon.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
