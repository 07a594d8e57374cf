//! The members of a line of JSON that are read, without a map of all of them: a million lines are read.

use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};

/// The members that are read.
const NAMES: [&str; 14] = [
    "id",
    "moduleId",
    "importMode",
    "eTag",
    "twinETag",
    "status",
    "capabilities",
    "deviceName",
    "template",
    "organization",
    "cloudProperties",
    "authentication",
    "tags",
    "properties",
];

/// The members of a line; of one that is there twice, the last one counts.
#[derive(Debug, Default)]
pub struct Members(Vec<(&'static str, Value)>);

impl Members {
    /// Takes out a member.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self.0.iter().position(|(known, _)| *known == name)?;
        Some(self.0.swap_remove(at).1)
    }
}

/// What has members with names.
pub trait Lookup {
    /// Returns a member.
    fn member(&self, name: &str) -> Option<&Value>;
}

impl Lookup for Members {
    fn member(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }
}

impl Lookup for Map<String, Value> {
    fn member(&self, name: &str) -> Option<&Value> {
        self.get(name)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
        let mut members = Members(Vec::with_capacity(NAMES.len()));
        while let Some(name) = map.next_key_seed(KnownName)? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let value = map.next_value()?;
            match members.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, earlier)) => *earlier = value,
                None => members.0.push((name, value)),
            }
        }
        Ok(members)
    }
}

/// Reads the name of a member; `None` for one that is not read.
struct KnownName;

impl<'de> DeserializeSeed<'de> for KnownName {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KnownName {
    type Value = Option<&'static str>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the name of a member")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(NAMES.iter().copied().find(|known| *known == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_those_of_a_map() {
        let line = r#"{"id": "a", "tags": {"x": 1}, "other": [{"id": "b"}], "tags": {"y": 2}, "\u0069d": "c"}"#;
        let mut members: Members = serde_json::from_str(line).unwrap();
        let map: Map<String, Value> = serde_json::from_str(line).unwrap();
        for name in NAMES {
            assert_eq!(members.member(name), map.member(name), "{name}");
            assert_eq!(members.take(name).as_ref(), map.get(name), "{name}");
            assert_eq!(members.member(name), None);
        }
        assert!(serde_json::from_str::<Members>("[]").unwrap_err().is_data());
        assert!(serde_json::from_str::<Members>("{").unwrap_err().is_eof());
        assert!(serde_json::from_str::<Members>("{\"id\": 1,}").unwrap_err().is_syntax());
    }
}
