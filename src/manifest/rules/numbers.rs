//! Numbers that are not sent as they are written, such as `1.10`: a version that has lost its zero, or only a number.

use std::cell::OnceCell;

use super::Set;
use super::files::Named;
use crate::diag::Diagnostics;
use crate::manifest::lower::{DeclaredWork, Doc, Draft};
use crate::model::job::Selector;
use crate::model::kind::Kind;
use crate::template::{self, Template};

/// Warns of such numbers, but for those that are numbers by the templates of the target: there they mean what they look
/// like. The template of a target is that of its group; any other target may have devices of every template.
pub fn check(set: &Set, named: &Named) -> Diagnostics {
    let mut diagnostics = Diagnostics::new();
    let templates = OnceCell::new();
    for doc in &set.docs {
        for (pointer, warning) in &doc.numbers {
            let templates: &Vec<(&str, Template)> = templates.get_or_init(|| templates_of(set, named));
            let work = doc.draft.as_ref().and_then(Draft::work);
            if !work.is_some_and(|work| is_number(&work, pointer, set, templates)) {
                diagnostics.push(warning.clone().placed(doc.file));
            }
        }
    }
    diagnostics
}

/// Returns every template of the set that can be read, by its name.
fn templates_of<'a>(set: &'a Set, named: &Named) -> Vec<(&'a str, Template)> {
    let read = |(at, doc): (usize, &'a Doc)| match &doc.draft {
        Some(Draft::DeviceTemplate { cloud_properties }) => {
            let model = named.content.get(&at)?.content.as_ref().ok()?;
            Some((doc.name.as_ref()?.as_str(), Template::new(model, cloud_properties).ok()?))
        }
        _ => None,
    };
    set.docs.iter().enumerate().filter_map(read).collect()
}

/// Returns true when a template has a number at a pointer into the document, and no other template has anything else.
fn is_number(work: &DeclaredWork<'_>, pointer: &str, set: &Set, templates: &[(&str, Template)]) -> bool {
    let place = format!("{}/action/{}", work.spec, work.action.templated_place());
    let Some(below) = pointer.strip_prefix(&place) else { return false };
    let only = match &work.target.selector {
        Selector::Group(group) => set.find(Kind::DeviceGroup, group.as_str()).and_then(|doc| match &doc.draft {
            Some(Draft::DeviceGroup { template, .. }) => template.as_ref(),
            _ => None,
        }),
        Selector::Query(_) | Selector::Devices(_) | Selector::OfRun(_) => None,
    };
    let of_target = templates.iter().filter(|(name, _)| only.is_none_or(|only| only.as_str() == *name));
    let mut found = of_target.filter_map(|(_, template)| template::is_number(template, work.action, below)).peekable();
    found.peek().is_some() && found.all(|is_number| is_number)
}
