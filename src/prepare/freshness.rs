//! Whether a saved plan still holds here: it was not used, and nothing that it touches has changed. What has changed is
//! named, with who changed it and in which commit.

use std::collections::BTreeSet;

use super::{PrepareError, View};
use crate::ledger::{ImportReport, claim_path};
use crate::manifest::Loaded;
use crate::model::digest::Digest;
use crate::model::id::Name;
use crate::model::kind::Kind;
use crate::model::text::{devices_of, sanitize_line, shorten};
use crate::plan::{ActionKind, Difference, Moved, Plan, SavedPlan, Subject, Targets};
use crate::repo::FleetTree;

/// Causes of one kind that are named; the rest is counted.
const CAUSES_MAX: usize = 3;

/// What became of a saved plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Freshness {
    /// An apply of it does just what it says.
    Fresh,
    /// It was applied before; a clause says as what, and from which commit.
    Used(String),
    /// A clause for each address, and one for the policies, that has changed; never empty.
    Stale(Vec<String>),
    /// It was made for another fleet or with another registry: a sentence without its full stop.
    Foreign(String),
}

/// Returns whether a saved plan still holds, for the plan of now with the same files.
///
/// # Errors
/// The registry cannot be read.
pub fn freshness(saved: &SavedPlan, view: &View<'_>, now: &Plan) -> Result<Freshness, PrepareError> {
    if let Some(what) = foreign(saved, view)? {
        return Ok(Freshness::Foreign(what));
    }
    let look = Look { saved, view, head: view.files.tree.commit.clone().or_else(|| view.workspace.repo.head().ok()) };
    if let Some(what) = look.use_of()? {
        return Ok(Freshness::Used(what));
    }
    let mut clauses: Vec<String> = saved.differences(now).iter().map(|one| look.clause(one)).collect();
    if saved.bonds.policy_digest != view.policy_digest() {
        clauses.push("the policies: they are not those that it was judged by".to_string());
    }
    Ok(if clauses.is_empty() { Freshness::Fresh } else { Freshness::Stale(clauses) })
}

/// Returns for which other fleet or registry a plan was made.
fn foreign(saved: &SavedPlan, view: &View<'_>) -> Result<Option<String>, PrepareError> {
    let fleet = view.declared.fleet.name.as_str();
    if let Some(other) = saved.bonds.fleet.as_deref().filter(|other| *other != fleet) {
        return Ok(Some(format!("the saved plan is of the fleet `{}`, and this is `{fleet}`", shown(other))));
    }
    let Some(other) = &saved.bonds.registry else { return Ok(None) };
    let own = view.registry.identity()?.id;
    if *other == own {
        return Ok(None);
    }
    let is_there = view.workspace.registry_place(&view.declared.fleet)?.is_there()?;
    let short = |id: &str| shown(&id.chars().take(8).collect::<String>());
    let here = if is_there { format!("this one is {}", short(&own)) } else { "there is none here".to_string() };
    Ok(Some(format!("the saved plan was made with the registry {}, and {here}", short(other))))
}

/// What is looked at to say why a plan does not hold.
struct Look<'a, 'w> {
    saved: &'a SavedPlan,
    view: &'a View<'w>,
    /// The commit that is planned, `HEAD` for a work tree; `None` before the first one.
    head: Option<String>,
}

impl Look<'_, '_> {
    /// Returns what was done in the name of the plan.
    fn use_of(&self) -> Result<Option<String>, PrepareError> {
        let (ledger, id) = (&self.view.ledger, self.saved.id());
        if let Some(claim) = ledger.claims.values().find(|claim| claim.plan_id == id) {
            let from = self.from(&claim.source_commit);
            return Ok(Some(format!("it claimed `job/{}` run {} at {}{from}", claim.job, claim.run, claim.claimed_at)));
        }
        let mut reports = ledger.reports.iter();
        if let Some(((name, _), report)) = reports.find(|(_, report)| report.plan_id == id) {
            return Ok(Some(format!("it applied `import/{name}`{}", self.from(&report.source_commit))));
        }
        // One that stops runs or lets them go on leaves nothing that bears its id.
        let at = self.view.registry.branch_copy().plan_used_at(id)?;
        Ok(at.map(|at| format!("it stopped runs or let them go on at {at}")))
    }

