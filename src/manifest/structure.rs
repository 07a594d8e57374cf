//! From trees to wire types, and diagnostics for a tree with another structure.
//!
//! A document that serde accepts is not checked again: its schema says nothing more about structure. One that it
//! refuses is validated against the schema, which finds every problem and not just the first.

use std::collections::BTreeMap;

use jsonschema::Validator;
use jsonschema::error::{TypeKind, ValidationError, ValidationErrorKind};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::node::{Content, Node, Place, pointer, unescaped};
use super::schema;
use super::v1::{API_VERSION, NOT_SCHEDULED};
use crate::diag::{Diagnostic, Diagnostics, code, nearest, shown};
use crate::model::id::Name;
use crate::model::kind::Kind;

/// The schemas that were needed so far, each compiled once a load.
#[derive(Default)]
pub struct Validators {
    compiled: BTreeMap<Kind, (Value, Validator)>,
}

impl Validators {
    fn of(&mut self, kind: Kind) -> &(Value, Validator) {
        self.compiled.entry(kind).or_insert_with(|| {
            let schema = schema::schema(kind);
            let validator =
                jsonschema::draft202012::new(&schema).expect("the generated schemas are valid, as a test shows");
            (schema, validator)
        })
    }
}

/// What a document is, judged by `apiVersion` and `kind` alone.
pub enum Identity {
    /// Not one of ours, or refused with a diagnostic.
    None,
    Ours(Kind),
}

/// Returns what a document is.
pub fn identify(root: &Node) -> (Identity, Option<Diagnostic>) {
    let kind = root.get("kind");
    let word = kind.and_then(Node::as_str);
    let Some(version) = root.get("apiVersion") else {
        if let Some(diagnostic) = misspelt_key(root, "apiVersion", |value| version_of(value).is_some()) {
            return (Identity::None, Some(diagnostic));
        }
        let ours = word.is_some_and(|word| Kind::parse(word).is_some()) && root.get("spec").is_some();
        let warning = ours.then(|| {
            let detail = format!(
                "This document has a `kind` of ours and no `apiVersion`, so it is passed over. Add `apiVersion: \
                 {API_VERSION}` if it is meant for fleetform."
            );
            Diagnostic::new(code::MISSING_API_VERSION, root.locate("/kind").key_span(), detail)
        });
        return (Identity::None, warning);
    };
    if version.as_str() != Some(API_VERSION) {
        let is_bare = word.is_some_and(|word| Kind::parse(word).is_some()) && is_bare_version(version);
        let text = version_of(version).or_else(|| is_bare.then(|| describe_version(version)));
        let diagnostic = text.map(|text| {
            let detail = format!("This fleetform reads `{API_VERSION}`, and the document says `{}`.", shown(&text));
            let diagnostic = Diagnostic::new(code::UNSUPPORTED_VERSION, version.span, detail);
            let is_later = text.strip_prefix("fleetform/v").is_some_and(|number| number.parse::<u32>().is_ok());
            if is_later { diagnostic } else { diagnostic.with_help(format!("Did you mean `{API_VERSION}`?")) }
        });
        return (Identity::None, diagnostic);
    }
    let Some(kind) = kind else {
        if let Some(diagnostic) = misspelt_key(root, "kind", |value| value.as_str().is_some()) {
            return (Identity::None, Some(diagnostic));
        }
        let span = root.locate("/apiVersion").key_span();
        let detail = "The document has no `kind`, which says what it declares.";
        return (Identity::None, Some(Diagnostic::new(code::MISSING_FIELD, span, detail).with_help(kinds())));
    };
    let Some(word) = word else {
        let detail = format!("`kind` is {}, and it must be text.", describe(kind));
        return (Identity::None, Some(Diagnostic::new(code::WRONG_TYPE, kind.span, detail).with_help(kinds())));
    };
    match Kind::parse(word) {
        Some(kind) => (Identity::Ours(kind), None),
        None => {
            let detail = format!("There is no kind `{}`.", shown(word));
            let help = match nearest(word, Kind::ALL.map(Kind::as_str)) {
                Some(near) => format!("Did you mean `{near}`?"),
                None => kinds(),
            };
            (Identity::None, Some(Diagnostic::new(code::UNKNOWN_KIND, kind.span, detail).with_help(help)))
        }
    }
}

