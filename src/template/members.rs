//! The members that each element of a model may have: the tables of the "DTDL Language Specification" of versions 2
//! and 3, and the members that IoT Central adds.

use serde_json::Value;

use super::json::{below, class_word, each, has_type, is_dtmi};
use super::schema::WORDS;
use super::semantic::{QUANTITATIVE, Semantic, is_unit};
use crate::diag::{nearest, shown};

/// The language of an outermost element.
#[derive(Debug, Clone, Copy)]
pub struct Language {
    /// Of DTDL: 2 or 3.
    pub version: u8,
    /// Its `@context` names other languages too.
    pub is_extended: bool,
    /// It names that of IoT Central.
    pub is_central: bool,
    /// It names the extension of version 3 for quantities.
    pub is_quantitative: bool,
}

impl Default for Language {
    fn default() -> Language {
        Language { version: 2, is_extended: true, is_central: true, is_quantitative: true }
    }
}

impl Language {
    /// Returns what the words of an `@context` name beside DTDL, for version 2.
    pub fn of_words(words: &[(String, &Value)]) -> Language {
        let mut language = Language { version: 2, is_extended: false, is_central: false, is_quantitative: false };
        for word in words.iter().filter_map(|(_, word)| word.as_str()) {
            language.is_central |= word.starts_with("dtmi:iotcentral:context;");
            language.is_quantitative |= word == QUANTITATIVE;
            language.is_extended |= !word.starts_with("dtmi:dtdl:context;") && word != QUANTITATIVE;
        }
        language
    }

    /// Returns the language with what another names beside DTDL.
    #[must_use]
    pub fn and(self, inner: Language) -> Language {
        Language {
            version: self.version,
            is_extended: self.is_extended | inner.is_extended,
            is_central: self.is_central | inner.is_central,
            is_quantitative: self.is_quantitative | inner.is_quantitative,
        }
    }
}

/// A kind of element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Interface,
    Telemetry,
    Property,
    Command,
    Payload,
    Relationship,
    Component,
    Array,
    Enum,
    Map,
    Object,
    Field,
    EnumValue,
    MapKey,
    MapValue,
}

/// Members of every element.
const COMMON: [&str; 3] = ["comment", "description", "displayName"];

/// Members that IoT Central adds.
const OF_CENTRAL: [&str; 12] = [
    "minValue",
    "maxValue",
    "minLength",
    "maxLength",
    "decimalPlaces",
    "initialValue",
    "displayUnit",
    "trueName",
    "falseName",
    "severity",
    "color",
    "durable",
];

impl Element {
    fn members(self) -> &'static [&'static str] {
        match self {
            Element::Interface => &["contents", "extends", "schemas"],
            Element::Telemetry | Element::Field | Element::MapKey | Element::MapValue => &["name", "schema"],
            Element::Property => &["name", "schema", "writable"],
            Element::Command => &["name", "request", "response", "commandType"],
            Element::Payload => &["name", "schema", "nullable"],
            Element::Relationship => {
                &["name", "target", "minMultiplicity", "maxMultiplicity", "properties", "writable"]
            }
            Element::Component => &["name", "schema"],
            Element::Array => &["elementSchema"],
            Element::Enum => &["enumValues", "valueSchema"],
            Element::Map => &["mapKey", "mapValue"],
            Element::Object => &["fields"],
            Element::EnumValue => &["name", "enumValue"],
        }
    }

    /// Returns the words of which one must be in the `@type` of an element that may also have none.
    fn classes(self) -> &'static [&'static str] {
        match self {
            Element::Payload => &["CommandPayload", "CommandRequest", "CommandResponse"],
            Element::Field => &["Field"],
            Element::EnumValue => &["EnumValue"],
            Element::MapKey => &["MapKey"],
            Element::MapValue => &["MapValue"],
            Element::Interface
            | Element::Telemetry
            | Element::Property
            | Element::Command
            | Element::Relationship
            | Element::Component
            | Element::Array
            | Element::Enum
            | Element::Map
            | Element::Object => &[],
        }
    }

    /// Returns it as a part of a sentence, such as `a property`.
    pub fn word(self) -> &'static str {
        match self {
            Element::Interface => "an interface",
            Element::Telemetry => "telemetry",
            Element::Property => "a property",
            Element::Command => "a command",
            Element::Payload => "the payload of a command",
            Element::Relationship => "a relationship",
            Element::Component => "a component",
            Element::Array => "an array",
            Element::Enum => "an enum",
            Element::Map => "a map",
            Element::Object => "an object",
            Element::Field => "a field",
            Element::EnumValue => "a value of an enum",
            Element::MapKey => "the key of a map",
            Element::MapValue => "the value of a map",
        }
    }
}