    /// Returns what has changed at an address.
    fn clause(&self, difference: &Difference<'_>) -> String {
        let subject = &difference.saved.subject;
        let mut causes = Vec::new();
        for moved in &difference.moved {
            match moved {
                Moved::Action { was, is } => causes.push(self.of_action(difference, *was, *is)),
                Moved::Run { was, is } => causes.push(format!("it was run {was} and is run {is}")),
                Moved::Document => causes.push(self.of_document(subject)),
                Moved::Target { was, is } => causes.push(of_target(was, is)),
                Moved::Devices { what } => causes.push(what.clone()),
                Moved::Reason { was, is } => {
                    // What stands before it says more.
                    if causes.is_empty() {
                        causes.push(format!("it was \"{}\" and is \"{}\"", shown(was), shown(is)));
                    }
                }
            }
        }
        let is_of_devices = |moved: &Moved| matches!(moved, Moved::Target { .. } | Moved::Devices { .. });
        if difference.moved.iter().any(is_of_devices) {
            causes.extend(self.since());
        }
        format!("`{subject}`: {}", causes.join("; "))
    }

    /// Returns why something else is done than was planned.
    fn of_action(&self, difference: &Difference<'_>, was: ActionKind, is: Option<ActionKind>) -> String {
        let subject = &difference.saved.subject;
        if let (ActionKind::Run, Subject::Job(name), Some(run)) = (was, subject, &difference.saved.run)
            && let Some(claim) = self.view.ledger.claims.get(&(name.clone(), run.clone()))
        {
            let writer = self.view.branch.last_change(&claim_path(name, run));
            let by = writer.map_or(String::new(), |commit| format!(" by {}", shown(&commit.author)));
            let from = self.from(&claim.source_commit);
            return format!("run {run} was claimed meanwhile{by} at {}{from}", claim.claimed_at);
        }
        if let (ActionKind::Import, Subject::Import(name)) = (was, subject)
            && let Some(digest) = difference.saved.declared_digest()
            && let Some(report) = self.view.ledger.reports.get(&(name.clone(), digest.to_string()))
        {
            return format!("it was applied meanwhile{}", self.from(&report.source_commit));
        }
        let words = |action: ActionKind| match action {
            ActionKind::Import => "an import to apply",
            ActionKind::Run => "a job to run",
            ActionKind::Continue => "a run to continue",
            ActionKind::Stop => "a run to stop",
            ActionKind::Close => "a run to close",
            ActionKind::Schedule => "a schedule",
            ActionKind::Hold => "held",
            ActionKind::Done => "done",
            ActionKind::Gone => "gone",
        };
        let reason = difference.now.map_or(String::new(), |now| format!(" ({})", shown(&now.reason)));
        let changed = self.changed_file(subject).map_or(String::new(), |what| format!("; {what}"));
        match is {
            Some(is) => format!("it was {} and is {}{reason}{changed}", words(was), words(is)),
            None => format!("it was {}, and nothing is to be done about it{changed}", words(was)),
        }
    }

    /// Returns who changed what a document declares.
    fn of_document(&self, subject: &Subject) -> String {
        if let Some(what) = self.changed_file(subject) {
            return what;
        }
        let what = "what it declares, or a document that it names, is not what it was".to_string();
        let causes = self.changed_documents(&[Kind::DeviceTemplate, Kind::Organization]);
        if causes.is_empty() { what } else { format!("{what}: {}", causes.join(", ")) }
    }

    /// Returns which file of a document was changed since the plan was made, by whom and in which commit; `None` when
    /// none was.
    fn changed_file(&self, subject: &Subject) -> Option<String> {
        let (kind, name) = (subject.kind(), subject.address().1);
        let loaded = &self.view.files.loaded;
        let Some(path) = file_of(loaded, kind, name) else { return self.removed_file(subject) };
        let mut paths = vec![path];
        if let Subject::Import(name) = subject {
            paths.extend(self.view.declared.imports.get(name).map(|import| import.file.clone()));
        }
        paths.iter().find_map(|path| self.changed(path))
    }

    /// Returns who removed the file of a document.
    fn removed_file(&self, subject: &Subject) -> Option<String> {
        let source = self.saved.plan.source.commit.as_ref()?;
        let before = self.view.workspace.repo.tree_at(source).ok()?;
        let path = file_of(&super::load(&before), subject.kind(), subject.address().1)?;
        let by = self.view.workspace.repo.last_change(&path, self.head.as_ref()?, Some(source))?;
        Some(format!("its file `{}` was changed or removed by {by}", shown(&path)))
    }

