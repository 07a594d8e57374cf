//! Diagnostics as a JUnit report, which CI systems show as failed tests: a test case for each file that has one.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::diag::{Diagnostic, Severity, SourceMap};
use crate::model::text::sanitize;

/// Returns one test suite, of a command such as `validate`: a case for each file with a diagnostic, which fails when one
/// is an error; one passing case when there are none.
pub fn junit(command: &str, diagnostics: &[&Diagnostic], sources: &SourceMap) -> String {
    let mut files: BTreeMap<&str, Vec<&Diagnostic>> = BTreeMap::new();
    for diagnostic in diagnostics {
        let file = diagnostic.span.map_or("fleet", |span| sources.path(span.file));
        files.entry(file).or_default().push(diagnostic);
    }
    let is_failed = |found: &Vec<&Diagnostic>| found.iter().any(|item| item.severity == Severity::Error);
    let failures = files.values().filter(|found| is_failed(found)).count();
    let mut cases = String::new();
    for (file, found) in &files {
        case(&mut cases, (command, file), found, sources);
    }
    if files.is_empty() {
        cases.push_str(&format!("    <testcase classname=\"fleetform.{command}\" name=\"fleet\"/>\n"));
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n\
         \x20 <testsuite name=\"fleetform {command}\" tests=\"{}\" failures=\"{failures}\">\n\
         {cases}\x20 </testsuite>\n</testsuites>\n",
        files.len().max(1)
    )
}

fn case(text: &mut String, (command, file): (&str, &str), found: &[&Diagnostic], sources: &SourceMap) {
    let mut failures = String::new();
    let mut warnings = String::new();
    for diagnostic in found {
        let place = diagnostic.span.map(|span| sources.position(span));
        let place = place.map_or(String::new(), |at| format!("{}:{}: ", at.line, at.column));
        let help = diagnostic.help.as_deref().map_or(String::new(), |help| format!(" {help}"));
        let line = format!("{place}{}{help}", diagnostic.detail);
        match diagnostic.severity {
            Severity::Error => writeln!(
                failures,
                "      <failure type=\"{}\" message=\"{}\">{}</failure>",
                diagnostic.code.0,
                escape(diagnostic.summary),
                escape(&line)
            ),
            Severity::Warning => {
                writeln!(warnings, "{} {}: {}", diagnostic.code.0, escape(diagnostic.summary), escape(&line))
            }
        }
        .expect("writing to a String cannot fail");
    }
    let output = if warnings.is_empty() { warnings } else { format!("      <system-out>{warnings}</system-out>\n") };
    writeln!(
        text,
        "    <testcase classname=\"fleetform.{command}\" name=\"{}\">\n{failures}{output}    </testcase>",
        escape(file)
    )
    .expect("writing to a String cannot fail");
}

fn escape(text: &str) -> String {
    let safe = sanitize(text);
    safe.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
