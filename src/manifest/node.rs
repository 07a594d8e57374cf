//! A YAML document as a tree that knows where each key and value stands.

use std::borrow::Cow;

use serde_json::{Map, Number, Value};

use crate::diag::Span;

/// A value with its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// A scalar's own text, quotes included; a collection from its first to its last character.
    ///
    /// A node from an alias has the place of its definition.
    pub span: Span,
    pub content: Content,
}

/// What a node holds, with the types of the YAML 1.2 core schema.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    Seq(Vec<Node>),
    /// In the order written, without duplicates.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    pub text: String,
    /// The key's own text, quotes included.
    pub span: Span,
}

/// Where a JSON pointer leads.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The key of the value; `None` at the root and in a sequence.
    pub key: Option<&'a Key>,
    pub node: &'a Node,
    /// False when only a parent of the requested value exists.
    pub is_exact: bool,
}

impl Place<'_> {
    /// Returns the span of the key, or of the value where there is none.
    pub fn key_span(&self) -> Span {
        self.key.map_or(self.node.span, |key| key.span)
    }
}

impl Node {
    /// Returns the member of a map, or `None`.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(candidate, _)| candidate.text == key).map(|(_, node)| node)
    }

    /// Returns the members of a map in the order written; empty for anything else.
    pub fn entries(&self) -> &[(Key, Node)] {
        match &self.content {
            Content::Map(entries) => entries,
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::String(_) | Content::Seq(_) => &[],
        }
    }

    /// Returns the text of a string, or `None`.
    pub fn as_str(&self) -> Option<&str> {
        match &self.content {
            Content::String(text) => Some(text),
            Content::Null | Content::Bool(_) | Content::Number(_) | Content::Seq(_) | Content::Map(_) => None,
        }
    }

    /// Returns what a JSON pointer (RFC 6901) leads to, or its nearest existing parent.
    pub fn locate(&self, pointer: &str) -> Place<'_> {
        let mut place = Place { key: None, node: self, is_exact: true };
        for segment in pointer.split('/').skip(1) {
            let segment = unescaped(segment);
            let next = match &place.node.content {
                Content::Map(entries) => {
                    entries.iter().find(|(key, _)| key.text == *segment).map(|(key, node)| (Some(key), node))
                }
                Content::Seq(items) => {
                    segment.parse::<usize>().ok().and_then(|at| items.get(at)).map(|node| (None, node))
                }
                Content::Null | Content::Bool(_) | Content::Number(_) | Content::String(_) => None,
            };
            match next {
                Some((key, node)) => place = Place { key, node, is_exact: true },
                None => return Place { is_exact: false, ..place },
            }
        }
        place
    }

    /// Returns the node at a JSON pointer, or `None` when there is none.
    pub fn at(&self, pointer: &str) -> Option<&Node> {
        let place = self.locate(pointer);
        place.is_exact.then_some(place.node)
    }

    /// Returns the value as JSON.
    pub fn to_json(&self) -> Value {
        match &self.content {
            Content::Null => Value::Null,
            Content::Bool(value) => Value::Bool(*value),
            Content::Number(number) => Value::Number(number.clone()),
            Content::String(text) => Value::String(text.clone()),
            Content::Seq(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Content::Map(entries) => {
                let members = entries.iter().map(|(key, node)| (key.text.clone(), node.to_json()));
                Value::Object(members.collect::<Map<String, Value>>())
            }
        }
    }
}

/// Returns the key that a segment of a JSON pointer means (RFC 6901, section 4).
pub fn unescaped(segment: &str) -> Cow<'_, str> {
    if segment.contains('~') {
        Cow::Owned(segment.replace("~1", "/").replace("~0", "~"))
    } else {
        Cow::Borrowed(segment)
    }
}

/// Returns a JSON pointer (RFC 6901) of some keys.
pub fn pointer<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    let mut pointer = String::new();
    for key in keys {
        pointer.push('/');
        pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
    }
    pointer
}
