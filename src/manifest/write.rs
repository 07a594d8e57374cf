//! Documents of ours to YAML text, with their fields in the order in which people write them.

use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};
use serde_json::Value;

use super::yaml;
use crate::diag::FileId;
use crate::model::text::is_unsafe;

/// The fields of our documents in the order of the documentation; a field that is not here comes after them.
const FIELDS: [&str; 47] = [
    "apiVersion",
    "kind",
    "metadata",
    "spec",
    "name",
    "previousName",
    "labels",
    "description",
    "component",
    "run",
    "start",
    "timeZone",
    "recurrence",
    "weekdays",
    "end",
    "suspend",
    "missed",
    "job",
    "template",
    "organization",
    "target",
    "after",
    "action",
    "delivery",
    "group",
    "query",
    "devices",
    "failedOf",
    "pendingOf",
    "reasons",
    "expect",
    "model",
    "file",
    "cloudProperties",
    "payload",
    "connectTimeout",
    "responseTimeout",
    "idempotent",
    "confirm",
    "batchSize",
    "cancellationThreshold",
    "failures",
    "per",
    "offline",
    "expiresAfter",
    "retry",
    "maxExecutionTime",
];

/// The fields whose members are the author's own words and keep their order.
const OPAQUE: [&str; 7] = ["property", "cloudProperty", "tags", "payload", "labels", "cloudProperties", "devices"];

/// Returns the YAML text of one document, with a line feed at its end and without `---`.
///
/// Text that YAML 1.1 or 1.2 would read as another type is quoted. The result is parsed again before it is returned.
/// When it does not give the same value, or has characters that a person would not see, the document is written as JSON
/// with escapes, which is also YAML. `None` when even that gives another value, such as for a document that is nested
/// too deep to be read.
pub fn document_text(document: &Value) -> Option<String> {
    let says_the_same = |text: &String| {
        let (parsed, diagnostics) = yaml::parse(FileId(0), text);
        let is_same = matches!(parsed.documents.as_slice(), [one] if one.root.to_json() == *document);
        is_same && !diagnostics.has_errors() && !text.chars().any(is_unsafe)
    };
    let block = yaml::to_text(&Ordered { value: document, is_ours: true }).filter(says_the_same);
    block.or_else(|| Some(json_text(document)).filter(says_the_same))
}

/// Returns a value as JSON that is plain ASCII, with the escapes that YAML's double quotes know.
fn json_text(value: &Value) -> String {
    let mut text = String::new();
    for c in format!("{value:#}\n").chars() {
        match u32::from(c) {
            0x20..=0x7e | 0x0a => text.push(c),
            code @ ..=0xffff => text.push_str(&format!("\\u{code:04x}")),
            code => text.push_str(&format!("\\U{code:08x}")),
        }
    }
    text
}

/// A value whose maps are written in the order of [`FIELDS`] while they are ours.
struct Ordered<'a> {
    value: &'a Value,
    is_ours: bool,
}

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.value {
            Value::Object(members) => {
                let mut sorted: Vec<(&String, &Value)> = members.iter().collect();
                if self.is_ours {
                    let place = |key: &str| FIELDS.iter().position(|field| *field == key).unwrap_or(FIELDS.len());
                    sorted.sort_by_key(|(key, _)| place(key));
                }
                let mut map = serializer.serialize_map(Some(sorted.len()))?;
                for (key, value) in sorted {
                    let is_ours = self.is_ours && !OPAQUE.contains(&key.as_str());
                    map.serialize_entry(key, &Ordered { value, is_ours })?;
                }
                map.end()
            }
            Value::Array(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for value in items {
                    seq.serialize_element(&Ordered { value, is_ours: self.is_ours })?;
                }
                seq.end()
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => self.value.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_stand_in_the_order_of_the_documentation() {
        let document = json!({
            "spec": {"action": {"command": {"payload": {"run": 1, "after": 2}, "name": "reboot"}}, "target": {"group": "g"}, "run": "1"},
            "metadata": {"name": "a"}, "kind": "Job", "apiVersion": "fleetform/v1",
        });
        let expect = "apiVersion: fleetform/v1\nkind: Job\nmetadata:\n  name: a\nspec:\n  run: \"1\"\n  target:\n    \
            group: g\n  \
                      action:\n    command:\n      name: reboot\n      payload:\n        after: 2\n        run: 1\n";
        assert_eq!(document_text(&document).as_deref(), Some(expect));
    }

    /// Text that is unlucky for a writer of YAML.
    #[rustfmt::skip]
    const HOSTILE: &[&str] = &[
        "", " ", "~", "null", "Null", "true", "yes", "NO", "on", "off", "y", "n", "0", "012", "0x1F", "0o17", "1e3",
        ".5", "-.inf", ".nan", "1_000", "12:30:45", "2026-12-01", "2026-12-01T02:30:00Z", "=", "<<", "- a", "-",
        "--- ", "...", "? a", ": a", "a: b", "a:", "a #b", "#a", "&a", "*a", "!a", "!!str a", "|", ">", "%a", "@a",
        "`a", "'a'", "\"a\"", "[a", "{a", "a]", "}", "a, b", " a", "a ", "a\nb", "a\n", "\na", "\n\n", " a\n  b\n",
        "a\tb", "\ta", "a\r\nb", "\\", "\\n", "a\u{7}b", "\u{0}", "\u{1b}[31m", "\u{7f}", "\u{85}", "\u{2028}",
        "\u{feff}a", "\u{fffe}", "é", "\u{1f600}", "a\u{202e}b", "dtmi:a:b;1", "\"x\" = 'y'",
    ];

    #[test]
    fn text_stays_text() {
        for &text in HOSTILE {
            let document = json!({"a": text, text: [text, {"b": text}]});
            let written = document_text(&document).unwrap_or_else(|| panic!("{text:?} cannot be written"));
            let (parsed, _) = yaml::parse(FileId(0), &written);
            assert_eq!(parsed.documents[0].root.to_json(), document, "{written}");
            // The readers of YAML 1.1 agree about whether it is text.
            if matches!(text, "yes" | "NO" | "on" | "off" | "012") {
                assert!(
                    written.contains(&format!("a: \"{text}\"")) || written.contains(&format!("a: '{text}'")),
                    "{written}"
                );
            }
        }
        let long = format!("{} {}", "word ".repeat(60), "x".repeat(300));
        assert!(document_text(&json!({"a": long})).is_some());
    }

    #[test]
    fn what_is_too_deep_is_not_written() {
        let deep = (0..200).fold(json!(1), |inner, _| json!({ "a": inner }));
        assert_eq!(document_text(&deep), None);
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9f64).prop_map(Value::from),
            ".*".prop_map(Value::from),
            "[-:#&*!|>'\"%@`,\\[\\]{} \na0~=?<.]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[-:#a-c \n'\"]{0,5}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_value_comes_back(value in values()) {
            let document = json!({ "spec": value });
            let text = document_text(&document);
            prop_assert!(text.is_some(), "{document}");
        }
    }
}