/// Returns the error of a key that is most likely a misspelling of a missing one.
fn misspelt_key(root: &Node, wanted: &str, is_value: impl Fn(&Node) -> bool) -> Option<Diagnostic> {
    let keys = root.entries().iter().filter(|(_, value)| is_value(value));
    let (key, _) = keys.into_iter().find(|(key, _)| nearest(&key.text, [wanted]).is_some())?;
    let detail = format!("The document has no `{wanted}`, and `{}` is there.", shown(&key.text));
    Some(Diagnostic::new(code::UNKNOWN_FIELD, key.span, detail).with_help(format!("Did you mean `{wanted}`?")))
}

/// Returns the text of a version that is ours, or nearly: another number, another case, a slip of the name.
fn version_of(version: &Node) -> Option<String> {
    let text = version.as_str()?;
    let lower = text.trim().to_lowercase();
    let group = lower.split(['/', '.', ':']).next().unwrap_or_default();
    let own = API_VERSION.split('/').next().unwrap_or_default();
    let is_near = group == own || nearest(group, [own]).is_some() || nearest(&lower, [API_VERSION]).is_some();
    is_near.then(|| text.to_string())
}

/// Returns true for a version without the name of what it is of, such as `v1` or 1.
fn is_bare_version(version: &Node) -> bool {
    let text = describe_version(version);
    let number = text.strip_prefix(['v', 'V']).unwrap_or(&text);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn describe_version(version: &Node) -> String {
    match version.to_json() {
        Value::String(text) => text,
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => String::new(),
    }
}

fn kinds() -> String {
    format!("The kinds are {}.", list(Kind::ALL.map(Kind::as_str)))
}

/// Returns the wire type of a document and its JSON; `None` when the fields without problems are not enough for one.
///
/// With problems, the wire type lacks the fields that have them, so that the rest can still be checked.
pub fn read<T: DeserializeOwned>(
    root: &Node,
    kind: Kind,
    validators: &mut Validators,
    diagnostics: &mut Diagnostics,
) -> Option<(T, Value)> {
    let mut value = root.to_json();
    let problem = if has_null(root, &mut Vec::new()) {
        "a value is missing".to_string()
    } else {
        match T::deserialize(&value) {
            Ok(wire) => return Some((wire, value)),
            Err(error) => error.to_string(),
        }
    };
    let (schema, validator) = validators.of(kind);
    let mut is_explained = false;
    let mut faulty: Vec<String> = Vec::new();
    for error in validator.iter_errors(&value) {
        let found = explain(&error, root, schema);
        is_explained |= !found.is_empty();
        for (diagnostic, path) in found {
            diagnostics.push(diagnostic);
            faulty.extend(path);
        }
    }
    if !is_explained {
        let detail = format!(
            "This document does not have the structure of its kind: {}. That fleetform cannot say it better is a \
             bug: please report it.",
            shown(&problem)
        );
        diagnostics.push(Diagnostic::new(code::WRONG_TYPE, root.locate("/spec").key_span(), detail));
    }
    faulty.iter().for_each(|path| remove(&mut value, path));
    T::deserialize(&value).ok().map(|wire| (wire, value))
}

/// Fields of a job whose content is the author's own, below its spec; null means something there.
const FREE_FORM: [&[&str]; 7] = [
    &["action", "property"],
    &["action", "cloudProperty"],
    &["action", "tags"],
    &["action", "twin", "tags"],
    &["action", "twin", "property"],
    &["action", "command", "payload"],
    &["action", "command", "component"],
];

/// Returns the path below the spec of a job or of a schedule's job.
fn in_job<'p, 'a>(path: &'p [&'a str]) -> &'p [&'a str] {
    match path {
        ["spec", "job", rest @ ..] | ["spec", rest @ ..] => rest,
        _ => &[],
    }
}

