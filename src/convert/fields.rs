//! The members of an object of another system: each is read once, and members that were not read become a note.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::diag::shown;

/// Notes, each one or more whole sentences.
pub type Notes = Vec<String>;

/// The members of an object, and which of them have been looked at.
pub struct Fields<'a> {
    /// Where the object is, such as `batch`; empty for an item itself.
    path: &'static str,
    members: &'a Map<String, Value>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Fields<'a> {
    pub fn new(path: &'static str, members: &'a Map<String, Value>) -> Fields<'a> {
        Fields { path, members, asked: BTreeSet::new() }
    }

    /// Returns a value; `None` also for null, which clients write for unset members.
    pub fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.asked.insert(name);
        self.members.get(name).filter(|value| !value.is_null())
    }

    /// Returns a text; the error is a sentence.
    pub fn text(&mut self, name: &'static str) -> Result<Option<&'a str>, String> {
        self.typed(name, "text", Value::as_str)
    }

    /// Returns a text that must be there and not be empty.
    pub fn required_text(&mut self, name: &'static str) -> Result<&'a str, String> {
        let text = self.text(name)?.filter(|text| !text.trim().is_empty());
        text.ok_or_else(|| format!("`{}` is missing.", self.name(name)))
    }

    pub fn object(&mut self, name: &'static str) -> Result<Option<&'a Map<String, Value>>, String> {
        self.typed(name, "an object", Value::as_object)
    }

    pub fn list(&mut self, name: &'static str) -> Result<Option<&'a Vec<Value>>, String> {
        self.typed(name, "an array", Value::as_array)
    }

    pub fn boolean(&mut self, name: &'static str) -> Result<Option<bool>, String> {
        self.typed(name, "a boolean", Value::as_bool)
    }

    fn typed<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, String> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let wrong = || format!("`{}` is {}, and it must be {wanted}.", self.name(name), described(value));
        read(value).map(Some).ok_or_else(wrong)
    }

    /// Skips members that the other system keeps for itself.
    pub fn skip(&mut self, names: &[&'static str]) {
        self.asked.extend(names);
    }

    /// Notes an etag, which has no equal, and all members that were not read.
    pub fn finish(mut self, notes: &mut Notes) {
        if !self.asked.contains("etag") && self.value("etag").is_some() {
            notes.push("`etag` was left out: what changed meanwhile is seen by git.".to_string());
        }
        let unknown =
            self.members.iter().filter(|(name, value)| !self.asked.contains(name.as_str()) && !value.is_null());
        for (name, _) in unknown {
            let path = if self.path.is_empty() { shown(name) } else { format!("{}.{}", self.path, shown(name)) };
            notes.push(format!("`{path}` is not known, and was left out."));
        }
    }

    fn name(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }
}

/// Returns what a sentence calls a value.
pub fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
