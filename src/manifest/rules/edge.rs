//! Every edge manifest is one that IoT Edge can use. Problems point into its JSON file.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::Value;

use super::Set;
use super::files::Named;
use crate::diag::{Diagnostic, Diagnostics, FileId, SourceMap, Span};
use crate::manifest::edge;
use crate::model::kind::Kind;
use crate::template::{ModelPlace, place};

/// Checks the files of edge manifests, each of them once. Files with problems are added to the sources.
/// Each diagnostic has a label for every document that names its file.
pub fn check(set: &Set, named: &Named, sources: &mut SourceMap) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let mut namers: BTreeMap<&String, Vec<usize>> = BTreeMap::new();
    for at in named.content.keys().filter(|at| set.docs[**at].kind == Kind::EdgeManifest) {
        namers.entry(&named.paths[at]).or_default().push(*at);
    }
    for (path, docs) in namers {
        let content = named.json(docs[0]);
        let problems = edge::check(content);
        if problems.is_empty() {
            continue;
        }
        let text = std::str::from_utf8(&named.files[path].bytes).unwrap_or_default();
        let file = sources.add(path.as_str(), without_passwords(text, content));
        for edge::Problem { code, pointer, is_key, message, help } in problems {
            let span = span_of(file, text, &pointer, is_key);
            let mut diagnostic = Diagnostic::new(code, span, message);
            diagnostic.help = help;
            for at in &docs {
                diagnostic = diagnostic.with_label(set.docs[*at].span("/spec/file"), "the manifest that names it");
            }
            diagnostics.push(diagnostic);
        }
    }
    diagnostics
}

/// Returns the bytes of a key or of a scalar; for a collection, those of its key.
fn span_of(file: FileId, text: &str, pointer: &str, is_key: bool) -> Span {
    let Some(ModelPlace { key, value }) = place(text, pointer) else { return Span { file, start: 0, end: 0 } };
    let is_scalar = !text[value.clone()].starts_with(['{', '[']);
    let Range { start, end } = match key {
        Some(key) if is_key || !is_scalar => key,
        _ if is_scalar => value,
        _ => value.start..value.start + 1,
    };
    Span { file, start, end }
}

/// Returns the text with the passwords of registries masked: diagnostics show the line around a place, also in the log
/// of a pipeline that more people can read than the repository.
fn without_passwords(text: &str, content: &Value) -> String {
    const REGISTRIES: &str = "/modulesContent/$edgeAgent/properties.desired/runtime/settings/registryCredentials";
    let mut text = text.to_string();
    let registries = content.pointer(REGISTRIES).and_then(Value::as_object);
    for name in registries.into_iter().flat_map(|registries| registries.keys()) {
        let name = name.replace('~', "~0").replace('/', "~1");
        let found = place(&text, &format!("{REGISTRIES}/{name}/password"));
        // The nearest parent is found when there is no password.
        let Some(value) = found.map(|place| place.value).filter(|value| text[value.clone()].starts_with('"')) else {
            continue;
        };
        let inner = value.start + 1..value.end - 1;
        let stars = "*".repeat(inner.len());
        text.replace_range(inner, &stars);
    }
    text
}