fn has_null<'a>(node: &'a Node, path: &mut Vec<&'a str>) -> bool {
    match &node.content {
        // A patch is a map or nothing; a payload and a component may be null.
        Content::Null if matches!(path.as_slice(), ["spec", "job", field] if NOT_SCHEDULED.contains(field)) => false,
        Content::Null => !FREE_FORM.contains(&in_job(path)) || in_job(path).len() == 2,
        Content::Bool(_) | Content::Number(_) | Content::String(_) => false,
        Content::Seq(_) | Content::Map(_) if FREE_FORM.contains(&in_job(path)) => false,
        Content::Seq(items) => items.iter().any(|item| matches!(item.content, Content::Null)),
        Content::Map(entries) => entries.iter().any(|(key, node)| {
            path.push(&key.text);
            let found = has_null(node, path);
            path.pop();
            found
        }),
    }
}

/// Returns what a schema error means to the author, each with the pointer of what it makes unusable.
///
/// Errors about the values of well-typed fields are left to lowering, which knows more about them.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the enum of the crate has 40 variants for keywords that we do not use"
)]
fn explain(error: &ValidationError<'_>, root: &Node, schema: &Value) -> Vec<(Diagnostic, Option<String>)> {
    let path = error.instance_path().as_str();
    let place = root.locate(path);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let allowed = allowed_fields(schema, error.schema_path().as_str());
            let unknown = |name: &String| {
                let pointer = format!("{path}{}", pointer([name.as_str()]));
                (unknown_field(root, path, name, &allowed), Some(pointer))
            };
            // Lowering explains why these have no place there.
            let is_explained_later = |name: &&String| path == "/spec/job" && NOT_SCHEDULED.contains(&name.as_str());
            unexpected.iter().filter(|name| !is_explained_later(name)).map(unknown).collect()
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let detail = format!("{} has no field `{name}`, which is needed.", Subject(path));
            let first = place.node.entries().first().map(|(key, _)| key.span);
            let span = place.key.map(|key| key.span).or(first).unwrap_or(place.node.span);
            vec![(Diagnostic::new(code::MISSING_FIELD, span, detail), None)]
        }
        ValidationErrorKind::Type { kind } => {
            let fields = allowed_fields(schema, error.schema_path().as_str());
            vec![(wrong_type(&place, path, kind, &fields), Some(path.to_string()))]
        }
        ValidationErrorKind::Enum { options } => vec![(unknown_word(&place, path, options), Some(path.to_string()))],
        ValidationErrorKind::Minimum { limit } => {
            let detail = format!("{} must be at least {limit}.", Subject(path));
            vec![(Diagnostic::new(code::OUT_OF_RANGE, place.node.span, detail), Some(path.to_string()))]
        }
        ValidationErrorKind::Maximum { limit } => {
            let detail = format!("{} must be at most {limit}.", Subject(path));
            vec![(Diagnostic::new(code::OUT_OF_RANGE, place.node.span, detail), Some(path.to_string()))]
        }
        _ => Vec::new(),
    }
}

/// Returns the names of the fields beside the `additionalProperties` at a schema path.
fn allowed_fields(schema: &Value, schema_path: &str) -> Vec<String> {
    let parent = schema_path.rsplit_once('/').map_or("", |(parent, _)| parent);
    let properties = schema.pointer(parent).and_then(|parent| parent.get("properties")).and_then(Value::as_object);
    properties.map(|properties| properties.keys().cloned().collect()).unwrap_or_default()
}

