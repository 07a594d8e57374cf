//! Patches: the twin rules, at the key or value that breaks them.

use serde_json::{Map, Value};

use super::{Lowering, span};
use crate::diag::{Diagnostic, code, shown};
use crate::manifest::node::pointer;
use crate::manifest::structure::Subject;
use crate::model::limits;
use crate::model::patch::{Patch, Section, TwinRule, violations};

impl Lowering<'_> {
    /// Returns the patch under `spec.action`, checked; a stand-in when it is empty.
    pub(super) fn patch(&mut self, word: &str, members: Map<String, Value>, section: Section) -> Patch {
        let unplaced = pointer(["spec", "action", word]);
        let at = self.place(&unplaced).into_owned();
        let bytes = serde_json::to_vec(&members).map_or(0, |json| json.len());
        if bytes > limits::PATCH_BYTES_MAX {
            let detail = format!(
                "This patch has {bytes} bytes as JSON, and at most {} are allowed: a twin could not hold more.",
                limits::PATCH_BYTES_MAX
            );
            self.report(code::PATCH_TOO_LARGE, &unplaced, detail);
        } else {
            for violation in violations(&members, section) {
                let keys = violation.path.iter().map(String::as_str);
                let place = format!("{at}{}", pointer(keys));
                let detail = format!("{}.", capitalised(&violation.rule.to_string()));
                let span = match violation.rule {
                    TwinRule::KeyCharacter(_) | TwinRule::KeyEmpty | TwinRule::KeyLong | TwinRule::Deep => {
                        self.root.locate(&place).key_span()
                    }
                    TwinRule::StringLong | TwinRule::Integer | TwinRule::Size { .. } => span(self.root, &place),
                };
                let mut diagnostic = Diagnostic::new(code::TWIN_RULE, span, detail);
                if let (TwinRule::KeyCharacter('.'), Some(key)) = (&violation.rule, violation.path.last()) {
                    diagnostic = diagnostic.with_help(nested_form(key));
                }
                self.diagnostics.push(diagnostic);
            }
        }
        if let Some(node) = self.root.at(&at) {
            self.warn_of_plain_words(node);
        }
        Patch::new(members).unwrap_or_else(|| {
            // An empty map that had fields before they were refused is not reported twice.
            if self.root.at(&at).is_none_or(|node| node.entries().is_empty()) {
                let detail = format!("{} is empty, so the job would change nothing.", Subject(&at));
                self.report(code::PATCH_EMPTY, &unplaced, detail);
            }
            Patch::new(Map::from_iter([("unresolved".to_string(), Value::Null)])).expect("it is not empty")
        })
    }
}

fn capitalised(sentence: &str) -> String {
    let mut rest = sentence.chars();
    rest.next().map_or(String::new(), |first| first.to_uppercase().chain(rest).collect())
}

/// Returns how a key such as `light.threshold` is meant to be written.
fn nested_form(key: &str) -> String {
    let parts: Vec<&str> = key.split('.').collect();
    if parts.iter().any(|part| part.is_empty()) || parts.len() > limits::PATCH_DEPTH_MAX {
        return "Nest the keys instead of joining them with dots.".to_string();
    }
    format!("Nest the keys: `{}: …{}`.", shown(&parts.join(": {")), "}".repeat(parts.len() - 1))
}
