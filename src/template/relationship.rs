//! Relationships: they mean nothing here, and only their mistakes are looked for.

use std::collections::BTreeSet;

use serde_json::Value;

use super::json::{below, each, has_type, is_dtmi};
use super::literal::Kind;
use super::read::ModelReader;
use crate::diag::shown;
use crate::model::limits;

impl<'a> ModelReader<'a> {
    pub(super) fn relationship(&mut self, item: &'a Value, pointer: &str) {
        let targets = each(item.get("target"), &below(pointer, "target"));
        let is_version_3 = self.language.version == 3;
        let is_target = |target: &Value| target.as_str().is_some_and(|id| is_dtmi(id, is_version_3));
        let is_null = item.get("target").is_some_and(Value::is_null);
        if is_null || targets.len() > 1 || targets.iter().any(|(_, target)| !is_target(target)) {
            self.report(&below(pointer, "target"), "the target of a relationship must be the `@id` of an interface");
        }
        self.literal(item, pointer, "writable", Kind::Boolean, "true or false");
        let least = self.literal(item, pointer, "minMultiplicity", Kind::Integer, "0");
        if least.is_some_and(|least| least.as_i64() != Some(0)) {
            self.report(&below(pointer, "minMultiplicity"), "`minMultiplicity` must be 0");
        }
        let (what, range) = match self.language.version {
            2 => ("an integer from 1 to 500", 1..=limits::DTDL_2_MULTIPLICITY_MAX),
            _ => ("an integer, 1 or more", 1..=i64::MAX),
        };
        let most = self.literal(item, pointer, "maxMultiplicity", Kind::Integer, what);
        if most.and_then(Value::as_i64).is_some_and(|most| !range.contains(&most)) {
            self.report(&below(pointer, "maxMultiplicity"), format!("`maxMultiplicity` must be {what}"));
        }
        let mut names = BTreeSet::new();
        self.at_most(item, "properties", pointer, limits::DTDL_2_CONTENTS_MAX);
        for (at, property) in each(item.get("properties"), &below(pointer, "properties")) {
            let (at, property) = self.resolved(property, at);
            if !property.is_object() || !has_type(property, "Property") {
                self.report(&at, "the properties of a relationship must have the `@type` Property");
                continue;
            }
            let Some(name) = self.name(property, &at) else { continue };
            self.content(property, &at);
            if !names.insert(name) {
                self.report(&below(&at, "name"), format!("there are two properties named `{}`", shown(name)));
            }
        }
    }
}