fn unknown_field(root: &Node, path: &str, name: &str, allowed: &[String]) -> Diagnostic {
    let place = root.locate(&format!("{path}{}", pointer([name])));
    let detail = format!("{} has no field `{}`.", Subject(path), shown(name));
    let missing = allowed.iter().map(String::as_str).filter(|field| root.locate(path).node.get(field).is_none());
    let help = match nearest(name, missing) {
        Some(near) => format!("Did you mean `{near}`?"),
        None if allowed.len() == 1 => format!("The only field is `{}`.", allowed[0]),
        None => format!("The fields are {}.", list(allowed.iter().map(String::as_str))),
    };
    Diagnostic::new(code::UNKNOWN_FIELD, place.key_span(), detail).with_help(help)
}

/// `fields` are those of the map that it may be.
fn wrong_type(place: &Place<'_>, path: &str, expected: &TypeKind, fields: &[String]) -> Diagnostic {
    let words: Vec<String> = match expected {
        TypeKind::Single(one) => vec![one.to_string()],
        TypeKind::Multiple(many) => many.iter().map(|one| one.to_string()).collect(),
    };
    let wanted = words.iter().map(|word| type_noun(word)).collect::<Vec<_>>().join(" or ");
    if matches!(place.node.content, Content::Null) {
        let detail = format!("{} has no value, and it must be {wanted}.", Subject(path));
        let diagnostic = Diagnostic::new(code::WRONG_TYPE, place.key_span(), detail);
        return diagnostic.with_help("Write a value, or remove the line.");
    }
    if path.ends_with("/password") && place.node.as_str().is_some() {
        let detail = format!("{} is a text, and a password does not stand in a document.", Subject(path));
        return Diagnostic::new(code::WRONG_TYPE, place.key_span(), detail).with_help(
            "Write where it is: `{env: NAME}` or `{file: /absolute/path}`. And change this one: it is known.",
        );
    }
    let detail = format!("{} is {}, and it must be {wanted}.", Subject(path), describe(place.node));
    let diagnostic = Diagnostic::new(code::WRONG_TYPE, place.node.span, detail);
    let wants_text = words == ["string"];
    let wants = |wanted: &str| words.iter().any(|word| word == wanted);
    let wants_boolean = wants("boolean");
    match &place.node.content {
        Content::String(text) if wants("object") && fields.iter().any(|field| field == "group") => diagnostic
            .with_help(match text.as_str() {
                "*" | "all" => "For all devices, write `{query: \"*\"}`.".to_string(),
                text if Name::parse(text).is_ok() => format!("For a device group, write `{{group: {text}}}`."),
                text => {
                    format!("For a condition, write `{{query: {}}}`.", serde_json::Value::from(shown(text)))
                }
            }),
        Content::String(_) | Content::Number(_) | Content::Bool(_) | Content::Seq(_)
            if wants("object") && !fields.is_empty() =>
        {
            diagnostic.with_help(format!("As a map, its fields are {}.", list(fields.iter().map(String::as_str))))
        }
        Content::Number(number) if wants("integer") && wants("string") => match share_of(number) {
            Some(share) => diagnostic.with_help(format!("For a share of the devices, write `{share}`.")),
            None => diagnostic,
        },
        Content::Bool(value) if wants_text => diagnostic.with_help(format!("Put it in quotes: `\"{value}\"`.")),
        Content::Number(number) if wants_text => diagnostic.with_help(format!(
            "Put it in quotes when it is text: `\"{number}\"`. A time needs its unit: `{number}s`, `{number}m`."
        )),
        Content::String(text) if wants_boolean => match text.to_lowercase().as_str() {
            "true" | "false" => diagnostic.with_help(format!("Remove the quotes: `{}`.", text.to_lowercase())),
            "yes" | "on" | "y" => diagnostic.with_help("Write `true`."),
            "no" | "off" | "n" => diagnostic.with_help("Write `false`."),
            _ => diagnostic,
        },
        Content::String(text) if text.parse::<f64>().is_ok() => {
            diagnostic.with_help("Remove the quotes: then it is a number.")
        }
        Content::String(_) if words.iter().any(|word| word == "array") => {
            diagnostic.with_help("Put it in brackets: then it is a list with one entry.")
        }
        Content::Null
        | Content::Bool(_)
        | Content::Number(_)
        | Content::String(_)
        | Content::Seq(_)
        | Content::Map(_) => diagnostic,
    }
}

