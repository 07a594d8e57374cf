//! A commit that is passed over: its Fleet document cannot be used, and those before it stay in force.

use crate::diag::{Severity, code};
use crate::manifest::{Loaded, hold_at};
use crate::model::fleet::{FilePlace, HeldDocuments, Hold};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::text::sanitize_line;
use crate::repo::FLEET_FILE;

/// The newest commit of a branch whose Fleet document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedOver {
    pub commit: String,
    /// What is wrong.
    pub hold: Hold,
    about: About,
}

/// What is wrong with a commit that is passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
enum About {
    Fleet(Name),
    File(String),
}

impl PassedOver {
    /// Returns a commit of which these files cannot be used.
    pub(super) fn of(commit: &str, loaded: &Loaded, held: &HeldDocuments) -> PassedOver {
        let own = held.documents.iter().find(|((kind, _), _)| *kind == Kind::Fleet);
        if let Some(((_, name), hold)) = own {
            let about = About::Fleet(name.clone());
            return PassedOver { commit: commit.to_string(), hold: hold.clone(), about };
        }
        if let Some(hold) = held.files.get(FLEET_FILE) {
            return PassedOver::at(commit, FLEET_FILE, hold.clone());
        }
        // What is wrong with a file that is no document's, or with where its results go.
        let of_results = [code::RESULTS_ON_SOURCE, code::BRANCH_IN_THE_WAY];
        let sorted = loaded.diagnostics.sorted();
        let errors = || sorted.iter().filter(|one| one.severity == Severity::Error);
        let error = errors().find(|one| of_results.contains(&one.code)).or_else(|| errors().next());
        let Some(error) = error else { return PassedOver::without_fleet(commit) };
        let hold = match error.span {
            Some(span) => hold_at(error, span, &loaded.sources),
            None => Hold {
                why: error.detail.lines().next().unwrap_or_default().to_string(),
                code: Some(error.code.0),
                place: None,
                former: None,
            },
        };
        let path = hold.place.as_ref().map_or(FLEET_FILE, |place| &place.path).to_string();
        PassedOver::at(commit, &path, hold)
    }

    /// Returns a commit that has no Fleet document.
    pub(super) fn without_fleet(commit: &str) -> PassedOver {
        let why = format!("The commit has no {FLEET_FILE}.");
        PassedOver::at(commit, FLEET_FILE, Hold { why, code: None, place: None, former: None })
    }

    fn at(commit: &str, path: &str, hold: Hold) -> PassedOver {
        PassedOver { commit: commit.to_string(), hold, about: About::File(path.to_string()) }
    }

    /// Returns the address of what is wrong, such as `fleet/acme`; `file/` and a path when its name is not known.
    pub fn address(&self) -> String {
        match &self.about {
            About::Fleet(name) => format!("{}/{name}", Kind::Fleet.as_str().to_lowercase()),
            About::File(path) => format!("file/{path}"),
        }
    }

    /// Returns what is wrong, where that is known with its place and its code: one line, such as ``fleetform.yaml:5:
    /// FF201 There is no field `limit`.``
    pub fn reason(&self) -> String {
        let Hold { why, code, place, .. } = &self.hold;
        let place = place.as_ref().map(|FilePlace { path, line }| format!("{path}:{line}: ")).unwrap_or_default();
        let code = code.map(|code| format!("{code} ")).unwrap_or_default();
        sanitize_line(&format!("{place}{code}{why}")).replace(['\n', '\r'], " ")
    }

    /// Adds the document to those that are held.
    pub(super) fn add_to(&self, held: &mut HeldDocuments) {
        match &self.about {
            About::Fleet(name) => drop(held.documents.insert((Kind::Fleet, name.clone()), self.hold.clone())),
            About::File(path) => drop(held.files.insert(path.clone(), self.hold.clone())),
        }
    }
}
