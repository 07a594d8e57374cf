//! The device template and the organization that a row names: which names an import takes.

use std::collections::{BTreeMap, BTreeSet};

use super::row::{Mode, Row};
use crate::diag::{nearest, shown};

/// What the rows of an import may name.
#[derive(Debug, Clone, Copy, Default)]
pub struct RowNames<'a> {
    /// The path of the import's organization: rows name it or one below.
    pub organization: Option<&'a str>,
    /// The declared templates; `None` when rows may not name one.
    pub templates: Option<&'a BTreeSet<String>>,
    /// The paths of the declared organizations by name; `None` when rows may not name one.
    pub organizations: Option<&'a BTreeMap<String, String>>,
}

/// What a row names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// The template; `None` when the row names none.
    pub template: Option<&'a str>,
    /// The path of the organization: that of the import when the row names none.
    pub organization: Option<&'a str>,
}

impl<'a> RowNames<'a> {
    /// Returns what a row names. A row that deletes its device, or changes its twin only, names nothing.
    ///
    /// # Errors
    /// Why the row may not name it, as a part of a sentence.
    pub fn named(self, row: &'a Row) -> Result<Named<'a>, String> {
        if matches!(row.mode, Mode::Delete | Mode::UpdateTwin) {
            return Ok(Named { template: None, organization: self.organization });
        }
        let template = row.template.as_deref().map(|name| self.template(name)).transpose()?;
        let organization = match row.organization.as_deref() {
            Some(name) => Some(self.path(name)?),
            None => self.organization,
        };
        Ok(Named { template, organization })
    }

    fn template(self, name: &'a str) -> Result<&'a str, String> {
        let known = self.templates.ok_or_else(|| not_from_rows("template"))?;
        if known.contains(name) { Ok(name) } else { Err(unknown("template", name, known.iter())) }
    }

    fn path(self, name: &str) -> Result<&'a str, String> {
        let known = self.organizations.ok_or_else(|| not_from_rows("organization"))?;
        let path = known.get(name).ok_or_else(|| unknown("organization", name, known.keys()))?;
        let is_within =
            |outer: &str| path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        match self.organization {
            Some(outer) if !is_within(outer) => {
                Err(format!("its organization `{path}` is not within that of the import, `{outer}`"))
            }
            Some(_) | None => Ok(path),
        }
    }
}

fn not_from_rows(field: &str) -> String {
    format!("the row names its {field}, and the import does not let rows do that (`fromRows: [{field}]`)")
}

fn unknown<'a>(field: &str, name: &str, known: impl Iterator<Item = &'a String>) -> String {
    let near = nearest(name, known.map(String::as_str));
    let near = near.map_or(String::new(), |near| format!(": did you mean `{near}`?"));
    format!("its {field} `{}` is not declared{near}", shown(name))
}