/// Returns a number between 0 and 1 as a whole percentage, such as `25%`; `None` for another number.
fn share_of(number: &serde_json::Number) -> Option<String> {
    let percent = number.as_f64()? * 100.0;
    let is_whole = (percent - percent.round()).abs() < 1e-6;
    (is_whole && 0.5 < percent && percent < 99.5).then(|| format!("{percent:.0}%"))
}

fn unknown_word(place: &Place<'_>, path: &str, options: &Value) -> Diagnostic {
    let words: Vec<&str> = options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let detail = format!("{} is {}, and it must be {}.", Subject(path), describe(place.node), alternatives(&words));
    let code = if place.node.as_str().is_some() { code::UNKNOWN_WORD } else { code::WRONG_TYPE };
    let diagnostic = Diagnostic::new(code, place.node.span, detail);
    // A weekday that is written out.
    let is_short_for = |option: &&str, word: &str| {
        let word = word.to_lowercase();
        option.len() == 3 && word.ends_with("day") && word.starts_with(*option)
    };
    let near = |word: &str| {
        let short = words.iter().copied().find(|option| is_short_for(option, word));
        short.or_else(|| nearest(word, words.iter().copied()))
    };
    match place.node.as_str().and_then(near) {
        Some(near) => diagnostic.with_help(format!("Did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// A pointer as the subject of a sentence: `` `spec.target` ``, or `The document` for the root.
pub struct Subject<'a>(pub &'a str);

impl std::fmt::Display for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return f.write_str("The document");
        }
        let mut path = String::new();
        for segment in self.0.split('/').skip(1) {
            if !segment.is_empty() && segment.bytes().all(|byte| byte.is_ascii_digit()) {
                path.push_str(&format!("[{segment}]"));
                continue;
            }
            if !path.is_empty() {
                path.push('.');
            }
            path.push_str(&unescaped(segment));
        }
        write!(f, "`{}`", shown(&path))
    }
}

fn type_noun(word: &str) -> &'static str {
    match word {
        "array" => "a list",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "null" => "null",
        "number" => "a number",
        "object" => "a map",
        _ => "text",
    }
}

/// Returns what a value is, such as `the number 3`.
pub fn describe(node: &Node) -> String {
    match &node.content {
        Content::Null => "null".to_string(),
        Content::Bool(value) => format!("the boolean `{value}`"),
        Content::Number(number) => format!("the number {number}"),
        Content::String(text) if text.is_empty() => "an empty text".to_string(),
        Content::String(text) => format!("the text `{}`", shown(text)),
        Content::Seq(_) => "a list".to_string(),
        Content::Map(_) => "a map".to_string(),
    }
}

/// Returns `` `a`, `b` and `c` ``.
pub fn list<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    joined(words.into_iter().collect::<Vec<_>>().as_slice(), "and")
}

fn alternatives(words: &[&str]) -> String {
    joined(words, "or")
}

fn joined(words: &[&str], conjunction: &str) -> String {
    match words {
        [] => "nothing".to_string(),
        [only] => format!("`{only}`"),
        [init @ .., last] => {
            let init = init.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
            format!("{init} {conjunction} `{last}`")
        }
    }
}

/// Removes what a pointer leads to from its map; an element of a list takes the list with it.
fn remove(value: &mut Value, path: &str) {
    let mut path = path;
    while let Some((parent, last)) = path.rsplit_once('/') {
        let last = unescaped(last);
        match value.pointer_mut(parent) {
            Some(Value::Object(members)) => {
                members.remove(last.as_ref());
                return;
            }
            _ => path = parent,
        }
    }
}
