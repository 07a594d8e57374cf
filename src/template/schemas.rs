//! From the JSON of a schema to a schema.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::Value;

use super::bounds::Bounds;
use super::json::{below, each, has_type, literal, one};
use super::literal::{Kind, literal_of};
use super::members::Element;
use super::read::{ModelReader, Shared};
use super::schema::{COMPLEX, Form, Schema, WORDS};
use crate::diag::{nearest, shown};
use crate::model::limits;

impl<'a> ModelReader<'a> {
    /// Returns the schema of an element that needs one.
    pub(super) fn schema_of(&mut self, element: &'a Value, pointer: &str) -> Option<Schema> {
        let schema = self.schema_in(element, pointer, "schema", 0)?;
        Some(self.bounded(element, pointer, schema))
    }

    /// Returns a schema with the bounds that an element has for its values.
    fn bounded(&mut self, element: &'a Value, pointer: &str, schema: Schema) -> Schema {
        let (bounds, problems) = Bounds::of(element, pointer);
        problems.into_iter().for_each(|(at, message)| self.report(&at, message));
        Schema { bounds: bounds.map(Arc::new).or(schema.bounds.clone()), ..schema }
    }

    /// Returns the schema that a member of an element is; `level` counts the complex schemas around it.
    fn schema_in(&mut self, element: &'a Value, pointer: &str, key: &str, level: usize) -> Option<Schema> {
        match element.get(key) {
            Some(value) => self.schema(value, &below(pointer, key), level),
            None => {
                self.report(pointer, format!("`{key}` is missing"));
                None
            }
        }
    }

