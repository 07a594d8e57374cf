//! The policies that judge each document.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::document::PolicedDocument;
use crate::model::fleet::{Declared, FilePlace};
use crate::model::id::Name;
use crate::model::policy::Policy;
use crate::plan::Subject;

/// Where a policy is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The tree that is planned.
    Tree,
    /// A commit that documents were written against.
    Commit(String),
    /// The commit before one that changed the policy and was not allowed to: for all documents, as that of a tree.
    Former(String),
}

/// A policy and where it is from.
#[derive(Debug, Clone, PartialEq)]
pub struct SourcedPolicy {
    pub policy: Policy,
    pub origin: Origin,
}

/// Policies of a tree that cannot be read: what they would say is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    pub origin: Origin,
    /// The file, or the first of several, where it is known.
    pub place: Option<FilePlace>,
    /// A sentence.
    pub why: String,
}

/// The policies that judge each document: those of the tree, and those of its base.
#[derive(Debug, Clone, Default)]
pub struct Judges {
    tree: Vec<SourcedPolicy>,
    unreadable: Option<Unreadable>,
    /// By commit: what the policies of the tree do not say already.
    bases: BTreeMap<String, Base>,
    /// The commit that a document was written against; absent for one that has no base, and where the base has the
    /// policies of the tree.
    base_of: BTreeMap<Subject, String>,
}

#[derive(Debug, Clone, Default)]
struct Base {
    policies: Vec<SourcedPolicy>,
    unreadable: Option<Unreadable>,
}

/// A freeze that a document is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frozen {
    pub policy: Name,
    pub origin: Origin,
    pub until: Timestamp,
    /// May be empty.
    pub reason: String,
}

impl Judges {
    /// Returns the judges of a tree, with the first of its policies that cannot be read.
    pub fn of_tree(declared: &Declared, unreadable: Option<Unreadable>) -> Judges {
        let sourced = |policy: &Policy| SourcedPolicy { policy: policy.clone(), origin: Origin::Tree };
        let tree = declared.policies.values().map(sourced).collect();
        Judges { tree, unreadable, ..Judges::default() }
    }

    /// Adds a policy as it was in a commit before it was changed by one that was not allowed to.
    pub fn add_former(&mut self, commit: &str, policy: Policy) {
        self.tree.push(SourcedPolicy { policy, origin: Origin::Former(commit.to_string()) });
    }

    /// Adds the policies of a base. Those that the tree has too say nothing new.
    pub fn add_base(&mut self, commit: &str, policies: Vec<Policy>, unreadable: Option<Unreadable>) {
        let is_new = |policy: &Policy| !self.tree.iter().any(|own| says_the_same(&own.policy, policy));
        let origin = || Origin::Commit(commit.to_string());
        let policies = policies.into_iter().filter(is_new);
        let policies = policies.map(|policy| SourcedPolicy { policy, origin: origin() }).collect();
        self.bases.insert(commit.to_string(), Base { policies, unreadable });
    }

    /// Says which base a document was written against, one that was added.
    pub fn set_base(&mut self, subject: Subject, commit: &str) {
        self.base_of.insert(subject, commit.to_string());
    }

    /// Returns true when nothing is judged.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
            && self.unreadable.is_none()
            && self.bases.values().all(|base| base.policies.is_empty() && base.unreadable.is_none())
    }

    /// Returns every policy.
    pub fn all(&self) -> impl Iterator<Item = &SourcedPolicy> {
        self.tree.iter().chain(self.bases.values().flat_map(|base| &base.policies))
    }

    /// Returns the policies that apply to a document.
    pub fn of<'a>(
        &'a self,
        subject: &Subject,
        document: &'a PolicedDocument<'a>,
    ) -> impl Iterator<Item = &'a SourcedPolicy> {
        let base = self.base(subject).map_or(&[][..], |base| &base.policies);
        self.tree.iter().chain(base).filter(|one| one.policy.scope.has(document.kind, document.organization))
    }

    /// Returns the policies that cannot be read and may judge a document.
    pub fn unreadable(&self, subject: &Subject) -> Option<&Unreadable> {
        self.unreadable.as_ref().or_else(|| self.base(subject)?.unreadable.as_ref())
    }

    fn base(&self, subject: &Subject) -> Option<&Base> {
        self.bases.get(self.base_of.get(subject)?)
    }

    /// Returns the freeze that a document is in that lasts longest; `None` when it is in none.
    pub fn frozen(&self, subject: &Subject, declared: &Declared, now: Timestamp) -> Option<Frozen> {
        let document = PolicedDocument::of(subject, declared)?;
        let freezes = self.of(subject, &document).flat_map(|one| {
            one.policy.freezes.iter().filter_map(|freeze| {
                let until = freeze.until(now)?;
                let (policy, origin) = (one.policy.name.clone(), one.origin.clone());
                Some(Frozen { policy, origin, until, reason: freeze.reason.clone() })
            })
        });
        freezes.max_by_key(|frozen| frozen.until)
    }
}

/// Returns true when two policies have the same rules.
fn says_the_same(one: &Policy, other: &Policy) -> bool {
    one.name == other.name
        && one.scope == other.scope
        && one.limits == other.limits
        && one.require == other.require
        && one.forbid == other.forbid
        && one.freezes == other.freezes
}

impl Frozen {
    /// Returns a phrase for a line of a plan.
    pub fn phrase(&self) -> String {
        let reason = if self.reason.is_empty() { String::new() } else { format!(": {}", self.reason) };
        format!("frozen until {} by policy {}{reason}", self.until, self.policy)
    }
}
