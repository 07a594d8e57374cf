//! JSON objects, walked with the place in the file at hand.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::Problem;
use crate::diag::{Code, nearest, shown};
use crate::model::limits;

/// Problems, up to the most that are looked for.
#[derive(Debug, Default)]
pub struct Problems(Vec<Problem>);

impl Problems {
    pub fn push(&mut self, problem: Problem) {
        if self.0.len() < limits::EDGE_PROBLEMS_MAX {
            self.0.push(problem);
        }
    }

    pub fn into_problems(self) -> Vec<Problem> {
        self.0
    }
}

/// Keys on the way to a value: as a pointer, and as people write it, below `modulesContent`.
#[derive(Debug, Clone)]
pub struct Trail {
    pointer: String,
    dotted: String,
}

impl Trail {
    /// Returns the trail of the file itself.
    pub fn start() -> Trail {
        Trail { pointer: String::new(), dotted: String::new() }
    }

    /// Returns the trail of the member of the file below which all others are.
    pub fn root(key: &str) -> Trail {
        Trail { pointer: format!("/{key}"), dotted: String::new() }
    }

    /// Returns the trail of a member.
    pub fn with(&self, key: &str) -> Trail {
        let dotted = if self.dotted.is_empty() { shown(key) } else { format!("{}.{}", self.dotted, shown(key)) };
        Trail { pointer: format!("{}/{}", self.pointer, key.replace('~', "~0").replace('/', "~1")), dotted }
    }

    /// Returns a problem of the value that it leads to; `message` is whole sentences.
    pub fn value(&self, code: Code, message: &str) -> Problem {
        let message = match self.dotted.is_empty() {
            true => message.to_string(),
            false => format!("`{}`: {message}", self.dotted),
        };
        Problem { code, pointer: self.pointer.clone(), is_key: false, message, help: None }
    }

    /// Returns a problem of its last key.
    pub fn key(&self, code: Code, message: &str) -> Problem {
        Problem { is_key: true, ..self.value(code, message) }
    }
}

impl Problem {
    /// Adds the next step.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// Adds a near name, where there is one.
    #[must_use]
    pub fn with_near(self, near: Option<&str>) -> Problem {
        match near {
            Some(near) => self.with_help(format!("Did you mean `{}`?", shown(near))),
            None => self,
        }
    }
}

/// An object at a place. `null` removes in a twin, so a member that is `null` is not there.
#[derive(Debug)]
pub struct Members<'a> {
    members: &'a Map<String, Value>,
    trail: Trail,
    code: Code,
    /// Names that another member is most likely a misspelling of.
    slipped: BTreeSet<&'static str>,
}

impl<'a> Members<'a> {
    /// Returns the members of an object whose keys its author chose; `None`, with a problem, when it is none.
    pub fn any(value: &'a Value, trail: &Trail, code: Code, found: &mut Problems) -> Option<Members<'a>> {
        let Some(members) = value.as_object() else {
            found.push(trail.value(code, &format!("An object is needed, and this is {}.", described(value))));
            return None;
        };
        Some(Members { members, trail: trail.clone(), code, slipped: BTreeSet::new() })
    }

    /// Returns the members of an object with names that IoT Edge knows. Other members are skipped, except misspellings
    /// of missing ones.
    pub fn of(
        value: &'a Value,
        trail: &Trail,
        code: Code,
        known: &[&'static str],
        found: &mut Problems,
    ) -> Option<Members<'a>> {
        let mut read = Members::any(value, trail, code, found)?;
        read.find_slips(known, found);
        Some(read)
    }

    /// Returns members that are known to be an object.
    pub fn of_map(
        members: &'a Map<String, Value>,
        trail: &Trail,
        code: Code,
        known: &[&'static str],
        found: &mut Problems,
    ) -> Members<'a> {
        let mut read = Members { members, trail: trail.clone(), code, slipped: BTreeSet::new() };
        read.find_slips(known, found);
        read
    }

    fn find_slips(&mut self, known: &[&'static str], found: &mut Problems) {
        let missing: Vec<&'static str> = known.iter().copied().filter(|key| !self.members.contains_key(*key)).collect();
        for key in self.members.keys().filter(|key| !known.contains(&key.as_str())) {
            let Some(near) = nearest(key, missing.iter().copied()) else { continue };
            self.slipped.extend(missing.iter().find(|name| **name == near));
            let message = "IoT Edge knows no member of this name here.";
            found.push(self.trail.with(key).key(self.code, message).with_near(Some(near)));
        }
    }

    /// Returns true when another member is most likely a misspelling of this name.
    pub fn is_slip(&self, key: &str) -> bool {
        self.slipped.contains(key)
    }

    pub fn members(&self) -> &'a Map<String, Value> {
        self.members
    }

    pub fn code(&self) -> Code {
        self.code
    }

    pub fn keys(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.members.keys().map(String::as_str)
    }

    /// Returns each member with its name and place.
    pub fn each(&self) -> impl Iterator<Item = (&'a str, Trail, &'a Value)> {
        self.members.iter().map(|(key, value)| (key.as_str(), self.trail.with(key), value))
    }

    /// Returns a member and its place, `None` when it is not there.
    pub fn get(&self, key: &str) -> Option<(Trail, &'a Value)> {
        let value = self.members.get(key).filter(|value| !value.is_null())?;
        Some((self.trail.with(key), value))
    }

    /// Returns a member that must be there.
    pub fn need(&self, key: &str, found: &mut Problems) -> Option<(Trail, &'a Value)> {
        let member = self.get(key);
        if member.is_none() && !self.slipped.contains(key) {
            found.push(self.trail.key(self.code, &format!("It lacks `{key}`.")));
        }
        member
    }

    /// Checks a member that is one of some words, if it is there.
    pub fn word(&self, key: &str, words: &[&str], found: &mut Problems) {
        let Some((trail, value)) = self.get(key) else { return };
        let written = value.as_str();
        if written.is_some_and(|text| words.contains(&text)) {
            return;
        }
        let list: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
        let list = match list.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
            _ => list.join(""),
        };
        let is = written.map_or_else(|| described(value).to_string(), |text| format!("\"{}\"", shown(text)));
        let near = written.and_then(|text| nearest(text, words.iter().copied()));
        found.push(trail.value(self.code, &format!("It is {list}, not {is}.")).with_near(near));
    }

    /// Returns a member that must be there and be text that is not blank.
    pub fn text(&self, key: &str, found: &mut Problems) -> Option<(Trail, &'a str)> {
        let (trail, value) = self.need(key, found)?;
        match value.as_str().filter(|text| !text.trim().is_empty()) {
            Some(text) => Some((trail, text)),
            None => {
                let is = if value.is_string() { "blank" } else { described(value) };
                found.push(trail.value(self.code, &format!("Text is needed, and this is {is}.")));
                None
            }
        }
    }

    /// Checks a member that is a whole number within bounds, if it is there.
    pub fn integer(&self, key: &str, bounds: RangeInclusive<i64>, found: &mut Problems) {
        let Some((trail, value)) = self.get(key) else { return };
        if !value.as_i64().is_some_and(|number| bounds.contains(&number)) {
            let (least, most) = (bounds.start(), bounds.end());
            found.push(trail.value(self.code, &format!("A whole number from {least} to {most} is needed.")));
        }
    }
}

/// Returns what a value is, with its article.
pub fn described(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
