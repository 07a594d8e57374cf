//! Names of ours for the ids of another system: legal, unique, and the same wherever a document refers to one.

use std::collections::{BTreeMap, BTreeSet};

use super::document::DocumentKind;
use crate::model::id::Name;
use crate::model::limits;

/// The names that were given.
#[derive(Debug, Default)]
pub struct Names {
    taken: BTreeSet<(DocumentKind, Name)>,
    /// The number for the next document that wishes for a taken name, by kind and wished name.
    next: BTreeMap<(DocumentKind, Name), usize>,
    /// By the id of the other system; the first of several documents with one id.
    by_id: BTreeMap<(DocumentKind, String), Name>,
}

impl Names {
    /// Returns a new name made of a text, with a suffix such as `tags` when the text has named another document of its
    /// item.
    pub fn claim(&mut self, kind: DocumentKind, text: &str, suffix: Option<&str>) -> Name {
        let base = slug(text);
        let base = if base.is_empty() { kind.word().to_ascii_lowercase() } else { base };
        let kind = shared(kind);
        let wished = named(&base, suffix.unwrap_or_default());
        let mut name = wished.clone();
        let mut number = self.next.get(&(kind, wished.clone())).copied().unwrap_or(2);
        while self.taken.contains(&(kind, name.clone())) {
            let suffix = suffix.map_or_else(|| number.to_string(), |suffix| format!("{suffix}-{number}"));
            name = named(&base, &suffix);
            number += 1;
        }
        self.next.insert((kind, wished), number);
        self.taken.insert((kind, name.clone()));
        name
    }

    /// Remembers the name of an id, for the documents that refer to it.
    pub fn declare(&mut self, kind: DocumentKind, id: &str, name: &Name) {
        self.by_id.entry((kind, id.to_string())).or_insert_with(|| name.clone());
    }

    /// Returns the name that an id of the input has.
    pub fn find(&self, kind: DocumentKind, id: &str) -> Option<&Name> {
        self.by_id.get(&(kind, id.to_string()))
    }
}

/// Returns the kind that stands for all those that may not share a name: the occurrences of a schedule are runs of a
/// job of its name.
fn shared(kind: DocumentKind) -> DocumentKind {
    match kind {
        DocumentKind::Job | DocumentKind::Schedule => DocumentKind::Job,
        DocumentKind::Organization
        | DocumentKind::DeviceImport
        | DocumentKind::DeviceTemplate
        | DocumentKind::DeviceGroup
        | DocumentKind::EdgeManifest => kind,
    }
}

/// Returns the name of a document that the input does not hold; `None` when nothing of the id is legal in a name.
pub fn name_of_id(id: &str) -> Option<Name> {
    let slug = slug(id);
    Name::parse(&with_suffix(&slug, "")).ok()
}

/// Returns which of an id and a display name makes the better name: the id, unless it was made by a machine.
pub fn better<'a>(id: Option<&'a str>, display_name: Option<&'a str>) -> &'a str {
    let is_readable = |id: &&str| !is_uuid(id) && !id.starts_with("dtmi:") && !id.starts_with("urn:");
    let display_name = display_name.filter(|text| !slug(text).is_empty());
    id.filter(is_readable).or(display_name).or(id).unwrap_or_default()
}

/// Returns the lower-case letters and digits of a text, with one `-` for everything between them. Letters beyond ASCII
/// are written with those of ASCII: `Halle Süd` is `halle-sud`.
pub fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in deunicode::deunicode(text).chars().flat_map(char::to_lowercase) {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            slug.push(c);
        } else if !slug.is_empty() && !slug.ends_with('-') {
            slug.push('-');
        }
    }
    slug.trim_end_matches('-').to_string()
}

/// Returns a slug that was cut so that a suffix has room behind it.
fn with_suffix(base: &str, suffix: &str) -> String {
    let suffix = if suffix.is_empty() { String::new() } else { format!("-{suffix}") };
    let room = limits::NAME_CHARS_MAX.saturating_sub(suffix.len());
    let base = base.get(..room).unwrap_or(base).trim_end_matches('-');
    format!("{base}{suffix}")
}

fn named(base: &str, suffix: &str) -> Name {
    Name::parse(&with_suffix(base, suffix)).expect("a slug that is not empty is a legal name, cut or not")
}

/// Returns true for `8-4-4-4-12` hex digits (RFC 9562, section 4).
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.concat().bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_legal_whatever_the_id() {
        let check = |text: &str, expect: &str| {
            assert_eq!(Names::default().claim(DocumentKind::Job, text, None).as_str(), expect, "{text}");
        };
        check("job-014", "job-014");
        check("Set target temperature", "set-target-temperature");
        check("  Hall A / 3 -- (new)!", "hall-a-3-new");
        check("Größe", "grosse");
        check("Łódź №3", "lodz-no3");
        check("温度", "wen-du");
        check("!", "job");
        check("", "job");
        check(&"ab-".repeat(40), &"ab-".repeat(21)[..62]);
    }

    #[test]
    fn names_are_unique_in_their_kind_and_keep_their_suffix() {
        let mut names = Names::default();
        let long = "a".repeat(100);
        assert_eq!(names.claim(DocumentKind::Job, "Job", None).as_str(), "job");
        assert_eq!(names.claim(DocumentKind::Job, "job!", None).as_str(), "job-2");
        assert_eq!(names.claim(DocumentKind::Schedule, "Job", None).as_str(), "job-3");
        assert_eq!(names.claim(DocumentKind::DeviceGroup, "job", None).as_str(), "job");
        assert_eq!(names.claim(DocumentKind::Job, "job", Some("tags")).as_str(), "job-tags");
        assert_eq!(names.claim(DocumentKind::Job, "job", Some("tags")).as_str(), "job-tags-2");
        assert_eq!(names.claim(DocumentKind::Job, &long, Some("tags")).as_str(), format!("{}-tags", "a".repeat(58)));
        assert_eq!(names.claim(DocumentKind::Job, &long, None).as_str(), "a".repeat(63));
        assert_eq!(names.claim(DocumentKind::Job, &long, None).as_str(), format!("{}-2", "a".repeat(61)));
    }

    #[test]
    fn people_choose_the_better_names() {
        let uuid = "833d7a7d-8f99-4e04-9e56-745806bdba6e";
        assert_eq!(better(Some("job-014"), Some("Set it")), "job-014");
        assert_eq!(better(Some(uuid), Some("Set it")), "Set it");
        assert_eq!(better(Some("dtmi:a:b;1"), Some("Thermostat")), "Thermostat");
        assert_eq!(better(Some(uuid), Some("温度")), "温度");
        assert_eq!(better(Some(uuid), Some("--")), uuid);
        assert_eq!(better(Some(uuid), None), uuid);
        assert_eq!(better(None, Some("Set it")), "Set it");
    }
}
