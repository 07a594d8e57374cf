//! What an `@type` has beside the class of its element: a semantic type with its unit, and types of other languages.

use serde_json::Value;

use super::json::{below, each, is_dtmi, literal};
use super::members::{Element, Language, is_class, is_free, is_open, semantic_of};
use super::read::ModelReader;
use super::schema::{Form, Schema};
use super::semantic::{QUANTITATIVE, Semantic};
use crate::diag::shown;

impl<'a> ModelReader<'a> {
    /// Checks the words of an `@type` that are no class, and the unit.
    pub(super) fn cotypes(&mut self, value: &'a Value, element: Element, pointer: &str) {
        let language = self.language_of(pointer);
        let (mut semantic, mut is_told): (Option<Semantic>, bool) = (None, false);
        for (at, word) in each(value.get("@type"), &below(pointer, "@type")) {
            let Some(word) = word.as_str() else { continue };
            if let Some(found) = semantic_of(word, language) {
                match semantic {
                    Some(first) if first != found => {
                        let message =
                            format!("it cannot be both {} and {}: a value has one unit", first.name, found.name);
                        self.report(&at, message);
                    }
                    Some(_) | None => semantic = Some(found),
                }
            } else if !(is_class(word) || language.is_extended || is_free(word, language))
                // That it is no identifier is told elsewhere.
                && (is_dtmi(word, true) || !word.contains(':'))
            {
                let help = match Semantic::of_word(word, 3) {
                    Some(_) if language.version == 3 => {
                        format!("the `@context` must name `{QUANTITATIVE}` after `dtmi:dtdl:context;3`")
                    }
                    _ => "the `@context` must name the language that it is of".to_string(),
                };
                self.report(&at, format!("`{}` is no type of DTDL: {help}", shown(word)));
                is_told = true;
            }
        }
        match semantic {
            Some(semantic) => self.quantity(value, element, pointer, semantic, language),
            None if value.get("unit").is_some() && !(is_told || language.is_central || is_open(value, language)) => {
                let message =
                    "a `unit` belongs to a semantic type, such as `\"@type\": [\"Property\", \"Temperature\"]`";
                self.report(&below(pointer, "unit"), message);
            }
            None => {}
        }
    }

    /// Checks an element with a semantic type.
    fn quantity(&mut self, value: &'a Value, element: Element, pointer: &str, semantic: Semantic, language: Language) {
        let name = semantic.name;
        let may_have = match element {
            Element::Telemetry | Element::Property => true,
            Element::Payload | Element::Field | Element::MapValue => language.version == 3 || language.is_central,
            Element::Interface
            | Element::Command
            | Element::Relationship
            | Element::Component
            | Element::Array
            | Element::Enum
            | Element::Map
            | Element::Object
            | Element::EnumValue
            | Element::MapKey => false,
        };
        if !may_have {
            self.report(&below(pointer, "@type"), format!("{} cannot be of the semantic type {name}", element.word()));
            return;
        }
        let schema = value.get("schema").and_then(|schema| literal(schema).as_str()).and_then(Schema::of_word);
        let is_number = schema.is_some_and(|schema| matches!(*schema.form, Form::Number { .. } | Form::Integer { .. }));
        if !is_number && value.get("schema").is_some() {
            let message = format!("`{name}` is a number: the `schema` must be `double`, `float`, `integer` or `long`");
            self.report(&below(pointer, "schema"), message);
        }
        match value.get("unit") {
            // IoT Central has `displayUnit` in its place, or none.
            None if language.is_central => {}
            None => self.report(pointer, format!("the `unit` of `{name}` is missing{}", semantic.choice())),
            Some(unit) => {
                let message = match literal(unit).as_str() {
                    Some(unit) => semantic.refusal(unit),
                    None => Some(format!("a `unit` is a word{}", semantic.choice())),
                };
                if let Some(message) = message {
                    self.report(&below(pointer, "unit"), message);
                }
            }
        }
    }
}
