//! Secrets by reference: what stands for one in a document, in the registry and on a screen.
//!
//! | where | a secret is |
//! | --- | --- |
//! | a document, a claim, the digest of a spec | its reference, `{"$secret": {"env": "WIFI_PSK"}}` |
//! | the registry | its mark, `(secret:` and 64 hex digits and `)`: HMAC-SHA-256 under a key of that registry |
//! | a plan, a page, an export, a result | [`SHOWN`] |
//! | a request to a device | its value |
//!
//! `$` is not legal in a twin key, so no other object is a reference. A mark is a text as the value is: merge patches
//! and the type tests of queries do the same to both. A twin that shows a mark by mistake tells nothing of the value.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

use super::digest::Digest;
use super::limits;

/// What people see in place of a secret.
pub const SHOWN: &str = "(secret)";
/// What people see in place of a secret of a device that may be the one that a job sets: its value is not known here.
pub const SHOWN_UNKNOWN: &str = "(secret, perhaps this one)";
/// The key of a reference.
const KEY: &str = "$secret";
/// The beginning of a mark.
const MARK: &str = "(secret:";
/// A shorter number in what a device says is not taken for a secret.
const NUMBER_CHARS_MIN: usize = 6;

/// Where the value of a secret is, on the machine that sends it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecretRef {
    /// A variable of the environment.
    Env(String),
    /// A file: an absolute path, or one below a folder that the operator names.
    File(String),
}

impl SecretRef {
    /// Returns the reference that a value is; `None` for any other value, and for a malformed reference.
    pub fn of(value: &Value) -> Option<SecretRef> {
        let members = value.as_object().filter(|members| members.len() == 1)?;
        let place = members.get(KEY)?.as_object().filter(|place| place.len() == 1)?;
        let (kind, name) = place.iter().next()?;
        let reference = match (kind.as_str(), name.as_str()?) {
            ("env", name) => SecretRef::Env(name.to_string()),
            ("file", path) => SecretRef::File(path.to_string()),
            _ => return None,
        };
        reference.fault().is_none().then_some(reference)
    }

    /// Returns what is wrong with the name or the path, a sentence; `None` for a legal one.
    pub fn fault(&self) -> Option<&'static str> {
        match self {
            SecretRef::Env(name) => {
                let is_legal = !name.starts_with(|c: char| c.is_ascii_digit())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
                let is_long = name.len() > limits::SECRET_NAME_BYTES_MAX;
                (name.is_empty() || is_long || !is_legal).then_some(
                    "The name of a variable has ASCII letters, digits and `_`, does not begin with a digit, and has at \
                     most 255 characters.",
                )
            }
            SecretRef::File(path) => {
                let parts = path.strip_prefix('/').unwrap_or(path).split('/');
                let is_plain = parts.into_iter().all(|part| !matches!(part, "" | "." | ".."));
                let is_legal = is_plain && !path.chars().any(|c| c.is_control() || c == '\\' || c == ',');
                (path.len() > limits::SECRET_PATH_BYTES_MAX || !is_legal).then_some(
                    "The path of a secret has names with single `/` between them, none of them `.` or `..`, no control \
                     characters, commas or backslashes, and at most 1024 bytes.",
                )
            }
        }
    }

    /// Returns the reference as a document writes it.
    pub fn to_json(&self) -> Value {
        match self {
            SecretRef::Env(name) => json!({KEY: {"env": name}}),
            SecretRef::File(path) => json!({KEY: {"file": path}}),
        }
    }
}

/// As the option that allows it: `env:WIFI_PSK`, `file:/run/secrets/psk`.
impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretRef::Env(name) => write!(f, "env:{name}"),
            SecretRef::File(path) => write!(f, "file:{path}"),
        }
    }
}

/// Returns true for an object that is a reference, or was meant as one.
pub fn is_reference(members: &Map<String, Value>) -> bool {
    members.contains_key(KEY)
}