    /// Returns by whom a file was changed since the plan was made.
    fn changed(&self, path: &str) -> Option<String> {
        let repo = &self.view.workspace.repo;
        let head = self.head.as_ref()?;
        let tree = &self.view.files.tree;
        if tree.commit.is_none() && !repo.is_committed(tree, path).unwrap_or(true) {
            return Some(format!("`{}` was changed here and is not committed", shown(path)));
        }
        let since = self.saved.plan.source.commit.as_deref();
        let by = repo.last_change(path, head, since)?;
        Some(format!("`{}` was changed by {by}", shown(path)))
    }

    /// Returns which documents of some kinds were changed since the plan was made.
    fn changed_documents(&self, kinds: &[Kind]) -> Vec<String> {
        let Some(source) = &self.saved.plan.source.commit else { return Vec::new() };
        let Ok(before) = self.view.workspace.repo.tree_at(source) else { return Vec::new() };
        let loaded = &self.view.files.loaded;
        let of_kinds = loaded.spans.documents().filter(|(kind, _, _)| kinds.contains(kind));
        let paths: BTreeSet<&str> = of_kinds.map(|(_, _, span)| loaded.sources.path(span.file)).collect();
        let has_changed = |path: &&str| content(&self.view.files.tree, path) != content(&before, path);
        let changed: Vec<String> =
            paths.into_iter().filter(has_changed).filter_map(|path| self.changed(path)).collect();
        cut(changed)
    }

    /// Returns what may have changed devices or who is targeted since the plan was made.
    fn since(&self) -> Vec<String> {
        let kinds = [Kind::DeviceGroup, Kind::Organization, Kind::DeviceTemplate];
        let mut causes = self.changed_documents(&kinds);
        let at = self.saved.plan.observed_at;
        let claims = self.view.ledger.claims.values().filter(|claim| claim.claimed_at > at);
        let ran = claims.map(|claim| {
            let from = self.from(&claim.source_commit);
            format!("`job/{}` run {} has run on {} since{from}", claim.job, claim.run, devices_of(claim.total))
        });
        causes.extend(cut(ran.collect()));
        let applied = |((name, digest), report): (&(Name, String), &ImportReport)| {
            let is_it = self.view.ledger.applied_imports.get(name).map(Digest::to_string).as_ref() == Some(digest);
            (is_it && self.is_newer(&report.source_commit))
                .then(|| format!("`import/{name}` was applied since{}", self.from(&report.source_commit)))
        };
        causes.extend(cut(self.view.ledger.reports.iter().filter_map(applied).collect()));
        causes
    }

    /// Returns true for a commit that the plan was made before.
    fn is_newer(&self, commit: &str) -> bool {
        let source = self.saved.plan.source.commit.as_deref();
        source.is_some_and(|source| commit != source && self.view.workspace.repo.descends(commit, source) == Some(true))
    }

    /// Returns ` from COMMIT`, with its author; nothing when the commit is not here.
    fn from(&self, commit: &str) -> String {
        match self.view.workspace.repo.named_commit(commit) {
            Some(commit) => format!(", from the commit of {commit}"),
            None => String::new(),
        }
    }
}

fn of_target(was: &Targets, is: &Targets) -> String {
    let short = |targets: &Targets| targets.digest.to_string().chars().take(12).collect::<String>();
    let (from, to) = (was.count, is.count);
    let how = match to.cmp(&from) {
        std::cmp::Ordering::Greater => format!("this target has {} more", devices_of(to - from)),
        std::cmp::Ordering::Less => format!("this target has {} fewer", devices_of(from - to)),
        std::cmp::Ordering::Equal => "this target has other devices".to_string(),
    };
    format!("{how}: it was {} (digest {}), and is {to} (digest {})", devices_of(from), short(was), short(is))
}

fn cut(mut causes: Vec<String>) -> Vec<String> {
    let more = causes.len().saturating_sub(CAUSES_MAX);
    causes.truncate(CAUSES_MAX);
    if more > 0 {
        causes.push(format!("{more} more changes"));
    }
    causes
}

fn content(tree: &FleetTree<'_>, path: &str) -> Option<String> {
    tree.content_id(path).ok()
}

/// Returns the file of a document, relative to the fleet's folder.
fn file_of(loaded: &Loaded, kind: Kind, name: &Name) -> Option<String> {
    let span = loaded.spans.span_of(kind, name, "")?;
    Some(loaded.sources.path(span.file).to_string())
}

fn shown(text: &str) -> String {
    shorten(&sanitize_line(text), 120).into_owned()
}
