//! From the JSON of a file to a model.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Problem;
use super::interfaces::{check_extensions, check_inherited, has_components};
use super::json::{below, each, has_type, is_name, one};
use super::literal::{Kind, literal_of};
use super::members::{Element, Language, unknown};
use super::model::{Content, Interface, Model};
use super::schema::{COMPLEX, Schema};
use super::terms;
use crate::diag::shown;
use crate::model::limits;

/// The kinds of contents, in the order in which they are looked for in an `@type`.
const CONTENTS: [&str; 5] = ["Property", "Telemetry", "Command", "Component", "Relationship"];

/// Returns the model of a file: a DTDL interface, or a list of interfaces that refer to each other.
///
/// # Errors
/// Everything that is wrong with it, at most [`limits::DTDL_PROBLEMS_MAX`] problems, in the order of the file.
pub fn read(content: &Value) -> Result<Model, Vec<Problem>> {
    match terms::named(content) {
        None => read_named(content, Vec::new()),
        Some((content, problems)) => read_named(&content, problems),
    }
}

/// Reads a model whose members have their names; `problems` were found before.
fn read_named(content: &Value, problems: Vec<Problem>) -> Result<Model, Vec<Problem>> {
    let mut reader = ModelReader::new();
    problems.into_iter().for_each(|problem| reader.report(&problem.pointer, problem.message));
    reader.index(content, &mut String::new());
    let top = reader.top(content);
    let found = std::mem::take(&mut reader.found);
    for (pointer, element) in &found {
        // What is around an interface of version 1 was told.
        let language = reader.language_at(pointer);
        reader.language = language.unwrap_or_default();
        let interface = language.map_or_else(Interface::default, |_| reader.interface(pointer, element));
        reader.interfaces.push(interface);
    }
    let root = reader.root(&top);
    if let Some((at, message)) = check_extensions(&reader.interfaces) {
        reader.report(&format!("{}/extends", found[at].0), message);
    }
    let mut nested = BTreeMap::new();
    for (pointer, target) in std::mem::take(&mut reader.components) {
        if *nested.entry(target).or_insert_with(|| has_components(&reader.interfaces, target)) {
            reader.report(&pointer, "the interface of a component cannot have components itself");
        }
    }
    for (at, name) in check_inherited(&reader.interfaces) {
        let message = format!("it has the content `{}` twice: its own or inherited ones of one name", shown(&name));
        reader.report(&found[at].0, message);
    }
    match root {
        Some(root) if reader.problems.is_empty() => {
            let id = found[root].1.get("@id").and_then(Value::as_str).unwrap_or_default().to_string();
            Ok(Model { interfaces: reader.interfaces, root, id })
        }
        _ => Err(reader.problems),
    }
}

/// A schema that others may refer to.
pub(super) enum Shared {
    /// It is being read: a reference that meets it now is inside of it.
    Open,
    Done(Option<Schema>),
}

pub(super) struct ModelReader<'a> {
    /// Every interface of the file, those inside of others too, with its pointer.
    found: Vec<(String, &'a Value)>,
    /// The places in `found` by pointer, and by `@id`.
    by_pointer: BTreeMap<String, usize>,
    by_id: BTreeMap<&'a str, usize>,
    /// The languages of the outermost elements, by pointer.
    pub(super) languages: BTreeMap<String, Language>,
    /// That of the interface that is read.
    pub(super) language: Language,
    /// What the `@context` of other elements names, by pointer.
    inner_languages: BTreeMap<String, Language>,
    /// Complex schemas with an `@id`.
    pub(super) schemas: BTreeMap<&'a str, (String, &'a Value)>,
    pub(super) shared: BTreeMap<&'a str, Shared>,
    /// Every element with an `@id`, with its pointer: the first of each.
    elements: BTreeMap<&'a str, (String, &'a Value)>,
    /// The identifiers of the other elements that were read, with their pointers.
    pub(super) ids: BTreeMap<&'a str, String>,
    /// The schemas of components, as pointers and places in `found`.
    components: Vec<(String, usize)>,
    elements_read: usize,
    /// The interfaces of `found` that were read, in its order.
    interfaces: Vec<Interface>,
    problems: Vec<Problem>,
}

