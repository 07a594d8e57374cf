//! The policies that judge a plan: those of its tree, and those that each document was written against.
//!
//! The base of a document is the first parent of the commit that last changed its file, along first parents: a merge
//! counts as one commit, made to the branch that it went into. In the plan of a change, or of a work tree, what differs
//! from the commit that it is compared with has that one as its base.

use std::collections::{BTreeMap, BTreeSet};

use super::PrepareError;
use super::load::load_valid;
use super::preparation::{Preparation, StagedFile, short};
use crate::diag::{Diagnostic, Diagnostics, Span, code};
use crate::manifest::may_mention;
use crate::model::fleet::{FilePlace, HeldDocuments};
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::limits;
use crate::model::policy::{PathPattern, Policy};
use crate::model::text::sanitize_line;
use crate::plan::{Plan, Subject};
use crate::policy::{Facts, Frozen, Judges, Origin, SetTag, Unreadable, Violation, judge};
use crate::registry::{ChangedTag, Registry, Request};
use crate::repo::FleetTree;

/// The kinds that a policy needs: it names organizations, and the fleet has the time zone.
const NEEDED: [Kind; 3] = [Kind::Fleet, Kind::Organization, Kind::Policy];
/// What the text of a file with a policy has in it.
const WORD: &str = "Policy";

/// What to do about a policy that was changed by a commit that was not allowed to.
const REFUSED_HELP: &str = "Let somebody who may change the policy do so in a signed commit (FF685).";

/// Returns what judges some documents.
///
/// # Errors
/// The repository cannot be read.
pub(super) fn judges(preparation: &Preparation<'_>, subjects: &[Subject]) -> Result<Judges, PrepareError> {
    let held = preparation.held;
    let files = Files::of(preparation);
    let (mut former, mut lost) = (Vec::new(), None);
    for (name, commit) in formers(held).filter(|_| !subjects.is_empty()) {
        match files.former(commit, name, preparation) {
            Ok(policy) => former.extend(policy.map(|policy| (commit, policy))),
            Err(unreadable) => lost = Some(unreadable),
        }
    }
    let known: BTreeSet<&Name> = formers(held).map(|(name, _)| name).collect();
    let unreadable = unreadable(held, (&Origin::Tree, &known), &|path| mentions(preparation.tree, path));
    let mut judges = Judges::of_tree(preparation.declared, unreadable.or(lost));
    if subjects.is_empty() {
        return Ok(judges);
    }
    former.into_iter().for_each(|(commit, policy)| judges.add_former(commit, policy));
    let mut is_added = BTreeMap::new();
    for (subject, commit) in bases(preparation, subjects) {
        let differs = match is_added.get(&commit) {
            Some(differs) => *differs,
            None => {
                let differs = files.add(&commit, &mut judges, preparation)?;
                is_added.insert(commit.clone(), differs);
                differs
            }
        };
        if differs {
            judges.set_base(subject, &commit);
        }
    }
    Ok(judges)
}

/// Returns the policies that were changed by commits that were not allowed to, and the commits that have them as they
/// were before.
fn formers(held: &HeldDocuments) -> impl Iterator<Item = (&Name, &str)> {
    let policies = held.documents.iter().filter(|((kind, _), _)| *kind == Kind::Policy);
    policies.filter_map(|((_, name), hold)| Some((name, hold.former.as_deref()?)))
}

/// Returns the commit that each document was written against.
fn bases(preparation: &Preparation<'_>, subjects: &[Subject]) -> BTreeMap<Subject, String> {
    let repo = preparation.repo;
    let files: BTreeMap<&Subject, Vec<String>> =
        subjects.iter().map(|subject| (subject, files_of(preparation, subject))).collect();
    let named = preparation.base.map(str::to_string);
    // What a work tree has not committed is a change of `HEAD`.
    let against = named.or_else(|| preparation.tree.commit.is_none().then(|| repo.head().ok()).flatten());
    let compared = against.as_ref().and_then(|commit| repo.tree_at(commit).ok());
    let differs = |path: &String| {
        let Some(compared) = &compared else { return against.is_some() };
        preparation.tree.content_id(path).ok() != compared.content_id(path).ok()
    };
    let (mut bases, mut others) = (BTreeMap::new(), BTreeMap::new());
    for (subject, paths) in files {
        match &against {
            Some(commit) if paths.iter().any(differs) => drop(bases.insert(subject.clone(), commit.clone())),
            _ => drop(others.insert(subject, paths)),
        }
    }
    let Some(from) = against.or_else(|| preparation.tree.commit.clone()).filter(|_| !others.is_empty()) else {
        return bases;
    };
    let paths: BTreeSet<String> = others.values().flatten().cloned().collect();
    let changes = repo.last_changes(&from, &paths, None);
    for (subject, paths) in others {
        let newest = paths.iter().filter_map(|path| changes.get(path)).min_by_key(|change| change.age);
        if let Some(commit) = newest.and_then(|change| change.before.clone()) {
            bases.insert(subject.clone(), commit);
        }
    }
    bases
}