/// Calls `visit` for each reference in a value, in the order of the value, with the keys on the way to it.
pub fn each(value: &Value, visit: &mut dyn FnMut(&[String], &SecretRef)) {
    walk(value, &mut Vec::new(), &mut |path, value| {
        if let Some(reference) = SecretRef::of(value) {
            visit(path, &reference);
        }
    });
}

/// Returns the keys on the way to each reference in a value, well-formed or not.
pub fn places(value: &Value) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, value| {
        if value.is_object() {
            found.push(path.to_vec());
        }
    });
    found
}

/// Returns what is wrong with the references of a value, with the keys on the way to it, each a sentence.
pub fn faults(value: &Value) -> Vec<(Vec<String>, &'static str)> {
    let mut found = Vec::new();
    walk(value, &mut Vec::new(), &mut |path, value| {
        let fault = match value {
            Value::Object(members) if is_reference(members) => fault_of(members),
            Value::String(text) if is_reserved(text) => Some(
                "This text is what fleetform shows in place of a secret, and would be sent as it stands here. Refer to \
                 the secret: `{$secret: {env: NAME}}`.",
            ),
            _ => None,
        };
        found.extend(fault.map(|fault| (path.to_vec(), fault)));
    });
    found
}

fn fault_of(members: &Map<String, Value>) -> Option<&'static str> {
    const FORM: &str = "A reference to a secret is `{$secret: {env: NAME}}` or `{$secret: {file: PATH}}`, with nothing \
                        beside it.";
    let place = members.get(KEY).and_then(Value::as_object);
    let reference = match place.and_then(|place| place.iter().next()) {
        Some((kind, Value::String(name))) if kind == "env" => SecretRef::Env(name.clone()),
        Some((kind, Value::String(path))) if kind == "file" => SecretRef::File(path.clone()),
        _ => return Some(FORM),
    };
    let is_alone = members.len() == 1 && place.is_some_and(|place| place.len() == 1);
    if is_alone { reference.fault() } else { Some(FORM) }
}

