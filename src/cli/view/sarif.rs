//! Diagnostics as SARIF 2.1.0 (OASIS), which code hosts and editors read.

use serde_json::{Value, json};

use crate::diag::{CODES, Diagnostic, Severity, SourceMap};
use crate::model::text::sanitize;

/// Returns one SARIF log with one run; its rules are all codes.
pub fn sarif(diagnostics: &[&Diagnostic], sources: &SourceMap) -> String {
    let rules: Vec<Value> = CODES
        .iter()
        .map(|info| {
            json!({
                "id": info.code.0,
                "shortDescription": {"text": info.summary},
                "fullDescription": {"text": info.explanation},
                "defaultConfiguration": {"level": level(info.severity)},
            })
        })
        .collect();
    let results: Vec<Value> = diagnostics.iter().map(|diagnostic| result(diagnostic, sources)).collect();
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "fleetform", "version": env!("CARGO_PKG_VERSION"), "rules": rules}},
            "columnKind": "unicodeCodePoints",
            "results": results,
        }],
    });
    format!("{log:#}\n")
}

fn result(diagnostic: &Diagnostic, sources: &SourceMap) -> Value {
    let mut message = diagnostic.detail.clone();
    if let Some(help) = &diagnostic.help {
        message = format!("{message} {help}");
    }
    let locations: Vec<Value> = diagnostic
        .span
        .iter()
        .map(|span| {
            let start = sources.position(*span);
            let end = sources.position(crate::diag::Span { start: span.end, ..*span });
            json!({"physicalLocation": {
                "artifactLocation": {"uri": uri(sources.path(span.file))},
                "region": {
                    "startLine": start.line, "startColumn": start.column, "endLine": end.line, "endColumn": end.column,
                },
            }})
        })
        .collect();
    json!({
        "ruleId": diagnostic.code.0,
        "ruleIndex": CODES.iter().position(|info| info.code == diagnostic.code),
        "level": level(diagnostic.severity),
        "message": {"text": sanitize(&message)},
        "locations": locations,
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}

/// Returns a path as a relative URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/') {
            uri.push(char::from(byte));
        } else {
            uri.push_str(&format!("%{byte:02X}"));
        }
    }
    uri
}
