//! The former names of a job or a schedule: `renames/<name>.json` on the results branch.
//!
//! `{"format_version": 1, "name": "b", "previous_names": ["a"]}`, written when a document that says so is first seen
//! and runs of a former name are known. A name that is renamed again names its last one only; with these documents the
//! chain can be followed to the name under which a run was claimed.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::claim::{check_version, text};
use super::{FORMAT_VERSION, Ledger};
use crate::model::id::{Name, RunToken};

/// The folder of these documents on the results branch.
pub const RENAMES_FOLDER: &str = "renames/";

/// The former names of a job or a schedule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renamed {
    pub name: Name,
    /// As its document listed them.
    pub previous_names: Vec<Name>,
}

impl Renamed {
    /// Returns the path of the document.
    pub fn path(&self) -> String {
        format!("{RENAMES_FOLDER}{}.json", self.name)
    }

    /// Returns the document.
    pub fn to_json(&self) -> Value {
        let names: Vec<&str> = self.previous_names.iter().map(Name::as_str).collect();
        json!({"format_version": FORMAT_VERSION, "name": self.name.as_str(), "previous_names": names})
    }

    /// Reads a document back.
    ///
    /// # Errors
    /// Names the field that is missing or malformed, or the format version that is too new.
    pub fn from_json(document: &Value) -> Result<Renamed, String> {
        check_version(document)?;
        let parse = |text: &str, field: &str| Name::parse(text).map_err(|error| format!("`{field}` {error}"));
        let names = document["previous_names"].as_array().ok_or("`previous_names` is no list")?;
        let previous = names.iter().map(|name| parse(name.as_str().unwrap_or_default(), "previous_names"));
        Ok(Renamed {
            name: parse(text(document, "name")?, "name")?,
            previous_names: previous.collect::<Result<_, _>>()?,
        })
    }
}

impl Ledger {
    /// Returns some former names with those that these had before, the newest first.
    pub fn former_names(&self, previous: &[Name]) -> Vec<Name> {
        let (mut names, mut seen, mut at) = (Vec::new(), BTreeSet::new(), 0);
        names.extend(previous.iter().filter(|name| seen.insert((*name).clone())).cloned());
        while let Some(name) = names.get(at) {
            let before = self.renames.get(name).map_or(&[][..], Vec::as_slice);
            let before: Vec<Name> = before.iter().filter(|name| seen.insert((*name).clone())).cloned().collect();
            names.extend(before);
            at += 1;
        }
        names
    }

    /// Returns the names that a job has and had, its own first: `previous` is what its document says.
    pub fn names_of(&self, job: &Name, previous: &[Name]) -> Vec<Name> {
        let mut names = vec![job.clone()];
        names.extend_from_slice(previous);
        self.former_names(&names)
    }

    /// Returns the name under which a run of a job was claimed: its own, or one that it had.
    pub fn claimed_as(&self, job: &Name, run: &RunToken, previous: &[Name]) -> Name {
        let is_it = |name: &&Name| self.claims.contains_key(&((*name).clone(), run.clone()));
        self.names_of(job, previous).iter().find(is_it).unwrap_or(job).clone()
    }

    /// Returns true when anything was ever claimed under a name, or it was the new name of something that was.
    pub fn knows(&self, name: &Name) -> bool {
        self.claimed(name).next().is_some() || self.renames.contains_key(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn former_names_are_followed_and_a_circle_ends() {
        let name = |text: &str| Name::parse(text).unwrap();
        let renames = [("c", vec!["b"]), ("b", vec!["a", "x"]), ("a", vec!["c"])];
        let renames = renames.map(|(new, old)| (name(new), old.into_iter().map(name).collect()));
        let ledger = Ledger { renames: std::sync::Arc::new(renames.into()), ..Ledger::default() };
        assert_eq!(ledger.former_names(&[name("c")]), ["c", "b", "a", "x"].map(name));
        let one = Renamed { name: name("b"), previous_names: vec![name("a")] };
        assert_eq!(Renamed::from_json(&one.to_json()).unwrap(), one);
    }
}