impl<'a> ModelReader<'a> {
    fn new() -> ModelReader<'a> {
        ModelReader {
            found: Vec::new(),
            by_pointer: BTreeMap::new(),
            by_id: BTreeMap::new(),
            languages: BTreeMap::new(),
            language: Language::default(),
            inner_languages: BTreeMap::new(),
            schemas: BTreeMap::new(),
            shared: BTreeMap::new(),
            elements: BTreeMap::new(),
            ids: BTreeMap::new(),
            components: Vec::new(),
            elements_read: 0,
            interfaces: Vec::new(),
            problems: Vec::new(),
        }
    }

    pub(super) fn report(&mut self, pointer: &str, message: impl Into<String>) {
        if self.problems.len() < limits::DTDL_PROBLEMS_MAX {
            self.problems.push(Problem { pointer: pointer.to_string(), message: message.into() });
        }
    }

    /// Finds all elements that can be referred to. The parser of JSON bounds the recursion.
    fn index(&mut self, value: &'a Value, pointer: &mut String) {
        let length = pointer.len();
        match value {
            Value::Array(items) => {
                for (at, item) in items.iter().enumerate() {
                    pointer.push_str(&format!("/{at}"));
                    self.index(item, pointer);
                    pointer.truncate(length);
                }
            }
            Value::Object(members) => {
                self.note(value, pointer);
                for (key, item) in members.iter().filter(|(_, item)| item.is_object() || item.is_array()) {
                    let inner = below(pointer, key);
                    *pointer = inner;
                    self.index(item, pointer);
                    pointer.truncate(length);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn note(&mut self, element: &'a Value, pointer: &str) {
        let id = element.get("@id").and_then(Value::as_str);
        if let Some(context) = element.get("@context").filter(|_| pointer.contains('/')) {
            self.inner_languages.insert(pointer.to_string(), Language::of_words(&each(Some(context), "")));
        }
        if let Some(id) = id {
            self.elements.entry(id).or_insert_with(|| (pointer.to_string(), element));
        }
        let mut is_twice = false;
        if has_type(element, "Interface") {
            let at = self.found.len();
            self.found.push((pointer.to_string(), element));
            self.by_pointer.insert(pointer.to_string(), at);
            is_twice = id.is_some_and(|id| self.by_id.insert(id, at).is_some());
        } else if COMPLEX.iter().any(|word| has_type(element, word)) {
            is_twice = id.is_some_and(|id| self.schemas.insert(id, (pointer.to_string(), element)).is_some());
        }
        if is_twice {
            let message = format!("the `@id` `{}` is used twice", shown(id.unwrap_or_default()));
            self.report(&below(pointer, "@id"), message);
        }
    }

    /// Checks the outermost elements and returns those that are interfaces, as places in `found`.
    fn top(&mut self, content: &'a Value) -> Vec<usize> {
        let elements = match content {
            Value::Object(_) | Value::Array(_) => each(Some(content), ""),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
        };
        if elements.is_empty() {
            self.report("", "a model is a DTDL interface (an object), or a list of interfaces");
        }
        let mut top = Vec::new();
        for (pointer, element) in elements {
            match self.by_pointer.get(&pointer) {
                Some(at) => top.push(*at),
                None if has_type(element, "DeviceModel") || has_type(element, "ModelDefinition") => {
                    let message = "this is a device template of IoT Central: take its `capabilityModel` out into a \
                        file of its own";
                    self.report(&pointer, message);
                    continue;
                }
                None => {
                    let old = element.as_object().and_then(super::version_1);
                    let message = old.map_or("it needs `\"@type\": \"Interface\"`", |old| old.trim_end_matches('.'));
                    self.report(&pointer, message);
                    continue;
                }
            }
            if let Some(old) = element.as_object().and_then(super::version_1) {
                self.report(&pointer, old.trim_end_matches('.'));
                continue;
            }
            let language = self.context(element, &pointer);
            self.languages.insert(pointer.clone(), language);
        }
        top
    }

    /// Returns the language of what is inside of an outermost element; `None` where that is none of ours.
    fn language_at(&self, pointer: &str) -> Option<Language> {
        let outermost = pointer.match_indices('/').nth(1).map_or(pointer, |(at, _)| &pointer[..at]);
        self.languages.get(outermost).or_else(|| self.languages.get("")).copied()
    }

    /// Returns the language of an element: that of its interface, with what the `@context` of each element around it
    /// and its own adds.
    pub(super) fn language_of(&self, pointer: &str) -> Language {
        let mut language = self.language;
        let mut around = Some(pointer);
        while let Some(at) = around {
            if let Some(inner) = self.inner_languages.get(at) {
                language = language.and(*inner);
            }
            around = at.rsplit_once('/').map(|(outer, _)| outer);
        }
        language
    }

    /// Checks the version of an interface and returns its language.
    fn context(&mut self, element: &'a Value, pointer: &str) -> Language {
        let Some(context) = element.get("@context") else {
            self.report(pointer, "it needs an `@context`, such as `\"@context\": \"dtmi:dtdl:context;2\"`");
            return Language::default();
        };
        let pointer = below(pointer, "@context");
        let words = each(Some(context), &pointer);
        let version_of = |word: &'a Value| word.as_str()?.strip_prefix("dtmi:dtdl:context;");
        let versions: Vec<&str> = words.iter().filter_map(|(_, word)| version_of(word)).collect();
        if versions.is_empty() {
            self.report(&pointer, "its `@context` must have `dtmi:dtdl:context;2` or `dtmi:dtdl:context;3`");
        } else if let Some(version) = versions.iter().find(|version| !matches!(**version, "2" | "3")) {
            let message = format!("version {} of DTDL cannot be read, versions 2 and 3 can", shown(version));
            self.report(&pointer, message);
        }
        let version = if versions.contains(&"3") { 3 } else { 2 };
        Language { version, ..Language::of_words(&words) }
    }

    /// Returns the interface of the device: the only one that no other refers to, or else the first.
    fn root(&self, top: &[usize]) -> Option<usize> {
        let mut referred: Vec<usize> = Vec::new();
        for interface in &self.interfaces {
            referred.extend(&interface.extends);
            referred.extend(interface.contents.values().filter_map(|content| match content {
                Content::Component { interface } => Some(*interface),
                Content::Telemetry | Content::Relationship | Content::Property { .. } | Content::Command { .. } => None,
            }));
        }
        referred.sort_unstable();
        let mut free = top.iter().filter(|at| referred.binary_search(at).is_err());
        match (free.next(), free.next()) {
            (Some(only), None) => Some(*only),
            _ => top.first().copied(),
        }
    }

    fn interface(&mut self, pointer: &str, element: &'a Value) -> Interface {
        let mut interface = Interface::default();
        self.members(element, Element::Interface, pointer);
        self.at_most(element, "extends", pointer, limits::DTDL_2_EXTENDS_MAX);
        let bases = each(element.get("extends"), pointer).len();
        if bases > limits::DTDL_3_EXTENDS_MAX {
            let message = format!("there are {bases} of them, and at most {} are allowed", limits::DTDL_3_EXTENDS_MAX);
            self.report(&below(pointer, "extends"), message);
        }
        self.at_most(element, "contents", pointer, limits::DTDL_2_CONTENTS_MAX);
        for (at, base) in each(element.get("extends"), &below(pointer, "extends")) {
            interface.extends.extend(self.interface_at(base, &at));
        }
        for (at, item) in each(element.get("schemas"), &below(pointer, "schemas")) {
            if !item.get("@id").is_some_and(Value::is_string) {
                self.report(&at, "a schema in `schemas` needs an `@id`, by which others refer to it");
            }
            self.schema(item, &at, 0);
        }
        for (at, item) in each(element.get("contents"), &below(pointer, "contents")) {
            if !item.is_object() {
                self.report(&at, "it must be an object");
                continue;
            }
            let Some(name) = self.name(item, &at) else { continue };
            let Some(content) = self.content(item, &at) else { continue };
            if interface.contents.insert(name.to_string(), content).is_some() {
                self.report(&below(&at, "name"), format!("there are two contents named `{}`", shown(name)));
            }
        }
        interface
    }

    /// Reports members that an element cannot have, and what is wrong with those that every element may have.
    pub(super) fn members(&mut self, value: &'a Value, element: Element, pointer: &str) {
        self.elements_read += 1;
        self.common(value, pointer);
        for (at, message) in unknown(value, element, pointer, self.language_of(pointer)) {
            self.report(&at, message);
        }
        self.cotypes(value, element, pointer);
    }

    /// Returns true for an identifier that another element has. That two interfaces or two schemas have one was told
    /// before the first was read.
    pub(super) fn is_taken(&mut self, id: &'a str, element: &Value, pointer: &str) -> bool {
        let (is_interface, is_schema) = (self.by_id.contains_key(id), self.schemas.contains_key(id));
        if has_type(element, "Interface") {
            is_schema
        } else if COMPLEX.iter().any(|word| has_type(element, word)) {
            is_interface
        } else {
            let first = self.ids.entry(id).or_insert_with(|| pointer.to_string());
            // One that others name is read again for each of them.
            is_interface || is_schema || first != pointer
        }
    }

    /// Returns an element of the same interface that a value names by its `@id`, with its place; otherwise the value. An
    /// element is read again for each value that names it, so a model that never ends is told as one that names nothing.
    pub(super) fn resolved(&self, value: &'a Value, pointer: String) -> (String, &'a Value) {
        if self.elements_read > limits::DTDL_ELEMENTS_MAX {
            return (pointer, value);
        }
        let named = value.as_str().and_then(|id| self.elements.get(id));
        match named.filter(|(at, _)| self.partition(at) == self.partition(&pointer)) {
            Some((at, element)) => (at.clone(), *element),
            None => (pointer, value),
        }
    }

    /// Returns the interface around a place, as its pointer.
    pub(super) fn partition<'p>(&self, pointer: &'p str) -> &'p str {
        let mut around = pointer;
        while !self.by_pointer.contains_key(around) {
            match around.rsplit_once('/') {
                Some((outer, _)) => around = outer,
                None => break,
            }
        }
        around
    }

    /// Returns the literal that a member is; reports a value that is none of its kind. `None` also for a member that is
    /// not there.
    pub(super) fn literal(
        &mut self,
        element: &'a Value,
        pointer: &str,
        key: &str,
        kind: Kind,
        what: &str,
    ) -> Option<&'a Value> {
        let value = element.get(key).filter(|value| !value.as_array().is_some_and(Vec::is_empty))?;
        let found = literal_of(value, kind, self.language.version);
        if found.is_none() {
            self.report(&below(pointer, key), format!("`{key}` must be {what}"));
        }
        found
    }

    /// Reports a list that is longer than version 2 allows; version 3 bounds the whole of a model.
    pub(super) fn at_most(&mut self, element: &'a Value, key: &str, pointer: &str, most: usize) {
        let items = element.get(key).and_then(Value::as_array).map_or(0, Vec::len);
        if self.language.version == 2 && items > most {
            self.report(
                &below(pointer, key),
                format!("there are {items} of them, and version 2 of DTDL has at most {most}"),
            );
        }
    }

    /// Returns the one of some types that an element has; reports a second one.
    pub(super) fn kind(&mut self, element: &'a Value, pointer: &str, kinds: &[&'static str]) -> Option<&'static str> {
        let mut found = kinds.iter().copied().filter(|word| has_type(element, word));
        let first = found.next();
        if let (Some(first), Some(second)) = (first, found.next()) {
            let message = format!("it cannot be both {first} and {second}: one of the two must be its `@type`");
            self.report(&below(pointer, "@type"), message);
        }
        first
    }

    pub(super) fn name(&mut self, element: &'a Value, pointer: &str) -> Option<&'a str> {
        let Some(name) = element.get("name") else {
            self.report(pointer, "`name` is missing");
            return None;
        };
        let version = self.language.version;
        let most = if version == 2 { limits::DTDL_2_NAME_CHARS_MAX } else { limits::DTDL_NAME_CHARS_MAX };
        let name = literal_of(name, Kind::Text, version).and_then(Value::as_str);
        let Some(name) = name.filter(|name| is_name(name, usize::MAX)) else {
            self.report(
                &below(pointer, "name"),
                "a name is a letter, then letters, digits and `_`, and no `_` at the end",
            );
            return None;
        };
        if name.len() > most {
            let message = format!("a name has at most {most} characters in version {version} of DTDL");
            self.report(&below(pointer, "name"), message);
        }
        Some(name)
    }

    pub(super) fn content(&mut self, item: &'a Value, pointer: &str) -> Option<Content> {
        let Some(kind) = self.kind(item, pointer, &CONTENTS) else {
            let at = if item.get("@type").is_some() { below(pointer, "@type") } else { pointer.to_string() };
            self.report(&at, "its `@type` must be Telemetry, Property, Command, Component or Relationship");
            return None;
        };
        self.members(item, element_of(kind), pointer);
        match kind {
            "Relationship" => {
                self.relationship(item, pointer);
                Some(Content::Relationship)
            }
            "Telemetry" => self.schema_of(item, pointer).map(|_| Content::Telemetry),
            "Command" => {
                self.command_type(item, pointer);
                let request = self.payload(item, pointer, "request");
                // Answers are kept as they come; the schema is only looked at to find its mistakes.
                self.payload(item, pointer, "response");
                Some(Content::Command { request })
            }
            "Component" => match item.get("schema") {
                Some(schema) => {
                    let at = below(pointer, "schema");
                    let interface = self.interface_at(schema, &at)?;
                    self.components.push((at, interface));
                    Some(Content::Component { interface })
                }
                None => {
                    self.report(pointer, "`schema` is missing: the interface of the component");
                    None
                }
            },
            _ => {
                let writable = self.literal(item, pointer, "writable", Kind::Boolean, "true or false");
                let schema = self.schema_of(item, pointer)?;
                if schema.has_array && self.language.version == 2 {
                    let message = "version 2 of DTDL has no arrays in properties: use a map, or version 3";
                    self.report(&below(pointer, "schema"), message);
                }
                let writable = writable.and_then(Value::as_bool).unwrap_or_default();
                Some(Content::Property { schema, writable, is_cloud: has_type(item, "Cloud") })
            }
        }
    }

    /// Returns the interface that a value is, or refers to.
    fn interface_at(&mut self, value: &'a Value, pointer: &str) -> Option<usize> {
        let (pointer, value) = one(value, pointer);
        let found = match value {
            Value::String(id) => self.by_id.get(id.as_str()).copied(),
            _ => self.by_pointer.get(&pointer).copied(),
        };
        if found.is_none() {
            let message = match value.as_str() {
                Some(id) => {
                    format!("there is no interface `{}` in this file: add it to a list at its top", shown(id))
                }
                None => "it must be an interface, or the `@id` of one".to_string(),
            };
            self.report(&pointer, message);
        }
        found
    }
}

fn element_of(kind: &str) -> Element {
    match kind {
        "Property" => Element::Property,
        "Telemetry" => Element::Telemetry,
        "Command" => Element::Command,
        "Component" => Element::Component,
        _ => Element::Relationship,
    }
}
