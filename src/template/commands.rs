//! Commands: how they answer, and their payloads.

use serde_json::Value;

use super::json::{below, each, has_type, one};
use super::literal::Kind;
use super::members::Element;
use super::model::CommandRequest;
use super::read::ModelReader;

impl<'a> ModelReader<'a> {
    pub(super) fn command_type(&mut self, item: &'a Value, pointer: &str) {
        let words = each(item.get("commandType"), &below(pointer, "commandType"));
        let is_one = |word: &Value| {
            let text = word.as_str().unwrap_or_default();
            let rest = text.strip_prefix("dtmi:dtdl:instance:CommandType:");
            let word = rest.map_or(text, |rest| rest.split_once(';').map_or(rest, |(word, _)| word));
            matches!(word, "synchronous" | "asynchronous")
        };
        let is_null = item.get("commandType").is_some_and(Value::is_null);
        if is_null || words.len() > 1 || words.iter().any(|(_, word)| !is_one(word)) {
            self.report(&below(pointer, "commandType"), "`commandType` must be `synchronous` or `asynchronous`");
        }
    }

    /// Returns the payload that a command has under a key.
    pub(super) fn payload(&mut self, command: &'a Value, pointer: &str, key: &str) -> Option<CommandRequest> {
        let payload = command.get(key).filter(|value| !value.as_array().is_some_and(Vec::is_empty))?;
        let (pointer, payload) = one(payload, &below(pointer, key));
        let (pointer, payload) = self.resolved(payload, pointer);
        if !payload.is_object() {
            self.report(&pointer, format!("the `{key}` of a command must be an object with a `name` and a `schema`"));
            return None;
        }
        self.members(payload, Element::Payload, &pointer);
        let other = if key == "request" { "CommandResponse" } else { "CommandRequest" };
        if self.language.version == 3 && has_type(payload, other) {
            self.report(&below(&pointer, "@type"), format!("a `{key}` cannot be a {other}"));
        }
        let nullable = self.literal(payload, &pointer, "nullable", Kind::Boolean, "true or false");
        let is_nullable = nullable.and_then(Value::as_bool).unwrap_or_default();
        self.name(payload, &pointer)?;
        let schema = self.schema_of(payload, &pointer)?;
        Some(CommandRequest { schema, is_nullable })
    }
}
