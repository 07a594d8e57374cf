//! Patches: the twin rules, at the key or value that breaks them.

use serde_json::{Map, Value};

use super::{Lowering, span};
use crate::diag::{Diagnostic, code, shown};
use crate::manifest::node::pointer;
use crate::manifest::structure::Subject;
use crate::model::limits;
use crate::model::patch::{Patch, Section, TwinRule, violations};
use crate::model::secret;

impl Lowering<'_> {
    /// Returns the patch under `spec.action`, checked; a stand-in when it is empty.
    pub(super) fn patch(&mut self, place: &str, members: Map<String, Value>, section: Section) -> Patch {
        let unplaced = format!("/spec/action/{place}");
        let at = self.place(&unplaced).into_owned();
        let bytes = serde_json::to_vec(&members).map_or(0, |json| json.len());
        if bytes > limits::PATCH_BYTES_MAX {
            let detail = format!(
                "This patch has {bytes} bytes as JSON, and at most {} are allowed: a twin could not hold more.",
                limits::PATCH_BYTES_MAX
            );
            self.report(code::PATCH_TOO_LARGE, &unplaced, detail);
        } else if secret::is_reference(&members) {
            let detail = "A patch has members, and a secret stands for the text of one of them.";
            self.report_secret(&unplaced, &[], detail);
        } else {
            let without = match section {
                Section::Desired => self.without_secrets(&Value::Object(members.clone()), &unplaced),
                Section::Tags | Section::Cloud | Section::Reported => self.refuse_secrets(&members, &unplaced),
            };
            for violation in violations(without.as_object().unwrap_or(&members), section) {
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
            self.warn_of_plain_words(node, &at);
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

impl Lowering<'_> {
    /// Reports what is wrong with the references to secrets of a value, and returns it without them.
    pub(super) fn without_secrets(&mut self, value: &Value, unplaced: &str) -> Value {
        for (path, fault) in secret::faults(value) {
            self.report_secret(unplaced, &path, fault);
        }
        secret::shown(value)
    }

    /// Reports every reference to a secret in a patch that no device is sent, and returns the patch without them.
    fn refuse_secrets(&mut self, members: &Map<String, Value>, unplaced: &str) -> Value {
        let value = Value::Object(members.clone());
        for path in secret::places(&value) {
            let detail = "Tags and cloud properties are not sent to devices, and everybody who reads the registry sees \
                          them: a secret has no place in them. Use `property` or the payload of a `command`.";
            self.report_secret(unplaced, &path, detail);
        }
        secret::shown(&value)
    }

    fn report_secret(&mut self, unplaced: &str, path: &[String], detail: &str) {
        let place = format!("{unplaced}{}", pointer(path.iter().map(String::as_str)));
        self.report(code::SECRET, &place, detail);
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
