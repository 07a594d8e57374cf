//! The marks of components that a job leaves out: a device gets one with its patch when its template has the component.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::id::Name;
use super::job::{Action, SectionPatch};
use super::patch::{Assignment, COMPONENT_MARK, Patch, Section};
use super::secret::is_reference;

/// For each component that a patch writes to without a mark, the device templates that have it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks(BTreeMap<String, BTreeSet<Name>>);

impl Marks {
    /// Returns the marks of a patch; `templates_of` returns the templates that have a component of a name.
    pub fn of(patch: &Patch, templates_of: impl Fn(&str) -> BTreeSet<Name>) -> Marks {
        let is_unmarked = |inner: &Map<String, Value>| !inner.contains_key(COMPONENT_MARK.0) && !is_reference(inner);
        let unmarked = |value: &Value| value.as_object().is_some_and(is_unmarked);
        let names = patch.members().iter().filter(|(_, value)| unmarked(value));
        let marks = names.map(|(name, _)| (name.clone(), templates_of(name)));
        Marks(marks.filter(|(_, templates)| !templates.is_empty()).collect())
    }

    /// Returns true when no device gets a mark.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the templates whose devices get the mark at a path; `None` for the path of anything else.
    pub fn templates_at(&self, section: Section, path: &[String]) -> Option<&BTreeSet<Name>> {
        match path {
            [component, key] if section == Section::Desired && key == COMPONENT_MARK.0 => self.0.get(component),
            _ => None,
        }
    }

    /// Returns every assignment of an action, section by section, each sorted by path. `self` are its marks.
    pub fn assignments_of(&self, action: &Action) -> Vec<(Section, Assignment)> {
        let of = |one: SectionPatch<'_>| {
            let all =
                if one.section == Section::Desired { self.assignments(one.patch) } else { one.patch.assignments() };
            all.into_iter().map(move |assignment| (one.section, assignment))
        };
        action.patches().into_iter().flat_map(of).collect()
    }

    /// Returns every assignment of desired properties and of their marks, sorted by path. Those of marks are for some
    /// devices.
    pub fn assignments(&self, patch: &Patch) -> Vec<Assignment> {
        let (key, mark) = COMPONENT_MARK;
        let of_mark = |name: &String| Assignment { path: vec![name.clone(), key.to_string()], value: mark.into() };
        let mut all = patch.assignments();
        all.extend(self.0.keys().map(of_mark));
        all.sort_by(|left, right| left.path.cmp(&right.path));
        all
    }

    /// Returns desired properties as the devices of a template get it.
    pub fn apply<'a>(&self, patch: &'a Value, template: Option<&str>) -> Cow<'a, Value> {
        let (key, mark) = COMPONENT_MARK;
        let Some(template) = template else { return Cow::Borrowed(patch) };
        let mut patch = Cow::Borrowed(patch);
        let theirs = self.0.iter().filter(|(_, templates)| templates.contains(template));
        for (name, _) in theirs {
            if let Some(members) = patch.to_mut().get_mut(name).and_then(Value::as_object_mut) {
                members.insert(key.to_string(), mark.into());
            }
        }
        patch
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn devices_get_the_marks_of_their_template() {
        let patch = json!({"fan": {"on": true}, "lamp": {"__t": "c", "on": true}, "light": {"level": 3}, "x": 1});
        let name = |text: &str| Name::parse(text).unwrap();
        let templates_of = |component: &str| match component {
            "fan" => BTreeSet::from([name("a"), name("b")]),
            "light" => BTreeSet::from([name("b")]),
            "lamp" | "x" => BTreeSet::from([name("a")]),
            _ => BTreeSet::new(),
        };
        let members = Patch::new(patch.as_object().unwrap().clone()).unwrap();
        let marks = Marks::of(&members, templates_of);
        let paths: Vec<String> = marks.assignments(&members).iter().map(Assignment::dotted).collect();
        assert_eq!(paths, ["fan.__t", "fan.on", "lamp.__t", "lamp.on", "light.__t", "light.level", "x"]);
        let check = |template: Option<&str>, expect: [bool; 2]| {
            let found = marks.apply(&patch, template);
            assert_eq!(["fan", "light"].map(|one| found[one].get("__t").is_some()), expect, "{template:?}");
        };
        check(Some("a"), [true, false]);
        check(Some("b"), [true, true]);
        check(Some("c"), [false, false]);
        check(None, [false, false]);
        assert!(marks.templates_at(Section::Desired, &["lamp".to_string(), "__t".to_string()]).is_none());
        assert_eq!(
            marks.templates_at(Section::Desired, &["light".to_string(), "__t".to_string()]).map(BTreeSet::len),
            Some(1)
        );
    }
}