    pub(super) fn schema(&mut self, value: &'a Value, pointer: &str, level: usize) -> Option<Schema> {
        let (pointer, value) = one(value, pointer);
        let schema = match value {
            Value::String(text) => match Schema::of_word(text) {
                Some(schema) => schema,
                None => self.reference(text, &pointer, level)?,
            },
            Value::Object(_) => match value.get("@id").and_then(Value::as_str) {
                Some(id) if self.schemas.get(id).is_some_and(|(at, _)| *at == pointer) => {
                    self.reference(id, &pointer, level)?
                }
                _ => self.complex(value, &pointer, level)?,
            },
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                self.report(&pointer, "a schema is a word such as `string`, an object, or the `@id` of one");
                return None;
            }
        };
        if level + schema.depth > limits::DTDL_SCHEMA_DEPTH_MAX {
            self.too_deep(&pointer);
            return None;
        }
        Some(schema)
    }

    fn too_deep(&mut self, pointer: &str) {
        let message = format!("schemas may be nested {} levels deep", limits::DTDL_SCHEMA_DEPTH_MAX);
        self.report(pointer, message);
    }

    /// Returns a schema by its `@id`. Each is read once.
    fn reference(&mut self, id: &'a str, pointer: &str, level: usize) -> Option<Schema> {
        if let Some((at, _)) = self.schemas.get(id)
            && self.partition(at) != self.partition(pointer)
        {
            let message = format!("the schema `{}` is one of another interface, which only that may use", shown(id));
            self.report(pointer, message);
            return None;
        }
        match self.shared.get(id) {
            Some(Shared::Done(schema)) => return schema.clone(),
            Some(Shared::Open) => {
                self.report(pointer, format!("the schema `{}` is part of itself", shown(id)));
                return None;
            }
            None => {}
        }
        let Some((at, element)) = self.schemas.get(id).cloned() else {
            let message = if id.starts_with("dtmi:") {
                format!("there is no schema `{}` in this file", shown(id))
            } else {
                let near = nearest(id, WORDS).map(|near| format!("; did you mean `{near}`?"));
                format!("`{}` is not a schema{}", shown(id), near.unwrap_or_default())
            };
            self.report(pointer, message);
            return None;
        };
        self.shared.insert(id, Shared::Open);
        let schema = self.complex(element, &at, level);
        self.shared.insert(id, Shared::Done(schema.clone()));
        schema
    }

    fn complex(&mut self, element: &'a Value, pointer: &str, level: usize) -> Option<Schema> {
        // Also the bound of this recursion, which follows references.
        let is_enum = has_type(element, "Enum");
        if level >= limits::DTDL_SCHEMA_DEPTH_MAX && !is_enum {
            self.too_deep(pointer);
            return None;
        }
        let Some(kind) = self.kind(element, pointer, &COMPLEX) else {
            self.report(pointer, "the `@type` of a schema must be Array, Enum, Map or Object");
            return None;
        };
        let inner = level + 1;
        let schema = match kind {
            "Array" => {
                self.members(element, Element::Array, pointer);
                Schema::array(self.schema_in(element, pointer, "elementSchema", inner)?)
            }
            "Enum" => {
                self.members(element, Element::Enum, pointer);
                Schema::enumeration(self.enum_values(element, pointer)?)
            }
            "Map" => {
                self.members(element, Element::Map, pointer);
                self.map_key(element, pointer);
                let (at, value) = self.part(element, pointer, "mapValue")?;
                self.members(value, Element::MapValue, &at);
                self.name(value, &at);
                let schema = self.schema_in(value, &at, "schema", inner)?;
                Schema::map(self.bounded(value, &at, schema))
            }
            _ => {
                self.members(element, Element::Object, pointer);
                Schema::object(self.fields(element, pointer, inner))
            }
        };
        Some(schema)
    }

    /// Returns an object that is a member of an element.
    fn part(&mut self, element: &'a Value, pointer: &str, key: &str) -> Option<(String, &'a Value)> {
        let Some(value) = element.get(key) else {
            self.report(pointer, format!("`{key}` is missing"));
            return None;
        };
        let (at, value) = one(value, &below(pointer, key));
        let (at, value) = self.resolved(value, at);
        if !value.is_object() {
            self.report(&at, format!("`{key}` must be an object with a `name` and a `schema`"));
            return None;
        }
        Some((at, value))
    }

    fn map_key(&mut self, element: &'a Value, pointer: &str) {
        let Some((at, key)) = self.part(element, pointer, "mapKey") else { return };
        self.members(key, Element::MapKey, &at);
        self.name(key, &at);
        let schema = key.get("schema").and_then(|schema| literal(schema).as_str()).and_then(Schema::of_word);
        if !schema.is_some_and(|schema| matches!(*schema.form, Form::Text)) {
            self.report(&at, "the `schema` of the key of a map must be `string`");
        }
    }

    fn fields(&mut self, element: &'a Value, pointer: &str, level: usize) -> BTreeMap<String, Schema> {
        let mut fields = BTreeMap::new();
        self.at_most(element, "fields", pointer, limits::DTDL_2_FIELDS_MAX);
        if self.language.version == 2 && each(element.get("fields"), pointer).is_empty() {
            self.report(pointer, "`fields` is missing: an object has at least one");
        }
        for (at, field) in each(element.get("fields"), &below(pointer, "fields")) {
            let (at, field) = self.resolved(field, at);
            if !field.is_object() {
                self.report(&at, "it must be an object with a `name` and a `schema`");
                continue;
            }
            self.members(field, Element::Field, &at);
            let Some(name) = self.name(field, &at) else { continue };
            let Some(schema) = self.schema_in(field, &at, "schema", level) else { continue };
            let schema = self.bounded(field, &at, schema);
            if fields.insert(name.to_string(), schema).is_some() {
                self.report(&below(&at, "name"), format!("there are two fields named `{}`", shown(name)));
            }
        }
        fields
    }

    fn enum_values(&mut self, element: &'a Value, pointer: &str) -> Option<Vec<Value>> {
        let schema = element.get("valueSchema").and_then(|value| literal(value).as_str()).and_then(Schema::of_word);
        let is_integer = match schema.as_ref().map(|schema| &*schema.form) {
            Some(Form::Integer { word: "integer", .. }) => true,
            Some(Form::Text) => false,
            _ => {
                self.report(pointer, "the `valueSchema` of an enum must be `integer` or `string`");
                return None;
            }
        };
        self.at_most(element, "enumValues", pointer, limits::DTDL_2_ENUM_VALUES_MAX);
        let (mut values, mut names) = (Vec::new(), BTreeSet::new());
        for (at, one) in each(element.get("enumValues"), &below(pointer, "enumValues")) {
            let (at, one) = self.resolved(one, at);
            self.members(one, Element::EnumValue, &at);
            if let Some(name) = self.name(one, &at)
                && !names.insert(name)
            {
                self.report(&below(&at, "name"), format!("there are two values named `{}`", shown(name)));
            }
            let kind = if is_integer { Kind::Integer } else { Kind::Text };
            let value = one.get("enumValue").and_then(|value| literal_of(value, kind, self.language.version));
            match value {
                Some(value) if values.contains(value) => self.report(&at, "this value is in the enum twice"),
                Some(value) => values.push(value.clone()),
                None => {
                    let word = if is_integer { "an integer" } else { "a string" };
                    self.report(&at, format!("it needs an `enumValue` that is {word}"));
                }
            }
        }
        if self.language.version == 2 && values.is_empty() && names.is_empty() {
            self.report(pointer, "`enumValues` is missing: an enum has at least one value");
        }
        Some(values)
    }
}