/// Visits texts and references, which are leaves.
fn walk(value: &Value, path: &mut Vec<String>, visit: &mut dyn FnMut(&[String], &Value)) {
    match value {
        Value::Object(members) if is_reference(members) => visit(path, value),
        Value::Object(members) => {
            for (key, member) in members {
                path.push(key.clone());
                walk(member, path, visit);
                path.pop();
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                path.push(at.to_string());
                walk(item, path, visit);
                path.pop();
            }
        }
        Value::String(_) => visit(path, value),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns a copy of a value in which `change` has replaced texts and references; what it returns `None` for stays.
fn replaced(value: &Value, change: &dyn Fn(&Value) -> Option<Value>) -> Value {
    match value {
        Value::Object(members) if !is_reference(members) => {
            Value::Object(members.iter().map(|(key, member)| (key.clone(), replaced(member, change))).collect())
        }
        Value::Array(items) => items.iter().map(|item| replaced(item, change)).collect(),
        Value::Object(_) | Value::String(_) => change(value).unwrap_or_else(|| value.clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

/// Returns a value with marks in place of the texts and numbers whose mark is known.
pub fn marked_if(value: &Value, key: &SecretKey, is_known: &dyn Fn(&str) -> bool) -> Value {
    let mark = |text: &str| {
        let is_long = (limits::SECRET_BYTES_MIN..=limits::SECRET_BYTES_MAX).contains(&text.len());
        is_long.then(|| key.mark(text)).filter(|mark| is_known(mark))
    };
    match value {
        Value::Object(members) => {
            let marked = |(name, member): (&String, &Value)| (name.clone(), marked_if(member, key, is_known));
            Value::Object(members.iter().map(marked).collect())
        }
        Value::Array(items) => items.iter().map(|item| marked_if(item, key, is_known)).collect(),
        Value::String(text) => mark(text).map_or_else(|| value.clone(), Value::from),
        Value::Number(number) if number.to_string().len() >= NUMBER_CHARS_MIN => {
            mark(&number.to_string()).map_or_else(|| value.clone(), Value::from)
        }
        Value::Number(_) | Value::Null | Value::Bool(_) => value.clone(),
    }
}

/// Returns true for a text that only fleetform writes: a mark, or what people see in its place.
pub fn is_reserved(text: &str) -> bool {
    text == SHOWN || text == SHOWN_UNKNOWN || is_mark(text)
}

fn is_mark(text: &str) -> bool {
    let digest = text.strip_prefix(MARK).and_then(|rest| rest.strip_suffix(')'));
    digest.is_some_and(|digest| Digest::parse(digest).is_some())
}

/// Returns a value as people see it: with [`SHOWN`] in place of every reference and mark.
pub fn shown(value: &Value) -> Value {
    replaced(value, &|value| match value {
        Value::String(text) if !is_mark(text) => None,
        _ => Some(Value::from(SHOWN)),
    })
}

/// Returns a value as [`shown`], itself where it has neither references nor marks.
pub fn shown_if_hidden(value: &Value) -> Cow<'_, Value> {
    if hides(value) { Cow::Owned(shown(value)) } else { Cow::Borrowed(value) }
}

/// Returns false for JSON that has neither references nor marks, without reading it.
pub fn may_hide(json: &str) -> bool {
    json.contains(MARK) || json.contains(KEY)
}

fn hides(value: &Value) -> bool {
    match value {
        Value::String(text) => is_mark(text),
        Value::Array(items) => items.iter().any(hides),
        Value::Object(members) => is_reference(members) || members.values().any(hides),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Takes the members out of an object that hold a text of ours: they stand for values that were left out.
pub fn drop_reserved(members: &mut Map<String, Value>) {
    fn holds_one(value: &Value) -> bool {
        match value {
            Value::String(text) => is_reserved(text),
            Value::Array(items) => items.iter().any(holds_one),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
        }
    }
    members.retain(|_, value| !holds_one(value));
    members.values_mut().filter_map(Value::as_object_mut).for_each(drop_reserved);
}

/// Returns the members that somebody has written who was shown a section without its marks: a value with a text of ours
/// is what `before` has in its place, and is left out where that has none.
pub fn with_marks_of(members: &Map<String, Value>, before: &Value) -> Map<String, Value> {
    let kept = |(key, value): (&String, &Value)| {
        let before = before.get(key).unwrap_or(&Value::Null);
        let value = match value {
            Value::Object(inner) => Value::Object(with_marks_of(inner, before)),
            value if !has_reserved(value) => value.clone(),
            _ if has_reserved(before) => before.clone(),
            _ => return None,
        };
        Some((key.clone(), value))
    };
    members.iter().filter_map(kept).collect()
}

fn has_reserved(value: &Value) -> bool {
    match value {
        Value::String(text) => is_reserved(text),
        Value::Array(items) => items.iter().any(has_reserved),
        Value::Object(members) => members.values().any(has_reserved),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The value of a secret: [`limits::SECRET_BYTES_MIN`] to [`limits::SECRET_BYTES_MAX`] bytes of UTF-8 without NUL. It is
/// not in its `Debug`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretText(String);

impl SecretText {
    /// Returns the value of some bytes.
    ///
    /// # Errors
    /// They cannot be a secret; a phrase that goes on after "it" and does not hold them.
    pub fn new(bytes: Vec<u8>) -> Result<SecretText, &'static str> {
        if bytes.is_empty() {
            return Err("is empty");
        }
        if bytes.len() < limits::SECRET_BYTES_MIN {
            return Err("has fewer than 4 bytes, too few to be told apart in what devices answer");
        }
        if bytes.len() > limits::SECRET_BYTES_MAX {
            return Err("has more than 4096 bytes, the most that a text of a twin has");
        }
        if bytes.contains(&0) {
            return Err("has a NUL character");
        }
        String::from_utf8(bytes).map(SecretText).map_err(|_| "is not UTF-8")
    }
}

impl SecretText {
    /// Returns the value itself, to be sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SHOWN)
    }
}

/// The key that the marks of a registry are made with. It is made with the registry and never leaves it.
/// The default is none of a registry, for values that are only counted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Returns the key that 64 hex digits spell, or `None`.
    pub fn parse(hex: &str) -> Option<SecretKey> {
        let bytes = (0..32).map(|at| u8::from_str_radix(hex.get(at * 2..at * 2 + 2)?, 16).ok());
        let bytes: Vec<u8> = bytes.collect::<Option<_>>().filter(|_| hex.len() == 64)?;
        Some(SecretKey(bytes.try_into().ok()?))
    }

    /// Returns the mark of a text.
    pub fn mark(&self, text: &str) -> String {
        format!("{MARK}{})", Digest::keyed(&self.0, text.as_bytes()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey")
    }
}

/// Values of secrets by their references, with their marks in one registry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets(BTreeMap<SecretRef, (SecretText, String)>);

impl Secrets {
    /// Adds a value.
    pub fn insert(&mut self, reference: SecretRef, value: SecretText, key: &SecretKey) {
        let mark = key.mark(&value.0);
        self.0.insert(reference, (value, mark));
    }

    /// Returns true when there is no value.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true when every reference of a value has its own.
    pub fn has_all(&self, value: &Value) -> bool {
        let mut has_all = true;
        each(value, &mut |_, reference| has_all &= self.0.contains_key(reference));
        has_all
    }

    /// Returns a value with marks in place of its references, as a registry keeps it. A reference without a value gives
    /// a text that no twin has.
    pub fn marked(&self, value: &Value) -> Value {
        replaced(value, &|value| {
            let reference = SecretRef::of(value)?;
            Some(Value::from(self.0.get(&reference).map_or(SHOWN_UNKNOWN, |(_, mark)| mark)))
        })
    }

    /// Returns a value with the values of its references and marks in place of these, as a device gets it. What has no
    /// value stays.
    pub fn sent(&self, value: &Value) -> Value {
        replaced(value, &|value| {
            let found = match value {
                Value::String(text) => self.0.values().find(|(_, mark)| mark == text),
                _ => self.0.get(&SecretRef::of(value)?),
            };
            found.map(|(text, _)| Value::from(text.0.as_str()))
        })
    }

    /// Returns true when a section has the marks of a patch that [`Secrets::marked`] made, at the same places.
    pub fn are_marked_in(&self, section: &Value, patch: &Value) -> bool {
        match (patch, section) {
            (Value::String(text), found) if is_mark(text) => found.as_str() == Some(text),
            (Value::Object(members), found) => {
                members.iter().all(|(key, member)| self.are_marked_in(found.get(key).unwrap_or(&Value::Null), member))
            }
            (Value::Array(items), found) => {
                let at = |at: usize| found.get(at).unwrap_or(&Value::Null);
                items.iter().enumerate().all(|(index, item)| self.are_marked_in(at(index), item))
            }
            _ => true,
        }
    }

    /// Returns what a device has where a job wants a value with references, for a planner: the wanted value itself when
    /// it is that, and otherwise what people see.
    pub fn compared(&self, wanted: &Value, before: &Value) -> Value {
        if !self.has_all(wanted) {
            // A snapshot has `SHOWN` in place of marks.
            let is_secret = |value: &Value| value.as_str().is_none_or(is_reserved);
            return replaced(before, &|value| is_secret(value).then(|| Value::from(SHOWN_UNKNOWN)));
        }
        if self.marked(wanted) == *before { wanted.clone() } else { shown(before) }
    }
}

/// Values of secrets with their marks: they are masked in what devices say.
#[derive(Debug, Clone, Default)]
pub struct Masks(BTreeMap<SecretText, String>);

impl Masks {
    /// Adds all values of some secrets.
    pub fn add(&mut self, secrets: &Secrets) {
        self.0.extend(secrets.0.values().cloned());
    }

    /// Returns a text with [`SHOWN`] in place of each value in it, also where it stands as JSON writes it.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        // A value may be a part of another one: the longest is replaced first.
        let mut longest_first: Vec<&str> = self.0.keys().map(|known| known.0.as_str()).collect();
        longest_first.sort_by_key(|known| std::cmp::Reverse(known.len()));
        for known in longest_first {
            let quoted = Value::from(known).to_string();
            for form in [known, &quoted[1..quoted.len() - 1]] {
                if text.contains(form) {
                    text = Cow::Owned(text.replace(form, SHOWN));
                }
            }
        }
        text
    }

    /// Returns a value without the values of secrets: a text or a number that is one becomes its mark, and what has one
    /// within it is shown without.
    pub fn value(&self, value: Value) -> Value {
        if self.0.is_empty() {
            return value;
        }
        match value {
            Value::Object(members) => {
                let masked = |(key, member): (String, Value)| (self.text(&key).into_owned(), self.value(member));
                Value::Object(members.into_iter().map(masked).collect())
            }
            Value::Array(items) => items.into_iter().map(|item| self.value(item)).collect(),
            Value::String(text) => Value::from(self.scalar(&text).unwrap_or_else(|| self.text(&text).into_owned())),
            // Codes and versions of acknowledgements are short.
            Value::Number(number) if number.to_string().len() >= NUMBER_CHARS_MIN => {
                self.scalar(&number.to_string()).map_or(Value::Number(number), Value::from)
            }
            Value::Number(_) | Value::Null | Value::Bool(_) => value,
        }
    }

    /// Returns a twin section with the values of secrets in place of their marks, as its device may see it. Members
    /// with marks of other secrets are left out.
    pub fn unmasked(&self, section: &Value) -> Value {
        let by_mark: BTreeMap<&str, &str> =
            self.0.iter().map(|(text, mark)| (mark.as_str(), text.0.as_str())).collect();
        let mut section = replaced(section, &|value| match value {
            Value::String(text) => by_mark.get(text.as_str()).map(|known| Value::from(*known)),
            _ => None,
        });
        if let Value::Object(members) = &mut section {
            drop_reserved(members);
        }
        section
    }

    /// Returns the mark of a text that is the value of a secret.
    fn scalar(&self, text: &str) -> Option<String> {
        self.0.get(&SecretText(text.to_string())).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> SecretRef {
        SecretRef::Env(name.to_string())
    }

    fn key(digit: char) -> SecretKey {
        SecretKey::parse(&digit.to_string().repeat(64)).unwrap()
    }

    fn secrets(pairs: &[(&str, &str)]) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, value) in pairs {
            secrets.insert(env(name), SecretText::new(value.as_bytes().to_vec()).unwrap(), &key('a'));
        }
        secrets
    }

    #[test]
    fn references_are_found_and_their_faults_told() {
        let value = json!({"a": [1, {"$secret": {"env": "PSK"}}], "b": {"$secret": {"file": "/run/psk"}}});
        let mut found = Vec::new();
        each(&value, &mut |path, reference| found.push(format!("{} {reference}", path.join("."))));
        assert_eq!(found, ["a.1 env:PSK", "b file:/run/psk"]);
        assert!(faults(&value).is_empty());
        for reference in [env("PSK"), SecretRef::File("a/b.txt".to_string())] {
            assert_eq!(SecretRef::of(&reference.to_json()), Some(reference));
        }
        for bad in [
            json!({"$secret": {"env": "1A"}}),
            json!({"$secret": {"env": "A B"}}),
            json!({"$secret": {"env": ""}}),
            json!({"$secret": {"env": 3}}),
            json!({"$secret": {"env": "A", "file": "b"}}),
            json!({"$secret": {"env": "A"}, "b": 1}),
            json!({"$secret": "A"}),
            json!({"$secret": {"vault": "A"}}),
            json!({"$secret": {"file": "../psk"}}),
            json!({"$secret": {"file": "/run/../etc/shadow"}}),
            json!({"$secret": {"file": "a//b"}}),
            json!({"$secret": {"file": "/run/"}}),
            json!({"$secret": {"file": ""}}),
            json!({"$secret": {"file": "x".repeat(1025)}}),
            json!("(secret)"),
        ] {
            assert_eq!(faults(&json!({"a": bad})).len(), 1, "{bad}");
            assert_eq!(SecretRef::of(&bad), None, "{bad}");
        }
    }

    #[test]
    fn values_are_marked_sent_and_compared() {
        let known = secrets(&[("A", "hunter2-a"), ("B", "hunter2-b")]);
        let wanted = json!({"x": {"$secret": {"env": "A"}}, "y": ["plain", {"$secret": {"env": "B"}}], "z": 3});
        let marked = known.marked(&wanted);
        assert!(is_mark(marked["x"].as_str().unwrap()) && marked["x"] != marked["y"][1]);
        assert!(!marked.to_string().contains("hunter2"));
        let sent = json!({"x": "hunter2-a", "y": ["plain", "hunter2-b"], "z": 3});
        assert_eq!((known.sent(&wanted), known.sent(&marked)), (sent.clone(), sent));
        let seen = json!({"x": SHOWN, "y": ["plain", SHOWN], "z": 3});
        assert_eq!((shown(&wanted), shown(&marked)), (seen.clone(), seen.clone()));
        assert_eq!(known.compared(&wanted, &marked), wanted);
        let other = secrets(&[("A", "hunter2-c"), ("B", "hunter2-b")]);
        assert_eq!(other.compared(&wanted, &marked), seen);
        let unknown = secrets(&[("B", "hunter2-b")]);
        assert_eq!(unknown.compared(&wanted, &marked)["x"], SHOWN_UNKNOWN);
        assert_eq!(unknown.compared(&wanted, &json!("plain")), json!("plain"));
        assert_ne!(key('a').mark("hunter2"), key('b').mark("hunter2"), "the key of the registry counts");
        assert!(!format!("{known:?} {:?}", key('a')).contains("hunter2"));
    }

    #[test]
    fn what_devices_say_is_masked() {
        let mut masks = Masks::default();
        assert_eq!(masks.text("hunter2"), "hunter2");
        masks.add(&secrets(&[("A", "hunter2"), ("B", "a \"hunter2\"!"), ("C", "471100")]));
        assert_eq!(masks.text("no hunter2, hunter2"), "no (secret), (secret)");
        assert_eq!(masks.text("a \"hunter2\"!"), "(secret)");
        assert_eq!(masks.text(r#"{"x": "a \"hunter2\"!"}"#), r#"{"x": "(secret)"}"#);
        let masked = masks.value(json!({"hunter2": ["hunter2", 471_100, "is 471100", 12, null]}));
        let mark = |text: &str| json!(key('a').mark(text));
        assert_eq!(masked, json!({SHOWN: [mark("hunter2"), mark("471100"), "is (secret)", 12, null]}));
    }

    #[test]
    fn bytes_that_are_no_secret_are_refused() {
        for (bytes, expect) in [
            (Vec::new(), "empty"),
            (b"abc".to_vec(), "fewer than 4"),
            (vec![b'a'; 4097], "4096"),
            (b"a\0bc".to_vec(), "NUL"),
            (vec![0xff, 0xfe, 0xfd, 0xfc], "UTF-8"),
        ] {
            assert!(SecretText::new(bytes).unwrap_err().contains(expect));
        }
        assert!(SecretText::new(vec![b'a'; 4096]).is_ok());
    }

    #[test]
    fn what_an_export_left_out_is_not_taken_in() {
        let mut members = json!({"a": SHOWN, "b": {"c": SHOWN, "d": 1}, "e": [1, SHOWN], "f": "(secrets)"});
        drop_reserved(members.as_object_mut().unwrap());
        assert_eq!(members, json!({"b": {"d": 1}, "f": "(secrets)"}));
    }
}
