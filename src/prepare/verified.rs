//! What verification is told, and what it found.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::touched::Change;
use crate::access::Touched;
use crate::diag::{Diagnostic, Diagnostics, code};
use crate::model::access::Access;
use crate::model::fleet::{HeldDocuments, Hold};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::text::sanitize_line;
use crate::repo::Repo;

/// How to verify.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    /// The commit that brought the first Access document, or a later one that is trusted, as its id.
    pub introduction: Option<String>,
    /// Note how far the history was verified.
    pub remembers: bool,
}

impl Trust {
    /// Returns the same with the id of the commit that is named.
    ///
    /// # Errors
    /// There is no such commit.
    pub fn resolved(&self, repo: &Repo) -> Result<Trust, PrepareError> {
        let introduction = self.introduction.as_ref().map(|revision| repo.resolve(revision)).transpose()?;
        Ok(Trust { introduction, ..self.clone() })
    }
}

/// What verification found: the documents that commits have changed that were not allowed to.
#[derive(Debug, Clone, Default)]
pub struct Verified {
    pub(super) refused: BTreeMap<Change, Refused>,
    /// Why nothing can be trusted at all.
    pub(super) distrust: Option<Refused>,
    /// The Access document was brought by an administrator.
    pub(super) is_introduced: bool,
    /// Commits that were looked at.
    pub commits: usize,
    /// The Access document that is trusted, with the paths that its organizations have; `None` without one.
    pub access: Option<Access>,
    /// An Access document restricts who may do what, one that is trusted or not.
    pub is_governed: bool,
}

/// Why a document is refused.
#[derive(Debug, Clone, Default)]
pub(super) struct Refused {
    /// A sentence.
    pub why: String,
    /// The commits that have changed it and were not allowed to.
    pub commits: BTreeSet<String>,
    /// The commit of the line before the first of them, which has it as it was trusted.
    pub before: Option<String>,
    /// As they found it and left it: whoever settles it has to be allowed all of that.
    pub touched: BTreeSet<Touched>,
}

impl Verified {
    /// Returns what is found of a history that cannot be trusted at all, with why: a sentence.
    pub(super) fn distrusted(why: String) -> Verified {
        Verified { distrust: Some(Refused { why, ..Refused::default() }), is_governed: true, ..Verified::default() }
    }

    /// Returns true when everything may be used.
    pub fn is_whole(&self) -> bool {
        self.refused.is_empty() && self.distrust.is_none()
    }

    /// Returns the documents that are not to be used, with why.
    pub fn holds(&self) -> BTreeMap<(Kind, Name), Hold> {
        let hold = |Refused { why, before, .. }: &Refused| {
            let (why, former) = (why.clone(), before.clone());
            Hold { why, code: Some(code::REFUSED_COMMIT.0), place: None, former }
        };
        let of = |(change, refused): (&Change, &Refused)| Some(((change.kind?, change.name.clone()?), hold(refused)));
        self.refused.iter().filter_map(of).collect()
    }

    /// Returns why nothing can be used; `None` when only some documents cannot.
    pub fn distrust(&self) -> Option<&str> {
        self.distrust.as_ref().map(|refused| refused.why.as_str())
    }

    /// Returns the errors of the refused commits, with the places of the documents where they are still there.
    pub fn diagnostics(&self, loaded: &crate::manifest::Loaded) -> Diagnostics {
        let mut diagnostics = Diagnostics::new();
        for (change, refused) in &self.refused {
            let help = match self.is_introduced {
                true => {
                    "Let somebody who may change it do so in a signed commit; or let an administrator vouch: `fleetform \
                     explain FF685`."
                }
                false => {
                    "Let an administrator that it names change it in a signed commit, or make this commit again with a \
                     signature: until then there is nobody who could vouch."
                }
            };
            let span = change.kind.zip(change.name.as_ref());
            let span = span.and_then(|(kind, name)| loaded.spans.span_of(kind, name, "/metadata/name"));
            let what = match (span, change.kind, &change.name) {
                (None, Some(kind), Some(name)) => format!("{} `{name}`, which is gone: ", kind.noun()),
                (None, _, _) => format!("{}: ", sanitize_line(&change.path)),
                _ => String::new(),
            };
            diagnostics
                .push(Diagnostic::new(code::REFUSED_COMMIT, span, format!("{what}{}", refused.why)).with_help(help));
        }
        if let Some(Refused { why, .. }) = &self.distrust {
            diagnostics.push(Diagnostic::new(code::REFUSED_COMMIT, None, &**why).with_help(
                "Nothing is done until the history is the one that was introduced. Name another commit to trust with \
                 `--introduction COMMIT`, once you know why.",
            ));
        }
        diagnostics
    }

    /// Marks documents as held.
    pub fn hold(&self, held: &mut HeldDocuments) {
        held.documents.extend(self.holds());
    }
}