/// Returns the file of a document, and the one that an import reads.
fn files_of(preparation: &Preparation<'_>, subject: &Subject) -> Vec<String> {
    let (loaded, declared) = (preparation.loaded, preparation.declared);
    let (_, name) = subject.address();
    let span = match subject {
        Subject::Import(name) => loaded.spans.span_of(Kind::DeviceImport, name, ""),
        Subject::Job(name) | Subject::Schedule(name) => loaded.spans.span(name, ""),
    };
    let document = span.map(|span| loaded.sources.path(span.file).to_string());
    let rows = declared.imports.get(name).filter(|_| matches!(subject, Subject::Import(_)));
    document.into_iter().chain(rows.map(|import| import.file.clone())).collect()
}

/// The files of the planned tree that policies are made of.
struct Files<'a> {
    tree: &'a FleetTree<'a>,
    /// Those with documents of the needed kinds, and those that may have some and cannot be read.
    paths: BTreeSet<String>,
}

impl<'a> Files<'a> {
    fn of(preparation: &Preparation<'a>) -> Files<'a> {
        let held = preparation.held.files.keys().map(String::as_str);
        let paths = preparation.loaded.spans.files_of(&NEEDED).chain(held).map(str::to_string).collect();
        Files { tree: preparation.tree, paths }
    }

    /// Adds the policies of a commit to the judges. Returns false when they are those of the planned tree.
    fn add(&self, commit: &str, judges: &mut Judges, preparation: &Preparation<'_>) -> Result<bool, PrepareError> {
        // A commit without the fleet's folder has no policies.
        let Ok(there) = preparation.repo.tree_after(commit, Some(self.tree)) else { return Ok(false) };
        let needed = self.needed(&there);
        let is_same = |path: &String| {
            let (own, other) = (self.tree.content_id(path).ok(), there.content_id(path).ok());
            own.is_some() && own == other
        };
        if needed.iter().all(is_same) && self.paths.iter().all(|path| needed.contains(path)) {
            return Ok(false);
        }
        if !needed.iter().any(|path| mentions(&there, path)) {
            return Ok(false);
        }
        // What was not allowed then does not count: the version from before it judges as it is.
        let has_refused = |former: &str| former != commit && preparation.repo.descends(commit, former) == Some(true);
        let refused: BTreeSet<&Name> =
            formers(preparation.held).filter(|(_, former)| has_refused(former)).map(|(name, _)| name).collect();
        let (policies, unreadable) = policies_of(there, &needed, (&Origin::Commit(commit.to_string()), &refused));
        let policies = policies.into_values().filter(|policy| !refused.contains(&policy.name)).collect();
        judges.add_base(commit, policies, unreadable);
        Ok(true)
    }

    /// Returns a policy as it was in a commit; `None` when it was not there.
    fn former(&self, commit: &str, name: &Name, preparation: &Preparation<'_>) -> Result<Option<Policy>, Unreadable> {
        let origin = Origin::Former(commit.to_string());
        let Ok(there) = preparation.repo.tree_after(commit, Some(self.tree)) else {
            return Err(Unreadable { origin, place: None, why: "The commit cannot be read.".to_string() });
        };
        let needed = self.needed(&there);
        let (mut policies, unreadable) = policies_of(there, &needed, (&origin, &BTreeSet::new()));
        match (policies.remove(name), unreadable) {
            (None, Some(unreadable)) => Err(unreadable),
            (policy, _) => Ok(policy),
        }
    }

    /// Returns the files of a commit that policies are made of.
    fn needed(&self, there: &FleetTree<'_>) -> BTreeSet<String> {
        let is_needed = |path: &str| {
            if !crate::manifest::is_yaml(path) {
                return false;
            }
            let (own, other) = (self.tree.entries.get(path), there.entries.get(path));
            match (own.and_then(|entry| entry.id()), other.and_then(|entry| entry.id())) {
                (Some(own), Some(other)) if own == other => self.paths.contains(path),
                // The rest of what a policy needs may have been elsewhere.
                _ => mentions_any(there, path),
            }
        };
        there.entries.keys().filter(|path| is_needed(path)).cloned().collect()
    }
}

/// Returns the policies of a tree, read from some files, and the first that cannot be read and is none of some known
/// ones.
fn policies_of(
    there: FleetTree<'_>,
    needed: &BTreeSet<String>,
    (origin, known): (&Origin, &BTreeSet<&Name>),
) -> (BTreeMap<Name, Policy>, Option<Unreadable>) {
    let there = there.only(|path| needed.contains(path));
    let subset = load_valid(&there);
    let unreadable = unreadable(&subset.held, (origin, known), &|path| mentions(&there, path)).or_else(|| {
        let why = "Its Fleet document cannot be used.".to_string();
        subset.loaded.declared.is_none().then(|| Unreadable { origin: origin.clone(), place: None, why })
    });
    (subset.loaded.declared.map_or_else(BTreeMap::new, |declared| declared.policies), unreadable)
}

/// Returns true for a file with the name of the kind in it.
fn mentions(tree: &FleetTree<'_>, path: &str) -> bool {
    has_word(tree, path, &[WORD])
}

/// Returns true for a file with the name of a kind in it that a policy needs.
fn mentions_any(tree: &FleetTree<'_>, path: &str) -> bool {
    has_word(tree, path, &NEEDED.map(Kind::as_str))
}

fn has_word(tree: &FleetTree<'_>, path: &str, words: &[&str]) -> bool {
    // One that cannot be read may have it.
    tree.read(path, limits::YAML_FILE_BYTES_MAX as u64).map_or(true, |bytes| may_mention(&bytes, words))
}

/// Returns the first policy of a tree that cannot be used and is none of some known ones, or the first file that may
/// hold one.
fn unreadable(
    held: &HeldDocuments,
    (origin, known): (&Origin, &BTreeSet<&Name>),
    may_hold: &dyn Fn(&str) -> bool,
) -> Option<Unreadable> {
    let governs = |kind: Kind, name: &Name| match kind {
        Kind::Access => true,
        kind => kind == Kind::Policy && !known.contains(name),
    };
    let document = held.documents.iter().find(|((kind, name), _)| governs(*kind, name)).map(|(_, hold)| hold);
    let file = || held.files.iter().find(|(path, _)| may_hold(path)).map(|(_, hold)| hold);
    let hold = document.or_else(file)?;
    Some(Unreadable { origin: origin.clone(), place: hold.place.clone(), why: hold.why.clone() })
}

/// Returns the patterns of tags that policies forbid, each once.
pub(super) fn watched_tags(judges: &Judges) -> Vec<PathPattern> {
    let mut watched: Vec<PathPattern> = Vec::new();
    for pattern in judges.all().flat_map(|one| &one.policy.forbid.tags) {
        if !watched.contains(pattern) {
            watched.push(pattern.clone());
        }
    }
    watched
}

fn set_tags(file: &StagedFile) -> Vec<SetTag> {
    let of = |tag: &ChangedTag| SetTag {
        pattern: tag.pattern.clone(),
        path: sanitize_line(&tag.path.join(".")).into_owned(),
        line: tag.line,
        devices: tag.rows,
    };
    file.found.changed_tags.iter().map(of).collect()
}

/// Returns the freezes that documents are in.
pub(super) fn frozen(
    preparation: &Preparation<'_>,
    judges: &Judges,
    subjects: &[Subject],
) -> BTreeMap<Subject, Frozen> {
    let frozen = |subject: &Subject| judges.frozen(subject, preparation.declared, preparation.now);
    let starts = subjects.iter().filter(|subject| !matches!(subject, Subject::Schedule(_)));
    starts.filter_map(|subject| Some((subject.clone(), frozen(subject)?))).collect()
}

/// Returns what the policies do not allow of a plan, and what they freeze.
///
/// # Errors
/// The registry cannot be read.
pub(super) fn findings(
    plan: &Plan,
    preparation: &Preparation<'_>,
    (judges, frozen): (&Judges, &BTreeMap<Subject, Frozen>),
    (staged, registry): (&[StagedFile], &Registry),
) -> Result<Diagnostics, PrepareError> {
    let mut diagnostics = Diagnostics::new();
    if judges.is_empty() {
        return Ok(diagnostics);
    }
    let devices = registry.devices().count(&Request::all())?.selected;
    let set_tags = staged.iter().map(|file| (file.import.clone(), set_tags(file))).collect();
    let (declared, ledger) = (preparation.declared, preparation.ledger);
    let facts = Facts { declared, ledger, judges, set_tags: &set_tags, devices };
    judge(plan, &facts).iter().for_each(|violation| diagnostics.push(diagnose(violation, preparation)));
    for (subject, frozen) in frozen {
        let reason = if frozen.reason.is_empty() { String::new() } else { format!(" ({})", frozen.reason) };
        let of = match &frozen.origin {
            Origin::Tree => String::new(),
            Origin::Commit(commit) => {
                format!(", as it is in the commit {} that this was written against,", short(commit))
            }
            Origin::Former(commit) => former_of(commit),
        };
        let detail = format!(
            "{} does not start before {}: policy `{}`{of} has a freeze{reason}.",
            named(subject, preparation),
            frozen.until,
            frozen.policy
        );
        let help = "`apply` does the rest and ends with 75; `watch` starts it then.";
        diagnostics.push(Diagnostic::new(code::FROZEN, span(preparation, subject, ""), detail).with_help(help));
    }
    Ok(diagnostics)
}

fn diagnose(violation: &Violation, preparation: &Preparation<'_>) -> Diagnostic {
    match violation {
        Violation::Unjudged { subject, unreadable } => {
            let Unreadable { origin, place, why } = unreadable;
            let place = place.as_ref().map_or(String::new(), |FilePlace { path, line }| format!(" ({path}:{line})"));
            let (of, help) = match origin {
                Origin::Tree => (String::new(), "Mend it, and plan again.".to_string()),
                Origin::Commit(commit) => {
                    let help = "Mend it, then change this document again in a later commit: it is judged by the \
                        policies from before its last change.";
                    (format!(" of the commit {}, which this was written against,", short(commit)), help.to_string())
                }
                Origin::Former(commit) => (former_of(commit), REFUSED_HELP.to_string()),
            };
            let held = named(subject, preparation);
            let detail = match why.starts_with("The commit ") {
                true => {
                    format!("{held} is held: what judges it was changed by a commit that was not allowed to. {why}")
                }
                false => format!(
                    "{held} is held: a policy{of} cannot be read{place}, and what it would say is not known. {why}"
                ),
            };
            Diagnostic::new(code::POLICY_UNREADABLE, span(preparation, subject, ""), detail).with_help(help)
        }
        Violation::Broken { subject, policy, file, origin, rule, pointer, found, allowed } => {
            let words = rule.trim_start_matches("/spec/").replace('/', ".");
            let (of, help) = match origin {
                Origin::Tree => {
                    let help = "Change the document, or the policy in a commit of its own: a looser rule counts for \
                        what is changed later."
                        .to_string();
                    (String::new(), help)
                }
                Origin::Commit(commit) => {
                    let help = format!(
                        "It was written against {}, so the rule of then counts too. Change the document; or, when the \
                         rule was loosened since, change it again in a commit that comes after.",
                        short(commit)
                    );
                    (format!(" as it is in the commit {} ({file})", short(commit)), help)
                }
                Origin::Former(commit) => (former_of(commit), format!("Change the document. {REFUSED_HELP}")),
            };
            let detail = format!(
                "{} is refused by policy `{policy}`{of}: {found}, and `{words}` allows {allowed}.",
                named(subject, preparation)
            );
            let mut diagnostic =
                Diagnostic::new(code::REFUSED_BY_POLICY, span(preparation, subject, pointer), detail).with_help(help);
            let place = preparation.loaded.spans.span_of(Kind::Policy, policy, rule);
            if let Some(place) = place.filter(|_| *origin == Origin::Tree) {
                diagnostic = diagnostic.with_label(place, "the rule");
            }
            diagnostic
        }
    }
}

/// Returns where a policy is from that was changed by a commit that was not allowed to, as a part of a sentence.
fn former_of(commit: &str) -> String {
    format!(", as it is in the commit {} before a change that was not allowed,", short(commit))
}

/// Returns a document as a sentence begins with it.
fn named(subject: &Subject, preparation: &Preparation<'_>) -> String {
    match subject {
        Subject::Import(name) => format!("Import `{name}`"),
        Subject::Job(name) if preparation.declared.schedules.contains_key(name) => occurrence(name),
        Subject::Job(name) => format!("Job `{name}`"),
        Subject::Schedule(name) => format!("Schedule `{name}`"),
    }
}

fn occurrence(schedule: &Name) -> String {
    format!("The occurrence of schedule `{schedule}`")
}

fn span(preparation: &Preparation<'_>, subject: &Subject, pointer: &str) -> Option<Span> {
    let spans = &preparation.loaded.spans;
    let pointer = if pointer.is_empty() { "/metadata/name" } else { pointer };
    match subject {
        Subject::Import(name) => spans.span_of(Kind::DeviceImport, name, pointer),
        Subject::Job(name) | Subject::Schedule(name) => spans.span(name, pointer),
    }
}