/// The names of all classes of elements.
const CLASSES: [&str; 18] = [
    "Array",
    "Command",
    "CommandPayload",
    "CommandRequest",
    "CommandResponse",
    "Component",
    "Enum",
    "EnumValue",
    "Field",
    "Interface",
    "Map",
    "MapKey",
    "MapValue",
    "Object",
    "Property",
    "Relationship",
    "Telemetry",
    "Unit",
];

/// Returns true for the name or the identifier of a class of elements.
pub fn is_class(word: &str) -> bool {
    CLASSES.contains(&class_word(word))
}

/// Returns true for a name of DTDL that is no type: a schema, a unit, a member.
pub fn is_term(word: &str) -> bool {
    WORDS.contains(&word)
        || is_unit(word)
        || COMMON.contains(&word)
        || ALL.iter().any(|one| one.members().contains(&word))
}

/// Returns the semantic type of a word of an `@type` in a language that has them.
pub fn semantic_of(word: &str, language: Language) -> Option<Semantic> {
    let has_them = language.version == 2 || language.is_quantitative;
    has_them.then(|| Semantic::of_word(word, language.version)).flatten()
}

/// Returns true when an `@type` has a word that none of the languages known here defines: the element may have any
/// members then.
pub fn is_open(value: &Value, language: Language) -> bool {
    let words = each(value.get("@type"), "");
    words.iter().filter_map(|(_, word)| word.as_str()).any(|word| {
        let is_ours = is_class(word) || semantic_of(word, language).is_some();
        !is_ours && (language.is_extended || is_free(word, language))
    })
}

/// Returns true for a word that needs no language: version 2 of DTDL lets anyone invent types, but for names and
/// identifiers that mean something else.
pub fn is_free(word: &str, language: Language) -> bool {
    language.version == 2 && !word.starts_with("dtmi:") && !is_term(word)
}

/// Every element.
const ALL: [Element; 15] = [
    Element::Interface,
    Element::Telemetry,
    Element::Property,
    Element::Command,
    Element::Payload,
    Element::Relationship,
    Element::Component,
    Element::Array,
    Element::Enum,
    Element::Map,
    Element::Object,
    Element::Field,
    Element::EnumValue,
    Element::MapKey,
    Element::MapValue,
];

/// Returns the pointers and messages of members that an element cannot have, and of an `@type` that is another's. An
/// element with a type of another language may have any members of that, and IoT Central adds some everywhere: then only
/// the slips of members that the element lacks are told.
pub fn unknown(value: &Value, element: Element, pointer: &str, language: Language) -> Vec<(String, String)> {
    let Some(members) = value.as_object() else { return Vec::new() };
    let (own, word, classes) = (element.members(), element.word(), element.classes());
    let is_known = |key: &str| {
        key.starts_with(['@', '$'])
            || key == "unit"
            || own.contains(&key)
            || COMMON.contains(&key)
            || language.is_central && OF_CENTRAL.contains(&key)
    };
    // Version 3 has identifiers of its own and words, and no addresses of the web.
    let is_legal = |key: &str| language.version == 2 || !key.contains(':') || is_dtmi(key, true);
    let is_open = language.is_central || is_open(value, language);
    let mut found = Vec::new();
    for key in members.keys().filter(|key| !is_known(key)) {
        let lacking = own.iter().chain(&COMMON).copied().filter(|name| !members.contains_key(*name));
        let near = nearest(key, lacking);
        let is_central = OF_CENTRAL.contains(&key.as_str());
        let message = match near.filter(|_| !is_central) {
            Some(near) => format!("`{}` is no member of {word}; did you mean `{near}`?", shown(key)),
            None if is_open && is_legal(key) => continue,
            None if is_central => {
                format!(
                    "`{}` is a member of IoT Central: name `dtmi:iotcentral:context;2` in the `@context`",
                    shown(key)
                )
            }
            None => format!("`{}` is no member of {word}: it has {}", shown(key), list(own)),
        };
        found.push((below(pointer, key), message));
    }
    let is_other = !classes.is_empty() && !classes.iter().any(|class| has_type(value, class));
    if is_other && !language.is_central && members.contains_key("@type") {
        found.push((below(pointer, "@type"), format!("the `@type` of {word} is {}", list(classes))));
    }
    found
}

fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}
